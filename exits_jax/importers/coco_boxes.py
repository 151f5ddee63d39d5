"""Plain COCO instances of which only the boxes are taken."""

from pathlib import Path

from exits_jax.importers.coco_json import read_objects
from exits_jax.importers.items import Items


def read(source: str | Path) -> Items:
    """Yields every object of a COCO JSON with its box alone.

    Masks and points are left out, crowd regions are rejected.

    Args:
        source: The JSON file.
    """
    return read_objects(source, lambda record: None)
