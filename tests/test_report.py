"""The report: what it reads, which runs it puts together, what it computes and claims, what it writes and refuses."""

import csv
import json
import re
import shutil
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
import yaml

from experiments.report import __main__ as report
from experiments.report import statistics
from experiments.report.against import COLUMNS, compare, read_references, read_rows, write_reference
from experiments.report.groups import group
from experiments.report.page import as_html
from experiments.report.runs import WON, find_runs, read_run
from experiments.report.statistics import Interval, claim, estimate
from experiments.report.summary import summarise
from experiments.report.tables import as_tex, marl_eval
from experiments.report.watch import Latest, make_server
from tests.result_folders import curve, make_run, make_study
from utils.errors import UserError


def results(*places, at=None):
    return group(*find_runs(places), at)


# ------------------------------------------------------------------------------------------------ reading


@pytest.mark.parametrize("layout", ["own", "epymarl", "pymarl"])
def test_the_records_of_all_three_frameworks_are_read(layout, tmp_path):
    run = read_run(make_run(tmp_path / "1", "vdn", "8m", seed=3, layout=layout))
    assert (run.algorithm, run.task.env, run.task.map, run.seed, run.status) == ("vdn", "sc2", "8m", 3, "COMPLETED")
    assert run.curves[WON].values.tolist() == pytest.approx(curve(3))
    assert run.curves[WON].steps.tolist() == [10_000 * i + 21 for i in range(21)]
    assert run.steps_per_second == (250.0 if layout == "own" else pytest.approx(200_021 / 7200))
    assert run.task.engine == ("sim" if layout == "own" else "game")
    assert run.origin == ("" if layout == "own" else "PyMARL")


def test_the_records_of_a_run_of_this_framework_are_read(tmp_path):
    import main

    short = ("t_max=60", "test_interval=30", "test_nepisode=1", "batch_size=1", "rnn_hidden_dim=8")
    arguments = ("--config=iql", "--env-config=goal_game", "with", *short, "seed=4", "use_tensorboard=False")
    assert main.main([*arguments, f"local_results_path={tmp_path}"]) == 0
    ((run,), left_out) = find_runs([tmp_path])
    assert (run.algorithm, run.seed, run.t_max, run.status) == ("iql", 4, 60, "COMPLETED") and run.steps >= 30
    assert not left_out and run.folder == tmp_path / "sacred" / "1"


def test_the_members_of_a_pool_are_runs_that_have_ended(tmp_path):
    make_run(tmp_path / "1", seed=5)
    member = tmp_path / "pool" / "iql_3m_seed5"
    member.mkdir(parents=True)
    config = json.loads((tmp_path / "1" / "config.json").read_text())
    (member / "member.yaml").write_text(yaml.safe_dump({"algorithm": "iql", "config": config}))
    shutil.copy(tmp_path / "1" / "metrics.jsonl", member)
    of_run, of_member = read_run(tmp_path / "1"), find_runs([tmp_path / "pool"])[0][0]
    assert of_member.status == "COMPLETED" and of_member.task == of_run.task and of_member.seed == 5
    assert all(np.array_equal(curve, of_member.curves[key]) for key, curve in of_run.curves.items())


def test_a_run_that_was_killed_is_not_called_running(tmp_path):
    assert read_run(make_run(tmp_path / "1", status="RUNNING")).status == "SILENT"


def test_a_last_line_that_was_torn_is_left_out(tmp_path):
    folder = make_run(tmp_path / "1")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"t_env": 300000, "key": "test_battle_won_mean", "val')
    assert read_run(folder).steps == 200_007


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("config.json", '{"name": "qm', "is no configuration of a run"),
        ("config.json", '{"name": "qmix", "env_args": {}}', "'env' is missing"),
        ("run.json", "[]", "is no record of a run"),
        ("metrics.jsonl", '{"t_env": 1}\n', "line 1, is no record"),
        ("metrics.jsonl", "", "no test yet"),
    ],
)
def test_what_can_not_be_read_is_left_out_by_name_and_the_others_stay(file, content, sentence, tmp_path):
    make_run(tmp_path / "good")
    (make_run(tmp_path / "bad", seed=2) / file).write_text(content)
    runs, ((folder, reason),) = find_runs([tmp_path])
    assert [run.folder.name for run in runs] == ["good"] and folder.name == "bad" and sentence in reason


