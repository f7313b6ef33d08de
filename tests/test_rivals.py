"""A rival leaves the records of a run of our own: rows, clock, budget, status and reason."""

import math
import time
from itertools import pairwise

import jax
import numpy as np
import optax
import pytest
from rival_cases import ALL, MODEL, PROBLEM, jnp, needs, objective, rival

from ravine import solve
from ravine.driver.budget import Budget
from ravine.driver.precision import cast
from ravine.objective import Composite, Scalar, Term
from ravine.problems import DeepRitz2D, Poisson2D
from ravine.records import next_recorded
from ravine.report import load_run
from ravine.report.sections import notes
from ravine.rivals import library, track
from ravine.rivals.library import library_of
from ravine.rivals.race import execute, solve_with
from ravine.rivals.track import Track
from ravine.rivals.view import View

# Other libraries warn of their own matters when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore")


STEPS = 60


@pytest.fixture(scope="module")
def ours():
    run = solve(PROBLEM, MODEL, "lbfgs", budget=Budget(steps=1), sampler="fixed")
    return run.rows


@pytest.mark.parametrize("name", ALL)
def test_a_rival_leaves_the_rows_and_the_record_of_a_run(name, ours, tmp_path):
    run = solve_with(name, PROBLEM, MODEL, budget=Budget(steps=STEPS), out=tmp_path / "r")
    assert (run.status, run.steps) == ("budget", STEPS), run.reason
    shared = {column for column in ours[0] if not column.startswith("scalars.")}
    assert [row["step"] for row in run.rows] == list(range(STEPS + 1))
    assert all(set(row) == shared for row in run.rows)
    assert run.rows[0]["loss"] == pytest.approx(ours[0]["loss"], rel=1e-12)
    assert run.rows[0]["grad_norm"] == pytest.approx(ours[0]["grad_norm"], rel=1e-12)
    for column in ("metrics.l2", "terms.pde", "terms.boundary"):
        assert run.rows[0][column] == pytest.approx(ours[0][column], rel=1e-12)
    seconds = [row["seconds"] for row in run.rows]
    assert seconds[0] == 0.0 and all(a < b for a, b in pairwise(seconds))
    assert run.rows[-1]["status"] == "closing" and {row["status"] for row in run.rows[:-1]} <= {"ok", "rejected"}
    assert all((row["status"] == "rejected") == (row["step_norm"] == 0) for row in run.rows[:-1])
    assert run.final["loss"] < (1.0 if name.endswith("/adam") else 0.2) * run.rows[0]["loss"]
    assert run.compile_seconds > 0

    record = load_run(tmp_path / "r")
    assert (record.status, record.method) == ("budget", name)
    assert record.meta["rival"]["version"] == library_of(name).version is not None
    assert record.meta["rival"]["source"] and record.meta["rival"]["settings"] == rival(name).settings()
    counted = rival(name).counted
    assert all((row["counts.vjp"] is None) != counted for row in run.rows)
    assert np.isfinite(record.work).all() if counted else np.isnan(record.work).all(), "nobody counted is a gap"
    assert any("does not say what it evaluates" in note for note in notes([record])) == (not counted)
    if counted:
        work = record.work
        assert work[0] == 0 and all(np.diff(work) > 0)


def test_step_norms_and_parameters_belong_to_the_rows():
    seen = []
    run = solve_with("scipy/bfgs", PROBLEM, MODEL, budget=Budget(steps=4), callbacks=[lambda row, p: seen.append(p)])
    flat = [np.asarray(jax.flatten_util.ravel_pytree(p)[0]) for p in (*seen, run.params)]
    moves = [np.linalg.norm(b - a) for a, b in pairwise(flat)]
    assert moves == pytest.approx([row["step_norm"] for row in run.rows[:-1]], rel=1e-12)
    value = jax.jit(lambda o, p: o.value(p))
    losses = [float(value(objective(), p)) for p in (*seen, run.params)]
    assert losses == pytest.approx([row["loss"] for row in run.rows], rel=1e-12)


def test_cuts_of_the_compiled_loop_change_no_digit():
    """A stepped rival goes from recorded row to recorded row; every=1 visits after every step beyond step 100."""
    short = solve_with("optax/lbfgs", PROBLEM, MODEL, budget=Budget(steps=115), every=1)
    long = solve_with("optax/lbfgs", PROBLEM, MODEL, budget=Budget(steps=115))
    assert len(short.rows) == 116 > len(long.rows)
    by_step = {row["step"]: row for row in short.rows}
    for row in long.rows:
        other = by_step[row["step"]]
        assert all(row[c] == other[c] for c in row if c not in ("seconds", "cpu_seconds")), row["step"]


@pytest.mark.parametrize("name", ["scipy/lbfgsb", "optax/adam"])
def test_budgets_and_targets_end_a_run(name):
    timed = solve_with(name, Poisson2D(), budget=Budget(seconds=0.2))  # 900 points: not done in a fifth of a second
    assert timed.status == "budget" and 0.2 <= timed.seconds < 0.2 + 0.6 and "0.2 s" in timed.reason
    counted = solve_with(name, PROBLEM, MODEL, budget=Budget(evaluations=20))
    assert counted.status == "budget" and 1 < counted.steps <= 7, "a gradient is three evaluations"
    start = counted.rows[0]["metrics.l2"]
    met = solve_with(name, PROBLEM, MODEL, budget=Budget(steps=500), target=0.99 * start)
    assert met.status == "reached_target" and met.final["metrics.l2"] <= 0.99 * start and met.steps < 500
    assert all(row["metrics.l2"] > 0.99 * start for row in met.rows[:-1]), "it ends at the first row that meets it"


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_a_budget_of_evaluations_ends_at_the_same_step_however_calls_are_cut(seconds, monkeypatch):
    monkeypatch.setattr(track, "_CALL_SECONDS", seconds)
    run = solve_with("optax/adam", PROBLEM, MODEL, budget=Budget(evaluations=3 * 251))
    assert run.status == "budget" and run.steps == next_recorded(250) > 251


