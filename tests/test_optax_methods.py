"""Optax transformations under the method contract: the trajectory is Optax's own, bit for bit."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ravine.methods.optax_methods import SGD, Adam, AdamW, Optax
from ravine.objective import LeastSquares, Scalar, Term
from ravine.types import Status

KEY = jax.random.key(0)
POINTS = np.linspace(-1.0, 1.0, 12)[:, None]


def residual(params, x):
    return params["b"] @ jnp.tanh(params["w"] * x[0] + params["c"]) - jnp.sin(3.0 * x[0])


OBJECTIVE = LeastSquares({"fit": Term(residual, POINTS)})
START = {k: jax.random.normal(jax.random.key(i), (4,)) for i, k in enumerate("wbc")}


def run(method, objective, params, steps):
    """`steps` steps in one scan: fails to trace unless the state keeps its structure and types."""

    @eqx.filter_jit
    def loop(method, objective, params):
        state = method.init(objective, params, key=KEY)

        def body(carry, _):
            step = method.step(objective, *carry, key=KEY)
            return (step.params, step.state), step.info

        return jax.lax.scan(body, (params, state), None, length=steps)

    dynamic, static = eqx.partition(method, lambda x: isinstance(x, float))
    method = eqx.combine(jax.tree.map(jnp.asarray, dynamic), static)  # as the driver does
    (params, state), info = loop(method, objective, params)
    return params, state, info


def bare(transform, params, steps):
    transform = optax.with_extra_args_support(transform)

    @jax.jit
    def loop(params):
        def body(carry, _):
            params, state = carry
            value, grad = OBJECTIVE.value_and_grad(params)
            updates, state = transform.update(grad, state, params, value=value, grad=grad, value_fn=OBJECTIVE.value)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(body, (params, transform.init(params)), None, length=steps)[0]

    return loop(params)


@pytest.mark.parametrize(
    "method, transform",
    [
        (Optax(), optax.adam(1e-3)),
        (Adam(3e-3, b1=0.8), optax.adam(3e-3, b1=0.8)),
        (AdamW(weight_decay=0.1), optax.adamw(1e-3, weight_decay=0.1)),
        (SGD(0.05, nesterov=True), optax.sgd(0.05, momentum=0.9, nesterov=True)),
        (SGD(0.05, momentum=None), optax.sgd(0.05)),
        (Adam(optax.exponential_decay(1e-2, 10, 0.5)), optax.adam(optax.exponential_decay(1e-2, 10, 0.5))),
    ],
    ids=["Optax", "Adam", "AdamW", "SGD-nesterov", "SGD-plain", "schedule"],
)
def test_a_preset_is_the_bare_optax_loop(method, transform):
    params, state, info = run(method, OBJECTIVE, START, 40)
    want, want_state = bare(transform, START, 40)
    assert jax.tree.structure(state) == jax.tree.structure(want_state)
    for got, expected in zip(jax.tree.leaves((params, state)), jax.tree.leaves((want, want_state)), strict=True):
        if jax.default_backend() == "cpu":
            np.testing.assert_array_equal(got, expected)
        else:  # a GPU's compiler fuses two programs differently: half of the entries differ in the last digit
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)
    assert np.all(info.status == Status.OK)
    assert np.all(np.asarray(info.counts.vjp) == 1)
    value, grad = OBJECTIVE.value_and_grad(START)
    np.testing.assert_allclose(info.value[0], value, rtol=1e-14)
    np.testing.assert_allclose(info.grad_norm[0], optax.tree_utils.tree_norm(grad), rtol=1e-13)


def test_a_new_learning_rate_compiles_nothing():
    traces = []

    @eqx.filter_jit
    def step(method, params):
        traces.append(1)
        return method.step(OBJECTIVE, params, method.init(OBJECTIVE, params, key=KEY), key=KEY).info.step_norm

    lengths = [float(step(Adam(jnp.asarray(rate)), START)) for rate in (1e-3, 2e-3, 4e-3)]
    assert len(traces) == 1
    np.testing.assert_allclose(lengths[2] / lengths[0], 4.0, rtol=1e-12)


def test_optax_lbfgs_decreases_and_counts_its_trials():
    params, state, info = run(Optax(optax.lbfgs(memory_size=5)), OBJECTIVE, START, 15)
    want, _ = bare(optax.lbfgs(memory_size=5), START, 15)
    np.testing.assert_allclose(OBJECTIVE.value(params), OBJECTIVE.value(want), rtol=1e-6)
    assert np.all(np.diff(np.asarray(info.value)) <= 0)
    assert int(info.counts.vjp[0]) >= 2  # the entering point, then at least one trial
    assert np.all(np.asarray(info.counts.vjp[1:]) >= 1)  # later entering values come from the state
    np.testing.assert_allclose(OBJECTIVE.value(params), optax.tree_utils.tree_get(state, "value"), rtol=1e-12)


def test_refresh_forgets_a_stored_value():
    method = Optax(optax.lbfgs(memory_size=5))
    params, state, _ = run(method, OBJECTIVE, START, 3)
    other = LeastSquares({"fit": Term(residual, 0.5 * POINTS)})
    state = method.refresh(other, params, state)
    info = method.step(other, params, state, key=KEY).info
    np.testing.assert_allclose(info.value, other.value(params), rtol=1e-12)


@pytest.mark.parametrize("method", [Optax(), Adam(), AdamW(), SGD(), Optax(optax.lbfgs())])
def test_nan_leaves_everything_unchanged(method):
    params, _, info = run(method, Scalar(lambda p: jnp.log(p["x"]) * p["x"]), {"x": jnp.asarray(-1.0)}, 2)
    assert float(params["x"]) == -1.0
    assert np.all(np.asarray(info.status) == Status.NONFINITE)
    assert np.all(np.asarray(info.step_norm) == 0)


@pytest.mark.parametrize("method", [Optax(), Adam(), AdamW(weight_decay=0.0), SGD(), Optax(optax.lbfgs())])
def test_zero_gradient_is_safe(method):
    params, _, info = run(method, Scalar(lambda p: 0.0 * jnp.sum(p)), jnp.ones(3), 3)
    np.testing.assert_array_equal(params, np.ones(3))
    assert np.all(np.asarray(info.step_norm) == 0)


@pytest.mark.parametrize(
    "make, word",
    [
        (lambda: Adam(-1.0), "learning_rate"),
        (lambda: Adam(b1=1.0), "b1"),
        (lambda: Adam(eps=0.0), "eps"),
        (lambda: AdamW(weight_decay=-1.0), "weight_decay"),
        (lambda: SGD(momentum=1.5), "momentum"),
        (lambda: SGD(momentum=None, nesterov=True), "nesterov"),
        (lambda: SGD(float("nan")), "learning_rate"),
        (lambda: Optax(1e-3), "transformation"),
    ],
)
def test_bad_options_are_named(make, word):
    with pytest.raises((ValueError, TypeError), match=word):
        make()


def test_float32_stays_float32():
    start = jax.tree.map(lambda x: x.astype(jnp.float32), START)
    params, state, _ = run(Adam(), OBJECTIVE, start, 2)
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    moments = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert {x.dtype for x in moments} == {jnp.dtype("float32")}
