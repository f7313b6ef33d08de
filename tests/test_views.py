"""Lifts: frozen leaves bound in, bounds as smooth maps; the pulled objective keeps structure and derivatives."""

import jax
import numpy as np
import pytest
from small import DECAY, FIT, SCALAR, start

from ravine.objective import Composite, Structure, Term
from ravine.views import Bind, Bounds, bounds_on

jnp = jax.numpy


def box(lo, hi, value=0.3, dtype="float64"):
    made = bounds_on([(lo, hi)], [jnp.asarray(value)], ["['x']"], dtype)
    assert isinstance(made, Bounds)
    return made


@pytest.mark.parametrize(("lo", "hi"), [(-1.0, 2.0), (-1.0, None), (None, 2.0), (0.299999, 0.300001), (-1e6, 1e6)])
def test_bounds_map_and_come_back(lo, hi):
    bounds = box(lo, hi)
    inside = jnp.linspace(-1.0 if lo is None else lo, 2.0 if hi is None else hi, 41)[1:-1]
    np.testing.assert_allclose(bounds(bounds.inverse(inside)), inside, rtol=1e-9, atol=1e-12)
    z = jnp.linspace(-30, 30, 121)
    x = bounds(z)
    sign = 1.0 if lo is not None else -1.0  # below an upper end alone the map falls
    assert np.all(sign * np.diff(x) >= 0) and np.all(np.isfinite(x))
    assert lo is None or np.all(x >= lo)
    assert hi is None or np.all(x <= hi)
    slope = jax.vmap(jax.grad(lambda t: bounds(t)))(z)
    assert np.all(sign * slope >= 0) and np.all(np.isfinite(slope))


@pytest.mark.parametrize("gap", [1e-12, 1e-3, 1.0, 50.0, 1e4])
def test_one_sided_bounds_at_any_distance(gap):
    bounds = box(0.0, None, gap)
    np.testing.assert_allclose(bounds(bounds.inverse(jnp.asarray(gap))), gap, rtol=1e-12)


def test_no_bound_is_no_map():
    assert bounds_on([(None, None)], [jnp.asarray(0.3)], ["x"], "float64") is None
    assert bounds_on([(-np.inf, np.inf)], [jnp.asarray(0.3)], ["x"], "float64") is None
    assert bounds_on([None], [jnp.asarray(0.3)], ["x"], "float64") is None


def test_bounds_leave_other_leaves_alone():
    bounds = bounds_on([None, (0.0, 1.0)], [jnp.ones(2), jnp.asarray(0.5)], ["a", "b"], "float64")
    tree = {"a": jnp.asarray([5.0, -7.0]), "b": jnp.asarray(0.0)}
    np.testing.assert_array_equal(bounds(tree)["a"], tree["a"])
    np.testing.assert_allclose(bounds(tree)["b"], 0.5)


def test_bind_puts_the_tree_together():
    full = Bind({"a": None, "b": jnp.asarray(2.0), "f": jnp.tanh})({"a": jnp.asarray(1.0), "b": None, "f": None})
    assert float(full["a"]) == 1.0 and float(full["b"]) == 2.0 and full["f"] is jnp.tanh


ENERGY = Composite(Term(lambda p, x: p["b"] * x[0], np.linspace(0, 1, 8)[:, None]), lambda z, x: jnp.sum(jnp.cosh(z)))


@pytest.mark.parametrize("objective", [FIT, ENERGY, SCALAR], ids=["least squares", "composite", "scalar"])
def test_a_pulled_objective_keeps_structure_value_and_gradient(objective):
    params = jax.tree.map(jnp.asarray, start())
    free = {k: v if k == "b" else None for k, v in params.items()}
    frozen = {k: None if k == "b" else v for k, v in params.items()}
    pulled = objective.pull(Bind(frozen))
    assert pulled.structure == objective.structure and type(pulled) is type(objective)
    np.testing.assert_allclose(pulled.value(free), objective.value(params), rtol=1e-14)
    assert set(pulled.terms(free)) == set(objective.terms(params))
    gradient = pulled.value_and_grad(free)[1]
    np.testing.assert_allclose(gradient["b"], objective.value_and_grad(params)[1]["b"], rtol=1e-12)
    if Structure.COMPOSITE in objective.structure:
        assert pulled.linearize(free).jacobian().shape[1] == 8


def test_a_pulled_jacobian_follows_the_chain_rule():
    params = {"a": jnp.asarray(1.0), "k": jnp.asarray(0.5)}
    bounds = bounds_on([(0.0, 4.0), None], list(params.values()), ["a", "k"], "float64")
    free = bounds.inverse(params)
    slope = jax.grad(lambda z: bounds({"a": z, "k": params["k"]})["a"])(free["a"])
    rows, pulled = DECAY.linearize(params).jacobian(), DECAY.pull(bounds).linearize(free).jacobian()
    np.testing.assert_allclose(pulled, rows * jnp.stack([slope, 1.0]), rtol=1e-12)
