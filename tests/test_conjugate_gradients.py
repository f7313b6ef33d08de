"""Conjugate gradients against dense solutions, and how they stop."""

import jax
import numpy as np
import pytest
from quadratics import quadratic

from ravine.linalg.conjugate_gradients import grid, to_boundary, to_rest, within

jnp = jax.numpy
DEFINITE = quadratic(np.logspace(0, 3, 8)).matrix
SADDLE = quadratic([-2.0, 1.0, 3.0, 8.0], seed=4).matrix
B = np.random.default_rng(1).normal(size=8)


def solve(matrix, b, **options):
    return jax.jit(lambda m, v: within(lambda p: m @ p, v, **options))(jnp.asarray(matrix), jnp.asarray(b))


def rest(matrix, b, start, weights=1.0, **options):
    run = jax.jit(lambda m, v, s: to_rest(lambda p: m @ p, v, s, lambda r: weights * r, **options))
    return run(jnp.asarray(matrix), jnp.asarray(b), jnp.asarray(start))


def test_within_solves_a_definite_system():
    found = solve(DEFINITE, B, tolerance=1e-13, max_iterations=60)
    np.testing.assert_allclose(found.x, np.linalg.solve(DEFINITE, B), rtol=1e-9)
    np.testing.assert_allclose(found.product, B, rtol=1e-9)
    assert bool(found.curved) and 8 <= int(found.iterations) < 30


def test_the_residual_is_as_small_as_was_asked_and_iterations_are_bounded():
    found = solve(DEFINITE, B, tolerance=0.3, max_iterations=60)
    assert np.linalg.norm(DEFINITE @ found.x - B) <= 0.3 * np.linalg.norm(B)
    assert int(solve(DEFINITE, B, tolerance=1e-13, max_iterations=3).iterations) == 3


@pytest.mark.parametrize("matrix", [DEFINITE[:4, :4], SADDLE], ids=["definite", "saddle"])
def test_the_boundary_is_reached_and_the_model_falls_more_than_along_the_gradient(matrix):
    b, radius = B[:4], 0.01
    found = solve(matrix, b, tolerance=1e-12, max_iterations=20, radius=radius)
    x = np.asarray(found.x)
    np.testing.assert_allclose(np.linalg.norm(x), radius, rtol=1e-12)
    np.testing.assert_allclose(found.product, matrix @ x, atol=1e-12)
    curvature, size = b @ matrix @ b, np.linalg.norm(b)
    t = min(radius / size, b @ b / curvature if curvature > 0 else np.inf)
    assert 0.5 * x @ matrix @ x - b @ x <= 0.5 * t * t * curvature - t * b @ b + 1e-14


def test_negative_curvature_without_a_boundary():
    upside_down = solve(-DEFINITE, B, tolerance=1e-12, max_iterations=20)
    np.testing.assert_array_equal(upside_down.x, B)  # the first direction: −g itself
    later = solve(SADDLE, B[:4], tolerance=1e-12, max_iterations=20)
    assert not bool(later.curved) and float(later.x @ B[:4]) > 0
    assert 0.5 * later.x @ SADDLE @ later.x - B[:4] @ later.x < 0


def test_nothing_is_done_for_zero_or_nan():
    for b in (np.zeros(8), np.full(8, np.nan)):
        found = solve(DEFINITE, b, tolerance=1e-12, max_iterations=20)
        assert int(found.iterations) == 0 and np.all(np.asarray(found.x) == 0)


@pytest.mark.parametrize("sign", [1, -1])
def test_to_boundary(sign):
    x, p = np.array([0.3, 0.4]), sign * np.array([1.0, 1e-9])
    tau = float(to_boundary(x, p, 1.0))
    assert tau > 0
    np.testing.assert_allclose(np.linalg.norm(x + tau * p), 1.0, rtol=1e-14)


def test_to_rest_solves_and_keeps_its_way():
    solution = np.linalg.solve(DEFINITE, B)
    found = rest(DEFINITE, B, np.zeros(8), progress=1e-15, max_iterations=100)
    np.testing.assert_allclose(found.kept[found.last], solution, rtol=1e-7)
    phi = [0.5 * x @ DEFINITE @ x - B @ x for x in np.asarray(found.kept[: int(found.last) + 1])]
    assert np.all(np.diff(phi) <= 1e-12 * abs(phi[-1])) and phi[0] < 0
    # The first kept iterate is that of one step along the gradient.
    np.testing.assert_allclose(found.kept[0], B @ B / (B @ DEFINITE @ B) * B, rtol=1e-12)


def test_to_rest_starts_where_it_is_told_unless_zero_is_better():
    solution = np.linalg.solve(DEFINITE, B)
    options = {"progress": 5e-4, "max_iterations": 1}
    near = rest(DEFINITE, B, 0.999 * solution, **options)
    assert np.linalg.norm(near.kept[0] - solution) < 2e-3 * np.linalg.norm(solution)
    np.testing.assert_array_equal(
        rest(DEFINITE, B, -solution, **options).kept, rest(DEFINITE, B, np.zeros(8), **options).kept
    )


def test_it_rests_when_little_is_gained_and_a_preconditioner_gains_it_sooner():
    spectrum = np.logspace(0, 6, 200)
    b = np.random.default_rng(2).normal(size=200)
    options = {"progress": 5e-4, "max_iterations": 1000}
    plain = rest(np.diag(spectrum), b, np.zeros(200), **options)
    scaled = rest(np.diag(spectrum), b, np.zeros(200), 1 / jnp.asarray(spectrum), **options)
    assert int(scaled.iterations) == 1 and 100 < int(plain.iterations) < 1000
    np.testing.assert_allclose(scaled.kept[scaled.last], b / spectrum, rtol=1e-10)


def test_the_grid():
    assert grid(1) == [1] and grid(12) == [1, 2, 3, 4, 5, 6, 7, 9, 11, 12]
    assert len(grid(250)) < 25
