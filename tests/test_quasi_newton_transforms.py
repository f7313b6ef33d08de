"""Self-scaled quasi-Newton as Optax transformations: Optax's conventions, and the iterates of our methods."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ravine import Budget, methods, minimize, transforms
from ravine.objective import Scalar

START = {"a": jnp.array([0.3, 0.7]), "b": {"c": jnp.array([[1.0, -0.5]])}}


def valley(params, shift=0.0):
    """Rosenbrock's function in four variables, its minimum value `shift`."""
    x = jnp.concatenate([params["a"], params["b"]["c"].ravel()])
    return 100.0 * jnp.sum((x[1:] - x[:-1] ** 2) ** 2) + jnp.sum((1.0 - x[:-1]) ** 2) + shift


def trained(transform, steps, fn=valley, params=START, **extra):
    """(parameters, state, values) of a plain Optax loop, compiled once."""
    value_and_grad = optax.value_and_grad_from_state(fn)
    traces = []

    @jax.jit
    def step(params, state):
        traces.append(1)
        value, grad = value_and_grad(params, state=state)
        move, state = transform.update(grad, state, params, value=value, grad=grad, value_fn=fn, **extra)
        return optax.apply_updates(params, move), state, value

    state, values = transform.init(params), []
    for _ in range(steps):
        params, state, value = step(params, state)
        values.append(float(value))
    assert len(traces) == 1
    return params, state, values


CASES = {
    "ssbroyden": (transforms.ssbroyden(), methods.SSBroyden()),
    "ssbfgs-AB": (transforms.ssbfgs(), methods.SSBFGS()),
    "ssbfgs-OL": (transforms.ssbfgs("OL"), methods.SSBFGS(variant="OL")),
    "options": (transforms.ssbroyden(first_trial="unit", first_step=0.1, c1=1e-3, c2=0.5), None),
}


@pytest.mark.parametrize("name", CASES)
def test_the_iterates_are_those_of_the_method(name):
    transform, method = CASES[name]
    method = method or methods.SSBroyden(first_trial="unit", first_step=0.1, c1=1e-3, c2=0.5)
    params, _, values = trained(transform, 12)
    run = minimize(Scalar(lambda p: valley(p)), START, method, budget=Budget(steps=12))
    np.testing.assert_allclose(values, [row["loss"] for row in run.rows[:12]], rtol=1e-7)
    np.testing.assert_allclose(params["a"], run.params["a"], rtol=1e-7)
    np.testing.assert_allclose(params["b"]["c"], run.params["b"]["c"], rtol=1e-7)


def test_it_converges_and_decreases():
    params, state, values = trained(transforms.ssbroyden(), 80)
    np.testing.assert_allclose(params["a"], 1.0, rtol=1e-6)
    assert np.all(np.diff(values) <= 0)
    np.testing.assert_allclose(state.value, valley(params), atol=1e-20)
    for got, want in zip(jax.tree.leaves(state.grad), jax.tree.leaves(jax.grad(valley)(params)), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-9)


@pytest.mark.parametrize("make", [transforms.ssbfgs, transforms.ssbroyden])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_conventions(make, dtype):
    transform = make()
    assert isinstance(transform, optax.GradientTransformationExtraArgs)
    params = jax.tree.map(lambda x: x.astype(dtype), START)
    state = transform.init(params)
    value, grad = jax.value_and_grad(valley)(params)
    move, after = transform.update(grad, state, params, value=value, grad=grad, value_fn=valley)
    assert jax.tree.structure(move) == jax.tree.structure(params)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    kinds = [(x.shape, x.dtype, isinstance(x, jax.Array)) for x in jax.tree.leaves(state)]
    assert kinds == [(x.shape, x.dtype, isinstance(x, jax.Array)) for x in jax.tree.leaves(after)]
    assert {x.dtype for x in jax.tree.leaves(move)} == {jnp.dtype(dtype)}
    assert float(valley(optax.apply_updates(params, move))) < float(value)


@pytest.mark.parametrize("make", [transforms.ssbfgs, transforms.ssbroyden])
def test_what_is_missing_is_named(make):
    transform = make()
    grad = jax.grad(valley)(START)
    with pytest.raises(ValueError, match=rf"{make.__name__}: update needs params, value, grad, value_fn; call update"):
        transform.update(grad, transform.init(START))
    with pytest.raises(ValueError, match=r"update needs value_fn; .* as for optax\.lbfgs"):
        transform.update(grad, transform.init(START), START, value=1.0, grad=grad)


def test_in_a_chain():
    """Clipping before it changes the direction only: the search is on f, and its condition holds."""
    transform = optax.chain(optax.clip_by_global_norm(1.0), transforms.ssbroyden())
    _, state, values = trained(transform, 40)
    assert np.all(np.diff(values) <= 0) and values[-1] < 1e-2 * values[0]
    plain, _, _ = trained(optax.chain(optax.identity(), transforms.ssbroyden()), 12)
    alone, _, _ = trained(transforms.ssbroyden(), 12)
    np.testing.assert_allclose(plain["a"], alone["a"], rtol=1e-9)
    assert int(optax.tree.get(state, "num_linesearch_steps")) >= 1


def test_extra_arguments_reach_the_function():
    """Optax hands a chain's extra arguments to everyone; the search passes on those its function names."""
    transform = transforms.ssbfgs()
    grad = jax.grad(valley)(START)
    value = valley(START, shift=5.0)
    state = transform.init(START)
    _, after = transform.update(grad, state, START, value=value, grad=grad, value_fn=valley, shift=5.0, other="x")
    assert float(after.value) > 5.0


def test_in_our_own_loop():
    run = minimize(Scalar(lambda p: valley(p)), START, transforms.ssbroyden(), budget=Budget(steps=12))
    method = minimize(Scalar(lambda p: valley(p)), START, methods.SSBroyden(), budget=Budget(steps=12))
    np.testing.assert_allclose(run.final["loss"], method.final["loss"], rtol=1e-6)
    assert run.summary["counts"]["vjp"] >= 12


def test_nan_gives_no_update():
    transform = transforms.ssbroyden()
    bad = jax.tree.map(lambda x: x * jnp.nan, START)
    state = transform.init(START)
    move, after = transform.update(bad, state, START, value=jnp.nan, grad=bad, value_fn=valley)
    assert all(np.all(np.asarray(x) == 0) for x in jax.tree.leaves(move))
    assert np.all(np.isfinite(after.inverse)) and bool(after.fresh)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: transforms.ssbfgs("XX"), "ssbfgs: variant must be 'AB' or 'OL'"),
        (lambda: transforms.ssbroyden(c1=0.95), "ssbroyden: the Wolfe constants must satisfy"),
        (lambda: transforms.ssbroyden(first_trial="long"), "ssbroyden: first_trial must be one of"),
        (lambda: transforms.ssbfgs(first_step=-1.0), "ssbfgs: first_step must be positive"),
        (lambda: transforms.ssbfgs(max_trials=0), "ssbfgs: max_trials must be an integer of at least 1"),
    ],
)
def test_bad_arguments_are_named(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
