"""Backtracking by interpolation: the first t of a decreasing sequence with enough decrease of φ(t) = L(θ + t d).

    φ(t) ≤ c + c₁ t φ'(0),   c = φ(0), or larger for a search that is not monotone (Grippo, Lampariello & Lucidi), or

    |φ(t) − φ(0)| ≤ ε|φ(0)|  and  ½(φ'(0) + φ'(t)) ≤ c₁ φ'(0)       where the change of φ drowns in `rounding`

Where the values differ by a few ulp only, c = φ(0) and there is a slope, the second condition alone counts: the first
would be rounding's word, and let t grow until the loss rises enough to be seen.
The next t is the minimiser of the parabola through φ(0), φ'(0) and φ(t), kept in [t/10, t/2]; t/10 where φ(t) is
not finite, which is never accepted. With c = ∞ every finite value is accepted.

Cost       one call of `evaluate` per trial, at most `max_trials`; one compiled loop with one place of evaluation.
Memory     what `evaluate` returns, once.
Reference  Armijo (1966), Pacific J. Math. 16; Grippo, Lampariello & Lucidi (1986), SIAM J. Numer. Anal. 23(4);
           Nocedal & Wright (2006), Numerical Optimization, section 3.5; Hager & Zhang (2005), SIAM J. Optim. 16(1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .rounding import ROUNDING, drowns

# How far one rejection shortens the step, at most and at least; the most where nothing is known of φ(t).
SHORTEST, LONGEST = 0.1, 0.5


class Found(NamedTuple):
    """Outcome. Without `moved`, t = 0 and value and grad are those of the start."""

    t: Float[Array, ""]
    value: Float[Array, ""]
    grad: Any
    trials: Int[Array, ""]
    slopes: Int[Array, ""]  # trials that had a slope
    moved: Bool[Array, ""]


def armijo(
    evaluate: Callable[[Array], tuple[Array, Array, Any]],
    value: Float[Array, ""],
    slope: Float[Array, ""],
    grad: Any,
    first: Float[Array, ""],
    *,
    ceiling: Any = None,
    c1: Any = 1e-4,
    max_trials: int = 30,
) -> Found:
    """Searches along `evaluate(t) -> (φ(t), φ'(t), gradient)` from t = `first` downwards; `ceiling` is c.

    A search by values alone returns NaN for φ'(t), and any tree of the form of `grad` for the gradient; it ends where
    the change of φ drowns, unless `evaluate` returns a slope there.
    With a slope that is not negative, or not finite, nothing is evaluated.
    """
    monotone, ceiling = ceiling is None, value if ceiling is None else ceiling
    ulps = ROUNDING * jnp.finfo(value.dtype).eps * jnp.abs(value)

    def attempt(carry):
        t, _, _, trials, slopes, _ = carry
        f, s, g = evaluate(t)
        enough = f <= ceiling + c1 * t * slope
        drowned = drowns(f, value) & (0.5 * (slope + s) <= c1 * slope)
        if monotone:
            enough &= (jnp.abs(f - value) > ulps) | ~jnp.isfinite(s)
        accepted = jnp.isfinite(f) & (enough | drowned)
        parabola = -0.5 * slope * t * t / (f - value - t * slope)
        shorter = jnp.where(jnp.isfinite(parabola), jnp.clip(parabola, SHORTEST * t, LONGEST * t), SHORTEST * t)
        return jnp.where(accepted, t, shorter), f, g, trials + 1, slopes + jnp.isfinite(s), accepted

    usable = (slope < 0) & (slope > -jnp.inf) & jnp.isfinite(value) & (first > 0) & jnp.isfinite(first)
    none = jnp.zeros((), jnp.int32)
    start = (jnp.asarray(first, value.dtype), value, grad, none, none, jnp.zeros((), bool))
    t, f, g, trials, slopes, accepted = jax.lax.while_loop(
        lambda carry: usable & ~carry[-1] & (carry[3] < max_trials), attempt, start
    )
    keep = lambda new, old: jnp.where(accepted, new, old)
    return Found(keep(t, 0.0), keep(f, value), jax.tree.map(keep, g, grad), trials, slopes, accepted)
