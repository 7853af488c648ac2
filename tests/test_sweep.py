"""Sweeps: what is asked for, folders named by settings, going on where they stopped, several machines, and a search."""

import fcntl
import os
import signal
import threading
import time

import pytest
import yaml

from experiments import jobs, search, sweep
from experiments.attempt import LOCK
from experiments.report.runs import find_runs

# Stands in for main.py: "wins" as its settings say, in steps of 40, and saves each time; seed 13 fails at first.
STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path
given = dict(word.lstrip("-").split("=", 1) for word in sys.argv[1:] if "=" in word)
work, t_max, seed, lr = Path(given["local_results_path"]), int(given["t_max"]), int(given["seed"]), float(given["lr"])
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
records = work / "sacred" / str(1 + len(list(work.glob("sacred/*"))))
records.mkdir(parents=True)
place = {"env": "sc2", "env_args": {"map_name": given["env_args.map_name"]}, "resolved": {"engine": "sim"}}
config = {**place, "name": given["config"], "t_max": t_max, "seed": seed, "lr": lr}
(records / "config.json").write_text(json.dumps(config))
(records / "run.json").write_text(json.dumps({"status": "COMPLETED"}))
step = 0
if "checkpoint_path" in given:
    step = max(int(p.name) for p in Path(given["checkpoint_path"]).iterdir())
with (work / "starts").open("a") as file:
    print(step, file=file)
while step <= t_max and not asked:
    step += 40
    if seed == 13 and step > 80 and "checkpoint_path" not in given:
        sys.exit("bad luck")
    while seed == 7 and step > 80 and "checkpoint_path" not in given and not asked:
        time.sleep(0.01)  # until it is interrupted
    if lr > 0.4:
        time.sleep(0.3)
    folder = work / "models" / f"run{records.name}" / str(step)
    folder.mkdir(parents=True)
    for name in ("agent.th", "buffer.th", "state.th"):
        (folder / name).write_text(name)
    with (records / "metrics.jsonl").open("a") as lines:
        for key, value in {"test_battle_won_mean": 1 - lr, "test_return_mean": step}.items():
            lines.write(json.dumps({"t_env": step, "key": key, "value": value}) + "\\n")
sys.exit(143 if asked else 0)
"""


@pytest.fixture(autouse=True)
def stand_in(monkeypatch, tmp_path):
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(jobs, "MAIN", script)
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(sweep, "ELSEWHERE_SECONDS", 0.1)
    monkeypatch.setattr(search, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(sweep, "finish", lambda out: None)
    monkeypatch.setattr(search, "finish", lambda out: None)


def command(out, *more, algs=("iql",), maps=("3m",), seeds=("1..2",), settings=("t_max=200", "lr=0.1")):
    """Exit status of the command."""
    words = ["--algs", *algs, "--maps", *maps, "--seeds", *seeds, "--set", *settings]
    return sweep.main([*words, "--out", str(out), "--jobs=2", *more])


def results(out):
    """What result.yaml says, by the run's folder."""
    return {file.parent.name: yaml.safe_load(file.read_text()) for file in sorted(out.glob("runs/*/result.yaml"))}


# --- a grid


@pytest.mark.slow
def test_every_combination_is_trained_once_and_leaves_records_that_a_report_reads(tmp_path, capsys):
    out = tmp_path / "out"
    assert command(out, algs=("iql", "vdn"), maps=("3m", "8m"), settings=("t_max=200", "lr=[0.1,0.2]")) == 0
    found = results(out)
    assert len(found) == 16
    cells = {(run["algorithm"], run["map"], run["seed"], run["lr"]) for run in found.values()}
    assert len(cells) == 16 and ("vdn", "8m", 2, 0.2) in cells
    runs, left_out = find_runs([out])
    assert len(runs) == 16 and not left_out
    models = next(out.glob("runs/*/models/240"))
    assert [path.name for path in models.iterdir()] == ["agent.th"]  # no replay buffer
    assert "[16/16]" in capsys.readouterr().out


def interrupt_at_step_80(out):
    """Sends SIGTERM to this process once a run has saved at that step; returns the thread that waits for it."""

    def interrupt():
        while not list(out.glob(".work/*/models/*/80")):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    return thread


