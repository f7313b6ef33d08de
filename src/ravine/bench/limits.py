"""What one run may take at most, and the memory that a process has taken. Imports no JAX.

A limit stops a run that breaks it; a budget is what the runs are compared at. So a run that was stopped by a limit is a
failed one, and a run that kept within it is the same as one without (docs/benchmark.md).
"""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from pathlib import Path

_TEXT = re.compile(r"\s*([0-9.eE+-]+)\s*([A-Za-z]*)\s*")
_BYTES = {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}
_SECONDS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclasses.dataclass(frozen=True)
class Limits:
    """memory  bytes of resident memory of the process of a run, at its peak;  None: no limit
    wall    seconds from the start of that process to its result, imports and compilation included;  None: no limit
    """

    memory: int | None = None
    wall: float | None = None

    def __bool__(self) -> bool:
        return self.memory is not None or self.wall is not None

    def refusal(self) -> str | None:
        """Why the limits cannot be kept on this machine, as a sentence; None if they can."""
        if self.memory is None or peak_memory() is not None:
            return None
        return "--memory: the memory of a run is read from /proc, which this system does not have; leave it away."


def parse_memory(text: str) -> int:
    """Bytes of '4GiB' or '500 MB'. Raises ValueError with a sentence."""
    value, unit = _number(text, "--memory", "4GiB or 500MB")
    if unit.lower() not in _BYTES:
        known = "MiB, GiB, TiB (powers of 1024) or MB, GB, TB (powers of 1000)"
        raise ValueError(f"--memory {text}: {_unit(unit)}; use {known}.")
    return max(1, round(value * _BYTES[unit.lower()]))


def parse_wall(text: str) -> float:
    """Seconds of '10min', '90s' or '2h'. Raises ValueError with a sentence."""
    value, unit = _number(text, "--wall", "10min or 2h")
    if unit.lower() not in _SECONDS:
        raise ValueError(f"--wall {text}: {_unit(unit)}; use s, min, h or d.")
    return value * _SECONDS[unit.lower()]


def _number(text: str, option: str, example: str) -> tuple[float, str]:
    match = _TEXT.fullmatch(text)
    try:
        value = float(match.group(1)) if match else math.nan
    except ValueError:
        value = math.nan
    if match is None or not 0 < value < math.inf:
        raise ValueError(f"{option} {text}: write a positive number and a unit, such as {example}.")
    return value, match.group(2)


def _unit(unit: str) -> str:
    return f"the unit {unit!r} is unknown" if unit else "the unit is missing"


def peak_memory(process: int | str = "self") -> int | None:
    """The most resident memory that a process has held so far, in bytes; None where there is no /proc to tell.

    Not getrusage: its peak is inherited from the process that started this one, however large that was.
    """
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), None)
    return None if found is None else int(found) * 1024


def own_peak() -> int | None:
    """`peak_memory` of this process, from getrusage where there is no /proc; None where there is neither."""
    if (found := peak_memory()) is not None:
        return found
    try:
        import resource
    except ImportError:
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def size_words(size: float) -> str:
    """3.21 GiB, 512 MiB."""
    return f"{size / 2**30:.3g} GiB" if size >= 2**30 else f"{size / 2**20:.4g} MiB"


def time_words(seconds: float) -> str:
    """90 s; 10 min."""
    if seconds >= 120:
        return f"{seconds / 3600:.3g} h" if seconds >= 7200 else f"{seconds / 60:.3g} min"
    return f"{seconds:.3g} s"
