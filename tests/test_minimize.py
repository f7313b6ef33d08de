"""The driver's promises to the caller of `minimize`: records, budgets, targets, precision, refusals."""

import math

import jax
import numpy as np
import optax
import pytest
from small import DECAY, DECAY_START, FIT, POINTS, SCALAR, l2, residual, start, steady

from ravine import Budget, LeastSquares, Term, minimize, records
from ravine import methods as m
from ravine.driver import engine, loop

jnp = jax.numpy


def with_python_branch(params):
    return 1.0 if float(params["b"][0]) > 1e9 else float(np.asarray(params["b"]).sum())


# -- records ---------------------------------------------------------------------------------------------------


def test_recorded_steps():
    run = minimize(FIT, start(), m.Adam(), budget=Budget(steps=501), every=70)
    grid = {math.ceil(100 * 1.02**j) for j in range(200)}
    wanted = {k for k in range(501) if k <= 100 or k in grid or k % 70 == 0}
    assert [r["step"] for r in run.rows] == [*sorted(wanted), 501]
    assert [r["status"] for r in run.rows] == ["ok"] * len(wanted) + ["closing"]
    plain = minimize(FIT, start(), m.Adam(), budget=Budget(steps=501))
    assert {r["step"] for r in plain.rows} == {k for k in wanted if k <= 100 or k in grid} | {501}


def test_row_k_describes_the_parameters_entering_step_k():
    seen = []
    run = minimize(
        FIT,
        start(),
        m.LevenbergMarquardt(),
        budget=Budget(steps=8),
        metrics={"l2": l2, "branch": with_python_branch},
        callbacks=[lambda row, params: seen.append((row, params))],
    )
    assert [row for row, _ in seen] == run.rows[:-1]
    for row, params in [*seen, (run.final, run.params)]:
        value, grad = FIT.value_and_grad(params)
        np.testing.assert_allclose(row["loss"], value, rtol=1e-12)
        np.testing.assert_allclose(row["grad_norm"], np.sqrt(sum(np.sum(g**2) for g in grad.values())), rtol=1e-8)
        np.testing.assert_allclose(row["terms.fit"], value, rtol=1e-12)
        np.testing.assert_allclose(row["metrics.l2"], l2(params), rtol=1e-12)
        np.testing.assert_allclose(row["metrics.branch"], np.sum(params["b"]), rtol=1e-12)
    np.testing.assert_array_equal(seen[0][1]["w"], start()["w"])


def test_columns():
    run = minimize(FIT, start(), m.LevenbergMarquardt(), budget=Budget(steps=3), metrics={"l2": l2})
    row = run.rows[0]
    fixed = ["step", "seconds", "cpu_seconds", "stage", "method", "loss", "grad_norm", "step_norm", "status"]
    assert set(fixed) == {c for c in row if "." not in c} == set(records.COLUMNS)
    assert set(fixed) | {"terms.fit", "metrics.l2", "counts.residual", "counts.vjp", "counts.sampler"} <= set(row)
    assert any(k.startswith("scalars.") for k in row)
    assert {type(v) for k, v in row.items() if k not in ("method", "status")} <= {int, float}
    assert set(run.final) >= {"step", "loss", "grad_norm", "terms.fit", "metrics.l2"}
    counted = [r["counts.residual"] for r in run.rows]
    assert counted == sorted(counted) and counted[0] == 0 < counted[1]
    clock = [r["seconds"] for r in run.rows]
    assert clock == sorted(clock) and clock[0] < 0.1 * run.compile_seconds
    assert run.wall_seconds >= run.seconds + run.compile_seconds
    assert run.summary["rows"] == len(POINTS) and run.summary["parameters"] == 24


def test_rows_count_residuals_and_not_points():
    def two(params, x):
        return jnp.stack([params * x[0], params - 1.0])

    run = minimize(LeastSquares(Term(two, POINTS)), np.asarray(3.0), m.SGD(), budget=Budget(steps=1))
    assert run.summary["rows"] == 2 * len(POINTS)


