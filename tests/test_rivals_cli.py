"""Rivals on the command line: names, refusals, absent libraries, and a comparison with one of our own methods."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rival_cases import MODEL, PROBLEM

from ravine import rivals
from ravine.bench import process
from ravine.bench.task import Task, method_names
from ravine.cli import main
from ravine.registry import entries
from ravine.report import load_run
from ravine.rivals.library import LIBRARIES, NotInstalled, is_installed
from ravine.rivals.race import solve_with

# Other libraries warn of their own matters when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    "spec, sentence",
    [
        ("scipy/tfr", "did you mean 'scipy/trf'?"),
        ("scipi/trf", "did you mean 'scipy'?"),
        ("scipy:trf", "'scipy/trf'"),
        ("scipy/trf:500", "alone"),
        ("adam:500+scipy/trf", "alone"),
    ],
)
def test_wrong_names_are_one_sentence_without_jax(spec, sentence, capsys):
    assert main(["compare", "poisson2d", "--methods", spec]) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1
    code = f"import sys\nfrom ravine.cli import main\nassert main(['solve', 'poisson2d', '--method', {spec!r}]) == 2\n"
    code += "assert main(['list', 'rivals']) == 0\nassert not {'jax', 'scipy', 'optax'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_slash_makes_a_rival_and_moving_points_are_refused():
    assert method_names("SciPy/TRF") == ["scipy/trf"] and method_names("lm") == ["lm"]
    Task("poisson2d", "scipy/trf", sampler="fixed")
    with pytest.raises(ValueError, match="trains on fixed points"):
        Task("poisson2d", "scipy/trf", sampler="rad")


def test_the_core_imports_no_rival_library():
    """Every module but the adapters, and the adapters' modules themselves, load without any of the libraries."""
    absent = [lib.module for lib in LIBRARIES.values() if lib.module not in ("scipy", "optax")]
    code = "import sys, importlib, pkgutil\n"
    code += f"sys.modules |= dict.fromkeys({absent!r})\nimport ravine\n"
    code += "names = [m.name for m in pkgutil.walk_packages(ravine.__path__, 'ravine.') if '__main__' not in m.name]\n"
    code += "assert 'ravine.rivals.jno_solvers' in names\n[importlib.import_module(n) for n in names]"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def absent(monkeypatch):
    """A library that no machine has stands in for SciPy in this process."""
    monkeypatch.setitem(LIBRARIES, "scipy", LIBRARIES["scipy"]._replace(module="no_such_library"))


def test_an_absent_library_is_refused_with_the_command_that_installs_it(absent, tmp_path):
    with pytest.raises(NotInstalled, match=r"scipy/trf needs scipy, which is not installed here\. Install it: pip"):
        solve_with("scipy/trf", PROBLEM, MODEL, out=tmp_path / "r")
    assert not (tmp_path / "r").exists()
    assert not is_installed("scipy/bfgs") and is_installed("optax/adam")


ABSENT = """
from ravine.rivals import library
library.LIBRARIES["jno"] = library.LIBRARIES["jno"]._replace(module="no_such_library")
from ravine.bench.worker import main
raise SystemExit(main())
"""


def test_an_absent_library_is_a_row_and_no_failure(tmp_path, monkeypatch, capsys):
    """The worker is the real one, in a process where jNO cannot be found."""
    script, python = tmp_path / "absent.py", tmp_path / "python"
    script.write_text(ABSENT)
    python.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{script}'\n")
    python.chmod(0o755)
    monkeypatch.setattr(process.sys, "executable", str(python))
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "poisson2d", "--methods", "jno/ssbroyden", "--seeds", "1", "--out", "c"]) == 0
    table = capsys.readouterr().out
    assert "not installed" in table and "pip install" in table
    record = load_run(tmp_path / "c" / "poisson2d" / "jno-ssbroyden-s0")
    assert record.status == "not_installed" and record.method == "jno/ssbroyden" and record.error is None
    page = (tmp_path / "c" / "report.html").read_text(encoding="utf8")
    assert "not installed" in page
    assert main(["resume", str(record.folder)]) == 2
    assert "start it again" in capsys.readouterr().err


def test_compare_runs_a_rival_beside_our_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = ["--model.width", "3", "--model.depth", "1", "--problem.n_pde", "16"]
    words = ["compare", "poisson2d", "--methods", "lbfgs,scipy/lbfgsb", "--seeds", "1", "--budget", "5steps"]
    assert main([*words, *tiny, "--set", "scipy/lbfgsb.memory=3", "--out", "c", "--json"]) == 0
    mine, theirs = (load_run(tmp_path / "c" / "poisson2d" / f"{name}-s0") for name in ("lbfgs", "scipy-lbfgsb"))
    assert mine.rows[0]["loss"] == pytest.approx(theirs.rows[0]["loss"], rel=1e-12)
    assert theirs.meta["rival"]["settings"]["memory"] == 3 and theirs.fields is not None
    assert json.loads((Path("c") / "compare.json").read_text())["methods"] == ["lbfgs", "scipy/lbfgsb"]


def test_the_package_exports_every_rival_and_the_call_that_runs_one():
    assert set(rivals.__all__) == {"solve_with", *(entry.class_name for entry in entries("rivals").values())}
    assert rivals.solve_with is solve_with and all(hasattr(rivals, name) for name in rivals.__all__)
    with pytest.raises(AttributeError, match="has no rival 'SciPyTFR'"):
        rivals.SciPyTFR
