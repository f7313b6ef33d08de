"""Conditions imposed exactly by the form of the field.

    u(x) = g(x) + ℓ(x) N(x)          ℓ = 0 where the condition holds, g the data extended into the domain

Cost       that of N, and of g and ℓ, which are closed forms.
Reference  Lagaris, Likas & Fotiadis, IEEE Trans. Neural Netw. 9 (1998); Lu et al., SIAM J. Sci. Comput. 43 (2021).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..model import Model
from ..types import Params
from .mlp import MLP, check_box


class ZeroOnBox(eqx.Module):
    """ℓ(x) = Π_i 4 (x_i - lower_i)(upper_i - x_i) / (upper_i - lower_i)²: zero on the faces, 1 in the middle."""

    lower: tuple[float, ...] = eqx.field(static=True, default=(0.0, 0.0))
    upper: tuple[float, ...] = eqx.field(static=True, default=(1.0, 1.0))

    def __check_init__(self) -> None:
        check_box("ZeroOnBox", self.lower, self.upper, len(self.lower))

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        lo, hi = jnp.asarray(self.lower, x.dtype), jnp.asarray(self.upper, x.dtype)
        return jnp.prod(4 * (x - lo) * (hi - x) / (hi - lo) ** 2)


class Hard(Model):
    """u(x) = lift(x) + envelope(x) · inner(x), satisfying the equations named in `imposes` for every parameter.

    `lift(x)` returns (c,) or a scalar, None for zero; `envelope(x)` a scalar or (c,). Both must be functions defined at
    module level, or modules without arrays, so that two equal models compile once. `imposes` is a promise about
    them: the equations it names are dropped from the objective. Raises TypeError for parts that are not callable.
    """

    inner: Model
    envelope: Callable[[Any], Any] = eqx.field(static=True)
    lift: Callable[[Any], Any] | None = eqx.field(static=True)
    imposed: frozenset[str] = eqx.field(static=True)

    def __init__(
        self,
        inner: Model | None = None,
        envelope: Callable[[Any], Any] | None = None,
        lift: Callable[[Any], Any] | None = None,
        imposes: Any = ("boundary",),
    ):
        self.inner = MLP() if inner is None else inner
        self.envelope = ZeroOnBox() if envelope is None else envelope
        self.lift = lift
        self.imposed = frozenset((imposes,) if isinstance(imposes, str) else imposes)
        if not isinstance(self.inner, Model):
            raise TypeError(f"Hard: inner must be a Model; got {type(self.inner).__name__}.")
        for name in ("envelope", "lift"):
            part = getattr(self, name)
            if part is not None and not callable(part):
                raise TypeError(f"Hard: {name} must be a function of one point; got {type(part).__name__}.")

    @property
    def imposes(self) -> frozenset[str]:
        return self.imposed | self.inner.imposes

    def init(self, key: Any) -> Params:
        return self.inner.init(key)

    def apply(self, params: Params, x: Float[Array, " d"]) -> Float[Array, " c"]:
        x = jnp.asarray(x)
        u = self.envelope(x) * self.inner.apply(params, x)
        return u if self.lift is None else u + self.lift(x)
