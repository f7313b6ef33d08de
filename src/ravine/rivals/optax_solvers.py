"""Optax, called as its documentation calls it: Adam on a decaying step length, and L-BFGS with its zoom search."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp

from ..types import Counts, counts
from .rival import positive
from .stepping import Solver, Stepped
from .view import View


@dataclasses.dataclass(frozen=True)
class OptaxAdam(Stepped):
    """Adam on an exponentially decaying step length (optax.adam, optax.exponential_decay).

    The schedule is that of jaxpi's Burgers example: 1e-3, times 0.9 every 5000 steps.
    """

    name: ClassVar[str] = "optax/adam"
    call: ClassVar[str] = "optax.adam(optax.exponential_decay(...))"
    source: ClassVar[str] = "github.com/PredictiveIntelligenceLab/jaxpi, examples/burgers/configs/sota.py"
    counted: ClassVar[bool] = True
    learning_rate: float = 1e-3
    decay_rate: float = 0.9
    decay_steps: int = 5000

    def __post_init__(self):
        positive(self.name, learning_rate=self.learning_rate, decay_rate=self.decay_rate, decay_steps=self.decay_steps)

    def solver(self, view: View) -> Solver:
        import optax

        return adam(view, optax.exponential_decay(self.learning_rate, self.decay_steps, self.decay_rate))


@dataclasses.dataclass(frozen=True)
class OptaxLBFGS(Stepped):
    """L-BFGS with 50 pairs and a zoom line search (optax.lbfgs)."""

    name: ClassVar[str] = "optax/lbfgs"
    call: ClassVar[str] = "optax.lbfgs with optax.value_and_grad_from_state"
    source: ClassVar[str] = (
        "https://optax.readthedocs.io/en/latest/_collections/examples/lbfgs.html; memory: ours (its default is 10)"
    )
    counted: ClassVar[bool] = True
    memory: int = 50

    def __post_init__(self):
        positive(self.name, memory=self.memory)

    def solver(self, view: View) -> Solver:
        import optax

        return searched(view, optax.lbfgs(memory_size=self.memory), searches)


def adam(view: View, learning_rate: Any) -> Solver:
    """`optax.adam` on the gradient of the view."""
    import optax

    transformation = optax.adam(learning_rate)

    def step(theta, state, data):
        _, grad = view.value_and_grad(theta, data)
        update, state = transformation.update(grad, state, theta)
        return optax.apply_updates(theta, update), state

    return Solver(lambda theta, data: transformation.init(theta), step, lambda old, new: counts(residual=1, vjp=1))


def searched(view: View, transformation: Any, work: Any = None) -> Solver:
    """An Optax transformation that ends in a line search: its value and gradient are taken from the search's state."""
    import optax

    def step(theta, state, data):
        def value_fn(theta):
            return view.value(theta, data)

        value, grad = optax.value_and_grad_from_state(value_fn)(theta, state=state)
        update, state = transformation.update(grad, state, theta, value=value, grad=grad, value_fn=value_fn)
        return optax.apply_updates(theta, update), state

    return Solver(lambda theta, data: transformation.init(theta), step, work)


def searches(old: Any, new: Any) -> Counts:
    """Work of one step: every trial of the search takes value and gradient, and so does a start it has not seen."""
    import optax

    fresh = ~jnp.isfinite(optax.tree.get(old, "value")).astype(bool)
    trials = optax.tree.get(new, "num_linesearch_steps") + fresh
    return counts(residual=trials, vjp=trials)
