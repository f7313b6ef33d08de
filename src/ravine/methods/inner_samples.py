"""Levels over sample counts: multilevel gradients of rows that average over M samples of their own.

    z(θ; x) = mean of g(θ; x, ξ) over the samples ξ of the row        (an integral, an expectation, a weak form)
    P_l = mean of ∇φ(z on block) over the 2^{L−l} blocks of M_l = M/2^{L−l} samples,       P_L = ∇φ
    ∇φ = P_0 + Σ_{l=1}^{L} [P_l − P_{l−1}]

φ is not linear, so fewer samples give another gradient, not a noisier one: P_0 is cheap and biased, and the sum takes
its bias away. One sample of P_l − P_{l−1} is, on a uniform block of a uniform row,

    ∇φ(block) − ½[∇φ(its first half) + ∇φ(its second half)],     C_l = 2 M_l evaluations of g;   C_0 = M_0

The halves are antithetic: z on the block is the mean of z on them, so for smooth φ what is linear in ξ cancels and
V_l = O(M_l⁻²). The variance that rows have among themselves is all on level 0, where a row costs M_0 instead of M.

Work is given out in chunks of 2 M evaluations, the price of one finest correction: a chunk of level l has 2^{L−l}
corrections, one of level 0 has 2^{L+1} rows; chunks go to the levels in proportion to √(V_l C_l), at least one to each.

Cost       `slots` rows (one chunk is two of them; an odd one is left out, and a single one costs two).
Memory     2^{L+1} P for the gradients of a chunk, (L + 1) P for the sums.
Reference  Giles (2015), Acta Numer. 24 (nested simulation, N_l); Bujok, Hambly & Reisinger (2015), Methodol. Comput.
           Appl. Probab. 17 (antithetic halves); Hu, Wang, Chen & He (2024), arXiv:2408.11084 (gradients).
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from ..checks import nearest
from ..finite_sum import row_gradient
from ..objective import Term
from ..types import Params


class SampleLevels(NamedTuple):
    """The hierarchy of one term whose rows have samples."""

    variance: Float[Array, " L"]  # V_l, averaged
    seen: Float[Array, ""]  # weight of that average, 0 before the first step


class Estimate(NamedTuple):
    """What one step learns of one term: its value and gradient, unbiased, and its levels with their new variances."""

    value: Float[Array, ""]
    grad: Float[Array, " P"]
    levels: Any
    exact: Int[Array, ""]  # levels that were summed exactly


def holds(term: Term, entry: str | None) -> bool:
    """Whether the rows of a term have samples under that name."""
    return entry is not None and isinstance(term.points, dict) and entry in term.points


def check_entry(parts: dict[str, Term], entry: str) -> None:
    """Raises ValueError, one sentence, where no term has samples under that name, or one has them in a wrong shape."""
    found = [name for name, term in parts.items() if holds(term, entry)]
    if not found:
        known = sorted({k for term in parts.values() if isinstance(term.points, dict) for k in term.points})
        advice = nearest(entry, known) if known else "give points as a dictionary with such an entry."
        raise ValueError(f"MultilevelMonteCarlo: samples={entry!r} is no entry of the points of any term; {advice}")
    for name in found:
        shapes = [jnp.shape(a) for a in jax.tree.leaves(parts[name].points[entry])]
        counts = {shape[1] if len(shape) > 1 else 0 for shape in shapes}
        if len(counts) != 1 or 0 in counts:
            raise ValueError(
                f"MultilevelMonteCarlo: samples={entry!r} must hold arrays of shape (n, M, ...) with M samples of each "
                f"row; those of the term {name!r} have the shapes {shapes}."
            )


def start(term: Term, entry: str, levels: int, slots: int, dtype: Any) -> SampleLevels:
    """L + 1 = `levels`, or as many as M can be halved and chunks there are; at first V_l is taken to be 4⁻ˡ."""
    total, count = _samples(term, entry), 1
    while count < levels and total % 2**count == 0 and count < slots // 2:
        count += 1
    return SampleLevels(jnp.asarray([4.0**-level for level in range(count)], dtype), jnp.zeros((), dtype))


def cost(slots: int) -> int:
    """Rows that `estimate` evaluates, M samples each."""
    return 2 * max(1, slots // 2)


def estimate(
    objective, name: str, params: Params, entry: str, levels: SampleLevels, slots: int, key: Any, memory: Any
) -> Estimate:
    """Value and gradient of one term from `cost(slots)` rows' worth of samples."""
    size, dtype = ravel_pytree(params)[0].size, levels.variance.dtype
    depth, chunks = levels.variance.shape[0], cost(slots) // 2
    each, term = jnp.asarray(_each(depth)), objective.parts[name]
    given = shared(levels.variance, each, chunks)
    ends, masses = jnp.cumsum(given), term.n * term.measure(term.n)
    branches = [partial(_chunk, objective, name, params, entry, masses, level, depth) for level in range(depth)]

    def add(c, sums):
        level = jnp.searchsorted(ends, c, side="right")
        found = jax.lax.switch(level, branches, jr.fold_in(key, c))
        return tuple(total.at[level].add(x.astype(dtype)) for total, x in zip(sums, found, strict=True))

    zero = jnp.zeros(depth, dtype)
    values, grads, squares = jax.lax.fori_loop(0, chunks, add, (zero, jnp.zeros((depth, size), dtype), zero))
    n = (each * given).astype(dtype)
    mean = grads / n[:, None]
    centred = jnp.maximum(squares - n * jnp.sum(mean * mean, axis=1), 0.0) / jnp.maximum(n - 1, 1.0)
    spread = jnp.where(n > 1, centred, squares)  # of one sample its square: V_l and a little more
    keep = jnp.where(levels.seen > 0, memory, 0.0)
    variance = jnp.where(jnp.isfinite(spread), keep * levels.variance + (1 - keep) * spread, levels.variance)
    after = SampleLevels(variance.astype(dtype), jnp.ones_like(levels.seen))
    return Estimate(jnp.sum(values / n), jnp.sum(mean, axis=0), after, jnp.zeros((), jnp.int32))


