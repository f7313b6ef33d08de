"""AdaGrad, RMSProp, Lion, Muon and schedule-free AdamW, as Optax computes them.

Equations stand in the classes; g is the gradient, α the learning rate, which may be a schedule.

Needs      VALUE.
Cost/step  one value and gradient (residual 1, vjp 1); Muon adds per m × n matrix `ns_steps` times three products,
           about 4 min(m,n)²max(m,n) + 2 min(m,n)³ flops each.
Memory     AdaGrad P; RMSProp P, P more each for `momentum` and `centered`; Lion P; Muon P for matrices, 2P for the
           rest; schedule-free 2P.
Raises     ValueError for a number out of its range, TypeError for text.
Deviations of the adapter are those of `optax_methods`.
Reference  Duchi, Hazan & Singer (2011), JMLR 12 (AdaGrad); Tieleman & Hinton (2012), Coursera lecture 6.5 (RMSProp);
           Chen et al. (2023), NeurIPS, arXiv:2302.06675 (Lion); Jordan et al. (2024), Muon: An optimizer for hidden
           layers in neural networks (web page); Liu et al. (2025), arXiv:2502.16982 (Muon at scale); Defazio et al.
           (2024), The Road Less Scheduled, arXiv:2405.15682.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from ..checks import decay, nonnegative, positive, rate, require, whole
from .optax_methods import AbstractOptax, Rate, check_adam


class AdaGrad(AbstractOptax):
    """v⁺ = v + g², θ⁺ = θ − αg/√(v⁺ + ε), with v = `first` at the start."""

    learning_rate: Rate = 1e-2
    first: float = 0.1
    eps: float = 1e-7

    def __check_init__(self):
        numbers = {"first": nonnegative(self.first), "eps": positive(self.eps)}
        require("AdaGrad", learning_rate=rate(self.learning_rate), **numbers)

    def build(self):
        return optax.adagrad(self.learning_rate, self.first, self.eps)


class RMSProp(AbstractOptax):
    """v⁺ = ρv + (1−ρ)g², θ⁺ = θ − αg/√(v⁺ + ε); ρ is `decay`.

    `centered` divides by the spread √(v⁺ − m² + ε), m being the mean of g. With `momentum` β the moves are summed,
    u⁺ = βu − αg/√(v⁺ + ε); `momentum=None` keeps no u.
    """

    learning_rate: Rate = 1e-3
    decay: float = 0.9
    eps: float = 1e-8
    momentum: float | None = None
    centered: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        numbers = {"decay": decay(self.decay), "eps": positive(self.eps), "momentum": decay(self.momentum)}
        require("RMSProp", learning_rate=rate(self.learning_rate), **numbers)

    def build(self):
        return optax.rmsprop(self.learning_rate, self.decay, self.eps, centered=self.centered, momentum=self.momentum)


class Lion(AbstractOptax):
    """θ⁺ = θ − α (sign(β₁m + (1−β₁)g) + λθ), m⁺ = β₂m + (1−β₂)g. Every move is α long in each parameter."""

    learning_rate: Rate = 1e-4
    b1: float = 0.9
    b2: float = 0.99
    weight_decay: float = 0.0

    def __check_init__(self):
        numbers = {"b1": decay(self.b1), "b2": decay(self.b2), "weight_decay": nonnegative(self.weight_decay)}
        require("Lion", learning_rate=rate(self.learning_rate), **numbers)

    def build(self):
        return optax.lion(self.learning_rate, self.b1, self.b2, weight_decay=self.weight_decay)


class Muon(AbstractOptax):
    """M⁺ = μM + (1−μ)G per matrix, θ⁺ = θ − α max(1, m/n)^½ orth(M⁺) − αλθ; Adam for all but matrices.

    orth(M) is close to UVᵀ of M = UΣVᵀ, by `ns_steps` Newton-Schulz steps on polynomials of degree five. `nesterov`
    looks one gradient ahead. A matrix is (outputs, inputs), m × n, as in `models`; leaves of any other number of axes
    move by Adam with `vector_rate` (b1 0.9, b2 0.999).
    """

    learning_rate: Rate = 2e-2
    momentum: float = 0.95
    vector_rate: Rate = 1e-3
    weight_decay: float = 0.0
    nesterov: bool = eqx.field(static=True, default=True)
    ns_steps: int = eqx.field(static=True, default=5)

    def __check_init__(self):
        numbers = {"momentum": decay(self.momentum), "weight_decay": nonnegative(self.weight_decay)}
        rates = {"learning_rate": rate(self.learning_rate), "vector_rate": rate(self.vector_rate)}
        require("Muon", **rates, **numbers, ns_steps=whole(self.ns_steps, 1))

    def build(self):
        return optax.contrib.muon(
            self.learning_rate,
            ns_steps=self.ns_steps,
            beta=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            adam_weight_decay=self.weight_decay,
            adam_learning_rate=self.vector_rate,
            muon_weight_dimension_numbers=_matrices,
        )


def _matrices(params: Any) -> Any:
    """Rows are outputs, columns inputs."""
    sides = optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=0)
    return jax.tree.map(lambda leaf: sides if leaf.ndim == 2 else None, params)


class ScheduleFree(AbstractOptax):
    """AdamW on z without momentum, its average x, and gradients between: y = (1−β₁)z + β₁x.

    z⁺ = z − α (g(y)/(√v̂ + ε) + λy), x⁺ = (1−c)x + cz⁺ with c the share of this step's α² (α the largest so far) in
    their sum. The parameters of a run are y; what is scored and returned (`readout`) is x. No decay of α is needed; a
    warm-up helps, e.g. `learning_rate=Warmup(2.5e-3, 1000)`. Raises ValueError unless 0 < b1 < 1.
    """

    learning_rate: Rate = 2.5e-3
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __check_init__(self):
        check_adam(self)
        b1 = (self.b1, lambda v: v > 0, "in (0, 1): y would be z, and x not computable from the two")
        require("ScheduleFree", b1=b1, weight_decay=nonnegative(self.weight_decay))

    def build(self):
        alpha: Any = self.learning_rate  # typed as a number there, and a schedule is taken as well
        return optax.contrib.schedule_free_adamw(
            alpha, b1=self.b1, b2=self.b2, eps=self.eps, weight_decay=self.weight_decay
        )

    def readout(self, params, state):
        average = optax.contrib.schedule_free_eval_params(state, params)
        started = state.step_count > 1  # before the first step x = y, to the last bit
        return jax.tree.map(lambda x, y: jnp.where(started, jnp.asarray(x, y.dtype), y), average, params)
