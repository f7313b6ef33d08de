"""Every way a run can end: a status, a sentence with its numbers, and one suggested next move."""

import re

import equinox as eqx
import jax
import numpy as np
import pytest
from small import DECAY, DECAY_START, FIT, POINTS, SCALAR, decay, network, residual, start, steady

import ravine as rv
from ravine import methods as m
from ravine.driver import engine
from ravine.driver.loop import Loop
from ravine.driver.run import STATUSES
from ravine.driver.verdict import FLOOR, SPURIOUS
from ravine.method import Method
from ravine.objective import LeastSquares, Scalar, Term
from ravine.types import Info, Status, Step, counts

jnp = jax.numpy
STEPS = rv.Budget(steps=60)


class Scripted(Method):
    """A method whose every step has the given outcome: what the driver makes of it is under test."""

    outcome: int = eqx.field(static=True, default=Status.OK)
    length: float = 0.0
    predicted: float = 1.0
    after: int = eqx.field(static=True, default=0)  # steps of length 1e-3 before the outcome sets in

    def init(self, objective, params, *, key):
        return jnp.zeros((), jnp.int32)

    def step(self, objective, params, state, *, key):
        value, grad = objective.value_and_grad(params)
        early = state < self.after
        length = jnp.where(early, 1e-3, self.length)
        moved = jax.tree.map(lambda x: x + length / jnp.sqrt(x.size), params)
        info = Info(
            value=value,
            grad_norm=jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(grad))),
            step_norm=jnp.abs(length) * jnp.sqrt(1.0 * len(jax.tree.leaves(params))),
            status=jnp.where(early, Status.OK, self.outcome).astype(jnp.int32),
            counts=counts(residual=1, vjp=1),
            scalars={"predicted": jnp.asarray(self.predicted, value.dtype), "damping": jnp.asarray(1e12, value.dtype)},
        )
        return Step(moved, state + 1, info)


class Vanish(Method):
    """Steps so far along the first axis that the gradient falls by 1e-10 at once, and then stands."""

    def init(self, objective, params, *, key):
        return jnp.zeros((), jnp.int32)

    def step(self, objective, params, state, *, key):
        value, grad = objective.value_and_grad(params)
        new = jnp.where(state == 0, 1e-10 * params, params)
        norm = lambda x: jnp.sqrt(jnp.sum(x**2))
        info = Info(value, norm(grad), norm(new - params), jnp.asarray(Status.OK, jnp.int32), counts(residual=1), {})
        return Step(new, state + 1, info)


ONE_ZERO = {"a": np.ones(()), "c": np.zeros(())}


def ends(run, status, *words):
    assert run.status == status in STATUSES
    for word in words:
        assert re.search(word, run.reason), run.reason
    assert run.reason.endswith(".") and run.suggestion.endswith((".", "?"))
    assert re.search(r"\d", run.reason) or status == "failed"
    assert "nan" not in run.reason or status in ("failed", "diverged")
    return run


# -- success ---------------------------------------------------------------------------------------------------


def test_target():
    run = rv.minimize(FIT, start(), "lm", budget=STEPS, target={"loss": 1e-6})
    ends(run, "reached_target", r"Target reached at step \d+ after .* s: loss [\d.e-]+ <= 1\.00e-06")


def test_gradient():
    run = rv.minimize(Scalar(lambda p: jnp.sum(p**2)), np.ones(3), "lbfgs", budget=STEPS)
    ends(run, "converged", "gradient vanishes to rounding at step", "gradient norm")


# -- stalls ----------------------------------------------------------------------------------------------------


def test_rejected_in_a_row():
    run = rv.minimize(FIT, start(), Scripted(Status.REJECTED, after=3), budget=STEPS)
    ends(run, "stalled", r"20 steps in a row were rejected at step 23", r"loss [\d.]+e", r"damping 1\.0e\+12")
    assert run.steps == 3 + engine.MAX_REJECTED


