"""Steps for a foreign loop: the driver's own, looked at where benchopt looks, and nothing compiled on the clock."""

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ravine import Budget, precision, solve
from ravine.export.steps import Case, Steps, environment, next_evaluation
from ravine.method import Method
from ravine.methods import Adam, GaussNewton, LevenbergMarquardt
from ravine.models import MLP
from ravine.problems import DeepRitz2D, Poisson2D
from ravine.types import Info, Status, Step, Structure, counts

PROBLEM = Poisson2D(hard=False, n_pde=16, n_boundary=8, design="uniform")
MODEL = MLP(2, 1, width=4, depth=1)
TRACING = ("/jax/core/compile/jaxpr_trace_duration", "/jax/core/compile/backend_compile_duration")


def steps(method, seed=3):
    made = Steps(Case(PROBLEM, MODEL, seed), method)
    made.compile()
    return made


class Stubborn(Method):
    """Rejects the first `before` steps, then moves, and rejects for ever from step `until` on."""

    before: Any = 0.0
    until: Any = jnp.inf

    def init(self, objective, params, *, key):
        return jnp.zeros(())

    def step(self, objective, params, state, *, key):
        value, grad = objective.value_and_grad(params)
        moves = (state >= self.before) & (state < self.until)
        new = jax.tree.map(lambda p, g: jnp.where(moves, p - 1e-4 * g, p), params, grad)
        size = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(grad)))
        status = jnp.where(moves, Status.OK, Status.REJECTED)
        return Step(new, state + 1, Info(value, size, jnp.where(moves, 1e-4 * size, 0.0), status, counts(vjp=1), {}))


class Loop:
    """benchopt's callback, as far as steps can tell: it counts calls, and looks at those that are due."""

    def __init__(self, made, limit):
        self.made, self.limit, self.calls, self.due, self.seen = made, limit, 0, 0, []

    def __call__(self):
        if self.calls == self.due:
            self._look()
            self.due = next_evaluation(self.due)
            if len(self.seen) > self.limit:
                return False
        self.calls += 1
        return True

    def _look(self):
        self.last = self.calls
        self.seen.append((self.calls, self.made.k, self.made.params))

    def follow(self):
        self.made.run(self)
        if len(self.seen) <= self.limit and self.last != self.calls - 1:
            self._look()
        return self.seen


class Real:
    """benchopt's callback itself, under the criterion of the exported objective."""

    def __init__(self, made, limit):
        callback = pytest.importorskip("benchopt.callback")
        from benchopt.stopping_criterion import NoCriterion

        self.made, self.seen, self.get_next, self.sampling_strategy = made, [], next_evaluation, "callback"
        criterion = NoCriterion().get_runner_instance(solver=self, max_runs=limit)
        self.callback = callback._Callback(lambda found: [found], self, {}, criterion)

    def get_result(self):
        self.seen.append((self.made.k, self.made.params))
        return {}

    def follow(self):
        self.callback.start()
        self.made.run(self.callback)
        curve, _, _ = self.callback.get_results()
        return [(point["stop_val"], *seen) for point, seen in zip(curve, self.seen, strict=True)]


LOOPS = pytest.mark.parametrize("loop", [Loop, Real])


def test_evaluations_are_every_step_to_ten_and_then_sparser():
    due = [0]
    while due[-1] < 1000:
        due.append(next_evaluation(due[-1]))
    assert due[:13] == list(range(13)) and all(a < b <= max(a + 1, 1.1 * a) for a, b in pairwise(due))


@LOOPS
@pytest.mark.parametrize("method", [Adam(learning_rate=1e-2), LevenbergMarquardt()], ids=["adam", "lm"])
def test_the_steps_are_those_of_solve(method, loop):
    made = steps(method)
    seen = loop(made, 24).follow()
    run = solve(PROBLEM, MODEL, method, seed=3, sampler="fixed", budget=Budget(steps=seen[-1][1]))
    rows = {row["step"]: row for row in run.rows}
    case = Case(PROBLEM, MODEL, 3)
    for label, k, params in seen:
        scores = case.scores(params)
        assert label == k and scores["l2"] == rows[k]["metrics.l2"] == scores["value"]
        assert scores["loss"] == pytest.approx(rows[k]["loss"], rel=1e-12)
    assert seen[-1][1] > 20
    assert made.work == pytest.approx(work_of(run))


