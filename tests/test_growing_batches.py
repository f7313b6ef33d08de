"""Batches that a test on the host doubles: the sizes they ask for, by hand."""

import jax
import numpy as np
import pytest
from finite_sums import BEST, OBJECTIVE, N, gradient_on

from ravine.registry import find
from ravine.sampling.base import rng

jnp = jax.numpy


def test_the_norm_test_grows_a_batch_when_noise_drowns_the_gradient():
    norm, inner = (find("samplers", n).load()(size=4, theta=0.3, every=1) for n in ("normtest", "innerproduct"))
    near = {"w": jnp.asarray(BEST) + 1e-3}
    for sampler in (norm, inner):
        begin = sampler.start(OBJECTIVE)
        assert int(begin["size"]) == 4
        far = sampler.act(OBJECTIVE, {"w": 50.0 * jnp.ones(4)}, begin, None, 0, 1)
        assert int(far.state["size"]) <= 16
        look = sampler.act(OBJECTIVE, near, begin, None, 0, 1)
        assert look.changed and int(look.state["size"]) > int(far.state["size"]) and look.objective is OBJECTIVE
        assert look.sweeps == pytest.approx(3 * 4 / N) and "batches of 4" in look.note


def near_rows(w):
    """The gradients of the four rows that a look at step 1 with seed 0 draws."""
    idx = rng(0, 1, "fit/test").choice(N, 4, replace=False)
    return np.stack([gradient_on(OBJECTIVE, [i], w) for i in idx])


@pytest.mark.parametrize("theta", [0.1, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("nu", [None, 0.2, 1.0, 1e6])
def test_the_size_that_a_test_asks_for_by_hand(theta, nu):
    """The norm test (ν = None), and the inner-product test with either of its halves deciding."""
    near = BEST + np.array([0.3, -0.2, 0.1, 0.2])
    rows = near_rows(near)
    mean = rows.mean(axis=0)
    squared = mean @ mean
    total = np.sum(np.var(rows, axis=0, ddof=1))
    products = np.var(rows @ mean, ddof=1)  # of gᵢᵀ∇L
    across = total - products / squared

    def holds(b):
        f = (1 - b / N) / b
        if nu is None:
            return f * total <= theta**2 * squared
        return f * products <= theta**2 * squared**2 and f * across <= nu**2 * squared

    options = {"size": 4, "theta": theta, "every": 1} | ({} if nu is None else {"nu": nu})
    sampler = find("samplers", "normtest" if nu is None else "innerproduct").load()(**options)
    found = sampler.act(OBJECTIVE, {"w": jnp.asarray(near)}, sampler.start(OBJECTIVE), None, 0, 1)
    assert int(found.state["size"]) == next(b for b in (4, 8, 16, 32, 60) if holds(b))
