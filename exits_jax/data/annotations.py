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
from exits_jax.data.geometry import SIDES
from exits_jax.data.images import ImageError, check_image
from exits_jax.data.records import (
    FLAG_CODES,
    MAX_NUMBER,
    AnnotationError,
    Instance,
    Problem,
    StoredImage,
    TooManySkipped,
    fault,
    is_id,
    read_instance,
)
from exits_jax.data.table import Instances, InstanceTable
from exits_jax.files.paths import is_inside, leads_out

__all__ = [
    "FLAG_CODES",
    "ON_BAD",
    "SIDES",
    "AnnotationError",
    "CocoFile",
    "Dataset",
    "Instance",
    "Instances",
    "Problem",
    "TooManySkipped",
    "enforce",
    "fault",
    "is_id",
    "read_instances",
    "safe_path",
]

ON_BAD = ("error", "skip")
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
      annotations: the JSON file; LVIS files without `file_name` are fine.
      images: the folder that `file_name` is relative to.
      on_bad: "error" raises all faulty records together, "skip" lists them in
        `Dataset.skipped`.
      max_skip_fraction: the largest part of the records that may be skipped, 0 to 1.
      points_of: takes extreme points from the mask of a record without; a record whose
        mask is faulty keeps its box, with a remark, or is skipped without one.
      follow_links: allow links inside the image folder that lead out of it.

    Returns:
      The usable instances in file order.

    Raises:
      ValueError: `on_bad` or `max_skip_fraction` is not one of the choices.
      FileNotFoundError: the file or the folder does not exist.
      AnnotationError: the file is not an instances file, records are faulty and
        `on_bad` is "error".
      TooManySkipped: more records would be skipped than allowed.
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
    reader = _Reader(source, str(images), points_of, follow_links)
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
        folder: str,
        points_of: PointsOf | None,
        follow_links: bool,
    ):
        self.table = InstanceTable()
        self.skipped: list[Problem] = []
        self.remarks: list[Problem] = []
        self._source, self._folder = source, folder
        self._points_of, self._follow_links = points_of, follow_links
        self._categories = {category["id"] for category in source.categories}
        self._found: dict[int, StoredImage | AnnotationError] = {}
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
                "among the images.",
            )
        return rows[image_id]

    def _image_at(self, row: int, annotation_id: int | str) -> StoredImage:
        if row not in self._found:
            self._found[row] = _find_image(
                self._source.images[row], self._folder, self._follow_links
            )
        image = self._found[row]
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
      skipped: their problems.
      total: number of records.
      name: what to call the file.
      on_bad: "error" allows none.
      max_fraction: the largest part of the records that "skip" allows.

    Raises:
      AnnotationError: `on_bad` is "error" and there is a problem.
      TooManySkipped: there are more than `max_fraction` of the records.
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


def _find_image(
    record: dict[str, Any], folder: str, follow_links: bool
) -> StoredImage | AnnotationError:
    """Finds and sizes an image once for all its annotations; faults are returned."""
    try:
        path = _image_path(record, folder, follow_links)
        height, width, flags = record.get("height"), record.get("width"), ()
        if height is None or width is None:
            height, width = check_image(path, full=False)
            flags = ("size_from_file",)
    except AnnotationError as error:
        return error
    except (ImageError, OSError) as error:
        return fault(
            getattr(error, "code", "E113"),
            f"image {record['id']!r:.80} gives no size: {error}",
        )
    for name, value in (("height", height), ("width", width)):
        if type(value) is not int or not 0 < value < MAX_NUMBER:
            return fault(
                "E104",
                f"image {record['id']!r:.80} has the {name} {value!r:.40}; "
                "expected a positive whole number of pixels.",
            )
    return StoredImage(path, (height, width), flags)


def _image_path(record: dict[str, Any], folder: str, follow_links: bool) -> str:
    name, url = record.get("file_name"), record.get("coco_url")
    names = [name]
    if name is None and isinstance(url, str):  # LVIS; nothing is ever downloaded
        tail = url.split("/")[-2:]
        names = [tail[-1], "/".join(tail)]  # beside each other, or .../train2017/x.jpg
    for candidate in names:
        try:
            return safe_path(candidate, folder, follow_links=follow_links)
        except FileNotFoundError:
            continue
        except AnnotationError as error:
            _, code, message, _ = error.problems[0]
            raise fault(code, f"image {record['id']!r:.80} has {message}") from None
    raise fault(
        "E111",
        f"image {record['id']!r:.80}: its file {names[0]!a:.200} is missing in "
        f"{folder}.",
    )


def safe_path(name: Any, folder: str, *, follow_links: bool = False) -> str:
    """The file with a name that came from outside, if it lies in a folder.

    Args:
      name: a relative path; anything else is refused before a file is touched.
      folder: where it must lie.
      follow_links: allow a link in the folder that leads out of it.

    Returns:
      The path of the file; it exists.

    Raises:
      AnnotationError: the name is no relative path, or leads out of the folder (E112).
      FileNotFoundError: there is no such file.
    """
    if not isinstance(name, str) or not is_inside(name):
        raise fault(
            "E112",
            f"the unsafe file name {name!a:.200}; expected a path below the image "
            "folder.",
        )
    path = os.path.join(folder, name)
    if not os.path.isfile(path):
        raise FileNotFoundError(path)
    if not follow_links and leads_out(path, folder):
        raise fault(
            "E112",
            f"the file name {name!a:.200}, a link that leads out of {folder}; set "
            "data.follow_links=True if the links there are your own.",
        )
    return path
