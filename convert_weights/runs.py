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
    workdir: Path, weights: str
) -> tuple[dict[str, np.ndarray], dict[str, str], Path]:
    """Reads the trained generator of a run.

    Args:
      workdir: what the run was given as `--workdir`.
      weights: one of `WEIGHTS`.

    Returns:
      Our parameters by name, the metadata of a generator file, and the folder of the
      checkpoint.

    Raises:
      SourceError: the phase train is not finished or has no such weights.
    """
    from exits_jax.cli.config_files import read_record
    from exits_jax.models.weights import flatten
    from exits_jax.phases.options import encoder_config
    from exits_jax.phases.weights import load_params
    from exits_jax.phases.workdir import Workdir

    folder = Workdir(workdir)
    if not folder.is_finished("train"):
        raise SourceError(
            f"{workdir}: the phase train is not finished. Let the run end first."
        )
    config = read_record(workdir / "config.json").config
    try:
        tree = load_params(
            config, folder, "train", role="generator", which=WEIGHTS[weights]
        )
    except (FileNotFoundError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise SourceError(
            f"{workdir}: no {weights} weights of the phase train ({reason})."
        ) from None
    params = {name: np.asarray(value) for name, value in flatten(tree).items()}
    init = folder.facts("train").get("init", {})
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
        "licence": _licence(init),
    }
    if config.prompt.enabled:
        prompt = {"walk": config.prompt.walk, "sigma": config.prompt.sigma}
        metadata["prompt"] = json.dumps(prompt)
    metadata |= {name: str(value) for name, value in init.items() if value is not None}
    checkpoints = workdir / "checkpoints" / "train"
    newest = max(int(path.name) for path in checkpoints.iterdir() if _is_step(path))
    return params, metadata, checkpoints / str(newest) / WEIGHTS[weights]


def _licence(init: dict[str, Any]) -> str:
    """That of what the run started from; all of them where there are several."""
    names = ("init_licence", "init_extractor_licence", "init_generator_licence")
    found = [str(init[name]) for name in names if init.get(name)]
    return ", ".join(dict.fromkeys(found)) or "unknown"


def _is_step(path: Path) -> bool:
    return path.name.isdigit()
