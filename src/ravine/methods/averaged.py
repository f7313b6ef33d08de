"""An average of the iterates of another method: its steps are not changed, what is scored and returned is.

With θ_1, θ_2, ... the iterates after the first `start` steps:

    EMA       a_k = a_{k−1} + w_k (θ_k − a_{k−1}),   w_k = (1 − δ)/(1 − δᵏ)   (weights δ^{k−i}, adding up to one)
    Uniform   a = mean of θ_c, θ_2c, θ_3c, ... with c = `every`

c = 1 is the average of Polyak and Ruppert; c > 1, one iterate per cycle of the learning rate, is SWA. As text:
`ema:DECAY`, `ema:DECAY,START`, `polyak`, `polyak:START`, `swa:START,EVERY`; on the command line any method takes
`--set NAME.average=ema:0.999`.

`loss` and `grad_norm` of a recorded row belong to the iterate that enters the step; metrics, the closing row and the
parameters returned belong to the average. A target of loss is looked at when an iterate meets it, and ends the run
if the average meets it as well. In stages, the next one starts from the average. New points keep the average.

Needs      what the averaged method needs.
Cost/step  that method's, and one pass over the parameters.
Memory     that method's, and P.
Reference  Polyak & Juditsky (1992), SIAM J. Control Optim. 30(4); Ruppert (1988), Cornell report 781; Izmailov et al.
           (2018), Averaging Weights Leads to Wider Optima and Better Generalization, UAI, arXiv:1803.05407 (SWA).
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from ..checks import nearest, require, whole
from ..method import Method
from ..types import Params, State, Status, Step
from .optax_methods import Adam


class Average(eqx.Module):
    """Abstract: which iterates are averaged, and how. Raises ValueError for a number out of its range."""

    @abc.abstractmethod
    def weight(self, steps: Int[Array, ""]) -> Array:
        """How far the average moves to the iterate after `steps` steps: a ← a + w(θ − a), and 1 at the first."""

    @abc.abstractmethod
    def begun(self, steps: Int[Array, ""]) -> Array:
        """Whether the average holds an iterate yet."""

    @staticmethod
    def from_text(text: str) -> Average:
        """The average that a text such as `ema:0.999,1000` means. Raises ValueError, one sentence."""
        kind, _, rest = text.strip().lower().partition(":")
        if kind not in KINDS:
            raise ValueError(f"there is no average {kind!r}; {nearest(kind, KINDS)}")
        make, form, least, most = KINDS[kind]
        parts = [part.strip() for part in rest.split(",")] if rest else []
        try:
            numbers = [float(part) if "." in part or "e" in part else int(part) for part in parts]
        except ValueError:
            numbers = [None] * (most + 1)
        if not least <= len(numbers) <= most:
            raise ValueError(f"write {form}.")
        return make(*numbers)


class EMA(Average):
    """Exponential moving average with `decay` δ of the iterates after the first `start` steps."""

    decay: float = 0.999
    start: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        require("EMA", decay=(self.decay, lambda v: 0 < v < 1, "in (0, 1)"), start=whole(self.start, 0))

    def weight(self, steps):
        k = jnp.maximum(steps - self.start, 1)
        w = (1.0 - self.decay) / (1.0 - self.decay**k)
        return jnp.where(self.begun(steps), w, 0.0)

    def begun(self, steps):
        return steps > self.start


class Uniform(Average):
    """The mean of every `every`-th iterate after the first `start` steps."""

    start: int = eqx.field(static=True, default=0)
    every: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        require("Uniform", start=whole(self.start, 0), every=whole(self.every, 1))

    def weight(self, steps):
        k = steps - self.start
        taken = self.begun(steps) & (k % self.every == 0)
        return jnp.where(taken, 1.0 / jnp.maximum(k // self.every, 1).astype(jnp.result_type(float)), 0.0)

    def begun(self, steps):
        return steps >= self.start + self.every


KINDS: dict[str, tuple[Any, str, int, int]] = {
    "ema": (EMA, "ema:DECAY or ema:DECAY,START, such as ema:0.999,1000", 1, 2),
    "polyak": (Uniform, "polyak or polyak:START, such as polyak:1000", 0, 1),
    "swa": (Uniform, "swa:START,EVERY, such as swa:1000,100", 2, 2),
}


class AveragedState(NamedTuple):
    inner: State
    average: Params
    steps: Int[Array, ""]


class Averaged(Method):
    """The steps of another method, scored and returned as an average of its iterates.

    `method` and `average` (`EMA` or `Uniform`): see the module docstring. Raises TypeError for anything else.
    """

    method: Method = eqx.field(default_factory=Adam)
    average: Average = eqx.field(default_factory=EMA)
    monotone: ClassVar[bool] = False  # the steps may be, the average is not

    def __check_init__(self):
        if not isinstance(self.method, Method):
            raise TypeError(f"Averaged: method must be a ravine method such as Adam(); got {self.method!r}.")
        if not isinstance(self.average, Average):
            raise TypeError(f"Averaged: average must be EMA(...) or Uniform(...); got {self.average!r}.")

    @property
    def needs(self):  # ty: ignore[incompatible-property-override] (a constant of other methods)
        return self.method.needs

    @property
    def guard_every(self):  # ty: ignore[incompatible-property-override] (a constant of other methods)
        return self.method.guard_every

    @property
    def second_order(self):  # ty: ignore[incompatible-property-override] (a constant of other methods)
        return self.method.second_order

    @property
    def noisy(self):  # ty: ignore[incompatible-property-override] (a constant of other methods)
        return self.method.noisy

    @property
    def batchable(self):  # ty: ignore[incompatible-property-override] (a constant of other methods)
        return self.method.batchable

    def init(self, objective, params, *, key):
        return AveragedState(self.method.init(objective, params, key=key), params, jnp.zeros((), jnp.int32))

    def step(self, objective, params, state, *, key):
        params, inner, info = self.method.step(objective, params, state.inner, key=key)
        finite = info.status != Status.NONFINITE
        steps = state.steps + finite.astype(jnp.int32)
        weight = jnp.where(finite, self.average.weight(steps), 0.0)
        point = self.method.readout(params, inner)

        def mix(a: Array, x: Array) -> Array:
            # Not a + w(x − a) where w = 1: the first iterate enters to the last bit; where w = 0, NaN does not.
            mixed = jnp.where(weight == 1, x, a + weight * (x - a))
            return jnp.where(weight == 0, a, mixed).astype(a.dtype)

        return Step(params, AveragedState(inner, jax.tree.map(mix, state.average, point), steps), info)

    def refresh(self, objective, params, state):
        return state._replace(inner=self.method.refresh(objective, params, state.inner))

    def readout(self, params, state):
        begun = self.average.begun(state.steps)
        point = self.method.readout(params, state.inner)
        return jax.tree.map(lambda a, x: jnp.where(begun, a, x), state.average, point)

    def remark(self, objective):
        return self.method.remark(objective)

    def footprint(self, n: int, p: int) -> int:
        return self.method.footprint(n, p) + 2 * p
