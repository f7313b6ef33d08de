"""Test environment: float64 for the whole session (the package itself never changes global state)."""

from pathlib import Path

import jax
import jax.random as jr
import pytest

jax.config.update("jax_enable_x64", True)

_MAPS = Path("/proc/self/maps")
_MANY = (
    30_000  # Linux allows a process 65,530 mappings; every compiled program holds some, and past the limit XLA crashes
)


@pytest.fixture(autouse=True, scope="module")
def few_mappings():
    """Forget compiled programs before a process of many tests runs out of memory mappings."""
    yield
    if _MAPS.exists() and _MAPS.read_text().count("\n") > _MANY:
        jax.clear_caches()


@pytest.fixture
def key():
    return jr.key(0)
