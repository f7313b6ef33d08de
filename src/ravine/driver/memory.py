"""Before the run: what a method will store, against what there is."""

from __future__ import annotations

import os

import jax
import numpy as np

from ..method import Method
from ..types import Params

_SHARE = 0.8  # of the memory that exists


def check_memory(method: Method, n: int, params: Params) -> None:
    """Raises ValueError with the numbers when the method's dense arrays for n rows cannot fit."""
    p = int(sum(np.size(x) for x in jax.tree.leaves(params)))
    size = max((x.dtype.itemsize for x in jax.tree.leaves(params)), default=8)
    need, have = method.footprint(n, p) * size, available()
    if have is not None and need > _SHARE * have:
        raise ValueError(
            f"{type(method).__name__} would store about {need / 2**30:.1f} GiB (N = {n} rows, P = {p} parameters) and "
            f"this device has {have / 2**30:.1f} GiB; use LBFGS or Adam, fewer points, or a smaller network."
        )


def available() -> int | None:
    """Bytes of memory of the default device; None where it cannot be told."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        return stats.get("bytes_limit")
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
