"""Where parameters come from: random numbers, a file or an earlier run."""

import contextlib
import json
import logging
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections as mlc
import numpy as np

from exits_jax.models.generator import EncoderBuilder
from exits_jax.models.params import Build, Params, abstract_params, init_params
from exits_jax.models.weights import read_encoder, read_generator, read_metadata
from exits_jax.run.check_weights import WeightsError, check_fit
from exits_jax.run.from_config import (
    ROLES,
    encoder_config,
    generator_builder,
    needs_warmup,
    uses_stored_labels,
    uses_walk,
)
from exits_jax.run.workdir import ConfigError, Workdir
from exits_jax.train.checkpoints import Checkpoints
from exits_jax.train.sharding import make_mesh, replicated

_logger = logging.getLogger(__name__)


def random_params(config: mlc.ConfigDict, build, *, salt: int) -> Params:
    """Random parameters; `salt` keeps the models of one run apart."""
    return init_params(build, jax.random.fold_in(jax.random.key(config.seed), salt))


def encoder_file(config: mlc.ConfigDict, *, role: str) -> str:
    """The file that a model's encoder starts from; empty: none."""
    if role == "extractor" and config.init.extractor:
        return config.init.extractor
    return config.init.encoder


def file_encoder(
    config: mlc.ConfigDict, *, role: str = "generator"
) -> tuple[Params, dict[str, str]]:
    """Encoder of `encoder_file` in the shape the configuration asks for."""
    try:
        params, metadata = read_encoder(encoder_file(config, role=role))
    except ValueError as error:
        raise WeightsError(str(error)) from error
    return _without_class_token(config, params), metadata


def file_generator(config: mlc.ConfigDict) -> Params:
    """Generator of `init.generator`, compared with what the configuration asks for.

    Raises:
        WeightsError: If it does not fit; says what to set.
    """
    name = config.init.generator
    try:
        params, metadata = read_generator(name)
    except ValueError as error:
        raise WeightsError(str(error)) from error
    return fitting_generator(config, params, metadata, name=name)


def fitting_generator(
    config: mlc.ConfigDict, params: Params, metadata: dict[str, str], *, name: str
) -> Params:
    """A generator's parameters as the configuration's model has them.

    Raises:
        WeightsError: If they do not fit; says what to set.
    """
    expected = _abstract(config, role="generator")
    encoder = _without_class_token(config, params["encoder"])
    params = with_prompt({**params, "encoder": encoder}, expected, name=name)
    check_fit(params, expected, name=name, heads=metadata.get("heads"))
    return params


def fitting_encoder(
    config: mlc.ConfigDict, params: Params, metadata: dict[str, str], *, name: str
) -> Params:
    """An encoder's parameters as the configuration's extractor has them.

    Raises:
        WeightsError: If they do not fit; says what to set.
    """
    expected = abstract_params(EncoderBuilder(encoder_config(config, role="extractor")))
    params = _without_class_token(config, params)
    check_fit(params, expected, name=name, heads=metadata.get("heads"))
    return params


def with_prompt(params: Params, expected: Params, *, name: str) -> Params:
    """A generator's parameters, with the part that reads prompts if there is to be one.

    Where it is missing it starts as zeros, without effect, and the log says so.

    Args:
        params: A generator's, with or without that part.
        expected: What the model has, of which the shapes are looked at.
        name: Where the parameters come from.
    """
    if "prompt" not in expected or "prompt" in params:
        return params
    _logger.info(
        "%s knows no prompts: their weights start at zero, without effect", name
    )
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), expected["prompt"])
    return {**params, "prompt": zeros}


def _abstract(config: mlc.ConfigDict, *, role: str) -> Params:
    """Shapes of the parameters that the configuration asks for."""
    return abstract_params(generator_builder(config, role=role))


def check_files(config: mlc.ConfigDict) -> None:
    """Says what is wrong with the files of `init` before hours pass.

    Warns where images would be normalised otherwise than a file's weights expect.

    Raises:
        ConfigError: If a walk has no encoder whose attention it could follow.
        FileNotFoundError: If one is missing.
        WeightsError: If one is not what its field says.
    """
    if config.generate.model:
        return  # it was read when the run began
    _refuse_blind_walk(config)
    for role in ROLES:
        if path := encoder_file(config, role=role):
            encoder, metadata = file_encoder(config, role=role)
            if _starts_from_file(config, role=role):
                heads = metadata.get("heads")
                stem = _stem(config, role=role)
                expected = _abstract(config, role=role)
                with_encoder(expected, encoder, stem=stem, name=path, heads=heads)
                _refuse_other_heads(config, path, metadata, role=role)
    if config.init.generator:
        file_generator(config)
        metadata = read_metadata(config.init.generator)
        _refuse_other_heads(config, config.init.generator, metadata, role="generator")
    for path in (config.init.encoder, config.init.extractor, config.init.generator):
        metadata = read_metadata(path) if path else {}
        for name in ("image_mean", "image_std"):
            wanted = json.loads(metadata.get(name, "null"))
            if wanted and not np.allclose(wanted, config.init[name], atol=1e-3):
                _logger.warning(
                    "%s was trained with %s %s, init.%s is %s",
                    path,
                    name,
                    wanted,
                    name,
                    tuple(config.init[name]),
                )


