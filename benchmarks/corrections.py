"""What one corrective action of the annotation page gains, by simulated people.

Each object is predicted from the clicks of its true mask, moved by noise of 2 px. Then
each kind of action is tried once, as well as one could, where it gains most.

    python -m benchmarks.corrections MASKS.json FOLDER --model=RUN [--objects=150]
"""

import argparse
import json
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from exits_jax.annotate.parts import grown
from exits_jax.data import rle
from exits_jax.data.annotations import read_instances
from exits_jax.data.images import read_image
from exits_jax.data.masks import decode_mask
from exits_jax.labeling.prediction import Prediction
from exits_jax.predict.predictor import Predictor

_NOISE_PX = 2.0
_SIDE_MIN = 16  # px; smaller objects are left out
_THRESHOLDS = np.linspace(0.05, 0.95, 19)
_ROWS = ("none", "exact clicks", "threshold", "drop a part", "add a part", "brush dab")


def main() -> None:
    """Predicts, corrects, prints one line of JSON a group."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("masks")
    parser.add_argument("images")
    parser.add_argument("--model", required=True)
    parser.add_argument("--objects", type=int, default=150)
    args = parser.parse_args()
    predictor = Predictor.load(args.model)
    found = list(_measured(args, predictor))
    for name, most in (("all", 2.0), ("IoU below 0.8", 0.8)):
        rows = np.array([row for row in found if row[0] < most])
        means = dict(zip(_ROWS, rows.mean(axis=0).round(3).tolist()))
        print(json.dumps({"group": name, "objects": len(rows), **means}))


def _measured(args: argparse.Namespace, predictor: Predictor) -> Iterator[list[float]]:
    """The IoU without and after each action, of each object."""
    rng = np.random.default_rng(0)
    data = read_instances(args.masks, args.images)
    records = {each["id"]: each for each in data.source.annotations}
    chosen = rng.permutation(len(data.instances))
    made = 0
    for item in (data.instances[int(place)] for place in chosen):
        record = records[item.annotation_id]
        x0, y0, x1, y1 = item.box
        small = min(x1 - x0, y1 - y0) < _SIDE_MIN
        if item.is_crowd or small or not record.get("segmentation"):
            continue
        height, width = item.image_size
        truth = decode_mask(record["segmentation"], height, width)
        exact = _ends(truth)
        moved = exact + rng.normal(0, _NOISE_PX, exact.shape)
        moved = np.clip(moved, 0, (width - 1, height - 1))
        image = read_image(item.image_path)
        noisy, careful = predictor.predict_many([moved, exact], image=image)
        yield _after(noisy, careful, truth)
        made += 1
        if made == args.objects:
            return


def _after(noisy: Prediction, careful: Prediction, truth: np.ndarray) -> list[float]:
    mask = noisy.mask
    start = _iou(mask, truth)
    cut = max(_iou(noisy.at(float(each)).mask, truth) for each in _THRESHOLDS)
    dropped = [_iou(mask & ~part, truth) for part in _parts(mask)]
    added = start
    for part in _parts(truth & ~mask):
        place = _middle(part)
        more = grown(noisy, place)
        if more is not None:
            added = max(added, _iou(mask | rle.decode(more), truth))
    return [
        start,
        max(start, _iou(careful.mask, truth)),
        max(start, cut),
        max([start, *dropped]),
        added,
        max(start, _dabbed(mask, truth)),
    ]


def _dabbed(mask: np.ndarray, truth: np.ndarray) -> float:
    """One round dab on the largest error, as large as fits into it."""
    best = 0.0
    for wrong, value in ((truth & ~mask, True), (mask & ~truth, False)):
        parts = _parts(wrong)
        if not parts:
            continue
        part = max(parts, key=np.count_nonzero)
        x, y = _middle(part)
        depth = cv2.distanceTransform(np.pad(part, 1).astype(np.uint8), cv2.DIST_L2, 5)
        ys, xs = np.mgrid[: mask.shape[0], : mask.shape[1]]
        dab = np.hypot(xs - x, ys - y) <= depth.max()
        best = max(best, _iou(np.where(dab, value, mask), truth))
    return best


def _parts(mask: np.ndarray) -> list[np.ndarray]:
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    sizes = np.bincount(labels.ravel(), minlength=count)
    kept = [k for k in range(1, count) if sizes[k] >= 16]
    kept.sort(key=lambda k: -sizes[k])
    return [labels == k for k in kept[:4]]


def _middle(part: np.ndarray) -> tuple[float, float]:
    """The pixel that is deepest inside."""
    padded = np.pad(part, 1).astype(np.uint8)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return float(x), float(y)


def _ends(mask: np.ndarray) -> Any:
    ys, xs = np.nonzero(mask)
    points = [ys.argmin(), xs.argmin(), ys.argmax(), xs.argmax()]
    return np.array([(xs[k], ys[k]) for k in points], float)


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 0.0


if __name__ == "__main__":
    main()
