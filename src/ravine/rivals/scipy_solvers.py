"""SciPy: minimize (BFGS, L-BFGS-B) and least_squares (trust region), driven by their own loops and callbacks.

SciPy calls back once an iteration, and an exception raised there ends it. Its tolerances are set to rounding, since the
budget and the target end a run. It does its linear algebra in NumPy; what it evaluates is compiled.
"""

from __future__ import annotations

import abc
import dataclasses
import sys
from typing import Any, ClassVar

import numpy as np

from ..types import Structure
from .rival import Rival, between, nonnegative, positive
from .track import Track
from .view import View

_DOCS = "https://docs.scipy.org/doc/scipy/reference/"


class _Minimize(Rival):
    """`scipy.optimize.minimize` with the gradient; `method` and `options()` are what the solvers differ in."""

    method: ClassVar[str]
    counted: ClassVar[bool] = True

    @abc.abstractmethod
    def options(self) -> dict[str, Any]:
        """What `minimize` takes as `options`."""

    def run(self, view: View, track: Track) -> str:
        from scipy.optimize import minimize

        evaluate, calls = view.on_host(view.value_and_grad), [0]

        def function(theta: np.ndarray) -> tuple[float, np.ndarray]:
            calls[0] += 1
            value, grad = evaluate(theta)
            return float(value), grad

        def callback(theta: np.ndarray) -> None:
            track.visit(theta, work={"residual": calls[0], "vjp": calls[0]})

        track.begin()
        found = minimize(
            function,
            np.asarray(view.start),
            jac=True,
            method=self.method,
            callback=callback,
            options=self.options(),
        )
        return str(found.message)


@dataclasses.dataclass(frozen=True)
class SciPyBFGS(_Minimize):
    """BFGS with an n x n inverse Hessian and a strong Wolfe search (scipy.optimize.minimize)."""

    name: ClassVar[str] = "scipy/bfgs"
    call: ClassVar[str] = "scipy.optimize.minimize(method='BFGS', jac=True)"
    source: ClassVar[str] = _DOCS + "optimize.minimize-bfgs.html"
    method: ClassVar[str] = "BFGS"
    c2: float = 0.9
    gtol: float = 0.0
    xrtol: float = 0.0

    def __post_init__(self):
        nonnegative(self.name, gtol=self.gtol, xrtol=self.xrtol)
        between(self.name, 1e-4, 1.0, c2=self.c2)  # 1e-4 is SciPy's c1

    def options(self) -> dict[str, Any]:
        return {"c2": self.c2, "gtol": self.gtol, "xrtol": self.xrtol, "maxiter": sys.maxsize}


@dataclasses.dataclass(frozen=True)
class SciPyLBFGSB(_Minimize):
    """L-BFGS-B with 50 pairs (scipy.optimize.minimize)."""

    name: ClassVar[str] = "scipy/lbfgsb"
    call: ClassVar[str] = "scipy.optimize.minimize(method='L-BFGS-B', jac=True)"
    source: ClassVar[str] = _DOCS + "optimize.minimize-lbfgsb.html; memory, max_search: ours (its defaults: 10, 20)"
    method: ClassVar[str] = "L-BFGS-B"
    memory: int = 50
    max_search: int = 50
    ftol: float = 0.0
    gtol: float = 0.0

    def __post_init__(self):
        positive(self.name, memory=self.memory, max_search=self.max_search)
        nonnegative(self.name, ftol=self.ftol, gtol=self.gtol)

    def options(self) -> dict[str, Any]:
        tolerances = {"ftol": self.ftol, "gtol": self.gtol}
        endless = {"maxiter": np.iinfo(np.int32).max, "maxfun": np.iinfo(np.int32).max}
        return {"maxcor": self.memory, "maxls": self.max_search, **tolerances, **endless}


@dataclasses.dataclass(frozen=True)
class SciPyTRF(Rival):
    """Trust region reflective least squares with the Jacobian formed row by row (scipy.optimize.least_squares)."""

    name: ClassVar[str] = "scipy/trf"
    call: ClassVar[str] = "scipy.optimize.least_squares(method='trf', tr_solver='exact')"
    source: ClassVar[str] = _DOCS + "generated/scipy.optimize.least_squares.html"
    needs: ClassVar[Structure] = Structure.RESIDUAL
    counted: ClassVar[bool] = True
    scale: str = "none"

    def __post_init__(self):
        if self.scale not in ("none", "jac"):
            raise ValueError(f"scipy/trf: scale={self.scale!r} must be 'none' or 'jac'.")

    def run(self, view: View, track: Track) -> str:
        from scipy.optimize import least_squares

        residual, jacobian = view.on_host(view.residual), view.on_host(view.jacobian)
        calls = {"residual": 0, "rows": 0, "batch": 0, "solves": 0}

        def rows(theta: np.ndarray) -> np.ndarray:
            calls["residual"] += 1
            return residual(theta)

        def slopes(theta: np.ndarray) -> np.ndarray:
            for name, count in view.jacobian_work.items():
                calls[name] += count
            return jacobian(theta)

        def callback(intermediate_result: Any) -> None:
            calls["solves"] += 1
            track.visit(intermediate_result.x, work=calls)

        track.begin()
        found = least_squares(
            rows,
            np.asarray(view.start),
            jac=slopes,
            method="trf",
            tr_solver="exact",
            x_scale="jac" if self.scale == "jac" else 1.0,
            ftol=None,
            xtol=np.finfo(float).eps,  # one tolerance must be at least this large
            gtol=None,
            max_nfev=sys.maxsize,
            callback=callback,
        )
        return str(found.message)
