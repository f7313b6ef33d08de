"""Self-scaled quasi-Newton updates as Optax transformations, with a line search inside, used as `optax.lbfgs` is.

    d = −Hu,   θ⁺ = θ + td  (t by a strong Wolfe search),   s = td,   y = ∇f(θ⁺) − ∇f(θ),   H⁺ by the chosen update

u is the incoming update, the gradient itself unless transformations come before. H and its update are those of the
methods `SSBFGS` and `SSBroyden`, and so are the iterates.

    transform = ravine.transforms.ssbroyden()
    state = transform.init(params)
    value_and_grad = optax.value_and_grad_from_state(f)              # what the search left in the state is used
    value, grad = value_and_grad(params, state=state)
    updates, state = transform.update(grad, state, params, value=value, grad=grad, value_fn=f)
    params = optax.apply_updates(params, updates)

The update is the whole move: no learning rate follows. f must be the same function through one update (a batch
may change between two). The stored value and gradient are those of θ⁺, so nothing after it may change the update.

Cost       one value and gradient of f per trial of the search; two products Hx and one pass over H.
Memory     P² + 2P.
Deviations where −Hu is no descent direction, and after a failed search, H restarts from the identity; a failed search,
           or a value that is not finite, gives an update of zero.
Reference  those of `methods.ssbfgs` and `methods.ssbroyden`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from ..directions.broyden import (
    BFGS_VARIANTS,
    broyden_update,
    curvature_pair,
    inverse_times,
    quasi_newton_direction,
    self_scaled_bfgs,
    self_scaled_broyden,
)
from ..globalize import wolfe


class QuasiNewtonState(NamedTuple):
    inverse: Float[Array, "P P"]  # H, meaningless while `fresh`
    fresh: Bool[Array, ""]  # H is the identity, not yet scaled
    decrease: Float[Array, ""]  # of the value at the last update, 0 where that is not known
    value: Float[Array, ""]  # at the updated parameters; infinite before the first update
    grad: Any
    num_linesearch_steps: Int[Array, ""]


class _Search(NamedTuple):
    """Options of the line search, named as those of the methods."""

    first_trial: str
    first_step: Any
    c1: Any
    c2: Any
    max_trials: int


class _Function(NamedTuple):
    """A function of parameters, in the form in which the search takes an objective."""

    value_and_grad: Callable[[Any], tuple[Array, Any]]


def ssbfgs(
    variant: str = "AB",
    *,
    first_trial: str = "decrease",
    first_step: Any = 1.0,
    c1: Any = 1e-4,
    c2: Any = 0.9,
    max_trials: int = 25,
) -> optax.GradientTransformationExtraArgs:
    """Self-scaled BFGS; see the module docstring and `methods.ssbfgs`. Raises ValueError for an argument out of range;
    `update` raises ValueError without `params`, `value`, `grad` and `value_fn`."""
    if variant not in BFGS_VARIANTS:
        raise ValueError(f"ssbfgs: variant must be 'AB' or 'OL'; got {variant!r}.")
    return _searched(
        "ssbfgs",
        lambda b, h, fresh, _: self_scaled_bfgs(b, h, fresh, variant),
        _Search(first_trial, first_step, c1, c2, max_trials),
    )


def ssbroyden(
    *, first_trial: str = "decrease", first_step: Any = 1.0, c1: Any = 1e-4, c2: Any = 0.9, max_trials: int = 25
) -> optax.GradientTransformationExtraArgs:
    """Self-scaled Broyden; see the module docstring and `methods.ssbroyden`. Raises ValueError for an argument out of
    range; `update` raises ValueError without `params`, `value`, `grad` and `value_fn`."""
    search = _Search(first_trial, first_step, c1, c2, max_trials)
    return _searched("ssbroyden", self_scaled_broyden, search)


def _searched(name: str, choose: Callable, search: _Search) -> optax.GradientTransformationExtraArgs:
    """The transformation whose update takes the member `choose(b, h, fresh, P)` of the family."""
    wolfe.check_search(search, name)

    def init(params):
        theta, _ = ravel_pytree(params)
        zero = jnp.zeros((), theta.dtype)
        return QuasiNewtonState(
            inverse=jnp.eye(theta.size, dtype=theta.dtype),
            fresh=jnp.ones((), bool),
            decrease=zero,
            value=zero + jnp.inf,
            grad=jax.tree.map(jnp.zeros_like, params),
            num_linesearch_steps=jnp.zeros((), jnp.int32),
        )

    def update(updates, state, params=None, *, value=None, grad=None, value_fn=None, **extra):
        given = {"params": params, "value": value, "grad": grad, "value_fn": value_fn}
        missing = [key for key, x in given.items() if x is None]
        if missing:
            raise ValueError(
                f"{name}: update needs {', '.join(missing)}; "
                "call update(grad, state, params, value=value, grad=grad, value_fn=f), as for optax.lbfgs."
            )
        return _update(choose, search, updates, state, params, value, grad, _bound(value_fn, extra))

    return optax.GradientTransformationExtraArgs(init, update)


def _bound(value_fn: Any, extra: dict[str, Any]) -> _Function:
    """f with those extra arguments that it names, as Optax hands them to its own searches."""
    named = inspect.signature(value_fn).parameters
    return _Function(
        jax.value_and_grad(lambda params: value_fn(params, **{k: v for k, v in extra.items() if k in named}))
    )


def _update(choose, search: _Search, updates, state: QuasiNewtonState, params, value, grad, function: _Function):
    theta, unravel = ravel_pytree(params)
    flat = lambda tree: ravel_pytree(tree)[0].astype(theta.dtype)
    g, value = flat(grad), jnp.asarray(value, theta.dtype)
    fresh, direction, slope = quasi_newton_direction(state.inverse, flat(updates), g, state.fresh)

    size, grad_norm = jnp.linalg.norm(theta), jnp.linalg.norm(g)
    first = wolfe.first_trial(search.first_trial, search.first_step, fresh, size, grad_norm, state.decrease, slope)
    evaluate = wolfe.along(function, unravel, theta, direction)
    constants = {"c1": search.c1, "c2": search.c2, "max_trials": search.max_trials}
    found = wolfe.strong_wolfe(evaluate, value, slope, g, first, **constants)

    s, y = (jnp.where(found.moved, x, 0.0) for x in (found.t * direction, found.grad - g))  # not 0 · NaN
    pair, b, h = curvature_pair(s, y, inverse_times(state.inverse, fresh, y), -found.t * (s @ g))
    inverse = broyden_update(state.inverse, fresh, pair, choose(b, h, fresh, theta.size))
    after = QuasiNewtonState(
        inverse=inverse,
        fresh=jnp.where(found.moved, fresh & ~pair.usable, True),
        decrease=found.value - value,
        value=found.value,
        grad=unravel(found.grad),
        num_linesearch_steps=found.trials,
    )
    return unravel(s), after
