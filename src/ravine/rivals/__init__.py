"""Optimizers of other libraries on the very same objective. This table is the registry of rivals.

A rival is written `library/solver`, because `name:500` already means a number of steps. No other part of the package
imports a rival library; a library that is absent is a row that says so.
"""

from ..lazy import exports as _exports

# class: (module, name on the command line)
_RIVALS = {
    "SciPyTRF": ("scipy_solvers", "scipy/trf"),
    "SciPyBFGS": ("scipy_solvers", "scipy/bfgs"),
    "SciPyLBFGSB": ("scipy_solvers", "scipy/lbfgsb"),
    "OptaxAdam": ("optax_solvers", "optax/adam"),
    "OptaxLBFGS": ("optax_solvers", "optax/lbfgs"),
    "OptimistixLM": ("optimistix_solvers", "optimistix/lm"),
    "OptimistixBFGS": ("optimistix_solvers", "optimistix/bfgs"),
    "JaxoptLM": ("jaxopt_solvers", "jaxopt/lm"),
    "JaxoptLBFGS": ("jaxopt_solvers", "jaxopt/lbfgs"),
    "JnoSSBroyden": ("jno_solvers", "jno/ssbroyden"),
    "JnoSSBFGS": ("jno_solvers", "jno/ssbfgs"),
    "JinnsSSBroyden": ("jinns_solvers", "jinns/ssbroyden"),
    "JinnsNGD": ("jinns_solvers", "jinns/ngd"),
    "ScimbaSSBroyden": ("scimba_solvers", "scimba/ssbroyden"),
    "ScimbaSSBFGS": ("scimba_solvers", "scimba/ssbfgs"),
    "ScimbaENG": ("scimba_solvers", "scimba/eng"),
    "ScimbaANaGRAM": ("scimba_solvers", "scimba/anagram"),
    "DeepXDEAdam": ("deepxde_solvers", "deepxde/adam"),
    "DeepXDELBFGS": ("deepxde_solvers", "deepxde/lbfgs"),
}
_TABLE = {name: module for name, (module, _) in _RIVALS.items()}
_NAMES = {name: spec for name, (_, spec) in _RIVALS.items()}

__all__ = [*_TABLE, "solve_with"]
__getattr__, __dir__ = _exports(__name__, {**_TABLE, "solve_with": "race"}, "rival")
