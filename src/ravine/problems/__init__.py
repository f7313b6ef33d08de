"""Problems by name. The table is the registry: a class is loaded on first use, and listing it imports no JAX."""

from ..lazy import exports as _exports

_TABLE = {
    "Poisson2D": "poisson2d",
    "Poisson5D": "poisson5d",
    "Convection1D": "convection1d",
    "DeepRitz2D": "deep_ritz2d",
    "Burgers1D": "burgers1d",
    "AllenCahn1D": "allen_cahn1d",
    "InverseBurgers1D": "inverse_burgers1d",
    "Poisson1D": "poisson1d",
    "Regression1D": "regression1d",
    "Quadratic": "quadratic",
    "Logistic": "logistic",
    "BreastCancer": "breast_cancer",
    "NonlinearFit": "nonlinear_fit",
}

__all__ = sorted(_TABLE)
__getattr__, __dir__ = _exports(__name__, _TABLE, "problem")
