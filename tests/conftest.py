"""Strict JAX, four devices on every machine, and programs that are compiled once."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import hypothesis
import jax
import pytest
from filelock import FileLock

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Compiled programs outlive the run, for this process and all that tests start. JAX
# finds them by their code, its own version, its flags and the kind of machine.
PROGRAMS = Path(__file__).parents[1] / ".pytest_cache/jax"
KEPT = {
    "jax_compilation_cache_dir": os.environ.get("EXITS_TEST_PROGRAMS") or str(PROGRAMS),
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
for name, value in KEPT.items():
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)

# Toy programs run for milliseconds and compile for seconds: XLA and LLVM do the least.
# Processes that tests start inherit it.
FAST_COMPILE = (
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)
os.environ["XLA_FLAGS"] = " ".join((os.environ.get("XLA_FLAGS", ""), *FAST_COMPILE))

# Threads of PyTorch wait for each other by spinning, which a busy CPU punishes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No example is too slow: that depends on the machine.
hypothesis.settings.register_profile(
    "tests",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("tests")


def pytest_collection_modifyitems(items):
    """The longest test comes first: as the last one it would keep one worker alone."""
    items.sort(key=lambda item: "test_notebook" not in item.nodeid)


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


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """Gives a folder by its name, made by the first process of the tests that asks."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # of all workers

    def once(name: str, make: Callable[[Path], object]) -> Path:
        folder, made = root / name, root / f"{name}.made"
        with FileLock(root / f"{name}.lock"):
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)  # one that failed
                make(folder)
                made.touch()
        return folder

    return once
