"""Writes pseudo masks as a COCO JSON that mmdet and pycocotools read.

The output is the input annotation file with masks in it: the same records, ids,
order and extra fields, so that stage 2 (Section 3.3) needs no other source. Records go
through one at a time, whatever their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from exits_jax.data import rle as run_lengths
from exits_jax.data.masks import decode_mask
from exits_jax.data.records import AnnotationError, Problem, is_id, is_length
from exits_jax.files.json_files import json_text, write_json, write_json_lists
from exits_jax.files.seals import Damaged, fault_of_file, read_json, seal_of


class PseudoInstance(NamedTuple):
    """The pseudo mask of one annotation and its label-free quality."""

    annotation_id: int | str
    rle: dict[str, Any]  # compressed, see data/rle.py
    score: float  # mean probability of the mask, in [0, 1]
    click_hit: tuple[int, ...] | None  # 1 per extreme point that the mask reaches
    box_iou: float  # the mask's own box against the annotated one
    num_parts: int
    flags: tuple[str, ...]


Outcome = PseudoInstance | Problem


@runtime_checkable
class Source(Protocol):
    """A COCO instances file whose records may be parsed when they are asked for.

    Walked through, a record that no parser takes is None, which has no id.
    """

    @property
    def annotations(self) -> Sequence[Any]:
        """The records, in order."""
        ...

    @property
    def images(self) -> Sequence[Any]:
        """The images, in order."""
        ...

    @property
    def image_rows(self) -> Mapping[int | str, int]:
        """The place of each image, by its id."""
        ...

    @property
    def categories(self) -> Sequence[Any]:
        """The categories."""
        ...

    @property
    def rest(self) -> dict[str, Any]:
        """Further fields of the top level."""
        ...


def write_coco(
    folder: str | Path,
    source: Source,
    outcomes: Iterable[tuple[int, Outcome]],
    info: dict[str, Any],
) -> None:
    """Writes `pseudo_masks.json`, `skipped.json` and `manifest.json`.

    Every annotation of the source is accounted for: it has a mask, is skipped with
    a reason, or is a crowd region that keeps its own mask.

    Args:
        folder: Where to write; created when missing.
        source: The annotation file.
        outcomes: What became of the annotations, by their place in the source and in
            that order; crowd regions that stay may be missing.
        info: Provenance, written to `info["exits_jax"]` and to the manifest.

    Raises:
        ValueError: If an annotation is not accounted for, an outcome does not belong
            to the annotation at its place, a mask is empty or a number is not finite.
    """
    folder = Path(folder)
    (folder / "manifest.json").unlink(missing_ok=True)  # it vouches for what follows
    old_info = source.rest.get("info")
    old_info = old_info if isinstance(old_info, dict) else {}
    fields = {**source.rest, "info": {**old_info, "exits_jax": info}}
    fields["categories"] = list(source.categories)
    records = _Records(source, outcomes)
    write_json_lists(
        folder / "pseudo_masks.json",
        fields,
        {"images": map(json_text, source.images), "annotations": records},
    )
    reasons = [dict(zip(("id", "code", "message"), skip)) for skip in records.skipped]
    write_json(folder / "skipped.json", reasons)
    counts = {
        "images": len(source.images),
        "annotations": len(source.annotations),
        "pseudo_masks": records.num_masks,
        "crowds_kept": records.num_crowds,
        "skipped": len(records.skipped),
    }
    names = ("pseudo_masks.json", "skipped.json")
    files = {name: seal_of(folder / name) for name in names}
    manifest = {"files": files, "counts": counts, "exits_jax": info}
    write_json(folder / "manifest.json", manifest)


def refuse_damaged(folder: Path) -> None:
    """Raises Damaged if `pseudo_masks.json` is not the file that `write_coco` wrote.

    Args:
        folder: Where it lies, with its manifest.
    """
    path, manifest = folder / "pseudo_masks.json", folder / "manifest.json"
    again = (
        "Bring back a copy, or make the masks again with --redo=generate. Masks that "
        "were changed on purpose are exported from a copy: --config.export.source=COPY."
    )
    try:
        files = read_json(manifest, dict).get("files")
        seal = files.get(path.name) if isinstance(files, dict) else None
    except FileNotFoundError:
        raise Damaged(
            f"{manifest} is missing, which vouches for {path}. {again}"
        ) from None
    except Damaged as error:
        raise Damaged(f"{error} {again}") from None
    fault = fault_of_file(path, seal)
    if fault is not None:
        raise Damaged(f"{path} {fault} (as {manifest} says). {again}")


class _Records:
    """The records of the source that stay, in their order, as JSON texts."""

    def __init__(self, source: Source, outcomes: Iterable[tuple[int, Outcome]]):
        self.skipped: list[Problem] = []
        self.num_masks = self.num_crowds = 0
        self._source = source
        self._outcomes = iter(outcomes)

    def __iter__(self) -> Iterator[str]:
        missing: list[Any] = []
        place, outcome = self._next()
        for position, record in enumerate(self._source.annotations):
            if place == position:
                _check_owner(record, position, outcome)
                if isinstance(outcome, PseudoInstance):
                    self.num_masks += 1
                    yield _text(_labeled(record, outcome), position)
                else:
                    self.skipped.append(outcome)
                place, outcome = self._next()
            elif _is_crowd(record) and self._has_mask(record):
                self.num_crowds += 1
                yield _text({**record, "exits": {"flags": ["crowd_kept"]}}, position)
            else:
                missing.append(_identity(record))
        if place is not None:
            raise ValueError(
                f"The outcome of annotation {outcome.annotation_id} has the place "
                f"{place}, but there are {len(self._source.annotations)} annotations, "
                "and each has one outcome, in their order."
            )
        if missing:
            first = ", ".join(str(identity) for identity in missing[:10])
            raise ValueError(
                f"{len(missing)} annotation(s) have neither a pseudo mask nor a reason "
                f"to be skipped, the first: {first}. Every annotation must be "
                "accounted for."
            )

    def _next(self) -> tuple[int | None, Any]:
        return next(self._outcomes, (None, None))

    def _has_mask(self, record: dict[str, Any]) -> bool:
        image_id: Any = record.get("image_id")
        row = self._source.image_rows.get(image_id) if is_id(image_id) else None
        image = {} if row is None else self._source.images[row]
        return _has_mask(record, (image.get("height"), image.get("width")))


def _check_owner(record: Any, position: int, outcome: Any) -> None:
    """Raises if an outcome is that of another annotation, or not sound."""
    if _identity(record) != outcome.annotation_id:
        raise ValueError(
            f"Entry {position} of the annotations has the id {_identity(record)}, but "
            f"what became of it names {outcome.annotation_id}. Was the annotation file "
            "changed after it was prepared?"
        )
    if isinstance(outcome, Problem):
        return
    name = f"Annotation {outcome.annotation_id}"
    if run_lengths.area(outcome.rle) == 0:
        raise ValueError(
            f"{name}: its pseudo mask is empty. Detectors drop such records "
            "without a word; skip it instead."
        )
    for field, value in (("score", outcome.score), ("box_iou", outcome.box_iou)):
        if not math.isfinite(value):
            raise ValueError(f"{name}: {field} is {value}; it must be finite.")


def _text(record: dict[str, Any], position: int) -> str:
    try:
        return json_text(record)
    except ValueError as error:
        raise ValueError(
            f"Annotation {record.get('id', position)}: one of its fields holds NaN or "
            "an infinity; numbers in JSON must be finite."
        ) from error


def _is_crowd(record: Any) -> bool:
    return isinstance(record, dict) and bool(record.get("iscrowd"))


def _identity(record: Any) -> int | str | None:
    """The id of a record; None, as in the list of skipped ones, if it has no usable."""
    identity = record.get("id") if isinstance(record, dict) else None
    return identity if is_id(identity) else None


def _labeled(record: dict[str, Any], row: PseudoInstance) -> dict[str, Any]:
    box = record.get("bbox")
    hits = None if row.click_hit is None else [int(hit) for hit in row.click_hit]
    labels = {
        "segmentation": row.rle,
        "area": run_lengths.area(row.rle),
        "bbox": box if _is_box(box) else run_lengths.bounding_box(row.rle),
        "iscrowd": record.get("iscrowd", 0),
        "score": float(row.score),
        "exits": {
            "score": float(row.score),
            "click_hit": hits,
            "box_iou": float(row.box_iou),
            "num_parts": int(row.num_parts),
            "flags": list(row.flags),
        },
    }
    return {**record, **labels}


def _is_box(box: Any) -> bool:
    """Whether a value is [x, y, width, height] with finite numbers and an area."""
    if not isinstance(box, list | tuple) or len(box) != 4:
        return False
    numbers = [v for v in box if isinstance(v, int | float) and math.isfinite(v)]
    return len(numbers) == 4 and numbers[2] > 0 and numbers[3] > 0


def _has_mask(record: dict[str, Any], size: tuple[Any, ...]) -> bool:
    """Whether a record carries a segmentation that decodes to some pixels."""
    segmentation: Any = record.get("segmentation")
    if None in size and isinstance(segmentation, dict):
        size = tuple(segmentation.get("size") or ())
    if len(size) != 2 or not all(map(is_length, size)):
        return False
    try:
        decode_mask(segmentation, *size)
    except AnnotationError:
        return False
    return True
