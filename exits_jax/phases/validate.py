"""Phase validate: say what annotation files hold and what is wrong; prepare nothing."""

import logging
import textwrap
from collections import defaultdict
from pathlib import Path
from typing import Any

import ml_collections as mlc
import numpy as np

from exits_jax.data.batches import trainable
from exits_jax.data.images import ImageError, read_image
from exits_jax.data.records import AnnotationError, Problem, TooManySkipped
from exits_jax.data.usable import nothing_left
from exits_jax.files.json_files import write_json
from exits_jax.files.words import printable
from exits_jax.phases.prepare import check_split
from exits_jax.run.sources import Source, find_sources
from exits_jax.run.workdir import Workdir
from exits_jax.validation.codes import CODES
from exits_jax.validation.oddities import drawable, oddities
from exits_jax.validation.problem_sheet import OddRecord, look_at, write_problem_sheet
from exits_jax.validation.survey import Survey, record_at, survey

_logger = logging.getLogger(__name__)
_NUM_PICTURES = 24
_MAX_TRIES = 500  # records whose image may be missing, before the sheet does without
_WIDTH = 96  # columns of the printed report


def run(config: mlc.ConfigDict, workdir: Workdir) -> None:
    """Prints a report of each split and writes it into `validation/`, with pictures.

    Raises:
        ConfigError: If the configuration names no file.
        FileNotFoundError: If a file or folder does not exist.
        AnnotationError: If a file cannot be used, or has a problem while `data.on_bad`
            is "error".
        TooManySkipped: If more records have a problem than may be left out.
    """
    folder = workdir / "validation"
    sources = find_sources(config, folder)
    for split in ("train", "val"):  # a report is of the files as they are now, or gone
        for name in (f"{split}.json", f"{split}_sheet.png"):
            (folder / name).unlink(missing_ok=True)
    verdicts = [
        _check_split(config, folder, split, source) for split, source in sources.items()
    ]
    for error in verdicts:
        if error is not None:
            raise error


def _check_split(
    config: mlc.ConfigDict, folder: Path, split: str, source: Source
) -> AnnotationError | None:
    """Reports on a split; returns what keeps it from being used."""
    _logger.info("%s: reading %s", split, printable(source.annotations))
    found = survey(check_split(config, source.annotations, source.images, split))
    boxes = _boxes(config, found)
    _logger.info("%s", "\n".join(_report(config, found, boxes)))
    write_json(
        folder / f"{split}.json",
        {
            "annotations": str(source.annotations),
            "images": str(source.images),
            "counts": found.counts,
            "boxes": boxes,
            "problems": [problem._asdict() for problem in found.problems],
            "damaged_masks": [problem._asdict() for problem in found.damaged_masks],
            "remarks": [
                {"code": remark.code, "meaning": CODES[remark.code]}
                | {"count": len(remark.names), remark.subject: remark.names}
                for remark in found.remarks
            ],
        },
    )
    sheet = folder / f"{split}_sheet.png"
    drawn = _draw(config, found, str(source.images))
    if drawn:
        total = found.counts["annotations"]
        heading = (
            f"{source.annotations.name}: {len(drawn)} records to look at, of {total}"
        )
        write_problem_sheet(sheet, drawn, heading=heading)
        _logger.info("pictures: %s", printable(sheet))
    _logger.info("all ids: %s", printable(folder / f"{split}.json"))
    verdict, error = _verdict(config, found, source.annotations)
    objects = found.counts["usable"] - found.counts["crowds"]
    if split == "train" and 0 < objects == boxes["left_out_of_training"]:
        verdict += (
            f" None of the {objects} objects is large enough to train on: lower "
            "data.min_area_px."
        )
    _logger.info("%s\n", "\n".join(textwrap.wrap(f"{split}: {verdict}", _WIDTH)))
    return error


