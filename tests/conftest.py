"""Strict JAX, four devices on every machine, and programs that are compiled once."""

import os
import signal
from pathlib import Path

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Compiled programs outlive the run, for this process and all that tests start. JAX
# finds them by their code, its own version, its flags and the kind of machine.
KEPT = {
    "jax_compilation_cache_dir": str(Path(__file__).parents[1] / ".pytest_cache/jax"),
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
for name, value in KEPT.items():
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)

# Threads of PyTorch wait for each other by spinning, which a busy CPU punishes.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def ctrl_c(request):
    """Ends the session after the test that it interrupts.

    pytest alone would go on: the command that is tested makes an exit status of it.
    """

    def end(*_):
        request.session.shouldstop = "Ctrl-C"
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, end)
    yield
    signal.signal(signal.SIGINT, before)
