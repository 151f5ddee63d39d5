"""A table of one's own: one object per line, four clicks in named columns."""

from collections.abc import Sequence
from pathlib import Path

from exits_jax.data.records import AnnotationError, fault
from exits_jax.importers.clicks import UNITS
from exits_jax.importers.items import ImageItem, Items, ObjectItem, Rejected
from exits_jax.importers.tables import read_rows

DELIMITERS = ",;\t"
_SIDES = ("xt", "yt", "xl", "yl", "xb", "yb", "xr", "yr")
_NUMBERED = ("x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4")
_OPTIONAL = ("width", "height", "unit")
_EXPECTED = (
    f"expected file,category,{','.join(_SIDES)} or file,category,{','.join(_NUMBERED)} "
    f"and optionally {', '.join(_OPTIONAL)}; separated by comma, semicolon or tab"
)


def read(source: str | Path) -> Items:
    """Yields one item per line of a table.

    The first line names the columns, in any order and case. The clicks of both forms
    are put in order by their coordinates. `unit` is px, share or percent, px where it
    is empty. Further columns are kept with the object, as text.

    Args:
        source: The text file.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: It is not such a table; the message says what its header lacks.
    """
    rows = read_rows(source, DELIMITERS)
    _, first = next(rows, (0, []))
    header = [name.strip().lower() for name in first]
    columns = _click_columns(header, source)
    for line, cells in rows:
        record = f"line {line}"
        if len(cells) != len(header):
            message = (
                f"It has {len(cells)} columns; expected {len(header)} as in the header."
            )
            yield Rejected(record, "E102", message)
            continue
        row = dict(zip(header, (cell.strip() for cell in cells)))
        try:
            yield _read_one(row, columns, record)
        except AnnotationError as error:
            problem = error.problems[0]
            yield Rejected(record, problem.code, problem.message)


def _click_columns(header: list[str], source: str | Path) -> Sequence[str]:
    """Which of the two forms a header has.

    Raises:
        AnnotationError: None, both, or a column twice.
    """
    name = f"{source}: line 1 has the columns {', '.join(header)!a:.200}"
    if len(set(header)) < len(header):
        raise fault("E102", f"{name}, one of them twice; {_EXPECTED}.")
    found = [form for form in (_SIDES, _NUMBERED) if set(form) <= set(header)]
    if len(found) != 1 or not {"file", "category"} <= set(header):
        raise fault("E102", f"{name}; {_EXPECTED}.")
    return found[0]


def _read_one(row: dict[str, str], columns: Sequence[str], record: str) -> ObjectItem:
    for name in ("file", "category"):
        if not row[name]:
            raise fault("E104", f"The column {name} is empty.")
    unit = row.get("unit") or "px"
    if unit not in UNITS:
        raise fault(
            "E209", f"The unit is {unit!r:.40}; expected one of {', '.join(UNITS)}."
        )
    if not any(row[name] for name in columns):
        raise fault("E207", "It has no clicks; expected four (x, y).")
    values = [_number(row, name) for name in columns]
    image = ImageItem(row["file"], _length(row, "width"), _length(row, "height"))
    known = {"file", "category", *columns, *_OPTIONAL}
    extra = {name: value for name, value in row.items() if name not in known}
    clicks = tuple(zip(values[::2], values[1::2]))
    return ObjectItem(image, row["category"], clicks, None, unit, record, extra)


def _number(row: dict[str, str], name: str) -> float:
    try:
        return float(row[name])
    except ValueError:
        hint = " Decimals take a point." if "," in row[name] else ""
        raise fault(
            "E104", f"{name} is {row[name]!r:.40}; expected a number.{hint}"
        ) from None


def _length(row: dict[str, str], name: str) -> int | None:
    text = row.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
        raise fault(
            "E104", f"{name} is {text!r:.40}; expected a positive whole number of px."
        )
    return int(text)
