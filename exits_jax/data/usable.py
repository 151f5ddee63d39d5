"""What a file whose records are sound may still be unfit for, in words."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from exits_jax.data.coco_file import CocoFile
from exits_jax.data.image_names import source_name
from exits_jax.data.records import FLAG_CODES, AnnotationError, fault
from exits_jax.data.table import Instances

_SHOWN = 3
_CVAT = (
    "CVAT's COCO export has iscrowd 1 for every mask (brush, SAM): set it to 0 where "
    "each is one object."
)


def nothing_left(instances: Instances, path: Path) -> AnnotationError:
    """The error for a file without an object to train on or to make a mask for.

    Args:
        instances: Its usable records, crowd regions all of them.
        path: The file.
    """
    if not len(instances):
        return fault("E103", f"{path}: no record of it can be used.")
    return fault(
        "E103",
        f"{path}: all {len(instances)} usable records are crowd regions (iscrowd is "
        f"1), so no object is left to train on or to make a mask for. {_CVAT}",
    )


def same_classes(source: CocoFile) -> list[str]:
    """Names that several categories of a file have."""
    names = Counter(category.get("name") for category in source.categories)
    return [name for name, n in names.items() if n > 1 and isinstance(name, str)]


def same_images(source: CocoFile) -> list[str]:
    """Names that several images of a file have."""
    counts = Counter(
        name for name in map(source_name, source.images) if isinstance(name, str)
    )
    return [name for name, count in counts.items() if count > 1]


def mostly_crowds(instances: Instances) -> bool:
    """Whether a file has objects, but more crowd regions, which is rarely meant."""
    crowds = int(instances.is_crowd.sum())
    return 0 < len(instances) - crowds < crowds


def doubts(source: CocoFile, instances: Instances, path: Path) -> Iterator[str]:
    """Sentences on what is read, but may be meant otherwise.

    Args:
        source: The file.
        instances: Its usable records.
        path: What to call it.
    """
    if mostly_crowds(instances):
        crowds = int(instances.is_crowd.sum())
        yield (
            f"W219: {crowds} of {len(instances)} records of {path} are crowd regions "
            f"(iscrowd is 1), which are never trained on. {_CVAT}"
        )
    if twice := same_classes(source):
        yield f"W108: several categories of {path} have the name {_listed(twice)}."
    if twice := same_images(source):
        yield (
            f"W106: several images of {path} have the file name {_listed(twice)}. If "
            "they are different images, their annotations are now on one of them."
        )
    for flag in ("text_as_id", "under_other_name"):
        count = instances.count_flag(flag)
        if count:
            yield f"{FLAG_CODES[flag]}: {count} records of {path}: {_MEANINGS[flag]}."


_MEANINGS = {
    "text_as_id": "ids that are text are read as the numbers that they show",
    "under_other_name": "their image was found under a name that differs a little",
}


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"{name!r:.80}" for name in names[:_SHOWN])
    more = len(names) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
