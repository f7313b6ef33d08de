"""DeepXDE: the optimizers of its PyTorch back end, on one float64 parameter vector and our value and gradient.

DeepXDE's `Model` owns its network, its points and its loss, so a run of `Model.train` would be another problem. What it
trains with is made by `deepxde.optimizers.get` and knows parameters and a closure only: that is what is called here,
with DeepXDE's options. The closure takes value and gradient from compiled code, and PyTorch does the rest.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import os
import sys
from typing import Any, ClassVar

import numpy as np

from .rival import Rival, positive
from .track import Track
from .view import View

_DOCS = "https://deepxde.readthedocs.io/en/latest/"


class _DeepXDE(Rival):
    """`optimizer` makes one of DeepXDE's optimizers; each of its `step(closure)` is a step."""

    counted: ClassVar[bool] = True

    def __post_init__(self):
        # Read when DeepXDE is imported; without it that writes a file into the user's home.
        os.environ.setdefault("DDE_BACKEND", "pytorch")

    @abc.abstractmethod
    def optimizer(self, params: list[Any]) -> Any:
        """The optimizer of one tensor, importing the library."""

    def run(self, view: View, track: Track) -> str:
        import torch

        with contextlib.redirect_stdout(sys.stderr):  # DeepXDE says what it is doing
            # DeepXDE makes a GPU PyTorch's default device where there is one; the closure's arrays are in host memory.
            theta = torch.tensor(np.asarray(view.start), requires_grad=True, device="cpu")
            optimizer = self.optimizer([theta])
        evaluate, calls = view.on_host(view.value_and_grad), [0]
        known: dict[bytes, tuple[Any, Any]] = {}  # PyTorch asks again where it ended its last step

        def closure() -> Any:
            point = theta.detach().numpy()
            if (key := point.tobytes()) not in known:
                calls[0] += 1
                value, grad = evaluate(point)
                known.clear()
                known[key] = tuple(torch.tensor(x, dtype=theta.dtype, device="cpu") for x in (value, grad))
            value, theta.grad = known[key]
            return value

        track.begin()
        while True:
            before = theta.detach().clone()
            optimizer.step(closure)
            if torch.equal(before, theta.detach()):
                return "it took no step"
            track.visit(theta.detach().numpy(), work={"residual": calls[0], "vjp": calls[0]})


@dataclasses.dataclass(frozen=True)
class DeepXDEAdam(_DeepXDE):
    """Adam at a constant step length (deepxde.optimizers.get: torch.optim.Adam)."""

    name: ClassVar[str] = "deepxde/adam"
    call: ClassVar[str] = "deepxde.optimizers.get(params, 'adam', learning_rate=...), step(closure)"
    source: ClassVar[str] = _DOCS + "demos/pinn_forward/burgers.html"
    learning_rate: float = 1e-3

    def __post_init__(self):
        super().__post_init__()
        positive(self.name, learning_rate=self.learning_rate)

    def optimizer(self, params: list[Any]) -> Any:
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
    memory: int = 100

    def __post_init__(self):
        super().__post_init__()
        positive(self.name, memory=self.memory)

    def optimizer(self, params: list[Any]) -> Any:
        import deepxde
        from deepxde.optimizers.config import LBFGS_options

        deepxde.optimizers.set_LBFGS_options(maxcor=self.memory, ftol=0, gtol=0)
        LBFGS_options["iter_per_step"] = 1
        return deepxde.optimizers.get(params, "L-BFGS")[0]