# -- compilation -----------------------------------------------------------------------------------------------


def test_a_second_call_compiles_nothing():
    first = minimize(FIT, start(), m.Adam(), budget=Budget(steps=5), metrics={"l2": l2})
    traces = len(engine.traces)
    again = minimize(FIT, start(), m.Adam(), budget=Budget(steps=5), metrics={"l2": l2})
    assert steady(again.rows) == steady(first.rows)
    other = minimize(FIT, start(1), m.Adam(), seed=3, budget=Budget(steps=50), target=1e-9)
    assert other.rows[0]["loss"] != first.rows[0]["loss"]
    assert len(engine.traces) == traces


def test_other_points_weights_and_options_compile_nothing():
    runs = [minimize(FIT, start(), m.Adam(), budget=Budget(steps=5))]
    traces = len(engine.traces)
    elsewhere = LeastSquares({"fit": Term(residual, 0.5 * POINTS)})
    heavier = LeastSquares({"fit": Term(residual, POINTS, weight=4.0)})
    runs += [minimize(o, start(), m.Adam(), budget=Budget(steps=5)) for o in (elsewhere, heavier)]
    runs += [minimize(FIT, start(), m.Adam(rate), budget=Budget(steps=5)) for rate in (1e-2, 2e-2)]
    assert len({run.final["loss"] for run in runs}) == 5
    np.testing.assert_allclose(runs[2].rows[0]["loss"], 4 * runs[0].rows[0]["loss"], rtol=1e-12)
    assert len(engine.traces) == traces


# -- budgets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_the_largest_seed_runs(precision):
    run = minimize(FIT, start(), m.Adam(), seed=2**32 - 1, budget=Budget(steps=1), precision=precision)
    assert run.provenance["seed"] == run.summary["seed"] == 2**32 - 1 and run.steps == 1


def test_budget_of_evaluations():
    run = minimize(FIT, start(), m.Adam(), budget=Budget(evaluations=31))
    one, last = run.rows[1], run.final  # a gradient counts as three residual evaluations
    assert one["counts.residual"] == one["counts.vjp"] == 1
    assert last["step"] == 11 and last["counts.residual"] + 2 * last["counts.vjp"] == 33
    assert run.status == "budget" and "31 evaluations" in run.reason


@pytest.mark.parametrize("text", ["1000evaluations", "1e3evaluations", " 1e+3 evals", "1000 Evaluations"])
def test_the_e_of_evaluations_is_none_of_the_number(text):
    assert Budget.parse(text) == Budget(evaluations=1000.0)
    assert Budget.parse(f"{text}, 0.5e-3s, 1e3steps") == Budget(steps=1000, seconds=0.5e-3, evaluations=1000.0)


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_a_budget_of_evaluations_ends_at_the_same_step_however_calls_are_cut(seconds, monkeypatch):
    monkeypatch.setattr(loop, "_CALL_SECONDS", seconds)
    run = minimize(FIT, start(), m.Adam(), budget=Budget(evaluations=3 * 1234))
    assert run.status == "budget" and run.steps == records.next_recorded(1233) > 1234


@pytest.mark.parametrize("budget, words", [(Budget(wall=1e-9), "wall time"), (Budget(seconds=1e-9), "1e-09 s spent")])
def test_budgets_of_time(budget, words):
    run = minimize(FIT, start(), m.Adam(), budget=budget)
    assert run.status == "budget" and words in run.reason
    assert run.steps <= 1
    assert math.isfinite(run.final["loss"])


def test_the_first_budget_spent_ends_the_run():
    run = minimize(FIT, start(), m.Adam(), budget=Budget(steps=7, seconds=1e5, wall=1e5, evaluations=1e9))
    assert run.steps == 7 and run.reason.startswith("Budget of 7 steps spent at step 7")


# -- targets ---------------------------------------------------------------------------------------------------


