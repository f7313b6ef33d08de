"""Imports point down a fixed list of layers, and files and functions stay small enough to read.

The order is that of docs/design.md. A new top-level module or folder fails here until somebody decides its layer.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "ravine"

# Lowest first. An import points to an earlier layer or stays inside its own folder; names on one line share a layer.
LAYERS = """
types
checks
spec
lazy
static
points
calculus
linalg
objective linearization
finite_sum
views
model
models
problem
problems
sampling
directions
globalize
transforms
method
methods
registry
plans
records
driver
rivals
bench
export
report
cli
"""
RANK = {name: rank for rank, line in enumerate(LAYERS.split("\n")) for name in line.split()}
ENTRANCES = ("__init__", "__main__")  # of the package: the lazy table of names, and `python -m ravine`
FILE_LINES = 400
FUNCTION_LINES = 80
TOP_LEVEL_NAMES = 30  # the 25 of the budget, and the sub-packages
BANNED = {"utils", "util", "helpers", "common", "misc"}

FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> tuple[str, ...]:
    """("methods", "lbfgs") for methods/lbfgs.py, ("methods",) for methods/__init__.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts


MODULES = {name_of(path): path for path in FILES}


def statements(tree: ast.AST, deferred: bool):
    """All nodes; without those inside functions or for type checkers only unless `deferred`."""
    for node in ast.iter_child_nodes(tree):
        typing_only = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if deferred or not (typing_only or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))):
            yield node
            yield from statements(node, deferred)


def targets(path: Path, deferred: bool = True) -> set[tuple[str, ...]]:
    """The modules of this package that a file imports, also inside functions if `deferred`."""
    relative = path.relative_to(PACKAGE).parts
    found = set()
    for node in statements(ast.parse(path.read_text(encoding="utf8")), deferred):
        if isinstance(node, ast.Import):
            found |= {tuple(a.name.split(".")[1:]) for a in node.names if a.name.split(".")[0] == "ravine"}
        elif isinstance(node, ast.ImportFrom):
            named = tuple((node.module or "").split(".")) if node.module else ()
            if node.level:
                base = relative[: len(relative) - node.level] + named
            elif named[:1] == ("ravine",):
                base = named[1:]
            else:
                continue
            for alias in node.names:
                whole = (*base, alias.name)
                found.add(whole if whole in MODULES or not base else base)
    return found


def test_the_scan_sees_the_package():
    assert ("types",) in MODULES and ("methods",) in MODULES
    assert ("types",) in targets(PACKAGE / "method.py")
    assert len(RANK) == len(LAYERS.split())


def test_no_file_beside_the_package_is_too_long_either():
    folders = ("tests", "benchmarks", "examples", "references")
    beside = [path for folder in folders for path in ROOT.glob(f"{folder}/*.py")]
    assert Path(__file__) in beside and len(beside) > 80
    assert [path.name for path in beside if len(path.read_text(encoding="utf8").splitlines()) > FILE_LINES] == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_layers_and_budgets(path):
    module = name_of(path)
    top = module[0]
    source = path.read_text(encoding="utf8")

    assert not BANNED & set(module), "name a module after what is in it"
    assert len(source.splitlines()) <= FILE_LINES
    long = {
        f"{node.name} ({node.end_lineno - node.lineno + 1} lines)"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES
    }
    assert not long, f"split {long}"

    if module in {(name,) for name in ENTRANCES}:
        return
    assert top in RANK, f"{top} belongs to no layer: give it a place in LAYERS and in docs/design.md"
    for target in targets(path):
        if target == ("__version__",):
            continue
        assert target, f"{'.'.join(module)} imports the package itself: name the module it needs"
        assert target[0] in RANK, f"{'.'.join(module)} imports {'.'.join(target)} through the package's lazy table"
        assert RANK[target[0]] <= RANK[top], f"{'.'.join(module)} imports {'.'.join(target)}, a later layer"


def test_no_import_cycles():
    """At import time; importing a module of a folder does not count as importing the folder's __init__."""
    graph = {m: {t for t in targets(p, deferred=False) if t in MODULES and t != m} for m, p in MODULES.items()}
    done: set[tuple[str, ...]] = set()

    def visit(module, trail):
        if module in trail:
            pytest.fail("import cycle: " + " -> ".join(".".join(m) for m in [*trail[trail.index(module) :], module]))
        if module in done:
            return
        for target in sorted(graph[module]):
            visit(target, [*trail, module])
        done.add(module)

    for module in sorted(graph):
        visit(module, [])


def test_few_top_level_names():
    import ravine

    assert len(ravine.__all__) <= TOP_LEVEL_NAMES
    assert len(ravine.__all__) == len(set(ravine.__all__))
