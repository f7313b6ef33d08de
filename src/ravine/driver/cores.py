"""The processor cores that this process may use. Imports no JAX."""

from __future__ import annotations

import os


def cores() -> list[int]:
    """Their numbers, in order. Where the system knows no affinity, all of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