def _boxes(config: mlc.ConfigDict, found: Survey) -> dict[str, Any]:
    """Sizes of the boxes of all objects, and how many are too small to train on."""
    objects = found.instances.select(~found.instances.is_crowd)
    if not len(objects):
        return {"left_out_of_training": 0}
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    areas = sides.prod(axis=1)
    order = np.argsort(areas, kind="stable")
    places = {"smallest": order[0], "median": order[len(order) // 2]}
    places["largest"] = order[-1]
    trained = trainable(
        objects, min_area=config.data.min_area_px, min_side=config.data.min_side_px
    )
    return {
        name: {
            "annotation_id": objects[int(row)].annotation_id,
            "width": round(float(sides[row, 0]), 2),
            "height": round(float(sides[row, 1]), 2),
        }
        for name, row in places.items()
    } | {"left_out_of_training": len(objects) - len(trained)}


def _report(config: mlc.ConfigDict, found: Survey, boxes: dict[str, Any]) -> list[str]:
    counts = found.counts
    lines = [
        "",
        _row("images", counts["images"]),
        _row("  without annotations", counts["images_without_annotations"]),
        _row("categories", counts["categories"]),
        _row("annotations", counts["annotations"]),
        _row("  with masks", counts["with_masks"]),
        _row("usable annotations", counts["usable"]),
        _row("  with extreme points", counts["with_extreme_points"]),
        _row("  with points from masks", counts["points_from_masks"]),
        _row("  with a box only", counts["box_only"]),
        _row("  crowd regions", counts["crowds"], "passed on, never trained on"),
    ]
    if "smallest" in boxes:
        sizes = [
            f"{name} {boxes[name]['width']:g} x {boxes[name]['height']:g}"
            for name in ("smallest", "median", "largest")
        ]
        lines += [
            _row(
                "too small to train on",
                boxes["left_out_of_training"],
                f"data.min_area_px = {config.data.min_area_px:g}; they get masks too",
            ),
            f"  boxes, px                 {', '.join(sizes)}",
        ]
    lines += _problem_table("problems: these records are left out", found.problems)
    lines += _problem_table(
        "damaged masks: these records are used by their box", found.damaged_masks
    )
    if found.remarks:
        lines += ["", "  remarks: used all the same"]
    for remark in found.remarks:
        lines.append(_code_row(remark.code, len(remark.names), remark.subject))
        lines += _example(_first_name(remark.names[0], remark.subject))
    return [*lines, ""]


def _row(name: str, count: int, remark: str = "") -> str:
    return f"  {name:<24} {count:>9}  {remark}".rstrip()


def _problem_table(title: str, problems: list[Problem]) -> list[str]:
    """One row per code: how often, what it means, and the first message."""
    if not problems:
        return []
    by_code: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        by_code[problem.code].append(problem)
    lines = ["", f"  {title}"]
    for code, group in sorted(by_code.items()):
        lines.append(_code_row(code, len(group), "annotations"))
        lines += _example(group[0].message)
    return lines


def _code_row(code: str, count: int, subject: str) -> str:
    noun = subject if count != 1 else subject.removesuffix("s")
    return f"  {code}  {count:>7} {noun:<11}  {CODES.get(code, '')}".rstrip()


def _first_name(name: Any, subject: str) -> str:
    if subject != "annotations":
        return str(name)
    return f"Annotation {name!r:.80}"


def _example(text: str) -> list[str]:
    """The first case, on at most three lines."""
    indent = " " * 29
    return textwrap.wrap(
        f"first: {printable(text)}",
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + " " * 7,
        max_lines=3,
        placeholder=" ...",
    )


def _verdict(
    config: mlc.ConfigDict, found: Survey, path: Path
) -> tuple[str, AnnotationError | None]:
    """The last line of a report, and the error that it means."""
    total, problems = found.counts["annotations"], found.problems
    strict, limit = config.data.on_bad == "error", config.data.max_skip_fraction
    if strict and (faults := problems + found.damaged_masks):
        text = (
            f"{len(faults)} of {total} annotations have a problem, and data.on_bad is "
            "'error'."
        )
        advice = "Mend them, or set --config.data.on_bad=skip to go on without them."
        return text, AnnotationError(f"{printable(path)}: {text} {advice}", faults)
    crowds = found.counts["crowds"]
    share = f"{100 * len(problems) / total:.3g} %"
    if len(problems) > limit * total:
        text = (
            f"{len(problems)} of {total} annotations ({share}) cannot be used, more "
            f"than data.max_skip_fraction = {limit:g} allows."
        )
        return text, TooManySkipped(f"{printable(path)}: {text}", problems)
    if crowds == found.counts["usable"]:
        error = nothing_left(found.instances, path)
        return str(error).removeprefix(f"{path}: "), error
    passed_on = ""
    if crowds:
        passed_on = f" {crowds} crowd regions are passed on, never trained on."
    if not problems:
        noun = "objects" if crowds else "annotations"
        return f"all {total - crowds} {noun} can be used.{passed_on}", None
    return (
        f"{total - len(problems) - crowds} of {total} annotations can be used; the "
        f"other {len(problems)} ({share}) will be left out, within "
        f"data.max_skip_fraction = {limit:g}.{passed_on}"
    ), None


def _draw(config: mlc.ConfigDict, found: Survey, folder: str) -> list[OddRecord]:
    """The oddest records, as far as their images can be opened; kind by kind."""
    links = config.data.follow_links
    drawn: list[OddRecord] = []
    for tried, (position, code, note) in enumerate(oddities(found, folder)):
        if len(drawn) == _NUM_PICTURES or tried == _MAX_TRIES:
            break
        seen = drawable(found, position, folder, follow_links=links)
        if seen is None:
            continue
        path, points, box = seen
        try:
            view, points, box = look_at(read_image(path), points, box)
        except (ImageError, OSError):  # stands among the problems
            continue
        title = f"id {record_at(found.source, position).get('id')}"
        drawn.append(OddRecord(view, points, box, title, code, note))
    kinds = list(dict.fromkeys(record.code for record in drawn))
    return sorted(drawn, key=lambda record: kinds.index(record.code))
