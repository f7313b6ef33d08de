"""The objective as a rival sees it: functions of one flat float64 vector, all made from the objective itself.

Rivals differ in what they are handed (a vector or a tree, ½‖r‖² or its rows, a Jacobian or none); the function is
the same. Points and weights are an argument, `data`, and not constants of the program, as in a run of our own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..linearization import Linearization, dims, more_sweeps
from ..objective import Objective
from ..static import join, split
from ..types import Params, Structure


class View:
    """`start` is θ0 (P,), `rows` the number N of residual rows (None without rows), `data` the arrays of the objective.

    Memory: nothing beyond the objective; `jacobian` returns 8NP bytes.
    """

    def __init__(self, objective: Objective, params: Params):
        self.frozen, self.data = split(objective)
        self.start, self.unravel = ravel_pytree(params)
        self.structure = objective.structure
        has_rows = Structure.COMPOSITE in objective.structure
        self.rows = dims(objective, params).rows if has_rows else None
        # Counts of one Jacobian, as `Linearization.work` has them.
        self.jacobian_work = {"rows": self.rows or 0, "batch": more_sweeps(objective, params) if has_rows else 0}

    def _linear(self, theta: Float[Array, " P"], data: list) -> Linearization:
        return Linearization(join(self.frozen, data), self.unravel(theta))

    def value(self, theta: Float[Array, " P"], data: list) -> Float[Array, ""]:
        """L(θ)."""
        return join(self.frozen, data).value(self.unravel(theta))

    def value_and_grad(self, theta: Float[Array, " P"], data: list) -> tuple[Float[Array, ""], Float[Array, " P"]]:
        """L(θ) and ∇L(θ): one reverse sweep."""
        value, grad = join(self.frozen, data).value_and_grad(self.unravel(theta))
        return value, ravel_pytree(grad)[0]

    def residual(self, theta: Float[Array, " P"], data: list) -> Float[Array, " N"]:
        """Scaled rows r with L = ½‖r‖². LeastSquares only."""
        return self._linear(theta, data).residual

    def jacobian(self, theta: Float[Array, " P"], data: list) -> Float[Array, "N P"]:
        """∂r/∂θ row by row: one reverse sweep of one point, over all points."""
        return self._linear(theta, data).jacobian()

    def residual_with_jacobian(self, theta: Float[Array, " P"], data: list) -> Float[Array, " N"]:
        """`residual` whose derivative is defined as the product with `jacobian`.

        A library that asks JAX for derivatives of the stacked residual pays one sweep over all points per parameter
        or per row; this way it gets the Jacobian formed row by row, and every product with it is a matrix product.
        """

        @jax.custom_jvp
        def rows(theta, data):
            return self.residual(theta, data)

        @rows.defjvp
        def _(primals, tangents):
            return self.residual(*primals), self.jacobian(*primals) @ tangents[0]

        return rows(theta, data)

    def on_host(self, function: Callable[[Any, list], Any]) -> Callable[[np.ndarray], Any]:
        """`function(θ, data)` compiled, as a function of a NumPy vector that returns NumPy float64."""
        compiled = jax.jit(function)

        def call(theta: np.ndarray) -> Any:
            return jax.tree.map(np.asarray, compiled(jnp.asarray(theta), self.data))

        call(np.asarray(self.start))
        return call
