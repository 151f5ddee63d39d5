"""What each phase leaves in a workdir, and how it is removed to be made again."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

_logger = logging.getLogger(__name__)

# Paths below the workdir. Rows of `metrics.jsonl` are dropped when a run begins anew,
# and drawn scenes are drawn again only if they are to be others.
MADE = {
    "prepare": ("annotations",),
    "pretrain": ("checkpoints/pretrain", "tensorboard/pretrain"),
    "warmup": ("checkpoints/warmup", "tensorboard/warmup", "similarity.json"),
    "train": (
        "checkpoints/start",
        "checkpoints/train",
        "tensorboard/start",
        "tensorboard/train",
        "labels",
    ),
    "generate": ("parts", "pseudo_masks.json", "skipped.json", "manifest.json", "val"),
    "evaluate": ("evaluation.json", "contact_sheet.png"),
}


def from_on(phase: str) -> list[str]:
    """The phase and those after it, which build on it."""
    phases = list(MADE)
    return phases[phases.index(phase) :]


def found(workdir: Path, phases: Sequence[str]) -> list[str]:
    """What phases left in a workdir, as paths below it."""
    return [
        name for phase in phases for name in MADE[phase] if (workdir / name).exists()
    ]


def remove(workdir: Path, phases: Sequence[str]) -> None:
    """Removes what phases left; logs each path with its size before."""
    for name in found(workdir, phases):
        _logger.info("  removed: %s (%s)", workdir / name, _size(workdir / name))
        path = workdir / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _size(path: Path) -> str:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    count = f"{len(files)} file{'s' * (len(files) != 1)}"
    return f"{count}, {sum(file.stat().st_size for file in files) / 1e6:.1f} MB"
