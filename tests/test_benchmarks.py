"""That the benchmarks run and write what they say; no test looks at how fast anything was."""

import json

import pytest

from benchmarks import engine, learner

RESULT = {"map", "envs", "threads", "steps_per_second", "repeats", "cores_had"}


def test_one_map_stands_at_the_top_of_the_json_too(tmp_path, capsys):
    path = tmp_path / "engine.json"
    assert engine.main(["--map", "3m", "--envs", "4", "--seconds", "0.2", "--json", str(path)]) == 0
    written = json.loads(path.read_text())
    assert written.keys() == RESULT | {"machine", "results"}
    assert written["map"] == "3m" and written["envs"] == 4 and written["threads"] == 1
    assert len(written["repeats"]) == engine.REPEATS and 0 < written["steps_per_second"] <= max(written["repeats"])
    (result,) = written["results"]
    assert result == {key: written[key] for key in RESULT}
    assert {"cpu", "cores", "load", "versions"} == written["machine"].keys()
    *_, header, row, verdict = capsys.readouterr().out.splitlines()
    assert header.split()[0] == "map" and row.split()[0] == "3m" and "no target for 4 environments" in verdict


def test_every_target_is_answered_by_figure_target_and_verdict():
    result = {"map": "8m", "envs": 64, "threads": 1, "steps_per_second": 61_234.5}
    assert engine.verdicts(result) == ["8m, one thread, steps/s: 61,234, target 60,000, met"]
    result |= {"threads": 2, "one_thread_steps_per_second": 59_999, "times_one_thread": 1.79}
    assert engine.verdicts(result) == [
        "8m, one thread, steps/s: 59,999, target 60,000, not met",
        "8m, two threads over one: 1.79, target 1.80, not met",
    ]


@pytest.mark.parametrize(
    ("params", "fragment"),
    [
        (["--map", "8n", "3m"], "unknown map '8n'"),
        (["--envs", "x"], "--envs"),
        (["--envs", "0"], "--envs, --threads and --seconds must be above 0"),
        (["--seconds", "nan"], "must be above 0"),
        (["--threads", "100000"], "--threads=100000 is more than"),
        (["--json", "/dev/null/x"], "--json=/dev/null/x can't be written"),
        (["--mapp", "8m"], "--mapp"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_status_2(capsys, params, fragment):
    assert engine.main(params) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and fragment in captured.err


# --- the learners'


def test_each_learner_has_its_row_and_its_times_in_the_json(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(learner, "STEPS", 4)
    monkeypatch.setattr(learner, "REPEATS", 2)
    path = tmp_path / "learner.json"
    algorithms = ["iql", "coma", "iql_omg"]
    assert learner.main(["--map", "3m", "--alg", *algorithms, "--json", str(path)]) == 0
    written = json.loads(path.read_text())
    assert [result["algorithm"] for result in written["results"]] == algorithms
    for result in written["results"]:
        assert result["milliseconds"].keys() == {"update", "loop", "ragged"}
        assert all(len(times) == 2 and min(times) > 0 for times in result["milliseconds"].values())
    assert list(written["growth"][0]["milliseconds"]) == ["8", "16", "32"] and written["threads"] == []
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split()[1] for row in rows[:3]] == algorithms
    assert rows[-1].startswith("3m, iql, milliseconds per episode, by batch: 8: ")


def test_the_learners_targets_are_answered_by_figure_target_and_verdict():
    times = {"update": [10.0, 20.0], "loop": [30.0, 60.0], "products": [4.0, 8.0]}
    assert learner.verdicts({"map": "8m", "algorithm": "qmix", "milliseconds": times}) == [
        "8m, qmix, loop over update: 3.00, target 3.00, met",
        "8m, qmix, matrix products' share of the update: 0.40, target 0.50, not met",
    ]
    assert learner.verdicts({"map": "8m", "algorithm": "vdn", "milliseconds": times}) == []


def test_the_number_of_threads_is_answered_by_speed_and_cost():
    times = {"passed": {"1": [10.0, 10.0], "2": [8.0, 8.0]}, "computed": {"1": [10.0, 10.0], "2": [15.0, 15.0]}}
    words = learner.threads_words({"map": "3m", **times})
    assert words == "3m, qmix: 1 thread 10.0 ms, 2 threads 8.0 ms, 1.25 times as fast for 1.50 times the computing"


@pytest.mark.parametrize(
    ("params", "fragment"),
    [
        (["--map", "8n"], "unknown map '8n'"),
        (["--alg", "qmx"], "unknown algorithm 'qmx'; did you mean 'qmix'?"),
        (["--device", "cuda:"], "--device=cuda: must be cpu or cuda"),
        (["--threads", "0"], "--threads=0 must be at least 1"),
        (["--threads", "100000"], "--threads=100000 is more than"),
        (["--json", "/dev/null/x"], "--json=/dev/null/x can't be written"),
    ],
)
def test_a_mistake_with_the_learners_is_one_sentence_and_exit_status_2(capsys, params, fragment):
    assert learner.main(params) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and fragment in captured.err
