"""The same training step as this package makes it and as plain PyTorch does."""

from functools import partial
from typing import NamedTuple

import jax
import ml_collections as mlc
import numpy as np
import torch

from benchmarks.plain_torch.torch_step import Options, TorchStep
from convert_weights.exports import export
from exits_jax.models.params import Params
from exits_jax.models.vit import VitConfig
from exits_jax.models.weights import flatten
from exits_jax.phases.train import generator_loss, generator_start
from exits_jax.run.extractor import extractor_start
from exits_jax.run.from_config import (
    crf_options,
    encoder_config,
    image_stats,
    loss_weights,
    mesh_of,
    point_options,
)
from exits_jax.run.training import jitted_step, labeler, train_call
from exits_jax.run.workdir import Workdir
from exits_jax.train.optimizer import adamw, learning_rate
from exits_jax.train.sharding import replicate, shardings
from exits_jax.train.state import TrainState

WARMUP_STEPS = 100  # of a run of 1000: what the learning rate is matters to no time


class Start(NamedTuple):
    """What both frameworks start from."""

    generator: Params
    extractor: Params


def start_of(config: mlc.ConfigDict, workdir: Workdir) -> Start:
    """Parameters before the first step, as the phases make or read them."""
    extractor = extractor_start(config, workdir)["encoder"]
    return Start(generator_start(config, workdir), extractor)


def optimizer_of(config: mlc.ConfigDict):
    """The optimizer of phase `train` and its schedule."""
    peak = config.optimizer.lr_per_sample * config.batch_size
    schedule = learning_rate(peak=peak, num_steps=1000, warmup_steps=WARMUP_STEPS)
    optimizer = adamw(
        schedule,
        betas=tuple(config.optimizer.betas),
        weight_decay=config.optimizer.weight_decay,
    )
    return optimizer, schedule


class JaxStep:
    """State and compiled step of a method, "exits" or "mil_crf"."""

    def __init__(self, config: mlc.ConfigDict, start: Start, *, method: str):
        """Places the parameters; compiles nothing yet."""
        mesh = mesh_of(config)
        optimizer, schedule = optimizer_of(config)
        create = partial(TrainState.create, optimizer=optimizer, with_teacher=True)
        placement = shardings(mesh, jax.eval_shape(create, start.generator))
        self.state = jax.jit(create, out_shardings=placement)(
            replicate(mesh, start.generator)
        )
        options = point_options(config, {})
        is_exits = method == "exits"
        compiled = train_call(
            mesh,
            placement,
            loss_fn=_objective(config, method),
            optimizer=optimizer,
            schedule=schedule,
            teacher_decay=config.train.teacher_decay,
            num_parts=config.grad_accum,
        )
        make_labels = labeler(config, start.extractor, options) if is_exits else None
        self._step = jitted_step(mesh, compiled, make_labels=make_labels)

    def __call__(self, batch) -> float:
        """One step; the loss before it."""
        self.state, metrics = self._step(self.state, batch)
        jax.block_until_ready(self.state)
        return float(metrics["loss/total"])


def _objective(config: mlc.ConfigDict, method: str):
    with config.unlocked():
        chosen = config.copy_and_resolve_references()
    chosen.loss.method = method
    return generator_loss(chosen)


def torch_step(config: mlc.ConfigDict, start: Start) -> TorchStep:
    """The step in PyTorch, with the same parameters.

    Raises:
        ValueError: If the configuration asks for what the PyTorch step does not have.
    """
    _check(config)
    stats, points = image_stats(config), point_options(config, {})
    weights, crf = loss_weights(config), crf_options(config)
    options = Options(
        encoder=_encoder_arguments(encoder_config(config, role="generator")),
        extractor=_encoder_arguments(encoder_config(config, role="extractor")),
        decoder=dict(config.decoder),
        mean=stats.mean,
        std=stats.std,
        layers=points.layers,
        num_rounds=points.num_rounds,
        num_hops=points.num_hops or 0,
        fg_threshold=points.fg_threshold,
        bg_threshold=points.bg_threshold,
        dropout_rate=points.dropout_rate,
        inward_margin_px=points.inward_margin_px,
        mil_weight=weights.mil,
        point_weight=weights.point,
        crf_weight=weights.crf,
        crf_ramp_steps=weights.crf_ramp_steps,
        crf_rounds=crf.num_rounds,
        colour_scale=crf.colour_scale,
        peak_lr=config.optimizer.lr_per_sample * config.batch_size,
        warmup_steps=WARMUP_STEPS,
        betas=tuple(config.optimizer.betas),
        weight_decay=config.optimizer.weight_decay,
        teacher_decay=config.train.teacher_decay,
    )
    arrays = lambda params: {k: np.asarray(v) for k, v in flatten(params).items()}
    return TorchStep(
        options,
        export(arrays(start.generator), "torch-generator"),
        export(arrays(start.extractor), "timm"),
    )


def torch_batch(batch) -> dict[str, torch.Tensor]:
    """The same rows as tensors."""
    wanted = ("image", "student_image", "extreme_points", "box", "box_area")
    names = (*wanted, "valid_region")
    return {name: torch.tensor(np.asarray(batch[name])) for name in names}


def _encoder_arguments(encoder: VitConfig) -> dict:
    return {
        "dim": encoder.dim,
        "depth": encoder.depth,
        "heads": encoder.heads,
        "hidden": encoder.mlp_ratio * encoder.dim,
        "patch_size": encoder.patch_size,
        "grid": encoder.position_grid,
        "class_token": encoder.class_token,
        "conv_stem": encoder.stem == "conv",
        "position_offset": encoder.position_offset,
    }


def _check(config: mlc.ConfigDict) -> None:
    wanted = {
        "model.dtype": "float32",
        "model.extractor_stem": "patch",
        "points.walk": "hops",
        "points.background": "outside",
        "points.use_padding": False,
        "points.use_pseudo": True,
        "loss.pooling": "bilinear",
        "loss.crf_image": "student",
        "grad_accum": 1,
    }
    for name, value in wanted.items():
        found = config
        for part in name.split("."):
            found = found[part]
        if found != value:
            raise ValueError(
                f"The PyTorch step knows {name} = {value!r} alone, not {found!r}: "
                f"give --config.{name}={value}, or leave it out (--against=)."
            )
