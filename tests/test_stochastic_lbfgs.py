"""What defines stochastic L-BFGS: pairs from the same rows, Powell's damping, and no comparison of values."""

import jax
import numpy as np
import pytest
from logistic_sum import CONSISTENT, LOGISTIC, SIZE, START, TRUE, gap
from quadratics import quadratic

import ravine as rv
from ravine.methods import StochasticLBFGS
from ravine.methods.lbfgs import apply_direct, apply_inverse, empty_memory, push
from ravine.methods.stochastic_lbfgs import GROSS, damped
from ravine.types import Status

jnp = jax.numpy
KEY = jax.random.key(5)
HESSIAN = quadratic(np.logspace(-1, 1, 6), seed=8).matrix


def remembered(count, m=4):
    memory = empty_memory(6, m, jnp.float64)
    for s in np.random.default_rng(3).normal(size=(count, 6)):
        memory = push(memory, jnp.asarray(s), jnp.asarray(HESSIAN @ s), jnp.ones((), bool), rescale=True)
    return memory


def steps(method, objective, theta, count):
    """(states, parameters) before and after each step."""

    def run(theta):
        state = method.init(objective, theta, key=KEY)

        def body(carry, key):
            step = method.step(objective, *carry, key=key)
            return (step.params, step.state), (*carry, step.params, step.state, step.info)

        return jax.lax.scan(body, (theta, state), jax.random.split(KEY, count))[1]

    return jax.jit(run)(jnp.asarray(theta))


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7])
def test_the_direct_product_is_the_inverse_of_the_inverse(count):
    memory = remembered(count)
    for v in np.eye(6):
        np.testing.assert_allclose(apply_direct(memory, apply_inverse(memory, jnp.asarray(v))), v, atol=1e-10)


@pytest.mark.parametrize(("count", "curvature"), [(0, -1.0), (0, 2.0), (3, -1.0), (3, 0.0), (3, 0.01), (3, 1.0)])
def test_damped_pairs_keep_a_fifth_of_the_curvature_of_b(count, curvature):
    memory, s = remembered(count), np.random.default_rng(9).normal(size=6)
    b = HESSIAN @ s
    y = jnp.asarray(curvature * (b if count else s))
    new, kappa = damped(memory, jnp.asarray(s), y)
    if count:
        sbs = float(s @ apply_direct(memory, jnp.asarray(s)))
        np.testing.assert_allclose(float(s @ new), max(float(s @ y), 0.2 * sbs), rtol=1e-10)
        assert (float(kappa) == 1.0) == (float(s @ y) >= 0.2 * sbs)
    else:  # against the identity in the pair's own unit
        expected = max(curvature, 0.2 * abs(curvature)) * float(s @ s)
        np.testing.assert_allclose(float(s @ new), expected, rtol=1e-10, atol=1e-14)


def test_overlap_pairs_are_differences_on_the_rows_kept():
    method = StochasticLBFGS(batch=40, pair_batch=10)
    theta, before, after, state, _ = steps(method, LOGISTIC, 0.1 * np.ones(SIZE), 3)
    for k in range(3):
        rows = {name: state.kept[name][k] for name in state.kept}
        if k:
            assert all(np.array_equal(before.kept[name][k], state.kept[name][k - 1]) for name in state.kept)
        sample = LOGISTIC.rows(rows)
        y = jax.grad(sample.value)(after[k]) - jax.grad(sample.value)(theta[k])
        np.testing.assert_allclose(state.memory.s[k][k], after[k] - theta[k], rtol=1e-12)
        np.testing.assert_allclose(state.memory.y[k][k], y, rtol=1e-8, atol=1e-12)  # convex rows: no damping here


def test_the_rows_kept_are_a_uniform_part_of_the_sample():
    method = StochasticLBFGS(batch=24, pair_batch=8)
    before = {"data": jnp.arange(8)}
    rows, kept = jax.vmap(lambda key: method._sample(CONSISTENT, before, key))(jax.random.split(KEY, 3000))
    for own, whole in zip(kept["data"].tolist(), rows["data"].tolist(), strict=True):
        assert set(own) <= set(whole[8:])
    counts = np.bincount(np.ravel(kept["data"]), minlength=300)
    assert np.all(np.abs(counts - 80) < 5 * np.sqrt(80))


