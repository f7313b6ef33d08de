"""SOAP and Shampoo against dense references in NumPy, and what defines them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ravine import transforms
from ravine.transforms.matrices import matrix_shape

RATE, B1, B2, EPS = 0.03, 0.9, 0.8, 1e-8


def gradients(shape, steps, seed=0):
    """Gradients that belong together: a fixed matrix and noise."""
    rng = np.random.default_rng(seed)
    fixed = rng.normal(size=shape)
    return [fixed + 0.5 * rng.normal(size=shape) for _ in range(steps)]


def transformed(transform, grads, params=None):
    """The updates for a list of gradients (each a pytree), one compiled program."""
    traces = []

    @jax.jit
    def update(grad, state):
        traces.append(1)
        return transform.update(grad, state, params)

    state, out = transform.init(grads[0]), []
    for grad in grads:
        move, state = update(grad, state)
        out.append(move)
    assert len(traces) == 1
    return out, state


def soap_reference(grads, frequency, left=True, right=True):
    """The published algorithm as it is written: momentum in the original basis, projected at every step."""
    m, n = grads[0].shape
    beta = lambda old, new, b: b * old + (1 - b) * new
    factors = [np.zeros((m, m)), np.zeros((n, n))]
    bases = [np.eye(m), np.eye(n)]
    used = [left, right]
    momentum, second, moves = np.zeros((m, n)), np.zeros((m, n)), []
    for t, g in enumerate(grads):
        squares = [g @ g.T, g.T @ g]
        if t == 0:
            factors = [beta(f, s, B2) for f, s in zip(factors, squares, strict=True)]
            bases = [np.linalg.eigh(f)[1][:, ::-1] if u else b for f, b, u in zip(factors, bases, used, strict=True)]
            moves.append(np.zeros_like(g))
            continue
        momentum = beta(momentum, g, B1)
        second = beta(second, (bases[0].T @ g @ bases[1]) ** 2, B2)
        turned = bases[0].T @ momentum @ bases[1]
        step = (turned / (1 - B1**t)) / (np.sqrt(second / (1 - B2**t)) + EPS)
        moves.append(-RATE * bases[0] @ step @ bases[1].T)
        factors = [beta(f, s, B2) for f, s in zip(factors, squares, strict=True)]
        if t % frequency == 0:
            for side in (0, 1):
                if used[side]:
                    quotients = np.diag(bases[side].T @ factors[side] @ bases[side])
                    order = np.argsort(-quotients, kind="stable")
                    second = np.take(second, order, axis=side)
                    bases[side] = np.linalg.qr(factors[side] @ bases[side][:, order])[0]
    return moves


def soap(**options):
    return transforms.soap(RATE, B1, B2, EPS, **options)


@pytest.mark.parametrize("frequency", [1, 3, 10])
def test_soap_is_the_published_algorithm(frequency):
    grads = gradients((5, 4), 14)
    moves, state = transformed(soap(frequency=frequency), grads)
    for got, want in zip(moves, soap_reference(grads, frequency), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-10 * RATE)
    for side in state[0].sides[0]:
        np.testing.assert_allclose(side.basis.T @ side.basis, np.eye(len(side.basis)), atol=1e-13)


def test_a_side_that_is_too_long_is_not_rotated():
    grads = gradients((7, 3), 8)
    moves, state = transformed(soap(frequency=2, max_precond_dim=5), grads)
    assert state[0].sides[0].left is None
    for got, want in zip(moves, soap_reference(grads, 2, left=False), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-10 * RATE)


def test_without_rotation_soap_is_adam():
    """Vectors, scalars, and matrices with both sides too long, from the first step on."""
    rng = np.random.default_rng(1)
    grads = [{"v": rng.normal(size=6), "s": np.asarray(rng.normal()), "m": rng.normal(size=(8, 9))} for _ in range(12)]
    grads = [jax.tree.map(jnp.asarray, g) for g in grads]
    moves, _ = transformed(soap(max_precond_dim=7), grads)
    wanted, _ = transformed(optax.adam(RATE, B1, B2, EPS), grads)
    for got, want in zip(moves, wanted, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-13 * RATE), got, want)


def test_soap_in_an_eigenbasis_of_axes_is_adam():
    """Diagonal factors have the axes as eigenvectors, so the rotation is a permutation with signs, which Adam ignores.

    Row and column products of the gradients vanish: each has one entry in every row and column, at changing places.
    """
    rng = np.random.default_rng(2)
    shifts = [np.roll(np.eye(4), k, axis=1) for k in range(4)]
    first = np.diag([4.0, 3.0, 2.0, 1.0])
    grads = [first, *(shifts[t % 4] * rng.uniform(0.5, 1.5, size=(4, 4)) for t in range(12))]
    moves, _ = transformed(soap(frequency=3), grads)
    wanted, _ = transformed(optax.adam(RATE, B1, B2, EPS), grads[1:])
    for got, want in zip(moves[1:], wanted, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-13)


@pytest.mark.parametrize("make", [soap, transforms.shampoo], ids=["soap", "shampoo"])
def test_equivariance(make):
    """In another orthonormal basis of rows and columns, the same updates in that basis. Adam lacks this."""
    rng = np.random.default_rng(3)
    left, right = np.linalg.qr(rng.normal(size=(4, 4)))[0], np.linalg.qr(rng.normal(size=(3, 3)))[0]
    grads = gradients((4, 3), 7)
    turned = [left @ g @ right.T for g in grads]
    for frequency in (1, 3):
        moves, _ = transformed(make(frequency=frequency), grads)
        others, _ = transformed(make(frequency=frequency), turned)
        for a, b in zip(moves, others, strict=True):
            np.testing.assert_allclose(left @ a @ right.T, b, atol=1e-9)
    adam, _ = transformed(optax.adam(RATE), grads)
    other, _ = transformed(optax.adam(RATE), turned)
    assert np.abs(left @ adam[-1] @ right.T - other[-1]).max() > 0.1 * RATE


def test_soap_follows_the_eigenvectors():
    """Gradients of one fixed covariance: power steps diagonalise both factors."""
    rng = np.random.default_rng(4)
    scale = np.geomspace(1.0, 0.1, 4)
    basis = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    grads = [basis @ (scale[:, None] * rng.normal(size=(4, 40))) for _ in range(60)]
    _, state = transformed(transforms.soap(b2=0.99, frequency=1, max_precond_dim=10), grads)
    factor, turned = state[0].sides[0].left
    inside = turned.T @ factor @ turned
    assert np.abs(inside - np.diag(np.diag(inside))).max() < 0.02 * inside[0, 0]
    assert np.all(np.diff(np.diag(inside)) < 0)


def power(a, exponent, eps):
    values, vectors = np.linalg.eigh(a + eps * np.eye(len(a)))
    return (vectors * values**exponent) @ vectors.T


@pytest.mark.parametrize(("decay", "frequency"), [(1.0, 1), (0.7, 1), (1.0, 4)])
def test_shampoo_is_the_published_algorithm(decay, frequency):
    eps = 1e-3
    grads = gradients((5, 3), 12)
    moves, _ = transformed(transforms.scale_by_shampoo(decay, eps, frequency=frequency), grads)
    left, right = np.zeros((5, 5)), np.zeros((3, 3))
    for t, (g, got) in enumerate(zip(grads, moves, strict=True)):
        left, right = decay * left + g @ g.T, decay * right + g.T @ g
        if t < frequency or t % frequency == 0:
            roots = power(left, -0.25, eps), power(right, -0.25, eps)
        np.testing.assert_allclose(got, roots[0] @ g @ roots[1], atol=1e-11)


def test_no_singular_value_of_a_fresh_shampoo_direction_exceeds_one():
    grads = [10.0**-t * g for t, g in enumerate(gradients((4, 4), 8))]
    moves, _ = transformed(transforms.scale_by_shampoo(0.5), grads)
    assert all(np.linalg.norm(m, 2) < 1 + 1e-6 for m in moves)


def test_stale_roots_blow_up_what_is_new():
    """Why the roots are made anew at every step by default: they know nothing of a direction that appears later."""
    old, new = np.diag([1.0, 0.0]), np.diag([0.0, 1e-3])
    grads = [old] * 5 + [new]
    fresh, _ = transformed(transforms.scale_by_shampoo(), grads)
    stale, _ = transformed(transforms.scale_by_shampoo(frequency=4), grads)
    assert np.linalg.norm(fresh[-1], 2) <= 1.0 + 1e-6
    assert np.linalg.norm(stale[-1], 2) > 100.0


def test_shampoo_of_a_vector_is_full_matrix_adagrad():
    eps = 1e-3
    grads = gradients((4,), 6)
    moves, _ = transformed(transforms.scale_by_shampoo(eps=eps), grads)
    moment = np.zeros((4, 4))
    for g, got in zip(grads, moves, strict=True):
        moment += np.outer(g, g)
        np.testing.assert_allclose(got, power(moment, -0.5, eps) @ g, atol=1e-12)


def test_shampoo_keeps_the_diagonal_of_a_long_side():
    eps = 1e-3
    grads = [{"m": m, "v": v, "s": s} for m, v, s in zip(*(gradients(x, 5) for x in ((6, 3), (7,), ())), strict=True)]
    moves, _ = transformed(transforms.scale_by_shampoo(eps=eps, max_precond_dim=5), grads)
    left, right, v, s = np.zeros(6), np.zeros((3, 3)), np.zeros(7), 0.0
    for g, got in zip(grads, moves, strict=True):
        left, right = left + (g["m"] ** 2).sum(1), right + g["m"].T @ g["m"]
        v, s = v + g["v"] ** 2, s + g["s"] ** 2
        want = ((left + eps) ** -0.25)[:, None] * g["m"] @ power(right, -0.25, eps)
        np.testing.assert_allclose(got["m"], want, atol=1e-12)
        np.testing.assert_allclose(got["v"], g["v"] / np.sqrt(v + eps), atol=1e-13)
        np.testing.assert_allclose(got["s"], g["s"] / np.sqrt(s + eps), atol=1e-13)


def test_momentum_and_decay_of_weights():
    grads, params = gradients((3, 3), 4), jnp.ones((3, 3))
    direction, _ = transformed(transforms.scale_by_shampoo(), grads)
    moves, _ = transformed(transforms.shampoo(0.1, 0.5, weight_decay=0.2), grads, params)
    velocity = np.zeros((3, 3))
    for d, got in zip(direction, moves, strict=True):
        velocity = 0.5 * velocity + d
        np.testing.assert_allclose(got, -0.1 * (velocity + 0.2), atol=1e-14)
    plain, _ = transformed(transforms.soap(0.1), grads)
    decayed, _ = transformed(transforms.soap(0.1, weight_decay=0.2), grads, params)
    for a, b in zip(plain, decayed, strict=True):
        np.testing.assert_allclose(b, a - 0.02, atol=1e-14)


@pytest.mark.parametrize("make", [soap, transforms.shampoo], ids=["soap", "shampoo"])
def test_more_axes_are_merged(make):
    """At the cut whose longer side is shortest: the convolutions of Flax and of Equinox between output and patch."""
    grads = gradients((2, 3, 2, 4), 6)
    moves, _ = transformed(make(frequency=2), grads)
    wanted, _ = transformed(make(frequency=2), [g.reshape(6, 8) for g in grads])
    for got, want in zip(moves, wanted, strict=True):
        np.testing.assert_allclose(got, want.reshape(2, 3, 2, 4), atol=1e-12)
    assert matrix_shape(jnp.zeros((3, 3, 16, 32)), 100) == (144, 32, False, True)
    assert matrix_shape(jnp.zeros((32, 16, 3, 3)), 100) == (32, 144, True, False)
    assert matrix_shape(jnp.zeros((4, 4, 4)), 100)[:2] == (4, 16)


@pytest.mark.parametrize("make", [soap, transforms.shampoo], ids=["soap", "shampoo"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_state_keeps_its_types(make, dtype):
    params = {"w": jnp.ones((3, 2), dtype), "b": jnp.ones(2, dtype), "empty": jnp.ones((0, 3), dtype), "none": None}
    transform = optax.with_extra_args_support(make(frequency=2))
    state = transform.init(params)

    def body(carry, grad):
        params, state = carry
        move, state = transform.update(grad, state, params, value=1.0)
        return (optax.apply_updates(params, move), state), move

    grads = jax.tree.map(lambda p: jnp.asarray(np.random.default_rng(0).normal(size=(5, *p.shape)), dtype), params)
    (params, after), moves = jax.lax.scan(body, (params, state), grads)  # fails to trace unless the state keeps types
    assert {x.dtype for x in jax.tree.leaves((params, moves))} == {jnp.dtype(dtype)}
    assert all(isinstance(x, jax.Array) and np.all(np.isfinite(x)) for x in jax.tree.leaves((after, moves)))


@pytest.mark.parametrize("make", [soap, transforms.shampoo], ids=["soap", "shampoo"])
def test_zero_gradients_do_not_move(make):
    moves, state = transformed(make(frequency=2), [np.zeros((3, 2))] * 5)
    assert all(np.all(np.asarray(m) == 0) for m in moves)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(state))


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: transforms.soap(0.0), "learning_rate"),
        (lambda: transforms.soap("fast"), "learning_rate"),
        (lambda: transforms.soap(b1=1.0), "b1"),
        (lambda: transforms.soap(eps=0.0), "eps"),
        (lambda: transforms.soap(weight_decay=-1.0), "weight_decay"),
        (lambda: transforms.soap(frequency=0), "frequency must be a whole number, at least 1; got 0"),
        (lambda: transforms.soap(frequency=2.5), "frequency must be a whole number, at least 1; got 2.5"),
        (lambda: transforms.shampoo(max_precond_dim=True), "max_precond_dim"),
        (lambda: transforms.shampoo(momentum=1.0), "momentum"),
        (lambda: transforms.shampoo(decay=0.0), "decay"),
    ],
)
def test_bad_arguments_are_named(make, word):
    with pytest.raises((ValueError, TypeError), match=word):
        make()
