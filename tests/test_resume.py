"""Stopping and going on: kill -9, Ctrl-C, bad checkpoints. Rows must equal those of an unbroken run."""

import json
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from small import FIT, start, steady

import ravine as rv
from ravine import methods as m
from ravine import models, problems, sampling
from ravine.driver import loop
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
