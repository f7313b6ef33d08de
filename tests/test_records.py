"""Rows and run files: the grid of recorded steps, strict JSON that round-trips float64, atomic writing."""

import itertools
import json
import math
import os

import jax
import numpy as np
import pytest
from small import FIT, start, steady

import ravine as rv
from ravine.records import append_row, decode_row, dumps, encode, next_recorded, write_rows, write_text

jnp = jax.numpy


def recorded(last, every=None):
    steps = [0]
    while steps[-1] < last:
        steps.append(next_recorded(steps[-1], every))
    return steps


def test_the_grid():
    steps = recorded(10**7)
    assert steps[:101] == list(range(101))
    ratios = [b / a for a, b in itertools.pairwise(steps[100:])]
    assert max(ratios) <= 1.02 + 1e-2 and min(ratios) > 1
    assert np.median(ratios[200:]) == pytest.approx(1.02, rel=1e-4)
    assert len(steps) < 700  # ten million steps fit on a page of rows
    assert set(steps[101:]) <= {math.ceil(100 * 1.02**j) for j in range(700)}


def test_the_grid_depends_on_the_step_alone():
    steps = recorded(5000)
    for k in range(5000):
        assert next_recorded(k) == next(s for s in steps if s > k)


def test_multiples_of_every_are_added():
    assert set(recorded(3000, 250)) == {k for k in recorded(3000) if k <= 3000} | set(range(0, 3001, 250))
    assert recorded(20, 1) == list(range(21))


@pytest.mark.parametrize(
    "value",
    [
        0.1,
        1 / 3,
        5e-324,
        1.7976931348623157e308,
        -0.0,
        math.pi,
        123456789012345678,
        math.inf,
        -math.inf,
        True,
        None,
        "ok",
    ],
)
def test_values_round_trip(value):
    row = decode_row(json.loads(dumps({"x": value})))
    assert row["x"] == value and type(row["x"]) is type(value)
    assert math.copysign(1, row["x"]) == math.copysign(1, value) if isinstance(value, float) else True


def test_json_is_strict():
    text = dumps({"a": math.nan, "b": [math.inf, np.float64(-np.inf)], "c": np.float64("nan")})

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(text, parse_constant=refuse) == {"a": "NaN", "b": ["Infinity", "-Infinity"], "c": "NaN"}
    assert math.isnan(decode_row(json.loads(text))["a"])


def test_numpy_and_jax_values():
    given = {"i": np.int64(3), "f": np.float32(0.5), "a": np.arange(3.0), "j": jnp.asarray(2.0), "t": (1, 2), 5: True}
    assert encode(given) == {"i": 3, "f": 0.5, "a": [0.0, 1.0, 2.0], "j": 2.0, "t": [1, 2], "5": True}


def test_rows_on_disk(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"step": 0, "loss": 0.1}, {"step": 1, "loss": math.nan}]
    write_rows(path, rows)
    append_row(path, {"step": 2, "note": "ü"})
    lines = path.read_text(encoding="utf8").splitlines()
    assert [json.loads(line) for line in lines] == [rows[0], {"step": 1, "loss": "NaN"}, {"step": 2, "note": "ü"}]


def test_writing_is_atomic(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    write_text(path, "old")

    def crash(source, target):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="no space"):
        write_text(path, "new")
    assert path.read_text() == "old"


def test_a_run_on_disk(tmp_path):
    run = rv.minimize(FIT, start() | {"key": jax.random.key(1)}, "lm", budget=rv.Budget(steps=4), metrics={"n": len})
    folder = run.save(tmp_path / "a" / "b")
    rows = [decode_row(json.loads(line)) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert rows == run.rows  # bit for bit
    found = json.loads((folder / "run.json").read_text())
    assert (found["status"], found["reason"], found["steps"]) == (run.status, run.reason, 4)
    assert found["final"]["loss"] == run.final["loss"]
    assert {"ravine", "jax", "device", "dtype", "seed", "date"} <= set(found["provenance"])
    with np.load(folder / "params.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["['w']"], run.params["w"])
        assert len(arrays.files) == 4


def test_rows_are_on_disk_while_the_run_goes_on(tmp_path):
    from ravine import models

    seen = []

    def look(row, params):
        lines = (tmp_path / "run" / "rows.jsonl").read_text().splitlines()
        seen.append((row["step"], [json.loads(line)["step"] for line in lines]))

    run = rv.solve(
        "poisson2d",
        models.MLP(2, 1, width=4, depth=1),
        "adam",
        sizes={"pde": 16, "boundary": 8},
        budget=rv.Budget(steps=3),
        out=tmp_path / "run",
        callbacks=[look],
    )
    assert seen == [(0, [0]), (1, [0, 1]), (2, [0, 1, 2])]
    lines = (tmp_path / "run" / "rows.jsonl").read_text().splitlines()
    assert steady([decode_row(json.loads(line)) for line in lines]) == steady(run.rows)


def test_a_run_in_one_line():
    run = rv.minimize(FIT, start(), "adam", budget=rv.Budget(steps=2))
    assert repr(run).startswith("Run(budget, loss=0.") and "\n" not in repr(run)
