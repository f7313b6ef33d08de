"""The host loop: device calls cut at recorded, sampler, plan and checkpoint steps; the same for every method."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from ..plans import History
from ..records import append_row, evaluations, next_recorded, write_rows
from ..types import Counts, Info, Params, Status
from . import persist
from .clock import Clock
from .engine import Engine, Flight, Limits, fresh_streaks, norm, vanishes
from .interrupt import Interrupt
from .points import Watch
from .setup import End, Setup
from .target import Target

_CALL_SECONDS = 0.4  # a device call is cut near this length, so that budgets and Ctrl-C are heard
_CHECKPOINT_SECONDS = 10.0  # between two checkpoints, and longer in proportion where one takes more than
_QUICK_SAVE = 0.5
# What a step, a change of stage or a look may change, besides rows, objective and watch.
_MOVING = ("k", "params", "state", "streaks", "totals", "checks", "stage", "stage_start", "ended", "pending")
_MOVING += ("recorded", "last")


class Loop:
    """One run. `run()` returns the End; the parameters, rows and clocks are attributes."""

    def __init__(self, objective, params: Params, methods: tuple, setup: Setup):
        self.setup, self.params = setup, params
        self.engines = [Engine(objective, m) for m in methods]
        self.methods = methods
        self.key = jr.key(setup.seed)
        self.clock = Clock()
        self.compile_seconds = 0.0
        self.compiled = False
        self.k, self.stage, self.stage_start = 0, -1, 0
        self.state: Any = None
        self.streaks = fresh_streaks()
        self.totals = dict.fromkeys(Counts._fields, 0)
        self.rows: list[dict[str, Any]] = []
        self.last: Info | None = None
        self.ended: str | None = None
        self.watch = Watch(setup, objective, methods)
        self.checks = 0  # evaluations of value and gradient for the record of a noisy method, off the clock
        self._step_seconds = 0.0
        self._saved_at, self._saving = time.perf_counter(), 0.0
        self.pending: dict[str, Any] | None = None
        self.recorded = -1
        self._row_params = params
        self.interrupt = Interrupt()
        self.move(objective)

    @property
    def engine(self) -> Engine:
        return self.engines[max(self.stage, 0)]

    @property
    def objective(self):
        return self.engine.objective

    # -- before the clock ------------------------------------------------------------------------------------
    def compile(self) -> None:
        """Compile everything a run needs: every stage's init and step, the scores, the sampler's look."""
        begin = time.perf_counter()
        for engine in self.engines:
            state = engine.start(self.params, self.key)
            engine.advance(self.params, state, self.streaks, self.limits, self.key, 0, 0)
            engine.readout(self.params, state)
            if self.setup.sampler is not None and self.setup.sampler.period(engine.method):
                engine.refresh(self.params, state)
            if engine.noisy:
                engine.exact(self.params)
        self.setup.observer(self.objective, self.params)
        self.watch.compile(self.objective, self.params)
        self.compiled = True
        self.compile_seconds += time.perf_counter() - begin

    def standing(self) -> Params:
        """What the run would return now: the method's readout of where it is."""
        return self.params if self.state is None else self.engine.readout(self.params, self.state)

    @property
    def limits(self) -> Limits:
        t = self.setup.target
        # Step 0 is a device call of its own and always recorded, so the scale is known from step 1 on.
        first = self.rows[0]["grad_norm"] if self.rows else 0.0
        return Limits(*(np.asarray(x, self.setup.dtype) for x in (t.alone("loss"), t.alone("grad_norm"), first)))

    # -- the loop --------------------------------------------------------------------------------------------
    def run(self) -> End:
        if self.setup.rows_path is not None:
            write_rows(self.setup.rows_path, self.rows)
        self._mark()
        try:
            with self.interrupt.listening():
                if self.k == 0:
                    self.save()
                self.clock.start()
                return self._iterate()
        except KeyboardInterrupt:  # a second Ctrl-C, or one raised by a callback
            self._go_back()
            return End("interrupted")
        finally:
            self.clock.stop()

    def _mark(self) -> None:
        """Everything fits together here: an exception may come anywhere, and the run stands by the last mark."""
        moving = {name: getattr(self, name) for name in _MOVING}
        self._marked = moving, len(self.rows), self.objective, self.watch.mark()

    def _go_back(self) -> None:
        moving, rows, objective, watch = self._marked
        vars(self).update(moving)
        del self.rows[rows:]
        self.watch.go_back(watch)
        self.move(objective)

    def move(self, objective) -> None:
        """All stages go on with this objective and the sampler's present batches."""
        for engine in self.engines:
            engine.set_objective(objective, self.watch.batches(objective))

    def _iterate(self) -> End:
        while True:
            self._mark()
            if self.interrupt.pressed:
                return End("interrupted")
            end = self._plan() or self._boundary()
            if end is not None:
                return end
            flight = self._fly(self._next_stop())
            end = self._landed(flight)
            if end is not None:
                return end

    def _plan(self) -> End | None:
        """Ask the plan which stage runs from here; switch if it changed.

        Asked only at steps that the record or the plan itself fixes: a device call may also be cut by the clock,
        and a plan must not see that.
        """
        cut = self._cut()
        if not (self.stage < 0 or self.ended or self._records(self.k) or cut == self.k):
            return None
        history = History(self.k, self.stage, self.stage_start, self.rows, self.ended)
        index = self.setup.plan.choose(history, self.methods)
        if index is None:
            return End(self.ended or "plan")
        if index != self.stage:
            self.params = self.standing()
            self.stage, self.stage_start, self.ended = index, self.k, None
            self.streaks = fresh_streaks()
            self.state = self.engine.start(self.params, self.key, self.k)
        return None

    def _boundary(self) -> End | None:
        """What happens between steps k-1 and k: the budget, the sampler, the record, checkpoint.

        The budget is asked once, before the sampler, whose look is work too: a run must not end, and be scored, on
        points that it never trained on.
        """
        spent = self.spent(self._records(self.k))
        if spent is None:
            self._sample()
        end = self._observe() if self.pending is None and self._records(self.k) else None
        end = end or spent
        if time.perf_counter() - self._saved_at > _CHECKPOINT_SECONDS * max(1.0, self._saving / _QUICK_SAVE):
            self.save()
        return end

    def _records(self, k: int) -> bool:
        return k > self.recorded and (k == 0 or next_recorded(k - 1, self.setup.every) == k)

    def _sample(self) -> None:
        moved = self.watch.act(self.objective, self.standing(), self.engine.method, self.k)
        if moved is None:
            return
        self.move(moved)
        self.state = self.engine.refresh(self.params, self.state)

    def _observe(self) -> End | None:
        seconds, cpu = self.clock.seconds, self.clock.cpu
        with self.clock.off():
            scores = self.setup.observer(self.objective, self.standing())
            method = type(self.engine.method).__name__
            where = {"step": self.k, "seconds": seconds, "cpu_seconds": cpu, "stage": self.stage, "method": method}
            # Work, like seconds, is what it took to get here: the sum after a device call would depend on its length.
            exact = self._checked() if self.engine.noisy else {}
            self.pending, self._row_params = where | scores | self._work() | exact, self.params
            self.recorded = self.k
            if (exact or self.setup.target.needs_rows()) and self._met(self.pending):
                return End("target")
            return self._vanished(exact) if exact else None

    def _checked(self) -> dict[str, float]:
        """Loss and gradient norm of a noisy method over all rows: the record, and the only thing that can end it well.
        Off the clock, as metrics are, and counted apart."""
        self.checks += 1
        return self.engine.exact(self.params)

    def _vanished(self, exact: dict[str, float]) -> End | None:
        """The gradient of all rows is rounding: the row is given up, the plan asked for another stage or the end."""
        loss, grad = (jnp.asarray(x, self.setup.dtype) for x in exact.values())
        if not bool(vanishes(loss, grad, norm(self.params), self.limits.first_grad)):
            return None
        self.pending, self.recorded, self.ended = None, self.k - 1, "gradient"
        return self._plan() or self._observe()

    def _met(self, row: dict[str, Any]) -> bool:
        limits = self.setup.target.limits
        known = {c: v for c, v in limits.items() if c.startswith("metrics.")}
        if not Target(known).met(row) and known:
            return False
        whole = row if "loss" in row or len(known) == len(limits) else row | self._probe(self.standing())
        return self.setup.target.met(whole)

    def _next_stop(self) -> int:
        stops = [next_recorded(self.k, self.setup.every)]
        period = self.watch.period(self.engine.method)
        if period:
            stops.append((self.k // period + 1) * period)
        cut = self._cut()
        if cut is not None and cut > self.k:
            stops.append(cut)
        if self.setup.budget.steps is not None:
            stops.append(int(self.setup.budget.steps))
        if self._step_seconds:
            stops.append(self.k + max(1, int(_CALL_SECONDS / self._step_seconds)))
        return max(self.k + 1, min(stops))

    def _cut(self) -> int | None:
        return self.setup.plan.cut(History(self.k, self.stage, self.stage_start, self.rows, None))

    def _fly(self, stop: int) -> Flight:
        before = time.perf_counter()
        flight = self.engine.advance(self.params, self.state, self.streaks, self.limits, self.key, self.k, stop)
        taken = int(flight.k) - self.k
        if taken:
            self._step_seconds = (time.perf_counter() - before) / taken
        return flight

    def _landed(self, flight: Flight) -> End | None:
        self.k, self.params, self.state = int(flight.k), flight.params, flight.state
        self.streaks, self.last = flight.streaks, flight.last
        self.totals = {name: n + int(getattr(flight.totals, name)) for name, n in self.totals.items()}
        row = None if self.pending is None else self._completed(self.pending | self._numbers(flight.first))
        end = None if bool(flight.go) else self._stopped(flight)
        self._mark()  # the step is complete; what follows is the caller's
        if row is not None and self._told(row):
            end = end or End("callback")
        return end

    def _completed(self, row: dict[str, Any]) -> dict[str, Any]:
        with self.clock.off():
            self.pending = None
            self.rows.append(row)
            if self.setup.rows_path is not None:
                append_row(self.setup.rows_path, row)
        return row

    def _told(self, row: dict[str, Any]) -> bool:
        """True when a callback asks to stop."""
        with self.clock.off():
            if self.setup.progress is not None:
                self.setup.progress(row, self)
            full = self.setup.observer.lift(self._row_params)
            return any([bool(callback(row, full)) for callback in self.setup.callbacks])

    def _numbers(self, info: Info) -> dict[str, Any]:
        row = {
            "loss": float(info.value),
            "grad_norm": float(info.grad_norm),
            "step_norm": float(info.step_norm),
            "status": Status(int(info.status)).name.lower(),
        }
        if self.pending is not None and "loss" in self.pending:  # over all rows; the step's own are estimates
            row |= {"scalars.batch_loss": row["loss"], "scalars.batch_grad_norm": row["grad_norm"]}
            row |= {name: self.pending[name] for name in ("loss", "grad_norm")}
        return row | {f"scalars.{k}": float(v) for k, v in info.scalars.items()}

    def _work(self) -> dict[str, Any]:
        counted = self.totals | {"sampler": self.watch.sweeps, "checks": self.checks}
        return {f"counts.{k}": n for k, n in counted.items()}

    def _probe(self, params: Params) -> dict[str, float]:
        """Loss and gradient norm at `params`: read off one step that is thrown away; over all rows where noisy."""
        if self.engine.noisy:
            return self.engine.exact(params)
        state = self.engine.start(params, self.key)
        flight = self.engine.advance(params, state, fresh_streaks(), self.limits, self.key, self.k, self.k + 1)
        return {"loss": float(flight.first.value), "grad_norm": float(flight.first.grad_norm)}

    def _stopped(self, flight: Flight) -> End | None:
        """A stop test of the compiled loop fired. The plan may go on with another stage; a target met ends the run."""
        info, t, limits = flight.last, self.setup.target, self.limits
        value, grad = float(info.value), float(info.grad_norm)
        if int(info.status) == Status.NONFINITE:
            return End("nonfinite_start" if self.k <= 1 and len(self.rows) <= 1 else "nonfinite", {"value": value})
        # Compared with the limits as the device saw them: in float32 they are rounded.
        met = not self.engine.noisy and (value <= float(limits.loss) or grad <= float(limits.grad_norm))
        if met:
            with self.clock.off():
                if t.met(self._probe(self.standing())):
                    return End("target")
        self.ended = self.engine.stuck(flight.streaks)
        if self.ended is None and not self.engine.noisy and self._stationary():
            self.ended = "gradient"
        return None  # the plan is asked next: another stage, or the end; nothing fired: the target was left again

    def _stationary(self) -> bool:
        """Whether the gradient vanishes after the step, too: momentum may have carried the parameters on."""
        with self.clock.off():
            loss, grad = (jnp.asarray(x, self.setup.dtype) for x in self._probe(self.params).values())
            return bool(vanishes(loss, grad, norm(self.params), self.limits.first_grad))

    # -- ends ------------------------------------------------------------------------------------------------
    def evaluations(self) -> float:
        """Work so far in residual evaluations (records.WORK)."""
        return evaluations(self.totals | {"sampler": self.watch.sweeps}, self.setup.rows_total)

    def spent(self, recorded: bool = True) -> End | None:
        """The End of a spent budget, None while something is left. Work is compared at recorded steps only: where the
        clock cuts device calls may not decide at which step it ends."""
        b = self.setup.budget
        spent = {
            "steps": b.steps is not None and self.k >= b.steps,
            "seconds": b.seconds is not None and self.clock.seconds >= b.seconds,
            "wall": b.wall is not None and self.clock.wall >= b.wall,
            "evaluations": b.evaluations is not None and recorded and self.evaluations() >= b.evaluations,
        }
        name = next((n for n, over in spent.items() if over), None)
        return None if name is None else End("budget", {"which": name, "amount": getattr(b, name)})

    def reopen(self) -> None:
        """A run that goes on has no closing row yet."""
        self.rows = [row for row in self.rows if row["status"] != "closing"]

    def close(self, params: Params) -> None:
        """The closing row: the returned parameters (a readout), scored."""
        row = {
            "step": self.k,
            "seconds": self.clock.seconds,
            "cpu_seconds": self.clock.cpu,
            "stage": max(self.stage, 0),
            "method": type(self.engine.method).__name__,
        }
        # Interrupted while compiling: whoever pressed Ctrl-C does not want to wait for a score.
        unknown = {"loss": None, "grad_norm": None}
        row |= self.setup.observer(self.objective, params) | self._probe(params) if self.compiled else unknown
        row |= {"step_norm": None, "status": "closing"}
        row |= self._work()
        self.rows = [r for r in self.rows if r["step"] < self.k] + [row]
        if self.setup.rows_path is not None:
            write_rows(self.setup.rows_path, self.rows)

    def save(self, finished: Mapping[str, Any] | None = None) -> None:
        """Write a checkpoint of everything that decides the next step, off the clock."""
        if self.setup.checkpoint is not None:
            begin = time.perf_counter()
            with self.clock.off():
                persist.save(self, finished)
            self._saved_at = time.perf_counter()
            self._saving = self._saved_at - begin
