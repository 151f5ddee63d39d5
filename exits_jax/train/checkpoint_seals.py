"""Seals of checkpoints: Orbax reads arrays with a bit that flipped as other numbers.

The first process seals the files of a checkpoint in the background, before it gets its
name: one with a name has its seal. Those of earlier versions have none and are read as
they are.
"""

from collections.abc import Iterable
from pathlib import Path

import jax

from exits_jax.files.seals import (
    Damaged,
    fault_of_file,
    read_json,
    read_sealed,
    seals_of,
    write_sealed,
)

SEALS = "seals.json"
# Of Orbax alone: written when all else is there, and never read for what they hold.
_UNREAD = ("commit_success.txt", "_CHECKPOINT_METADATA", SEALS)


def seal_unfinished(folder: Path) -> None:
    """Seals the checkpoint of a folder that has been written and has no name yet."""
    if jax.process_index() != 0:
        return
    for draft in folder.glob("*.orbax-checkpoint-tmp*"):
        files = (path for path in draft.rglob("*") if path.is_file())
        made = [path for path in files if path.name not in _UNREAD]
        write_sealed(draft / SEALS, seals_of(draft, made))


def unread_of(folder: Path) -> str:
    """Says which of Orbax's notes in a folder of checkpoints are damaged; "" if none.

    They are written after the seal.
    """
    for notes in sorted(folder.glob("[0-9]*/_CHECKPOINT_METADATA")):
        try:
            found = read_json(notes, dict)
        except Damaged as error:
            return str(error).rstrip(".")
        if not isinstance(found.get("item_handlers"), dict):
            return f"{notes} is damaged"
    return ""


def refuse_damaged(checkpoint: Path, items: Iterable[str]) -> None:
    """Raises Damaged if files of some items of a checkpoint are not what was written.

    Each of several processes looks at its share of the files.
    """
    try:
        seals = read_sealed(checkpoint / SEALS)
    except FileNotFoundError:
        return
    names = [name for name in sorted(seals) if name.partition("/")[0] in set(items)]
    for name in names[jax.process_index() :: jax.process_count()]:
        fault = fault_of_file(checkpoint / name, seals[name])
        if fault is not None:
            raise Damaged(f"{checkpoint / name} {fault}")
