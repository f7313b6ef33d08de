"""Keep freed memory in the process: a step's large arrays are then not paid for in page faults, step after step.

The C library returns large blocks to the system as soon as they are freed, and the next step gets fresh pages, each
zeroed at its first touch. With N = 4000 rows and P = 1297 parameters, J and JᵀJ take 195 ms that way and 153 ms on kept
pages (one core, float64); with H of 12,700 parameters (1.3 GB) a quasi-Newton step takes 1.0 s and 0.4 s. The price:
the process stays as large as its largest step.

It is a setting of the whole process, and the threads of a JAX that runs already keep the old way. So the command line
and the benchmarks make it, at their start; `import ravine` never does. In a script of your own, set the environment
before it starts:

    MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=-1
"""

from __future__ import annotations

import ctypes
import sys

# Names of <malloc.h> in the GNU C library: blocks are never mapped one by one, the heap is never trimmed (-1; the
# largest positive threshold is 2 GiB, which two matrices can exceed), and all threads share it (a heap of a thread's
# own is limited to 64 MiB, and larger blocks would be mapped again).
_SETTINGS = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, -1), "M_ARENA_MAX": (-8, 1)}


def keep_freed_memory() -> bool:
    """Make the setting for this process, before JAX starts. False where the C library has none of it."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(name, value) == 1 for name, value in _SETTINGS.values())