def test_rejected_because_nothing_is_left():
    run = rv.minimize(FIT, start(), Scripted(Status.REJECTED, predicted=1e-15), budget=STEPS)
    ends(run, "converged", r"predicts a decrease of only 1\.0e-15 of the loss, below rounding")


def test_linear_solves_count_as_rejections():
    ends(rv.minimize(FIT, start(), Scripted(Status.LINEAR_SOLVE), budget=STEPS), "stalled", "20 steps in a row")


def test_no_descent():
    run = rv.minimize(FIT, start(), Scripted(Status.NO_DESCENT), budget=STEPS)
    ends(run, "stalled", r"line search failed 3 times in a row at step 3: loss .*gradient norm")


def test_a_failing_line_search_of_a_real_method():
    """A gradient that points the wrong way: no step along it decreases the value."""

    @jax.custom_vjp
    def wrong(p):
        return jnp.sum(p**2)

    wrong.defvjp(lambda p: (wrong(p), p), lambda p, g: (-2 * g * p,))
    run = rv.minimize(Scalar(lambda p: wrong(p)), np.ones(3), "lbfgs", budget=STEPS)
    ends(run, "stalled", "line search failed 3 times")
    np.testing.assert_array_equal(run.params, np.ones(3))


def test_tiny_steps():
    run = rv.minimize(FIT, start(), Scripted(length=1e-18, after=2), budget=STEPS)
    ends(run, "stalled", "Step too small: 20 steps in a row were below rounding of the parameters")
    assert run.steps == 2 + engine.MAX_TINY


def test_tiny_steps_at_the_solution():
    run = rv.minimize(Scalar(lambda p: jnp.sum(p**2)), np.asarray([1.0, 0.0]), Vanish(), budget=STEPS)
    ends(run, "converged", "Step too small: 20 steps in a row")
    assert "curvature" not in run.suggestion and "not more steps" in run.suggestion


# -- scaling ---------------------------------------------------------------------------------------------------


def line(params, x):
    """Its residual stays: the best line through a parabola."""
    return params["a"] * x[0] + jnp.sin(params["c"]) - x[0] ** 2


def there(run):
    """The first step whose loss is the last one but for a millionth, or a residual of rounding."""
    limit = max(run.final["loss"] * (1 + 1e-6), 1e-26 * run.rows[0]["loss"])
    return next(row["step"] for row in run.rows if row["loss"] <= limit)


@pytest.mark.parametrize("method", ["lm", "lbfgs"])
@pytest.mark.parametrize("case", ["zero", "curved", "kept"])
def test_the_scale_of_the_loss_changes_no_verdict(method, case):
    """The gradient test is free of scale: a small loss is not met at once, a large one at last."""
    fn, points, first = {
        "zero": (decay, DECAY.parts["data"].points, DECAY_START),
        "curved": (lambda p, x: (p["a"] - 1.5) * x[0] + jnp.sin(p["c"] - 1), POINTS, ONE_ZERO),
        "kept": (line, POINTS, ONE_ZERO),
    }[case]
    runs = {}
    for weight in (1e-20, 1.0, 1e10):
        of = LeastSquares({"r": Term(fn, points, weight=weight)})
        runs[weight] = rv.minimize(of, first, method, budget=rv.Budget(steps=100))
    plain = runs[1.0]
    for weight, run in runs.items():
        assert run.status == plain.status == "converged", run
        assert abs(there(run) - there(plain)) <= 5, run
        # A last step that rounding would reject may or may not be lucky: a run ends at once or after so many of them.
        assert abs(run.steps - plain.steps) <= 5 + engine.MAX_REJECTED, run
        np.testing.assert_allclose(run.final["loss"] / weight, plain.final["loss"], rtol=1e-12, atol=1e-31)
    assert (plain.final["loss"] < 1e-28) == (case != "kept")


