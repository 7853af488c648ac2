"""The evaluation of OMG in the paper's small worlds: its runs are valid, it resumes, and its report counts right."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

import main as command_line
from experiments import omg, worlds, worlds_report
from experiments.jobs import Job
from experiments.worlds import CURVE_FIELDS, FORAGING, TEST_FIELDS, OpponentTest, Setup
from utils.errors import UserError
from utils.intervals import Estimate
from utils.records import write_csv


@pytest.fixture
def setup(tmp_path):
    return Setup(tmp_path / "out", FORAGING, replace(FORAGING.scales["small"], ablation_seeds=1, seeds=1))


def test_every_run_is_valid_and_meets_the_right_opponents(setup):
    made = [worlds.prior_job(setup), *worlds.agent_jobs(setup), *worlds.test_jobs(setup)]
    assert len({job.name for job in made}) == len(made) == 1 + 2 * (5 + 4 + 2 + 3)
    by_name = {}
    for name in (
        "prior",
        "agents_d3qn_seed1",
        "agents_supervised_seed1",
        "agents_random_seed1",
        "tests_horizon_10_seed1",
    ):
        job = next(job for job in made if job.name == name)
        config = by_name[name] = command_line.read_settings(*job.arguments)
        learner = config["train_alg"]
        assert config["population"] == {FORAGING.frozen: 1, learner: 1} and config["is_agent_shift"]
        assert config["common_reward"] is False and config["agent"] == "mlp"
        is_test = isinstance(job, OpponentTest)
        assert config["opponent_pool"] == str(setup.test_pool if is_test else setup.train_pool)
        assert is_test or job.n_steps == 2 * config["t_max"]
    assert by_name["agents_random_seed1"]["subgoal_mode"] == "random"
    assert by_name["agents_random_seed1"]["omg_prior_path"] == str(setup.prior / "iql_omg")
    assert by_name["agents_supervised_seed1"]["omg_supervised"]
    assert by_name["tests_horizon_10_seed1"]["omg_horizon"] == 10


def record(job: Job, run: int, name: str, *lines: dict) -> None:
    folder = job.work / "sacred" / str(run)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))


def played(t_env: int, seat: int, returns: list[float], length: int = 10, opponent: str = "a") -> dict:
    return {"t_env": t_env, "seat": seat, "returns": returns, "return": sum(returns), "length": length} | {
        "teammates": [opponent]
    }


def test_curves_are_of_the_learners_seat_and_go_on_where_a_run_was_resumed(setup, monkeypatch):
    job = next(job for job in worlds.agent_jobs(setup) if job.name == "agents_omg_conservative_seed1")
    logged = [{"t_env": t, "key": "episode", "value": t / 10} for t in (100, 200, 300)]
    ratio = {"t_env": 200, "key": "subgoal_hit_ratio", "value": 0.25}
    record(job, 1, "metrics.jsonl", *logged[:2], ratio)
    record(
        job,
        1,
        "test_episodes.jsonl",
        played(100, 0, [4.0, 8.0]),
        played(100, 1, [4.0, 6.0], 20),
        played(200, 0, [0, 0]),
    )
    record(job, 2, "metrics.jsonl", ratio | {"value": 0.5}, logged[2])  # from a checkpoint before step 200
    record(job, 2, "test_episodes.jsonl", played(200, 1, [4.0, 7.0]))
    monkeypatch.setattr(worlds.Training, "publish", lambda job: "published")
    assert job.publish() == "published"
    rows = {(row["key"], row["t_env"]): row for row in worlds.read_rows(job.curves, CURVE_FIELDS)}
    assert {key: float(row["value"]) for key, row in rows.items()} == {
        ("score", "100"): 5.0,
        ("steps", "100"): 15.0,
        ("score", "200"): 7.0,
        ("steps", "200"): 10.0,
        ("subgoal_hit_ratio", "200"): 0.5,
    }
    assert float(rows["score", "200"]["episode"]) == 20 and rows["score", "200"]["method"] == "omg_conservative"


def test_a_test_leaves_the_learners_score_and_is_whole(setup):
    job = worlds.test_jobs(setup)[0]
    job = replace(job, n_episodes=2)
    record(job, 1, "test_episodes.jsonl", played(0, 1, [4.0, 8.0], opponent="x"))
    with pytest.raises(OSError, match="recorded 1 of 2"):
        job.publish()
    record(job, 1, "test_episodes.jsonl", played(0, 1, [4.0, 8.0], opponent="x"), played(0, 0, [2.0, 8.0]))
    assert job.publish() == "score 5.00"
    rows = worlds.read_rows(job.output, TEST_FIELDS)
    assert [(row["seed"], row["score"], row["opponents"]) for row in rows] == [("1", "8.0", "x"), ("1", "2.0", "a")]
    job.output.write_text("other,columns\n1,2\n")
    with pytest.raises(UserError, match="its columns are not method, seed"):
        worlds.read_rows(job.output, TEST_FIELDS)


def test_the_report_has_a_line_for_each_method_and_the_papers_values(setup):
    rng = np.random.default_rng(0)
    for test in worlds.test_jobs(setup):
        steps = 10 if test.method == "omg_conservative" else 14
        rows = [
            dict(zip(TEST_FIELDS, (test.method, test.seed, i, 6 + rng.normal(), steps + i % 2, i % 2, f"o{i % 4}")))
            for i in range(8)
        ]
        test.output.parent.mkdir(parents=True, exist_ok=True)
        write_csv(test.output, TEST_FIELDS, rows)
    for agent in worlds.agent_jobs(setup):
        agent.curves.parent.mkdir(parents=True, exist_ok=True)
        points = [(key, t) for key in ("score", "steps", "subgoal_hit_ratio") for t in (0, 100, 200)]
        rows = [dict(zip(CURVE_FIELDS, (agent.method, agent.seed, t, t / 10, key, t / 100))) for key, t in points]
        write_csv(agent.curves, CURVE_FIELDS, rows)
    said = worlds_report.write(setup)
    assert "| OMG-conservative | " in said and "| 10.50 | " in said and "| 7.12 | 10.90 |" in said
    assert "OMG-conservative below D3QN" in said and "world of this framework" in said
    for name in ("methods", "ablation", "curves", "hit_ratio"):
        assert (setup.out / f"{name}.png").stat().st_size > 5000
    with (setup.out / "table.csv").open() as file:
        table = {row["method"]: row for row in csv.DictReader(file)}
    assert len(table) == 14 and float(table["d3qn"]["steps"]) == 14.5 and table["d3qn"]["paper_steps"] == "12.56"
    assert table["d3qn"]["opponents"] == "4" and table["supervised"]["paper_steps"] == ""


def test_an_order_is_claimed_only_where_intervals_lie_apart():
    def line(title, *steps):
        return worlds_report.Line(title, title, Estimate(1, 1, 1), Estimate(*steps), 8, 2, 4, None)

    overlapping = [line("A", 10, 9, 11), line("B", 10.5, 10, 11)]
    assert worlds_report.order(overlapping, "steps").startswith("All intervals of steps per episode overlap")
    said = worlds_report.order([line("A", 10, 9, 11), line("B", 12, 11.5, 12.5), line("C", 11, 10, 12)], "steps")
    assert said == "Intervals of steps per episode lie apart for A below B."
    scores = [
        worlds_report.Line(title, title, Estimate(n, n - 1, n + 1), Estimate(9, 9, 9), 8, 2, 4, None)
        for title, n in (("A", 10), ("B", 13))
    ]
    assert worlds_report.order(scores, "score") == "Intervals of score lie apart for B above A."


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (("--world=forage",), "did you mean 'foraging'"),
        (("--world=foraging", "--map=3m"), "--map and --engine are for --world=smac"),
        (("--world=foraging", "--scale=medium"), "--scale of --world=foraging"),
    ],
)
def test_mistakes_are_one_sentence_and_write_nothing(tmp_path, capsys, params, said):
    assert omg.main([*params, f"--out={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("runs_here")
@pytest.mark.parametrize("name", ["foraging", "predator_prey"])
def test_the_whole_evaluation_runs_and_goes_on(tmp_path, monkeypatch, capsys, name):
    world = worlds.WORLDS[name]
    few = {"omg_conservative": world.methods["omg_conservative"]}
    monkeypatch.setitem(worlds.WORLDS, name, replace(world, methods=few, ablations={}))
    params = [f"--world={name}", "--scale=tiny", f"--out={tmp_path / 'out'}"]
    assert omg.main(["--plan", *params]) == 0 and not (tmp_path / "out").exists()
    assert omg.main(params) == 0
    said = capsys.readouterr().out
    assert "| OMG-conservative | " in said and "ablation.png" not in said
    with (tmp_path / "out" / "curves.csv").open() as file:
        keys = {(row["method"], row["key"]) for row in csv.DictReader(file)}
    logged = ("score", "steps", *(["subgoal_hit_ratio"] if world.scales["tiny"].prior_t_max else []))  # else too short
    assert keys == {("omg_conservative", key) for key in logged}
    assert omg.main(params) == 0
    assert "--- " not in capsys.readouterr().out  # the report alone
