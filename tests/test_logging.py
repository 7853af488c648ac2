"""What reaches the console, TensorBoard and Sacred, the progress line, and durations in words."""

import io
import json
import logging
import re
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch as th

from utils.logging import LOGGER_NAME, Logger, get_logger
from utils.progress import ERASE_LINE, Progress
from utils.timehelper import time_left, time_str


class FakeRun:
    """Sacred's run, as far as the Logger uses it."""

    def __init__(self):
        self.info = {}
        self.scalars = []

    def log_scalar(self, name, value, step):
        self.scalars.append((name, value, step))


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test moves: `clock.now`, in seconds."""
    hand = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(time, "time", lambda: hand.now)
    return hand


@pytest.fixture
def recorder():
    """A console logger whose messages the test reads from `recorder.messages`."""
    console_logger = logging.Logger("recorder")
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    console_logger.addHandler(handler)
    return SimpleNamespace(logger=console_logger, messages=messages)


@pytest.mark.parametrize("value", [0.5, th.tensor(0.5), np.float32(0.5), th.ones(1, 1) / 2])
def test_values_are_recorded_as_plain_floats_beside_their_steps(value):
    run = FakeRun()
    logger = Logger(logging.getLogger("unused"))
    logger.setup_sacred(run)
    logger.log_stat("loss", value, np.int64(3))
    assert type(logger.stats["loss"][0][1]) is float
    assert json.dumps(run.info) == '{"loss": [0.5], "loss_T": [3]}'
    assert run.scalars == [("loss", 0.5, 3)]


def test_what_is_not_for_sacred_stays_out_of_its_records():
    run = FakeRun()
    logger = Logger(logging.getLogger("unused"))
    logger.setup_sacred(run)
    logger.log_stat("episode", 1, 10, to_sacred=False)
    assert run.info == {} and run.scalars == [] and logger.stats["episode"] == [(10, 1.0)]


def test_the_info_that_a_heartbeat_holds_never_changes_size():
    run = FakeRun()
    logger = Logger(logging.getLogger("unused"))
    logger.setup_sacred(run)
    logger.log_stat("loss", 1, 1)
    held = run.info
    logger.log_stat("loss", 2, 2)
    logger.log_stat("grad_norm", 3, 2)
    assert list(held) == ["loss", "loss_T"] and held["loss"] == [1.0, 2.0]
    assert run.info["grad_norm"] == [3.0]


def test_a_value_that_is_not_one_number_is_refused():
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        Logger(logging.getLogger("unused")).log_stat("loss", th.ones(2), 1)


def test_recent_stats_are_means_of_the_last_five_values_and_the_latest_epsilon(recorder):
    logger = Logger(recorder.logger)
    for t in range(1, 11):
        logger.log_stat("loss", t, t)
        logger.log_stat("epsilon", t, t)
        logger.log_stat("episode", t * 7, t * 100)
    logger.print_recent_stats()
    (block,) = recorder.messages
    assert re.search(r"t_env: +1000 \| Episode: +70\b", block)
    assert re.search(r"loss: +8\.0000", block) and re.search(r"epsilon: +10\.0000", block)
    assert "episode:" not in block


def test_recent_stats_can_be_printed_before_there_are_any(recorder):
    Logger(recorder.logger).print_recent_stats()
    assert len(recorder.messages) == 1


def test_tensorboard_gets_every_value(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = Logger(logging.getLogger("unused"))
    logger.setup_tb(tmp_path / "curves")
    logger.log_stat("loss", th.tensor(0.25), 5)
    logger.close()
    curves = EventAccumulator(str(tmp_path / "curves")).Reload()
    assert [(event.step, event.value) for event in curves.Scalars("loss")] == [(5, 0.25)]


def test_asking_twice_for_the_console_logger_prints_once():
    assert get_logger() is get_logger()
    assert len(get_logger().handlers) == 1
    assert logging.getLogger().handlers is not get_logger().handlers


def test_without_a_terminal_there_is_one_line_per_log_interval(clock):
    stream = io.StringIO()
    progress = Progress(1000, 100, stream)
    for t_env in range(0, 301, 10):
        progress.update(t_env, t_env // 10, test_win_rate=0.25 if t_env == 50 else None)
        clock.now += 1
    progress.close()
    lines = stream.getvalue().splitlines()
    assert [line.split("/")[0] for line in lines] == ["0", "100", "200", "300"]
    assert lines[0].endswith("test win rate: -")
    assert "1.0 episodes/s | 10 steps/s | left: 1 minutes, 10 seconds | test win rate: 25%" in lines[3]


def test_a_resumed_run_counts_its_speed_from_where_it_resumed(clock):
    stream = io.StringIO()
    progress = Progress(2000, 100, stream)
    progress.update(1000, 100)
    clock.now += 10
    progress.update(1100, 110)
    assert "1.0 episodes/s | 10 steps/s | left: 1 minutes, 30 seconds" in stream.getvalue().splitlines()[1]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_one_line_that_log_records_replace(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    terminal = Terminal()
    logger = get_logger()
    logger.handlers[0].setStream(terminal)
    progress = Progress(1000, 100, terminal)
    progress.update(0, 0)
    clock.now += 10
    progress.update(200, 20, test_win_rate=1.0)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    assert "200/1,000 steps" in shown and "20 steps/s" in shown and "test win rate: 100%" in shown
    assert "\n" not in terminal.getvalue()
    logger.info("a record")
    assert re.search(re.escape(ERASE_LINE) + r"\[INFO [0-9:]+\] pymarl a record\n$", terminal.getvalue())
    progress.close()
    logger.info("another")
    assert terminal.getvalue().count(f"{ERASE_LINE}[INFO") == 1
    assert logging.getLogger(LOGGER_NAME) is logger


def test_a_narrow_terminal_still_gets_one_line(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    progress = Progress(1000, 100, terminal)
    progress.update(200, 20, test_win_rate=1.0)
    assert "\n" not in terminal.getvalue()
    progress.close()


def test_durations_in_words():
    assert time_str(3) == "3 seconds"
    assert time_str(3600) == "1 hours, 0 minutes, 0 seconds"
    assert time_str(90061) == "1 days, 1 hours, 1 minutes, 1 seconds"


def test_time_left_is_extrapolated_from_the_steps_of_this_run(clock):
    assert time_left(clock.now - 10, 100, 200, 500) == "30 seconds"
    assert time_left(clock.now - 10, 100, 500, 500) == "-"
    assert time_left(clock.now - 10, 100, 100, 500) == "-"


def test_the_statistics_of_an_earlier_run_go_into_the_records_of_the_one_that_resumes_it():
    earlier, recorded = Logger(logging.getLogger("tests")), FakeRun()
    for t in (10, 20):
        earlier.log_stat("loss", 1 / t, t)
        earlier.log_stat("steps_per_second", 1000 * t, t, to_sacred=False)
    later = Logger(logging.getLogger("tests"))
    later.setup_sacred(recorded)
    later.load_state_dict(earlier.state_dict())
    later.log_stat("loss", 0.0, 30)
    assert recorded.info == {"loss": [1 / 10, 1 / 20, 0.0], "loss_T": [10, 20, 30]}
    assert later.stats == {"loss": [(10, 1 / 10), (20, 1 / 20), (30, 0.0)]}
