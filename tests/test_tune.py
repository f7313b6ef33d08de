"""Equal tuning: the trials, their scores, what is taken up again, and the names of what was tuned.

The runs are synthetic: a stand-in for the process pool writes run folders whose error is a known function of the
settings.
"""

import dataclasses
import json
import math
from pathlib import Path

import bench_samples as samples
import pytest

from ravine.bench import record, tuned
from ravine.bench.conclusion import conclude
from ravine.bench.record import key_of, record_of
from ravine.bench.task import Task

optuna = pytest.importorskip("optuna", reason="Optuna is not installed")
from ravine.bench.trials import TRIALS, result  # noqa: E402 (needs Optuna)
from ravine.bench.tune import FIRST_SEED, Rule, tune  # noqa: E402 (needs Optuna)


def response(task):
    """Error 1e-6 at a learning rate of 1e-2, growing with the square of the distance in powers of ten; the seeds of a
    trial differ by a factor of two, and the median is that of the middle one."""
    rate = float(task.settings.get(task.method, {}).get("learning_rate", 1e-3))
    return 10 ** ((math.log10(rate) + 2) ** 2 - 6) * 2.0 ** (task.seed - FIRST_SEED - 1)


def ended(task, error, status="budget", commit="abc", **entries):
    """The folder of a run of 3 s that ended at `error`."""
    described = {k: v for k, v in dataclasses.asdict(task).items() if k not in ("folder", "command")}
    rows = samples.rows_of([0.0, 1.0, 2.0, 3.0], [1.0, 0.5, 0.5, error])
    meta = {"problem": task.problem, "method": task.method, "seed": task.seed, "task": described, "status": status}
    meta |= {"provenance": samples.PROVENANCE | {"commit": commit}, "final": {"metrics.l2": error}}
    meta |= {"budget": {"seconds": 60.0}, "target": task.target and {"metrics.l2": task.target}}
    samples.write(Path(task.folder), rows, **(meta | {"seconds": 3.0, "compile_seconds": 1.0} | entries))


class Runner:
    """Counts what it makes; `status(task)` ends a run otherwise, `stop_after` interrupts after so many runs."""

    def __init__(self, error=response, status=lambda task: "budget", stop_after=None):
        self.made, self.error, self.status, self.stop_after = [], error, status, stop_after

    def __call__(self, tasks, listener):
        for task in tasks:
            if len(self.made) == self.stop_after:
                return False
            assert not Path(task.folder).exists()
            self.made.append(task)
            ended(task, self.error(task), status := self.status(task))
            listener(task, {"event": "row", "row": {}})
            listener(task, {"event": "refused", "reason": "A needs B."} if status == "failed" else {"event": "done"})
        return True


@pytest.fixture(autouse=True)
def committed(monkeypatch):
    monkeypatch.setattr(record, "own_commit", lambda: "abc")
    monkeypatch.setattr(record, "own_version", lambda name: samples.PROVENANCE["ravine"])


def tasks(folder, *methods, seeds=2, **options):
    return [
        Task("poisson2d", m, seed=s, folder=str(folder / "poisson2d" / f"{m.replace('/', '-')}-s{s}"), **options)
        for m in methods
        for s in range(seeds)
    ]


def listed(folder):
    return [json.loads(line) for line in (folder / TRIALS).read_text().splitlines()]


def test_it_finds_the_best_setting_of_a_known_response(tmp_path):
    runner = Runner()
    compared = tasks(tmp_path, "adam", "sgd")
    found = tune(compared, tmp_path, Rule(20, 3), runner, command=lambda *given: repr(given))
    for method in ("adam", "sgd"):
        trials = [t for t in listed(tmp_path) if t["method"] == method]
        assert [t["trial"] for t in trials] == list(range(20)), "equal trials for all"
        assert trials[0]["settings"] == {} and trials[0]["error"] == pytest.approx(1e-5), "the defaults come first"
        own = [task for task in found if task.method == method]
        best = min(trials, key=lambda t: t["score"])
        assert [task.settings for task in own] == [{method: best["settings"]}] * 2
        assert float(best["settings"]["learning_rate"]) == pytest.approx(1e-2, rel=0.7), "1e-4 or 1e-5 to 0.1 searched"
        told = own[0].tuning
        assert told["made"] == 20 and told["failed"] == 0 and told["why"] == ""
        assert told["error"] == best["error"] < 0.2 * told["error_default"]
        assert (told["seconds"], told["total_seconds"]) == (20 * 3 * 3.0, 20 * 3 * 4.0)
        assert best["settings"]["learning_rate"] in own[0].command
    assert {t.seed for t in runner.made} == {FIRST_SEED, FIRST_SEED + 1, FIRST_SEED + 2}
    assert {(t.budget, t.target, t.sampler) for t in runner.made} == {("60s", None, None)}
    assert [(t.method, t.seed, t.folder) for t in found] == [(t.method, t.seed, t.folder) for t in compared]
    assert (
        Path(runner.made[0].folder).relative_to(tmp_path).as_posix() == f"tuning/poisson2d/adam/trial-0/s{FIRST_SEED}"
    )


