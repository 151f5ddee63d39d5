"""Tables 1, 2 and 3 of the paper: EXITS, its baseline MAL, and full supervision.

Figures in percent, None where the paper has none.
"""

from typing import NamedTuple

EXITS, MAL, MASKS = "exits", "mil_crf", "masks"  # who trains on what


class PaperRow(NamedTuple):
    """One row of a table and our config for it."""

    method: str
    by: str  # EXITS, MAL or MASKS
    backbone: str
    model: str
    config: str | None  # None: none of ours has this model
    figures: tuple[float | None, ...]  # in the order of `PaperTable.columns`


class PaperTable(NamedTuple):
    """One table of the paper."""

    number: int
    caption: str
    dataset: str  # name that runs on its data have
    columns: tuple[str, ...]  # a figure, "AP test", "Ret" or "Ret test"
    rows: tuple[PaperRow, ...]


_R50 = ("ResNet-50", "SOLOv2", "solov2_r50_fpn_3x")
_R101_DCN = ("ResNet-101-DCN", "SOLOv2", "solov2_r101_dcn_fpn_3x")
_X101_DCN = ("ResNeXt-101-DCN", "SOLOv2", "solov2_x101_dcn_fpn_3x")
_SWIN_S = ("Swin-Small", "Mask2Former", "mask2former_swin_s")
_VOC_R50 = ("ResNet-50", "SOLOv2", "voc_solov2_r50")
_VOC_R101 = ("ResNet-101", "SOLOv2", "voc_solov2_r101")
_X101_32 = ("ResNeXt-101-32x4d", "Mask R-CNN", "lvis_mask_rcnn_x101_32x4d")
_X101_64 = ("ResNeXt-101-64x4d", "Mask R-CNN", "lvis_mask_rcnn_x101_64x4d")

COCO = PaperTable(
    1,
    "COCO val2017 and test-dev",
    "coco",
    ("AP", "AP test", "Ret", "Ret test"),
    (
        PaperRow("SOLOv2", MASKS, *_R50, (37.5, 38.4, None, None)),
        PaperRow(
            "CondInst", MASKS, "ResNet-50", "CondInst", None, (None, 37.7, None, None)
        ),
        PaperRow(
            "FastInst", MASKS, "ResNet-50", "FastInst", None, (None, 38.6, None, None)
        ),
        PaperRow("SOLOv2", MASKS, *_R101_DCN, (41.7, 41.8, None, None)),
        PaperRow("SOLOv2", MASKS, *_X101_DCN, (42.4, 42.7, None, None)),
        PaperRow("Mask2Former", MASKS, *_SWIN_S, (46.1, 47.0, None, None)),
        PaperRow("MAL", MAL, *_R50, (35.0, 35.7, 93.3, 93.0)),
        PaperRow("EXITS", EXITS, *_R50, (36.1, 36.9, 96.3, 96.1)),
        PaperRow("MAL", MAL, *_R101_DCN, (38.2, 38.7, 91.6, 92.6)),
        PaperRow("EXITS", EXITS, *_R101_DCN, (39.8, 40.2, 95.4, 96.2)),
        PaperRow("MAL", MAL, *_X101_DCN, (38.9, 39.1, 91.7, 91.6)),
        PaperRow("EXITS", EXITS, *_X101_DCN, (40.5, 40.9, 95.5, 95.8)),
        PaperRow("MAL", MAL, *_SWIN_S, (43.3, 44.1, 93.9, 93.8)),
        PaperRow("EXITS", EXITS, *_SWIN_S, (44.2, 45.0, 95.9, 95.7)),
    ),
)
VOC = PaperTable(
    2,
    "PASCAL VOC val2012",
    "voc",
    ("AP", "AP50", "AP75"),
    (
        PaperRow("MAL", MAL, *_VOC_R50, (37.6, 64.8, 37.9)),
        PaperRow("EXITS", EXITS, *_VOC_R50, (40.4, 67.4, 41.4)),
        PaperRow("MAL", MAL, *_VOC_R101, (38.4, 65.7, 39.1)),
        PaperRow("EXITS", EXITS, *_VOC_R101, (41.4, 67.7, 42.5)),
    ),
)
LVIS = PaperTable(
    3,
    "LVIS v1.0 val",
    "lvis",
    ("AP", "Ret"),
    (
        PaperRow("Mask R-CNN", MASKS, *_X101_32, (25.5, None)),
        PaperRow("Mask R-CNN", MASKS, *_X101_64, (25.8, None)),
        PaperRow("MAL", MAL, *_X101_32, (23.7, 92.9)),
        PaperRow("EXITS", EXITS, *_X101_32, (24.1, 94.5)),
        PaperRow("MAL", MAL, *_X101_64, (24.5, 95.0)),
        PaperRow("EXITS", EXITS, *_X101_64, (24.9, 96.5)),
    ),
)
TABLES = (COCO, VOC, LVIS)
