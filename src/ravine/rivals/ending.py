"""How a rival's run ended: a status of ours, a sentence with its numbers, and one next move."""

from __future__ import annotations

import math
from typing import NamedTuple

from ..driver.budget import Budget
from .track import Ended, Track

_CONVERGED = 1e-9  # gradient norm, as a fraction of its start, below which rounding decides


class Verdict(NamedTuple):
    status: str
    reason: str
    suggestion: str


def judge(track: Track, end: Ended) -> Verdict:
    """The verdict on a run whose closing row is written."""
    return _RULES[end.cause](track, end)


def _number(x: float | None) -> str:
    return "not computed" if x is None else f"{x:.2e}"


def _state(track: Track) -> str:
    row = track.rows[-1]
    main = next((f", {c.removeprefix('metrics.')} {v:.2e}" for c, v in row.items() if c.startswith("metrics.")), "")
    return f"loss {_number(row['loss'])}, gradient norm {_number(row['grad_norm'])}{main}"


def _target(track: Track, end: Ended) -> Verdict:
    row, limits = track.rows[-1], track.rules.target.limits
    shown = ", ".join(f"{c.removeprefix('metrics.')} {_number(row.get(c))} <= {v:.2e}" for c, v in limits.items())
    text = f"Target reached at step {track.k} after {track.clock.seconds:.1f} s: {shown}."
    return Verdict("reached_target", text, "Nothing to do; lower the target to go on.")


def _budget(track: Track, end: Ended) -> Verdict:
    row, limits = track.rows[-1], track.rules.target.limits
    over = [f"{c.removeprefix('metrics.')} {_number(row.get(c))} > {v:.2e}" for c, v in limits.items()]
    missed = f" with the target unmet ({', '.join(over)})" if over else ""
    spent = Budget.words(end.numbers["which"], end.numbers["amount"])
    text = f"Budget of {spent} spent at step {track.k}{missed}: {_state(track)}."
    return Verdict("budget", text, "Read the gradient norm in the record: while it falls, a larger budget helps.")


def _stopped(track: Track, end: Ended) -> Verdict:
    first, last = track.rows[0].get("grad_norm"), track.rows[-1].get("grad_norm")
    relative = last / first if first and last is not None and math.isfinite(first) else math.inf
    status = "converged" if relative <= _CONVERGED else "stalled"
    message = str(end.numbers["message"]).rstrip(".")
    text = f"{track.name} stopped by itself at step {track.k} ({message}): {_state(track)}."
    if status == "converged":
        text = text[:-1] + f"; the gradient has fallen to {relative:.1e} of its start."
    return Verdict(status, text, "Use another method from here, unless its tolerances were set by hand.")


def _nonfinite(track: Track, end: Ended) -> Verdict:
    if track.k == 0:
        text = f"The loss or its gradient is not finite at the starting parameters ({_state(track)})."
        return Verdict("failed", text, "Evaluate each residual at the start: a division by zero or a square root?")
    lowest = min((r["loss"] for r in track.rows if r["loss"] is not None and math.isfinite(r["loss"])), default=None)
    text = f"{track.name} became non-finite at step {track.k}; the lowest recorded loss was {_number(lowest)}."
    return Verdict("diverged", text, "Change its settings, or use a method that rejects such steps ('lm').")


def _interrupted(track: Track, end: Ended) -> Verdict:
    return Verdict("interrupted", f"Interrupted at step {track.k}: {_state(track)}.", "A rival cannot be resumed.")


def _callback(track: Track, end: Ended) -> Verdict:
    return Verdict("interrupted", f"A callback asked to stop at step {track.k}: {_state(track)}.", "Nothing to do.")


def _raised(track: Track, end: Ended) -> Verdict:
    text = f"{track.name} raised {end.numbers['error']} at step {track.k}: {_state(track)}."
    return Verdict("failed", text, "The exception is the library's; change its settings (--set).")


_RULES = {
    "target": _target,
    "budget": _budget,
    "stopped": _stopped,
    "nonfinite": _nonfinite,
    "interrupted": _interrupted,
    "callback": _callback,
    "raised": _raised,
}
