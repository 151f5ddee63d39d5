"""Memory of the host that a program on the CPU gives back and takes in every step."""

import contextlib
import ctypes
import os
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

# Of glibc's malloc.h and Linux' mman.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_MADV_HUGEPAGE = 14
_OF_THE_USER = ("GLIBC_TUNABLES", "MALLOC_")
_LIMITS = (  # of a container, in bytes: of either version of control groups
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def computes_on_cpu() -> bool:
    """Whether JAX, which is not loaded yet, can find no device but the CPU."""
    named = os.environ.get("JAX_PLATFORMS")
    if named:
        return named == "cpu"
    modules = any(map(find_spec, ("libtpu", "jax_plugins")))
    in_the_system = "TPU_LIBRARY_PATH" in os.environ
    return not (modules or in_the_system or entry_points(group="jax_plugins"))


def keep_memory(*, reserve: int = 8 << 30, least: int = 12 << 30) -> bool:
    """Lets the allocator keep what is freed, in large pages.

    XLA asks for a program's temporary memory at every call, hundreds of MiB, and glibc
    hands it back to the kernel after each: a page fault for every 4 KiB of every step.
    Instead the heap is never shortened. It is laid out at once, as addresses that take
    no memory until they are touched. A run then holds up to three times as much.

    To be called before there are threads: each may get a heap of its own, which cannot
    hold a large block. The variables by which a user sets the allocator go first.

    Args:
        reserve: Bytes that large pages are asked for; half of the machine's memory at
            most.
        least: Bytes that the machine, or the container, must have for it.

    Returns:
        Whether it was done: only on Linux with glibc there is something to do.
    """
    if not sys.platform.startswith("linux"):
        return False
    if any(name.startswith(_OF_THE_USER) for name in os.environ):
        return False
    libc, memory = ctypes.CDLL(None), _memory()
    if not hasattr(libc, "gnu_get_libc_version") or memory < least:
        return False
    for name, value in ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1)):
        libc.mallopt(name, value)
    _ask_for_large_pages(libc, min(reserve, memory // 2))
    return True


def _memory() -> int:
    """Bytes of the machine, or fewer where a container may not take them all."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _LIMITS:
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            found.append(int(file.read_text(encoding="ascii")))
    return min(found)


def _ask_for_large_pages(libc: ctypes.CDLL, size: int) -> None:
    """Takes a block, marks it and frees it: the heap keeps the addresses and marks."""
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = (ctypes.c_size_t,)
    libc.free.argtypes = (ctypes.c_void_p,)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    block = libc.malloc(size)
    if not block:
        return  # a limit on addresses: small pages, then
    page = os.sysconf("SC_PAGE_SIZE")
    start = -(-block // page) * page
    libc.madvise(start, (block + size - start) // page * page, _MADV_HUGEPAGE)
    libc.free(block)
