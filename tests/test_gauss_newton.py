"""What defines Gauss-Newton and the energy natural gradient."""

import jax
import numpy as np
import pytest

from ravine.methods import HessianFree, LevenbergMarquardt
from ravine.methods.engd import ENGD
from ravine.methods.gauss_newton import GaussNewton
from ravine.objective import Composite, LeastSquares, Term
from ravine.types import Status

jnp = jax.numpy
KEY = jax.random.key(0)
DATA = np.random.default_rng(0).normal(size=(30, 7))
LINEAR = LeastSquares(Term(lambda p, x: x[:6] @ p - x[6], DATA))
SOLUTION = np.linalg.lstsq(DATA[:, :6], DATA[:, 6], rcond=None)[0]
POINTS = np.linspace(-1, 1, 20)
START = np.random.default_rng(1).normal(size=12)


def network(p, x):
    return jnp.tanh(x * p[:4] + p[4:8]) @ p[8:]


FIT = LeastSquares({"fit": Term(lambda p, x: network(p, x) - jnp.sin(3 * x), POINTS)})


def step(method, objective, theta):
    def one(theta):
        return tuple(method.step(objective, theta, method.init(objective, theta, key=KEY), key=KEY))

    return jax.jit(one)(jnp.asarray(theta))


@pytest.mark.parametrize("method", [GaussNewton(), ENGD(cutoff=1e-15)], ids=["gn", "engd"])
def test_a_linear_problem_is_solved_in_one_step(method):
    theta, _, info = step(method, LINEAR, np.ones(6))
    np.testing.assert_allclose(theta, SOLUTION, atol=1e-12)
    assert int(info.status) == Status.OK and float(info.scalars["step_size"]) == 1.0


@pytest.mark.parametrize("method", [GaussNewton(), ENGD(cutoff=1e-14)], ids=["gn", "engd"])
def test_the_step_is_invariant_under_linear_reparametrisation(method):
    change = np.eye(6) + 0.3 * np.random.default_rng(2).normal(size=(6, 6))
    curved = LeastSquares(Term(lambda p, x: jnp.sinh(x[:6] @ p) - x[6], DATA))
    theta = 0.1 * np.ones(6)
    plain = step(method, curved, theta)
    moved = step(method, curved.pull(lambda q: jnp.asarray(change) @ q), np.linalg.solve(change, theta))
    np.testing.assert_allclose(change @ moved[0], plain[0], atol=1e-9)
    assert float(plain[2].step_norm) > 1e-3


def test_the_kernel_form_is_the_same_direction():
    few = LeastSquares({"fit": Term(FIT.parts["fit"].fn, POINTS[::3])})
    assert few.linearize(START).dims == (7, 12)
    local = few.linearize(jnp.asarray(START))
    direction = ENGD(cutoff=1e-12)._direction(local)[0]
    expected = -np.linalg.pinv(np.asarray(local.jacobian())) @ np.asarray(local.residual)
    np.testing.assert_allclose(direction, expected, rtol=1e-5, atol=1e-6)


def test_the_kernel_form_is_asked_for_its_own_memory():
    assert ENGD().footprint(100, 60_000) == LevenbergMarquardt().footprint(100, 60_000) == 100 * 60_000 + 3 * 100**2
    assert HessianFree(preconditioner="jacobi").footprint(100, 50) == HessianFree().footprint(100, 50) + 100 * 50


def test_the_grid_takes_its_best_point():
    method = ENGD(cutoff=1e-6)
    after, _, info = step(method, FIT, START)
    direction, _ = method._direction(FIT.linearize(jnp.asarray(START)))
    values = [float(FIT.value(START + 2.0**-k * np.asarray(direction))) for k in range(31)]
    assert float(info.scalars["step_size"]) == 2.0 ** -int(np.argmin(values))
    np.testing.assert_allclose(FIT.value(after), min(values), rtol=1e-10)
    coarse = step(ENGD(cutoff=1e-6, halvings=0), FIT, START)[2]
    assert float(coarse.scalars["step_size"]) in (0.0, 1.0)
    dropped = step(ENGD(cutoff=1e-1), FIT, START)[2].scalars["rank"]
    assert float(dropped) < float(info.scalars["rank"])
    damped = step(ENGD(cutoff=1e-6, damping=1.0), FIT, START)[0]
    assert float(jnp.max(jnp.abs(damped - after))) > 1e-3


def energy(p, x):
    """(u, u') of u = x(1 − x) Σ p_k x^k."""
    u, slope = jax.jvp(lambda y: y * (1 - y) * jnp.polyval(p, y), (x,), (jnp.ones_like(x),))
    return jnp.stack([u, slope])


NODES, WEIGHTS = np.polynomial.legendre.leggauss(20)
NODES, WEIGHTS = (NODES + 1) / 2, WEIGHTS / 2
RITZ = Composite(
    {"energy": Term(energy, NODES, quadrature=WEIGHTS)},
    lambda z, x: 0.5 * z[1] ** 2 - jnp.pi**2 * jnp.sin(jnp.pi * x) * z[0],
)


@pytest.mark.parametrize("method", [GaussNewton(), ENGD(cutoff=1e-15)], ids=["gn", "engd"])
def test_a_quadratic_ritz_energy_is_minimised_in_one_step(method):
    """-u'' = π² sin πx on (0, 1): u = sin πx, of energy -π²/4."""
    theta, _, info = step(method, RITZ, np.ones(7))
    assert float(info.scalars["step_size"]) == 1.0
    assert float(RITZ.value(theta)) == pytest.approx(-(np.pi**2) / 4, rel=1e-9)
    field = jax.vmap(lambda x: energy(theta, x)[0])(jnp.asarray(NODES))
    np.testing.assert_allclose(field, np.sin(np.pi * NODES), atol=1e-5)


@pytest.mark.parametrize("method", [GaussNewton(), ENGD()], ids=["gn", "engd"])
def test_failures_are_statuses(method):
    broken = LeastSquares(Term(lambda p, x: jnp.sqrt(p[0] - 5.0) + x, POINTS))
    after, _, info = step(method, broken, np.zeros(2))
    assert int(info.status) == Status.NONFINITE and float(info.step_norm) == 0.0
    at_minimum = step(method, LINEAR, SOLUTION)[2]
    assert int(at_minimum.status) in (Status.NO_DESCENT, Status.OK)
    assert float(at_minimum.step_norm) < 1e-12
    assert np.all(np.asarray(after) == 0.0)


def test_a_singular_jacobian_is_regularised():
    repeated = LeastSquares(Term(lambda p, x: jnp.concatenate([x[:3], x[:3] + x[1:4], x[1:4]]) @ p - x[6], DATA))
    info = step(GaussNewton(damping=1e-30), repeated, np.zeros(9))[2]
    assert float(info.scalars["regularisation"]) > 1e-28, "the factorisation does not exist at rounding's rounding"
    theta = step(GaussNewton(), repeated, np.zeros(9))[0]
    best = np.linalg.lstsq(DATA[:, :4], DATA[:, 6], rcond=None)[0]
    assert float(repeated.value(theta)) == pytest.approx(np.mean((DATA[:, :4] @ best - DATA[:, 6]) ** 2) / 2, rel=1e-8)


def test_wrong_options_get_a_sentence():
    with pytest.raises(ValueError, match="GaussNewton: sufficient must lie between 0 and 1"):
        GaussNewton(sufficient=1.0)
    with pytest.raises(ValueError, match="ENGD: cutoff must lie in"):
        ENGD(cutoff=-1.0)
    with pytest.raises(ValueError, match="halvings must be an integer"):
        ENGD(halvings=-1)
