"""Mistakes in calls of `minimize` and `solve` get a sentence before anything compiles."""

import math

import jax
import numpy as np
import pytest
from small import FIT, POINTS, l2, residual, start

from ravine import Budget, LeastSquares, Scalar, Term, minimize, models, solve
from ravine import methods as m
from ravine.driver import engine, memory

jnp = jax.numpy


def matrix(params, x):
    return jnp.ones((2, 2)) * params["w"][0]


def coupled(**options):
    return LeastSquares({"fit": Term(lambda p, xs: p["w"][:3] * jnp.sum(xs), POINTS, coupled=True, **options)})


def narrow(p, x):
    return residual(p, x).astype(jnp.float32)


WRONG = {
    "a residual in float32": (
        lambda: minimize(LeastSquares({"fit": Term(narrow, POINTS)}), start(), m.Adam()),
        ValueError,
        "term 'fit': its function returns float32 in a float64 run, so it converts somewhere",
    ),
    "a loss in float16": (
        lambda: minimize(Scalar(lambda p: jnp.sum(p["w"]).astype(jnp.float16)), start(), m.Adam(), precision="float32"),
        ValueError,
        "Scalar: fn returns float16 in a float32 run",
    ),
    "no numbers": (
        lambda: minimize(LeastSquares({"fit": Term(lambda p, x: p["w"][:0], POINTS)}), start(), m.Adam()),
        ValueError,
        r"term 'fit': its function returns no numbers, shape \(24, 0\)",
    ),
    "a trace": (
        lambda: jax.jit(lambda p: minimize(FIT, p, m.Adam(), budget=Budget(steps=1)).params)(start()),
        TypeError,
        "cannot be traced by jit, vmap or grad",
    ),
    "no checkpoint": (lambda: minimize(FIT, start(), checkpoint=3), TypeError, "checkpoint: give the path of a folder"),
    "the name of a term": (lambda: LeastSquares({1: Term(residual, POINTS)}), TypeError, "must be text; got 1"),
    "points in lists": (
        lambda: Term(residual, [[0.0], [1.0]]),
        ValueError,
        "a list is a container of arrays",
    ),
    "several rates": (lambda: m.Adam([1e-3, 1e-4]), TypeError, r"learning_rate must be .*, one number; got \[0.001"),
    "an array of rates": (lambda: m.Adam(np.ones(2)), TypeError, "learning_rate must be .*, one number"),
    "an array of dampings": (lambda: m.LevenbergMarquardt(np.ones(2)), TypeError, "damping must be a number"),
    "a rival": (lambda: minimize(FIT, start(), "scipy/trf"), ValueError, "is of another library"),
    "a function": (lambda: minimize(lambda p: 0.0, start()), TypeError, "objective: got function; wrap it as"),
    "a bare term": (lambda: minimize(Term(residual, POINTS), start()), TypeError, "got Term; wrap it as LeastSquares"),
    "a matrix per row": (
        lambda: minimize(LeastSquares({"fit": Term(matrix, POINTS)}), start(), m.Adam()),
        ValueError,
        r"term 'fit'.*shape \(\) or \(c,\) for one row of points; got shape \(2, 2\)",
    ),
    "a tuple per row": (
        lambda: minimize(LeastSquares({"fit": Term(lambda p, x: (p["w"][0], x), POINTS)}), start(), m.Adam()),
        ValueError,
        "term 'fit'.*got a tuple",
    ),
    "a vector loss": (
        lambda: minimize(Scalar(lambda p: p["w"]), start(), m.Adam()),
        ValueError,
        r"Scalar: fn must return one real number; got shape \(8,\)",
    ),
    "an integer loss": (
        lambda: minimize(Scalar(lambda p: jnp.argmax(p["w"])), start(), m.Adam()),
        ValueError,
        "one real number; got shape .*int",
    ),
    "a budget number": (
        lambda: minimize(FIT, start(), budget=20),
        TypeError,
        r"budget: got 20; write Budget\(seconds=20\)",
    ),
    "a method name": (
        lambda: minimize(FIT, start(), "adm"),
        LookupError,
        "no method called 'adm'; did you mean 'adam'",
    ),
    "no method": (lambda: minimize(FIT, start(), None), TypeError, "method=None: give a ravine method"),
    "a sampler name": (lambda: minimize(FIT, start(), sampler="gard"), LookupError, "'gard'; did you mean 'guard'"),
    "a sampler": (lambda: minimize(FIT, start(), sampler=3), TypeError, r"sampler: got 3; give PointGuard\(\)"),
    "a callback": (lambda: minimize(FIT, start(), callbacks=print), TypeError, "callbacks: give a list of functions"),
    "progress": (lambda: minimize(FIT, start(), progress=True), TypeError, "progress: must be callable; got True"),
    "a metric": (lambda: minimize(FIT, start(), metrics={"l2": 1.0}), TypeError, "l2: must be callable; got 1.0"),
    "a metric called as a column": (
        lambda: minimize(FIT, start(), metrics={"loss": l2}),
        ValueError,
        r"metrics: 'loss' must be text, and no column that every row has \(step, .*, loss, ",
    ),
    "a metric without a name": (lambda: minimize(FIT, start(), metrics={2: l2}), ValueError, "metrics: 2 must be text"),
    "a negative weight": (
        lambda: Term(residual, POINTS, weight=-1.0),
        ValueError,
        "weight must be nonnegative and finite, for it scales squares; got -1",
    ),
    "an infinite weight": (
        lambda: Term(residual, POINTS, weight=math.inf),
        ValueError,
        "weight must be nonnegative and f",
    ),
    "infinite quadrature": (
        lambda: Term(residual, POINTS, quadrature=np.r_[np.ones(23), np.inf]),
        ValueError,
        "quadrature must be nonnegative and finite, .* got 1 to inf",
    ),
    "quadrature of a coupled term": (
        lambda: minimize(coupled(quadrature=np.ones(24)), start(), m.Adam()),
        ValueError,
        r"term 'fit': its coupled function returns 3 rows, so quadrature must have shape \(3,\); got \(24,\)",
    ),
    "weights of a coupled term": (
        lambda: minimize(coupled(weight=np.ones(24)), start(), m.Adam()),
        ValueError,
        r"term 'fit': its coupled function returns 3 rows, so weight must be a scalar or of shape \(3,\); got \(24,\)",
    ),
    "metrics": (lambda: minimize(FIT, start(), metrics=l2), TypeError, "metrics: give a dictionary"),
    "a seed": (lambda: minimize(FIT, start(), seed=-1), ValueError, "seed=-1: must be a nonnegative whole number"),
    "a huge seed": (
        lambda: minimize(FIT, start(), seed=2**70),
        ValueError,
        "seed=1180591620717411303424: .*at most 429",
    ),
    "every": (lambda: minimize(FIT, start(), every=0), ValueError, "every=0: must be a positive whole number"),
    "a checkpoint": (lambda: minimize(FIT, start(), checkpoint=__file__), ValueError, "is a file; give a folder"),
    "no steps": (lambda: Budget(steps=0), ValueError, r"Budget\(steps=0\): must be a positive finite number"),
    "half a step": (lambda: Budget(steps=1.5), ValueError, "must be a whole number of steps"),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_get_a_sentence(case):
    call, error, words = WRONG[case]
    traces = len(engine.traces)
    with pytest.raises(error, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert len(engine.traces) == traces  # refused before anything compiles


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: solve("poisson2d", m.Adam()), r"give a ravine Model.*the method is the third argument: write method="),
        (lambda: solve("poisson2d", "lm"), "write method="),
        (lambda: solve("poisson2d", models.MLP), "model=.*: give a ravine Model"),
        (lambda: solve("poisson2d", sizes=3), "sizes=3: give a dictionary"),
    ],
)
def test_mistakes_of_solve_get_a_sentence(call, words):
    with pytest.raises(TypeError, match=words):
        call()


def test_too_large_for_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 1000)
    with pytest.raises(ValueError, match=r"LevenbergMarquardt would store about .* \(N = 24 rows, P = 24 parameters\)"):
        minimize(FIT, start(), m.LevenbergMarquardt(), budget=Budget(steps=1))
    monkeypatch.setattr(memory, "available", lambda: None)  # cannot be told: the run goes ahead
    assert minimize(FIT, start(), m.LevenbergMarquardt(), budget=Budget(steps=1)).steps == 1
