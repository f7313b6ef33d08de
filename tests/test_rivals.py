"""Rivals: each library is given the very same function, leaves the very same records, and is a row where it is absent.

What a library does with the function is its own affair. What is tested is what it was given: a probe reads value and
gradient off the library's own state after a step, or off the arguments it was called with.
"""

import json
import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from ravine import rivals, solve
from ravine.bench import pool
from ravine.bench.task import Task, method_names
from ravine.cli import main
from ravine.driver.budget import Budget
from ravine.driver.precision import cast
from ravine.linearization import Linearization
from ravine.models import MLP
from ravine.objective import Composite, Scalar, Term
from ravine.problems import DeepRitz2D, Poisson2D
from ravine.registry import entries, find
from ravine.report import load_run
from ravine.report.page import notes
from ravine.rivals.library import LIBRARIES, NotInstalled, is_installed, library_of
from ravine.rivals.race import execute, solve_with
from ravine.rivals.track import Track
from ravine.rivals.view import View

# Other libraries warn of their own matters when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore")

jnp = jax.numpy
PROBLEM = Poisson2D(hard=False, n_pde=16, n_boundary=8)  # two terms of different weight
MODEL = MLP(width=3, depth=1, lower=(0.0, 0.0), upper=(1.0, 1.0))
STEPS = 60


def needs(name: str):
    library = library_of(name)
    return pytest.mark.skipif(not is_installed(name), reason=f"{library.distribution} is not installed")


ALL = [pytest.param(name, marks=needs(name)) for name in entries("rivals")]


def rival(name: str, **options):
    return find("rivals", name).load()(**options)


def objective():
    return cast(PROBLEM.objective(MODEL, PROBLEM.sample(0)), "float64")


def view_at(seed: int) -> View:
    """The view, started at random parameters."""
    tree = jax.tree.map(jnp.asarray, PROBLEM.init(MODEL, 0))
    rng = np.random.default_rng(seed)
    return View(objective(), jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), tree))


def truth(view: View, theta) -> tuple[float, np.ndarray]:
    """Value and gradient by the objective's own methods, apart from the view."""
    params = view.unravel(jnp.asarray(theta))
    value, grad = jax.jit(lambda o, p: o.value_and_grad(p))(objective(), params)
    return float(value), np.asarray(jax.flatten_util.ravel_pytree(grad)[0])


# -- probes: (theta, value, gradient) as the library has them ------------------------------------------------------


def one_step(name, view, monkeypatch=None):
    """(theta, state) after one step of a stepped rival, compiled as in a run."""
    solver = rival(name).solver(view)

    @jax.jit
    def run(theta, data):
        theta, state = solver.step(theta, solver.init(theta, data), data)
        return theta, {k: v for k, v in read(state).items()}

    def read(state):
        return READ[name](state)

    return run(view.start, view.data)


def searched(state):
    """Where an Optax line search stopped it keeps value and gradient."""
    return {"value": optax.tree.get(state, "value"), "grad": optax.tree.get(state, "grad")}


READ = {
    "optax/adam": lambda s: {"grad": s[0].mu / 0.1},  # the first moment after one step is (1 - 0.9) g
    "optax/lbfgs": searched,
    "jno/ssbroyden": searched,
    "jno/ssbfgs": searched,
    "jinns/ssbroyden": lambda s: searched(s.linesearch_state),
    "jaxopt/lbfgs": lambda s: {"value": s.value, "grad": s.grad},
    "jaxopt/lm": lambda s: {"value": s.value, "grad": s.gradient},
    "optimistix/bfgs": lambda s: {"value": s.f_info.f, "grad": s.f_info.grad},
    "optimistix/lm": lambda s: {
        "value": 0.5 * s.f_info.residual @ s.f_info.residual,
        "grad": s.f_info.jac.transpose().mv(s.f_info.residual),
    },
}


def stepped(name, view, monkeypatch):
    theta, found = one_step(name, view)
    if name == "optax/adam":
        theta = view.start  # its moment was taken before the step
    return theta, found.get("value"), found["grad"]


class Seen(Exception):
    """Raised by a spy in place of the library's solver."""

    def __init__(self, theta, value, grad):
        super().__init__()
        self.found = theta, value, grad


class NoTrack:
    def begin(self):
        """Nothing is timed."""


def scipy(name, view, monkeypatch):
    """The arguments of scipy.optimize.minimize and least_squares."""
    import scipy.optimize

    def minimize(function, x0, **_):
        raise Seen(x0, *function(x0))

    def least_squares(function, x0, jac, **_):
        r, j = function(x0), jac(x0)
        raise Seen(x0, 0.5 * r @ r, r @ j)

    monkeypatch.setattr(scipy.optimize, "minimize", minimize)
    monkeypatch.setattr(scipy.optimize, "least_squares", least_squares)
    with pytest.raises(Seen) as seen:
        rival(name).run(view, NoTrack())
    return seen.value.found


