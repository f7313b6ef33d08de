"""Samplers and draws that are refused, in a sentence and before anything compiles, and what they accept."""

import jax
import numpy as np
import pytest
from small import DECAY, DECAY_START, FIT, POINTS, SCALAR, residual, start
from test_sampling import draw

from ravine import Budget, LeastSquares, Points, Term, minimize
from ravine.driver import engine
from ravine.sampling import Fresh, PointGuard, ResidualAdaptive

jnp = jax.numpy


@pytest.mark.parametrize(
    "call, words",
    [
        (
            lambda: minimize(FIT, start(), "adam", sampler=Fresh()),
            "Fresh has no source of fresh points here; pass draw=",
        ),
        (lambda: minimize(SCALAR, start(), "adam", sampler=PointGuard(), draw=draw), "PointGuard needs residual rows"),
        (lambda: minimize(SCALAR, start(), "adam", sampler=ResidualAdaptive(), draw=draw), "ResidualAdaptive needs"),
        (lambda: minimize(SCALAR, start(), "adam", sampler=Fresh(), draw=draw), "Fresh needs named terms .* use Fixed"),
        (lambda: Fresh(every=0), r"Fresh\(every=0\): must be a positive number of steps"),
        (lambda: PointGuard(threshold=1.0), "need threshold > 1"),
        (lambda: PointGuard(swap=0.0), "swap in"),
        (lambda: ResidualAdaptive(power=0.0, constant=0.0), "not both zero"),
        (lambda: ResidualAdaptive(power=float("nan")), "nonnegative and finite"),
        (lambda: ResidualAdaptive(constant=float("inf")), "nonnegative and finite"),
        (
            lambda: minimize(
                FIT, start(), "adam", sampler=Fresh(every=1), draw=lambda s, n: {}, budget=Budget(steps=2)
            ),
            r"gave no points for term 'fit'; it gave \[\]",
        ),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def as_points(x, quadrature=None):
    return lambda seed, sizes: {"fit": Points(x, quadrature)}


WEIGHTED = LeastSquares({"fit": Term(residual, POINTS, quadrature=np.full(24, 1 / 24))})
MISDRAWN = {
    "a list of points": (lambda s, n: [POINTS], FIT, TypeError, "must return a dictionary .*; got a list"),
    "too few rows": (
        as_points(POINTS[:7]),
        FIT,
        ValueError,
        r"an array \(7, 1\) of float64; it needs an array \(24, 1\)",
    ),
    "too wide": (
        as_points(np.zeros((24, 2))),
        FIT,
        ValueError,
        r"'fit' an array \(24, 2\) of float64; it needs an array",
    ),
    "other containers": (
        as_points((POINTS, POINTS)),
        FIT,
        ValueError,
        r"a tuple of 2 arrays: .*; it needs an array \(24",
    ),
    "rows as lists": (as_points(POINTS.tolist()), FIT, ValueError, "a list of 24 arrays"),
    "complex": (as_points(POINTS + 0j), FIT, ValueError, "of complex128; it needs an array .* of float64"),
    "weights unasked": (as_points(POINTS, np.ones(24)), FIT, ValueError, r"weights of shape \(24,\); it needs none"),
    "no weights": (as_points(0.5 * POINTS), WEIGHTED, ValueError, r"no quadrature weights; it needs Points\(x, quad"),
    "few weights": (
        as_points(POINTS, np.ones(3)),
        WEIGHTED,
        ValueError,
        r"weights of shape \(3,\); it needs .*\(24,\)",
    ),
}


@pytest.mark.parametrize("case", MISDRAWN)
@pytest.mark.parametrize("sampler", [None, "fresh", "rad", "guard"])
def test_a_draw_of_the_wrong_shape_is_refused_before_anything_compiles(case, sampler):
    source, of, error, words = MISDRAWN[case]
    if of is WEIGHTED and sampler != "fresh":
        pytest.skip("terms with quadrature weights keep their points")
    traces = len(engine.traces)
    with pytest.raises(error, match=words) as caught:
        minimize(of, start(), "adam", sampler=sampler, draw=source)
    assert "\n" not in str(caught.value) and len(engine.traces) == traces


def test_a_draw_whose_shape_changes_later_is_refused():
    calls = []

    def fading(seed, sizes):
        calls.append(seed)
        return {"fit": np.zeros((sizes["fit"], 1 + (len(calls) > 3)))}

    with pytest.raises(ValueError, match=r"array \(24, 2\) of float64; it needs an array \(24, 1\)"):
        minimize(FIT, start(), "adam", sampler=Fresh(every=2), draw=fading, budget=Budget(steps=5))


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_a_draw_in_another_precision_takes_that_of_the_term(dtype):
    source = lambda seed, sizes: {"fit": np.round(9 * draw(seed, sizes)["fit"].x).astype(dtype)}
    minimize(FIT, start(), "adam", budget=Budget(steps=1))
    traces = len(engine.traces)
    run = minimize(FIT, start(), "adam", sampler=Fresh(every=2), draw=source, budget=Budget(steps=5))
    assert run.summary["points_moved"] == 2 and len(engine.traces) == traces


@pytest.mark.parametrize("sampler", ["fresh", Fresh, Fresh()], ids=["name", "class", "instance"])
def test_samplers_are_accepted_in_any_form(sampler):
    run = minimize(FIT, start(), "adam", sampler=sampler, draw=draw, budget=Budget(steps=101))
    assert run.summary["points_moved"] == 1


def test_points_may_be_a_pytree():
    def rows(seed, sizes):
        t = np.random.default_rng(seed).uniform(0, 2, sizes["data"])
        return {"data": (t, 2.0 * np.exp(-1.3 * t))}

    run = minimize(DECAY, DECAY_START, "lm", sampler=Fresh(every=2), draw=rows, budget=Budget(steps=40))
    assert run.summary["points_moved"] > 0
    np.testing.assert_allclose([run.params["a"], run.params["k"]], [2.0, 1.3], rtol=1e-6)
