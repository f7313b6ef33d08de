"""Dense and limited-memory quasi-Newton methods: the identities that define them, and what happens when all fails."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from ravine.directions.broyden import Pair, broyden_update
from ravine.globalize.wolfe import first_trial
from ravine.methods.bfgs import BFGS
from ravine.methods.lbfgs import LBFGS, apply_inverse, empty_memory, forget, push
from ravine.methods.ssbfgs import SSBFGS
from ravine.methods.ssbroyden import SSBroyden
from ravine.objective import Scalar
from ravine.types import Status

KEY = jax.random.key(0)
DENSE = [BFGS(), BFGS(scale_first=False), SSBFGS(), SSBFGS(variant="OL"), SSBroyden()]
METHODS = [*DENSE, LBFGS(), LBFGS(memory=1), LBFGS(memory=5, rescale=False)]
ENGINES = [SSBroyden(), LBFGS()]


def name(x):
    return f"{type(x).__name__}-{getattr(x, 'variant', getattr(x, 'memory', ''))}"


@eqx.filter_jit
def scan(method, objective, params, state, steps):
    def body(carry, _):
        step = method.step(objective, *carry, key=KEY)
        return (step.params, step.state), step.info

    return jax.lax.scan(body, (params, state), None, length=steps)


def run(method, objective, params, steps):
    dynamic, static = eqx.partition(method, lambda x: isinstance(x, float))
    method = eqx.combine(jax.tree.map(jnp.asarray, dynamic), static)  # as the driver does
    (params, state), info = scan(method, objective, params, method.init(objective, params, key=KEY), steps)
    return params, state, info


def random_pairs(size, seed, count=200):
    """H positive definite over many scales; steps along −Hg, so that b and h are those of a run."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        q, _ = np.linalg.qr(rng.normal(size=(size, size)))
        inverse = q * 10.0 ** rng.uniform(-3, 3, size) @ q.T
        inverse = 0.5 * (inverse + inverse.T)
        s, y = rng.normal(size=(2, size))
        if s @ y <= 0:
            y = -y
        yield inverse, s, y, s @ np.linalg.solve(inverse, s)


@pytest.mark.parametrize("method", DENSE, ids=name)
@pytest.mark.parametrize("size", [1, 2, 7])
def test_every_update_keeps_the_secant_equation_and_positive_definiteness(method, size):
    @jax.jit
    def update(inverse, s, y, sbs):
        w, sy = inverse @ y, s @ y
        scaling = method.scaling(sbs / sy, (y @ w) / sy, jnp.zeros((), bool), size)
        return broyden_update(inverse, jnp.zeros((), bool), Pair(s, y, w, jnp.ones((), bool)), scaling), scaling

    for inverse, s, y, sbs in random_pairs(size, seed=size):
        new, scaling = update(inverse, s, y, sbs)
        new = np.asarray(new)
        assert scaling.tau > 0
        np.testing.assert_array_equal(new, new.T)
        np.testing.assert_allclose(new @ y, s, rtol=1e-8, atol=1e-8 * np.linalg.norm(new) * np.linalg.norm(y))
        # H⁺ = tau-scaled H plus changes of rank two: positive eigenvalues, measured in the metric of H
        root = np.linalg.cholesky(inverse)
        relative = np.linalg.solve(root, np.linalg.solve(root, new).T)
        low, high = np.linalg.eigvalsh(0.5 * (relative + relative.T))[[0, -1]]
        assert low > -1e-9 * high


def test_phi_one_is_the_textbook_bfgs_update_and_phi_zero_is_dfp():
    for inverse, s, y, _ in random_pairs(6, seed=1, count=5):
        w, rho, one = inverse @ y, 1 / (s @ y), jnp.ones(())
        pair = Pair(s, y, w, jnp.ones((), bool))
        v = np.eye(6) - rho * np.outer(s, y)
        textbook = v @ inverse @ v.T + rho * np.outer(s, s)
        np.testing.assert_allclose(
            broyden_update(inverse, False, pair, (method := BFGS()).scaling(one, one, False, 6)),
            textbook,
            rtol=1e-7,
            atol=1e-7,
        )
        assert method.scaling(one, one, False, 6).phi == 1
        dfp = inverse - np.outer(w, w) / (y @ w) + rho * np.outer(s, s)
        scaling = method.scaling(one, one, False, 6)._replace(phi=0 * one)
        np.testing.assert_allclose(broyden_update(inverse, False, pair, scaling), dfp, rtol=1e-9, atol=1e-9)


def test_an_unusable_pair_leaves_the_matrix_alone():
    inverse, s = np.eye(3), np.array([1.0, 0.0, 0.0])
    pair = Pair(s, 0 * s, 0 * s, jnp.zeros((), bool))
    scaling = SSBroyden().scaling(jnp.ones(()), jnp.ones(()), False, 3)
    np.testing.assert_array_equal(broyden_update(inverse, False, pair, scaling), inverse)


