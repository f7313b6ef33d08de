"""Freed memory stays in the process where the C library can do that."""

import platform
import subprocess
import sys

import pytest

from ravine.driver import allocator

TOUCH = """
import ctypes, resource, sys
from ravine.driver.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
size, times = int(sys.argv[2]), int(sys.argv[3])
for i in range(times + 1):
    if i == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how, size, times):
    words = [sys.executable, "-c", TOUCH, how, str(size), str(times)]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt's settings belong to the GNU C library")
@pytest.mark.parametrize(("size", "times"), [(1 << 26, 20), (9 << 28, 1)], ids=["64MiB", "2.25GiB"])
def test_freed_blocks_are_used_again_without_page_faults(size, times):
    assert faults("keep", size, times) * 10 < faults("leave", size, times)


def test_nothing_is_set_where_the_c_library_has_no_such_setting(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert not allocator.keep_freed_memory()
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    assert not allocator.keep_freed_memory()
