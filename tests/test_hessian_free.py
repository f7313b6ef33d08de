"""What defines Hessian-free optimization: the damped Gauss-Newton step, found by products, and the rules about it."""

import dataclasses

import jax
import numpy as np
import pytest
from quadratics import follow

import ravine as rv
from ravine.methods import HessianFree
from ravine.methods.hessian_free import HessianFreeState
from ravine.objective import Composite, LeastSquares, Term
from ravine.types import Status

jnp = jax.numpy
POINTS = np.linspace(-1, 1, 20)
START = np.random.default_rng(1).normal(size=12)
RNG = np.random.default_rng(5)
LABELLED = np.concatenate([RNG.normal(size=(40, 4)), np.sign(RNG.normal(size=(40, 1)))], axis=1)


def network(p, x):
    return jnp.tanh(x * p[:4] + p[4:8]) @ p[8:]


FIT = LeastSquares({"fit": Term(lambda p, x: network(p, x) - jnp.sin(3 * x), POINTS)})
LOGISTIC = Composite(
    {"data": Term(lambda p, x: x[4] * (x[:4] @ p), LABELLED), "ridge": Term(lambda p, x: 0.1 * p, np.zeros((1, 1)))},
    {"data": lambda z, x: jnp.logaddexp(0.0, -z[0])},
)
EXACT = HessianFree(progress=1e-14, max_iterations=300)


def begin(objective, theta, damping):
    value, grad = objective.value_and_grad(jnp.asarray(theta))
    return HessianFreeState(value, grad, jnp.asarray(damping), jnp.zeros_like(grad))


@pytest.mark.parametrize(("objective", "theta"), [(FIT, START), (LOGISTIC, np.ones(4))], ids=["squares", "logistic"])
@pytest.mark.parametrize("preconditioner", ["none", "jacobi"])
def test_where_cg_converges_the_step_is_no_longer_and_no_worse_than_the_dense_one(objective, theta, preconditioner):
    damping = 0.05
    method = HessianFree(progress=1e-14, max_iterations=300, preconditioner=preconditioner)
    path = follow(method, objective, theta, 1, begin(objective, theta, damping))
    local = objective.linearize(jnp.asarray(theta))
    dense = -np.linalg.solve(np.asarray(local.gram()) + damping * np.eye(len(theta)), np.asarray(local.grad))
    move = path.params[1] - path.params[0]
    t = float(path.infos.scalars["step_size"][0])
    assert t > 0
    # CG walks back to an earlier iterate where the loss is lower there: at most as far, and no worse a loss.
    value = float(objective.value(jnp.asarray(theta + t * dense)))
    assert float(path.states.value[1]) <= value + 1e-12
    if np.linalg.norm(move - t * dense) > 1e-6 * np.linalg.norm(dense):
        assert np.linalg.norm(move) < t * np.linalg.norm(dense) and float(path.states.value[1]) < value


@pytest.mark.parametrize(("objective", "theta"), [(FIT, START), (LOGISTIC, np.ones(4))], ids=["squares", "logistic"])
@pytest.mark.parametrize("preconditioner", ["none", "jacobi"])
def test_at_high_damping_the_step_is_the_dense_damped_one(objective, theta, preconditioner):
    """No iterate is better than the last, so the walk back ends where it begins."""
    damping, method = 20.0, dataclasses.replace(EXACT, preconditioner=preconditioner)
    path = follow(method, objective, theta, 1, begin(objective, theta, damping))
    local = objective.linearize(jnp.asarray(theta))
    dense = -np.linalg.solve(np.asarray(local.gram()) + damping * np.eye(len(theta)), np.asarray(local.grad))
    np.testing.assert_allclose(path.params[1] - path.params[0], dense, rtol=1e-8, atol=1e-12)


