"""Test environment: float64 for the whole session (the package itself never changes global state)."""

import os
from pathlib import Path

import jax
import jax.random as jr
import pytest
from chromium import NAMES, Browser, find

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


@pytest.fixture(scope="session")
def chromium():
    return find() or pytest.skip(f"no Chromium on PATH (looked for {', '.join(NAMES)}), so the page was not opened")


@pytest.fixture(scope="module")
def browser(chromium, tmp_path_factory):
    with Browser(chromium, tmp_path_factory.mktemp("browser")) as made:
        yield made


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Runs land in a scratch folder; the compile cache is the test session's own, if it has one."""
    monkeypatch.chdir(tmp_path)
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", cache)
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    return tmp_path
