"""From a configuration to the pieces of the system."""

import contextlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections as mlc
import optax
from flax import nnx
from jax.sharding import Mesh

from exits_jax.data.annotations import Instance, read_instances
from exits_jax.data.augment import Photometric
from exits_jax.data.batches import CropOptions, train_batches, trainable
from exits_jax.models.generator import PseudoLabelGenerator
from exits_jax.models.mask_decoder import DecoderConfig
from exits_jax.models.params import Params, abstract_graph, init_params
from exits_jax.models.vit import INITS, VitConfig, vit_config
from exits_jax.models.weights import check_fits, read_encoder
from exits_jax.phases.workdir import ConfigError, Workdir
from exits_jax.train.checkpoints import Checkpoints, InputPosition
from exits_jax.train.loop import Cadence, fit
from exits_jax.train.objectives import CrfOptions, ImageStats, LossFn, Weights
from exits_jax.train.optimizer import adamw, learning_rate
from exits_jax.train.sharding import data_mesh, replicate, replicated, split_over_data
from exits_jax.train.state import TrainState
from exits_jax.train.step import PointOptions, label_step, train_step

# The parts of a configuration that decide what each phase makes.
DATA = ("seed", "data")
SECTIONS = {
    "prepare": DATA,
    "pretrain": (*DATA, "batch_size", "crop", "model", "init", "optimizer", "pretrain"),
}
SECTIONS["warmup"] = (
    *SECTIONS["pretrain"],
    "decoder",
    "similarity",
    "warmup",
    "points",
)
SECTIONS["train"] = (*SECTIONS["warmup"], "loss", "train")
SECTIONS["generate"] = (*SECTIONS["train"], "generate")
SECTIONS["evaluate"] = (*SECTIONS["generate"], "evaluate")


class WeightsError(ValueError):
    """A file of weights that cannot be used; the message names it."""


ROLES = ("generator", "extractor")  # the two models of stage 1


class Run(NamedTuple):
    """One training run: its name, its length and how fast it learns."""

    name: str
    num_steps: int
    lr: float
    ramp_up: float  # share of the steps in which the learning rate rises
    with_teacher: bool


def validate(config: mlc.ConfigDict) -> None:
    """Checks what can be known before anything is read or compiled.

    Raises:
        ConfigError: With every fault, one per line.
    """
    faults = []

    def expect(holds: bool, message: str) -> None:
        if not holds:
            faults.append(message)

    def choice(name: str, value: Any, known: tuple[str, ...]) -> None:
        expect(value in known, f"{name} = {value!r}: known are {', '.join(known)}.")

    devices = jax.device_count()
    size, patch = config.crop.size, config.model.patch_size
    expect(
        config.batch_size % devices == 0,
        f"batch_size = {config.batch_size} is not a multiple of the {devices} devices.",
    )
    expect(
        config.generate.batch_size % devices == 0,
        f"generate.batch_size = {config.generate.batch_size} is not a multiple of the "
        f"{devices} devices.",
    )
    expect(
        size % patch == 0, f"crop.size = {size} is no multiple of {patch} px patches."
    )
    expect(
        0 <= config.points.inward_margin_px < size / 2,
        f"points.inward_margin_px = {config.points.inward_margin_px}: "
        f"must be at least 0 and less than half the crop ({size / 2}).",
    )
    expect(
        config.points.bg_threshold <= config.points.fg_threshold,
        "points.bg_threshold must not exceed points.fg_threshold.",
    )
    expect(config.points.num_hops >= 1, "points.num_hops must be at least 1.")
    expect(
        0 <= config.points.dropout_rate <= 1,
        f"points.dropout_rate = {config.points.dropout_rate}: must lie in [0, 1].",
    )
    expect(
        0 < config.generate.threshold < 1,
        f"generate.threshold = {config.generate.threshold}: must lie in (0, 1).",
    )
    expect(
        config.optimizer.lr_per_sample > 0, "optimizer.lr_per_sample must be positive."
    )
    for section in ("pretrain", "warmup", "train"):
        lr, steps = config[section].lr, config[section].steps
        expect(lr is None or lr > 0, f"{section}.lr = {lr}: must be positive.")
        expect(
            steps is None or steps > 0, f"{section}.steps = {steps}: must be positive."
        )
        expect(config[section].epochs > 0, f"{section}.epochs must be positive.")
    choice("data.points", config.data.points, ("extremenet", "clean"))
    choice("data.on_bad", config.data.on_bad, ("skip", "error"))
    choice("loss.method", config.loss.method, ("exits", "mil_crf"))
    choice("loss.pooling", config.loss.pooling, ("bilinear", "area"))
    choice("loss.crf_image", config.loss.crf_image, ("student", "clean"))
    choice("points.walk", config.points.walk, ("hops", "converged"))
    choice("points.background", config.points.background, ("outside", "centre"))
    choice("model.dtype", config.model.dtype, ("float32", "bfloat16"))
    choice("model.extractor_init", config.model.extractor_init, tuple(INITS))
    choice("model.stem", config.model.stem, ("patch", "conv"))
    choice("model.extractor_stem", config.model.extractor_stem, ("patch", "conv"))
    choice(
        "init.generator_from",
        config.init.generator_from,
        ("encoder", "pretrain", "warmup"),
    )
    choice("generate.weights", config.generate.weights, ("student", "teacher", "both"))
    choice("generate.empty", config.generate.empty, ("skip", "box"))
    choice("evaluate.size_by", config.evaluate.size_by, ("box", "mask"))
    depth = encoder_config(config, role="extractor").depth
    expect(
        all(1 <= layer <= depth for layer in config.similarity.layers),
        f"similarity.layers = {config.similarity.layers}: the encoder has {depth}.",
    )
    if faults:
        raise ConfigError("\n".join(faults))


