"""From a configuration to the options of each part of the system."""

from typing import Any

import jax.numpy as jnp
import ml_collections as mlc
from flax import nnx
from jax.sharding import Mesh

from exits_jax.data.augment import Photometric
from exits_jax.data.samples import CropOptions
from exits_jax.files.seals import Damaged, read_json
from exits_jax.models.generator import EncoderBuilder, GeneratorBuilder
from exits_jax.models.mask_decoder import ALL_SIZES, DecoderConfig
from exits_jax.models.params import abstract_graph
from exits_jax.models.prompt import PromptConfig
from exits_jax.models.vit import VitConfig, vit_config
from exits_jax.object_sizes import AREAS
from exits_jax.ops.walk import WalkOptions
from exits_jax.run.workdir import ConfigError, Workdir
from exits_jax.train.objectives import (
    TRAINING_SIZES,
    CrfOptions,
    ImageStats,
    Weights,
)
from exits_jax.train.predict import DenseCrf, Walk
from exits_jax.train.prompts import PromptNoise
from exits_jax.train.sharding import make_mesh
from exits_jax.train.step import PointOptions

WALK_ALONE = "walk alone"
WALK_THRESHOLD = 0.5  # of its masks: where it is unsure it says one half
ROLES = ("generator", "extractor")  # the two models of stage 1


def needs_warmup(config: mlc.ConfigDict) -> bool:
    """Whether a later phase reads what the warm-up trains."""
    if config.generate.model:
        return False
    walks = uses_walk(config) or uses_stored_labels(config)
    if walks and config.walk.encoder == "warmup":
        return True
    if not uses_generator(config):
        return False
    return uses_extractor(config) or config.init.generator_from == "warmup"


def uses_generator(config: mlc.ConfigDict) -> bool:
    """Whether masks come from a trained generator, or from it and the walk."""
    return config.generate.source != "walk"


def trains_generator(config: mlc.ConfigDict) -> bool:
    """Whether that generator is to be trained here: no finished one is named."""
    return uses_generator(config) and not config.generate.model


def uses_walk(config: mlc.ConfigDict) -> bool:
    """Whether the walk takes part in making masks, or in telling a generator."""
    return config.generate.source != "generator" or shows_walk(config)


def shows_walk(config: mlc.ConfigDict) -> bool:
    """Whether the generator sees the walk beside the pixels."""
    return uses_generator(config) and config.prompt.enabled and config.prompt.walk


def uses_extractor(config: mlc.ConfigDict) -> bool:
    """Whether the generator's supervision needs a similarity extractor."""
    retrieves = config.points.use_pseudo and not config.labels.stored
    return trains_generator(config) and config.loss.method == "exits" and retrieves


def uses_stored_labels(config: mlc.ConfigDict) -> bool:
    """Whether the generator learns from labels that are made once per object."""
    is_exits = trains_generator(config) and config.loss.method == "exits"
    return is_exits and config.labels.stored


def method_name(config: mlc.ConfigDict) -> str:
    """What makes the masks, for tables and pictures."""
    if not uses_generator(config):
        return WALK_ALONE
    trained = {"exits": "EXITS", "mil_crf": "MIL + CRF"}[config.loss.method]
    return trained + (" and walk" if config.generate.source == "both" else "")


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
            scan=model.scan,
            attention=model.attention,
            dtype=jnp.dtype(model.dtype),
            **overrides,
        )
    except ValueError as error:
        raise ConfigError(f"model.size: {error}") from error


def generator_builder(config: mlc.ConfigDict, *, role: str) -> GeneratorBuilder:
    """Makes the generator, or the extractor with its throw-away decoder."""
    encoder = encoder_config(config, role=role)
    decoder = DecoderConfig(
        features=config.decoder.features,
        size_dependent=config.decoder.size_dependent,
        fixed_scale=config.decoder.fixed_scale,
        upsample_before=config.decoder.upsample_before,
        dtype=encoder.dtype,
    )
    prompt = prompt_config(config) if role == "generator" else None
    return GeneratorBuilder(encoder, decoder, prompt)


