"""The work directory: what has been done, with which configuration, and where."""

import fcntl
import json
import logging
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import jax
import ml_collections as mlc

import exits_jax
from exits_jax.export.files import write_json
from exits_jax.train.agreement import all_agree

_logger = logging.getLogger(__name__)

# Fields that change neither a number nor a file that later phases read.
RUNTIME = frozenset(
    {
        "workdir",
        "data.num_workers",
        "data.num_threads",
        "data.cache_mb",
        "data.shards",
        "data.shard_mb",
        "data.shard_cache",
        "data.name",
        "train.log_every",
        "train.checkpoint_every",
        "train.keep_checkpoints",
        "train.best_metric",
        "train.keep_best",
        "train.max_bad_steps",
        "train.strict_resume",
        "data.read_retries",
        "data.stall_s",
        "model.remat",
        "model.scan",
        "model.attention",
        "generate.part_size",
    }
)

# What a run keeps in folders of its own.
FOLDERS = ("checkpoints", "phases", "tensorboard")

# Phases that train nothing: with other values of their own they are done again.
REPEATABLE = ("generate", "evaluate")


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names the field."""


class Workdir:
    """A folder that explains itself and knows which phases are finished."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._lock: IO[str] | None = None

    def __truediv__(self, name: str) -> Path:
        """A file or folder inside."""
        return self.path / name

    def open(
        self,
        config: mlc.ConfigDict,
        phases: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        """Creates the folder and records the configuration and the environment.

        Args:
            config: The whole configuration.
            phases: What is about to run, with the sections that decide what it makes.
                With none, the record of an earlier run stays as it is.

        Raises:
            ConfigError: If the folder cannot be written, is in use by another process
                or holds one of the phases with another configuration, or if another
                process of this run could not open it.
        """
        fault: ConfigError | None = None
        try:
            self._open(config, phases)
        except ConfigError as error:
            fault = error
        if all_agree(fault is None):
            return
        self.close()
        raise fault or ConfigError(
            f"Another process of this run could not open the workdir {self.path}; it "
            "says why."
        )

    def _open(
        self, config: mlc.ConfigDict, phases: Mapping[str, tuple[str, ...]] | None
    ) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._refuse_unwritable()
            if jax.process_index() == 0:
                self._take_lock()
            for phase, sections in (phases or {}).items():
                self._refuse_change(phase, config, sections)
            belongs_to_run = phases is None or phases
            if belongs_to_run and jax.process_index() == 0:
                write_json(
                    self / "config.json", json.loads(config.to_json_best_effort())
                )
                write_json(self / "environment.json", environment())
        except OSError as error:
            raise ConfigError(
                f"The workdir {self.path} cannot be written: {error.strerror}."
            ) from error

    def close(self) -> None:
        """Lets other processes use the folder; the end of the process does the same."""
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
        """Begins or continues a phase; False, and a word, if nothing is left to do.

        Args:
            phase: Its name.
            config: The whole configuration.
            sections: The parts of it that decide what the phase makes.

        Raises:
            ConfigError: If it was begun with another configuration; says which.
        """
        is_changed = self._refuse_change(phase, config, sections)
        if self.is_finished(phase) and not is_changed:
            _logger.info("%s: done before", phase)
            return False
        self._write(phase, {"status": "running", "config": _fields(config, sections)})
        return True

    def require(self, *phases: str) -> None:
        """Raises ConfigError, naming the phase, if one of them is not finished."""
        for phase in phases:
            if not self.is_finished(phase):
                raise ConfigError(
                    f"{self.path} does not hold the finished phase {phase} that this "
                    f"phase builds on. Run --phase={phase} first, or leave out --phase "
                    "to run all of them in turn."
                )

    def note(self, phase: str, **facts: Any) -> None:
        """Adds to what is known of a phase that runs."""
        record = self._record(phase)
        known = record.get("facts", {}) | facts
        self._write(phase, record | {"facts": known})

    def finish(self, phase: str, **facts: Any) -> None:
        """Notes that the phase has run to its end."""
        self.note(phase, **facts)
        self._write(phase, self._record(phase) | {"status": "finished"})

    def _refuse_change(
        self, phase: str, config: mlc.ConfigDict, sections: tuple[str, ...]
    ) -> bool:
        """Whether a phase that can be done again was done with other values.

        Raises ConfigError, naming the fields, if any other phase was.
        """
        record = self._record(phase)
        if not record:
            return False
        found, wanted = record["config"], _fields(config, sections)
        # Fields that only one of the two knows came or went with a version.
        common = sorted(found.keys() & wanted.keys())
        changed = [name for name in common if found[name] != wanted[name]]
        if phase in REPEATABLE and all(name.startswith(REPEATABLE) for name in changed):
            return bool(changed)
        if changed:
            lines = "\n  ".join(
                f"{name}: was {found.get(name)!r}, is {wanted.get(name)!r}"
                for name in changed
            )
            raise ConfigError(
                f"{self.path} holds the phase {phase} of another configuration:\n"
                f"  {lines}\nUse another --workdir, or remove "
                f"{self._marker(phase)} and what the phase made."
            )
        return False

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
        lock = (self / ".lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip() or "another process"
            lock.close()
            raise ConfigError(
                f"The workdir {self.path} is in use by {owner}. Wait for its end, or "
                "use another --workdir."
            ) from None
        lock.truncate(0)
        since = time.strftime("%Y-%m-%d %H:%M:%S %Z")
        lock.write(f"process {os.getpid()} on {socket.gethostname()} since {since}\n")
        lock.flush()
        self._lock = lock

    def _marker(self, phase: str) -> Path:
        return self.path / "phases" / f"{phase}.json"

    def _record(self, phase: str) -> dict[str, Any]:
        marker = self._marker(phase)
        return json.loads(marker.read_text()) if marker.exists() else {}

    def _write(self, phase: str, record: dict[str, Any]) -> None:
        if jax.process_index() == 0:
            self._marker(phase).parent.mkdir(exist_ok=True)
            write_json(self._marker(phase), record)


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
