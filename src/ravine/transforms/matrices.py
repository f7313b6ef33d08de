"""Parameters as matrices: what Shampoo and SOAP precondition from two sides.

    shape (n,)           a vector: no sides
    shape (m, n)         itself
    shape (a, b, c, d)   a × bcd, ab × cd or abc × d: the cut whose longer side is shortest, the first of equal ones

Axes keep their order, so a convolution is cut between output and patch whether the output comes last (Flax: height,
width, in, out) or first (Equinox: out, in, height, width). A side longer than `longest` has no square factor.
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
    cuts = [(math.prod(leaf.shape[:k]), math.prod(leaf.shape[k:])) for k in range(1, leaf.ndim)]
    rows, columns = min(cuts, key=max)
    return Shape(rows, columns, 0 < rows <= longest, 0 < columns <= longest)


def as_matrix(leaf: Array, shape: Shape) -> Array:
    return leaf.reshape(shape.rows, shape.columns)