def begin(config: mlc.ConfigDict, workdir: Workdir, phase: str) -> bool:
    """Begins or continues a phase; False if it was finished before.

    Raises:
        ConfigError: If a phase that it builds on is not finished, or if it was begun
            with another configuration.
    """
    runs = {
        "pretrain": config.pretrain.enabled,
        "warmup": needs_warmup(config),
    }
    phases = list(SECTIONS)
    before = phases[: phases.index(phase)]
    workdir.require(*(name for name in before if runs.get(name, True)))
    return workdir.start(phase, config, SECTIONS[phase])


def needs_warmup(config: mlc.ConfigDict) -> bool:
    """Whether a later phase reads what the warm-up trains."""
    return uses_extractor(config) or config.init.generator_from == "warmup"


def uses_extractor(config: mlc.ConfigDict) -> bool:
    """Whether the generator's supervision needs a similarity extractor."""
    return config.loss.method == "exits" and config.points.use_pseudo


def encoder_config(config: mlc.ConfigDict, *, role: str) -> VitConfig:
    """The encoder that a configuration describes, of one of the `ROLES`."""
    model = config.model
    is_extractor = role == "extractor"
    overrides = {
        name: model[name]
        for name in ("dim", "depth", "heads")
        if model[name] is not None
    }
    try:
        return vit_config(
            model.size,
            patch_size=model.patch_size,
            position_grid=model.position_grid,
            position_offset=model.position_offset,
            stem=model.extractor_stem if is_extractor else model.stem,
            class_token=model.class_token,
            init=model.extractor_init if is_extractor else "normal",
            query_is_key=model.extractor_query_is_key and is_extractor,
            remat=model.remat,
            dtype=jnp.dtype(model.dtype),
            **overrides,
        )
    except ValueError as error:
        raise ConfigError(f"model.size: {error}") from error


def generator_builder(
    config: mlc.ConfigDict, *, role: str
) -> Callable[[nnx.Rngs], PseudoLabelGenerator]:
    """Makes the generator, or the extractor with its throw-away decoder."""
    encoder = encoder_config(config, role=role)
    decoder = DecoderConfig(
        features=config.decoder.features,
        size_dependent=config.decoder.size_dependent,
        fixed_scale=config.decoder.fixed_scale,
        upsample_before=config.decoder.upsample_before,
        dtype=encoder.dtype,
    )
    return partial(_generator, encoder, decoder)


def _generator(
    encoder: VitConfig, decoder: DecoderConfig, rngs: nnx.Rngs
) -> PseudoLabelGenerator:
    return PseudoLabelGenerator(encoder, decoder, rngs=rngs)