def extractor_graph(config: mlc.ConfigDict) -> nnx.GraphDef:
    """The static half of the encoder whose attention is read."""
    return abstract_graph(EncoderBuilder(encoder_config(config, role="extractor")))


def prompt_config(config: mlc.ConfigDict) -> PromptConfig | None:
    """What the generator is told of the annotation; None: nothing."""
    prompt = config.prompt
    return PromptConfig(prompt.walk, prompt.sigma) if prompt.enabled else None


def prompt_noise(config: mlc.ConfigDict) -> PromptNoise:
    """What training does to the generator's prompts."""
    return PromptNoise(config.prompt.jitter, config.prompt.dropout)


def mesh_of(config: mlc.ConfigDict) -> Mesh:
    """All devices of all processes, along the axes that the configuration wants."""
    try:
        return make_mesh(config.mesh.data, config.mesh.fsdp)
    except ValueError as error:
        raise ConfigError(str(error)) from error


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
        on_device=config.augment.on_device,
        reduced=config.crop.reduced_decoding,
        read_retries=config.data.read_retries,
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


def walk_options(config: mlc.ConfigDict) -> Walk:
    """The walk of section `walk`."""
    walk = config.walk
    depth = encoder_config(config, role="extractor").depth
    layers = tuple(walk.layers) or range(1, depth + 1)
    return Walk(
        layers=tuple(layers),
        feature_block=min(walk.ridge_block, depth),
        options=WalkOptions(
            neighbours=walk.neighbours,
            num_rounds=config.similarity.sinkhorn_rounds,
            num_hops=walk.num_hops,
            inward_margin=walk.inward_margin,
            disc_radius=walk.disc_radius,
            depth_weight=walk.depth_weight,
            cut=walk.cut,
            slope=walk.slope,
            ridge_rounds=walk.ridge_rounds,
            ridge_shrinkage=walk.ridge_shrinkage,
            ridge_keep=walk.ridge_keep,
            ridge_cut=walk.ridge_cut,
        ),
    )


def dense_crf_options(config: mlc.ConfigDict) -> DenseCrf | None:
    """The CRF that refines masks as they are made; None where they are not."""
    return dense_crf_of(config) if config.generate.crf else None


def dense_crf_of(config: mlc.ConfigDict) -> DenseCrf:
    """The CRF of section `dense_crf`."""
    section = config.dense_crf
    return DenseCrf(
        grid=section.grid,
        num_rounds=section.rounds,
        colour_weight=section.colour_weight,
        position_scale=section.position_scale,
        colour_scale=section.colour_scale,
        smooth_weight=section.smooth_weight,
        smooth_scale=section.smooth_scale,
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
        mask=0.0 if is_baseline else loss.mask,
        mask_exponent=loss.mask_exponent,
    )


def training_sizes(config: mlc.ConfigDict) -> tuple[str, ...]:
    """The object sizes that the area filter lets through."""
    smallest = config.data.min_area_px
    return TRAINING_SIZES if smallest >= AREAS[TRAINING_SIZES[0]] else ALL_SIZES


def crf_options(config: mlc.ConfigDict) -> CrfOptions:
    """The CRF of the generator's loss."""
    loss = config.loss
    return CrfOptions(loss.crf_rounds, loss.crf_colour_scale, loss.crf_image)


def selected(config: mlc.ConfigDict, workdir: Workdir) -> dict[str, Any]:
    """Layers and hops chosen at the end of the warm-up; empty if none were.

    Raises:
        Damaged: If the file is not the one that the warm-up wrote.
    """
    path = workdir / "similarity.json"
    if not config.similarity.select:
        return {}
    workdir.refuse_damaged("warmup", path.name)
    if not path.exists():
        return {}
    choice = read_json(path, dict).get("choice")
    if not isinstance(choice, dict):
        raise Damaged(f"{path} is damaged: it holds no choice.")
    return choice
