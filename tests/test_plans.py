"""Plans: stages at a count and on evidence, the first Auto, and the spec of the command line."""

import jax
import numpy as np
import pytest
from small import FIT, SCALAR, start, steady

import ravine as rv
from ravine import methods as m
from ravine.driver import engine, loop
from ravine.driver.precision import cast
from ravine.plans import History, Stages, as_plan, parse
from ravine.plans.base import Single

jnp = jax.numpy


def names(run):
    """[(method, first recorded step), ...] in order."""
    out = []
    for row in run.rows[:-1]:
        if not out or out[-1][0] != row["method"]:
            out.append((row["method"], row["step"]))
    return out


def history(losses, step=None, ended=None):
    rows = [{"step": k, "loss": value} for k, value in enumerate(losses)]
    return History(len(losses) if step is None else step, 0, 0, rows, ended)


# -- stages at a count -----------------------------------------------------------------------------------------


def test_switch_at_a_count():
    run = rv.minimize(FIT, start(), Stages((m.Adam(), 13), m.LevenbergMarquardt()), budget=rv.Budget(steps=20))
    assert names(run) == [("Adam", 0), ("LevenbergMarquardt", 13)]
    assert [row["stage"] for row in run.rows] == [0] * 13 + [1] * 8
    adam = rv.minimize(FIT, start(), m.Adam(), budget=rv.Budget(steps=13))
    after = rv.minimize(FIT, adam.params, m.LevenbergMarquardt(), budget=rv.Budget(steps=7))
    assert [r["loss"] for r in run.rows[:13]] == [r["loss"] for r in adam.rows[:13]]
    assert [r["loss"] for r in run.rows[13:]] == [r["loss"] for r in after.rows]


def test_a_switch_at_a_step_that_is_not_recorded():
    run = rv.minimize(FIT, start(), "adam:144+lm", budget=rv.Budget(steps=150))
    recorded = [row["step"] for row in run.rows]
    assert 144 not in recorded
    first = next(row["step"] for row in run.rows if row["method"] == "LevenbergMarquardt")
    assert first == min(k for k in recorded if k > 144)
    assert run.final["loss"] < 0.1 * run.rows[recorded.index(143)]["loss"]


def test_all_stages_done():
    run = rv.minimize(FIT, start(), "adam:5+adam:4", budget=rv.Budget(steps=50))
    assert run.steps == 9 and run.status == "budget"
    assert "All stages of the plan are done at step 9" in run.reason and "no count" in run.suggestion


def test_every_stage_is_compiled_before_the_clock():
    rv.minimize(FIT, start(), "adam:2+lm", budget=rv.Budget(steps=4))
    traces = len(engine.traces)
    rv.minimize(FIT, start(), "adam:3+lm:2+adam", budget=rv.Budget(steps=8))
    assert len(engine.traces) == traces  # other counts, the same programs


# -- stages on evidence ----------------------------------------------------------------------------------------


def test_evidence_in_numbers():
    plan = Stages(m.Adam(), m.LBFGS(), patience=10, improvement=0.3)
    falling, flat = [2.0**-k for k in range(20)], [1.0] * 20
    slow = [1.0 - 0.01 * k for k in range(20)]
    for losses, stage in ((falling, 0), (flat, 1), (slow, 1)):
        assert plan.choose(history(losses), plan.methods) == stage
    assert plan.choose(history(flat[:9]), plan.methods) == 0  # patience
    assert plan.choose(history([*flat[:9], float("nan")]), plan.methods) == 1  # a NaN is no improvement
    assert plan.choose(history(falling, ended="no_descent"), plan.methods) == 1
    last = history(flat)._replace(stage=1)
    assert plan.choose(last, plan.methods) == 1  # the last stage goes on
    assert plan.choose(last._replace(ended="tiny"), plan.methods) is None
    lazy = Stages(m.Adam(), m.LBFGS(), patience=10, improvement=0.05)
    assert lazy.choose(history(slow), lazy.methods) == 0


def test_an_energy_below_zero_stalls_as_one_above():
    plan = Stages(m.Adam(), m.LBFGS(), patience=10, improvement=0.3)
    for losses, stage in (
        ([-2.0] * 20, 1),
        ([-(2.0 ** (k / 4)) for k in range(20)], 0),
        ([1.0 - k for k in range(20)], 0),
    ):
        assert plan.choose(history(losses), plan.methods) == stage


def test_switch_on_evidence_in_a_run():
    plan = Stages(m.SGD(1e-6), m.LBFGS(), patience=7)
    run = rv.minimize(FIT, start(), plan, budget=rv.Budget(steps=12))
    assert names(run) == [("SGD", 0), ("LBFGS", 7)]


def test_a_stage_that_gives_up_hands_over():
    """Adam has no step left at a stationary point; the next stage sees the same, and the run ends with its cause."""
    zero = {k: np.zeros_like(v) for k, v in start().items()}
    run = rv.minimize(FIT, zero, Stages(m.Adam(), m.LBFGS()), budget=rv.Budget(steps=50))
    assert names(run) == [("Adam", 0), ("LBFGS", 1)]
    assert run.status == "stalled" and run.steps == 2 and "exactly 0" in run.reason


