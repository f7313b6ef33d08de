"""Means over a sample of rows whose size is decided while the program runs, at the cost of that size.

A random order of the rows of every term is cut into M blocks of fixed size; a sample is the first c blocks, c traced:

    F_c = (1/c) Σ_{i<c} F_{block i},   F_B the objective on the rows B, scaled to be unbiased
    F_M = L exactly: where all blocks are asked for, the whole objective is used

Sizes stay static, so nothing recompiles while the sample grows, and the work is c blocks, not a padded maximum. Rows of
a sample are different ones, as far as the terms' sizes allow (a term with fewer than M rows has one row in each block).

Cost       what `function` costs on c blocks, or on all rows; one permutation of the rows, O(N log N).
Memory     the order (N integers), and what `function` needs on one block, or on all rows.
Reference  Cochran (1977), Sampling Techniques, ch. 2 and 5 (without replacement, by strata); Byrd, Chin, Nocedal & Wu
           (2012), Math. Program. 134(1) (samples that grow).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from ..finite_sum import batch_sizes, draw
from ..linearization import dims


class Blocks:
    """A random order of the rows in M blocks of about `batch` rows. Lives inside one trace; never state."""

    def __init__(self, objective: Any, batch: int, key: PRNGKeyArray):
        self.objective, self.sizes = objective, objective.sizes
        self.shares = batch_sizes(self.sizes, batch)
        total, each = sum(self.sizes.values()), sum(self.shares.values())
        self.number = -(-total // each)
        self.order = draw(key, self.sizes, self.sizes) if self.number == 1 else self._shuffled(key)

    def _shuffled(self, key: PRNGKeyArray) -> dict[str, Int[Array, " n"]]:
        keys = jax.random.split(key, len(self.sizes))
        return {name: jax.random.permutation(k, n) for k, (name, n) in zip(keys, self.sizes.items(), strict=True)}

    def block(self, i: Any) -> Any:
        """The objective on block i."""
        if self.number == 1:
            return self.objective
        places = {name: (i * b + jnp.arange(b)) % self.sizes[name] for name, b in self.shares.items()}
        return self.objective.rows({name: self.order[name][at] for name, at in places.items()})

    def mean(self, function: Callable[[Any], Any], count: Int[Array, ""]) -> Any:
        """The mean of `function(F)`, a tree of arrays, over the first `count` blocks; of L itself for all of them."""
        if self.number == 1:
            return function(self.objective)

        def partial() -> Any:
            like = jax.eval_shape(lambda: function(self.block(0)))
            zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)

            def add(i: Any, total: Any) -> Any:
                return jax.tree.map(jnp.add, total, function(self.block(i)))

            return jax.tree.map(lambda x: x / count, jax.lax.fori_loop(0, count, add, zero))

        return jax.lax.cond(count >= self.number, lambda: function(self.objective), partial)

    def rows(self, params: Any, count: Int[Array, ""]) -> Int[Array, ""]:
        """Residual rows in a sample of `count` blocks."""
        whole = dims(self.objective, params).rows
        return jnp.where(count >= self.number, whole, count * dims(self.block(0), params).rows)
