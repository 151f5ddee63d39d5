"""The generator of a finished run, from its work directory."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from .sources import SourceError

WEIGHTS = {"student": "params", "teacher": "teacher"}  # option -> item of a checkpoint


def is_run(path: Path) -> bool:
    """Whether this is the work directory of a run."""
    return (path / "config.json").is_file() and (path / "phases").is_dir()


def read_run(
    workdir: Path, weights: str | None
) -> tuple[dict[str, np.ndarray], dict[str, str], Path]:
    """Reads the trained generator of a run, and the walk that joins it if there is one.

    Args:
        workdir: What the run was given as `--workdir`.
        weights: One of `WEIGHTS`; None: those that the run makes its masks with.

    Returns:
        Our parameters by name, the metadata of a generator file, and the folder of the
        checkpoint.

    Raises:
        SourceError: The phase train is not finished or has no such weights, the run
            has no generator of its own, or averages two, or its files are damaged.
    """
    from exits_jax.cli.config_files import read_record
    from exits_jax.labeling.model_source import INFERENCE, find_model, inference_fields
    from exits_jax.models.weights import flatten
    from exits_jax.run.from_config import encoder_config, trains_generator
    from exits_jax.train.checkpoints import CheckpointError

    try:
        config = read_record(workdir / "config.json").config
    except ValueError as error:
        raise SourceError(str(error)) from None
    if not trains_generator(config):
        raise SourceError(f"{workdir}: this run trains no generator of its own.")
    weights = weights or config.generate.weights
    if weights not in WEIGHTS:
        raise SourceError(
            f"{workdir}: its masks are the mean of student and teacher, and a file has "
            "one of them: choose --weights=student or --weights=teacher."
        )
    try:
        model = find_model(str(workdir), weights=weights)
    except (CheckpointError, FileNotFoundError, ValueError) as error:
        raise SourceError(str(error)) from None
    (generator,), config = model.generators, model.config
    parts = generator if model.encoder is None else {**generator, "walk": model.encoder}
    params = {name: np.asarray(value) for name, value in flatten(parts).items()}
    options = {
        "size_dependent": config.decoder.size_dependent,
        "fixed_scale": config.decoder.fixed_scale,
        "upsample_before": config.decoder.upsample_before,
    }
    metadata = {
        "heads": str(encoder_config(config, role="generator").heads),
        "position_offset": str(config.model.position_offset),
        "decoder": json.dumps(options),
        "crop_size": str(config.crop.size),
        "test_margin": str(config.crop.test_margin),
        "threshold": str(config.generate.threshold),
        "weights": weights,
        "image_mean": json.dumps(list(config.init.image_mean)),
        "image_std": json.dumps(list(config.init.image_std)),
        "licence": _licence(model.facts),
        INFERENCE: json.dumps(inference_fields(config)),
    }
    if config.prompt.enabled:
        prompt = {"walk": config.prompt.walk, "sigma": config.prompt.sigma}
        metadata["prompt"] = json.dumps(prompt)
    said = {
        name: str(value) for name, value in model.facts.items() if value is not None
    }
    checkpoints = workdir / "checkpoints" / "train"
    newest = max(int(path.name) for path in checkpoints.iterdir() if _is_step(path))
    return params, metadata | said, checkpoints / str(newest) / WEIGHTS[weights]


def _licence(facts: dict[str, Any]) -> str:
    """That of what the run started from; all of them where there are several."""
    names = ("init_licence", "init_extractor_licence", "init_generator_licence")
    found = [str(facts[name]) for name in names if facts.get(name)]
    return ", ".join(dict.fromkeys(found)) or "unknown"


def _is_step(path: Path) -> bool:
    return path.name.isdigit()
