"""Reference solutions: exact formulas that need quadrature, and stored ones with an estimate of their own error.

    cole_hopf(x, t, ν)          Burgers' equation with u(x, 0) = -sin(πx), exact to rounding
    cole_hopf_slopes(xt, ν)     the same with both slopes at many points, NumPy float64
    Stored                      piecewise Chebyshev coefficients in (x, t) from a committed script in `references/`

The first and the last are functions of one point in JAX: any derivative follows by differentiation.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

DATA = Path(__file__).parent / "data"
STEP = 0.1  # quadrature step in z; halving it changes nothing but rounding (tests/test_references.py)


def cole_hopf_nodes(viscosity: float, step: float = STEP) -> Float[np.ndarray, " k"]:
    """Equispaced nodes z, symmetric about 0, far enough out for the integrand of `cole_hopf` at this viscosity.

    Against its value at z = 0 the integrand is at most exp(1/(πν) - z²): cut where that is below exp(-40).
    """
    reach = math.ceil(math.sqrt(1.0 / (math.pi * viscosity) + 40.0) / step)
    return step * np.arange(-reach, reach + 1)


def cole_hopf(x: Any, t: Any, viscosity: float, step: float = STEP) -> Float[Array, ""]:
    """u(x, t) of u_t + u u_x = ν u_xx, u(x, 0) = -sin(πx), u(±1, t) = 0, for t >= 0.

        u = -Σ_k w_k sin(πy_k) / Σ_k w_k,   y_k = x - 2 √(νt) z_k,   log w_k = -cos(πy_k) / (2πν) - z_k²

    The trapezoidal rule on z converges faster than any power of `step`; subtracting the largest log w keeps the
    sums in range for every ν. Cost: about 2 √(1/(πν) + 40) / step sines and exponentials (240 at ν = 0.01/π).
    Derivatives in t exist for t > 0. Source: Cole, Q. Appl. Math. 9 (1951); Hopf, Comm. Pure Appl. Math. 3 (1950).
    """
    z = jnp.asarray(cole_hopf_nodes(viscosity, step))
    y = x - 2.0 * jnp.sqrt(viscosity * t) * z
    logw = -jnp.cos(jnp.pi * y) / (2.0 * jnp.pi * viscosity) - z * z
    w = jnp.exp(logw - jnp.max(logw))
    return -jnp.sum(w * jnp.sin(jnp.pi * y)) / jnp.sum(w)


def cole_hopf_slopes(points: Float[np.ndarray, "m 2"], viscosity: float) -> Float[np.ndarray, "m 3"]:
    """(u, u_x, u_t) of `cole_hopf` at points (x, t), t >= 0, on the host: tens of times faster on grids than a map.

    With E[·] the mean under the weights w:  u = -E[s],  s = sin(πy),  c = cos(πy),
        u_p = -π E[c y_p] - (E[s² y_p] - E[s] E[s y_p]) / (2ν),    y_x = 1,  y_t = -√(ν/t) z
    Sines and cosines are formed once for every distinct t, by the addition theorem.
    """
    points = np.asarray(points, float)
    z = cole_hopf_nodes(viscosity)
    out = np.empty((len(points), 3))
    times, group = np.unique(points[:, 1], return_inverse=True)
    order = np.argsort(group, kind="stable")
    for t, at in zip(times, np.split(order, np.cumsum(np.bincount(group))[:-1]), strict=True):
        sx, cx = np.sin(np.pi * points[at, :1]), np.cos(np.pi * points[at, :1])
        if t == 0.0:  # u_t from the equation: y_t has no limit there
            columns = -sx, -np.pi * cx, np.pi * sx * (viscosity * np.pi - cx)
            out[at] = np.concatenate(columns, axis=1)
            continue
        shift = 2.0 * np.pi * math.sqrt(viscosity * t) * z
        s, c = sx * np.cos(shift) - cx * np.sin(shift), cx * np.cos(shift) + sx * np.sin(shift)
        logw = c / (-2.0 * np.pi * viscosity) - z * z
        w = np.exp(logw - logw.max(axis=1, keepdims=True))
        w /= w.sum(axis=1, keepdims=True)
        ws, y_t = w * s, -math.sqrt(viscosity / t) * z
        mean = ws.sum(axis=1)
        out[at, 0] = -mean
        for column, y_p in ((1, np.ones_like(z)), (2, y_t)):
            spread = (ws * s) @ y_p - mean * (ws @ y_p)
            out[at, column] = -np.pi * ((w * c) @ y_p) - spread / (2.0 * viscosity)
    return out


class Stored(NamedTuple):
    """Chebyshev coefficients of u on x elements × t elements, and how far they can be trusted.

    `error`: relative L2 on the scored points, on the whole test grid, and the largest difference there, each the
    largest found against a coarser computation and against another method. `corner_error`: the largest difference
    at early times, where the data are not smooth.
    """

    coefficients: Float[np.ndarray, "ex et p q"]
    x_edges: Float[np.ndarray, " ex_plus_1"]
    t_edges: Float[np.ndarray, " et_plus_1"]
    error: Float[np.ndarray, " 3"]
    corner_error: float

    def __call__(self, x: Any, t: Any) -> Float[Array, ""]:
        """u(x, t) for x and t within the edges; differentiable within elements."""
        i, v = _local(self.x_edges, x)
        j, w = _local(self.t_edges, t)
        p, q = self.coefficients.shape[2:]
        return _chebyshev(v, p) @ jnp.asarray(self.coefficients)[i, j] @ _chebyshev(w, q)

    def values(self, points: Float[np.ndarray, "m 2"]) -> Float[np.ndarray, " m"]:
        """u at many points (x, t), on the host in float64."""
        i, v = _local(self.x_edges, points[:, 0], np)
        j, w = _local(self.t_edges, points[:, 1], np)
        p, q = self.coefficients.shape[2:]
        tv, tw = np.polynomial.chebyshev.chebvander(v, p - 1), np.polynomial.chebyshev.chebvander(w, q - 1)
        out = np.empty(len(points))
        for k in np.unique(block := i * len(self.t_edges) + j):  # points of one element share their coefficients
            at = block == k
            c = self.coefficients[k // len(self.t_edges), k % len(self.t_edges)]
            out[at] = np.sum((tv[at] @ c) * tw[at], axis=1)
        return out


@functools.cache
def load(name: str) -> Stored:
    """The stored reference `name` (a file data/NAME.npz of this package), read once per process."""
    with np.load(DATA / f"{name}.npz") as data:
        return Stored(
            *(data[key] for key in ("coefficients", "x_edges", "t_edges", "error")), float(data["corner_error"])
        )


def _local(edges: Float[np.ndarray, " n"], y: Any, np_or_jnp: Any = jnp) -> tuple[Any, Any]:
    """Index of the element that holds y, and its coordinate in [-1, 1] there; by NumPy on the host, else in JAX."""
    e = np_or_jnp.asarray(edges)
    i = np_or_jnp.clip(np_or_jnp.searchsorted(e, y, side="right") - 1, 0, len(edges) - 2)
    return i, (2 * y - e[i] - e[i + 1]) / (e[i + 1] - e[i])


def _chebyshev(z: Array, n: int) -> Float[Array, " n"]:
    """T_0 .. T_{n-1} at z, by the recurrence: cos(n arccos z) has no derivative at the ends."""
    out = [jnp.ones_like(z), z]
    while len(out) < n:
        out.append(2 * z * out[-1] - out[-2])
    return jnp.stack(out[:n])
