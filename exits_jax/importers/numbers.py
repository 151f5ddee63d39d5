"""Numbers that a source has as text."""

from exits_jax.data.records import MAX_NUMBER, fault
from exits_jax.importers.json_files import short

_LONGEST = 40  # characters; no number of an image needs more


def read_number(text: str | None, name: str) -> float:
    """A finite number of a size that images can have.

    Args:
        text: As it is written; None where it is missing.
        name: What it is, for the message.

    Raises:
        AnnotationError: It is none (E104).
    """
    value = text.strip() if text is not None else ""
    try:
        number = float(value) if len(value) <= _LONGEST and "_" not in value else None
    except ValueError:
        number = None
    if number is None or not abs(number) < MAX_NUMBER:
        raise fault(
            "E104", f"Its {name} holds {short(text)}; expected a finite number."
        )
    return number
