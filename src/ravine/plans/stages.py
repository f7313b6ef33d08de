"""Stages: one method after another, switched at a count or on evidence.

    Stages((Adam(), 500), LevenbergMarquardt())      Adam for 500 steps, then LM to the end
    Stages(Adam(), LBFGS())                          Adam until the loss stalls, then L-BFGS

A stage without a count hands over when its method stops of its own accord (step too small, search failed,
rejections), or when the loss has not fallen by `improvement` (relative) over the second half of the stage's steps,
looked at from `patience` steps on. Evidence is read from the recorded rows only, so a resumed run switches at the
same step. The last stage runs until the driver ends it.
"""

from __future__ import annotations

import math
from typing import Any

from ..method import Method
from .base import History, Plan


class Stages(Plan):
    """See module docstring. Raises ValueError for no stage or a count below 1, TypeError for a stage that is not
    a method or a pair (method, steps)."""

    methods: tuple[Method, ...]
    steps: tuple[int | None, ...]
    patience: int = 500
    improvement: float = 0.3

    def __init__(self, *stages: Any, patience: int = 500, improvement: float = 0.3):
        if not stages:
            raise ValueError("Stages: give at least one stage, e.g. Stages((Adam(), 500), LevenbergMarquardt()).")
        pairs = [stage if isinstance(stage, tuple) else (stage, None) for stage in stages]
        for pair in pairs:
            method, count = pair if len(pair) == 2 else (pair, None)
            if not isinstance(method, Method):
                raise TypeError(f"Stages: {method!r} is not a method; a stage is a method or a pair (method, steps).")
            if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
                raise ValueError(f"Stages: ({type(method).__name__}, {count!r}): the count must be a positive integer.")
        if patience < 1:
            raise ValueError(f"Stages(patience={patience}): must be at least 1 step.")
        if not 0 < improvement < 1:
            raise ValueError(f"Stages(improvement={improvement}): must lie in (0, 1), a relative decrease of the loss.")
        self.methods = tuple(m for m, _ in pairs)
        self.steps = tuple(n for _, n in pairs)
        self.patience = patience
        self.improvement = improvement

    def stages(self, objective, params) -> tuple[Method, ...]:
        return self.methods

    def cut(self, history: History) -> int | None:
        count = self.steps[history.stage] if history.stage >= 0 else None
        return None if count is None else history.stage_start + count

    def choose(self, history: History, methods) -> int | None:
        if history.stage < 0:
            return 0
        last = history.stage == len(self.methods) - 1
        if history.ended or self._spent(history) or (not last and self._stalled(history)):
            return None if last else history.stage + 1
        return history.stage

    def _spent(self, history: History) -> bool:
        count = self.steps[history.stage]
        return count is not None and history.step - history.stage_start >= count

    def _stalled(self, history: History) -> bool:
        taken = history.step - history.stage_start
        if self.steps[history.stage] is not None or taken < self.patience:
            return False
        middle = history.stage_start + taken / 2
        rows = [r for r in history.rows if r["step"] >= history.stage_start and math.isfinite(r["loss"])]
        before = [r["loss"] for r in rows if r["step"] <= middle]
        after = [r["loss"] for r in rows if r["step"] > middle]
        if not (before and after):
            return False
        return min(before) - min(after) < self.improvement * abs(min(before))  # an energy may be negative
