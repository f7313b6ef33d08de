"""What the tests of rivals share: a tiny problem of two terms, random parameters, and which libraries are here."""

import jax
import numpy as np
import pytest

from ravine.driver.precision import cast
from ravine.models import MLP
from ravine.problems import Poisson2D
from ravine.registry import entries, find
from ravine.rivals.library import is_installed, library_of
from ravine.rivals.view import View

jnp = jax.numpy
PROBLEM = Poisson2D(hard=False, n_pde=16, n_boundary=8)  # two terms of different weight
MODEL = MLP(width=3, depth=1, lower=(0.0, 0.0), upper=(1.0, 1.0))


def needs(name: str):
    library = library_of(name)
    return pytest.mark.skipif(not is_installed(name), reason=f"{library.distribution} is not installed")


ALL = [pytest.param(name, marks=needs(name)) for name in entries("rivals")]


def rival(name: str, **options):
    return find("rivals", name).load()(**options)


def objective():
    return cast(PROBLEM.objective(MODEL, PROBLEM.sample(0)), "float64")


def view_at(seed: int) -> View:
    """The view, started at random parameters."""
    tree = jax.tree.map(jnp.asarray, PROBLEM.init(MODEL, 0))
    rng = np.random.default_rng(seed)
    return View(objective(), jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), tree))
