"""SOAP: Adam in the slowly turning eigenbasis of Shampoo's two factors.

For a matrix parameter with gradient G, bases Q_L, Q_R and step t = 1, 2, ... after the first gradient:

    G' = Q_Lᵀ G Q_R,   M = β₁M + (1−β₁)G',   V = β₂V + (1−β₂)G'∘G'
    direction = Q_L [M/(1−β₁ᵗ) / (√(V/(1−β₂ᵗ)) + ε)] Q_Rᵀ
    L = β₂L + (1−β₂)GGᵀ,   R = β₂R + (1−β₂)GᵀG
    every `frequency` steps:   Q⁺ = qr(L Q Π),   M is turned into the new basis, V is permuted by Π

One power step and a QR factorisation follow the eigenvectors; Π sorts the columns of Q by their Rayleigh quotients
qᵀLq, largest first, so that each second moment stays with its direction. The first gradient only makes L, R and their
eigenvectors and does not move the matrix: in its own eigenbasis it is diagonal, and Adam would divide rounding by
rounding off the diagonal.

Scalars and vectors get plain Adam, from the first gradient on. More than two axes are merged into a matrix (see
`matrices`); a side longer than `max_precond_dim` is not rotated, and with both sides too long the leaf gets Adam.

Cost       for m × n: six products (two rotations, two factors), 6mn(m+n) flops; every `frequency` steps in addition two
           QR factorisations and the rotation of M, about 6(m³+n³) + 4mn(m+n).
Memory     2(m² + n² + mn); Adam's 2mn for what is not rotated.
Deviation  M is kept in the rotated basis and turned when the basis turns: the same in exact arithmetic, and two
           products a step less.
Reference  Vyas, Morwani, Zhao, Kwun, Shapira, Brandfonbrener, Janson & Kakade (2024), SOAP: Improving and Stabilizing
           Shampoo using Adam, arXiv:2409.11321.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from ..checks import decay, nonnegative, positive, rate, require, whole
from .descent import descent
from .matrices import Shape, as_matrix, matrix_shape


class Side(NamedTuple):
    """One factor of a matrix, and the basis that follows its eigenvectors."""

    factor: Float[Array, "n n"]
    basis: Float[Array, "n n"]


class Sides(NamedTuple):
    left: Side | None
    right: Side | None


class SoapState(NamedTuple):
    count: Int[Array, ""]
    mu: Any  # like the parameters, in the rotated bases
    nu: Any
    sides: tuple[Sides, ...]  # one for each leaf, in the order of jax.tree.leaves


class _Leaf(NamedTuple):
    """What is kept of one parameter."""

    mu: Array
    nu: Array
    sides: Sides


def soap(
    learning_rate: Any = 3e-3,
    b1: Any = 0.95,
    b2: Any = 0.95,
    eps: Any = 1e-8,
    weight_decay: Any = 0.0,
    *,
    frequency: int = 10,
    max_precond_dim: int = 2048,
) -> optax.GradientTransformation:
    """SOAP as an Optax transformation: θ⁺ = θ − α (direction + λθ); see the module docstring.

    `learning_rate` may be a schedule. With `weight_decay` λ other than 0, `update` needs `params`. Raises ValueError
    for a number out of its range.
    """
    require("soap", learning_rate=rate(learning_rate), weight_decay=nonnegative(weight_decay))
    direction = scale_by_soap(b1, b2, eps, frequency=frequency, max_precond_dim=max_precond_dim)
    return optax.chain(direction, *descent(learning_rate, weight_decay))


def scale_by_soap(
    b1: Any = 0.95, b2: Any = 0.95, eps: Any = 1e-8, *, frequency: int = 10, max_precond_dim: int = 2048
) -> optax.GradientTransformation:
    """The direction of SOAP, without learning rate and sign. Raises ValueError for a number out of its range."""
    require("soap", b1=decay(b1), b2=decay(b2), eps=positive(eps))
    require("soap", frequency=whole(frequency, 1), max_precond_dim=whole(max_precond_dim, 1))

    def init(params):
        zeros = optax.tree.zeros_like(params)
        sides = tuple(_start(leaf, matrix_shape(leaf, max_precond_dim)) for leaf in jax.tree.leaves(params))
        return SoapState(jnp.zeros((), jnp.int32), zeros, zeros, sides)

    def update(updates, state, params=None):
        del params
        grads, tree = jax.tree.flatten(updates)
        shapes = [matrix_shape(g, max_precond_dim) for g in grads]
        leaves = list(map(_Leaf, tree.flatten_up_to(state.mu), tree.flatten_up_to(state.nu), state.sides))
        moved = [
            _adam(g, leaf, shape, b1, b2, eps, state.count)
            for g, leaf, shape in zip(grads, leaves, shapes, strict=True)
        ]
        directions, leaves = [d for d, _ in moved], [leaf for _, leaf in moved]
        when = jnp.where(state.count == 0, 2, jnp.where(state.count % frequency == 0, 1, 0))
        leaves = jax.lax.switch(when, [lambda x: x, _each(_follow, shapes), _each(_begin, shapes)], leaves)
        mu, nu = (jax.tree.unflatten(tree, [leaf[i] for leaf in leaves]) for i in (0, 1))
        sides = tuple(leaf.sides for leaf in leaves)
        count = jnp.asarray(optax.safe_increment(state.count))
        return jax.tree.unflatten(tree, directions), SoapState(count, mu, nu, sides)

    return optax.GradientTransformation(init, update)


def _start(leaf: Array, shape: Shape) -> Sides:
    def side(n: int) -> Side:
        return Side(jnp.zeros((n, n), leaf.dtype), jnp.eye(n, dtype=leaf.dtype))

    return Sides(side(shape.rows) if shape.left else None, side(shape.columns) if shape.right else None)


def _adam(grad: Array, leaf: _Leaf, shape: Shape, b1, b2, eps, count: Array) -> tuple[Array, _Leaf]:
    """(direction, moments and factors with this gradient in them); the bases stay."""
    turned = _turn(grad, leaf.sides, shape)
    mu = (b1 * leaf.mu + (1 - b1) * turned).astype(grad.dtype)
    nu = (b2 * leaf.nu + (1 - b2) * jnp.square(turned)).astype(grad.dtype)
    steps = jnp.maximum(count, 1) if shape.sided else count + 1
    scaled = (mu / (1 - b1**steps)) / (jnp.sqrt(nu / (1 - b2**steps)) + eps)
    direction = _turn_back(scaled.astype(grad.dtype), leaf.sides, shape)
    if shape.sided:
        direction = jnp.where(count == 0, 0, direction)
    return direction, _Leaf(mu, nu, _gather(grad, leaf.sides, shape, b2))


def _gather(grad: Array, sides: Sides, shape: Shape, b2) -> Sides:
    """The factors with this gradient in them."""
    g = as_matrix(grad, shape)

    def one(side: Side | None, square: Array) -> Side | None:
        if side is None:
            return None
        return side._replace(factor=(b2 * side.factor + (1 - b2) * square).astype(grad.dtype))

    return Sides(one(sides.left, g @ g.T), one(sides.right, g.T @ g))


def _turn(x: Array, sides: Sides, shape: Shape) -> Array:
    """Into the rotated bases."""
    y = as_matrix(x, shape)
    y = y if sides.left is None else sides.left.basis.T @ y
    y = y if sides.right is None else y @ sides.right.basis
    return y.reshape(x.shape)


def _turn_back(x: Array, sides: Sides, shape: Shape) -> Array:
    y = as_matrix(x, shape)
    y = y if sides.left is None else sides.left.basis @ y
    y = y if sides.right is None else y @ sides.right.basis.T
    return y.reshape(x.shape)


def _each(refresh, shapes: list[Shape]):
    """`refresh` of every leaf that has a rotated side."""

    def all_of(leaves: list[_Leaf]) -> list[_Leaf]:
        return [refresh(leaf, s) if s.sided else leaf for leaf, s in zip(leaves, shapes, strict=True)]

    return all_of


def _begin(leaf: _Leaf, _shape: Shape) -> _Leaf:
    """The eigenvectors of the first factors, largest eigenvalue first; the moments begin with the next gradient."""

    def one(side: Side | None) -> Side | None:
        return None if side is None else side._replace(basis=jnp.linalg.eigh(side.factor)[1][:, ::-1])

    return _Leaf(jnp.zeros_like(leaf.mu), jnp.zeros_like(leaf.nu), Sides(*map(one, leaf.sides)))


def _follow(leaf: _Leaf, shape: Shape) -> _Leaf:
    """The bases one power step on, and the moments in them."""
    momentum = _turn_back(leaf.mu, leaf.sides, shape)
    nu = as_matrix(leaf.nu, shape)
    left, right = leaf.sides
    if left is not None:
        left, order = _power_step(left)
        nu = nu[order]
    if right is not None:
        right, order = _power_step(right)
        nu = nu[:, order]
    sides = Sides(left, right)
    return _Leaf(_turn(momentum, sides, shape), nu.reshape(leaf.nu.shape), sides)


def _power_step(side: Side) -> tuple[Side, Array]:
    """(the side with basis qr(L Q Π), the order Π)."""
    product = side.factor @ side.basis
    order = jnp.argsort(-jnp.sum(side.basis * product, axis=0))
    return side._replace(basis=jnp.linalg.qr(product[:, order])[0]), order
