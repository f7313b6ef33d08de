"""What an adapter is: the settings of one solver of another library, and how it is run."""

from __future__ import annotations

import abc
from typing import Any, ClassVar

from ..types import Structure
from .track import Track
from .view import View


class Rival(abc.ABC):
    """A solver of another library. Subclasses are frozen dataclasses whose fields are the settings that may be changed.

    name    `library/solver`, as on the command line
    call    the function or class of the library that is called
    source  where the settings come from
    needs   what the objective must offer
    counted whether `Track.visit` is told the work, so that budgets in evaluations can be kept
    """

    name: ClassVar[str]
    call: ClassVar[str]
    source: ClassVar[str]
    needs: ClassVar[Structure] = Structure.VALUE
    counted: ClassVar[bool] = False

    @abc.abstractmethod
    def run(self, view: View, track: Track) -> str:
        """Compile, `track.begin()`, then `track.visit(θ)` after every step, which ends the run by an exception.

        Returns the library's own message where it stops by itself.
        """

    def settings(self) -> dict[str, Any]:
        """All settings, for run.json."""
        return dict(vars(self))

    def refusal(self, structure: Structure) -> str | None:
        """None where the rival can minimise objectives of this structure, else a sentence."""
        if self.needs in structure:
            return None
        return f"{self.name} needs residual rows, and this objective has none; use a rival for scalars (optax/lbfgs)."


def positive(name: str, **values: float) -> None:
    """Raises ValueError, one sentence, unless every value is positive."""
    for option, value in values.items():
        if not value > 0:
            raise ValueError(f"{name}: {option}={value!r} must be positive.")


def nonnegative(name: str, **values: float) -> None:
    """Raises ValueError, one sentence, if a value is negative."""
    for option, value in values.items():
        if not value >= 0:
            raise ValueError(f"{name}: {option}={value!r} must not be negative.")


def between(name: str, low: float, high: float, **values: float) -> None:
    """Raises ValueError, one sentence, unless every value lies between the two."""
    for option, value in values.items():
        if not low < value < high:
            raise ValueError(f"{name}: {option}={value!r} must lie between {low:g} and {high:g}.")
