"""Draws the picture of the README from a finished quickstart, on drawn scenes.

python examples/readme_picture.py runs/quickstart docs/images/how_it_works.png
"""

import sys

import numpy as np

from exits_jax.cli.config_files import read_record
from exits_jax.data import rle
from exits_jax.data.coco_file import ById, CocoFile
from exits_jax.data.crops import Window
from exits_jax.evaluation.contact_sheet import Panel, draw_contact_sheet
from exits_jax.evaluation.iou import is_separated, mask_iou
from exits_jax.evaluation.point_quality import crop_mask, finder, look_at, true_mask_of
from exits_jax.files.pictures import write_png
from exits_jax.run.prepared import instances
from exits_jax.run.workdir import Workdir

TITLES = ("in one piece", "in two parts", "in two parts")


def main(run: str, out: str) -> None:
    """Draws the best whole object and the best two separated ones of the split val."""
    workdir = Workdir(run)
    config = read_record(workdir / "config.json").config
    objects = instances(config, workdir, "val")
    made = CocoFile.read(workdir / "val" / "pseudo_masks.json").annotations
    truth = CocoFile.read(workdir.facts("prepare")["sources"]["val"]).annotations
    pseudo, true = ById(made, "segmentation"), ById(truth, "segmentation")
    quality = []
    for row, item in enumerate(objects):
        mask = true_mask_of(true, item)
        if mask is not None and item.annotation_id in pseudo:
            iou = mask_iou(rle.decode(pseudo[item.annotation_id]), mask)
            quality.append((is_separated(mask), iou, row))
    whole = sorted(entry for entry in quality if not entry[0])[-1:]
    parted = sorted(entry for entry in quality if entry[0])[-2:]
    chosen = objects.select(np.array([row for *_, row in whole + parted]))
    looked = look_at(config, finder(config, workdir), chosen, name="drawing")
    panels = []
    for title, item, seen in zip(TITLES, chosen, looked):
        window = Window(*seen["window"].tolist())
        mask = rle.decode(pseudo[item.annotation_id])
        panels.append(
            Panel(
                crop=seen["image"],
                extreme_points=seen["extreme_points"],
                scores=seen["margin"],
                pseudo_fg=seen["fg"],
                pseudo_bg=seen["bg"],
                mask=crop_mask(mask, window, config.crop.size),
                true_mask=None,
                title=title,
                extent=(window.x1 - window.x0, window.y1 - window.y0),
            )
        )
    write_png(out, draw_contact_sheet(panels, columns=1, tile=170))


if __name__ == "__main__":
    main(*sys.argv[1:])
