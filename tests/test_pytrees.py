"""Any pytree of parameters: containers, Equinox modules, Flax NNX state, frozen and bounded leaves."""

import equinox as eqx
import jax
import numpy as np
import pytest
from flax import nnx
from small import POINTS, TIMES, network, start

import ravine as rv
from ravine.driver import engine

jnp = jax.numpy
FEW = rv.Budget(steps=10)


def fit(u, weight=1.0):
    """u(params, x) -> () fitted to sin 3x."""
    return rv.LeastSquares({"fit": rv.Term(lambda p, x: u(p, x) - jnp.sin(3 * x[0]), POINTS, weight)})


def same_shape(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.shape(x) == np.shape(y)


# -- containers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["adam", "lm"])
def test_nested_containers(method):
    p = start()
    params = {"hidden": (p["w"], [p["c"]]), "out": {"b": p["b"]}, "steps": 3, "none": None}

    def u(q, x):
        return q["out"]["b"] @ jnp.tanh(q["hidden"][0] * x[0] + q["hidden"][1][0])

    run = rv.minimize(fit(u), params, method, budget=FEW)
    same_shape(run.params, params)
    assert run.params["steps"] == 3 and run.params["none"] is None
    flat = rv.minimize(fit(network), p, method, budget=FEW)
    np.testing.assert_allclose(run.rows[0]["loss"], flat.rows[0]["loss"], rtol=1e-14)
    np.testing.assert_allclose(run.rows[3]["loss"], flat.rows[3]["loss"], rtol=1e-6)
    assert run.final["loss"] < run.rows[0]["loss"]


def test_a_bare_array_and_a_scalar():
    line = rv.LeastSquares(rv.Term(lambda p, x: p[0] + p[1] * x[0] - (2 - 3 * x[0]), POINTS))
    run = rv.minimize(line, np.zeros(2), "lm", budget=rv.Budget(steps=30))
    np.testing.assert_allclose(run.params, [2, -3], atol=1e-8)
    point = rv.Scalar(lambda p: (p - 4.0) ** 2)
    np.testing.assert_allclose(rv.minimize(point, np.asarray(0.0), "lbfgs", budget=FEW).params, 4.0, rtol=1e-9)


def test_raw_use_as_in_the_readme():
    def pde(params, x):
        u = lambda s: network(params, s[None]) * (1 - s**2)
        return jax.grad(jax.grad(u))(x[0]) + jnp.pi**2 * jnp.sin(jnp.pi * x[0])

    run = rv.minimize(
        rv.LeastSquares({"pde": rv.Term(pde, POINTS)}),
        start(),
        rv.methods.LevenbergMarquardt(),
        budget=rv.Budget(seconds=20, steps=60),
    )
    assert run.final["loss"] < 1e-3 * run.rows[0]["loss"], run
    u = run.evaluate(lambda p, x: network(p, x) * (1 - x[0] ** 2), POINTS)
    assert np.linalg.norm(u - np.sin(np.pi * POINTS[:, 0])) < 0.3 * np.linalg.norm(np.sin(np.pi * POINTS[:, 0]))


# -- modules ---------------------------------------------------------------------------------------------------


class Dense(eqx.Module):
    kernel: jax.Array
    bias: jax.Array
    out: jax.Array
    activation: object = jnp.tanh
    name: str = eqx.field(static=True, default="dense")

    def __call__(self, x):
        return self.out @ self.activation(self.kernel * x[0] + self.bias)


@pytest.mark.parametrize("method", ["adam", "lm"])
def test_equinox_modules(method):
    p = start()
    net = Dense(p["w"], p["c"], p["b"])
    run = rv.minimize(fit(lambda net, x: net(x)), net, method, budget=FEW)
    assert isinstance(run.params, Dense) and run.params.activation is jnp.tanh
    assert run.final["loss"] < run.rows[0]["loss"]
    np.testing.assert_allclose(run.evaluate(lambda n, x: n(x), POINTS), jax.vmap(run.params)(POINTS), rtol=1e-12)


def test_an_equinox_mlp_and_its_recompilation():
    def residual(net, x):
        return net(x) - jnp.sin(3 * x)

    objective = rv.LeastSquares({"fit": rv.Term(residual, POINTS)})
    nets = [eqx.nn.MLP(1, 1, 8, 1, activation=jnp.tanh, key=jax.random.key(i)) for i in (0, 1)]
    first = rv.minimize(objective, nets[0], "lm", budget=FEW)
    traces = len(engine.traces)
    second = rv.minimize(objective, nets[1], "lm", budget=FEW)
    assert len(engine.traces) == traces
    assert first.rows[0]["loss"] != second.rows[0]["loss"]
    assert first.final["loss"] < 0.1 * first.rows[0]["loss"]


def test_flax_nnx_state():
    net = nnx.Sequential(
        nnx.Linear(1, 8, rngs=nnx.Rngs(0), param_dtype=jnp.float64),
        jnp.tanh,
        nnx.Linear(8, 1, rngs=nnx.Rngs(1), param_dtype=jnp.float64),
    )
    graph, state = nnx.split(net)

    def residual(state, x):
        return nnx.merge(graph, state)(x) - jnp.sin(3 * x)

    run = rv.minimize(rv.LeastSquares({"fit": rv.Term(residual, POINTS)}), state, "lm", budget=FEW)
    assert type(run.params) is type(state)
    same_shape(run.params, state)
    assert run.final["loss"] < 0.1 * run.rows[0]["loss"]
    trained = nnx.merge(graph, run.params)
    np.testing.assert_allclose(
        0.5 * np.mean((trained(POINTS) - np.sin(3 * POINTS)) ** 2), run.final["loss"], rtol=1e-10
    )


# -- inverse parameters, frozen leaves -------------------------------------------------------------------------


def growth(params, row):
    """u = network(t), u' = k u, u(0) = 1, with data for u: the rate k is unknown."""
    t, y = row
    u = lambda s: 1 + s * network(params["net"], s[None])
    return jnp.stack([jax.grad(u)(t) - params["rate"] * u(t), u(t) - y])


GROWTH = rv.LeastSquares({"ode": rv.Term(growth, (TIMES, np.exp(0.7 * TIMES)))})


def test_inverse_parameters_beside_a_network():
    params = {"net": start(), "rate": np.asarray(0.0)}
    run = rv.minimize(GROWTH, params, "lm", budget=rv.Budget(steps=60))
    assert run.params["rate"].shape == ()
    np.testing.assert_allclose(run.params["rate"], 0.7, atol=1e-3)


@pytest.mark.parametrize("method", ["adam", "lm"])
def test_frozen_leaves_stay_bit_identical(method):
    params = {"net": start(), "rate": np.asarray(0.7)}
    trainable = {"net": {"w": True, "c": True, "b": True}, "rate": False}
    run = rv.minimize(GROWTH, params, method, budget=FEW, trainable=trainable)
    assert float(run.params["rate"]) == 0.7
    assert run.final["loss"] < run.rows[0]["loss"]
    assert run.summary["parameters"] == 24
    traces = len(engine.traces)
    other = rv.minimize(GROWTH, params | {"rate": np.asarray(0.9)}, method, budget=FEW, trainable=trainable)
    assert float(other.params["rate"]) == 0.9 and other.rows[0]["loss"] != run.rows[0]["loss"]
    assert len(engine.traces) == traces  # frozen values are data, not constants of the program


def test_trainable_is_a_prefix():
    params = {"net": start(), "rate": np.asarray(0.5)}
    run = rv.minimize(GROWTH, params, "adam", budget=FEW, trainable={"net": False, "rate": True})
    for k, v in params["net"].items():
        np.testing.assert_array_equal(run.params["net"][k], v)
    assert float(run.params["rate"]) != 0.5


def test_frozen_integers_functions_and_low_precision_survive():
    params = {"net": start(), "power": np.asarray(2), "f": jnp.tanh, "rate": np.asarray(0.5), "key": jax.random.key(3)}
    run = rv.minimize(GROWTH, params, "adam", budget=FEW, trainable=None)
    assert run.params["f"] is jnp.tanh
    assert np.issubdtype(run.params["power"].dtype, np.integer) and int(run.params["power"]) == 2
    assert run.params["key"] == params["key"]


# -- bounds ----------------------------------------------------------------------------------------------------


def test_bounds_hold_at_every_row():
    seen = []
    params = {"net": start(), "rate": np.asarray(0.5)}
    run = rv.minimize(
        GROWTH,
        params,
        "lm",
        budget=rv.Budget(steps=25),
        bounds={"net": None, "rate": (0.4, 0.6)},
        callbacks=[lambda row, p: seen.append(float(p["rate"]))],
    )
    np.testing.assert_allclose(seen[0], 0.5, rtol=1e-12)
    assert all(0.4 <= k <= 0.6 for k in seen)
    assert 0.59 < float(run.params["rate"]) <= 0.6  # the optimum 0.7 lies outside


@pytest.mark.parametrize(
    "pair, optimum, reached",
    [((0.0, None), -1.0, 0.0), ((None, 3.0), 5.0, 3.0), ((0.0, 9.0), 2.0, 2.0), ((None, None), -1.0, -1.0)],
    ids=["below", "above", "inside", "free"],
)
def test_one_sided_bounds(pair, optimum, reached):
    def residual(p, x):
        return p["a"] - optimum + 0 * x[0]

    objective = rv.LeastSquares(rv.Term(residual, POINTS[:4]))
    bounds = {"a": pair, "b": (-1.0, 1.0)}
    run = rv.minimize(
        objective, {"a": np.asarray(1.0), "b": np.asarray(0.5)}, "lm", budget=rv.Budget(steps=60), bounds=bounds
    )
    np.testing.assert_allclose(run.params["a"], reached, atol=2e-2)
    lo, hi = pair
    assert (lo is None or run.params["a"] >= lo) and (hi is None or run.params["a"] <= hi)
    np.testing.assert_allclose(run.params["b"], 0.5, rtol=1e-14)  # nothing moves it but the map and its inverse


def test_bounds_by_entry():
    target = np.array([2.0, -2.0, 0.3])
    objective = rv.LeastSquares(rv.Term(lambda p, y: p @ y[:3] - y[3], np.c_[np.eye(3), target]))
    run = rv.minimize(
        objective, np.zeros(3), "lm", budget=rv.Budget(steps=60), bounds=(np.array([-1.0, -1.5, -2.0]), 1.0)
    )
    np.testing.assert_allclose(run.params, [1.0, -1.5, 0.3], atol=2e-2)


PARAMS = {"net": start(), "rate": np.asarray(0.5)}


@pytest.mark.parametrize(
    "bounds, words",
    [
        ({"net": None, "rate": [0, 1]}, r"write a pair as a tuple \(lo, hi\)"),
        ({"net": {"b": [np.zeros(8), None], "c": None, "w": None}, "rate": None}, "write a pair as a tuple"),
        ({"net": None, "rate": [0, 1, 2]}, "prefix tree of pairs"),
        ({"net": None, "rate": 0.5}, "prefix tree of pairs"),
        ({"rate": (0, 1)}, "not a prefix of params"),
        ({"net": None, "rate": (0.6, 1.0)}, r"params\['rate'\] = \(0\.6, 1\.0\): need lo < starting value < hi"),
        ({"net": None, "rate": (0.5, 1.0)}, "need lo < starting value < hi"),
        ({"net": None, "rate": (1.0, 0.0)}, "need lo < starting value < hi"),
        ({"net": None, "rate": (float("nan"), 1.0)}, "an end is a number"),
        (
            {"net": {"b": (np.r_[-9.0, np.full(7, -np.inf)], None), "c": None, "w": None}, "rate": None},
            "an end is a number",
        ),
        ({"net": {"b": (np.full((8, 1), -9.0), None), "c": None, "w": None}, "rate": None}, "shape .* does not fit"),
        ({"net": None, "rate": None}, "no trainable leaf is bounded"),
    ],
)
def test_bad_bounds(bounds, words):
    with pytest.raises(ValueError, match=words):
        rv.minimize(GROWTH, PARAMS, "adam", budget=FEW, bounds=bounds)


def test_bounds_on_a_frozen_leaf_are_refused():
    with pytest.raises(ValueError, match="no trainable leaf is bounded"):
        rv.minimize(
            GROWTH, PARAMS, "adam", trainable={"net": True, "rate": False}, bounds={"net": None, "rate": (0.0, 1.0)}
        )


# -- refusals and warnings -------------------------------------------------------------------------------------


def test_a_python_float_is_held_and_named():
    with pytest.warns(UserWarning, match=r"params\['rate'\] is a Python float and is held fixed"):
        run = rv.minimize(GROWTH, {"net": start(), "rate": 0.7}, "adam", budget=FEW)
    assert run.params["rate"] == 0.7


def test_a_float_of_a_module_is_no_warning():
    class Scaled(eqx.Module):
        weight: jax.Array
        scale: float = 2.0

    run = rv.minimize(rv.Scalar(lambda p: (p.scale * p.weight - 1) ** 2), Scaled(jnp.asarray(0.0)), "lbfgs", budget=FEW)
    np.testing.assert_allclose(run.params.weight, 0.5, rtol=1e-8)


@pytest.mark.parametrize(
    "params, trainable, error, words",
    [
        ({"z": np.asarray(1j)}, None, TypeError, r"params\['z'\]: a leaf is complex"),
        ({"n": np.asarray(3)}, None, ValueError, r"nothing to train; no leaf .* \(params\['n'\]: an array of int64\)"),
        ({"w": 1.0}, None, ValueError, r"params\['w'\]: a Python float\); write jnp.asarray\(1.0\)"),
        ({}, None, ValueError, r"nothing to train; no leaf .* \(it is empty\)"),
        ({"a": np.asarray(1.0)}, {"a": False}, ValueError, "nothing to train; no .* trainable={'a': False}"),
        ({"a": np.asarray(1.0)}, {"b": True}, ValueError, "trainable: the tree of .* is not a prefix"),
        ({"a": np.asarray(1.0)}, {"a": 1}, ValueError, "trainable: a prefix tree of booleans"),
    ],
)
def test_what_cannot_be_trained(params, trainable, error, words):
    with pytest.raises(error, match=words):
        rv.minimize(rv.Scalar(lambda p: 0.0), params, "adam", trainable=trainable)


def test_a_leaf_that_can_be_no_part_of_a_program_is_named():
    class Table(eqx.Module):
        rows: object

        def __call__(self, p):
            return (p["a"] - len(self.rows)) ** 2

    with pytest.raises(TypeError, match=r"holds a set at \S*\.fn\.rows, which is neither an array nor hashable"):
        rv.minimize(rv.Scalar(Table({1.0, 2.0})), {"a": np.asarray(1.0)}, "adam", budget=FEW)
