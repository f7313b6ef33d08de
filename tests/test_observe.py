"""Metrics share what they have in common: the same points are evaluated once."""

import equinox as eqx
import jax
import numpy as np
import pytest

from ravine.driver.observe import Observer, _metrics

POINTS = np.linspace(0.0, 1.0, 64)


class Norm(eqx.Module):
    points: object
    order: float = eqx.field(static=True)

    def __call__(self, params):
        return jax.numpy.linalg.norm(jax.numpy.tanh(params["w"] * self.points), self.order)


@pytest.mark.parametrize(("second", "evaluations"), [(POINTS.copy(), 1), (POINTS + 1e-9, 2), (POINTS[:-1], 2)])
def test_the_same_points_are_evaluated_once(second, evaluations):
    params = {"w": jax.numpy.asarray(0.7)}
    metrics = {"l2": Norm(POINTS, 2), "max": Norm(second, np.inf)}
    observer = Observer(lambda p: p, metrics, "float64")
    program = _metrics.lower(*observer.parts, params).compile().as_text()
    assert program.count(" tanh(") == evaluations
    for name, value in observer._scores(params).items():
        assert value == pytest.approx(float(metrics[name](params)), rel=1e-14)


def test_random_keys_in_metrics_stay_what_they_are():
    class Noisy(eqx.Module):
        key: object

        def __call__(self, params):
            return jax.random.normal(self.key)

    first, second = jax.random.split(jax.random.key(0))
    found = Observer(lambda p: p, {"a": Noisy(first), "b": Noisy(second)}, "float64")._scores({})
    assert found == {"a": float(jax.random.normal(first)), "b": float(jax.random.normal(second))}
