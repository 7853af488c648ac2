"""Environments in worker processes: the same episodes as in this process, and what happens when things go wrong."""

import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch as th

import run
from envs import vector
from envs.check import _play_episodes, check_vector_env, random_actions
from envs.multiagentenv import Observations, Outcomes, WorkerLimits
from envs.vector import ProcessVectorEnv, SerialVectorEnv
from tests.builders import RecordingLogger
from tests.games import RandomGame, TroubledGame, configure, registered
from utils.errors import UserError
from utils.logging import LOGGER_NAME
from utils.seeding import replacement_seed, world_seeds

ROOT = Path(__file__).resolve().parent.parent
LIMITS = WorkerLimits(max_restarts=3, timeout_seconds=60)
FIELDS = ("obs", "state", "avail_actions", "actions", "reward", "terminated", "filled")


def pids_of(env):
    return [worker.process.pid for worker in env._workers]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def empty_arrays(env):
    return Observations.empty(env.n_envs, env.get_env_info()), Outcomes.empty(env.n_envs, env.info_keys)


def shared_memory():
    """What this process shares with workers; it has no name that could stay behind."""
    return [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("worlds (deleted)")]


@pytest.fixture(scope="module")
def workers():
    """Two sound worlds in worker processes."""
    env = TroubledGame.vector([1, 2], workers=LIMITS)
    yield env
    env.close()


@pytest.fixture
def warnings():
    """The console's warnings."""
    records = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: records.append(record.getMessage())
    logging.getLogger(LOGGER_NAME).addHandler(handler)
    yield records
    logging.getLogger(LOGGER_NAME).removeHandler(handler)


# --- the same worlds


def test_worlds_in_processes_play_as_in_this_process_and_go_on_from_each_others_states(workers):
    serial = TroubledGame.vector([1, 2])
    assert isinstance(serial, SerialVectorEnv) and isinstance(workers, ProcessVectorEnv)
    for step, (first, second) in enumerate([(serial, workers)] * 3):
        rngs = [np.random.default_rng(step) for _ in range(2)]
        assert _play_episodes(first, rngs[0]) == _play_episodes(second, rngs[1]), step
    state = workers.state_dict()
    assert state == serial.state_dict()
    histories = []
    for env in (serial, workers, serial):
        env.load_state_dict(json.loads(json.dumps(state)))
        histories.append(_play_episodes(env, np.random.default_rng(9)))
    assert len(set(histories)) == 1
    assert workers.get_env_info() == serial.get_env_info() and workers.info_keys == serial.info_keys
    assert workers.keeps_replays is serial.keeps_replays is False


def test_each_world_has_its_own_process_and_seed_and_no_torch(workers):
    assert workers.get_stats() == [{"seed": seed, "has_torch": False} for seed in (1, 2)]
    assert len({os.getpid(), *pids_of(workers)}) == 3


def test_one_world_needs_no_process():
    assert isinstance(TroubledGame.vector([1], workers=LIMITS), SerialVectorEnv)


def test_the_contract_is_kept_and_closing_leaves_nothing_behind():
    before, named = shared_memory(), set(os.listdir("/dev/shm"))
    env = RandomGame.vector([1, 2], workers=LIMITS)
    pids = pids_of(env)
    assert all(map(is_running, pids)) and len(shared_memory()) == len(before) + 1
    assert set(os.listdir("/dev/shm")) <= named
    check_vector_env(env, refuses_unavailable=True)  # it closes the worlds, twice
    assert not any(map(is_running, pids)) and shared_memory() == before


class Runs:
    """A runner over two worlds, and what it logs."""

    def __init__(self, runner, game=RandomGame, env_args=None, **settings):
        self.logger = RecordingLogger()
        settings = {"rnn_hidden_dim": 16, "seed": 7, "runner_log_interval": 10, **settings}
        config = configure("iql", env_args, batch_size_run=2, runner=runner, **settings)
        with registered(game):
            made = run.Run({**config, "device": "cpu"}, self.logger)
        self.runner, self.mac = made.runner, made.mac

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.runner.close_env()


