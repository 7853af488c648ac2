"""The evaluation of OMG: its runs are valid, it does what is missing and nothing else, and its report counts right."""

import csv
import os
import re
import shutil
import signal
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

import main as command_line
from experiments import jobs, omg, omg_report, omg_runs
from utils.intervals import Estimate
from utils.pools import load_pool

# Stands in for main.py: "trains" in one step beyond what is asked for, or "tests"; notes its command line.
STAND_IN = """
import json, signal, sys, time
from pathlib import Path
given = dict(word.lstrip("-").split("=", 1) for word in sys.argv[1:] if "=" in word)
work = Path(given["local_results_path"])
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
work.mkdir(parents=True, exist_ok=True)
(work / "listens").touch()
alg = given.get("train_alg", given["config"])
if "liam" in given["config"] and (work.parent / "fail").exists():
    print("bad luck")
    sys.exit(3)
while "liam" in given["config"] and (work.parent / "slow").exists() and not asked:
    time.sleep(0.01)
records = work / "sacred" / "1"
records.mkdir(parents=True, exist_ok=True)
place = {"env": "sc2", "env_args": {"map_name": "2c_vs_64zg"}, "resolved": {"engine": "sim"}}
(records / "config.json").write_text(json.dumps({**place, "t_max": 9, "seed": int(given["seed"])}))
for key in ("evaluate_path", "init_param_path"):
    if key in given and not (Path(given[key]) / alg / "agent.th").is_file():
        sys.exit(f"no weights in {given[key]}")
if "omg_prior_path" in given and not (Path(given["omg_prior_path"]) / "vae.th").is_file():
    sys.exit("no prior")
if "opponent_pool" in given and not list(Path(given["opponent_pool"]).glob("*/member.yaml")):
    sys.exit("no pool")
if "evaluate_path" in given:
    with (records / "test_episodes.jsonl").open("w") as lines:
        for i in range(int(given["test_nepisode"])):
            told = {"won": i % 2 == 0, "return": i, "length": 30, "seat": i % 2, "teammates": ["member"]}
            lines.write(json.dumps(told) + "\\n")
else:
    folder = work / "models" / "run" / str(10**9 if not asked else 1)
    weights = folder / alg if "train_alg" in given else folder
    weights.mkdir(parents=True)
    for name in ("agent.th", "vae.th"):
        (weights / name).write_text(str(sys.argv))
    (folder / "buffer.th").touch()
    (records / "metrics.jsonl").write_text(json.dumps({"t_env": 1, "key": "steps_per_second", "value": 50.0}) + "\\n")
sys.exit(130 if asked else 0)
"""
N_RUNS = 1 + 3 + 1 + 2 + 3 + 2 + 2  # both pools, prior, agents, tests with the control, fine-tuning, tests


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """Few runs, of a map with one group; gives the command, which tells its exit status and the runs that it began."""
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN + f"# {tmp_path}\n")
    monkeypatch.setattr(jobs, "MAIN", script)
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.02)
    monkeypatch.setitem(omg_runs.SCALES, "tiny", replace(omg_runs.SCALES["tiny"], seeds=1))
    kept = {name: omg_runs.METHODS[name] for name in ("liam", "omg_optimistic")}
    monkeypatch.setattr(omg_runs, "METHODS", kept)
    started = []
    start = jobs.JobQueue._start
    monkeypatch.setattr(jobs.JobQueue, "_start", lambda queue, job: (started.append(job.name), start(queue, job)))

    def command(*more):
        started.clear()
        return omg.main(["--map=2c_vs_64zg", "--scale=tiny", f"--out={tmp_path / 'out'}", "--jobs=4", *more]), started

    before = signal.getsignal(signal.SIGTERM)
    yield command
    signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
