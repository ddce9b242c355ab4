"""The benchmarks' own arithmetic: ratios within a round, quartiles, the record."""

import json

import loop
import losses
import neighbours
import optimizers
import pytest
import timing
import torch


def test_ratios_are_taken_within_each_round(monkeypatch):
    base, measured = {"fast": 1.0, "slow": 3.0}, iter(range(-1, 100))  # the first is to find how many calls make one

    def measure(run, calls=1):  # the whole machine slows from round to round, of three candidates with the copy
        assert calls == 1
        return base[run()] * 2.0 ** max(0, next(measured) // 3)

    monkeypatch.setattr(timing, "measure", measure)
    results = timing.compare(lambda: {"fast": lambda: "fast", "slow": lambda: "slow"}, "fast", rounds=5)
    assert results["slow"]["ratio"] == [3.0, 3.0, 3.0]
    assert results["noise"]["ratio"] == [1.0, 1.0, 1.0]
    assert results["fast"]["seconds"] == 4.0


def test_short_work_is_repeated_until_it_can_be_timed(monkeypatch):
    calls, clock = [], iter(float(i) for i in range(1000))
    monkeypatch.setattr(timing, "SHORTEST", 5.0)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))  # every measurement takes a second
    timing.compare(lambda: {"a": lambda: calls.append(1)}, "a", rounds=2)
    assert len(calls) == 2 + 1 + 2 * 2 * 5  # warming up, one to see how long it takes, two rounds of both
    assert timing.measure(lambda: None, 4) == 1 / 4


def test_rounds_are_shared_among_builds(monkeypatch):
    built, lasting = [], {"a": [1.0, 1.0, 1.0], "b": [1.0, 2.0, 6.0]}  # b comes to lie badly the second and third time

    def make():
        built.append(len(built))
        return {name: lambda name=name, at=built[-1]: lasting[name][at] for name in lasting}

    monkeypatch.setattr(timing, "measure", lambda run, calls=1: run())
    results = timing.compare(make, "a", rounds=9, builds=3)
    assert built == [0, 1, 2]
    assert results["b"]["ratio"] == [1.0, 2.0, 6.0]


def test_a_baseline_that_is_not_measured():
    with pytest.raises(ValueError, match=r"baseline 'x' is none of \['a'\]"):
        timing.compare(lambda: {"a": lambda: None}, "x")


def test_quartiles_and_table():
    assert timing.quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == [2.0, 3.0, 4.0]
    text = timing.table({"work": {"b": {"ratio": [1, 2, 3]}, "a": {"ratio": [0.5, 1, 1.5]}}})
    assert [line.split()[1] for line in text.splitlines()[1:]] == ["a", "b"]


def test_the_record_names_machine_and_versions(monkeypatch, tmp_path):
    monkeypatch.setattr(timing, "RESULTS", tmp_path / "results")
    path = timing.record("name", {"work": {"ours": {"ratio": [1.0, 1.0, 1.0], "seconds": 0.1}}}, ("no-such-package",))
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["versions"]["torch"]
    assert content["versions"]["no-such-package"] is None
    assert content["machine"]["threads"] >= 1
    assert content["results"]["work"]["ours"]["seconds"] == 0.1


def test_every_candidate_makes_the_same_steps():
    for title, (name, options, _) in optimizers.WORK.items():
        steps = optimizers.candidates(name, options, [(3, 2), (4,)])
        ends = {}
        for candidate, step in steps.items():
            for _ in range(3):
                step()
            (group,) = step.__self__.param_groups
            ends[candidate] = torch.cat([p.detach().flatten() for p in group["params"]])
        for candidate, end in ends.items():
            torch.testing.assert_close(end, ends["torch, single"], msg=f"{title}: {candidate}")


def test_the_losses_compared_are_the_same(monkeypatch):
    for name, few in (("BOXES", 300), ("WORDS", 30), ("CANDIDATES", 200)):
        monkeypatch.setattr(losses, name, few)
    for make in losses.works().values():  # each looks at its numbers before it is timed
        candidates = make()
        assert "ours" in candidates
        assert len(candidates) == 2


def test_runner_and_the_plain_loop_train_alike():
    ends = []
    for make in (loop.plain, lambda: loop.with_runner(5)):
        epoch = make()
        epoch()
        cells = dict(zip(epoch.__code__.co_freevars, (c.cell_contents for c in epoch.__closure__), strict=True))
        model = cells["model"] if "model" in cells else cells["runner"].step.model
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*ends)


def test_neighbours_run_while_inside_and_no_longer(monkeypatch):
    monkeypatch.setattr(neighbours, "SETTLE", 0.0)
    started, launch = [], neighbours.subprocess.Popen
    monkeypatch.setattr(neighbours.subprocess, "Popen", lambda *a: started.append(launch(*a)) or started[-1])
    with neighbours.running([neighbours.BUSY, neighbours.BUSY]):
        assert [process.poll() for process in started] == [None, None]
    assert all(process.poll() is not None for process in started)
    ended = pytest.raises(RuntimeError, match="a neighbour ended before the measurement did:\nraise SystemExit")
    with ended, neighbours.running(["raise SystemExit"]):
        started[-1].wait()
    with neighbours.running([]):
        assert len(started) == 3


def test_mean_and_worst_of_single_runs_beside_each_kind(monkeypatch):
    seconds = iter([1.0, 3.0, 8.0] * 2)
    monkeypatch.setattr(neighbours, "BLOCKS", 3)
    monkeypatch.setattr(neighbours, "PAUSE", 0.0)
    monkeypatch.setattr(neighbours, "NEIGHBOURS", {"idle": [], "none either": []})
    monkeypatch.setattr(neighbours, "measure", lambda run: next(seconds))
    calls = []
    results = neighbours.beside({"work": lambda: {"ours": lambda: calls.append(1)}}, runs=3)["work"]
    assert results == {"ours": {"idle": (found := {"mean": 4.0, "worst": 8.0}), "none either": found}}
    assert len(calls) == 2 * 3  # one before each block; the others went to measure
    text = neighbours.table({"work": {"ours": {"beside": results["ours"]}, "noise": {}}})
    assert text.splitlines() == ["work, idle: ours 4000.00 (8000.0)", "work, none either: ours 4000.00 (8000.0)"]