# ------------------------------------------------------------------------------------------------ grouping


def test_methods_differ_by_the_settings_that_differ_within_a_task(tmp_path):
    make_study(tmp_path / "a", {("qmix", "3m"): 0.8}, lr=0.0005, label="a")
    make_study(tmp_path / "b", {("qmix", "3m"): 0.8}, lr=0.001, label="b")
    make_study(tmp_path / "c", {("vdn", "3m"): 0.8, ("vdn", "8m"): 0.8})
    assert [m.title for m in results(tmp_path).methods] == ["qmix lr=0.0005", "qmix lr=0.001", "vdn"]


def test_a_setting_that_differs_from_map_to_map_only_is_said_and_no_other_method(tmp_path):
    make_study(tmp_path / "a", {("qmix", "3m"): 0.8}, t_max=200_000)
    make_study(tmp_path / "b", {("qmix", "8m"): 0.8}, t_max=200_001)
    found = results(tmp_path)
    assert len(found.methods) == 1 and "qmix: t_max differs (200000, 200001)." in found.notes


def test_a_setting_that_some_runs_do_not_have_makes_two_methods_that_the_page_shows(tmp_path):
    """Runs of before and after a setting was added, say."""
    make_run(tmp_path / "without", seed=1)
    config = make_run(tmp_path / "with", seed=1) / "config.json"
    content = json.loads(config.read_text())
    content["env_args"]["rules"] = {"scan_period_loops": 8}
    config.write_text(json.dumps(content))
    found = results(tmp_path)
    assert len(found.methods) == 2
    assert "env_args.rules.scan_period_loops=8" in as_html(summarise(found), [tmp_path])


def make_runs_against(place, finals, seeds=range(1, 4), trained="bot"):
    """Runs whose tests meet several enemies, and come to about these win rates against each."""
    for seed in seeds:
        folder = make_run(place / f"{trained}_{seed}".replace(":", "_"), seed=seed, won=curve(seed, 0.5))
        config = json.loads((folder / "config.json").read_text())
        config["env_args"] |= {"enemy": trained, "test_enemies": list(finals)}
        (folder / "config.json").write_text(json.dumps(config))
        with (folder / "metrics.jsonl").open("a") as file:
            for name, final in finals.items():
                key = f"test_vs_{name.replace(':', '_')}_battle_won_mean"
                for k, won in enumerate(curve(seed, final)):
                    file.write(
                        json.dumps({"t_env": 10_000 * k + 7 * seed, "key": key, "value": won, "time": 0.0}) + "\n"
                    )


def test_runs_on_a_map_file_that_was_changed_between_them_are_never_pooled(tmp_path):
    for seed, n_enemies in ((1, 1), (2, 9), (3, 9)):
        folder = make_run(tmp_path / str(seed), seed=seed)
        config = json.loads((folder / "config.json").read_text())
        config["env_args"] |= {"map_name": "mine.yaml"}
        config["resolved"] |= {"map": {"enemies": n_enemies}}
        (folder / "config.json").write_text(json.dumps(config))
    found = results(tmp_path)
    assert sorted(len(cell.values) for cell in found.cells.values()) == [1, 2]
    assert len({task.title for task in found.tasks}) == 2
    assert all(task.title.startswith("mine.yaml (") for task in found.tasks)


