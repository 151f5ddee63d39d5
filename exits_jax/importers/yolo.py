"""Reader of YOLO's labels: boxes and polygons as shares of the image, line by line.

A text file belongs to the image of its name, and `labels` in its path stands for
`images`. A line of five numbers is a box, one of nine a shape with four clicks, a
longer one the outline of an object, whose extreme vertices are taken.
"""

from pathlib import Path
from typing import Any

import yaml

from exits_jax.data.records import AnnotationError, fault
from exits_jax.importers.items import ImageItem, Items, ObjectItem
from exits_jax.importers.json_files import outline_of, reject, short
from exits_jax.importers.numbers import read_number
from exits_jax.importers.outlines import extreme_vertices

_LISTS = ("classes.txt", "obj.names")
_YAMLS = ("data.yaml", "data.yml", "dataset.yaml")
_MAX_BYTES = 2**24  # of one text file


def read(source: str | Path) -> Items:
    """Yields the objects of each text file, and the images without any.

    Args:
        source: `data.yaml` of a data set, or the folder of its labels, which has
            `data.yaml` or `classes.txt` in it or above it.

    Raises:
        FileNotFoundError: There is no such file or folder.
        AnnotationError: The classes cannot be found or read, or there is no label
            (E102); the labels are of poses (E102).
    """
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"YOLO's labels: {path} does not exist.")
    root = path if path.is_dir() else path.parent
    names = _names(path)
    files = sorted(
        file for file in root.rglob("*.txt") if file.name not in (*_LISTS, "train.txt")
    )
    if any("labels" in file.relative_to(root).parts for file in files):
        files = [file for file in files if "labels" in file.relative_to(root).parts]
    if not files:
        raise fault("E102", f"{root} holds no label; expected a .txt per image.")
    for file in files:
        yield from _file_items(file, root, names)


def _names(path: Path) -> dict[int, str]:
    """Names of classes by number."""
    places = [path] if path.is_file() else []
    if path.is_dir():
        folders = (path, *path.resolve().parents[:3])
        places = [folder / name for folder in folders for name in (*_YAMLS, *_LISTS)]
    for place in places:
        if place.is_file():
            return _listed(place) if place.name in _LISTS else _of_yaml(place)
    raise fault(
        "E102",
        f"{path}: neither it nor the folders above it have data.yaml or classes.txt, "
        "which name the classes.",
    )


def _listed(path: Path) -> dict[int, str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise fault("E101", f"{path} is not UTF-8 text.") from error
    return {number: line.strip() for number, line in enumerate(lines) if line.strip()}


def _of_yaml(path: Path) -> dict[int, str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if len(text) > _MAX_BYTES or _has_aliases(text):  # could unfold without end
            raise fault("E102", f"{path} is too large, or has aliases.")
        content: Any = yaml.load(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, AnnotationError):
            raise
        raise fault("E101", f"{path} is no YAML: {str(error):.200}.") from error
    fields = content if isinstance(content, dict) else {}
    names = fields.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or any(type(key) is not int for key in names):
        raise fault(
            "E102", f"{path} holds {outline_of(content)}; expected a list `names`."
        )
    if "kpt_shape" in fields:
        raise fault("E102", f"{path} is of poses (kpt_shape); boxes or outlines are.")
    return {key: str(name) for key, name in names.items()}


def _has_aliases(text: str) -> bool:
    """Whether a YAML repeats a part of itself; `&` and `*` may stand in names, too."""
    events = yaml.parse(text, Loader=yaml.CSafeLoader)
    return any(isinstance(event, yaml.AliasEvent) for event in events)


def _file_items(file: Path, root: Path, names: dict[int, str]) -> Items:
    below = file.relative_to(root)
    where, image = str(below), _image(below)
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise fault("E115", f"{where} is too large for the labels of one image.")
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        yield reject(where, fault("E101", f"{where} is not UTF-8 text."))
        return
    except AnnotationError as error:
        yield reject(where, error)
        return
    is_used = False
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        record = f"{where}, line {number}"
        try:
            yield _object(line.split(), names, image, record)
            is_used = True
        except AnnotationError as error:
            yield reject(record, error)
    if not is_used:
        yield image


def _image(below: Path) -> ImageItem:
    """The image of a text file; it has no ending there."""
    parts = list(below.with_suffix("").parts)
    if "labels" not in parts:
        return ImageItem("/".join(parts), identity=below.as_posix())
    place = len(parts) - 1 - parts[::-1].index("labels")
    return ImageItem(
        "/".join(parts[place + 1 :]),
        identity=below.as_posix(),
        preferred="/".join([*parts[:place], "images", *parts[place + 1 :]]),
    )


def _object(
    cells: list[str], names: dict[int, str], image: ImageItem, record: str
) -> ObjectItem:
    numbers = [read_number(cell, "line") for cell in cells]
    category = names.get(int(numbers[0])) if numbers[0].is_integer() else None
    if category is None:
        raise fault(
            "E108", f"The class {short(cells[0])} is not among the {len(names)} names."
        )
    values = numbers[1:]
    if len(values) == 4:
        x, y, width, height = values
        if width <= 0 or height <= 0:
            raise fault("E201", f"The box is {width:g} x {height:g}; it has no area.")
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        return ObjectItem(image, category, None, box, "share", record)
    if len(values) < 6 or len(values) % 2:
        raise fault(
            "E207",
            f"It has {len(cells)} numbers; expected a class and a box (x, y, width, "
            "height) or at least three vertices.",
        )
    vertices = list(zip(values[::2], values[1::2]))
    is_clicks = len(vertices) == 4
    clicks = tuple(vertices) if is_clicks else extreme_vertices(vertices)
    extra = {} if is_clicks else {"points_source": "polygon"}
    return ObjectItem(image, category, clicks, None, "share", record, extra)
