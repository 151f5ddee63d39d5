"""Damage to what a run keeps, and what the next command makes of it.

    python -m tests.faults.damage --files=500 --flips=200

counts how often it says what is wrong, how often it makes the right thing all the same,
and how often neither. The damage is a function of the seed.
"""

import argparse
import contextlib
import io
import json
import random
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import jax

from exits_jax import exit_status, main
from exits_jax.files.seals import read_sealed, write_sealed
from exits_jax.phases import generate
from exits_jax.run import workdir as workdir_module
from tests.support import toy

_JOBS_OF_A_PROCESS = 200
CLEAR, RIGHT, ELSE = "clear error", "right result", "anything else"
# Of no later phase: they tell people what happened.
_UNREAD = ("log.txt", ".lock", "environment.json", "tensorboard", "compilation_cache")


class Stage(NamedTuple):
    """A run that ended somewhere, and the phase that comes next."""

    folder: Path
    phase: str  # ""; all
    data: Path
    kind: str  # of `KINDS`
    results: tuple[str, ...]  # files and checkpoints that the phase makes

    def config(self, workdir: Path):
        """Its configuration in a workdir."""
        return toy.config_for(self.data, workdir, **_ALL, **KINDS[self.kind])


class Verdict(NamedTuple):
    """What became of one damage."""

    outcome: str
    file: str
    how: str
    said: str


def truncate(data: bytes, rng: random.Random) -> bytes:
    """The first part of it."""
    return data[: rng.randrange(len(data) or 1)]


def empty(data: bytes, rng: random.Random) -> bytes:
    """Nothing, as after a power cut without a flush."""
    return b""


def zeros(data: bytes, rng: random.Random) -> bytes:
    """A block that never reached the disk."""
    start = rng.randrange(len(data) or 1)
    return data[:start] + bytes(len(data) - start)


def flip(data: bytes, rng: random.Random) -> bytes:
    """One bit."""
    if not data:
        return b"\x01"
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def another_type(data: bytes, rng: random.Random) -> bytes:
    """JSON that holds something else."""
    return rng.choice(
        [b"[]", b"{}", b"null", b'"text"', b"7", b"[[1, 2]]", b'{"a": 1}']
    )


def noise(data: bytes, rng: random.Random) -> bytes:
    """Bytes of another file."""
    return rng.randbytes(max(1, len(data)))


WAYS = (truncate, empty, zeros, flip, another_type, noise)


def damage(stage: Stage, seed: int, *, flips: bool, scratch: Path) -> Verdict:
    """Damages one file of a copy, runs the next phase and judges.

    Args:
        stage: Where the run stands.
        seed: Of what is damaged.
        flips: Whether to flip one bit of a checkpoint, instead of any damage.
        scratch: An empty folder, which is used up.
    """
    rng = random.Random(seed)
    workdir = scratch / "run"
    shutil.copytree(stage.folder, workdir)
    files = sorted(path for path in workdir.rglob("*") if path.is_file())
    names = [path.relative_to(workdir).as_posix() for path in files]
    names = [name for name in names if name.partition("/")[0] not in _UNREAD]
    ways = WAYS
    if flips:
        arrays = ("/params/", "/optimizer/", "/teacher/")
        names = [n for n in names if any(part in n for part in arrays)]
        newest = max(int(n.split("/")[2]) for n in names if "/train/" in n)
        read = ("checkpoints/warmup/", f"checkpoints/train/{newest}/")
        names, ways = [n for n in names if n.startswith(read)], (flip,)
    elif rng.random() < 0.7:  # most files are those of checkpoints
        names = [n for n in names if not n.startswith("checkpoints/")]
    name, way = rng.choice(names), rng.choice(ways)
    path, how = workdir / name, way.__name__
    if not flips and rng.random() < 0.15:
        how = "removed"
        path.unlink()
    else:
        path.write_bytes(way(path.read_bytes(), rng))
    if path.exists() and path.read_bytes() == (stage.folder / name).read_bytes():
        how = "unchanged"
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            status = main.run(stage.config(workdir), stage.phase)
    except BaseException:
        return Verdict(ELSE, name, how, traceback.format_exc()[-1500:])
    text = said.getvalue()
    if status == exit_status.OK:
        wrong = _wrong_results(stage, workdir)
        return Verdict(ELSE if wrong else RIGHT, name, how, wrong)
    error = text.rpartition("error: ")[2].strip()
    is_clear = status in (exit_status.USAGE, exit_status.BAD_INPUT)
    is_clear &= "Traceback" not in text and _names(error, name)
    return Verdict(CLEAR if is_clear else ELSE, name, how, f"{status}: {error}")


def _names(error: str, name: str) -> bool:
    """Whether a message names a file, its checkpoint or its phase."""
    path = Path(name)
    return any(part in error for part in (*path.parts, path.stem))


def _wrong_results(stage: Stage, workdir: Path) -> str:
    wanted = stage.folder.with_name(f"{stage.folder.name}_after")
    for name in stage.results:
        if name.startswith("checkpoints/"):
            run = name.rpartition("/")[2]
            found, right = (toy.checkpoint(top, run) for top in (workdir, wanted))
            is_same = found.keys() == right.keys() and all(
                found[key].tobytes() == right[key].tobytes() for key in right
            )
        else:
            is_same = (workdir / name).read_bytes() == (wanted / name).read_bytes()
        if not is_same:
            return f"{name} is another"
    return ""