def _refuse_blind_walk(config: mlc.ConfigDict) -> None:
    """Attention of random weights knows no objects."""
    if not (uses_walk(config) or uses_stored_labels(config)):
        return
    init = config.init
    is_trained = config.walk.encoder == "warmup" and config.warmup.enabled
    if init.encoder or init.extractor or config.pretrain.enabled or is_trained:
        return
    raise ConfigError(
        "Labels and masks of the walk follow the attention of an encoder, and there is "
        "none: give --config.init.encoder=FILE, as written by `exits-jax convert`, or "
        "train one with --config.pretrain.enabled=True. The paper's method starts from "
        "random weights, too: --config=custom:paper."
    )


def _starts_from_file(config: mlc.ConfigDict, *, role: str) -> bool:
    """Whether a model's encoder is that of `encoder_file`, as far as there is one."""
    if role == "extractor":
        walks = uses_walk(config) or uses_stored_labels(config)
        is_used = needs_warmup(config) or walks
        return is_used and not config.pretrain.enabled
    return config.init.generator_from == "encoder" and not config.init.generator


def _stem(config: mlc.ConfigDict, *, role: str) -> str:
    model = config.model
    return model.extractor_stem if role == "extractor" else model.stem


def _refuse_other_heads(
    config: mlc.ConfigDict, path: str, metadata: dict[str, str], *, role: str
) -> None:
    """Other heads have the same shapes, and attention that means nothing."""
    stated, heads = metadata.get("heads"), encoder_config(config, role=role).heads
    if stated is not None and stated != str(heads):
        raise WeightsError(
            f"{path} was trained with {stated} attention heads, the model has {heads}. "
            f"Use --config.model.heads={stated}"
        )


def provenance(config: mlc.ConfigDict) -> dict[str, Any]:
    """Where the weights come from that a run starts with: names, digests, licences.

    The digest is that of the file which the weights were converted from.
    """
    encoder, generator = config.init.encoder, config.init.generator
    said = read_metadata(encoder) if encoder else {}
    found = {
        "init_weights": encoder or "random",
        "init_sha256": said.get("source_sha256"),
        "init_licence": said.get("licence"),
    }
    if config.init.extractor:
        said = read_metadata(config.init.extractor)
        found |= {
            "init_extractor": config.init.extractor,
            "init_extractor_sha256": said.get("source_sha256"),
            "init_extractor_licence": said.get("licence"),
        }
    if generator:
        said = read_metadata(generator)
        found |= {
            "init_generator": generator,
            "init_generator_sha256": said.get("source_sha256"),
            "init_generator_licence": said.get("licence"),
        }
    return found


def _without_class_token(config: mlc.ConfigDict, params: Params) -> Params:
    if config.model.class_token or "class_token" not in params:
        return params
    params = dict(params)
    params.pop("class_token")
    params["position_table"] = params["position_table"][1:]
    return params


def with_encoder(
    params: Params,
    encoder: Params,
    *,
    stem: str,
    name: str,
    heads: str | None = None,
) -> Params:
    """A generator's parameters with the encoder replaced.

    Most pre-trained encoders have the plain patch embedding, so a conv stem keeps its
    own random weights, as it does in the paper's baseline.

    Raises:
        WeightsError: If it does not fit; says what to set.
    """
    if stem == "conv" and "convs" not in encoder.get("patch_embedding", {}):
        encoder = {**encoder, "patch_embedding": params["encoder"]["patch_embedding"]}
    check_fit(encoder, params["encoder"], name=name, heads=heads)
    return {**params, "encoder": encoder}


def load_params(
    config: mlc.ConfigDict,
    workdir: Workdir,
    run: str,
    *,
    role: str,
    which: str = "params",
    best: bool = False,
) -> Params:
    """Parameters of a finished run, whole on every device.

    Args:
        config: The configuration.
        workdir: Where the run is.
        run: Its name.
        role: The model that it trained, one of `ROLES`.
        which: "params" or "teacher".
        best: Of the step with the lowest `train.best_metric`, not of the last one.
    """
    build = generator_builder(config, role=role)
    metric = config.train.best_metric if best else ""
    return restore(workdir, run, build, which=which, best_metric=metric)


def restore(
    workdir: Workdir,
    run: str,
    build: Build,
    *,
    which: str = "params",
    best_metric: str = "",
) -> Params:
    """Parameters of any finished run whose module `build` makes, on every device.

    With `best_metric` they are those of the step at which it was lowest.
    """
    abstract = abstract_params(build)
    sharding = replicated(make_mesh())
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), abstract
    )
    folder = workdir / "checkpoints" / run
    checkpoints = Checkpoints(folder, best_metric=best_metric)
    with contextlib.closing(checkpoints):
        best = bool(best_metric)
        return checkpoints.restore_params(like, which=which, best=best)
