"""References: the exact formulas solve their equations, the stored data are as accurate as they say.

Allen-Cahn is recomputed here by both committed methods at low resolution, in seconds, and by its own residual.
"""

import importlib
import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ravine.problems.allen_cahn1d import DIFFUSION, AllenCahn1D, initial_value, smoothed_initial_value
from ravine.problems.burgers1d import Burgers1D
from ravine.problems.inverse_burgers1d import InverseBurgers1D
from ravine.problems.reference import STEP, cole_hopf, cole_hopf_slopes, load

SCRIPTS = Path(__file__).parent.parent / "references"
VISCOSITIES = (0.01 / math.pi, 0.01)


@pytest.fixture(scope="module")
def script():
    """The module references/allen_cahn1d.py."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        yield importlib.import_module("allen_cahn1d")
    finally:
        sys.path.remove(str(SCRIPTS))


def scattered(n, lower=(-1.0, 0.0), seed=0):
    return np.random.default_rng(seed).uniform(lower, (1.0, 1.0), (n, 2))


def at_points(fn, points):
    return np.asarray(jax.jit(jax.vmap(fn))(jnp.asarray(points)))


def largest(problem, name, field, points, q=None):
    fn = problem.equations()[name].fn
    return float(jnp.max(jnp.abs(jax.jit(jax.vmap(lambda x: fn(field, x, q or {})))(points))))


# Burgers: Cole-Hopf


@pytest.mark.parametrize("viscosity", VISCOSITIES)
def test_cole_hopf_solves_the_problem(viscosity):
    problem = Burgers1D(viscosity=viscosity)
    layer = scattered(400) * np.array([0.01, 1.0])  # u_xx reaches 1e4 here
    assert largest(problem, "pde", problem.solution, np.concatenate([scattered(400), layer])) < 1e-11
    drawn = problem.sample(0, {"initial": 64, "boundary": 65})
    assert set(drawn["boundary"].x[:, 0]) == {-1.0, 1.0} and np.all(drawn["initial"].x[:, 1] == 0)
    for name in ("initial", "boundary"):
        assert largest(problem, name, problem.solution, drawn[name].x) < 1e-14

    def wrong(x):
        return 1.001 * problem.solution(x)

    assert largest(problem, "pde", wrong, layer) > 1e-3


@pytest.mark.parametrize("viscosity", [1e-4, *VISCOSITIES, 1.0])
def test_quadrature_is_converged_and_host_agrees(viscosity):
    points = np.concatenate([scattered(150), scattered(50) * np.array([0.01, 1.0]), scattered(5) * [1.0, 0.0]])
    host = cole_hopf_slopes(points, viscosity)

    def at(step):
        return at_points(lambda x: cole_hopf(x[0], x[1], viscosity, step), points)

    # rounding of exponents as large as 1/(πν) is what remains
    tolerance = max(1e-14, 2e-17 / viscosity)
    np.testing.assert_allclose(at(STEP), at(STEP / 2), rtol=0, atol=tolerance)
    np.testing.assert_allclose(host[:, 0], at(STEP / 2), rtol=0, atol=tolerance)
    assert np.abs(at(8 * STEP) - host[:, 0]).max() > 1e-9  # the comparison can fail


def test_host_slopes_are_derivatives():
    points = scattered(200, (-1.0, 0.01))
    by_jax = at_points(jax.grad(lambda x: cole_hopf(x[0], x[1], 0.01)), points)
    np.testing.assert_allclose(cole_hopf_slopes(points, 0.01)[:, 1:], by_jax, rtol=0, atol=1e-11)
    # at t = 0 the slopes are the limits of those at small t
    start = np.stack([np.linspace(-1, 1, 9), np.zeros(9)], axis=1)
    np.testing.assert_allclose(
        cole_hopf_slopes(start, 0.01), cole_hopf_slopes(start + np.array([0.0, 1e-9]), 0.01), rtol=0, atol=1e-6
    )


def test_burgers_known_slope():
    """Steepest slope at nu = 0.01/pi: -152.00516 at t = 1.6037/pi (Basdevant et al. 1986)."""
    slope = cole_hopf_slopes(np.array([[0.0, 1.6037 / math.pi]]), 0.01 / math.pi)[0, 1]
    assert abs(slope + 152.00516) < 1e-4


def test_burgers_metrics_vanish_for_the_solution_only():
    problem = Burgers1D()
    metrics = problem.metrics()
    assert next(iter(metrics)) == "l2" and problem.test_points().shape == (25_700, 2)
    few = {k: type(m)(*(np.asarray(a)[::97] for a in jax.tree.leaves(m))) for k, m in metrics.items()}
    for name, metric in few.items():
        errors = jax.jit(lambda s, m=metric: m(lambda x: s * problem.solution(x), {}))
        assert float(errors(1.0)) < 1e-12, name
        np.testing.assert_allclose(float(errors(1.01)), 0.01, rtol=1e-9)


@pytest.mark.parametrize("viscosity", [0.0, -1.0, 5e-5, 2.0, math.nan, "0.01"])
def test_viscosity_is_checked(viscosity):
    for problem in (Burgers1D, InverseBurgers1D):
        with pytest.raises(ValueError, match="viscosity must be a number from 1e-4 to 1"):
            problem(viscosity=viscosity)


# Allen-Cahn: stored


def test_allen_cahn_initial_value_symmetry_and_period():
    problem = AllenCahn1D()
    x = scattered(200)
    np.testing.assert_array_equal(problem.exact(x), problem.exact(x * [-1.0, 1.0]))
    np.testing.assert_allclose(problem.exact(x), at_points(problem.solution, x), rtol=0, atol=1e-14)
    drawn = problem.sample(0)
    assert largest(problem, "initial", problem.solution, drawn["initial"].x) == 0.0
    # continuous at t = 0: the representation, not the formula, a moment later
    soon = drawn["initial"].x + np.array([0.0, 1e-9])
    assert np.abs(problem.exact(soon) - problem.exact(drawn["initial"].x)).max() < 2e-5
    late = drawn["periodic"].x[drawn["periodic"].x[:, 1] > 1e-3]
    assert largest(problem, "periodic", problem.solution, late) < 1e-7  # u_x = 0 from both sides


def test_allen_cahn_residual():
    problem = AllenCahn1D()
    points = scattered(2000, (-1.0, 0.1))
    points = points[np.abs(points[:, 0]) <= 0.98]
    kink = np.array([1.0, 0.0]) + scattered(500, (0.0, 0.01)) * [-0.02, 1.0]

    @jax.jit
    def residual(scale, x):
        return jax.vmap(lambda p: problem.pde(lambda y: scale * problem.solution(y), p, {}))(x)

    true = np.abs(residual(1.0, np.concatenate([points, kink])))
    # the terms are of size 5; D u_xx loses up to six digits of the coefficients' 3e-14
    assert true[: len(points)].max() < 1e-8
    assert true.max() < 1e-5
    assert np.abs(residual(1.0001, np.concatenate([points, kink]))).max() > 1e-4


def test_allen_cahn_recomputed_by_elements(script):
    """A coarser mesh and a looser integrator, 1 s: within its own error of the stored values, and not the same."""
    times, x = np.linspace(0.0, 1.0, 11), np.linspace(0.0, 1.0, 129)
    mesh, values = script.by_elements(times, wall=6, front=1, degree=14, rtol=1e-9)
    ours = script.interpolate(mesh, values, x)
    stored = stored_on(times, x)
    assert 0 < np.abs(ours - stored)[1:].max() < 1e-7


def test_allen_cahn_recomputed_by_cosines(script):
    """Another method and another code path: 1024 modes, ETDRK4."""
    times, x = np.linspace(0.0, 1.0, 11), np.linspace(0.0, 1.0, 129)
    ours = script.cosine_values(script.by_cosines(1024, 1e-3, 1000, 100), x)
    difference = ours - stored_on(times, x)
    # the first tenth of a second is where the truncated kink shows
    assert 0 < np.abs(difference)[1:, x <= 0.98].max() < 1e-8


def test_allen_cahn_error_estimate_is_stated():
    error = AllenCahn1D().reference_error()
    assert 0 < error["l2"] < 1e-11 and 0 < error["l2_full"] < 1e-11 and error["largest"] < 1e-5
    stored = load("allen_cahn1d")
    assert stored.coefficients.dtype == np.float64
    # the last coefficients of every element have decayed, except in the corner element at (x, t) = (1, 0)
    tail = np.abs(stored.coefficients)[:, :, -1, :].max(axis=2) + np.abs(stored.coefficients)[:, :, :, -1].max(axis=2)
    assert tail[:, 1:].max() < 1e-11 and tail[:-1, 0].max() < 1e-6


def test_allen_cahn_scores():
    problem = AllenCahn1D()
    points = problem.test_points()
    assert np.abs(points[:, 0]).max() <= 0.98 and points[:, 1].min() >= 0.1 - 1e-12 and len(points) == 251 * 91
    assert len(problem.full_grid()) == 257 * 101
    metrics = problem.metrics()
    assert list(metrics)[:2] == ["l2", "l2_full"]

    def only_early(x):  # wrong before t = 0.05 only: the main score must not see it, the other must
        return problem.solution(x) + jnp.where(x[1] < 0.05, 0.1, 0.0)

    l2, full = (float(jax.jit(lambda m=metrics[k]: m(only_early, {}))()) for k in ("l2", "l2_full"))
    assert l2 < 1e-12 < 1e-3 < full


def test_smoothed_initial_value_is_the_heat_layer():
    """w_t = D w_xx, no slope at the ends for t > 0, and the initial value as t -> 0."""
    x = scattered(300, (-1.0, 1e-3))

    def layer(p):
        return (smoothed_initial_value(p) - initial_value(p))[0]

    rate = at_points(lambda p: jax.grad(layer)(p)[1] - DIFFUSION * jax.hessian(layer)(p)[0, 0], x)
    assert np.abs(rate).max() < 1e-12
    assert np.abs(at_points(layer, x)).max() > 1e-4
    slope = jax.jit(jax.grad(lambda p: smoothed_initial_value(p)[0]))(jnp.array([1.0 - 1e-12, 0.3]))[0]
    assert abs(float(slope)) < 1e-9
    assert np.abs(at_points(layer, x * np.array([1.0, 0.0]))).max() < 1e-14
    hard = AllenCahn1D(hard=True)
    assert hard.default_model().imposes == {"initial", "periodic"}
    field = hard.default_model().field(hard.default_model().init(0))
    drawn = hard.sample(0)
    assert largest(hard, "initial", field, drawn["initial"].x) < 1e-14
    assert largest(hard, "periodic", field, drawn["periodic"].x[:32]) < 1e-9


def stored_on(times, x):
    t, y = np.meshgrid(times, x, indexing="ij")
    return AllenCahn1D().exact(np.stack([y.ravel(), t.ravel()], axis=1)).reshape(len(times), len(x))


# Inverse Burgers


def test_inverse_residuals_vanish_at_the_true_coefficients():
    problem = InverseBurgers1D()
    drawn = problem.sample(0, {"pde": 256, "data": 256})
    truth = problem.true_coefficients()
    assert truth == {"lambda1": 1.0, "lambda2": 0.01 / math.pi}
    assert largest(problem, "pde", problem.solution, drawn["pde"].x, truth) < 1e-11
    assert largest(problem, "data", problem.solution, drawn["data"].x, truth) < 1e-13
    for name in truth:
        assert largest(problem, "pde", problem.solution, drawn["pde"].x, truth | {name: 1.01 * truth[name]}) > 1e-3


def test_inverse_data_follow_the_key_and_the_noise_level():
    noisy, clean = InverseBurgers1D(noise=0.01), InverseBurgers1D()
    a, again, other = (noisy.sample(k)["data"].x for k in (0, 0, 1))
    np.testing.assert_array_equal(a["u"], again["u"])
    assert not np.array_equal(a["x"], other["x"]) and not np.array_equal(a["u"], other["u"])
    exact = clean.sample(0)["data"].x  # same places, no noise
    np.testing.assert_array_equal(a["x"], exact["x"])
    assert exact["u"].shape == (2000, 1) and exact["x"].shape == (2000, 2)
    level = np.std(a["u"] - exact["u"]) / np.std(exact["u"])
    assert abs(level - 0.01) < 4 * 0.01 / math.sqrt(2 * 2000)  # four standard errors of a standard deviation
    assert noisy.measured == {"data"}
    assert largest(noisy, "data", noisy.solution, a, {}) <= noisy.accuracy()["data"]


def test_inverse_scores_and_unknowns():
    problem = InverseBurgers1D(viscosity=0.01)
    metrics = problem.metrics()
    assert set(metrics) == {"l2", "h1", "linf", "error_lambda1", "error_lambda2"}
    q = {"lambda1": 1.0, "lambda2": 0.011}
    np.testing.assert_allclose(float(metrics["error_lambda2"](problem.solution, q)), 0.1, rtol=1e-9)
    params = problem.init(problem.default_model(), 0)
    assert set(params["coefficients"]) == set(problem.true_coefficients())
    objective = problem.objective(problem.default_model(), problem.sample(0, {"pde": 32, "data": 16}))
    gradient = jax.jit(lambda p: objective.value_and_grad(p))(params)[1]["coefficients"]
    assert all(float(abs(g)) > 0 for g in gradient.values())


@pytest.mark.parametrize(("option", "message"), [({"noise": -0.1}, "noise"), ({"samples": 0}, "samples")])
def test_inverse_options_are_checked(option, message):
    with pytest.raises(ValueError, match=message):
        InverseBurgers1D(**option)
