"""Curves of higher order: they follow the linear model to the order they promise."""

import jax
import numpy as np
import pytest

from ravine.directions.curve import continued, point
from ravine.linalg.damped import Primal
from ravine.linearization import Linearization
from ravine.objective import Composite, LeastSquares, Term

jnp = jax.numpy
GENERATOR = np.random.default_rng(3)
ROWS = GENERATOR.normal(size=(9, 9))
THETA = jnp.asarray(GENERATOR.normal(size=9))
D = jnp.asarray(GENERATOR.normal(size=9))


def bent(p, x):
    """Nine rows of nine parameters with derivatives of every order."""
    return x @ p + jnp.sin(x @ p[::-1]) * jnp.exp(0.3 * p[0])


SQUARE = LeastSquares({"rows": Term(bent, ROWS)})


def curve(objective, d, order, damping=1e-12):
    local = Linearization(objective, THETA)
    local.gram()
    system = Primal(local, jnp.ones(9))
    return local, continued(local, system, system.factor(damping), damping, d, order)


def defects(objective, order, scales):
    """‖rows(θ + s(1)) − (rows + Jd)‖ for tangents of several lengths."""

    @jax.jit
    def one(scale):
        local, found = curve(objective, scale * D, order)
        start = local.residual if local.has_residual else local.outputs
        return jnp.linalg.norm(local.rows_at(THETA + point(found.terms, 1.0)) - start - found.slope)

    return np.array([float(one(scale)) for scale in scales])


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_the_model_comes_true_to_the_order_of_the_curve(order):
    """A nonsingular J leaves no row that the curve cannot reach, so only terms of order n + 1 remain."""
    coarse, fine = defects(SQUARE, order, (0.04, 0.02))
    assert np.log2(coarse / fine) == pytest.approx(order + 1, abs=0.35)


def test_the_second_term_is_geodesic_acceleration():
    _, found = curve(SQUARE, D, 2, damping=0.7)
    rows = lambda t: SQUARE.linearize(t).residual
    jac = jax.jacfwd(rows)(THETA)
    second = jax.jacfwd(jax.jacfwd(rows))(THETA) @ D @ D
    expected = -0.5 * jnp.linalg.solve(jac.T @ jac + 0.7 * jnp.eye(9), jac.T @ second)
    np.testing.assert_allclose(found.terms[1], expected, rtol=1e-9)
    np.testing.assert_allclose(found.slope, jac @ D, rtol=1e-10)
    np.testing.assert_allclose(found.bend, 2 * jnp.linalg.norm(expected) / jnp.linalg.norm(D), rtol=1e-9)


def test_outputs_of_a_composite_follow_their_linear_model_too():
    energy = Composite({"rows": Term(bent, ROWS)}, lambda z, x: jnp.cosh(z[0]))
    coarse, fine = defects(energy, 3, (0.04, 0.02))
    assert np.log2(coarse / fine) == pytest.approx(4, abs=0.35)


def test_points_of_a_curve():
    terms = (jnp.asarray([1.0, 0.0]), jnp.asarray([0.0, 2.0]), jnp.asarray([4.0, 4.0]))
    np.testing.assert_allclose(point(terms, 0.5), [0.5 + 0.5, 0.5 + 0.5])
