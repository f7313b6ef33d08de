"""Models by name. The table is the registry: a class is loaded on first use, and listing it imports no JAX."""

from importlib import import_module as _import_module

_TABLE = {
    "MLP": "mlp",
    "Periodic": "periodic",
    "Hard": "hard",
}

__all__ = sorted(_TABLE)


def __getattr__(name: str):
    if name in _TABLE:
        return getattr(_import_module(f"{__name__}.{_TABLE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__():
    return __all__
