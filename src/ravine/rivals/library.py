"""The rival libraries: what they are called where, and whether they are here. Imports none of them, and no JAX."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import NamedTuple

from ..driver.source import version


class Library(NamedTuple):
    """`module` is imported, `distribution` is its name in the package index, `install` are pip's arguments; `also` are
    modules that it needs and does not bring; `parts` are packages that do a part of the steps; `loads` are modules that
    the solvers import, `least` the oldest version that has what they call."""

    module: str
    distribution: str
    install: str
    also: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    loads: tuple[str, ...] = ()
    least: tuple[int, ...] = ()

    @property
    def version(self) -> str | None:
        return self.versions[self.distribution]

    @property
    def too_old(self) -> bool:
        digits = re.findall(r"\d+", self.version or "")
        return bool(digits) and tuple(map(int, digits[: len(self.least)])) < self.least

    @property
    def versions(self) -> dict[str, str | None]:
        """Of the library and its parts; None where one is not installed."""
        return {name: version(name) for name in (self.distribution, *self.parts)}


OPTIMIZERS = "scimba_jax.nonlinear_approximation.optimizers"  # of scimba
_SCIMBA = tuple(f"{OPTIMIZERS}.{part}" for part in ("native_optimizers", "optimizers", "anagram"))

# The versions are those the adapters were written for and measured with.
LIBRARIES = {
    "scipy": Library("scipy", "scipy", "'scipy>=1.16'", loads=("scipy.optimize",), least=(1, 16)),
    "optax": Library("optax", "optax", "optax"),
    "optimistix": Library("optimistix", "optimistix", "optimistix==0.1.0", parts=("lineax",)),
    "jaxopt": Library("jaxopt", "jaxopt", "jaxopt==0.8.5"),
    "jno": Library("jno", "jax-numerical-operators", "jax-numerical-operators==0.4.2", loads=("jno.optimizers",)),
    "jinns": Library("jinns", "jinns", "jinns==1.10.2", loads=("jinns.optimizers", "jinns.parameters")),
    # scimba declares PyTorch for its other half; the JAX half imports without it.
    "scimba": Library("scimba_jax", "scimba", "--no-deps scimba==1.4.1", loads=_SCIMBA),
    # It brings no back end; the adapter is for PyTorch (on a CPU).
    "deepxde": Library("deepxde", "DeepXDE", "deepxde==1.15.0 torch==2.13.0", also=("torch",), parts=("torch",)),
}


class NotInstalled(LookupError):
    """A rival whose library is not here: `reason`, a sentence, and `suggestion`, the command that installs it."""

    def __init__(self, name: str, library: Library):
        here = f"and {library.version} is here, which is too old" if library.too_old else "which is not installed here"
        self.reason = f"{name} needs {library.distribution}, {here}."
        self.suggestion = f"Install it: pip install {library.install}"
        super().__init__(f"{self.reason} {self.suggestion}")


def library_of(name: str) -> Library:
    """The library of the rival `library/solver`."""
    return LIBRARIES[name.partition("/")[0]]


def is_installed(name: str) -> bool:
    """Whether the library of the rival `name` can be found; nothing is imported."""
    library = library_of(name)
    return not library.too_old and all(find_spec(module) is not None for module in (library.module, *library.also))


def require(name: str) -> Library:
    """The library of the rival `name`. Raises NotInstalled."""
    if not is_installed(name):
        raise NotInstalled(name, library_of(name))
    return library_of(name)
