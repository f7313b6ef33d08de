"""ASNTR: a non-monotone trust-region method whose sample grows where an independent sample disagrees.

    s ≈ argmin gᵀs + ½sᵀHs  over |s| ≤ Δ,   g = ∇F_A(θ), A a sample of the rows, H of a part of it
    ρ_A = (F_A(θ) + τ − F_A(θ + s)) / (m(0) − m(s)),        τ = slack·|F₀|/(k + 1)^1.1 in step k
    ρ_D = (F_D(θ) + τ − F_D(θ + s)) / |∇F_D(θ)|²,            D a few other rows, drawn for this test alone
    θ⁺ = θ + s  where  ρ_A ≥ η  and, unless A is all rows,  ρ_D ≥ ν
    A grows by the factor `growth` where ρ_A ≥ η but ρ_D < ν, and where |g|/|g₀| < ε(1 − |A|/N)
    Δ⁺ = Δ/2 if ρ_A < 0.1,   2Δ if ρ_A > 0.75 and |s| ≥ 0.8Δ

A step that helps the rows it was made from and hurts others was fitted to noise: only then are more rows worth their
cost. The second rule is for small gradients: what is left of |g| near the minimum of F_A says nothing about L.

How comparing values stays sound: each ratio compares two values on the same rows; D is independent of A and of the
model, so it cannot share their error; τ, whose sum over all steps is finite, lets a step pass that noise in the two
values would stop, without letting the loss drift; no value is carried to the next step, whose samples are new.

Needs      FINITE_SUM.
Cost/step  a gradient and a value on A, a gradient and a value on D (none where A is all rows), a Hessian-vector product
           on one in `part` rows of A per CG iteration.
Memory     7 P, the order of the rows (N integers), what a sweep over all rows takes.
Deviations (1) H from products, where the paper's experiments take limited-memory SR1; (2) τ and ε are
           measured in the first value and gradient, so scaling the loss changes nothing, and τ, the same for both
           ratios, has no factor Δ; (3) samples are whole blocks, new ones in every step also after ρ_A < η, where the
           paper keeps the sample; (4) where ρ_A < η the sample does not grow whatever ρ_D is: the rows that made the
           step have rejected it already.
Reference  Krejić, Krklec Jerinkić, Martínez & Yousefi (2024), Comput. Optim. Appl. 89, arXiv:2307.10038.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from ..checks import require_count, require_real
from ..finite_sum import draw
from ..globalize.wolfe import flat_gradient
from ..linearization import dims
from ..method import Method
from ..types import Info, Status, Step, Structure, batch_work, counts
from .growing_sample import Blocks
from .random_model import in_ball, part_of

POOR, GOOD = 0.1, 0.75  # gain ratios on A below and above which Δ changes
FULL = 0.8  # of Δ: a step this long was limited by it
DECAY = 1.1  # exponent of the slack: above 1 its sum is finite
MOST = 1e3  # Δ over the first Δ


class ASNTRState(NamedTuple):
    steps: Int[Array, ""]
    radius: Float[Array, ""]  # Δ
    blocks: Float[Array, ""]  # of A, not rounded
    first_value: Float[Array, ""]  # |F₀|
    first_grad: Float[Array, ""]  # |g₀|


class ASNTR(Method):
    """A non-monotone trust-region method whose sample grows where an independent sample disagrees.

    `radius`: first Δ. `batch`: rows of the first sample and of the blocks it grows by. `extra`: rows of D. `growth`: of
    A, above 1. `accept`: η in (0, 1). `agree`: ν > 0. `slack` > 0 of τ. `small` > 0: ε. `part`: one in `part` blocks
    of A gives H. `iterations` and `tolerance` of CG. Raises ValueError or TypeError for options out of range.
    """

    radius: float = 1.0
    batch: int = eqx.field(static=True, default=64)
    extra: int = eqx.field(static=True, default=16)
    growth: float = 1.5
    accept: float = 1e-4
    agree: float = 1e-4
    slack: float = 1e-3
    small: float = 0.1
    part: int = eqx.field(static=True, default=4)
    iterations: int = eqx.field(static=True, default=20)
    tolerance: float = 0.1

    needs: ClassVar[Structure] = Structure.FINITE_SUM
    second_order: ClassVar[bool] = True
    noisy: ClassVar[bool] = True
    monotone: ClassVar[bool] = False

    def __check_init__(self):
        for name in ("batch", "extra", "part", "iterations"):
            require_count(self, name, 1)
        require_real(self, "radius", 0.0, float("inf"), why="it is a length")
        require_real(self, "growth", 1.0, float("inf"), why="a sample that does not grow stays noisy")
        require_real(self, "accept", 0.0, 1.0, why="a gain ratio of 1 is a perfect model")
        require_real(self, "agree", 0.0, float("inf"), why="a step that helps no other row is noise")
        require_real(self, "slack", 0.0, float("inf"), why="without it the method is monotone on every sample")
        require_real(self, "small", 0.0, float("inf"), why="it is a share of the first gradient")
        require_real(self, "tolerance", 0.0, 1.0, why="CG starts at 1")

    def init(self, objective, params, *, key):
        theta, _ = ravel_pytree(params)
        zero = jnp.zeros((), theta.dtype)
        radius = jnp.asarray(self.radius, theta.dtype)
        return ASNTRState(jnp.zeros((), jnp.int32), radius, jnp.ones_like(zero), zero, zero)

    def footprint(self, n: int, p: int) -> int:
        return 11 * p + 2 * n

    def step(self, objective, params, state, *, key):
        theta, unravel = ravel_pytree(params)
        order, other = jax.random.split(key)
        sample = Blocks(objective, self.batch, order)
        used = jnp.clip(jnp.ceil(state.blocks), 1, sample.number).astype(jnp.int32)
        whole = used >= sample.number
        value, grad = sample.mean(lambda f: flat_gradient(f, params, theta.dtype), used)
        grad_norm = jnp.linalg.norm(grad)
        first = state.steps == 0
        first_value = jnp.where(first, jnp.abs(value), state.first_value)
        first_grad = jnp.where(first, grad_norm, state.first_grad)

        curved = part_of(used, self.part)
        move, predicted, products = in_ball(sample, curved, params, grad, state.radius, self.tolerance, self.iterations)
        slack = self.slack * first_value / (state.steps + 1.0) ** DECAY
        there = unravel(theta + move)
        known = predicted > 0
        new = sample.mean(lambda f: f.value(there).astype(theta.dtype), used)
        rho = jnp.where(known, (value + slack - new) / jnp.where(known, predicted, 1.0), 0.0)
        judge = objective.rows(draw(other, objective.sizes, self.extra))
        agreed = jax.lax.cond(whole, lambda: rho, lambda: self._agreement(judge, params, there, slack))

        finite = jnp.isfinite(value) & jnp.isfinite(grad_norm)
        good = finite & known & (rho >= self.accept) & (rho < jnp.inf)
        accepted = good & (whole | (agreed >= self.agree))
        share = used.astype(theta.dtype) / sample.number
        quiet = grad_norm < self.small * first_grad * (1 - share)
        grows = ~whole & ((good & ~accepted) | quiet)
        moved = jnp.where(accepted, move, 0.0)
        after = ASNTRState(
            steps=state.steps + 1,
            radius=self._next_radius(state.radius, rho, jnp.linalg.norm(move)),
            blocks=jnp.where(grows, jnp.minimum(self.growth * used, sample.number), state.blocks),
            first_value=first_value,
            first_grad=first_grad,
        )
        after = jax.tree.map(lambda a, b: jnp.where(finite & (grad_norm > 0), a, b), after, state)
        judge_rows = dims(judge, params).rows
        work = batch_work(sample.rows(params, used), value=2, vjp=1)
        work += batch_work(sample.rows(params, curved), hvp=products)
        status = jnp.where(accepted | (grad_norm == 0), Status.OK, Status.REJECTED)
        info = Info(
            value=value,
            grad_norm=grad_norm,
            step_norm=jnp.linalg.norm(moved),
            status=jnp.where(finite, status, Status.NONFINITE).astype(jnp.int32),
            counts=counts(batch=work + jnp.where(whole, 0, batch_work(judge_rows, value=2, vjp=1))),
            scalars={"radius": state.radius, "rho": rho, "agreement": agreed, "share": share},
        )
        return Step(unravel(theta + moved), after, info)

    def _agreement(self, judge, params, there, slack):
        """ρ_D; where D has no slope, whether the step does no harm there (1 or 0)."""
        value, grad = flat_gradient(judge, params, slack.dtype)
        fall = value + slack - judge.value(there).astype(slack.dtype)
        squared = grad @ grad
        ratio = fall / jnp.where(squared > 0, squared, 1.0)
        ratio = jnp.where(squared > 0, ratio, (fall >= 0).astype(slack.dtype))
        return jnp.where(jnp.isfinite(ratio), ratio, -1.0)

    def _next_radius(self, radius, rho, length):
        wider = (rho > GOOD) & (length >= FULL * radius)
        factor = jnp.where(wider, 2.0, jnp.where(rho >= POOR, 1.0, 0.5))
        return jnp.minimum(factor * radius, MOST * self.radius)
