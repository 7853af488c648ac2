"""Records on a disk that has no room, for a while or for good: whole or not at all, and none of it stops a run."""

import errno
import json
import logging
import resource
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import main
from tests.test_run import whole_run
from utils import records
from utils.curves import curve_writer
from utils.errors import UserError
from utils.file_records import FileRecords
from utils.logging import LOGGER_NAME
from utils.records import RecordFiles, append_whole, read_json_lines, write_whole

pytestmark = pytest.mark.slow

COMMAND = ["--config=iql", "--env-config=sc2", "--capture=no", "--beat-interval=0.02", "with", "env_args.map_name=3m"]
SMALL = [
    "seed=1", "t_max=200", "batch_size=2", "buffer_size=4", "rnn_hidden_dim=8", "test_interval=60", "test_nepisode=1",
    "runner_log_interval=20", "learner_log_interval=20",
]  # fmt: skip


@pytest.fixture
def disk(monkeypatch):
    """A disk that is full during `disk.full`, a range of numbers of attempts to write records."""
    disk = SimpleNamespace(full=range(0), n_attempts=0)

    def on_disk(write):
        def try_to_write(path, content):
            disk.n_attempts += 1
            if disk.n_attempts in disk.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(path, content)

        return try_to_write

    for name in ("write_whole", "append_whole"):
        monkeypatch.setattr(records, name, on_disk(getattr(records, name)))
    monkeypatch.setattr(records, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(records, "WAIT_SECONDS", 0.0)
    return disk


@pytest.fixture
def small_files():
    """Lets no file grow beyond 100 bytes: what does not fit is written in part and then refused, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))

    def lift():
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    yield SimpleNamespace(limit=limit, lift=lift)
    lift()


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def read(folder, name):
    return json.loads((Path(folder) / name).read_text())


# --- files


@pytest.mark.parametrize("write", [write_whole, append_whole])
def test_a_file_that_does_not_fit_stays_as_it_was(tmp_path, small_files, write):
    path = tmp_path / "file"
    write(path, b"old" * 10)
    small_files.limit()
    with pytest.raises(OSError):
        write(path, b"new" * 100)
    assert contents(tmp_path) == {"file": b"old" * 10}
    small_files.lift()
    write(path, b"new" * 100)
    assert contents(tmp_path)["file"].endswith(b"new" * 100)


def test_a_stop_in_the_middle_of_a_file_leaves_the_old_one(tmp_path, monkeypatch):
    write_whole(tmp_path / "file", b"old")

    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(records.os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "file", b"new")
    assert contents(tmp_path) == {"file": b"old"}


def test_what_finds_no_room_is_said_once_and_written_later_in_order(tmp_path, small_files, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger(LOGGER_NAME), "propagate", True)
    monkeypatch.setattr(records, "RETRY_SECONDS", 0.0)
    caplog.set_level("INFO")
    files = RecordFiles(tmp_path / "run")
    files.append("lines", b"first\n")
    small_files.limit()
    for content in (b"a" * 200, b"b" * 200):
        files.replace("whole", content)
    for line in (b"x" * 90 + b"\n", b"second\n", b"third\n"):
        files.append("lines", line)
    assert contents(tmp_path / "run") == {"lines": b"first\n" + b"x" * 90 + b"\n"}
    (message,) = set(caplog.messages)
    assert message.startswith("File too large: ") and str(tmp_path / "run") in message
    small_files.lift()
    files.finish()
    lines = b"first\n" + b"x" * 90 + b"\nsecond\nthird\n"
    assert contents(tmp_path / "run") == {"lines": lines, "whole": b"b" * 200}
    assert len(set(caplog.messages)) == 2 and "takes files again" in caplog.text and files.problem is None


def test_the_end_waits_for_room(tmp_path, disk, monkeypatch):
    monkeypatch.setattr(records, "WAIT_SECONDS", 60.0)
    disk.full = range(1, 5)
    files = RecordFiles(tmp_path)
    files.replace("file", b"content")
    files.finish()
    assert contents(tmp_path) == {"file": b"content"} and disk.n_attempts == 5


# --- Sacred's files


def tiny(observers, body=lambda run: "done", **options):
    from sacred import Experiment

    ex = Experiment("tiny", save_git_info=False)
    ex.add_config({"seed": 1, "nested": {"values": [1, 2.5, None]}})
    ex.observers += observers
    ex.main(lambda _run: body(_run))
    return ex.run(options={"--capture": "no", "--beat-interval": 0.02, **options})


def test_a_record_is_what_sacreds_own_observer_writes(tmp_path):
    from sacred.observers import FileStorageObserver

    def body(run):
        for t in range(3):
            run.log_scalar("loss", t / 2, t)
        run.info["loss"] = [0.0, float("nan")]
        run.add_artifact(__file__, name="weights.txt")
        return {"a": 1}

    theirs, ours = FileStorageObserver(tmp_path / "theirs"), FileRecords(tmp_path / "ours")
    tiny([theirs, ours], body)
    expected, found = contents(theirs.dir), contents(ours.dir)
    assert found.keys() == expected.keys() and {"metrics.json", "info.json", "cout.txt", "weights.txt"} < found.keys()
    for name in expected.keys() - {"run.json"}:
        assert found[name] == expected[name], name
    assert read(ours.dir, "run.json") == read(theirs.dir, "run.json")
    assert contents(ours.source_dir) == contents(theirs.source_dir)


class Grows:
    """Puts another entry into a dict while it is written, as a run's own thread may."""

    def __init__(self, place):
        self.place = place

    def __getstate__(self):
        self.place[f"entry {len(self.place)}"] = 1
        return {}


def test_a_run_may_put_more_into_its_info_while_it_is_written(tmp_path):
    def body(run):
        run.info |= {"loss": [1.0], "deep": {}}
        run.info["grows"] = Grows(run.info)
        run.info["deep"] |= {"grows": Grows(run.info["deep"]), "last": 2}

    ours = FileRecords(tmp_path)
    assert tiny([ours], body).status == "COMPLETED"
    info = read(ours.dir, "info.json")
    assert info["loss"] == [1.0] and info["deep"]["last"] == 2 and read(ours.dir, "run.json")["status"] == "COMPLETED"


def test_the_folder_of_another_run_is_left_alone(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "run.json").write_text("{}")
    with pytest.raises(UserError, match="File exists; give another --id"):
        tiny([FileRecords(tmp_path)], **{"--id": "7"})
    assert contents(tmp_path / "7") == {"run.json": b"{}"}


# --- whole runs


def test_a_disk_that_is_full_for_a_while_costs_a_run_nothing(tmp_path, disk, capsys, monkeypatch):
    monkeypatch.setattr(records, "WAIT_SECONDS", 60.0)
    disk.full = range(60, 200)
    assert main.main([*COMMAND, *SMALL, f"local_results_path={tmp_path}"]) == 0
    assert disk.n_attempts >= 200
    folder = tmp_path / "sacred" / "1"
    info, metrics, run = (read(folder, f"{name}.json") for name in ("info", "metrics", "run"))
    lines = list(read_json_lines(folder / "metrics.jsonl"))
    assert run["status"] == "COMPLETED" and not list(tmp_path.rglob("*.partial"))
    for key in info.keys() & metrics.keys():
        assert info[key] == metrics[key]["values"] == [line["value"] for line in lines if line["key"] == key]
    assert len(list(read_json_lines(folder / "test_episodes.jsonl"))) == len(info["test_return_mean"]) > 2
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = EventAccumulator(str(next((tmp_path / "tb_logs").iterdir()))).Reload()
    assert [event.value for event in curves.Scalars("return_mean")] == pytest.approx(info["return_mean"])
    said = [line for line in capsys.readouterr().err.splitlines() if "No space left on device" in line]
    assert len(said) == len({line.partition("device: ")[2] for line in said}) in (1, 2)  # one for each folder


def test_a_disk_that_stays_full_leaves_whole_files_and_says_what_is_lost(tmp_path, disk, capsys):
    disk.full = range(80, 10**9)
    assert main.main([*COMMAND, *SMALL, f"local_results_path={tmp_path}", "use_tensorboard=False"]) == 0
    folder = tmp_path / "sacred" / "1"
    assert read(folder, "run.json")["status"] == "RUNNING" and read(folder, "config.json")["seed"] == 1
    assert all(line["value"] is not None for line in read_json_lines(folder / "metrics.jsonl"))
    assert f"in {folder} the end of " in capsys.readouterr().err


def test_without_room_at_the_start_a_run_stops_with_one_sentence_and_leaves_no_folder(tmp_path, disk, capsys):
    disk.full = range(10**9)
    assert main.main([*COMMAND, *SMALL, f"local_results_path={tmp_path}"]) == 2
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err and "records:" not in printed.out
    assert f"error: a run can't be recorded in {tmp_path}" in printed.err and "No space left on device" in printed.err
    assert not list((tmp_path / "sacred").glob("[0-9]*"))


def test_a_queued_run_is_recorded_and_not_played(tmp_path):
    assert main.main(["--queue", *COMMAND, *SMALL, f"local_results_path={tmp_path}"]) == 0
    assert read(tmp_path / "sacred" / "1", "run.json")["status"] == "QUEUED"
    assert (tmp_path / "sacred" / "1" / "main.py").is_file()


def test_a_run_names_the_folders_that_it_wrote(tmp_path, capsys):
    assert main.main([*COMMAND, *SMALL, f"local_results_path={tmp_path}", "use_tensorboard=False"]) == 0
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["records"]


def test_the_keys_that_plots_of_epymarl_ask_for_are_recorded(tmp_path, capsys):
    assert main.main([*COMMAND, "common_reward=False", f"local_results_path={tmp_path}"]) == 2
    assert "common_reward=False, but the environment" in capsys.readouterr().err
    config, *_ = main._configure(main._experiment(), COMMAND)
    assert config["common_reward"] is True and config["reward_scalarisation"] == "sum"


# --- other writers


def test_a_checkpoint_that_torch_cannot_write_says_that_the_disk_is_full(tmp_path, monkeypatch, caplog):
    def fail(obj, file):
        raise RuntimeError("unexpected pos 64 vs 0")

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torch.save", fail)
    monkeypatch.setattr(Path, "write_bytes", full)
    _, info = whole_run(local_results_path=tmp_path, save_model=True)
    assert "Could not save models" in caplog.text and "No space left on device" in caplog.text and info["return_mean"]
    assert not list(tmp_path.glob("models/*/*"))


def test_the_other_backend_gives_up_its_curves_and_not_the_run(tmp_path, monkeypatch, caplog):
    tried = []

    def full(*value):
        tried.append(value)
        raise OSError(errno.ENOSPC, "No space left on device")

    package = ModuleType("tensorboard_logger")
    package.__spec__ = SimpleNamespace()
    package.Logger = lambda folder: SimpleNamespace(log_value=full)
    monkeypatch.setitem(main.sys.modules, "tensorboard_logger", package)
    monkeypatch.setattr(logging.getLogger(LOGGER_NAME), "propagate", True)
    writer = curve_writer(tmp_path, "tensorboard_logger")
    for t in range(2):
        writer.add_scalar("loss", 0.5, t)
    assert f"No space left on device: the curves in {tmp_path} end here" in caplog.messages
    assert tried == [("loss", 0.5, 0)]


def test_a_replay_that_finds_no_room_does_not_fail_the_training_before_it(tmp_path, monkeypatch, caplog):
    from tests.test_run import RecordedGame

    def full(self):
        raise UserError("a replay can't be written")

    monkeypatch.setattr(RecordedGame, "save_replay", full)
    settings = {"env_args": {"replay_dir": ""}, "save_replay": True, "local_results_path": tmp_path}
    _, info = whole_run(RecordedGame, **settings)
    assert info["return_mean"] and "Could not save the replay" in caplog.text
    with pytest.raises(UserError, match="a replay can't be written"):
        whole_run(RecordedGame, evaluate=True, **settings)
