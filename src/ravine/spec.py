"""The grammar of the command line's methods: stages joined by '+', each with a number of steps or none (JAX is not
imported)."""

from __future__ import annotations

from typing import NamedTuple


class StageSpec(NamedTuple):
    name: str  # as written
    steps: int | None


def is_auto(spec: str) -> bool:
    return spec.strip().lower() == "auto"


def is_plan(spec: str) -> bool:
    """Whether it names more than one method for a whole run."""
    return is_auto(spec) or any(sign in spec for sign in "+:")


def stages(spec: str) -> list[StageSpec]:
    """'adam:500+lm' as [(adam, 500), (lm, None)]. Raises ValueError with a sentence.

    Names are not looked up, but `auto` is none of a stage.
    """
    found = []
    for part in spec.split("+"):
        name, colon, count = part.strip().partition(":")
        name = name.strip()
        if not name:
            raise ValueError(f"method {spec!r}: a stage has no name; write for example 'adam:500+lm'.")
        if is_auto(name):
            raise ValueError(f"method {spec!r}: 'auto' chooses for a whole run and cannot be a stage.")
        if colon and not (count.strip().isdecimal() and int(count) > 0):
            raise ValueError(f"method {spec!r}: {count!r} is not a number of steps; write for example '{name}:500'.")
        found.append(StageSpec(name, int(count) if colon else None))
    return found
