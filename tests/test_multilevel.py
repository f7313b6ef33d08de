"""Multilevel Monte Carlo over rows, and MUlSTREG: what their levels are, and when they pay."""

import jax
import numpy as np
import pytest
from finite_sums import BEST, OBJECTIVE, ZERO, N, gap, gradient_on, path_of, trajectories

from ravine.finite_sum import term_gradients
from ravine.methods import MUlSTREG, MultilevelMonteCarlo
from ravine.methods.multilevel_monte_carlo import Levels, _morton, _shared
from ravine.objective import LeastSquares, Term

jnp = jax.numpy


def smooth_row(p, x):
    return p["w"][0] * jnp.sin(3 * x[0]) + p["w"][1] * x[0] - jnp.cos(x[0])


def spread_of(method, objective, params):
    state = method.init(objective, params, key=None)
    keys = jax.random.split(jax.random.key(4), 400)
    # a few steps at one point, so that the level variances are known
    frozen = jax.jit(lambda s, k: method.step(objective, params, s, key=k).state)
    for k in keys[:20]:
        state = frozen(state, k)
    moves = jax.jit(jax.vmap(lambda k: method.step(objective, params, state, key=k).params["w"]))(keys)
    return float(np.sum(np.var(moves, axis=0)))


def test_levels_pay_where_the_coarse_sum_is_exact_and_neighbours_are_alike():
    x = np.linspace(0.0, 1.0, 256)[:, None]
    shuffled = np.random.default_rng(0).permutation(x)  # the hierarchy finds the neighbours by itself
    objective, params = LeastSquares({"s": Term(smooth_row, shuffled)}), {"w": jnp.asarray([1.0, 0.5])}
    method = lambda levels: MultilevelMonteCarlo(learning_rate=1.0, batch=48, levels=levels)
    plain, several, many = (spread_of(method(levels), objective, params) for levels in (1, 3, 5))
    assert several > 0.8 * plain  # 64 coarse rows do not fit into 48: nothing gained, as the arithmetic says
    assert many < 0.2 * plain  # 16 do


def test_rows_are_shared_out_by_variance_and_cost():
    """N_l ∝ √(V_l/C_l) with Σ C_l N_l as many as there are; what a full level leaves goes to the other."""
    levels = Levels(jnp.arange(4), jnp.asarray([16.0, 2.0]), jnp.ones(()))
    cost = jnp.asarray([1, 2])
    assert _shared(levels, jnp.asarray([1000, 1000]), cost, 30).tolist() == [20, 5]  # 4 : 1
    assert _shared(levels, jnp.asarray([10, 1000]), cost, 30).tolist() == [10, 10]


def test_the_level_variances_are_those_of_one_sample():
    """Averaged over many steps at one point, against all samples that a level can draw."""
    method, params = MultilevelMonteCarlo(batch=20, levels=2, memory=0.999), {"w": jnp.asarray([0.3, -0.2, 0.5, 0.1])}

    def body(state, key):
        return method.step(OBJECTIVE, params, state, key=key).state, None

    state = method.init(OBJECTIVE, params, key=None)
    state = jax.jit(lambda s: jax.lax.scan(body, s, jax.random.split(jax.random.key(3), 4000))[0])(state).terms["fit"]
    assert sorted(np.asarray(state.order)) == list(range(N))
    along = N * np.asarray(term_gradients(OBJECTIVE, "fit", params)[1])[np.asarray(state.order)]
    coarse, fine = along[0::2], along[1::2]  # 30 rows that stand for two each, and 30 that stand for themselves
    samples = 30 * (2 / N) * coarse, 30 * (1 / N) * (fine - coarse)
    np.testing.assert_allclose(state.variance, [np.sum(np.var(s, axis=0)) for s in samples], rtol=0.1)


@pytest.mark.parametrize("enabled", [False, True])
def test_many_rows_are_in_the_order_of_their_points(enabled):
    """Without 64-bit integers, as in float32: ranks times cells do not fit in 32 bits."""
    with jax.enable_x64(enabled):
        points = np.random.default_rng(0).permutation(50_000)[:, None].astype(np.float32)
        order = np.asarray(_morton(points, len(points)))
        np.testing.assert_array_equal(points[order, 0], np.arange(len(points)))