def work_of(run):
    from ravine.bench.curves import work

    return work(run.rows, run.summary["rows"])[-1]


@LOOPS
def test_rejected_steps_are_no_end(loop):
    made = steps(Stubborn(before=9.0))
    seen = loop(made, 20).follow()
    case = Case(PROBLEM, MODEL, 3)
    values = [case.scores(params)["loss"] for _, _, params in seen]
    assert values[:10] == [values[0]] * 10 and values[12] < values[0] and len(seen) == 21 and made.stopped == ""


@LOOPS
@pytest.mark.parametrize("moves", [3, 4, 20, 21])
def test_a_method_that_cannot_go_on_ends_and_its_last_point_is_there(moves, loop):
    """At 23 and 40, one step after an evaluation, at 24, where one is due, and at 41, between two."""
    made = steps(Stubborn(until=float(moves)))
    seen = loop(made, 1000).follow()
    assert made.stopped == "rejected" and made.k == moves + 20
    labels, ks = [label for label, _, _ in seen], [k for _, k, _ in seen]
    assert labels[:-1] == ks[:-1] and ks[-1] == moves + 20 and len(set(labels)) == len(labels)
    assert labels[-1] == ks[-1] + (ks[-1] - ks[-2] == 1 and next_evaluation(ks[-2]) > ks[-1])


def test_a_second_run_repeats_the_first():
    made = steps(Adam())
    (*_, (_, k, first)), (*_, (_, again, second)) = Loop(made, 12).follow(), Loop(made, 12).follow()
    assert k == again
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert np.array_equal(a, b) and a.dtype == np.float64


def test_seeds_differ_in_start_and_points():
    a, b = Case(PROBLEM, MODEL, 0), Case(PROBLEM, MODEL, 1)
    assert a.scores(a.params)["value"] != b.scores(b.params)["value"]
    assert not np.array_equal(a.objective.parts["pde"].points, b.objective.parts["pde"].points)


@pytest.mark.parametrize("compiled", [True, False])
def test_nothing_is_traced_or_compiled_on_the_clock(compiled, monkeypatch):
    """Seen by the events of JAX; without the compilation beforehand they are seen, so the listener hears them."""
    jax.clear_caches()
    made = Steps(Case(PROBLEM, MODEL, 5), GaussNewton())
    if compiled:
        made.compile()
    else:
        monkeypatch.setattr(made, "_compiled", True)
    heard = []
    listen = lambda name, *_, **__: heard.append(name) if name in TRACING else None
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        budget = iter([True] * 30 + [False])
        made.run(lambda: next(budget))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert made.k >= 10 and (not heard if compiled else set(heard) == set(TRACING))


def test_what_cannot_run_is_refused_in_a_sentence():
    class Rows(Stubborn):
        needs = Structure.RESIDUAL

    case = Case(DeepRitz2D(n_energy=16, n_boundary=8), MODEL, 0)
    with pytest.raises(ValueError, match="Rows needs RESIDUAL"):
        Steps(case, Rows())
    with pytest.raises(ValueError, match=r"call compile\(\) before run"):
        Steps(case, Adam()).run(lambda: False)
    with pytest.raises(ValueError, match="nonnegative whole number"):
        Case(PROBLEM, MODEL, -1)


def test_the_environment_is_known():
    found = environment()
    assert found["jax"] == jax.__version__ and found["dtype"] == "float64" and found["device"].startswith("cpu")
    assert all(isinstance(value, str) and value for value in found.values())


def test_global_precision_is_left_alone():
    jax.config.update("jax_enable_x64", False)
    try:
        made = steps(Adam())
        Loop(made, 3).follow()
        assert jnp.zeros(1).dtype == jnp.float32
        with precision("float64"):
            assert {leaf.dtype for leaf in jax.tree.leaves(made.params)} == {np.dtype("float64")}
    finally:
        jax.config.update("jax_enable_x64", True)
