"""Reader of CVAT's export "CVAT for images 1.1": its XML, or the zip around it.

Clicks are `<points>` shapes with four points, four of one group with a point each, or
`<skeleton>`s with four joints. The XML is parsed image by image; definitions of
entities and other documents are refused.
"""

import re
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from exits_jax.data.geometry import SIDES
from exits_jax.data.records import MAX_NUMBER, AnnotationError, fault
from exits_jax.importers.items import ImageItem, Items, ObjectItem, Rejected
from exits_jax.importers.json_files import (
    Box,
    box_with_area,
    read_image,
    reject,
    short,
)
from exits_jax.importers.pairs import with_checks
from exits_jax.importers.sides import class_of_points, places_of_sides
from exits_jax.importers.xml_files import xml_events

BOX_ONLY_WARNING = (
    "W216: CVAT keeps no clicks of boxes, not even of boxes drawn by four clicks "
    "('By 4 points'): they are boxes alone. To keep the clicks, annotate each object "
    "by a points shape with four points, or by a skeleton with four joints."
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LONGEST = 40  # characters of a number; the pattern costs their square
_WHOLE = re.compile(r"\d{1,9}", re.ASCII)
_MAX_LISTED = 20  # shapes in the name of a record
_CORNERS = ("xtl", "ytl", "xbr", "ybr")

Clicks = tuple[tuple[float, float], ...]


def read(source: str | Path) -> Items:
    """Yields the objects of each image, and the images without any.

    A box that shares group and label with one shape of four clicks becomes the box of
    that object; any other box is an object without clicks.

    Args:
        source: annotations.xml, or the zip that holds it; nothing is unpacked.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: It is no whole XML or zip (E101), not this export (E102; "CVAT
            for video": E214), would unpack to too much (E115) or has a document type
            (E116). Raised where the fault stands, after the items before it.
    """
    path = Path(source)
    depth = num_images = 0
    root = Element("none")
    for event, element in xml_events(path, "annotations.xml"):
        depth += 1 if event == "start" else -1
        if event == "start" and depth == 1:
            root = element
            _check_root(root, path)
        elif event == "start" and depth == 2 and element.tag == "track":
            raise fault(
                "E214",
                f"{path} holds tracks: it is the export 'CVAT for video 1.1'. Export "
                "the task as 'CVAT for images 1.1'.",
            )
        elif event == "end" and depth == 1:
            if element.tag == "image":
                num_images += 1
                yield from _image_items(element, num_images)
            root.clear()  # what has been read need not stay in memory
    if not num_images:
        raise fault(
            "E102",
            f"{path} lists no image. Export the task as 'CVAT for images 1.1', which "
            "lists every image, with shapes or without.",
        )


def _check_root(root: Element, path: Path) -> None:
    if root.tag != "annotations":
        raise fault(
            "E102",
            f"{path} is XML with the root <{root.tag:.40}>; expected <annotations>, "
            "the export 'CVAT for images 1.1'.",
        )


def _image_items(image: Element, number: int) -> Items:
    name = image.get("name")
    where = f"image {number} ({short(name)})"
    records = [
        f"{where}, shape {position} (<{shape.tag:.20}>)"
        for position, shape in enumerate(image, start=1)
    ]
    try:
        item = read_image(name, *(_side(image, key) for key in ("width", "height")))
        item = item._replace(identity=_identity(image, number), preferred=_own(image))
    except AnnotationError as error:
        for record in (where, *records):
            yield reject(record, error)
        return
    found: list[ObjectItem | Rejected] = []
    owners: list[tuple[str, str | None] | None] = []
    classes = _classes_of_boxes(image)
    for places in _gathered(image):
        first, record = image[places[0]], records[places[0]]
        group = _group(first)
        if len(places) > 1:
            listed = ", ".join(str(place + 1) for place in places[:_MAX_LISTED])
            record = f"{where}, shapes {listed} (<points>)"
        try:
            members = [image[place] for place in places]
            found.append(_of_shapes(members, item, record, classes))
        except AnnotationError as error:
            found.append(reject(record, error))
        one = found[-1]
        if group is not None and isinstance(one, ObjectItem):
            group = (group[0], one.category)
        owners.append(group)
    paired = with_checks(found, owners)
    yield from paired
    if not any(isinstance(one, ObjectItem) for one in paired):
        yield item


def _gathered(image: Element) -> list[list[int]]:
    """Places of the shapes that make an object: single points of one group do."""
    gathered: dict[Any, list[int]] = {}
    for place, shape in enumerate(image):
        group = _group(shape)
        is_single = shape.tag == "points" and ";" not in shape.get("points", "")
        key = group[0] if is_single and group is not None else place
        gathered.setdefault(key, []).append(place)
    return list(gathered.values())


def _classes_of_boxes(image: Element) -> dict[str, set[str]]:
    """The labels of the boxes of each group."""
    classes: dict[str, set[str]] = {}
    for box in image.iter("box"):
        if group := _group(box):
            classes.setdefault(group[0], set()).add(group[1] or "")
    return classes


def _of_shapes(
    shapes: list[Element], image: ImageItem, record: str, classes: dict[str, set[str]]
) -> ObjectItem:
    """The object of one shape, or of the single points of a group."""
    first = shapes[0]
    if len(shapes) == 1:
        return _object(first, image, record)
    clicks = _four([point for shape in shapes for point in _points(shape)])
    labels = [shape.get("label") for shape in shapes]
    category = class_of_points(labels)
    if category == "":  # sides alone: the box of the group has the class
        names = classes.get(first.get("group_id", ""), set())
        category = next(iter(names)) if len(names) == 1 else None
    if not category:
        raise fault(
            "E108",
            f"The points of the group {short(first.get('group_id'))} have the labels "
            f"{short(sorted(map(str, labels)))}; expected one class, alone or with the "
            f"sides {', '.join(SIDES)} behind it.",
        )
    return _object_of(shapes, category, clicks, None, image, record)


def _identity(image: Element, number: int) -> str:
    """What tells images of one name apart: tasks of a project number them anew."""
    known = {key: image.get(key) for key in ("id", "subset", "task_id", "source")}
    listed = [f"{key} {value}" for key, value in known.items() if value]
    return f"image {', '.join(listed)}" if image.get("id") else f"image {number}"


def _own(image: Element) -> str:
    """The name of an image in the folder of its subset, as a project is exported."""
    subset, name = image.get("subset"), image.get("name")
    return f"{subset}/{name}" if subset and name else ""


def _side(image: Element, key: str) -> int | str | None:
    """A size as a number where it is one; what else it is `read_image` refuses."""
    text = image.get(key)
    return int(text) if text is not None and _WHOLE.fullmatch(text) else text


def _object(shape: Element, image: ImageItem, record: str) -> ObjectItem:
    clicks: Clicks | None = None
    box: Box | None = None
    if shape.tag == "points":
        clicks = _four(_points(shape))
    elif shape.tag == "skeleton":
        clicks = _joints(shape)
    elif shape.tag == "box":
        box = _upright_box(shape)
    elif shape.tag == "tag":
        raise fault("E221", "A <tag> is about the whole image, not an object.")
    else:
        raise fault(
            "E217",
            f"A <{shape.tag:.20}> holds no extreme clicks; expected <points> with "
            "four points, a <skeleton> with four joints, or a <box>.",
        )
    label = shape.get("label")
    if not label:
        raise fault("E108", "The shape has no label; expected the name of its class.")
    return _object_of([shape], label, clicks, box, image, record)


def _object_of(
    shapes: list[Element],
    label: str,
    clicks: Clicks | None,
    box: Box | None,
    image: ImageItem,
    record: str,
) -> ObjectItem:
    found: dict[str, set[str]] = {}
    for child in (one for shape in shapes for one in shape.findall("attribute")):
        texts = found.setdefault(child.get("name", ""), set())
        if len(shapes) == 1:
            texts.clear()  # the last one counts
        texts.add(child.text or "")
    attributes = {name: min(texts) for name, texts in found.items() if len(texts) == 1}
    extra: dict[str, Any] = {"attributes": attributes} if attributes else {}
    flags = () if len(attributes) == len(found) else ("differing_attributes",)
    return ObjectItem(image, label, clicks, box, "px", record, extra, flags)


def _joints(skeleton: Element) -> Clicks:
    """The clicks of a skeleton; one with more joints must name the four sides."""
    joints = skeleton.findall("points")
    if len(joints) != 4:
        places = places_of_sides([joint.get("label") for joint in joints])
        if places is None:
            raise fault(
                "E207",
                f"The skeleton has {len(joints)} joints; expected four, or more among "
                f"which {', '.join(SIDES)} occur once each.",
            )
        joints = [joints[place] for place in places]
    for joint in joints:
        if joint.get("outside", "0") != "0":
            raise fault(
                "E207",
                f"The joint {short(joint.get('label'))} is missing (outside = "
                f"{short(joint.get('outside'))}); expected four visible joints.",
            )
    return _four([point for joint in joints for point in _points(joint)])


def _four(points: list[tuple[float, float]]) -> Clicks:
    if len(points) != 4:
        raise fault("E207", f"The shape has {len(points)} points; expected four.")
    return tuple(points)


def _points(shape: Element) -> list[tuple[float, float]]:
    text = shape.get("points", "")
    pairs = [pair.split(",") for pair in text.split(";")]
    if any(len(pair) != 2 for pair in pairs):
        raise fault(
            "E104", f"The points are {short(text)}; expected x,y;x,y;... in pixels."
        )
    return [(_number(x, "points"), _number(y, "points")) for x, y in pairs]


def _upright_box(shape: Element) -> Box:
    x0, y0, x1, y1 = (_number(shape.get(key), key) for key in _CORNERS)
    rotation = _number(shape.get("rotation", "0"), "rotation")
    if rotation % 360:
        raise fault(
            "E215",
            f"The box is rotated by {rotation:g} degrees; expected an upright box.",
        )
    return box_with_area(x0, y0, x1, y1)


def _number(text: str | None, name: str) -> float:
    value = text.strip() if text is not None else ""
    is_long = len(value) > _LONGEST
    if is_long or not _NUMBER.fullmatch(value) or abs(float(value)) >= MAX_NUMBER:
        raise fault(
            "E104", f"Its {name} holds {short(text)}; expected a finite number in px."
        )
    return float(value)


def _group(shape: Element) -> tuple[str, str | None] | None:
    group = shape.get("group_id", "0")
    return None if group in ("", "0") else (group, shape.get("label"))
