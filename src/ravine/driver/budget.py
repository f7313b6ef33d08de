"""What may be spent: steps, steady seconds, wall seconds, evaluations."""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
from typing import Any

_TEXT = re.compile(r"^\s*([+-]?[0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-z]*)\s*$")  # the e of "evaluations" is none of 1e5
_SECONDS = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "m": 60.0, "min": 60.0, "h": 3600.0}
_STEPS = ("step", "steps", "it", "its", "iterations")
_EVALUATIONS = ("evaluation", "evaluations", "evals")


@dataclasses.dataclass(frozen=True)
class Budget:
    """The run ends when the first of these is spent; with none given, after 60 steady seconds.

    steps: accepted or rejected steps. seconds: steady time (compilation, metrics, callbacks and checkpoints are
    off this clock). wall: total time in seconds. evaluations: work in residual evaluations, a gradient counting 3, a
    Jacobian 3, a Hessian-vector product 6 (`records.WORK`; the report's unit); looked at where rows are recorded, so
    that it ends a run at the same step on any machine.
    Raises ValueError unless every entry is positive and finite.
    """

    steps: int | None = None
    seconds: float | None = None
    wall: float | None = None
    evaluations: float | None = None

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < value < math.inf:
                raise ValueError(f"Budget({field.name}={value!r}): must be a positive finite number.")
        if self.steps is not None and self.steps != int(self.steps):
            raise ValueError(f"Budget(steps={self.steps!r}): must be a whole number of steps.")
        if all(getattr(self, f.name) is None for f in dataclasses.fields(self)):
            object.__setattr__(self, "seconds", 60.0)

    @classmethod
    def parse(cls, text: str) -> Budget:
        """'60s', '2m', '2000steps', '1e5evaluations', several joined by ','. Raises ValueError with a sentence."""
        spent: dict[str, Any] = {}
        said: dict[str, str] = {}
        for part in text.split(","):
            match = _TEXT.match(part.lower())
            if not match:
                raise ValueError(f"budget {part.strip()!r}: write a number and a unit, such as 60s, 5m or 2000steps.")
            number, unit = match.groups()
            try:
                value = float(number)
            except ValueError:
                raise ValueError(f"budget {part.strip()!r}: {number!r} is not a number; write, say, 60s.") from None
            if not 0 < value < math.inf:
                raise ValueError(f"budget {part.strip()!r}: write a positive number and a unit, such as 60s.")
            if unit in _STEPS:
                kind, amount = "steps", int(value) if value == int(value) else value
            elif unit in _EVALUATIONS:
                kind, amount = "evaluations", value
            elif unit in _SECONDS:
                kind, amount = "seconds", value * _SECONDS[unit]
            elif not unit:
                raise ValueError(f"budget {number!r}: the unit is missing: {number}s, {number}m or {number}steps?")
            else:
                known = "s, m, h, steps, evaluations"
                raise ValueError(f"budget {part.strip()!r}: the unit {unit!r} is unknown; use one of {known}.")
            if kind in spent:
                raise ValueError(f"budget {text!r}: {said[kind]} and {part.strip()} are both {kind}; give one of them.")
            spent[kind], said[kind] = amount, part.strip()
        return cls(**spent)

    @staticmethod
    def words(which: str, amount: float) -> str:
        """One entry for a sentence: 10 s, 5 s of wall time, 1 step, 200 evaluations."""
        one = {"steps": "step", "evaluations": "evaluation"}.get(which)
        unit = {"seconds": "s", "wall": "s of wall time"}.get(which) or (one if amount == 1 else f"{one}s")
        return f"{amount:g} {unit}"

    def describe(self) -> dict[str, float]:
        """The entries that are set, for run.json."""
        return {f.name: v for f in dataclasses.fields(self) if (v := getattr(self, f.name)) is not None}
