"""Items of any reader to our COCO JSON and a report, both written as they come.

Memory holds the images and the categories, never the annotations: those go to a
temporary file at once. The JSON and the report appear when everything is done. The
report vouches for the JSON (it has its checksum), so an older one is removed before
the JSON is put in its place, and the new one comes last: a JSON without a report is
what a crash between the two leaves behind. An import without any object has a report
and no JSON; one of an earlier import stays as it is.
"""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from exits_jax.data.image_folder import FolderAdvice, advise_on_folder
from exits_jax.data.records import FLAG_CODES, AnnotationError, fault, read_instance
from exits_jax.files.leftovers import remove_leftovers
from exits_jax.importers.clicks import place_box, place_clicks
from exits_jax.importers.image_table import ImageTable
from exits_jax.importers.items import ImageItem, Item, ObjectItem, Rejected
from exits_jax.importers.notes import Notes

_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_REMARKS = {
    "clamped_points": "A click up to 1 px outside the image was put on its border.",
    "clipped_box": "The box reached beyond the image and was clipped.",
    "points_disagree_with_box": "The box is not that of the clicks; the clicks count.",
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


class Summary(NamedTuple):
    """What became of an import."""

    output: Path  # written if there are objects
    report: Path
    counts: dict[str, int]  # records, objects, box_only, rejected, images
    rejected: dict[str, tuple[int, str]]  # how many per code, and the first message
    remarks: dict[str, tuple[int, str]]  # likewise, of objects that were kept
    marks: dict[str, int]  # how many objects carry each further field that is True
    folder: FolderAdvice  # how many of the images are where they should be


def report_path(output: str | Path) -> Path:
    """Where the report of an import lies."""
    output = Path(output)
    return output.with_name(f"{output.stem}_report.json")


def write_items(
    items: Iterable[Item],
    output: str | Path,
    images: str | Path,
    *,
    categories: Sequence[str] | None = None,
    follow_links: bool = False,
) -> Summary:
    """Writes a COCO instances JSON and its report.

    Every object that is written passes the checks of `read_instance`; every other one
    is in the report with its code. Without any object the report is all there is.

    Args:
        items: What a reader yields.
        output: The JSON; the report lies beside it, see `report_path`.
        images: The folder that file names are relative to.
        categories: All category names, ids from 1 in this order; None: names get ids in
            the order in which they first appear.
        follow_links: Allow links inside the image folder that lead out of it.

    Returns:
        Counts and examples; records == objects + rejected.

    Raises:
        ValueError: A category is named twice.
        FileNotFoundError: There is no such folder of images.
        AnnotationError: The reader cannot go on. Nothing is left behind then, or with
            any other exception, and files of an earlier import stay as they are.
    """
    output, report = Path(output), report_path(output)
    if not os.path.isdir(images):
        raise FileNotFoundError(advise_on_folder([], images).text)
    if categories is not None and len(set(categories)) < len(categories):
        raise ValueError("A category is named twice; names must be unique.")
    output.parent.mkdir(parents=True, exist_ok=True)
    for name in (output.name, report.name):
        remove_leftovers(output.parent, rf"\.{re.escape(name)}\.(\d+)")
    draft = output.with_name(f".{output.name}.{os.getpid()}")
    report_draft = report.with_name(f".{report.name}.{os.getpid()}")
    try:
        with Notes(output.parent) as notes, draft.open("w", encoding="ascii") as file:
            table = ImageTable(images, follow_links=follow_links)
            writer = _Writer(file, notes, table, categories)
            writer.write_all(items)
            _flush(file)
            with draft.open("rb") as written:
                checksum = hashlib.file_digest(written, "sha256").hexdigest()
            counts = writer.counts()
            about = {
                "name": output.name,
                "bytes": draft.stat().st_size,
                "sha256": checksum,
            }
            head = {
                "file": about if counts["objects"] else None,
                "counts": counts,
                "marks": writer.marks,
            }
            with report_draft.open("w", encoding="ascii") as report_file:
                notes.write_report(report_file, head)
                _flush(report_file)
            summary = Summary(
                output,
                report,
                counts,
                notes.rejected,
                notes.remarks,
                dict(writer.marks),
                table.advice(),
            )
        report.unlink(missing_ok=True)
        if counts["objects"]:
            os.replace(draft, output)
        os.replace(report_draft, report)
    finally:
        draft.unlink(missing_ok=True)
        report_draft.unlink(missing_ok=True)
    return summary


class _Writer:
    """Streams annotations into a file and counts."""

    def __init__(
        self,
        file: IO[str],
        notes: Notes,
        images: ImageTable,
        categories: Sequence[str] | None,
    ):
        self._file, self._notes, self._images = file, notes, images
        self._is_open = categories is None
        self._categories = {name: n for n, name in enumerate(categories or (), 1)}
        self._records = self._objects = self._box_only = 0
        self.marks: Counter[str] = Counter()

    def counts(self) -> dict[str, int]:
        return {
            "records": self._records,
            "objects": self._objects,
            "box_only": self._box_only,
            "rejected": self._notes.num_rejected,
            "images": len(self._images),
        }

    def write_all(self, items: Iterable[Item]) -> None:
        self._file.write('{"annotations":[')
        for item in items:
            if isinstance(item, ObjectItem):
                self._write_object(item)
            elif isinstance(item, Rejected):
                self._records += 1
                self._notes.reject(item)
            else:
                self._note_image(item)
        self._file.write('\n],"categories":[')
        _write_list(
            self._file, ({"id": n, "name": k} for k, n in self._categories.items())
        )
        self._file.write('\n],"images":[')
        _write_list(self._file, self._images.records())
        self._file.write("\n]}\n")
        counts = self.counts()
        if counts["records"] != counts["objects"] + counts["rejected"]:
            raise RuntimeError(f"Records were lost or made up on the way: {counts}.")

    def _note_image(self, item: ImageItem) -> None:
        try:
            self._images.find(item)
            self._note_names()
        except AnnotationError as error:
            problem = error.problems[0]
            name = f"image {item.file_name!a:.200}"
            self._notes.remark(name, problem.code, problem.message)

    def _write_object(self, item: ObjectItem) -> None:
        self._records += 1
        try:
            record, flags = self._check(item)
        except AnnotationError as error:
            problem = error.problems[0]
            self._notes.reject(Rejected(item.record, problem.code, problem.message))
            return
        record["id"] = self._objects + 1
        try:
            text = _encode(record)
        except ValueError:
            message = "A further field holds NaN or an infinity, which JSON has not."
            self._notes.reject(Rejected(item.record, "E104", message))
            return
        self._file.write(",\n" if self._objects else "\n")
        self._file.write(text)
        self._objects += 1
        self._box_only += item.clicks is None
        self._categories.setdefault(item.category, record["category_id"])
        for name, value in item.extra.items():
            if value is True:
                self.marks[name] += 1
        self._note_flags(item, flags)

    def _note_flags(self, item: ObjectItem, flags: tuple[str, ...]) -> None:
        for flag in flags:
            if flag in _REMARKS:
                self._notes.remark(item.record, FLAG_CODES[flag], _REMARKS[flag])

    def _note_names(self) -> None:
        for name, message in self._images.remarks:
            self._notes.remark(f"image {name!r:.200}", "W217", message)
        self._images.remarks.clear()

    def _check(self, item: ObjectItem) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The record of an object, if it can be used; its id is still missing."""
        image_id, image = self._images.find(item.image)
        self._note_names()
        category_id = self._categories.get(item.category)
        if category_id is None:
            if not item.category:
                raise fault("E108", "Its category has no name.")
            if not self._is_open:
                raise fault(
                    "E108",
                    f"The category {item.category!r:.60} is not among the "
                    f"{len(self._categories)} given ones.",
                )
            category_id = len(self._categories) + 1
        record: dict[str, Any] = {
            "id": item.record,  # for the messages of the check
            "image_id": image_id,
            "category_id": category_id,
        }
        if item.box is not None:
            record["bbox"] = _xywh(place_box(item.box, item.unit, image.size))
        if item.clicks is not None:
            points = place_clicks(item.clicks, item.unit, image.size)
            record["extreme_points"] = [[x, y] for x, y in points]
        instance = read_instance(record, image, {category_id})
        if item.box is None:  # a plain COCO reader wants one; it comes from the clicks
            record["bbox"] = _xywh(instance.box)
        record["iscrowd"] = 0
        for name, value in item.extra.items():
            record[f"source_{name}" if name in _OURS else name] = value
        return record, instance.flags


def _xywh(box: tuple[float, float, float, float]) -> list[float]:
    x0, y0, x1, y1 = box
    return [x0, y0, round(x1 - x0, 3), round(y1 - y0, 3)]


def _write_list(file: IO[str], records: Iterable[dict[str, Any]]) -> None:
    for position, record in enumerate(records):
        file.write(",\n" if position else "\n")
        file.write(_encode(record))


def _flush(file: IO[str]) -> None:
    """To the disk before the name: a crash never leaves a whole name on half a file."""
    file.flush()
    os.fsync(file.fileno())
