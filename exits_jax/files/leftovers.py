"""What killed processes left half written, removed by the next one that comes by."""

import os
import re
import shutil
from pathlib import Path

from exits_jax.files.atomic import DRAFT

WHOLE_PATH = rf"\..+\.(\d+){re.escape(DRAFT)}"  # as `whole_path` names its files


def remove_leftovers(
    folder: Path, pattern: str = WHOLE_PATH, *, folders: bool = False
) -> None:
    """Removes files under names of our own whose process is gone.

    Args:
        folder: Where to look; not below it. It need not exist.
        pattern: A regular expression of whole names; its group is the number of the
            process that wrote there, on this machine.
        folders: Removes folders of such names, too, with all that is in them.
    """
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except OSError:
        return
    for name in names:
        found = re.fullmatch(pattern, name)
        if found is None or _is_at_work(int(found[1])):
            continue
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            if folders:
                shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_at_work(process: int) -> bool:
    """Whether another process of this number lives; this one has only just begun."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
