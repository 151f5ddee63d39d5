"""One training run, from its first parameters to its last."""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import ml_collections as mlc
import optax
from jax.sharding import Mesh

from exits_jax.data.label_store import LabelStore
from exits_jax.data.table import Instances
from exits_jax.models.mask_decoder import DecoderConfig
from exits_jax.models.params import Params
from exits_jax.run.from_config import extractor_graph, image_stats, mesh_of
from exits_jax.run.training_input import run_checkpoints, run_input
from exits_jax.run.workdir import Workdir
from exits_jax.train.loop import Cadence, fit
from exits_jax.train.objectives import LossFn
from exits_jax.train.optimizer import adamw, learning_rate
from exits_jax.train.sharding import replicate, replicated, shardings, split_rows
from exits_jax.train.state import TrainState
from exits_jax.train.step import (
    PointOptions,
    label_step,
    stored_label_step,
    train_step,
)


class Run(NamedTuple):
    """One training run: its name, its length and how fast it learns."""

    name: str
    num_steps: int
    lr: float
    ramp_up: float  # share of the steps in which the learning rate rises
    with_teacher: bool


def steps_of(config: mlc.ConfigDict, section: mlc.ConfigDict, num_samples: int) -> int:
    """Length of a run in steps: its `steps`, or its epochs."""
    if section.steps is not None:
        return section.steps
    return max(1, round(section.epochs * num_samples / config.batch_size))


def peak_lr(config: mlc.ConfigDict, given: float | None) -> float:
    """The rate a section gives, or the one per sample times the batch (Sec. 4.1)."""
    return (
        config.optimizer.lr_per_sample * config.batch_size if given is None else given
    )


def train_run(
    config: mlc.ConfigDict,
    workdir: Workdir,
    run: Run,
    *,
    params: Params,
    loss_fn: LossFn,
    objects: Instances,
    make_labels: Callable | None = None,
    labels: LabelStore | None = None,
) -> Params:
    """Trains one model from `params` and returns its final parameters.

    Args:
        config: The configuration.
        workdir: Where checkpoints and metrics go.
        run: Name and length.
        params: Start.
        loss_fn: What to minimise.
        objects: What to train on.
        make_labels: Adds supervision to a batch, see `labeler`.
        labels: Stored labels that go with the crops.
    """
    mesh = mesh_of(config)
    schedule = learning_rate(
        peak=run.lr,
        num_steps=run.num_steps,
        warmup_steps=round(run.ramp_up * run.num_steps),
        floor=config.optimizer.floor,
    )
    optimizer = adamw(
        schedule,
        betas=tuple(config.optimizer.betas),
        weight_decay=config.optimizer.weight_decay,
    )
    create = partial(
        TrainState.create, optimizer=optimizer, with_teacher=run.with_teacher
    )
    placement = shardings(mesh, jax.eval_shape(create, params))
    compiled = train_call(
        mesh,
        placement,
        loss_fn=loss_fn,
        optimizer=optimizer,
        schedule=schedule,
        teacher_decay=config.train.teacher_decay,
        num_parts=config.grad_accum,
    )
    step_fn = jitted_step(mesh, compiled, make_labels=make_labels)
    state = jax.jit(create, out_shardings=placement)(replicate(mesh, params))
    checkpoints = run_checkpoints(config, workdir, run.name)
    with contextlib.closing(checkpoints):
        state = fit(
            state,
            step_fn=step_fn,
            source=run_input(config, objects, run.num_steps, labels),
            cadence=Cadence(
                run.num_steps,
                config.train.checkpoint_every,
                config.train.log_every,
                config.train.max_bad_steps,
                config.data.max_skip_fraction,
            ),
            checkpoints=checkpoints,
            mesh=mesh,
            workdir=str(workdir.path),
            run=run.name,
        )
    return state.params


def jitted_step(
    mesh: Mesh, compiled: Callable, *, make_labels: Callable | None
) -> Callable:
    """A step as two compiled calls: `make_labels`, if given, and a `train_call`."""

    def step_fn(state, batch):
        with jax.set_mesh(mesh):
            if make_labels is None:
                return compiled(state, batch)
            labels, found = make_labels(batch)
            state, metrics = compiled(state, batch | labels)
            return state, metrics | found

    return step_fn


def train_call(
    mesh: Mesh,
    placement: TrainState,
    *,
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    teacher_decay: float,
    num_parts: int = 1,
) -> Callable:
    """`train_step` for a mesh, (state, batch) -> (state, metrics); to be compiled.

    The state is donated; `placement` holds the sharding of each leaf of it.
    """
    return jax.jit(
        partial(
            train_step,
            loss_fn=loss_fn,
            optimizer=optimizer,
            schedule=schedule,
            teacher_decay=teacher_decay,
            num_parts=num_parts,
        ),
        donate_argnums=0,
        out_shardings=(placement, replicated(mesh)),
    )


def labeler(
    config: mlc.ConfigDict, extractor: Params, options: PointOptions
) -> Callable:
    """Compiled `label_step` with the frozen extractor bound to it."""
    mesh = mesh_of(config)
    call = label_call(config, mesh, options)
    return partial(call, jax.device_put(extractor, shardings(mesh, extractor)))


def stored_labeler(config: mlc.ConfigDict, options: PointOptions) -> Callable:
    """Compiled `stored_label_step`, batch -> (labels, metrics)."""
    return stored_label_call(config, mesh_of(config), options)


def label_call(config: mlc.ConfigDict, mesh: Mesh, options: PointOptions) -> Callable:
    """`label_step` for a mesh, (extractor, batch) -> (labels, metrics)."""
    graph = extractor_graph(config)
    return jax.jit(
        partial(
            label_step,
            graph,
            options=options,
            stats=image_stats(config),
            patch_size=config.model.patch_size,
        ),
        out_shardings=(split_rows(mesh), replicated(mesh)),
    )


def stored_label_call(
    config: mlc.ConfigDict, mesh: Mesh, options: PointOptions
) -> Callable:
    """`stored_label_step` for a mesh, batch -> (labels, metrics)."""
    return jax.jit(
        partial(
            stored_label_step,
            options=options,
            fg_probability=config.labels.fg_probability,
            bg_probability=config.labels.bg_probability,
            patch_size=config.model.patch_size,
            mask_ratio=DecoderConfig().mask_ratio,
        ),
        out_shardings=(split_rows(mesh), replicated(mesh)),
    )
