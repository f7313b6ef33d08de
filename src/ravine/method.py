"""The method contract: two pure functions, `init` and `step`.

A method never sees loops, clocks, batches, seeds, checkpoints or records; the driver owns those. State is what
must survive to the next step (arrays only, structure and dtypes the same after `init` and after every `step`);
info is what a reader wants to see. Real-valued options are array leaves, so tuning them never recompiles; sizes
and enumerations are static.
"""

from __future__ import annotations

import abc
from typing import ClassVar

import equinox as eqx
from jaxtyping import PRNGKeyArray

from .finite_sum import not_as_asked
from .types import Params, State, Step, Structure

SAMPLES = ("batch", "extra", "pair_batch")  # options of methods that say how many rows a sample has


class Method(eqx.Module):
    """Abstract optimizer. Subclasses are final, work with no arguments, and declare what they need."""

    needs: ClassVar[Structure] = Structure.VALUE
    # How many steps the point guard lets pass between two looks at a fresh pool: a look costs about four
    # evaluations of the training residual, so a method with cheap steps looks less often.
    guard_every: ClassVar[int] = 100
    # A curvature method works with differences below float32 resolution; the driver warns once.
    second_order: ClassVar[bool] = False
    # Whether `Info.value` and `Info.grad_norm` are estimates from some of the rows. The driver then computes both in
    # full at recorded rows, writes those, and decides by them alone; inside the compiled loop no estimate ends a run.
    noisy: ClassVar[bool] = False
    # Whether what it remembers is worth something on the next batch, where every step has its own (MiniBatch).
    batchable: ClassVar[bool] = True
    # Whether a step with the default options never raises the value by more than rounding.
    monotone: ClassVar[bool] = True

    @abc.abstractmethod
    def init(self, objective, params: Params, *, key: PRNGKeyArray) -> State:
        """The state before the first step."""

    @abc.abstractmethod
    def step(self, objective, params: Params, state: State, *, key: PRNGKeyArray) -> Step:
        """One step. Pure and jittable."""

    def refresh(self, objective, params: Params, state: State) -> State:
        """The state after points or weights of the objective changed between two steps."""
        return state

    def readout(self, params: Params, state: State) -> Params:
        """The parameters a run stands by (averages and the like): metrics, the closing row, targets, the sampler's
        looks, the next stage and the result are theirs; loss and gradient of a row are of the iterate. Of the iterate
        and the state after the same step only."""
        return params

    def remark(self, objective) -> str | None:
        """What the record should say of this method on this objective from the start, as a sentence; None: nothing.

        A method that draws rows takes at most all and at least one a term, whatever its `batch` (or another of the
        options `SAMPLES`) asks for: on a small problem its default is more than there are, and no error.
        """
        if Structure.FINITE_SUM not in self.needs:
            return None
        asked = {name: getattr(self, name, None) for name in SAMPLES}
        found = {f"{k}={n}": not_as_asked(n, objective.sizes) for k, n in asked.items() if isinstance(n, int)}
        parts = [f"{type(self).__name__}({option}): {why}" for option, why in found.items() if why]
        return "; ".join(parts) or None

    def footprint(self, n: int, p: int) -> int:
        """Numbers stored at the peak of a step, given N residual rows and P parameters; checked before a run."""
        return 8 * p + n


def refusal(method: Method, objective) -> str | None:
    """Why `method` cannot run on `objective`, as one sentence; None if it can. Checked before jit."""
    missing = method.needs & ~objective.structure & ~Structure.FIXED
    if not missing:
        return None
    names = " and ".join(flag.name for flag in Structure if flag in missing)
    mine, theirs = type(method).__name__, type(objective).__name__
    return f"{mine} needs {names}, which {theirs} does not provide; {_ADVICE[_first(missing)]}"


def _first(missing: Structure) -> Structure:
    return next(flag for flag in Structure if flag in missing)


_ADVICE = {
    Structure.VALUE: "give an objective with a value.",
    Structure.TERMS: "write the objective as LeastSquares or Composite with named terms.",
    Structure.COMPOSITE: (
        "write the objective as LeastSquares (residual rows) or Composite (an integrand convex in its inputs), "
        "or use a method that needs only VALUE, such as SSBroyden, LBFGS or Adam."
    ),
    Structure.FINITE_SUM: (
        "write the objective as LeastSquares or Composite whose terms all have coupled=False (a coupled term sees its "
        "points at once and has no rows to draw), or use a method that needs only VALUE, such as LBFGS or Adam."
    ),
    Structure.RESIDUAL: (
        "write the objective as LeastSquares (residual rows), or use GaussNewton or LevenbergMarquardt, "
        "which also take a Composite, or a method that needs only VALUE."
    ),
}
