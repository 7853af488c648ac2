"""What the agents see, and what they are paid: SMAC's own answers for made-up unit states on all 23 maps, number by
number (`golden/smac`), and the sizes of every map that the engine plays."""

import inspect
import json
from pathlib import Path

import numpy as np
import pytest

from envs.sc2.sim import features
from envs.sc2.sim.env import BattleVectorEnv, attribute_names, fresh_units, make_layout
from envs.sc2.sim.maps import MAP_NAMES, get_map
from envs.sc2.sim.smac import StarCraft2Env

GOLDEN = sorted((Path(__file__).parent / "golden" / "smac").glob("*.npz"))
VARIANTS = ("default", "options", "bare", "sparse", "draw")
ALLY_COLUMNS = ("x", "y", "health", "shield", "energy", "cooldown")
DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(BattleVectorEnv).parameters.items()
    if name.startswith(("obs_", "state_", "reward_", "move_", "continuing_"))
}
SIZES = {  # map: obs, state, actions, limit, agents, reward divisor
    "3m": (30, 48, 9, 60, 3, 18.25),
    "8m": (80, 168, 14, 120, 8, 32.0),
    "25m": (250, 950, 31, 150, 25, 78.75),
    "5m_vs_6m": (55, 98, 12, 70, 5, 26.5),
    "8m_vs_9m": (85, 179, 15, 120, 8, 34.75),
    "10m_vs_11m": (105, 243, 17, 150, 10, 40.25),
    "27m_vs_30m": (285, 1170, 36, 180, 27, 92.5),
    "MMM": (160, 290, 16, 150, 10, 50.75),
    "MMM2": (176, 322, 18, 180, 10, 60.25),
    "2s3z": (80, 120, 11, 120, 5, 51.0),
    "3s5z": (128, 216, 14, 150, 8, 75.5),
    "3s5z_vs_3s6z": (136, 230, 15, 170, 8, 83.5),
    "3s_vs_3z": (36, 54, 9, 150, 3, 34.0),
    "3s_vs_4z": (42, 61, 10, 200, 3, 42.0),
    "3s_vs_5z": (48, 68, 11, 250, 3, 50.0),
    "1c3s5z": (162, 270, 15, 180, 9, 93.5),
    "2m_vs_1z": (16, 26, 7, 150, 2, 18.0),
    "corridor": (156, 282, 30, 400, 6, 64.0),
    "6h_vs_8z": (78, 140, 14, 150, 6, 74.0),
    "2s_vs_1sc": (17, 27, 7, 300, 2, 25.5),
    "so_many_baneling": (202, 397, 38, 100, 7, 74.0),
    "bane_vs_bane": (336, 984, 30, 200, 24, 63.0),
    "2c_vs_64zg": (332, 342, 70, 400, 2, 154.0),
}
WORLD = np.ones(1, bool)
OPTIONS = {key: value for key, value in DEFAULTS.items() if key != "continuing_episode"}


class Answers:
    """Our observations and settlements for a recorded sequence of unit states, as a batch of one."""

    def __init__(self, map_name: str, options: dict):
        self.map = get_map(map_name)
        self.layout = make_layout(self.map, max_distance=32, **options)
        self.units = fresh_units(self.map, sorted({*self.map.ally_types, *self.map.enemy_types}))[0][:1]
        n_agents = self.map.n_agents
        self.obs = np.zeros((1, n_agents, self.layout.obs_size), np.float32)
        self.state = np.zeros((1, self.layout.state_size), np.float32)
        self.avail_actions = np.zeros((1, n_agents, self.layout.n_actions), np.uint8)
        self.reward, self.result = np.zeros(1), np.zeros(1, np.int64)

    def set_units(self, ally: np.ndarray, enemy: np.ndarray) -> None:
        for units, rows in ((self.units[0, : self.map.n_agents], ally), (self.units[0, self.map.n_agents :], enemy)):
            for column, name in enumerate(ALLY_COLUMNS[: rows.shape[1]]):
                units[name] = rows[:, column]
        for unit, name in zip(self.units[0], self.map.ally_types + self.map.enemy_types, strict=True):
            if name == "Hydralisk":
                unit["health_max"] = 80  # in the recorded answers; version 4 of the game gives it 90

    def start(self) -> None:
        self.previous = self.units["health"] + self.units["shield"]

    def observe(self, last_actions: np.ndarray, episode_steps: int) -> None:
        features.observe(
            self.units, last_actions[None], np.array([episode_steps]), WORLD, self.layout,
            self.map.pathing, self.map.heights, self.obs, self.state, self.avail_actions,
        )  # fmt: skip

    def settle(self) -> tuple[float, int]:
        """(reward, result) of the step that led to these units."""
        features.settle(self.units, self.previous, WORLD, self.layout, self.reward, self.result)
        return float(self.reward[0]), int(self.result[0])


