"""scimba, its JAX half: self-scaled quasi-Newton on any pytree, energy natural gradient and ANaGRAM on our rows.

The natural gradients take scimba's own problems only: no public argument gives them a residual. Each has one place
where the scaled rows and residual are formed, though, and a subclass returns ours there; direction, damping and line
search are scimba's. Their function is Σ r² = 2L without the factor one half, as in scimba.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ..types import Structure
from .library import OPTIMIZERS
from .rival import between, positive
from .stepping import Solver, Stepped
from .view import View


@dataclasses.dataclass(frozen=True)
class _SelfScaled(Stepped):
    """A quasi-Newton method of scimba by its class name.

    As in scimba's persistent loop, a step begins with the value and gradient that the search before it ended with, and
    takes them anew only where that search found no Wolfe point. State: (scimba's, value, gradient, whether they are of
    this point).
    """

    optimizer: ClassVar[str]
    wolfe_c2: float = 0.9

    def __post_init__(self):
        between(self.name, 1e-4, 1.0, wolfe_c2=self.wolfe_c2)  # 1e-4 is scimba's wolfe_c1

    def solver(self, view: View) -> Solver:
        from scimba_jax.nonlinear_approximation.optimizers import native_optimizers

        cls = getattr(native_optimizers, self.optimizer)

        def build(theta, data):
            def objective(point):
                return view.value(point, data)

            return native_optimizers.optimize_pytree(cls, theta, objective, wolfe_c2=self.wolfe_c2)

        def init(theta, data):
            return build(theta, data).state, jnp.zeros((), theta.dtype), jnp.zeros_like(theta), jnp.array(False)

        def step(theta, state, data):
            def evaluate(point):
                return view.value_and_grad(point, data)

            optimizer = build(theta, data)
            optimizer.state, value, grad, known = state
            value, grad = jax.lax.cond(known, lambda: (value, grad), lambda: evaluate(theta))
            theta, optimizer, found = optimizer.update_with_evaluation(theta, grad, value, None, evaluate, {})
            return theta, (optimizer.state, found.value, found.grad, found.done)

        return Solver(init, step)


@dataclasses.dataclass(frozen=True)
class ScimbaSSBroyden(_SelfScaled):
    """Self-scaled Broyden, n x n, with a strong Wolfe search (scimba's ScimbaSsBroyden)."""

    name: ClassVar[str] = "scimba/ssbroyden"
    call: ClassVar[str] = "optimize_pytree(ScimbaSsBroyden, params, objective), update_with_evaluation"
    source: ClassVar[str] = f"docstring of {OPTIMIZERS}.native_optimizers (its defaults)"
    optimizer: ClassVar[str] = "ScimbaSsBroyden"


@dataclasses.dataclass(frozen=True)
class ScimbaSSBFGS(_SelfScaled):
    """Self-scaled BFGS, n x n, with a strong Wolfe search (scimba's ScimbaSsBfgs)."""

    name: ClassVar[str] = "scimba/ssbfgs"
    call: ClassVar[str] = "optimize_pytree(ScimbaSsBfgs, params, objective), update_with_evaluation"
    source: ClassVar[str] = f"docstring of {OPTIMIZERS}.native_optimizers (its defaults)"
    optimizer: ClassVar[str] = "ScimbaSsBfgs"


def _whole(theta: Any) -> tuple[Any, None]:
    return theta, None


def _again(active: Any, frozen: Any) -> Any:
    return active


def _losses(view: View):
    """The function of a natural gradient of scimba; its sample is the objective's data."""
    return lambda theta, data: {"total": 2.0 * view.value(theta, data)}


@dataclasses.dataclass(frozen=True)
class ScimbaENG(Stepped):
    """Energy natural gradient, damped, with a search on a logarithmic grid (scimba's ENGOptimizer).

    `adaptive` moves the damping by the outcome of an Armijo search instead.
    """

    name: ClassVar[str] = "scimba/eng"
    call: ClassVar[str] = "ENGOptimizer with its rows replaced by the objective's"
    source: ClassVar[str] = f"{OPTIMIZERS}.optimizers.ENGOptimizer (defaults of its __init__)"
    needs: ClassVar[Structure] = Structure.RESIDUAL
    regularization: float = 1e-6
    adaptive: bool = False

    def __post_init__(self):
        positive(self.name, regularization=self.regularization)

    def solver(self, view: View) -> Solver:
        from scimba_jax.nonlinear_approximation.optimizers import optimizers

        class Ours(optimizers.ENGOptimizer):
            def _n_rows(self, sample_dict):
                return view.rows or 0

            def _points_side_system(self, space, sample_dict, with_grad):
                rows, r = view.jacobian(space, sample_dict), view.residual(space, sample_dict)
                return (rows, 2.0 * (r @ rows), 2.0 * r) if with_grad else (rows, None, None)

            def _assemble_gram_and_grad(self, space, sample_dict, with_grad):
                rows, r = view.jacobian(space, sample_dict), view.residual(space, sample_dict)
                gram = optimizers._symmetric_gram(rows, self.gram_blocks)
                gram = gram + self.matrix_regularization * jnp.eye(self.n_theta)
                return gram, (2.0 * (r @ rows) if with_grad else None)

        search: dict[str, Any] = {"linesearch": "armijo", "adaptive_matrix_regularization": True}
        made = Ours(
            view.start,
            _losses(view),
            None,
            None,
            _whole,
            _again,
            grad_from_jactheta=True,
            matrix_regularization=self.regularization,
            **(search if self.adaptive else {}),
        )

        def step(theta, state, data):
            optimizer = copy.copy(made)
            optimizer.matrix_regularization = state
            _, theta, optimizer = optimizer.update(theta, data)
            return theta, optimizer.matrix_regularization

        return Solver(lambda theta, data: jnp.asarray(self.regularization), step)


@dataclasses.dataclass(frozen=True)
class ScimbaANaGRAM(Stepped):
    """Natural gradient by a truncated pseudo-inverse of the Jacobian (scimba's ANaGRAMOptimizer)."""

    name: ClassVar[str] = "scimba/anagram"
    call: ClassVar[str] = "ANaGRAMOptimizer with its rows replaced by the objective's"
    source: ClassVar[str] = f"docstring of {OPTIMIZERS}.anagram.ANaGRAMOptimizer (its defaults)"
    needs: ClassVar[Structure] = Structure.RESIDUAL
    threshold: float = 1e-4
    decomposition: str = "auto"

    def __post_init__(self):
        positive(self.name, threshold=self.threshold)
        if self.decomposition not in ("auto", "svd", "gram"):
            raise ValueError(f"{self.name}: decomposition={self.decomposition!r} must be 'auto', 'svd' or 'gram'.")

    def solver(self, view: View) -> Solver:
        from scimba_jax.nonlinear_approximation.optimizers.anagram import ANaGRAMOptimizer

        class Ours(ANaGRAMOptimizer):
            def _system(self, model, sample_dict, with_jac=True, halves=False):
                r = view.residual(model, sample_dict)
                return (view.jacobian(model, sample_dict) if with_jac else None), r

        options = {"svd_threshold": self.threshold, "solver": self.decomposition}
        made = Ours(view.start, _losses(view), None, None, _whole, _again, **options)

        def step(theta, state, data):
            _, theta, _ = made.update(theta, data)
            return theta, state

        return Solver(lambda theta, data: (), step)
