"""Relatives of Adam, as Optax computes them: AMSGrad, NAdam, RAdam, AdaBelief.

All keep m⁺ = β₁m + (1−β₁)g and a second moment v, corrected for their start at zero (m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ)),
and move by −α m̂/(√v̂ + ε) with one change each, given in the class. `learning_rate` may be a schedule.

Needs      VALUE.
Cost/step  one value and gradient (residual 1, vjp 1).
Memory     2P; AMSGrad 3P.
Raises     ValueError for a number out of its range, TypeError for text.
Deviations of the adapter are those of `optax_methods`.
Reference  Reddi, Kale & Kumar (2018), ICLR, arXiv:1904.09237 (AMSGrad); Dozat (2016), ICLR workshop (NAdam); Liu et al.
           (2020), ICLR, arXiv:1908.03265 (RAdam); Zhuang et al. (2020), NeurIPS, arXiv:2010.07468 (AdaBelief).
"""

from __future__ import annotations

import optax

from ..checks import nonnegative, positive, require
from .optax_methods import AbstractOptax, Rate, check_adam


class AMSGrad(AbstractOptax):
    """Adam whose divisor never shrinks: θ⁺ = θ − α m̂/(√w + ε), w⁺ = max(w, v̂)."""

    learning_rate: Rate = 1e-3
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def __check_init__(self):
        check_adam(self)

    def build(self):
        return optax.amsgrad(self.learning_rate, self.b1, self.b2, self.eps)


class NAdam(AbstractOptax):
    """Adam with Nesterov's momentum: β₁m⁺/(1−β₁ᵗ⁺¹) + (1−β₁)g/(1−β₁ᵗ) in place of m̂."""

    learning_rate: Rate = 1e-3
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def __check_init__(self):
        check_adam(self)

    def build(self):
        return optax.nadam(self.learning_rate, self.b1, self.b2, self.eps)


class RAdam(AbstractOptax):
    """Adam with a rectified step: −α r_t m̂/(√v̂ + ε), and −α m̂ while the variance of 1/√v̂ is unbounded.

    ρ_t = ρ − 2tβ₂ᵗ/(1−β₂ᵗ) with ρ = 2/(1−β₂) − 1, and r_t² = (ρ_t−4)(ρ_t−2)ρ/((ρ−4)(ρ−2)ρ_t) from
    ρ_t ≥ `threshold` on.
    """

    learning_rate: Rate = 1e-3
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    threshold: float = 5.0

    def __check_init__(self):
        check_adam(self)
        require("RAdam", threshold=(self.threshold, lambda v: v > 4, "greater than 4, where r_t² turns positive"))

    def build(self):
        return optax.radam(self.learning_rate, self.b1, self.b2, self.eps, threshold=self.threshold)


class AdaBelief(AbstractOptax):
    """Adam that divides by the spread of the gradient: v⁺ = β₂v + (1−β₂)(g − m⁺)² + ε₀, `eps_root` being ε₀."""

    learning_rate: Rate = 1e-3
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-16
    eps_root: float = 1e-16

    def __check_init__(self):
        check_adam(self)
        require("AdaBelief", eps=positive(self.eps), eps_root=nonnegative(self.eps_root))

    def build(self):
        return optax.adabelief(self.learning_rate, self.b1, self.b2, self.eps, self.eps_root)
