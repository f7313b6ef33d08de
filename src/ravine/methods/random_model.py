"""The engine of the methods that trust a random model: how far to go decides how many rows to look at.

    g = ∇F_A(θ), A a sample of b·(Δ₀/Δ)² rows;   s a step of about Δ that lowers the subclass's model m
    ρ = (F_C(θ) − F_C(θ + s)) / (m(0) − m(s)),   C another sample, of b·(Δ₀/Δ)⁴ rows
    ρ ≥ η₁ and |g|/|g₀| ≥ η₂ Δ/Δ₀:   θ⁺ = θ + s,  Δ⁺ = 2Δ          else   θ⁺ = θ,  Δ⁺ = Δ/2

Samples have at least b = `batch` rows and at most all (`growing_sample`). A step of length Δ changes L by about Δ²
near a minimum and by |g|Δ before it; sampling errors are as (rows)^-½. So the gradient is as accurate as O(Δ) and the
values as O(Δ²), with a probability that does not sink when the steps do: that is what the theory asks for.

How comparing values stays sound: both values are taken on the same C, so the common part of their errors cancels; C is
drawn apart from A, so the model cannot be fitted to the rows that judge it; no value is carried to the next step. The
second test, |g| against Δ, is what makes Δ follow the gradient: where noise is all that is left, steps fail, Δ shrinks,
and samples grow until they are all rows, where the method is a deterministic one.

Needs      FINITE_SUM.
Cost/step  a value and gradient on A, two values on C, and the subclass's products on one in `part` rows of A.
Memory     6 P, the order of the rows twice (2 N integers), what a sweep over all rows takes.
Deviations (1) the model's curvature is that of a part of A (the theory wants it bounded, not accurate); (2) |g| is
           measured in the first |g₀| and Δ in Δ₀, so scaling loss or parameters changes nothing; (3) Δ ≤ 1000 Δ₀.
Reference  Chen, Menickelly & Scheinberg (2018), Math. Program. 169, arXiv:1504.04231; Blanchet, Cartis, Menickelly &
           Scheinberg (2019), INFORMS J. Optim. 1(2), arXiv:1609.07428 (complexity).
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from ..checks import require_count, require_real
from ..globalize.wolfe import flat_gradient, flat_hvp
from ..linalg.conjugate_gradients import within
from ..method import Method
from ..types import Info, Status, Step, Structure, batch_work, counts
from .growing_sample import Blocks

CHANGE = 2.0  # of Δ
MOST = 1e3  # Δ/Δ₀


class RandomModelState(NamedTuple):
    radius: Float[Array, ""]  # Δ
    first_grad: Float[Array, ""]  # |g₀|, 0 before the first step


class Trial(NamedTuple):
    """A step s, the decrease m(0) − m(s) that its model predicts, and the work in rows."""

    move: Float[Array, " P"]
    predicted: Float[Array, ""]
    work: Int[Array, ""]


def blocks_for(ratio: Array, power: int, number: int) -> Int[Array, ""]:
    """How many of `number` blocks make a sample of b·ratio^power rows, ratio = Δ₀/Δ."""
    return jnp.clip(jnp.ceil(jnp.minimum(ratio, 1e6) ** power), 1, number).astype(jnp.int32)


def part_of(blocks: Array, part: int) -> Int[Array, ""]:
    """One in `part` of the blocks, at least one."""
    return -(-blocks // part)


def in_ball(
    curved: Blocks, count: Array, params: Any, grad: Array, radius: Array, tolerance: Any, iterations: int
) -> tuple[Float[Array, " P"], Float[Array, ""], Int[Array, ""]]:
    """(s, m(0) − m(s), CG iterations) for s ≈ argmin m(s) = gᵀs + ½sᵀHs over |s| ≤ radius.

    By truncated conjugate gradients; H is that of the first `count` blocks, one product with it per iteration.
    """

    def product(v):
        return curved.mean(lambda f: flat_hvp(f, params, v), count)

    found = within(product, -grad, tolerance=tolerance, max_iterations=iterations, radius=radius)
    return found.x, -(grad @ found.x) - 0.5 * (found.x @ found.product), found.iterations


class AbstractRandomModel(Method):
    """The engine. A subclass proposes the step."""

    radius: eqx.AbstractVar[float]
    batch: eqx.AbstractVar[int]
    accept: eqx.AbstractVar[float]
    enough: eqx.AbstractVar[float]
    part: eqx.AbstractVar[int]
    iterations: eqx.AbstractVar[int]
    tolerance: eqx.AbstractVar[float]

    needs: ClassVar[Structure] = Structure.FINITE_SUM
    second_order: ClassVar[bool] = True
    noisy: ClassVar[bool] = True
    monotone: ClassVar[bool] = False

    @abc.abstractmethod
    def propose(self, curved: Blocks, count: Array, params: Any, grad: Array, radius: Array) -> Trial:
        """A step of the model with gradient `grad` and the curvature of the first `count` blocks."""

    def __check_init__(self):
        require_real(self, "radius", 0.0, float("inf"), why="it is a length")
        require_real(self, "accept", 0.0, 1.0, why="a gain ratio of 1 is a perfect model")
        require_real(self, "enough", 0.0, float("inf"), why="without it no sample has to grow")
        require_count(self, "batch", 1)
        require_count(self, "part", 1)
        require_count(self, "iterations", 1)
        require_real(self, "tolerance", 0.0, 1.0, why="CG starts at 1")

    def init(self, objective, params, *, key):
        theta, _ = ravel_pytree(params)
        return RandomModelState(jnp.asarray(self.radius, theta.dtype), jnp.zeros((), theta.dtype))

    def footprint(self, n: int, p: int) -> int:
        return 10 * p + 4 * n

    def step(self, objective, params, state, *, key):
        theta, unravel = ravel_pytree(params)
        keys = jax.random.split(key)
        model, judge = (Blocks(objective, self.batch, k) for k in keys)
        ratio = self.radius / state.radius
        used = blocks_for(ratio, 2, model.number)
        _, grad = model.mean(lambda f: flat_gradient(f, params, theta.dtype), used)
        grad_norm = jnp.linalg.norm(grad)
        first = jnp.where(state.first_grad > 0, state.first_grad, grad_norm)

        trial = self.propose(model, part_of(used, self.part), params, grad, state.radius)
        judging = blocks_for(ratio, 4, judge.number)
        there = unravel(theta + trial.move)
        value, new = judge.mean(lambda f: tuple(f.value(p).astype(theta.dtype) for p in (params, there)), judging)
        known = trial.predicted > 0
        rho = jnp.where(known, (value - new) / jnp.where(known, trial.predicted, 1.0), 0.0)
        large = grad_norm >= self.enough * first * state.radius / self.radius
        accepted = known & (rho >= self.accept) & (rho < jnp.inf) & large

        finite = jnp.isfinite(value) & jnp.isfinite(grad_norm)
        accepted &= finite
        move = jnp.where(accepted, trial.move, 0.0)
        status = jnp.where(accepted | (grad_norm == 0), Status.OK, Status.REJECTED)
        work = batch_work(model.rows(params, used), value=1, vjp=1) + batch_work(judge.rows(params, judging), value=2)
        info = Info(
            value=value,
            grad_norm=grad_norm,
            step_norm=jnp.linalg.norm(move),
            status=jnp.where(finite, status, Status.NONFINITE).astype(jnp.int32),
            counts=counts(batch=work + trial.work),
            scalars={
                "radius": state.radius,
                "rho": rho,
                "gradient_share": used.astype(theta.dtype) / model.number,
                "value_share": judging.astype(theta.dtype) / judge.number,
            },
        )
        wider = jnp.minimum(CHANGE * state.radius, MOST * self.radius)
        after = RandomModelState(jnp.where(accepted, wider, state.radius / CHANGE), first)
        after = jax.tree.map(lambda a, b: jnp.where(finite & (grad_norm > 0), a, b), after, state)
        return Step(unravel(theta + move), after, info)
