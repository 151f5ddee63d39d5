"""The command on a small run, and what it left."""

import shutil
import subprocess
from pathlib import Path

from exits_jax.files.seals import read_sealed, write_sealed
from tests.support import toy
from tests.support.processes import start_processes

STEPS = 120


def config_for(dataset: Path, workdir: Path, **changes):
    """A training by boxes and colours: one compiled step."""
    changes = {
        "loss__method": "mil_crf",
        "train__steps": STEPS,
        "train__log_every": 1,
        "train__checkpoint_every": 10,
        **changes,
    }
    return toy.config_for(dataset, workdir, **changes)


def flags_for(dataset: Path, workdir: Path, **changes) -> list[str]:
    """Its phase train alone."""
    return [*toy.as_flags(config_for(dataset, workdir, **changes)), "--phase=train"]


def start(
    flags: list[str], *, num_processes=1, devices=4, **options
) -> list[subprocess.Popen]:
    return start_processes(
        flags, num_processes=num_processes, devices=devices, **options
    )


def folder(workdir: Path) -> Path:
    return workdir / "checkpoints" / "train"


def saved(workdir: Path) -> list[int]:
    """Steps of the checkpoints."""
    if not folder(workdir).exists():
        return []
    names = [path.name for path in folder(workdir).iterdir()]
    return sorted(int(name) for name in names if name.isdigit())


def is_saving(workdir: Path) -> bool:
    """Whether a checkpoint is being written, and one is there to go back to."""
    names = [path.name for path in folder(workdir).glob("*")]
    return bool(saved(workdir)) and any("orbax-checkpoint-tmp" in n for n in names)


def unfinished(whole: Path, workdir: Path, *, at: int) -> None:
    """A copy of a finished run that looks as if it had been killed after step `at`."""
    shutil.copytree(whole, workdir)
    for step in saved(workdir):
        if step > at:
            shutil.rmtree(folder(workdir) / str(step))
    marker = workdir / "phases" / "train.json"
    write_sealed(marker, read_sealed(marker) | {"status": "running"})


def losses(workdir: Path) -> dict[int, float]:
    """By step, each of which must be there once."""
    rows = toy.rows(workdir, "train")
    found = {row["step"]: row["loss/total"] for row in rows}
    assert len(found) == len(rows)
    return found