def test_results_against_several_enemies_are_never_pooled(tmp_path):
    make_runs_against(tmp_path, {"bot": 0.9, "script:kite": 0.2})
    make_runs_against(tmp_path, {"bot": 0.7, "script:kite": 0.6}, trained="script:kite")
    found = results(tmp_path)
    assert [task.title for task in found.tasks] == ["3m", "3m against script:kite"]
    assert len(found.suites) == 2
    assert [method.title for method in found.methods] == ["qmix enemy=bot", "qmix enemy=script:kite"]
    means = {(task.enemy, method.settings[0][1]): cell.values.mean() for (task, method), cell in found.cells.items()}
    wanted = {("", "bot"): 0.9, ("script:kite", "bot"): 0.2, ("", "script:kite"): 0.7}
    assert means == pytest.approx({**wanted, ("script:kite", "script:kite"): 0.6}, abs=0.06)
    page = as_html(summarise(found), [tmp_path])
    assert "against script:kite" in page and "Results of 6 runs" in page
    title, methods, *rows = report.by_enemy(summarise(found))
    assert title == "3m by enemy, sc2, the embedded engine (not StarCraft II), version 2"
    assert methods.split() == ["qmix", "enemy=bot", "qmix", "enemy=script:kite"]
    assert [row.split()[0] for row in rows] == ["bot", "script:kite"]
    shown = [[float(number) for number in re.findall(r" (\d\.\d+) \(", row)] for row in rows]
    assert shown == [pytest.approx(row, abs=0.06) for row in ([0.9, 0.7], [0.2, 0.6])]
    make_run(tmp_path / "other" / "1")
    assert report.by_enemy(summarise(results(tmp_path / "other"))) == []


def test_a_run_against_one_other_enemy_is_of_another_task_than_one_against_the_bot(tmp_path):
    make_run(tmp_path / "1")
    folder = make_run(tmp_path / "2", seed=2)
    config = json.loads((folder / "config.json").read_text())
    config["env_args"]["enemy"] = "script:hold"
    (folder / "config.json").write_text(json.dumps(config))
    assert [task.enemy for task in results(tmp_path).tasks] == ["", "script:hold"]


def test_engines_versions_and_frameworks_are_never_pooled(tmp_path):
    make_run(tmp_path / "1", version="1")
    make_run(tmp_path / "2", version="2", seed=2)
    make_run(tmp_path / "3", engine="game", version="4.10", seed=3)
    make_run(tmp_path / "4", layout="pymarl", seed=4)
    found = results(tmp_path)
    assert len(found.suites) == 4 and all(len(cell.runs) == 1 for cell in found.cells.values())
    assert any("never averaged or compared" in note for note in found.notes)
    with_origin = {method.title for method in found.methods}
    assert with_origin == {"qmix", "qmix (PyMARL)"}


def test_a_seed_counts_once_and_the_run_that_came_furthest_stays(tmp_path):
    make_run(tmp_path / "begun", won=curve(1)[:5], t_max=200_000, status="INTERRUPTED")
    make_run(tmp_path / "resumed")
    found = results(tmp_path)
    ((run,),) = (cell.runs for cell in found.cells.values())
    assert run.folder.name == "resumed"
    ((folder, reason),) = found.left_out
    assert folder.name == "begun" and "seed 1 of the same settings is there" in reason


def test_only_finished_runs_score_and_missing_cells_are_named(tmp_path):
    make_study(tmp_path, {("qmix", "3m"): 0.8, ("qmix", "8m"): 0.8, ("vdn", "3m"): 0.8})
    make_run(tmp_path / "late", "vdn", "8m", won=curve(1)[:11], t_max=200_000, status="RUNNING")
    found = results(tmp_path)
    assert found.missing() == ["vdn on 8m: 0 of 3 runs finished; seed 1 at 50% (SILENT)"]
    late = results(tmp_path, at=100_000)
    assert late.missing() == ["vdn on 8m: 1 of 3 runs finished"]
    (score,) = next(cell.scores for (task, m), cell in late.cells.items() if (task.map, m.algorithm) == ("8m", "vdn"))
    assert score.last == pytest.approx(np.mean(curve(1)[5:10]))  # the test at 100,007 steps is later than asked for


# ------------------------------------------------------------------------------------------------ statistics


def test_estimates_are_those_of_the_papers():
    """Interquartile mean, optimality gap and P(X > Y) of a case that is small enough for pencil and paper."""
    x, y = [np.array([0.0, 0.4, 0.6, 1.0]), np.array([0.2, 0.4, 0.8, 1.2])], [np.array([0.5]), np.array([0.4])]
    assert statistics.mean(*x) == pytest.approx((0.5 + 0.65) / 2)
    assert statistics.iqm(*x) == pytest.approx(np.mean([0.4, 0.4, 0.6, 0.8]))
    assert statistics.optimality_gap(*x) == pytest.approx(1 - (0.5 + 0.6) / 2)  # 1.2 counts as 1
    assert statistics.improvement(*x, *y) == pytest.approx((2 / 4 + 2.5 / 4) / 2)  # 0.4 against 0.4 is a half
    band = statistics.profile(x, np.array([0.5]))
    assert band.value == pytest.approx([(2 / 4 + 2 / 4) / 2])


