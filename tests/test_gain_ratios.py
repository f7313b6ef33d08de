"""Methods that never compare values, or control the step by how well a model predicts them: AR1, trust region, OFFO."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quadratics import FLAT, LYING, ROSENBROCK, ROSENBROCK_START, SPECTRUM, follow, quadratic, rosenbrock

from ravine.methods import (
    AR1,
    FirstOrderTrustRegion,
    OFFOAdaGrad,
)
from ravine.objective import Scalar
from ravine.types import Status

# -- gain ratios -----------------------------------------------------------------------------------------------


def gain_ratio_in_numpy(method, theta, steps):
    """The loop of the paper: one row per accepted step, (control on entry, trials, ρ, new point)."""
    grad, regularised = jax.grad(rosenbrock), isinstance(method, AR1)
    control = method.sigma if regularised else method.radius
    rows = []
    for _ in range(steps):
        g, entry = np.asarray(grad(theta)), control
        trial = 0
        while True:
            trial += 1
            s = -g / control if regularised else -control * g / np.linalg.norm(g)
            rho = (rosenbrock(theta) - rosenbrock(theta + s)) / -(g @ s)
            if regularised:
                control *= method.increase if not rho >= 0.1 else method.decrease if rho >= 0.75 else 1.0
            else:
                control *= method.shrink if not rho >= 0.25 else method.grow if rho >= 0.75 else 1.0
            if rho >= 0.1:
                break
        theta = theta + s
        rows.append((entry, trial, rho, theta))
    return rows


RATIOS = pytest.mark.parametrize("method", [AR1(), FirstOrderTrustRegion()], ids=lambda m: type(m).__name__)


@RATIOS
def test_the_gain_ratio_keeps_its_books(method):
    path = follow(method, ROSENBROCK, ROSENBROCK_START, 40)
    rows = gain_ratio_in_numpy(method, ROSENBROCK_START, 40)
    controls, trials, rhos, points = (np.array(column) for column in zip(*rows, strict=True))
    np.testing.assert_allclose(path.infos.scalars[type(method).control_name], controls, rtol=1e-12)
    np.testing.assert_array_equal(path.infos.counts.residual, trials)
    np.testing.assert_allclose(path.infos.scalars["rho"], rhos, rtol=1e-6)
    np.testing.assert_allclose(path.params[1:], points, rtol=0, atol=1e-9)
    assert np.all(np.diff(path.infos.value) < 0) and trials.max() > 1
    if isinstance(method, FirstOrderTrustRegion):
        factors = np.log2(path.infos.step_norm)
        np.testing.assert_allclose(factors, np.round(factors), atol=1e-9)  # every radius is a power of two here


def test_sigma_settles_near_the_curvature():
    q = quadratic(np.full(4, 7.0))
    for first in (1e-6, 1e6):
        path = follow(AR1(sigma=first, max_trials=60), q.objective, np.zeros(4), 60)
        sigma = path.states.control[path.infos.grad_norm.argmin()]
        assert 7 / (2 * 0.9) <= sigma <= 14.0


@RATIOS
def test_where_all_trials_fail_the_control_survives(method):
    path = follow(method, LYING, FLAT, 2)
    assert np.all(path.infos.status == Status.REJECTED) and np.all(path.params == path.params[0])
    assert np.all(path.infos.counts.residual == method.max_trials)
    factor = 2.0**30 if isinstance(method, AR1) else 0.5**30
    np.testing.assert_allclose(path.states.control[1], factor)


# -- free of the objective -------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [0.5, 0.3])
def test_offo_is_its_recurrence(exponent):
    q = quadratic(SPECTRUM)
    method = OFFOAdaGrad(learning_rate=0.3, initial=0.05, exponent=exponent)
    path = follow(method, q.objective, np.zeros(15), 100)
    theta, v = np.zeros(15), np.full(15, 0.05)
    for k in range(100):
        g = q.matrix @ (theta - q.solution)
        v = v + g * g
        theta = theta - 0.3 * g / v**exponent
        np.testing.assert_allclose(path.params[k + 1], theta, rtol=0, atol=1e-11)
    assert np.linalg.norm(theta - q.solution) < 0.5 * np.linalg.norm(q.solution)


@jax.custom_jvp
def _noisy(theta, matrix, solution):
    """The quadratic's gradient with a value that has nothing to do with it."""
    return 1e6 * jnp.sin(1e9 * jnp.sum(theta))


@_noisy.defjvp
def _(primals, tangents):
    theta, matrix, solution = primals
    return _noisy(*primals), (theta - solution) @ matrix @ tangents[0]


def test_offo_never_compares_a_value():
    at = {}
    for lowest in (0.0, 1e3):
        q = quadratic(SPECTRUM, lowest=lowest)
        at[lowest] = follow(OFFOAdaGrad(), q.objective, np.zeros(15), 50)
    reference, shifted = at.values()
    np.testing.assert_array_equal(shifted.params, reference.params)
    np.testing.assert_allclose(shifted.infos.value - 1e3, reference.infos.value, rtol=1e-9, atol=1e-9)
    noisy = Scalar(lambda theta, batch: _noisy(theta, *batch), (q.matrix, q.solution))
    path = follow(OFFOAdaGrad(), noisy, np.zeros(15), 50)
    np.testing.assert_allclose(path.params, reference.params, rtol=0, atol=1e-12)
    assert np.abs(path.infos.value).max() > 1e5 and np.all(path.infos.status == Status.OK)


def test_offo_rejects_a_point_outside_the_domain_and_halves_the_next_step():
    wall = Scalar(lambda x: jnp.sum(-jnp.sqrt(x) + x))
    path = follow(OFFOAdaGrad(learning_rate=8.0), wall, [4.0], 12)
    rejected = path.infos.status == Status.REJECTED
    assert rejected[0] and not rejected.all() and path.infos.step_norm[0] == 0
    lengths = 8.0 * path.states.grad / np.sqrt(path.states.weights + path.states.grad**2)  # of the steps that are tried
    np.testing.assert_allclose(lengths[1], lengths[0] / 2)
    assert np.all(path.params > 0)
