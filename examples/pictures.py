"""Draws the pictures of README and gallery from a finished quickstart, on drawn scenes.

python examples/pictures.py runs/quickstart docs/images
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from exits_jax.cli.config_files import read_record
from exits_jax.data import rle
from exits_jax.data.coco_file import ById, CocoFile
from exits_jax.data.crops import Window
from exits_jax.evaluation.contact_sheet import Panel, draw_contact_sheet
from exits_jax.evaluation.iou import is_separated, mask_iou
from exits_jax.evaluation.point_quality import crop_mask, finder, look_at, true_mask_of
from exits_jax.run.identity import annotation_files
from exits_jax.run.prepared import instances
from exits_jax.run.workdir import Workdir


class Rated(NamedTuple):
    """An object of the split val and how well its mask fits."""

    iou: float
    row: int
    is_separated: bool
    true_mask: np.ndarray


def main(run: str, folder: str) -> None:
    """Writes `how_it_works.png`, `masks_{best,middle,worst}.png`."""
    workdir = Workdir(run)
    config = read_record(workdir / "config.json").config
    objects = instances(config, workdir, "val")
    made = CocoFile.read(workdir / "val" / "pseudo_masks.json").annotations
    truth = CocoFile.read(annotation_files(workdir)["val"]).annotations
    pseudo, true = ById(made, "segmentation"), ById(truth, "segmentation")
    rated = []
    for row, item in enumerate(objects):
        mask = true_mask_of(true, item)
        if mask is not None and item.annotation_id in pseudo:
            iou = mask_iou(rle.decode(pseudo[item.annotation_id]), mask)
            rated.append(Rated(iou, row, is_separated(mask), mask))
    rated.sort(key=lambda each: (each.iou, each.row))
    whole = [each for each in rated if not each.is_separated]
    parted = [each for each in rated if each.is_separated]
    find = finder(config, workdir)

    def panels(chosen: Sequence[Rated], titles: Sequence[str], *, with_truth: bool):
        items = objects.select(np.array([each.row for each in chosen]))
        looked = look_at(config, find, items, name="drawing")
        for each, title, (item, seen) in zip(chosen, titles, looked, strict=True):
            window = Window(*seen["window"].tolist())
            in_crop = lambda mask: crop_mask(mask, window, config.crop.size)  # noqa: B023
            yield Panel(
                crop=seen["image"],
                extreme_points=seen["extreme_points"],
                scores=seen["margin"],
                pseudo_fg=seen["fg"],
                pseudo_bg=seen["bg"],
                mask=in_crop(rle.decode(pseudo[item.annotation_id])),
                true_mask=in_crop(each.true_mask) if with_truth else None,
                title=title,
                extent=(window.x1 - window.x0, window.y1 - window.y0),
            )

    titles = ("in one piece", "in two parts", "in two parts")
    shown = [*panels([whole[-1], *parted[-2:]], titles, with_truth=False)]
    sheet = draw_contact_sheet(shown, columns=1, tile=170)
    _write(Path(folder) / "how_it_works.png", sheet)
    middle = len(rated) // 2
    for name, chosen in {
        "best": rated[-6:],
        "middle": rated[middle - 3 : middle + 3],
        "worst": rated[:6],
    }.items():
        titles = [f"IoU {100 * each.iou:.0f} %" for each in chosen]
        shown = [*panels(chosen, titles, with_truth=True)]
        sheet = draw_contact_sheet(shown, columns=2, tile=128)
        _write(Path(folder) / f"masks_{name}.png", sheet)


def _write(path: Path, sheet: np.ndarray) -> None:
    """With a palette: a third of the bytes in a repository."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