def test_trials_follow_from_their_results(tmp_path):
    """The same results give the same trials, and other results other ones once the sampler has learnt from them."""
    made = []
    for name, error in (("a", response), ("b", response), ("c", lambda task: 1.0 / response(task))):
        tune(tasks(tmp_path / name, "adam"), tmp_path / name, Rule(14, 1), Runner(error))
        made.append([t["settings"] for t in listed(tmp_path / name)])
    assert made[0] == made[1] and made[0][:10] == made[2][:10] and made[0] != made[2]


def test_a_bad_trial_is_no_error_and_never_chosen(tmp_path):
    def status(task):
        rate = float(task.settings.get("adam", {}).get("learning_rate", 1e-3))
        return "failed" if 2e-3 < rate < 5e-2 else "diverged" if rate > 5e-2 else "budget"

    found = tune(tasks(tmp_path, "adam"), tmp_path, Rule(20, 3), Runner(status=status))
    trials = listed(tmp_path)
    failed = [t for t in trials if t["statuses"] == ["failed"] * 3]
    assert 0 < len(failed) < 20 and all(t["score"] == "Infinity" for t in failed)
    assert found[0].tuning["failed"] == len(failed)
    rest = [t for t in trials if t not in failed]
    assert found[0].settings["adam"] == min(rest, key=lambda t: t["score"])["settings"]


def test_one_bad_seed_of_three_does_not_decide(tmp_path):
    runner = Runner(status=lambda task: "failed" if task.seed == FIRST_SEED else "budget")
    found = tune(tasks(tmp_path, "adam"), tmp_path, Rule(2, 3), runner)
    assert found[0].tuning["failed"] == 0 and listed(tmp_path)[0]["error"] == pytest.approx(2e-5), "the worse of two"


def test_a_method_that_is_refused_is_not_tried_on_and_gets_its_defaults(tmp_path):
    runner = Runner(status=lambda task: "failed" if task.method == "sgd" else "budget")
    found = {t.method: t for t in tune(tasks(tmp_path, "adam", "sgd"), tmp_path, Rule(3, 1), runner)}
    assert found["sgd"].settings == {} and found["sgd"].tuning["why"] == "A needs B"
    assert found["sgd"].tuning["made"] == 1 and found["sgd"].tuning["error"] is None
    assert found["adam"].tuning["made"] == 3


def test_an_absent_library_is_asked_once_and_again_when_gone_on(tmp_path):
    runner = Runner(status=lambda task: "not_installed")
    for _ in range(2):
        found = tune(tasks(tmp_path, "jaxopt/lm"), tmp_path, Rule(5, 1), runner)
        assert found[0].settings == {} and found[0].tuning["why"] == "its library is not installed"
    assert len(runner.made) == 2 and not (tmp_path / TRIALS).exists()


def test_nothing_to_tune_costs_nothing_and_says_why(tmp_path):
    runner = Runner()
    found = tune(tasks(tmp_path, "optimistix/bfgs"), tmp_path, Rule(5, 3), runner)
    assert runner.made == [] and found[0].settings == {}
    assert found[0].tuning["made"] == 0 and "stopping tests" in found[0].tuning["why"]
    by_hand = {"sgd": {"learning_rate": "0.1", "momentum": "0.5"}}
    found = tune(tasks(tmp_path, "sgd", settings=by_hand), tmp_path, Rule(5, 3), runner)
    assert runner.made == [] and found[0].settings == by_hand
    assert found[0].tuning["why"] == "the options set by hand leave nothing to search"


