"""Gauss-Newton with a backtracking line search on the true loss.

    (JᵀJ + εD) d = −Jᵀr,   D = diag(JᵀJ) bounded below
    θ ← θ + t d,           t the first of 1, ½, ¼, … with L(θ + t d) ≤ L(θ) + c t ∇Lᵀd

On a Composite J stands for Q^½J and Jᵀr for ∇L. ε is at rounding level and only makes the Cholesky factorisation
exist; where it does not, ε is multiplied by 100 until it does. One step of refinement through the rows of J removes
most of the effect of ε, so a linear problem of full rank is solved in one step.

Undamped directions are long where JᵀJ is nearly singular, and the search then returns tiny t: on neural networks
this method can stall where Levenberg-Marquardt does not. It is the reference that the family starts from.

Needs      COMPOSITE (least squares, or a convex function of outputs).
Cost/step  1 Jacobian (N rows), N P² + P³/3 flops, usually 1 factorisation; 1 value per halving.
Memory     N P + 3 P²; above 1 GiB J is formed in chunks, never whole.
Deviations (1) ε grows within a step where a rank decision is usual; (2) one step of refinement.
Reference  Nocedal & Wright (2006), Numerical Optimization, sec. 10.3; Björck (1996), Numerical Methods for Least
           Squares Problems, sec. 6.6; Schraudolph, Neural Computation 14 (2002) (composites).
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from ..checks import require_count, require_real
from ..globalize.grid import backtrack
from ..linalg.damped import Refined, usable
from ..linearization import dense_footprint
from ..method import Method
from ..types import Step, Structure
from .searched_step import searched_step

MAX_FACTORISATIONS = 8  # ε up to 1e-13 · 100⁷ = 10: by then JᵀJ + εD is definite unless it is not finite


class GaussNewtonState(NamedTuple):
    """Nothing is carried from step to step."""


class GaussNewton(Method):
    """Gauss-Newton with a backtracking line search on the true loss.

    `damping`: ε > 0 at which the factorisation is first tried, relative to diag(JᵀJ). `sufficient`: Armijo's c in
    (0, 1). `halvings`: how often t may be halved before the step is given up with NO_DESCENT.
    Raises ValueError or TypeError for options out of range.
    """

    damping: Any = 1e-13
    sufficient: Any = 1e-4
    halvings: int = eqx.field(static=True, default=30)

    needs: ClassVar[Structure] = Structure.COMPOSITE
    guard_every: ClassVar[int] = 10
    second_order: ClassVar[bool] = True

    def __check_init__(self):
        require_real(self, "damping", 0.0, float("inf"), why="it makes the factorisation exist")
        require_real(self, "sufficient", 0.0, 1.0, why="it is a fraction of the decrease that the slope promises")
        require_count(self, "halvings", 0)

    def init(self, objective, params, *, key) -> GaussNewtonState:
        return GaussNewtonState()

    def footprint(self, n: int, p: int) -> int:
        return dense_footprint(n, p)

    def step(self, objective, params, state, *, key) -> Step:
        local = objective.linearize(params)
        local.gram()
        columns = local.column_squares
        system = Refined(local, jnp.maximum(columns, 1e-12 * jnp.mean(columns)))
        finite = jnp.isfinite(local.value) & jnp.all(jnp.isfinite(columns))

        def attempt(carry):
            count, epsilon, _ = carry
            epsilon = jnp.where(count == 0, epsilon, 100 * epsilon)
            return count + 1, epsilon, system.factor(epsilon)

        first = jnp.asarray(self.damping, local.theta.dtype)
        count, epsilon, factor = jax.lax.while_loop(
            lambda c: finite & ~usable(c[2]) & (c[0] < MAX_FACTORISATIONS),
            attempt,
            (jnp.zeros((), jnp.int32), first, jnp.full_like(local.gram(), jnp.nan)),
        )
        solved = usable(factor)
        direction = jnp.where(solved, system.step(factor, epsilon, jnp.zeros_like(local.theta)), 0.0)

        def search(value_at, value, slope):
            return backtrack(value_at, value, slope, self.sufficient, self.halvings)

        step = searched_step(local, direction, search, solved=solved, solves=count)
        step.info.scalars["regularisation"] = epsilon
        return Step(step.params, GaussNewtonState(), step.info)
