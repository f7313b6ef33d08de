"""What is scored at a recorded row, off the clock: the terms of the loss and the user's metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from ..static import join, split
from ..types import Params
from .precision import cast

_NOT_TRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


@partial(jax.jit, static_argnums=0)
def _terms(frozen, arrays: list, params: Params) -> dict:
    return join(frozen, arrays).terms(params)


@partial(jax.jit, static_argnums=(0, 1))
def _metrics(frozen, places: tuple[int, ...], arrays: list, params: Params) -> dict:
    lift, metrics = join(frozen, [arrays[i] for i in places])
    full = lift(params)
    return {name: fn(full) for name, fn in metrics.items()}


class Observer:
    """Terms and metrics at given parameters, compiled; a metric that cannot be traced is called as it is."""

    def __init__(self, lift: Callable[[Params], Params], metrics: Mapping[str, Callable] | None, dtype: str):
        self.lift = lift
        self.metrics = {name: cast(fn, dtype) for name, fn in (metrics or {}).items()}
        self.eager = False
        if self.metrics:
            frozen, arrays = split((lift, self.metrics))
            self.parts = (frozen, *_once(arrays))

    def __call__(self, objective, params: Params) -> dict[str, float]:
        frozen, arrays = split(objective)
        out = {f"terms.{k}": float(v) for k, v in _terms(frozen, arrays, params).items()}
        return out | {f"metrics.{k}": v for k, v in self._scores(params).items()}

    def _scores(self, params: Params) -> dict[str, float]:
        if not self.metrics:
            return {}
        if not self.eager:
            try:
                found = _metrics(*self.parts, params)
                # In the order given: jit sorts dictionary keys, and the first metric is the main one.
                return {name: _number(name, found[name]) for name in self.metrics}
            except _NOT_TRACEABLE:
                self.eager = True  # a metric that needs concrete numbers (SciPy, Python branches): call it plainly
        full = self.lift(params)
        return {name: _number(name, fn(full)) for name, fn in self.metrics.items()}


def _once(arrays: list) -> tuple[tuple[int, ...], list]:
    """(where each array stands, the different ones): metrics on the same points so share what they compute there, for
    the compiler sees that their inputs are one."""
    places, different = [], {}
    for array in map(jax.numpy.asarray, arrays):
        random = jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key)
        key = id(array) if random else (array.shape, str(array.dtype), np.asarray(array).tobytes())
        places.append(different.setdefault(key, (len(different), array))[0])
    return tuple(places), [array for _, array in different.values()]


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"metrics[{name!r}] must return one number; got {type(value).__name__}.") from None
