"""Compiled programs that outlive the process."""

import os
from pathlib import Path

import jax


def keep_programs() -> None:
    """Keeps them in the user's cache folder; JAX's own setting goes first."""
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home) / "exits_jax" / "programs"
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # All of them, however small: there are ten, and each takes a tenth of a second.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
