"""Shampoo: a gradient divided by the roots of its own second moments, from two sides.

For a matrix parameter with gradient G, and L = R = 0 at the start:

    L = δL + GGᵀ,   R = δR + GᵀG,   direction = (L + εI)^(−1/4) G (R + εI)^(−1/4)

δ = 1 is the sum of the paper, whose steps shrink as AdaGrad's do; δ < 1 forgets. A vector has one side, and then the
root is −1/2 and the method full-matrix AdaGrad. A side longer than `max_precond_dim` keeps the diagonal of its factor
only, with the same root; a scalar, or a vector that is too long, gets AdaGrad. More than two axes are merged into a
matrix, see `matrices`.

The roots are made anew at every step, as in the paper, and every singular value of the direction is then at most 1.
With `frequency` f > 1 they are kept for f steps, after the first f. That is cheaper and for noisy gradients only: what
is new in a gradient meets a stale root of up to ε^(−1/4) on each side, and full-batch runs with f = 10 diverge.

Cost       for m × n: four products, 4mn(m+n) flops; with new roots two eigendecompositions, about 10(m³+n³).
Memory     2(m² + n²); 2n for a side that is too long.
Deviations 1. The paper has εI in the start of L and R, where δ < 1 would let it fade. 2. Eigenvalues below n ulp of
           the largest count as that: they are rounding.
Reference  Gupta, Koren & Singer (2018), Shampoo: Preconditioned Stochastic Tensor Optimization, ICML, arXiv:1802.09568.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from ..checks import decay as fraction
from ..checks import nonnegative, positive, rate, require, whole
from .descent import descent
from .matrices import Shape, as_matrix, matrix_shape


class Factor(NamedTuple):
    """Of one side: a square matrix and its root, or two vectors where only the diagonal is kept."""

    moment: Array
    root: Array


class Factors(NamedTuple):
    """Of one parameter; a vector has no left side."""

    left: Factor | None
    right: Factor


class ShampooState(NamedTuple):
    count: Int[Array, ""]
    factors: tuple[Factors, ...]  # one for each leaf, in the order of jax.tree.leaves


def shampoo(
    learning_rate: Any = 1e-2,
    momentum: Any = 0.9,
    decay: Any = 1.0,
    eps: Any = 1e-12,
    weight_decay: Any = 0.0,
    *,
    frequency: int = 1,
    max_precond_dim: int = 2048,
) -> optax.GradientTransformation:
    """Shampoo as an Optax transformation: v⁺ = μv + direction, θ⁺ = θ − α(v⁺ + λθ); see the module docstring.

    `learning_rate` may be a schedule. With `weight_decay` λ other than 0, `update` needs `params`. Raises ValueError
    for a number out of its range.
    """
    require("shampoo", learning_rate=rate(learning_rate), momentum=fraction(momentum))
    require("shampoo", weight_decay=nonnegative(weight_decay))
    direction = scale_by_shampoo(decay, eps, frequency=frequency, max_precond_dim=max_precond_dim)
    return optax.chain(direction, optax.trace(momentum), *descent(learning_rate, weight_decay))


def scale_by_shampoo(
    decay: Any = 1.0, eps: Any = 1e-12, *, frequency: int = 1, max_precond_dim: int = 2048
) -> optax.GradientTransformation:
    """The direction of Shampoo, without momentum, learning rate and sign. Raises ValueError for a number out of its
    range."""
    require("shampoo", decay=(decay, lambda v: 0 < v <= 1, "in (0, 1]"), eps=positive(eps))
    require("shampoo", frequency=whole(frequency, 1), max_precond_dim=whole(max_precond_dim, 1))

    def init(params):
        factors = tuple(_start(leaf, _shape(leaf, max_precond_dim)) for leaf in jax.tree.leaves(params))
        return ShampooState(jnp.zeros((), jnp.int32), factors)

    def update(updates, state, params=None):
        del params
        grads, tree = jax.tree.flatten(updates)
        shapes = [_shape(g, max_precond_dim) for g in grads]
        factors = [_gather(g, f, s, decay) for g, f, s in zip(grads, state.factors, shapes, strict=True)]
        anew = (state.count < frequency) | (state.count % frequency == 0)
        factors = jax.lax.cond(anew, lambda fs: [_rooted(f, eps) for f in fs], lambda fs: fs, factors)
        moves = [_divide(g, f, s) for g, f, s in zip(grads, factors, shapes, strict=True)]
        count = jnp.asarray(optax.safe_increment(state.count))
        return jax.tree.unflatten(tree, moves), ShampooState(count, tuple(factors))

    return optax.GradientTransformation(init, update)


def _shape(leaf: Array, longest: int) -> Shape:
    """As `matrix_shape`, with a vector as one row whose right side counts."""
    if leaf.ndim == 1:
        return Shape(1, leaf.size, False, 1 < leaf.size <= longest)
    return matrix_shape(leaf, longest)


def _start(leaf: Array, shape: Shape) -> Factors:
    def factor(n: int, square: bool) -> Factor:
        zeros = jnp.zeros((n, n) if square else (n,), leaf.dtype)
        return Factor(zeros, zeros)

    left = factor(shape.rows, shape.left) if leaf.ndim > 1 else None
    return Factors(left, factor(shape.columns, shape.right))


def _gather(grad: Array, factors: Factors, shape: Shape, decay) -> Factors:
    """The moments with this gradient in them."""
    g = as_matrix(grad, shape)

    def one(factor: Factor, x: Array) -> Factor:
        square = x @ x.T if factor.moment.ndim == 2 else jnp.sum(jnp.square(x), axis=1)
        return factor._replace(moment=(decay * factor.moment + square).astype(grad.dtype))

    left, right = factors
    return Factors(None if left is None else one(left, g), one(right, g.T))


def _rooted(factors: Factors, eps) -> Factors:
    """The moments with their roots: −1/4, or −1/2 for a single side."""
    left, right = factors
    power = -0.5 if left is None else -0.25
    return Factors(None if left is None else _root(left, power, eps), _root(right, power, eps))


def _root(factor: Factor, power: float, eps) -> Factor:
    moment = factor.moment
    if moment.ndim == 1:
        return factor._replace(root=((moment + eps) ** power).astype(moment.dtype))
    values, vectors = jnp.linalg.eigh(moment)
    noise = values.size * jnp.finfo(moment.dtype).eps * values[-1]  # smaller ones, and negative ones, are rounding
    values = jnp.maximum(values, noise) + eps
    return factor._replace(root=((vectors * values**power) @ vectors.T).astype(moment.dtype))


def _divide(grad: Array, factors: Factors, shape: Shape) -> Array:
    y = as_matrix(grad, shape)
    left, right = factors
    if left is not None:
        y = left.root @ y if shape.left else left.root[:, None] * y
    y = y @ right.root if shape.right else y * right.root
    return y.reshape(grad.shape)