def test_mulstreg_on_all_rows_is_adaptive_regularisation():
    """With all rows in the batch and no coarse step it is AR1 and converges to the minimiser."""
    method = MUlSTREG(batch=N, coarse_every=10**9, regularisation=4.0, least=1e-12)
    w = trajectories(method, OBJECTIVE, ZERO, 400, 1, lambda p, info: (p["w"], info.value, info.scalars["gain"]))
    np.testing.assert_allclose(w[0][0, -1], BEST, atol=1e-6)
    assert np.all(np.diff(w[1][0]) <= 1e-15)


def test_mulstreg_uses_its_coarse_model():
    method = MUlSTREG(batch=20, coarse_every=2, least=0.5)  # steps end where the batch gradient is 0.5/λ
    watch = lambda p, info: (gap(p, info), info.scalars["coarse"], info.status)
    gaps, coarse, status = trajectories(method, OBJECTIVE, ZERO, 400, 10, watch)
    assert np.mean(coarse) == 0.5 and np.mean(status[coarse == 1] == 0) > 0.3
    assert np.mean(gaps[:, -1]) < 0.05 * np.mean(gaps[:, 0])


@pytest.mark.parametrize("every", [1, 2])
def test_steps_of_mulstreg_are_its_recurrence(every):
    """Coarse ones, and in turn with fine ones."""
    options = {"ratio": 4, "coarse_steps": 3, "regularisation": 0.5, "least": 0.1, "threshold": 0.9}
    method = MUlSTREG(batch=8, coarse_every=every, **options)
    where, infos, drawn = path_of(method, OBJECTIVE, ZERO, 60)
    # Fine: a value and gradient of 8 rows and a value; coarse, of 2 rows: 3 gradients and the value at the end.
    assert set(infos.counts.batch) == ({4 * 8 + 10 * 2} if every == 1 else {4 * 8 + 10 * 2, 4 * 8})
    points = OBJECTIVE.parts["fit"].points
    value_on = lambda rows, w: np.mean((np.asarray(points["a"])[rows] @ w - np.asarray(points["y"])[rows]) ** 2) / 2
    keys = jax.random.split(jax.random.split(jax.random.key(11), 1)[0], 60)
    w, lam, reasons = np.zeros(4), 0.5, set()
    for k, rows in enumerate(drawn):
        np.testing.assert_allclose(where[k], w, rtol=0, atol=1e-12)
        np.testing.assert_allclose(infos.scalars["lambda"][k], lam)
        g, s = gradient_on(OBJECTIVE, rows, w), np.zeros(4)
        assert infos.scalars["coarse"][k] == (every == 1 or k % 2 == 1)
        if infos.scalars["coarse"][k]:
            part = np.asarray(method._fewer(keys[k], {"fit": jnp.asarray(rows)})["fit"])
            assert len(part) == 2 and set(part) <= set(rows)
            lift = g - gradient_on(OBJECTIVE, part, w)
            for _ in range(3):
                s = s - (gradient_on(OBJECTIVE, part, w + s) + lift + lam * s) / (2 * lam)
            predicted = value_on(part, w) - value_on(part, w + s) - lift @ s
        else:
            s, predicted = -g / lam, g @ g / lam
        gain = (value_on(rows, w) - value_on(rows, w + s)) / (predicted if predicted > 0 else 1.0)
        np.testing.assert_allclose(infos.scalars["gain"][k], gain, rtol=1e-6)
        why = (bool(predicted > 0 and gain >= 0.9), bool(np.linalg.norm(g) * lam >= 0.1))
        reasons.add(why)
        w, lam = (w + s, lam / 2) if all(why) else (w, 2 * lam)
    assert (True, True) in reasons
    assert not all(gain for gain, _ in reasons)
    assert every == 2 or not all(large for _, large in reasons)  # fine steps fail by their gain first
