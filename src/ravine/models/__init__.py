"""Models by name. The table is the registry: a class is loaded on first use, and listing it imports no JAX."""

from ..lazy import exports as _exports

_TABLE = {
    "MLP": "mlp",
    "Periodic": "periodic",
    "Hard": "hard",
}

__all__ = sorted(_TABLE)
__getattr__, __dir__ = _exports(__name__, _TABLE, "model")
