"""Optimistix, stepped by its solvers' own init and step, since a solve of it returns no trajectory.

Least squares get the Jacobian formed row by row: Optimistix would take one forward sweep over all points per parameter.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax

from ..types import Structure, counts
from .stepping import Solver, Stepped
from .view import View

_DOCS = "https://docs.kidger.site/optimistix/api/"
_TOLERANCE = 1e-15  # of stopping tests, which `step` does not ask


@dataclasses.dataclass(frozen=True)
class OptimistixLM(Stepped):
    """Levenberg-Marquardt by QR of the damped system (optimistix.LevenbergMarquardt)."""

    name: ClassVar[str] = "optimistix/lm"
    call: ClassVar[str] = "optimistix.LevenbergMarquardt(rtol, atol, linear_solver=lineax.QR()), init and step"
    source: ClassVar[str] = _DOCS + "least_squares"
    needs: ClassVar[Structure] = Structure.RESIDUAL
    counted: ClassVar[bool] = True
    jacobian: str = "rows"

    def __post_init__(self):
        if self.jacobian not in ("rows", "own"):
            raise ValueError(f"{self.name}: jacobian={self.jacobian!r} must be 'rows' or 'own'.")

    def solver(self, view: View) -> Solver:
        import optimistix

        rows = view.residual_with_jacobian if self.jacobian == "rows" else view.residual
        solver = optimistix.LevenbergMarquardt(rtol=_TOLERANCE, atol=_TOLERANCE)
        # A step evaluates the residual at its trial and linearises it there, left alone by a sweep for each parameter.
        jacobian = view.jacobian_work if self.jacobian == "rows" else {"jvp": view.start.size}
        return stepped(solver, view, rows, lambda old, new: counts(residual=1, solves=1, **jacobian))


@dataclasses.dataclass(frozen=True)
class OptimistixBFGS(Stepped):
    """BFGS with an inverse Hessian and a backtracking search (optimistix.BFGS)."""

    name: ClassVar[str] = "optimistix/bfgs"
    call: ClassVar[str] = "optimistix.BFGS(rtol, atol), init and step"
    source: ClassVar[str] = _DOCS + "minimise"

    def solver(self, view: View) -> Solver:
        import optimistix

        return stepped(optimistix.BFGS(rtol=_TOLERANCE, atol=_TOLERANCE), view, view.value)


def stepped(solver: Any, view: View, function: Any, work: Any = None) -> Solver:
    """An Optimistix solver as a `Solver`; `function(θ, data)` is the residual or the value."""

    def fn(theta, data):
        return function(theta, data), None

    out = jax.eval_shape(lambda theta, data: function(theta, data), view.start, view.data)
    tags: frozenset = frozenset()

    def init(theta, data):
        return solver.init(fn, theta, data, {}, out, None, tags)

    def step(theta, state, data):
        theta, state, _ = solver.step(fn, theta, data, {}, state, tags)
        return theta, state

    return Solver(init, step, work)
