"""The formats that masks can be exported to, by name."""

import os
from collections.abc import Callable
from pathlib import Path

from exits_jax.exporters.coco_json import write_coco, write_coco_polygons
from exits_jax.exporters.cvat_xml import write_cvat, write_cvat_polygons
from exits_jax.exporters.folders import REPORT, building, count_files
from exits_jax.exporters.label_studio import write_label_studio
from exits_jax.exporters.labelme import write_labelme
from exits_jax.exporters.masks import MaskSource, Options
from exits_jax.exporters.report import Report
from exits_jax.exporters.voc_png import write_voc
from exits_jax.exporters.yolo_seg import write_yolo_seg
from exits_jax.files.json_files import write_json

Writer = Callable[[MaskSource, Path, Options, Report], None]

WRITERS: dict[str, Writer] = {
    "coco": write_coco,
    "coco_polygons": write_coco_polygons,
    "voc": write_voc,
    "yolo_seg": write_yolo_seg,
    "labelme": write_labelme,
    "cvat": write_cvat,
    "cvat_polygons": write_cvat_polygons,
    "label_studio": write_label_studio,
}
KINDS = tuple(WRITERS)
OUTLINES = ("coco_polygons", "yolo_seg", "labelme", "cvat_polygons")  # take a tolerance


def export(source: MaskSource, out: Path, options: Options, report: Report) -> None:
    """Writes masks in another format, and `export_report.json` beside them.

    Args:
        source: The masks; what it cannot use it notes in the same report.
        out: The folder to make. It appears when it is complete, or not at all; an
            earlier export is replaced if nobody has changed it since.
        options: What a person chose.
        report: Says which format, and is filled.

    Raises:
        FolderError: If something else is at `out`.
        ValueError: If the format is unknown or an annotation is not accounted for.
    """
    if report.kind not in WRITERS:
        raise ValueError(
            f"Unknown format {report.kind!r}; known are {', '.join(KINDS)}."
        )
    options = options._replace(out=Path(os.path.realpath(out)))
    with building(out) as folder:
        WRITERS[report.kind](source, folder, options, report)
        content = report.as_json(source.provenance)
        content["num_files"] = count_files(folder) + 1
        write_json(folder / REPORT, content)
