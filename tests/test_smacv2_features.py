"""What SMACv2's agents see and are paid: its own code's answers for made-up unit states, number by number
(`golden/smacv2`, or the folder SMACV2_GOLDEN), in both of its versions and under every option."""

import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from envs.sc2.sim import features as of_smac
from envs.sc2.sim import records
from envs.sc2.sim.smacv2 import features, layout
from envs.sc2.sim.smacv2.capabilities import Capabilities
from envs.sc2.sim.smacv2.env import DEFAULTS, OF_LAYOUT, visibility, worth
from envs.sc2.sim.smacv2.races import flat_map, race_of
from envs.sc2.sim.units import planes, unit_data

FOLDER = Path(os.environ.get("SMACV2_GOLDEN") or Path(__file__).parent / "golden" / "smacv2")
FILES = sorted(FOLDER.glob("*_vs_*.npz"))
WORLD = np.ones(1, bool)
STOP, ATTACK, MOVE, HEAL = 4, 23, 16, 386


@cache
def meta(path: Path) -> dict:
    with np.load(path) as file:
        return json.loads(str(file["meta"]))["variants"]


CASES = [(path, variant) for path in FILES for variant in meta(path)]


def hp_of(name: str) -> float:
    """As in the recorded answers; version 4 of the game gives hydralisks 90."""
    return 80 if name == "Hydralisk" else unit_data()[name]["hp"]


class Answers:
    """Ours for one environment's recorded sequence of unit states, as a batch of one."""

    def __init__(self, path: Path, variant: str):
        given = meta(path)[variant]
        self.options = DEFAULTS | given["options"]
        map_name = "10gen_" + path.stem.split("_")[0]
        self.capabilities = Capabilities(given["capability_config"], race_of(map_name))
        self.map = flat_map(map_name, self.capabilities.n_units, self.capabilities.n_enemies)
        options = {name: self.options[name] for name in OF_LAYOUT} | {"move_amount": self.options["move_amount"]}
        self.layout, self.switches = layout.make_layout(
            self.map, self.capabilities, max_distance=32, blanks=not path.stem.endswith("before_epo"), **options
        )
        self.sight, self.reach = layout.ranges(
            self.map, self.options["use_unit_ranges"], self.options["min_attack_range"]
        )
        n_agents = self.map.n_agents
        self.episode = features.empty_episode(1, self.layout, self.switches)
        self.units = np.zeros((1, n_agents + self.map.n_enemies), records.UNIT)
        if os.environ.get("NUMBA_DISABLE_JIT") == "1":
            self.units = self.units.view(np.recarray)
        self.obs = np.zeros((1, n_agents, self.layout.obs_size), np.float32)
        self.state = np.zeros((1, self.layout.state_size), np.float32)
        self.avail_actions = np.zeros((1, n_agents, self.layout.n_actions), np.uint8)
        self.reward, self.result = np.zeros(1), np.zeros(1, np.int64)
        self.max_reward = 0.0
        self.n_ended = 0

    def begin(self, golden: dict[str, np.ndarray]) -> None:
        """Starts an episode with its teams and what was drawn for it."""
        names = golden["types"].tolist()
        for unit, name in zip(self.units[0], names, strict=True):
            data = unit_data()[name]
            unit["type"] = unit["type_index"] = self.map.type_names.index(name)
            unit["planes"] = planes(name)
            unit["health_max"], unit["shield_max"] = hp_of(name), max(data["shield"], 1)
            unit["cooldown_max"] = data["smac_unit_max_cooldown_allied"]
            unit["heals"] = name == "Medivac"
        features.begin(WORLD, self.episode)
        self.episode.order[:] = np.arange(self.map.n_agents)
        for name, drawn in (("attack", "attack_probability"), ("health", "health_level")):
            if drawn in golden:
                getattr(self.episode, name)[0] = golden[drawn][:, 0]
        if "enemy_mask" in golden:
            self.episode.enemy_mask[0] = golden["enemy_mask"]
        if self.n_ended == 0:
            enemies = names[self.map.n_agents :]
            self.max_reward += worth(enemies) - sum(unit_data()[name]["hp"] - hp_of(name) for name in enemies)
        points = self.map.n_enemies * self.options["reward_death_value"] + self.options["reward_win"]
        self.points = self.max_reward + points
        scale = self.options["reward_scale_rate"]
        self.divisor = np.array([self.points / scale if self.options["reward_scale"] else 1.0])

    def set_units(self, ally: np.ndarray, enemy: np.ndarray) -> None:
        n_agents = self.map.n_agents
        columns = ("x", "y", "health", "shield", "energy", "cooldown")
        for units, rows in ((self.units[0, :n_agents], ally), (self.units[0, n_agents:], enemy)):
            for column, name in enumerate(columns[: rows.shape[1]]):
                units[name] = rows[:, column]

    def observe(self, last_actions: np.ndarray, episode_steps: int) -> None:
        features.observe(
            self.units, last_actions[None], np.array([episode_steps]), WORLD, self.layout, self.switches, self.sight,
            self.reach, self.episode, self.map.pathing, self.map.heights, self.obs, self.state, self.avail_actions,
        )  # fmt: skip


