"""Stage 1: from extreme points to instance masks.

python -m exits_jax.main --config=configs/voc.py [--phase=train] [--workdir=runs/voc]
                         [--config.points.num_hops=4 ...]

The command `exits-jax` does the same.
"""

from exits_jax import __main__ as command

if __name__ == "__main__":  # before what is slow, and hears Ctrl-C meanwhile
    command.entry()

import importlib
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import ml_collections as mlc
from absl import logging as absl_logging
from jax.experimental import multihost_utils

from exits_jax.cli.flags import Request
from exits_jax.evaluation.listed_objects import read_lists
from exits_jax.exit_status import USAGE
from exits_jax.files.words import fail, how_to_install, lines
from exits_jax.labeling.model_source import adopt_model
from exits_jax.labeling.stored_labels import say_other_labels
from exits_jax.phases import evaluate, generate, prepare, pretrain, train, warmup
from exits_jax.run.announce import announce
from exits_jax.run.check_config import check_config
from exits_jax.run.phase_order import sections
from exits_jax.run.programs import keep_programs
from exits_jax.run.reported import LogFile, log_to_terminal, status_of, stop_logging
from exits_jax.run.starting_weights import check_files
from exits_jax.run.workdir import ConfigError, Workdir

PHASES = {
    "prepare": prepare.run,
    "pretrain": pretrain.run,
    "warmup": warmup.run,
    "train": train.run,
    "generate": generate.run,
    "evaluate": evaluate.run,
}
TRAINING = {"pretrain", "warmup", "train"}
# Run only when they are asked for, and loaded only then.
TOOLS = {
    "import": "exits_jax.phases.imports",
    "validate": "exits_jax.phases.validate",
    "pack": "exits_jax.phases.pack",
    "export": "exits_jax.phases.export",
    "stage2": "exits_jax.phases.stage2",
}
_logger = logging.getLogger("exits_jax")


def main(request: Request) -> int:
    """Does what a command line asks for; returns the exit status."""
    absl_logging.set_verbosity(absl_logging.WARNING)  # jax and orbax say much
    for remark in request.remarks:
        print(f"note: {lines(remark)}", file=sys.stderr)
    if request.distributed:
        fault = _join(request)
        if fault:
            return fail(fault, USAGE)
    _keep_programs(request.config, among_processes=request.distributed)
    return run(request.config, request.phase, redo=request.redo, adopting=request.given)


def _keep_programs(config: mlc.ConfigDict, *, among_processes: bool) -> None:
    """A restart need not compile again; processes share what the first one compiled."""
    folder = config.compilation_cache
    if among_processes and not folder:
        folder = Path(config.workdir) / "compilation_cache"
    keep_programs(folder)


def _join(request: Request) -> str | None:
    """Joins the other processes; says what is wrong with the flags or the cluster."""
    given = (request.coordinator_address, request.num_processes, request.process_id)
    if any(flag is not None for flag in given) and None in given:
        return (
            "--coordinator_address, --num_processes and --process_id are one set: give "
            "all three, or none where the cluster provides them."
        )
    try:
        jax.distributed.initialize(
            *given,
            heartbeat_timeout_seconds=request.heartbeat_s,
            shutdown_timeout_seconds=request.heartbeat_s,
        )
    except (RuntimeError, ValueError) as error:
        return f"The other processes could not be joined: {error}"
    return None


def run(
    config: mlc.ConfigDict,
    phase: str | None = None,
    *,
    redo: str | None = None,
    adopting: Mapping[str, Any] | None = None,
) -> int:
    """Runs one phase, or all that are not done; returns the status of `status_of`.

    With `redo`, what this phase and those after it made is removed before. With
    `adopting`, all fields but these that decide masks are set to those of the finished
    model that `generate.model` names.
    """
    workdir = Workdir(config.workdir)
    names = [phase] if phase else list(PHASES)

    def act() -> None:
        if adopting is not None:
            adopt_model(config, adopting)
        check_config(config, trains=bool(TRAINING & set(names)))
        _refuse_redo(phase, redo)
        workdir.take()
        log_to(workdir)
        of = lambda some: {name: sections(config, name) for name in some}
        before = list(PHASES)[: list(PHASES).index(phase)] if phase in PHASES else []
        runs = [name for name in names if name in PHASES]
        workdir.open(config, of(runs), builds_on=of(before), redo=redo)
        # Masks of other values are made again before anything is made of them.
        old = [n for n in before if workdir.is_outdated(n, config, sections(config, n))]
        plan = old + names
        if "evaluate" in plan:
            read_lists(config)  # a list that cannot be read is said before a training
        needs_weights = set(plan) & set(PHASES) - {"prepare"}
        if needs_weights and not workdir.is_finished("train"):
            check_files(config)
        if {"train", "generate"} & set(plan):
            say_other_labels(config, workdir)
        for name in plan:
            announce(config, workdir, name, plan)
            _run_phase(name, config, workdir)

    try:
        return status_of(act)
    finally:
        stop_logging()
        workdir.close()


def _refuse_redo(phase: str | None, redo: str | None) -> None:
    if redo and phase not in (None, redo):
        raise ConfigError(
            f"--redo={redo} with the phase {phase} alone: the phases between would be "
            f"missing. Use `exits-jax run --redo={redo}`."
        )


def _run_phase(name: str, config: mlc.ConfigDict, workdir: Workdir) -> None:
    """Runs a phase; on a pod, what one process does alone is done by the first."""
    if jax.process_count() == 1:
        _phase(name)(config, workdir)
    else:
        alone = name == "prepare" or name in TOOLS
        if not alone or jax.process_index() == 0:
            _phase(name)(config, workdir)
        multihost_utils.sync_global_devices(f"phase {name} is done")


def _phase(name: str) -> Callable[[mlc.ConfigDict, Workdir], object]:
    if name in PHASES:
        return PHASES[name]
    try:
        return importlib.import_module(TOOLS[name]).run
    except ModuleNotFoundError as error:
        if name != "pack" or (error.name or "").startswith("exits_jax"):
            raise
        raise ConfigError(
            f"`exits-jax pack` needs the package {error.name}. "
            f"{how_to_install('shards')}"
        ) from error


def log_to(workdir: Workdir) -> None:
    """Messages of this package to the terminal and, with times, to `log.txt`."""
    if jax.process_index() != 0:
        _logger.setLevel(logging.INFO)
        _logger.propagate = False
        return
    log_to_terminal(LogFile(workdir / "log.txt"))
