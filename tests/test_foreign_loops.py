"""SOAP, Shampoo and SSBroyden in training loops that are not ours: Equinox's filtered loop and Flax NNX's optimizer."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ravine import transforms

POINTS = jnp.linspace(-1.0, 1.0, 16)[:, None]
VALUES = jnp.sin(3.0 * POINTS)
FIRST_ORDER = {
    "soap": lambda: transforms.soap(1e-2, frequency=5),
    "shampoo": lambda: transforms.shampoo(3e-2),
    "chain": lambda: optax.chain(
        optax.clip_by_global_norm(1.0), transforms.scale_by_soap(), optax.scale_by_learning_rate(1e-2)
    ),
}


def network():
    return eqx.nn.MLP(1, 1, 8, 2, activation=jnp.tanh, key=jax.random.key(0))


def misfit(model):
    return jnp.mean((jax.vmap(model)(POINTS) - VALUES) ** 2)


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_an_equinox_loop(name):
    transform, model = FIRST_ORDER[name](), network()

    @eqx.filter_jit
    def step(model, state):
        loss, grads = eqx.filter_value_and_grad(misfit)(model)
        move, state = transform.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, move), state, loss

    state = transform.init(eqx.filter(model, eqx.is_inexact_array))
    losses = []
    for _ in range(120):
        model, state, loss = step(model, state)
        losses.append(float(loss))
    assert losses[-1] < 0.15 * losses[0], (losses[0], losses[-1])


def test_an_equinox_loop_with_a_search():
    transform = transforms.ssbroyden()
    arrays, static = eqx.partition(network(), eqx.is_inexact_array)
    loss = lambda arrays: misfit(eqx.combine(arrays, static))
    value_and_grad = optax.value_and_grad_from_state(loss)

    @jax.jit
    def step(arrays, state):
        value, grad = value_and_grad(arrays, state=state)
        move, state = transform.update(grad, state, arrays, value=value, grad=grad, value_fn=loss)
        return optax.apply_updates(arrays, move), state, value

    state, values = transform.init(arrays), []
    for _ in range(60):
        arrays, state, value = step(arrays, state)
        values.append(float(value))
    assert np.all(np.diff(values) <= 0) and values[-1] < 1e-3 * values[0]


def flax_network(nnx):
    class Network(nnx.Module):
        def __init__(self, rngs):
            self.inner = nnx.Linear(1, 8, rngs=rngs, param_dtype=jnp.float64)
            self.outer = nnx.Linear(8, 1, rngs=rngs, param_dtype=jnp.float64)

        def __call__(self, x):
            return self.outer(jnp.tanh(self.inner(x)))

    return Network(nnx.Rngs(0))


@pytest.mark.parametrize("name", ["soap", "shampoo"])
def test_a_flax_loop(name):
    nnx = pytest.importorskip("flax.nnx")
    model = flax_network(nnx)
    optimizer = nnx.Optimizer(model, FIRST_ORDER[name](), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        loss, grads = nnx.value_and_grad(lambda m: jnp.mean((m(POINTS) - VALUES) ** 2))(model)
        optimizer.update(model, grads)
        return loss

    losses = [float(step(model, optimizer)) for _ in range(120)]
    assert losses[-1] < 0.3 * losses[0], (losses[0], losses[-1])


def test_a_flax_loop_with_a_search():
    nnx = pytest.importorskip("flax.nnx")
    model = flax_network(nnx)
    optimizer = nnx.Optimizer(model, transforms.ssbroyden(), wrt=nnx.Param)
    structure, _, rest = nnx.split(model, nnx.Param, ...)

    def loss(params):
        return jnp.mean((nnx.merge(structure, params, rest)(POINTS) - VALUES) ** 2)

    @nnx.jit
    def step(model, optimizer):
        params = nnx.state(model, nnx.Param)
        value, grads = jax.value_and_grad(loss)(params)
        optimizer.update(model, grads, value=value, grad=grads, value_fn=loss)
        return value

    values = [float(step(model, optimizer)) for _ in range(60)]
    assert np.all(np.diff(values) <= 0) and values[-1] < 1e-2 * values[0]
