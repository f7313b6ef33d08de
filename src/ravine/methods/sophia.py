"""Sophia: a gradient average over the Hessian's diagonal, each component of the step clipped.

    m⁺ = β₁m + (1 − β₁)g
    every `every`-th step   h⁺ = β₂h + (1 − β₂) z ⊙ Hz,  z of independent signs, else h⁺ = h
    θ⁺ = θ − α clip(m⁺/max(γh⁺, ε), −1, 1)

The mean of the looks, unlike that of their squares, is the diagonal itself, with its sign. Where it is negative, or
small against the gradient, the component is clipped: it moves by α in the direction of −m (a sign step), never along a
direction of ascent and never far on a curvature estimate that was wrong. γ says how flat is flat: the larger, the more
components take Newton steps (α/γ)m/h and the fewer sign steps α.

Needs      VALUE.
Cost/step  one value and gradient; one Hessian-vector product in every `every`-th step.
Memory     2 P, and 2 P during a look.
Deviations (1) signs z in the place of normal ones (less variance, exact on a diagonal Hessian); (2) h is divided by
           1 − β₂ˡ after l looks, so the first looks are not read as a flat landscape; (3) decoupled weight decay is
           left to the objective; (4) the paper's other estimate needs class labels to be drawn and is not offered.
Reference  Liu, Li, Hall, Liang & Ma (2024), ICLR, arXiv:2305.14342 (its Sophia-H).
"""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp

from ..checks import require_real
from .diagonal_curvature import AbstractDiagonalCurvature


class Sophia(AbstractDiagonalCurvature):
    """A gradient average over the Hessian's diagonal, clipped: sign steps where the curvature is small or negative.

    `learning_rate`: α, the longest move of a component. `b1`, `b2`: β₁, β₂ in [0, 1). `gamma`: γ. `eps`: ε, the least
    γh. `every`: steps from one look to the next. `first_looks`: looks before the first step. Raises ValueError or
    TypeError for options out of range.
    """

    learning_rate: float = 1e-2
    b1: float = 0.965
    b2: float = 0.99
    gamma: float = 0.01
    eps: float = 1e-12
    every: int = eqx.field(static=True, default=10)
    first_looks: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        require_real(self, "gamma", 0.0, float("inf"), why="it scales a curvature")

    def average(self, curvature, look):
        return self.b2 * curvature + (1 - self.b2) * look

    def estimate(self, state):
        return state.curvature / (1 - self.b2 ** jnp.maximum(state.looks, 1))

    def direction(self, state):
        return jnp.clip(state.momentum / jnp.maximum(self.gamma * self.estimate(state), self.eps), -1.0, 1.0)
