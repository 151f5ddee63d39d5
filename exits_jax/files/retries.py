"""Reading again where the storage fails for a reason that may pass."""

import errno
import random
import time
from collections.abc import Callable
from typing import TypeVar

READ_RETRIES = 3
_FIRST_WAIT_S = 0.1  # before the first retry; doubles with each
# Faults of the storage or of the way to it; a file that is not there is none of them.
_MAY_PASS = frozenset(
    (
        errno.EAGAIN,
        errno.EBUSY,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTUNREACH,
        errno.EINTR,
        errno.EIO,
        errno.EMFILE,
        errno.ENETUNREACH,
        errno.ENFILE,
        errno.ESTALE,
        errno.ETIMEDOUT,
    )
)

_Read = TypeVar("_Read")


def may_pass(error: OSError) -> bool:
    """Whether the same read may succeed a little later."""
    return error.errno in _MAY_PASS


def retrying(
    read: Callable[[], _Read],
    *,
    retries: int = READ_RETRIES,
    sleep: Callable[[float], object] = time.sleep,
) -> _Read:
    """Reads, and after a fault that may pass waits and reads again.

    The waits double from 0.1 s and are stretched at random by up to a quarter, so that
    processes that failed together do not come back together.

    Args:
        read: What to do; called up to 1 + `retries` times.
        retries: How often to read again.
        sleep: How to wait; takes seconds.

    Returns:
        What `read` returns.

    Raises:
        OSError: Of the last attempt.
        Exception: Anything else that `read` raises, at once.
    """
    for attempt in range(retries):
        try:
            return read()
        except OSError as error:
            if not may_pass(error):
                raise
        sleep(_FIRST_WAIT_S * 2**attempt * random.uniform(1.0, 1.25))
    return read()
