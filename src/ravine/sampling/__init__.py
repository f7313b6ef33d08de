"""Samplers: where the collocation points are, and when they move. This table is the registry."""

from ..lazy import exports as _exports

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
__getattr__, __dir__ = _exports(__name__, _TABLE, "sampler")
