"""That the benchmarks run and write what they say; no test looks at how fast anything was."""

import json

import pytest

from benchmarks import all as benchmarks_all
from benchmarks import collect, engine, learner, memory, training

RESULT = {"map", "envs", "threads", "steps_per_second", "repeats", "cores_had"}


@pytest.mark.slow
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


@pytest.mark.slow
def test_each_learner_has_its_row_and_its_times_in_the_json(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(learner, "STEPS", 4)
    monkeypatch.setattr(learner, "REPEATS", 2)
    path = tmp_path / "learner.json"
    algorithms = ["iql", "coma", "iql_omg", "ippo_omg", "pqn_qmix"]
    assert learner.main(["--map", "3m", "--alg", *algorithms, "--json", str(path)]) == 0
    written = json.loads(path.read_text())
    assert [result["algorithm"] for result in written["results"]] == algorithms
    for result in written["results"]:
        assert result["milliseconds"].keys() == {"update", "loop", "ragged"}
        assert all(len(times) == 2 and min(times) > 0 for times in result["milliseconds"].values())
    assert list(written["growth"][0]["milliseconds"]) == ["8", "16", "32"] and written["threads"] == []
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split()[1] for row in rows[:5]] == algorithms
    assert rows[-2].startswith("3m, iql, milliseconds per episode, by batch: 8: ")
    assert rows[-1].startswith("3m, iql_omg, where an update's time goes: the model infers ")
    (parts,) = written["parts"]
    assert list(parts["shares"]) == [*learner.PARTS, "the rest"]
    assert sum(parts["shares"].values()) == pytest.approx(1) and all(
        0 < share < 1 for share in parts["shares"].values()
    )


def test_in_the_loop_the_policy_goes_step_by_step(monkeypatch):
    monkeypatch.setattr(learner, "STEPS", 4)
    case, rows = learner.Case("iql", "3m", "cpu"), []
    case.learner.mac.agent.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    case.update(case.full)
    assert rows == []
    learner.update_step_by_step(case)
    assert rows == [32 * 3] * 5
    case.update(case.full)
    assert len(rows) == 5


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


# --- collecting, training, all


@pytest.mark.slow
def test_collecting_says_where_the_time_went(tmp_path, capsys):
    path = tmp_path / "collect.json"
    assert collect.main(["--map", "3m", "--envs", "1", "2", "--seconds", "0.5", "--json", str(path)]) == 0
    results = json.loads(path.read_text())["results"]
    assert [result["envs"] for result in results] == [1, 2]
    for result in results:
        assert 0 < result["steps_per_second"] <= max(result["repeats"]) and 0 < result["share_of_products"] < 1
        assert sum(result["shares"].values()) == pytest.approx(1, abs=0.3)  # medians
        assert all(share > 0 for share in result["shares"].values())
    header, *rows = capsys.readouterr().out.splitlines()[1:]
    assert len(header) == len(rows[0]) == len(rows[1])


@pytest.mark.slow
def test_training_says_where_the_time_went(tmp_path, capsys):
    path = tmp_path / "training.json"
    assert training.main(["--map", "3m", "--alg", "iql", "--seconds", "0.5", "--json", str(path)]) == 0
    (result,) = json.loads(path.read_text())["results"]
    assert result["shares"].keys() == {"engine", "policy", "storing", "sampling", "update", "other"}
    assert result["shares"]["update"] > 0 and result["steps_per_second"] > 0
    _, header, row = capsys.readouterr().out.splitlines()
    assert len(header) == len(row)


def test_targets_of_collecting_and_training_have_figure_target_and_verdict():
    shares = {"engine": 0.4, "policy": 0.5, "storing": 0.0, "other": 0.1}
    result = {"map": "8m", "envs": 64, "steps_per_second": 21_000.0, "shares": shares, "share_of_products": 0.1}
    assert collect.verdicts(result) == [
        "8m, collecting, 64 worlds, steps/s: 21,000, target 20,000, met",
        "8m, 64 worlds, time in engine or matrix products: 50%, target 60%, not met",
    ]
    lines = training.verdicts({"map": "8m", "algorithm": "qmix", "steps_per_second": 1260.0})
    assert [line.rpartition("): ")[2] for line in lines] == ["3.7, target 4, not met", "21.0, target 20, met"]
    assert training.verdicts({"map": "3m", "algorithm": "qmix", "steps_per_second": 1260.0}) == []
    assert training.verdicts({"map": "8m", "algorithm": "pqn_vdn", "steps_per_second": 4000.0}) == [
        "8m, pqn_vdn, environment steps per second: 4000.00, target 5000.00, not met"
    ]


@pytest.mark.slow
def test_training_shows_how_it_grows_with_the_worlds(tmp_path, capsys):
    path = tmp_path / "training.json"
    params = ["--map", "3m", "--alg", "iql", "--seconds", "0.3", "--worlds", "16", "32", "--json", str(path)]
    assert training.main(params) == 0
    growth = json.loads(path.read_text())["growth"]
    assert [result["worlds"] for result in growth] == [16, 32]
    assert capsys.readouterr().out.splitlines()[-1].startswith("3m, pqn_vdn, environment steps per second, by worlds")
    assert training.main(["--worlds", "20"]) == 2
    assert "--worlds: 20 must be a multiple of 16" in capsys.readouterr().err


