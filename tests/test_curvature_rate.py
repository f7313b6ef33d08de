"""Step lengths from the curvature met: what is measured, what it costs, and that the scale of L is nothing to them."""

import equinox as eqx
import jax
import numpy as np
import pytest
from finite_sums import BEST, OBJECTIVE, ZERO, N, path_of, trajectories
from quadratics import quadratic

from ravine.linalg.power import largest
from ravine.methods import SAGA, SARAH, STORM, SVRG, MultilevelMonteCarlo
from ravine.methods.curvature_rate import EVERY, PRODUCTS, along, rate, secant, widened
from ravine.objective import Composite, Term

jnp = jax.numpy
METHODS = [SVRG, SARAH, SAGA, STORM, MultilevelMonteCarlo]


def ramp(z, x):
    """Flat below 1."""
    return jnp.maximum(0.0, z[0] - 1.0)


def hessian_on(rows):
    a = np.asarray(OBJECTIVE.parts["fit"].points["a"])[rows]
    return a.T @ a / len(rows)


@pytest.mark.parametrize("spectrum", [[0.5, 1.0, 9.0], [-8.0, 1.0, 3.0], [0.0, 0.0, 2.0]])
def test_products_find_the_largest_curvature(spectrum):
    matrix = jnp.asarray(quadratic([1.0, 2.0, 3.0]).matrix)
    basis = jnp.linalg.eigh(matrix)[1]
    h = basis @ jnp.diag(jnp.asarray(spectrum)) @ basis.T
    found = largest(lambda v: h @ v, jnp.zeros(3), 60, jax.random.key(1))
    assert float(found) == pytest.approx(max(abs(x) for x in spectrum), rel=1e-9)
    assert float(largest(lambda v: 0 * v, jnp.zeros(3), 5, jax.random.key(1))) == 0.0


def test_curvature_along_a_direction_and_between_two_points():
    rows, w, v = np.array([3, 8, 21]), np.array([0.3, -1.0, 0.2, 2.0]), np.array([1.0, -2.0, 0.5, 0.0])
    batch = OBJECTIVE.rows({"fit": jnp.asarray(rows)})
    want = np.linalg.norm(hessian_on(rows) @ v) / np.linalg.norm(v)
    assert float(along(batch, {"w": jnp.asarray(w)}, jnp.asarray(v))) == pytest.approx(want, rel=1e-12)
    assert np.isnan(along(batch, {"w": jnp.asarray(w)}, jnp.zeros(4)))
    grads = [batch.value_and_grad({"w": jnp.asarray(x)})[1]["w"] for x in (w + v, w)]
    assert float(secant(grads[0] - grads[1], jnp.asarray(v), jnp.asarray(w))) == pytest.approx(want, rel=1e-12)
    assert np.isnan(secant(jnp.ones(4), jnp.full(4, 1e-12), jnp.ones(4))), "rounding is no curvature"
    assert float(widened(jnp.asarray(2.0), jnp.asarray(jnp.nan))) == 2.0, "nothing was met, so nothing is forgotten"


def test_without_curvature_a_step_is_a_share_long():
    v = jnp.asarray([3.0, 4.0])
    assert float(rate(0.2, jnp.asarray(0.0), v)) == pytest.approx(0.2 / 5.0)
    assert float(rate(0.2, jnp.asarray(8.0), v)) == pytest.approx(0.2 / 8.0)


def test_without_curvature_and_slope_a_step_is_finite():
    """A batch may lie where the loss is flat."""
    hinge = Composite({"h": Term(lambda p, x: p["w"] * x, jnp.asarray([1.0, 1.0, 1.0, -1.0]))}, {"h": ramp})
    for cls in (STORM, SAGA, SVRG, MultilevelMonteCarlo):
        watch = lambda params, info: (params["w"], info.status)
        w, status = trajectories(cls(batch=1), hinge, {"w": jnp.asarray(-2.0)}, 30, 2, watch)
        assert np.all(np.isfinite(w)) and np.all(status == 0)


@pytest.mark.parametrize("cls", [SVRG, SARAH])
def test_where_moves_drown_in_rounding_the_step_length_stays(cls):
    """It grew by 0.1 % in each of these steps, until the iterates burst away from the minimiser."""
    _, infos, _ = path_of(cls(batch=6, share=0.1), OBJECTIVE, {"w": BEST}, 600)
    assert np.max(infos.scalars["step_size"]) <= 1.001 * infos.scalars["step_size"][0]
    assert np.max(infos.step_norm) < 1e-12


@pytest.mark.parametrize("cls", METHODS)
def test_the_first_step_is_a_share_of_the_inverse_curvature_and_pays_for_it(cls):
    _, infos, _ = path_of(cls(batch=6, share=0.1), OBJECTIVE, ZERO, 2 * EVERY)
    top = np.linalg.eigvalsh(hessian_on(np.arange(N)))[-1]
    first = infos.scalars["step_size"][0]
    assert 0.03 / top < first < 0.1001 / (0.9 * top), "on a batch it may bend more"
    assert list(infos.counts.hvp) == [PRODUCTS] + [0] * (2 * EVERY - 1)
    given = path_of(cls(batch=6, learning_rate=0.1), OBJECTIVE, ZERO, 2 * EVERY)[1]
    extra = infos.counts.batch - given.counts.batch
    looks = 6 * 6 if cls in (SAGA, MultilevelMonteCarlo) else 0
    assert list(np.flatnonzero(extra)) == ([0, EVERY] if looks else []) and set(extra) <= {0, looks}


@pytest.mark.parametrize("cls", METHODS)
def test_the_scale_of_the_loss_changes_no_iterate(cls):
    scaled = eqx.tree_at(lambda o: [t.weight for t in o.parts.values()], OBJECTIVE, replace_fn=lambda w: 1e4 * w)
    where, large = (path_of(cls(batch=6), sum_, ZERO, 60)[0] for sum_ in (OBJECTIVE, scaled))
    np.testing.assert_allclose(large, where, rtol=1e-7, atol=1e-10)
    assert np.linalg.norm(where[-1] - BEST) < 0.7 * np.linalg.norm(BEST)
