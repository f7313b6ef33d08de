"""Conjugate gradients for Bx = b with B known by its products, and the two ways in which an optimizer stops them.

    α = rᵀz/pᵀBp,   x⁺ = x + αp,   r⁺ = r − αBp,   z⁺ = M r⁺,   p⁺ = z⁺ + (r⁺ᵀz⁺/rᵀz) p

Each iterate minimises φ(x) = ½xᵀBx − bᵀx over the space spanned so far, and |x| grows with each if x₀ = 0.

`within`: from zero, until |r| ≤ tolerance |b|, to the boundary |x| = Δ, or to the first direction with pᵀBp ≤ 0, along
          which it goes to the boundary (for Δ = ∞ it stops before it, or, at the first iterate, takes x = b): always
          φ(x) < 0, and bᵀx > 0.
`to_rest`: from a given start, or from zero where that has φ ≥ 0, with a preconditioner, until φ fell by less than ε|φ|
          per iteration over the last max(10, k/10) of k iterations, or r is rounding; keeps iterates on a geometric
          grid of k. B must be positive definite.

Cost       one product per iteration, and one more in `to_rest` for a start that is not zero.
Memory     4 P; `to_rest` K P for K kept iterates (K = 1 + log_1.3 of the largest number of iterations).
Reference  Hestenes & Stiefel (1952), J. Res. NBS 49; Toint (1981), in Sparse Matrices and their Uses; Steihaug (1983),
           SIAM J. Numer. Anal. 20(3); Nocedal & Wright (2006), Numerical Optimization, algorithm 7.1; Martens (2010),
           ICML (the rest and the grid).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Product = Callable[[Array], Array]
GRID = 1.3  # ratio of the iteration numbers that `to_rest` keeps


class Within(NamedTuple):
    """`curved`: no direction with pᵀBp ≤ 0 was met. `product` is Bx, from the iterates' own products."""

    x: Float[Array, " P"]
    product: Float[Array, " P"]
    iterations: Int[Array, ""]
    curved: Bool[Array, ""]


class _Loop(NamedTuple):
    x: Array
    bx: Array
    r: Array
    p: Array
    k: Array
    curved: Array
    stop: Array


def to_boundary(x: Array, p: Array, radius: Any) -> Array:
    """The τ ≥ 0 with |x + τp| = radius, for |x| ≤ radius."""
    xp, pp, gap = x @ p, p @ p, radius**2 - x @ x
    root = jnp.sqrt(jnp.maximum(xp * xp + pp * gap, 0.0))
    # Of the two forms of the root the one without cancellation.
    return jnp.where(xp > 0, gap / (xp + root), (root - xp) / pp)


def within(
    product: Product, b: Float[Array, " P"], *, tolerance: Any, max_iterations: int, radius: Any = None
) -> Within:
    """See module docstring; `radius` None is Δ = ∞. Nothing is done for b = 0, or for b that is not finite."""
    goal = tolerance * jnp.linalg.norm(b)

    def body(c: _Loop) -> _Loop:
        bp = product(c.p)
        curvature, rr = c.p @ bp, c.r @ c.r
        curved = curvature > 0
        alpha = rr / jnp.where(curved, curvature, 1.0)
        if radius is None:  # the first direction is b itself, later ones are not followed where they do not curve up
            outside, far = jnp.zeros((), bool), jnp.where(c.k == 0, jnp.ones_like(alpha), 0.0)
        else:
            outside = jnp.linalg.norm(c.x + alpha * c.p) >= radius
            far = to_boundary(c.x, c.p, radius)
        step = jnp.where(curved & ~outside, alpha, far)
        r = c.r - alpha * bp
        p = r + (r @ r) / rr * c.p
        stop = ~curved | outside | (jnp.linalg.norm(r) <= goal)
        return _Loop(c.x + step * c.p, c.bx + step * bp, r, p, c.k + 1, c.curved & curved, stop)

    usable = jnp.isfinite(goal) & (b @ b > 0)
    zero, count = jnp.zeros_like(b), jnp.zeros((), jnp.int32)
    start = _Loop(zero, zero, b, b, count, jnp.ones((), bool), ~usable)
    end = jax.lax.while_loop(lambda c: ~c.stop & (c.k < max_iterations), body, start)
    return Within(end.x, end.bx, end.k, end.curved)


class Rest(NamedTuple):
    """`kept[:last + 1]` are iterates in order, the last of them where the loop ended."""

    kept: Float[Array, "K P"]
    last: Int[Array, ""]
    iterations: Int[Array, ""]


def grid(max_iterations: int) -> list[int]:
    """The numbers of iterations after which `to_rest` keeps the iterate: 1, 2, 3, …, and then by GRID."""
    marks = [1]
    while marks[-1] < max_iterations:
        marks.append(min(max_iterations, max(marks[-1] + 1, math.floor(marks[-1] * GRID))))
    return marks


def to_rest(
    product: Product,
    b: Float[Array, " P"],
    start: Float[Array, " P"],
    precondition: Product,
    *,
    progress: Any,
    max_iterations: int,
) -> Rest:
    """See module docstring; `precondition(r)` is Mr, `progress` is ε."""
    marks = jnp.asarray(grid(max_iterations))

    def body(c):
        x, r, p, rz, k, kept, phis, _ = c
        bp = product(p)
        curvature = p @ bp
        alpha = jnp.where(curvature > 0, rz / jnp.where(curvature > 0, curvature, 1.0), 0.0)
        x, r = x + alpha * p, r - alpha * bp
        z = precondition(r)
        new = r @ z
        k = k + 1
        phi = -0.5 * (x @ b + x @ r)
        phis = phis.at[k].set(phi)
        span = jnp.maximum(10, k // 10)
        rest = (k > span) & (phi < 0) & (phis[k - span] - phi < -span * progress * phi)
        kept = kept.at[jnp.searchsorted(marks, k)].set(x)
        stop = rest | ~(new > smallest) | ~(curvature > 0) | ~jnp.isfinite(phi)
        return x, r, z + new / rz * p, new, k, kept, phis, stop

    r = b - product(start)
    worse = ~(start @ b + start @ r > 0)  # φ(start) ≥ 0: begin at zero
    start, r = jnp.where(worse, 0.0, start), jnp.where(worse, b, r)
    z = precondition(r)
    rz = r @ z
    smallest = jnp.finfo(b.dtype).eps ** 2 * (b @ precondition(b))
    kept = jnp.zeros((len(marks), b.size), b.dtype).at[0].set(start)
    phis = jnp.zeros(max_iterations + 1, b.dtype).at[0].set(-0.5 * (start @ b + start @ r))
    first = (start, r, z, rz, jnp.zeros((), jnp.int32), kept, phis, ~((rz > 0) & jnp.isfinite(rz)))
    end = jax.lax.while_loop(lambda c: ~c[-1] & (c[4] < max_iterations), body, first)
    iterations = end[4]
    return Rest(end[5], jnp.where(iterations > 0, jnp.searchsorted(marks, iterations), 0), iterations)
