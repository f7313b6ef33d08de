"""Nonlinear conjugate gradients: linear CG on a quadratic, the formulas of β, Powell's restarts."""

import jax.numpy as jnp
import numpy as np
import pytest
from quadratics import ROSENBROCK, ROSENBROCK_START, follow, quadratic, rosenbrock
from scipy.sparse.linalg import cg

from ravine.methods.nonlinear_cg import BETAS, NonlinearCG
from ravine.types import Status

# An exact search, as far as float64 has one; `orthogonality` is left at its default: exact CG never restarts.
EXACT = {"c2": 2e-4, "max_trials": 60}
BETA = pytest.mark.parametrize("beta", list(BETAS))


@BETA
def test_on_a_quadratic_the_iterates_are_those_of_linear_cg(beta):
    q = quadratic(np.linspace(1.0, 20.0, 10))
    start, theirs = np.zeros(10), []
    cg(q.matrix, q.matrix @ q.solution, start, rtol=1e-14, maxiter=8, callback=lambda x: theirs.append(x.copy()))
    path = follow(NonlinearCG(beta=beta, **EXACT), q.objective, start, 8)
    np.testing.assert_allclose(path.params[1:], theirs, rtol=0, atol=1e-6 * np.linalg.norm(q.solution))
    assert np.all(path.infos.scalars["beta"][:-1] > 0)


@BETA
def test_distinct_eigenvalues_bound_the_steps(beta):
    q = quadratic(np.repeat([1.0, 3.0, 10.0, 50.0], 5))
    path = follow(NonlinearCG(beta=beta, **EXACT), q.objective, np.zeros(20), 4)
    values = q.value(path.params)
    assert values[3] > 1e-6 * values[0]  # three polynomials of the four-point spectrum are not enough
    assert values[4] < 1e-12 * values[0]


@BETA
@pytest.mark.parametrize("condition", [1e2, 1e4])
def test_the_error_stays_below_chebyshevs_bound(beta, condition):
    """‖e_k‖_A ≤ 2 ((√κ − 1)/(√κ + 1))^k ‖e_0‖_A, many eigenvalues, so that the steps do not end by themselves."""
    q = quadratic(np.geomspace(1.0, condition, 100))
    path = follow(NonlinearCG(beta=beta, **EXACT), q.objective, np.zeros(100), 60)
    errors, root = np.sqrt(q.value(path.params)), np.sqrt(condition)
    bound = 2 * ((root - 1) / (root + 1)) ** np.arange(61) * errors[0]
    seen = errors > 1e-7 * errors[0]  # beyond, the search no longer tells values apart
    assert np.all(errors[seen] <= bound[seen]) and seen.sum() > 30
    # gradient descent at its best step shrinks (κ − 1)/(κ + 1) a step, which would have left this much
    assert errors[seen][-1] < 0.5 * ((condition - 1) / (condition + 1)) ** seen.sum() * errors[0]


def work(q, method):
    """(steps, evaluations) until the error of the value has fallen by ten digits."""
    path = follow(method, q.objective, np.zeros(12), 60)
    values = q.value(path.params)
    assert np.all(np.diff(values) <= 1e-9 * values[0])
    steps = np.flatnonzero(values < 1e-10 * values[0])[0]
    return steps, path.infos.counts.vjp[:steps].sum()


@BETA
def test_the_default_search_ends_a_quadratic_in_about_n_steps_and_the_usual_one_takes_longer(beta):
    q = quadratic(np.logspace(0, 2, 12))
    steps, evaluations = work(q, NonlinearCG(beta=beta))
    assert steps <= 14
    assert evaluations < 0.7 * work(q, NonlinearCG(beta=beta, c2=0.1))[1]


def textbook(beta, new, old, d):
    y = new - old
    if beta == "PR+":
        return max(0.0, new @ y / (old @ old))
    if beta == "FR":
        return new @ new / (old @ old)
    value = (y - 2 * d * (y @ y) / (d @ y)) @ new / (d @ y)
    return max(value, -1 / (np.linalg.norm(d) * min(0.01, np.linalg.norm(old))))