def jinns_ngd(name, view, monkeypatch):
    """Rows, Jacobian and loss as `update` gets them; the function is 2L with the gradient of L."""
    import jinns.optimizers

    def update(given, state, params, loss, batch, loss_value):
        rows, slopes, weight = given[0]["rows"], given[1]["rows"].nn_params, given[2]["rows"]
        again = loss.evaluate_per_sample(params, batch)["rows"]
        assert float(jnp.sum((weight * again) ** 2)) == pytest.approx(float(loss_value), rel=1e-13)
        raise Seen(params.nn_params, 0.5 * loss_value, weight**2 * jnp.einsum("ij,ijk->k", rows, slopes))

    fake = type("Transformation", (), {"init": staticmethod(lambda p: ()), "update": staticmethod(update)})
    monkeypatch.setattr(jinns.optimizers, "vanilla_ngd", lambda **_: fake)
    with pytest.raises(Seen) as seen:
        rival(name).solver(view).step(view.start, (), view.data)
    return seen.value.found


def scimba_native(name, view, monkeypatch):
    """The function given to scimba's optimize_pytree."""
    from scimba_jax.nonlinear_approximation.optimizers import native_optimizers

    def optimize_pytree(cls, params, function, **_):
        raise Seen(params, *jax.value_and_grad(function)(params))

    monkeypatch.setattr(native_optimizers, "optimize_pytree", optimize_pytree)
    with pytest.raises(Seen) as seen:
        rival(name).solver(view).step(view.start, {}, view.data)
    return seen.value.found


def scimba_natural(name, view, monkeypatch):
    """The losses and the system of scimba's natural gradients; their function is 2L."""
    from scimba_jax.nonlinear_approximation.optimizers import anagram, optimizers

    def update(self, theta, data):
        loss = 0.5 * self.losses_function(theta, data)["total"]
        if name == "scimba/eng":
            gram, grad = self._assemble_gram_and_grad(theta, data, True)
            rows, again, twice = self._points_side_system(theta, data, True)
            np.testing.assert_allclose(gram, rows.T @ rows + self.matrix_regularization * jnp.eye(theta.size), 1e-12)
            np.testing.assert_allclose(again, grad, 1e-12, 1e-12)
            np.testing.assert_allclose(0.125 * twice @ twice, loss, 1e-12)
            assert self._n_rows(data) == len(rows)
            raise Seen(theta, loss, 0.5 * grad)
        rows, r = self._system(theta, data)
        raise Seen(theta, loss, r @ rows)

    monkeypatch.setattr(optimizers.ENGOptimizer, "update", update)
    monkeypatch.setattr(anagram.ANaGRAMOptimizer, "update", update)
    with pytest.raises(Seen) as seen:
        solver = rival(name).solver(view)
        solver.step(view.start, solver.init(view.start, view.data), view.data)
    return seen.value.found


PROBES = dict.fromkeys(READ, stepped) | {
    "scipy/trf": scipy,
    "scipy/bfgs": scipy,
    "scipy/lbfgsb": scipy,
    "jinns/ngd": jinns_ngd,
    "scimba/ssbroyden": scimba_native,
    "scimba/ssbfgs": scimba_native,
    "scimba/eng": scimba_natural,
    "scimba/anagram": scimba_natural,
}


def test_every_rival_has_a_probe_and_a_library():
    assert set(PROBES) == set(entries("rivals"))
    assert {name.partition("/")[0] for name in PROBES} == set(LIBRARIES)
    for name, entry in entries("rivals").items():
        cls = entry.load()
        assert cls.name == name and cls.call and cls.source and entry.summary


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", ALL)
def test_the_library_is_given_the_very_same_function(name, seed, monkeypatch):
    view = view_at(seed)
    theta, value, grad = PROBES[name](name, view, monkeypatch)
    true_value, true_grad = truth(view, theta)
    if value is not None:  # Adam sees the gradient only
        assert float(value) == pytest.approx(true_value, rel=1e-12)
    assert np.linalg.norm(np.asarray(grad) - true_grad) <= 1e-12 * np.linalg.norm(true_grad)
    assert np.linalg.norm(true_grad) > 1e-3, "a gradient that vanishes would agree with anything"