def test_a_gradient_that_falls_by_fifteen_decades_ends_no_run():
    """A steep start: the gradient is 1e-15 of the first one long before the residuals are."""
    of = LeastSquares({"r": Term(lambda p, x: jnp.exp(p) - 1.0, POINTS)})
    run = rv.minimize(of, np.asarray(20.0), "lm", budget=rv.Budget(steps=200))
    assert run.status == "converged" and run.rows[0]["grad_norm"] > 1e17
    assert abs(float(run.params)) < 1e-15 and run.final["grad_norm"] < 1e-32 * run.rows[0]["grad_norm"]


def test_the_scale_of_the_gradient_survives_a_resume(tmp_path):
    of = LeastSquares({"r": Term(line, POINTS, weight=1e-20)})
    rv.minimize(of, ONE_ZERO, "lbfgs", budget=rv.Budget(steps=4), checkpoint=tmp_path)
    whole = rv.minimize(of, ONE_ZERO, "lbfgs", budget=STEPS, checkpoint=tmp_path)
    unbroken = rv.minimize(of, ONE_ZERO, "lbfgs", budget=STEPS)
    assert "gradient vanishes" in unbroken.reason and whole.reason == unbroken.reason
    assert steady(whole.rows) == steady(unbroken.rows)


def test_a_zero_gradient_at_the_start():
    """Nothing was trained: that is no success, unless nothing was left to do."""
    run = rv.minimize(FIT, {k: np.zeros(8) for k in "wcb"}, "lbfgs", budget=STEPS)
    ends(run, "stalled", "gradient is exactly 0 at the starting parameters, so nothing can be trained")
    assert "Does the loss depend on the parameters" in run.suggestion
    ends(
        rv.minimize(Scalar(lambda p: p @ p), np.zeros(2), "lbfgs", budget=STEPS), "converged", "vanishes .* at step 1:"
    )


def test_numbers_that_are_none_are_named_where_they_were_given():
    bad = start() | {"c": np.r_[np.nan, np.ones(7)]}
    run = rv.minimize(FIT, bad, "adam", budget=STEPS)
    ends(run, "failed", r"There are numbers that are not finite in params\['c'\]\.")
    points = np.where(POINTS > 0.9, np.inf, POINTS)
    run = rv.minimize(LeastSquares({"fit": Term(residual, points)}), start(), "adam", budget=STEPS)
    ends(run, "failed", "not finite in the points of the term 'fit'")


# -- not a number ----------------------------------------------------------------------------------------------


def test_not_finite_at_the_start():
    of = LeastSquares({"good": Term(residual, POINTS), "bad": Term(lambda p, x: jnp.log(-(p["w"][0] ** 2)), POINTS)})
    run = rv.minimize(of, start(), "adam", budget=STEPS)
    ends(run, "failed", r"not finite at the starting parameters \(loss nan\) in the term bad")
    assert "Evaluate each residual" in run.suggestion and len(run.rows) == 2


def test_not_finite_later():
    of = Scalar(lambda p: jnp.sqrt(p) - 1.0)  # gradient descent walks out of the domain
    run = rv.minimize(of, np.asarray(0.02), m.SGD(5e-2, momentum=None), budget=STEPS)
    ends(run, "diverged", r"became non-finite at step \d+ \(loss nan\)")
    assert run.steps > 1 and "learning rate" in run.suggestion


def test_divergence_keeps_the_numbers():
    run = rv.minimize(Scalar(lambda p: jnp.exp(p) + p**4), np.asarray(3.0), m.SGD(1.0), budget=STEPS)
    ends(run, "diverged", "non-finite")
    assert len(run.rows) == run.steps + 1


# -- budget and interruption -----------------------------------------------------------------------------------


