"""Games of the stand-in of `sc2_server/`, played by SMAC in worker processes: they crash or hang, and the doctor tries
a battle with them. Where SMAC is not installed nothing of this can be seen.
"""

import json
import time
from pathlib import Path

import pytest

from envs.multiagentenv import WorkerLimits
from envs.sc2 import StarCraft2Env, doctor, ports
from tests.sc2_server.install import install
from tests.test_program_worlds import wait_for_the_end_of
from tests.test_vector import empty_arrays

pytest.importorskip("smac.env", reason="SMAC is not installed (requirements-sc2.txt)", exc_type=ImportError)

LIMITS = WorkerLimits(max_restarts=3, timeout_seconds=100)


@pytest.fixture
def game(tmp_path, monkeypatch):
    folder = install(tmp_path / "game")
    monkeypatch.setenv("SC2PATH", str(folder))
    return folder


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except FileNotFoundError:
        return []


def games_of(folder):
    """The ports of all running games of this installation, by process id."""
    found = {int(path.name): command_line(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()}
    return {
        pid: line[line.index("-port") + 1] for pid, line in found.items() if f"{folder}/" in line and "-port" in line
    }


def play(env, seen, outcomes, n_steps):
    for _ in range(n_steps):
        env.step(seen.avail_actions.argmax(-1), seen, outcomes)
        if outcomes.lost.any():
            break


@pytest.mark.parametrize("fault", ["crash@3", "hang@3"])
def test_one_of_two_games_fails_and_is_launched_anew_and_the_other_plays_on(fault, game, monkeypatch):
    monkeypatch.setenv("SC2_STANDIN_FAULT", fault)
    env = StarCraft2Env.vector([1, 2], engine="game", workers=LIMITS, map_name="3m")
    try:
        seen, outcomes = empty_arrays(env)
        env.reset(seen)
        first_games = games_of(game)
        assert len(set(first_games.values())) == 2 and {int(port) for port in first_games.values()} < set(ports.PORTS)
        if fault == "hang@3":
            env.limits = LIMITS._replace(timeout_seconds=3)
        play(env, seen, outcomes, 4)
        env.limits = LIMITS
        assert sorted(outcomes.lost) == [False, True]
        env.reset(seen, outcomes.lost.copy())
        outcomes.lost[:] = False
        play(env, seen, outcomes, 4)
        assert not outcomes.lost.any()
        last_games = games_of(game)
        assert len(last_games) == 2 and len(first_games.keys() & last_games.keys()) == 1
    finally:
        env.close()
    wait_for_the_end_of([*first_games, *last_games], fault)


def test_the_doctor_plays_a_battle(game, capfd):
    assert doctor.main(["--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["ready"] and report["checks"][-1]["found"] == "5 steps of 3m were played"


@pytest.mark.parametrize(
    "fault, found",
    [
        ("crash@2!", "the game failed and had to be launched anew"),
        ("crash@launch!", "StarCraft II can't be launched"),
        ("hang@launch!", "was silent for 8 s"),
    ],
)
def test_the_doctor_tells_of_a_game_that_can_not_be_played_and_leaves_none_behind(fault, found, game, monkeypatch):
    monkeypatch.setenv("SC2_STANDIN_FAULT", fault)
    check = doctor.check_battle("3m", seconds=8 if fault.startswith("hang") else 100)
    assert check.state == doctor.WRONG and found in check.found, check
    deadline = time.monotonic() + 10
    while games_of(game):
        assert time.monotonic() < deadline
        time.sleep(0.1)
