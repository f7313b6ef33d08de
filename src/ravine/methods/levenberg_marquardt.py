"""Levenberg-Marquardt along curves of higher order, with momentum and Nielsen's damping.

    d = argmin ‖r + Jd‖² + λ‖d − μp‖²_D                     p the last step, zero after a rejected trial
    s(t) = t d + t² a₂ + … + tⁿ aₙ                           (JᵀJ + λD) aₖ = −Jᵀcₖ, same factor (`directions.curve`)
    θ ← θ + s(t),   t the first of 1, 0.7, 0.5 with  2t‖a₂‖_D ≤ α‖d‖_D  and
                    ρ = (L(θ) − L(θ + s(t))) / (L(θ) − ½‖r + tJd‖²) > η   (> ¼ where t < 1)
    t = 1      λ ← λ max(⅓, 1 − (2ρ − 1)³),  ν ← 2           t < 1      λ ← λ/t,  ν ← 2
    none       λ ← λν,  ν ← 2ν  and another trial

Scaling, with c_j = ‖J_j‖² and m their mean: "geometric" D_j = √(c_j m), the mean of the two others, "marquardt"
D_j = c_j, "identity" D_j = m. λ has no unit. The linear algebra is Cholesky of JᵀJ + λD ("primal"), of the kernel
JD⁻¹Jᵀ + λI ("dual", chosen by "auto" if N < P), or the triangle of [J; √λ D^½] ("qr"); a factorisation that fails is
a rejected trial. One step is one linearisation and at most `max_trials` trials; a trial repeats a factorisation and
some evaluations, never J or JᵀJ ("qr" above 1 GiB: J). If all fail the step returns REJECTED with the parameters
unchanged and λ raised.

On a Composite J stands for Q^½J, Jᵀr for ∇L, and the decrease that the model predicts is −t∇Lᵀd − ½t²‖Q^½Jd‖². Where
it and the change of L are both below 100 ε|L|, the true decrease drowns in rounding and is taken from gradients,
−½(∇L(θ) + ∇L(θ+s))ᵀs, unless these claim more than three times the prediction.

"auto" never chooses "qr": on the 129-parameter Poisson problem (3 seeds, 5 s) its iterates were no better down to
λ = 1e-13 and each step cost 2.2 times as much, so a failed Cholesky factorisation is answered by more damping.

Needs      COMPOSITE (least squares, or a convex function of outputs).
Cost/step  1 Jacobian (N rows), N P² flops (N² P if N < P); per trial (usually 1) a factorisation of min(N, P)³/3
           flops, n solves, one nested forward sweep and 2n − 3 evaluations of the residual.
Memory     N P + 3 P² (primal), N P + 3 N² (dual); above 1 GiB J is formed in chunks, never whole (primal, qr).
Deviations (1) D between identity and Marquardt's; (2) momentum, SPRING's, with p dropped after a rejection: with it
           λ → ∞ gives d → μp instead of 0; (3) λ above 1e12 starts again from its first value; (4) orders above
           geodesic acceleration's 2, and a shorter way along the same curve before more damping is tried.
Reference  Levenberg, Quart. Appl. Math. 2 (1944); Marquardt, J. SIAM 11 (1963); Nielsen, IMM-REP-1999-05 (1999);
           Transtrum & Sethna, arXiv:1201.5885 (2012); Goldshlager, Abrahamsen & Lin, arXiv:2401.10190 (2024).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from ..checks import require_choice, require_count, require_real
from ..directions.curve import Curve, continued, point
from ..linalg.damped import QR, Dual, Primal, Woodbury, usable
from ..linearization import dense_footprint
from ..method import Method
from ..types import Info, Status, Step, Structure, counts, more

SCALINGS = ("geometric", "marquardt", "identity")
FORMS = {"primal": Primal, "dual": Dual, "qr": QR}
DAMPING_RANGE = (1e-30, 1e12)
GROWTH = 2.0  # Nielsen's first ν
SHRINK = 1 / 3  # Nielsen's strongest decrease of λ
FRACTIONS = (1.0, 0.7, 0.5)  # of the curve, tried in turn before λ is raised
ROUNDINGS = 100  # a change of an energy below this many ulps cannot be told from rounding
UNTRUSTED = 3.0  # times the predicted decrease: gradients at both ends that claim more are no measure of it
SHORTENED = 0.25  # the least gain ratio of a shortened step: more damping would do better than less than this


class LevenbergMarquardtState(NamedTuple):
    damping: Float[Array, ""]  # λ of the next trial
    growth: Float[Array, ""]  # ν, the factor of the next rejection
    previous: Float[Array, " P"]  # p, the last step if its first trial was accepted, else zero


class _Found(NamedTuple):
    """The last point looked at on a curve."""

    looks: Int[Array, ""]
    accepted: Bool[Array, ""]
    t: Float[Array, ""]
    move: Float[Array, " P"]
    rho: Float[Array, ""]
    predicted: Float[Array, ""]


class _Trial(NamedTuple):
    """The last trial of a step."""

    count: Int[Array, ""]
    looks: Int[Array, ""]  # of all trials
    used: Float[Array, ""]  # λ of this trial
    damping: Float[Array, ""]
    growth: Float[Array, ""]
    bend: Float[Array, ""]
    found: _Found


class LevenbergMarquardt(Method):
    """Levenberg-Marquardt along curves of higher order, with momentum and Nielsen's damping.

    `damping`: first λ > 0. `momentum`: μ in [0, 1). `order`: n, terms of the curve; 1 is a straight step, 2 geodesic
    acceleration. `bend`: α, the largest accepted ratio of acceleration to velocity. `threshold`: η, the smallest
    accepted gain ratio. `scaling`: "geometric", "marquardt" or "identity". `form`: "auto", "primal", "dual" or "qr".
    `max_trials`: trials in one step. Raises ValueError or TypeError for options out of range.
    """

    damping: Any = 1e-3
    momentum: Any = 0.5
    bend: Any = 0.75
    threshold: Any = 1e-4
    order: int = eqx.field(static=True, default=4)
    scaling: str = eqx.field(static=True, default="geometric")
    form: str = eqx.field(static=True, default="auto")
    max_trials: int = eqx.field(static=True, default=12)

    needs: ClassVar[Structure] = Structure.COMPOSITE
    guard_every: ClassVar[int] = 10
    second_order: ClassVar[bool] = True

    def __check_init__(self):
        require_real(self, "damping", 0.0, float("inf"), why="the damped system is definite for positive damping only")
        require_real(self, "momentum", 0.0, 1.0, why="momentum 1 never forgets a step", ends="[)")
        require_real(self, "bend", 0.0, why="it bounds a ratio of lengths (order=1 is the step without a bend)")
        require_real(self, "threshold", 0.0, 1.0, why="a gain ratio of 1 is a perfect model", ends="[)")
        require_choice(self, "scaling", SCALINGS)
        require_choice(self, "form", ("auto", *FORMS))
        require_count(self, "order", 1)
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

        def attempt(trial: _Trial) -> _Trial:
            centre = jnp.where(trial.count == 0, self.momentum, 0.0) * state.previous
            factor = system.factor(trial.damping)
            d = system.step(factor, trial.damping, centre)
            curve = continued(local, system, factor, trial.damping, d, self.order)
            gain = _residual_gain(local, curve) if local.has_residual else _energy_gain(local, system, trial, d, centre)
            return self._judge(trial, curve.bend, self._follow(curve, gain, usable(factor)))

        end = jax.lax.while_loop(
            lambda t: finite & ~t.found.accepted & (t.count < self.max_trials), attempt, _no_trial(state, grad)
        )
        found = end.found
        move = jnp.where(found.accepted, found.move, 0.0)
        status = jnp.where(finite, jnp.where(found.accepted, Status.OK, Status.REJECTED), Status.NONFINITE)
        info = Info(
            value=value,
            grad_norm=grad_norm,
            step_norm=jnp.linalg.norm(move),
            status=status.astype(jnp.int32),
            counts=more(
                counts(
                    residual=1 + end.looks + 2 * max(0, self.order - 2) * end.count,
                    jvp=min(2, self.order) * end.count,
                    solves=end.count,
                ),
                local.work(kernel=isinstance(system, Dual), passes=system.passes(end.count)),
            ),
            scalars={
                "damping": end.used,
                "rho": found.rho,
                "trials": end.count.astype(value.dtype),
                "fraction": jnp.where(found.accepted, found.t, 0.0),
                "predicted": found.predicted / jnp.abs(value),
                "bend": end.bend,
            },
        )
        previous = jnp.where(end.count == 1, move, 0.0)
        params = local.unravel(local.theta + move)
        return Step(params, LevenbergMarquardtState(end.damping, end.growth, previous), info)

    def _system(self, local) -> Primal | Dual:
        """The damped system in the form that shapes or the option ask for."""
        rows, size = local.dims
        form = self.form
        if form == "auto":
            form = "dual" if rows < size else "primal"
        if form == "primal":
            local.gram()  # first, so that the column lengths are its diagonal
        columns = local.column_squares
        mean = jnp.mean(columns)
        floored = jnp.maximum(columns, 1e-12 * mean)
        if self.scaling == "geometric":
            scale = jnp.sqrt(floored * mean)
        else:
            scale = floored if self.scaling == "marquardt" else jnp.full_like(columns, mean)
        return (FORMS[form] if local.has_residual or form != "dual" else Woodbury)(local, scale)

    def _follow(self, curve: Curve, gain: Callable, solved: Bool[Array, ""]) -> _Found:
        """The first acceptable point of the curve. A factorisation that failed offers none."""
        fractions = jnp.asarray(FRACTIONS, curve.bend.dtype)

        def look(last: _Found) -> _Found:
            t = fractions[last.looks]
            move = point(curve.terms, t)
            predicted, actual = gain(move, t)
            rho = actual / predicted
            least = jnp.where(t < 1, jnp.maximum(self.threshold, SHORTENED), self.threshold)
            # Written so that NaN, from a residual out of range, is a rejection.
            accepted = (predicted > 0) & (t * curve.bend <= self.bend) & (rho > least)
            return _Found(last.looks + 1, accepted, t, move, rho, predicted)

        start = _nothing(curve.terms[0])
        start = start._replace(looks=jnp.where(solved, 0, len(FRACTIONS)).astype(jnp.int32))
        found = jax.lax.while_loop(lambda f: ~f.accepted & (f.looks < len(FRACTIONS)), look, start)
        return found._replace(looks=jnp.where(solved, found.looks, 0))

    def _judge(self, last: _Trial, bend: Float[Array, ""], found: _Found) -> _Trial:
        """The trial's outcome and the next λ and ν."""
        low, high = DAMPING_RANGE
        rho = found.rho
        nielsen = jnp.where(rho < 1, jnp.maximum(SHRINK, 1 - (2 * rho - 1) ** 3), SHRINK)
        raised = last.damping * last.growth
        restart = raised > high
        lowered = jnp.maximum(low, last.damping * jnp.where(found.t < 1, 1 / found.t, nielsen))
        return _Trial(
            count=last.count + 1,
            looks=last.looks + found.looks,
            used=last.damping,
            damping=jnp.where(found.accepted, lowered, jnp.where(restart, self.damping, raised)),
            growth=jnp.where(found.accepted | restart, GROWTH, 2 * last.growth),
            bend=bend,
            found=found,
        )


