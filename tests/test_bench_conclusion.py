"""Which runs are compared, on which clock and to which targets, and how few sentences that takes."""

import csv
import math

import bench_samples as samples
import pytest

from ravine.bench import claims
from ravine.bench.conclusion import (
    BY_MACHINE,
    LONGEST,
    OTHER_MACHINES,
    SHEETS,
    as_text,
    conclude,
    sentences,
    write_tables,
)
from ravine.bench.curves import target_word
from ravine.bench.record import record_of
from ravine.bench.summary import standing
from ravine.bench.tuned import DEFAULTS_ONLY

RULE = f"Rule: {DEFAULTS_ONLY}\n"
ABSENT = {"status": "not_installed", "error": None, "final": None, "metric": None}


def records(tmp_path, methods=("fast", "slow"), seeds=3, problems=("poisson2d",), **entries):
    return [
        samples.record(tmp_path, m, s, p, **entries) | {"method": m}
        for p in problems
        for m in methods
        for s in range(seeds)
    ]


def test_a_method_whose_library_is_absent_is_left_out_and_no_loser(tmp_path):
    found = conclude(
        [*records(tmp_path), *({**r, **ABSENT, "rival": "x/y"} for r in records(tmp_path / "b", ["fast"]))]
    )
    assert {r.method for r in found.results} == {"fast", "slow"}
    assert found.excluded == ["x/y is left out: its library is not installed."]
    first = f"{RULE}\n{found.excluded[0]}"
    assert as_text(found).startswith(first)
    write_tables(tmp_path / "tables", found)
    assert (tmp_path / "tables" / "summary.txt").read_text().startswith(first)


def test_a_library_that_was_absent_on_one_machine_costs_its_method_only_those_runs(tmp_path):
    made = records(tmp_path)
    made[-1] |= ABSENT
    found = conclude(made)
    assert sorted((r.method, r.seed) for r in found.results) == [
        ("fast", 0),
        ("fast", 1),
        ("fast", 2),
        ("slow", 0),
        ("slow", 1),
    ]
    said = "slow: 1 of 3 runs are left out, for its library was not installed where they were to be made."
    assert found.excluded == [said] and len(found.kept) == 4


def uncounted(record, machine):
    """A run on that machine of a library that counts no work."""
    return record | {"machine": machine, "times": {a: of for a, of in record["times"].items() if a != "work"}}


def test_work_that_nobody_counted_is_a_sentence_where_only_work_can_be_compared(tmp_path):
    made = [uncounted(r, f"machine of {r['method']}") for r in records(tmp_path)]
    with pytest.raises(ValueError, match="fast seed 0: its library counts no work, and seconds are compared only"):
        conclude(made)


def test_seconds_are_compared_within_each_problem_and_seed_that_one_machine_made(tmp_path):
    plain = records(tmp_path, seeds=10)
    apart = [r | {"machine": f"machine {r['seed'] % 2}"} for r in plain]
    found = conclude(apart)
    assert found.axis == "seconds" and len(found.kept) == 20 and found.excluded == [BY_MACHINE] and not found.notes
    assert [f.sentence for f in found.findings] == [f.sentence for f in conclude(plain).findings]
    assert any(f.claim for f in found.findings)

    mixed = [r | {"machine": "machine 2"} if (r["method"], r["seed"]) == ("slow", 4) else r for r in apart]
    assert conclude(mixed).axis == "work", "which every run of these has"
    found = conclude([uncounted(r, r["machine"]) if r["method"] == "fast" else r for r in mixed])
    assert found.axis == "seconds" and {r.seed for r in found.kept} == set(range(10)) - {4}
    assert found.notes == ["poisson2d seed 4 is left out of shares and profiles: its runs are of several machines."]
    assert len(found.results) == 20 and {f.pairs for f in found.findings} == {9}
    write_tables(tmp_path / "tables", found)
    rows = list(csv.DictReader((tmp_path / "tables" / "errors.csv").read_text().splitlines()))
    assert {row["runs"] for row in rows} == {"9"}
    assert found.notes[0] in (tmp_path / "tables" / "summary.txt").read_text()


def test_a_run_that_failed_elsewhere_mixes_no_machines(tmp_path):
    made = records(tmp_path, seeds=8)
    made[-1] |= {"machine": "another", "status": "failed", "error": None}
    found = conclude(made)
    assert found.axis == "seconds" and len(found.kept) == 16 and not found.excluded and not found.notes


