"""A file of pseudo masks as exporters read it: image by image, record by record."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from exits_jax.data.coco_file import CocoFile
from exits_jax.data.image_finder import name_in
from exits_jax.data.image_names import source_name
from exits_jax.data.images import ImageError, check_image
from exits_jax.data.masks import decode_mask
from exits_jax.data.records import AnnotationError, fault, is_id
from exits_jax.exporters.folders import NameFault, safe_name
from exits_jax.exporters.masks import ImageMasks, MaskObject
from exits_jax.exporters.report import BELOW_SCORE, Report

_MAX_PIXELS = 2**28  # of an image that is drawn; what `decode_mask` allows


class MaskFile:
    """The `MaskSource` of a COCO instances file with masks.

    Only the text of the file and a few numbers per record stay in memory.
    """

    def __init__(
        self,
        source: CocoFile,
        report: Report,
        *,
        path: Path,
        images: Path | None = None,
        min_score: float | int = 0.0,
    ):
        """Looks at every record once, and notes those that cannot be exported.

        Args:
            source: The file.
            report: Gets what is left out.
            path: Where the file lies.
            images: The image folder, if it is known: sizes that the file does not
                give are read there.
            min_score: Records with a lower score are left out; those without a score
                stay.
        """
        self._source = source
        self._report = report
        self._path = path
        self._images = images
        self._min_score = min_score
        self._incomplete: set[int] = set()
        self._category_of, self._categories = _classes(source.categories)
        self._image_of = source.image_rows
        self._kept, self._image_row = self._select()

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def categories(self) -> Sequence[str]:
        """Names of the classes, each different; their order is that of the indices."""
        return self._categories

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the masks come from, `info.exits_jax` of the file."""
        info = self._source.rest.get("info")
        known = info.get("exits_jax") if isinstance(info, dict) else None
        return known if isinstance(known, dict) else {}

    def fields(self) -> dict[str, Any]:
        """The file's own fields, without `images` and `annotations`."""
        return {**self._source.rest, "categories": self._source.categories}

    def image_records(self) -> Sequence[dict[str, Any]]:
        """The entries of `images`, as they are."""
        return self._source.images

    def records(self) -> Iterator[dict[str, Any]]:
        """The annotations that are exported, with all their fields, in file order."""
        for position in self._kept.tolist():
            yield self._source.annotations[position]

    def mask_of(self, record: dict[str, Any]) -> MaskObject | None:
        """The mask of a record; None, and a word in the report, if it has none."""
        row = self._image_of[record["image_id"]]
        try:
            return self._decode(record, *self._size(self._source.images[row], record))
        except AnnotationError as error:
            self._refuse(record, row, error)
            return None

    def images(self) -> Iterator[ImageMasks]:
        """Every image of the file, with or without objects."""
        by_image = np.argsort(self._image_row, kind="stable")
        rows = np.arange(len(self._source.images) + 1)
        ends = np.searchsorted(self._image_row[by_image], rows)
        for row, image in enumerate(self._source.images):
            positions = self._kept[by_image[ends[row] : ends[row + 1]]]
            records = [self._source.annotations[k] for k in positions.tolist()]
            found = self._image(row, image, records)
            if found is not None:
                yield found

    def _select(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the usable records, and the rows of their images."""
        kept, rows = [], []
        seen: set[int | str] = set()
        for position, record in enumerate(self._source.annotations):
            found = self._fault(position, record, seen)
            if found is None:
                kept.append(position)
                rows.append(self._image_of[record["image_id"]])
                continue
            identity = record.get("id") if isinstance(record, dict) else None
            self._report.leave_out(identity if is_id(identity) else None, *found)
            if isinstance(record, dict) and is_id(image := record.get("image_id")):
                self._mark_incomplete(self._image_of.get(image))
        return np.array(kept, np.int64), np.array(rows, np.int64)

    def _fault(
        self, position: int, record: Any, seen: set[int | str]
    ) -> tuple[str, str] | None:
        """Why a record cannot be exported, before its mask is looked at."""
        if not isinstance(record, dict):
            return "E102", f"Entry {position} of `annotations` is not an object."
        identity, image = record.get("id"), record.get("image_id")
        category, score = record.get("category_id"), record.get("score")
        if not is_id(identity):
            return "E105", f"Entry {position} of `annotations` has no usable id."
        name = f"Annotation {identity!r:.80}"
        if identity in seen:
            return "E105", f"{name}: entry {position} repeats this id."
        seen.add(identity)
        if not is_id(image) or image not in self._image_of:
            return "E107", f"{name}: image_id {image!r:.40} is not among the images."
        if not is_id(category) or category not in self._category_of:
            return "E108", f"{name}: category_id {category!r:.40} is not known."
        if score is not None and not (
            type(score) in (int, float) and np.isfinite(score)
        ):
            return "E104", f"{name}: its score is {score!r:.40}, not a finite number."
        if (record.get("iscrowd") or 0) not in (0, 1):
            return "E104", f"{name}: iscrowd is {record['iscrowd']!r:.40}, not 0 or 1."
        if score is not None and score < self._min_score and not record.get("iscrowd"):
            limit = f"export.min_score {self._min_score:g}"
            return BELOW_SCORE, f"{name}: its score {score:.4g} is below {limit}."
        return None

    def _image(
        self, row: int, image: dict[str, Any], records: list[dict[str, Any]]
    ) -> ImageMasks | None:
        """An image with its masks; None if there is no use for it."""
        try:
            name = file_name(image, self._images)
            height, width = self._size(image, *records[:1])
        except AnnotationError as error:
            for record in records:
                self._refuse(record, row, error)
            self._report.warn("unusable_images")
            return None
        objects = []
        for record in records:
            try:
                objects.append(self._decode(record, height, width))
            except AnnotationError as error:
                self._refuse(record, row, error)
        return ImageMasks(image["id"], name, width, height, objects)

    def _decode(self, record: dict[str, Any], height: int, width: int) -> MaskObject:
        full = decode_mask(record.get("segmentation"), height, width)
        columns = np.flatnonzero(full.any(axis=0))
        left, right = int(columns[0]), int(columns[-1]) + 1
        rows = np.flatnonzero(full[:, left:right].any(axis=1))
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        score = record.get("score")
        return MaskObject(
            annotation_id=record["id"],
            category=self._category_of[record["category_id"]],
            mask=np.ascontiguousarray(full[top:bottom, left:right]),
            left=left,
            top=top,
            score=None if score is None else float(score),
            is_crowd=bool(record.get("iscrowd")),
        )

    def _size(self, image: dict[str, Any], *records: dict[str, Any]) -> tuple[int, int]:
        """Height and width of an image: as stated, of its masks, or of its file."""
        sizes: list[Any] = [[image.get("height"), image.get("width")]]
        masks = [record.get("segmentation") for record in records]
        sizes += [mask.get("size") for mask in masks if isinstance(mask, dict)]
        for size in sizes:
            if _is_size(size):
                return self._bounded(image, size[0], size[1])
        if self._images is None:
            raise fault("E104", f"image {image['id']!r:.80} has no size in pixels.")
        try:
            path = self._images / file_name(image, self._images)
            return self._bounded(image, *check_image(path, full=False))
        except (ImageError, OSError) as error:
            raise fault("E113", f"image {image['id']!r:.80}: {error}") from error

    def _bounded(
        self, image: dict[str, Any], height: int, width: int
    ) -> tuple[int, int]:
        if height * width > _MAX_PIXELS:
            raise fault(
                "E114",
                f"image {image['id']!r:.80} of {width}x{height} px is too large.",
            )
        return height, width

    def _refuse(self, record: dict[str, Any], row: int, error: AnnotationError) -> None:
        problem = error.problems[0]
        message = f"Annotation {record['id']!r:.80}: {problem.message}"
        self._report.leave_out(record["id"], problem.code, message)
        self._mark_incomplete(row)

    def _mark_incomplete(self, row: int | None) -> None:
        if row is not None and row not in self._incomplete:
            self._incomplete.add(row)
            self._report.warn("incomplete_images")


def file_name(image: dict[str, Any], folder: Path | None) -> str:
    """The name of an image below the image folder, known not to lead elsewhere.

    Args:
        image: An entry of `images`. Those of LVIS have only the address that the
            image came from; its tail is the name.
        folder: The image folder, where a longer tail is looked for.

    Raises:
        AnnotationError: If there is no name or it is unsafe (E112).
    """
    name = source_name(image)
    if image.get("file_name") is None and isinstance(name, str):
        name = name_in(name, folder)
    if not isinstance(name, str):
        raise fault("E112", f"image {image['id']!r:.80} has no file name.")
    try:
        safe_name(name)
    except NameFault as error:
        raise fault(error.code, f"image {image['id']!r:.80}: {error}") from error
    return name


def _is_size(size: Any) -> bool:
    """Whether a value is [height, width] of an image."""
    if not isinstance(size, list) or len(size) != 2:
        return False
    return all(type(side) is int and side > 0 for side in size)


def _classes(
    categories: list[dict[str, Any]],
) -> tuple[dict[int | str, int], list[str]]:
    """Index of each category by its id, and the names; numbers come in their order."""
    ids: list[int | str] = [category["id"] for category in categories]
    names = {c["id"]: _text(c.get("name", c["id"])) for c in categories}
    ids = list(dict.fromkeys(ids))
    if all(type(identity) is int for identity in ids):
        ids.sort(key=int)
    counts = Counter(names[identity] for identity in ids)
    unique = [
        names[key] if counts[names[key]] == 1 else f"{names[key]} ({_text(key)})"
        for key in ids
    ]
    return {identity: k for k, identity in enumerate(ids)}, unique


def _text(value: Any) -> str:
    """A text that can be written as UTF-8."""
    return str(value).encode("utf-8", "replace").decode()
