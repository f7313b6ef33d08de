"""Gradient transformations of Optax as methods, and the everyday presets.

    g = ∇L(θ),   (u, σ⁺) = update(g, σ, θ; value, grad, value_fn),   θ⁺ = θ + u

`Optax` takes any `optax.GradientTransformation`; the presets build theirs from real-valued fields, so tuning a
learning rate never recompiles. The state is Optax's own, so schedules, chains and masks work unchanged.

Needs      VALUE.
Cost/step  one value and gradient (residual 1, vjp 1). A transformation with a line search (`optax.lbfgs`) adds one
           for each of its trials; the value and gradient it leaves in its state are used, not computed again.
Memory     the transformation's: Adam and AdamW 2P, SGD P with momentum, 0 without.
Raises     ValueError for a number out of its range, TypeError for text.
Deviation  where the value or the gradient is not finite, parameters and state stay as they are and the status is
           NONFINITE; Optax itself would write the NaN into its moments.
Reference  DeepMind et al. (2020), The DeepMind JAX ecosystem; Kingma & Ba (2015), ICLR, arXiv:1412.6980 (Adam);
           Loshchilov & Hutter (2019), ICLR, arXiv:1711.05101 (AdamW); Sutskever et al. (2013), ICML (momentum).
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from ..checks import decay, nonnegative, positive, rate, require
from ..method import Method
from ..transforms.schedules import Schedule
from ..types import Info, Params, Status, Step, counts

Rate = float | Schedule | Callable[[Any], Any]  # a number, a schedule of `transforms.schedules`, or one of Optax


def _strong(x: Any) -> jax.Array:
    """Without JAX's weak type: a loop carries the state, and its type must not change."""
    return jnp.asarray(x, jnp.asarray(x).dtype)


def _norm(tree: Any) -> jax.Array:
    return jnp.sqrt(sum((jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)), start=jnp.zeros(())))


class AbstractOptax(Method):
    """The adapter: a subclass says which transformation it is."""

    monotone: ClassVar[bool] = False

    @abc.abstractmethod
    def build(self) -> optax.GradientTransformation:
        """The Optax transformation. Called while tracing."""

    def init(self, objective, params, *, key):
        return jax.tree.map(_strong, self.build().init(params))

    def step(self, objective, params, state, *, key):
        transform = optax.with_extra_args_support(self.build())
        fresh, value, grad = _entering(objective, params, state)
        move, after = transform.update(
            grad, state, params, value=value, grad=grad, value_fn=lambda p: objective.value(p)
        )
        grad_norm, trials = _norm(grad), _trials(after)
        finite = jnp.isfinite(value) & jnp.isfinite(grad_norm)
        moved = optax.apply_updates(params, move)
        params = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, params)
        after = jax.tree.map(lambda new, old: jnp.where(finite, jnp.asarray(new, old.dtype), old), after, state)
        info = Info(
            value=value,
            grad_norm=grad_norm,
            step_norm=jnp.where(finite, _norm(move), 0.0),
            status=jnp.where(finite, Status.OK, Status.NONFINITE).astype(jnp.int32),
            counts=counts(residual=fresh + trials, vjp=fresh + trials),
            scalars={},
        )
        return Step(params, after, info)

    def refresh(self, objective, params, state):
        """Moments are kept. A value that a line search stored belongs to the old points: it is marked unknown."""
        if not _stores_gradient(state):
            return state
        return optax.tree_utils.tree_set(state, value=jnp.full_like(_stored(state, "value"), jnp.inf))


def _stored(state: Any, name: str) -> Any:
    """The one entry called `name` in an Optax state, or None if there is none or more than one."""
    found = optax.tree_utils.tree_get_all_with_path(state, name)
    return found[0][1] if len(found) == 1 else None


def _stores_gradient(state: Any) -> bool:
    return _stored(state, "value") is not None and _stored(state, "grad") is not None


def _entering(objective, params: Params, state: Any) -> tuple[Any, Any, Params]:
    """(evaluations used, value, gradient) at the entering parameters, from the state where a search left them."""
    if not _stores_gradient(state):
        return 1, *objective.value_and_grad(params)
    value, grad = _stored(state, "value"), _stored(state, "grad")
    known = jnp.isfinite(value)
    value, grad = jax.lax.cond(
        known,
        lambda _: (value, grad),
        lambda p: _like(objective.value_and_grad(p), (value, grad)),
        params,
    )
    return jnp.where(known, 0, 1), value, grad


def _like(tree: Any, template: Any) -> Any:
    return jax.tree.map(lambda x, t: jnp.asarray(x, t.dtype), tree, template)


def _trials(state: Any) -> Any:
    """Evaluations made by a line search inside the transformation."""
    trials = _stored(state, "num_linesearch_steps")
    return 0 if trials is None else trials


class Optax(AbstractOptax):
    """Any Optax gradient transformation; `Optax()` is Adam with learning rate 1e-3.

    Numbers given to Optax are constants of the compiled program: build the transformation once and reuse it, or
    use a preset, whose numbers can change without recompiling.
    Raises TypeError unless given something with Optax's `init` and `update`.
    """

    transformation: optax.GradientTransformation | None = None

    def __check_init__(self):
        given = self.transformation
        if given is not None and not (callable(getattr(given, "init", None)) and hasattr(given, "update")):
            raise TypeError(
                f"Optax: transformation must be an optax.GradientTransformation such as optax.adam(1e-3); "
                f"got {type(given).__name__}."
            )

    def build(self):
        return optax.adam(1e-3) if self.transformation is None else self.transformation


def check_adam(owner: Any) -> None:
    """Ranges of the four numbers that Adam and its relatives share."""
    numbers = {"b1": decay(owner.b1), "b2": decay(owner.b2), "eps": positive(owner.eps)}
    require(type(owner).__name__, learning_rate=rate(owner.learning_rate), **numbers)


class Adam(AbstractOptax):
    """m⁺ = β₁m + (1−β₁)g, v⁺ = β₂v + (1−β₂)g², θ⁺ = θ − α m̂/(√v̂ + ε). `learning_rate` may be a schedule."""

    learning_rate: Rate = 1e-3
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    nesterov: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        check_adam(self)

    def build(self):
        return optax.adam(self.learning_rate, self.b1, self.b2, self.eps, nesterov=self.nesterov)


class AdamW(AbstractOptax):
    """Adam with decoupled decay: θ⁺ = θ − α (m̂/(√v̂ + ε) + λθ). `learning_rate` may be a schedule."""

    learning_rate: Rate = 1e-3
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 1e-4

    def __check_init__(self):
        check_adam(self)
        require("AdamW", weight_decay=nonnegative(self.weight_decay))

    def build(self):
        return optax.adamw(self.learning_rate, self.b1, self.b2, self.eps, weight_decay=self.weight_decay)


class SGD(AbstractOptax):
    """v⁺ = βv + g, θ⁺ = θ − α v⁺ (Nesterov: θ − α (g + βv⁺)). `momentum=None` keeps no state and is plain descent.

    `learning_rate` may be a schedule. Raises ValueError for `nesterov=True` without momentum.
    """

    learning_rate: Rate = 1e-3
    momentum: float | None = 0.9
    nesterov: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        require("SGD", learning_rate=rate(self.learning_rate), momentum=decay(self.momentum))
        if self.nesterov and self.momentum is None:
            raise ValueError("SGD: nesterov=True needs momentum, e.g. SGD(momentum=0.9, nesterov=True).")

    def build(self):
        return optax.sgd(self.learning_rate, self.momentum, self.nesterov)
