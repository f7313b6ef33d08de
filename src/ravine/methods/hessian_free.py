"""Hessian-free optimization: damped Gauss-Newton steps by conjugate gradients, no matrix formed.

    (G + λI) d = −g,   G = JᵀQJ by products,   CG from δ times the last d until it makes no more progress
    d ← the last of the kept CG iterates that has a lower loss than the one before it and those after it
    θ⁺ = θ + t d,      t the first of 1, … with  L(θ + t d) ≤ L(θ) + c₁ t gᵀd     (`globalize.armijo`)
    λ ← 1.5 λ  if t < 1 or ρ < ¼,   λ ← ⅔ λ  if ρ > ¾,      ρ = (L(θ) − L(θ⁺)) / −(t gᵀd + ½t² dᵀGd)

CG is stopped by what it gains, not by its residual: most of the decrease of the model comes long before the system is
solved, and the warm start keeps what the last step found out about flat directions. Keeping its iterates lets the true
loss say how far the solution of the model is worth following.

Preconditioner "jacobi" divides by (c + λ)^¾, c the squared lengths of the columns of Q^½J, at the cost of one
Jacobian. It pays where parameters have different units (a linear fit whose 30 columns are scaled
from 1 to 1000: 598 products instead of 1038); on a PINN of 48 parameters it ended a digit higher at equal work.

Needs      COMPOSITE (least squares, or a convex function of outputs).
Cost/step  one value and gradient per trial (usually 1); per CG iteration one forward and one reverse sweep, both
           linear; one value per kept iterate looked at (usually 2); "jacobi": N Jacobian rows.
Memory     K P, K = 1 + log_1.3(max_iterations), and the intermediates of one sweep; "jacobi": J, up to 1 GiB.
Deviations (1) the first λ is `damping` times the curvature along the first gradient, so scaling the loss changes
           nothing; (2) c is exact, not a sum of squared gradients; (3) a start of CG that is worse than zero is
           replaced by zero; (4) ρ belongs to the step taken, and near rounding the decrease is taken from gradients;
           (5) structural damping, for recurrent networks, is not offered; (6) λ is raised, too, where the search had to
           shorten the step.
Reference  Martens (2010), ICML; Martens & Sutskever (2012), in Neural Networks: Tricks of the Trade (δ);
           Schraudolph (2002), Neural Comput. 14 (products with G).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..checks import require_choice, require_count, require_real
from ..globalize.armijo import armijo
from ..globalize.rounding import drowns
from ..globalize.wolfe import along, flat_gradient
from ..linalg.conjugate_gradients import Rest, grid, to_rest
from ..linearization import WHOLE_BYTES
from ..method import Method
from ..types import Info, Status, Step, Structure, counts

PRECONDITIONERS = ("none", "jacobi")
EXPONENT = 0.75  # of the preconditioner
RAISE, LOWER = 1.5, 2 / 3
POOR, GOOD = 0.25, 0.75  # gain ratios below and above which λ changes


class HessianFreeState(NamedTuple):
    value: Float[Array, ""]
    grad: Float[Array, " P"]
    damping: Float[Array, ""]  # λ
    previous: Float[Array, " P"]  # the last d, zero after a step that failed


def rows_product(local) -> Callable[[Array], Array]:
    """v -> Q^½Jv from one linearisation: the nonlinear part is computed once, here, and not again in a loop."""
    rows, push = jax.linearize(local.rows_at, local.theta)
    local.weigh(jnp.zeros_like(rows))  # what it keeps must not be made inside somebody's loop
    return lambda v: local.weigh(push(v))


class HessianFree(Method):
    """Hessian-free optimization: damped Gauss-Newton steps by warm-started conjugate gradients.

    `damping`: first λ > 0, relative to the curvature along the first gradient. `decay`: δ in [0, 1). `progress`: ε > 0,
    the relative progress per iteration below which CG stops. `max_iterations` of CG. `preconditioner`: "none" or
    "jacobi". `c1`: the fraction of the slope that is enough decrease. `max_trials`: trials of the search. Raises
    ValueError or TypeError for options out of range.
    """

    damping: float = 1.0
    decay: float = 0.95
    progress: float = 5e-4
    c1: float = 1e-4
    preconditioner: str = eqx.field(static=True, default="none")
    max_iterations: int = eqx.field(static=True, default=250)
    max_trials: int = eqx.field(static=True, default=30)

    needs: ClassVar[Structure] = Structure.COMPOSITE
    guard_every: ClassVar[int] = 10
    second_order: ClassVar[bool] = True

    def __check_init__(self):
        require_real(self, "damping", 0.0, float("inf"), why="the damped system is definite for positive damping only")
        require_real(self, "decay", 0.0, 1.0, why="it shrinks the last direction", ends="[)")
        require_real(self, "progress", 0.0, 1.0, why="it is the least relative progress")
        require_real(self, "c1", 0.0, 1.0, why="no function falls faster than its slope for all step lengths")
        require_choice(self, "preconditioner", PRECONDITIONERS)
        require_count(self, "max_iterations", 1)
        require_count(self, "max_trials", 1)

    def init(self, objective, params, *, key):
        theta, _ = ravel_pytree(params)
        value, grad = flat_gradient(objective, params, theta.dtype)
        along_grad = objective.linearize(params).rows_times(grad)
        squared, curvature = grad @ grad, along_grad @ along_grad
        known = (squared > 0) & (curvature > 0)
        scale = jnp.where(known, curvature / jnp.where(known, squared, 1.0), 1.0)
        return HessianFreeState(value, grad, self.damping * scale, jnp.zeros_like(theta))

    def refresh(self, objective, params, state):
        value, grad = flat_gradient(objective, params, state.grad.dtype)
        return state._replace(value=value, grad=grad)

    def footprint(self, n: int, p: int) -> int:
        jacobian = min(n * p, WHOLE_BYTES // 8) if self.preconditioner == "jacobi" else 0
        return (len(grid(self.max_iterations)) + 8) * p + 8 * n + jacobian

    def step(self, objective, params, state, *, key):
        local = objective.linearize(params)
        theta, unravel = local.theta, local.unravel
        value, grad, damping, _ = state
        rows = rows_product(local)
        rest = self._solve(local, rows, state)
        last, looks = _walk_back(rest, lambda d: objective.value(unravel(theta + d)).astype(theta.dtype))
        d = rest.kept[last]

        slope, along_d = grad @ d, rows(d)
        evaluate = along(objective, unravel, theta, d)
        found = armijo(evaluate, value, slope, grad, jnp.ones_like(value), c1=self.c1, max_trials=self.max_trials)
        predicted = -found.t * slope - 0.5 * found.t**2 * (along_d @ along_d)
        decrease = jnp.where(drowns(found.value, value), -0.5 * found.t * (slope + found.grad @ d), value - found.value)
        rho = jnp.where(found.moved, decrease / jnp.where(found.moved, predicted, 1.0), 0.0)
        raised = (found.t < 1) | ~(rho >= POOR)
        factor = jnp.where(raised, RAISE, jnp.where(rho > GOOD, LOWER, 1.0))

        move, grad_norm = found.t * d, jnp.linalg.norm(grad)
        finite = jnp.isfinite(value) & jnp.isfinite(grad_norm)
        status = jnp.where(found.moved | (grad_norm == 0), Status.OK, Status.REJECTED)
        products = rest.iterations + 1
        jacobian = local.work() if self.preconditioner == "jacobi" else counts()
        info = Info(
            value=value,
            grad_norm=grad_norm,
            step_norm=jnp.linalg.norm(move),
            status=jnp.where(finite, status, Status.NONFINITE).astype(jnp.int32),
            counts=counts(
                residual=1 + looks + found.trials,
                jvp=products + 1,
                vjp=products + found.trials,
                rows=jacobian.rows,
                batch=jacobian.batch,
            ),
            scalars={
                "damping": damping,
                "rho": rho,
                "step_size": found.t,
                "cg_iterations": rest.iterations.astype(theta.dtype),
            },
        )
        lowest = 1e6 * jnp.finfo(theta.dtype).tiny
        previous = jnp.where(found.moved, d, 0.0)
        after = HessianFreeState(found.value, found.grad, jnp.maximum(factor * damping, lowest), previous)
        return Step(unravel(theta + move), after, info)

    def _solve(self, local, rows: Callable, state: HessianFreeState) -> Rest:
        """CG on (G + λI)d = −g."""
        back = jax.linear_transpose(rows, local.theta)
        damping = state.damping
        weights = 1.0
        if self.preconditioner == "jacobi":
            weights = (local.column_squares + damping) ** -EXPONENT
        return to_rest(
            lambda v: back(rows(v))[0] + damping * v,
            -state.grad,
            self.decay * state.previous,
            lambda r: weights * r,
            progress=self.progress,
            max_iterations=self.max_iterations,
        )


def _walk_back(rest: Rest, value_at: Callable[[Array], Array]) -> tuple[Array, Array]:
    """(the iterate from which one further back is no better, values computed), from the last one backwards."""

    def look(carry):
        at, best, looks, _ = carry
        before = value_at(rest.kept[at - 1])
        better = (before < best) | (jnp.isfinite(before) & ~jnp.isfinite(best))
        return jnp.where(better, at - 1, at), jnp.where(better, before, best), looks + 1, better

    start = (rest.last, value_at(rest.kept[rest.last]), jnp.ones((), jnp.int32), jnp.ones((), bool))
    at, _, looks, _ = jax.lax.while_loop(lambda c: c[3] & (c[0] > 0), look, start)
    return at, looks
