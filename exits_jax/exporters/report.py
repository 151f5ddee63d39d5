"""What became of every annotation, and what a format could not hold."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

BELOW_SCORE = "E302"  # below the score that was asked for
CROWD = "E303"  # a crowd region, in a format that has none
TOO_MANY = "E304"  # no number left in 8 bits
COVERED = "E305"  # other objects, or the void border, lie over every pixel
NAME = "E306"  # a file name that the format cannot hold, or that is taken
UNSAFE_NAME = "E112"

# What a format cannot hold, by the name that the report gives it.
WARNINGS = {
    "bridged_holes": "holes are joined to their outlines by cuts of width 0",
    "bridged_parts": "objects have separate parts, which thin bridges join",
    "hidden_pixels": "pixels of overlapping objects are hidden by smaller ones",
    "overlapping_objects": "objects are partly hidden by smaller ones",
    "void_objects": "objects or crowd regions are void (255), not numbered",
    "long_outlines": "outlines have over 1000 vertices; Ultralytics thins them out",
    "lost_scores": "objects lose their score, for which the format has no place",
    "incomplete_images": "images lack some of their objects; detectors take those for "
    "background",
    "renamed_classes": "class names hold characters that the format cannot, and differ",
    "split_objects": "objects have several parts; one group each",
    "unlinked_images": "image folders are not linked, as data.images is not known",
    "unusable_images": "images are left out for their file names or sizes",
}
_MAX_LISTED = 5


class Report:
    """Counts while an export is made; at its end the counts have to add up."""

    def __init__(self, kind: str, num_annotations: int):
        """Starts with nothing written.

        Args:
            kind: Name of the format.
            num_annotations: Of the source.
        """
        self.kind = kind
        self.num_annotations = num_annotations
        self.num_written = 0
        self.num_images = 0
        self.left_out: list[tuple[Any, str, str]] = []
        self.warnings: Counter[str] = Counter()
        self._overlaps: list[tuple[float, Any]] = []
        self._vertices = [0, 0]  # exact, and as written

    def leave_out(self, annotation_id: Any, code: str, message: str) -> None:
        """Notes an annotation that is not in the output, and why."""
        self.left_out.append((annotation_id, code, message))

    def wrote(self, num_objects: int) -> None:
        """Notes annotations that are in the output."""
        self.num_written += num_objects

    def warn(self, name: str, count: int = 1) -> None:
        """Adds to the count of one of the `WARNINGS`."""
        if name not in WARNINGS:
            known = ", ".join(WARNINGS)
            raise ValueError(f"Unknown warning {name!r}; known are {known}.")
        if count:
            self.warnings[name] += int(count)

    def simplified(
        self, annotation_id: Any, iou: float, before: int, after: int
    ) -> None:
        """Notes what a tolerance did to the outlines of an object.

        Args:
            annotation_id: The object.
            iou: Overlap of what is written with the exact mask.
            before: Vertices of the exact outlines.
            after: Vertices of those that are written.
        """
        self._overlaps.append((iou, annotation_id))
        self._vertices[0] += before
        self._vertices[1] += after

    def _outlines(self) -> dict[str, Any]:
        """What the tolerance costs; nothing without one."""
        if not self._overlaps:
            return {}
        least, annotation_id = min(self._overlaps, key=lambda pair: pair[0])
        mean = sum(iou for iou, _ in self._overlaps) / len(self._overlaps)
        return {
            "objects": len(self._overlaps),
            "iou_mean": mean,
            "iou_min": least,
            "iou_min_id": annotation_id,
            "vertices_exact": self._vertices[0],
            "vertices": self._vertices[1],
        }

    def as_json(self, provenance: Mapping[str, Any]) -> dict[str, Any]:
        """The content of `export_report.json`.

        Args:
            provenance: Where the masks come from.

        Raises:
            ValueError: If an annotation is neither written nor left out.
        """
        accounted = self.num_written + len(self.left_out)
        if accounted != self.num_annotations:
            raise ValueError(
                f"{self.kind}: {self.num_written} annotations written and "
                f"{len(self.left_out)} left out are not all {self.num_annotations}. "
                "Every annotation must be accounted for."
            )
        outlines = self._outlines()
        return {
            "kind": self.kind,
            "counts": {
                "images": self.num_images,
                "annotations": self.num_annotations,
                "written": self.num_written,
                "left_out": len(self.left_out),
            },
            "warnings": [
                {"name": name, "count": count, "message": WARNINGS[name]}
                for name, count in self.warnings.items()
            ],
            "left_out": [
                dict(zip(("id", "code", "message"), entry)) for entry in self.left_out
            ],
            **({"outlines": outlines} if outlines else {}),
            "exits_jax": dict(provenance),
        }

    def summary(self) -> str:
        """A few lines for people."""
        lines = [
            f"{self.num_written} objects on {self.num_images} images, "
            f"{len(self.left_out)} left out"
        ]
        if outlines := self._outlines():
            lines.append(
                "outlines have {vertices} vertices, {vertices_exact} would be exact; "
                "IoU with the exact masks: mean {iou_mean:.3f}, least {iou_min:.3f} "
                "(annotation {iou_min_id!r:.80})".format(**outlines)
            )
        lines += [f"{count} {WARNINGS[name]}" for name, count in self.warnings.items()]
        lines += [f"left out: {entry[2]}" for entry in self.left_out[:_MAX_LISTED]]
        if len(self.left_out) > _MAX_LISTED:
            lines.append(f"left out: and {len(self.left_out) - _MAX_LISTED} more")
        return "\n  ".join(lines)
