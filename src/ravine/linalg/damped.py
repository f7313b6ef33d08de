"""Damped least-squares steps for one J and many λ,

    d = argmin ‖r + Jd‖² + λ‖d − c‖²_D        (JᵀJ + λD) d = −Jᵀr + λDc,        D diagonal and positive,

and the same operator applied to other rows, S(w) = (JᵀJ + λD)⁻¹Jᵀw. For a Composite J stands for Q^½J and Jᵀr for ∇L.

    Primal   Cholesky of the P × P matrix JᵀJ + λD                           N P² once, P³/3 per λ
    Dual     Cholesky of the N × N matrix JD⁻¹Jᵀ + λI, for N < P             N² P once, N³/3 per λ
    Woodbury the same on a Composite, whose ∇L is not Jᵀ times rows          N² P once, N³/3 per λ
    QR       triangle of [J; √λ D^½]: κ is not squared in the factor,        2 N P² per λ
             corrected semi-normal equations with one step of refinement

Each form offers `factor(λ)`, `usable(factor)`, `step(factor, λ, c)` and `apply(factor, λ, w)`. Of a `Linearization`
they use grad, residual, gram, kernel, fold and products with rows.

Reference  Nocedal & Wright (2006), Numerical Optimization, ch. 10; Björck (1996), Numerical Methods for Least
           Squares Problems, sec. 6.6 (corrected semi-normal equations).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Scalar = Float[Array, ""]


def _cholesky(a: Float[Array, "k k"]) -> Float[Array, "k k"]:
    return jax.lax.linalg.cholesky(a, symmetrize_input=False)


def _cho_solve(factor: Float[Array, "k k"], b: Float[Array, " k"]) -> Float[Array, " k"]:
    return jax.scipy.linalg.cho_solve((factor, True), b)


def usable(factor: Float[Array, "k k"]) -> Bool[Array, ""]:
    """Whether the factorisation exists: LAPACK's failure is a factor full of NaN."""
    return jnp.isfinite(factor[-1, -1])


def _refined(solve: Callable, local: Any, diagonal: Float[Array, " P"], b: Float[Array, " P"]) -> Float[Array, " P"]:
    """`solve(b)` of (JᵀJ + diagonal) x = b, improved by one step of iterative refinement."""
    x = solve(b)
    return x + solve(b - local.rows_transposed(local.rows_times(x)) - diagonal * x)


class Primal:
    """Normal equations."""

    def __init__(self, local: Any, scale: Float[Array, " P"]):
        self.local, self.scale = local, scale

    def passes(self, trials: Any) -> Any:
        """How often J is formed for so many factorisations and the column lengths, where it is not kept."""
        return 1

    def factor(self, damping: Scalar) -> Float[Array, "P P"]:
        return _cholesky(self.local.gram() + jnp.diag(damping * self.scale))

    def step(self, factor: Array, damping: Scalar, centre: Float[Array, " P"]) -> Float[Array, " P"]:
        return self._solve(factor, damping, damping * self.scale * centre - self.local.grad)

    def apply(self, factor: Array, damping: Scalar, w: Float[Array, " N"]) -> Float[Array, " P"]:
        return self._solve(factor, damping, self.local.rows_transposed(w))

    def _solve(self, factor: Array, damping: Scalar, b: Float[Array, " P"]) -> Float[Array, " P"]:
        return _cho_solve(factor, b)


class Refined(Primal):
    """As `Primal`, each solution refined once with the residual of the rows (corrected semi-normal equations)."""

    def _solve(self, factor: Array, damping: Scalar, b: Float[Array, " P"]) -> Float[Array, " P"]:
        return _refined(lambda c: _cho_solve(factor, c), self.local, damping * self.scale, b)


class QR(Refined):
    """As `Refined`, with the triangle from an orthogonal factorisation: usable to λ near rounding."""

    def passes(self, trials: Any) -> Any:
        return 1 + trials

    def factor(self, damping: Scalar) -> Float[Array, "P P"]:
        def stack(triangle, rows):
            return jnp.linalg.qr(jnp.concatenate([triangle, rows]), mode="r")

        return self.local.fold(stack, jnp.diag(jnp.sqrt(damping * self.scale))).T


class Dual:
    """Kernel form, d = c − D⁻¹Jᵀ(JD⁻¹Jᵀ + λI)⁻¹(r + Jc): cheap for N < P. `step` needs residual rows."""

    def __init__(self, local: Any, scale: Float[Array, " P"]):
        self.local, self.scale = local, scale
        self.kernel = local.kernel(1.0 / scale)

    def passes(self, trials: Any) -> Any:
        return 2

    def factor(self, damping: Scalar) -> Float[Array, "N N"]:
        return _cholesky(self.kernel + damping * jnp.eye(self.kernel.shape[0], dtype=self.kernel.dtype))

    def step(self, factor: Array, damping: Scalar, centre: Float[Array, " P"]) -> Float[Array, " P"]:
        return centre - self.apply(factor, damping, self.local.residual + self.local.rows_times(centre))

    def apply(self, factor: Array, damping: Scalar, w: Float[Array, " N"]) -> Float[Array, " P"]:
        return self.local.rows_transposed(_cho_solve(factor, w)) / self.scale


class Woodbury(Dual):
    """Kernel form for any right-hand side b = λDc − ∇L, by the matrix inversion lemma:

        (JᵀJ + λD)⁻¹ b = (λD)⁻¹ [b − Jᵀ(JD⁻¹Jᵀ + λI)⁻¹ JD⁻¹ b]

    What b has in common with the rows of J cancels in the bracket and loses σ²/λ ulps, σ² the largest eigenvalue of the
    kernel; one step of refinement squares the loss. Below λ = ulp σ² the step is noise, which a gain ratio rejects.
    """

    def step(self, factor: Array, damping: Scalar, centre: Float[Array, " P"]) -> Float[Array, " P"]:
        local, diagonal = self.local, damping * self.scale

        def solve(b):
            inner = _cho_solve(factor, local.rows_times(b / self.scale))
            return (b - local.rows_transposed(inner)) / diagonal

        return _refined(solve, local, diagonal, diagonal * centre - local.grad)