def test_all_is_done_once_and_what_is_missing_again(tmp_path, stand_in, capsys):
    out = tmp_path / "out"
    assert stand_in("--plan") == (0, []) and not out.exists()
    plan = capsys.readouterr().out
    assert re.search(r"test pool +0 +3 ", plan) and re.search(r"agents +0 +2 ", plan) and "in all about" in plan
    status, started = stand_in()
    said = capsys.readouterr().out
    assert status == 0 and len(started) == N_RUNS, said
    assert "--- fine-tuning" in said and "[2/2] tuned_" in said and "OMG-optimistic" in said
    for name in ("table.md", "table.csv", "figure.png", "episodes.csv", "prior/iql_omg/vae.th"):
        assert (out / name).is_file(), name
    agent = out / "agents" / "omg_optimistic_seed1"
    assert sorted(path.name for path in agent.iterdir()) == ["iql_omg", "run.yaml"]  # no replay buffer
    assert len(load_pool(out / "pools" / "train")) == 1 and len(load_pool(out / "pools" / "test")) == 3
    assert [path.name for path in (out / ".work").iterdir()] == ["lock"]
    with (out / "episodes.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 5 * 4  # liam and omg in two phases, the control in one
    assert {row["teammates"] for row in rows} == {"member"} and {row["engine"] for row in rows} == {"sim"}

    assert stand_in() == (0, [])  # the report alone
    (out / "tests" / "liam_seed1_1_homologue_tuned.csv").unlink()
    shutil.rmtree(agent)
    capsys.readouterr()
    assert stand_in() == (0, ["agents_omg_optimistic_seed1", "tests_liam_seed1_1_homologue_tuned"])
    assert re.search(r"agents +1 +1 ", capsys.readouterr().out)

    assert omg.main(["--map=3m", "--scale=tiny", f"--out={out}"]) == 2
    assert "was begun with map=2c_vs_64zg, not 3m" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_the_next_command_goes_on(tmp_path, stand_in, capsys):
    work = tmp_path / "out" / ".work"
    work.mkdir(parents=True)
    (work / "fail").touch()
    status, started = stand_in()
    assert status == 1 and started[-2:] == ["agents_liam_seed1", "agents_omg_optimistic_seed1"]
    captured = capsys.readouterr()
    assert "    bad luck" in captured.out and "agents: 1 of 2 runs failed: agents_liam_seed1" in captured.err
    (work / "fail").unlink()
    status, started = stand_in()
    assert status == 0 and started[0] == "agents_liam_seed1" and len(started) == N_RUNS - 6


@pytest.mark.slow
def test_a_signal_lets_the_runs_save_and_the_next_command_goes_on(tmp_path, stand_in, capsys):
    work = tmp_path / "out" / ".work"
    work.mkdir(parents=True)
    (work / "slow").touch()

    def interrupt():
        omg_is_done, liam_listens = tmp_path / "out/agents/omg_optimistic_seed1", work / "agents_liam_seed1" / "listens"
        while not (omg_is_done.exists() and liam_listens.exists()):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert stand_in()[0] == 128 + signal.SIGTERM
    thread.join()
    captured = capsys.readouterr()
    assert "agents_liam_seed1: stopped, to be resumed from step 1" in captured.out
    assert "the same command goes on from here" in captured.err
    (work / "slow").unlink()
    status, started = stand_in()
    assert status == 0 and started[0] == "agents_liam_seed1"


def test_fine_tuning_is_as_long_as_the_tested_episodes_say(tmp_path):
    setup = omg_runs.Setup(tmp_path, "8m", 8, omg_runs.SCALES["small"], "sim")
    group = omg_runs.Group(6, "homologue")
    file = setup.test("iql", 2, group, "zero-shot")
    file.parent.mkdir()
    file.write_text("length\n20\n30\n")
    job = next(job for job in omg_runs.tune_jobs(setup) if job.output == setup.tuned("iql", 2, group))
    # 100 episodes of 25 steps, less half of the 4 that are played at a time, as two of eight seats learn
    assert "t_max=612" in job.arguments and job.n_steps == 4 * 612


@pytest.mark.parametrize(
    ("n_agents", "groups"),
    [
        (2, ["1 homologue"]),
        (3, ["2 non-homologue", "2 homologue"]),
        (8, ["7 non-homologue", "6 homologue", "7 homologue"]),
    ],
)
def test_the_groups_are_the_papers(tmp_path, n_agents, groups):
    setup = omg_runs.Setup(tmp_path, "map", n_agents, omg_runs.SCALES["small"], "sim")
    assert [group.title for group in setup.groups] == groups
    assert 3 * setup.test_members >= n_agents - 1  # as many as non-homologue teammates need


@pytest.mark.slow
def test_every_kind_of_run_is_valid_and_means_what_it_should(tmp_path):
    scale = replace(omg_runs.SCALES["small"], seeds=1, train_members=1)
    setup = omg_runs.Setup(tmp_path, "8m", 8, scale, "sim")
    made = [job for stage in omg.stages(setup) for job in stage.jobs()]
    assert len({job.name for job in made}) == len(made) == 1 + 5 + 3 * (6 + 5 + 5)
    for job in made:
        if "_7_" in job.name and "_iql_" not in job.name:
            continue  # differs from its like with 6 teammates in the group alone
        config = command_line.read_settings(*job.arguments)
        learner = config["train_alg"]
        n_seats = 2 if "_6_homologue" in job.name else 1
        assert sum(config["population"].values()) == 8 and config["population"][learner] == n_seats
        assert config["is_agent_shift"] and config["env_args"]["map_name"] == "8m"
        is_test = isinstance(job, omg_runs.Evaluation)
        assert config["opponent_group"] == ("non_homologue" if "non_homologue" in job.name else "homologue")
        in_test_pool = is_test or job.name.startswith("tuned")
        assert config["opponent_pool"] == str(setup.test_pool if in_test_pool else setup.train_pool)
        if is_test:
            assert (config["test_nepisode"], config["batch_size_run"], config["seed"]) == (96, 32, omg_runs.TEST_SEED)
            assert config["dueling"] == (learner != "qmix")
        else:
            assert job.n_steps == 8 // n_seats * config["t_max"]
            assert 8 // n_seats * config["batch_size"] <= config["buffer_size"]
        if "omg_" in job.name:
            assert config["omg_horizon"] == 10 and config["subgoal_mode"] in job.name
            assert bool(config["omg_prior_path"]) == job.name.startswith("agents")
        if job.name.startswith("tuned"):
            assert config["epsilon_start"] == config["epsilon_finish"] == 0.05 and config.get("eta", 0) == 0


# --- report


def make_rows(method, seed, won, phase="zero-shot", group="7 homologue", teammates=("a", "b")):
    """An episode for each letter of `won`, w or l, with the teammates in turn."""
    return [
        {
            "method": method,
            "seed": str(seed),
            "phase": phase,
            "group": group,
            "episode": str(i),
            "won": str(int(letter == "w")),
            "return": "1.5",
            "length": "30",
            "seat": "0",
            "teammates": "+".join([teammates[i % len(teammates)]] * 7),
            "engine": "sim",
        }
        for i, letter in enumerate(won)
    ]


def test_the_report_counts_by_method_group_and_phase(tmp_path):
    rows = make_rows("iql", 1, "wwll") + make_rows("iql", 2, "wlll") + make_rows("omg_optimistic", 1, "wwww")
    rows += make_rows("iql", 1, "llll", phase="tuned") + make_rows("iql", 1, "ww", group="6 homologue")
    lines = {line[:3]: line for line in omg_report.summarise(rows, "8m")}
    iql = lines["zero-shot", "7 homologue", "iql"]
    assert iql.won.mean == 3 / 8 and 0 <= iql.won.low < 3 / 8 < iql.won.high <= 1
    assert (iql.n_episodes, iql.n_seeds, iql.n_teams, iql.n_members) == (8, 2, 2, 2)
    assert iql.paper == 88.6 and lines["zero-shot", "6 homologue", "iql"].paper == 80.3
    assert lines["zero-shot", "7 homologue", "omg_optimistic"].won == Estimate(1, 1, 1)
    assert lines["tuned", "7 homologue", "iql"].won == Estimate(0, 0, 0)

    setup = omg_runs.Setup(tmp_path, "8m", 8, omg_runs.SCALES["tiny"], "sim")
    said = omg_report.write(setup, rows)
    assert "| IQL | 37.5 | " in said and " | 8 | 2 | 2 | 2 | 88.6 |" in said and "on the embedded engine" in said
    assert "## 7 homologue, zero-shot" in said and "## 7 homologue, after about 6 episodes" in said
    assert "OMG-optimistic over IQL" in said and "agent's policy takes two seats" in said
    assert (tmp_path / "table.md").read_text() in said and (tmp_path / "figure.png").stat().st_size > 5000
    with (tmp_path / "table.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(row["method"], float(row["won"])) for row in table if row["phase"] == "tuned"] == [("iql", 0.0)]
    with (tmp_path / "episodes.csv").open() as file:
        assert list(csv.DictReader(file)) == rows
    no_paper = omg_report.as_markdown(setup, omg_report.summarise(rows, "3m"), "the embedded engine")
    assert "paper" not in no_paper


def test_shares_of_the_best_response_are_by_member_and_seed():
    best = make_rows("iql", 1, "wwww", teammates=("a",)) + make_rows("iql", 1, "wwll", teammates=("b",))
    best += make_rows("iql", 1, "ll", teammates=("never",))
    rows = make_rows("liam", 1, "wwll", teammates=("a",)) + make_rows("liam", 2, "wwww", teammates=("a",))
    rows += make_rows("liam", 1, "wlll", teammates=("b",)) + make_rows("liam", 2, "wlll", teammates=("b",))
    rows += make_rows("liam", 1, "ll", teammates=("never",))
    rows += [{**row, "teammates": "a+b"} for row in make_rows("liam", 1, "w")]
    shares = omg_report.normalised(rows, best, "7 homologue", "zero-shot")
    assert shares.keys() == {"liam"}
    assert shares["liam"].value == pytest.approx((0.5 + 0.5) / 2)  # of 0.5, 1, 0.5, 0.5 the middle half
    assert 0.5 <= shares["liam"].low <= shares["liam"].high <= 1


def test_the_medium_scale_has_members_that_win_and_best_responses(tmp_path):
    setup = omg_runs.Setup(tmp_path, "8m", 8, omg_runs.SCALES["medium"], "sim")
    for order in omg.pools(setup):
        assert "stop_win_rate=0.8" in order.settings and order.t_max == 500_000
    trainings, tests = omg_runs.best_response_jobs(setup), omg_runs.best_response_tests(setup)
    names = [f"{alg}_8m_sim_seed{seed}" for alg in ("iql", "vdn", "qmix") for seed in (1001, 1002, 1003)]
    assert [job.output.name for job in trainings] == names and len(tests) == 9  # before the pool is there
    training, test = trainings[4], tests[4]
    trained, tested = (command_line.read_settings(*job.arguments) for job in (training, test))
    assert trained["opponent_pool"] == tested["opponent_pool"] == str(setup.test_pool / "vdn_8m_sim_seed1002")
    assert trained["population"] == tested["population"] == {"qmix": 7, "iql": 1}
    assert training.n_steps == 8 * 50_000 and str(training.output) == str(tested["evaluate_path"])
    small = replace(setup, scale=omg_runs.SCALES["small"])
    assert omg_runs.best_response_jobs(small) == omg_runs.best_response_tests(small) == []


def test_the_medium_scale_plays_more_episodes_before_as_many_more_updates(tmp_path):
    setup = omg_runs.Setup(tmp_path, "8m", 8, omg_runs.SCALES["medium"], "sim")
    learning = [*omg_runs.agent_jobs(setup), *omg_runs.best_response_jobs(setup)]
    for job in (omg_runs.prior_job(setup), *learning):
        config = command_line.read_settings(*job.arguments)
        assert (config["batch_size_run"], config["updates_per_round"], config["batch_size"]) == (32, 4, 16)
    periods = ("target_update_interval", "epsilon_anneal_time")
    assert {tuple(map(command_line.read_settings(*job.arguments).get, periods)) for job in learning} == {(800, 160_000)}
    for order in omg.pools(setup):
        assert {"target_update_interval=100", "epsilon_anneal_time=20000"} <= set(order.settings)
    (first, *_) = omg_runs.agent_jobs(replace(setup, map_name="3m", n_agents=3))
    assert command_line.read_settings(*first.arguments)["target_update_interval"] == 300
    tuning = [command_line.read_settings(*job.arguments) for job in omg_runs.tune_jobs(setup)]
    assert {(c["batch_size_run"], c["updates_per_round"], c["batch_size"]) for c in tuning} == {(8, 1, 2), (4, 1, 2)}
    game = [command_line.read_settings(*job.arguments) for job in omg_runs.agent_jobs(replace(setup, engine="game"))]
    assert {config["runner"] for config in game} == {"episode"} and game[0]["updates_per_round"] == 1


def test_members_that_did_not_win_as_often_as_asked_are_marked(tmp_path, monkeypatch):
    setup = omg_runs.Setup(tmp_path, "8m", 8, omg_runs.SCALES["medium"], "sim")
    rates = {"a": 0.82, "b": 0.51, "c": None}
    members = [SimpleNamespace(folder=tmp_path / name, steps=1000, test_win_rate=won) for name, won in rates.items()]
    monkeypatch.setattr(omg_report, "find_members", lambda folder: members if folder == setup.test_pool else [])
    *_, a, b, c = omg_report.as_members(setup, [])
    assert a == "| a | 1,000 | 82 |  |" and b == "| b | 1,000 | 51 (below 80) |  |" and "(below 80)" in c


def test_teams_are_told_apart_by_who_is_in_them_and_not_by_their_seats():
    rows = make_rows("iql", 1, "wwl", teammates=("a",))
    for row, teammates in zip(rows, ("a+b", "b+a", "a+c")):
        row["teammates"] = teammates
    (line,) = omg_report.summarise(rows, "3m")
    assert (line.n_teams, line.n_members) == (2, 3)


@pytest.mark.parametrize(
    ("intervals", "said"),
    [
        ([(0.5, 0.4, 0.6), (0.6, 0.5, 0.7)], "All intervals overlap: the order of the methods can't be told"),
        ([(0.5, 0.4, 0.6), (0.7, 0.61, 0.8)], "No two intervals overlap.*LIAM over IQL"),
        ([(0.5, 0.4, 0.6), (0.7, 0.61, 0.8), (0.55, 0.4, 0.7)], "apart for LIAM over IQL; all other pairs overlap"),
    ],
)
def test_the_order_is_claimed_only_where_intervals_lie_apart(intervals, said):
    made = [
        omg_report.Line("tuned", "2 homologue", name, Estimate(*won), 9, 3, 3, 3, None)
        for name, won in zip(("iql", "liam", "naive_om"), intervals)
    ]
    assert re.search(said, omg_report.in_order(made))


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (("--map=8mm",), "did you mean '8m'"),
        (("--scale=smal",), "did you mean 'small'"),
        (("--engine=game",), "use env_args.engine=sim"),
        (("--jobs=0",), "--jobs=0 must be at least 1"),
        (("--seeds=3",), "--seeds"),
    ],
)
def test_mistakes_are_one_sentence_and_write_nothing(tmp_path, stand_in, capsys, params, said):
    assert stand_in(*params)[0] == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
