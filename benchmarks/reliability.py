"""What the scores of pseudo masks are worth, from two files, with intervals.

python -m benchmarks.reliability --truth=val.json NAME=pseudo_masks.json NAME2=...
    [--only_ids=FILE] [--min_side_px=2] [--points=extremenet] [--bad_iou=0.5]

Figures are those of "reliability" in `evaluation.json`, in percent. Behind shares of
masks stands their 95 % interval from 2000 draws of the images.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.bootstrap import Resamples, in_words, interval
from benchmarks.compare_masks import TrueObject, judge, true_objects
from exits_jax.data.coco_file import CocoFile
from exits_jax.data.extreme_points import MODES
from exits_jax.evaluation.bad_masks import BAD_IOU, judged
from exits_jax.evaluation.object_lists import read_object_ids
from exits_jax.evaluation.reliability import Scored, reliability
from exits_jax.evaluation.scores import NAMES, scored

FIGURES = ("auc", "bad_in_worst_tenth", "found_in_worst_tenth")


def main(arguments: list[str] | None = None) -> None:
    """Reads, judges and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--only_ids", type=Path)
    parser.add_argument("--min_side_px", type=float, default=2.0)
    parser.add_argument("--points", choices=MODES, default=MODES[0])
    parser.add_argument("--bad_iou", type=float, default=BAD_IOU)
    options = parser.parse_args(arguments)
    files = dict(file.partition("=")[::2] for file in options.files)
    if len(files) < len(options.files) or not all(files.values()):
        parser.error("every file needs a name of its own, as in ours=pseudo_masks.json")
    only = None if options.only_ids is None else read_object_ids(options.only_ids)
    truth = true_objects(
        CocoFile.read(options.truth),
        points=options.points,
        size_by="box",
        min_side_px=options.min_side_px,
        separated_ids=None,
        only_ids=only,
    )
    found = {name: read_scores(truth, Path(path)) for name, path in files.items()}
    for name, path in files.items():
        if all(item.score is None for item in found[name]):
            parser.error(f"{path} scores none of the masks of {options.truth}")
    for name, objects in found.items():
        print("\n".join(report(name, objects, bad_iou=options.bad_iou)))


def read_scores(truth: Sequence[TrueObject], path: Path) -> list[Scored]:
    """Every true object with the IoU of its mask in a file and what that says of it."""
    ious = [item.iou for item in judge(truth, path)]
    items = [item.instance for item in truth]
    return scored(CocoFile.read(path).annotations, zip(items, ious, strict=True))


def report(name: str, objects: Sequence[Scored], *, bad_iou: float | int) -> list[str]:
    """Two Markdown tables: like scores together, and what finds bad masks."""
    found = reliability(objects, bad_iou=bad_iou)
    table, bad = found["table"], found["bad"]
    percent = lambda values: [f"{100 * value:.1f}" for value in values]
    after = found["calibrated_error"]
    return [
        f"**{name}**: {found['count']} masks, {found['without_mask']} objects without; "
        f"{bad['count']} bad (IoU below {bad_iou:g}); off the IoU by "
        f"{100 * found['calibration_error']:.1f} points, on held-out images by "
        f"{'-' if after is None else f'{100 * after:.1f}'} after calibration",
        "",
        _line("scores, lowest first", [str(each["count"]) for each in table]),
        _line("---", ["---:"] * len(table)),
        _line("mean score", percent(each["score"] for each in table)),
        _line("mean IoU", percent(each["iou"] for each in table)),
        "",
        _line("bad masks by", ["area under curve", "in worst tenth", "of all bad"]),
        _line("---", ["---:"] * 3),
        *(_line(title, cells) for title, cells in _finding(objects, bad_iou).items()),
        *_both(bad["lower_of_two"]),
        "",
    ]


def _finding(
    objects: Sequence[Scored], bad_iou: float | int
) -> Mapping[str, list[str]]:
    """Each sign's figures with their intervals; "-" where there are none."""
    rows = {image: k for k, image in enumerate({item.image_id: 0 for item in objects})}
    times = Resamples(len(rows)).times.astype(int)
    known = [item for item in objects if item.score is not None]
    images = np.array([rows[item.image_id] for item in known])
    is_bad = np.array([item.iou < bad_iou for item in known])
    shown = {}
    for sign, title in NAMES.items():
        values = np.array([getattr(item, sign) for item in known], np.float64)
        draws = []
        for drawn in times[:, images]:
            chosen = np.repeat(np.arange(len(known)), drawn)
            figures = judged(values[chosen], is_bad[chosen])
            draws.append([figures[key] if figures else np.nan for key in FIGURES])
        shown[title] = [in_words(interval(column)) for column in np.array(draws).T]
    return shown


def _both(found: Mapping[str, Any] | None) -> list[str]:
    """The pair of signs that finds more than either alone, where there is one."""
    if found is None:
        return []
    title = "the lower of " + " and ".join(NAMES[sign] for sign in found["of"])
    return [_line(title, [f"{100 * found[key]:.1f}" for key in FIGURES])]


def _line(first: str, cells: Sequence[str]) -> str:
    return f"| {' | '.join([first, *cells])} |"


if __name__ == "__main__":
    main()
