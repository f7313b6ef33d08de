"""Test environment: float64 for the whole session (the package itself never changes global state)."""

import jax
import jax.random as jr
import pytest

jax.config.update("jax_enable_x64", True)


@pytest.fixture
def key():
    return jr.key(0)