def test_an_old_library_is_not_taken_for_the_one_that_is_needed(monkeypatch):
    monkeypatch.setitem(library.LIBRARIES, "scipy", library.LIBRARIES["scipy"]._replace(least=(99, 1)))
    with pytest.raises(library.NotInstalled, match=r"scipy/trf needs scipy, and 1\..* is here, which is too old"):
        library.require("scipy/trf")
    assert not library.LIBRARIES["scipy"]._replace(least=(1, 9)).too_old, "1.17 is newer than 1.9"


def test_a_rival_that_stops_by_itself_says_so_in_its_own_words():
    run = solve_with("scipy/bfgs", PROBLEM, MODEL, budget=Budget(steps=100_000))
    assert run.status in ("converged", "stalled") and "stopped by itself" in run.reason
    assert "precision" in run.reason.lower() or "terminated" in run.reason.lower()
    assert run.steps == run.rows[-1]["step"] < 100_000


def test_a_rival_that_blows_up_is_diverged_with_the_step():
    run = solve_with(rival("optax/adam", learning_rate=1e308), PROBLEM, MODEL, budget=Budget(steps=400))
    assert run.status == "diverged" and run.steps < 400 and f"step {run.steps}" in run.reason
    assert not math.isfinite(run.final["loss"])


def test_what_the_library_raises_ends_the_run_and_what_is_ours_is_shown(monkeypatch):
    import scipy.optimize

    def minimize(function, x0, callback, **_):
        callback(x0 + 0.1)
        np.linalg.cholesky(-np.eye(2))

    monkeypatch.setattr(scipy.optimize, "minimize", minimize)
    run = solve_with("scipy/bfgs", PROBLEM, MODEL, budget=Budget(steps=9))
    assert (run.status, run.steps) == ("failed", 1)
    assert "LinAlgError" in run.reason and "step 1" in run.reason
    monkeypatch.undo()
    for callback in (lambda row, params: 1 / 0, 5):
        with pytest.raises((ZeroDivisionError, TypeError)):
            solve_with("scipy/bfgs", PROBLEM, MODEL, budget=Budget(steps=9), callbacks=[callback])


def test_metrics_stop_the_clock(monkeypatch):

    score = Track.score
    monkeypatch.setattr(Track, "score", lambda self, theta: (time.sleep(0.2), score(self, theta))[1])
    run = solve_with("scipy/lbfgsb", PROBLEM, MODEL, budget=Budget(steps=10))
    assert run.wall_seconds > 2.0 > run.seconds


def test_refusals_are_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="scipy/trf needs residual rows"):
        solve_with("scipy/trf", DeepRitz2D(), budget=Budget(steps=1))
    with pytest.raises(ValueError, match="optimistix/bfgs does not say what it evaluates"):
        request_free = type("Request", (), {"objective": objective(), "params": None, "budget": Budget(evaluations=9)})
        execute(rival("optimistix/bfgs"), request_free)
    with pytest.raises(LookupError, match="did you mean 'scipy/trf'"):
        solve_with("scipy/trff", PROBLEM)
    for name, option in (
        ("scipy/trf", {"scale": "x"}),
        ("optax/adam", {"learning_rate": 0.0}),
        ("scipy/lbfgsb", {"memory": 0}),
        ("optax/lbfgs", {"memory": 0}),
        ("jaxopt/lbfgs", {"memory": 0}),
        ("jno/ssbroyden", {"adam": -1}),
        ("jaxopt/lm", {"linear_solver": "x"}),
        ("jinns/ngd", {"gram_reg": 0.0}),
        ("scimba/anagram", {"decomposition": "x"}),
    ):
        with pytest.raises(ValueError, match=name):
            rival(name, **option)


def test_values_alone_are_enough_for_rivals_that_need_no_rows():
    def energy(params, x):
        return params["a"] * x[0] - x[0] ** 2

    composite = Composite({"e": Term(energy, np.linspace(0.1, 1, 7)[:, None])}, lambda z, x: jnp.sum(jnp.cosh(z)))
    scalar = Scalar(lambda p: (p["a"] - 1.0) ** 2)
    for one in (composite, scalar):
        view = View(cast(one, "float64"), {"a": jnp.asarray(0.3)})
        value, grad = view.value_and_grad(view.start, view.data)
        assert float(value) == pytest.approx(float(one.value({"a": jnp.asarray(0.3)})), rel=1e-13)
        assert grad.shape == (1,)
        assert rival("scipy/trf").refusal(view.structure) and not rival("scipy/bfgs").refusal(view.structure)


@needs("jno/ssbroyden")
def test_adam_first_is_a_stage_of_its_own():
    run = solve_with(rival("jno/ssbroyden", adam=3), PROBLEM, MODEL, budget=Budget(steps=6))
    assert [row["stage"] for row in run.rows] == [0, 0, 0, 1, 1, 1, 1]
    view = View(objective(), jax.tree.map(jnp.asarray, PROBLEM.init(MODEL, 0)))
    theta, transformation, losses = view.start, optax.adam(1e-3), []
    state = transformation.init(theta)
    for _ in range(4):
        value, grad = view.value_and_grad(theta, view.data)
        losses.append(float(value))
        update, state = transformation.update(grad, state, theta)
        theta = theta + update
    assert [r["loss"] for r in run.rows[:4]] == pytest.approx(losses, rel=1e-12)
