"""Shared vocabulary: structures, statuses, and the tuples that a step returns.

Nothing here computes. Modules decide, tuples carry.
"""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Params = Any
State = Any


class Structure(enum.Flag):
    """What an objective offers and what a method needs.

    VALUE      a scalar value (and, by differentiation, its gradient)
    TERMS      the value is a sum of named terms
    COMPOSITE  value = Σ w q φ(z(θ), x) with φ convex in z: a Gauss-Newton matrix JᵀQJ exists
    RESIDUAL   the composite with φ(z) = ½|z|²: residual rows r exist and value = ½‖r‖²
    FINITE_SUM the value is a sum over rows that can be drawn: `rows(idx)` is unbiased, `sizes` counts them
    FIXED      points and weights do not change during a run (needed by methods, never offered)
    """

    VALUE = enum.auto()
    TERMS = enum.auto()
    COMPOSITE = enum.auto()
    RESIDUAL = enum.auto()
    FINITE_SUM = enum.auto()
    FIXED = enum.auto()


class Status(enum.IntEnum):
    """How one step went. Returned from inside jit, read by the driver."""

    OK = 0
    REJECTED = 1  # every trial of the step failed; the parameters are unchanged
    NO_DESCENT = 2  # the line search found no acceptable point; the parameters are unchanged
    LINEAR_SOLVE = 3  # no damping up to the largest made the linear system solvable
    NONFINITE = 4  # value or gradient is NaN or infinite at the entering parameters


class Counts(NamedTuple):
    """Work of one step, in units that can be compared across methods (all int32 scalars).

    One `residual` is one evaluation of all residual rows (or of the value); `vjp` one reverse sweep over all
    rows (a gradient); `jvp` one forward sweep; `rows` Jacobian rows formed; `solves` factorisations of a
    dense system. `batch` is all work on batches of rows, in evaluations of one residual row: a value over b rows is b,
    a gradient 3 b, a Hessian-vector product 6 b (`batch_work`), so b = N is the full evaluation.
    """

    residual: Int[Array, ""]
    jvp: Int[Array, ""]
    vjp: Int[Array, ""]
    rows: Int[Array, ""]
    hvp: Int[Array, ""]
    solves: Int[Array, ""]
    batch: Int[Array, ""]


def counts(residual=0, jvp=0, vjp=0, rows=0, hvp=0, solves=0, batch=0) -> Counts:
    """Counts with the unnamed entries zero; entries may be Python integers or traced scalars."""
    return Counts(*(jnp.asarray(c, jnp.int32) for c in (residual, jvp, vjp, rows, hvp, solves, batch)))


def more(some: Counts, others: Counts) -> Counts:
    """Their sum, entry by entry; `+` would join the tuples."""
    return Counts(*(a + b for a, b in zip(some, others, strict=True)))


def batch_work(rows, value=0, jvp=0, vjp=0, hvp=0):
    """The entry `batch` of work on `rows` residual rows (outputs, not points: `linearization.dims(batch, params).rows`)
    with the weights of `records.WORK`: `batch_work(b, value=1, vjp=1)` is a gradient over b rows, 3 b."""
    return rows * (value + 2 * jvp + 2 * vjp + 6 * hvp)


class Info(NamedTuple):
    """What a reader of the run wants to see of step k. `value` and `grad_norm` belong to the parameters
    ENTERING the step; `step_norm` is the Euclidean length of the move made (0 if rejected)."""

    value: Float[Array, ""]
    grad_norm: Float[Array, ""]
    step_norm: Float[Array, ""]
    status: Int[Array, ""]  # a Status
    counts: Counts
    scalars: dict[str, Float[Array, ""]]  # the method's own: damping, radius, trials, ...


class Step(NamedTuple):
    params: Params
    state: State
    info: Info
