"""float32 values that limit a float64 run: found in the data, the parameters and inside residual functions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..objective import Objective
from ..static import is_array
from ..types import Params
from .notice import warn


def warn_rounding(bound: Objective, free: Params, objective: Any, params: Params) -> None:
    """One warning naming what carries 1e-7 rounding: leaves as given, constants from the jaxpr of the bound value."""
    found = [f"params{path}" for path in rounded_leaves(params)]
    found += [f"objective{path}" for path in rounded_leaves(objective)]
    found += [f"a constant of shape {shape} inside a residual" for shape in rounded_constants(bound.value, free)]
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        warn(
            f"float32 values in a float64 run: {', '.join(found[:3])}{more}. They are promoted, but carry rounding of "
            "1e-7; build them in NumPy float64 or under ravine.precision('float64').",
        )


def rounded_leaves(tree: Any) -> list[str]:
    """Paths of floating leaves stored in less than float64."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    low = (jnp.float32, jnp.float16, jnp.bfloat16)
    return [jax.tree_util.keystr(path) for path, x in flat if is_array(x) and x.dtype in low]


def rounded_constants(fn, *args: Any) -> list[tuple[int, ...]]:
    """Shapes of float32 array constants closed over by `fn`, found in its jaxpr (scalars are ignored)."""
    closed = jax.make_jaxpr(fn)(*args)
    found: list[tuple[int, ...]] = []

    def scan(consts, jaxpr):
        found.extend(np.shape(c) for c in consts if is_array(c) and c.dtype == jnp.float32 and np.ndim(c) > 0)
        for eqn in jaxpr.eqns:
            for value in eqn.params.values():
                for inner in jax.tree.leaves(value, is_leaf=_is_jaxpr):
                    if hasattr(inner, "jaxpr"):
                        scan(inner.consts, inner.jaxpr)
                    elif hasattr(inner, "eqns"):
                        scan((), inner)

    scan(closed.consts, closed.jaxpr)
    return found


def _is_jaxpr(x: Any) -> bool:
    return hasattr(x, "jaxpr") or hasattr(x, "eqns")
