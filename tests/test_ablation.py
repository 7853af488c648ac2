"""The ablation of OMG's choices: its table, that it resumes, and what it refuses."""

import csv

import pytest

import main as command_line
from experiments import ablation, jobs
from experiments.ablation import COLUMNS, VARIANTS, summarise
from run import population_factor

# Stands in for main.py: leaves the records of a run whose share of won tests is a tenth of its seed.
STAND_IN = """
import json, sys
from pathlib import Path
given = dict(word.lstrip("-").split("=", 1) for word in sys.argv[1:] if "=" in word)
records = Path(given["local_results_path"], "sacred", "1")
records.mkdir(parents=True)
(records / "config.json").write_text("{}")
line = {"t_env": 60, "key": "test_battle_won_mean", "value": int(given["seed"]) / 10}
(records / "metrics.jsonl").write_text(json.dumps(line) + "\\n")
"""


def test_variants_are_compared_over_seeds_and_finished_runs_stay(tmp_path, capsys, monkeypatch):
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(jobs, "MAIN", script)
    command = ["--variants", "iql", "mean+next", "iql", "--seeds", "1", "2", "1", "--out", str(tmp_path)]
    assert ablation.main(command) == 0
    with (tmp_path / "table.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["variant"], row["n_seeds"]) for row in rows] == [("iql", "2"), ("mean+next", "2")]
    assert [row["seeds"] for row in rows] == ["0.10 0.20"] * 2
    assert "engine" in (tmp_path / "table.md").read_text()
    curves = {file: file.stat().st_mtime_ns for file in (tmp_path / "curves").iterdir()}
    assert len(curves) == 4
    assert ablation.main(command) == 0
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "curves").iterdir()} == curves
    assert "| mean+next | 2 |" in capsys.readouterr().out
    assert ablation.main([*command, "--set", "lr=0.001"]) == 2
    assert "was begun with set=[], not ['lr=0.001']" in capsys.readouterr().err
    settings = tmp_path / "settings.yaml"
    settings.write_text(settings.read_text().replace("teammates: null", "teammates: pool"))
    assert ablation.main(command) == 2
    assert "was begun with teammates=pool, not None" in capsys.readouterr().err
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "curves").iterdir()} == curves


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_run_of_each_variant_is_one_that_there_is(variant, tmp_path):
    args = ablation._parse(["--variants", variant, "--seeds", "1", "--out", str(tmp_path)])
    (job,) = ablation.jobs(args)
    config = command_line.read_settings(*job.arguments)
    assert config["seed"] == 1 and config["dueling"] is True
    for setting in VARIANTS[variant]:
        key, _, value = setting.partition("=")
        assert str(config[key]) == value


def test_settings_reach_all_runs_or_those_of_omg(tmp_path):
    given = ["--seeds", "1", "--variants", "iql", "eta_steps=learner", "--set", "lr=0.001", "--out", str(tmp_path)]
    jobs = ablation.jobs(ablation._parse([*given, "--set_omg", "eta_steps=environment", "omg_horizon=3"]))
    iql, omg = (command_line.read_settings(*job.arguments) for job in jobs)
    assert iql["lr"] == omg["lr"] == 0.001 and "omg_horizon" not in iql
    assert omg["omg_horizon"] == 3 and omg["eta_steps"] == "learner"  # the variant's own


def test_a_run_has_as_many_tests_in_one_seat_as_with_a_team(tmp_path):
    for teammates in ([], ["--teammates", str(tmp_path)]):
        args = ablation._parse(["--variants", "iql", "--seeds", "1", "--out", str(tmp_path), *teammates])
        (job,) = ablation.jobs(args)
        config = command_line.read_settings(*job.arguments)
        assert job.n_steps == config["t_max"] * (population_factor(config) or 1)
        assert job.n_steps == config["test_interval"] * ablation.N_TESTS


def test_a_row_is_the_mean_over_seeds_of_the_last_tests(tmp_path):
    jobs = []
    for seed, wins in ((1, [0.9, *[0.2] * 5]), (2, [0.0, *[0.4] * 5])):
        output = tmp_path / f"{seed}.csv"
        lines = ["key,t_env,value", *(f"test_battle_won_mean,{t},{won}" for t, won in enumerate(wins))]
        output.write_text("\n".join([*lines, "omg_skill,5,0.25"]) + "\n")
        jobs.append(ablation.Curve("x", (), 1, output, tmp_path, variant="paper", seed=seed))
    (row,) = summarise(jobs)
    assert row["last_tests"] == pytest.approx(0.3) and row["seeds"] == "0.20 0.40"
    assert row["low"] < 0.3 < row["high"] and row["best_test"] == pytest.approx(0.65)
    assert row["omg_skill"] == 0.25 and row["omg_active_units"] is None
    assert set(COLUMNS) <= row.keys()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--map", "9m"], "--map: unknown map '9m'"),
        (["--variants", "means"], "--variants: unknown variant 'means'"),
        (["--t_max", "0"], "--t_max"),
        (["--variants", "iql", "--seeds", "-1"], "seed"),
        (["--set", "nonsense=3"], "unknown key 'nonsense'"),
        (["--set_omg", "nonsense=3"], "unknown key 'nonsense'"),
        (["--teammates", "nowhere"], "nowhere holds no members"),
    ],
)
def test_what_can_not_be_meant_is_refused(given, sentence, capsys, tmp_path):
    assert ablation.main([*given, "--out", str(tmp_path / "new")]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_each_variant_changes_something_else():
    assert len(set(VARIANTS.values()) - {()}) == len(VARIANTS) - 2  # IQL and the paper's reading have no settings