def test_a_sweep_goes_on_where_it_stopped(tmp_path, capsys):
    out = tmp_path / "out"

    thread = interrupt_at_step_80(out)
    assert command(out, "--jobs=1", seeds=("7",)) == 128 + signal.SIGTERM
    thread.join()
    assert "stopped, to be resumed from step" in capsys.readouterr().out and not results(out)
    assert command(out, seeds=("7", "1")) == 0
    assert {run["seed"] for run in results(out).values()} == {1, 7}
    for run in find_runs([out])[0]:  # also the one that was stopped and went on has its whole curve
        assert list(run.curves["test_return_mean"].steps) == [40, 80, 120, 160, 200, 240]
    before = {file: file.stat().st_mtime_ns for file in out.glob("runs/*/result.yaml")}
    assert command(out, seeds=("7", "1", "2")) == 0
    assert "1 of 3 runs to train" in capsys.readouterr().out
    assert all(file.stat().st_mtime_ns == time_ns for file, time_ns in before.items())


def test_a_folder_is_named_by_what_the_run_is(tmp_path):
    spec = sweep.Spec(("iql",))
    names = [
        sweep.make_run(tmp_path / place, spec, alg, "3m", seed, {"lr": lr}).output.name
        for place, alg, seed, lr in (
            ("a", "iql", 1, 0.1),
            ("b", "iql", 1, 0.1),
            ("a", "vdn", 1, 0.1),
            ("a", "iql", 2, 0.1),
            ("a", "iql", 1, 0.2),
        )
    ]
    assert names[0] == names[1] and len(set(names)) == 4


def test_a_failed_run_is_named_and_the_others_go_on(tmp_path, capsys):
    assert command(tmp_path / "out", seeds=("13", "1")) == 1
    said = capsys.readouterr()
    assert "bad luck" in said.out and "1 of 2 runs failed: iql_3m_seed13" in said.err
    assert len(results(tmp_path / "out")) == 1
    assert command(tmp_path / "out", seeds=("13", "1")) == 0 and len(results(tmp_path / "out")) == 2


