"""What counts as rounding of a value, in both precisions, and what the searches then do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ravine.globalize.rounding import drowns
from ravine.globalize.wolfe import strong_wolfe
from ravine.methods import AR1
from ravine.objective import Scalar
from ravine.types import Status

BOTH = pytest.mark.parametrize("dtype", ["float64", "float32"])


@BOTH
def test_a_few_ulp_drown_and_a_thousand_do_not(dtype):
    ulp, old = jnp.finfo(dtype).eps, jnp.full((), -3.0, dtype)
    assert drowns(old * (1 + 2 * ulp), old) and drowns(old * (1 - 2 * ulp), old)
    assert not drowns(old * (1 + 1e3 * max(ulp, 1e-11)), old)
    assert not drowns(old, jnp.zeros((), dtype)) and not drowns(old * jnp.nan, old)


@BOTH
def test_a_rise_by_rounding_is_no_ascent(dtype):
    """Two ulp higher at a point where the slope vanishes: in float32, too, that is a Wolfe point."""
    value, slope = jnp.ones((), dtype), jnp.asarray(-1e-9, dtype)
    higher = jnp.asarray(1 + 2 * jnp.finfo(dtype).eps, dtype)
    found = strong_wolfe(lambda t: (higher, 0 * slope, 0 * slope), value, slope, slope, jnp.ones((), dtype))
    assert bool(found.wolfe) and bool(found.moved) and int(found.trials) == 1


@BOTH
def test_where_values_are_rounding_the_gain_ratio_is_made_of_gradients(dtype):
    """½p² whose value is said to rise by two ulp: the step to its minimum has the ratio ½ of ½|g|² to |g|²."""
    higher = 1 + 2 * jnp.finfo(dtype).eps

    def value(p):
        bowl = 0.5 * p @ p
        return jax.lax.stop_gradient(jnp.where(p[0] > 0, 1.0, higher) - bowl) + bowl

    objective, params, method = Scalar(value), jnp.full(1, 1e-5, dtype), AR1()
    step = jax.jit(lambda p: method.step(objective, p, method.init(objective, p, key=None), key=None))(params)
    assert int(step.info.status) == Status.OK and step.params[0] == 0
    np.testing.assert_allclose(step.info.scalars["rho"], 0.5, rtol=1e-6)
