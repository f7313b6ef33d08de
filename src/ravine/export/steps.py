"""A method on a problem, stepped by another program's loop: what the exported benchopt solvers are made of.

The driver's compiled loop under a foreign clock. Everything is compiled and a few steps are made and thrown away before
the clock runs. The steps are those of `ravine solve --sampler fixed` with the same seed: same points, start and keys.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import __version__
from ..bench.curves import work
from ..driver.engine import Flight, Limits, fresh_streaks
from ..driver.observe import Observer
from ..driver.precision import cast, precision
from ..driver.prepare import Request, prepare
from ..driver.provenance import provenance
from ..driver.seed import check_seed
from ..driver.solve import Score
from ..method import Method
from ..model import Model
from ..problem import Problem
from ..types import Counts, Params, Status

DTYPE = "float64"
GROWTH = 1.1  # ratio of the steps at which a harness evaluates
SETTLING = 3  # steps thrown away before the clock: the second and third meet the types that the first returned
_PROVENANCE = ("ravine", "commit", "python", "jax", "jaxlib", "cpu", "device", "dtype")


def next_evaluation(step: int) -> int:
    """The evaluation after that at `step`: every step to 10, then a grid of ratio 1.1 (0, 1, ..., 20, 22, 24, ...)."""
    return max(step + 1, int(GROWTH * step))


def environment() -> dict[str, str]:
    """What a result depends on besides its options: versions, commit, processor, device, precision."""
    found = provenance(DTYPE, 0)
    return {name: str(found[name]) for name in _PROVENANCE} | {"ravine": found["ravine"] or __version__}


class Case:
    """A problem, a model and a seed, which decides the points and the initial parameters. In float64.

    Raises ValueError, one sentence, if the model does not fit the problem or the seed is not from 0 to 2³² − 1.
    """

    def __init__(self, problem: Problem, model: Model, seed: int):
        with precision(DTYPE):
            self.seed = check_seed(seed)
            self.objective = problem.objective(model, problem.sample(seed))
            self.params = problem.init(model, seed)
            self._exact = cast(self.objective, DTYPE)
            metrics = {name: Score(problem, model, fn) for name, fn in problem.metrics().items()}
            self._observer = Observer(_whole, metrics, DTYPE)

    def scores(self, params: Params) -> dict[str, float]:
        """{"value": main metric, "loss": training loss, and every metric by name} of `params`."""
        with precision(DTYPE):
            found = self._observer(self._exact, params)
        metrics = {k.removeprefix("metrics."): v for k, v in found.items() if k.startswith("metrics.")}
        loss = sum(v for k, v in found.items() if k.startswith("terms."))
        return {"value": next(iter(metrics.values())), "loss": loss, **metrics}


def _whole(params: Params) -> Params:
    return params


class Steps:
    """One method on a case. `compile` first; then `run` as often as wanted, each time from the start.

    params   what the method would return now;  k  steps made;  work  in residual evaluations (`records.WORK`)
    stopped  why it cannot go on: "gradient", "rejected", "no_descent", "tiny" or "nonfinite"; "" while it can

    Raises ValueError, one sentence, for a method that cannot run on the case.
    """

    def __init__(self, case: Case, method: Method):
        with precision(DTYPE):
            loop = prepare(_request(case, method))
        (self._engine,) = loop.engines
        self._start, self._key, self._rows = loop.params, loop.key, loop.setup.rows_total
        self._lift = loop.setup.observer.lift
        self._compiled = False

    def compile(self) -> None:
        """Compile the loop, and make the steps that are thrown away."""
        self._reset()
        self.advance(0)
        for _ in range(SETTLING):
            self.advance(1)
        _ = self.params  # the readout
        self._compiled = True
        self._reset()

    def _reset(self) -> None:
        with precision(DTYPE):
            self._at, self._state = self._start, self._engine.start(self._start, self._key)
            self._streaks, self._first = fresh_streaks(), 0.0
        self.k, self.stopped, self._totals = 0, "", dict.fromkeys(Counts._fields, 0)

    def advance(self, n: int) -> None:
        """n steps in one device call, fewer where the method cannot go on."""
        stop = self.k + n
        with precision(DTYPE):
            self._fly(stop)
            while self.k < stop and not self.stopped:  # momentum carried it on from a point of no gradient
                self._fly(stop)

    def _fly(self, stop: int) -> None:
        flight = self._advance(self._at, self._state, self._streaks, stop)
        if self.k == 0 and stop:
            self._first = float(flight.first.grad_norm)
        self.k, self._at, self._state, self._streaks = int(flight.k), flight.params, flight.state, flight.streaks
        self._totals = {name: done + int(getattr(flight.totals, name)) for name, done in self._totals.items()}
        if not bool(flight.go):
            nonfinite = int(flight.last.status) == Status.NONFINITE
            self.stopped = "nonfinite" if nonfinite else self._engine.stuck(flight.streaks) or self._stationary()

    def _advance(self, params: Params, state: Any, streaks: Any, stop: int) -> Flight:
        limits = Limits(*(np.asarray(x, DTYPE) for x in (-np.inf, -np.inf, self._first)))
        return self._engine.advance(params, state, streaks, limits, self._key, self.k, stop)

    def _stationary(self) -> str:
        """ "gradient" if it vanishes after the step, too, as the driver asks; read off a step that is thrown away."""
        state = self._engine.start(self._at, self._key)
        return "" if bool(self._advance(self._at, state, fresh_streaks(), self.k + 1).go) else "gradient"

    @property
    def params(self) -> Params:
        with precision(DTYPE):
            return self._lift(self._engine.readout(self._at, self._state))

    @property
    def work(self) -> float:
        return float(work([{f"counts.{name}": done for name, done in self._totals.items()}], self._rows)[0])

    def run(self, callback: Callable[[], bool]) -> None:
        """Step until `callback()` is false or the method cannot go on.

        `callback` is called once a step, as benchopt wants it, and may look at this object where `next_evaluation` says
        so; all steps up to there are one device call.
        """
        if not self._compiled:
            raise ValueError("Steps: call compile() before run(), or the first step would be compiled on the clock.")
        self._reset()
        at = 0  # the last step looked at; the first is made alone, since its gradient is the scale of later stop tests
        while callback() and not self.stopped:
            due = next_evaluation(at)
            self.advance(due - at)
            early = self.k < due
            # benchopt looks once more after an early end, unless it did so one step ago: then it takes one call more.
            calls = max(self.k - at - 1, 1) if early else due - at - 1
            if not all(callback() for _ in range(calls)) or early:
                return
            at = due


def _request(case: Case, method: Method) -> Request:
    return Request(
        objective=case.objective,
        params=case.params,
        method=method,
        seed=case.seed,
        budget=None,
        target=None,
        sampler=None,
        metrics=None,
        every=None,
        precision=DTYPE,
        checkpoint=None,
        callbacks=(),
        progress=None,
    )