def random_params(config: mlc.ConfigDict, build, *, salt: int) -> Params:
    """Random parameters; `salt` keeps the models of one run apart."""
    return init_params(build, jax.random.fold_in(jax.random.key(config.seed), salt))


def file_encoder(config: mlc.ConfigDict) -> tuple[Params, dict[str, str]]:
    """Encoder of `init.encoder` in the shape the configuration asks for."""
    try:
        params, metadata = read_encoder(config.init.encoder)
    except ValueError as error:
        raise WeightsError(str(error)) from error
    if not config.model.class_token and "class_token" in params:
        params = dict(params)
        params.pop("class_token")
        params["position_table"] = params["position_table"][1:]
    return params, metadata


def with_encoder(params: Params, encoder: Params, *, stem: str, name: str) -> Params:
    """A generator's parameters with the encoder replaced.

    Pre-trained encoders have the plain patch embedding, so a conv stem keeps its own
    random weights, as it does in the paper's baseline.

    Raises:
        WeightsError: With every parameter that does not fit.
    """
    if stem == "conv":
        encoder = {**encoder, "patch_embedding": params["encoder"]["patch_embedding"]}
    try:
        check_fits(encoder, params["encoder"], name=name)
    except ValueError as error:
        raise WeightsError(str(error)) from error
    return {**params, "encoder": encoder}


def image_stats(config: mlc.ConfigDict) -> ImageStats:
    """Normalisation of the encoder's input."""
    return ImageStats(tuple(config.init.image_mean), tuple(config.init.image_std))


def crop_options(config: mlc.ConfigDict) -> CropOptions:
    """How crops are cut and changed."""
    return CropOptions(
        crop_size=config.crop.size,
        train_margin=config.crop.train_margin,
        test_margin=config.crop.test_margin,
        flip_rate=config.crop.flip_rate,
        photometric=Photometric() if config.crop.photometric else None,
        cache_mb=config.data.cache_mb,
    )


def point_options(config: mlc.ConfigDict, choice: dict[str, Any]) -> PointOptions:
    """How points are labeled; `choice` holds layers and hops if they were selected."""
    points, similarity = config.points, config.similarity
    depth = encoder_config(config, role="extractor").depth
    layers = tuple(choice.get("layers", similarity.layers)) or range(1, depth + 1)
    hops = choice.get("num_hops", points.num_hops)
    return PointOptions(
        layers=tuple(layers),
        num_hops=None if points.walk == "converged" else hops,
        fg_threshold=points.fg_threshold,
        bg_threshold=points.bg_threshold,
        num_rounds=similarity.sinkhorn_rounds,
        blend=points.blend,
        dropout_rate=points.dropout_rate,
        inward_margin_px=points.inward_margin_px,
        background=points.background,
        use_padding=points.use_padding,
        use_pseudo=points.use_pseudo,
    )


def loss_weights(config: mlc.ConfigDict) -> Weights:
    """Weights of the generator's losses."""
    loss = config.loss
    is_baseline = loss.method == "mil_crf"
    return Weights(
        mil=loss.baseline_mil if is_baseline else loss.mil,
        point=loss.point,
        crf=loss.crf,
        crf_ramp_steps=loss.crf_ramp_steps,
        mil_ramp_steps=loss.baseline_mil_ramp_steps,
    )


def crf_options(config: mlc.ConfigDict) -> CrfOptions:
    """The CRF of the generator's loss."""
    loss = config.loss
    return CrfOptions(loss.crf_rounds, loss.crf_colour_scale, loss.crf_image)


def instances(config: mlc.ConfigDict, workdir: Workdir, split: str) -> list[Instance]:
    """The objects that `prepare` let through, crowds left out."""
    found = read_instances(
        workdir / "annotations" / f"{split}.json",
        workdir.facts("prepare")["images"][split],
        on_bad="error",
    )
    return [item for item in found.instances if not item.is_crowd]


def training_instances(config: mlc.ConfigDict, workdir: Workdir) -> list[Instance]:
    """The objects large enough to learn from.

    Raises:
        ConfigError: If there are none.
    """
    everything = instances(config, workdir, "train")
    chosen = trainable(
        everything, min_area=config.data.min_area_px, min_side=config.data.min_side_px
    )
    if not chosen:
        raise ConfigError(
            f"None of the {len(everything)} objects in {config.data.train} has a box "
            f"of more than data.min_area_px = {config.data.min_area_px} px."
        )
    return chosen


