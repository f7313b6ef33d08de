"""Multilevel Monte Carlo gradients: many rows of a coarse sum, few of the corrections between finer ones.

    ∇L = ∇L_0 + Σ_{l=1}^{L} [∇L_l − ∇L_{l−1}],      ĝ = Σ_l (K_l/N_l) Σ_{j ≤ N_l} M_j (∇φ_j − ∇φ_{p(j)})
    N_l ∝ √(V_l/C_l),      θ⁺ = θ − αĝ

The rows of a term are put in a space-filling (Morton) order of their points. Level l keeps every 2^{L−l}-th of them,
and each row kept carries the mass M of the rows after it up to the next: a coarse quadrature. The K_l rows that level l
adds are each paired with the row p(j) before them, which stood for them on level l − 1; C_l is 2 rows, on level 0 one
row and no partner. Sums telescope, so E ĝ = ∇L whatever the order. V_l, the variance of one sample, is estimated from
the samples of each step and averaged over steps (`memory`); a level whose N_l reaches K_l is summed exactly.

When it pays: a correction costs as much as two rows, so with N_l < K_l on all levels (Σ√(V_l C_l))² ≥ V_0 and a plain
batch is better. It pays where the coarse sum is cheap enough to be exact and neighbours are alike, as points of a
smooth integrand are: what is left is V_l = O(h_l²).

Those are levels of a quadrature. With `samples` the levels of a term are over sample counts instead: each of its rows
averages over M samples of its own, and level l takes M/2^{L−l} of them (`inner_samples`). It pays wherever rows are
more unlike than their samples.

Needs      FINITE_SUM.
Cost/step  one gradient over `batch` rows, row by row (3 b), both rows of a pair counted; with `samples` an even number
           of rows, at least two. Without a given α ten Hessian-vector products over all rows (60 N) at the start, and
           one over b rows drawn for it (6 b) in every tenth step.
Memory     b P for the gradients of the rows, 3 n for the order; with `samples` 2^{L+1} P instead of b P.
Deviations (1) levels are coarse quadratures over the rows of the sum, per term; (2) no bias is left: the finest level
           is the sum itself; (3) what the rounding of N_l leaves over goes to the coarsest levels first;
           (4) by default α is a share of the inverse of the largest curvature met (`curvature_rate`).
Reference  Giles (2008), Oper. Res. 56(3); Giles (2015), Acta Numer. 24 (N_l); Hu, Wang, Chen & He (2024),
           arXiv:2408.11084 (stochastic gradients).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from ..checks import require_count, require_real
from ..finite_sum import batch_sizes, draw, term_gradients
from ..linearization import dims
from ..method import Method
from ..types import Info, Status, Step, Structure, batch_work, counts
from . import inner_samples
from .curvature_rate import PRODUCTS, at_start, looked, rate, require_rate
from .inner_samples import Estimate, SampleLevels

BITS = 30  # of a Morton code
PASSES = 4  # over the levels that are full, when samples are shared out


class Levels(NamedTuple):
    """The hierarchy of one term."""

    order: Int[Array, " n"]  # the rows along the curve
    variance: Float[Array, " L"]  # V_l, averaged
    seen: Float[Array, ""]  # weight of that average, 0 before the first step


class LevelsState(NamedTuple):
    terms: dict[str, Levels | SampleLevels]
    steps: Int[Array, ""]
    smoothness: Float[Array, ""]  # ℓ, 0 where the step length is given


class MultilevelMonteCarlo(Method):
    """Multilevel Monte Carlo gradients: a coarse sum over few rows, corrected by samples of finer ones.

    `learning_rate`: α, None for `share`/ℓ with the largest curvature ℓ met so far. `batch`: rows of one step in all
    terms. `levels`: L + 1, fewer where a term has not enough rows. `memory`: β in [0, 1) of the average of V_l.
    `samples`: None for levels over rows, or the name of the entry of the points (a dictionary) that holds the samples
    of each row, (n, M, ...): terms that have it get levels over sample counts, and their functions must take any number
    of samples. Raises ValueError or TypeError for options out of range, and ValueError at the start where no term has
    that entry or its arrays have no axis of samples.
    """

    learning_rate: float | None = None
    share: float = 0.05  # the noise that is left at the end is in proportion
    batch: int = eqx.field(static=True, default=16)
    levels: int = eqx.field(static=True, default=3)
    memory: float = 0.9
    samples: str | None = eqx.field(static=True, default=None)

    needs: ClassVar[Structure] = Structure.FINITE_SUM
    noisy: ClassVar[bool] = True
    monotone: ClassVar[bool] = False

    def __check_init__(self):
        require_rate(self)
        require_count(self, "batch", 1)
        require_count(self, "levels", 1)
        require_real(self, "memory", 0.0, 1.0, why="it is the weight of the past in an average", ends="[)")
        if self.samples is not None and not isinstance(self.samples, str):
            raise TypeError(f"MultilevelMonteCarlo: samples must be the name of an entry; got {self.samples!r}.")

    def footprint(self, n: int, p: int) -> int:
        rows = self.batch if self.samples is None else max(self.batch, 2**self.levels)
        return 8 * p + 4 * n + rows * p

    def init(self, objective, params, *, key):
        theta, _ = ravel_pytree(params)
        shares = batch_sizes(objective.sizes, self.batch)
        if self.samples is not None:
            inner_samples.check_entry(objective.parts, self.samples)
        state = {}
        for name, term in objective.parts.items():
            if self.samples is not None and inner_samples.holds(term, self.samples):
                state[name] = inner_samples.start(term, self.samples, self.levels, shares[name], theta.dtype)
                continue
            count = _depth(term.n, shares[name], self.levels)
            state[name] = Levels(_morton(term.points, term.n), jnp.ones(count, theta.dtype), jnp.zeros((), theta.dtype))
        smoothness = jnp.zeros((), theta.dtype)
        if self.learning_rate is None:
            smoothness = at_start(objective, params, theta, key)
        return LevelsState(state, jnp.zeros((), jnp.int32), smoothness)

    def refresh(self, objective, params, state):
        return self.init(objective, params, key=None)

    def step(self, objective, params, state, *, key):
        theta, unravel = ravel_pytree(params)
        shares = batch_sizes(objective.sizes, self.batch)
        keys = jr.split(key, len(shares))
        found, outputs = {}, 0
        for own, (name, slots) in zip(keys, shares.items(), strict=True):
            levels, entry, width = state.terms[name], self.samples, _width(objective.parts[name], params)
            if entry is not None and isinstance(levels, SampleLevels):
                found[name] = inner_samples.estimate(objective, name, params, entry, levels, slots, own, self.memory)
                outputs += inner_samples.cost(slots) * width
            else:
                found[name] = _from_rows(objective, name, params, levels, slots, own, self.memory)
                outputs += slots * width
        value, grad = jnp.zeros((), theta.dtype), jnp.zeros_like(theta)
        for one in found.values():
            value, grad = value + one.value, grad + one.grad

        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(grad))
        if self.learning_rate is None:
            batch = objective.rows(draw(jr.fold_in(key, 1), objective.sizes, shares))
            smoothness, looks = looked(batch, params, grad, state.smoothness, state.steps)
            length, seen = rate(self.share, smoothness, grad), dims(batch, params).rows
        else:
            smoothness, looks, length, seen = state.smoothness, 0, self.learning_rate, 0
        move = jnp.where(finite, -length * grad, 0.0)
        exact = jnp.stack([one.exact for one in found.values()])
        info = Info(
            value=value,
            grad_norm=jnp.linalg.norm(grad),
            step_norm=jnp.linalg.norm(move),
            status=jnp.where(finite, Status.OK, Status.NONFINITE).astype(jnp.int32),
            counts=counts(
                hvp=PRODUCTS * (state.steps == 0) if self.learning_rate is None else 0,
                batch=batch_work(outputs, value=1, vjp=1) + batch_work(seen, hvp=looks),
            ),
            scalars={
                "exact_levels": jnp.sum(exact).astype(theta.dtype),
                "step_size": jnp.asarray(length, theta.dtype),
            },
        )
        after = LevelsState({name: one.levels for name, one in found.items()}, state.steps + 1, smoothness)
        return Step(unravel(theta + move), after, info)


class _Drawn(NamedTuple):
    rows: Int[Array, " b"]
    weight: Float[Array, " b"]  # times φ and ∇φ; 0 in what is left over
    sample: Int[Array, " b"]  # number of the sample that a row belongs to: a row and its partner share it
    level: Int[Array, " b"]
    samples: Int[Array, " L"]  # N_l
    added: Int[Array, " L"]  # K_l
    exact: Array


def _width(term, params) -> int:
    """Outputs of one row."""
    return math.prod(jax.eval_shape(term.outputs, params).shape) // term.n


def _from_rows(objective, name: str, params, levels: Levels, slots: int, key, memory) -> Estimate:
    """Value and gradient of one term from `slots` rows, levels over rows."""
    one = _sample(key, objective.parts[name], levels, slots)
    batch = objective.replace(**{name: objective.parts[name].take(one.rows)})
    f, rows = term_gradients(batch, name, params)
    unit = batch.parts[name].measure(slots)  # the batch's own mass of a row is replaced by the level's
    weight = one.weight / jnp.where(unit > 0, unit, 1.0)
    after = _learned(levels, one, weight[:, None] * rows, memory)
    return Estimate(weight @ f, weight @ rows, after, jnp.sum(one.exact))


def _depth(n: int, b: int, levels: int) -> int:
    """Levels of a term of n rows: a level more needs twice the rows, and a sample of its own among the b."""
    count = 1
    while count < levels and 2 ** (count + 1) <= n and 1 + 2 * count <= b:
        count += 1
    return count


def _morton(points, n: int) -> Array:
    """The rows along a Morton curve through the ranks of their coordinates."""
    flat = jnp.concatenate([jnp.asarray(a).reshape(n, -1) for a in jax.tree.leaves(points)], axis=1)
    flat = flat[:, : min(flat.shape[1], BITS)]
    d = flat.shape[1]
    bits = min(BITS // d, max(1, (n - 1).bit_length()))
    ranks = jnp.argsort(jnp.argsort(flat, axis=0), axis=0)
    cells = jnp.zeros_like(ranks)
    for _ in range(bits):  # 2^bits ranks // n digit by digit, since the product may not fit in 32 bits
        ranks = 2 * ranks
        cells = 2 * cells + (ranks >= n)
        ranks = ranks - n * (ranks >= n)
    cells = cells.astype(jnp.uint32)
    code = jnp.zeros(n, jnp.uint32)
    for bit in range(bits):
        for axis in range(d):
            code |= ((cells[:, axis] >> bit) & 1) << (bit * d + axis)
    return jnp.argsort(code)


def _strides(n: int, count: int) -> tuple[list[int], list[int]]:
    """2^{L−l} and K_l of each level."""
    strides = [2 ** (count - 1 - level) for level in range(count)]
    kept = [-(-n // s) for s in strides]
    return strides, [kept[0], *(b - a for a, b in pairwise(kept))]


def _shared(state: Levels, added: Array, cost: Array, slots: int) -> Array:
    """N_l ∝ √(V_l/C_l), at least 1 and at most K_l, with Σ C_l N_l ≤ slots; what full levels leave goes to the rest."""
    wanted = jnp.sqrt(state.variance / cost) + 1e-300
    fixed = jnp.zeros(added.shape, bool)
    share = jnp.ones(added.shape)
    for _ in range(PASSES):
        free = slots - jnp.sum(jnp.where(fixed, cost * added, 0.0))
        scale = jnp.sum(jnp.where(fixed, 0.0, cost * wanted))
        share = jnp.where(fixed, added, free * wanted / jnp.where(scale > 0, scale, 1.0))
        fixed = fixed | (share >= added)
    # One sample a level is kept aside before rounding down, so the sum cannot exceed the slots.
    share = 1 + jnp.floor(jnp.minimum(share, added) * (slots - jnp.sum(cost)) / slots)
    samples = jnp.minimum(share, added).astype(jnp.int32)
    left = slots - jnp.sum(cost * samples)
    for level in range(added.shape[0]):
        more = jnp.minimum(added[level] - samples[level], left // cost[level]).astype(jnp.int32)
        samples, left = samples.at[level].add(more), left - cost[level] * more
    return samples


def _sample(key, term, state: Levels, slots: int) -> _Drawn:
    """Which rows fill the slots of one term, and with what weight."""
    n, count = term.n, state.variance.shape[0]
    strides, added = (jnp.asarray(a) for a in _strides(n, count))
    cost = jnp.where(jnp.arange(count) == 0, 1, 2)
    samples = _shared(state, added, cost, slots)
    ends = jnp.cumsum(cost * samples)
    slot = jnp.arange(slots)
    level = jnp.minimum(jnp.searchsorted(ends, slot, side="right"), count - 1)
    used = slot < ends[-1]
    place = slot - (ends - cost * samples)[level]
    sample, partner = place // cost[level], (place % cost[level]) == 1

    # A pair needs one draw: it belongs to the slot of its first row.
    own = jr.uniform(key, (slots,))[jnp.where(partner, slot - 1, slot)]
    exact = samples >= added
    j = jnp.where(exact[level], sample, jnp.minimum((own * added[level]).astype(sample.dtype), added[level] - 1))
    stride = strides[level]
    at = jnp.where(level == 0, j * stride, (2 * j + 1) * stride)
    total = jnp.concatenate([jnp.zeros(1), jnp.cumsum(term.measure(n)[state.order])])
    mass = total[jnp.minimum(at + stride, n)] - total[jnp.minimum(at, n)]
    weight = jnp.where(partner, -1.0, 1.0) * mass * (added / samples)[level]
    rows = state.order[jnp.clip(jnp.where(partner, at - stride, at), 0, n - 1)]
    number = jnp.cumsum(~partner) - 1
    return _Drawn(rows, jnp.where(used, weight, 0.0), number, level, samples, added, exact)


def _learned(state: Levels, one: _Drawn, rows: Array, memory) -> Levels:
    """The average of V_l with the samples of this step; a level with one sample says nothing new."""
    slots, count = rows.shape[0], state.variance.shape[0]
    sums = jax.ops.segment_sum(rows, one.sample, slots)  # a pair is one sample
    first = jax.ops.segment_min(one.level, one.sample, slots)
    level = jnp.where(jnp.any(sums != 0, axis=1), first, count)
    n = one.samples.astype(rows.dtype)
    mean = jax.ops.segment_sum(sums, level, count + 1)[:count] / n[:, None]
    squares = jax.ops.segment_sum(jnp.sum(sums * sums, axis=1), level, count + 1)[:count]
    # `sums` carry K_l/N_l: N_l times them are the samples of K_l M (∇φ − ∇φ_p), whose variance is V_l.
    spread = n**2 * jnp.maximum(squares - n * jnp.sum(mean * mean, axis=1), 0.0) / jnp.maximum(n - 1, 1.0)
    known = (one.samples > 1) & jnp.isfinite(spread)
    keep = jnp.where(state.seen > 0, memory, 0.0)
    return state._replace(
        variance=jnp.where(known, keep * state.variance + (1 - keep) * spread, state.variance),
        seen=jnp.ones_like(state.seen),
    )