def test_budget_while_falling_and_while_not():
    falling = ends(
        rv.minimize(FIT, start(), "lm", budget=rv.Budget(steps=12)), "budget", "Budget of 12 steps spent at step 12"
    )
    assert "fell by a factor of" in falling.reason and "larger budget helps" in falling.suggestion
    still = ends(rv.minimize(FIT, start(), m.SGD(1e-9), budget=rv.Budget(steps=20)), "budget", "by a factor of 1 over")
    assert "switch method" in still.suggestion
    slow = m.LevenbergMarquardt(damping=1e12)
    deep = ends(rv.minimize(FIT, start(), slow, budget=rv.Budget(steps=20)), "budget", "over the second half")
    assert "use a larger network or more points" in deep.suggestion, "it is the method that others are sent to"
    one = ends(rv.minimize(FIT, start(), m.SGD(1e-9), budget=rv.Budget(steps=1)), "budget", "Budget of 1 step spent at")
    assert "So few steps show no trend" in one.suggestion


def test_a_loss_that_rose_is_not_said_to_fall():
    bowl = Scalar(lambda p: 0.5 * p @ p)
    beyond = m.GradientDescent(rule="fixed", learning_rate=2.05)  # each step multiplies the loss by 1.05²
    run = rv.minimize(bowl, np.ones(2), beyond, budget=rv.Budget(steps=10))
    assert run.status == "budget" and "the loss rose by a factor of 1.63 over the second half" in run.reason


def test_an_energy_below_zero_is_not_said_to_fall():
    run = rv.minimize(Scalar(lambda p: jnp.sum(p**2) - 9), np.ones(2), m.SGD(1e-9), budget=rv.Budget(steps=9))
    assert "factor" not in run.reason and "still falling" not in run.suggestion


def test_callback():
    run = rv.minimize(FIT, start(), "adam", budget=STEPS, callbacks=[lambda row, p: row["step"] == 4])
    ends(run, "interrupted", "A callback asked to stop at step 5")


def test_keyboard_interrupt():
    def press(row, params):
        if row["step"] == 4:
            raise KeyboardInterrupt

    run = rv.minimize(FIT, start(), "adam", budget=STEPS, callbacks=[press])
    ends(run, "interrupted", "Interrupted at step 5: loss")
    assert run.final["status"] == "closing" and np.isfinite(run.final["loss"])
    assert [row["step"] for row in run.rows] == [0, 1, 2, 3, 4, 5]


def test_keyboard_interrupt_while_compiling(monkeypatch, tmp_path):
    def press(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "compile", press)
    run = rv.minimize(FIT, start(), "adam", budget=STEPS, checkpoint=tmp_path)
    ends(run, "interrupted", "Interrupted at step 0", "loss not computed")
    assert run.final["loss"] is None
    np.testing.assert_array_equal(run.params["w"], start()["w"])
    monkeypatch.undo()
    assert rv.minimize(FIT, start(), "adam", budget=rv.Budget(steps=3), checkpoint=tmp_path).steps == 3


def test_an_error_in_a_callback_is_the_callers():
    def broken(row, params):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        rv.minimize(FIT, start(), "adam", budget=STEPS, callbacks=[broken])


def test_errors_inside_a_residual_are_the_callers():
    def broken(params, x):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        rv.minimize(LeastSquares({"fit": Term(broken, POINTS)}), start(), "adam", budget=STEPS)


# -- the points ------------------------------------------------------------------------------------------------

FEW = POINTS[::4]  # 6 points, 24 parameters: fitted exactly, and wrong between them


def wave(x):
    """Zero at the 24 grid points, not between them."""
    return jnp.sin(23 * jnp.pi * (x[0] + 1) / 2)


def draw(seed, sizes):
    return {"fit": np.random.default_rng(seed).uniform(-1, 1, (sizes["fit"], 1))}