def steps_of(config: mlc.ConfigDict, section: mlc.ConfigDict, num_samples: int) -> int:
    """Length of a run in steps: its `steps`, or its epochs."""
    if section.steps is not None:
        return section.steps
    return max(1, round(section.epochs * num_samples / config.batch_size))


def train_run(
    config: mlc.ConfigDict,
    workdir: Workdir,
    run: Run,
    *,
    params: Params,
    loss_fn: LossFn,
    objects: list[Instance],
    make_labels: Callable | None = None,
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
    """
    mesh = data_mesh()
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
    step_fn = jitted_step(
        mesh,
        loss_fn=loss_fn,
        optimizer=optimizer,
        schedule=schedule,
        teacher_decay=config.train.teacher_decay,
        make_labels=make_labels,
    )
    create = partial(
        TrainState.create, optimizer=optimizer, with_teacher=run.with_teacher
    )
    state = jax.jit(create, out_shardings=replicated(mesh))(replicate(mesh, params))
    checkpoints = Checkpoints(
        workdir / "checkpoints" / run.name, keep=config.train.keep_checkpoints
    )
    with contextlib.closing(checkpoints):
        state = fit(
            state,
            step_fn=step_fn,
            open_input=lambda start: train_batches(
                objects,
                crop_options(config),
                seed=config.seed,
                global_batch=config.batch_size,
                start_step=start,
                num_steps=run.num_steps - start,
                process_index=jax.process_index(),
                process_count=jax.process_count(),
                num_workers=config.data.num_workers,
                num_threads=config.data.num_threads,
            ),
            position=InputPosition(0, config.batch_size, len(objects), config.seed),
            cadence=Cadence(
                run.num_steps, config.train.checkpoint_every, config.train.log_every
            ),
            checkpoints=checkpoints,
            mesh=mesh,
            workdir=str(workdir.path),
            run=run.name,
        )
    return state.params


def jitted_step(
    mesh: Mesh,
    *,
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    teacher_decay: float,
    make_labels: Callable | None,
) -> Callable:
    """A step as two compiled calls; the state is donated."""
    compiled = jax.jit(
        partial(
            train_step,
            loss_fn=loss_fn,
            optimizer=optimizer,
            schedule=schedule,
            teacher_decay=teacher_decay,
        ),
        donate_argnums=0,
        out_shardings=replicated(mesh),
    )

    def step_fn(state, batch):
        if make_labels is None:
            return compiled(state, batch)
        labels, found = make_labels(batch)
        state, metrics = compiled(state, batch | labels)
        return state, metrics | found

    return step_fn


def labeler(
    config: mlc.ConfigDict, extractor: Params, options: PointOptions
) -> Callable:
    """Compiled `label_step` with the frozen extractor bound to it."""
    mesh = data_mesh()
    build = generator_builder(config, role="extractor")
    graph = abstract_graph(lambda rngs: build(rngs).encoder)
    compiled = jax.jit(
        partial(
            label_step,
            graph,
            options=options,
            stats=image_stats(config),
            patch_size=config.model.patch_size,
        ),
        out_shardings=(split_over_data(mesh), replicated(mesh)),
    )
    return partial(compiled, replicate(mesh, extractor))


def load_params(
    config: mlc.ConfigDict, workdir: Workdir, run: str, *, role: str, which="params"
) -> Params:
    """Parameters of a finished run, on every device."""
    build = generator_builder(config, role=role)
    abstract = jax.eval_shape(lambda: init_params(build, jax.random.key(0)))
    sharding = replicated(data_mesh())
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), abstract
    )
    checkpoints = Checkpoints(workdir / "checkpoints" / run)
    params = checkpoints.restore_params(like, which=which)
    checkpoints.close()
    return params


def selected(workdir: Workdir) -> dict[str, Any]:
    """Layers and hops chosen at the end of the warm-up; empty if none were."""
    path = workdir / "similarity.json"
    return json.loads(path.read_text())["choice"] if path.exists() else {}