def test_where_nothing_can_be_compared_that_is_said(tmp_path):
    found = conclude([{**r, **ABSENT} for r in records(tmp_path)])
    assert found.results == found.findings == []
    absent = [f"{m} is left out: its library is not installed." for m in ("fast", "slow")]
    assert as_text(found) == "\n".join([RULE, *absent]) + "\n"
    write_tables(tmp_path / "tables", found)
    assert conclude([]).excluded == []


def test_a_problem_without_a_solution_is_left_out_and_a_failure_is_not(tmp_path):
    kept = records(tmp_path)
    blind = [r | {"metric": None, "final": {"loss": 1.0}, "instance": "deepritz2d"} for r in kept]
    found = conclude([*kept, *blind])
    assert len(found.results) == len(kept)
    assert found.excluded == ["deepritz2d is left out: it has no reference solution, and a loss is not an error."]
    died = [r | {"status": "failed", "metric": None, "final": None} for r in kept[:3]]
    assert sum(r.final == math.inf for r in conclude([*died, *kept[3:]]).results) == 3


def test_options_are_named_only_where_they_tell_apart(tmp_path):
    (one,) = records(tmp_path, ["fast"], seeds=1)
    made = [one | {"rival": f"fast (fast.x={x})", "instance": "poisson2d (n=9)"} for x in (1, 2)]
    assert [r.method for r in conclude(made).results] == ["fast (fast.x=1)", "fast (fast.x=2)"]
    assert [(r.method, r.problem) for r in conclude(made[:1]).results] == [("fast", "poisson2d")]
    both = [r | {"rival": f"fast (fast.x={x}, sampler=fixed)"} for r, x in zip(made, (1, 2), strict=True)]
    both.append(one | {"rival": "fast (sampler=fixed)", "instance": "poisson2d (n=9)"})
    assert [r.method for r in conclude(both).results] == ["fast (fast.x=1)", "fast (fast.x=2)", "fast"]


def test_tuned_and_untuned_methods_keep_names_that_say_so(tmp_path):
    made = records(tmp_path, seeds=1)
    rule = {"trials": 20, "seeds": 3, "options": ["learning_rate"], "made": 20, "failed": 0, "why": ""}
    rule |= {"error_default": 1.0, "error": 0.5, "seconds": 1.0, "total_seconds": 2.0}
    name = "fast (tuned=20 trials of 3 seeds)"
    mixed = [r | {"tuning": rule, "rival": name} if r["method"] == "fast" else r for r in made]
    assert [r.method for r in conclude(mixed).results] == [name, "slow"]
    assert [r.method for r in conclude(mixed[:1]).results] == ["fast"]


def test_runs_of_two_machines_are_compared_by_work(tmp_path):
    made = records(tmp_path, seeds=8)
    assert conclude(made).axis == "seconds"
    moved = [r | {"machine": "another"} if r["rival"] == "slow" else r for r in made]
    found = conclude([r | {"budget": {"steps": 100}} for r in moved])
    assert found.axis == "work" and not any(f.claim for f in found.findings), "both take the same steps"
    assert all(f.pairs == 8 for f in found.findings) and not found.excluded
    timed = conclude(moved)  # 60 s of each machine
    assert all(f.pairs == 0 for f in timed.findings) and timed.excluded == [OTHER_MACHINES]


def test_the_targets_end_where_the_runs_stop(tmp_path):
    plain = conclude(records(tmp_path / "a"))
    assert plain.asked == (1e-2, 1e-4, 1e-6) and len(plain.targets) == 10
    stopped = conclude(records(tmp_path / "b", task=..., target={"l2": 2.5e-4}))
    assert stopped.asked == (1e-2, 2.5e-4) and stopped.targets == (0.1, 1e-2, 1e-3, 2.5e-4)
    assert any("seconds to error 2.5e-04" in f.sentence for f in stopped.findings)
    assert conclude(records(tmp_path / "c", task=..., target={"loss": 2.5e-4})).asked == plain.asked
    mixed = records(tmp_path / "d", task=..., target={"l2": 2.5e-4}) + records(tmp_path / "e", problems=("burgers1d",))
    assert conclude(mixed).asked == (1e-2,) and conclude(mixed).targets == (0.1, 1e-2, 1e-3)


@pytest.mark.parametrize(("target", "word"), [(1e-10, "1e-10"), (0.00025, "2.5e-04"), (0.05, "5e-02"), (2.0, "2e+00")])
def test_targets_in_words(target, word):
    assert target_word(target) == word


def test_too_few_runs_take_one_sentence(tmp_path):
    few = conclude(records(tmp_path, problems=("poisson2d", "burgers1d")))
    assert sentences(few) == [
        "no claim: not enough runs: 3 to 6 paired runs in each of 12 comparisons of two methods; at least 8 are needed."
    ]
    assert as_text(few).startswith(RULE + "\nOutcomes")
    one = as_text(conclude(records(tmp_path / "b", seeds=1)))
    assert one.startswith(RULE + "\nno claim: not enough runs: 1 paired run in ")
    assert conclude(records(tmp_path / "c", ["fast"])).findings == []


