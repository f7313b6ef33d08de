"""Gradient transformations in Optax's conventions, for `optax.chain` and training loops that are not ours."""

from importlib import import_module as _import_module

_TABLE = {
    "soap": "soap_update",
    "scale_by_soap": "soap_update",
    "shampoo": "shampoo_update",
    "scale_by_shampoo": "shampoo_update",
    "ssbfgs": "quasi_newton_update",
    "ssbroyden": "quasi_newton_update",
}

__all__ = list(_TABLE)


def __getattr__(name: str):
    if name in _TABLE:
        return getattr(_import_module(f"{__name__}.{_TABLE[name]}"), name)
    raise AttributeError(f"module 'ravine.transforms' has no transformation {name!r}; it has {', '.join(_TABLE)}")


def __dir__():
    return sorted(__all__)
