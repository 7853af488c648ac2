"""Files of JSON lines, test episodes in them, and curves that the real TensorBoard shows."""

import importlib.util
import json
import logging
import re
import subprocess
import sys
import time
import urllib.request
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import main
import run
from tests.games import EndlessGame, RandomGame, configure, registered
from utils import curves
from utils.curves import curve_writer
from utils.errors import UserError
from utils.logging import Logger
from utils.records import JsonLines, read_json_lines
from utils.seeding import world_seeds

SHORT = {
    "t_max": 60, "batch_size": 4, "buffer_size": 8, "rnn_hidden_dim": 8, "test_interval": 30, "test_nepisode": 4,
    "log_interval": 20, "runner_log_interval": 20, "learner_log_interval": 20, "seed": 1,
}  # fmt: skip


class Sacred:
    """Stands in for Sacred's run with the number 1."""

    def __init__(self):
        self._id = 1
        self.info = {}

    def log_scalar(self, name, value, step):
        pass


def played(folder, game=RandomGame, **settings):
    """A short run with a folder of records: its lines of metrics and of test episodes, and Sacred's info."""
    records = folder / "sacred" / "1"
    records.mkdir(parents=True)
    sacred = Sacred()
    with registered(game):
        config = configure("iql", local_results_path=folder, **(SHORT | settings))
        run.run(sacred, config, logging.getLogger("tests"))
    return *(list(read_json_lines(records / f"{name}.jsonl")) for name in ("metrics", "test_episodes")), sacred.info


# --- lines


def test_lines_are_on_disk_as_soon_as_they_are_written_and_are_only_added_to(tmp_path):
    path = tmp_path / "lines.jsonl"
    for value in (1, 2):
        lines = JsonLines(path)
        lines.append({"value": value})
        assert list(read_json_lines(path))[-1] == {"value": value}
        lines.close()
    assert path.read_text() == '{"value": 1}\n{"value": 2}\n'


def test_a_torn_last_line_is_left_out(tmp_path):
    (tmp_path / "lines.jsonl").write_text('{"value": 1}\n{"val')
    assert list(read_json_lines(tmp_path / "lines.jsonl")) == [{"value": 1}]


def test_every_statistic_has_its_line(tmp_path):
    metrics, _, info = played(tmp_path)
    for key in info.keys() - {key for key in info if key.endswith("_T")}:
        lines = [line for line in metrics if line["key"] == key]
        assert [line["value"] for line in lines] == info[key] and [line["t_env"] for line in lines] == info[f"{key}_T"]
        assert all(line["time"] > 1.7e9 for line in lines)
    assert any(line["key"] == "steps_per_second" for line in metrics)  # which is not for Sacred


def test_without_a_folder_of_records_there_are_no_lines(tmp_path):
    with registered(RandomGame):
        run.run(Sacred(), configure("iql", local_results_path=tmp_path, **SHORT), logging.getLogger("tests"))
    assert not list(tmp_path.rglob("*.jsonl"))


# --- test episodes


def test_every_test_episode_is_recorded(tmp_path):
    _, episodes, info = played(tmp_path, batch_size_run=2, runner="parallel")
    assert len(info["test_return_mean_T"]) > 1
    for i, t_env in enumerate(info["test_return_mean_T"]):
        test = [episode for episode in episodes if episode["t_env"] == t_env]
        assert [(e["world"], e["episode"]) for e in test] == [(w, 2 * i + e) for e in (0, 1) for w in (0, 1)]
        for key, statistic in (("return", "return"), ("length", "ep_length"), ("won", "battle_won")):
            assert np.mean([episode[key] for episode in test]) == pytest.approx(info[f"test_{statistic}_mean"][i])
    assert len(episodes) == 4 * len(info["test_return_mean_T"])
    for episode in episodes:
        assert episode["seed"] == world_seeds(1, 2)[episode["world"]]
        assert type(episode["won"]) is bool and episode["won"] == episode["info"]["battle_won"]
        assert episode["info"]["steps_done"] == episode["length"]
        assert episode["seat"] is None and episode["teammates"] == [] and episode["time"] > 1.7e9


def test_an_evaluation_records_its_episodes_too(tmp_path):
    _, episodes, _ = played(tmp_path, evaluate=True, test_nepisode=32)
    assert [episode["episode"] for episode in episodes] == list(range(32))
    assert {episode["t_env"] for episode in episodes} == {0}


def test_a_world_without_battles_is_neither_won_nor_lost(tmp_path):
    _, episodes, _ = played(tmp_path, game=EndlessGame, evaluate=True)
    assert [episode["won"] for episode in episodes] == [None] * 4 and episodes[0]["info"] == {}


# --- curves


@pytest.mark.slow
def test_tensorboard_shows_what_was_logged(tmp_path):
    logger = Logger(logging.getLogger("unused"))
    logger.setup_tb(tmp_path / "a_run")
    for t in range(3):
        logger.log_stat("test_return_mean", t / 2, t * 10)
    logger.close()
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(tmp_path), "--host=127.0.0.1", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        try:
            address = next(found[0] for line in server.stderr if (found := re.search(r"http://[\w.:]+", line)))

            def get(path):
                return urllib.request.urlopen(f"{address}/{path}", timeout=20).read()

            assert b"<title>TensorBoard</title>" in get("")
            deadline = time.monotonic() + 30
            while not (tags := json.loads(get("data/plugin/scalars/tags"))):  # it reads the curves after its start
                assert time.monotonic() < deadline
            assert list(tags["a_run"]) == ["test_return_mean"]
            points = json.loads(get("data/plugin/scalars/scalars?run=a_run&tag=test_return_mean"))
            assert [point[1:] for point in points] == [[0, 0.0], [10, 0.5], [20, 1.0]]
        finally:
            server.kill()


def test_the_other_backend_gets_every_value(tmp_path, monkeypatch):
    values = []
    package = ModuleType("tensorboard_logger")
    package.__spec__ = SimpleNamespace()
    package.Logger = lambda folder: SimpleNamespace(log_value=lambda *value: values.append((folder, *value)))
    monkeypatch.setitem(sys.modules, "tensorboard_logger", package)
    logger = Logger(logging.getLogger("unused"))
    logger.setup_tb(tmp_path, "tensorboard_logger")
    logger.log_stat("loss", np.float32(0.5), 3)
    logger.close()
    assert values == [(str(tmp_path), "loss", 0.5, 3)] and curves.PROTOBUF not in curves.os.environ


def test_a_backend_that_is_not_installed_is_a_mistake_at_once(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main.main(["--config=iql", "--env-config=sc2", "--tensorboard_backend=tensorboard_logger"]) == 2
    assert "pip install tensorboard-logger" in capsys.readouterr().err
    with pytest.raises(UserError, match="tensorboard_backend=torch"):
        curve_writer(main.ROOT, "tensorboard_logger")
