"""What exists, read from the export tables without importing JAX.

Names on the command line are the lower-case class names (`ssbroyden`) or the field's short forms (`lm`); optimizers of
other libraries are `library/solver`.
"""

from __future__ import annotations

import ast
import functools
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from .checks import nearest

_PACKAGES = {name: name for name in ("methods", "problems", "models")} | {"samplers": "sampling", "rivals": "rivals"}
_SHORT = {
    "GradientDescent": "gd",
    "NonlinearCG": "cg",
    "BarzilaiBorwein": "bb",
    "FirstOrderTrustRegion": "fotr",
    "OFFOAdaGrad": "offo",
    "MultilevelMonteCarlo": "mlmc",
    "LevenbergMarquardt": "lm",
    "StochasticLBFGS": "slbfgs",
    "STORMTrustRegion": "stormtr",
    "StochasticLM": "slm",
    "GaussNewton": "gn",
    "ResidualAdaptive": "rad",
    "PointGuard": "guard",
    "InnerProductTest": "innerproduct",
}

KINDS = tuple(_PACKAGES)
_REFERENCE = re.compile(r" \([^()]*module docstring[^()]*\)")


class Entry(NamedTuple):
    """One public class: its command-line name, class name, module and one-line summary."""

    name: str
    class_name: str
    module: str
    summary: str

    def load(self) -> Any:
        """The class itself (imports JAX)."""
        return getattr(import_module(self.module), self.class_name)


def entries(kind: str) -> dict[str, Entry]:
    """All entries of a kind (methods, problems, models, samplers, rivals), by command-line name, in table order."""
    if kind not in _PACKAGES:
        raise LookupError(f"{kind!r} is not a kind of entry; {nearest(kind, KINDS)}")
    package = f"ravine.{_PACKAGES[kind]}"
    exports = import_module(package)
    names: dict[str, str] = getattr(exports, "_NAMES", _SHORT)  # rivals are called library/solver
    table: dict[str, str] = exports._TABLE
    found = (_entry(package, module, class_name, names) for class_name, module in table.items())
    return {entry.name: entry for entry in found}


def find(kind: str, name: str) -> Entry:
    """The entry called `name` (short form or class name, any case). Raises LookupError naming the nearest one."""
    table = entries(kind)
    wanted = name.strip().lower().replace("-", "").replace("_", "")
    for entry in table.values():
        if wanted in (entry.name, entry.class_name.lower()):
            return entry
    singular = kind.removesuffix("s")
    raise LookupError(f"there is no {singular} called {name!r}; {nearest(wanted, table)}")


def _entry(package: str, module: str, class_name: str, names: dict[str, str]) -> Entry:
    name = names.get(class_name, class_name.lower())
    full = f"{package}.{module}"
    return Entry(name, class_name, full, _summary(full, class_name))


@functools.cache  # a comparison of a thousand runs asks for every name thousands of times
def _summary(module: str, class_name: str) -> str:
    """First line of the class docstring, or of the module's where the class refers to it; read as text, and without
    the bracket that sends a reader of the code to the module's docstring."""
    parent, _, leaf = module.rpartition(".")
    spec = find_spec(parent)
    if spec is None or not spec.submodule_search_locations:
        return ""
    path = Path(spec.submodule_search_locations[0]) / f"{leaf}.py"
    if not path.is_file():
        return ""
    tree = ast.parse(path.read_text(encoding="utf8"))
    of_module = ast.get_docstring(tree) or ""
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == class_name]
    of_class = (ast.get_docstring(classes[0]) if classes else None) or ""
    text = of_module if not of_class or of_class.lower().startswith("see module") else of_class
    return _REFERENCE.sub("", text.strip().split("\n")[0]).rstrip(".")
