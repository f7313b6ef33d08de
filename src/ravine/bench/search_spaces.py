"""Which options of which method are tuned, and in which ranges: the search spaces of `ravine compare --tune`.

One table for our methods and for rivals, so that nobody's space can be wider than another's without its being seen
here. The rules it follows:

- Tuned is what moves the iterates and has no value that is right everywhere: step lengths, damping, momentum,
  regularisation, the memory of a quasi-Newton method. Not tuned are stopping tests (they are at rounding), bounds on
  the number of trials, and what only chooses between equal computations of one thing.
- A range holds the default, which is the first trial, and what a user might try on either side of it: some powers of
  ten of a scale (log), or all that is sensible of a fraction.
- At most three options a method: with 20 trials a fourth is noise.
- A method with nothing to tune says why, gets its defaults, and costs nothing.

Imports no JAX: names are those of the command line.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..registry import find


class Range(NamedTuple):
    """low ≤ option ≤ high, drawn on a logarithmic scale if `log`, whole numbers only if `whole`.

    `when`: (another option, its value) without which this one does nothing; it is searched only then.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False
    when: tuple[str, str] | None = None

    def holds(self, value: Any) -> bool:
        """Whether a search may begin at `value`."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return self.low <= value <= self.high and (not self.whole or value == int(value))


class Choice(NamedTuple):
    """One of several words."""

    words: tuple[str, ...]
    when: tuple[str, str] | None = None

    def holds(self, value: Any) -> bool:
        return text(value) in self.words


class Space(NamedTuple):
    """`options` by name; `why` there are none (empty where there are some)."""

    options: dict[str, Range | Choice]
    why: str = ""


def text(value: Any) -> str:
    """A value as `--set` takes it; numbers to full precision."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "none"
    return repr(value) if isinstance(value, float) else str(value)


def _scale(low: float, high: float, when: tuple[str, str] | None = None) -> Range:
    return Range(low, high, log=True, when=when)


def _count(low: int, high: int, log: bool = True) -> Range:
    return Range(low, high, log=log, whole=True)


_ARMIJO, _FIXED = ("rule", "armijo"), ("rule", "fixed")
_OWN_RATE = ("learning_rate", "none")
_SEARCH: dict[str, Range | Choice] = {"first_step": _scale(1e-2, 1e1), "c2": Range(0.1, 0.95)}
_STOPPING = "its settings are stopping tests, which are at rounding"
_JNO: dict[str, Range | Choice] = {
    "adam": _count(0, 4000, log=False),
    "learning_rate": _scale(1e-4, 1e-1),
    "scale_init_precond": Choice(("true", "false")),
}