def episodes(path: Path, variant: str):
    with np.load(path) as file:
        for episode in ("e0", "e1"):
            start = f"{variant}/{episode}/"
            yield {key.removeprefix(start): file[key] for key in file.files if key.startswith(start)}


def commands_of(ours: Answers, golden: dict, t: int) -> np.ndarray:
    """[agent, (ability, target)] that SMACv2 sends for the actions of step t."""
    n_agents = ours.map.n_agents
    actions, commands = golden["actions"][t].astype(np.int64)[None], np.zeros((1, n_agents), np.int64)
    if "roll" in golden:
        ours.episode.rolls[0] = np.nan_to_num(golden["roll"][t])
    features.turn_and_translate(actions, WORLD, ours.switches, ours.episode, commands)
    sent = np.zeros((n_agents, 2))
    for i, command in enumerate(commands[0].tolist()):
        heals = ours.units[0, i]["heals"]
        if command == 1:
            sent[i] = STOP, -1
        elif 2 <= command <= 5:
            sent[i] = MOVE, -1
        elif command >= 6:
            sent[i] = (HEAL, command - 6) if heals else (ATTACK, n_agents + command - 6)
        else:
            sent[i] = 0, -1
    return sent


@pytest.mark.parametrize(("path", "variant"), CASES, ids=[f"{path.stem}-{variant}" for path, variant in CASES])
def test_smacv2_gives_the_same_numbers(path, variant):
    ours = Answers(path, variant)
    for golden in episodes(path, variant):
        ours.begin(golden)
        assert ours.points == pytest.approx(golden["max_reward"][0])
        n_steps, n_drawn = len(golden["actions"]), 0
        last_actions, episode_steps = np.full(ours.map.n_agents, -1), 0
        for t in range(n_steps + 1):
            if t == 0:
                ours.set_units(golden["ally"][0], golden["enemy"][0])
                previous = ours.units["health"] + ours.units["shield"]
            else:
                np.testing.assert_array_equal(
                    commands_of(ours, golden, t - 1), np.nan_to_num(golden["command"][t - 1][:, :2], nan=-1)
                )
                if "killed" in golden:
                    doomed = np.zeros((1, ours.map.n_agents), bool)
                    features.doom(ours.units, WORLD, ours.layout, ours.episode, doomed)
                    np.testing.assert_array_equal(doomed[0], golden["killed"][t - 1] != 0)
                ours.set_units(golden["ally"][t], golden["enemy"][t])
                last_actions = golden["actions"][t - 1].astype(np.int64)
                episode_steps = int(golden.get("episode_steps_before_last", [t - 1])[0]) + 1 if t == n_steps else t
                features.settle(
                    ours.units, previous, WORLD, ours.layout, ours.switches, ours.divisor, ours.reward, ours.result
                )
                assert ours.reward[0] == pytest.approx(golden["reward"][t - 1], abs=1e-9), f"reward of step {t}"
                if ours.switches.blanks:
                    features.forget(ours.units, WORLD, ours.layout, ours.episode)
                is_over = ours.result[0] != of_smac.RUNNING
                cut_off = not is_over and episode_steps >= ours.map.episode_limit
                reported = cut_off and ours.options["continuing_episode"]
                dead = [int((golden[side][t][:, 2] == 0).sum()) for side in ("ally", "enemy")]
                ends = [is_over or cut_off, ours.result[0] == of_smac.WON, reported, *dead]
                assert ends == golden["ends"][t - 1].tolist(), f"end of step {t}"
            for look in range(2):
                ours.episode.order[0] = golden["order"][t, look]
                if "n_draws" in golden:
                    n = golden["n_draws"][t, look]
                    ours.episode.numbers[0, :n] = golden["draws"][n_drawn : n_drawn + n]
                    n_drawn += n
                ours.observe(last_actions, episode_steps)
                where = f"step {t}, look {look}"
                np.testing.assert_allclose(ours.obs[0], golden["obs"][t, look], atol=1e-6, err_msg=where)
                if "known" in golden:
                    np.testing.assert_array_equal(ours.episode.known[0], golden["known"][t, look], err_msg=where)
                    np.testing.assert_array_equal(ours.episode.seen_by[0], golden["seen_by"][t, look], err_msg=where)
            np.testing.assert_allclose(ours.state[0], golden["state"][t], atol=1e-6, err_msg=f"state of step {t}")
            np.testing.assert_array_equal(
                ours.avail_actions[0], golden["avail"][t], err_msg=f"availability of step {t}"
            )
            seen = visibility(ours.units[0], ours.map.n_agents, ours.sight)
            np.testing.assert_array_equal(seen, golden["visibility"][t])
            if "fov" in golden:
                np.testing.assert_array_equal(ours.episode.direction[0], golden["fov"][t])
        ours.n_ended += 1