def _nothing(like: Float[Array, " P"]) -> _Found:
    zero = jnp.zeros((), like.dtype)
    return _Found(jnp.zeros((), jnp.int32), jnp.zeros((), bool), zero, jnp.zeros_like(like), zero, zero)


def _no_trial(state: LevenbergMarquardtState, grad: Array) -> _Trial:
    count = jnp.zeros((), jnp.int32)
    return _Trial(
        count, count, state.damping, state.damping, state.growth, jnp.zeros_like(state.damping), _nothing(grad)
    )


def _residual_gain(local, curve: Curve) -> Callable:
    """(s(t), t) -> (predicted, true) decrease of a least-squares objective."""
    r = local.residual

    def gain(move, t):
        new, jd = local.rows_at(local.theta + move), t * curve.slope
        # Differences of squares as products: they keep their leading digits when the two values nearly agree.
        return -jnp.vdot(jd, r + 0.5 * jd), 0.5 * jnp.vdot(r - new, r + new)

    return gain


def _energy_gain(local, system, trial: _Trial, d, centre) -> Callable:
    """The same on a Composite; where both decreases are rounding of the value the true one is taken from gradients."""
    slope = jnp.vdot(local.grad, d)
    # (JᵀQJ + λD)d = −g + λDc gives dᵀJᵀQJd without another product.
    curvature = -slope + trial.damping * jnp.vdot(system.scale * d, centre - d)
    objective = local.objective

    def gain(move, t):
        predicted = -t * slope - 0.5 * t**2 * curvature
        new = local.unravel(local.theta + move)

        actual = local.value - objective.value(new)

        def by_gradients():
            there = ravel_pytree(jax.grad(objective.value)(new))[0]
            claimed = -0.5 * jnp.vdot(local.grad + there, move)
            # Far more than the model predicts: the step has left the range in which either of the two holds.
            return jnp.where(claimed <= UNTRUSTED * predicted, claimed, -jnp.inf)

        noise = ROUNDINGS * jnp.finfo(d.dtype).eps * jnp.abs(local.value)
        drowned = (predicted <= noise) & (jnp.abs(actual) <= noise)
        return predicted, jax.lax.cond(drowned, by_gradients, lambda: actual)

    return gain
