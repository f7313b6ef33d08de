"""Energy natural gradient descent: the Gauss-Newton direction of an energy, its length from a grid.

    G = JᵀQJ (+ δ tr(G)/P I),    d = −G⁺∇L,    θ ← θ + t d,    t = argmin of L(θ + t d) over {1, ½, …, 2^-k}

G is the Gram matrix of the energy's second derivative in the tangent space of the network: for a least-squares loss
Q = I, for Deep Ritz with z = (u, ∇u) and φ = ½|∇u|² − fu it is the Dirichlet inner product of ∂u/∂θ. The
pseudo-inverse cuts eigenvalues below `cutoff` times the largest: a large cut-off converges from far and stops early,
a small one the reverse (Poisson, 129 parameters, 100 cold-started steps, three seeds: 1e-13 gives relative errors
from 4e-7 to 1e-3, 1e-11 from 2e-6 to 1e-5, 1e-8 from 5e-5 to 1e-4).

Without damping it can stall far from a solution: 40 steps of `burgers1d` (`allencahn1d`) from one start end at loss
0.42 (2.0); with `damping` 1e-4 at 3.5e-3 (2.5e-3), with 1e-6 at 0.43 (1.4e-3). Near a solution it costs depth: 10 s of
`poisson2d` end at an error of 7e-8 without, 1.6e-7 with 1e-8, 2.3e-6 with 1e-6. `lm` adapts it.

With N < P and residual rows the same d is computed from the eigenvalues of the kernel JJᵀ (N × N).

Needs      COMPOSITE (least squares, or a convex function of outputs).
Cost/step  1 Jacobian (N rows), N P² + about 10 P³ flops (N² P + 10 N³ if N < P), `halvings` + 1 values.
Memory     N P + 3 P², or N P + 3 N².
Deviations (1) a grid point is taken only if it lowers the loss; otherwise NO_DESCENT and unchanged parameters;
           (2) the kernel form for N < P, with δ scaled by the same trace.
Reference  Müller & Zeinhofer, ICML 2023, arXiv:2302.13163.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..checks import require_count, require_real
from ..globalize.grid import best_of_grid
from ..linalg.symmetric import pseudo_solve
from ..linearization import dense_footprint
from ..method import Method
from ..types import Step, Structure
from .searched_step import searched_step


class ENGDState(NamedTuple):
    """Nothing is carried from step to step."""


class ENGD(Method):
    """Energy natural gradient descent: the Gauss-Newton direction of an energy, its length from a grid.

    `cutoff`: eigenvalues of G below this fraction of the largest are dropped. `damping`: δ ≥ 0, added to G as a
    multiple of its mean eigenvalue. `halvings`: k, the grid's finest step is 2^-k. Raises ValueError or
    TypeError for options out of range.
    """

    cutoff: Any = 1e-11
    damping: Any = 0.0
    halvings: int = eqx.field(static=True, default=30)

    needs: ClassVar[Structure] = Structure.COMPOSITE
    guard_every: ClassVar[int] = 10
    second_order: ClassVar[bool] = True

    def __check_init__(self):
        require_real(self, "cutoff", 0.0, 1.0, why="it is a fraction of the largest eigenvalue", ends="[)")
        require_real(self, "damping", 0.0, float("inf"), why="G must stay positive semidefinite", ends="[)")
        require_count(self, "halvings", 0)

    def init(self, objective, params, *, key) -> ENGDState:
        return ENGDState()

    def footprint(self, n: int, p: int) -> int:
        return dense_footprint(n, p, dual=n < p)  # too little for an energy, whose rows give no direction

    def step(self, objective, params, state, *, key) -> Step:
        local = objective.linearize(params)
        direction, rank = self._direction(local)
        solved = jnp.all(jnp.isfinite(direction))

        def search(value_at, value, _):
            return best_of_grid(value_at, value, self.halvings)

        step = searched_step(
            local,
            jnp.where(solved, direction, 0.0),
            search,
            solved=solved,
            solves=jnp.ones((), jnp.int32),
            kernel=_by_kernel(local),
        )
        step.info.scalars["rank"] = rank.astype(local.theta.dtype)
        return Step(step.params, ENGDState(), step.info)

    def _direction(self, local) -> tuple[Float[Array, " P"], Int[Array, ""]]:
        size = local.dims.params
        if _by_kernel(local):
            kernel = local.kernel()
            shift = self.damping * jnp.trace(kernel) / size
            weights, rank = pseudo_solve(kernel, local.residual, self.cutoff, shift)
            return -local.rows_transposed(weights), rank
        gram = local.gram()
        shift = self.damping * jnp.trace(gram) / size
        solution, rank = pseudo_solve(gram, local.grad, self.cutoff, shift)
        return -solution, rank


def _by_kernel(local) -> bool:
    return local.dims.rows < local.dims.params and local.has_residual
