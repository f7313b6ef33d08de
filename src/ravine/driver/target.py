"""The target: one number on the main column, or several named ones that must all hold."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..checks import nearest


class Target(NamedTuple):
    """Upper limits by column: 'loss', 'grad_norm' or 'metrics.<name>'. Empty: no target."""

    limits: dict[str, float]

    def met(self, row: Mapping[str, Any]) -> bool:
        # A comparison with NaN is False, so a NaN column never meets a target.
        return bool(self.limits) and all(row.get(c) is not None and row[c] <= v for c, v in self.limits.items())

    def needs_rows(self) -> bool:
        """Whether only a recorded row can tell (a metric, or several columns at once)."""
        return len(self.limits) > 1 or any(c.startswith("metrics.") for c in self.limits)

    def alone(self, column: str) -> float:
        """The limit on `column` if the compiled loop can test it by itself, else minus infinity."""
        return self.limits[column] if column in self.limits and not self.needs_rows() else float("-inf")


def as_target(target: Any, main: str, metrics: list[str]) -> Target:
    """From a number (on column `main`), a dictionary {name: number}, or None. Raises ValueError with a sentence."""
    if target is None:
        return Target({})
    named = target if isinstance(target, Mapping) else {main.removeprefix("metrics."): target}
    limits = {}
    for name, value in named.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not value > 0:
            raise ValueError(f"target {name}={value!r}: must be a positive number, such as 1e-6.")
        if name in ("loss", "grad_norm"):
            limits[name] = float(value)
        elif name in metrics:
            limits[f"metrics.{name}"] = float(value)
        else:
            raise ValueError(f"target: there is no metric {name!r}; {nearest(name, ['loss', 'grad_norm', *metrics])}")
    return Target(limits)
