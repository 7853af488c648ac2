"""The judges of one step and of replays: what the engine itself has recorded agrees with it; what they refuse."""

import gzip
import json

import numpy as np
import pytest

from envs.multiagentenv import Observations, Outcomes
from envs.sc2.sim.env import BattleVectorEnv, Moment
from envs.sc2.sim.maps import get_map
from envs.sc2.sim.rules import Rules
from experiments.judge.replays import judge_replays
from experiments.judge.steps import judge_steps
from utils.errors import UserError

N_STEPS = 4  # so few that nobody meets


def record(n: int = 4) -> dict[str, np.ndarray]:
    """States and actions of battles of 3m in which everybody goes east, as the recorded ones have them."""
    env = BattleVectorEnv(range(n), "3m")
    seen, outcomes = Observations.empty(n, env.get_env_info()), Outcomes.empty(n, env.info_keys)
    env.reset(seen)
    states, actions, rewards = [seen.state.copy()], [], []
    for _ in range(N_STEPS):
        actions.append(np.full((n, 3), 4))
        env.step(actions[-1], seen, outcomes)
        states.append(seen.state.copy())
        rewards.append(outcomes.reward.copy())
    actions.append(actions[-1])
    rewards.append(rewards[-1])
    return {
        "state": np.stack(states, 1),
        "actions": np.stack(actions, 1),
        "reward": np.stack(rewards, 1),
        "filled": np.ones((n, N_STEPS + 1), bool),
    }


def test_steps_of_the_engine_agree_with_it(tmp_path):
    np.savez(tmp_path / "engine_3m_test.npz", **record())
    rows = {(row.part, row.measure): row for row in judge_steps(tmp_path, Rules())}
    for part in ("first half", "second half"):
        for side in ("agents", "enemies"):
            assert rows[part, f"{side}' position, 90 %"].engine == pytest.approx(0, abs=1e-3)
        assert rows[part, "health equal without contact"].engine == 1
        assert rows[part, "reward equal"].engine == 1
        assert rows[part, "agents' cooldown, median"].engine == 0


def test_a_step_that_went_elsewhere_is_seen(tmp_path):
    records = record()
    records["state"][:, 3:, 2] += 1 / 28  # the first agent, one to the east
    np.savez(tmp_path / "engine_3m_test.npz", **records)
    rows = {(row.part, row.measure): row for row in judge_steps(tmp_path, Rules())}
    assert rows["first half", "agents' position, median"].engine < 1e-4  # only one step of one agent
    records["state"][:, 3:, 2:12:4] += 1 / 28
    records["state"][:, 2:, 2:12:4] += 1 / 28
    records["state"][:, 1:, 2:12:4] += 1 / 28
    np.savez(tmp_path / "engine_3m_test.npz", **records)
    rows = {(row.part, row.measure): row for row in judge_steps(tmp_path, Rules())}
    assert rows["first half", "agents' position, 90 %"].engine > 0.9


def test_a_moment_is_set_and_hidden_things_stay():
    env = BattleVectorEnv([0], "3m")
    env.reset(Observations.empty(1, env.get_env_info()))
    units = env.units
    units["target"][0, 3] = 1
    x, y = np.arange(6.0)[None] + 5, np.full((1, 6), 12.0)
    health = np.array([[45.0, 30, 0, 45, 0, 12]])
    env.set_moment(Moment(x, y, health, np.zeros((1, 6)), np.array([[3.0, 0, 0]])))
    assert units["health"][0].tolist() == health[0].tolist()
    assert units["x"][0, [0, 1, 3, 5]].tolist() == [5, 6, 8, 10]
    assert units["cooldown"][0, :3].tolist() == [3, 0, 0]
    assert units["target"][0, 3] == 1
    offsets = units["goal_x"][0, 3:] - units["x"][0, 3:]
    assert offsets == pytest.approx(np.full(3, offsets[0]))  # they keep their formation


def replay(**changes) -> dict:
    """One battle of 3m in which the agents stand; the first one dies in the fourth step, the last one in the fifth."""
    sc2_map = get_map("3m")
    units = [["Marine_RL", 1, 9, 16, 0]] * sc2_map.n_agents + [["Marine", 2, 23, 16, 0]] * sc2_map.n_enemies
    episode = {
        "complete": True, "units": units, "deaths": [[39, 2, 2, 3, 9, 16], [30, 0, 2, 4, 9, 16]], "end_loop": 41,
        "cmds": [[8 * step, unit, "s"] for step in range(5) for unit in range(3)],
        "pos": [[0, 0, 9.0, 16.0], [0, 3, 22.8594, 16.0022]],
    }  # fmt: skip
    return {"map": "3m", "episodes": [{**episode, **changes}]}


def write(path, content) -> None:
    path.write_bytes(gzip.compress(json.dumps(content).encode()))


def test_a_replay_is_told_beside_the_engine(tmp_path):
    write(tmp_path / "one.json.gz", replay())
    rows = {row.measure: row for row in judge_replays(tmp_path, Rules())}
    assert rows["agents' start, median distance"].engine == 0
    assert rows["enemies' places to loop 48, median distance"].engine == pytest.approx(0, abs=1e-3)
    assert (rows["agents lost"].game, rows["agents lost"].engine) == (2, 0)
    assert [rows[f"agents' death {k} of 3, step"].game for k in (1, 2)] == [4, 5]
    assert np.isnan(rows["agents' death 3 of 3, step"].game) and np.isnan(rows["agents' death 1 of 3, step"].engine)
    assert rows["enemies' Marine kills agents' Marine, per battle"].game == 2
    assert rows["steps"].game == 6


TORN = "or is torn"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("torn_3m_x.npz", b"PK\x03\x04torn", TORN),
        ("empty_3m_x.npz", b"", TORN),
        ("nowhere.npz", b"PK", "names no map"),
    ],
)
def test_files_that_hold_no_battles_are_refused(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        judge_steps(tmp_path, Rules())


def test_battles_of_another_shape_are_refused(tmp_path):
    np.savez(tmp_path / "engine_8m_test.npz", **record())
    with pytest.raises(UserError, match="do not fit 8m"):
        judge_steps(tmp_path, Rules())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"torn", TORN),
        (gzip.compress(b"{", mtime=0)[:-4], TORN),
        (gzip.compress(b"[]", mtime=0), TORN),
        (gzip.compress(json.dumps({"map": "4m", "episodes": []}).encode(), mtime=0), "'4m'"),
        (gzip.compress(json.dumps({**replay(), "map": "8m"}).encode(), mtime=0), "which is not 8m"),
    ],
)
def test_files_that_hold_no_replay_are_refused(tmp_path, content, sentence):
    (tmp_path / "one.json.gz").write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        judge_replays(tmp_path, Rules())


def test_an_empty_folder_is_refused(tmp_path):
    for judge in (judge_steps, judge_replays):
        with pytest.raises(UserError, match="holds no"):
            judge(tmp_path, Rules())
