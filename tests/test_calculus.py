"""Derivatives of fields against dense Jacobians and Hessians, in value, in reverse mode, and in cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from ravine.calculus import directional, gradient, laplacian, second, taylor
from ravine.models.mlp import MLP

X = np.array([0.3, 0.7, -0.4])

FIELDS = {
    "network": lambda x: jnp.tanh(jnp.outer(x, x) @ jnp.ones(3)) * x,
    "inner jit, custom rule, power": lambda x: (
        jax.nn.silu(x) + jax.nn.softplus(x) ** 3 + (x**2 + 1) ** 2.5 + jnp.where(x > 0, x, 2 * x) @ x
    ),
    "norm, quotient, log, product": lambda x: jnp.stack(
        [jnp.linalg.norm(x), x[0] / x[1], jnp.log(x[2] ** 2), jnp.prod(x)]
    ),
    "loop": lambda x: jax.lax.fori_loop(0, 3, lambda i, y: jnp.sin(y * y), x),
    "gather, concatenate, sort": lambda x: (
        jnp.concatenate([jnp.sort(x), x * x])[jnp.array([1, 4])] - jnp.array([3.0, 1.0])
    ),
    "difference and powers": lambda x: 3 - x[::-1] ** 3 - (2 - jnp.cos(x)) * (x - 1.0),
    "linear solve": lambda x: jnp.linalg.solve(jnp.eye(3) + jnp.outer(x, x), x),
    "exponentials and a logistic": lambda x: jnp.exp(-x) / (1 + jnp.exp(-x @ x)) + jax.nn.sigmoid(3 * x),
    "integers in between": lambda x: x * jnp.floor(3 * x).astype(int) + jnp.argmax(x),
    "inner vmap": lambda x: jax.vmap(lambda a: jnp.cos(a) * x)(x)[0],
    "linear": lambda x: jnp.arange(6.0).reshape(2, 3) @ x + 1,
    "constant": lambda x: jnp.ones(2),
}


def dense(u, x, v, a):
    j, h = jax.jacfwd(u)(x), jax.hessian(u)(x)
    return u(x), jnp.einsum("cd,kd->kc", j, v), jnp.einsum("cde,kd,ke->c", h, v, v) + j @ a


# two directions are carried as two arrays, twelve as one
@pytest.mark.parametrize(("count", "method"), [(2, "sweep"), (12, "sweep"), (2, "nested")])
@pytest.mark.parametrize("name", FIELDS)
def test_taylor_agrees_with_dense_derivatives(name, count, method):
    rng = np.random.default_rng(count)
    v, a = rng.normal(size=(count, 3)), rng.normal(size=3)
    u = FIELDS[name]
    swept, exact = jax.jit(lambda x: (taylor(u, x, v, a, method), dense(u, x, v, a)))(X)
    for got, want in zip(swept, exact, strict=True):
        assert got.shape == want.shape and got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_shorthands_agree_with_dense_derivatives():
    u = FIELDS["network"]
    j, h = jax.jacfwd(u)(X), jax.hessian(u)(X)
    v, w = np.array([0.2, -1.0, 0.5]), [1.0, 0.3, 2.0]
    np.testing.assert_allclose(gradient(u, X), j, rtol=1e-13)
    np.testing.assert_allclose(directional(u, X, w), j @ np.array(w), rtol=1e-13)
    np.testing.assert_allclose(laplacian(u, X), jnp.trace(h, axis1=1, axis2=2), rtol=1e-13)
    np.testing.assert_allclose(second(u, X, v), jnp.einsum("cij,i,j->c", h, v, v), rtol=1e-13)
    np.testing.assert_allclose(second(u, X, v, w), jnp.einsum("cij,i,j->c", h, v, np.array(w)), rtol=1e-13)


def test_a_curve_turns_the_parabolic_operator_into_one_stream():
    nu = 0.03

    def u(x):  # a solution of u_t = ν u_xx
        return (jnp.exp(-nu * 4 * x[1]) * jnp.sin(2 * x[0]))[None]

    value, slopes, bend = taylor(u, np.array([0.7, 0.4]), [[1.0, 0.0]], [0.0, -1.0 / nu])
    np.testing.assert_allclose(nu * bend, 0.0, atol=1e-15)
    np.testing.assert_allclose(slopes[0], 2 * np.exp(-nu * 1.6) * np.cos(1.4), rtol=1e-14)
    assert value.shape == (1,)


def test_gradients_in_the_parameters_agree_with_nested_jvp():
    model = MLP(2, 1, width=5, depth=2, activation="sin")
    flat, unravel = ravel_pytree(jax.tree.map(jnp.asarray, model.init(0)))
    x = np.random.default_rng(0).random((7, 2))

    def loss(theta, method):
        u = model.field(unravel(theta))
        return jnp.sum(jax.vmap(lambda y: laplacian(u, y, method))(x) ** 2)

    sweep, nested = jax.jit(lambda p: [jax.grad(loss)(p, method) for method in ("sweep", "nested")])(flat)
    np.testing.assert_allclose(sweep, nested, rtol=1e-11, atol=1e-11 * float(jnp.linalg.norm(nested)))


def test_every_layer_is_evaluated_once():
    model = MLP(2, 1, width=5, depth=3)
    params = model.init(0)

    def count(method):
        text = str(jax.make_jaxpr(lambda p, x: laplacian(model.field(p), x, method))(params, jnp.ones(2)))
        return text.count(" tanh "), text.count(" dot_general")

    # value, two slopes and a bend through four layers; the bend of the inputs is zero and is not multiplied
    assert count("sweep") == (3, 15)
    assert count("nested")[1] > 15


def test_float32_points_give_float32_derivatives():
    out = taylor(lambda x: jnp.tanh(x), jnp.ones(3, jnp.float32), np.eye(3), np.ones(3))
    assert {a.dtype for a in out} == {jnp.dtype("float32")}


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="choose one of sweep, nested"):
        laplacian(FIELDS["network"], X, "jet")
