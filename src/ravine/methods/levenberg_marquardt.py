"""Levenberg-Marquardt with geodesic acceleration, momentum and Nielsen's damping.

    d = argmin ‖r + Jd‖² + λ‖d − μp‖²_D                     p the last accepted step, zero after a rejected trial
    a = −½ (JᵀJ + λD)⁻¹ Jᵀ r''[d, d]                         geodesic acceleration, same factor
    s = d + a,   accepted if  2‖a‖_D ≤ α‖d‖_D  and  ρ = (L(θ) − L(θ+s)) / (L(θ) − ½‖r + Jd‖²) > η
    accepted   λ ← λ max(⅓, 1 − (2ρ − 1)³),  ν ← 2           rejected   λ ← λν,  ν ← 2ν  and another trial

Scaling, with c_j = ‖J_j‖² and m their mean: "geometric" D_j = √(c_j m), the mean of the two others, "marquardt"
D_j = c_j, "identity" D_j = m. λ has no unit. The linear algebra is Cholesky of JᵀJ + λD ("primal"), of the kernel
JD⁻¹Jᵀ + λI ("dual", chosen by "auto" if N < P), or the triangle of [J; √λ D^½] ("qr"); a factorisation that fails is
a rejected trial. One step is one linearisation and at most `max_trials` trials; a trial repeats a factorisation and
two evaluations, never J or JᵀJ. If all fail the step returns REJECTED with the parameters unchanged and λ raised.

On a Composite J stands for Q^½J, Jᵀr for ∇L, there is no acceleration, and the decrease that the model predicts is
−∇Lᵀd − ½‖Q^½Jd‖². Where that is below √ε|L|, the true decrease would drown in rounding and is taken from gradients,
−½(∇L(θ) + ∇L(θ+s))ᵀs.

"auto" never chooses "qr": on the 129-parameter Poisson problem (3 seeds, 5 s) its iterates were no better down to
λ = 1e-13 and each step cost 2.2 times as much, so a failed Cholesky factorisation is answered by more damping.

Needs      COMPOSITE (least squares, or a convex function of outputs).
Cost/step  1 Jacobian (N rows), N P² flops (N² P if N < P); per trial (usually 1) a factorisation of min(N, P)³/3
           flops, two solves, one nested forward sweep and one evaluation of the residual.
Memory     N P + 3 P² (primal), N P + 3 N² (dual); above 1 GiB J is formed in chunks, never whole (primal, qr).
Deviations (1) D between identity and Marquardt's; (2) momentum, SPRING's, with p dropped after a rejection: with it
           λ → ∞ gives d → μp instead of 0; (3) λ above 1e12 starts again from its first value.
Reference  Levenberg, Quart. Appl. Math. 2 (1944); Marquardt, J. SIAM 11 (1963); Nielsen, IMM-REP-1999-05 (1999);
           Transtrum & Sethna, arXiv:1201.5885 (2012); Goldshlager, Abrahamsen & Lin, arXiv:2401.10190 (2024).
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from ..linalg.damped import QR, Dual, Primal, usable
from ..linearization import dense_footprint
from ..method import Method
from ..types import Info, Status, Step, Structure, counts
from .option_checks import require_choice, require_count, require_real

SCALINGS = ("geometric", "marquardt", "identity")
FORMS = {"primal": Primal, "dual": Dual, "qr": QR}
DAMPING_RANGE = (1e-30, 1e12)
GROWTH = 2.0  # Nielsen's first ν
SHRINK = 1 / 3  # Nielsen's strongest decrease of λ


class LevenbergMarquardtState(NamedTuple):
    damping: Float[Array, ""]  # λ of the next trial
    growth: Float[Array, ""]  # ν, the factor of the next rejection
    previous: Float[Array, " P"]  # p, the last step if its first trial was accepted, else zero


class _Trial(NamedTuple):
    """The last trial of a step."""

    count: Int[Array, ""]
    accepted: Bool[Array, ""]
    used: Float[Array, ""]  # λ of this trial
    damping: Float[Array, ""]
    growth: Float[Array, ""]
    move: Float[Array, " P"]
    rho: Float[Array, ""]
    predicted: Float[Array, ""]
    bend: Float[Array, ""]


class LevenbergMarquardt(Method):
    """Levenberg-Marquardt with geodesic acceleration, momentum and Nielsen's damping.

    `damping`: first λ > 0. `momentum`: μ in [0, 1). `bend`: α, the largest accepted ratio of acceleration to velocity
    (0 switches acceleration off). `threshold`: η, the smallest accepted gain ratio. `scaling`: "geometric",
    "marquardt" or "identity". `form`: "auto", "primal", "dual" or "qr". `max_trials`: trials in one step.
    """

    damping: Any = 1e-3
    momentum: Any = 0.5
    bend: Any = 0.75
    threshold: Any = 1e-4
    scaling: str = eqx.field(static=True, default="geometric")
    form: str = eqx.field(static=True, default="auto")
    max_trials: int = eqx.field(static=True, default=12)

    needs: ClassVar[Structure] = Structure.COMPOSITE
    guard_every: ClassVar[int] = 10
    second_order: ClassVar[bool] = True

    def __check_init__(self):
        require_real(self, "damping", 0.0, why="the damped system is definite for positive damping only")
        require_real(self, "momentum", -1e-300, 1.0, why="momentum 1 never forgets a step")
        require_real(self, "bend", -1e-300, why="it bounds a ratio of lengths")
        require_real(self, "threshold", -1e-300, 1.0, why="a gain ratio of 1 is a perfect model")
        require_choice(self, "scaling", SCALINGS)
        require_choice(self, "form", ("auto", *FORMS))
        require_count(self, "max_trials", 1)

    def init(self, objective, params, *, key) -> LevenbergMarquardtState:
        theta = ravel_pytree(params)[0]
        first = jnp.asarray(self.damping, theta.dtype)
        return LevenbergMarquardtState(first, jnp.full_like(first, GROWTH), jnp.zeros_like(theta))

    def footprint(self, n: int, p: int) -> int:
        return dense_footprint(n, p, dual=self.form == "dual" or (self.form == "auto" and n < p))

    def step(self, objective, params, state, *, key) -> Step:
        local = objective.linearize(params)
        system = self._system(local)
        value, grad = local.value, local.grad
        grad_norm = jnp.linalg.norm(grad)
        finite = jnp.isfinite(value) & jnp.isfinite(grad_norm)
        half = jnp.where(self.bend > 0, 0.5, 0.0)
        gain = partial(_residual_gain, half=half) if local.has_residual else _energy_gain

        def attempt(t: _Trial) -> _Trial:
            centre = jnp.where(t.count == 0, self.momentum, 0.0) * state.previous
            factor = system.factor(t.damping)
            move, predicted, actual, bend = gain(local, system, factor, t.damping, centre)
            rho = actual / predicted
            # Written so that NaN, from a failed factorisation or a residual out of range, is a rejection.
            accepted = (
                usable(factor) & (predicted > 0) & (bend <= jnp.maximum(self.bend, 1e-300)) & (rho > self.threshold)
            )
            return self._judge(t, accepted, move, rho, predicted / jnp.abs(value), bend)

        end = jax.lax.while_loop(
            lambda t: finite & ~t.accepted & (t.count < self.max_trials), attempt, _no_trial(state, grad)
        )
        previous = jnp.where(end.count == 1, end.move, 0.0)
        status = jnp.where(finite, jnp.where(end.accepted, Status.OK, Status.REJECTED), Status.NONFINITE)
        info = Info(
            value=value,
            grad_norm=grad_norm,
            step_norm=jnp.linalg.norm(end.move),
            status=status.astype(jnp.int32),
            counts=counts(residual=1 + end.count, jvp=2 * end.count, rows=local.dims.rows, solves=end.count),
            scalars={
                "damping": end.used,
                "rho": end.rho,
                "trials": end.count.astype(value.dtype),
                "predicted": end.predicted,
                "bend": end.bend,
            },
        )
        params = local.unravel(local.theta + end.move)
        return Step(params, LevenbergMarquardtState(end.damping, end.growth, previous), info)

    def _system(self, local) -> Primal | Dual:
        """The damped system in the form that shapes or the option ask for."""
        rows, size = local.dims
        form = self.form
        if form == "auto":
            form = "dual" if rows < size and local.has_residual else "primal"
        if form == "dual" and not local.has_residual:
            raise ValueError(
                'LevenbergMarquardt: form="dual" needs residual rows, and a Composite has none; use form="primal".'
            )
        if form == "primal":
            local.gram()  # first, so that the column lengths are its diagonal
        columns = local.column_squares
        mean = jnp.mean(columns)
        floored = jnp.maximum(columns, 1e-12 * mean)
        if self.scaling == "geometric":
            scale = jnp.sqrt(floored * mean)
        else:
            scale = floored if self.scaling == "marquardt" else jnp.full_like(columns, mean)
        return FORMS[form](local, scale)

    def _judge(self, t: _Trial, accepted, move, rho, predicted, bend) -> _Trial:
        """The trial's outcome and Nielsen's next λ and ν."""
        low, high = DAMPING_RANGE
        shrink = jnp.where(rho < 1, jnp.maximum(SHRINK, 1 - (2 * rho - 1) ** 3), SHRINK)
        raised = t.damping * t.growth
        restart = raised > high
        return _Trial(
            count=t.count + 1,
            accepted=accepted,
            used=t.damping,
            damping=jnp.where(accepted, jnp.maximum(low, t.damping * shrink), jnp.where(restart, self.damping, raised)),
            growth=jnp.where(accepted | restart, GROWTH, 2 * t.growth),
            move=jnp.where(accepted, move, 0.0),
            rho=rho,
            predicted=predicted,
            bend=bend,
        )


def _no_trial(state: LevenbergMarquardtState, grad: Array) -> _Trial:
    zero = jnp.zeros_like(state.damping)
    count = jnp.zeros((), jnp.int32)
    return _Trial(
        count, jnp.zeros((), bool), state.damping, state.damping, state.growth, jnp.zeros_like(grad), zero, zero, zero
    )


def _residual_gain(local, system, factor, damping, centre, half):
    """(move, predicted decrease, true decrease, bend) of one trial on a least-squares objective."""
    r = local.residual
    d = system.step(factor, damping, centre)
    jd, curvature = local.curve(d)
    a = -half * system.apply(factor, damping, curvature)
    bend = 2 * jnp.sqrt(jnp.sum(system.scale * a * a) / jnp.sum(system.scale * d * d))
    new = local.rows_at(local.theta + d + a)
    # Differences of squares as products: they keep their leading digits when the two values nearly agree.
    return d + a, -jnp.vdot(jd, r + 0.5 * jd), 0.5 * jnp.vdot(r - new, r + new), bend


def _energy_gain(local, system, factor, damping, centre):
    """The same on a Composite: no acceleration; near rounding of the value the decrease is taken from gradients."""
    d = system.step(factor, damping, centre)
    # (JᵀQJ + λD)d = −g + λDc gives dᵀJᵀQJd without another product.
    slope = jnp.vdot(local.grad, d)
    predicted = -0.5 * slope - 0.5 * damping * jnp.vdot(system.scale * d, centre - d)
    new = local.unravel(local.theta + d)
    objective = local.objective

    def by_gradients():
        there = ravel_pytree(jax.grad(objective.value)(new))[0]
        return -0.5 * jnp.vdot(local.grad + there, d)

    eps = jnp.finfo(d.dtype).eps
    drowned = jnp.abs(predicted) < jnp.sqrt(eps) * jnp.abs(local.value)
    actual = jax.lax.cond(drowned, by_gradients, lambda: local.value - objective.value(new))
    return d, predicted, actual, jnp.zeros_like(actual)
