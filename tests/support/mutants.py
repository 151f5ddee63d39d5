"""Thousands of spoiled annotation files and images, and what becomes of each.

python -m tests.support.mutants --count=10000 --images=2000 --seed=0

A mutant of an annotation file is imported (kind `coco`: read as `prepare` does); one of
an image is read in every way there is. Each has to end in a right result, whose records
add up and can be read back, or in one clear error. Anything else is told with its
number, and ends the command with status 1: an exception of another kind, more than five
seconds of CPU, records that are lost.
"""

import argparse
import contextlib
import io
import json
import random
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from exits_jax.data.annotations import read_instances
from exits_jax.data.extreme_points import points_of_record
from exits_jax.data.images import ImageError, check_image, image_remarks, read_image
from exits_jax.data.records import AnnotationError
from exits_jax.importers import kinds
from exits_jax.importers.items import ImageItem
from exits_jax.importers.write import write_items
from tests.importers import made, sources
from tests.support import source_records

LIMIT_S = 5.0
CLEAR, RIGHT = "clear error", "right result"
TOKENS = (
    "", "0", "-1", "1e400", "NaN", "Infinity", "1.0", "99999999999999999999", "null",
    "true", '""', "[]", "{}", "..", "../../a.jpg", "C:\\a.jpg", "\u202e", "\x00", "é",
    "a" * 20_000, "9" * 20_000, "[" * 3_000, "../" * 5_000, "<a>" * 2_000, "%", "\\",
)  # fmt: skip
JUNK: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 10**18, 10**400, 1e308, float("nan"), float("inf"),
    "", "0", "7", "a.jpg", "/x/a.jpg", "..", "x\x00y", "top", "\ud800", "9" * 20_000,
    "../" * 5_000, [], {}, [[]], [0, 0], [1, 2], {"id": 7}, [[1, 2]] * 4, [0] * 4_000,
)  # fmt: skip
FORMATS = {
    "JPEG": "jpg", "PNG": "png", "WEBP": "webp", "TIFF": "tif", "BMP": "bmp",
    "GIF": "gif", "PPM": "ppm", "JPEG2000": "jp2", "AVIF": "avif",
}  # fmt: skip


class Outcome(NamedTuple):
    """What became of a mutant."""

    name: str  # CLEAR, RIGHT, or what is wrong
    detail: str = ""


