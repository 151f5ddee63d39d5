"""Files of masks against the true ones and against each other, with intervals.

python -m benchmarks.compare_masks --truth=val.json NAME=pseudo_masks.json NAME2=...
    [--separated_ids=FILE] [--only_ids=FILE] [--min_side_px=2] [--size_by=box]
    [--points=extremenet]

Figures are those of `exits-jax evaluate`, in percent. Behind each stands its 95 %
interval from 2000 draws of the images; differences to the first file are paired. An
object without a mask counts with IoU 0.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.common.bootstrap import (
    Resamples,
    click_shares,
    in_words,
    interval,
    ious,
)
from exits_jax.data.coco_file import ById, CocoFile
from exits_jax.data.extreme_points import MODES, points_of_record
from exits_jax.data.masks import decode_mask
from exits_jax.data.records import (
    AnnotationError,
    Instance,
    StoredImage,
    is_id,
    read_instance,
)
from exits_jax.evaluation.iou import (
    CLICKS_HIT,
    GROUPS,
    EvaluatedObject,
    belongs,
    described,
    mask_iou,
)
from exits_jax.evaluation.object_lists import read_object_ids

COLUMNS = (*GROUPS, "class mean", CLICKS_HIT)
_Means = dict[str, np.ndarray]  # by column, see `Resamples.object_means`


class TrueObject(NamedTuple):
    """An object to be found."""

    instance: Instance
    mask: np.ndarray
    groups: EvaluatedObject


def main(arguments: list[str] | None = None) -> None:
    """Compares and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--separated_ids", type=Path)
    parser.add_argument("--only_ids", type=Path)
    parser.add_argument("--min_side_px", type=float, default=2.0)
    parser.add_argument("--size_by", choices=("box", "mask"), default="box")
    parser.add_argument("--points", choices=MODES, default=MODES[0])
    options = parser.parse_args(arguments)
    files = dict(file.partition("=")[::2] for file in options.files)
    if len(files) < len(options.files) or not all(files.values()):
        parser.error("every file needs a name of its own, as in ours=pseudo_masks.json")
    truth = true_objects(
        CocoFile.read(options.truth),
        points=options.points,
        size_by=options.size_by,
        min_side_px=options.min_side_px,
        separated_ids=_ids(options.separated_ids),
        only_ids=_ids(options.only_ids),
    )
    if not truth:
        parser.error(f"{options.truth} has no object with a mask to compare with")
    found = {name: judge(truth, Path(path)) for name, path in files.items()}
    print(report(found, [item.instance.image_id for item in truth]))


def true_objects(
    source: CocoFile,
    *,
    points: str,
    size_by: str,
    min_side_px: float,
    separated_ids: set[int | str] | None,
    only_ids: set[int | str] | None,
) -> list[TrueObject]:
    """The objects that `evaluate` would judge, with the groups they belong to.

    Args:
        source: Annotations with masks; images are not needed.
        points: Rule for the clicks, hence the box, of a record that has none.
        size_by: Size by the area of the "box" or of the "mask".
        min_side_px: Boxes with a side of this or less are left out.
        separated_ids: Separated objects; None looks at the parts of the masks.
        only_ids: All others are left out; None keeps all.
    """
    categories = {category["id"] for category in source.categories}
    found, seen = [], set()
    for record in source.annotations:
        identity = record.get("id") if isinstance(record, dict) else None
        if not is_id(identity) or identity in seen:
            continue
        seen.add(identity)
        if only_ids is not None and identity not in only_ids:
            continue
        image_id = record.get("image_id")
        if not is_id(image_id) or image_id not in source.image_rows:
            continue
        try:
            item, mask = _instance(record, source, categories, points)
        except AnnotationError:
            continue  # neither does the reader use it
        x0, y0, x1, y1 = item.box
        if item.is_crowd or min(x1 - x0, y1 - y0) <= min_side_px:
            continue
        groups = described(
            item.annotation_id,
            item.category_id,
            mask,
            item.box,
            size_by=size_by,
            separated_ids=separated_ids,
        )
        found.append(TrueObject(item, mask, groups))
    return found


