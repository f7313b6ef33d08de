"""Floating-point precision, scoped to a block and never a global flip.

Curvature methods work with differences below float32 resolution, so ravine computes in float64 unless told
otherwise. Results of a float64 run are float64 arrays; using them in JAX outside the scope silently rounds them
to float32 (JAX's own default), hence `precision` and `Run.evaluate`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp

from ..static import is_array

DTYPES = ("float64", "float32")


@contextmanager
def precision(dtype: str = "float64"):
    """`with ravine.precision("float64"):` JAX computes in this precision inside the block, on this thread.

    Raises ValueError for anything but "float64" or "float32".
    """
    check(dtype)
    with jax.enable_x64(dtype == "float64"):
        yield


def check(dtype: str) -> str:
    if dtype not in DTYPES:
        raise ValueError(f"precision={dtype!r}: choose 'float64' (default) or 'float32'.")
    return dtype


def is_inexact(x: Any) -> bool:
    return is_array(x) and jnp.issubdtype(x.dtype, jnp.inexact)


def cast(tree: Any, dtype: str) -> Any:
    """Every floating array leaf as a JAX array of `dtype`; other arrays as JAX arrays; the rest untouched."""

    def one(x):
        if not is_array(x):
            return x
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return x
        if jnp.issubdtype(x.dtype, jnp.floating):
            return jnp.asarray(x, dtype)
        return jnp.asarray(x)

    return jax.tree.map(one, tree)


def floats_to_arrays(tree: Any, dtype: str) -> Any:
    """Python floats become array leaves too (a method's real-valued options: tuning them never recompiles)."""
    return jax.tree.map(lambda x: jnp.asarray(x, dtype) if isinstance(x, float) else x, cast(tree, dtype))