def main() -> int:
    """Makes the mutants, prints a table, and what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="annotation files")
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    wrong: list[str] = []
    print(f"| mutants of | {RIGHT} | {CLEAR} | anything else |")
    print("| --- | ---: | ---: | ---: |")
    names = sorted([*sources.MAKERS, "coco"])
    for number, kind in enumerate(names):
        share = len(range(number, options.count, len(names)))
        run = lambda rng, folder, kind=kind: annotation_mutant(kind, rng, folder)
        wrong += _row(kind, share, options.seed, run)
    Image.init()
    known = [name for name in FORMATS if name in Image.SAVE and name in Image.OPEN]
    for number, name in enumerate(known):
        share = len(range(number, options.images, len(known)))
        run = lambda rng, folder, name=name: image_mutant(name, rng, folder)
        wrong += _row(name, share, options.seed, run)
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


def _row(
    name: str,
    count: int,
    seed: int,
    run: Callable[[random.Random, Path], Outcome],
) -> list[str]:
    """Prints the counts of a kind; returns what is wrong."""
    counts: Counter[str] = Counter()
    wrong = []
    for number in range(count):
        with tempfile.TemporaryDirectory() as folder:
            rng = random.Random(f"{name} {seed} {number}")
            outcome = run(rng, Path(folder))
        known = outcome.name in (CLEAR, RIGHT)
        counts[outcome.name if known else "else"] += 1
        if not known:
            wrong.append(f"{name} {number}: {outcome.name}\n{outcome.detail}")
    print(
        f"| {name} | {counts[RIGHT]} | {counts[CLEAR]} | {counts['else']} |", flush=True
    )
    return wrong


def annotation_mutant(kind: str, rng: random.Random, folder: Path) -> Outcome:
    """Spoils a source of a kind and reads it."""
    source = make(kind, folder)
    spoilt = source
    if kind == "yolo":
        spoilt = rng.choice((source, source.parent / "labels" / "a.txt"))
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        data = spoilt.read_bytes()
        if spoilt.suffix == ".json" and rng.random() < 0.7:
            with contextlib.suppress(ValueError, RecursionError):
                data = edited(json.loads(data), rng)
        elif spoilt.suffix == ".xml" and rng.random() < 0.8:
            with contextlib.suppress(ElementTree.ParseError):
                data = edited_xml(data, rng)
        else:
            data = cut(data, rng)
        spoilt.write_bytes(data)
    return read_as(kind, source, folder)


def make(kind: str, folder: Path) -> Path:
    """A sound source of a kind, and its image."""
    made.images(folder / "images", "a.jpg")
    (folder / "source").mkdir()
    if kind == "coco":
        return sources.extremenet(folder / "source")
    return sources.MAKERS[kind](folder / "source")


def read_as(kind: str, source: Path, folder: Path) -> Outcome:
    """Reads a source, and what was made of it, within the limit."""
    images = folder / "images"
    with limited() as outcome:
        if kind == "coco":
            points_of = lambda record, image: points_of_record(
                record, image, mode="extremenet"
            )
            found = read_instances(
                source, images, max_skip_fraction=1.0, points_of=points_of
            )
            records = len(found.instances) + len(found.skipped)
            wanted = source_records.COUNTERS[kind](source)
            lost = f"{records} of {wanted}" if records < wanted else ""
        else:
            items = list(
                kinds.read(kind, source, kinds.Options(str(folder / "images")))
            )
            summary = write_items(items, folder / "out.json", folder / "images")
            made.read_back(summary, folder / "images")
            lost = source_records.lost_records(kind, source, items)
            read = sum(not isinstance(item, ImageItem) for item in items)
            if summary.counts["records"] != read:
                lost = f"{summary.counts['records']} of {read} that were read"
        outcome.append(Outcome("lost record", lost) if lost else Outcome(RIGHT))
    return outcome[0]


def edited(content: Any, rng: random.Random) -> bytes:
    """A JSON value, one part of which is another, gone, or there twice, as text."""
    content = {"": content}
    parent, key = content, ""
    while isinstance(node := parent[key], dict | list) and node and rng.random() < 0.8:
        parent = node
        key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
    action = rng.choice(("replace", "replace", "replace", "remove", "repeat", "wrap"))
    if action == "remove" and parent is not content:
        del parent[key]
    elif action == "repeat" and isinstance(parent, list):
        parent += [parent[key]] * rng.choice((1, 3, 2_000))
    elif action == "wrap":
        parent[key] = rng.choice(([parent[key]], {"x": parent[key]}, str(parent[key])))
    else:
        parent[key] = rng.choice(JUNK)
    try:
        text = json.dumps(content[""])
    except ValueError:  # a whole number of more digits than Python writes
        text = "null"
    return text.encode()


def edited_xml(data: bytes, rng: random.Random) -> bytes:
    """An XML with other words in one place, or an element that is gone or repeated."""
    root = ElementTree.fromstring(data)
    parents = [each for each in root.iter() if len(each)]
    if not parents:
        return data
    parent = rng.choice(parents)
    child = rng.choice(list(parent))
    word = rng.choice([token for token in TOKENS if token.isprintable()])
    action = rng.choice(("words", "words", "words", "remove", "repeat", "rename"))
    if action == "remove":
        parent.remove(child)
    elif action == "repeat":
        most = 500 if len(data) < 2_000 else 1
        parent.extend([child] * rng.choice((1, 3, most)))
    elif action == "rename":
        child.tag = rng.choice(("x", "box", "points", "object", "polygon", "skeleton"))
    elif child.attrib and rng.random() < 0.8:
        child.set(rng.choice(list(child.attrib)), word)
    else:
        child.text = word
    return ElementTree.tostring(root)


def cut(data: bytes, rng: random.Random) -> bytes:
    """Bytes with a part removed, repeated, moved, or other ones in its place."""
    start = rng.randrange(len(data) + 1)
    stop = min(start + rng.choice((1, 1, 4, 40, len(data))), len(data))
    action = rng.choice(("remove", "replace", "token", "repeat", "flip", "truncate"))
    if action == "truncate":
        return data[:start]
    if action == "flip" and start < len(data):
        flipped = data[start] ^ 1 << rng.randrange(8)
        return data[:start] + bytes([flipped]) + data[start + 1 :]
    new = {
        "remove": b"",
        "replace": rng.randbytes(stop - start),
        "repeat": data[start:stop] * rng.choice((2, 50)),
    }.get(action, rng.choice(TOKENS).encode())
    return data[:start] + new + data[stop:]


def image_mutant(name: str, rng: random.Random, folder: Path) -> Outcome:
    """Spoils an image of a format and reads it."""
    encoded = io.BytesIO()
    pixels = np.random.default_rng(rng.randrange(4)).integers(0, 256, (24, 32, 3))
    mode = rng.choice(("RGB", "RGB", "L"))
    image = Image.fromarray(pixels.astype(np.uint8)).convert(mode)
    image.save(encoded, name)
    data = encoded.getvalue()
    for _ in range(rng.choice((1, 1, 2, 8))):
        data = cut(data, rng)
    path = folder / f"a.{FORMATS[name]}"
    path.write_bytes(data)
    with limited() as outcome:
        size = check_image(path, full=False)
        image_remarks(path)
        found = read_image(path)
        sound = found.dtype == np.uint8 and found.shape == (*size, 3)
        outcome.append(Outcome(RIGHT) if sound else Outcome(f"{found.shape}, {size}"))
    return outcome[0]


@contextlib.contextmanager
def limited() -> Iterator[list[Outcome]]:
    """Runs a block; its list holds the outcome, whatever the block does.

    It is stopped after `LIMIT_S` of CPU.
    """
    outcome: list[Outcome] = []

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {LIMIT_S} s of CPU")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT_S)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield outcome
    except (AnnotationError, ImageError) as error:
        outcome.append(_clear(error))
    except TimeoutError:
        outcome.append(Outcome("hang", traceback.format_exc(limit=-4)))
    except Exception as error:
        outcome.append(Outcome(type(error).__name__, traceback.format_exc(limit=-4)))
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _clear(error: Exception) -> Outcome:
    """Whether an error is a message for people: short, with one problem at least."""
    text = str(error)
    if len(text) > 20_000 or (
        isinstance(error, AnnotationError) and not error.problems
    ):
        return Outcome("unclear error", text[:500])
    return Outcome(CLEAR, text)


if __name__ == "__main__":
    sys.exit(main())
