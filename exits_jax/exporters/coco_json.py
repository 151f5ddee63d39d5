"""COCO instance files: as they are, or with polygons instead of run lengths."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exits_jax.exporters.masks import MaskSource, Options
from exits_jax.exporters.outlines import outlines
from exits_jax.exporters.report import Report
from exits_jax.files.json_files import json_text, write_json_lists

FILE = "instances.json"


def write_coco(
    source: MaskSource, folder: Path, options: Options, report: Report
) -> None:
    """Writes `instances.json`: the source itself, less what the report leaves out.

    The pseudo masks are a COCO file already: without such records it is a copy.
    """
    del options
    if report.left_out:
        _write(source, folder / FILE, source.records(), report)
    else:
        shutil.copyfile(source.path, folder / FILE)
        report.wrote(report.num_annotations)
        report.num_images = sum(1 for _ in source.image_records())


def write_coco_polygons(
    source: MaskSource, folder: Path, options: Options, report: Report
) -> None:
    """Writes `instances.json` with lists of polygons as segmentations.

    Holes are joined to their outlines, as COCO unites the polygons of an object. Crowd
    regions keep the run lengths that COCO has for them.
    """
    records = _with_polygons(source, options, report)
    _write(source, folder / FILE, records, report)


def _with_polygons(
    source: MaskSource, options: Options, report: Report
) -> Iterator[dict[str, Any]]:
    for record in source.records():
        item = source.mask_of(record)
        if item is None:
            continue
        if item.is_crowd:
            yield record
            continue
        parts = outlines(item, options, report)
        rings = [part.points.astype(int).ravel().tolist() for part in parts]
        yield {**record, "segmentation": rings}


def _write(
    source: MaskSource, path: Path, records: Iterator[dict[str, Any]], report: Report
) -> None:
    def counted_records() -> Iterator[str]:
        for record in records:
            try:
                text = json_text(record)
            except ValueError as error:
                message = f"Annotation {record['id']!r:.80}: {error}."
                report.leave_out(record["id"], "E104", message)
                continue
            report.wrote(1)
            yield text

    def counted_images() -> Iterator[str]:
        for image in source.image_records():
            report.num_images += 1
            yield json_text(image)

    lists = {"images": counted_images(), "annotations": counted_records()}
    write_json_lists(path, source.fields(), lists)
