"""Progress bars with an estimate of the end, quiet in log files and on other hosts."""

import sys

import jax
from tqdm import tqdm


def progress_bar(name: str, *, total: int, unit: str, initial: int = 0) -> tqdm:
    """A bar on the terminal; in a file, a line every twenty seconds."""
    is_terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=initial,
        desc=name,
        unit=unit,
        disable=jax.process_index() != 0,
        mininterval=1.0 if is_terminal else 20.0,
        maxinterval=1.0 if is_terminal else 20.0,
        dynamic_ncols=True,
    )
