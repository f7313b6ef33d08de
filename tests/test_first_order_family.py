"""What all first-order methods share: safeguards on nasty functions, a quadratic, a small PINN, wrong options."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quadratics import FLAT, KEY, LYING, follow, quadratic
from small import POINTS, network, start

import ravine as rv
from ravine.driver.precision import floats_to_arrays
from ravine.methods import (
    AR1,
    BarzilaiBorwein,
    FirstOrderTrustRegion,
    GradientDescent,
    HeavyBall,
    Nesterov,
    NonlinearCG,
    OFFOAdaGrad,
    Polyak,
)
from ravine.objective import Scalar
from ravine.types import Status

FAMILY = [
    GradientDescent(),
    GradientDescent(rule="exact"),
    NonlinearCG(),
    BarzilaiBorwein(),
    HeavyBall(),
    Nesterov(),
    Polyak(),
    AR1(),
    FirstOrderTrustRegion(),
    OFFOAdaGrad(),
]


def label(method):
    return f"{type(method).__name__}-{getattr(method, 'rule', '')}".strip("-")


every = pytest.mark.parametrize("method", FAMILY, ids=label)
SPECTRUM = np.logspace(0, 2, 15)  # κ = 100
WALL = Scalar(lambda x: -jnp.sum(jnp.log(x)) + 1e3 * jnp.sum(x) - 3 * (1 + jnp.log(1e3)))
SEARCHES = (GradientDescent, NonlinearCG, BarzilaiBorwein, HeavyBall, Nesterov)


@pytest.mark.parametrize("method", [m for m in FAMILY if isinstance(m, SEARCHES)], ids=label)
def test_a_search_that_fails_along_the_gradient_is_no_descent(method):
    path = follow(dataclasses.replace(method, max_trials=8), LYING, FLAT, 2)
    assert np.all(path.params == path.params[0]) and np.all(path.infos.step_norm == 0)
    assert np.all(path.infos.status == Status.NO_DESCENT)


@every
def test_a_wall_of_nan_is_not_crossed(method):
    """The minimum lies 1e-3 from where the logarithm ends; the first trials of most methods fall beyond."""
    path = follow(method, WALL, [3.0, 2.0, 1.0], 250)
    assert np.all(np.isfinite(path.params)) and np.all(path.params > 0)
    assert np.all(np.isfinite(path.infos.value)) and not np.any(path.infos.status == Status.NONFINITE)
    fast = isinstance(method, (NonlinearCG, BarzilaiBorwein, HeavyBall, Nesterov))
    assert path.infos.value[-1] < (1e-6 if fast else 0.5) * path.infos.value[0]


@every
def test_a_point_whose_gradient_alone_is_not_finite_is_not_taken(method):
    """Below −1 the value is finite and the lowest, and the gradient NaN: no method could go on from there."""
    bowl, beyond = (lambda x: (x + 3) ** 2 / 2), (lambda x: jnp.sqrt(jnp.maximum(x + 1, 0.0)) - 9.0)
    path = follow(method, Scalar(lambda x: jnp.sum(jnp.where(x > -1, bowl(x), beyond(x)))), [2.0, 0.5], 30)
    assert np.all(np.isfinite(path.params)) and np.all(np.isfinite(path.infos.grad_norm))
    assert not np.any(path.infos.status == Status.NONFINITE) and np.any(path.params[-1] < path.params[0])


def test_fixed_steps_to_nan_are_rejected():
    for method in (GradientDescent(rule="fixed", learning_rate=1.0), Nesterov(rule="fixed", learning_rate=1.0)):
        path = follow(method, WALL, [3.0, 2.0, 1.0], 3)
        assert np.all(path.infos.status == Status.REJECTED) and np.all(path.params == path.params[0])


@every
def test_refresh_takes_the_new_objective(method):
    q = quadratic(SPECTRUM)
    path = follow(method, q.objective, np.zeros(15), 5)
    params, state = path.params[-1], jax.tree.map(lambda leaf: jnp.asarray(leaf[-1]), path.states)
    other = quadratic(SPECTRUM, seed=1)
    state = method.refresh(other.objective, jnp.asarray(params), state)
    np.testing.assert_allclose(state.value, other.value(params), rtol=1e-12)
    np.testing.assert_allclose(state.grad, other.matrix @ (params - other.solution), rtol=1e-9, atol=1e-9)
    again = follow(method, other.objective, params, 200, state)
    assert other.value(again.params[-1]) < 0.5 * other.value(params)
    np.testing.assert_allclose(again.infos.value, other.value(again.params[:-1]), rtol=1e-6, atol=1e-12)


THOUSAND = quadratic(np.logspace(-1, 2, 12), seed=2)
FEW = {NonlinearCG: 200, BarzilaiBorwein: 400, HeavyBall: 800, Nesterov: 800}


@every
def test_a_quadratic_of_condition_a_thousand_to_tolerance(method):
    """OFFO with the step length of its paper's analysis scaled to the problem; the others as they are."""
    method = OFFOAdaGrad(learning_rate=1.0) if isinstance(method, OFFOAdaGrad) else method
    first = float(THOUSAND.value(np.zeros(12)))
    steps = FEW.get(type(method), 20000)
    run = rv.minimize(THOUSAND.objective, np.zeros(12), method, target=1e-10 * first, budget=rv.Budget(steps=steps))
    assert run.status == "reached_target", run.reason
    np.testing.assert_allclose(run.params, THOUSAND.solution, atol=1e-3)


