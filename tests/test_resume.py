"""Stopping and going on: kill -9, Ctrl-C, bad checkpoints. Rows must equal those of an unbroken run."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import jax
import numpy as np
import pytest
from small import FIT, POINTS, residual, start, steady

import ravine as rv
from ravine import methods as m
from ravine import models, problems, sampling
from ravine.driver import checkpoint, loop
from ravine.driver.configuration import NotPlain, build, describe
from ravine.registry import entries

jnp = jax.numpy
SIZES = {"pde": 30, "boundary": 12}

CALLS = {
    "adam": ("methods.Adam(1e-2)", "sampling.Fresh(every=7)", 25),
    "ssbroyden": ("methods.SSBroyden()", "sampling.ResidualAdaptive(every=9)", 30),
    "lm": ("methods.LevenbergMarquardt()", "sampling.PointGuard(every=4, threshold=1.01)", 9),
    "stages": ("ravine.Stages((methods.Adam(), 15), methods.LevenbergMarquardt())", "sampling.Fresh(every=6)", 22),
}

SCRIPT = """
import sys
import ravine
from ravine import methods, models, problems, sampling
from ravine.driver import loop
loop._CHECKPOINT_SECONDS = 0.0  # at every boundary, so that the kill falls between, or into, two of them
{call}
"""

SOLVE = (
    "ravine.solve(problems.Poisson2D(design='uniform'), models.MLP(2, 1, width=5, depth=1), {method}, "
    "sampler={sampler}, sizes={sizes}, budget=ravine.Budget(steps={steps}), seed=3{more})"
)


def call(name, steps, more=""):
    method, sampler, _ = CALLS[name]
    return SOLVE.format(method=method, sampler=sampler, sizes=SIZES, steps=steps, more=more)


def rows_of(folder):
    path = folder / "rows.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.is_file() else []  # the last one may be cut short
    return [json.loads(line) for line in lines]


def kill_after(folder, command, n):
    """Run the command in a process of its own and kill it once more than n rows are on disk."""
    with subprocess.Popen([sys.executable, "-c", command], stderr=subprocess.PIPE) as child:
        deadline = time.monotonic() + 300
        while len(rows_of(folder)) <= n and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert child.returncode == -signal.SIGKILL, child.stderr.read().decode()


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_kill_and_resume(name, tmp_path):
    folder = tmp_path / "run"
    kill_after(folder, SCRIPT.format(call=call(name, 100_000, f", out={str(folder)!r}")), CALLS[name][2])
    killed = rows_of(folder)
    assert json.loads((folder / "run.json").read_text())["status"] == "running"
    assert any((folder / "checkpoint").glob("step-*.npz"))
    steps = killed[-1]["step"] + 20

    resumed = rv.resume(folder, budget=rv.Budget(steps=steps))
    scope = {"ravine": rv, "methods": m, "models": models, "problems": problems, "sampling": sampling}
    unbroken = eval(call(name, steps), scope)

    assert resumed.steps == steps and resumed.status == unbroken.status
    assert steady(resumed.rows) == steady(unbroken.rows)
    assert steady(killed) == steady(unbroken.rows)[: len(killed)]  # what the killed process wrote was right, too
    for a, b in zip(jax.tree.leaves(resumed.params), jax.tree.leaves(unbroken.params), strict=True):
        np.testing.assert_array_equal(a, b)
    assert resumed.summary["points_moved"] == unbroken.summary["points_moved"] > 0
    assert resumed.reason.split(":")[0] == unbroken.reason.split(":")[0]
    assert steady(rows_of(folder)) == steady(resumed.rows)
    assert json.loads((folder / "run.json").read_text())["status"] == "budget"


# -- finished runs ---------------------------------------------------------------------------------------------


def tiny(folder, method="adam", **options):
    """A `solve` of six steps in a folder."""
    defaults = {"budget": rv.Budget(steps=6), "sizes": SIZES}
    return rv.solve("poisson2d", models.MLP(2, 1, width=5, depth=1), method, out=folder, **defaults | options)


def test_a_finished_run_says_so(tmp_path):
    run = tiny(tmp_path / "run")
    stored = (tmp_path / "run" / "run.json").read_text()
    again = rv.resume(tmp_path / "run")
    assert again.reason == f"Already finished. {run.reason}"
    assert (again.status, again.suggestion, again.rows) == (run.status, run.suggestion, run.rows)
    for a, b in zip(jax.tree.leaves(again.params), jax.tree.leaves(run.params), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (tmp_path / "run" / "run.json").read_text() == stored


def test_a_met_target_can_be_lowered(tmp_path):
    first = rv.minimize(FIT, start(), "lm", budget=rv.Budget(steps=60), target=1e-3, checkpoint=tmp_path)
    same = rv.minimize(FIT, start(), "lm", budget=rv.Budget(steps=60), target=1e-3, checkpoint=tmp_path)
    lower = rv.minimize(FIT, start(), "lm", budget=rv.Budget(steps=60), target=1e-6, checkpoint=tmp_path)
    assert first.status == same.status == lower.status == "reached_target"
    assert same.steps == first.steps < lower.steps
    assert same.reason.startswith("Already finished.") and lower.final["loss"] <= 1e-6
    unbroken = rv.minimize(FIT, start(), "lm", budget=rv.Budget(steps=60), target=1e-6)
    assert steady(lower.rows) == steady(unbroken.rows)


def test_an_interrupted_run_goes_on(tmp_path):
    def interrupt(row, params):
        if row["step"] == 5:
            raise KeyboardInterrupt

    first = rv.minimize(FIT, start(), "lm", budget=rv.Budget(steps=12), checkpoint=tmp_path, callbacks=[interrupt])
    assert first.status == "interrupted" and "can be resumed" in first.reason
    whole = rv.minimize(FIT, start(), "lm", budget=rv.Budget(steps=12), checkpoint=tmp_path)
    unbroken = rv.minimize(FIT, start(), "lm", budget=rv.Budget(steps=12))
    assert steady(whole.rows) == steady(unbroken.rows)


def test_the_clock_goes_on(tmp_path):
    first = rv.minimize(FIT, start(), "adam", budget=rv.Budget(steps=12), checkpoint=tmp_path)
    whole = rv.minimize(FIT, start(), "adam", budget=rv.Budget(steps=24), checkpoint=tmp_path)
    clock = [row["seconds"] for row in whole.rows]
    assert clock == sorted(clock) and clock[13] >= first.seconds
    assert whole.wall_seconds > first.wall_seconds and whole.compile_seconds > first.compile_seconds


def draw(seed, sizes):
    return {name: np.random.default_rng(seed).uniform(-1, 1, (n, 1)) for name, n in sizes.items()}


def three_stages(budget, folder=None, **options):
    plan = rv.Stages((m.Adam(1e-2), 4), (m.LBFGS(), 4), m.LevenbergMarquardt())
    moving = {"sampler": sampling.ResidualAdaptive(every=2), "draw": draw}
    return rv.minimize(FIT, start(), plan, budget=budget, checkpoint=folder, **moving, **options)


@pytest.mark.parametrize("how", ["budget", "callback"])
def test_no_row_is_missing_or_twice_wherever_a_staged_run_stops(how, tmp_path):
    whole = rv.Budget(steps=12)
    unbroken = three_stages(whole)
    for k in range(1, 12):
        if how == "budget":
            first = three_stages(rv.Budget(steps=k), tmp_path / str(k))
        else:
            first = three_stages(whole, tmp_path / str(k), callbacks=[lambda row, p, k=k: row["step"] == k - 1])
        assert first.steps == k
        resumed = three_stages(whole, tmp_path / str(k))
        assert [row["step"] for row in resumed.rows] == list(range(13))
        assert steady(resumed.rows) == steady(unbroken.rows)
        assert resumed.summary["points_moved"] == unbroken.summary["points_moved"] == 5


def test_the_work_of_a_look_ends_no_run_on_points_it_never_trained_on():
    """Points move before steps 2, 4, ...; a look is work, so many a budget of evaluations is spent by one."""
    for evaluations in range(20, 80, 3):
        run = three_stages(rv.Budget(evaluations=evaluations))
        assert run.summary["points_moved"] == (run.steps - 1) // 2, evaluations


def test_checkpoints_are_rarer_where_one_takes_long(tmp_path, monkeypatch):
    steps, save = [], loop.persist.save
    monkeypatch.setattr(loop.persist, "save", lambda run, end: (steps.append(run.k), save(run, end)))
    monkeypatch.setattr(loop, "_CHECKPOINT_SECONDS", 1e-6)
    for quick, expected in ((1e9, [0, *range(13), 12]), (1e-9, [0, 12])):
        monkeypatch.setattr(loop, "_QUICK_SAVE", quick)
        steps.clear()
        rv.minimize(FIT, start(), "adam", budget=rv.Budget(steps=12), checkpoint=tmp_path / str(quick))
        assert steps == expected  # the first before the clock starts, the last when it has stopped


# -- bad checkpoints -------------------------------------------------------------------------------------------


def stopped(folder, monkeypatch, steps=12):
    """A run that leaves two checkpoints."""
    monkeypatch.setattr(loop, "_CHECKPOINT_SECONDS", 0.0)
    rv.minimize(FIT, start(), "adam", budget=rv.Budget(steps=steps), checkpoint=folder)
    files = sorted(folder.glob("step-*.npz"))
    assert len(files) == checkpoint.KEEP
    return files


def go_on(folder, **options):
    return rv.minimize(FIT, start(), "adam", budget=rv.Budget(steps=24), checkpoint=folder, **options)


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "array", "zip"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(damage, tmp_path, monkeypatch):
    files = stopped(tmp_path, monkeypatch)
    newest, raw = files[-1], files[-1].read_bytes()
    if damage == "array":
        with open(newest, "wb") as file:
            np.save(file, np.zeros(3))
    elif damage == "zip":
        with zipfile.ZipFile(newest, "w") as file:
            file.writestr("readme.txt", "not ours")
    else:
        newest.write_bytes({"truncated": raw[: len(raw) // 2], "garbage": b"x" * 500, "empty": b""}[damage])
    with pytest.warns(
        UserWarning, match=rf"checkpoint {newest.name} cannot be read .*The previous checkpoint \(step 11\)"
    ):
        run = go_on(tmp_path)
    unbroken = rv.minimize(FIT, start(), "adam", budget=rv.Budget(steps=24))
    assert steady(run.rows) == steady(unbroken.rows)


def test_no_good_checkpoint_left(tmp_path, monkeypatch):
    for path in stopped(tmp_path, monkeypatch):
        path.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"step-000000000012\.npz cannot be read .*No earlier checkpoint is left"):
        go_on(tmp_path)


OTHER = {
    "points": lambda f: rv.minimize(
        rv.LeastSquares(rv.Term(residual, np.ones((24, 1)))), start(), "adam", checkpoint=f
    ),
    "parameters": lambda f: rv.minimize(FIT, start(1), "adam", checkpoint=f),
    "method": lambda f: rv.minimize(FIT, start(), "lm", checkpoint=f),
    "option": lambda f: rv.minimize(FIT, start(), m.Adam(1e-2), checkpoint=f),
    "seed": lambda f: rv.minimize(FIT, start(), "adam", seed=1, checkpoint=f),
    "precision": lambda f: rv.minimize(FIT, start(), "adam", precision="float32", checkpoint=f),
    "every": lambda f: rv.minimize(FIT, start(), "adam", every=3, checkpoint=f),
    "sampler": lambda f: rv.minimize(FIT, start(), "adam", sampler=sampling.Fixed(), checkpoint=f),
    "source of points": lambda f: drawn_on(f, 2.0),
}


def drawn_on(folder, width):
    """A run whose sampler asks for points on an interval of this width."""

    def draw(seed, sizes):
        rng = np.random.default_rng(seed)
        return {name: rng.uniform(0, width, (n, 1)) for name, n in (sizes or {"fit": 24}).items()}

    options = {"sampler": sampling.Fresh(every=2), "draw": draw, "budget": rv.Budget(steps=3)}
    return rv.minimize(FIT, start(), "adam", checkpoint=folder, **options)


def line(fn, folder, **options):
    """A straight line fitted to data that only `fn` knows."""
    params = {"a": np.ones(()), "c": np.zeros(())}
    objective = rv.LeastSquares({"r": rv.Term(fn, POINTS)})
    return rv.minimize(objective, params, "adam", budget=rv.Budget(steps=3), checkpoint=folder, **options)


def fitted_to(data):
    def fn(p, x):
        return p["a"] * x[0] + p["c"] - data

    return fn


# The run whose checkpoint the other one meets, where it is not the plain one.
FIRST = {
    "code": lambda f: line(lambda p, x: p["a"] * x[0] + p["c"] - 1.0, f),
    "closure": lambda f: line(fitted_to(1.0), f),
    "closed-over array": lambda f: line(fitted_to(np.asarray(1.0)), f),
    "source of points": lambda f: drawn_on(f, 1.0),
}
OTHER |= {
    "code": lambda f: line(lambda p, x: p["a"] * x[0] + p["c"] - 7.0, f),
    "closure": lambda f: line(fitted_to(9.0), f),
    "closed-over array": lambda f: line(fitted_to(np.asarray(9.0)), f),
}


@pytest.mark.parametrize("difference", OTHER)
def test_the_checkpoint_of_another_run_is_refused(difference, tmp_path):
    plain = lambda f: rv.minimize(FIT, start(), "adam", budget=rv.Budget(steps=3), checkpoint=f)  # noqa: E731
    FIRST.get(difference, plain)(tmp_path)
    with pytest.raises(ValueError, match="belongs to another run"):
        OTHER[difference](tmp_path)


def test_an_option_given_at_its_default_is_the_same_run(tmp_path):
    rv.minimize(FIT, start(), m.Adam(), budget=rv.Budget(steps=3), checkpoint=tmp_path)
    rate = float("1e-3")  # another object of the same value
    run = rv.minimize(FIT, start(), m.Adam(learning_rate=rate), budget=rv.Budget(steps=5), checkpoint=tmp_path)
    assert run.steps == 5


def test_writing_is_atomic(tmp_path, monkeypatch):
    stopped(tmp_path, monkeypatch)
    before = {p.name: p.read_bytes() for p in tmp_path.glob("step-*.npz")}

    def crash(source, target):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="no space left"):
        checkpoint.write(tmp_path, 99, {"params/0": np.zeros(3)}, {"step": 99})
    assert {p.name: p.read_bytes() for p in tmp_path.glob("step-*.npz")} == before
    monkeypatch.undo()
    assert go_on(tmp_path).steps == 24


def test_checkpoints_hold_arrays_and_json_only(tmp_path, monkeypatch):
    for path in stopped(tmp_path, monkeypatch):
        with np.load(path, allow_pickle=False) as file:
            assert all(file[name].dtype != object for name in file.files)
            meta = json.loads(file["meta.json"].tobytes())
        assert meta["rows"][0]["step"] == 0 and meta["step"] in (11, 12)


# -- the folder ------------------------------------------------------------------------------------------------


def test_a_folder_holds_one_run(tmp_path):
    tiny(tmp_path / "run")
    with pytest.raises(ValueError, match="already holds a run; resume it"):
        tiny(tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty"):
        tiny(tmp_path / "other")
    with pytest.raises(ValueError, match="is a file"):
        tiny(tmp_path / "other" / "notes.txt")


def test_a_refused_run_leaves_nothing(tmp_path):
    with pytest.raises(LookupError, match="no method called 'lmm'"):
        tiny(tmp_path / "run", "lmm")
    assert tiny(tmp_path / "run").steps == 6  # the folder is free


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_run_without_its_checkpoint_is_not_begun_again(elsewhere, tmp_path):
    folder, place = tmp_path / "run", tmp_path / ("other" if elsewhere else "run/checkpoint")
    model = models.MLP(2, 1, width=5, depth=1)
    run = rv.solve("poisson2d", model, "adam", budget=rv.Budget(steps=6), sizes=SIZES, out=folder, checkpoint=place)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    if not elsewhere:
        shutil.rmtree(place)
    with pytest.raises(ValueError, match="holds no checkpoint to go on from"):
        rv.resume(folder, budget=rv.Budget(steps=9))
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before and run.steps == 6


def test_a_run_that_a_callback_breaks_off_keeps_its_record_wherever_its_checkpoint_is(tmp_path):
    def stop(row, params):
        if row["step"] == 4:
            raise RuntimeError("enough")

    model, where = models.MLP(2, 1, width=5, depth=1), {"out": tmp_path / "run", "checkpoint": tmp_path / "other"}
    with pytest.raises(RuntimeError, match="enough"):
        rv.solve("poisson2d", model, "adam", budget=rv.Budget(steps=9), sizes=SIZES, callbacks=(stop,), **where)
    assert (tmp_path / "run" / "run.json").is_file()


def test_what_cannot_be_resumed(tmp_path):
    import optax

    with pytest.raises(ValueError, match=r"holds no run: there is no run\.json"):
        rv.resume(tmp_path)
    (tmp_path / "run.json").write_text("{broken")
    with pytest.raises(ValueError, match="is not a record of a run"):
        rv.resume(tmp_path)
    run = tiny(tmp_path / "own", optax.adam(1e-3))
    with pytest.raises(ValueError, match=r"method is .*optax.* cannot hold; call solve or minimize again as before"):
        rv.resume(tmp_path / "own")
    options = {"budget": rv.Budget(steps=8), "sizes": SIZES, "checkpoint": tmp_path / "own" / "checkpoint"}
    on = rv.solve("poisson2d", models.MLP(2, 1, width=5, depth=1), optax.adam(1e-3), **options)
    assert (run.steps, on.steps) == (6, 8)


def test_every_part_of_the_registry_survives_json():
    def through_json(part):
        return build(json.loads(json.dumps(describe(part, "part"))))

    for kind in ("methods", "problems", "models", "samplers"):
        for entry in entries(kind).values():
            part = entry.load()()
            assert through_json(part) == part, entry.name
            if kind == "problems":
                assert through_json(part.default_model()) == part.default_model()
    plan = rv.Stages((m.Adam(), 5), m.LBFGS(memory=3), improvement=0.2)
    assert through_json(plan) == plan
    assert through_json((1, 2.5, float("inf"), None, frozenset({"a"}), {"n": 3})) == (
        1,
        2.5,
        float("inf"),
        None,
        frozenset({"a"}),
        {"n": 3},
    )


def test_only_our_own_parts_are_rebuilt():
    with pytest.raises(NotPlain, match=r"x is numpy\.ndarray"):
        describe(np.zeros(2), "x")
    for spec in (
        {"class": "os.system", "options": {}},
        {"function": "records.os.system"},
        {"class": "records.dumps", "options": {}},
    ):
        with pytest.raises(ValueError, match="configuration: "):
            build(spec)
    with pytest.raises(ValueError, match="another version of ravine"):
        build({"class": "methods.optax_methods.Adam", "options": {"learning_rate": 1.0}})