def judge(truth: Sequence[TrueObject], path: Path) -> list[EvaluatedObject]:
    """Every true object with the IoU of its mask in a file, and the clicks hit there.

    Clicks are those the mask was made from: the file tells which it reaches. Where it
    tells of none, they are not known.
    """
    records = CocoFile.read(path).annotations
    masks, remarks = ById(records, "segmentation"), ById(records, "exits")
    tells = any(remarks[each].get("click_hit") for each in remarks)
    judged = []
    for item, true_mask, groups in truth:
        identity, iou = item.annotation_id, 0.0
        if identity in masks:
            mask = decode_mask(masks[identity], *item.image_size)
            iou = mask_iou(mask, true_mask)
        hits = remarks[identity].get("click_hit") if identity in remarks else None
        share = float(np.mean(hits)) if hits else None
        if tells and identity not in masks and item.extreme_points is not None:
            share = 0.0
        judged.append(groups._replace(iou=iou, clicks_hit=share))
    return judged


def report(
    found: Mapping[str, Sequence[EvaluatedObject]], image_ids: Sequence[int | str]
) -> str:
    """Two Markdown tables: figures of each file, and differences to the first.

    Args:
        found: Name of a file to what `judge` found, the same objects in each.
        image_ids: The image of each object.
    """
    rows = {image: row for row, image in enumerate(dict.fromkeys(image_ids))}
    images = np.array([rows[image] for image in image_ids])
    resamples = Resamples(len(rows))
    means = {name: _means(resamples, each, images) for name, each in found.items()}
    first, *others = means
    objects = found[first]
    counts = [sum(belongs(item, group) for item in objects) for group in GROUPS]
    lines = _table(f"percent, {len(rows)} images", means)
    lines.append(_line("objects", [*map(str, counts), "", ""]))
    if others:
        apart = {
            name: {key: means[name][key] - means[first][key] for key in COLUMNS}
            for name in others
        }
        lines += ["", *_table(f"minus {first}", apart, signed=True)]
    return "\n".join(lines)


def _instance(
    record: dict[str, Any], source: CocoFile, categories: set[int | str], points: str
) -> tuple[Instance, np.ndarray]:
    """The object as the reader makes it, and its mask; AnnotationError without."""
    image = source.images[source.image_rows[record["image_id"]]]
    clicks = points_of_record(record, image, mode=points)
    if clicks is not None:
        record = {**record, "extreme_points": clicks.tolist()}
    size = image.get("height") or 0, image.get("width") or 0
    item = read_instance(record, StoredImage("", size, ()), categories)
    return item, decode_mask(record.get("segmentation"), *size)


def _means(
    resamples: Resamples, objects: Sequence[EvaluatedObject], images: np.ndarray
) -> _Means:
    values = ious(objects)
    found = {}
    for group in GROUPS:
        chosen = np.array([belongs(item, group) for item in objects])
        found[group] = resamples.object_means(values[chosen], images[chosen])
    classes = np.array([str(item.category_id) for item in objects])
    found["class mean"] = resamples.class_means(values, images, classes)
    found[CLICKS_HIT] = resamples.object_means(click_shares(objects), images)
    return found


def _table(
    title: str, means: Mapping[str, _Means], *, signed: bool = False
) -> list[str]:
    shown = lambda row: [in_words(interval(row[key]), signed=signed) for key in COLUMNS]
    lines = [_line(title, COLUMNS), _line("---", ["---"] * len(COLUMNS))]
    return lines + [_line(name, shown(row)) for name, row in means.items()]


def _line(first: str, cells: Sequence[str]) -> str:
    return f"| {' | '.join([first, *cells])} |"


def _ids(path: Path | None) -> set[int | str] | None:
    return None if path is None else read_object_ids(path)


if __name__ == "__main__":
    main()