@pytest.mark.parametrize(
    "plan", ["adam:117+sgd", Stages(m.SGD(1e-6), m.Adam(), patience=115)], ids=["count", "evidence"]
)
@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_the_switch_does_not_depend_on_how_calls_are_cut(plan, seconds, monkeypatch):
    reference = rv.minimize(FIT, start(), plan, budget=rv.Budget(steps=130))
    monkeypatch.setattr(loop, "_CALL_SECONDS", seconds)  # one step per device call, or as many as the record allows
    run = rv.minimize(FIT, start(), plan, budget=rv.Budget(steps=130))
    assert steady(run.rows) == steady(reference.rows)
    assert len(names(run)) == 2


# -- auto ------------------------------------------------------------------------------------------------------


def chosen(plan, objective=FIT, params=None):
    return [type(x).__name__ for x in plan.stages(objective, cast(start() if params is None else params, "float64"))]


def test_auto_chooses_by_structure_and_size():
    assert chosen(rv.Auto()) == ["LevenbergMarquardt"]
    assert chosen(rv.Auto(), SCALAR) == ["Adam", "LBFGS"]
    assert chosen(rv.Auto(dense=23)) == ["Adam", "LBFGS"]  # N = P = 24
    assert chosen(rv.Auto(dense=24)) == ["LevenbergMarquardt"]
    assert chosen(rv.Auto(memory=1e-9)) == ["Adam", "LBFGS"]
    wide = {k: np.zeros(50_000) for k in "wcb"}  # N stays small: the dual form fits
    assert chosen(rv.Auto(), FIT, wide) == ["LevenbergMarquardt"]
    run = rv.minimize(FIT, start(), budget=rv.Budget(steps=3))
    assert run.rows[0]["method"] == "LevenbergMarquardt"


@pytest.mark.parametrize("options", [{"dense": 0}, {"memory": 0.0}])
def test_auto_refuses(options):
    with pytest.raises(ValueError, match="both must be positive"):
        rv.Auto(**options)


# -- specs -----------------------------------------------------------------------------------------------------


def test_specs():
    assert isinstance(parse("lm"), Single) and isinstance(parse("auto"), rv.Auto)
    plan = parse(" adam:500 + LM ")
    assert [type(x).__name__ for x in plan.methods] == ["Adam", "LevenbergMarquardt"] and plan.steps == (500, None)
    assert parse("lm:7").steps == (7,)
    assert parse("adam+lbfgs", {"adam": {"learning_rate": 0.5}}).methods[0].learning_rate == 0.5
    assert parse("auto", {"auto": {"dense": 7}}).dense == 7
    assert as_plan(plan) is plan and isinstance(as_plan(m.LBFGS), Single)


@pytest.mark.parametrize(
    "spec, words",
    [
        ("lmm", "no method called 'lmm'; did you mean 'lm'"),
        ("adam:x+lm", "'x' is not a number of steps; write for example 'adam:500'"),
        ("adam:0", "'0' is not a number of steps"),
        ("adam:-3", "'-3' is not a number of steps"),
        ("adam:1.5", r"'1\.5' is not a number of steps"),
        ("adam++lm", "a stage has no name"),
        ("", "a stage has no name"),
        ("adam:", "is not a number of steps"),
        ("auto+lm", "'auto' chooses for a whole run"),
    ],
)
def test_bad_specs(spec, words):
    with pytest.raises((ValueError, LookupError), match=words):
        parse(spec)


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda: Stages(), ValueError, "give at least one stage"),
        (lambda: Stages((m.Adam(), 0), m.LBFGS()), ValueError, r"\(Adam, 0\): the count must be a positive integer"),
        (lambda: Stages((m.Adam(), True)), ValueError, "must be a positive integer"),
        (lambda: Stages("adam"), TypeError, "'adam' is not a method"),
        (lambda: Stages((m.Adam(),)), TypeError, "a stage is a method or a pair"),
        (lambda: Stages(m.Adam(), (m.LBFGS(), 3), patience=0), ValueError, "patience=0"),
        (lambda: Stages(m.Adam(), m.LBFGS(), improvement=1.0), ValueError, "improvement"),
        (lambda: rv.minimize(SCALAR, start(), "adam:5+lm"), ValueError, "LevenbergMarquardt needs COMPOSITE"),
    ],
)
def test_bad_stages(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_method_has_one_name_in_a_comparison():
    from ravine.bench.task import canonical

    assert canonical("LevenbergMarquardt") == canonical(" lm ") == "lm"
    assert canonical("Adam:0500 + levenbergmarquardt") == "adam:500+lm"
    assert canonical("AUTO") == "auto" and canonical("SciPy/TRF") == "scipy/trf"
    with pytest.raises(LookupError, match="no method called 'lmm'"):
        canonical("adam:5+lmm")
