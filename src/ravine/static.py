"""The static half of a pytree: what a compiled program is keyed by.

Objectives, methods, problems and models are pytrees whose arrays may change freely while functions, sizes and
enumerations decide the program. `split` separates the two; the static half is hashed once.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


def is_array(x: Any) -> bool:
    return isinstance(x, (jax.Array, np.ndarray, np.generic))


class Frozen:
    """Hashable static half of a pytree: structure and non-array leaves, hashed once."""

    def __init__(self, treedef, leaves: tuple):
        self.treedef, self.leaves = treedef, leaves
        self._hash = hash((treedef, leaves))

    def __hash__(self):
        return self._hash

    def __eq__(self, other):
        if self is other:
            return True
        return (
            isinstance(other, Frozen)
            and self._hash == other._hash
            and self.treedef == other.treedef
            and self.leaves == other.leaves
        )


def split(tree: Any) -> tuple[Frozen, list]:
    """(static half, array leaves) of any pytree. Raises TypeError when a static leaf cannot be hashed."""
    leaves, treedef = jax.tree.flatten(tree)
    static = tuple(None if is_array(x) else x for x in leaves)
    try:
        frozen = Frozen(treedef, static)
    except TypeError:
        raise TypeError(_unhashable(tree)) from None
    return frozen, [x for x in leaves if is_array(x)]


def _unhashable(tree: Any) -> str:
    """Which leaf cannot be a part of the key, as a sentence."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        try:
            hash(None if is_array(leaf) else leaf)
        except TypeError:
            where = jax.tree_util.keystr(path)
            return (
                f"an objective or method holds a {type(leaf).__name__} at {where}, which is neither an array nor "
                "hashable; use arrays, numbers, strings, functions or tuples."
            )
    return "an objective or method holds options that cannot be hashed; use numbers, strings, functions or tuples."


def join(frozen: Frozen, arrays: list) -> Any:
    flow = iter(arrays)
    # An array slot is the only leaf that can be None here: None itself is structure, not a leaf.
    return jax.tree.unflatten(frozen.treedef, [next(flow) if x is None else x for x in frozen.leaves])
