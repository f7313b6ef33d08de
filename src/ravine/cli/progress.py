"""Live progress on stderr: one line per running run on a terminal, a plain line now and then otherwise."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ..driver.budget import Budget
from ..report.wording import number

PLAIN_INTERVAL = 5.0  # seconds between two plain lines of one run


class Silent:
    """Shows nothing; also the interface of the others."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return None

    def row(self, label: str, row: dict[str, Any], budget: Budget) -> None:
        """A row of a running run."""

    def say(self, text: str) -> None:
        """A line that stays."""

    def ended(self, label: str) -> None:
        """The run has no more rows."""


class Plain(Silent):
    def __init__(self):
        self.shown: dict[str, float] = {}

    def row(self, label, row, budget):
        now = time.monotonic()
        if now - self.shown.get(label, float("-inf")) >= PLAIN_INTERVAL:
            self.shown[label] = now
            self.say(line(label, row, budget))

    def say(self, text):
        print(text, file=sys.stderr, flush=True)


class Terminal(Silent):
    def __init__(self):
        self.lines: dict[str, str] = {}
        self.live = Live(console=Console(stderr=True), refresh_per_second=4, transient=True)

    def __enter__(self):
        self.live.start()
        return self

    def __exit__(self, *exception):
        self.live.stop()

    def row(self, label, row, budget):
        self.lines[label] = line(label, row, budget)
        self._draw()

    def say(self, text):
        self.live.console.print(Text(text))

    def ended(self, label):
        self.lines.pop(label, None)
        self._draw()

    def _draw(self):
        self.live.update(Text("\n".join(self.lines.values()), no_wrap=True, overflow="ellipsis"))


def display(quiet: bool) -> Silent:
    """Nothing if `quiet`, a live line on a terminal, plain lines elsewhere."""
    if quiet:
        return Silent()
    return Terminal() if sys.stderr.isatty() else Plain()


def line(label: str, row: dict[str, Any], budget: Budget) -> str:
    """`poisson2d lm seed 0   step 120   loss 1.2e-9   l2 3.4e-6   14 s left`"""
    parts = [label, f"step {int(row['step']):,}", f"loss {number(_float(row.get('loss')))}"]
    metric = next((k for k in row if k.startswith("metrics.") and row[k] is not None), None)
    if metric is not None:
        parts.append(f"{metric.removeprefix('metrics.')} {number(_float(row[metric]))}")
    left = time_left(row, budget)
    return "   ".join(parts if left is None else [*parts, left])


def time_left(row: dict[str, Any], budget: Budget) -> str | None:
    """From the clock of the row, or from its rate of steps; None before there is a rate."""
    seconds, step = row.get("seconds") or 0.0, row["step"]
    guesses = []
    if budget.seconds is not None:
        guesses.append(budget.seconds - seconds)
    if budget.steps is not None and step and seconds:
        guesses.append((budget.steps - step) * seconds / step)
    return f"{max(0.0, min(guesses)):.0f} s left" if guesses else None


def _float(value: Any) -> float | None:
    """Rows of another process carry non-finite numbers as strings."""
    return None if value is None else float(value)
