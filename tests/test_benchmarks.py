"""That the benchmarks run and write what they say; no test looks at how fast anything was."""

import json

import pytest

from benchmarks import engine

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