def test_a_spurious_solution_is_named():
    run = rv.minimize(LeastSquares({"fit": Term(residual, FEW)}), start(), "lm", budget=rv.Budget(steps=80), draw=draw)
    assert run.summary["q"] >= SPURIOUS
    assert re.search(r"spurious solution.*fresh points is q = \d\.\de\+\d+ times", run.reason), run.reason
    assert "sampler 'guard'" in run.suggestion
    error = run.evaluate(lambda p, x: network(p, x) - jnp.sin(3 * x[0]), np.linspace(-1, 1, 201)[:, None])
    assert np.sqrt(np.mean(error**2)) > 1e3 * np.sqrt(2 * run.final["loss"])  # it is spurious indeed


def test_a_sampling_floor_is_named():
    of = LeastSquares({"fit": Term(lambda p, x: p + 10 * wave(x), POINTS)})  # mean squares 1 here, 51 everywhere
    run = rv.minimize(of, np.asarray(1.0), m.SGD(1e-9), budget=rv.Budget(steps=2), draw=draw)
    assert 45 < run.summary["q"] < 57 and FLOOR < run.summary["q"] < SPURIOUS
    assert re.search(r"Sampling floor: .* is q = \d\d\.\d times", run.reason) and "more points" in run.suggestion


def test_enough_points_raise_no_alarm():
    run = rv.minimize(FIT, start(), "lm", budget=rv.Budget(steps=12), draw=draw)
    assert run.summary["q"] < FLOOR
    assert "spurious" not in run.reason and "Sampling" not in run.reason


def test_two_roundings_make_no_verdict():
    """An exactly solvable fit: residuals are rounding on training points and fresh ones, their ratio means nothing."""
    of = LeastSquares({"fit": Term(lambda p, x: p[0] + p[1] * x[0] - 1.0 - 2.0 * x[0], POINTS[::8])})
    run = rv.minimize(of, np.zeros(2), "lm", budget=rv.Budget(steps=80), draw=draw)
    assert run.final["loss"] < 1e-26
    assert "spurious" not in run.reason and "Sampling" not in run.reason, run.reason


def test_the_returned_iterate_is_the_best_on_fresh_points():
    """A walk from 0 to 2 past the solution 1, with points that move: the run stands by where it was best."""
    of = LeastSquares({"fit": Term(lambda p, x: p - 1.0 + 0.1 * wave(x), POINTS)})
    walk = Scripted(length=0.1)
    guard = rv.sampling.PointGuard(every=2)
    run = rv.minimize(of, np.asarray(0.0), walk, budget=rv.Budget(steps=20), sampler=guard, draw=draw)
    assert run.summary["points_moved"] > 0
    assert run.summary["returned_step"] == 10 and run.steps == 20
    np.testing.assert_allclose(run.params, 1.0, rtol=1e-12)
    assert "The iterate returned is that of step 10, which has the lowest residual on fresh points." in run.reason
    assert run.final["loss"] < 0.01 < run.rows[-2]["loss"]
    fixed = rv.minimize(of, np.asarray(0.0), walk, budget=rv.Budget(steps=20), draw=draw)
    np.testing.assert_allclose(fixed.params, 2.0, rtol=1e-12)  # points that stay: the last iterate


def test_a_target_is_met_by_the_iterate_returned():
    """The walk again, with a target that only its last iterate meets, where fresh points know a better one."""
    of = LeastSquares({"fit": Term(lambda p, x: p - 1.0 + 0.1 * wave(x), POINTS)})
    options = {"sampler": rv.sampling.PointGuard(every=2), "draw": draw, "metrics": {"m": lambda p: 1.0 / (p + 1e-3)}}
    run = rv.minimize(of, np.asarray(0.0), Scripted(length=0.1), target={"m": 0.55}, budget=STEPS, **options)
    assert run.summary["points_moved"] > 0 and run.summary["returned_step"] == run.steps > 10
    ends(run, "reached_target", r"m 5\.\d\de-01 <= 5\.50e-01")
    assert run.final["metrics.m"] <= 0.55


def test_scalar_objectives_have_no_q():
    run = rv.minimize(SCALAR, start(), "adam", budget=rv.Budget(steps=3), draw=draw)
    assert run.summary["q"] is None
