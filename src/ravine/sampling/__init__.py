"""Samplers: where the collocation points are, and when they move. This table is the registry."""

from importlib import import_module as _import_module

_TABLE = {
    "Fixed": "fixed",
    "Fresh": "fresh",
    "ResidualAdaptive": "residual_adaptive",
    "PointGuard": "point_guard",
    "MiniBatch": "batches",
    "FixedBatches": "batches",
    "NormTest": "norm_test",
    "InnerProductTest": "inner_product_test",
}

__all__ = list(_TABLE)


def __getattr__(name: str):
    if name in _TABLE:
        return getattr(_import_module(f"{__name__}.{_TABLE[name]}"), name)
    raise AttributeError(f"module 'ravine.sampling' has no sampler {name!r}; it has {', '.join(_TABLE)}")


def __dir__():
    return sorted(__all__)
