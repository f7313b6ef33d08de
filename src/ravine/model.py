"""Models: fields with parameters, u(x) = apply(params, x), for one point x.

A model is configuration only (static, hashable); its parameters are a separate pytree. A model may satisfy some
equations of a problem by construction: it names them in `imposes`, and they are dropped from the objective.
"""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from .types import Params


class Model(eqx.Module):
    """Abstract parametrised field. Subclasses are final and work with no arguments."""

    @property
    def imposes(self) -> frozenset[str]:
        """Names of the equations that every parameter value satisfies exactly."""
        return frozenset()

    @abc.abstractmethod
    def init(self, key: Any) -> Params:
        """Initial parameters, float64 NumPy arrays; `key` is a JAX key or a nonnegative integer."""

    @abc.abstractmethod
    def apply(self, params: Params, x: Any) -> Float[Array, " c"]:
        """u(x) for one point x."""

    def field(self, params: Params) -> Bound:
        """The field x -> apply(params, x)."""
        return Bound(self, params)


class Bound(eqx.Module):
    """A model together with its parameters: a field, and a pytree."""

    model: Model
    params: Params

    def __call__(self, x: Any) -> Float[Array, " c"]:
        return self.model.apply(self.params, x)
