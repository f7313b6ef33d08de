"""Parameters as matrices: what Shampoo and SOAP precondition from two sides.

    shape (n,)              a vector: no sides
    shape (m, n)            itself
    shape (a, b, ..., n)    (a·b·…) × n: all axes but the last are merged, in their order

The last axis is the output of JAX's kernels (height, width, in, out), so a convolution becomes the matrix that acts on
patches. A side longer than `longest` has no square factor.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from jaxtyping import Array


class Shape(NamedTuple):
    """Rows and columns of a leaf, and which sides get a square factor."""

    rows: int
    columns: int
    left: bool
    right: bool

    @property
    def sided(self) -> bool:
        return self.left or self.right


def matrix_shape(leaf: Array, longest: int) -> Shape:
    """The matrix that a leaf is; a scalar or vector is one row without sides."""
    if leaf.ndim < 2:
        return Shape(1, leaf.size, False, False)
    rows, columns = math.prod(leaf.shape[:-1]), leaf.shape[-1]
    return Shape(rows, columns, 0 < rows <= longest, 0 < columns <= longest)


def as_matrix(leaf: Array, shape: Shape) -> Array:
    return leaf.reshape(shape.rows, shape.columns)
