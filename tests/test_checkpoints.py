"""Checkpoints that are damaged, of another run, or half written."""

import json
import os
import zipfile

import jax
import numpy as np
import pytest
from small import FIT, POINTS, residual, start, steady

import ravine as rv
from ravine import methods as m
from ravine import sampling
from ravine.driver import checkpoint, loop

jnp = jax.numpy


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
    plain = lambda f: rv.minimize(FIT, start(), "adam", budget=rv.Budget(steps=3), checkpoint=f)
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