def test_estimates_are_those_of_rliable():
    metrics = pytest.importorskip("rliable.metrics", reason="rliable is not installed")
    rng = np.random.default_rng(1)
    x, y = rng.random((9, 3)), rng.random((7, 3))  # [run, task]
    tasks = [list(scores.T) for scores in (x, y)]
    assert statistics.iqm(*tasks[0]) == pytest.approx(metrics.aggregate_iqm(x))
    assert statistics.optimality_gap(*tasks[0]) == pytest.approx(metrics.aggregate_optimality_gap(x))
    assert statistics.improvement(*tasks[0], *tasks[1]) == pytest.approx(metrics.probability_of_improvement(x, y))


def test_seeds_are_drawn_within_each_task():
    """Tasks that differ widely, whose seeds agree, leave no doubt; drawing scores of all tasks would."""
    found = estimate([np.full(5, 0.1), np.full(5, 0.9)], statistics.mean)
    assert found == pytest.approx((0.5, 0.5, 0.5))


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    inside = [
        found.low <= 0.5 <= found.high for found in (estimate([rng.random(10)], statistics.mean) for _ in range(100))
    ]
    assert 0.84 <= np.mean(inside) <= 1.0


def test_one_seed_has_no_interval():
    assert estimate([np.array([0.3])], statistics.mean) == Interval(0.3, None, None)


APART = [Interval(0.9, 0.85, 0.95), Interval(0.5, 0.45, 0.55)]


@pytest.mark.parametrize(
    ("intervals", "seeds", "sentences"),
    [
        (APART, [10, 12], ["a is above b."]),
        (APART[::-1], [10, 10], ["b is above a."]),
        (
            APART,
            [10, 9],
            [
                "No claim, though intervals lie apart (a is above b): a claim takes 10 seeds of both, and there are 9.",
            ],
        ),
        ([APART[0], Interval(0.8, 0.7, 0.86)], [10, 10], ["All intervals overlap: no order can be told."]),
    ],
)
def test_a_claim_takes_intervals_that_lie_apart_and_ten_seeds(intervals, seeds, sentences):
    assert claim(["a", "b"], intervals, seeds) == sentences


def test_nothing_is_claimed_of_single_runs():
    (sentence,) = claim(["a", "b"], [Interval(0.9, None, None), Interval(0.1, None, None)], [1, 1])
    assert "fewer than two finished runs" in sentence


def test_runs_of_different_lengths_are_not_compared_unless_at_equal_steps(tmp_path):
    make_study(tmp_path, {("qmix", "3m"): 0.9})
    make_study(tmp_path, {("vdn", "3m"): 0.4}, interval=5_000)
    (suite,) = summarise(results(tmp_path)).suites
    assert "--at STEPS" in suite.claims[0] and not suite.improvement
    (suite,) = summarise(results(tmp_path, at=90_000)).suites
    assert "--at STEPS" not in suite.claims[0] and len(suite.improvement) == 2


def test_a_curve_is_the_mean_of_the_runs_that_have_come_so_far(tmp_path):
    make_run(tmp_path / "1", won=[0.0] * 5, t_max=40_000)
    make_run(tmp_path / "2", won=[1.0] * 3, t_max=40_000, seed=2)
    (cell,) = summarise(results(tmp_path)).cells.values()
    assert cell.curve.n_runs.tolist() == [2, 2, 2, 1, 1]
    assert cell.curve.band.value.tolist() == pytest.approx([0.5, 0.5, 0.5, 0, 0])
    assert np.isnan(cell.curve.band.low[-1]) and cell.curve.band.low[0] == 0 and cell.curve.band.high[0] == 1


