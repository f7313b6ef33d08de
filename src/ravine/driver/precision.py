"""Floating-point precision, scoped to a block and never a global flip.

Curvature methods work with differences below float32 resolution, so ravine computes in float64 unless told
otherwise. Results of a float64 run are float64 arrays; using them in JAX outside the scope silently rounds them
to float32 (JAX's own default), hence `precision` and `Run.evaluate`.

float32 means products of matrices too. On a GPU JAX rounds their factors to ten bits by default (TF32), an error of
1e-3 in every layer, Gram matrix and inner product: line searches compare rounding errors then.
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

    Matrix products of float32 numbers are float32 ones also where JAX rounds more by default (GPU, TPU), unless
    `jax_default_matmul_precision` or an inner `with jax.default_matmul_precision(...)` says otherwise.
    Raises ValueError for anything but "float64" or "float32".
    """
    check(dtype)
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision(_products(dtype)):
        yield


def _products(dtype: str) -> str | None:
    """JAX's word for the precision of matrix products: the caller's, or none lower than `dtype`."""
    said = jax.config.jax_default_matmul_precision  # ty: ignore[missing-attribute] (JAX adds its options at run time)
    return said or ("highest" if dtype == "float32" else None)


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
