"""The folder of one training: whose it is, who is at work in it, its checkpoint."""

import contextlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from exits_jax.files.locks import InUse, take_lock
from exits_jax.stage2.errors import Stage2Error

FIGURES, TASK = "figures.json", "task.json"
SO_FAR = "figures_so_far.json"


@contextlib.contextmanager
def claimed(workdir: Path) -> Iterator[None]:
    """Makes the folder, and keeps other runs out of it.

    Raises:
        Stage2Error: If it cannot be written, or another run is at work in it.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = take_lock(workdir / ".lock", is_needed=False)
    except InUse as error:
        raise Stage2Error(
            f"Another run is at work in {workdir} ({error.owner}). Wait for its end, "
            "or use another workdir."
        ) from None
    except OSError as error:
        raise Stage2Error(
            f"The workdir {workdir} cannot be written: {error.strerror}."
        ) from error
    with lock:
        yield


def refuse_other_task(workdir: Path, record: Mapping[str, Any]) -> None:
    """Raises Stage2Error if the folder holds a training of something else."""
    path = workdir / TASK
    if not path.exists():
        return
    try:
        known = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise Stage2Error(
            f"{path} cannot be read: {error}. Without it nobody knows what this folder "
            "is of: use another workdir, or remove this one."
        ) from error
    wanted = json.loads(json.dumps(record))
    changed = sorted(
        name for name in known | wanted if known.get(name) != wanted.get(name)
    )
    if changed:
        lines = "\n  ".join(
            f"{name}: was {known.get(name)!r}, is {wanted.get(name)!r}"
            for name in changed
        )
        raise Stage2Error(
            f"{workdir} holds a training of something else:\n  {lines}\n"
            "Use another workdir, or remove this one."
        )


def newest_checkpoint(workdir: Path) -> Path | None:
    """The checkpoint to go on from; None if there is none yet.

    Raises:
        Stage2Error: If `last_checkpoint` names one that is not in the folder, or that
            is broken: bytes are compared with their checksums, and weights are numbers.
        OSError: If `last_checkpoint` cannot be read.
    """
    pointer = workdir / "last_checkpoint"
    if not pointer.exists():
        return None
    named = Path(pointer.read_text(errors="replace").strip())
    path = workdir / named.name  # the folder may have been moved
    if not named.name or not path.is_file():
        raise Stage2Error(
            f"{pointer} names {str(named)!r}, which is not in the folder. Write "
            "another of its checkpoints into it, or remove it to start again."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            if bad := archive.testzip():  # torch compares no checksums
                raise ValueError(f"its part {bad} is not what was written.")
        held = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        _refuse_other_content(held)
    except Exception as error:  # zip, pickle, end of file: each its own
        raise Stage2Error(
            f"The checkpoint {path} is broken: {_first_line(error)}. Write another one "
            f"into {pointer}, or remove that to start again."
        ) from error
    return path


def _refuse_other_content(held: Any) -> None:
    """Raises ValueError for what mmengine would go on from without a word."""
    wanted = ("meta", "state_dict", "message_hub")
    absent = [n for n in wanted if not isinstance(held, dict) or n not in held]
    if absent:
        raise ValueError(f"it has no {', '.join(absent)}.")
    for name, values in held["state_dict"].items():
        if values.is_floating_point() and not values.isfinite().all():
            raise ValueError(f"{name} holds NaN or infinities.")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
