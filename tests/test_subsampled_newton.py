"""What defines subsampled Newton: nested samples, Newton's method where they are whole, noise where they are not."""

import jax
import numpy as np
import pytest
from logistic_sum import CONSISTENT, LOGISTIC, MINIMUM, ROWS, SIZE, START, TRUE, gap

import ravine as rv
from ravine.methods import SubsampledNewton
from ravine.methods.subsampled_newton import nested
from ravine.objective import LeastSquares, Term
from ravine.types import Status

jnp = jax.numpy
KEY = jax.random.key(2)


def step(method, objective, theta, key=KEY):
    def one(theta):
        return method.step(objective, theta, method.init(objective, theta, key=key), key=key)

    return jax.jit(one)(jnp.asarray(theta))


def test_the_hessian_sample_is_a_part_of_the_gradient_sample():
    outer, inner = nested(KEY, {"a": 40, "b": 3}, 20, 3)
    for name, whole in outer.items():
        assert len(set(np.asarray(whole).tolist())) == len(whole)
        assert len(set(np.asarray(inner[name]).tolist())) == len(inner[name]) < len(whole) or name == "b"
        assert set(np.asarray(inner[name]).tolist()) <= set(np.asarray(whole).tolist())
    assert len(outer["a"]) + len(outer["b"]) == 20 and len(inner["a"]) + len(inner["b"]) == 6


def test_products_on_the_part_are_unbiased():
    keys = jax.random.split(KEY, 4000)
    theta, v = jnp.ones(SIZE), jnp.arange(1.0, SIZE + 1)

    def product(key):
        return LOGISTIC.rows(nested(key, LOGISTIC.sizes, 60, 5)[1]).hvp(theta, v)

    products = np.asarray(jax.jit(jax.vmap(product))(keys))
    error = products.std(axis=0) / np.sqrt(len(keys))
    assert np.all(np.abs(products.mean(axis=0) - np.asarray(LOGISTIC.hvp(theta, v))) < 5 * error)


@pytest.mark.parametrize("sample", [ROWS + 1, 10_000])
def test_with_whole_samples_the_step_is_newtons(sample):
    method = SubsampledNewton(batch=sample, part=1, tolerance=1e-12, iterations=60)
    theta = 0.1 * np.ones(SIZE)
    value = lambda p: LOGISTIC.value(p)
    newton = -np.linalg.solve(jax.hessian(value)(jnp.asarray(theta)), jax.grad(value)(jnp.asarray(theta)))
    found = step(method, LOGISTIC, theta)
    assert float(found.info.scalars["step_size"]) == 1.0
    np.testing.assert_allclose(found.params - theta, newton, rtol=1e-9)
    run = rv.minimize(LOGISTIC, theta, method, budget=rv.Budget(steps=12))
    np.testing.assert_allclose(run.params, MINIMUM[0], atol=1e-10)
    assert run.status == "converged" and run.steps <= 8


def test_the_direction_solves_with_the_hessian_of_the_part_and_the_gradient_of_the_whole_sample():
    method, theta = SubsampledNewton(batch=120, part=3, tolerance=1e-12, iterations=60), 0.1 * np.ones(SIZE)
    sample, part = (LOGISTIC.rows(rows) for rows in nested(KEY, LOGISTIC.sizes, 120, 3))
    grad = np.asarray(sample.value_and_grad(jnp.asarray(theta))[1])
    hessian = np.asarray(jax.hessian(lambda p: part.value(p))(jnp.asarray(theta)))
    found = step(method, LOGISTIC, theta)
    t = float(found.info.scalars["step_size"])
    assert t > 0
    np.testing.assert_allclose(found.params - theta, -t * np.linalg.solve(hessian, grad), rtol=1e-8)
    np.testing.assert_allclose(found.info.value, sample.value(jnp.asarray(theta)), rtol=1e-12)


def test_a_small_hessian_sample_still_reaches_the_minimum_where_the_gradient_is_whole():
    run = rv.minimize(LOGISTIC, START, SubsampledNewton(batch=400, part=5), budget=rv.Budget(steps=40))
    assert gap(run.params) < 1e-12


def test_the_noise_floor_is_that_of_the_sample():
    """A Newton step goes to the minimum of F_S: P/2b above that of L, up to a factor for the model and the draw."""
    gaps = {}
    for batch in (60, 240):
        method = SubsampledNewton(batch=batch, part=1)
        ends = [rv.minimize(LOGISTIC, START, method, budget=rv.Budget(steps=8), seed=s).params for s in range(6)]
        gaps[batch] = np.median([gap(p) for p in ends])
    assert 1e-4 < gaps[240] < 0.25 * gaps[60] < 0.25


def test_where_all_rows_agree_small_samples_are_enough():
    run = rv.minimize(CONSISTENT, START, SubsampledNewton(batch=24, part=1), budget=rv.Budget(steps=60))
    np.testing.assert_allclose(run.params, TRUE, atol=1e-10)


def test_negative_curvature_and_work():
    # Half (xy)²: the Hessian at (1, -1) has the eigenvalues 3 and -1.
    saddle = LeastSquares({"s": Term(lambda p, x: p[0] * p[1] * x[0], np.ones((10, 1)))})
    found = step(SubsampledNewton(batch=6, part=2), saddle, np.array([1.0, -1.0]))
    assert int(found.info.status) == Status.OK and float(found.info.scalars["step_size"]) > 0
    assert float(saddle.value(found.params)) < 0.5
    iterations = float(found.info.scalars["cg_iterations"])
    work = int(found.info.counts.batch) - 6 * 3 * iterations
    trials = work / (3 * 6) - 1
    assert trials == int(trials) >= 1


def test_bad_options_are_one_sentence():
    with pytest.raises(ValueError, match=r"SubsampledNewton: part must be an integer of at least 1; got 0.25"):
        SubsampledNewton(part=0.25)
