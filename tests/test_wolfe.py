"""The strong Wolfe search on functions of one variable, easy and nasty."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ravine.globalize.wolfe import strong_wolfe

SQRT = jnp.sqrt


def _yanai(t, b1, b2):
    """Convex with a nearly flat middle (functions 4 to 6 of Moré and Thuente)."""

    def gamma(b):
        return SQRT(1 + b**2) - b

    return gamma(b1) * SQRT((1 - t) ** 2 + b2**2) + gamma(b2) * SQRT(t**2 + b1**2)


def _oscillating(t, b=0.01, periods=39):
    """Function 3 of Moré and Thuente: many small humps on a hinge."""
    hinge = jnp.where(t <= 1 - b, 1 - t, jnp.where(t >= 1 + b, t - 1, (t - 1) ** 2 / (2 * b) + b / 2))
    return hinge + 2 * (1 - b) / (periods * jnp.pi) * jnp.sin(periods * jnp.pi / 2 * t)


FUNCTIONS = {
    "more-thuente-1": lambda t: -t / (t**2 + 2),
    "more-thuente-2": lambda t: (t + 0.004) ** 5 - 2 * (t + 0.004) ** 4,
    "more-thuente-3": _oscillating,
    "more-thuente-4": lambda t: _yanai(t, 0.001, 0.001),
    "more-thuente-5": lambda t: _yanai(t, 0.01, 0.001),
    "more-thuente-6": lambda t: _yanai(t, 0.001, 0.01),
    "quadratic": lambda t: (t - 1.0) ** 2,
    "far minimum": lambda t: (1e-4 * t - 1.0) ** 2,
    "near minimum": lambda t: (1e5 * t - 1.0) ** 2,
    "quartic": lambda t: (t - 1.0) ** 4 - 0.1 * t,
    "exponential wall": lambda t: jnp.exp(30 * t) - 60 * t,
    "kink": lambda t: SQRT((t - 0.3) ** 2 + 1e-12) + 0.1 * t,
    "log wall": lambda t: -jnp.log(1.0 - t) - 5.0 * t,  # NaN beyond 1
    "near log wall": lambda t: -jnp.log(1e-4 - t) - 1e5 * t,
    "root wall": lambda t: -SQRT(0.5 - t) * t,  # NaN beyond a half
    "wiggly parabola": lambda t: (t - 2) ** 2 + 0.1 * jnp.sin(20 * t),
}
FIRST = (1e-3, 0.1, 1.0, 10.0, 1e3)


@pytest.fixture(scope="module")
def searches():
    """One compiled search for all first trials and both c₂ of each function."""

    def build(f):
        both = jax.value_and_grad(f)

        def search(first, c2):
            value, slope = both(jnp.zeros(()))
            found = strong_wolfe(
                lambda t: (*both(t), both(t)[1]), value, slope, slope, first, c1=1e-4, c2=c2, max_trials=40
            )
            return value, slope, found, both(found.t)

        return jax.jit(jax.vmap(jax.vmap(search, (None, 0)), (0, None)))

    return {name: build(f) for name, f in FUNCTIONS.items()}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_wolfe_conditions_hold(searches, name):
    c2 = np.array([0.1, 0.9])
    value, slope, found, (at, grad) = searches[name](jnp.asarray(FIRST), jnp.asarray(c2))
    assert np.all(found.wolfe) and np.all(found.moved), found.trials
    assert np.all(np.asarray(found.t) > 0)
    assert np.all(np.abs(grad) <= c2 * np.abs(slope) * (1 + 1e-12))
    assert np.all(np.asarray(at) <= value + 1e-4 * found.t * slope + 1e-15)
    np.testing.assert_allclose(found.value, at, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.grad, grad, rtol=1e-9)
    assert np.max(found.trials) <= 25


def _search(f, first=1.0, **options):
    both = jax.value_and_grad(f)
    value, slope = both(jnp.zeros(()))
    return strong_wolfe(lambda t: (*both(t), both(t)[1]), value, slope, slope, jnp.asarray(first), **options)


def test_a_good_first_trial_costs_one_evaluation():
    found = _search(lambda t: (t - 1.0) ** 2)
    assert int(found.trials) == 1 and float(found.t) == 1.0


def test_decrease_that_drowns_in_rounding_is_found_by_the_slope():
    # The change along the line is 1e-13 of the value, so values cannot tell; slopes can.
    found = _search(lambda t: 1.0 + 1e-13 * (0.2 * t - 1.0) ** 2, c2=0.1, max_trials=15)
    assert bool(found.wolfe)
    np.testing.assert_allclose(found.t, 5.0, rtol=0.11)


@pytest.mark.parametrize(
    "f",
    [lambda t: t + t**2, lambda t: 0.0 * t, lambda t: jnp.log(t - 1.0), lambda t: t / 0.0 * 0.0 - t],
    ids=["ascent", "flat", "nan", "nan slope"],
)
def test_no_descent_evaluates_nothing(f):
    found = _search(f)
    assert int(found.trials) == 0 and float(found.t) == 0.0
    assert not bool(found.moved) and not bool(found.wolfe)


def test_a_liar_ends_in_failure_with_nothing_moved():
    # The slope says descent, the values only rise.
    evaluate = lambda t: (1.0 + t, jnp.full_like(t, -1.0), -1.0)
    one = jnp.ones(())
    found = strong_wolfe(evaluate, one, -one, -one, one, noise=0.0, max_trials=12)
    assert not bool(found.moved) and float(found.t) == 0.0 and float(found.value) == 1.0
    assert int(found.trials) <= 12


def test_unbounded_descent_stops_at_the_last_trial_and_moves():
    found = _search(lambda t: -t, max_trials=6)
    assert bool(found.moved) and not bool(found.wolfe) and int(found.trials) == 6
    assert float(found.value) < -100.0
