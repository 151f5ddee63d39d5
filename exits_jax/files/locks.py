"""Folders that one process at a time may work in."""

import fcntl
import os
import socket
import time
from pathlib import Path
from typing import IO


class InUse(RuntimeError):
    """Another process holds the lock.

    Attributes:
        owner: Who that is, as far as the lock file says.
    """

    def __init__(self, owner: str):
        """Keeps the owner for the message of the caller."""
        super().__init__(f"in use by {owner}")
        self.owner = owner


def take_lock(path: Path, *, is_needed: bool = True) -> IO[str]:
    """Locks a file and writes into it who holds it.

    The lock is held until the file is closed, at the latest by the end of the process.

    Args:
        path: The file; it stays.
        is_needed: False goes on without a lock on a file system that has none.

    Raises:
        InUse: If another process holds it.
        OSError: If the file cannot be written, or not be locked and that is needed.
    """
    lock = path.open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        owner = lock.read().strip() or "another process"
        lock.close()
        raise InUse(owner) from None
    except OSError:
        if is_needed:
            lock.close()
            raise
        return lock
    lock.truncate(0)
    since = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    lock.write(f"process {os.getpid()} on {socket.gethostname()} since {since}\n")
    lock.flush()
    return lock
