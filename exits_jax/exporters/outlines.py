"""The outlines of an object as exporters write them, and what a tolerance costs."""

from functools import partial
from typing import Any

from pycocotools import mask as coco_mask

from exits_jax.data import rle
from exits_jax.exporters.masks import MaskObject, Options
from exits_jax.exporters.polygons import Polygon, polygons
from exits_jax.exporters.report import Report


def outlines(
    item: MaskObject, options: Options, report: Report, *, inset: float = 0.0
) -> list[Polygon]:
    """One polygon per part, see `polygons`; the report counts holes and differences.

    Args:
        item: The object.
        options: Has the tolerance.
        report: Is told of holes that are cut free and, with a tolerance, of the
            overlap with the exact mask.
        inset: How far outlines are moved into the object, px.
    """
    tolerance = options.tolerance_px
    traced = partial(polygons, item.mask, left=item.left, top=item.top)
    parts = traced(inset=inset, tolerance=tolerance)
    report.warn("bridged_holes", sum(part.num_holes for part in parts))
    if tolerance > 0:
        on_edges = traced(tolerance=tolerance)  # an inset makes up for the rasteriser
        before, after = (
            sum(len(p.points) for p in found) for found in (traced(), parts)
        )
        report.simplified(item.annotation_id, _iou(item, on_edges), before, after)
    return parts


def _iou(item: MaskObject, parts: list[Polygon]) -> float:
    """Overlap of the polygons with the mask, both as pixels of its box."""
    height, width = item.mask.shape
    shifted = [part.points - (item.left, item.top) for part in parts]
    rings: Any = [points.ravel().tolist() for points in shifted]
    runs: Any = coco_mask.merge(coco_mask.frPyObjects(rings, height, width))
    drawn = rle.decode(runs)
    return float((drawn & item.mask).sum() / (drawn | item.mask).sum())