def test_an_option_set_by_hand_is_fixed_and_left_out(tmp_path):
    by_hand = {"adam": {"learning_rate": "0.03", "nesterov": "true"}}
    runner = Runner()
    found = tune(tasks(tmp_path, "adam", settings=by_hand), tmp_path, Rule(3, 1), runner)
    assert {t.settings["adam"]["learning_rate"] for t in runner.made} == {"0.03"}
    assert {t.settings["adam"]["nesterov"] for t in runner.made} == {"true"}
    assert found[0].tuning["options"] == ["b1", "b2"] and set(listed(tmp_path)[1]["settings"]) == {"b1", "b2"}


def test_settings_that_were_tried_are_not_run_again(tmp_path):
    runner = Runner(error=lambda task: 1e-3 if task.settings else 1e-2)
    found = tune(tasks(tmp_path, "scipy/trf"), tmp_path, Rule(8, 1), runner)
    assert len(runner.made) == 2 == len(listed(tmp_path)), "two words to choose from"
    assert found[0].settings == {"scipy/trf": {"scale": "jac"}}
    assert found[0].tuning["made"] == 8 and found[0].tuning["seconds"] == 2 * 3.0


def test_it_goes_on_where_it_was_interrupted(tmp_path):
    whole, first, second = Runner(), Runner(stop_after=7), Runner()
    expected = tune(tasks(tmp_path / "a", "adam"), tmp_path / "a", Rule(6, 3), whole)
    assert tune(tasks(tmp_path / "b", "adam"), tmp_path / "b", Rule(6, 3), first) is None
    assert [t["trial"] for t in listed(tmp_path / "b")] == [0, 1], "the third was cut off after one of its runs"
    found = tune(tasks(tmp_path / "b", "adam"), tmp_path / "b", Rule(6, 3), second)
    assert len(second.made) == 4 * 3
    assert [t.settings for t in second.made] == [t.settings for t in whole.made[6:]]
    assert [t.settings for t in found] == [t.settings for t in expected] and found[0].tuning == expected[0].tuning

    third = Runner()
    more = tune(tasks(tmp_path / "b", "adam", seeds=5), tmp_path / "b", Rule(8, 3), third)
    assert len(third.made) == 2 * 3 and len(more) == 5, "more trials extend fewer, more seeds cost no trial"


def test_what_was_made_otherwise_is_kept_and_not_taken(tmp_path, monkeypatch):
    tune(tasks(tmp_path, "adam"), tmp_path, Rule(2, 1), Runner())
    again = Runner()
    tune(tasks(tmp_path, "adam", budget="30s"), tmp_path, Rule(2, 1), again)
    assert [Path(t.folder).parent.name for t in again.made] == ["trial-0-2", "trial-1-2"]
    monkeypatch.setattr(record, "own_commit", lambda: "abd")
    newer = Runner()
    tune(tasks(tmp_path, "adam"), tmp_path, Rule(1, 1), newer)
    assert [Path(t.folder).parent.name for t in newer.made] == ["trial-0-3"]
    assert len(listed(tmp_path)) == 5 and all((tmp_path / t["folder"]).is_dir() for t in listed(tmp_path))


def test_failed_trials_are_results_unless_they_are_asked_for_again(tmp_path):
    broken = Runner(status=lambda task: "failed" if task.settings else "budget")
    tune(tasks(tmp_path, "adam"), tmp_path, Rule(3, 1), broken)
    kept, retried = Runner(), Runner()
    tune(tasks(tmp_path, "adam"), tmp_path, Rule(3, 1), kept)
    assert kept.made == []
    found = tune(tasks(tmp_path, "adam"), tmp_path, Rule(3, 1), retried, retry_failed=True)
    assert len(retried.made) == 2 and found[0].tuning["failed"] == 0


def test_compared_seeds_are_not_tuning_seeds(tmp_path):
    task = dataclasses.replace(tasks(tmp_path, "adam")[0], seed=FIRST_SEED)
    with pytest.raises(ValueError, match="are those of tuning"):
        tune([task], tmp_path, Rule(1, 1), Runner())


