"""Multilevel gradients over sample counts: an exact telescope, an unbiased estimate, and what it saves."""

import jax
import numpy as np
import pytest
from finite_sums import row

from ravine import Budget, minimize
from ravine.finite_sum import row_gradients, term_gradients
from ravine.methods import MultilevelMonteCarlo
from ravine.methods.inner_samples import difference, shared
from ravine.objective import LeastSquares, Term

jnp = jax.numpy
ROWS, SAMPLES = 10, 16
RNG = np.random.default_rng(2)
T = np.linspace(0.0, 1.0, ROWS)
XI = RNG.normal(size=(ROWS, SAMPLES, 1))


def mean_row(p, x):
    """An average over the samples of a row; the residual is not linear in it."""
    u = p["w"][0] * jnp.sin(3 * x["t"] + 0.3 * x["xi"][:, 0]) + p["w"][1] * x["t"]
    return jnp.mean(jnp.exp(u)) - jnp.cos(2 * x["t"])


def nested(t=T, xi=XI, **options):
    return Term(mean_row, {"t": t, "xi": xi}, **options)


WEIGHTED = LeastSquares({"mean": nested(weight=np.linspace(0.5, 2.0, ROWS))})
HERE = {"w": jnp.asarray([1.0, 0.5])}


def every(objective, level, depth, blocks):
    """(values (n, blocks), gradients (n, blocks, P)) of what one sample of a level can be."""

    def one(i, b):
        return difference(objective, "mean", HERE, "xi", level, depth, i, b)

    n = objective.parts["mean"].n
    return jax.vmap(lambda i: jax.vmap(lambda b: one(i, b))(jnp.arange(blocks)))(jnp.arange(n))


def test_levels_telescope_to_the_gradient_of_all_samples():
    """Σ_l of the mean over all blocks of what one sample of level l is, row by row."""
    depth = 4
    total, grads = np.zeros(ROWS), np.zeros((ROWS, 2))
    for level in range(depth):
        values, slopes = every(WEIGHTED, level, depth, 2 ** (depth - 1 - level))
        if level:
            assert np.max(np.abs(slopes)) > 1e-6  # the levels differ
        total, grads = total + np.mean(values, axis=1), grads + np.mean(slopes, axis=1)
    mass = WEIGHTED.parts["mean"].measure(ROWS)
    values, slopes = term_gradients(WEIGHTED, "mean", HERE)
    np.testing.assert_allclose(mass * total, values, rtol=1e-12)
    np.testing.assert_allclose(mass[:, None] * grads, slopes, rtol=1e-11, atol=1e-14)


def test_halves_are_antithetic():
    """Corrections fall as 1/M_l, their squares by four a level: what is linear in the samples has cancelled."""
    xi = np.random.default_rng(0).normal(size=(4000, 64, 1))
    objective = LeastSquares({"mean": nested(np.full(4000, 0.4), xi)})
    squares = [np.mean(np.sum(every(objective, level, 5, 1)[1] ** 2, axis=(1, 2))) for level in range(1, 5)]
    ratios = np.array(squares[:-1]) / np.array(squares[1:])
    assert np.all((ratios > 2.5) & (ratios < 6.5))  # 4, and 2 without the halves


def test_the_estimate_is_unbiased_beside_a_term_without_samples():
    plain = {"a": RNG.normal(size=(7, 2)), "y": RNG.normal(size=7)}
    objective = LeastSquares({"mean": WEIGHTED.parts["mean"], "plain": Term(row, plain)})
    method = MultilevelMonteCarlo(learning_rate=1.0, batch=14, levels=3, samples="xi")
    state = method.init(objective, HERE, key=None)
    assert state.terms["mean"].variance.shape == (3,) and hasattr(state.terms["plain"], "order")
    state = method.step(objective, HERE, state, key=jax.random.key(0)).state

    def one(key):
        step = method.step(objective, HERE, state, key=key)
        return HERE["w"] - step.params["w"], step.info.value, step.info.counts.batch

    moves, values, work = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), 4000))
    value, grad = objective.value_and_grad(HERE)
    for found, want in ((moves, grad["w"]), (values[:, None], value[None])):
        error = np.std(found, axis=0) / np.sqrt(4000)
        assert np.all(error > 0) and np.all(np.abs(np.mean(found, axis=0) - want) < 4 * error)
    assert np.all(work == 3 * (8 + 6))  # 14 rows of 17, shared out 8 and 6


