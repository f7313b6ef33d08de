"""Lifts: maps from what a method moves to what an objective reads. `objective.pull(lift)` keeps all structure.

Bind(frozen)       trainable leaves -> the full tree, the rest bound in
Bounds(lo, hi)     unconstrained leaves -> leaves inside (lo, hi), by a smooth monotone map
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .types import Params


class Bind(eqx.Module):
    """p ↦ combine(p, frozen): frozen arrays, integers and functions are bound, only `p` is optimised."""

    frozen: Any

    def __call__(self, params: Params) -> Params:
        return eqx.combine(params, self.frozen)


class _Interval(eqx.Module):
    """One leaf's bounds, as arrays that broadcast to the leaf. Which ends are finite is static."""

    lo: Any
    hi: Any
    kind: str = eqx.field(static=True)

    def inside(self, z: Array) -> Array:
        if self.kind == "both":
            return self.lo + (self.hi - self.lo) * jax.nn.sigmoid(z)
        if self.kind == "below":
            return self.lo + jax.nn.softplus(z)
        return self.hi - jax.nn.softplus(z)

    def outside(self, x: Array) -> Array:
        if self.kind == "both":
            t = (x - self.lo) / (self.hi - self.lo)
            return jnp.log(t) - jnp.log1p(-t)
        gap = x - self.lo if self.kind == "below" else self.hi - x
        return gap + jnp.log(-jnp.expm1(-gap))


class Bounds(eqx.Module):
    """z ↦ θ with lo < θ < hi leaf by leaf: sigmoid between two finite ends, softplus above or below one.

    Smooth, so every method honours it; the optimum may lie on a bound only in the limit.
    """

    intervals: tuple[_Interval | None, ...]

    def __call__(self, free: Params) -> Params:
        return self._map(free, "inside")

    def inverse(self, params: Params) -> Params:
        return self._map(params, "outside")

    def _map(self, tree: Params, direction: str) -> Params:
        leaves, treedef = jax.tree.flatten(tree)
        pairs = zip(leaves, self.intervals, strict=True)
        return jax.tree.unflatten(treedef, [x if i is None else getattr(i, direction)(x) for x, i in pairs])


def bounds_on(pairs: list[tuple | None], leaves: list, names: list[str], dtype: str) -> Bounds | None:
    """Bounds from one (lo, hi) or None per leaf. Raises ValueError when a leaf does not start strictly inside."""
    found = [_interval(p, x, n, dtype) for p, x, n in zip(pairs, leaves, names, strict=True)]
    return Bounds(tuple(found)) if any(i is not None for i in found) else None


def _interval(pair: tuple | None, leaf: Any, where: str, dtype: str) -> _Interval | None:
    if pair is None:
        return None
    lo, above = _end(pair[0], -np.inf, leaf, where, dtype)
    hi, below = _end(pair[1], np.inf, leaf, where, dtype)
    finite = (above, below)
    if not any(finite):
        return None
    if not (np.all(lo < hi) and np.all(np.asarray(leaf) > lo) and np.all(np.asarray(leaf) < hi)):
        raise ValueError(
            f"bounds of params{where} = ({lo}, {hi}): need lo < starting value < hi strictly, "
            f"the start is {np.asarray(leaf)}."
        )
    kind = "both" if all(finite) else ("below" if finite[0] else "above")
    return _Interval(lo if finite[0] else None, hi if finite[1] else None, kind)


def _end(value: Any, free: float, leaf: Any, where: str, dtype: str) -> tuple[np.ndarray, bool]:
    """One end of an interval, and whether it binds: all of its entries or none, in a shape that fits the leaf."""
    end = np.asarray(free if value is None else value, dtype)
    binds = np.isfinite(end)
    if not (np.all(binds) or np.all(end == free)):
        raise ValueError(
            f"bounds of params{where}: an end is a number, an array of finite numbers, or None (free); got {end}."
        )
    if end.ndim > np.ndim(leaf) or any(
        a not in (1, b) for a, b in zip(end.shape[::-1], np.shape(leaf)[::-1], strict=False)
    ):
        raise ValueError(f"bounds of params{where}: shape {end.shape} does not fit the leaf's {np.shape(leaf)}.")
    return end, bool(np.all(binds))
