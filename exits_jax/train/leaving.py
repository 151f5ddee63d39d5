"""The end of one process of several: the one that the others talk through is last.

Process 0 hosts the service of `jax.distributed`. Once it is gone, the runtime aborts
every other process, whatever that is doing and whatever status it would have ended
with.
"""

import os
import sys
import time
from typing import Any, NoReturn, Protocol, runtime_checkable

import jax

_LEFT = "exits_jax/left"  # folder of the service; a name in it for each that left
_POLL_S = 0.05


@runtime_checkable
class Notes(Protocol):
    """Texts by name that all processes of a run see."""

    def key_value_set(self, key: str, value: str) -> None:
        """Keeps a text; an error if the name is taken."""
        ...

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        """Names below a folder, and their texts."""
        ...


def leave(status: int, *, wait_s: float) -> NoReturn:
    """Ends this process at once; the first of several when the others have left.

    An orderly end would wait for the others, then abort with a trace.

    Args:
        status: Its exit status.
        wait_s: So long the first process waits for those that do not come; 0 where
            one of them is lost, and nobody can be told.
    """
    sys.stderr.flush()
    notes = _service() if wait_s else None
    if notes is not None:
        try:
            let_leave(notes, jax.process_index(), jax.process_count(), wait_s=wait_s)
        except (Exception, KeyboardInterrupt):  # without the service, nobody waits
            pass
    os._exit(status)


def let_leave(notes: Notes, process: int, count: int, *, wait_s: float) -> None:
    """Tells that this process leaves; as the first, waits until the others told it."""
    if process:
        notes.key_value_set(f"{_LEFT}/{process}", "")
        return
    end = time.monotonic() + wait_s
    while len(notes.key_value_dir_get(_LEFT)) < count - 1:
        if time.monotonic() > end:
            return
        time.sleep(_POLL_S)
    time.sleep(_POLL_S)  # the last has told it, and ends


def _service() -> Any:
    """What JAX's own processes talk through; it has no public name."""
    if jax.process_count() == 1:
        return None
    try:
        from jax._src.distributed import global_state
    except ImportError:
        return None
    return getattr(global_state, "client", None)
