"""Items to the text of a COCO JSON, in batches; every object is checked here."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import IO, Any, NamedTuple

from exits_jax.data.geometry import POINT_SLACK_PX, Point
from exits_jax.data.records import (
    FLAG_CODES,
    AnnotationError,
    StoredImage,
    fault,
    read_instance,
)
from exits_jax.importers.clicks import clip_outline, place_box, place_clicks
from exits_jax.importers.image_table import ImageTable
from exits_jax.importers.items import ImageItem, Item, ObjectItem, Rejected
from exits_jax.importers.notes import Notes
from exits_jax.importers.plain import has_four, is_candidate, plain_objects

_BATCH = 1024  # objects that are looked at together
_WORD = re.compile(r"[a-z_]+", re.ASCII)  # the same in every encoder
_PLAIN = (  # of an object whose further fields are all True
    '{"id":%d,"image_id":%d,"category_id":%d,"bbox":[%s,%s,%s,%s],'
    '"extreme_points":[[%s,%s],[%s,%s],[%s,%s],[%s,%s]],"iscrowd":0%s}'
)
_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_CODES = {
    **FLAG_CODES,
    "clipped_outline": FLAG_CODES["clamped_points"],
    "differing_attributes": "W218",
}
_REMARKS = {
    "clamped_points": "A click up to 1 px outside the image was put on its border.",
    "clipped_outline": "The outline reached beyond the image and was clipped.",
    "clipped_box": "The box reached beyond the image and was clipped.",
    "differing_attributes": "Attributes that its points do not agree on are left out.",
    "points_disagree_with_box": "The box is not that of the clicks; the clicks count.",
    "text_as_id": "Its ids are text, the ids they stand for numbers; read as those.",
}
_OURS = (
    "id",
    "image_id",
    "category_id",
    "bbox",
    "iscrowd",
    "extreme_points",
    "segmentation",
    "area",
)


class _Located(NamedTuple):
    """The image of an object or item; what there is to say of how it was found."""

    number: int
    image: StoredImage | None
    error: AnnotationError | None
    remarks: tuple[tuple[str, str, str], ...]


_NOWHERE = _Located(0, None, None, ())


class RecordWriter:
    """Streams annotations into a file and counts.

    Attributes:
        images: Those that were found.
        marks: How many objects carry each further field that is True.
    """

    def __init__(
        self,
        file: IO[str],
        notes: Notes,
        images: ImageTable,
        categories: Sequence[str] | None,
    ):
        self._file, self._notes, self.images = file, notes, images
        self._is_open = categories is None
        self._categories = {name: n for n, name in enumerate(categories or (), 1)}
        self._records = self._objects = self._box_only = 0
        self.marks: Counter[str] = Counter()

    def counts(self) -> dict[str, int]:
        """How many records there were, and what became of them."""
        return {
            "records": self._records,
            "objects": self._objects,
            "box_only": self._box_only,
            "rejected": self._notes.num_rejected,
            "images": len(self.images),
        }

    def write_all(self, items: Iterable[Item]) -> None:
        """Writes the JSON.

        Args:
            items: In the order of the source.
        """
        self._file.write('{"annotations":[')
        found = iter(items)
        while batch := list(islice(found, _BATCH)):
            self._write_batch(batch)
        self._file.write('\n],"categories":[')
        _write_list(
            self._file, ({"id": n, "name": k} for k, n in self._categories.items())
        )
        self._file.write('\n],"images":[')
        _write_list(self._file, self.images.records())
        self._file.write("\n]}\n")
        counts = self.counts()
        if counts["records"] != counts["objects"] + counts["rejected"]:
            raise RuntimeError(f"Records were lost or made up on the way: {counts}.")

    def _write_batch(self, batch: list[Item]) -> None:
        places = self._locate_all(batch)
        texts: list[str] = []
        for item, place, numbers in zip(batch, places, self._plain(batch, places)):
            if isinstance(item, Rejected):
                self._records += 1
                self._notes.reject(item)
                continue
            for name, code, message in place.remarks:
                self._notes.remark(f"image {name!r:.200}", code, message)
            if isinstance(item, ObjectItem):
                self._records += 1
                if (text := self._text_of(item, place, numbers)) is not None:
                    texts.append(",\n" if self._objects else "\n")
                    texts.append(text)
                    self._objects += 1
            elif place.error is not None:
                problem = place.error.problems[0]
                name = f"image {item.file_name!a:.200}"
                self._notes.remark(name, problem.code, problem.message)
        self._file.write("".join(texts))

    def _locate_all(self, batch: list[Item]) -> list[_Located]:
        """Where the images of items are; the same for neighbours on one image."""
        places: list[_Located] = []
        last, at = None, _NOWHERE
        for item in batch:
            if type(item) is Rejected:
                places.append(_NOWHERE)
                continue
            image = item.image if type(item) is ObjectItem else item
            if image is not last:
                assert isinstance(image, ImageItem)
                last, at = image, self._locate(image)
                places.append(at)
                at = at._replace(remarks=())  # said once
            else:
                places.append(at)
        return places

    def _locate(self, image: ImageItem) -> _Located:
        error = found = None
        try:
            found = self.images.find(image)
        except AnnotationError as caught:
            error = caught.with_traceback(None)
        remarks = tuple(self.images.remarks)
        self.images.remarks.clear()
        number, stored = found or (0, None)
        return _Located(number, stored, error, remarks)

    def _plain(self, batch: list[Item], places: list[_Located]) -> list[str | None]:
        """Numbers of the objects that need no further check, in their places."""
        ready: list[str | None] = [None] * len(batch)
        chosen = [
            (k, item, place.image.size)
            for k, (item, place) in enumerate(zip(batch, places))
            if type(item) is ObjectItem
            and place.image is not None
            and is_candidate(item)
            and has_four(item)
            and _has_plain_words(item)
        ]
        if chosen:
            where, items, sizes = zip(*chosen)
            found = plain_objects(items, sizes)
            for k, is_plain, numbers in zip(where, *found):
                if is_plain:
                    ready[k] = numbers
        return ready

    def _text_of(
        self, item: ObjectItem, place: _Located, numbers: str | None
    ) -> str | None:
        """The text of an object that can be used; None: it was rejected."""
        flags = item.flags
        try:
            if place.image is None:
                raise place.error or RuntimeError(f"{item.record} has no image.")
            category_id = self._category_id(item)
            if numbers is not None:
                marks = "".join(f',"{name}":true' for name in item.extra)
                ids = self._objects + 1, place.number, category_id
                text = _PLAIN % (*ids, *numbers.split(","), marks)
            else:
                record, found = self._check(item, place, category_id)
                record["id"] = self._objects + 1
                flags += found
                text = _encode(record)
        except AnnotationError as error:
            problem = error.problems[0]
            self._notes.reject(Rejected(item.record, problem.code, problem.message))
            return None
        except ValueError:
            message = "A further field holds NaN or an infinity, which JSON has not."
            self._notes.reject(Rejected(item.record, "E104", message))
            return None
        self._box_only += item.clicks is None
        self._categories.setdefault(item.category, category_id)
        for name, value in item.extra.items():
            if value is True:
                self.marks[name] += 1
        for flag in flags:
            if flag in _REMARKS:
                self._notes.remark(item.record, _CODES[flag], _REMARKS[flag])
        return text

    def _category_id(self, item: ObjectItem) -> int:
        known = self._categories.get(item.category)
        if known is not None:
            return known
        if not item.category:
            raise fault("E108", "Its category has no name.")
        if not self._is_open:
            raise fault(
                "E108",
                f"The category {item.category!r:.60} is not among the "
                f"{len(self._categories)} given ones.",
            )
        return len(self._categories) + 1

    def _check(
        self, item: ObjectItem, place: _Located, category_id: int
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The record of an object, if it can be used; its id is still missing."""
        image = place.image
        assert image is not None
        record: dict[str, Any] = {
            "id": item.record,  # for the messages of the check
            "image_id": place.number,
            "category_id": category_id,
        }
        flags: tuple[str, ...] = ()
        if item.box is not None:
            record["bbox"] = _xywh(place_box(item.box, item.unit, image.size))
        if item.clicks is not None:
            points = place_clicks(item.clicks, item.unit, image.size)
            if item.extra.get("points_source") == "polygon":
                points, drawn = clip_outline(points, image.size), points
                flags = ("clipped_outline",) if _is_apart(points, drawn) else ()
            record["extreme_points"] = [[x, y] for x, y in points]
        instance = read_instance(record, image, {category_id})
        if item.box is None:  # a plain COCO reader wants one; it comes from the clicks
            record["bbox"] = _xywh(instance.box)
        record["iscrowd"] = 0
        for name, value in item.extra.items():
            record[f"source_{name}" if name in _OURS else name] = value
        return record, (*instance.flags, *flags)


def _is_apart(points: Sequence[Point], others: Sequence[Point]) -> bool:
    """Whether points were moved by more than the rounding of tools."""
    pairs = zip((v for p in points for v in p), (v for p in others for v in p))
    return any(abs(a - b) > POINT_SLACK_PX for a, b in pairs)


def _xywh(box: tuple[float, float, float, float]) -> list[float]:
    x0, y0, x1, y1 = box
    return [x0, y0, round(x1 - x0, 3), round(y1 - y0, 3)]


def _write_list(file: IO[str], records: Iterable[dict[str, Any]]) -> None:
    for position, record in enumerate(records):
        file.write(",\n" if position else "\n")
        file.write(_encode(record))


def _has_plain_words(item: ObjectItem) -> bool:
    """Whether all that an object has beside numbers is the same in every encoder."""
    if not item.extra:
        return not item.flags
    return not item.flags and all(
        value is True and name not in _OURS and _WORD.fullmatch(name)
        for name, value in item.extra.items()
    )
