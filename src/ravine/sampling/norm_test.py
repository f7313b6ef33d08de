"""Batches that grow when their noise drowns the gradient: the norm test.

    Σ_k S_k²/b_k (1 − b_k/n_k)  ≤  θ² |∇L_B|²,      S_k² the sample variance of n_k m_ki ∇φ_ki over a batch

The left side estimates E|∇L_B − ∇L|²; where the test fails the batch doubles until it holds, at most to all rows. The
test looks at a batch of its own, drawn from (seed, step), every `every` steps. A batch never shrinks.

Needs      FINITE_SUM.
Cost/look  one gradient over max(b, 2 a term) rows, row by row; memory b P. Growing compiles the step anew.
Deviations (1) terms are strata, with their own variances; (2) with the factor 1 − b/n the test holds at b = n;
           (3) sizes are powers of two times the first, not the smallest that would do: a size is a compilation.
Reference  Byrd, Chin, Nocedal & Wu (2012), Math. Program. 134(1).
"""

from __future__ import annotations

import abc
from functools import partial
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..finite_sum import batch_sizes, row_gradients
from ..static import join, split
from .base import Look, Sampler, check_every, rng
from .batches import Drawn, about_size, check_size, needs_finite_sum, shared_out


class Spread(NamedTuple):
    """Sample variances of the row estimates n_k m_ki ∇φ_ki by term: in all, and along ∇L_B; |∇L_B|²."""

    total: dict[str, float]
    along: dict[str, float]
    squared: float


class AbstractGrowing(Sampler):
    """Batches drawn as `MiniBatch` draws them, of a size that a test on the host doubles. A subclass is the test."""

    size: eqx.AbstractVar[int]

    batching: ClassVar[bool] = True

    @abc.abstractmethod
    def holds(self, spread: Spread, factors: dict[str, float]) -> bool:
        """Whether batches with the factors (1/b_k)(1 − b_k/n_k) are large enough."""

    def check(self, objective) -> str | None:
        return needs_finite_sum(self, objective)

    def remark(self, objective) -> str | None:
        return about_size(self, objective)

    def start(self, objective) -> dict[str, np.ndarray]:
        return {"size": np.asarray(min(self.size, sum(objective.sizes.values())))}

    def batches(self, objective, state, seed):
        return Drawn(shared_out(objective, int(state["size"])), False)

    def act(self, objective, params, state, source, seed, step) -> Look:
        sizes, size = objective.sizes, int(state["size"])
        rows = sum(sizes.values())
        if size >= rows:
            return Look(objective, state)
        spread, looked = _spread(objective, params, batch_sizes(sizes, size), seed, step)
        grown = size
        while grown < rows and not self.holds(spread, _factors(sizes, batch_sizes(sizes, grown))):
            grown = min(2 * grown, rows)
        sweeps = 3.0 * looked / rows
        if grown == size:
            return Look(objective, state, sweeps=sweeps)
        note = f"step {step}: batches of {size} -> {grown} of {rows} rows"
        return Look(objective, state | {"size": np.asarray(grown)}, True, sweeps=sweeps, note=note)


def _factors(sizes: dict[str, int], shares: dict[str, int]) -> dict[str, float]:
    return {name: (1 - shares[name] / n) / shares[name] for name, n in sizes.items()}


def _spread(objective, params, shares: dict[str, int], seed: int, step: int) -> tuple[Spread, int]:
    """The variances over one batch, and how many rows were looked at; one row alone has no variance."""
    counts = {name: min(n, max(2, shares[name])) for name, n in objective.sizes.items()}
    idx = {
        name: rng(seed, step, f"{name}/test").choice(n, counts[name], replace=False)
        for name, n in objective.sizes.items()
    }
    frozen, arrays = split((objective, params))
    total, along, squared = _moments(frozen, [jnp.asarray(a) for a in arrays], idx)
    plain = [{k: float(v) for k, v in part.items()} for part in (total, along)]
    return Spread(*plain, float(squared)), sum(counts.values())


@partial(jax.jit, static_argnums=0)
def _moments(frozen, arrays: list, idx):
    objective, params = join(frozen, arrays)
    shares = {name: grads for name, (_, grads) in row_gradients(objective.rows(idx), params).items()}
    grad = jnp.sum(jnp.stack([jnp.sum(rows, axis=0) for rows in shares.values()]), axis=0)
    squared = grad @ grad
    unit = grad / jnp.sqrt(jnp.where(squared > 0, squared, 1.0))
    total, along = {}, {}
    for name, rows in shares.items():
        b = rows.shape[0]
        gap = b * (rows - jnp.mean(rows, axis=0))  # the row estimates are b times the shares of the batch
        total[name] = jnp.sum(gap * gap) / max(1, b - 1)
        along[name] = jnp.sum((gap @ unit) ** 2) / max(1, b - 1)
    return total, along, squared


class NormTest(AbstractGrowing):
    """Batches that double while the variance of their gradient exceeds θ² times its square.

    `size`: the first. `theta`: θ in (0, 1). `every`: steps between two tests. Raises ValueError for values outside.
    """

    size: int = 64
    theta: float = 0.9
    every: int | None = 50

    def __check_init__(self):
        check_size(self)
        check_every(self)
        if not 0 < self.theta < 1:
            raise ValueError(f"NormTest(theta={self.theta}): must lie between 0 and 1.")

    def holds(self, spread, factors):
        return sum(spread.total[k] * f for k, f in factors.items()) <= self.theta**2 * spread.squared