def test_every_step_is_made_by_the_pairs_before_it():
    """θ⁺ = θ − αHg with g on the rows of the step, after the first step, which is cut to `first_step`."""
    method = StochasticLBFGS(batch=40, pair_batch=10, learning_rate=0.3, first_step=0.01)
    theta, before, after, _, infos = steps(method, LOGISTIC, 0.1 * np.ones(SIZE), 3)
    for k, key in enumerate(jax.random.split(KEY, 3)):
        state = jax.tree.map(lambda x, k=k: x[k], before)
        rows, _ = method._sample(LOGISTIC, state.kept, key)
        value, grad = LOGISTIC.rows(rows).value_and_grad(theta[k])
        move = -0.3 * apply_inverse(state.memory, grad)
        if k == 0:
            assert np.linalg.norm(move) > 0.01
            move = move * 0.01 / np.linalg.norm(move)
        np.testing.assert_allclose(after[k] - theta[k], move, rtol=1e-9)
        np.testing.assert_allclose(infos.value[k], value, rtol=1e-10)


def test_sqn_pairs_are_products_with_a_hessian_at_the_mean_iterate():
    method = StochasticLBFGS(pairs="sqn", batch=40, pair_batch=1000, every=3)
    _, _, after, state, infos = steps(method, LOGISTIC, 0.1 * np.ones(SIZE), 6)
    first, second = np.mean(after[:3], axis=0), np.mean(after[3:], axis=0)
    assert list(np.asarray(state.memory.count)) == [0, 0, 0, 0, 0, 1]
    np.testing.assert_allclose(state.memory.s[-1][0], second - first, rtol=1e-10)
    product = LOGISTIC.hvp(jnp.asarray(second), jnp.asarray(second - first))
    np.testing.assert_allclose(state.memory.y[-1][0], product, rtol=1e-9)
    b, n = 40, 301 + SIZE - 1  # the ridge is one row of SIZE outputs
    assert list(np.diff(np.asarray(infos.counts.batch))) == [0, 6 * n, -6 * n, 0, 6 * n]
    assert int(infos.counts.batch[0]) == 3 * (b + SIZE - 1)


@pytest.mark.parametrize("pairs", ["overlap", "sqn"])
def test_where_all_rows_agree_a_fixed_step_converges(pairs):
    method = StochasticLBFGS(pairs=pairs, learning_rate=0.5, batch=32, pair_batch=16, first_step=1.0)
    run = rv.minimize(CONSISTENT, START, method, budget=rv.Budget(steps=400))
    np.testing.assert_allclose(run.params, TRUE, atol=1e-8)


@pytest.mark.parametrize("pairs", ["overlap", "sqn"])
def test_noise_leaves_a_neighbourhood_in_proportion_to_the_step_length(pairs):
    def end(rate):
        method = StochasticLBFGS(pairs=pairs, learning_rate=rate, batch=32, pair_batch=32, first_step=1.0)
        ends = [rv.minimize(LOGISTIC, START, method, budget=rv.Budget(steps=400), seed=s).params for s in range(5)]
        return np.median([gap(p) for p in ends])

    coarse, fine = end(0.3), end(0.03)
    assert fine < 0.5 * coarse < 0.1 and fine < 0.01


