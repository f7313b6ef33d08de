"""JAX's persistent compile cache for command-line runs: most of a short run is compilation, and reruns are common.

Set through the environment before JAX is loaded, so that worker processes inherit it and nothing global is changed
from within. Whatever the user has set stands.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def enable() -> None:
    """Point JAX at the cache folder of this user. No effect where JAX is loaded already."""
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_user_cache() / "ravine" / "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def _user_cache() -> Path:
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"])
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
