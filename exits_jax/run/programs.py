"""Compiled programs that outlive the process."""

import logging
import os
from pathlib import Path

import jax

_logger = logging.getLogger(__name__)


def keep_programs(folder: str | Path = "") -> None:
    """Keeps them in a folder; JAX's own setting, such as its variable, goes first.

    JAX runs what it finds there. So it is a folder of the user unless somebody names
    another, and no folder that comes along with a run or a model.

    Args:
        folder: Where; empty: the cache folder of the user.
    """
    given = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if given is not None:
        return
    try:
        jax.config.update("jax_compilation_cache_dir", str(folder or _of_user()))
    except RuntimeError:  # a user without a home, as in some containers
        _logger.warning("No home folder: compiled programs are not kept.")
        return
    if not folder:
        # All of them, however small: a run has a hundred, and each takes a tenth of a
        # second. A folder that is named may be far away.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _of_user() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "exits_jax" / "programs"
