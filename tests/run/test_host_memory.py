"""What is freed stays with the process, where only the CPU computes."""

import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from exits_jax.run import host_memory
from tests.support import toy

ON_GLIBC = platform.libc_ver()[0] == "glibc"
# A block of 96 MiB is touched, freed and taken again, by a thread as XLA's are.
FAULTS_OF_TEN_BLOCKS = """
import ctypes, resource, threading
from exits_jax.run.host_memory import keep_memory
print(keep_memory(reserve=256 << 20, least=0))
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
libc.free.argtypes = (ctypes.c_void_p,)
def touch():
    block = libc.malloc(96 << 20)
    ctypes.memset(block, 1, 96 << 20)
    libc.free(block)
def ten():
    touch()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        touch()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
thread = threading.Thread(target=ten)
thread.start()
thread.join()
"""


def faults(**variables: str) -> tuple[str, int]:
    """Whether memory is kept, and page faults of the ten blocks."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GLIBC_TUNABLES", "MALLOC_"))
    }
    said = subprocess.run(
        [sys.executable, "-c", FAULTS_OF_TEN_BLOCKS],
        env={**kept, "PYTHONPATH": str(toy.ROOT), **variables},
        text=True,
        capture_output=True,
        check=True,
    ).stdout.split()
    return said[0], int(said[1])


@pytest.mark.skipif(not ON_GLIBC, reason="there is no glibc here")
def test_a_block_that_is_taken_again_costs_no_page_faults():
    is_kept, count = faults()
    assert is_kept == "True" and count < 100


@pytest.mark.skipif(not ON_GLIBC, reason="there is no glibc here")
@pytest.mark.parametrize("name", ["GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_"])
def test_the_settings_of_the_user_go_first(name):
    value = "glibc.malloc.trim_threshold=1" if name.startswith("GLIBC") else "1"
    is_kept, count = faults(**{name: value})
    assert is_kept == "False" and count > 1000


@pytest.mark.skipif(not ON_GLIBC, reason="there is no glibc here")
@pytest.mark.parametrize("limit", ["4294967296", "max\n"])
def test_a_small_machine_or_container_is_left_as_it_is(monkeypatch, tmp_path, limit):
    for name in [name for name in os.environ if name.startswith(("GLIBC_", "MALLOC_"))]:
        monkeypatch.delenv(name)
    changed = []
    libc = SimpleNamespace(
        gnu_get_libc_version=None, mallopt=lambda *option: changed.append(option)
    )
    monkeypatch.setattr(host_memory.ctypes, "CDLL", lambda name: libc)
    monkeypatch.setattr(host_memory, "_ask_for_large_pages", lambda *_: None)
    (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr(host_memory, "_LIMITS", [tmp_path / "memory.max"])
    in_all = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    is_small = limit != "max\n"
    least = (4 << 30) + 1 if is_small else in_all
    assert host_memory.keep_memory(least=least) is not is_small
    assert bool(changed) is not is_small


def test_elsewhere_nothing_is_done(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not host_memory.keep_memory()


@pytest.mark.parametrize(
    ("platforms", "modules", "plugins", "is_alone"),
    [
        ("cpu", ["libtpu"], [], True),
        ("cuda,cpu", [], [], False),
        ("", [], [], True),
        ("", ["libtpu"], [], False),
        ("", ["jax_plugins"], [], False),
        ("", [], ["of CUDA"], False),
    ],
)
def test_what_jax_could_find_decides(
    monkeypatch, platforms, modules, plugins, is_alone
):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    monkeypatch.delenv("TPU_LIBRARY_PATH", raising=False)
    monkeypatch.setattr(host_memory, "find_spec", modules.__contains__)
    monkeypatch.setattr(host_memory, "entry_points", lambda group: plugins)
    assert host_memory.computes_on_cpu() == is_alone
