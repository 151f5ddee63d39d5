"""The command `exits-jax`, also `python -m exits_jax`.

Help, versions and mistakes are answered before anything slow, as JAX, is imported.
"""

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import ml_collections as mlc

import exits_jax
from exits_jax import exit_status
from exits_jax.cli import flags, help
from exits_jax.cli.commands import COMMANDS
from exits_jax.cli.words import UsageError
from exits_jax.configs import base
from exits_jax.files.words import did_you_mean, fail
from exits_jax.run.host_memory import computes_on_cpu, keep_memory


def console(argv: Sequence[str] | None = None) -> int:
    """Does what the words say; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except KeyboardInterrupt:  # while JAX is imported
        return fail("Interrupted.", exit_status.INTERRUPTED)
    except UsageError as error:
        return fail(error, exit_status.USAGE)


def _dispatch(words: list[str]) -> int:
    if not words:
        _print_help(help.overview())
        return exit_status.USAGE
    first = words[0]
    if first in ("--help", "-h", "help"):
        return _print_help(help.overview())
    if first in ("--version", "-V"):
        print(f"exits-jax {exits_jax.__version__}")
        return exit_status.OK
    # Without a command, as of `python -m exits_jax.main`, it is `run`.
    command, rest = ("run", words) if first.startswith("-") else (first, words[1:])
    if command not in COMMANDS:
        hint = did_you_mean(command, COMMANDS)
        known = ", ".join(COMMANDS)
        raise UsageError(f"There is no command {command!r}.{hint} Known: {known}.")
    if COMMANDS[command].module:
        return importlib.import_module(COMMANDS[command].module).main(rest)
    if "--help" in rest or "-h" in rest:
        return _print_help(help.of_command(command, *_shown_config(command, rest)))
    request = flags.read(command, rest)
    if computes_on_cpu():
        keep_memory()
    from exits_jax import main  # JAX and all that needs it

    return main.main(request)


def _shown_config(command: str, words: list[str]) -> tuple[mlc.ConfigDict, str]:
    """The configuration whose values the help of a command shows, and its name."""
    try:
        spec, loaded = flags.start_of(command, words)
    except UsageError:  # none is given, or none that can be read
        return base.get_config(), "base"
    return loaded.config, spec


def _print_help(text: str) -> int:
    with contextlib.suppress(BrokenPipeError):  # `... --help | head`
        print(text, flush=True)
        return exit_status.OK
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exit_status.OK


def entry() -> NoReturn:
    """Entry point of the command: its process ends with the status."""
    status = console()
    # Nothing is left to lose: Ctrl-C ends what threads still do, without a trace.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(status)


if __name__ == "__main__":
    entry()