@pytest.mark.parametrize("program", [collect, training])
@pytest.mark.parametrize(
    ("params", "fragment"),
    [(["--map", "8n"], "unknown map '8n'"), (["--seconds", "0"], "--seconds=0.0 must be above 0"), (["--x"], "--x")],
)
def test_a_mistake_in_collecting_and_training_is_one_sentence(capsys, program, params, fragment):
    assert program.main(params) == 2
    captured = capsys.readouterr()
    assert fragment in captured.err and captured.err.startswith("error: ") and not captured.out


@pytest.mark.slow
def test_all_repeats_every_line_with_a_target_and_keeps_what_each_has_written(tmp_path, capfd, monkeypatch):
    monkeypatch.setitem(benchmarks_all.BENCHMARKS, "engine", ("--map", "3m", "--seconds", "0.1"))
    path = tmp_path / "all.json"
    assert benchmarks_all.main(["--only", "engine", "--json", str(path)]) == 0
    first, *lines = capfd.readouterr().out.splitlines()
    verdicts = lines[lines.index("--- targets") + 1 :]
    assert first == "--- engine" and len(verdicts) == 1 and ", target 250,000, " in verdicts[0]
    assert lines.count(verdicts[0]) == 2
    assert json.loads(path.read_text())["engine"]["map"] == "3m"


def test_all_stops_where_one_fails(capfd, monkeypatch):
    monkeypatch.setitem(benchmarks_all.BENCHMARKS, "engine", ("--map", "8n"))
    assert benchmarks_all.main(["--only", "engine"]) == 2
    assert capfd.readouterr().err.splitlines()[-1] == "error: benchmarks.engine failed; run it alone"


def test_memory_is_measured_at_three_fillings_and_written(tmp_path, capsys):
    path = tmp_path / "memory.json"
    assert memory.main(["--map", "3m", "--episodes", "20", "--json", str(path)]) == 0
    written = json.loads(path.read_text())
    (result,) = written["results"]
    assert result["map"] == "3m" and written["machine"]["cores"] > 0
    assert [filling["episodes"] for filling in result["fillings"]] == [5, 10, 20]
    for filling in result["fillings"]:
        assert filling["stored_bytes"] == filling["steps"] * result["bytes_per_step"]
        assert filling["steps"] > 15 * filling["episodes"]
        assert filling["insert_milliseconds"] > 0 and filling["sample_milliseconds"] > 0
    # 3 agents with 30 observed numbers and 9 actions, 48 of the state: in 4 bytes each but for the flags
    assert result["bytes_per_step"] == 4 * (48 + 3 * 30 + 1) + 3 * (9 + 2) + 1 + 1
    assert result["pymarls_bytes_per_step"] == 4 * (48 + 3 * 30 + 1) + 3 * (4 * 9 + 8 + 4 * 9) + 1 + 8
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == memory.HEADER and [line.split()[:2] for line in lines[2:5]] == [
        ["3m", n] for n in ("5", "10", "20")
    ]


def test_memory_is_held_against_its_targets():
    fillings = [{"episodes": n, "steps": 10 * n, "resident_bytes": 400 * n} for n in (2, 4, 8)]
    result = {"map": "8m", "asked_episodes": 8, "steps_per_episode": 20, "fillings": fillings}
    result |= {"bytes_per_step": 40, "pymarls_bytes_per_step": 50}
    sizes, share, evenness = memory.verdicts(result)
    assert "episodes of 10.0 steps, up to 20; if all had 20: 0.80 of PyMARL's layout, and 0.40 of it at 10" in sizes
    assert share == "8m, resident memory over PyMARL's layout: 0.40, target 0.40, met"
    assert evenness == "8m, memory per step, most over least: 1.00, target 1.10, met"
    fillings[0]["resident_bytes"] = fillings[2]["resident_bytes"] = 8 * 500
    too_few, _, share, evenness = memory.verdicts(result | {"asked_episodes": 9})
    assert too_few == "8m: 8 of 9 episodes, no more fit into --gib"
    assert share.endswith("0.50, target 0.40, not met") and evenness.endswith("target 1.10, not met")


def test_a_buffer_that_is_to_stay_small_is_measured_with_fewer_episodes():
    result = memory.measure("3m", 40, most_bytes=8 * 40 * 603)
    assert 4 <= result["fillings"][-1]["episodes"] < 20 and "of 40 episodes" in memory.verdicts(result)[0]


@pytest.mark.parametrize(
    ("params", "fragment"), [(["--episodes", "3"], "--episodes=3 must be at least 4"), (["--map", "8n"], "unknown map")]
)
def test_a_mistake_about_memory_is_one_sentence(capsys, params, fragment):
    assert memory.main(params) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and fragment in captured.err
