"""What makes masks, from a run, from a generator's file or from an encoder alone.

A model is its parameters and the fields of a configuration that decide its masks. A run
has both; a generator's file has the fields in its metadata; for an encoder alone they
are those of configs/custom.py.
"""

import json
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_collections as mlc
from jax.sharding import Mesh

from exits_jax.cli.config_files import RECORD, from_fields, read_record
from exits_jax.cli.fields import leaves
from exits_jax.cli.words import UsageError
from exits_jax.configs import base, custom
from exits_jax.labeling.label import Models
from exits_jax.models.params import Params
from exits_jax.models.vit import SIZES
from exits_jax.models.weights import read_encoder, read_model
from exits_jax.run.check_weights import WeightsError
from exits_jax.run.extractor import extractor, extractor_start
from exits_jax.run.fields import METHODS
from exits_jax.run.fingerprints import digest_of_params, fields_of_masks
from exits_jax.run.from_config import (
    WALK_THRESHOLD,
    uses_generator,
    uses_walk,
    walk_options,
)
from exits_jax.run.starting_weights import (
    fitting_encoder,
    fitting_generator,
    load_params,
    provenance,
)
from exits_jax.run.workdir import Workdir
from exits_jax.train.sharding import host_copy, replicate

WALK = "walk:"  # before the file of an encoder: its walk makes the masks
ITEMS = {"student": ("params",), "teacher": ("teacher",), "both": ("params", "teacher")}
INFERENCE = "inference"  # metadata: the fields that decide masks, as JSON
_SMALL = ("tiny", "small")  # sizes of encoders whose walk sees crops of 224 px
_logger = logging.getLogger(__name__)


class Model(NamedTuple):
    """Parameters on the host, and what else decides the masks."""

    config: mlc.ConfigDict  # of its fields, those of `fields_of_masks` are the model's
    generators: list[Params]  # their logits are averaged; none: the walk alone
    encoder: Params | None  # of the walk
    facts: dict[str, Any]  # where it comes from


def find_model(name: str, *, weights: str | None = None) -> Model:
    """The model that a name stands for.

    Args:
        name: The folder of a run, a generator's file as `exits-jax convert` writes it,
            or "walk:" and the file of an encoder.
        weights: "student", "teacher" or "both", of a run; None: what the run says.

    Raises:
        FileNotFoundError: If there is no such thing; says how to make it.
        WeightsError: If it cannot make masks; says why.
    """
    if weights is not None and weights not in ITEMS:
        raise WeightsError(f"weights is {weights!r}; known are {', '.join(ITEMS)}.")
    if name.startswith(WALK):
        if weights is not None:
            raise WeightsError(f"weights is {weights!r}, but {name} was not trained.")
        return _of_encoder(name.removeprefix(WALK))
    if Path(name).is_dir():
        return _of_folder(Path(name), weights)
    return _of_file(name, weights)


def of_run(config: mlc.ConfigDict, workdir: Workdir) -> Model:
    """The model of a run that has trained what its masks are made with.

    To load it takes all processes of a run.
    """
    if config.generate.model:
        return _as_asked(config)
    generators: list[Params] = []
    if uses_generator(config):
        best = config.generate.checkpoint == "best"
        for item in ITEMS[config.generate.weights]:
            tree = load_params(
                config, workdir, "train", role="generator", which=item, best=best
            )
            generators.append(host_copy(tree))
    encoder = walk_encoder(config, workdir) if uses_walk(config) else None
    init = workdir.facts("train").get("init") or provenance(config)
    method = config.loss.method if generators else "walk"
    return Model(config, generators, encoder, {"method": method, **init})


def _as_asked(config: mlc.ConfigDict) -> Model:
    """The parts of `generate.model` that `generate.source` asks for, not all it has."""
    name, is_trained = config.generate.model, uses_generator(config)
    weights = config.generate.weights if is_trained else None
    model = find_model(name, weights=weights)
    missing = "generator" if is_trained and not model.generators else ""
    if uses_walk(config) and model.encoder is None:
        missing = "encoder for the walk"
    if missing:
        raise WeightsError(
            f"{name} has no {missing}, which generate.source = "
            f"{config.generate.source!r} needs. Leave the source to the model, or name "
            "another one."
        )
    return model._replace(
        generators=model.generators if is_trained else [],
        encoder=model.encoder if uses_walk(config) else None,
    )


