"""Trackers beside Sacred: what they record offline, that a failing one costs no run, and what is missing is said."""

import importlib.util
import logging
import sys
from types import SimpleNamespace

import pytest

import main
from utils import trackers
from utils.errors import UserError
from utils.logging import Logger

SHORT = ("t_max=40", "test_interval=20", "test_nepisode=1", "batch_size=1", "rnn_hidden_dim=8", "seed=1")


@pytest.fixture
def fake_wandb(monkeypatch):
    """Stands in for the package: keeps what it is asked."""
    asked = []

    class Run:
        def define_metric(self, name, step_metric):
            asked.append(("metric", name, step_metric))

        def log(self, values):
            asked.append(("log", values))

        def finish(self):
            asked.append(("finish",))

    def init(**given):
        asked.append(("init", given))
        return Run()

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Settings=dict, teardown=lambda: None))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    return asked


def test_statistics_reach_the_tracker_at_their_steps_and_offline(fake_wandb, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    logger = Logger(logging.getLogger("tests"))
    logger.setup_tracker(trackers.open_tracker("wandb", tmp_path / "wandb", "qmix_3m", {"lr": 0.1}))
    logger.log_stat("loss", 0.5, 120)
    logger.close()
    logger.log_stat("loss", 0.4, 130)
    ((_, given), metric, logged, end) = fake_wandb
    assert given["mode"] == "offline" and given["config"] == {"lr": 0.1} and given["name"] == "qmix_3m"
    assert metric == ("metric", "*", "t_env") and logged == ("log", {"loss": 0.5, "t_env": 120}) and end == ("finish",)


def test_a_tracker_that_fails_costs_a_warning_and_not_the_run(fake_wandb, tmp_path, monkeypatch, caplog):
    tracker = trackers.open_tracker("wandb", tmp_path, "run", {})
    monkeypatch.setattr(tracker._tracker, "_run", None)
    for t in range(3):
        tracker.log("loss", 1.0, t)
    tracker.close()
    assert caplog.text.count("the run goes on without it") == 1


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_package_that_is_missing_is_named_before_anything_is_written(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=f"tracker={name} needs a package that is not installed; .*pip install {name}"):
        trackers.check_tracker(name)
    folder = tmp_path / "results"
    words = ["--config=iql", "--env-config=goal_game", "with", f"tracker={name}", f"local_results_path={folder}"]
    assert main.main(words) == 2
    assert "pip install" in capsys.readouterr().err and not folder.exists()


@pytest.mark.slow
def test_a_run_leaves_an_offline_folder_of_wandb(tmp_path):
    pytest.importorskip("wandb", reason="wandb is not installed")
    words = [
        "--config=iql",
        "--env-config=goal_game",
        "with",
        *SHORT,
        "tracker=wandb",
        f"local_results_path={tmp_path}",
    ]
    assert main.main(words) == 0
    (file,) = tmp_path.glob("wandb/wandb/offline-run-*/run-*.wandb")
    assert b"test_return_mean" in file.read_bytes()


@pytest.mark.slow
def test_a_run_leaves_its_curves_and_settings_in_a_database_of_mlflow(tmp_path, monkeypatch):
    tracking = pytest.importorskip("mlflow.tracking", reason="mlflow is not installed")
    pytest.importorskip("sqlalchemy", reason="mlflow is not installed whole")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    words = [
        "--config=iql",
        "--env-config=goal_game",
        "with",
        *SHORT,
        "tracker=mlflow",
        f"local_results_path={tmp_path}",
    ]
    assert main.main(words) == 0
    client = tracking.MlflowClient(f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("pymarl").experiment_id])
    assert run.data.params["rnn_hidden_dim"] == "8" and run.info.status == "FINISHED"
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "test_return_mean")]
    assert len(steps) >= 2 and steps == sorted(steps)
