"""Lists of objects to evaluate on: ids in JSON, or the pickles of Separated COCO.

The pickles of Separated COCO and Occluded COCO (Zhan et al., 2022) hold one entry per
object: file name, class name, annotation id, box and mask.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from exits_jax.data.masks import decode_mask
from exits_jax.data.records import (
    MAX_NUMBER,
    AnnotationError,
    Problem,
    fault,
    is_id,
    is_length,
)
from exits_jax.evaluation.plain_pickle import load_plain_pickle

_MAX_BYTES = 2**26  # the published files have some MB
_MAX_ENTRIES = 2**20  # more than any data set has objects in a list
_MAX_LISTED = 20


class ListedObject(NamedTuple):
    """One entry of a published list."""

    file_name: str
    class_name: str
    annotation_id: int | str
    box: tuple[float, ...]  # as it stands: x, y, w, h or x0, y0, x1, y1, by the file
    segmentation: dict[str, Any]  # RLE


class MaskComparison(NamedTuple):
    """Ids of listed objects that do not fit the annotations."""

    differing: set[int | str]  # another mask, or one of the two cannot be decoded
    unknown: set[int | str]  # no such annotation


def read_object_ids(path: str | Path) -> set[int | str]:
    """Reads annotation ids from a list of either kind.

    Args:
        path: A JSON list of ids, alone or as the only field of an object; or a pickle
            as for `read_object_list`. The content decides, not the name.

    Returns:
        The ids, numbers or strings as they stand.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: It is neither (E101, E102), has an entry that is no id (E105),
            is too large (E115), or as `read_object_list`.
    """
    data = _read(path)
    if not _is_json(data, path):
        return {entry.annotation_id for entry in _entries(data, str(path))}
    try:
        listed = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise fault("E101", f"{path} is not JSON in UTF-8: {error!s:.200}.") from error
    if isinstance(listed, dict) and len(listed) == 1:
        listed = next(iter(listed.values()))
    if not isinstance(listed, list):
        raise fault("E102", f"{path}: expected a JSON list of annotation ids.")
    wrong = [
        Problem(None, "E105", f"entry {place} is {_shown(value)}, not an id")
        for place, value in enumerate(listed)
        if not is_id(value)
    ]
    _enforce(wrong, len(listed), str(path))
    return set(listed)


def read_object_list(path: str | Path) -> list[ListedObject]:
    """Reads a published pickle; nothing that it names is run.

    Args:
        path: The pickle of a list with one [file name, class name, annotation id, box,
            RLE] per object, of any protocol.

    Returns:
        Its entries, in order.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: It holds more than data (E401), is damaged (E101), too large
            (E115), or entries are malformed (E102, E104, E105, E211): all at once.
    """
    return _entries(_read(path), str(path))


def compare_with(
    objects: Iterable[ListedObject],
    annotations: Mapping[int | str, tuple[Any, int, int]],
) -> MaskComparison:
    """Compares the masks of a list with those of the annotations it speaks of.

    Args:
        objects: What `read_object_list` gives.
        annotations: By id, the segmentation and the height and width of its image.
    """
    differing: set[int | str] = set()
    unknown: set[int | str] = set()
    for entry in {entry.annotation_id: entry for entry in objects}.values():
        found = annotations.get(entry.annotation_id)
        if found is None:
            unknown.add(entry.annotation_id)
            continue
        segmentation, height, width = found
        try:
            ours = decode_mask(segmentation, height, width)
            theirs = decode_mask(entry.segmentation, height, width)
        except AnnotationError:
            differing.add(entry.annotation_id)
            continue
        if not np.array_equal(ours, theirs):
            differing.add(entry.annotation_id)
    return MaskComparison(differing, unknown)


def holds_masks(path: str | Path) -> bool:
    """Whether a list is a pickle as for `read_object_list`, which repeats the masks."""
    return not _is_json(_read(path), path)


def _is_json(data: bytes, path: str | Path) -> bool:
    text = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    return text[:1] in (b"[", b"{") or str(path).lower().endswith(".json")


def _read(path: str | Path) -> bytes:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The object list {path} does not exist.")
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise fault(
            "E115",
            f"{path} has {size} bytes; a list of objects has at most {_MAX_BYTES}.",
        )
    return path.read_bytes()


def _entries(data: bytes, name: str) -> list[ListedObject]:
    listed = load_plain_pickle(data, name)
    if not isinstance(listed, list | tuple):
        raise fault("E102", f"{name} holds {_shown(listed)}; expected a list.")
    if len(listed) > _MAX_ENTRIES:
        raise fault(
            "E115", f"{name} lists {len(listed)} objects; {_MAX_ENTRIES} at most."
        )
    entries, problems, room = [], [], _MAX_BYTES
    for place, value in enumerate(listed):
        try:
            entries.append(_entry(value))
            # A pickle may name one mask a million times.
            room -= len(entries[-1].segmentation["counts"])
            if room < 0:
                raise fault("E115", f"all masks are larger than {_MAX_BYTES} bytes.")
        except AnnotationError as error:
            message = f"entry {place}: {error}"
            problems.append(Problem(None, error.problems[0].code, message))
    _enforce(problems, len(listed), name)
    return entries


def _entry(value: Any) -> ListedObject:
    if not isinstance(value, list | tuple) or len(value) != 5:
        size = f" of {len(value)}" if isinstance(value, list | tuple) else ""
        raise fault(
            "E102",
            f"it is {_shown(value)}{size}; expected [file name, class name, annotation "
            "id, box, RLE].",
        )
    file_name, class_name, annotation_id, box, rle = value
    if not isinstance(file_name, str) or not isinstance(class_name, str):
        raise fault(
            "E102",
            f"its names are {_shown(file_name)} and {_shown(class_name)}; expected the "
            "texts of an image file and a class.",
        )
    if not is_id(annotation_id):
        raise fault("E105", f"{_shown(annotation_id)} is not an annotation id.")
    if not isinstance(box, list | tuple) or len(box) != 4:
        raise fault("E104", f"its box is {_shown(box)}; expected four numbers.")
    if not all(type(s) in (int, float) and abs(s) < MAX_NUMBER for s in box):
        raise fault("E104", "its box holds something else than finite numbers.")
    return ListedObject(
        file_name, class_name, annotation_id, tuple(map(float, box)), _rle(rle)
    )


def _rle(value: Any) -> dict[str, Any]:
    """The mask of an entry in the form of COCO; its runs are checked on decoding."""
    if not isinstance(value, dict):
        raise fault("E211", f"its mask is {_shown(value)}; expected an RLE.")
    size, counts = value.get("size"), value.get("counts")
    sides = size if isinstance(size, list | tuple) else ()
    if len(sides) != 2 or not all(map(is_length, sides)):
        raise fault(
            "E211", f"the size of its RLE is {_shown(size)}; expected [height, width]."
        )
    if isinstance(counts, bytes | bytearray):
        counts = counts.decode("latin-1")
    is_list = isinstance(counts, list) and all(type(run) is int for run in counts)
    if not isinstance(counts, str) and not is_list:
        raise fault("E211", f"the counts of its RLE are {_shown(counts)}.")
    return {"size": list(map(int, sides)), "counts": counts}


def _shown(value: Any) -> str:
    """A value of any depth for a message; only flat ones are written out."""
    if isinstance(value, str | bytes):
        value = value[:60]
    if isinstance(value, str | bytes | int | float | None):
        return f"{value!r:.60}"
    return f"a {type(value).__name__}"


def _enforce(problems: list[Problem], total: int, name: str) -> None:
    """Raises all faults together: half a list would evaluate half of the objects."""
    if not problems:
        return
    lines = [f"{name}: {len(problems)} of {total} entries cannot be used:"]
    lines += [f"  {problem.code}: {problem.message}" for problem in problems]
    if len(problems) > _MAX_LISTED:
        lines[_MAX_LISTED + 1 :] = [f"  and {len(problems) - _MAX_LISTED} more"]
    raise AnnotationError("\n".join(lines), problems)
