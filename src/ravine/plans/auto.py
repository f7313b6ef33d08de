"""Auto: a first choice of method from the structure and the size of the objective.

Levenberg-Marquardt where the objective has COMPOSITE structure and its dense form fits: min(N, P) ≤ `dense` and
N · P numbers within `memory` GiB. Otherwise Adam until the loss stalls, then L-BFGS.
"""

from __future__ import annotations

from ..linearization import dims
from ..method import Method
from ..methods.lbfgs import LBFGS
from ..methods.levenberg_marquardt import LevenbergMarquardt
from ..methods.optax_methods import Adam
from ..types import Structure
from .base import History, Plan
from .stages import Stages


class Auto(Plan):
    """See module docstring. Raises ValueError unless dense ≥ 1 and memory > 0."""

    dense: int = 4000
    memory: float = 2.0

    def __check_init__(self):
        if self.dense < 1 or not self.memory > 0:
            raise ValueError(f"Auto(dense={self.dense}, memory={self.memory}): both must be positive.")

    def stages(self, objective, params) -> tuple[Method, ...]:
        if Structure.COMPOSITE in objective.structure:
            n, p = dims(objective, params)
            if min(n, p) <= self.dense and 8 * n * p <= self.memory * 2**30:
                return (LevenbergMarquardt(),)
        return (Adam(), LBFGS())

    def cut(self, history: History) -> int | None:
        return None

    def choose(self, history: History, methods: tuple[Method, ...]) -> int | None:
        return Stages(*methods).choose(history, methods)
