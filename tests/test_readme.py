"""The README's examples run, and its commands parse."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from ravine import registry
from ravine.bench.task import method_names
from ravine.cli.parse import parse

TEXT = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf8")
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [text for text in re.findall(r"^ravine .*$", TEXT, re.MULTILINE)]


def test_readme_is_short():
    assert len(TEXT.splitlines()) <= 100


@pytest.mark.slow
def test_the_first_example_solves_its_equation():
    code = PYTHON[0].replace("rv.Budget(seconds=20)", "rv.Budget(steps=60)")
    assert code != PYTHON[0]
    names = {}
    exec(code, names)
    x = np.linspace(0, 1, 101)
    assert np.max(np.abs(names["run"].evaluate(names["u"], x) - np.sin(x))) < 1e-5


def test_the_second_example_names_what_exists():
    assert "rv.solve(rv.problems." in PYTHON[1]
    problem, method = re.findall(r"problems\.(\w+)\(\), method=\"([^\"]+)\"", PYTHON[1])[0]
    assert registry.find("problems", problem).class_name == problem
    assert method_names(method)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command):
    request = parse(shlex.split(command, comments=True)[1:])
    if request.command == "solve":
        assert registry.find("problems", request.problem) and method_names(request.method)
    if request.command == "compare":
        assert all(registry.find("problems", name) for name in request.problems.split(","))
        assert all(method_names(spec) for spec in request.methods.split(","))


def test_the_method_table_names_every_method():
    rows = [line for line in TEXT.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z0-9]+)`", row.split("|")[1])}
    missing = {name for name in registry.entries("methods") if name not in named} - {"optax"}
    assert not missing, f"the README's table lacks {sorted(missing)}"
    assert named <= set(registry.entries("methods"))
