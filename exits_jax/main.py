"""Command line of stage 1: from extreme points to instance masks.

python -m exits_jax.main --config=configs/voc.py [--phase=train] [--workdir=runs/voc]
                         [--config.points.num_hops=4 ...]
"""

import difflib
import importlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import ml_collections as mlc
from absl import app, flags
from absl import logging as absl_logging
from jax.experimental import multihost_utils
from ml_collections import config_flags

from exits_jax.data.annotations import AnnotationError, TooManySkipped
from exits_jax.data.images import ImageError
from exits_jax.data.stream import WorkerLost
from exits_jax.phases import evaluate, generate, prepare, pretrain, train, warmup
from exits_jax.phases.check_config import check_config
from exits_jax.phases.order import sections
from exits_jax.phases.stage2 import ChildEnded
from exits_jax.phases.weights import WeightsError, check_files
from exits_jax.phases.workdir import ConfigError, Workdir
from exits_jax.train.checkpoints import CheckpointError
from exits_jax.train.device_errors import explain
from exits_jax.train.loop import (
    InputChanged,
    Preempted,
    TooManyUnreadable,
    UnknownMetric,
)

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
    "validate": "exits_jax.phases.check_data",
    "pack": "exits_jax.phases.pack",
    "export": "exits_jax.phases.export",
    "stage2": "exits_jax.phases.stage2",
}
OK, FAILED, USAGE, BAD_INPUT, PARTIAL = 0, 1, 2, 3, 4
TRY_AGAIN, INTERRUPTED = 75, 130

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file.")
_PHASE = flags.DEFINE_enum(
    "phase",
    None,
    [*PHASES, *TOOLS],
    f"The phase to run; without it, {', '.join(PHASES)} as far as they are not done.",
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Overrides config.workdir.")
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Join the other processes of a pod or cluster first."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator_address",
    None,
    "HOST:PORT of process 0, where no pod, Slurm or Open MPI tells; with "
    "--num_processes and --process_id.",
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "How many processes; with --coordinator_address."
)
_PROCESS_ID = flags.DEFINE_integer(
    "process_id", None, "Which of them this is, from 0; with --coordinator_address."
)
_HEARTBEAT_S = flags.DEFINE_integer(
    "heartbeat_s", 30, "A process that is silent for so long ends all others."
)
_logger = logging.getLogger("exits_jax")


def main(argv: Sequence[str]) -> int:
    """Does what the flags say; returns the exit status."""
    absl_logging.set_verbosity(absl_logging.WARNING)  # jax and orbax say much
    if len(argv) > 1:
        return _fail(f"Unexpected arguments: {' '.join(argv[1:])}", USAGE)
    if _CONFIG.value is None:
        return _fail("--config=configs/....py is required; see --help.", USAGE)
    if _DISTRIBUTED.value:
        fault = _join()
        if fault:
            return _fail(fault, USAGE)
    config = _CONFIG.value
    if _WORKDIR.value:
        config.workdir = _WORKDIR.value
    _keep_programs(config)
    return run(config, _PHASE.value)


def _keep_programs(config: mlc.ConfigDict) -> None:
    """Compiled programs outlive the process: a restart need not compile again.

    JAX's own setting, such as JAX_COMPILATION_CACHE_DIR, goes first.
    """
    given = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if given is None:
        folder = config.compilation_cache or Path(config.workdir) / "compilation_cache"
        jax.config.update("jax_compilation_cache_dir", str(folder))


