"""DeepXDE: the optimizers of its PyTorch back end, on one float64 parameter vector and our value and gradient.

DeepXDE's `Model` owns its network, its points and its loss, so a run of `Model.train` would be another problem. What it
trains with is made by `deepxde.optimizers.get` and knows parameters and a closure only: that is what is called here,
with DeepXDE's options. PyTorch sees the objective as an `autograd.Function`, whose derivative is our gradient and
whose second derivative our product with the Hessian. Each call leaves PyTorch for compiled code and comes back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import numpy as np

from .optax_solvers import positive
from .rival import Rival
from .track import Track
from .view import View

_DOCS = "https://deepxde.readthedocs.io/en/latest/"


class _DeepXDE(Rival):
    """`optimizer()` makes one of DeepXDE's optimizers for a list of parameters; each `step(closure)` is a step."""

    def __post_init__(self):
        # Read when DeepXDE is imported; without it that writes a file into the user's home.
        os.environ.setdefault("DDE_BACKEND", "pytorch")

    def optimizer(self, params: list[Any], size: int) -> Any:
        raise NotImplementedError

    def run(self, view: View, track: Track) -> str:
        with contextlib.redirect_stdout(sys.stderr):  # DeepXDE prints its warnings
            return self._run(view, track)

    def _run(self, view: View, track: Track) -> str:
        import deepxde
        import torch

        deepxde.config.set_default_float("float64")  # its second-order optimizer draws in the default type
        torch.manual_seed(0)  # of its random sketches
        function, theta = Function(view), torch.tensor(np.asarray(view.start), requires_grad=True)
        optimizer = self.optimizer([theta], len(theta))
        loss = function.as_torch()

        def closure() -> Any:
            return loss(theta)

        def closure_with_gradient() -> Any:
            optimizer.zero_grad()
            value = loss(theta)
            value.backward()
            return value

        own = closure if self.differentiates else closure_with_gradient
        function.compile(second=self.differentiates)
        track.begin()
        while True:
            before = theta.detach().clone()
            optimizer.step(own)
            if torch.equal(before, theta.detach()):
                return "it took no step"
            track.visit(theta.detach().numpy(), work=function.work if self.counted else None)

    differentiates: ClassVar[bool] = False  # whether the optimizer takes derivatives of the closure's value itself


@dataclasses.dataclass(frozen=True)
class DeepXDEAdam(_DeepXDE):
    """Adam at a constant step length (deepxde.optimizers.get: torch.optim.Adam)."""

    name: ClassVar[str] = "deepxde/adam"
    call: ClassVar[str] = "deepxde.optimizers.get(params, 'adam', learning_rate=...), step(closure)"
    source: ClassVar[str] = _DOCS + "demos/pinn_forward/burgers.html"
    counted: ClassVar[bool] = True
    learning_rate: float = 1e-3

    def __post_init__(self):
        super().__post_init__()
        positive(self.name, learning_rate=self.learning_rate)

    def optimizer(self, params: list[Any], size: int) -> Any:
        import deepxde

        return deepxde.optimizers.get(params, "adam", learning_rate=self.learning_rate)[0]


@dataclasses.dataclass(frozen=True)
class DeepXDELBFGS(_DeepXDE):
    """L-BFGS with 100 pairs and a strong Wolfe search (deepxde.optimizers.get: torch.optim.LBFGS).

    DeepXDE makes 1000 iterations in a call; here it is one, so that every iterate is seen. PyTorch keeps its pairs and
    the last step between calls, and what it evaluates anew at the start of one is remembered: the iterates are equal.
    """

    name: ClassVar[str] = "deepxde/lbfgs"
    call: ClassVar[str] = "deepxde.optimizers.get(params, 'L-BFGS'), step(closure)"
    source: ClassVar[str] = _DOCS + "modules/deepxde.optimizers.html (defaults of set_LBFGS_options)"
    counted: ClassVar[bool] = True
    memory: int = 100
    max_search: int = 50

    def __post_init__(self):
        super().__post_init__()
        positive(self.name, memory=self.memory, max_search=self.max_search)

    def optimizer(self, params: list[Any], size: int) -> Any:
        import deepxde
        from deepxde.optimizers.config import LBFGS_options

        deepxde.optimizers.set_LBFGS_options(maxcor=self.memory, ftol=0, gtol=0, maxls=self.max_search)
        LBFGS_options["iter_per_step"] = 1
        return deepxde.optimizers.get(params, "L-BFGS")[0]