def poisson(params, x):
    """-u'' = π² sin πx with u = (1 − x²)N(x): zero at both ends."""
    u = lambda s: network(params, s[None]) * (1 - s**2)
    return jax.grad(jax.grad(u))(x[0]) + jnp.pi**2 * jnp.sin(jnp.pi * x[0])


PINN = rv.LeastSquares({"pde": rv.Term(poisson, POINTS)})


@every
def test_a_small_pinn_learns(method):
    run = rv.minimize(PINN, start(), method, budget=rv.Budget(steps=300))
    assert run.status == "budget", run.reason
    assert run.final["loss"] < 0.05 * run.rows[0]["loss"], run.reason


@pytest.mark.parametrize(
    "make, word",
    [
        (lambda: GradientDescent(rule="exakt"), "did you mean 'exact'"),
        (lambda: GradientDescent(learning_rate=0.0), "learning_rate"),
        (lambda: GradientDescent(c1=1.0), "c1"),
        (lambda: GradientDescent(max_trials=0), "max_trials"),
        (lambda: BarzilaiBorwein(rule="Long"), "did you mean 'long'"),
        (lambda: BarzilaiBorwein(memory=0), "memory"),
        (lambda: BarzilaiBorwein(first_step=-1.0), "first_step"),
        (lambda: HeavyBall(momentum=1.0), "momentum"),
        (lambda: HeavyBall(restart="functions"), "did you mean 'function'"),
        (lambda: Nesterov(momentum=-0.1), "momentum"),
        (lambda: Nesterov(rule="exact"), "rule"),
        (lambda: Polyak(relaxation=2.0), "relaxation"),
        (lambda: Polyak(growth=1.0), "growth"),
        (lambda: AR1(sigma=0.0), "sigma"),
        (lambda: AR1(threshold=0.0), "threshold"),
        (lambda: AR1(decrease=1.5), "decrease"),
        (lambda: AR1(increase=0.5), "increase"),
        (lambda: FirstOrderTrustRegion(radius=-1.0), "radius"),
        (lambda: FirstOrderTrustRegion(shrink=2.0), "shrink"),
        (lambda: FirstOrderTrustRegion(max_trials=1.5), "max_trials"),
        (lambda: OFFOAdaGrad(exponent=1.0), "exponent"),
        (lambda: OFFOAdaGrad(initial=0.0), "initial"),
    ],
)
def test_bad_options_are_named(make, word):
    with pytest.raises(ValueError, match=word):
        make()


def test_one_trace_serves_all_real_options():
    traces = []
    q = quadratic([1.0, 2.0])

    @eqx.filter_jit
    def step(method, params, state):
        traces.append(1)
        return method.step(q.objective, params, state, key=KEY)

    for method, option in ((GradientDescent(), "learning_rate"), (HeavyBall(), "momentum"), (AR1(), "sigma")):
        traces.clear()
        params = jnp.zeros(2)
        for number in (0.5, 0.7):
            tuned = floats_to_arrays(dataclasses.replace(method, **{option: number}), "float64")
            step(tuned, params, tuned.init(q.objective, params, key=KEY))
        assert len(traces) == 1
