"""The ablation of OMG's choices: its table, that it resumes, and what it refuses."""

import csv

import pytest

from experiments import ablation
from experiments.ablation import COLUMNS, VARIANTS, summarise

pytestmark = pytest.mark.slow
SHORT = ("--t_max", "60", "--set", "test_nepisode=1", "batch_size=1", "rnn_hidden_dim=8")


def test_variants_are_compared_over_seeds_and_finished_runs_stay(tmp_path, capsys):
    command = ["--variants", "iql", "mean+next", "--seeds", "1", "2", "--out", str(tmp_path), *SHORT]
    assert ablation.main(command) == 0
    with (tmp_path / "table.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["variant"], row["n_seeds"]) for row in rows] == [("iql", "2"), ("mean+next", "2")]
    assert "engine" in (tmp_path / "table.md").read_text()
    curves = {file: file.stat().st_mtime_ns for file in (tmp_path / "curves").iterdir()}
    assert len(curves) == 4
    assert ablation.main(command) == 0
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "curves").iterdir()} == curves
    assert "| mean+next | 2 |" in capsys.readouterr().out


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
    ],
)
def test_what_can_not_be_meant_is_refused(given, sentence, capsys, tmp_path):
    assert ablation.main([*given, "--out", str(tmp_path / "new")]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_each_variant_changes_something_else():
    assert len(set(VARIANTS.values()) - {()}) == len(VARIANTS) - 2  # IQL and the paper's reading have no settings
