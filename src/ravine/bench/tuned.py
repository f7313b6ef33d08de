"""The two rules of a comparison, as its runs tell of them: defaults only, or the same number of tuning trials for all.

What a run by the second rule carries (`Task.tuning`, the entry `tuning` of its record):

    trials, seeds           the rule: trials of every method, and runs of a trial
    options                 the names of those that were searched
    made, failed            trials (fewer where there was nothing to tune), and those without a result
    error_default, error    median error (or value) of the tuning runs with the defaults and with the settings chosen
    seconds, total_seconds  spent in all tuning runs: steady, and with compilation
    why                     a sentence where nothing was tuned

Only the rule and the options are part of what identifies a run, and never the cost. So a run by one rule has another
key and another name than a run by the other, also where tuning ended at the defaults: the two cannot be pooled unseen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_IDENTITY = ("trials", "seeds", "options")
DEFAULTS_ONLY = "defaults only: no option of any method was tuned."
COLUMNS = ("problem", "method", "trials", "failed", "error with defaults", "error tuned")
COLUMNS += ("seconds", "with compilation", "settings")
NOTE = (
    "Median errors of the tuning runs (values where a problem has no solution), whose seeds are not compared. "
    "Seconds of all of them, which no reading of the compared runs holds."
)


def identity(tuning: Mapping[str, Any] | None) -> dict[str, Any]:
    """What of the tuning tells runs apart; {} where nothing was tuned."""
    return {"tuning": {k: tuning[k] for k in _IDENTITY}} if tuning else {}


def by_hand(parts: Mapping[str, Any], method: str, tuning: Mapping[str, Any] | None) -> dict[str, Any]:
    """The settings that name a method: those set by hand, and for the tuned ones the rule.

    Settings found for one problem are not those found for the next, and the method is the same on both.
    """
    if not tuning:
        return dict(parts)
    found = {f"{method}.{option}" for option in tuning["options"]}
    return {k: v for k, v in parts.items() if k not in found} | {"tuned": _trials(tuning)}


def name(method: str, tuning: Mapping[str, Any] | None) -> str:
    """The method as it is called where both rules are shown."""
    return f"{method} (tuned={_trials(tuning)})" if tuning else method


def _trials(tuning: Mapping[str, Any]) -> str:
    one, runs = tuning["trials"] == 1, tuning["seeds"]
    return f"{tuning['trials']} trial{'' if one else 's'} of {runs} seed{'' if runs == 1 else 's'}"


def rule(records: Sequence[Mapping[str, Any]]) -> str:
    """By which rule the methods were set up, a sentence."""
    untuned = any(not r.get("tuning") for r in records)
    trials = list(dict.fromkeys(_trials(r["tuning"]) for r in records if r.get("tuning")))
    if not trials:
        return DEFAULTS_ONLY
    if len(trials) == 1 and not untuned:
        each = trials[0].replace(" of ", " each of ", 1)
        return f"tuned, {each}, on seeds that are not compared; the first trial of each method is its defaults."
    rules = [f"tuned ({t})" for t in trials] + (["defaults only"] if untuned else [])
    return f"mixed: runs by the rules {' and '.join(rules)} are shown together, as methods of different names."


def rows(records: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """What tuning found and cost: a row of COLUMNS for each tuned (problem, method); [] where nothing was tuned."""
    made = {}
    for r in records:
        if t := r.get("tuning"):
            chosen = (r.get("settings") or {}).get(r["method"], {})
            words = ", ".join(f"{name}={short(chosen[name])}" for name in t["options"] if name in chosen)
            words = f"nothing to tune: {t['why']}" if t["why"] else words or "the defaults"
            costs = [_number(t[k]) for k in ("error_default", "error", "seconds", "total_seconds")]
            made[r["instance"], r["rival"]] = (r["instance"], r["rival"], t["made"], t["failed"], *costs, words)
    return list(made.values())


def short(word: str) -> str:
    """A number to four digits: all of them are in the records."""
    try:
        return word if word.isdigit() else f"{float(word):.4g}"
    except ValueError:
        return word


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def sentences(rows: Sequence[tuple[Any, ...]]) -> list[str]:
    """The rows in words, for a page."""
    said = []
    for problem, method, made, failed, before, after, seconds, total, words in rows:
        if not made:
            said.append(f"{method} on {problem}: {words}.")
            continue
        lost = f" ({failed} without a result)" if failed else ""
        errors = f"error {before:.2g} to {after:.2g}" if math.isfinite(before + after) else "no error to compare"
        cost = f"{seconds:.3g} s, with compilation {total:.3g} s"
        said.append(f"{method} on {problem}: {made} trials{lost}, {cost}; {errors} with {words}.")
    return said
