"""Multilayer perceptron, the dense network of most published results.

    h₀ = 2 (x - lower) / (upper - lower) - 1   (or x, without a box)
    h_l = σ(s_l (W_l h_{l-1} + b_l)),  l = 1..depth;      u = W h_depth + b

Cost     one product with each W per stream and point.
Memory   P = Σ (n_in + 1) n_out parameters, plus one scale per hidden layer if `adaptive`.
Reference  Glorot & Bengio, AISTATS 2010 (initialisation); Jagtap, Kawaguchi & Karniadakis, J. Comput. Phys. 404 (2020)
(learnable activation scale); Sitzmann et al., NeurIPS 2020 (sine).
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..checks import require_choice, require_count
from ..model import Model
from ..points import generator
from ..types import Params

_ACTIVATIONS = {"tanh": jnp.tanh, "sin": jnp.sin}
_INITS = ("glorot_uniform", "glorot_normal")


class MLP(Model):
    """Dense network with tanh or sine units (see the module docstring for the equations).

    `depth` counts hidden layers; 0 is an affine map. `lower` and `upper` map inputs from that box to [-1, 1]^d.
    `adaptive` gives every hidden layer a learnable activation scale, 1 at first. Raises ValueError for bad options.
    """

    dim_in: int = eqx.field(static=True, default=2)
    dim_out: int = eqx.field(static=True, default=1)
    width: int = eqx.field(static=True, default=20)
    depth: int = eqx.field(static=True, default=3)
    activation: str = eqx.field(static=True, default="tanh")
    adaptive: bool = eqx.field(static=True, default=False)
    lower: tuple[float, ...] | None = eqx.field(static=True, default=None)
    upper: tuple[float, ...] | None = eqx.field(static=True, default=None)
    weights: str = eqx.field(static=True, default="glorot_uniform")

    def __check_init__(self) -> None:
        for name, least in (("dim_in", 1), ("dim_out", 1), ("width", 1), ("depth", 0)):
            require_count(self, name, least)
        require_choice(self, "activation", _ACTIVATIONS)
        require_choice(self, "weights", _INITS)
        if self.adaptive and self.depth == 0:
            raise ValueError("MLP: adaptive scales belong to hidden layers, and depth = 0 has none.")
        check_box("MLP", self.lower, self.upper, self.dim_in)

    def init(self, key: Any) -> Params:
        """{"layers": [{"kernel" (out, in), "bias" (out,)}, ...]}, with "scales" (depth,) if adaptive; biases 0."""
        rng = generator(key, "mlp")
        sizes = [self.dim_in] + [self.width] * self.depth + [self.dim_out]
        layers = [
            {"kernel": _glorot(self.weights, m, n, rng), "bias": np.zeros(m)} for n, m in itertools.pairwise(sizes)
        ]
        return {"layers": layers, "scales": np.ones(self.depth)} if self.adaptive else {"layers": layers}

    def apply(self, params: Params, x: Float[Array, " d"]) -> Float[Array, " c"]:
        act = _ACTIVATIONS[self.activation]
        h = to_unit_box(x, self.lower, self.upper)
        *hidden, last = params["layers"]
        for i, layer in enumerate(hidden):
            z = layer["kernel"] @ h + layer["bias"]
            h = act(params["scales"][i] * z) if self.adaptive else act(z)
        return last["kernel"] @ h + last["bias"]


def to_unit_box(x: Any, lower: tuple[float, ...] | None, upper: tuple[float, ...] | None) -> Array:
    """x mapped affinely from [lower, upper] to [-1, 1]^d; unchanged without a box."""
    x = jnp.asarray(x)
    if lower is None or upper is None:
        return x
    lo, hi = np.asarray(lower, float), np.asarray(upper, float)
    scale, shift = 2 / (hi - lo), -(hi + lo) / (hi - lo)
    return jnp.asarray(scale, x.dtype) * x + jnp.asarray(shift, x.dtype)


def check_box(who: str, lower: Any, upper: Any, d: int) -> None:
    """ValueError unless both are None or tuples of length d with lower < upper."""
    if lower is None and upper is None:
        return
    if lower is None or upper is None:
        raise ValueError(f"{who}: give both lower and upper, or neither; got {lower!r} and {upper!r}.")
    if not (isinstance(lower, tuple) and isinstance(upper, tuple) and len(lower) == len(upper) == d):
        raise ValueError(f"{who}: lower and upper must be tuples of {d} numbers; got {lower!r} and {upper!r}.")
    if not all(math.isfinite(b - a) and a < b for a, b in zip(lower, upper, strict=True)):
        raise ValueError(f"{who}: the box needs finite lower < upper; got {lower!r} and {upper!r}.")


def _glorot(kind: str, m: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Variance 2 / (n_in + n_out), uniform or normal."""
    if kind == "glorot_uniform":
        return math.sqrt(6 / (m + n)) * rng.uniform(-1, 1, (m, n))
    return math.sqrt(2 / (m + n)) * rng.standard_normal((m, n))
