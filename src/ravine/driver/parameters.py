"""Partition of the parameters: what a method moves, what is bound into the objective, what is bounded."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..objective import Objective
from ..static import is_array
from ..types import Params
from ..views import Bind, Bounds, bounds_on
from .notice import warn
from .precision import cast, is_inexact


class Partition(eqx.Module):
    """What a method moves ↦ the user's tree. A lift for `objective.pull`."""

    bind: Bind
    bounds: Bounds | None

    def __call__(self, free: Params) -> Params:
        return self.bind(free if self.bounds is None else self.bounds(free))


def partition(params: Params, trainable: Any, bounds: Any, dtype: str) -> tuple[Params, Partition]:
    """(what the method moves, the correspondence). `trainable`: prefix tree of bools over `params`, None = all.

    Raises ValueError/TypeError when nothing is trainable, a leaf is complex, or a prefix does not fit.
    """
    mask = _mask(params, trainable)
    moving, frozen = eqx.partition(params, mask)
    leaves = jax.tree.leaves(moving)
    if not leaves:
        raise ValueError(f"params: there is nothing to train; {_why_nothing(params, trainable)}")
    _warn_python_floats(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(moving):
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            where = jax.tree_util.keystr(path)
            raise TypeError(f"params{where}: a leaf is complex; store its real and imaginary parts as two real arrays.")
    moving, frozen = cast(moving, dtype), cast(frozen, dtype)
    box = cast(_box(bounds, params, mask, moving, dtype), dtype)
    return (moving if box is None else box.inverse(moving)), Partition(Bind(frozen), box)


def bound_objective(objective: Objective, part: Partition) -> Objective:
    """The objective as a function of what the method moves."""
    nothing = part.bounds is None and not jax.tree.leaves(part.bind.frozen)
    return objective if nothing else objective.pull(part)


def _mask(params: Params, trainable: Any) -> Any:
    leaves, treedef = jax.tree.flatten(params)
    flags = [True] * len(leaves)
    if trainable is not None:
        flags = _spread(trainable, params, _is_flag, "trainable", "booleans, e.g. {'net': True, 'nu': False},")
    return jax.tree.unflatten(treedef, [bool(f) and is_inexact(x) for f, x in zip(flags, leaves, strict=True)])


def _box(bounds: Any, params: Params, mask: Any, moving: Params, dtype: str) -> Bounds | None:
    if bounds is None:
        return None
    pairs = _spread(bounds, params, _is_pair, "bounds", "pairs (lo, hi), None for a free leaf or end,")
    flags = jax.tree.leaves(mask)
    flat, _ = jax.tree_util.tree_flatten_with_path(moving)
    names = [jax.tree_util.keystr(path) for path, _ in flat]
    kept = [p for p, f in zip(pairs, flags, strict=True) if f]
    if not any(p is not None for p in kept):
        raise ValueError("bounds: no trainable leaf is bounded by them; bound a floating-point array that is trained.")
    return bounds_on(kept, [x for _, x in flat], names, dtype)


def _spread(prefix: Any, tree: Any, is_leaf, name: str, what: str) -> list:
    """A prefix tree's entries, one per leaf of `tree`, in flattening order."""
    entries, outer = jax.tree.flatten(prefix, is_leaf=is_leaf)
    if not all(map(is_leaf, entries)):
        if is_leaf is _is_pair and _has_list_pair(prefix):
            raise ValueError(f"{name}: write a pair as a tuple (lo, hi); a list [lo, hi] is read as a container.")
        raise ValueError(f"{name}: a prefix tree of {what} over params is needed.")
    try:
        parts = outer.flatten_up_to(tree)
    except ValueError as error:
        raise ValueError(f"{name}: the tree of {what} is not a prefix of params: {error}") from None
    return [entry for entry, part in zip(entries, parts, strict=True) for _ in jax.tree.leaves(part)]


def _is_flag(x: Any) -> bool:
    return isinstance(x, (bool, np.bool_))


def _is_pair(x: Any) -> bool:
    return x is None or (isinstance(x, tuple) and len(x) == 2 and all(map(_is_end, x)))


def _has_list_pair(prefix: Any) -> bool:
    looks = lambda x: isinstance(x, list) and len(x) == 2 and all(map(_is_end, x))
    return any(map(looks, jax.tree.leaves(prefix, is_leaf=lambda x: _is_pair(x) or looks(x))))


def _is_end(x: Any) -> bool:
    return x is None or isinstance(x, (int, float)) or is_array(x)


def _why_nothing(params: Params, trainable: Any) -> str:
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    if any(is_inexact(x) for _, x in flat):
        return f"no floating-point array leaf is marked trainable by trainable={trainable!r}."
    found = ", ".join(f"params{jax.tree_util.keystr(path)}: {_kind(x)}" for path, x in flat[:3]) or "it is empty"
    more = f" and {len(flat) - 3} more" if len(flat) > 3 else ""
    return f"no leaf is an array of floating-point numbers ({found}{more}); write jnp.asarray(1.0) for a number."


def _kind(x: Any) -> str:
    return f"an array of {x.dtype}" if is_array(x) else f"a Python {type(x).__name__}"


def _warn_python_floats(params: Params) -> None:
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    names = [(jax.tree_util.keystr(path), x) for path, x in flat if isinstance(x, float) and not is_array(x)]
    # Modules keep hyper-parameters as Python floats; in a plain container a float looks like a parameter, and an
    # integer like a size.
    plain = [(name, x) for name, x in names if "." not in name]
    if plain:
        name, x = plain[0]
        warn(f"params{name} is a Python float and is held fixed; write jnp.asarray({x}) to train it.")
