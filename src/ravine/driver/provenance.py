"""Where a result comes from: versions, device, precision, threads, date, commit."""

from __future__ import annotations

import datetime
import functools
import os
import platform
from pathlib import Path
from typing import Any

import jax

from .cores import cores
from .source import commit, version

_PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "equinox", "optax")


def provenance(dtype: str, seed: int) -> dict[str, Any]:
    """Everything a reader needs to repeat the run, apart from its configuration."""
    device = jax.devices()[0]
    found = {name: version(name) for name in _PACKAGES}
    return {
        "ravine": version("ravine"),
        "python": platform.python_version(),
        **found,
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "device": f"{device.platform}: {device.device_kind}",
        "devices": jax.device_count(),
        "cores": len(cores()),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "dtype": dtype,
        "seed": seed,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
    }


@functools.cache
def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
