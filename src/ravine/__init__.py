"""ravine: the optimizer layer for scientific machine learning in JAX.

Hand it a residual (any function, any pytree of parameters) and every method runs on it under one contract: the
same loop, budgets, counters, stopping reasons, checkpoints and reports for Adam and for Levenberg-Marquardt.

Importing ravine does not import JAX: names are loaded on first use.
"""

from importlib import import_module as _import_module

__version__ = "0.1.0"

_TABLE = {
    "minimize": "driver.minimize",
    "solve": "driver.solve",
    "resume": "driver.resume",
    "Budget": "driver.budget",
    "Run": "driver.run",
    "precision": "driver.precision",
    "Term": "objective",
    "LeastSquares": "objective",
    "Composite": "objective",
    "Scalar": "objective",
    "Method": "method",
    "Structure": "types",
    "Status": "types",
    "Step": "types",
    "Info": "types",
    "Problem": "problem",
    "Equation": "problem",
    "Points": "problem",
    "Model": "model",
    "Plan": "plans",
    "Stages": "plans",
    "Auto": "plans",
}
_MODULES = ("methods", "transforms", "problems", "models", "sampling", "rivals")

__all__ = [*_TABLE, *_MODULES, "__version__"]


def __getattr__(name: str):
    if name in _MODULES:
        return _import_module(f"{__name__}.{name}")
    if name in _TABLE:
        return getattr(_import_module(f"{__name__}.{_TABLE[name]}"), name)
    raise AttributeError(f"module 'ravine' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__():
    return sorted(__all__)