@dataclasses.dataclass(frozen=True)
class DeepXDENNCG(_DeepXDE):
    """Newton-CG with a Nyström preconditioner and an Armijo search (DeepXDE's own NNCG).

    `mu` is the damping, `rank` that of the preconditioner (at most P), `iterations` the most of CG in a step.
    """

    name: ClassVar[str] = "deepxde/nncg"
    call: ClassVar[str] = "deepxde.optimizers.get(params, 'NNCG'), step(closure)"
    source: ClassVar[str] = _DOCS + "modules/deepxde.optimizers.html (defaults of set_NNCG_options)"
    differentiates: ClassVar[bool] = True
    mu: float = 1e-1
    rank: int = 50
    iterations: int = 1000

    def __post_init__(self):
        super().__post_init__()
        positive(self.name, mu=self.mu, rank=self.rank, iterations=self.iterations)

    def optimizer(self, params: list[Any], size: int) -> Any:
        import deepxde

        rank = min(self.rank, size)
        deepxde.optimizers.set_NNCG_options(mu=self.mu, rank=rank, cgmaxiter=self.iterations)
        return deepxde.optimizers.get(params, "NNCG")[0]


class Function:
    """The objective of a view for PyTorch. `work`: what was evaluated; the last point is remembered."""

    def __init__(self, view: View):
        self.view, self.work = view, {"residual": 0, "vjp": 0}
        self._evaluate = view.on_host(view.value_and_grad)
        self._curve = jax.jit(self._product)
        self._known: tuple[bytes, float, np.ndarray] | None = None

    def _product(self, theta: Any, v: Any, data: list) -> Any:
        """∇²L(θ)v, forward over reverse."""
        return jax.jvp(lambda t: self.view.value_and_grad(t, data)[1], (theta,), (v,))[1]

    def compile(self, second: bool) -> None:
        """Everything that is called, at the start and off the clock; no work is counted for it."""
        if second:
            start = np.asarray(self.view.start)
            self.product(start, start)

    def value_and_grad(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """L(θ) and ∇L(θ), from memory where they were asked for last."""
        key = theta.tobytes()
        if self._known is None or self._known[0] != key:
            value, grad = self._evaluate(theta)
            self.work = {name: n + 1 for name, n in self.work.items()}
            self._known = key, float(value), grad
        return self._known[1], self._known[2]

    def product(self, theta: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.asarray(self._curve(theta, v, self.view.data))

    def as_torch(self) -> Callable[[Any], Any]:
        """L as a PyTorch function of θ that can be differentiated twice."""
        import torch

        this = self

        class Hessian(torch.autograd.Function):
            """v -> ∇²L(θ)v; linear in v, and PyTorch asks for several v at once."""

            @staticmethod
            def forward(theta, v):
                return torch.tensor(this.product(theta.detach().numpy(), v.detach().numpy()))

            @staticmethod
            def setup_context(ctx, inputs, output):
                pass

            @staticmethod
            def vmap(info, in_dims, theta, v):
                each = v if in_dims[1] is not None else v.expand(info.batch_size, *v.shape)
                return torch.stack([Hessian.apply(theta, one) for one in each.movedim(in_dims[1] or 0, 0)]), 0

        class Gradient(torch.autograd.Function):
            @staticmethod
            def forward(theta):
                return torch.tensor(this.value_and_grad(theta.detach().numpy())[1])

            @staticmethod
            def setup_context(ctx, inputs, output):
                ctx.save_for_backward(*inputs)

            @staticmethod
            def backward(ctx, v):
                return Hessian.apply(*ctx.saved_tensors, v)

        class Value(torch.autograd.Function):
            @staticmethod
            def forward(theta):
                return torch.tensor(this.value_and_grad(theta.detach().numpy())[0], dtype=theta.dtype)

            @staticmethod
            def setup_context(ctx, inputs, output):
                ctx.save_for_backward(*inputs)

            @staticmethod
            def backward(ctx, weight):
                return weight * Gradient.apply(*ctx.saved_tensors)

        return Value.apply
