"""The command line: words in, a request out. Knows nothing that is slow to import."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import ml_collections as mlc

from exits_jax.cli.commands import COMMANDS, PHASES, TOOLS
from exits_jax.cli.config_files import (
    RECORD,
    Loaded,
    known_line,
    load,
    read_record,
    shipped,
)
from exits_jax.cli.overrides import override, split
from exits_jax.cli.words import UsageError
from exits_jax.files.words import did_you_mean

PROGRAM = "exits-jax"


class Request(NamedTuple):
    """What a command line asks for."""

    config: mlc.ConfigDict
    phase: str | None = None  # None: all that are not done
    redo: str | None = None  # the phase to do again, with those after it
    remarks: tuple[str, ...] = ()
    distributed: bool = False
    coordinator_address: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    heartbeat_s: int = 30
    # Fields that were given one by one, if `generate.model` is to set others.
    given: Mapping[str, Any] | None = None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[0].upper()}{message[1:]}.")


def read(command: str, argv: Sequence[str]) -> Request:
    """Reads the words behind a command that works on a configuration.

    Args:
        command: One of `COMMANDS` without a module of its own.
        argv: The words behind it.

    Raises:
        UsageError: If they make no sense; says what would.
    """
    fields, others = split(argv)
    asked, rest = parser(command).parse_known_args(others)
    if rest:
        raise UsageError(_unexpected(command, argv, rest[0]))
    phase = asked.phase if command == "run" else command
    start, loaded = _start_of(command, asked.config, asked.workdir)
    given = override(loaded.config, fields)
    is_new = not start.endswith(".json") or "generate.model" in given
    if asked.workdir:
        loaded.config.workdir = asked.workdir
    return Request(
        loaded.config,
        phase,
        asked.redo,
        loaded.remarks,
        asked.distributed,
        asked.coordinator_address,
        asked.num_processes,
        asked.process_id,
        asked.heartbeat_s,
        given if loaded.config.generate.model and is_new else None,
    )


def parser(command: str) -> argparse.ArgumentParser:
    """The flags of a command, without those of fields."""
    made = _Parser(prog=f"{PROGRAM} {command}", allow_abbrev=False, add_help=False)
    run = made.add_argument_group("flags")
    run.add_argument(
        "--config",
        metavar="NAME|FILE",
        help="a shipped configuration, a Python file, or the config.json of a run; "
        f"without it, that of the run in --workdir. Shipped: {', '.join(shipped())}, "
        "custom:cpu",
    )
    run.add_argument(
        "--workdir",
        metavar="FOLDER",
        help="everything the command writes; overrides the configuration's",
    )
    run.add_argument(
        "--config.FIELD",
        metavar="VALUE",
        dest="_",
        help="sets one field of the configuration",
    )
    if command == "run":
        run.add_argument(
            "--phase",
            metavar="NAME",
            type=_one_of((*PHASES, *TOOLS)),
            help=f"one of {', '.join(PHASES)}, or of {', '.join(TOOLS)}; as the "
            "command of that name",
        )
    again = command == "run" or command in PHASES
    run.add_argument(
        "--redo",
        metavar="PHASE",
        type=_one_of(PHASES),
        help="remove what this phase and those after it made, then run; what is "
        "removed is printed first"
        if again
        else argparse.SUPPRESS,
    )
    several = made.add_argument_group("several processes")
    several.add_argument(
        "--distributed",
        action="store_true",
        help="join the other processes of a TPU pod, Slurm, Open MPI or GKE first",
    )
    several.add_argument(
        "--coordinator_address",
        metavar="HOST:PORT",
        help="of process 0, where none of them describes the processes",
    )
    several.add_argument("--num_processes", type=int, metavar="N")
    several.add_argument("--process_id", type=int, metavar="N", help="from 0")
    several.add_argument(
        "--heartbeat_s",
        type=int,
        default=30,
        metavar="S",
        help="end all processes when one is silent for so long (30)",
    )
    return made


def _one_of(known: Sequence[str]):
    def check(name: str) -> str:
        if name not in known:
            hint = did_you_mean(name, known)
            raise argparse.ArgumentTypeError(
                f"{name!r} is not a phase.{hint} Known: {', '.join(known)}"
            )
        return name

    return check


def start_of(command: str, words: Sequence[str]) -> tuple[str, Loaded]:
    """The configuration that a command starts from, and its name, for its help.

    Raises:
        UsageError: If there is none, or it cannot be read.
    """
    asked, _ = parser(command).parse_known_args(split(words)[1])
    return _start_of(command, asked.config, asked.workdir)


def _start_of(
    command: str, config: str | None, workdir: str | None
) -> tuple[str, Loaded]:
    """What is given, else the workdir's own."""
    if config is not None:
        return config, load(config)
    record = Path(workdir, RECORD) if workdir else None
    if record and record.is_file():
        return str(record), read_record(record)
    if default := COMMANDS[command].default:
        return default, load(default)
    where = f"{workdir} holds no configuration of an earlier run. " if workdir else ""
    instead = "" if workdir else ", or --workdir=FOLDER of an earlier run"
    raise UsageError(f"{where}Give --config=NAME{instead}. {known_line()}")


def _unexpected(command: str, words: Sequence[str], word: str) -> str:
    """On a word that belongs to no flag."""
    if word.startswith("-"):
        flag = word.partition("=")[0]
        known = [
            option
            for action in parser(command)._actions  # argparse offers no other way
            for option in action.option_strings
            if "FIELD" not in option
        ]
        hint = did_you_mean(flag, known)
        return f"There is no flag {flag}.{hint} See {PROGRAM} {command} --help."
    before = words[words.index(word) - 1] if words.index(word) else ""
    found = f"Unexpected word {word!r}"
    said = [f"{found} behind {before}." if "=" in before else f"{found}."]
    if before.startswith("--") and "=" in before:
        flag, _, value = before.partition("=")
        quoted = f'{flag}="{value} {word}"'
        said.append(f"A value with a space is written in quotes: {quoted}")
    if word in COMMANDS:
        example = f"{PROGRAM} {word} --workdir=FOLDER"
        said.append(f"A command comes first, before all flags: {example}")
    return " ".join([*said, f"See {PROGRAM} {command} --help."])
