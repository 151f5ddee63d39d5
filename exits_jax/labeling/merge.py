"""The parts of a split become one JSON, an object at a time."""

import heapq
import logging
import operator
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from exits_jax.data.records import Problem, TooManySkipped
from exits_jax.labeling.part_files import Parts, count_unreadable, read_parts
from exits_jax.labeling.pseudo_masks import (
    Outcome,
    PseudoInstance,
    Source,
    write_coco,
)

_logger = logging.getLogger(__name__)


def merge(
    folder: Path,
    source: Source,
    parts: Parts,
    positions: np.ndarray,
    left_out: Sequence[Problem],
    info: dict[str, Any],
    *,
    max_unreadable: float,
) -> None:
    """Writes the masks of all parts, with what `prepare` left out.

    Nothing but the parts and the source decides what is written, so neither the number
    of processes nor the time shows in it.

    Args:
        folder: Where to write.
        source: The annotation file.
        parts: Whose files are all there.
        positions: Place of each object of the split among the annotations.
        left_out: What `prepare` left out, in the order of the file.
        info: Provenance.
        max_unreadable: Share of the objects whose images may be gone since.

    Raises:
        ConfigError: If a part is missing, was made with other settings or is broken.
        TooManySkipped: If too many images are gone; older masks stay.
    """
    _refuse_unreadable(parts, positions, max_unreadable)
    before: list[tuple[int, Outcome]] = [
        (problem.position or 0, problem) for problem in left_out
    ]
    made = read_parts(parts, positions)
    outcomes = heapq.merge(before, made, key=operator.itemgetter(0))
    summary = _Summary()
    write_coco(folder, source, summary.watch(outcomes), info)
    summary.report(folder)


def _refuse_unreadable(parts: Parts, positions: np.ndarray, limit: float) -> None:
    """Raises, before older masks are replaced, if too many images are gone."""
    if count_unreadable(parts) <= limit * parts.num_objects:
        return
    lost = [
        outcome._replace(position=position)
        for position, outcome in read_parts(parts, positions, unreadable_only=True)
        if isinstance(outcome, Problem)
    ]
    raise TooManySkipped(
        f"generate {parts.split}: the images of {len(lost)} of {parts.num_objects} "
        f"objects cannot be read any more, the first: {lost[0].message} More than "
        f"data.max_skip_fraction = {limit:g} allows; no mask was written.",
        lost,
    )


class _Summary:
    """What can be said about the masks without a true one."""

    def __init__(self) -> None:
        self._num_masks = self._num_skipped = self._num_boxes = 0
        self._sums = np.zeros(4)  # click hits, objects with clicks, box IoU, score

    def watch(
        self, outcomes: Iterable[tuple[int, Outcome]]
    ) -> Iterator[tuple[int, Outcome]]:
        """Passes outcomes on and counts them."""
        for position, outcome in outcomes:
            if isinstance(outcome, PseudoInstance):
                hits = outcome.click_hit
                share = (0.0, 0) if hits is None else (float(np.mean(hits)), 1)
                self._sums += (*share, outcome.box_iou, outcome.score)
                self._num_masks += 1
                self._num_boxes += "covers_box" in outcome.flags
            else:
                self._num_skipped += 1
            yield position, outcome

    def report(self, folder: Path) -> None:
        """Says what the masks in a folder have in common with their annotations."""
        path = folder / "pseudo_masks.json"
        if not self._num_masks:
            _logger.warning("%s: no mask was made", path)
            return
        hits, with_clicks, box_iou, score = self._sums
        _logger.info(
            "%s: %d masks, %d skipped; %d filling the whole box; mean probability "
            "%.3f\n"
            "  agreement with the annotation only, which says nothing about the shape: "
            "%sbounding box %.3f (IoU with the annotated one)",
            path,
            self._num_masks,
            self._num_skipped,
            self._num_boxes,
            score / self._num_masks,
            f"{hits / with_clicks:.1%} of the clicks reached, " if with_clicks else "",
            box_iou / self._num_masks,
        )
