"""Point designs in boxes, on the host in float64: where an equation is tested.

    random       uniform, sobol (scrambled), halton (scrambled), hammersley (shifted): another key, other points
    fixed        grid (cell midpoints): the same for every key

NumPy and scipy.stats.qmc only: nothing here touches a device or depends on the precision of a run.
Reference  Niederreiter, Random Number Generation and Quasi-Monte Carlo Methods, SIAM 1992; Owen, J. Complexity 14
(1998) for the scrambling.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import qmc

from .checks import nearest

DESIGNS = ("sobol", "halton", "hammersley", "uniform", "grid")
FIXED_DESIGNS = frozenset({"grid"})

Box = Sequence[float] | np.ndarray  # one end of a box: d numbers


def generator(key: Any, name: str = "") -> np.random.Generator:
    """A NumPy generator from a JAX key (typed or raw uint32) or a nonnegative integer, and a stream name.

    Different names give independent streams, so that adding a term does not move the points of the others.
    Raises TypeError or ValueError with a sentence for anything else.
    """
    return np.random.default_rng([*_words(key), zlib.crc32(name.encode())])


def _words(key: Any) -> list[int]:
    if isinstance(key, (bool, np.bool_)):
        raise TypeError("key must be a JAX key or a nonnegative integer; got a boolean.")
    if isinstance(key, (int, np.integer)):
        if key < 0:
            raise ValueError(f"key must be a JAX key or a nonnegative integer; got {key}.")
        return [int(key)]
    import jax  # only a JAX key needs it: designs by integer stay free of JAX

    if isinstance(key, jax.Array) and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.key_data(key)
    words = np.asarray(key)
    if words.dtype != np.uint32 or words.ndim > 1:
        raise TypeError(
            f"key must be one JAX key (jax.random.key(0)) or a nonnegative integer; got {type(key).__name__} "
            f"of dtype {words.dtype} and shape {words.shape}."
        )
    return [int(w) for w in words.reshape(-1)]


def design(kind: str, n: int, lower: Box, upper: Box, rng: np.random.Generator) -> np.ndarray:
    """n points of the named design in the closed box [lower, upper], (n, d) float64.

    A grid is the set of cell midpoints and needs n = Π n_i with near-equal n_i; a ValueError names the nearest such n.
    """
    lo, hi = _box(lower, upper)
    check_design(kind)
    n = check_count(n)
    d = lo.size
    if kind == "grid":
        unit = _midpoints(grid_shape(n, d))
    elif kind == "uniform":
        unit = rng.random((n, d))
    elif kind == "sobol":
        # A power of two is drawn and cut: the balance of the sequence is that of its first n points.
        unit = qmc.Sobol(d, scramble=True, rng=rng).random_base2(max(0, math.ceil(math.log2(n))))[:n]
    elif kind == "halton":
        unit = qmc.Halton(d, scramble=True, rng=rng).random(n)
    else:
        unit = _hammersley(n, d, rng)
    return lo + (hi - lo) * unit


def boundary(kind: str, n: int, lower: Box, upper: Box, rng: np.random.Generator) -> np.ndarray:
    """n points on the faces of the box, shared among the 2d faces in proportion to their area, (n, d) float64.

    `kind` is the design on each face. In one dimension the faces are the two ends.
    """
    lo, hi = _box(lower, upper)
    check_design(kind)
    n = check_count(n)
    d = lo.size
    edge = hi - lo
    area = np.repeat([np.prod(np.delete(edge, i)) for i in range(d)], 2)
    parts = []
    for face, m in enumerate(_shares(n, area)):
        if m == 0:
            continue
        axis, end = divmod(face, 2)
        rest = np.delete(np.arange(d), axis)
        points = np.empty((m, d))
        points[:, axis] = hi[axis] if end else lo[axis]
        if d > 1:
            points[:, rest] = design(kind, m, lo[rest], hi[rest], rng)
        parts.append(points)
    return np.concatenate(parts)


def lattice(shape: Sequence[int], lower: Box, upper: Box) -> np.ndarray:
    """The tensor grid of `shape[i]` equispaced values per axis, both ends included; last axis fastest."""
    lo, hi = _box(lower, upper)
    axes = [np.linspace(a, b, n) for a, b, n in zip(lo, hi, shape, strict=True)]
    return _tensor(axes)


def gauss(shape: Sequence[int], lower: Box, upper: Box) -> tuple[np.ndarray, np.ndarray]:
    """Tensor Gauss-Legendre points and weights on the box, exact for degree 2 n_i - 1 in x_i; Σ weights = volume."""
    lo, hi = _box(lower, upper)
    rules = [np.polynomial.legendre.leggauss(n) for n in shape]
    axes = [a + (b - a) * (1 + z) / 2 for a, b, (z, _) in zip(lo, hi, rules, strict=True)]
    weights = _tensor([(b - a) * w / 2 for a, b, (_, w) in zip(lo, hi, rules, strict=True)])
    return _tensor(axes), np.prod(weights, axis=1)


def grid_shape(n: int, d: int) -> tuple[int, ...]:
    """Near-equal factors n = Π n_i, each at most 4 times another, largest first; else ValueError with the nearest n."""
    shape = _factors(n, d)
    if shape is not None:
        return shape
    near = next(m for k in range(1, n + 2) for m in (n - k, n + k) if m > 0 and _factors(m, d))
    raise ValueError(f"a {d}-dimensional grid of {n} points is not nearly square; the nearest size is {near}.")


def check_design(kind: str) -> str:
    if kind not in DESIGNS:
        raise ValueError(f"there is no point design called {kind!r}; {nearest(str(kind), DESIGNS)}")
    return kind


def check_count(n: Any, what: str = "the number of points") -> int:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"{what} must be a positive integer; got {n!r}.")
    return int(n)


def _box(lower: Box, upper: Box) -> tuple[np.ndarray, np.ndarray]:
    lo, hi = np.asarray(lower, float).reshape(-1), np.asarray(upper, float).reshape(-1)
    if lo.shape != hi.shape or lo.size == 0 or not np.all(np.isfinite([lo, hi])) or np.any(lo >= hi):
        raise ValueError(f"a box needs finite lower < upper of equal length; got {lower!r} and {upper!r}.")
    return lo, hi


def _tensor(axes: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


def _midpoints(shape: Sequence[int]) -> np.ndarray:
    return _tensor([(np.arange(m) + 0.5) / m for m in shape])


def _hammersley(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """(i/n, Halton of dimension d-1), moved by one random shift modulo 1 per coordinate."""
    first = np.arange(n)[:, None] / n
    rest = qmc.Halton(d - 1, scramble=False).random(n) if d > 1 else np.empty((n, 0))
    return (np.concatenate([first, rest], axis=1) + rng.random(d)) % 1.0


def _factors(n: int, d: int) -> tuple[int, ...] | None:
    if d == 1:
        return (n,)
    best = None
    for first in range(math.ceil(n ** (1 / d) - 1e-9), n + 1):
        if n % first:
            continue
        rest = _factors(n // first, d - 1)
        if rest is not None and max(first, *rest) <= 4 * min(first, *rest):
            shape = tuple(sorted((first, *rest), reverse=True))
            if best is None or shape[0] / shape[-1] < best[0] / best[-1]:
                best = shape
    return best


def _shares(n: int, area: np.ndarray) -> list[int]:
    """n split in proportion to `area` by largest remainders."""
    exact = n * area / area.sum()
    share = np.floor(exact).astype(int)
    order = np.argsort(share - exact, kind="stable")
    share[order[: n - share.sum()]] += 1
    return [int(m) for m in share]