@pytest.mark.slow
def test_a_run_that_another_machine_is_at_is_left_to_it(tmp_path, capsys):
    """Another command keeps the lock of one run, then finishes it."""
    out = tmp_path / "out"
    mine, other = sweep.grid(
        out, sweep.Spec(("iql",), maps=("3m",), seeds=(1, 2), settings={"t_max": [200], "lr": [0.1]})
    )
    other.work.mkdir(parents=True)
    with (other.work / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def finish():
            while not mine.output.exists():
                time.sleep(0.02)
            other.output.mkdir(parents=True)

        thread = threading.Thread(target=finish, daemon=True)
        thread.start()
        assert command(out) == 0
        thread.join()
    assert not other.log.exists() and list(results(out)) == [mine.output.name]


@pytest.mark.slow
def test_the_table_shows_how_far_each_run_is(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sweep, "SHOW_SECONDS", 0.1)
    assert command(tmp_path / "out", settings=("t_max=200", "lr=0.5")) == 0
    said = capsys.readouterr().out
    assert "0 of 2 runs done, 2 under way" in said and "won 50%" in said and "left: " in said


@pytest.mark.slow
def test_a_file_and_options_ask_for_the_same(tmp_path, capsys):
    file = tmp_path / "sweep.yaml"
    file.write_text("algs: [iql, vdn]\nmaps: [3m, 8m]\nseeds: 1..2\nset: {lr: [0.0005, 0.001], t_max: 100}\n")
    assert sweep.main([str(file), "--plan"]) == 0
    planned = capsys.readouterr().out
    assert planned.count("\n") == 16
    words = ["--algs", "iql", "vdn", "--maps", "3m", "8m", "--seeds", "1..2", "--set", "t_max=100"]
    assert sweep.main([*words, "lr=[0.0005,0.001]", "--plan"]) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(planned.splitlines())
    assert sweep.main([str(file), "--seeds", "3", "--plan"]) == 0
    assert capsys.readouterr().out.count("\n") == 8


# --- a search


def study_file(tmp_path, seeds=(1, 2), **changes):
    content = {"algs": ["iql"], "maps": ["3m"], "seeds": list(seeds), "set": {"t_max": 200}}
    content["search"] = {"trials": 6, "space": {"lr": {"low": 0.01, "high": 0.2}}} | changes
    file = tmp_path / "search.yaml"
    file.write_text(yaml.safe_dump(content))
    return str(file)


@pytest.fixture
def optuna():
    return pytest.importorskip("optuna", reason="optuna is not installed")


@pytest.mark.slow
def test_a_search_trains_trials_and_writes_the_best(tmp_path, optuna, capsys):
    out = tmp_path / "out"
    assert sweep.main([study_file(tmp_path), "--out", str(out), "--jobs=2"]) == 0
    best = yaml.safe_load((out / "best.yaml").read_text())
    tried = sorted({run["lr"] for run in results(out).values()})
    assert len(tried) == 6 and len(results(out)) == 12
    assert best["lr"] == tried[0] and best["value"] == pytest.approx(1 - tried[0])
    assert sweep.main([study_file(tmp_path), "--out", str(out), "--jobs=2"]) == 0  # nothing is left to do
    assert len(results(out)) == 12
    assert sweep.main([study_file(tmp_path, trials=7), "--out", str(out), "--jobs=2"]) == 0
    assert len(results(out)) == 14


@pytest.mark.slow
def test_an_interrupted_trial_is_tried_again_and_its_runs_go_on(tmp_path, optuna):
    out, file = tmp_path / "out", study_file(tmp_path, trials=2, space={"lr": [0.1]}, seeds=[7])

    thread = interrupt_at_step_80(out)
    assert sweep.main([file, "--out", str(out), "--jobs=1"]) == 128 + signal.SIGTERM
    thread.join()
    assert sweep.main([file, "--out", str(out), "--jobs=1"]) == 0
    states = [trial.state.name for trial in search.open_study(out, True).get_trials()]
    assert states == ["FAIL", "COMPLETE", "COMPLETE"]  # the first goes on as the second
    (result,) = results(out).values()  # both trials have the same settings, and so the same run
    assert result["steps"] == 240 and yaml.safe_load((out / "best.yaml").read_text())["value"] == pytest.approx(0.9)


@pytest.mark.slow
def test_trials_below_the_median_are_stopped(tmp_path, optuna, monkeypatch, capsys):
    """Six trials that win 90 % or more; then one that wins half as much and takes its time."""
    monkeypatch.setattr(search, "WARMUP_TESTS", 1)
    out = tmp_path / "out"
    assert sweep.main([study_file(tmp_path), "--out", str(out), "--jobs=2"]) == 0
    study = search.open_study(out, True)
    study.enqueue_trial({"lr": 0.5})
    path = study_file(tmp_path, trials=7, space={"lr": {"low": 0.01, "high": 0.5}})
    assert sweep.main([path, "--out", str(out), "--jobs=2"]) == 0
    assert "is stopped: below the median" in capsys.readouterr().out
    states = [trial.state.name for trial in search.open_study(out, True).get_trials()]
    assert states == ["COMPLETE"] * 6 + ["PRUNED"] and len(results(out)) == 12


def test_without_optuna_one_sentence_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    assert sweep.main([study_file(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "pip install -r requirements-sweep.txt" in capsys.readouterr().err


# --- mistakes


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("algs: [iql]\nalgos: 3", "unknown key 'algos'; did you mean 'algs'?"),
        ("maps: [3m]", "names no algs"),
        ("algs: []", "asks for no runs"),
        ("algs: [iql]\nset: {lr: []}", "asks for no runs"),
        ("algs: [iql]\nseeds: 1..100000", "hold 1 to 10,000 seeds"),
        ("algs: [iql]\nseeds: 1..9000\nset: {lr: [0.1, 0.2]}", "asks for 18,000 runs, more than 10,000"),
        ("algs: [iql]\nseeds: 5..1", "must begin at 0 or later"),
        ("algs: [iql]\nseeds: one", "'one' is no seed"),
        ("algs: [iql]\nset: [lr]", "'set' must be a group of settings"),
        ("algs: [iql]\nset: {gama: 1}", "did you mean 'gamma'"),
        ("algs: [iqll]", "did you mean 'iql'"),
        ("algs: [iql]\nset: {seed: 3}", "'seed' is not for you to set here"),
        ("algs: [iql]\nsearch: 3", "'search' must be a group"),
        ("algs: [iql]\nsearch: {trails: 3}", "unknown key 'trails'; did you mean 'trials'?"),
        ("algs: [iql]\nsearch: {trials: 0, space: {lr: [1]}}", "search.trials=0 must be a whole number from 1"),
        ("algs: [iql]\nsearch: {trials: 3}", "search.space must name settings"),
        ("algs: [iql]\nsearch: {trials: 3, space: {lr: {low: 2, high: 1}}}", "search.space.lr must be a list"),
        ("algs: [iql]\nset: {lr: 1.0}\nsearch: {trials: 3, space: {lr: [0.1]}}", "'lr' is in set and in search.space"),
        ("algs: [", "sweep.yaml"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(content, sentence, tmp_path, capsys):
    file = tmp_path / "sweep.yaml"
    file.write_text(content)
    assert sweep.main([str(file), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and sentence in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_settings_without_a_value_and_missing_files_are_refused(tmp_path, capsys):
    assert sweep.main(["--algs", "iql", "--set", "lr"]) == 2
    assert "'lr' is no setting; write lr=VALUE" in capsys.readouterr().err
    assert sweep.main([str(tmp_path / "nowhere.yaml")]) == 2
    assert "nowhere.yaml" in capsys.readouterr().err