def walk_encoder(config: mlc.ConfigDict, workdir: Workdir) -> Params:
    """Parameters of the encoder that the walk of a run follows, on the host.

    To load them takes all processes.
    """
    if config.generate.model:
        encoder = _as_asked(config).encoder
        assert encoder is not None  # whoever asks for it uses the walk
        return encoder
    if config.walk.encoder == "warmup":
        return host_copy(extractor(config, workdir))
    return host_copy(extractor_start(config, workdir)["encoder"])


def on_devices(config: mlc.ConfigDict, model: Model, mesh: Mesh) -> Models:
    """The model on every device of a mesh."""
    return Models(
        generators=[replicate(mesh, tree) for tree in model.generators],
        encoder=None if model.encoder is None else replicate(mesh, model.encoder),
        walk=None if model.encoder is None else walk_options(config),
    )


def digest_of_model(model: Model) -> str:
    """SHA-256 of its parameters."""
    encoder = [] if model.encoder is None else [model.encoder]
    return digest_of_params([*model.generators, *encoder])


def adopt_model(config: mlc.ConfigDict, given: Mapping[str, Any]) -> None:
    """Sets the fields that decide masks to those of `generate.model`, in place.

    Args:
        config: The configuration of a run that is to use the model.
        given: Fields that a person has set, which stay.

    Raises:
        FileNotFoundError: As `find_model`.
        WeightsError: Likewise.
    """
    model = find_model(config.generate.model, weights=given.get("generate.weights"))
    own = {"generate.batch_size", "generate.empty", *given}
    values = {n: v for n, v in inference_fields(model.config).items() if n not in own}
    config.update_from_flattened_dict(values | {"pretrain.enabled": False})


def inference_fields(config: mlc.ConfigDict) -> dict[str, Any]:
    """The fields that decide masks, and the name of the method."""
    known, also = dict(leaves(config)), ("prompt.enabled", "loss.method")
    return {name: known[name] for name in (*fields_of_masks(config), *also)}


def _with_fields(config: mlc.ConfigDict, values: Mapping[str, Any]) -> mlc.ConfigDict:
    changed = config.copy_and_resolve_references()
    changed.update_from_flattened_dict(dict(values))
    return changed


def _of_folder(folder: Path, weights: str | None) -> Model:
    if not (folder / RECORD).is_file():
        raise WeightsError(
            f"{folder} is a folder without {RECORD}: expected the workdir of a run, a "
            f"generator's .safetensors file, or {WALK}ENCODER.safetensors."
        )
    config = _loaded(lambda: read_record(folder / RECORD).config)
    workdir = Workdir(folder)
    if weights is not None:
        if not uses_generator(config):
            raise WeightsError(f"weights is {weights!r}, but {folder} trains none.")
        config.generate.weights = weights
    needs = "train" if uses_generator(config) and not config.generate.model else ""
    if needs and not workdir.is_finished(needs):
        raise WeightsError(
            f"{folder} holds no trained model yet: the phase {needs} is not finished. "
            f"Run `exits-jax run --workdir={folder}` to its end."
        )
    try:
        model = of_run(config, workdir)
        return model._replace(
            config=_with_fields(base.get_config(), inference_fields(config))
        )
    except (KeyError, ValueError) as error:
        if isinstance(error, WeightsError):
            raise
        first = str(error).partition("\n")[0]
        raise WeightsError(
            f"{folder}: its parameters cannot be read: {first}"
        ) from error


def _of_file(name: str, weights: str | None) -> Model:
    try:
        generator, walk, metadata = read_model(name)
    except ValueError as error:
        raise WeightsError(
            f"{error} The walk of an encoder makes masks, too: {WALK}{name}"
            if "An encoder alone" in str(error)
            else str(error)
        ) from error
    said = metadata.get("weights")
    if None not in (weights, said) and weights != said:
        raise WeightsError(
            f"{name} holds the weights of the {said} alone, not of the {weights}: "
            f"convert the run again with --weights={weights}."
        )
    config = _config_of(name, metadata, generator)
    if uses_walk(config) and walk is None:
        raise WeightsError(
            f"{name}: its masks are made together with a walk (generate.source = "
            f"{config.generate.source!r}), whose encoder is not in the file. Convert "
            "the run again."
        )
    generator = fitting_generator(config, generator, metadata, name=name)
    encoder = None
    if uses_walk(config):
        encoder = fitting_encoder(config, walk or {}, metadata, name=name)
    method = metadata.get("method", "exits")
    if method in METHODS:
        config.loss.method = method
    return Model(config, [generator], encoder, {"method": method, **_facts(metadata)})