def unrecorded_reward(ally: np.ndarray, enemy: np.ndarray, t: int, options: dict, divisor: float) -> float:
    """What the recorder left out of the reward of step t - 1 -> t.

    Its stand-in units were shared between "before" and "now", so that whoever died had no health before either. SMAC
    counts that health (see `test_the_last_blow_counts_what_the_victim_had_left`).
    """

    def health_of_newly_dead(units):
        return (units[t - 1, :, 2] * (units[t, :, 2] == 0)).sum()

    missing = health_of_newly_dead(enemy)
    if not options["reward_only_positive"]:
        missing -= options["reward_negative_scale"] * health_of_newly_dead(ally)
    return 0.0 if options["reward_sparse"] else missing / divisor


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_smac_gives_the_same_numbers(path, variant):
    with np.load(path) as file:
        golden = {key.removeprefix(f"{variant}/"): file[key] for key in file.files if key.startswith(f"{variant}/")}
        options = DEFAULTS | json.loads(str(file["meta"]))[variant]["options"]
    reports_limit = options.pop("continuing_episode")
    ours = Answers(path.stem, options)
    n_steps = len(golden["actions"])
    last_actions, episode_steps = np.full(ours.map.n_agents, -1), 0
    for t in range(n_steps + 1):
        ours.set_units(golden["ally"][t], golden["enemy"][t])
        if t == 0:
            ours.start()
        else:
            last_actions = golden["actions"][t - 1].astype(np.int64)
            episode_steps = golden["episode_steps_before_last"][0] + 1 if t == n_steps else t
            reward, result = ours.settle()
            missing = unrecorded_reward(golden["ally"], golden["enemy"], t, options, ours.layout.reward_divisor)
            assert reward == pytest.approx(golden["reward"][t - 1] + missing, abs=1e-5), f"reward of step {t}"
            cut_off = result == features.RUNNING and episode_steps >= ours.map.episode_limit
            ends = (result != features.RUNNING or cut_off, result == features.WON, cut_off and reports_limit)
            recorded = tuple(bool(golden[key][t - 1]) for key in ("terminated", "won", "limit"))
            assert ends == recorded, f"end of step {t}"
        ours.observe(last_actions, episode_steps)
        np.testing.assert_allclose(ours.obs[0], golden["obs"][t], atol=1e-5, err_msg=f"observations of step {t}")
        np.testing.assert_allclose(ours.state[0], golden["state"][t], atol=1e-5, err_msg=f"state of step {t}")
        np.testing.assert_array_equal(ours.avail_actions[0], golden["avail"][t], err_msg=f"availability of step {t}")


def test_there_are_golden_numbers_of_all_maps():
    assert len(GOLDEN) == 23


def settle_enemy_health(ours: Answers, before: list[float], after: list[float]) -> float:
    ours.units["health"][0, ours.map.n_agents :] = before
    if not hasattr(ours, "previous"):
        ours.start()
    ours.units["health"][0, ours.map.n_agents :] = after
    return ours.settle()[0]


def test_the_last_blow_counts_what_the_victim_had_left():
    """SMAC's own code, fed with these states by hand, answered 15, 45 and 55."""
    ours = Answers("3m", OPTIONS | {"reward_scale": False})
    assert settle_enemy_health(ours, [45, 45, 45], [45, 30, 45]) == 15
    assert settle_enemy_health(ours, [45, 30, 45], [45, 0, 40]) == 30 + 10 + 5
    assert settle_enemy_health(ours, [45, 0, 40], [0, 0, 40]) == 45 + 10


def test_a_victory_in_one_step_pays_the_whole_return():
    ours = Answers("3m", OPTIONS)
    assert ours.layout.reward_divisor == 18.25
    assert settle_enemy_health(ours, [45, 45, 45], [0, 0, 0]) == pytest.approx((3 * 45 + 3 * 10 + 200) / 18.25)
    assert ours.result[0] == features.WON


@pytest.mark.parametrize("map_name", SIZES)
def test_sizes_are_smacs(map_name):
    obs, state, n_actions, limit, n_agents, divisor = SIZES[map_name]
    env = StarCraft2Env(seed=1, map_name=map_name)
    info = env.get_env_info()
    assert set(info) == {
        "state_shape", "obs_shape", "n_actions", "n_agents", "episode_limit", "agent_features", "enemy_features",
        "engine_version",
    }  # fmt: skip
    assert (info["obs_shape"], info["state_shape"], info["n_actions"]) == (obs, state, n_actions)
    assert (info["episode_limit"], info["n_agents"]) == (limit, n_agents)
    assert (env.get_obs_size(), env.get_state_size(), env.get_total_actions()) == (obs, state, n_actions)
    assert env.battle.layout.reward_divisor == divisor


def test_every_playable_map_has_its_sizes_here():
    assert set(SIZES) == set(MAP_NAMES)


def test_feature_names_are_smacs():
    info = StarCraft2Env(seed=1, map_name="8m").get_env_info()
    assert info["agent_features"] == ["health", "energy/cooldown", "rel_x", "rel_y"]
    assert info["enemy_features"] == ["health", "rel_x", "rel_y"]
    shielded = attribute_names(Answers("2m_vs_1z", OPTIONS).layout)
    assert shielded["enemy_features"] == ["health", "rel_x", "rel_y", "shield"]
