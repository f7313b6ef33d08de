"""Floating-point precision: scoped to the call, promoted with a warning, and kept by products of matrices."""

import warnings

import jax
import numpy as np
import pytest
from small import FIT, POINTS, network, residual, start

from ravine import Budget, LeastSquares, Term, minimize
from ravine import methods as m

jnp = jax.numpy


def test_precision_is_scoped_to_the_call():
    before = jax.config.jax_enable_x64
    with jax.enable_x64(False):
        run = minimize(FIT, start(), m.Adam(), budget=Budget(steps=2))
        assert not jax.config.jax_enable_x64
        assert run.params["w"].dtype == np.float64
        assert np.asarray(run.params["w"]).dtype == np.float64
        u = run.evaluate(network, POINTS)
    assert u.dtype == np.float64 and u.shape == (len(POINTS),)
    np.testing.assert_allclose(u, [network(run.params, x) for x in POINTS], rtol=1e-14)
    low = minimize(FIT, start(), m.Adam(), budget=Budget(steps=2), precision="float32")
    assert low.params["w"].dtype == np.float32
    assert jax.config.jax_enable_x64 == before
    with pytest.raises(ValueError, match="precision='double': choose"):
        minimize(FIT, start(), m.Adam(), precision="double")


TABLE = np.linspace(0, 1, 5, dtype=np.float32)


def rounded(params, x):
    return residual(params, x) + jnp.sum(jnp.asarray(TABLE))


@pytest.mark.parametrize(
    "objective, params, where",
    [
        (FIT, start() | {"b": start()["b"].astype(np.float32)}, r"params\['b'\]"),
        (LeastSquares({"fit": Term(residual, POINTS.astype(np.float32))}), start(), "points"),
        (LeastSquares({"fit": Term(rounded, POINTS)}), start(), r"constant of shape \(5,\)"),
    ],
    ids=["parameters", "points", "constant"],
)
def test_float32_values_are_promoted_and_named(objective, params, where):
    with pytest.warns(UserWarning, match=rf"float32 values in a float64 run: .*{where}"):
        run = minimize(objective, params, m.Adam(), budget=Budget(steps=1))
    assert {np.asarray(v).dtype for v in run.params.values()} == {np.dtype("float64")}


def test_a_warning_points_at_the_caller():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        minimize(FIT, start(), m.LBFGS(), budget=Budget(steps=1), precision="float32")
        minimize(FIT, start() | {"b": start()["b"].astype(np.float32)}, m.Adam(), budget=Budget(steps=1))
        minimize(FIT, start() | {"scale": 2.0}, m.Adam(), budget=Budget(steps=1))
    assert [w.filename for w in caught] == [__file__] * 3


def products_seen(**options):
    """JAX's precision of matrix products while the residual of a run is traced."""
    seen = set()

    def watched(params, x):
        seen.add(jax.config.jax_default_matmul_precision)
        return residual(params, x)

    minimize(LeastSquares({"fit": Term(watched, POINTS)}), start(), m.Adam(), budget=Budget(steps=1), **options)
    return seen


def test_products_of_a_float32_run_are_not_rounded_further_unless_the_caller_says_so():
    """On an H200 JAX's default, TF32, failed the test of single-precision Gram matrices (2e-5 is required)."""
    assert products_seen(precision="float32") == {"highest"} and products_seen() == {None}
    assert jax.config.jax_default_matmul_precision is None
    with jax.default_matmul_precision("tensorfloat32"):
        assert products_seen(precision="float32") == {"tensorfloat32"}