def _of_encoder(name: str) -> Model:
    """The walk by an encoder's attention, as configs/custom.py has it."""
    try:
        encoder, metadata = read_encoder(name)
    except ValueError as error:
        raise WeightsError(str(error)) from error
    config = custom.get_config("full")
    fields = _model_fields(name, metadata, encoder)
    dim, depth = fields["model.dim"], fields["model.depth"]
    if (dim, depth) in [SIZES[size][:2] for size in _SMALL]:
        config = custom.get_config("cpu")
    if jax.default_backend() == "cpu":
        config.model.dtype = "float32"
    config.generate.source = "walk"
    config.prompt.enabled = False
    config.generate.threshold = WALK_THRESHOLD
    config = _with_fields(config, fields)
    config.init.encoder = name
    encoder = fitting_encoder(config, encoder, metadata, name=name)
    return Model(config, [], encoder, {"method": "walk", **_facts(metadata)})


def _config_of(
    name: str, metadata: Mapping[str, str], generator: Params
) -> mlc.ConfigDict:
    """The configuration that a generator's file describes."""
    kept = metadata.get(INFERENCE)
    if kept is not None:
        config = _loaded(lambda: from_fields(json.loads(kept), name).config)
        sizes = {
            f"model.{field}": int(metadata[said])
            for field, said in (("patch_size", "patch_size"), ("position_grid", "grid"))
            if said in metadata  # a conversion may have changed them
        }
        return _with_fields(config, sizes)
    config = base.get_config()
    _logger.warning(
        "%s does not say how its masks are made: taken are crops of %s px, threshold "
        "%s, no flip, float32.",
        name,
        metadata.get("crop_size", config.crop.size),
        metadata.get("threshold", config.generate.threshold),
    )
    config.model.dtype = "float32"
    fields = _model_fields(name, metadata, generator["encoder"])
    fields["decoder.features"] = _features(generator)
    for field, said, kind in (
        ("crop.size", "crop_size", int),
        ("crop.test_margin", "test_margin", float),
        ("generate.threshold", "threshold", float),
    ):
        if said in metadata:
            fields[field] = kind(metadata[said])
    for section in ("decoder", "prompt"):
        options = json.loads(metadata.get(section, "{}"))
        fields |= {f"{section}.{field}": value for field, value in options.items()}
    fields["prompt.enabled"] = "prompt" in metadata
    return _with_fields(config, fields)


def _model_fields(
    name: str, metadata: Mapping[str, str], encoder: Params
) -> dict[str, Any]:
    """The section `model` of an encoder, from its parameters and metadata."""
    rows, dim = encoder["position_table"].shape
    stem = encoder["patch_embedding"]
    if "heads" not in metadata:
        raise WeightsError(
            f"{name} does not say how many attention heads it has. Convert it again "
            "with --heads=NUMBER."
        )
    fields = {
        "model.dim": dim,
        "model.depth": len(encoder["blocks"]),
        "model.heads": int(metadata["heads"]),
        "model.patch_size": (
            2 ** len(stem["convs"]) if "convs" in stem else stem["kernel"].shape[0]
        ),
        "model.position_grid": math.isqrt(rows),
        "model.class_token": "class_token" in encoder,
        "model.position_offset": float(metadata.get("position_offset", 0.0)),
    }
    stems = "conv" if "convs" in stem else "patch"
    fields |= {"model.stem": stems, "model.extractor_stem": stems}
    for field in ("image_mean", "image_std"):
        if field in metadata:
            fields[f"init.{field}"] = tuple(json.loads(metadata[field]))
    return fields


def _features(generator: Params) -> int:
    """Width of a generator's decoder."""
    return generator["decoder"]["pixel_head"]["convs"]["0"]["bias"].shape[0]


def _facts(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Where a file's weights come from, under the names of a run's provenance."""
    inherited = {k: v for k, v in metadata.items() if k.startswith("init_")}
    return {
        "init_weights": metadata.get("source"),
        "init_sha256": metadata.get("source_sha256"),
        "init_licence": metadata.get("licence"),
        **inherited,
    }


def _loaded(read: Callable[[], mlc.ConfigDict]) -> mlc.ConfigDict:
    try:
        return read()
    except (UsageError, ValueError) as error:
        raise WeightsError(str(error)) from error
