"""Optimization methods. This table is the registry: contract tests, listings and documentation come from it."""

from importlib import import_module as _import_module

_TABLE = {
    "Optax": "optax_methods",
    "Adam": "optax_methods",
    "AdamW": "optax_methods",
    "SGD": "optax_methods",
    "AdaGrad": "optax_presets",
    "RMSProp": "optax_presets",
    "AMSGrad": "adam_variants",
    "NAdam": "adam_variants",
    "RAdam": "adam_variants",
    "AdaBelief": "adam_variants",
    "Lion": "optax_presets",
    "Muon": "optax_presets",
    "ScheduleFree": "optax_presets",
    "SOAP": "soap",
    "Shampoo": "shampoo",
    "Averaged": "averaged",
    "GradientDescent": "gradient_descent",
    "NonlinearCG": "nonlinear_cg",
    "BarzilaiBorwein": "barzilai_borwein",
    "HeavyBall": "heavy_ball",
    "Nesterov": "nesterov",
    "Polyak": "polyak",
    "AR1": "ar1",
    "FirstOrderTrustRegion": "first_order_trust_region",
    "OFFOAdaGrad": "offo_adagrad",
    "LBFGS": "lbfgs",
    "BFGS": "bfgs",
    "SSBFGS": "ssbfgs",
    "SSBroyden": "ssbroyden",
    "SVRG": "svrg",
    "SAGA": "saga",
    "SARAH": "sarah",
    "STORM": "storm",
    "MultilevelMonteCarlo": "multilevel_monte_carlo",
    "MUlSTREG": "mulstreg",
    "GaussNewton": "gauss_newton",
    "ENGD": "engd",
    "LevenbergMarquardt": "levenberg_marquardt",
    "AdaHessian": "adahessian",
    "Sophia": "sophia",
    "HessianFree": "hessian_free",
    "SubsampledNewton": "subsampled_newton",
    "StochasticLBFGS": "stochastic_lbfgs",
    "STORMTrustRegion": "storm_trust_region",
    "StochasticLM": "stochastic_lm",
    "ASNTR": "asntr",
}

__all__ = list(_TABLE)


def __getattr__(name: str):
    if name in _TABLE:
        return getattr(_import_module(f"{__name__}.{_TABLE[name]}"), name)
    raise AttributeError(f"module 'ravine.methods' has no method {name!r}; it has {', '.join(_TABLE)}")


def __dir__():
    return sorted(__all__)