def test_a_step_that_lets_the_gradient_explode_is_taken_back_and_leaves_its_pair():
    """Residuals exp(a·θ) − 1: a step of length 3 along the gradient is far too long."""
    points = np.random.default_rng(2).normal(size=(200, SIZE))
    steep = {"data": rv.Term(lambda theta, x: jnp.exp(x @ theta) - 1.0, points)}
    objective = rv.LeastSquares(steep)
    method = StochasticLBFGS(learning_rate=1.0, batch=60, pair_batch=30, first_step=3.0)
    theta, before, after, state, infos = steps(method, objective, 0.5 * np.ones(SIZE), 40)
    back = np.asarray(infos.status) == Status.REJECTED
    assert back[0] and 0 < back.sum() < 20
    for k in range(40):
        both = objective.rows({"data": state.kept["data"][k]})
        rows, _ = method._sample(objective, {"data": before.kept["data"][k]}, jax.random.split(KEY, 40)[k])
        move = -apply_inverse(
            jax.tree.map(lambda x, k=k: x[k], before.memory), jax.grad(objective.rows(rows).value)(theta[k])
        )
        if k == 0:
            move = 3.0 * move / jnp.linalg.norm(move)
        here, new = (jnp.linalg.norm(jax.grad(both.value)(x)) for x in (theta[k], theta[k] + move))
        assert back[k] == (not new <= GROSS * here)
        np.testing.assert_allclose(after[k], theta[k] if back[k] else theta[k] + move, rtol=1e-9)
        assert np.min(np.linalg.norm(state.memory.s[k] - move, axis=1)) <= 1e-8 * np.linalg.norm(move), (
            "kept either way"
        )
    assert np.all(np.asarray(infos.step_norm)[back] == 0)
    assert objective.value(after[-1]) < 1e-3 * objective.value(theta[0])


def test_an_infinite_gradient_after_a_step_leaves_no_pairs():
    """Nothing can be learnt from it, so the next step is as short as the first one."""
    wall = {
        "data": rv.Term(lambda theta, x: x @ theta + jnp.exp(1e4 * jnp.maximum(theta[0] - 0.4, 0.0)) - 1, np.eye(SIZE))
    }
    method = StochasticLBFGS(learning_rate=1.0, first_step=0.1)
    start = np.zeros(SIZE)
    state = method.init(rv.LeastSquares(wall), jnp.asarray(start), key=KEY)
    s = jnp.zeros(SIZE).at[0].set(1.0)
    full = push(state.memory, s, 1e-3 * s, jnp.ones((), bool), rescale=True)
    step = jax.jit(lambda p, s: method.step(rv.LeastSquares(wall), p, s, key=KEY))
    there = step(jnp.asarray(start).at[0].set(-0.1), state._replace(memory=full))
    assert int(there.info.status) == Status.REJECTED and int(there.state.memory.count) == 0
    assert float(there.params[0]) == -0.1
    after = step(there.params, there.state)
    assert int(after.info.status) == Status.OK and float(after.info.step_norm) <= 0.1 + 1e-12


def test_terms_that_grow_keep_other_rows():
    """The guard doubles points: the rows kept of the old ones are too few for the next step."""

    def of(n):
        points = np.random.default_rng(2).normal(size=(n, SIZE))
        terms = {
            name: rv.Term(lambda theta, x: x @ theta - 1.0, part) for name, part in (("a", points), ("b", points[:100]))
        }
        return rv.LeastSquares(terms)

    method, theta = StochasticLBFGS(batch=100), jnp.zeros(SIZE)
    state = method.init(of(100), theta, key=KEY)
    grown = method.refresh(of(200), theta, state)
    assert [grown.kept[k].shape != state.kept[k].shape for k in ("a", "b")] == [True, True]
    step = method.step(of(200), theta, grown, key=KEY)
    assert step.info.status == Status.OK and jnp.all(jnp.isfinite(step.params))
    same = method.refresh(of(100), theta, state)
    assert all(np.array_equal(same.kept[k], state.kept[k]) for k in state.kept)


def test_with_all_rows_it_reaches_the_minimum():
    method = StochasticLBFGS(learning_rate=1.0, batch=1000, pair_batch=1000, first_step=1.0)
    assert gap(rv.minimize(LOGISTIC, START, method, budget=rv.Budget(steps=60)).params) < 1e-12


def test_bad_options_are_one_sentence():
    with pytest.raises(ValueError, match="StochasticLBFGS: pairs='overlay' is unknown; did you mean 'overlap'"):
        StochasticLBFGS(pairs="overlay")
    with pytest.raises(ValueError, match="every must be an integer of at least 1; got 0"):
        StochasticLBFGS(every=0)
