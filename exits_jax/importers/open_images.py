"""Open Images: the CSV of training boxes with the clicks they were made from.

Clicks and boxes are shares of the stored image, from edge to edge. `Rotation`, a column
of another file, says how to turn image and boxes together to see them upright; both
are used as they are stored, so it is not needed.
"""

from collections import Counter
from operator import itemgetter
from pathlib import Path
from typing import Any

from exits_jax.data.records import fault
from exits_jax.importers.items import ImageItem, Items, ObjectItem, Rejected
from exits_jax.importers.tables import read_rows

_BOX = ("XMin", "YMin", "XMax", "YMax")
_CLICKS = tuple(f"XClick{i}{axis}" for i in (1, 2, 3, 4) for axis in "XY")
_TEXT = ("ImageID", "Source", "LabelName", "IsGroupOf", "IsDepiction")
_MARKS = {  # kept with the object where they are 1
    "IsOccluded": "is_occluded",
    "IsTruncated": "is_truncated",
    "IsGroupOf": "is_group_of",
    "IsDepiction": "is_depiction",
    "IsInside": "is_inside",
}
_NO_MARKS: dict[str, Any] = {}


def read(
    source: str | Path,
    *,
    class_names: str | Path | None = None,
    keep_group_of: bool = False,
    keep_depictions: bool = True,
) -> Items:
    """Yields one item per row.

    Rows that were made by extreme clicking (`Source` is xclick, no click is -1) have
    clicks; all others have a box alone.

    Args:
        source: The CSV.
        class_names: CSV of label identifiers and display names; None: the identifiers
            are the category names.
        keep_group_of: Keep boxes around groups of objects.
        keep_depictions: Keep drawings and the like.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: It is not such a CSV; the message names what it lacks.
    """
    rows = read_rows(source)
    _, header = next(rows, (0, []))
    _check_header(header, source)
    at = {name: position for position, name in enumerate(header)}
    image_at, source_at, label_at, group_at, depiction_at = (at[n] for n in _TEXT)
    numbers_of = itemgetter(*(at[name] for name in (*_BOX, *_CLICKS)))
    marks_at = [(at[name], mark) for name, mark in _MARKS.items() if name in at]
    marked = itemgetter(*(place for place, _ in marks_at))
    names = None if not class_names else read_class_names(class_names)
    width = len(header)
    image = ImageItem("")
    for line, row in rows:
        record = f"line {line}"
        if len(row) != width:
            message = f"It has {len(row)} columns; expected {width}, as in the header."
            yield Rejected(record, "E102", message)
            continue
        if row[group_at] == "1" and not keep_group_of:
            yield Rejected(record, "E219", "It is a group of objects (IsGroupOf is 1).")
            continue
        if row[depiction_at] == "1" and not keep_depictions:
            yield Rejected(record, "E220", "It is a depiction (IsDepiction is 1).")
            continue
        category = row[label_at]
        if names is not None:
            if category not in names:
                message = f"The label {category!r:.60} is not in {class_names}."
                yield Rejected(record, "E108", message)
                continue
            category = names[category]
        try:
            x0, y0, x1, y1, *clicks = map(float, numbers_of(row))
        except ValueError as error:
            yield Rejected(record, "E104", f"Box or clicks: {error}.")
            continue
        file_name = f"{row[image_at]}.jpg"
        if file_name != image.file_name:
            image = ImageItem(file_name)
        has_clicks = row[source_at] == "xclick" and -1.0 not in clicks
        marks = _NO_MARKS
        if "1" in marked(row):
            marks = {mark: True for place, mark in marks_at if row[place] == "1"}
        yield ObjectItem(
            image,
            category,
            tuple(zip(clicks[::2], clicks[1::2])) if has_clicks else None,
            (x0, y0, x1, y1),
            "share",
            record,
            marks,
        )


def read_class_names(path: str | Path) -> dict[str, str]:
    """Display names by label identifier; a name that two labels share gets the label.

    Args:
        path: CSV of two columns, with or without the header LabelName,DisplayName.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: A line has not two columns, or a label comes twice (E102).
    """
    names: dict[str, str] = {}
    for line, row in read_rows(path):
        if len(row) != 2 or row[0] in names:
            raise fault(
                "E102",
                f"{path}: line {line} is {','.join(row)!r:.80}; expected a label and "
                "its name, each label once.",
            )
        if row != ["LabelName", "DisplayName"]:
            names[row[0]] = row[1]
    counts = Counter(names.values())
    return {
        label: name if counts[name] == 1 else f"{name} ({label})"
        for label, name in names.items()
    }


def _check_header(header: list[str], source: str | Path) -> None:
    missing = [name for name in (*_TEXT, *_BOX) if name not in header]
    if missing:
        raise fault(
            "E102",
            f"{source} is no Open Images boxes CSV: its first line lacks "
            f"{', '.join(missing)}.",
        )
    missing = [name for name in _CLICKS if name not in header]
    if missing:
        raise fault(
            "E102",
            f"{source} lacks {', '.join(missing)}. Clicks are in the training boxes "
            "since V6 (oidv6-train-annotations-bbox.csv); older files and the other "
            "splits have boxes alone.",
        )
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise fault("E102", f"{source}: the column {twice[0]!r:.60} comes twice.")