def back_to(whole: Path, folder: Path, phase: str, *, step: int | None = None) -> None:
    """A copy of a finished run that looks as if it had been killed in a phase.

    Args:
        whole: The run.
        folder: The copy.
        phase: The phase that is begun and not finished.
        step: Of a training: its last checkpoint.
    """
    shutil.copytree(whole, folder)
    phases = list(main.PHASES)
    for later in phases[phases.index(phase) + 1 :]:
        (folder / "phases" / f"{later}.json").unlink(missing_ok=True)
    marker = folder / "phases" / f"{phase}.json"
    record = read_sealed(marker)
    write_sealed(marker, {"status": "running", "config": record["config"]})
    if step is not None:
        for saved in (folder / "checkpoints" / phase).iterdir():
            if int(saved.name) > step:
                shutil.rmtree(saved)
    made = ["evaluation.json", "contact_sheet.png"]
    if phase != "evaluate":
        made += ["pseudo_masks.json", "skipped.json", "manifest.json"]
    for name in made:
        (folder / name).unlink(missing_ok=True)


# Beside `toy.config_for`.
KINDS = {
    "plain": {},
    "paper": {"similarity__select": True, "similarity__select_hops": (1, 2)},
    "stored": {"labels__stored": True, "loss__mask": 1.0, "walk__encoder": "warmup"},
}
_ALL = {"train__keep_checkpoints": 5}


def stages(folder: Path) -> list[Stage]:
    """Runs of a toy data set that ended in a training, while labelling and after it."""
    data = folder / "data"
    toy.write_dataset(data)
    whole, parts, stored = folder / "whole", folder / "kept", folder / "labels"
    _run(Stage(whole, "", data, "paper", ()))
    back_to(whole, parts, "generate")
    with _parts_stay():
        _run(Stage(parts, "generate", data, "paper", ()))
    for phase in ("prepare", "warmup", "train"):
        _run(Stage(stored, phase, data, "stored", ()))
    masks, state = ("pseudo_masks.json", "skipped.json"), ("checkpoints/train",)
    return [
        stage_of(whole, folder / "resume", "train", data, "paper", state, step=20),
        stage_of(whole, folder / "generate", "generate", data, "paper", masks),
        stage_of(parts, folder / "parts", "generate", data, "paper", masks),
        stage_of(
            whole, folder / "evaluate", "evaluate", data, "paper", ("evaluation.json",)
        ),
        stage_of(stored, folder / "stored", "train", data, "stored", state, step=20),
    ]


def stage_of(
    whole: Path,
    folder: Path,
    phase: str,
    data: Path,
    kind: str,
    results: tuple[str, ...],
    *,
    step: int | None = None,
) -> Stage:
    """A finished run put back to a phase; what is right is made beside it."""
    back_to(whole, folder, phase, step=step)
    after = folder.with_name(f"{folder.name}_after")
    shutil.copytree(folder, after)
    _run(Stage(after, phase, data, kind, results))
    return Stage(folder, phase, data, kind, results)


def _run(stage: Stage) -> None:
    assert main.run(stage.config(stage.folder), stage.phase or None) == exit_status.OK


@contextlib.contextmanager
def _parts_stay() -> Iterator[None]:
    """As if labelling were killed just before its end."""
    kept = generate.remove_parts
    generate.remove_parts = lambda parts: None
    try:
        yield
    finally:
        generate.remove_parts = kept


def _begin(folder: str) -> None:
    """Programs are compiled once for all processes."""
    jax.config.update("jax_compilation_cache_dir", f"{folder}/programs")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    workdir_module._commit = lambda: None  # may change meanwhile, and stands in results


def _judge(job: tuple[Stage, bool, int]) -> Verdict:
    stage, flips, seed = job
    with tempfile.TemporaryDirectory(dir=stage.folder.parent) as scratch:
        return damage(stage, seed, flips=flips, scratch=Path(scratch))


def main_of_counts() -> int:
    """Counts; the status is 1 if something else happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("files", 500), ("flips", 200), ("seed", 0), ("jobs", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--log", type=Path, help="a line of JSON for each")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _begin(folder)
        found = stages(Path(folder))
        resuming = [stage for stage in found if stage.phase in ("train", "generate")]
        jobs = [
            *((found[k % len(found)], False, args.seed + k) for k in range(args.files)),
            *(
                (resuming[k % len(resuming)], True, args.seed + 10**6 + k)
                for k in range(args.flips)
            ),
        ]
        counts = _count(zip(jobs, _judged(jobs, args.jobs, folder)), args.log)
    for flips, name in ((False, "damaged files"), (True, "bit flips of checkpoints")):
        said = ", ".join(f"{counts[flips, o]} {o}" for o in (CLEAR, RIGHT, ELSE))
        print(f"{name}: {said}")
    return int(counts[False, ELSE] + counts[True, ELSE] > 0)


def _judged(
    jobs: Sequence[tuple[Stage, bool, int]], num_processes: int, folder: str
) -> Iterator[Verdict]:
    """What became of each, by processes that do not live long enough to grow."""
    size = _JOBS_OF_A_PROCESS * num_processes
    for start in range(0, len(jobs), size):
        with ProcessPoolExecutor(
            num_processes,
            mp_context=get_context("spawn"),
            initializer=_begin,
            initargs=(folder,),
        ) as pool:
            yield from pool.map(_judge, jobs[start : start + size])


def _count(
    judged: Iterable[tuple[tuple[Stage, bool, int], Verdict]], log: Path | None
) -> Counter:
    counts: Counter = Counter()
    for (stage, flips, seed), verdict in judged:
        counts[flips, verdict.outcome] += 1
        line = {"stage": stage.folder.name, "seed": seed, **verdict._asdict()}
        if log is not None:
            with log.open("a") as file:
                file.write(json.dumps(line) + "\n")
        if verdict.outcome == ELSE:
            print(json.dumps(line), file=sys.stderr)
    return counts


if __name__ == "__main__":
    sys.exit(main_of_counts())
