"""Mini-batches drawn inside the compiled loop: every step sees some of the rows, chosen by its own key.

    E L_B = L,   E ∇L_B = ∇L,   Var ∇L_B = Σ_k (n_k²/b_k) (1 − b_k/n_k) S_k²        (without replacement)

The points themselves stay. Every term gives at least one row, shares in proportion to n_k (`finite_sum.batch_sizes`).
A batch is frozen for a whole step, line searches and damping trials included, and the state is refreshed on it before
the step: what a method compares are values on the same rows, and a decrease is one of L_B, not of L. `size` is static,
so thousands of steps are one device call; another size is another compilation.
With a constant step length the loss does not converge: it ends at a floor proportional to step × variance / b. A method
that compares gradients across steps (L-BFGS, nonlinear CG) is refused; an optax.lbfgs wrapped by the caller compares
them too and cannot be told from its type. The record holds loss and gradient norm over all rows, off the clock.

Needs      FINITE_SUM.
Cost/step  that of the method on b rows instead of N (`counts.batch`), and one value and gradient on them where the
           method keeps those between steps; b² comparisons, or a permutation of n_k, for a draw without replacement.
Reference  Robbins & Monro (1951), Ann. Math. Statist. 22(3); Bottou, Curtis & Nocedal (2018), SIAM Rev. 60(2),
           arXiv:1606.04838 (the floor: Theorem 4.6).
"""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp

from ..finite_sum import batch_sizes, draw, not_as_asked
from ..types import Structure
from .base import Look, Sampler, rng

Shares = tuple[tuple[str, int], ...]


class Drawn(eqx.Module):
    """b_k uniform rows of every term, fresh in every step."""

    shares: Shares = eqx.field(static=True)
    replace: bool = eqx.field(static=True)

    def draw(self, objective, key, k):
        return objective.rows(draw(key, objective.sizes, dict(self.shares), self.replace))


class Cycled(eqx.Module):
    """b_k rows of every term in turn along a fixed order, step k the next ones; around the end without a gap."""

    order: dict[str, Any]
    shares: Shares = eqx.field(static=True)

    def draw(self, objective, key, k):
        idx = {}
        for name, b in self.shares:
            n = self.order[name].shape[0]
            idx[name] = jnp.asarray(self.order[name])[((k % n) * b + jnp.arange(b)) % n]
        return objective.rows(idx)


def check_size(sampler: Any) -> None:
    size = sampler.size
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"{type(sampler).__name__}(size={size!r}): must be a positive whole number of rows.")


def needs_finite_sum(sampler: Sampler, objective) -> str | None:
    if Structure.FINITE_SUM in objective.structure:
        return None
    return (
        f"{type(sampler).__name__} needs FINITE_SUM, which this {type(objective).__name__} does not provide; write it "
        "as LeastSquares or Composite whose terms all have coupled=False, or use Fixed."
    )


def about_size(sampler: Any, objective) -> str | None:
    """That a batch has another size than was asked for, because of how many rows or terms there are."""
    why = not_as_asked(sampler.size, objective.sizes)
    return why and f"{type(sampler).__name__}(size={sampler.size}): {why}"


def shared_out(objective, size: int) -> Shares:
    return tuple(batch_sizes(objective.sizes, size).items())


class AbstractBatches(Sampler):
    """Shared by the samplers of this module: no look, no source, the points stay."""

    every: int | None = eqx.field(default=None, init=False)

    batching: ClassVar[bool] = True

    def check(self, objective) -> str | None:
        return needs_finite_sum(self, objective)

    def remark(self, objective) -> str | None:
        return about_size(self, objective)

    def period(self, method) -> int | None:
        return None

    def act(self, objective, params, state, source, seed, step) -> Look:
        return Look(objective, state)


class MiniBatch(AbstractBatches):
    """Mini-batches: `size` uniform rows in every step, with or without replacement within a batch.

    Raises ValueError unless `size` is a positive integer.
    """

    size: int = 64
    replace: bool = False

    def __check_init__(self):
        check_size(self)

    def batches(self, objective, state, seed):
        return Drawn(shared_out(objective, self.size), self.replace)


class FixedBatches(AbstractBatches):
    """Fixed mini-batches: the rows shuffled once by the run's seed, taken `size` at a time in turn, for ever.

    Every row of a term is used equally often; the gradients of one round average to the whole one, a single batch is
    biased by the order. Raises ValueError unless `size` is a positive integer.
    """

    size: int = 64

    def __check_init__(self):
        check_size(self)

    def batches(self, objective, state, seed):
        order = {name: rng(seed, 0, f"{name}/order").permutation(n) for name, n in objective.sizes.items()}
        return Cycled(order, shared_out(objective, self.size))
