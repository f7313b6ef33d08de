"""Strong Wolfe line search with approximate acceptance near rounding.

For φ(t) = L(θ + t d) with φ'(0) < 0 it looks for a t > 0 with

    φ(t) ≤ φ(0) + c₁ t φ'(0)   or   |φ(t) − φ(0)| ≤ ε|φ(0)|      (decrease; ε of `rounding`)
    |φ'(t)| ≤ c₂ |φ'(0)|                                          (curvature)

The second form of decrease is the approximate Wolfe condition: where the change of φ drowns in rounding, its slope
does not, and ½(φ'(0) + φ'(t)) ≤ c₁ φ'(0) follows from the curvature condition with c₂ < 1 − 2c₁.

A trial point replaces one end of an interval [lo, hi] in which a Wolfe point lies. `lo` is the lowest point with
decrease, and φ' at `lo` points towards `hi`; hi = ∞ until the interval is bounded. The next trial is the minimiser of
the cubic through both ends, kept away from them; it is the root of the secant of φ' where the two values differ by
less than their rounding, and the midpoint where the interval shrinks too slowly. A non-finite φ(t) bounds the interval.

Cost       one value and gradient per trial, at most `max_trials`; one compiled loop with one place of evaluation.
Memory     one gradient.
Reference  Nocedal & Wright (2006), Numerical Optimization, section 3.5; Moré & Thuente (1994), ACM TOMS 20(3);
           Hager & Zhang (2005), SIAM J. Optim. 16(1) (approximate Wolfe conditions).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from ..types import Params, Status
from . import rounding

FIRST_TRIALS = ("decrease", "unit")
# How far a trial stays from the ends of a bounded interval, as a fraction of its length.
MARGIN = 0.1
# Growth of an unbounded interval per trial, relative to the last stretch (Moré & Thuente use 1.1 and 4).
GROW_LEAST, GROW_MOST = 1.1, 5.0
# Where φ is not finite, go this far of the way from the start: a wall may be very near. Halve once lo has moved.
WALL = 0.1


class Found(NamedTuple):
    """Outcome. Without `moved`, t = 0 and value, slope and grad are those of the start."""

    t: Float[Array, ""]
    value: Float[Array, ""]
    slope: Float[Array, ""]
    grad: Any
    trials: Int[Array, ""]
    moved: Bool[Array, ""]  # the objective decreased
    wolfe: Bool[Array, ""]  # both conditions hold


class _End(NamedTuple):
    t: Float[Array, ""]
    value: Float[Array, ""]
    slope: Float[Array, ""]


class _Loop(NamedTuple):
    trial: Float[Array, ""]
    lo: _End
    grad: Any  # at lo
    hi: _End
    widths: Float[Array, " 2"]  # of the interval, the last two
    trials: Int[Array, ""]
    wolfe: Bool[Array, ""]
    stop: Bool[Array, ""]


def _select(condition: Array, a: Any, b: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def _cubic(a: _End, b: _End) -> Array:
    """Minimiser of the cubic through values and slopes at both ends; NaN where it has none."""
    gap = b.t - a.t
    d1 = a.slope + b.slope - 3.0 * (b.value - a.value) / gap
    d2 = jnp.sign(gap) * jnp.sqrt(d1 * d1 - a.slope * b.slope)
    return b.t - gap * (b.slope + d2 - d1) / (b.slope - a.slope + 2.0 * d2)


def _inside(lo: _End, hi: _End, widths: Array, slack: Array) -> Array:
    """Next trial in a bounded interval."""
    gap = hi.t - lo.t
    secant = lo.t - lo.slope * gap / (hi.slope - lo.slope)
    drowned = (jnp.abs(hi.value - lo.value) <= slack) & (hi.slope * lo.slope < 0)
    t = jnp.where(drowned, secant, _cubic(lo, hi))
    ends = lo.t + gap * MARGIN, hi.t - gap * MARGIN
    t = jnp.clip(t, jnp.minimum(*ends), jnp.maximum(*ends))
    slow = jnp.abs(gap) > 0.66 * widths[0]
    t = jnp.where(jnp.isfinite(t) & ~slow, t, lo.t + 0.5 * gap)
    return jnp.where(jnp.isfinite(hi.value), t, lo.t + gap * jnp.where(lo.t > 0, 0.5, WALL))


def _beyond(before: _End, lo: _End) -> Array:
    """Next trial while no upper bound is known."""
    stretch = lo.t - before.t
    t = _cubic(before, lo)
    t = jnp.where(jnp.isfinite(t) & (t > lo.t), t, jnp.inf)
    return jnp.clip(t, lo.t + GROW_LEAST * stretch, lo.t + GROW_MOST * stretch)


def strong_wolfe(
    evaluate: Callable[[Array], tuple[Array, Array, Any]],
    value: Float[Array, ""],
    slope: Float[Array, ""],
    grad: Any,
    first: Float[Array, ""],
    *,
    c1: Any = 1e-4,
    c2: Any = 0.9,
    noise: float = rounding.NOISE,
    max_trials: int = 25,
) -> Found:
    """Searches along `evaluate(t) -> (φ(t), φ'(t), gradient)` from t = 0, where they are `value`, `slope`, `grad`.

    `first` is the first trial, `noise` ε of the approximate decrease (at least 8 ulp). With a slope that is not
    negative, or not finite, nothing is evaluated.
    """
    zero, inf = jnp.zeros_like(value), jnp.full_like(value, jnp.inf)
    slack = rounding.slack(value, noise)

    def body(loop: _Loop) -> _Loop:
        t, lo, hi = loop.trial, loop.lo, loop.hi
        f, s, g = evaluate(t)
        new = _End(t, f, s)
        usable = jnp.isfinite(f) & jnp.isfinite(s)
        decrease = usable & ((f <= value + c1 * t * slope) | (jnp.abs(f - value) <= slack))
        wolfe = decrease & (jnp.abs(s) <= c2 * jnp.abs(slope))
        better = wolfe | (decrease & (f <= lo.value + slack))
        new = new._replace(value=jnp.where(usable, f, jnp.inf))
        turned = better & (s * (hi.t - lo.t) > 0)  # the minimum lies between the old lo and here
        next_hi = _select(better, _select(turned, lo, hi), new)
        next_lo = _select(better, new, lo)
        bounded = jnp.isfinite(next_hi.t)
        gap = jnp.abs(next_hi.t - next_lo.t)
        trial = jnp.where(bounded, _inside(next_lo, next_hi, loop.widths, slack), _beyond(lo, next_lo))
        return _Loop(
            trial=trial,
            lo=next_lo,
            grad=_select(better, g, loop.grad),
            hi=next_hi,
            widths=jnp.stack([loop.widths[1], gap]),
            trials=loop.trials + 1,
            wolfe=wolfe,
            stop=wolfe | ~jnp.isfinite(trial) | (trial == next_lo.t) | (trial == next_hi.t),
        )

    start = _Loop(
        trial=first,
        lo=_End(zero, value, slope),
        grad=grad,
        hi=_End(inf, inf, zero),
        widths=jnp.stack([inf, inf]),
        trials=jnp.zeros((), jnp.int32),
        wolfe=jnp.zeros((), bool),
        stop=~((slope < 0) & (slope > -jnp.inf) & jnp.isfinite(value) & (first > 0)),
    )
    end = jax.lax.while_loop(lambda loop: ~loop.stop & (loop.trials < max_trials), body, start)
    moved = (end.lo.t > 0) & (end.wolfe | (end.lo.value < value))
    lo = _select(moved, end.lo, start.lo)
    return Found(lo.t, lo.value, lo.slope, _select(moved, end.grad, grad), end.trials, moved, end.wolfe)


def along(objective, unravel: Callable[[Array], Params], theta: Array, direction: Array) -> Callable:
    """t -> (φ(t), φ'(t), gradient) for φ(t) = L(θ + t d), everything flat and of the type of θ.

    Where the gradient is not finite φ is infinite: no method can go on from such a point, so no search may take it.
    """

    def evaluate(t: Array) -> tuple[Array, Array, Array]:
        value, grad = flat_gradient(objective, unravel(theta + t * direction), theta.dtype)
        slope = grad @ direction
        return jnp.where(jnp.isfinite(slope), value, jnp.inf), slope, grad

    return evaluate


def flat_gradient(objective, params: Params, dtype: Any) -> tuple[Array, Array]:
    """L and its gradient as one vector."""
    value, grad = objective.value_and_grad(params)
    return value.astype(dtype), ravel_pytree(grad)[0].astype(dtype)


def flat_hvp(objective, params: Params, v: Float[Array, " P"]) -> Float[Array, " P"]:
    """∇²L v as one vector, of the type of v."""
    _, unravel = ravel_pytree(params)
    return ravel_pytree(objective.hvp(params, unravel(v)))[0].astype(v.dtype)


def first_trial(
    rule: str, first_step: Any, fresh: Array, size: Array, grad_norm: Array, decrease: Array, slope: Array
) -> Array:
    """The first t of a search along a quasi-Newton direction. `size` = |θ|.

    `fresh`: the direction is −g, so the move is |g| long, but at most first_step and at least √ε |θ|: a shorter one
    would be lost in rounding where the whole loss is small, and `GROW_MOST` would take all trials to make up for it.
    Otherwise 1 or, with the rule "decrease",
    min(1, 2.02 (L(θ) − L(θ₋))/φ'(0)): the minimiser of a parabola that falls as far as the last step did (Nocedal &
    Wright 2006, eq. 3.60, with their factor 1.01). `decrease` = L(θ) − L(θ₋), 0 where it is not known.
    """
    safe = jnp.where(grad_norm > 0, grad_norm, 1.0)
    shortest = jnp.sqrt(jnp.finfo(grad_norm.dtype).eps) * size
    start = jnp.minimum(jnp.maximum(1.0, shortest / safe), first_step / safe)
    known = (decrease < 0) & (slope < 0)
    guess = jnp.minimum(1.0, 2.02 * decrease / jnp.where(known, slope, 1.0))
    later = jnp.where(known, guess, 1.0) if rule == "decrease" else jnp.ones_like(slope)
    return jnp.where(fresh, start, later)


def search_status(value: Array, grad_norm: Array, moved: Array, restarted: Array) -> Array:
    """The Status of a step: a search that fails along a quasi-Newton direction is REJECTED (the next step restarts
    from the gradient); one that fails along the gradient itself is NO_DESCENT. A zero gradient is OK."""
    failed = jnp.where(restarted, Status.NO_DESCENT, Status.REJECTED)
    status = jnp.where(moved | (grad_norm == 0), Status.OK, failed)
    finite = jnp.isfinite(value) & jnp.isfinite(grad_norm)
    return jnp.where(finite, status, Status.NONFINITE).astype(jnp.int32)


def check_search(owner: Any, name: str | None = None) -> None:
    """Refuses search options out of range; fields that are traced already are let through. `name` is for the sentence,
    the class's if None."""
    name = type(owner).__name__ if name is None else name
    c1, c2 = owner.c1, owner.c2
    if isinstance(c1, (int, float)) and isinstance(c2, (int, float)) and not 0 < c1 < c2 < 1:
        raise ValueError(f"{name}: the Wolfe constants must satisfy 0 < c1 < c2 < 1; got c1={c1!r}, c2={c2!r}.")
    if owner.first_trial not in FIRST_TRIALS:
        raise ValueError(f"{name}: first_trial must be one of {FIRST_TRIALS}; got {owner.first_trial!r}.")
    first = owner.first_step
    if isinstance(first, (int, float)) and not 0 < first < float("inf"):
        raise ValueError(f"{name}: first_step must be positive and finite; got {first!r}.")
    if isinstance(owner.max_trials, bool) or not isinstance(owner.max_trials, int) or owner.max_trials < 1:
        raise ValueError(f"{name}: max_trials must be an integer of at least 1; got {owner.max_trials!r}.")