def test_cg_starts_from_a_part_of_the_last_direction():
    """With one iteration: x₁ = x₀ + α r₀ from x₀ = δ·previous, α = |r₀|²/r₀ᵀBr₀."""
    damping, decay = 20.0, 0.5
    local = FIT.linearize(jnp.asarray(START))
    system, b = np.asarray(local.gram()) + damping * np.eye(12), -np.asarray(local.grad)
    previous = np.linalg.solve(system, b) + 0.01 * np.linalg.norm(b) / damping
    begun = begin(FIT, START, damping)._replace(previous=jnp.asarray(previous))
    path = follow(HessianFree(max_iterations=1, decay=decay), FIT, START, 1, begun)
    r = b - decay * system @ previous
    move = decay * previous + (r @ r) / (r @ system @ r) * r
    t = path.infos.scalars["step_size"][0]
    assert t > 0
    np.testing.assert_allclose(path.params[1] - path.params[0], t * move, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(path.states.previous[1], move, rtol=1e-8, atol=1e-12)


def test_a_least_squares_problem_to_ten_digits():
    data = np.random.default_rng(0).normal(size=(30, 7)) * np.logspace(0, 1.5, 7)
    linear = LeastSquares(Term(lambda p, x: x[:6] @ p - x[6], data))
    solution = np.linalg.lstsq(data[:, :6], data[:, 6], rcond=None)[0]
    run = rv.minimize(linear, np.ones(6), HessianFree(), budget=rv.Budget(steps=60))
    np.testing.assert_allclose(run.params, solution, atol=1e-10)


def test_a_nonlinear_fit_and_a_logistic_loss():
    # The network itself at other parameters: the lowest loss is zero.
    target = np.asarray(jax.vmap(lambda x: network(START + 0.2, x))(jnp.asarray(POINTS)))
    same = LeastSquares({"fit": Term(lambda p, row: network(p, row[0]) - row[1], (POINTS, target))})
    run = rv.minimize(same, START, HessianFree(), budget=rv.Budget(steps=150))
    assert run.final["loss"] < 1e-12 * run.rows[0]["loss"]
    run = rv.minimize(LOGISTIC, np.ones(4), HessianFree(), budget=rv.Budget(steps=60))
    assert run.final["grad_norm"] < 1e-10


def test_the_damping_follows_the_gain_ratio():
    path = follow(HessianFree(), FIT, START, 40)
    rho, t = path.infos.scalars["rho"], path.infos.scalars["step_size"]
    factor = path.states.damping[1:] / path.states.damping[:-1]
    expected = np.where((t < 1) | ~(rho >= 0.25), 1.5, np.where(rho > 0.75, 2 / 3, 1.0))
    np.testing.assert_allclose(factor, expected, rtol=1e-12)
    assert len(set(np.round(expected, 3))) >= 2


def test_scaling_the_loss_changes_nothing():
    scaled = LeastSquares({"fit": Term(FIT.parts["fit"].fn, POINTS, weight=2.0**14)})
    plain, other = follow(HessianFree(), FIT, START, 4), follow(HessianFree(), scaled, START, 4)
    np.testing.assert_allclose(other.params, plain.params, rtol=1e-6)


def test_a_step_that_fails_raises_the_damping_and_forgets_the_direction():
    wall = LeastSquares({"wall": Term(lambda p, x: jnp.where(p[:1] < 1.0, jnp.nan, 10 * p) * x, np.ones((1, 1)))})
    path = follow(HessianFree(max_trials=1), wall, np.array([1.0]), 1)
    assert path.infos.status[0] == Status.REJECTED
    np.testing.assert_array_equal(path.params[1], path.params[0])
    np.testing.assert_allclose(path.states.damping[1], 1.5 * path.states.damping[0])
    assert np.all(path.states.previous[1] == 0)


def test_bad_options_are_one_sentence():
    with pytest.raises(ValueError, match="HessianFree: preconditioner='jacoby' is unknown; did you mean 'jacobi'"):
        HessianFree(preconditioner="jacoby")
    with pytest.raises(ValueError, match=r"HessianFree: damping must lie between 0 and inf, because .* got 0.0"):
        HessianFree(damping=0.0)