def test_returns_are_normalised_where_nothing_can_be_won(tmp_path):
    for seed, top in ((1, 10.0), (2, 30.0)):
        folder = make_run(tmp_path / str(seed), won=[0.0, top / 20, top / 20], seed=seed)
        kept = [line for line in (folder / "metrics.jsonl").open() if "battle_won" not in line]
        (folder / "metrics.jsonl").write_text("".join(kept))
    found = results(tmp_path)
    (task,) = found.tasks
    assert found.normalised(task, np.array([0.0, 15.0, 30.0])).tolist() == pytest.approx([0, 0.5, 1])


# ------------------------------------------------------------------------------------------------ what is written


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "results"
    make_study(folder, {("qmix", "3m"): 0.9, ("qmix", "8m"): 0.8, ("iql_omg", "3m"): 0.5, ("iql_omg", "8m"): 0.4})
    return folder


@pytest.mark.slow
def test_the_command_writes_page_figures_and_tables(study, tmp_path, capsys):
    out = tmp_path / "report"
    assert report.main([str(study), "--out", str(out)]) == 0
    assert {file.name for file in out.iterdir()} == {
        *("report.html", "figures", "table.csv", "table.tex", "runs.csv", "marl_eval.json")
    }
    for kind in ("curves", "aggregates", "profiles", "efficiency", "improvement"):
        for ending, magic in (("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")):
            assert (out / "figures" / f"{kind}_sc2_sim_2.{ending}").read_bytes().startswith(magic)
    with (out / "table.csv").open() as file:
        rows = {(row["map"], row["algorithm"]): row for row in csv.DictReader(file)}
    wins = [np.mean(curve(seed + 400, 0.9)[-5:]) for seed in (1, 2, 3)]
    row = rows["3m", "qmix"]
    assert float(row["mean"]) == pytest.approx(np.mean(wins)) and float(row["low"]) == pytest.approx(min(wins))
    assert (row["finished"], row["engine"], row["engine_version"]) == ("3", "sim", "2")
    with (out / "runs.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 12
    said = capsys.readouterr().out
    assert "3 of 3 runs" in said and "a claim takes 10 seeds of both, and there are 3" in said


def test_the_table_for_latex_escapes_names(study):
    text = as_tex(summarise(results(study)))
    assert r"iql\_omg & " in text and text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1


def test_the_absolute_metric_is_shown_where_all_runs_have_it(tmp_path):
    make_run(tmp_path / "1", absolute=0.7)
    make_run(tmp_path / "2", absolute=0.9, seed=2)
    summary = summarise(results(tmp_path))
    (cell,) = summary.cells.values()
    assert cell.absolute.value == pytest.approx(0.8)
    assert "best checkpoint 80" in as_html(summary, [tmp_path])


def test_marl_eval_gets_the_part_that_is_complete(study):
    make_run(study / "extra", "vdn", "3m", seed=1)
    make_run(study / "fourth", "qmix", "3m", seed=4)
    content = marl_eval(results(study))
    (tasks,) = content.values()
    assert tasks.keys() == {"3m", "8m"}
    for algorithms in tasks.values():
        assert algorithms.keys() == {"qmix", "iql_omg"}
        for runs in algorithms.values():
            assert runs.keys() == {"run_0", "run_1", "run_2"}
            for run in runs.values():
                assert run.keys() == {"absolute_metrics", *(f"step_{k}" for k in range(21))}
                assert run["step_3"].keys() == {"step_count", "battle_won", "return"}
                assert run["absolute_metrics"].keys() == {"battle_won", "return"}
                assert all(isinstance(value, list) for value in run["absolute_metrics"].values())


def test_marl_eval_itself_loads_the_file(study):
    processing = pytest.importorskip("marl_eval.utils.data_processing_utils", reason="marl-eval is not installed")
    from marl_eval.utils.diagnose_data_errors import DiagnoseData

    content = json.loads(json.dumps(marl_eval(results(study))))
    assert all(found["valid_algorithms"] for found in DiagnoseData(content).check_data().values())
    processed = processing.data_process_pipeline(content, metrics_to_normalize=["return"])
    scores, _ = processing.create_matrices_for_rliable(processed, "sc2_sim_2", metrics_to_normalize=["return"])
    assert {of.shape for metric in scores.values() for of in metric.values()} == {(3, 2)}  # runs, tasks


def test_the_page_needs_nothing_from_elsewhere_and_shows_names_as_text(tmp_path):
    make_run(tmp_path / "1", "<script>alert(1)</script>")
    page = as_html(summarise(results(tmp_path)), [tmp_path])
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page
    assert "<script src" not in page and '<link rel="stylesheet' not in page


def test_the_page_says_when_there_are_too_few_seeds(tmp_path):
    make_run(tmp_path / "1")
    assert "No cell has two finished runs, so there are no intervals" in as_html(summarise(results(tmp_path)), [])
    make_run(tmp_path / "2", seed=2)
    assert "Finished seeds per cell: 2 to 2. A claim takes at least 10" in as_html(summarise(results(tmp_path)), [])


@pytest.mark.slow
def test_a_watched_report_follows_the_runs(study):
    latest = Latest([study], None, every_seconds=5)
    assert latest.update() and not latest.update()
    with make_server(latest, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        assert b"Results of 12 runs" in urllib.request.urlopen(f"{address}/").read()
        stamp = urllib.request.urlopen(f"{address}/stamp").read()
        make_run(study / "new", "qmix", "3m", seed=9)
        assert latest.update()
        assert b"Results of 13 runs" in urllib.request.urlopen(f"{address}/").read()
        assert urllib.request.urlopen(f"{address}/stamp").read() != stamp
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{address}/etc/passwd")
        with pytest.raises(UserError, match="--port"):
            make_server(latest, server.server_address[1])
        server.shutdown()


# ------------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["empty"], "there are no runs with tests in empty; give folders"),
        (["torn"], "of 1 folders none can be used: "),
        (["runs", "--at", "0"], "--at=0 must be at least 1"),
        (["runs", "--watch", "--port", "99999"], "--port=99999 can't be used"),
        (["runs", "--out", "file"], "--out"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_written(given, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    make_run(tmp_path / "runs")
    (make_run(tmp_path / "torn") / "config.json").write_text("{")
    assert report.main(given) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("package", ["scipy", "plotly.offline"])
def test_a_package_that_is_missing_is_named_with_the_command(package, study, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    assert report.main([str(study), "--out", str(tmp_path / "out")]) == 2
    assert "pip install -r requirements-report.txt" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_report_is_replaced_whole(study, tmp_path):
    out = tmp_path / "out"
    assert report.main([str(study), "--out", str(out)]) == 0
    shutil.rmtree(study / "qmix_3m")
    assert report.main([str(study), "--out", str(out)]) == 0
    assert "Results of 9 runs" in (out / "report.html").read_text()


# ------------------------------------------------------------------------------------------------ references


@pytest.fixture
def reference(tmp_path):
    """Five seeds of QMIX on 3m, and one of VDN."""
    make_study(tmp_path / "theirs", {("qmix", "3m"): 0.8}, seeds=range(1, 6))
    make_study(tmp_path / "theirs", {("vdn", "3m"): 0.6}, seeds=range(1, 2))
    folder = tmp_path / "reference"
    write_reference(find_runs([tmp_path / "theirs"])[0], ["t_max"], folder / "suite.csv")
    (folder / "published.csv").write_text("map,algorithm,won_percent,source\n3m,qmix,99,somewhere\n")
    return folder


@pytest.mark.parametrize(
    ("algorithm", "final", "said"),
    [
        ("qmix", 0.8, "within"),
        ("qmix", 0.3, "below"),
        ("qmix", 1.0, "above"),
        ("vdn", 0.6, "one seed of the reference: no interval"),
        ("iql", 0.6, "none"),
    ],
)
def test_runs_lie_within_above_or_below_a_reference(reference, tmp_path, algorithm, final, said):
    make_run(tmp_path / "mine", algorithm, "3m", 9, curve(9, final))
    (found,) = compare(summarise(results(tmp_path / "mine")), read_references(reference))
    assert found.verdict == said and found.here == pytest.approx(np.mean(curve(9, final)[-6:-1]), abs=0.05)


def test_a_reference_of_another_engine_version_or_other_settings_is_not_used(reference, tmp_path):
    make_run(tmp_path / "mine", version="3")
    (found,) = compare(summarise(results(tmp_path / "mine")), read_references(reference))
    assert found.verdict == "none of this engine version" and found.reference is None
    (reference / "suite.csv").unlink()
    write_reference(find_runs([tmp_path / "theirs"])[0], ["lr"], reference / "suite.csv")
    make_run(tmp_path / "other", lr=0.1)
    (found,) = compare(summarise(results(tmp_path / "other")), read_references(reference))
    assert found.verdict == "none"


def test_runs_that_are_shorter_are_compared_where_they_are(reference, tmp_path):
    make_run(tmp_path / "mine", won=curve(401, 0.8)[:11], t_max=200_000)
    (found,) = compare(summarise(results(tmp_path / "mine")), read_references(reference))
    assert found.step == 100_007 and found.verdict == "within"


@pytest.mark.slow
def test_the_report_shows_references_and_published_values(reference, tmp_path, capsys):
    make_run(tmp_path / "mine")
    out = tmp_path / "out"
    assert report.main([str(tmp_path / "mine"), "--out", str(out), "--against", str(reference)]) == 0
    assert "within; published 99 (somewhere)" in capsys.readouterr().out
    assert "Against the reference" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "holds no reference curves"),
        ("a,b\n1,2\n", "is no file of a reference"),
        (f"{','.join(COLUMNS)}\na,b,c,d,e,,1,f,x,1,1\n", "line 2"),
    ],
)
def test_a_folder_that_is_no_reference_is_refused(content, sentence, tmp_path, capsys):
    make_run(tmp_path / "mine")
    (tmp_path / "reference").mkdir()
    if content:
        (tmp_path / "reference" / "suite.csv").write_text(content)
    words = [str(tmp_path / "mine"), "--out", str(tmp_path / "out"), "--against", str(tmp_path / "reference")]
    assert report.main(words) == 2
    assert sentence in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_reference_command_checks_short_runs_against_their_bands(reference, tmp_path, monkeypatch, capsys):
    from experiments import reference as command

    monkeypatch.setattr(command, "FOLDER", reference)
    made, final = [], []

    def train(args, runs, out):
        made.extend(runs)
        for run in runs:
            won = curve(run.settings["seed"] + 400, final[-1])
            make_run(out / "runs" / str(len(made)) / run.output.name, "qmix", "3m", run.settings["seed"], won)
        return 0

    monkeypatch.setattr(command.sweep, "train", train)
    words = ["--short", "--check", "--algs", "qmix", "--seeds", "1", "--out"]
    for share, status, said in ((0.8, 0, "within"), (0.2, 1, "below")):
        final.append(share)
        assert command.main([*words, str(tmp_path / said)]) == status
        captured = capsys.readouterr()
        assert "qmix on 3m: " in captured.out and said in captured.out
    assert "1 of 1 methods are not within their bands" in captured.err
    assert {"t_max=20000", "env_args.engine=sim"} <= set(made[0].arguments)
    assert command.main(["--algs", "qmixx", "--plan"]) == 2 and "did you mean 'qmix'" in capsys.readouterr().err
    assert command.main([*words[:4], "--export", "--seeds", "1..2", "--out", str(tmp_path / "new")]) in (0, 1)
    assert (reference / "short.csv").is_file() and "3m" in (reference / "short.yaml").read_text()


def test_a_reference_grows_by_parts_and_holds_one_version_of_an_engine(tmp_path):
    file = tmp_path / "reference" / "suite.csv"

    def export(name, seeds, share, version="4"):
        for seed in seeds:
            make_run(tmp_path / name / str(seed), "qmix", "3m", seed, curve(seed, share), t_max=1, version=version)
        write_reference(find_runs([tmp_path / name])[0], ["t_max"], file)
        return {
            (row["seed"], row["engine_version"]): row["won"] for row in read_rows(file, COLUMNS)
        }  # of the last test

    first = export("first", [1, 2], 0.5)
    both = export("second", [2, 10], 0.9)
    assert set(both) == {("1", "4"), ("2", "4"), ("10", "4")}
    assert both["1", "4"] == first["1", "4"] and both["2", "4"] != first["2", "4"]
    assert set(export("third", [3], 0.9, version="5")) == {("3", "5")}