def test_claims_come_first_and_equal_reasons_share_a_sentence(tmp_path):
    (shared,) = sentences(conclude(records(tmp_path / "a", ["fast", "slow", "diverging"], seeds=8)))
    assert shared.startswith("no claim, 12 comparisons: not enough runs for a claim: 8 seeds in which methods differ")
    found = conclude(records(tmp_path / "b", ["fast", "slow", "diverging"], seeds=12))
    said = sentences(found)
    claims = [f.sentence for f in found.findings if f.claim]
    assert said[: len(claims)] == claims and len(said) == len(found.findings) == 12
    assert any(text.startswith("fast reaches error 1e-04 in fewer seconds than slow on poisson2d") for text in claims)
    assert sum("no claim" in text for text in said) == len(said) - len(claims)
    none = [f._replace(claim=False, better=None, family=40, sentence=f"{i}") for i, f in enumerate(found.findings)]
    many = sentences(found._replace(findings=none * 2))
    assert len(many) == LONGEST + 1 and many[-1].startswith(f"no claim: nor from {24 - LONGEST} more")


def test_tables_hold_what_was_tested_in_full_and_the_rest_by_reason(tmp_path):
    """On one problem each, twelve seeds are enough, five are not."""
    few = records(tmp_path / "a", ["fast", "slow", "diverging"], seeds=5, problems=("burgers1d",))
    found = conclude([*records(tmp_path / "b", ["fast", "slow", "diverging"], seeds=12), *few])
    write_tables(tmp_path / "tables", found)
    with (tmp_path / "tables" / "claims.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {path.stem for path in (tmp_path / "tables").glob("*.csv")} <= set(SHEETS), "what is cleared away later"
    tested = [f for f in found.findings if f.family]
    assert [row["sentence"] for row in rows[: len(tested)]] == [f.sentence for f in tested]
    (rest,) = rows[len(tested) :]
    assert rest["sentence"].startswith("no claim, 12 comparisons: not enough runs for a claim: 5 seeds of both")
    assert rest["claim"] == "False" and not rest["first"] and len(found.findings) == len(tested) + 12
    said = (tmp_path / "tables" / "summary.txt").read_text()
    assert all(row["sentence"] in said for row in rows)


def test_claims_are_counted_by_method(tmp_path):
    """`standing` against a count by hand, over the problems together and not on each."""
    methods = ["slow", "diverging", "fast"]
    found = conclude(records(tmp_path, methods, seeds=12, problems=("poisson2d", "burgers1d")))
    claimed = [f for f in found.findings if f.claim and len(f.problems) == 2]
    assert claimed and len(claimed) < sum(f.claim for f in found.findings)
    sheet = standing(found.findings)
    assert [row[0] for row in sheet.rows] == ["fast", "slow", "diverging"], "best balance of claims first"
    for name, *counts in sheet.rows:
        for column, count in zip(sheet.columns[1:], counts, strict=True):
            quantity, word = column.split(": ")
            own = [f for f in claimed if f.quantity == quantity and name in f.methods]
            assert count == sum((f.better == name) == (word == "better than") for f in own)
    assert sum(map(sum, (row[1:] for row in sheet.rows))) == 2 * len(claimed)
    assert standing([f._replace(claim=False, better=None) for f in found.findings]) is None


def test_claims_on_different_problems_are_no_ranking():
    """Three methods of which no two problems have the same two."""
    pairs = {"p": {"adam": 1e-2, "lm": 1e-6}, "q": {"adam": 1e-2, "gd": 1e-1}}
    runs = [samples.result(p, m, s, e * (1 + s)) for p, of in pairs.items() for m, e in of.items() for s in range(8)]
    found = claims.compare(runs, targets=())
    assert sum(f.claim for f in found) == 2 and standing([f for f in found if len(f.problems) == 1]) is None
    assert standing([f for f in found if f.problems == ("p",)]) is not None


def test_unequal_budgets_are_refused_in_a_sentence(tmp_path):
    first = samples.write(tmp_path / "a", samples.rows_of([0, 1], [1, 0.1]), task=..., budget={"seconds": 60.0})
    second = samples.write(tmp_path / "b", samples.rows_of([0, 1], [1, 0.1]), task=..., seed=1, budget={"seconds": 1.0})
    with pytest.raises(ValueError, match="compared runs need the same"):
        conclude([record_of(first), record_of(second)])