def _join() -> str | None:
    """Joins the other processes; says what is wrong with the flags or the cluster."""
    given = (_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    if any(flag is not None for flag in given) and None in given:
        return (
            "--coordinator_address, --num_processes and --process_id are one set: give "
            "all three, or none where the cluster tells."
        )
    try:
        jax.distributed.initialize(
            *given,
            heartbeat_timeout_seconds=_HEARTBEAT_S.value,
            shutdown_timeout_seconds=_HEARTBEAT_S.value,
        )
    except (RuntimeError, ValueError) as error:
        return f"The other processes could not be joined: {error}"
    return None


def run(config: mlc.ConfigDict, phase: str | None = None) -> int:
    """Runs one phase, or all that are not done; returns the exit status.

    What is expected to go wrong is said on stderr, without a traceback: a flag or field
    that makes no sense or a workdir in other use (2), annotations, images or weights
    or checkpoints that cannot be used (3), too many bad records or images (4), losses
    that are not finite, devices out of memory or another process lost (1), a stop from
    outside (75 with the state saved, 130).
    """
    workdir = Workdir(config.workdir)
    names = [phase] if phase else list(PHASES)
    try:
        check_config(config, trains=bool(TRAINING & set(names)))
        made = {name: sections(config, name) for name in names if name in PHASES}
        workdir.open(config, made)
        log_to(workdir)
        needs_weights = set(made) - {"prepare"}
        if needs_weights and not workdir.is_finished("train"):
            check_files(config)
        for name in names:
            _run_phase(name, config, workdir)
    except (ConfigError, InputChanged, UnknownMetric) as error:
        return _fail(error, USAGE)
    except (TooManySkipped, TooManyUnreadable) as error:
        return _fail(error, PARTIAL)
    except (
        AnnotationError,
        CheckpointError,
        FileNotFoundError,
        ImageError,
        WeightsError,
    ) as error:
        return _fail(error, BAD_INPUT)
    except (FloatingPointError, WorkerLost) as error:
        return _fail(error, FAILED)
    except ChildEnded as error:
        return error.status if error.status > 0 else _fail(error, FAILED)
    except Preempted as error:
        return _fail(f"{error} Run the same command again to go on.", TRY_AGAIN)
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        said = explain(error)  # a lost process comes as a ValueError too
        if said is None:
            raise
        status = _fail(said, FAILED)
        if jax.process_count() > 1:
            # An orderly end would wait for the lost process, then abort with a trace.
            sys.stderr.flush()
            os._exit(status)
        return status
    except KeyboardInterrupt:
        return _fail("Interrupted. Run the same command again to go on.", INTERRUPTED)
    finally:
        _stop_logging()
        workdir.close()
    return OK


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
            f"--phase=pack needs the package {error.name}: pip install "
            "'exits-jax[shards]'."
        ) from error


def log_to(workdir: Workdir) -> None:
    """Messages of this package to the terminal and, with times, to `log.txt`."""
    _logger.setLevel(logging.INFO)
    _logger.propagate = False
    if jax.process_index() != 0:
        return
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setFormatter(logging.Formatter("%(message)s"))
    file = logging.FileHandler(workdir / "log.txt")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _logger.handlers = [terminal, file]


def _stop_logging() -> None:
    for handler in _logger.handlers:
        handler.close()
    _logger.handlers = []


def _fail(reason: object, status: int) -> int:
    print(f"error: {reason}", file=sys.stderr)
    return status


def _explain_typo(argv: Sequence[str]) -> None:
    """Refuses --config.field flags that no field answers to, with the nearest name.

    The flag parser would say the same at the end of a long traceback.
    """
    paths = [arg for arg in argv if arg.startswith("--config=")]
    if len(paths) != 1:
        return
    probe = flags.FlagValues()
    bare = [argv[0], *paths]
    config_flags.DEFINE_config_file(
        "config", None, "", flag_values=probe, sys_argv=bare
    )
    try:
        probe(bare)
        known = list(_names(probe["config"].value))
    except (OSError, flags.Error) as error:
        # A configuration's own message stands at the end of a long traceback.
        sys.exit(_fail(str(error).rpartition("\nValueError: ")[2], USAGE))
    for arg in argv[1:]:
        if not arg.startswith("--config."):
            continue
        name = arg.removeprefix("--config.").partition("=")[0]
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            last = name.rpartition(".")[2]
            near += [field for field in known if field.rpartition(".")[2] == last]
            hint = f" Did you mean {' or '.join(dict.fromkeys(near))}?" if near else ""
            said = f"The configuration has no field {name!r}.{hint}"
            sys.exit(_fail(said.replace("importing.", "import."), USAGE))


def _names(config, prefix: str = ""):
    for key, value in config.items():
        if hasattr(value, "items"):
            yield from _names(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def console() -> None:
    """Entry point of `python -m exits_jax.main`."""
    # No field can be called like the statement; the flags may.
    is_import = lambda arg: arg.startswith("--config.import.")
    sys.argv = [
        arg.replace("import", "importing", 1) if is_import(arg) else arg
        for arg in sys.argv
    ]
    app.run(main, flags_parser=_parse)


def _parse(argv: Sequence[str]) -> list[str]:
    _explain_typo(argv)
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        sys.exit(_fail(f"{error} See --help.", USAGE))


if __name__ == "__main__":
    console()
