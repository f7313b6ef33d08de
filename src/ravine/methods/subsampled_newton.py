"""Subsampled Newton: a gradient on one sample of the rows, Hessian-vector products on a part of it.

    S_g uniform,  S_H ⊂ S_g uniform,  both new in every step;  F_S the objective on the rows S, scaled to be unbiased
    ∇²F_{S_H} d ≈ −∇F_{S_g}     by conjugate gradients to |residual| ≤ η|∇F_{S_g}|, at most `iterations` of them
    θ⁺ = θ + t d,               t the first of 1, … with  F_{S_g}(θ + t d) ≤ F_{S_g}(θ) + c₁ t ∇F_{S_g}ᵀd

A product on S_H is what most of the work goes into, and the direction forgives an error in it: it stays one of descent
for F_{S_g}. Where CG meets a direction of negative curvature it stops before it (in its first iteration: d =
−∇F_{S_g}). With both samples the whole sum this is Newton-CG.

How comparing values stays sound: both values of a trial are taken on the same S_g, so the test is about one function,
and no value is carried to the next step, whose sample is another. What is promised is a decrease of F_{S_g}, not of L:
near the minimum of L the steps become noise of size |∇F_{S_g} − ∇L|, and only larger samples go further.

Needs      FINITE_SUM.
Cost/step  with b rows in S_g and h in S_H: a value and gradient on b for the start and for each trial (usually 1), and
           a Hessian-vector product on h per iteration.
Memory     5 P, and what a sweep over max(b, h) rows takes.
Deviations S_H is a part of S_g drawn anew in each step, not in each CG iteration.
Reference  Byrd, Chin, Neveitt & Nocedal (2011), SIAM J. Optim. 21(3); Roosta-Khorasani & Mahoney (2019), Math. Program.
           174, arXiv:1601.04737; Nocedal & Wright (2006), Numerical Optimization, algorithm 7.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Int, PRNGKeyArray

from ..checks import require_count, require_real
from ..finite_sum import draw, draw_part
from ..globalize.armijo import armijo
from ..globalize.wolfe import along, flat_gradient, flat_hvp, search_status
from ..linalg.conjugate_gradients import within
from ..linearization import dims
from ..method import Method
from ..types import Info, Step, Structure, batch_work, counts


class SubsampledNewtonState(NamedTuple):
    """Nothing is carried from step to step."""


def nested(
    key: PRNGKeyArray, sizes: Mapping[str, int], batch: int, part: int
) -> tuple[dict[str, Int[Array, " b"]], dict[str, Int[Array, " h"]]]:
    """Row numbers of a sample of `batch` rows (at most all) and of a uniform part of it, one in `part` of them."""
    first, second = jax.random.split(key)
    whole = draw(first, sizes, batch)
    return whole, draw_part(second, whole, max(1, sum(index.shape[0] for index in whole.values()) // part))


class SubsampledNewton(Method):
    """Newton-CG with a gradient on a sample of the rows and Hessian-vector products on a part of it.

    `batch`: rows of S_g, all where there are not so many. `part`: one in `part` of them is in S_H. `iterations`: the
    most of CG. `tolerance`: η in (0, 1). `c1`: the fraction of the slope that is enough decrease. `max_trials`: trials
    of the search. Raises ValueError or TypeError for options out of range.
    """

    batch: int = eqx.field(static=True, default=512)
    part: int = eqx.field(static=True, default=4)
    iterations: int = eqx.field(static=True, default=20)
    tolerance: float = 0.1
    c1: float = 1e-4
    max_trials: int = eqx.field(static=True, default=20)

    needs: ClassVar[Structure] = Structure.FINITE_SUM
    second_order: ClassVar[bool] = True
    noisy: ClassVar[bool] = True
    monotone: ClassVar[bool] = False

    def __check_init__(self):
        for name in ("batch", "part", "iterations", "max_trials"):
            require_count(self, name, 1)
        require_real(self, "tolerance", 0.0, 1.0, why="CG starts at 1")
        require_real(self, "c1", 0.0, 1.0, why="no function falls faster than its slope for all step lengths")

    def init(self, objective, params, *, key):
        return SubsampledNewtonState()

    def step(self, objective, params, state, *, key):
        theta, unravel = ravel_pytree(params)
        rows, part = nested(key, objective.sizes, self.batch, self.part)
        sample, curved = objective.rows(rows), objective.rows(part)
        value, grad = flat_gradient(sample, params, theta.dtype)

        product = partial(flat_hvp, curved, params)
        solved = within(product, -grad, tolerance=self.tolerance, max_iterations=self.iterations)
        slope, grad_norm = solved.x @ grad, jnp.linalg.norm(grad)
        evaluate = along(sample, unravel, theta, solved.x)
        one = jnp.ones_like(value)
        found = armijo(evaluate, value, slope, grad, one, c1=self.c1, max_trials=self.max_trials)
        move = found.t * solved.x
        work = batch_work(dims(sample, params).rows, value=1 + found.trials, vjp=1 + found.trials)
        info = Info(
            value=value,
            grad_norm=grad_norm,
            step_norm=jnp.linalg.norm(move),
            status=search_status(value, grad_norm, found.moved, jnp.ones((), bool)),
            counts=counts(batch=work + batch_work(dims(curved, params).rows, hvp=solved.iterations)),
            scalars={
                "step_size": found.t,
                "cg_iterations": solved.iterations.astype(theta.dtype),
                "negative_curvature": (~solved.curved).astype(theta.dtype),
            },
        )
        return Step(unravel(theta + move), state, info)
