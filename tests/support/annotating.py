"""Events as the page sends them."""

import itertools

import msgspec

from exits_jax.annotate.events import Event

CLIENT = "0123abcd"
FOUR = [(10.0, 2.0), (3.0, 12.5), (15.0, 25.0), (30.0, 14.0)]


def events_of(*changes, client=CLIENT, image=1, first=1):
    """Events of one client, each (do, object, change)."""
    return [
        msgspec.convert(
            {"client": client, "n": n, "do": do, "image": image, "object": key}
            | {"set": change},
            Event,
            strict=False,
        )
        for n, (do, key, change) in zip(itertools.count(first), changes)
    ]


def clicked(key="o1", **more):
    """The four clicks of an object, one event each."""
    return [
        ("click", key, {"clicks": FOUR[:count], "status": status, **more})
        for count, status in ((1, "open"), (2, "open"), (3, "open"), (4, "done"))
    ]