def test_parallel_s_and_w_do_not_divide_by_zero():
    tau, phi = SSBroyden().scaling(jnp.asarray(2.0), jnp.asarray(0.5), jnp.zeros((), bool), 4)
    assert tau == 0.5 and phi == 1.0


def _quadratic(size=12):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(size, size))
    a = a @ a.T + 0.1 * np.eye(size)
    return Scalar(lambda p, a: 0.5 * p["x"] @ a @ p["x"] - jnp.sum(p["x"]), a), {"x": jnp.ones(size)}, a


def test_lbfgs_with_full_memory_is_bfgs_on_a_quadratic():
    objective, start, _ = _quadratic()
    x1, _, info1 = run(BFGS(), objective, start, 15)
    x2, _, info2 = run(LBFGS(memory=15, rescale=False), objective, start, 15)
    np.testing.assert_allclose(info1.value, info2.value, rtol=1e-12)
    np.testing.assert_allclose(info1.scalars["step_size"], info2.scalars["step_size"], rtol=1e-10)
    np.testing.assert_allclose(x1["x"], x2["x"], rtol=1e-10)
    _, _, rescaled = run(LBFGS(memory=15), objective, start, 15)
    assert not np.allclose(rescaled.value, info1.value, rtol=1e-3)  # the option has an effect


def test_the_memory_is_the_dense_product_and_the_oldest_pair_leaves():
    rng = np.random.default_rng(3)
    memory, pairs = empty_memory(5, 3, jnp.float64), []
    g = rng.normal(size=5)
    add = jax.jit(lambda m, s, y, use: push(m, s, y, use, True))
    for k in range(8):
        s = rng.normal(size=5)
        y = s * rng.uniform(0.5, 2.0, 5)
        memory = add(memory, s, y, jnp.asarray(k != 5))
        if k != 5:
            pairs.append((s, y))
        s, y = pairs[-1]
        dense = np.eye(5) * (s @ y) / (y @ y)
        for s, y in pairs[-3:]:
            v = np.eye(5) - np.outer(s, y) / (s @ y)
            dense = v @ dense @ v.T + np.outer(s, s) / (s @ y)
        np.testing.assert_allclose(apply_inverse(memory, g), dense @ g, rtol=1e-10)
    np.testing.assert_array_equal(apply_inverse(forget(memory, jnp.ones((), bool)), g), g)


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_rosenbrock_as_fast_as_scipy(method):
    start = np.tile([-1.2, 1.0], 3)
    objective = Scalar(lambda x: jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))
    x, _, info = run(method, objective, jnp.asarray(start), 400)
    theirs = optimize.minimize(optimize.rosen, start, jac=optimize.rosen_der, method="L-BFGS-B")
    evaluations = 1 + np.cumsum(info.counts.vjp)
    reached = np.flatnonzero(np.asarray(info.value) <= max(theirs.fun, 1e-12))
    assert reached.size, info.value[-1]
    slack = 8 if getattr(method, "memory", 9) == 1 else 2.5
    assert evaluations[reached[0]] <= slack * theirs.nfev, (evaluations[reached[0]], theirs.nfev)
    np.testing.assert_allclose(x, 1.0, atol=1e-6)
    assert np.all(np.isfinite(info.value)) and np.all(np.isfinite(x))
    assert not np.any(np.asarray(info.status) == Status.NONFINITE)  # 400 steps: long after the stall


@pytest.mark.parametrize("method", ENGINES, ids=name)
def test_zero_gradient_is_safe(method):
    x, state, info = run(method, Scalar(lambda p: jnp.sum((p - 1.0) ** 2)), jnp.ones(4), 3)
    np.testing.assert_array_equal(x, np.ones(4))
    assert np.all(np.asarray(info.status) == Status.OK)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((state, info)))


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_a_wall_of_nan_is_not_crossed(method):
    """The minimum lies 1e-3 from where the logarithm ends; the first trials fall beyond."""
    objective = Scalar(lambda x: -jnp.sum(jnp.log(x)) + 1e3 * jnp.sum(x))
    x, _, info = run(method, objective, jnp.asarray([3.0, 2.0, 1.0]), 150)
    np.testing.assert_allclose(x, 1e-3, rtol=1e-5)
    assert np.all(np.diff(np.asarray(info.value)) <= 1e-9 * np.abs(info.value[:-1]))


@pytest.mark.parametrize("method", ENGINES, ids=name)
def test_nan_at_the_start_is_named_and_nothing_moves(method):
    x, _, info = run(method, Scalar(lambda x: jnp.sum(jnp.log(x))), jnp.asarray([-1.0, 2.0]), 2)
    np.testing.assert_array_equal(x, [-1.0, 2.0])
    assert np.all(np.asarray(info.status) == Status.NONFINITE)
    assert np.all(np.asarray(info.counts.vjp) == 0)


class _Lying(eqx.Module):
    """A value whose gradient points the wrong way: no search can succeed."""

    @staticmethod
    @jax.custom_jvp
    def value(x):
        return jnp.sum(x)


_Lying.value.defjvp(lambda primal, tangent: (_Lying.value(*primal), -jnp.sum(tangent[0])))


