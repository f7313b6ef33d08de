"""Gradient transformations in Optax's conventions, for `optax.chain` and training loops that are not ours."""

from ..lazy import exports as _exports

_TABLE = {
    "soap": "soap_update",
    "scale_by_soap": "soap_update",
    "shampoo": "shampoo_update",
    "scale_by_shampoo": "shampoo_update",
    "ssbfgs": "quasi_newton_update",
    "ssbroyden": "quasi_newton_update",
}

__all__ = list(_TABLE)
__getattr__, __dir__ = _exports(__name__, _TABLE, "transformation")