@BETA
def test_directions_follow_the_formula_and_powells_restarts(beta):
    nu = 0.2
    path = follow(NonlinearCG(beta=beta, orthogonality=nu), ROSENBROCK, ROSENBROCK_START, 60)
    grads, directions = path.states.grad, path.states.direction
    age, far, old_age = 0, 0, 0
    for k in range(60):
        old, new, d = grads[k], grads[k + 1], directions[k]
        expected = -new + textbook(beta, new, old, d) * d
        age += 1
        powell = abs(new @ old) >= nu * (new @ new)
        if powell or age >= 4 or expected @ new >= 0:
            far, old_age = far + powell, old_age + (age >= 4)
            expected, age = -new, 0
            assert path.infos.scalars["beta"][k] == 0
        np.testing.assert_allclose(directions[k + 1], expected, rtol=1e-9, atol=1e-12)
        assert path.states.age[k + 1] == age
    assert far > 0 and old_age > 0 and far + old_age < 60  # both kinds of restart were seen, and steps without


def test_the_first_trial_promises_the_change_of_the_last_step():
    """t₋ dᵀ₋g₋/dᵀg, seen where the search took its first trial."""
    path = follow(NonlinearCG(c2=0.9), ROSENBROCK, ROSENBROCK_START, 60)
    slope = np.sum(path.states.direction[:-1] * path.states.grad[:-1], axis=1)
    t, change = path.infos.scalars["step_size"], path.states.change[:-1]
    np.testing.assert_allclose(path.states.change[1:], t * slope, rtol=1e-9)
    once = (path.infos.scalars["trials"] == 1) & (change < 0) & (t > 0)
    assert once.any()
    np.testing.assert_allclose(t[once], (change / slope)[once], rtol=1e-9)


def test_the_hager_zhang_truncation_acts_where_the_formula_is_very_negative():
    d, old = np.array([1.0, 0.0]), np.array([-1.0, 0.0])
    new = np.array([0.0, 100.0])
    # By hand: y = (1, 100), dᵀy = 1 and dᵀnew = 0, so β = yᵀnew = 10⁴, and nothing is cut.
    np.testing.assert_allclose(BETAS["HZ"](jnp.asarray(new), jnp.asarray(old), jnp.asarray(d)), 1e4)
    steep = np.array([50.0, 100.0])
    formula = (
        (steep - old - 2 * d * ((steep - old) @ (steep - old)) / (d @ (steep - old))) @ steep / (d @ (steep - old))
    )
    assert formula < -100
    np.testing.assert_allclose(BETAS["HZ"](jnp.asarray(steep), jnp.asarray(old), jnp.asarray(d)), -100.0)


@BETA
def test_rosenbrock(beta):
    path = follow(NonlinearCG(beta=beta), ROSENBROCK, ROSENBROCK_START, 150)
    assert rosenbrock(path.params[-1]) < 1e-10
    assert np.all(np.diff(path.infos.value) <= 1e-9 * np.abs(path.infos.value[:-1]))
    assert not np.any(path.infos.status == Status.NONFINITE)


@pytest.mark.parametrize(
    "make, word",
    [
        (lambda: NonlinearCG(beta="PR"), "did you mean 'PR\\+'"),
        (lambda: NonlinearCG(orthogonality=0.0), "orthogonality"),
        (lambda: NonlinearCG(c2=1.0), "c2"),
        (lambda: NonlinearCG(c2=1e-5), "c2"),
        (lambda: NonlinearCG(first_step=-1.0), "first_step"),
        (lambda: NonlinearCG(max_trials=0), "max_trials"),
    ],
)
def test_bad_options_are_named(make, word):
    with pytest.raises(ValueError, match=word):
        make()
