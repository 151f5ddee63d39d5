"""What is expected to go wrong, said on stderr without a traceback."""

import contextlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import jax

from exits_jax.data.images import ImageError
from exits_jax.data.records import AnnotationError, TooManySkipped
from exits_jax.data.workers import WorkerLost
from exits_jax.exit_status import (
    BAD_INPUT,
    FAILED,
    INTERRUPTED,
    OK,
    PARTIAL,
    TRY_AGAIN,
    USAGE,
)
from exits_jax.files.seals import Damaged
from exits_jax.files.words import fail, lines
from exits_jax.run.check_weights import WeightsError
from exits_jax.run.child import ChildEnded
from exits_jax.run.workdir import ConfigError
from exits_jax.train import termination
from exits_jax.train.checkpoints import CheckpointError
from exits_jax.train.device_errors import explain
from exits_jax.train.leaving import leave
from exits_jax.train.loop import InputChanged
from exits_jax.train.progress import is_for_stderr
from exits_jax.train.stopping import Preempted
from exits_jax.train.termination import Stopped, stoppable
from exits_jax.train.window import TooManyUnreadable, UnknownMetric


def status_of(action: Callable[[], object]) -> int:
    """Does something; returns the exit status.

    A flag or field that makes no sense or a workdir in other use (2), annotations,
    images, weights, checkpoints or files of the workdir that cannot be used, or storage
    that fails (3), too many bad records or images (4), losses that are not finite,
    devices out of memory or another process lost (1), a stop from outside (75 where the
    same command goes on, 130).
    """
    try:
        with stoppable():
            action()
    except (ConfigError, InputChanged, UnknownMetric) as error:
        return fail(error, USAGE)
    except (TooManySkipped, TooManyUnreadable) as error:
        return fail(error, PARTIAL)
    except (
        AnnotationError,
        CheckpointError,
        Damaged,
        FileNotFoundError,
        ImageError,
        WeightsError,
    ) as error:
        return fail(error, BAD_INPUT)
    except (FloatingPointError, WorkerLost) as error:
        return fail(error, FAILED)
    except ChildEnded as error:
        return error.status if error.status > 0 else fail(error, FAILED)
    except Preempted as error:
        return fail(f"{error} Run the same command again to go on.", TRY_AGAIN)
    except Stopped as error:
        return _left(
            fail(error, TRY_AGAIN), wait_s=termination.GRACE_S + termination.MARGIN_S
        )
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        said = explain(error)  # a lost process comes as a ValueError too
        if said is None:
            raise
        return _left(fail(said, FAILED), wait_s=0.0)
    except OSError as error:
        return fail(_of_storage(error), BAD_INPUT)
    except KeyboardInterrupt:
        return fail("Interrupted. Run the same command again to go on.", INTERRUPTED)
    return OK


def _left(status: int, *, wait_s: float) -> int:
    """The status; of several processes this one ends with it now, see `leave`."""
    if jax.process_count() > 1:
        leave(status, wait_s=wait_s)
    return status


def _of_storage(error: OSError) -> str:
    """What the storage refused, and where."""
    where = f"{error.filename}: " if error.filename is not None else ""
    return f"{where}{error.strerror or error}. Files that were finished are kept."


class Plain(logging.Formatter):
    """Lines without control characters, whatever the names in them."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as text."""
        return lines(super().format(record))


class LogFile(logging.FileHandler):
    """`log.txt`, which a full disk ends and the run outlives."""

    def __init__(self, path: Path):
        """Opens the file to write behind what stands there."""
        super().__init__(path, encoding="utf-8")
        self.setFormatter(Plain("%(asctime)s %(levelname)s %(message)s"))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Says once what the storage refused."""
        logger = logging.getLogger("exits_jax")
        logger.removeHandler(self)
        reason = sys.exc_info()[1]
        self.close()
        words = reason.strerror if isinstance(reason, OSError) else reason
        name = self.baseFilename
        logger.warning("%s cannot be written (%s). The run goes on.", name, words)

    def close(self) -> None:
        """Closes; what is lost was told."""
        with contextlib.suppress(OSError):
            super().close()


def log_to_terminal(*others: logging.Handler) -> None:
    """Messages of this package go to the terminal, and to other handlers."""
    logger = logging.getLogger("exits_jax")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setFormatter(Plain("%(message)s"))
    terminal.addFilter(is_for_stderr)
    logger.handlers = [terminal, *others]


def stop_logging() -> None:
    """Closes what `log_to_terminal` opened."""
    logger = logging.getLogger("exits_jax")
    for handler in logger.handlers:
        handler.close()
    logger.handlers = []
