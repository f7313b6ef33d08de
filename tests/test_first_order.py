"""First-order methods: rates against theory on quadratics, recurrences against NumPy, safeguards on nasty functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quadratics import ROSENBROCK, ROSENBROCK_START, SPECTRUM, follow, quadratic, rosenbrock

from ravine.methods import (
    BarzilaiBorwein,
    GradientDescent,
    HeavyBall,
    Nesterov,
    Polyak,
)
from ravine.methods.barzilai_borwein import secant_length
from ravine.objective import Scalar
from ravine.types import Status

KAPPA = 100.0
ROOT = np.sqrt(KAPPA)


def rate(errors, a, b):
    """Mean factor per step between two iterates."""
    return (errors[b] / errors[a]) ** (1 / (b - a))


# -- gradient descent ------------------------------------------------------------------------------------------


def test_fixed_steps_shrink_every_mode_as_predicted():
    q = quadratic(SPECTRUM)
    path = follow(GradientDescent(rule="fixed", learning_rate=0.015), q.objective, np.zeros(15), 60)
    modes = q.modes(path.params)
    predicted = modes[0] * (1 - 0.015 * SPECTRUM) ** np.arange(61)[:, None]
    np.testing.assert_allclose(modes, predicted, rtol=0, atol=1e-10)
    assert np.all(path.infos.counts.vjp == 1) and np.all(path.infos.counts.hvp == 0)


def test_the_best_fixed_step_has_the_best_rate():
    q = quadratic(SPECTRUM)
    method = GradientDescent(rule="fixed", learning_rate=2 / 101)
    worst = q.solution + q.vectors @ np.eye(15)[[0, -1]].sum(0)  # only the two extreme modes
    errors = np.linalg.norm(q.modes(follow(method, q.objective, worst, 100).params), axis=1)
    np.testing.assert_allclose(errors[1:] / errors[:-1], 99 / 101, rtol=1e-10)
    errors = np.linalg.norm(q.modes(follow(method, q.objective, np.zeros(15), 100).params), axis=1)
    assert np.all(errors <= errors[0] * (99 / 101) ** np.arange(101) * (1 + 1e-12))


def test_beyond_two_over_lambda_it_diverges():
    q = quadratic(SPECTRUM)
    for length, grows in ((0.0199, False), (0.0201, True)):
        path = follow(GradientDescent(rule="fixed", learning_rate=length), q.objective, np.zeros(15), 200)
        assert (abs(q.modes(path.params)[-1, -1]) > abs(q.modes(path.params)[0, -1])) == grows


def test_exact_steps_on_kantorovichs_worst_case():
    q = quadratic([1.0, KAPPA])
    worst = q.solution + q.vectors @ [KAPPA, 1.0]
    path = follow(GradientDescent(rule="exact"), q.objective, worst, 30)
    values = q.value(path.params)
    np.testing.assert_allclose(values[1:] / values[:-1], (99 / 101) ** 2, rtol=1e-7)
    grads = (path.params - q.solution) @ q.matrix
    steps = np.sum(grads**2, 1) / np.einsum("ki,ij,kj->k", grads, q.matrix, grads)
    np.testing.assert_allclose(path.infos.scalars["step_size"], steps[:-1], rtol=1e-9)
    assert np.all(path.infos.counts.hvp == 1) and np.all(path.infos.counts.residual == 1)


def test_exact_steps_are_safe_where_the_curvature_is_negative():
    saddle = Scalar(lambda x: jnp.cos(x[0]) + x[1] ** 2)
    path = follow(GradientDescent(rule="exact"), saddle, [0.1, 1e-3], 60)
    assert np.all(np.diff(path.infos.value) <= 0) and path.infos.value[0] > 0.99
    np.testing.assert_allclose(path.params[-1], [np.pi, 0.0], atol=1e-6)


def test_backtracked_steps_satisfy_armijo_and_do_not_stay_small():
    path = follow(GradientDescent(learning_rate=1e-9, c1=0.3), ROSENBROCK, ROSENBROCK_START, 80)
    values, t, norms = path.states.value, path.infos.scalars["step_size"], path.infos.grad_norm
    assert np.all(values[1:] <= values[:-1] - 0.3 * t * norms**2)
    assert t[0] == 1e-9 and t.max() > 1e-3
    first = path.infos.scalars["trials"] == 1
    np.testing.assert_allclose(path.states.first[1:], np.where(first, 2 * t, t), rtol=1e-12)
    assert 0 < first.sum() < 80


# -- momentum --------------------------------------------------------------------------------------------------


def test_heavy_ball_at_its_best_has_the_predicted_rate():
    q = quadratic(SPECTRUM)
    alpha, beta = 4 / (ROOT + 1) ** 2, ((ROOT - 1) / (ROOT + 1)) ** 2
    method = HeavyBall(rule="fixed", restart="none", learning_rate=alpha, momentum=beta)
    path = follow(method, q.objective, np.zeros(15), 120)
    theta, before, oracle = np.zeros(15), np.zeros(15), [np.zeros(15)]
    for _ in range(120):
        ahead = theta - alpha * q.matrix @ (theta - q.solution) + beta * (theta - before)
        theta, before = ahead, theta
        oracle.append(theta)
    np.testing.assert_allclose(path.params, oracle, rtol=0, atol=1e-10)
    errors = np.linalg.norm(q.modes(path.params), axis=1)
    np.testing.assert_allclose(1 - rate(errors, 60, 120), 1 - np.sqrt(beta), rtol=0.1)
    assert np.all(path.infos.counts.vjp == 1) and np.all(path.infos.counts.residual == 1)


def test_nesterov_with_constant_momentum_has_the_predicted_rate():
    q = quadratic(SPECTRUM)
    beta = (ROOT - 1) / (ROOT + 1)
    method = Nesterov(rule="fixed", restart="none", learning_rate=1 / KAPPA, momentum=beta)
    errors = np.linalg.norm(q.modes(follow(method, q.objective, np.zeros(15), 240).params), axis=1)
    np.testing.assert_allclose(1 - rate(errors, 120, 240), 1 / ROOT, rtol=0.1)


def nesterov_in_numpy(q, alpha, restart, steps):
    value, grad = q.value, lambda x: q.matrix @ (x - q.solution)
    theta, last, t, path, restarts = np.zeros(q.solution.size), np.zeros(q.solution.size), 1.0, [], 0
    for _ in range(steps):
        path.append(theta)
        g = grad(theta)
        plain = theta - alpha * g
        after = (1 + np.sqrt(1 + 4 * t * t)) / 2
        ahead = plain + (t - 1) / after * (plain - last)
        bad = {"none": False, "function": value(ahead) > value(theta), "gradient": g @ (plain - last) > 0}[restart]
        theta, last, t = (plain, plain, 1.0) if bad else (ahead, plain, after)
        restarts += bad
    return np.array(path), restarts


@pytest.mark.parametrize("restart", ["none", "function", "gradient"])
def test_the_sequence_t_and_its_restarts(restart):
    q = quadratic(np.logspace(0, 3, 12))
    method = Nesterov(rule="fixed", restart=restart, learning_rate=1e-3)
    path = follow(method, q.objective, np.zeros(12), 500)
    oracle, restarts = nesterov_in_numpy(q, 1e-3, restart, 300)
    np.testing.assert_allclose(path.params[:300], oracle, rtol=0, atol=1e-10)
    assert path.infos.scalars["restarted"][:300].sum() == restarts
    assert (restarts == 0) == (restart == "none")
    # p_k stands in the state; the bound of Beck & Teboulle (2009), theorem 4.4
    k = np.arange(1, 501)
    bound = 2 * 1e3 * np.sum(q.solution**2) / (k + 1) ** 2
    if restart == "none":
        assert np.all(q.value(path.states.anchor[1:]) <= bound)
    else:
        assert q.value(path.params[-1]) < 1e-4 * q.value(nesterov_in_numpy(q, 1e-3, "none", 500)[0][-1])
    if restart == "function":
        assert np.all(np.diff(path.infos.value) <= 0)
        thrown = path.infos.scalars["restarted"].astype(int)
        np.testing.assert_array_equal(path.infos.counts.vjp, 1 + thrown)


@pytest.mark.parametrize("cls", [HeavyBall, Nesterov])
def test_backtracked_momentum_is_monotone_and_its_gradient_steps_satisfy_armijo(cls):
    path = follow(cls(learning_rate=1e-6), ROSENBROCK, ROSENBROCK_START, 300)
    values, t, norms = path.infos.value, path.infos.scalars["step_size"], path.infos.grad_norm
    assert np.all(np.diff(values) <= 0)
    assert rosenbrock(path.params[-1]) < 1e-4 * values[0]
    plain = path.params[:-1] - t[:, None] * path.states.grad[:-1]
    reached = jax.vmap(rosenbrock)(jnp.asarray(plain))
    assert np.all(reached <= values - 0.5 * t * norms**2 + 1e-9 * values)
    assert 0 < path.infos.scalars["restarted"].sum() < 150
    trials = path.infos.counts.residual - 1 - path.infos.scalars["restarted"].astype(int)
    np.testing.assert_allclose(path.states.first[1:][t > 0], np.where(trials == 1, 1.1 * t, t)[t > 0], rtol=1e-12)
    assert {1, 2} <= set(np.minimum(trials[t > 0], 2))


def far_from_zero(method, steps):
    """Steps on a quadratic with L* = 1, where below |g| ≈ 1e-8 no value changes any more."""
    q = quadratic(SPECTRUM)
    lifted = Scalar(lambda p: 1.0 + q.objective.value(p))
    return follow(method, lifted, np.zeros(15), steps)


@pytest.mark.parametrize("restart", ["function", "gradient"])
@pytest.mark.parametrize("cls", [HeavyBall, Nesterov])
def test_backtracked_momentum_reaches_a_minimum_far_from_zero_and_stays(cls, restart):
    path = far_from_zero(cls(restart=restart), 600)
    norms, restarted = path.infos.grad_norm, path.infos.scalars["restarted"]
    assert norms[0] > 1 and np.all(norms[400:] < 1e-10)
    thrown = restarted if restart == "function" else 0
    asked, searched = path.infos.counts.vjp - 1 - thrown, path.infos.counts.residual - 1 - thrown
    assert np.all(asked[norms > 1e-3] == 0)  # slopes are paid for where values drown, and only there
    late = (norms < 1e-6) & (np.arange(600) < 400)
    assert late.sum() > 20 and np.all(asked[late] == searched[late])


def test_gradient_descent_reaches_a_minimum_far_from_zero_and_stays():
    norms = far_from_zero(GradientDescent(), 1500).infos.grad_norm
    assert norms[0] > 1 and np.all(norms[1100:] < 1e-10)


# -- step lengths from secants and values ----------------------------------------------------------------------


def barzilai_borwein_in_numpy(q, rule, first, steps):
    grad = lambda x: q.matrix @ (x - q.solution)
    theta, alpha, long, path = np.zeros(q.solution.size), first, rule != "short", []
    for _ in range(steps):
        path.append(theta)
        new = theta - alpha * grad(theta)
        s, y = new - theta, grad(new) - grad(theta)
        alpha = (s @ s) / (s @ y) if long else (s @ y) / (y @ y)
        long = (not long) if rule == "alternate" else long
        theta = new
    return np.array(path)


@pytest.mark.parametrize("rule", ["long", "short", "alternate"])
def test_barzilai_borwein_is_its_recurrence(rule):
    q = quadratic(np.linspace(1.0, 3.0, 8))
    first = 0.3 / np.linalg.norm(q.matrix @ q.solution)
    path = follow(BarzilaiBorwein(rule=rule, first_step=0.3), q.objective, np.zeros(8), 25)
    oracle = barzilai_borwein_in_numpy(q, rule, first, 20)
    np.testing.assert_allclose(path.params[:20], oracle, rtol=0, atol=1e-10)
    assert np.all(path.infos.counts.residual[:20] == 1)
    assert np.linalg.norm(path.params[-1] - q.solution) < 1e-8


def test_the_search_compares_with_the_last_values_and_lets_the_loss_rise():
    path = follow(BarzilaiBorwein(memory=4), ROSENBROCK, ROSENBROCK_START, 200)
    values, t, norms = path.states.value, path.infos.scalars["step_size"], path.infos.grad_norm
    for k in range(120):
        ceiling = values[max(0, k - 3) : k + 1].max()
        np.testing.assert_array_equal(path.states.recent[k].max(), ceiling)
        assert values[k + 1] <= ceiling - 1e-4 * t[k] * norms[k] ** 2
    assert np.any(np.diff(values[:120]) > 0)
    monotone = follow(BarzilaiBorwein(memory=1), ROSENBROCK, ROSENBROCK_START, 100)
    assert np.all(np.diff(monotone.states.value) <= 0)


def test_secant_lengths_without_positive_curvature():
    s, yes, no = jnp.array([3.0, 0.0]), jnp.asarray(True), jnp.asarray(False)
    assert secant_length(s, jnp.array([6.0, 8.0]), yes, 7.0) == 0.5
    np.testing.assert_allclose(secant_length(s, jnp.array([6.0, 8.0]), no, 7.0), 0.18)
    np.testing.assert_allclose(secant_length(s, jnp.array([-6.0, 8.0]), yes, 7.0), 0.3)
    assert secant_length(s, 0 * s, yes, 7.0) == 7.0
    assert secant_length(s, 1e-20 * s, yes, 7.0) == 1e10


def test_polyak_steps_never_move_away_from_the_solution():
    q = quadratic(SPECTRUM, lowest=2.5)
    for growth in (1e300, 1.2):
        path = follow(Polyak(lowest=2.5, growth=growth), q.objective, np.zeros(15), 200)
        gap, norms, t = path.infos.value - 2.5, path.infos.grad_norm, path.infos.scalars["step_size"]
        errors = np.linalg.norm(path.params - q.solution, axis=1)
        assert np.all(np.diff(errors) <= 1e-14)
        assert np.all(t <= gap / norms**2 * (1 + 1e-12))
        assert np.all(t[1:] <= growth * t[:-1] * (1 + 1e-12))
        if growth > 2:
            np.testing.assert_allclose(t, gap / norms**2, rtol=1e-12)
            # |e⁺|² = |e|² − 2α gᵀe + α²|g|² ≤ |e|² − gap²/|g|²  by convexity
            assert np.sum((gap / norms) ** 2) <= errors[0] ** 2
            assert gap.min() <= norms.max() * errors[0] / np.sqrt(200)
        else:
            assert np.any(t < 0.99 * gap / norms**2)


def test_relaxation_scales_the_step_before_its_growth_is_bounded():
    infos = follow(Polyak(relaxation=0.5, growth=1.02), quadratic(SPECTRUM).objective, np.zeros(15), 60).infos
    t, whole = infos.scalars["step_size"], 0.5 * infos.value / infos.grad_norm**2
    np.testing.assert_allclose(t, np.minimum(whole, np.concatenate([[np.inf], 1.02 * t[:-1]])), rtol=1e-12)
    assert np.any(t < 0.99 * whole)


def test_polyak_on_a_kink():
    """Subgradients: the step of a smooth method would not converge, this one does linearly (sharp minimum)."""
    sharp = Scalar(lambda x: jnp.sum(jnp.abs(x)))
    path = follow(Polyak(growth=1e300), sharp, [3.0, -1.7, 0.4], 60)
    assert path.infos.value[-1] < 1e-6 * path.infos.value[0]


def test_bounded_growth_tames_polyak_where_the_lowest_value_is_not_reached():
    q = quadratic(np.logspace(-1, 2, 12), lowest=1.0)
    peaks = {}
    for growth in (2.0, 1e300):
        gaps = follow(Polyak(growth=growth), q.objective, np.zeros(12), 3000).infos.value - 1.0
        assert gaps.min() < 0.1 * gaps[0]
        peaks[growth] = gaps.max() / gaps[0]
    assert peaks[2.0] == 1.0 and peaks[1e300] > 100


def test_polyak_below_the_lowest_value_says_so():
    q = quadratic(SPECTRUM)
    path = follow(Polyak(lowest=1e6), q.objective, np.zeros(15), 3)
    assert np.all(path.infos.status == Status.NO_DESCENT) and np.all(path.params == 0)
