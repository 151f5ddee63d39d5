"""Size classes of objects by their area, as COCO has them."""

# Area in px of the image at which a class begins.
AREAS = {"small": 0, "medium": 32**2, "large": 96**2}


def size_class(area: float | int) -> str:
    """The class of an object: small below 32^2 px, medium below 96^2, else large."""
    return [name for name, least in AREAS.items() if area >= least][-1]