def test_chunks_follow_variance_times_cost():
    each = jnp.asarray([8, 2, 1])
    assert shared(jnp.asarray([8.0, 2.0, 1.0]), each, 12).tolist() == [4, 4, 4]
    assert shared(jnp.asarray([8.0, 0.0, 0.0]), each, 12).tolist() == [10, 1, 1]
    assert shared(jnp.zeros(3), each, 5).tolist() == [3, 1, 1]
    assert shared(jnp.asarray([8.0, 8.0, 16.0]), each, 10).tolist() == [2, 3, 5]  # shares 1 : 2 : 4 of seven


def test_the_variances_are_those_of_the_levels():
    """Over many steps at one point, their average against all rows and blocks; the last level has one sample a step,
    whose square is more than its variance."""
    method = MultilevelMonteCarlo(batch=10, levels=3, samples="xi", memory=0.999)

    def body(state, key):
        return method.step(WEIGHTED, HERE, state, key=key).state, None

    state = method.init(WEIGHTED, HERE, key=None)
    state = jax.jit(lambda s: jax.lax.scan(body, s, jax.random.split(jax.random.key(3), 10_000))[0])(state)
    mass = ROWS * np.asarray(WEIGHTED.parts["mean"].measure(ROWS))
    for level, blocks in ((0, 4), (1, 2)):
        samples = (mass[:, None, None] * np.asarray(every(WEIGHTED, level, 3, blocks)[1])).reshape(-1, 2)
        np.testing.assert_allclose(state.terms["mean"].variance[level], np.sum(np.var(samples, axis=0)), rtol=0.3)


def test_fewer_samples_a_row_leave_less_noise_at_equal_work():
    xi = np.random.default_rng(1).normal(size=(40, 64, 1))
    objective = LeastSquares({"mean": nested(np.linspace(0.0, 1.0, 40), xi)})
    noise = {}
    for levels in (1, 4):
        method = MultilevelMonteCarlo(learning_rate=1.0, batch=32, levels=levels, samples="xi")
        step = jax.jit(lambda s, k, m=method: m.step(objective, HERE, s, key=k))
        state = method.init(objective, HERE, key=None)
        for k in jax.random.split(jax.random.key(4), 10):
            state = step(state, k).state
        found = jax.vmap(lambda k, s=state, step=step: step(s, k))(jax.random.split(jax.random.key(5), 400))
        noise[levels] = float(np.sum(np.var(found.params["w"], axis=0)))
        assert int(found.info.counts.batch[0]) == 3 * 32
    assert noise[4] < 0.4 * noise[1]


def test_samples_that_cannot_be_halved_leave_fewer_levels():
    def depth(samples, batch=10, levels=9):
        objective = LeastSquares({"mean": nested(xi=XI[:, :samples])})
        method = MultilevelMonteCarlo(batch=batch, levels=levels, samples="xi")
        return method.init(objective, HERE, key=None).terms["mean"].variance.shape[0]

    assert [depth(m) for m in (1, 2, 6, 8, 16)] == [1, 2, 2, 4, 5]
    assert depth(16, batch=6) == 3 and depth(16, batch=1) == 1 and depth(16, levels=2) == 2


def test_a_row_alone_is_the_whole_gradient():
    """One row, all samples, one level: nothing is random."""
    objective = LeastSquares({"mean": nested(T[:1], XI[:1])})
    method = MultilevelMonteCarlo(learning_rate=0.5, batch=1, samples="xi")
    run = minimize(objective, HERE, method, budget=Budget(steps=1))
    _, grads = row_gradients(objective, HERE)["mean"]
    np.testing.assert_allclose(run.params["w"], HERE["w"] - 0.5 * grads[0], rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "kind", "sentence"),
    [
        ({"samples": "xis"}, ValueError, "samples='xis' is no entry of the points of any term; did you mean 'xi'"),
        ({"samples": "t"}, ValueError, r"samples='t' must hold arrays of shape \(n, M, ...\) .* the term 'mean'"),
        ({"samples": 3}, TypeError, "MultilevelMonteCarlo: samples must be the name of an entry; got 3"),
    ],
)
def test_mistakes_are_one_sentence(options, kind, sentence):
    with pytest.raises(kind, match=sentence):
        minimize(WEIGHTED, HERE, MultilevelMonteCarlo(**options), budget=Budget(steps=1))
