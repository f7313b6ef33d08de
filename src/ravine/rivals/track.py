"""What a rival's run leaves behind: the rows, the clock and the budget of a run of our own.

A rival runs as its library runs it and calls `visit` after its steps. The clock stands still inside `visit`, where
iterates are scored by the objective and the metrics that every run is scored with. Row k describes the iterate that
enters step k, so it is completed by the next visit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..driver.budget import Budget
from ..driver.clock import Clock
from ..driver.observe import Observer
from ..driver.target import Target
from ..objective import Objective
from ..records import append_row, evaluations, next_recorded, write_rows
from ..types import Counts
from .view import View

_CALL_SECONDS = 0.4  # as in runs of our own: a device call is cut near this length


class Ended(Exception):
    """Raised by `visit` to end a run: the cause and its numbers."""

    def __init__(self, cause: str, **numbers: Any):
        super().__init__(cause)
        self.cause, self.numbers = cause, numbers


class Rules(NamedTuple):
    """What ends a run, and who is told of its rows."""

    budget: Budget
    target: Target
    every: int | None
    rows_path: Path | None
    progress: Callable | None
    callbacks: Sequence[Callable]


class Track:
    """Rows, clock and position of one run of the rival `name`."""

    def __init__(
        self, name: str, objective: Objective, view: View, observer: Observer, rules: Rules, counted: bool = False
    ):
        self.name, self.objective, self.view, self.observer, self.rules = name, objective, view, observer, rules
        self.clock = Clock()
        self.k, self.stage = 0, 0
        self.theta: Any = view.start
        self.rows: list[dict[str, Any]] = []
        self.work: dict[str, int | None] = dict.fromkeys(Counts._fields, 0 if counted else None)
        self.compile_seconds, self.begun = 0.0, False
        self.raised: Exception | None = None  # in `visit`, by a callback for example
        self._pending: dict[str, Any] | None = None
        self._step_seconds = 0.0
        self._created = self._left = time.perf_counter()
        self._value_and_grad = jax.jit(view.value_and_grad)

    def begin(self) -> None:
        """Everything is compiled: score the start and start the clock."""
        self.score(self.theta)  # compiles what scores
        self.compile_seconds = time.perf_counter() - self._created
        self.begun = True
        if self.rules.rows_path is not None:
            write_rows(self.rules.rows_path, [])
        self._observe()
        self._left = time.perf_counter()
        self.clock.start()

    def ahead(self) -> int:
        """How many steps a compiled loop may take before its next visit."""
        stops = [next_recorded(self.k, self.rules.every)]
        if self.rules.budget.steps is not None:
            stops.append(int(self.rules.budget.steps))
        if self._step_seconds:
            stops.append(self.k + max(1, int(_CALL_SECONDS / self._step_seconds)))
        return max(1, min(stops) - self.k)

    def visit(
        self,
        theta: Any,
        steps: int = 1,
        first_move: float | None = None,
        work: Mapping[str, int] | None = None,
        scalars: Mapping[str, float] | None = None,
    ) -> None:
        """The rival has taken `steps` steps and stands at θ. Raises Ended.

        `first_move`: length of the first of these steps, needed where there are several. `work`: counts so far.
        `scalars`: the solver's own numbers of its first step.
        """
        jax.block_until_ready(theta)  # inside the clock: the work belongs to the rival
        try:
            with self.clock.off():
                self._step_seconds = (time.perf_counter() - self._left) / steps
                self._arrive(theta, steps, first_move, scalars or {}, work)
            self._spent()
        except Exception as error:
            self.raised = error  # so that it is not taken for the library's own
            raise
        self._left = time.perf_counter()

    def _arrive(self, theta: Any, steps: int, first_move: float | None, scalars: Mapping, work: Mapping | None) -> None:
        if first_move is None and steps == 1:
            first_move = float(jnp.linalg.norm(jnp.asarray(theta) - self.theta))
        self.theta = jnp.array(theta)  # a copy: SciPy hands out its working array
        self.k += steps
        stopped = self._complete(first_move, scalars)
        if work is not None:
            self.work = {name: int(work.get(name, 0)) for name in Counts._fields}
        if not bool(jnp.all(jnp.isfinite(self.theta))):
            raise Ended("nonfinite")
        if stopped:
            raise Ended("callback")
        if next_recorded(self.k - 1, self.rules.every) == self.k:
            self._observe()

    def _complete(self, first_move: float | None, scalars: Mapping[str, float]) -> bool:
        """Finish the row that waits for its step; True when a callback asks to stop."""
        if self._pending is None:
            return False
        row, self._pending = self._pending, None
        row |= {"step_norm": first_move, "status": "rejected" if first_move == 0 else "ok"}
        row |= {f"scalars.{name}": float(value) for name, value in scalars.items()}
        self.rows.append(row)
        if self.rules.rows_path is not None:
            append_row(self.rules.rows_path, row)
        if self.rules.progress is not None:
            self.rules.progress(row, self)
        full = self.observer.lift(self.view.unravel(self._row_theta)) if self.rules.callbacks else None
        return any([bool(callback(row, full)) for callback in self.rules.callbacks])

    def _where(self) -> dict[str, Any]:
        spent = {"seconds": self.clock.seconds, "cpu_seconds": self.clock.cpu}
        return {"step": self.k, **spent, "stage": self.stage, "method": self.name}

    def _counts(self) -> dict[str, Any]:
        return {f"counts.{name}": n for name, n in self.work.items()} | {"counts.sampler": 0.0, "counts.checks": 0}

    def score(self, theta: Any) -> dict[str, Any]:
        """Terms, metrics, loss and gradient norm at θ, by the functions that score every run."""
        value, grad = self._value_and_grad(theta, self.view.data)
        found: dict[str, Any] = self.observer(self.objective, self.view.unravel(theta))
        return found | {"loss": float(value), "grad_norm": float(jnp.linalg.norm(grad))}

    def _observe(self) -> None:
        self._row_theta = self.theta
        self._pending = self._where() | self.score(self.theta) | self._counts()
        if self.rules.target.met(self._pending):
            raise Ended("target")
        if not np.isfinite([self._pending["loss"], self._pending["grad_norm"]]).all():
            raise Ended("nonfinite")

    def evaluations(self) -> float:
        """Work so far in residual evaluations (records.WORK); 0 where the rival does not say."""
        return evaluations({name: n or 0 for name, n in self.work.items()} | {"sampler": 0}, self.view.rows)

    def _spent(self) -> None:
        b = self.rules.budget
        spent: dict[str, tuple[float | None, float]] = {
            "steps": (b.steps, self.k),
            "seconds": (b.seconds, self.clock.seconds),
            "wall": (b.wall, self.clock.wall),
        }
        # As in runs of our own: where the clock cuts a compiled loop may not decide at which step work ends the run.
        if next_recorded(self.k - 1, self.rules.every) == self.k:
            spent["evaluations"] = (b.evaluations, self.evaluations())
        for which, (limit, used) in spent.items():
            if limit is not None and used >= limit:
                raise Ended("budget", which=which, amount=limit)

    def close(self) -> None:
        """The closing row: the iterate the rival ended at, scored."""
        scores = self.score(self.theta) if self.begun else {"loss": None, "grad_norm": None}
        row = self._where() | scores | {"step_norm": None, "status": "closing"} | self._counts()
        self.rows = [r for r in self.rows if r["step"] < self.k] + [row]
        if self.rules.rows_path is not None:
            write_rows(self.rules.rows_path, self.rows)
