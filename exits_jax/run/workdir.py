"""The work directory: what has been done, with which configuration, and where."""

import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import jax
import ml_collections as mlc

import exits_jax
from exits_jax.files.json_files import write_json
from exits_jax.files.leftovers import remove_leftovers
from exits_jax.files.locks import InUse, take_lock
from exits_jax.files.seals import (
    Damaged,
    fault_of_file,
    read_sealed,
    seals_of,
    write_sealed,
)
from exits_jax.run import outputs
from exits_jax.run.fields import RUNTIME
from exits_jax.train.agreement import all_agree

_logger = logging.getLogger(__name__)

# What a run keeps in folders of its own.
FOLDERS = ("checkpoints", "phases", "tensorboard")

# Folders in which a killed run may have left files half written.
_WRITTEN = (
    *("", "phases", "annotations", "labels", "labels/parts", "parts", "val", "voc"),
    *("scenes", "scenes/train", "scenes/val"),
)

# Phases that train nothing: with other values of their own they are done again.
REPEATABLE = ("generate", "evaluate")

# Phases that go on from their last checkpoint if they are to be longer.
_TRAINING = ("pretrain", "warmup", "train")
_LENGTHS = ("steps", "epochs")
# Sections that decide how masks are made and evaluated, and nothing before them.
_OF_MASKS = (*(f"{phase}." for phase in REPEATABLE), "walk.", "dense_crf.")
_INSIDE = "inside"  # key of a path below the workdir
_REMOVING = "being removed"  # status of a phase that is to be done again


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names the field."""


class Workdir:
    """A folder that explains itself and knows which phases are finished."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._is_taken = False
        self._lock: IO[str] | None = None  # of the first process

    def __truediv__(self, name: str) -> Path:
        """A file or folder inside."""
        return self.path / name

    def keep(self, path: Path) -> str | dict[str, str]:
        """A path as a record keeps it: one inside goes where the folder goes."""
        there, top = os.path.abspath(path), os.path.abspath(self.path)
        if not there.startswith(top + os.sep):
            return str(path)
        return {_INSIDE: Path(os.path.relpath(there, top)).as_posix()}

    def find(self, kept: str | dict[str, str]) -> Path:
        """The path that `keep` kept."""
        return Path(kept) if isinstance(kept, str) else self / kept[_INSIDE]

    def take(self) -> None:
        """Creates the folder and keeps other processes from it.

        Raises:
            ConfigError: If the folder cannot be written or is in use by another
                process, or if another process of this run could not take it.
        """
        self._together(self._take)
        self._is_taken = True

    def open(
        self,
        config: mlc.ConfigDict,
        phases: Mapping[str, tuple[str, ...]] | None = None,
        *,
        builds_on: Mapping[str, tuple[str, ...]] | None = None,
        redo: str | None = None,
    ) -> None:
        """Records the configuration and the environment in a folder that is free.

        Args:
            config: The whole configuration.
            phases: What is about to run, with the sections that decide what each
                makes. With none, the record of an earlier run stays as it is.
            builds_on: The phases before those, likewise.
            redo: A phase to do again: what it and the phases after it made is removed.

        Raises:
            ConfigError: As `take`, or if the folder holds one of the phases with
                another configuration.
        """
        if not self._is_taken:
            self.take()
        self._together(lambda: self._open(config, phases, builds_on or {}, redo))

    def _together(self, action: Callable[[], None]) -> None:
        """Does what succeeds in every process of a run, or fails in all of them."""
        fault: ConfigError | Damaged | None = None
        try:
            action()
        except (ConfigError, Damaged) as error:
            fault = error
        except OSError as error:
            fault = ConfigError(
                f"The workdir {self.path} cannot be written: {error.strerror}."
            )
        if all_agree(fault is None):
            return
        self.close()
        raise fault or ConfigError(
            f"Another process of this run could not open the workdir {self.path}; it "
            "says why."
        )

    def _take(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self._refuse_unwritable()
        if jax.process_index() == 0:
            self._take_lock()
            for name in _WRITTEN:
                remove_leftovers(self / name)

    def _open(
        self,
        config: mlc.ConfigDict,
        phases: Mapping[str, tuple[str, ...]] | None,
        builds_on: Mapping[str, tuple[str, ...]],
        redo: str | None,
    ) -> None:
        again = outputs.from_on(redo) if redo else []
        for phase, sections in builds_on.items():
            if self._refuse_change(phase, config, sections) and phase in _TRAINING:
                raise ConfigError(
                    f"The phase {phase} of {self.path} is shorter than it is to be. "
                    f"Lengthen it first with `exits-jax {phase}`, or use `exits-jax "
                    "run` for all phases in turn."
                )
        for phase, sections in (phases or {}).items():
            if phase not in again:
                self._refuse_change(phase, config, sections)
        if jax.process_index() != 0:
            return
        self._remove(redo, again)
        if phases is None or phases:  # a run, and no tool beside it
            write_json(self / "config.json", json.loads(config.to_json_best_effort()))
            write_json(self / "environment.json", environment())

    def close(self) -> None:
        """Lets other processes use the folder; the end of the process does the same."""
        self._is_taken = False
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def is_finished(self, phase: str) -> bool:
        """Whether the phase has run to its end."""
        return self._record(phase).get("status") == "finished"

    def facts(self, phase: str) -> dict[str, Any]:
        """What the phase noted."""
        return self._record(phase).get("facts", {})

    def start(
        self, phase: str, config: mlc.ConfigDict, sections: tuple[str, ...]
    ) -> bool:
        """Begins or continues a phase; False if nothing is left to do.

        Args:
            phase: Its name.
            config: The whole configuration.
            sections: The parts of it that decide what the phase makes.

        Raises:
            ConfigError: If it was begun with another configuration; says which.
        """
        changes = self._refuse_change(phase, config, sections)
        if self.is_finished(phase) and not changes:
            return False
        if changes:
            how = (
                "goes on from its last checkpoint, at the learning rates that a run of "
                "the new length has from there"
                if phase in _TRAINING
                else "is done again"
            )
            _logger.info("%s %s (%s)", phase, how, "; ".join(changes))
        self._write(phase, {"status": "running", "config": _fields(config, sections)})
        return True

    def require(self, *phases: str) -> None:
        """Raises ConfigError, naming the phase, if one of them is not finished."""
        for phase in phases:
            if not self.is_finished(phase):
                raise ConfigError(
                    f"{self.path} does not hold the finished phase {phase}, which this "
                    f"one builds on. Run `exits-jax {phase}` first, or `exits-jax run` "
                    "for all phases in turn."
                )

    def is_outdated(
        self, phase: str, config: mlc.ConfigDict, sections: tuple[str, ...]
    ) -> bool:
        """Whether a finished phase would be done again, or go on, if it were to run.

        Raises:
            ConfigError: As `start`.
        """
        is_changed = bool(self._refuse_change(phase, config, sections))
        return is_changed and self.is_finished(phase)

    def note(self, phase: str, **facts: Any) -> None:
        """Adds to what is known of a phase that runs."""
        record = self._record(phase)
        known = record.get("facts", {}) | facts
        self._write(phase, record | {"facts": known})

    def finish(self, phase: str, *, sealing: Sequence[Path] = (), **facts: Any) -> None:
        """Notes that the phase has run to its end.

        Args:
            phase: Its name.
            sealing: Files of the workdir that it made and later phases read.
            facts: What else is to be known of it.
        """
        self.note(phase, **facts)
        made: dict[str, Any] = {"status": "finished"}
        if sealing and jax.process_index() == 0:
            made["files"] = seals_of(self.path, sealing)
        self._write(phase, self._record(phase) | made)

    def refuse_damaged(self, phase: str, *below: str) -> None:
        """Raises Damaged if a file that a finished phase made is not what it wrote.

        Args:
            phase: Its name.
            below: Only these files and folders of the workdir; none: all.
        """
        for name, seal in self._record(phase).get("files", {}).items():
            if below and not any(name == b or name.startswith(f"{b}/") for b in below):
                continue
            fault = fault_of_file(self / name, seal)
            if fault is not None:
                raise Damaged(
                    f"{self / name} {fault}. Bring back a copy of what the phase "
                    f"{phase} wrote, or make it again with --redo={phase}."
                )

    def _refuse_change(
        self, phase: str, config: mlc.ConfigDict, sections: tuple[str, ...]
    ) -> list[str]:
        """The fields that a phase was done with other values of, which it can bear.

        Raises ConfigError, naming the fields, if it can neither be done again nor go
        on.
        """
        record = self._record(phase)
        if not record:
            return []
        found, wanted = record["config"], _fields(config, sections)
        # Fields that only one of the two knows came or went with a version.
        common = sorted(found.keys() & wanted.keys())
        changed = [
            name
            for name in common
            if found[name] != wanted[name] and not _is_unread(name, wanted)
        ]
        said = {n: f"{n}: was {found[n]!r}, is {wanted[n]!r}" for n in changed}
        refused = [n for n in changed if not _may_change(phase, n, found, wanted)]
        if refused:
            lines = "\n  ".join(said[name] for name in refused)
            after = outputs.found(self.path, outputs.from_on(phase))
            removes = f", which removes {', '.join(after)}" if after else ""
            raise ConfigError(
                f"{self.path} holds the phase {phase} of another configuration:\n"
                f"  {lines}\nUse another --workdir, or do it again with "
                f"--redo={phase}{removes}."
            )
        return list(said.values())

    def _remove(self, redo: str | None, phases: Sequence[str]) -> None:
        """Removes what is to be made again, or what a killed process began to."""
        if redo:
            _logger.info("redo %s: removing what %s made", redo, ", ".join(phases))
        for phase in phases:
            if self._marker(phase).exists():  # also one that is damaged
                self._write(phase, {"status": _REMOVING, "config": {}})
        is_doomed = lambda phase: self._record(phase).get("status") == _REMOVING
        doomed = [name for name in outputs.MADE if name in phases or is_doomed(name)]
        outputs.remove(self.path, doomed)
        for phase in doomed:
            self._marker(phase).unlink(missing_ok=True)

    def _refuse_unwritable(self) -> None:
        """Says before anything is computed what could not be saved after it."""
        for path in (self.path, *(self / name for name in FOLDERS)):
            if path.exists() and not path.is_dir():
                raise ConfigError(f"{path} is a file; a run needs a folder there.")
            if path.exists() and not os.access(path, os.W_OK | os.X_OK):
                raise ConfigError(
                    f"The workdir {self.path} cannot be written: Permission denied: "
                    f"{path}."
                )

    def _take_lock(self) -> None:
        """One process at a time: two would write into each other's checkpoints."""
        try:
            self._lock = take_lock(self / ".lock")
        except InUse as error:
            raise ConfigError(
                f"The workdir {self.path} is in use by {error.owner}. Wait for its "
                "end, or use another --workdir."
            ) from None

    def _marker(self, phase: str) -> Path:
        return self.path / "phases" / f"{phase}.json"

    def _record(self, phase: str) -> dict[str, Any]:
        marker = self._marker(phase)
        again = f"Bring back a copy, or do the phase again with --redo={phase}."
        try:
            record = read_sealed(marker)
        except FileNotFoundError:
            return {}
        except Damaged as error:
            raise Damaged(f"{error} {again}") from None
        if not _is_record(record):
            raise Damaged(
                f"{marker} is damaged: it is no record of a phase, which has the "
                f"fields status and config. {again}"
            )
        return record

    def _write(self, phase: str, record: dict[str, Any]) -> None:
        if jax.process_index() == 0:
            self._marker(phase).parent.mkdir(exist_ok=True)
            whole = {"status": "running", "config": {}} | record
            write_sealed(self._marker(phase), whole)


def _is_record(record: dict[str, Any]) -> bool:
    """Whether a record of a phase has its fields; those it may lack are objects."""
    objects = (record.get("config"), record.get("facts", {}), record.get("files", {}))
    return isinstance(record.get("status"), str) and all(
        isinstance(value, dict) for value in objects
    )


def _may_change(
    phase: str, name: str, found: Mapping[str, Any], wanted: Mapping[str, Any]
) -> bool:
    """Whether a phase can be done again, or go on, with another value of a field."""
    if phase in REPEATABLE:
        lengths = tuple(f"{run}.{length}" for run in _TRAINING for length in _LENGTHS)
        return name.startswith(_OF_MASKS) or name in lengths
    if phase not in _TRAINING or name not in [f"{phase}.{x}" for x in _LENGTHS]:
        return False
    values = (found[name], wanted[name])
    return None not in values and values[1] > values[0]


def _is_unread(name: str, wanted: Mapping[str, Any]) -> bool:
    """Whether it is a number of epochs where the number of steps is given."""
    section, _, field = name.rpartition(".")
    return field == "epochs" and wanted.get(f"{section}.steps") is not None


def environment() -> dict[str, Any]:
    """Commit, versions and devices of this run."""
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain")
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": {"exits-jax": exits_jax.__version__}
        | {name: metadata.version(name) for name in names},
        "devices": [device.device_kind for device in jax.devices()],
        "processes": jax.process_count(),
        "command": sys.argv,
    }


def _commit() -> str | None:
    """The commit of the source tree; None without a git checkout or without git."""
    folder = Path(__file__).parent
    describe = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
    try:
        asked = subprocess.run(
            [*describe, "--abbrev=12"], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return asked.stdout.strip() or None


def _fields(config: mlc.ConfigDict, sections: tuple[str, ...]) -> dict[str, Any]:
    """The configuration as JSON values by dotted name."""

    def walk(value: Any, name: str) -> dict[str, Any]:
        if isinstance(value, dict):
            found: dict[str, Any] = {}
            for key, below in value.items():
                found |= walk(below, f"{name}.{key}" if name else key)
            return found
        return {} if name in RUNTIME else {name: value}

    everything = json.loads(config.to_json_best_effort())
    return walk({name: everything[name] for name in sections}, "")
