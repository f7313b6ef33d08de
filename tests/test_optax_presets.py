"""The presets of Optax: the trajectory is Optax's own, bit for bit, in the driver's precision of options."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_optax_methods import POINTS, run

from ravine import Budget, minimize, transforms
from ravine import methods as m
from ravine.objective import LeastSquares, Scalar, Term
from ravine.transforms.schedules import Cosine, Warmup
from ravine.types import Status

CONTRIB = optax.contrib


def residual(params, x):
    hidden = jnp.tanh(params["kernel"] @ x + params["bias"])
    return params["last"] @ hidden - jnp.sin(3.0 * x[0])


OBJECTIVE = LeastSquares({"fit": Term(residual, POINTS)})
START = {
    "kernel": jax.random.normal(jax.random.key(0), (5, 1)),
    "bias": jax.random.normal(jax.random.key(1), (5,)),
    "last": jax.random.normal(jax.random.key(2), (1, 5)),
}


def outputs_first(params):
    sides = CONTRIB.MuonDimensionNumbers(reduction_axis=1, output_axis=0)
    return jax.tree.map(lambda p: sides if p.ndim == 2 else None, params)


def muon(rate, vectors=1e-3, **options):
    return CONTRIB.muon(rate, adam_learning_rate=vectors, muon_weight_dimension_numbers=outputs_first, **options)


PAIRS = {
    "AdaGrad": (m.AdaGrad(0.05, first=0.2), optax.adagrad(0.05, 0.2)),
    "RMSProp": (m.RMSProp(decay=0.99), optax.rmsprop(1e-3, 0.99)),
    "RMSProp-all": (m.RMSProp(momentum=0.5, centered=True), optax.rmsprop(1e-3, centered=True, momentum=0.5)),
    "AMSGrad": (m.AMSGrad(b2=0.9), optax.amsgrad(1e-3, b2=0.9)),
    "NAdam": (m.NAdam(b1=0.8), optax.nadam(1e-3, b1=0.8)),
    "RAdam": (m.RAdam(threshold=6.0), optax.radam(1e-3, threshold=6.0)),
    "AdaBelief": (m.AdaBelief(), optax.adabelief(1e-3)),
    "Lion": (m.Lion(weight_decay=0.1), optax.lion(1e-4, weight_decay=0.1)),
    "Muon": (m.Muon(), muon(2e-2)),
    "Muon-all": (
        m.Muon(0.1, 0.5, 1e-2, 0.1, nesterov=False, ns_steps=3),
        muon(0.1, 1e-2, beta=0.5, weight_decay=0.1, adam_weight_decay=0.1, nesterov=False, ns_steps=3),
    ),
    "ScheduleFree": (m.ScheduleFree(weight_decay=0.1), CONTRIB.schedule_free_adamw(2.5e-3, weight_decay=0.1)),
    "schedule": (m.ScheduleFree(Warmup(1e-2, 7)), CONTRIB.schedule_free_adamw(Warmup(1e-2, 7))),
}


def bare(transform, steps):
    @jax.jit
    def loop(params):
        def body(carry, _):
            params, state = carry
            grad = jax.grad(OBJECTIVE.value)(params)
            updates, state = transform.update(grad, state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(body, (params, transform.init(params)), None, length=steps)[0]

    return loop(START)


@pytest.mark.parametrize("name", PAIRS)
def test_a_preset_is_the_bare_optax_loop(name):
    method, transform = PAIRS[name]
    params, state, info = run(method, OBJECTIVE, START, 25)
    want, want_state = bare(transform, 25)
    for key in START:
        np.testing.assert_allclose(params[key], want[key], rtol=1e-11, atol=1e-13)
    assert np.all(info.status == Status.OK) and np.all(np.asarray(info.counts.vjp) == 1)
    if isinstance(method, m.ScheduleFree):
        average = CONTRIB.schedule_free_eval_params(want_state, want)
        for key in START:
            np.testing.assert_allclose(method.readout(params, state)[key], average[key], rtol=1e-10)


@pytest.mark.parametrize(
    ("method", "transform"),
    [
        (m.SOAP(0.01, weight_decay=0.1, frequency=2), transforms.soap(0.01, weight_decay=0.1, frequency=2)),
        (m.Shampoo(decay=0.9, frequency=2), transforms.shampoo(decay=0.9, frequency=2)),
    ],
)
def test_our_transformations_are_wrapped_as_they_are(method, transform):
    """Operation by operation: both divide rounding by rounding in directions that no gradient had yet, so two compiled
    programs part."""
    state, params, theirs = method.init(OBJECTIVE, START, key=None), START, START
    their_state = transform.init(START)
    for _ in range(4):
        params, state, _ = method.step(OBJECTIVE, params, state, key=None)
        move, their_state = transform.update(OBJECTIVE.value_and_grad(theirs)[1], their_state, theirs)
        theirs = optax.apply_updates(theirs, move)
    for key in START:
        np.testing.assert_array_equal(params[key], theirs[key])


def test_lion_moves_every_parameter_by_the_rate():
    params, _, _ = run(m.Lion(0.01), OBJECTIVE, START, 1)
    for key in START:
        np.testing.assert_allclose(np.abs(params[key] - START[key]), 0.01, rtol=1e-12)


def test_muon_moves_along_an_almost_orthogonal_matrix():
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)))
    fall = Scalar(lambda p: jnp.sum(p["m"] * matrix))
    params, _, _ = run(m.Muon(0.1), fall, {"m": jnp.zeros((6, 3))}, 1)
    values = np.linalg.svd(params["m"], compute_uv=False) / (0.1 * np.sqrt(2))  # 6 outputs, 3 inputs
    assert np.all((values > 0.6) & (values < 1.25))
    u, _, v = np.linalg.svd(matrix, full_matrices=False)
    assert -np.sum(np.asarray(params["m"]) * (u @ v)) > 0.6 * 0.1 * np.sqrt(2) * 3


def test_soap_reaches_the_bottom_of_a_turned_quadratic_before_adam():
    """½‖A W B‖² with A, B of condition 30 in random bases: ill-conditioned along no axis."""
    rng = np.random.default_rng(1)
    turn = lambda n: np.linalg.qr(rng.normal(size=(n, n)))[0]
    a, b = (turn(6) * np.geomspace(1, 1 / 30, 6) @ turn(6) for _ in range(2))
    bowl = Scalar(lambda p: 0.5 * jnp.sum((a @ p["w"] @ b) ** 2))
    start = {"w": jnp.asarray(rng.normal(size=(6, 6)))}
    decay = Cosine(3e-2, 0.0, 400)
    losses = {}
    for method in (m.Adam(decay), m.SOAP(decay)):
        params, _, _ = run(method, bowl, start, 400)
        losses[type(method).__name__] = float(bowl.value(params))
    assert losses["SOAP"] < 0.1 * losses["Adam"], losses


def test_shampoo_falls_steadily():
    _, _, info = run(m.Shampoo(0.1, momentum=0.0), OBJECTIVE, START, 60)
    value = np.asarray(info.value)
    assert value[-1] < 0.2 * value[0] and np.all(value[10:] < value[:-10])


def test_schedule_free_is_scored_at_the_average():
    run = minimize(OBJECTIVE, START, m.ScheduleFree(0.1), budget=Budget(steps=40))
    np.testing.assert_allclose(run.final["loss"], OBJECTIVE.value(run.params), rtol=1e-12)
    assert run.final["loss"] != run.rows[-2]["loss"]


@pytest.mark.parametrize("name", ["AdaBelief", "Lion", "Muon", "ScheduleFree", "SOAP", "Shampoo"])
def test_nan_leaves_everything_unchanged(name):
    wall = Scalar(lambda p: jnp.sum(jnp.log(p["x"]) * p["x"]))
    start = {"x": -jnp.ones((2, 2))}
    method = getattr(m, name)()
    params, state, info = run(method, wall, start, 2)
    np.testing.assert_array_equal(method.readout(params, state)["x"], start["x"])
    assert np.all(np.asarray(info.status) == Status.NONFINITE)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(state))


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: m.AdaGrad(first=-1.0), "AdaGrad: first"),
        (lambda: m.RMSProp(decay=1.0), "RMSProp: decay"),
        (lambda: m.RMSProp(momentum=1.0), "RMSProp: momentum"),
        (lambda: m.AMSGrad(0.0), "AMSGrad: learning_rate"),
        (lambda: m.NAdam(b1=1.0), "NAdam: b1"),
        (lambda: m.RAdam(threshold=4.0), "RAdam: threshold"),
        (lambda: m.AdaBelief(eps=0.0), "AdaBelief: eps"),
        (lambda: m.Lion(weight_decay=-1.0), "Lion: weight_decay"),
        (lambda: m.Muon(ns_steps=0), "Muon: ns_steps"),
        (lambda: m.Muon(vector_rate=-1.0), "Muon: vector_rate"),
        (lambda: m.ScheduleFree(b1=0.0), "ScheduleFree: b1"),
        (lambda: m.SOAP(frequency=0), "SOAP: frequency"),
        (lambda: m.SOAP("cosine"), "SOAP: learning_rate"),
        (lambda: m.Shampoo(decay=0.0), "Shampoo: decay"),
        (lambda: m.Shampoo(max_precond_dim=1.5), "Shampoo: max_precond_dim"),
    ],
)
def test_bad_options_are_named(make, word):
    with pytest.raises((ValueError, TypeError), match=word):
        make()