def test_target_on_the_loss():
    run = minimize(FIT, start(), m.LevenbergMarquardt(), budget=Budget(steps=100), target=1e-5)
    assert run.status == "reached_target" and run.final["loss"] <= 1e-5 and run.steps < 100
    assert all(row["loss"] > 1e-5 for row in run.rows[:-2])
    assert "loss" in run.reason and "1.00e-05" in run.reason


def test_target_on_the_gradient():
    run = minimize(FIT, start(), m.LevenbergMarquardt(), budget=Budget(steps=100), target={"grad_norm": 1e-3})
    assert run.status == "reached_target" and run.final["grad_norm"] <= 1e-3 and run.steps < 100


def test_target_on_a_metric_and_on_several():
    metrics = {"l2": l2, "branch": with_python_branch}
    run = minimize(FIT, start(), m.LevenbergMarquardt(), budget=Budget(steps=100), target={"l2": 1e-2}, metrics=metrics)
    assert run.status == "reached_target" and run.final["metrics.l2"] <= 1e-2 < run.rows[-2]["metrics.l2"]
    both = minimize(
        FIT,
        start(),
        m.LevenbergMarquardt(),
        budget=Budget(steps=100),
        target={"l2": 1e-2, "grad_norm": 1e-5},
        metrics=metrics,
    )
    assert both.status == "reached_target" and both.steps > run.steps
    assert both.final["metrics.l2"] <= 1e-2 and both.final["grad_norm"] <= 1e-5


def test_target_unmet():
    run = minimize(FIT, start(), m.Adam(), budget=Budget(steps=3), target=1e-5)
    assert run.status == "budget" and "target unmet" in run.reason and "> 1.00e-05" in run.reason


def test_target_names():
    with pytest.raises(ValueError, match="no metric 'll2'; did you mean 'l2'"):
        minimize(FIT, start(), m.Adam(), target={"ll2": 1e-3}, metrics={"l2": l2})
    with pytest.raises(ValueError, match=r"loss=-1\.0: must be a positive number"):
        minimize(FIT, start(), m.Adam(), target=-1.0)


# -- callbacks and metrics -------------------------------------------------------------------------------------


def test_callback_ends_the_run():
    calls = []
    run = minimize(
        FIT,
        start(),
        m.Adam(),
        budget=Budget(steps=50),
        callbacks=[lambda r, p: calls.append(r), lambda r, p: r["step"] == 6],
    )
    assert run.status == "interrupted" and "callback" in run.reason
    assert len(calls) == 7 and run.steps == 7


def test_progress_sees_every_row():
    seen = []
    run = minimize(FIT, start(), m.Adam(), budget=Budget(steps=5), progress=lambda row, loop: seen.append(row["step"]))
    assert seen == [row["step"] for row in run.rows[:-1]]


def test_a_metric_is_one_number():
    with pytest.raises(TypeError, match=r"metrics\['vector'\] must return one number"):
        minimize(FIT, start(), m.Adam(), budget=Budget(steps=1), metrics={"vector": lambda p: p["w"]})


# -- methods by any name ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", [optax.adam(1e-3), "adam", m.Adam, m.Adam()], ids=["optax", "name", "class", "instance"]
)
def test_methods_are_accepted_in_any_form(method):
    run = minimize(FIT, start(), method, budget=Budget(steps=4))
    reference = minimize(FIT, start(), m.Optax(), budget=Budget(steps=4))
    np.testing.assert_allclose(run.final["loss"], reference.final["loss"], rtol=1e-12)


# -- and it works ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["lm", "lbfgs", "ssbroyden"])
def test_a_two_parameter_fit(method):
    run = minimize(DECAY, DECAY_START, method, budget=Budget(steps=100))
    np.testing.assert_allclose([run.params["a"], run.params["k"]], [2.0, 1.3], rtol=1e-6)
    assert run.status == "converged", run


def test_scalar_objectives_run():
    run = minimize(SCALAR, start(), "lbfgs", budget=Budget(steps=20))
    assert run.final["loss"] < 0.1 * run.rows[0]["loss"]
    assert not [c for c in run.final if c.startswith("terms.")]
    assert run.summary["rows"] is None
