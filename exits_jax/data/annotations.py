"""The reader of COCO instance files: every record is checked here, and only here.

Faults of the file itself always raise; faults of single records are collected and
raised together or listed, as the caller chooses.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from exits_jax.data.coco_file import CocoFile, refuse_nan
from exits_jax.data.image_finder import Found, ImageFinder
from exits_jax.data.image_names import (
    AS_WRITTEN,
    contested,
    last_part,
    normal_form,
    one_of_two,
    source_name,
)
from exits_jax.data.images import ImageError, check_image
from exits_jax.data.records import (
    AnnotationError,
    Problem,
    StoredImage,
    TooManySkipped,
    fault,
    is_id,
    is_length,
    kind_of_ids,
    read_instance,
)
from exits_jax.data.table import Instances, InstanceTable

ON_BAD = ("skip", "error")
_MAX_LISTED = 20

# From a record with a mask and the record of its image to float [4, 2] points; None
# where the record needs none; an AnnotationError where its mask is faulty.
PointsOf = Callable[[dict[str, Any], dict[str, Any]], np.ndarray | None]


class Dataset(NamedTuple):
    """What an instances file holds, and which of its records were left out."""

    source: CocoFile
    instances: Instances
    skipped: list[Problem]
    remarks: list[Problem]  # on records that are used all the same


def read_instances(
    annotations: str | Path | CocoFile,
    images: str | Path,
    *,
    on_bad: str = "skip",
    max_skip_fraction: float | int = 0.5,
    points_of: PointsOf | None = None,
    follow_links: bool = False,
) -> Dataset:
    """Reads a COCO instances file and checks every record.

    A record has `extreme_points`, four (x, y) in the order top, left, bottom, right, or
    only a `bbox` (flag "box_only"). Ids are kept as they are. Where points and box
    disagree, the points win. A file without annotations gives an empty dataset.

    Args:
        annotations: The JSON file; LVIS files without `file_name` are fine.
        images: The folder that `file_name` is relative to.
        on_bad: "error" raises all faulty records together, "skip" lists them in
            `Dataset.skipped`.
        max_skip_fraction: The largest part of the records that may be skipped, 0 to 1.
        points_of: Takes extreme points from the mask of a record without; a record
            whose mask is faulty keeps its box, with a remark, or is skipped without
            one.
        follow_links: Allow links inside the image folder that lead out of it.

    Returns:
        The usable instances in file order.

    Raises:
        ValueError: `on_bad` or `max_skip_fraction` is not one of the choices.
        FileNotFoundError: The file or the folder does not exist.
        AnnotationError: The file is not an instances file, records are faulty and
            `on_bad` is "error".
        TooManySkipped: More records would be skipped than allowed.
    """
    if on_bad not in ON_BAD:
        raise ValueError(f"on_bad is {on_bad!r}; choose one of {', '.join(ON_BAD)}.")
    if not 0 <= max_skip_fraction <= 1:
        raise ValueError(f"max_skip_fraction is {max_skip_fraction}; expected 0 to 1.")
    if not os.path.isdir(images):
        raise FileNotFoundError(f"Image folder {images} does not exist.")
    source = annotations
    if not isinstance(source, CocoFile):
        source = CocoFile.read(source)
    finder = ImageFinder(images, follow_links=follow_links)
    reader = _Reader(source, finder, points_of)
    for position in range(len(source.annotations)):
        reader.read(position)
    total = len(source.annotations)
    enforce(reader.skipped, total, source.name, on_bad, max_skip_fraction)
    return Dataset(source, reader.table.finish(), reader.skipped, reader.remarks)


class _Reader:
    """What is known of a file while its records are read one by one."""

    def __init__(
        self,
        source: CocoFile,
        finder: ImageFinder,
        points_of: PointsOf | None,
    ):
        self.table = InstanceTable()
        self.skipped: list[Problem] = []
        self.remarks: list[Problem] = []
        self._source, self._points_of = source, points_of
        self._images = _Images(source, finder)
        self._categories = {category["id"] for category in source.categories}
        self._seen: set[int | str] = set()

    def read(self, position: int) -> None:
        """Adds the record to the table, or to the skipped ones with its reason."""
        annotation_id = None
        try:
            record = self._source.annotations[position]
            annotation_id = _annotation_id(record, position)
            if annotation_id in self._seen:
                raise fault(
                    "E105",
                    f"Annotation {annotation_id!r:.80}: entry {position} repeats this "
                    "id; the first record with it is kept. Ids must be unique.",
                )
            self._seen.add(annotation_id)
            row = self._row_of(record, annotation_id)
            image = self._image_at(row, annotation_id)
            if position in self._source.annotations.mended:
                image = image._replace(flags=(*image.flags, "text_as_id"))
            record, remark = self._with_points(record, row, image, position)
            instance = read_instance(record, image, self._categories)
            if not self._source.annotations.is_strict:
                refuse_nan(
                    record, f"Annotation {annotation_id!r:.80}: one of its fields"
                )
            self.table.add(instance, position, row)
            self.remarks += remark
        except AnnotationError as error:
            problem = error.problems[0]
            self.skipped.append(
                problem._replace(annotation_id=annotation_id, position=position)
            )

    def _with_points(
        self, record: dict[str, Any], row: int, image: StoredImage, position: int
    ) -> tuple[dict[str, Any], list[Problem]]:
        """The record with the points of its mask, if it has no others; a remark."""
        if (
            self._points_of is None
            or record.get("extreme_points")
            or not record.get("segmentation")
            or record.get("iscrowd") == 1
        ):
            return record, []
        annotation_id = record["id"]
        height, width = image.size
        image_id = self._source.image_ids[row]
        sized = {"id": image_id, "height": height, "width": width}
        try:
            points = self._points_of(record, sized)
        except AnnotationError as error:
            _, code, message, _ = error.problems[0]
            message = f"Annotation {annotation_id!r:.40}: {message.rstrip('.')}."
            if record.get("bbox") is None:
                raise fault(code, f"{message} It is left out.") from error
            message = f"{message} It keeps only its box."
            return record, [Problem(annotation_id, code, message, position)]
        if points is None:
            return record, []
        return {**record, "extreme_points": points.tolist()}, []

    def _row_of(self, record: dict[str, Any], annotation_id: int | str) -> int:
        image_id = record.get("image_id")
        rows = self._source.image_rows
        if not is_id(image_id) or image_id not in rows:
            raise fault(
                "E107",
                f"Annotation {annotation_id!r:.80}: image_id {image_id!r:.40} is not "
                f"among the images{kind_of_ids(image_id, rows)}.",
            )
        return rows[image_id]

    def _image_at(self, row: int, annotation_id: int | str) -> StoredImage:
        image = self._images.at(row)
        if isinstance(image, AnnotationError):
            _, code, message, _ = image.problems[0]
            raise fault(code, f"Annotation {annotation_id!r:.80}: {message}")
        return image


def enforce(
    skipped: list[Problem],
    total: int,
    name: str,
    on_bad: str,
    max_fraction: float | int,
) -> None:
    """Raises if the records that have to be skipped are more than the caller allows.

    Args:
        skipped: Their problems.
        total: Number of records.
        name: What to call the file.
        on_bad: "error" allows none.
        max_fraction: The largest part of the records that "skip" allows.

    Raises:
        AnnotationError: `on_bad` is "error" and there is a problem.
        TooManySkipped: There are more than `max_fraction` of the records.
    """
    if not skipped or (on_bad == "skip" and len(skipped) <= max_fraction * total):
        return
    lines = [f"{name}: {len(skipped)} of {total} records cannot be used"]
    if on_bad == "skip":
        lines[0] += f", more than max_skip_fraction = {max_fraction:g} allows"
    lines[0] += ":"
    lines += [f"  {code}: {message}" for _, code, message, _ in skipped[:_MAX_LISTED]]
    if len(skipped) > _MAX_LISTED:
        lines.append(f"  and {len(skipped) - _MAX_LISTED} more")
    kind = AnnotationError if on_bad == "error" else TooManySkipped
    raise kind("\n".join(lines), skipped)


def _annotation_id(record: Any, position: int) -> int | str:
    if not isinstance(record, dict):
        raise fault("E102", f"Entry {position} of `annotations` is not an object.")
    annotation_id = record.get("id")
    if not is_id(annotation_id):
        raise fault(
            "E105",
            f"Entry {position} of `annotations` has the id {annotation_id!r:.40}; "
            "expected a number or a string.",
        )
    return annotation_id


class _Images:
    """The images of a file, each found and sized once for all its annotations."""

    def __init__(self, source: CocoFile, finder: ImageFinder):
        self._source, self._finder = source, finder
        self._known: dict[int, StoredImage | AnnotationError] = {}
        self._found: dict[int, Found | AnnotationError | FileNotFoundError] = {}
        self._leading: dict[str, dict[str, None]] | None = None

    def at(self, row: int) -> StoredImage | AnnotationError:
        """The image of a row; its fault is returned."""
        if row not in self._known:
            self._known[row] = self._find(row, self._source.images[row])
        return self._known[row]

    def _find(self, row: int, record: dict[str, Any]) -> StoredImage | AnnotationError:
        name = f"image {record['id']!r:.80}"
        try:
            path, flags = self._path(row, record, name)
            height, width = record.get("height"), record.get("width")
            if height is None or width is None:
                height, width = check_image(path, full=False)
                flags += ("size_from_file",)
        except AnnotationError as error:
            return error
        except (ImageError, OSError) as error:
            code = getattr(error, "code", "E113")
            return fault(code, f"{name} gives no size: {error}")
        for side, value in (("height", height), ("width", width)):
            if not is_length(value):
                return fault(
                    "E104",
                    f"{name} has the {side} {value!r:.40}; expected a positive whole "
                    "number of pixels.",
                )
        return StoredImage(path, (int(height), int(width)), flags)

    def _path(
        self, row: int, record: dict[str, Any], name: str
    ) -> tuple[str, tuple[str, ...]]:
        source, is_url = source_name(record), record.get("file_name") is None
        found = self._lookup(row, record)
        if isinstance(found, AnnotationError):
            _, code, message, _ = found.problems[0]
            raise fault(code, f"{name} has {message}")
        if isinstance(found, FileNotFoundError):
            shown = last_part(source) if is_url else source
            raise fault(
                "E111",
                f"{name}: its file {shown!r:.200} is missing in {self._finder.folder}.",
            )
        path = self._finder.path(found)
        if found.how in AS_WRITTEN:
            return path, ()
        words = f"{source!r:.120} ({name})"
        own, names = normal_form(source), self._names_leading_to(found.name)
        if own != (written := normal_form(found.name)) and written in names:
            raise one_of_two(words, found.name, "another image of this file")
        if len(names) > 1:
            others = (repr(other) for other in names if other != own)
            raise contested(words, found.name, others)
        return path, () if is_url else ("under_other_name",)

    def _lookup(
        self, row: int, record: dict[str, Any]
    ) -> Found | AnnotationError | FileNotFoundError:
        """What a name leads to, looked for once; faults are returned."""
        if row not in self._found:
            is_url = record.get("file_name") is None
            try:
                found = self._finder.find(source_name(record), any_end=is_url)
            except (AnnotationError, FileNotFoundError) as error:
                found = error.with_traceback(None)  # which holds what it passed
            self._found[row] = found
        return self._found[row]

    def _names_leading_to(self, file: str) -> dict[str, None]:
        """The names of the source that lead to a file, in their normal form."""
        if self._leading is None:
            self._leading = {}
            for row, record in enumerate(self._source.images):
                found = self._lookup(row, record)
                if isinstance(found, Found):
                    names = self._leading.setdefault(found.name, {})
                    names[normal_form(source_name(record))] = None
        return self._leading.get(file, {})
