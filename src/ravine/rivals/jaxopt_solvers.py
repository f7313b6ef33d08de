"""JAXopt (unmaintained since 2024, version 0.8.5), stepped by `init_state` and `update`."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from ..types import Structure, counts
from .rival import positive
from .stepping import Solver, Stepped
from .view import View

_DOCS = "https://jaxopt.github.io/stable/"


@dataclasses.dataclass(frozen=True)
class JaxoptLM(Stepped):
    """Levenberg-Marquardt by QR, with the Jacobian formed row by row (jaxopt.LevenbergMarquardt)."""

    name: ClassVar[str] = "jaxopt/lm"
    call: ClassVar[str] = "jaxopt.LevenbergMarquardt(residual, materialize_jac=True), init_state and update"
    source: ClassVar[str] = _DOCS + "_autosummary/jaxopt.LevenbergMarquardt.html"
    needs: ClassVar[Structure] = Structure.RESIDUAL
    counted: ClassVar[bool] = True
    linear_solver: str = "qr"
    damping: float = 1e-6

    def __post_init__(self):
        positive(self.name, damping=self.damping)
        if self.linear_solver not in ("qr", "cholesky", "lu"):
            raise ValueError(f"{self.name}: linear_solver={self.linear_solver!r} must be 'qr', 'cholesky' or 'lu'.")

    def solver(self, view: View) -> Solver:
        import jaxopt

        solver = jaxopt.LevenbergMarquardt(
            view.residual,
            materialize_jac=True,
            solver=self.linear_solver,
            damping_parameter=self.damping,
            tol=0.0,
            xtol=0.0,
            gtol=0.0,
        )
        # Its argument jac_fun fails in 0.8.5 (it is stored under a name that is never read); this is the name it reads.
        # Left alone it would take one forward sweep over all points for each parameter.
        solver._jac_fun = view.jacobian

        def work(old, new):
            # Taken or not, a step evaluates its trial twice, at one point and in one program: XLA makes that once.
            return counts(residual=1, solves=1, **view.jacobian_work)

        return stepped(solver)._replace(work=work, initial={"residual": 1, **view.jacobian_work})


@dataclasses.dataclass(frozen=True)
class JaxoptLBFGS(Stepped):
    """L-BFGS with 50 pairs and a zoom line search (jaxopt.LBFGS)."""

    name: ClassVar[str] = "jaxopt/lbfgs"
    call: ClassVar[str] = "jaxopt.LBFGS(value_and_grad, value_and_grad=True), init_state and update"
    source: ClassVar[str] = _DOCS + "_autosummary/jaxopt.LBFGS.html; memory: ours (its default is 10)"
    counted: ClassVar[bool] = True
    memory: int = 50

    def __post_init__(self):
        positive(self.name, memory=self.memory)

    def solver(self, view: View) -> Solver:
        import jaxopt

        solver = jaxopt.LBFGS(view.value_and_grad, value_and_grad=True, history_size=self.memory, tol=0.0)

        def work(old, new):
            # Each search counts a call whose result is thrown away, so that it is no part of the compiled program.
            trials = new.num_fun_eval - old.num_fun_eval - 1
            return counts(residual=trials, vjp=trials)

        return stepped(solver)._replace(work=work, initial={"residual": 1, "vjp": 1})


def stepped(solver: Any) -> Solver:
    """A JAXopt solver as a `Solver`; `data` is the argument after the parameters."""

    def step(theta, state, data):
        return tuple(solver.update(theta, state, data))

    return Solver(lambda theta, data: solver.init_state(theta, data), step)