_SPACES: dict[str, Space] = {
    # -- ours ----------------------------------------------------------------------------------------------------------
    "optax": Space({}, "its transformation is chosen in code"),
    "adam": Space({"learning_rate": _scale(1e-4, 1e-1), "b1": Range(0.5, 0.99), "b2": Range(0.9, 0.9999)}),
    "adamw": Space({"learning_rate": _scale(1e-4, 1e-1), "b1": Range(0.5, 0.99), "weight_decay": _scale(1e-6, 1e-1)}),
    "sgd": Space({"learning_rate": _scale(1e-5, 1e-1), "momentum": Range(0.0, 0.99)}),
    "adagrad": Space({"learning_rate": _scale(1e-3, 1.0), "first": _scale(1e-4, 1.0)}),
    "rmsprop": Space({"learning_rate": _scale(1e-4, 1e-1), "decay": Range(0.5, 0.9999)}),
    "amsgrad": Space({"learning_rate": _scale(1e-4, 1e-1), "b1": Range(0.5, 0.99), "b2": Range(0.9, 0.9999)}),
    "nadam": Space({"learning_rate": _scale(1e-4, 1e-1), "b1": Range(0.5, 0.99), "b2": Range(0.9, 0.9999)}),
    "radam": Space({"learning_rate": _scale(1e-4, 1e-1), "b1": Range(0.5, 0.99), "b2": Range(0.9, 0.9999)}),
    "adabelief": Space({"learning_rate": _scale(1e-4, 1e-1), "b1": Range(0.5, 0.99), "b2": Range(0.9, 0.9999)}),
    "lion": Space({"learning_rate": _scale(1e-6, 1e-2), "b1": Range(0.5, 0.99), "b2": Range(0.9, 0.9999)}),
    "muon": Space(
        {"learning_rate": _scale(1e-3, 1e-1), "momentum": Range(0.5, 0.99), "vector_rate": _scale(1e-4, 1e-1)}
    ),
    "schedulefree": Space({"learning_rate": _scale(1e-4, 1e-1), "b1": Range(0.5, 0.99), "b2": Range(0.9, 0.9999)}),
    "soap": Space({"learning_rate": _scale(1e-4, 1e-1), "b1": Range(0.5, 0.99), "b2": Range(0.5, 0.999)}),
    "shampoo": Space({"learning_rate": _scale(1e-4, 1e-1), "momentum": Range(0.0, 0.99), "decay": Range(0.5, 1.0)}),
    "averaged": Space({}, "what can be tuned is the method that it averages"),
    "gd": Space({"learning_rate": _scale(1e-5, 1e-1, _FIXED), "c1": _scale(1e-6, 0.5, _ARMIJO)}),
    "cg": Space({"orthogonality": _scale(0.05, 1.0), "first_step": _scale(1e-2, 1e1), "c2": _scale(1e-3, 0.3)}),
    "bb": Space({"memory": _count(1, 50), "first_step": _scale(1e-2, 1e1), "c1": _scale(1e-6, 0.1)}),
    "heavyball": Space(
        {
            "momentum": Range(0.5, 0.999),
            "learning_rate": _scale(1e-5, 1e-1, _FIXED),
            "c1": Range(0.05, 0.9, when=_ARMIJO),
        }
    ),
    # Its momentum is a sequence of its own by default; a constant one is another method (--set nesterov.momentum=0.9).
    "nesterov": Space({"learning_rate": _scale(1e-5, 1e-1, _FIXED), "c1": Range(0.05, 0.9, when=_ARMIJO)}),
    "polyak": Space({"relaxation": Range(0.1, 1.9), "growth": _scale(1.05, 1e2)}),
    "ar1": Space({"sigma": _scale(1e-2, 1e3), "decrease": Range(0.1, 0.9), "increase": _scale(1.1, 10.0)}),
    "fotr": Space({"radius": _scale(1e-2, 1e2), "shrink": Range(0.1, 0.9), "grow": _scale(1.1, 10.0)}),
    "offo": Space({"learning_rate": _scale(1e-2, 1e1), "initial": _scale(1e-4, 1.0), "exponent": Range(0.2, 0.8)}),
    "lbfgs": Space({"memory": _count(5, 200), **_SEARCH}),
    "bfgs": Space(_SEARCH),
    "ssbfgs": Space(_SEARCH),
    "ssbroyden": Space(_SEARCH),
    "gn": Space({"damping": _scale(1e-15, 1e-4)}),
    "engd": Space({"cutoff": _scale(1e-15, 1e-6)}),
    "lm": Space({"damping": _scale(1e-6, 1e1), "momentum": Range(0.0, 0.9), "bend": Range(0.25, 2.0)}),
    # A batch is tuned with the step length: one is worth as much as the other allows.
    "svrg": Space({"share": _scale(1e-2, 1.0, _OWN_RATE), "batch": _count(1, 64)}),
    "saga": Space({"share": _scale(1e-2, 1.0, _OWN_RATE), "batch": _count(1, 64)}),
    "sarah": Space({"share": _scale(1e-2, 1.0, _OWN_RATE), "batch": _count(1, 64)}),
    "storm": Space({"share": _scale(1e-2, 1.0, _OWN_RATE), "decay": _scale(1e-1, 1e3), "batch": _count(1, 64)}),
    "mlmc": Space({"share": _scale(1e-2, 1.0, _OWN_RATE), "batch": _count(1, 64), "memory": Range(0.5, 0.99)}),
    "mulstreg": Space({"regularisation": _scale(1e-2, 1e4), "batch": _count(1, 64), "factor": _scale(1.1, 10.0)}),
    "adahessian": Space({"learning_rate": _scale(1e-3, 1.0), "b1": Range(0.5, 0.99), "b2": Range(0.9, 0.9999)}),
    "sophia": Space({"learning_rate": _scale(1e-5, 1e-1), "b1": Range(0.5, 0.99), "gamma": _scale(1e-4, 1.0)}),
    "hessianfree": Space({"damping": _scale(1e-4, 1e2), "decay": Range(0.5, 0.99), "progress": _scale(1e-6, 1e-1)}),
    "subsamplednewton": Space(
        {"batch": _count(16, 4096), "iterations": _count(5, 100), "tolerance": _scale(1e-3, 0.5)}
    ),
    "slbfgs": Space({"learning_rate": _scale(1e-3, 1.0), "batch": _count(16, 2048), "memory": _count(3, 50)}),
    "stormtr": Space({"radius": _scale(1e-2, 1e2), "batch": _count(8, 512), "iterations": _count(5, 100)}),
    "slm": Space({"radius": _scale(1e-2, 1e2), "batch": _count(8, 512), "iterations": _count(5, 100)}),
    "asntr": Space({"radius": _scale(1e-2, 1e2), "batch": _count(8, 512), "growth": Range(1.1, 4.0)}),
    # -- rivals --------------------------------------------------------------------------------------------------------
    "scipy/trf": Space({"scale": Choice(("none", "jac"))}),
    "scipy/bfgs": Space({"c2": _SEARCH["c2"]}),
    "scipy/lbfgsb": Space({"memory": _count(5, 200)}),
    "optax/adam": Space(
        {"learning_rate": _scale(1e-4, 1e-1), "decay_rate": Range(0.5, 1.0), "decay_steps": _count(100, 20000)}
    ),
    "optax/lbfgs": Space({"memory": _count(5, 200)}),
    "optimistix/lm": Space({}, _STOPPING + ", and the way in which its Jacobian is formed changes none of its steps"),
    "optimistix/bfgs": Space({}, _STOPPING),
    "jaxopt/lm": Space({"damping": _scale(1e-8, 1e0)}),
    "jaxopt/lbfgs": Space({"memory": _count(5, 200)}),
    "jno/ssbroyden": Space(_JNO),
    "jno/ssbfgs": Space(_JNO),
    "jinns/ssbroyden": Space({}, "its library leaves nothing to set but another line search"),
    "jinns/ngd": Space({"gram_reg": _scale(1e-10, 1e-2)}),
    "scimba/ssbroyden": Space({"wolfe_c2": _SEARCH["c2"]}),
    "scimba/ssbfgs": Space({"wolfe_c2": _SEARCH["c2"]}),
    "scimba/eng": Space({"regularization": _scale(1e-10, 1e-2), "adaptive": Choice(("false", "true"))}),
    "scimba/anagram": Space({"threshold": _scale(1e-10, 1e-1)}),
    "deepxde/adam": Space({"learning_rate": _scale(1e-4, 1e-1)}),
    "deepxde/lbfgs": Space({"memory": _count(5, 200)}),
}


def space_of(name: str) -> Space:
    """The declared space of a method or rival by its command-line name. Raises LookupError, one sentence."""
    if name not in _SPACES:
        raise LookupError(f"{name} has no declared search space; add one in ravine/bench/search_spaces.py.")
    return _SPACES[name]


def defaults_of(name: str) -> dict[str, Any]:
    """The defaults of all options of a method or rival; loads its class, and so JAX."""
    from dataclasses import MISSING, fields

    cls = find("rivals" if "/" in name else "methods", name).load()
    return {f.name: f.default for f in fields(cls) if f.default is not MISSING}


def searched(name: str, fixed: dict[str, str]) -> dict[str, Range | Choice]:
    """The part of the declared space that is searched, where the options `fixed` have been set by hand."""
    defaults = defaults_of(name)

    def acts(option: Range | Choice) -> bool:
        if option.when is None:
            return True
        other, value = option.when
        return fixed.get(other, text(defaults[other])) == value

    return {o: r for o, r in space_of(name).options.items() if o not in fixed and acts(r)}
