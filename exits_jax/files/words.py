"""Small words of messages."""

import difflib
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
