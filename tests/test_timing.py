"""The benchmarks' own arithmetic: ratios within a round, quartiles, the record."""

import json

import pytest
import timing


def test_ratios_are_taken_within_each_round(monkeypatch):
    base, calls = {"fast": 1.0, "slow": 3.0}, iter(range(100))

    def measure(run):  # the whole machine slows from round to round, of three candidates with the baseline's copy
        return base[run()] * 2.0 ** (next(calls) // 3)

    monkeypatch.setattr(timing, "measure", measure)
    results = timing.compare({"fast": lambda: "fast", "slow": lambda: "slow"}, "fast", rounds=5)
    assert results["slow"]["ratio"] == [3.0, 3.0, 3.0]
    assert results["noise"]["ratio"] == [1.0, 1.0, 1.0]
    assert results["fast"]["seconds"] == 4.0


def test_a_baseline_that_is_not_measured():
    with pytest.raises(ValueError, match=r"baseline 'x' is none of \['a'\]"):
        timing.compare({"a": lambda: None}, "x")


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