@pytest.mark.slow
def test_the_parallel_runner_plays_the_episodes_of_the_episode_runner_with_exploration_too():
    with Runs("parallel") as parallel, Runs("episode") as episode:
        assert isinstance(parallel.runner.env, ProcessVectorEnv)
        for k, test_mode in enumerate((False, True, False, False)):
            batches = []
            for runs in (parallel, episode):
                th.manual_seed(k)
                batches.append(runs.runner.run(test_mode))
            assert all(th.equal(batches[0][key], batches[1][key]) for key in FIELDS), k
        assert parallel.runner.t_env == episode.runner.t_env > 0
        assert parallel.logger.stats == episode.logger.stats and "dropped_episodes" not in parallel.logger.stats


# --- an exception of a world is an error here


def test_an_exception_arrives_with_its_traceback_and_the_worlds_index():
    env = TroubledGame.vector([1, 2], workers=LIMITS, troubles={2: (OSError, 1)})
    seen, outcomes = empty_arrays(env)
    env.reset(seen)
    with pytest.raises(RuntimeError) as caught:
        env.step(random_actions(seen.avail_actions, np.random.default_rng(0)), seen, outcomes)
    text = str(caught.value)
    assert text.startswith("environment 1 of 0 to 1 failed in its worker process:\n\nTraceback")
    assert "in _meet_trouble" in text and "OSError: the world is gone" in text
    env.close()


def test_a_users_mistake_stays_one_and_a_world_that_can_not_be_made_leaves_no_process_behind():
    before = set(multiprocessing.active_children())
    with pytest.raises(UserError) as caught:
        TroubledGame.vector([1, 2], workers=LIMITS, troubles={2: (UserError, 0)})
    assert str(caught.value) == "the world is gone"
    assert set(multiprocessing.active_children()) == before


# --- workers that die or fall silent


@pytest.mark.slow
def test_dead_and_silent_workers_are_replaced_the_others_play_on_and_there_is_a_limit(warnings):
    seeds, troubles = [1, 2, 3], {3: ("hang", 1)}
    env = TroubledGame.vector(seeds, workers=LIMITS, troubles=troubles)
    alone = SerialVectorEnv([TroubledGame(1), *(TroubledGame(replacement_seed(seed, 1)) for seed in (2, 3))])
    (seen, outcomes), (seen_alone, outcomes_alone) = empty_arrays(env), empty_arrays(alone)
    env.reset(seen)
    alone.reset(seen_alone)
    os.kill(pids_of(env)[1], signal.SIGKILL)
    env.limits = LIMITS._replace(timeout_seconds=0.5)
    actions = random_actions(seen.avail_actions, np.random.default_rng(0))
    env.step(actions, seen, outcomes)
    env.limits = LIMITS
    alone.step(actions, seen_alone, outcomes_alone, np.array([True, False, False]))
    assert outcomes.lost.tolist() == [False, True, True]
    assert outcomes.reward[0] == outcomes_alone.reward[0] and np.array_equal(seen.obs[0], seen_alone.obs[0])
    assert len(warnings) == 2
    assert (
        f"environment 1 of 0 to 2 died (signal SIGKILL) in step; a new one with seed {replacement_seed(2, 1)}"
        in (warnings[0])
    )
    assert (
        "environment 2 of 0 to 2 was silent for 0.5 s in step" in warnings[1]
        and "restart 2 of at most 3" in (warnings[1])
    )
    env.reset(seen, outcomes.lost.copy())
    actions = random_actions(seen.avail_actions, np.random.default_rng(1))
    env.step(actions, seen, outcomes, np.array([False, True, True]))
    alone.step(actions, seen_alone, outcomes_alone, np.array([False, True, True]))
    assert not outcomes.lost.any()
    assert all(map(np.array_equal, (*seen, outcomes.reward), (*seen_alone, outcomes_alone.reward)))

    os.kill(pids_of(env)[1], signal.SIGKILL)
    env.reset(seen)  # here nothing is lost but time
    assert env.get_stats()[1]["seed"] == replacement_seed(2, 2) and len(warnings) == 3
    os.kill(pids_of(env)[0], signal.SIGKILL)
    with pytest.raises(RuntimeError, match="environment 0 of 0 to 2 died .* max_worker_restarts=3 workers"):
        env.get_stats()
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize("victims", [[1], [0, 1]], ids=str)
def test_an_episode_whose_world_is_lost_is_dropped_counted_and_played_anew(victims):
    seed = 589  # the worlds' first episodes go beyond the fourth step, those of their replacements do not
    seeds = world_seeds(seed, 2)
    troubles = {seeds[i]: ("die", 4) for i in victims}
    replaced = [replacement_seed(seeds[i], 1) if i in victims else seeds[i] for i in range(2)]
    settings = {"seed": seed, "test_nepisode": 2, "epsilon_start": 0, "epsilon_finish": 0}
    with (
        Runs("parallel", TroubledGame, {"troubles": troubles}, **settings) as runs,
        Runs("episode", TroubledGame, **settings) as expected,
    ):
        expected.runner.env = SerialVectorEnv([TroubledGame(seed) for seed in replaced])
        for test_mode in (False, True, False):
            first, second = runs.runner.run(test_mode), expected.runner.run(test_mode)
            assert all(th.equal(first[key], second[key]) for key in FIELDS)
        assert runs.logger.stats.pop("dropped_episodes") == [(0, len(victims))]
        assert runs.logger.stats == expected.logger.stats and "test_return_mean" in runs.logger.stats
        assert runs.runner.t_env == expected.runner.t_env


