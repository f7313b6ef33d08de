"""Averages of iterates: exact by hand on lines, a lower floor under noise, and where the driver uses them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import FIT, start

import ravine as rv
from ravine import methods as m
from ravine.bench.options import typed
from ravine.bench.task import Task
from ravine.method import Method
from ravine.methods.averaged import EMA, Average, Averaged, Uniform
from ravine.objective import LeastSquares, Scalar, Term
from ravine.plans import parse
from ravine.types import Info, Step, counts

LINE = Scalar(lambda p: p["x"])
ZERO = {"x": np.asarray(0.0)}
WALK = m.SGD(1.0, momentum=None)  # on LINE: x = 0, -1, -2, ...


def end(average, steps, objective=LINE, params=ZERO, method=WALK):
    return rv.minimize(objective, params, Averaged(method, average), budget=rv.Budget(steps=steps))


def test_an_ema_of_a_line_by_hand():
    run = end(EMA(0.5), 4)
    weights = np.array([1 / 8, 1 / 4, 1 / 2, 1]) / (15 / 8)
    np.testing.assert_allclose(run.params["x"], weights @ [-1, -2, -3, -4], rtol=1e-15)
    run = end(EMA(0.5, start=2), 4)
    np.testing.assert_allclose(run.params["x"], (0.5 * -3 + -4) / 1.5, rtol=1e-15)


@pytest.mark.parametrize(
    ("average", "steps", "mean"),
    [
        (Uniform(), 7, -4.0),
        (Uniform(start=3), 7, -5.5),
        (Uniform(every=3), 8, -4.5),  # of -3 and -6
        (Uniform(start=2, every=2), 7, -5.0),  # of -4 and -6
        (Uniform(start=5), 4, -4.0),  # nothing to average yet: the iterate
        (Uniform(every=5), 4, -4.0),
        (Uniform(start=3), 4, -4.0),
    ],
)
def test_a_mean_of_a_line_by_hand(average, steps, mean):
    np.testing.assert_allclose(end(average, steps).params["x"], mean, rtol=1e-15)


class Noisy(Method):
    """Gradient descent on ½x² with a gradient that is wrong by a normal number."""

    def init(self, objective, params, *, key):
        return jnp.zeros(())

    def step(self, objective, params, state, *, key):
        value, grad = objective.value_and_grad(params)
        move = -0.2 * (grad["x"] + jax.random.normal(key, params["x"].shape))
        size = jnp.linalg.norm(move)
        info = Info(value, jnp.linalg.norm(grad["x"]), size, jnp.zeros((), jnp.int32), counts(residual=1, vjp=1), {})
        return Step({"x": params["x"] + move}, state, info)


@pytest.mark.parametrize("average", [EMA(0.99), Uniform(start=100), Uniform(start=100, every=10)])
def test_the_average_lies_below_the_noise(average):
    bowl = Scalar(lambda p: 0.5 * jnp.sum(p["x"] ** 2))
    run = end(average, 2000, bowl, {"x": np.ones(50)}, Noisy())
    late = [row["loss"] for row in run.rows[:-1] if row["step"] > 200]
    assert run.final["loss"] < 0.2 * np.mean(late)


def test_steps_are_those_of_the_method():
    steps = rv.Budget(steps=12)
    plain = rv.minimize(FIT, start(), m.Adam(1e-2), budget=steps)
    run = rv.minimize(FIT, start(), Averaged(m.Adam(1e-2), EMA(0.9)), budget=steps)
    for column in ("loss", "grad_norm", "step_norm"):
        assert [r[column] for r in run.rows[:-1]] == [r[column] for r in plain.rows[:-1]]
    assert run.final["loss"] == pytest.approx(float(FIT.value(run.params)), rel=1e-12)
    assert run.final["loss"] != plain.final["loss"]


def test_metrics_of_a_row_are_of_the_average():
    metrics = {"x": lambda p: p["x"]}
    run = rv.minimize(LINE, ZERO, Averaged(WALK, Uniform()), budget=rv.Budget(steps=4), metrics=metrics)
    assert [r["metrics.x"] for r in run.rows] == [0.0, -1.0, -1.5, -2.0, -2.5]
    assert [r["loss"] for r in run.rows] == [0.0, -1.0, -2.0, -3.0, -2.5]


def test_a_target_is_met_by_what_is_returned():
    """The iterate passes 7 after three steps, the mean after five."""
    high = Scalar(lambda p: p["x"] + 10.0)
    run = rv.minimize(high, ZERO, Averaged(WALK, Uniform()), budget=rv.Budget(steps=40), target={"loss": 7.0})
    assert run.status == "reached_target" and run.steps == 5
    assert float(run.params["x"]) == -3.0 and run.final["loss"] == 7.0


def test_the_next_stage_starts_from_the_average():
    run = rv.minimize(LINE, ZERO, rv.Stages((Averaged(WALK, Uniform()), 3), WALK), budget=rv.Budget(steps=5))
    assert [r["loss"] for r in run.rows] == [0.0, -1.0, -2.0, -2.0, -3.0, -4.0]


def rough(p, x):
    """Zero between 24 grid points only: every look of a guard sounds its alarm."""
    return p["b"] - 1.0 + 10.0 * jnp.sin(23 * jnp.pi * (x[0] + 1) / 2) * p["w"]


def test_an_iterate_the_guard_returns_is_the_average_of_its_step():
    """The run diverges and stands by an earlier look: one readout, not earlier parameters with the last average."""
    fit = LeastSquares({"fit": Term(rough, np.linspace(-1.0, 1.0, 24)[:, None])})
    draw = lambda seed, sizes: {"fit": np.random.default_rng(seed).uniform(-1, 1, (sizes["fit"], 1))}
    run = rv.minimize(
        fit,
        {"b": np.asarray(1.5), "w": np.asarray(0.1)},
        Averaged(m.SGD(2.1, momentum=None), EMA(0.6)),
        budget=rv.Budget(steps=9),
        sampler=rv.sampling.PointGuard(every=2, swap=0.05),
        draw=draw,
        metrics={"b": lambda p: p["b"]},
    )
    returned = run.summary["returned_step"]
    assert 0 < returned < run.steps
    at = {row["step"]: row["metrics.b"] for row in run.rows[:-1]}
    assert float(run.params["b"]) == run.final["metrics.b"] == at[returned]


def test_any_method_from_the_command_lines_spec():
    task = Task("poisson2d", method="lbfgs:5+adam", settings={"lbfgs": {"average": "polyak:2"}, "adam": {"b1": "0.8"}})
    plan = task.arguments()["method"]
    first, second = plan.methods
    assert isinstance(first, Averaged) and isinstance(first.method, m.LBFGS) and first.average == Uniform(2)
    assert second == m.Adam(b1=0.8)
    assert parse("averaged", {"averaged": {"average": EMA(0.5)}}).method == Averaged(average=EMA(0.5))


def test_needs_are_those_of_the_method():
    wrapped = Averaged(m.GaussNewton())
    assert wrapped.needs == m.GaussNewton().needs and wrapped.second_order
    assert Averaged(m.Adam()).guard_every == m.Adam().guard_every
    with pytest.raises(ValueError, match=r"needs (RESIDUAL|COMPOSITE)"):
        rv.minimize(LINE, ZERO, wrapped, budget=rv.Budget(steps=1))


@pytest.mark.parametrize(
    ("text", "average"),
    [
        ("ema:0.99", EMA(0.99)),
        ("ema:0.99,100", EMA(0.99, 100)),
        ("polyak", Uniform()),
        ("polyak:50", Uniform(50)),
        ("swa:100,10", Uniform(100, 10)),
    ],
)
def test_text(text, average):
    assert Average.from_text(text) == average


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("emma:0.9", "there is no average 'emma'; did you mean 'ema'?"),
        ("ema", "write ema:DECAY or ema:DECAY,START, such as ema:0.999,1000."),
        ("ema:fast", "write ema:DECAY or"),
        ("ema:1.5", "EMA: decay must be in (0, 1); got 1.5."),
        ("swa:100", "write swa:START,EVERY, such as swa:1000,100."),
        ("swa:100,0", "Uniform: every must be a whole number, at least 1; got 0."),
        ("polyak:2.5", "Uniform: start must be a whole number, at least 0; got 2.5."),
    ],
)
def test_mistakes_are_one_sentence(text, sentence):
    with pytest.raises(ValueError) as caught:
        typed(m.LBFGS, {"average": text}, "--set lbfgs.", average=Average)
    assert str(caught.value).startswith(f"--set lbfgs.average={text}: {sentence}")


def test_wrong_parts_are_refused():
    with pytest.raises(TypeError, match=r"method must be a ravine method such as Adam\(\)"):
        Averaged("adam")
    with pytest.raises(TypeError, match=r"average must be EMA"):
        Averaged(m.Adam(), "ema")


@pytest.mark.parametrize("method", [m.Adam(), m.LBFGS(), m.STORM(), m.LevenbergMarquardt()])
def test_what_the_driver_asks_of_a_method_the_averaged_one_answers_for_it(method):
    averaged = Averaged(method)
    for name in ("needs", "guard_every", "second_order", "noisy", "batchable"):
        assert getattr(averaged, name) == getattr(method, name), name


def test_no_estimate_of_an_averaged_method_ends_a_run_and_its_memory_meets_no_batches():
    """Rows without a gradient at the start, and one with: a batch of the first looks like an optimum."""
    x = np.concatenate([np.zeros(15), np.ones(1)])[:, None]
    lucky = LeastSquares({"fit": Term(lambda p, x: (p["x"] - 1.0) * x[0], x)})
    run = rv.minimize(lucky, ZERO, Averaged(m.STORM(batch=1)), budget=rv.Budget(steps=20), target=1e-12)
    assert run.status == "budget", run.reason
    assert all(row["grad_norm"] > 0 for row in run.rows[:-1])
    assert any(row["scalars.batch_grad_norm"] == 0 for row in run.rows[:-1])
    with pytest.raises(ValueError, match="Averaged compares gradients of one step"):
        rv.minimize(FIT, start(), Averaged(m.LBFGS()), sampler="minibatch", budget=rv.Budget(steps=1))
