"""One scaled update of the Broyden class for H ≈ (∇²L)⁻¹, and two self-scaled choices of its member.

    w = Hy,   v = s/(sᵀy) − w/(yᵀw),   H⁺ = (H − wwᵀ/(yᵀw) + φ (yᵀw) vvᵀ)/τ + ssᵀ/(sᵀy)

H⁺y = s for every τ and φ; φ = 1 is BFGS, 0 DFP. Shared by the dense quasi-Newton methods and transformations.

Cost       one product Hx for the direction, one for w, one pass over H.
Memory     P².
Reference  Nocedal & Wright (2006), Numerical Optimization, chapter 6; those of the choices stand with the methods.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

BFGS_VARIANTS = ("AB", "OL")
PARALLEL = 1e-14


class Scaling(NamedTuple):
    """The member of the family taken at one step."""

    tau: Float[Array, ""]
    phi: Float[Array, ""]


class Pair(NamedTuple):
    """What the update needs of one step."""

    s: Float[Array, " P"]
    y: Float[Array, " P"]
    w: Float[Array, " P"]  # Hy
    usable: Bool[Array, ""]  # curvature is positive beyond rounding


def inverse_times(inverse: Array, fresh: Array, x: Array) -> Array:
    """Hx, with H the identity while `fresh`: chosen after the product, which so reads a matrix and writes none."""
    return jnp.where(fresh, x, inverse @ x)


def broyden_update(inverse: Array, fresh: Array, pair: Pair, scaling: Scaling) -> Array:
    """H⁺ from H, the identity while `fresh`: one pass over H, symmetric to the last bit if H is; H itself where the
    pair is not usable."""
    inverse = jnp.where(fresh, jnp.eye(len(inverse), dtype=inverse.dtype), inverse)
    s, y, w, usable = pair
    sy, yw = jnp.where(usable, s @ y, 1.0), jnp.where(usable, y @ w, 1.0)
    m, n = s / jnp.sqrt(sy), w / jnp.sqrt(yw)
    z = s * (jnp.sqrt(yw) / sy) - n
    m, n, z = (jnp.where(usable, x, 0.0) for x in (m, n, z))
    tau = jnp.where(usable, scaling.tau, 1.0)
    phi = jnp.where(usable, scaling.phi, 1.0)
    outer = phi * (z[:, None] * z[None, :]) - n[:, None] * n[None, :]
    return (inverse + outer) / tau + m[:, None] * m[None, :]


def quasi_newton_direction(inverse: Array, preconditioned: Array, grad: Array, fresh: Array) -> tuple:
    """(H is the identity, d, gᵀd): d = −Hu, or −g where H is `fresh` or that is no descent direction. u is g, or what
    transformations before this one made of it."""
    newton = -(inverse @ preconditioned)
    slope = newton @ grad
    fresh = fresh | ~((slope < 0) & (slope > -jnp.inf))
    direction = jnp.where(fresh, -grad, newton)
    return fresh, direction, jnp.where(fresh, -(grad @ grad), slope)


def curvature_pair(s: Array, y: Array, w: Array, sbs: Array) -> tuple[Pair, Array, Array]:
    """The pair with its b = sᵀH⁻¹s/(sᵀy) and h = yᵀHy/(sᵀy), which are 1 where it is not usable; `sbs` = sᵀH⁻¹s."""
    sy, yw = s @ y, y @ w
    ulp = jnp.finfo(s.dtype).eps
    usable = (sy > ulp * jnp.linalg.norm(s) * jnp.linalg.norm(y)) & (yw > 0) & (sbs > 0) & jnp.isfinite(yw)
    safe = jnp.where(usable, sy, 1.0)
    b = jnp.where(usable, sbs / safe, 1.0)
    h = jnp.where(usable, yw / safe, 1.0)
    return Pair(s, y, w, usable), b, h


def self_scaled_bfgs(b: Array, h: Array, fresh: Array, variant: str) -> Scaling:
    """φ = 1 and τ of Oren and Luenberger ("OL") or Al-Baali ("AB"); the equations stand in `methods.ssbfgs`."""
    tau = 1.0 / b if variant == "OL" else jnp.minimum(1.0, 1.0 / b)
    return Scaling(jnp.where(fresh, h, tau), jnp.ones_like(b))


def self_scaled_broyden(b: Array, h: Array, fresh: Array, size: int) -> Scaling:
    """τ and φ that keep the eigenvalues of H together; the equations stand in `methods.ssbroyden`. `size` is P."""
    a = b * h - 1.0  # negative by rounding only
    parallel = a < PARALLEL
    a = jnp.where(parallel, 1.0, a)
    rho_minus = jnp.minimum(1.0, h * (1.0 - jnp.sqrt(a / (1.0 + a))))
    theta = jnp.clip((1.0 - b) / b, (rho_minus - 1.0) / a, 1.0 / rho_minus)
    theta = jnp.where(parallel, 0.0, theta)
    a = jnp.where(parallel, 0.0, a)
    sigma = 1.0 + a * theta
    root = sigma ** (1.0 / (1 - size)) if size > 1 else jnp.ones_like(sigma)
    rho = jnp.minimum(1.0, 1.0 / b)
    positive = jnp.where(theta > 0, theta, 1.0)
    tau = jnp.where(theta <= 0, jnp.minimum(rho * root, sigma), rho * jnp.minimum(root, 1.0 / positive))
    return Scaling(jnp.where(fresh, h / sigma, tau), (1.0 - theta) / sigma)