@pytest.mark.parametrize(("path", "variant"), CASES, ids=[f"{path.stem}-{variant}" for path, variant in CASES])
def test_sizes_and_names_are_smacv2s(path, variant):
    ours, wanted = Answers(path, variant), meta(path)[variant]
    sizes = layout.sizes_of(ours.map, ours.capabilities, ours.options)
    info = wanted["env_info"]
    assert (ours.layout.state_size, ours.layout.obs_size) == (info["state_shape"], info["obs_shape"])
    assert (ours.layout.n_actions, ours.map.n_agents, ours.map.episode_limit) == tuple(
        info[key] for key in ("n_actions", "n_agents", "episode_limit")
    )
    assert sizes.capability == info["cap_shape"] == wanted["sizes"]["cap"]
    names = layout.names_in_env_info(ours.layout, ours.switches)
    assert names == {key: info[key] for key in names}
    assert layout.obs_feature_names(ours.layout, ours.switches) == wanted["obs_feature_names"]
    assert layout.state_feature_names(ours.layout, ours.switches) == wanted["state_feature_names"]
    assert of_smac.N_ACTIONS_NO_ATTACK + ours.switches.n_directions == wanted["n_actions_no_attack"]
    parts = {name: wanted["sizes"][name] for name in ("move", "ally_state", "enemy_state")}
    assert parts == {name: getattr(sizes, name) for name in parts}
    assert wanted["sizes"]["enemy"] == [ours.map.n_enemies, sizes.enemy]
    assert wanted["sizes"]["ally"] == [ours.map.n_agents - 1, sizes.ally] and wanted["sizes"]["own"] == sizes.own
