"""Step lengths from the grid t = 1, ½, ¼, …: the first that decreases enough, or the best of all.

Both evaluate the true objective only. A value that is not finite is never accepted.

Cost       one value per trial: `backtrack` those it needs, `best_of_grid` all `halvings` + 1.
Memory     what a value needs; `best_of_grid` the values.
Reference  Armijo (1966), Pacific J. Math. 16; Müller & Zeinhofer (2023), ICML, arXiv:2302.13163 (the best of a grid).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Found(NamedTuple):
    """The step length t (0 if none was acceptable), whether one was, and how many values were computed."""

    t: Float[Array, ""]
    accepted: Bool[Array, ""]
    evaluations: Int[Array, ""]


def backtrack(value_at: Callable, value: Array, slope: Array, sufficient: float | Array, halvings: int) -> Found:
    """First t of 1, ½, …, 2^-halvings with L(t) ≤ L(0) + sufficient·t·L'(0) (Armijo 1966).

    The comparison is exact to rounding only, so a decrease that vanishes in rounding is not one.
    """

    def unfinished(carry):
        k, _, accepted = carry
        return ~accepted & (k <= halvings)

    def attempt(carry):
        k, _, _ = carry
        t = jnp.ldexp(jnp.ones_like(value), -k)
        trial = value_at(t)
        return k + 1, t, (trial <= value + sufficient * t * slope) & (trial < value)

    start = (jnp.asarray(0, jnp.int32), jnp.zeros_like(value), jnp.asarray(False))
    k, t, accepted = jax.lax.while_loop(unfinished, attempt, start)
    return Found(jnp.where(accepted, t, 0.0), accepted, k)


def best_of_grid(value_at: Callable, value: Array, halvings: int) -> Found:
    """The t of 1, ½, …, 2^-halvings with the smallest L(t), if that is below L(0). All are evaluated, one by one."""
    ts = jnp.ldexp(jnp.ones_like(value), -jnp.arange(halvings + 1))
    values = jax.lax.map(value_at, ts)
    values = jnp.where(jnp.isfinite(values), values, jnp.inf)
    best = jnp.argmin(values)
    accepted = values[best] < value
    return Found(jnp.where(accepted, ts[best], 0.0), accepted, jnp.asarray(halvings + 1, jnp.int32))
