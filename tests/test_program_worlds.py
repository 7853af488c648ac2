"""Worlds that are played by programs of their own, as StarCraft II's are: what happens when those crash, hang or
vanish, and that none of them outlives what started it. Each program has a child, so that whole families have to go.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch as th

from envs.multiagentenv import WorkerLimits
from envs.vector import SerialVectorEnv
from tests.games import ProgramGame
from tests.test_vector import FIELDS, Runs, empty_arrays, is_running
from utils.seeding import replacement_seed, world_seeds

ROOT = Path(__file__).resolve().parent.parent
LIMITS = WorkerLimits(max_restarts=3, timeout_seconds=60)


def family(pid):
    """This process and its children."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def programs_of(env):
    return [pid for stats in env.get_stats() for pid in family(stats["program"])]


def wait_for_the_end_of(pids, what):
    deadline = time.monotonic() + 60
    while survivors := [pid for pid in pids if is_running(pid)]:
        assert time.monotonic() < deadline, (what, survivors)
        time.sleep(0.05)


@pytest.mark.slow
def test_an_episode_whose_program_crashed_or_vanished_is_dropped_counted_and_played_anew_by_the_episode_runner_too():
    seed = 589  # the worlds' first episodes go beyond the fourth step, the replacement's does not
    seeds = world_seeds(seed, 2)
    troubles = {seeds[0]: ("vanish", 4), seeds[1]: ("crash", 4)}
    settings = {"seed": seed, "epsilon_start": 0, "epsilon_finish": 0}
    with (
        Runs("episode", ProgramGame, {"troubles": troubles}, **settings) as runs,
        Runs("episode", ProgramGame, **settings) as expected,
    ):
        expected.runner.close_env()
        expected.runner.env = SerialVectorEnv(
            [ProgramGame(replacement_seed(seeds[0], 1)), ProgramGame(seeds[1], troubles)]
        )
        env = runs.runner.env
        first_programs = programs_of(env)
        batches = [some.runner.run() for some in (runs, expected)]
        assert all(th.equal(batches[0][key], batches[1][key]) for key in FIELDS)
        assert runs.logger.stats["dropped_episodes"] == [(0, 2)]
        wait_for_the_end_of([*first_programs[:2], first_programs[2]], "those that were lost")
        last_programs = programs_of(env)
        assert len(last_programs) == 4 and all(map(is_running, last_programs))
    wait_for_the_end_of([*first_programs, *last_programs], "all")


@pytest.mark.slow
def test_a_program_that_hangs_is_killed_with_its_family_as_is_one_whose_process_vanished():
    troubles = {1: ("hang", 1), replacement_seed(1, 1): ("vanish", 1)}
    env = ProgramGame.vector([1], workers=LIMITS._replace(max_restarts=1), parallel=False, troubles=troubles)
    seen, outcomes = empty_arrays(env)
    env.reset(seen)
    programs = programs_of(env)
    env.limits = env.limits._replace(timeout_seconds=0.5)
    env.step(seen.avail_actions.argmax(-1), seen, outcomes)
    assert outcomes.lost.all()
    wait_for_the_end_of(programs, "the one that hung")
    env.limits = LIMITS._replace(max_restarts=1)
    env.reset(seen)
    programs = programs_of(env)
    with pytest.raises(
        RuntimeError, match=r"environment 0 of 0 to 0 died \(signal SIGKILL\) in step, and max_worker_r"
    ):
        env.step(seen.avail_actions.argmax(-1), seen, outcomes)
    wait_for_the_end_of(programs, "the one whose process vanished")
    env.close()


SCRIPT = """
import os, signal, sys
from envs.multiagentenv import Observations, Outcomes, WorkerLimits
from tests.games import ProgramGame
from utils.signals import StopRequest
if __name__ == "__main__":
    end = sys.argv[1]
    with StopRequest() as stop:
        env = ProgramGame.vector([1], workers=WorkerLimits(0, 60))
        seen, outcomes = Observations.empty(1, env.get_env_info()), Outcomes.empty(1, env.info_keys)
        env.reset(seen)
        print(int(env.get_stats()[0]["program"]), env._workers[0].process.pid, flush=True)
        sys.stdin.readline()  # a signal may have come
        if stop.asked:
            env.step(seen.avail_actions.argmax(-1), seen, outcomes)
            print("played on", flush=True)
            sys.stdin.readline()  # another one comes
        if end == "raise":
            raise OSError("a crash")
        if end == "abort":
            os.abort()
"""
ENDS = ("Ctrl-C", "SIGTERM", "raise", "abort", "SIGKILL", "SIGKILL of all Pythons")


@pytest.mark.slow
def test_no_program_outlives_what_started_it():
    """All the ways to end are tried at once, since each needs two processes to start."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    command = [sys.executable, "-c", SCRIPT]
    processes = {end: subprocess.Popen([*command, end], cwd=ROOT, start_new_session=True, **pipes) for end in ENDS}
    try:
        pids = {end: list(map(int, process.stdout.readline().split())) for end, process in processes.items()}
        programs = {end: family(program) for end, (program, _) in pids.items()}
        assert all(len(family) == 2 and all(map(is_running, family)) for family in programs.values())
        for end, process in processes.items():
            signals = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM}
            if number := signals.get(end):
                os.killpg(process.pid, number)
                process.stdin.write("go\n")
                process.stdin.flush()
                assert process.stdout.readline() == "played on\n", "the program takes no notice of a signal"
                os.killpg(process.pid, number)
            if end.startswith("SIGKILL"):
                os.kill(process.pid, signal.SIGKILL)
            if end == "SIGKILL of all Pythons":
                os.kill(pids[end][1], signal.SIGKILL)
            process.stdin.close()
        for end in ENDS:
            wait_for_the_end_of([*programs[end], *pids[end], processes[end].pid], end)
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
            process.stdout.close()