def test_the_view_agrees_with_the_objective_in_every_form():
    view = view_at(3)
    value, grad = truth(view, view.start)
    local = Linearization(objective(), view.unravel(view.start))
    r, j = view.residual(view.start, view.data), view.jacobian(view.start, view.data)
    assert view.rows == len(r) == 24
    np.testing.assert_allclose(j, local.jacobian(), 1e-12, 1e-14)
    assert float(view.value(view.start, view.data)) == pytest.approx(value, rel=1e-13)
    assert float(0.5 * r @ r) == pytest.approx(value, rel=1e-13)
    given = lambda theta: view.residual_with_jacobian(theta, view.data)  # noqa: E731
    for mode in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(mode(given)(view.start), j, 1e-12, 1e-14)
    np.testing.assert_allclose(jax.grad(lambda t: 0.5 * jnp.sum(given(t) ** 2))(view.start), grad, 1e-11, 1e-13)


# -- records -------------------------------------------------------------------------------------------------------


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
    assert run.final["loss"] < (1.0 if name == "optax/adam" else 0.2) * run.rows[0]["loss"]
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


COUNTED = [pytest.param(n, marks=needs(n)) for n, entry in entries("rivals").items() if entry.load().counted]


@pytest.mark.parametrize("name", COUNTED)
def test_counted_work_is_the_work_done(name, monkeypatch):
    """Every evaluation that is carried out calls back to the host; what scores the rows is left out."""
    done = dict.fromkeys(("value", "value_and_grad", "residual", "jacobian"), 0)
    counting = [False]

    def count(which):
        done[which] += counting[0]

    def watched(which, original):
        def call(self, theta, data):
            jax.debug.callback(lambda _: count(which), jnp.sum(theta))
            return original(self, theta, data)

        return call

    def begin(self, original=Track.begin):
        original(self)
        jax.effects_barrier()
        counting[0] = True

    def score(self, theta, original=Track.score):
        jax.effects_barrier()
        before, counting[0] = counting[0], False
        found = original(self, theta)
        jax.effects_barrier()
        counting[0] = before
        return found

    for which in done:
        monkeypatch.setattr(View, which, watched(which, getattr(View, which)))
    monkeypatch.setattr(Track, "begin", begin)
    monkeypatch.setattr(Track, "score", score)
    run = solve_with(name, PROBLEM, MODEL, budget=Budget(steps=7))
    jax.effects_barrier()
    told = run.summary["counts"]
    gradients = done["value"] + done["value_and_grad"]  # every value is taken with its gradient here
    assert told["residual"] == gradients + done["residual"] > 0
    assert (told["vjp"], told["rows"]) == (gradients, 24 * done["jacobian"])


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
    import time

    score = Track.score
    monkeypatch.setattr(Track, "score", lambda self, theta: (time.sleep(0.2), score(self, theta))[1])
    run = solve_with("scipy/lbfgsb", PROBLEM, MODEL, budget=Budget(steps=10))
    assert run.wall_seconds > 2.0 > run.seconds


# -- refusals and options ------------------------------------------------------------------------------------------


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


OPTIONS = [
    ("scipy/trf", {"scale": "jac"}),
    ("scipy/lbfgsb", {"memory": 1}),
    ("optax/adam", {"learning_rate": 1e-2}),
    ("optax/adam", {"decay_rate": 0.5, "decay_steps": 1}),
    ("optax/lbfgs", {"memory": 1}),
    ("jaxopt/lm", {"linear_solver": "cholesky"}),
    ("jaxopt/lbfgs", {"memory": 1}),
    ("jno/ssbroyden", {"adam": 3}),
    ("jinns/ngd", {"gram_reg": 1e-2}),
    ("jinns/ngd", {"backtracking": 1}),
    ("scimba/eng", {"regularization": 1e-2}),
    ("scimba/eng", {"adaptive": True}),
    ("scimba/anagram", {"threshold": 0.3}),
]


@pytest.mark.parametrize("name, options", [pytest.param(n, o, marks=needs(n), id=f"{n}-{o}") for n, o in OPTIONS])
def test_an_option_changes_the_trajectory(name, options):
    budget = Budget(steps=12)
    plain = solve_with(name, PROBLEM, MODEL, budget=budget)
    changed = solve_with(rival(name, **options), PROBLEM, MODEL, budget=budget)
    assert plain.rows[0]["loss"] == changed.rows[0]["loss"]
    assert plain.final["loss"] != changed.final["loss"]


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


