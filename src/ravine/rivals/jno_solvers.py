"""jNO (jax-numerical-operators): its self-scaled quasi-Newton methods, which are Optax transformations.

Importing jNO turns on a persistent compile cache of its own, so its compile seconds compare only with themselves.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from .optax_solvers import adam, searched, searches
from .rival import positive
from .stepping import Solver, Stepped
from .view import View


@dataclasses.dataclass(frozen=True)
class _SelfScaled(Stepped):
    """`adam` steps of Adam with `learning_rate` first, then the quasi-Newton method `transformation`."""

    transformation: ClassVar[str]
    counted: ClassVar[bool] = True
    adam: int = 0
    learning_rate: float = 1e-3
    scale_init_precond: bool = True

    def __post_init__(self):
        positive(self.name, learning_rate=self.learning_rate)
        if self.adam < 0:
            raise ValueError(f"{self.name}: adam={self.adam!r} must be a number of steps, 0 for none.")

    def solver(self, view: View) -> Solver:
        from jno import optimizers

        method = getattr(optimizers, self.transformation)(scale_init_precond=self.scale_init_precond)
        return searched(view, method, searches)

    def phases(self, view: View) -> list[tuple[Solver, int | None]]:
        first: list[Any] = [(adam(view, self.learning_rate), self.adam)] if self.adam else []
        return [*first, *super().phases(view)]


@dataclasses.dataclass(frozen=True)
class JnoSSBroyden(_SelfScaled):
    """Self-scaled Broyden, n x n, with a zoom line search (jno.optimizers.ssbroyden)."""

    name: ClassVar[str] = "jno/ssbroyden"
    call: ClassVar[str] = "jno.optimizers.ssbroyden() with optax.value_and_grad_from_state"
    source: ClassVar[str] = "docstring of jno.optimizers.ssbroyden (its defaults)"
    transformation: ClassVar[str] = "ssbroyden"


@dataclasses.dataclass(frozen=True)
class JnoSSBFGS(_SelfScaled):
    """Self-scaled BFGS, n x n, with a zoom line search (jno.optimizers.ssbfgs)."""

    name: ClassVar[str] = "jno/ssbfgs"
    call: ClassVar[str] = "jno.optimizers.ssbfgs() with optax.value_and_grad_from_state"
    source: ClassVar[str] = "docstring of jno.optimizers.ssbfgs (its defaults)"
    transformation: ClassVar[str] = "ssbfgs"
