"""One tab at a time may write; others look on until they take over."""

import time
from collections.abc import Callable

_SILENT_S = 12.0  # a tab that has not been heard of for so long is gone


class Writers:
    """Which tab writes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        """Nobody does at first."""
        self._clock = clock
        self._client, self._heard = "", 0.0

    def writes(self, client: str) -> bool:
        """Whether it is this one; hearing of it keeps the right alive."""
        if client and client == self._client:
            self._heard = self._clock()
            return True
        return False

    def ask(self, client: str, *, take: bool = False) -> bool:
        """Whether a tab may write; it gets the right if no other has it.

        Args:
            client: The tab.
            take: Takes the right from another.
        """
        is_free = not self._client or self._clock() - self._heard > _SILENT_S
        if take or is_free:
            self._client = client
        return self.writes(client)

    def leave(self, client: str) -> None:
        """Gives up the right of a tab that goes away."""
        if client == self._client:
            self._client = ""