# -- the command line ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec, sentence",
    [
        ("scipy/tfr", "did you mean 'scipy/trf'?"),
        ("scipi/trf", "did you mean 'scipy'?"),
        ("scipy:trf", "'scipy/trf'"),
        ("scipy/trf:500", "alone"),
        ("adam:500+scipy/trf", "alone"),
    ],
)
def test_wrong_names_are_one_sentence_without_jax(spec, sentence, capsys):
    assert main(["compare", "poisson2d", "--methods", spec]) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1
    code = f"import sys\nfrom ravine.cli import main\nassert main(['solve', 'poisson2d', '--method', {spec!r}]) == 2\n"
    code += "assert main(['list', 'rivals']) == 0\nassert not {'jax', 'scipy', 'optax'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_slash_makes_a_rival_and_moving_points_are_refused():
    assert method_names("SciPy/TRF") == ["scipy/trf"] and method_names("lm") == ["lm"]
    Task("poisson2d", "scipy/trf", sampler="fixed")
    with pytest.raises(ValueError, match="trains on fixed points"):
        Task("poisson2d", "scipy/trf", sampler="rad")


def test_the_core_imports_no_rival_library():
    """Every module but the adapters, and the adapters' modules themselves, load without any of the libraries."""
    absent = [lib.module for lib in LIBRARIES.values() if lib.module not in ("scipy", "optax")]
    code = "import sys, importlib, pkgutil\n"
    code += f"sys.modules |= dict.fromkeys({absent!r})\nimport ravine\n"
    code += "names = [m.name for m in pkgutil.walk_packages(ravine.__path__, 'ravine.') if '__main__' not in m.name]\n"
    code += "assert 'ravine.rivals.jno_solvers' in names\n[importlib.import_module(n) for n in names]"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def absent(monkeypatch):
    """A library that no machine has stands in for SciPy in this process."""
    monkeypatch.setitem(LIBRARIES, "scipy", LIBRARIES["scipy"]._replace(module="no_such_library"))


def test_an_absent_library_is_refused_with_the_command_that_installs_it(absent, tmp_path):
    with pytest.raises(NotInstalled, match=r"scipy/trf needs scipy, which is not installed here\. Install it: pip"):
        solve_with("scipy/trf", PROBLEM, MODEL, out=tmp_path / "r")
    assert not (tmp_path / "r").exists()
    assert not is_installed("scipy/bfgs") and is_installed("optax/adam")


ABSENT = """
from ravine.rivals import library
library.LIBRARIES["jno"] = library.LIBRARIES["jno"]._replace(module="no_such_library")
from ravine.bench.worker import main
raise SystemExit(main())
"""


def test_an_absent_library_is_a_row_and_no_failure(tmp_path, monkeypatch, capsys):
    """The worker is the real one, in a process where jNO cannot be found."""
    script, python = tmp_path / "absent.py", tmp_path / "python"
    script.write_text(ABSENT)
    python.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{script}'\n")
    python.chmod(0o755)
    monkeypatch.setattr(pool.sys, "executable", str(python))
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "poisson2d", "--methods", "jno/ssbroyden", "--seeds", "1", "--out", "c"]) == 0
    table = capsys.readouterr().out
    assert "not installed" in table and "pip install" in table
    record = load_run(tmp_path / "c" / "poisson2d" / "jno-ssbroyden-s0")
    assert record.status == "not_installed" and record.method == "jno/ssbroyden" and record.error is None
    page = (tmp_path / "c" / "report.html").read_text(encoding="utf8")
    assert "not installed" in page
    assert main(["resume", str(record.folder)]) == 2
    assert "start it again" in capsys.readouterr().err


def test_compare_runs_a_rival_beside_our_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = ["--model.width", "3", "--model.depth", "1", "--problem.n_pde", "16"]
    words = ["compare", "poisson2d", "--methods", "lbfgs,scipy/lbfgsb", "--seeds", "1", "--budget", "5steps"]
    assert main([*words, *tiny, "--set", "scipy/lbfgsb.memory=3", "--out", "c", "--json"]) == 0
    mine, theirs = (load_run(tmp_path / "c" / "poisson2d" / f"{name}-s0") for name in ("lbfgs", "scipy-lbfgsb"))
    assert mine.rows[0]["loss"] == pytest.approx(theirs.rows[0]["loss"], rel=1e-12)
    assert theirs.meta["rival"]["settings"]["memory"] == 3 and theirs.fields is not None
    assert json.loads((Path("c") / "compare.json").read_text())["methods"] == ["lbfgs", "scipy/lbfgsb"]


def test_the_package_exports_every_rival_and_the_call_that_runs_one():
    assert set(rivals.__all__) == {"solve_with", *(entry.class_name for entry in entries("rivals").values())}
    assert rivals.solve_with is solve_with and all(hasattr(rivals, name) for name in rivals.__all__)
    with pytest.raises(AttributeError, match="has no rival 'SciPyTFR'"):
        rivals.SciPyTFR
