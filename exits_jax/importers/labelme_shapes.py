"""Shapes of labelme: which belong together, and the object they are."""

from typing import Any, NamedTuple

from exits_jax.data.extremenet import extremenet_points
from exits_jax.data.records import fault, is_id
from exits_jax.importers.items import ImageItem, ObjectItem
from exits_jax.importers.json_files import (
    Box,
    box_with_area,
    read_point,
    short,
)
from exits_jax.importers.outlines import extreme_vertices
from exits_jax.importers.sides import class_of_points

_KINDS = ("points", "polygon", "linestrip", "point", "rectangle")

CORNER_SLACK_PX = 1.0  # tools round corners one by one

Vertices = tuple[tuple[float, float], ...]


class Shape(NamedTuple):
    """One entry of `shapes`."""

    number: int  # its place in the file, from 1
    label: str
    kind: str  # one of _KINDS
    vertices: Vertices  # (x, y) px
    group: int | str | None


def read_shape(entry: Any, number: int) -> Shape:
    """Reads an entry of `shapes`.

    Raises:
        AnnotationError: With the one fault that makes it useless.
    """
    if not isinstance(entry, dict):
        raise fault("E102", f"The shape is {short(entry)}; expected an object.")
    kind = entry.get("shape_type")
    if kind is None:
        kind = "polygon"  # before labelme knew other shapes
    if kind == "oriented_rectangle":
        raise fault("E215", "The rectangle is rotated; expected an upright one.")
    if kind not in _KINDS:
        raise fault(
            "E217",
            f"A shape of type {short(kind)} holds no extreme clicks; expected "
            f"{', '.join(_KINDS)}.",
        )
    label, group, points = (entry.get(key) for key in ("label", "group_id", "points"))
    if not isinstance(label, str) or not label:
        raise fault("E108", f"Its label is {short(label)}; expected a class.")
    if group is not None and not is_id(group):
        raise fault("E104", f"Its group_id is {short(group)}; expected a number.")
    if not isinstance(points, list):
        raise fault("E104", f"Its points are {short(points)}; expected [x, y] of each.")
    vertices = tuple(
        read_point(point, f"Its vertex {place}")
        for place, point in enumerate(points, start=1)
    )
    return Shape(number, label, kind, vertices, group)


def with_classes(shapes: list[Shape]) -> list[Shape]:
    """The shapes; grouped points that are named by their side have a class instead.

    It is what their labels have beside the side, else the one label of the other shapes
    of their group, such as a rectangle.
    """
    points: dict[Any, list[Shape]] = {}
    others: dict[Any, set[str]] = {}
    for shape in shapes:
        if shape.group is not None and shape.kind == "point":
            points.setdefault(shape.group, []).append(shape)
        elif shape.group is not None:
            others.setdefault(shape.group, set()).add(shape.label)
    classes: dict[Any, str] = {}
    for group, members in points.items():
        category = class_of_points([member.label for member in members])
        names = others.get(group, set())
        if category == "" and len(names) == 1:
            category = next(iter(names))
        if category:
            classes[group] = category
    return [
        shape._replace(label=classes[shape.group])
        if shape.kind == "point" and shape.group in classes
        else shape
        for shape in shapes
    ]


def gather(shapes: list[Shape]) -> list[list[Shape]]:
    """Puts shapes that make one object together, in the order of their first ones."""
    gathered: dict[Any, list[Shape]] = {}
    for shape in shapes:
        key: Any = shape.number
        if shape.group is not None and shape.kind == "point":
            key = ("point", shape.group)
        elif shape.group is not None and shape.kind == "polygon":
            key = ("polygon", shape.group, shape.label)
        gathered.setdefault(key, []).append(shape)
    return list(gathered.values())


def object_of(members: list[Shape], image: ImageItem, record: str) -> ObjectItem:
    """The object that shapes make which belong together.

    Raises:
        AnnotationError: They do not make one.
    """
    first = members[0]
    clicks: Vertices | None = None
    box: Box | None = None
    extra: dict[str, Any] = {}
    if first.kind == "point":
        clicks = _single_points(members)
    elif first.kind == "rectangle":
        box = _rectangle(first.vertices)
    elif first.kind == "polygon" and _is_outline(members):
        clicks = _extreme_vertices(members, image)
        extra["points_source"] = "polygon"
    else:
        clicks = _four(first.vertices, f"The {first.kind} shape")
    return ObjectItem(image, first.label, clicks, box, "px", record, extra)


def _is_outline(members: list[Shape]) -> bool:
    """Whether polygons are the outline of an object; one of four vertices is clicks."""
    return len(members) > 1 or len(members[0].vertices) not in (0, 1, 2, 4)


def _single_points(members: list[Shape]) -> Vertices:
    labels = sorted({shape.label for shape in members})
    if members[0].group is None:
        raise fault(
            "E207",
            "A single point without group_id; expected the four points of an object "
            "with one group_id.",
        )
    if len(labels) > 1:
        raise fault(
            "E108",
            f"The points of the group {short(members[0].group)} have the labels "
            f"{short(labels)}; expected one class, alone or with the sides top, left, "
            "bottom, right behind it.",
        )
    vertices = tuple(vertex for shape in members for vertex in shape.vertices)
    return _four(vertices, f"The group {short(members[0].group)}")


def _four(vertices: Vertices, name: str) -> Vertices:
    if len(vertices) != 4:
        raise fault("E207", f"{name} has {len(vertices)} points; expected four.")
    return vertices


def _rectangle(vertices: Vertices) -> Box:
    if len(vertices) not in (2, 4):
        raise fault(
            "E207",
            f"The rectangle has {len(vertices)} points; expected two or four corners.",
        )
    xs, ys = zip(*vertices)
    x0, y0, x1, y1 = min(xs), min(ys), max(xs), max(ys)
    if len(vertices) == 4 and not _are_corners(vertices, (x0, y0, x1, y1)):
        raise fault(
            "E215",
            "The rectangle's four points are not the corners of an upright one: it is "
            "rotated.",
        )
    return box_with_area(x0, y0, x1, y1)


def _are_corners(vertices: Vertices, box: Box) -> bool:
    """Whether four points are those of a box, in any order and within a pixel."""
    x0, y0, x1, y1 = box
    corners = {
        (abs(x - x0) <= abs(x - x1), abs(y - y0) <= abs(y - y1)) for x, y in vertices
    }
    return len(corners) == 4 and all(
        min(abs(x - x0), abs(x - x1)) <= CORNER_SLACK_PX
        and min(abs(y - y0), abs(y - y1)) <= CORNER_SLACK_PX
        for x, y in vertices
    )


def _extreme_vertices(members: list[Shape], image: ImageItem) -> Vertices:
    if image.width is None or image.height is None:
        vertices = [vertex for shape in members for vertex in shape.vertices]
        if not vertices:
            raise fault("E212", "Its polygons have no vertices.")
        return extreme_vertices(vertices)
    polygons = [
        [value for point in shape.vertices for value in point] for shape in members
    ]
    points = extremenet_points(polygons, image.height, image.width)
    return tuple((float(x), float(y)) for x, y in points)
