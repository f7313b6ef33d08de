"""Symmetric products, semidefinite factors and damped systems against NumPy."""

import jax
import numpy as np
import pytest

from ravine.linalg import symmetric
from ravine.linalg.damped import QR, Dual, Primal, Refined, Woodbury, usable
from ravine.linalg.symmetric import gram, outer_gram, psd_factor, pseudo_solve
from ravine.objective import LeastSquares, Term

jnp = jax.numpy


def matrix(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def test_blas_serves_the_products_here():
    assert symmetric.blas_available()
    if jax.default_backend() == "cpu":
        assert "ravine_syrk" in jax.jit(gram).lower(matrix(5, 3)).as_text()


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (3, 7), (130, 129), (600, 40)])
def test_products_equal_numpy(shape):
    a = matrix(*shape)
    np.testing.assert_allclose(jax.jit(gram)(a), np.asarray(a).T @ np.asarray(a), rtol=1e-13, atol=1e-12)
    np.testing.assert_allclose(jax.jit(outer_gram)(a), np.asarray(a) @ np.asarray(a).T, rtol=1e-13, atol=1e-12)
    assert bool(jnp.all(gram(a) == gram(a).T))


def test_products_in_single_precision():
    a = matrix(40, 9).astype(jnp.float32)
    assert gram(a).dtype == jnp.float32
    np.testing.assert_allclose(gram(a), np.asarray(a, np.float64).T @ np.asarray(a, np.float64), rtol=2e-5, atol=1e-5)


def test_products_under_vmap():
    a = matrix(4, 2, 11, 5)
    both = jax.vmap(jax.vmap(lambda x: (gram(x), outer_gram(x))))
    inner, outer = jax.jit(both)(a)
    np.testing.assert_allclose(inner, np.einsum("abij,abik->abjk", a, a), atol=1e-13)
    np.testing.assert_allclose(outer, np.einsum("abij,abkj->abik", a, a), atol=1e-13)


def test_products_inside_loops_and_branches():
    """Many calls from inside one compiled program: no deadlock, no reuse of a buffer before its time."""
    a = matrix(300, 64)

    @jax.jit
    def run(a):
        def body(i, total):
            scaled = a * (1 + i)
            term = jax.lax.cond(i % 2 == 0, lambda: gram(scaled), lambda: -gram(scaled))
            return total + term

        return jax.lax.fori_loop(0, 300, body, jnp.zeros((64, 64)))

    weights = sum((-1) ** i * (1 + i) ** 2 for i in range(300))
    np.testing.assert_allclose(run(a), weights * (np.asarray(a).T @ np.asarray(a)), rtol=1e-9, atol=1e-5)


def test_products_from_many_threads():
    from concurrent.futures import ThreadPoolExecutor

    arrays = [matrix(200, 80, seed=s) for s in range(16)]
    compiled = jax.jit(gram)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda a: np.asarray(compiled(a)), arrays * 4))
    for a, out in zip(arrays * 4, results, strict=True):
        np.testing.assert_allclose(out, np.asarray(a).T @ np.asarray(a), atol=1e-11)


def test_a_missing_blas_falls_back_on_the_plain_product(monkeypatch):
    monkeypatch.setattr(symmetric, "blas_available", lambda: False)
    a = matrix(6, 4)
    text = jax.jit(lambda x: gram(x)).lower(a).as_text()
    assert "ravine_syrk" not in text and "dot" in text
    np.testing.assert_allclose(gram(a), np.asarray(a).T @ np.asarray(a), atol=1e-14)


def test_plain_products_of_float32_are_float32_ones_on_a_gpu():
    for product in (gram, outer_gram):
        text = jax.jit(product).trace(matrix(6, 4).astype(jnp.float32)).lower(lowering_platforms=("cuda",)).as_text()
        assert "ravine_syrk" not in text and text.count("precision = [HIGHEST, HIGHEST]") == 1


def test_semidefinite_factor():
    half = np.random.default_rng(1).normal(size=(6, 3, 2))
    q = np.concatenate([half @ half.transpose(0, 2, 1), [np.diag([0.0, 2.0, 0.0]), np.zeros((3, 3)), np.eye(3)]])
    factor = psd_factor(jnp.asarray(q))
    np.testing.assert_allclose(factor @ jnp.swapaxes(factor, 1, 2), q, atol=1e-7)
    np.testing.assert_allclose((factor @ jnp.swapaxes(factor, 1, 2))[6:], q[6:], atol=1e-15)


def test_pseudo_solve_cuts_and_shifts():
    basis = np.linalg.qr(np.random.default_rng(2).normal(size=(4, 4)))[0]
    a = jnp.asarray(basis @ np.diag([1.0, 0.5, 1e-3, 0.0]) @ basis.T)
    b = jnp.asarray(basis @ np.array([1.0, 1.0, 1.0, 1.0]))
    for cutoff, shift, expected, rank in [
        (1e-6, 0.0, [1.0, 2.0, 1e3, 0.0], 3),
        (1e-2, 0.0, [1.0, 2.0, 0.0, 0.0], 2),
        (1e-2, 0.5, [1 / 1.5, 1.0, 0.0, 0.0], 2),
    ]:
        x, kept = pseudo_solve(a, b, cutoff, shift)
        assert int(kept) == rank
        np.testing.assert_allclose(basis.T @ x, expected, atol=1e-9)
    assert not np.any(np.isfinite(pseudo_solve(a * jnp.nan, b, 1e-6, 0.0)[0]))


@pytest.mark.parametrize("rows", [12, 4])
@pytest.mark.parametrize("form", [Primal, Refined, QR, Dual, Woodbury])
def test_damped_steps_equal_the_stacked_least_squares_solution(form, rows):
    rng = np.random.default_rng(3)
    data = rng.normal(size=(rows, 8))
    objective = LeastSquares(Term(lambda p, x: jnp.sin(x[:7] @ p) - x[7], data))
    theta, centre = jnp.asarray(rng.normal(size=7)), jnp.asarray(rng.normal(size=7))
    scale, w, damping = rng.uniform(0.5, 2.0, 7), rng.normal(size=rows), 0.3

    local = objective.linearize(theta)
    jac, r = np.asarray(local.jacobian()), np.asarray(local.residual)
    system = form(local, jnp.asarray(scale))
    factor = system.factor(damping)
    assert bool(usable(factor))

    stacked = np.concatenate([jac, np.sqrt(damping * scale)[:, None] * np.eye(7)])
    right = np.concatenate([-r, np.sqrt(damping * scale) * np.asarray(centre)])
    np.testing.assert_allclose(
        system.step(factor, damping, centre), np.linalg.lstsq(stacked, right, rcond=None)[0], atol=1e-12
    )
    applied = np.linalg.lstsq(stacked, np.concatenate([w, np.zeros(7)]), rcond=None)[0]
    np.testing.assert_allclose(system.apply(factor, damping, jnp.asarray(w)), applied, atol=1e-12)
    assert not bool(usable(system.factor(jnp.nan)))
