"""One object's mask in its image, and what can be said of it without a true one."""

import dataclasses
from functools import cached_property
from typing import Any

import numpy as np

from exits_jax.data import rle
from exits_jax.data.crops import Window, logits_in_box
from exits_jax.data.records import Instance
from exits_jax.labeling import mask_quality


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """The logits of the pixels in an object's box, cut at a threshold (Section 3.3).

    All of it is computed within the box, whatever the size of the image.

    Attributes:
        logits: float32 [box height, box width], one per pixel that the box touches.
        origin: (left, top) of them in the image, px.
        item: The annotation: box, clicks if there are any, size of the image, flags.
        threshold: Probability above which a pixel is mask.
        is_filled: The whole box stands in for a mask without a pixel; its score is 0.
    """

    logits: np.ndarray
    origin: tuple[int, int]
    item: Instance
    threshold: float
    is_filled: bool = False

    @classmethod
    def of_crop(
        cls, logits: np.ndarray, window: Window, item: Instance, threshold: float
    ) -> "Prediction":
        """From the logits of a crop, [h, w], that shows a window of the image.

        Raises:
            FloatingPointError: If some in the box are NaN, of which no mask could tell.
        """
        found, origin = logits_in_box(logits, window, item.box, item.image_size)
        if np.isnan(found).any():
            raise FloatingPointError(
                f"Annotation {item.annotation_id!r:.80}: what the model says of it is "
                "NaN. Its weights are not finite or too large for its arithmetic: try "
                "model.dtype=float32, then other weights or another training."
            )
        return cls(found, origin, item, threshold)

    def at(self, threshold: float) -> "Prediction":
        """The same object cut at another threshold; no model is asked.

        Raises:
            ValueError: If it does not lie between 0 and 1.
        """
        if not 0 < threshold < 1:
            raise ValueError(f"threshold is {threshold}; it must lie in (0, 1).")
        return dataclasses.replace(self, threshold=threshold, is_filled=False)

    def filled(self) -> "Prediction":
        """The same object with its whole box as mask."""
        return dataclasses.replace(self, is_filled=True)

    @cached_property
    def part(self) -> np.ndarray:
        """The mask within the box, bool [box height, box width]."""
        if self.is_filled:
            return np.ones(self.logits.shape, bool)
        return self.logits > np.log(self.threshold / (1 - self.threshold))

    @property
    def mask(self) -> np.ndarray:
        """The mask of the whole image, bool [height, width]."""
        mask = np.zeros(self.item.image_size, bool)
        height, width = self.part.shape
        left, top = self.origin
        mask[top : top + height, left : left + width] = self.part
        return mask

    @cached_property
    def is_empty(self) -> bool:
        """Whether no pixel exceeds the threshold."""
        return not self.part.any()

    def rle(self) -> dict[str, Any]:
        """The mask as COCO's compressed run lengths, `{"size", "counts"}`."""
        left, top = self.origin
        size = self.item.image_size
        return rle.encode_part(self.part, left=left, top=top, image_size=size)

    @cached_property
    def score(self) -> float:
        """Mean probability of the mask's pixels, 0 to 1; 0 for an empty mask."""
        return (
            0.0 if self.is_filled else mask_quality.confidence(self.logits, self.part)
        )

    @cached_property
    def click_hit(self) -> tuple[int, ...] | None:
        """1 per click that the mask reaches within 2 px or 2 % of the box, else 0.

        In the order top, left, bottom, right; None without clicks.
        """
        tolerance = mask_quality.click_tolerance(self.item.box)
        points = self.item.extreme_points
        return mask_quality.click_hits(self.part, points, tolerance, origin=self.origin)

    @cached_property
    def box_iou(self) -> float:
        """IoU of the mask's own bounding box with the annotated box."""
        return mask_quality.box_tightness(self.part, self.item.box, origin=self.origin)

    @cached_property
    def num_parts(self) -> int:
        """Connected parts with 5 % or more of the mask's pixels."""
        return mask_quality.count_parts(self.part)

    @cached_property
    def flags(self) -> tuple[str, ...]:
        """What was put right in the annotation, and what is odd about the mask."""
        found = list(self.item.flags)
        if self.is_filled:
            found.append("filled_box")
        elif self.is_empty:
            found.append("empty")
        elif self.part.all():
            found.append("covers_box")
        return tuple(found)
