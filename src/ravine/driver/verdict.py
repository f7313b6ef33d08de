"""The verdict: from why the loop ended to a status, a sentence with its numbers, and one suggested next move."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from .budget import Budget
from .engine import MAX_NO_DESCENT, MAX_REJECTED, MAX_TINY
from .loop import Loop
from .setup import End

SPURIOUS = 1e3  # q above this: a spurious solution (guarded runs peak near 22, spurious ones start near 2e6)
FLOOR = 10.0  # q above this: the points, not the optimizer, limit the error
_RESOLVED = 1e-24  # fresh residuals this far (squared) below their start are rounding
_ROUNDING = 1e-13  # a predicted decrease below this fraction of the loss cannot be told from rounding
_VANISHED = 1e-9  # a gradient that has fallen to this fraction: where steps fail, it is rounding that fails them
FEW = 20  # steps of which no trend can be read
_NOTHING_LEFT = "A lower error needs a larger network or more points, not more steps."


class Verdict(NamedTuple):
    status: str
    reason: str
    suggestion: str


def judge(loop: Loop, end: End, q: float | None, returned: int) -> Verdict:
    """The verdict on a finished loop. `q`: fresh-pool statistic of the returned parameters; `returned`: their step."""
    verdict = _RULES[end.cause](loop, end)
    extra = []
    if returned != loop.k:
        extra.append(f"The iterate returned is that of step {returned}, which has the lowest residual on fresh points.")
    if q is not None and end.cause != "nonfinite_start" and not _at_rounding(loop):
        sentence, advice = _points(loop, q)
        if sentence:
            extra.append(sentence)
        if advice and verdict.status != "failed":
            verdict = verdict._replace(suggestion=advice)
    return verdict._replace(reason=" ".join([verdict.reason, *extra]))


def _at_rounding(loop: Loop) -> bool:
    """Whether the residual is rounding everywhere: a ratio of two roundings says nothing about the points."""
    pool, first = loop.watch.pool_loss, loop.rows[0].get("loss")
    return pool is not None and first is not None and pool <= _RESOLVED * first


def _number(x: float | None) -> str:
    return "not computed" if x is None else f"{x:.2e}"


def _closing(loop: Loop) -> dict[str, Any]:
    return loop.rows[-1] if loop.rows else {}


def _state(loop: Loop) -> str:
    row = _closing(loop)
    main = next((f", {c.removeprefix('metrics.')} {v:.2e}" for c, v in row.items() if c.startswith("metrics.")), "")
    return f"loss {_number(row.get('loss'))}, gradient norm {_number(row.get('grad_norm'))}{main}"


def _points(loop: Loop, q: float) -> tuple[str | None, str | None]:
    moving = loop.setup.sampler is not None and loop.watch.period(loop.engine.method)
    if q >= SPURIOUS:
        return (
            f"This looks like a spurious solution: the mean squared residual on fresh points is q = {q:.1e} times that "
            "on the training points, so the network fits the points and not the equation.",
            "Use more points, a smaller network, or start again with another seed."
            if moving
            else "Let the points move (sampler 'guard' or 'rad'), or use more points.",
        )
    if q >= FLOOR:
        return (
            f"Sampling floor: the mean squared residual on fresh points is q = {q:.1f} times that on the training "
            "points, so the points limit the error, not the optimizer.",
            "Use more points" + ("." if moving else ", or let them move (sampler 'guard')."),
        )
    return None, None


def _target(loop: Loop, end: End) -> Verdict:
    row, limits = _closing(loop), loop.setup.target.limits
    shown = ", ".join(f"{c.removeprefix('metrics.')} {_number(row.get(c))} <= {v:.2e}" for c, v in limits.items())
    text = f"Target reached at step {loop.k} after {loop.clock.seconds:.1f} s: {shown}."
    return Verdict("reached_target", text, "Nothing to do; lower the target to go on.")


def _gradient(loop: Loop, end: End) -> Verdict:
    first = loop.rows[0] if loop.rows else {}
    if first.get("grad_norm") == 0 and first.get("loss"):
        text = f"The gradient is exactly 0 at the starting parameters, so nothing can be trained: {_state(loop)}."
        return Verdict(
            "stalled",
            text,
            "Does the loss depend on the parameters that are trained? If so, start from others, not all 0.",
        )
    text = f"The gradient vanishes to rounding at step {loop.k}: {_state(loop)}."
    return Verdict("converged", text, _NOTHING_LEFT)


def _predicted(loop: Loop) -> float | None:
    value = loop.last.scalars.get("predicted") if loop.last is not None else None
    return None if value is None else float(value)


def _rejected(loop: Loop, end: End) -> Verdict:
    predicted = _predicted(loop)
    if predicted is not None and abs(predicted) <= _ROUNDING:
        text = (
            f"The model predicts a decrease of only {predicted:.1e} of the loss, below rounding, and "
            f"{MAX_REJECTED} steps in a row were rejected: {_state(loop)}."
        )
        return Verdict("converged", text, _NOTHING_LEFT)
    text = f"{MAX_REJECTED} steps in a row were rejected at step {loop.k}: {_state(loop)}."
    if (vanished := _vanished(loop, "test")) is not None:
        return Verdict("converged", text[:-1] + vanished, _NOTHING_LEFT)
    damping = loop.last.scalars.get("damping") if loop.last is not None else None
    shown = "" if damping is None else f", damping {float(damping):.1e}"
    text = text[:-1] + f"{shown}."
    return Verdict("stalled", text, "Restart the method from here with fresh state (stages 'lm:N+lm'), or use float64.")


def _no_descent(loop: Loop, end: End) -> Verdict:
    text = f"The line search failed {MAX_NO_DESCENT} times in a row at step {loop.k}: {_state(loop)}."
    if (vanished := _vanished(loop, "search")) is not None:
        return Verdict(
            "converged", text[:-1] + vanished, "For a lower error continue with 'lm', or use a larger network."
        )
    return Verdict("stalled", text, "Continue with Levenberg-Marquardt (stages such as 'lbfgs+lm') or check precision.")


def _tiny(loop: Loop, end: End) -> Verdict:
    text = f"Step too small: {MAX_TINY} steps in a row were below rounding of the parameters; {_state(loop)}."
    if _vanished(loop, "step") is not None:
        return Verdict("converged", text, _NOTHING_LEFT)
    return Verdict("stalled", text, "Continue with a curvature method ('lm'), or raise the step length.")


def _vanished(loop: Loop, what: str) -> str | None:
    """Half a sentence where the gradient is small enough for rounding to decide the `what`, else None."""
    first = loop.rows[0].get("grad_norm") if loop.rows else None
    last = _closing(loop).get("grad_norm")
    if not first or last is None or not math.isfinite(first) or not last / first <= _VANISHED:
        return None
    return f"; the gradient has fallen to {last / first:.1e} of its start, so rounding decides the {what}."


def _nonfinite_start(loop: Loop, end: End) -> Verdict:
    bad = [
        c.removeprefix("terms.") for c, v in _closing(loop).items() if c.startswith("terms.") and not math.isfinite(v)
    ]
    where = f" in the term{'s' if len(bad) > 1 else ''} {', '.join(bad)}" if bad else ""
    text = f"The loss or its gradient is not finite at the starting parameters (loss {end.numbers['value']}){where}."
    if given := _not_finite(loop):
        return Verdict("failed", f"{text} {given}", "Give finite numbers.")
    return Verdict(
        "failed", text, "Evaluate each residual at the start: a division by zero, a logarithm or a square root?"
    )


def _not_finite(loop: Loop) -> str | None:
    """Which of what was given is no number: parameters or points."""
    terms: dict[str, Any] = getattr(loop.objective, "parts", {})
    given = {"params": loop.params} | {f"the points of the term {name!r}": term.points for name, term in terms.items()}
    for what, tree in given.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            if not np.all(np.isfinite(np.asarray(leaf))):
                return f"There are numbers that are not finite in {what}{jax.tree_util.keystr(path)}."
    return None


def _nonfinite(loop: Loop, end: End) -> Verdict:
    text = f"The loss or its gradient became non-finite at step {loop.k} (loss {end.numbers['value']})."
    return Verdict(
        "diverged", text, "Lower the learning rate, or use a method that rejects such steps ('lm', 'ssbroyden')."
    )


def _budget(loop: Loop, end: End) -> Verdict:
    spent = Budget.words(end.numbers["which"], end.numbers["amount"])
    missed = _missed(loop)
    text = f"Budget of {spent} spent at step {loop.k}{missed}: {_state(loop)}{_trend(loop)}."
    fall = _fall(loop)
    if fall is None:
        return Verdict("budget", text, "Read the gradient norm in the record: while it falls, a larger budget helps.")
    if fall < 2 and loop.k < FEW:
        return Verdict("budget", text, "So few steps show no trend: give a larger budget.")
    if fall < 2 and loop.engine.method.second_order:
        return Verdict("budget", text, "More of the same will hardly help: use a larger network or more points.")
    if fall < 2:
        return Verdict("budget", text, "More of the same will not help; switch method (stages such as 'adam:500+lm').")
    return Verdict("budget", text, "The loss is still falling: a larger budget helps.")


def _missed(loop: Loop) -> str:
    row, limits = _closing(loop), loop.setup.target.limits
    over = [f"{c.removeprefix('metrics.')} {_number(row.get(c))} > {v:.2e}" for c, v in limits.items()]
    return f" with the target unmet ({', '.join(over)})" if over else ""


def _fall(loop: Loop) -> float | None:
    """Factor by which the loss fell over the second half of the steps."""
    half = [r["loss"] for r in loop.rows if r["step"] <= loop.k / 2 and r["loss"] is not None]
    last = _closing(loop).get("loss")
    if not half or last is None or not last > 0 or not 0 < half[-1] < math.inf:
        return None
    return half[-1] / last


def _trend(loop: Loop) -> str:
    fall = _fall(loop)
    if fall is None:
        return ""
    way, factor = ("fell", fall) if fall >= 1 else ("rose", 1 / fall)
    return f"; the loss {way} by a factor of {factor:.3g} over the second half of the steps"


def _interrupted(loop: Loop, end: End) -> Verdict:
    where = "; the run can be resumed from its checkpoint" if loop.setup.checkpoint is not None else ""
    return Verdict(
        "interrupted", f"Interrupted at step {loop.k}{where}: {_state(loop)}.", "Resume it, or read the record."
    )


def _callback(loop: Loop, end: End) -> Verdict:
    return Verdict("interrupted", f"A callback asked to stop at step {loop.k}: {_state(loop)}.", "Nothing to do.")


def _plan(loop: Loop, end: End) -> Verdict:
    text = f"All stages of the plan are done at step {loop.k}: {_state(loop)}."
    return Verdict("budget", text, "Give the last stage no count to let it run to the end of the budget.")


_RULES = {
    "target": _target,
    "gradient": _gradient,
    "rejected": _rejected,
    "no_descent": _no_descent,
    "tiny": _tiny,
    "nonfinite_start": _nonfinite_start,
    "nonfinite": _nonfinite,
    "budget": _budget,
    "interrupted": _interrupted,
    "callback": _callback,
    "plan": _plan,
}
