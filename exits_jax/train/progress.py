"""How far something has come: a bar on a terminal, whole lines in a file."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import jax
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

LINE_EVERY_S = 20.0
SHORT_S = 2.0  # what takes no longer needs no bar

_logger = logging.getLogger(__name__)
_Item = TypeVar("_Item")


class Progress:
    """Counts items and says how many are done and how long the others will take.

    Every `LINE_EVERY_S` a line goes to the logger, marked `is_progress`: a log file has
    it with its time; a terminal shows the bar instead, see `is_for_stderr`. Only the
    first process speaks.
    """

    def __init__(
        self,
        name: str,
        *,
        total: int,
        unit: str,
        initial: int = 0,
        warm_up: int = 0,
        delay_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Begins to count.

        Args:
            name: What is under way.
            total: Number of items.
            unit: What one of them is called.
            initial: How many were done before, by an earlier process.
            warm_up: Calls of `advance` that tell nothing about the pace of the others,
                as the first compiles.
            delay_s: The bar is not shown before.
            clock: Seconds.
        """
        self._name, self._unit = name, unit
        self._units = f"{unit}es" if unit.endswith("ch") else f"{unit}s"
        self._done, self._total = initial, total
        self._clock, self._warm_up = clock, warm_up
        self._note = self._doing = ""
        self._begun = self._said_at = clock()
        self._paced_from = None if warm_up else (self._begun, initial)
        self._has_said = False
        self._speaks = jax.process_index() == 0
        is_shown = self._speaks and sys.stderr.isatty()
        self._open = contextlib.ExitStack()
        if is_shown:  # messages go above the bar
            ours = [logging.getLogger("exits_jax")]
            self._open.enter_context(logging_redirect_tqdm(ours))
        self._bar = tqdm(
            total=total,
            initial=initial,
            desc=name,
            disable=not is_shown,
            delay=delay_s,
            mininterval=1.0,
            miniters=1,
            dynamic_ncols=True,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} "
            f"{self._units}{{postfix}}",
        )

    def __enter__(self) -> "Progress":
        """Is closed at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes."""
        self.close()

    def doing(self, what: str) -> None:
        """Says at once what happens before the next item, such as "compiling"."""
        self._doing = what
        self._bar.delay = 0.0  # else a bar that is short would not end its line
        self._say(what)
        self._draw(self._state())

    def note(self, text: str) -> None:
        """Something to show beside the numbers from now on, such as the loss."""
        self._note = text

    def advance(self, count: int = 1) -> None:
        """So many more items are done, or under way."""
        self._done += count
        now = self._clock()
        was_doing, self._doing = self._doing, ""
        if self._paced_from is None:
            self._warm_up -= 1
            if self._warm_up <= 0:
                self._paced_from = now, self._done
        self._draw(self._state(), refresh=False)  # a message would draw the old one
        if now - self._said_at >= LINE_EVERY_S:
            place = f"{self._unit} {self._done} of {self._total}"
            self._say(", ".join([place, *self._state()]))
        if not self._bar.update(count) and was_doing:
            self._bar.refresh()

    def close(self) -> None:
        """Ends the bar; says in a line how long it took, unless that was short."""
        if self._speaks and self._done >= self._total:
            took = [f"in {_minutes(self._clock() - self._begun)}", *self._notes()]
            self._draw(took, refresh=False)
            if self._has_said:
                self._say(f"{self._done} {self._units} {', '.join(took)}")
        self._speaks = False
        self._bar.close()
        self._open.close()

    def _state(self) -> list[str]:
        return [self._doing] if self._doing else [*self._notes(), *self._pace()]

    def _notes(self) -> list[str]:
        return [self._note] if self._note else []

    def _pace(self) -> list[str]:
        """Rate and time left; nothing as long as they are not known."""
        if self._paced_from is None:
            return []
        since, first = self._paced_from
        seconds, items = self._clock() - since, self._done - first
        if items <= 0 or seconds <= 0:
            return []
        rate = items / seconds
        fast = f"{rate:.1f} {self._units}/s"
        pace = fast if rate >= 1 else f"{1 / rate:.1f} s per {self._unit}"
        left = (self._total - self._done) / rate
        return [pace, f"about {_minutes(left)} left"] if left > 0 else [pace]

    def _say(self, text: str) -> None:
        if not self._speaks:
            return
        self._has_said, self._said_at = True, self._clock()
        _logger.info("%s: %s", self._name, text, extra={"is_progress": True})

    def _draw(self, state: list[str], *, refresh: bool = True) -> None:
        if not self._bar.disable:
            self._bar.set_postfix_str(", ".join(state), refresh=refresh)


def tracked(
    items: Iterable[_Item],
    name: str,
    *,
    total: int,
    unit: str,
    warm_up: int = 0,
    doing: str = "",
) -> Iterator[_Item]:
    """Passes items on and shows how far they are, if they take more than `SHORT_S`.

    Args:
        items: What to pass on.
        name: What is under way.
        total: Number of items.
        unit: What one of them is called.
        warm_up: As for `Progress`.
        doing: What happens before the first item is done; then it shows at once.
    """
    with Progress(
        name, total=total, unit=unit, warm_up=warm_up, delay_s=SHORT_S
    ) as progress:
        if doing:
            progress.doing(doing)
        for item in items:
            yield item
            progress.advance()


def is_for_stderr(record: logging.LogRecord) -> bool:
    """Whether a message belongs on stderr: a terminal shows bars instead of lines."""
    return not (getattr(record, "is_progress", False) and sys.stderr.isatty())


def _minutes(seconds: float) -> str:
    """As 0:25, 12:25 or 1:02:25."""
    return tqdm.format_interval(seconds).removeprefix("0")
