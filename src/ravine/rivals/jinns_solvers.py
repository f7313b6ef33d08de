"""jinns: its self-scaled Broyden method and its natural gradient, given our gradient, rows and Jacobian."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp

from ..types import Structure
from .rival import positive
from .stepping import Solver, Stepped
from .view import View


@dataclasses.dataclass(frozen=True)
class JinnsSSBroyden(Stepped):
    """Self-scaled Broyden, n x n, with Optax's zoom line search (jinns.optimizers.scale_by_SSBroyden_family)."""

    name: ClassVar[str] = "jinns/ssbroyden"
    call: ClassVar[str] = "jinns.optimizers.scale_by_SSBroyden_family(method='SSBroyden')"
    source: ClassVar[str] = "docstring of scale_by_SSBroyden_family (its defaults)"

    def solver(self, view: View) -> Solver:
        import optax
        from jinns.optimizers import scale_by_SSBroyden_family

        transformation = scale_by_SSBroyden_family(method="SSBroyden")

        def step(theta, state, data):
            def value_fn(theta):
                return view.value(theta, data)

            def grad_fn(theta):
                return view.value_and_grad(theta, data)[1]

            # Where the search stopped it has value and gradient already; asking again would cost one more of each.
            value, grad = optax.value_and_grad_from_state(value_fn)(theta, state=state)
            update, state = transformation.update(
                grad, state, theta, value=value, grad_pt=grad, value_fn=value_fn, grad_fn=grad_fn
            )
            return optax.apply_updates(theta, update), state

        return Solver(lambda theta, data: transformation.init(theta), step)


class _Residuals:
    """What the natural gradient asks of a jinns loss: the rows per sample."""

    def __init__(self, view: View, data: list):
        self.view, self.data = view, data

    def evaluate_per_sample(self, params: Any, batch: Any) -> dict[str, Any]:
        return {"rows": self.view.residual(params.nn_params, self.data)[:, None]}


@dataclasses.dataclass(frozen=True)
class JinnsNGD(Stepped):
    """Natural gradient with a ridge and a backtracking search (jinns.optimizers.vanilla_ngd).

    Its function is the sum of squares without the factor one half, as in jinns: 2L, with the gradient of L.
    """

    name: ClassVar[str] = "jinns/ngd"
    call: ClassVar[str] = "jinns.optimizers.vanilla_ngd(gram_reg=...)"
    source: ClassVar[str] = "docstring of vanilla_ngd (its defaults)"
    needs: ClassVar[Structure] = Structure.RESIDUAL
    gram_reg: float = 1e-5
    backtracking: int = 15

    def __post_init__(self):
        positive(self.name, gram_reg=self.gram_reg, backtracking=self.backtracking)

    def solver(self, view: View) -> Solver:
        import optax
        from jinns.optimizers import vanilla_ngd
        from jinns.parameters import Params

        # The default search prints its failures.
        search = optax.scale_by_backtracking_linesearch(max_backtracking_steps=self.backtracking)
        transformation = vanilla_ngd(gram_reg=self.gram_reg, linesearch=search)

        def wrap(theta):
            return Params(nn_params=theta, eq_params={})

        def step(theta, state, data):
            r, jacobian = view.residual(theta, data), view.jacobian(theta, data)
            rows, slopes = {"rows": r[:, None]}, {"rows": wrap(jacobian[:, None, :])}
            given = rows, slopes, {"rows": jnp.ones((), theta.dtype)}
            loss, value = _Residuals(view, data), jnp.sum(r * r)
            update, state = transformation.update(given, state, wrap(theta), loss=loss, batch=None, loss_value=value)
            return theta + update.nn_params, state

        return Solver(lambda theta, data: transformation.init(wrap(theta)), step)