@pytest.mark.parametrize("method", ENGINES, ids=name)
def test_a_stall_is_honest_and_leaves_the_parameters(method):
    x, _, info = run(method, Scalar(lambda x: _Lying.value(x)), jnp.asarray([1.0, 2.0]), 2)
    np.testing.assert_array_equal(x, [1.0, 2.0])
    assert np.all(np.asarray(info.status) == Status.NO_DESCENT)
    assert np.all(np.asarray(info.step_norm) == 0)


@pytest.mark.parametrize("method", ENGINES, ids=name)
def test_a_failed_search_restarts_from_the_gradient(method):
    objective, start, _ = _quadratic()
    x, state, _ = run(method, objective, start, 4)
    lying = Scalar(lambda p: _Lying.value(p["x"]))
    # the state is kept, the objective is swapped behind its back: −Hg is a descent direction, the search must fail
    grad = -jnp.ones_like(state.grad)
    state = state._replace(grad=grad, value=lying.value(x))
    (_, state), info = scan(method, lying, x, state, 2)
    assert [int(i) for i in info.status] == [Status.REJECTED, Status.NO_DESCENT]


@pytest.mark.parametrize("method", ENGINES, ids=name)
def test_refresh_takes_the_new_objective(method):
    objective, start, a = _quadratic()
    x, state, _ = run(method, objective, start, 6)
    other = Scalar(objective.fn, 2.0 * a)
    state = method.refresh(other, x, state)
    value, grad = other.value_and_grad(x)
    np.testing.assert_allclose(state.value, value, rtol=1e-14)
    np.testing.assert_allclose(state.grad, grad["x"], rtol=1e-14)
    (x, _), info = scan(method, other, x, state, 300)
    if isinstance(method, LBFGS):
        np.testing.assert_allclose(info.scalars["pairs"][0], 1)  # the memory was emptied, then took one pair
    np.testing.assert_allclose(x["x"], np.linalg.solve(2 * a, np.ones(12)), rtol=1e-5)


def test_float32_stays_float32_and_one_trace_serves_all_options():
    traces = []

    @eqx.filter_jit
    def step(method, params, state):
        traces.append(1)
        return method.step(objective, params, state, key=KEY)

    objective = Scalar(lambda x: jnp.sum((x - 1.0) ** 4))
    start = jnp.zeros(3, jnp.float32)
    for method in (SSBroyden(), LBFGS(memory=2)):
        traces.clear()
        state = method.init(objective, start, key=KEY)
        for c2 in (0.1, 0.9):
            tuned = eqx.tree_at(lambda m: (m.c1, m.c2, m.first_step), method, tuple(map(jnp.float32, (1e-4, c2, 1.0))))
            out = step(tuned, start, state)
            for new, old in zip(jax.tree.leaves(out.state), jax.tree.leaves(state), strict=True):
                assert new.dtype == old.dtype and new.shape == old.shape
            assert out.params.dtype == jnp.float32
        assert len(traces) == 1


@pytest.mark.parametrize(
    "make, word",
    [
        (lambda: LBFGS(memory=0), "memory"),
        (lambda: LBFGS(memory=2.5), "memory"),
        (lambda: BFGS(c1=0.9, c2=0.1), "c1"),
        (lambda: SSBroyden(first_step=-1.0), "first_step"),
        (lambda: SSBroyden(max_trials=0), "max_trials"),
        (lambda: SSBFGS(variant="XY"), "variant"),
        (lambda: LBFGS(first_trial="two"), "first_trial"),
    ],
)
def test_bad_options_are_named(make, word):
    with pytest.raises(ValueError, match=word):
        make()


def test_the_first_trial_follows_the_last_decrease_when_asked():
    def first(rule, fresh, decrease, slope, size=1.0, norm=8.0):
        numbers = (jnp.asarray(x) for x in (size, norm, decrease, slope))
        return float(first_trial(rule, 2.0, jnp.asarray(fresh), *numbers))

    assert first("decrease", True, -1.0, -4.0) == 0.25  # a move of length first_step along the gradient
    assert first("unit", True, 0.0, -4.0, norm=1e-3) == 1.0  # a move of length |g|
    np.testing.assert_allclose(1e-20 * first("unit", True, 0.0, -4.0, 3.0, 1e-20), 3.0 * 2.0**-26)  # not lost in theta
    assert first("unit", False, -1.0, -4.0) == 1.0
    np.testing.assert_allclose(first("decrease", False, -1.0, -4.0), 2.02 / 4)
    assert first("decrease", False, -10.0, -4.0) == 1.0  # never beyond the quasi-Newton step
    assert first("decrease", False, 0.0, -4.0) == 1.0  # nothing is known after a refresh or a failure
    start = jnp.asarray([-1.2, 1.0])
    objective = Scalar(lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2)
    _, _, unit = run(SSBroyden(first_trial="unit"), objective, start, 20)
    _, _, by_decrease = run(SSBroyden(), objective, start, 20)
    assert not np.array_equal(unit.value, by_decrease.value)