def shared(variance: Float[Array, " L"], each: Int[Array, " L"], chunks: int) -> Int[Array, " L"]:
    """Chunks of each level, `chunks` in all: one each, the others in proportion to √(V_l C_l), to level 0 if all V_l
    are zero. `each`: samples of a chunk, so that C_l is in proportion to 1/each."""
    up_to = jnp.cumsum(jnp.sqrt(variance / each))
    fraction = jnp.where(up_to[-1] > 0, up_to / jnp.where(up_to[-1] > 0, up_to[-1], 1.0), 1.0)
    ends = jnp.round((chunks - variance.shape[0]) * fraction).astype(jnp.int32)
    return 1 + jnp.diff(ends, prepend=0)


def difference(
    objective, name: str, params: Params, entry: str, level: int, depth: int, row: Any, block: Any
) -> tuple[Array, Array]:
    """P_l − P_{l−1} (P_0 on level 0) of φ and of ∇φ on one block of one row, without the mass of the row."""
    term = objective.parts[name]
    size = _samples(term, entry) >> (depth - 1 - level)
    x = jax.tree.map(lambda a: jnp.asarray(a)[row], term.points)

    def on(begin: Any, count: int) -> tuple[Array, Array]:
        part = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, begin, count), x[entry])
        return row_gradient(objective, name, params, x | {entry: part})

    value, grad = on(block * size, size)
    if level == 0:
        return value, grad
    half = size // 2
    (first, first_grad), (second, second_grad) = on(block * size, half), on(block * size + half, half)
    return value - 0.5 * (first + second), grad - 0.5 * (first_grad + second_grad)


def _chunk(objective, name: str, params: Params, entry: str, masses: Array, level: int, depth: int, key: Any):
    """(Σ of the values, Σ of the gradients, Σ of their squares) of one chunk; each alone estimates its level."""

    def one(key: Any) -> tuple[Array, Array]:
        for_row, for_block = jr.split(key)
        row = jr.randint(for_row, (), 0, masses.shape[0])
        block = jr.randint(for_block, (), 0, 2 ** (depth - 1 - level))
        value, grad = difference(objective, name, params, entry, level, depth, row, block)
        return masses[row] * value, masses[row] * grad

    values, grads = jax.vmap(one)(jr.split(key, _each(depth)[level]))
    return jnp.sum(values), jnp.sum(grads, axis=0), jnp.sum(grads * grads)


def _each(depth: int) -> list[int]:
    """Samples of a chunk, level by level: all chunks cost the same."""
    return [2**depth, *(2 ** (depth - 1 - level) for level in range(1, depth))]


def _samples(term: Term, entry: str) -> int:
    """M."""
    return jnp.shape(jax.tree.leaves(term.points[entry])[0])[1]
