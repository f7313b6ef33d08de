"""Exact periodicity: a network on cosines and sines of the periodic coordinates.

    x_i periodic   ->  cos kφ, sin kφ for k = 1..harmonics,  φ = 2π (x_i - lower_i)/(upper_i - lower_i)
    x_i otherwise  ->  stretch · (2 (x_i - lower_i)/(upper_i - lower_i) - 1)

Features come in the order of the coordinates. A large `stretch` lets a network of moderate weights oscillate in that
coordinate.

Cost       that of the inner network with 2 · harmonics inputs for each periodic coordinate.
Reference  Dong & Ni, J. Comput. Phys. 435 (2021), arXiv:2007.07442.
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..model import Model
from ..types import Params
from .mlp import MLP, check_box


class Periodic(Model):
    """inner(features(x)), periodic in the coordinates marked in `periodic` (equations in the module docstring).

    `lower`, `upper`: the box, one period wide in every periodic coordinate. `imposes`: the periodicity equations this
    satisfies. Without `inner` an MLP of the right number of inputs is used. Raises ValueError for a box that does not
    match, no periodic coordinate, harmonics below 1, or an inner MLP with another number of inputs.
    """

    inner: Model
    periodic: tuple[bool, ...] = eqx.field(static=True)
    lower: tuple[float, ...] = eqx.field(static=True)
    upper: tuple[float, ...] = eqx.field(static=True)
    harmonics: int = eqx.field(static=True)
    stretch: float = eqx.field(static=True)
    imposed: frozenset[str] = eqx.field(static=True)

    def __init__(
        self,
        inner: Model | None = None,
        periodic: tuple[bool, ...] = (True, False),
        lower: tuple[float, ...] = (-1.0, 0.0),
        upper: tuple[float, ...] = (1.0, 1.0),
        harmonics: int = 1,
        stretch: float = 1.0,
        imposes: Any = ("periodic",),
    ):
        check_box("Periodic", lower, upper, len(periodic))
        if not any(periodic):
            raise ValueError("Periodic: no coordinate is marked periodic; use the inner model alone.")
        if isinstance(harmonics, bool) or not isinstance(harmonics, int) or harmonics < 1:
            raise ValueError(f"Periodic: harmonics must be a positive integer; got {harmonics!r}.")
        if not (math.isfinite(stretch) and stretch > 0):
            raise ValueError(f"Periodic: stretch must be positive and finite; got {stretch!r}.")
        features = sum(2 * harmonics if p else 1 for p in periodic)
        self.inner = MLP(dim_in=features) if inner is None else inner
        if isinstance(self.inner, MLP) and self.inner.dim_in != features:
            raise ValueError(
                f"Periodic: the embedding has {features} features, but the inner MLP takes {self.inner.dim_in}; "
                f"give MLP(dim_in={features})."
            )
        self.periodic, self.lower, self.upper = tuple(periodic), lower, upper
        self.harmonics, self.stretch = harmonics, float(stretch)
        self.imposed = frozenset((imposes,) if isinstance(imposes, str) else imposes)

    @property
    def imposes(self) -> frozenset[str]:
        return self.imposed | self.inner.imposes

    def init(self, key: Any) -> Params:
        return self.inner.init(key)

    def features(self, x: Float[Array, " d"]) -> Float[Array, " f"]:
        """The inputs of the inner network at one point."""
        parts = []
        for i, (wraps, lo, hi) in enumerate(zip(self.periodic, self.lower, self.upper, strict=True)):
            if wraps:
                modes = jnp.asarray(2 * math.pi / (hi - lo) * np.arange(1, self.harmonics + 1), x.dtype)
                parts += [jnp.cos(modes * (x[i] - lo)), jnp.sin(modes * (x[i] - lo))]
            else:
                parts.append((self.stretch * (2 * (x[i] - lo) / (hi - lo) - 1))[None])
        return jnp.concatenate(parts)

    def apply(self, params: Params, x: Float[Array, " d"]) -> Float[Array, " c"]:
        return self.inner.apply(params, self.features(jnp.asarray(x)))
