"""Small words of messages, and how they reach a terminal."""

import difflib
import sys
from collections.abc import Iterable, Sequence


def did_you_mean(name: str, known: Iterable[str], *, also: Sequence[str] = ()) -> str:
    """A question after the names that are nearest to an unknown one; "" if none is.

    Args:
        name: What was given.
        known: What exists.
        also: Further names to suggest, whatever they look like.
    """
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    alike = lambda other: difflib.SequenceMatcher(None, other, name).ratio()
    near = [other for other in near if alike(other) > alike(near[0]) - 0.1]
    near = list(dict.fromkeys([*near, *also]))[:4]
    return f" Did you mean {' or '.join(near)}?" if near else ""


def printable(text: object) -> str:
    """The text on one line, fit for a terminal: control characters are escaped."""
    shown = (c if c.isprintable() else ascii(c)[1:-1] for c in str(text))
    return "".join(shown)


def lines(text: object) -> str:
    """A text of several lines, in which no name can move the cursor or colour it."""
    return "\n".join(map(printable, str(text).split("\n")))


def how_to_install(extra: str) -> str:
    """How an extra of this package, which is on no index, is installed."""
    return (
        f"Install the extra {extra}: pip install -e '.[{extra}]' in a clone, or "
        f"pip install 'exits_jax-VERSION-py3-none-any.whl[{extra}]' from a wheel."
    )


def fail(reason: object, status: int) -> int:
    """Says on stderr why a command ends, and returns the status."""
    print(f"error: {lines(reason)}", file=sys.stderr)
    return status
