"""Backtracking by interpolation: what it accepts, how it shortens, and what it refuses to start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ravine.globalize.armijo import armijo

FUNCTIONS = {
    "quadratic": lambda t: (t - 1.0) ** 2,
    "near minimum": lambda t: (1e5 * t - 1.0) ** 2,
    "wall of NaN": lambda t: -jnp.log(1e-4 - t) - 1e5 * t,
    "exponential": lambda t: jnp.exp(30 * t) - 60 * t,
    "wiggly": lambda t: (t - 2) ** 2 + 0.1 * jnp.sin(20 * t),
}


def search(f, first, **options):
    both = jax.value_and_grad(f)
    value, slope = both(jnp.zeros(()))
    evaluate = lambda t: (*both(t), both(t)[1])
    return armijo(evaluate, value, slope, slope, jnp.asarray(first), **options), value, slope


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("first", [1e-3, 1.0, 1e3])
def test_the_condition_holds_and_what_is_returned_belongs_to_the_point(name, first):
    f = FUNCTIONS[name]
    found, value, slope = search(f, first, c1=0.2, max_trials=40)
    assert found.moved and 0 < found.t <= first
    assert found.value <= value + 0.2 * found.t * slope
    np.testing.assert_allclose(found.value, f(found.t), rtol=1e-12, atol=1e-14 * abs(value))
    np.testing.assert_allclose(found.grad, jax.grad(f)(found.t), rtol=1e-12, atol=1e-14 * abs(slope))
    assert (found.trials == 1) == (found.t == first)


def test_a_rejected_parabola_is_minimised_in_one_more_trial():
    found, _, _ = search(FUNCTIONS["quadratic"], 4.0)
    np.testing.assert_allclose(found.t, 1.0, rtol=1e-12)
    assert found.trials == 2
    found, _, _ = search(FUNCTIONS["quadratic"], 1e3)  # farther off, the step shrinks by ten at most
    np.testing.assert_allclose(found.t, 1.0, rtol=1e-9)
    assert found.trials == 4


def test_a_higher_ceiling_accepts_a_rise_but_never_what_is_not_finite():
    found, value, _ = search(FUNCTIONS["quadratic"], 2.5, ceiling=4.0)
    assert found.moved and found.trials == 1 and found.value > value
    found, _, _ = search(FUNCTIONS["quadratic"], 1e10, ceiling=jnp.inf)
    assert found.moved and found.trials == 1
    found, _, _ = search(FUNCTIONS["wall of NaN"], 1.0, ceiling=jnp.inf, max_trials=3)
    assert not found.moved and found.t == 0 and found.trials == 3


def test_where_the_change_drowns_the_slope_decides():
    """1e8 + (t − 1)²/1e4: all values agree to 1e-12, the slopes do not."""
    f = lambda t: 1e8 + 1e-4 * (t - 1.0) ** 2
    assert search(f, 1.0)[0].moved
    found, _, _ = search(f, 3.0)
    assert found.moved and 0 < found.t < 2.0


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_rounding_has_no_say_where_there_is_a_slope(dtype):
    """A value an ulp lower, beyond the minimiser by far: values alone would take it, the slope says no."""
    value, slope = jnp.ones((), dtype), jnp.asarray(-1e-13, dtype)
    lower = jnp.asarray(1 - 2 * jnp.finfo(dtype).eps, dtype)
    search = lambda slope_at: armijo(lambda t: (lower, slope_at(t), ()), value, slope, (), jnp.asarray(8.0, dtype))
    found = search(lambda t: slope * (1 - t))
    assert found.moved and 0 < found.t < 2 and found.slopes == found.trials > 1
    blind = search(lambda t: jnp.full_like(value, jnp.nan))
    assert blind.moved and blind.t == 8 and blind.slopes == 0 and blind.trials == 1


@pytest.mark.parametrize(
    "f, first",
    [
        (lambda t: t, 1.0),
        (lambda t: 0.0 * t, 1.0),
        (lambda t: -t + jnp.nan, 1.0),
        (lambda t: -t, 0.0),
        (lambda t: -t, -1.0),
        (lambda t: -t, jnp.inf),
        (lambda t: -t, jnp.nan),
    ],
)
def test_nothing_is_evaluated_without_a_descent_direction_or_a_first_trial(f, first):
    found, value, slope = search(f, first)
    assert not found.moved and found.trials == 0 and found.t == 0
    np.testing.assert_array_equal(found.value, value)
    np.testing.assert_array_equal(found.grad, slope)
