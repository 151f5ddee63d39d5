"""CVAT's XML 1.1 for images, with masks or with polygons."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from xml.sax.saxutils import XMLGenerator
from xml.sax.xmlreader import AttributesImpl

from exits_jax.data.row_run_lengths import row_runs
from exits_jax.exporters.folders import NameFault
from exits_jax.exporters.masks import ImageMasks, MaskObject, MaskSource, Options
from exits_jax.exporters.outlines import outlines
from exits_jax.exporters.report import NAME, Report
from exits_jax.exporters.shared import leave_out_image, lose_scores, without_crowds

FILE = "annotations.xml"
# What XML 1.0 has no way to write, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_cvat(
    source: MaskSource, folder: Path, options: Options, report: Report
) -> None:
    """Writes `annotations.xml` with `<mask>` elements, which hold a mask exactly."""
    del options
    _write(source, folder / FILE, report, _write_mask)


def write_cvat_polygons(
    source: MaskSource, folder: Path, options: Options, report: Report
) -> None:
    """Writes `annotations.xml` with `<polygon>` elements, one per part.

    The parts of an object share a `group_id`.
    """
    _write(source, folder / FILE, report, partial(_write_polygons, options=options))


def clean(text: str) -> str:
    """The text with every character that XML cannot hold replaced."""
    return _NOT_XML.sub("\ufffd", text)


class Xml:
    """Writes elements one by one; names and values are escaped."""

    def __init__(self, path: Path):
        """Begins a file."""
        self._file = path.open("w", encoding="utf-8")
        self._xml = XMLGenerator(self._file, encoding="utf-8")
        self._xml.startDocument()

    def __enter__(self) -> "Xml":
        """The writer itself; the file is closed at the end of the block."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Closes the file."""
        self._file.close()

    @contextmanager
    def element(self, tag: str, attributes: Mapping[str, str] | None = None):
        """An element that holds what is written in the block."""
        self._xml.startElement(tag, AttributesImpl(dict(attributes or {})))
        yield
        self._xml.endElement(tag)
        self._xml.ignorableWhitespace("\n")

    def text(self, tag: str, content: str) -> None:
        """An element that holds a text."""
        with self.element(tag):
            self._xml.characters(content)


_WriteObject = Callable[[Xml, MaskObject, dict[str, str], Report], None]


def _write(
    source: MaskSource, path: Path, report: Report, write_object: _WriteObject
) -> None:
    names = [clean(name) for name in source.categories]
    renamed = sum(a != b for a, b in zip(names, source.categories))
    report.warn("renamed_classes", renamed)
    with Xml(path) as xml, xml.element("annotations"):
        xml.text("version", "1.1")
        with xml.element("meta"), xml.element("task"):
            xml.text("name", "exits_jax")
            xml.text("mode", "annotation")
            with xml.element("labels"):
                for name in names:
                    with xml.element("label"):
                        xml.text("name", name)
                        xml.text("attributes", "")
        for number, image in enumerate(_usable(source, report)):
            attributes = {"id": str(number), "name": image.file_name}
            attributes |= {"width": str(image.width), "height": str(image.height)}
            objects = without_crowds(image, report)
            lose_scores(objects, report)
            with xml.element("image", attributes):
                for group, item in enumerate(objects, start=1):
                    common = {"label": names[item.category], "source": "auto"}
                    common |= {"occluded": "0", "z_order": "0", "group_id": str(group)}
                    write_object(xml, item, common, report)
            report.wrote(len(objects))


def _usable(source: MaskSource, report: Report) -> Iterator[ImageMasks]:
    for image in source.images():
        if _NOT_XML.search(image.file_name):
            why = f"the file name {image.file_name!a:.200} cannot be written in XML."
            leave_out_image(image, NameFault(NAME, why), report)
            continue
        report.num_images += 1
        yield image


def _write_mask(
    xml: Xml, item: MaskObject, common: dict[str, str], report: Report
) -> None:
    del report, common["group_id"]  # a mask is one element, whatever its parts
    height, width = item.mask.shape
    runs = row_runs(item.mask, left=0, top=0, width=width, height=height)
    own = {"rle": ", ".join(map(str, runs)), "left": str(item.left)}
    own |= {"top": str(item.top), "width": str(width), "height": str(height)}
    with xml.element("mask", common | own):
        pass


def _write_polygons(
    xml: Xml,
    item: MaskObject,
    common: dict[str, str],
    report: Report,
    *,
    options: Options,
) -> None:
    parts = outlines(item, options, report)
    report.warn("split_objects", int(len(parts) > 1))
    if len(parts) == 1:
        del common["group_id"]
    for part in parts:
        points = ";".join(f"{x:.2f},{y:.2f}" for x, y in part.points.tolist())
        with xml.element("polygon", common | {"points": points}):
            pass