def test_signals_are_not_for_workers_and_an_interrupted_wait_leaves_them_in_step(workers, monkeypatch):
    seen, outcomes = empty_arrays(workers)
    state = workers.state_dict()
    workers.reset(seen)
    for pid in pids_of(workers):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
    with monkeypatch.context() as patch:
        patch.setattr(workers._workers[0], "answer", lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            workers.step(random_actions(seen.avail_actions, np.random.default_rng(0)), seen, outcomes)
    assert [stats["seed"] for stats in workers.get_stats()] == [1, 2]
    workers.load_state_dict(state)
    assert workers.state_dict() == state


# --- the end of the process that plays in them

SCRIPT = """
import sys, time
from envs.multiagentenv import Observations, WorkerLimits
from tests.games import TroubledGame
if __name__ == "__main__":
    env = TroubledGame.vector([1, 2], workers=WorkerLimits(0, 60), troubles={2: ("hang", 1)})
    seen, outcomes = Observations.empty(2, env.get_env_info()), None
    env.reset(seen)
    print(*(worker.process.pid for worker in env._workers), flush=True)
    if sys.argv[1] == "forgets to close":
        sys.exit()
    send = env._workers[1].send
    env._workers[1].send = lambda *call: send(*call) or print("the second world hangs", flush=True)
    env.step(seen.avail_actions.argmax(-1), seen, outcomes)
"""
ENDS = ("killed", "killed with its group", "killed beside a stopped worker", "forgets to close")


def is_group(number):
    """Whether a process of this group is left."""
    stats = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            stats.append(path.read_text().rsplit(")", 1)[1].split())
    return any(int(stat[2]) == number and stat[0] not in "ZX" for stat in stats)


@pytest.mark.slow
def test_nothing_outlives_the_process_that_plays():
    """All the ends are tried at once: a worker that hangs has five seconds."""
    command = [sys.executable, "-c", SCRIPT]
    pipes = {"cwd": ROOT, "stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    processes = {end: subprocess.Popen([*command, end], **pipes) for end in ENDS}
    pids = {end: list(map(int, process.stdout.readline().split())) for end, process in processes.items()}
    for end, process in processes.items():
        assert end == "forgets to close" or process.stdout.readline() == "the second world hangs\n"
    for end, process in processes.items():
        if end == "killed with its group":
            os.killpg(process.pid, signal.SIGKILL)
        elif end != "forgets to close":
            process.kill()
        status = process.wait(60)
        process.stdout.close()
        assert status == (0 if end == "forgets to close" else -signal.SIGKILL)
    os.kill(pids["killed beside a stopped worker"][1], signal.SIGSTOP)
    deadline = time.monotonic() + 60
    for end in ENDS:
        while any(map(is_group, (processes[end].pid, *pids[end]))):
            assert time.monotonic() < deadline, end
            time.sleep(0.05)


def test_more_processes_than_memory_holds_are_refused_before_one_is_started(monkeypatch):
    monkeypatch.setattr(vector, "free_memory", lambda: 100_000_000)
    with pytest.raises(UserError, match="no memory for a process for each of 8 environments: 100.0 MB are free"):
        TroubledGame.vector(range(8), workers=LIMITS)