def test_the_score_of_a_run():
    ran = {"metric": "l2", "error": 1e-3, "floor": 0.0, "target": None, "status": "budget", "budget": {"seconds": 60.0}}
    ran |= {"seconds": 15.0, "wall_seconds": 20.0, "steps": 100, "work": None, "final": {"loss": -2.0}}
    assert result(ran) == (1e-3, 1e-3)
    assert result(ran | {"floor": 2e-3}) == (2e-3, 2e-3), "below the error of the reference all are equal"
    reached = ran | {"target": 1e-2, "floor": 1e-2, "status": "reached_target"}
    assert result(reached) == (1e-2, 0.25e-2) and result(reached | {"seconds": 30.0})[1] == 0.5e-2
    assert result(reached | {"budget": {"seconds": 60.0, "steps": 200}}) == (1e-2, 0.5e-2)
    assert result(ran | {"metric": None}) == (-2.0, -2.0), "an energy without a solution: its value"
    for lost in ({"status": "failed"}, {"status": "interrupted"}, {"error": math.inf}, {"error": "Infinity"}):
        assert result(ran | lost) == (math.inf, math.inf)


def test_the_two_rules_are_told_apart_also_where_tuning_ends_at_the_defaults(tmp_path):
    plain = tasks(tmp_path, "optimistix/bfgs")[0]
    (same, _) = tune(tasks(tmp_path, "optimistix/bfgs"), tmp_path, Rule(5, 3), Runner())
    assert same.settings == plain.settings and key_of(same) != key_of(plain)
    cheaper = dataclasses.replace(same, tuning=same.tuning | {"seconds": 1.0})
    assert key_of(cheaper) == key_of(same), "what tuning cost does not make another run"

    found = []
    for i, task in enumerate((plain, same)):
        task = dataclasses.replace(task, folder=str(tmp_path / f"r{i}"))
        ended(task, 1e-3)
        found.append(record_of(task.folder))
        assert found[-1]["key"] == key_of(task)
    assert [r["rival"] for r in found] == ["optimistix/bfgs", "optimistix/bfgs (tuned=5 trials of 3 seeds)"]
    both = conclude(found)
    assert [r.method for r in both.results] == [r["rival"] for r in found] and both.rule.startswith("mixed: ")
    assert conclude(found[:1]).rule == tuned.DEFAULTS_ONLY and conclude(found[:1]).tuning is None
    assert conclude(found[1:]).rule.startswith("tuned, 5 trials each of 3 seeds")
    assert "nothing to tune" in conclude(found[1:]).tuning.rows[0][-1]


def test_one_method_tuned_on_two_problems_stays_one_method(tmp_path):
    """Its settings differ from problem to problem; a profile over problems needs it under one name."""
    made = []
    for problem, rate in (("poisson2d", "0.01"), ("burgers1d", "0.03")):
        told = {"trials": 20, "seeds": 3, "options": ["learning_rate"], "made": 20, "failed": 1}
        told |= {"error_default": 1e-2, "error": 1e-3, "seconds": 60.0, "total_seconds": 90.0, "why": ""}
        settings = {"adam": {"learning_rate": rate, "b1": "0.8"}}
        task = Task(problem, "adam", settings=settings, tuning=told, folder=str(tmp_path / problem))
        ended(task, 1e-3)
        made.append(record_of(task.folder))
    assert {r["rival"] for r in made} == {"adam (adam.b1=0.8, tuned=20 trials of 3 seeds)"}
    assert [r["settings"]["adam"]["learning_rate"] for r in made] == ["0.01", "0.03"]
    sheet = conclude(made).tuning
    assert sheet.rows[1] == ("burgers1d", "adam", 20, 1, 1e-2, 1e-3, 60.0, 90.0, "learning_rate=0.03")
    said = "adam on poisson2d: 20 trials (1 without a result), 60 s, with compilation 90 s; error 0.01 to 0.001 with "
    assert tuned.sentences(sheet.rows)[0] == said + "learning_rate=0.01."


def test_a_trial_that_was_stopped_is_no_score_and_ends_the_tuning(tmp_path):
    """Its machine was not fit, or somebody ended its process: --continue makes it again."""
    runner = Runner(status=lambda task: "interrupted" if task.settings else "budget")
    assert tune(tasks(tmp_path, "adam"), tmp_path, Rule(3, 1), runner) is None
    assert [line["trial"] for line in listed(tmp_path)] == [0], "the default, which has a score"
