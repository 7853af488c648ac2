"""Episodes of the package `smacv2` over the stand-in against the embedded engine's own, in a process of their own: the
packages `smac` and `smacv2` can't be used in one.

`python -m tests.sc2_server.smacv2_episodes terran` ends with status 0 where all of it is equal. SC2PATH names the
stand-in's folder.
"""

import itertools
import sys
from types import SimpleNamespace

import numpy as np
from smacv2.env import StarCraftCapabilityEnvWrapper
from smacv2.env.starcraft2 import starcraft2 as module

from envs.sc2.sim.smacv2 import features
from envs.sc2.sim.smacv2.capabilities import Draws, Places, Teams
from envs.sc2.sim.smacv2.races import standard_config
from envs.sc2.sim.smacv2.smacv2 import StarCraft2Env

SEED, EPISODES, TOLERANCE = 7, 3, 1e-5
STANDARD = {"obs_own_pos": True, "use_unit_ranges": True}
VARIANTS = {
    "plain": {},
    "cone": {"conic_fov": True, "num_fov_actions": 12},
    "told": {"prob_obs_enemy": 0.5, "action_mask": False, "obs_last_action": True, "reward_only_positive": False},
}


class Theirs:
    """SMACv2's environment, whose chances are those that ours has drawn, and whose teams ours takes."""

    def __init__(self, race: str, options: dict):
        self.env = StarCraftCapabilityEnvWrapper(
            capability_config=standard_config(f"{race}_5_vs_5"),
            map_name=f"10gen_{race}",
            seed=SEED,
            **STANDARD,
            **options,
        )
        self.ours: StarCraft2Env
        self.drawn: dict = {}
        self.looks: list[tuple[list[int], np.ndarray]] = []
        for distribution in self.env.env_key_to_distribution_map.values():
            distribution.generate = self._recording(distribution.generate)
        module.random = SimpleNamespace(shuffle=self._shuffle)  # type: ignore[attr-defined]
        np.random.rand = lambda: next(self.numbers)  # type: ignore[assignment]

    def _recording(self, generate):
        def recorded():
            drawn = generate()
            self.drawn |= drawn
            return drawn

        return recorded

    def _shuffle(self, agents: list[int]) -> None:
        if not self.looks:  # SMACv2 has drawn the teams, and looks for itself
            self.ours.reset()
        agents[:], numbers = self.looks.pop(0)
        self.numbers = itertools.chain(numbers.tolist(), itertools.repeat(0.5))  # drawn where nothing depends on them

    def draws(self) -> Draws:
        places = [np.asarray(self.drawn[f"{side}_start_positions"]["item"]) for side in ("ally", "enemy")]
        points = [place.astype(np.float32).astype(float) for place in places]  # as messages have them
        team = self.drawn["team_gen"]
        return Draws(Teams(list(team["ally_team"]), list(team["enemy_team"])), Places(*points), None, None, None)


def choose(avail_actions: np.ndarray, n_no_attack: int, rng: np.random.Generator) -> list[int]:
    """Mostly a target, else anything."""
    wishes = rng.random(avail_actions.shape) + (np.arange(avail_actions.shape[1]) >= n_no_attack)
    return (wishes * avail_actions).argmax(1).tolist()


def compare(ours: StarCraft2Env, theirs: Theirs, where: str) -> None:
    env = theirs.env
    pairs = {
        "obs": (np.array(ours.get_obs()), np.array(env.get_obs())),
        "state": (ours.get_state(), env.get_state()),
        "avail": (np.array(ours.get_avail_actions()), np.array(env.get_avail_actions())),
        "capabilities": (ours.get_capabilities(), env.get_capabilities()),
    }
    for name, (own, other) in pairs.items():
        np.testing.assert_allclose(own, other, atol=TOLERANCE, err_msg=f"{name}, {where}")


def play(race: str, options: dict) -> str:
    """Returns what was compared, in words."""
    config = standard_config(f"{race}_5_vs_5")
    ours = StarCraft2Env(f"10gen_{race}", seed=SEED, version="head", capability_config=config, **STANDARD, **options)
    theirs = Theirs(race, options)
    theirs.ours = ours
    ours.battle._draw = lambda seed: theirs.draws()  # type: ignore[method-assign]
    draw_looks = features.draw_looks

    def recorded(*arguments):
        draw_looks(*arguments)
        episode = ours.battle.episode
        theirs.looks.append((episode.order[0].tolist(), episode.numbers[0].copy()))

    features.draw_looks = recorded
    rng, n_steps, results = np.random.default_rng(0), 0, []
    for episode in range(EPISODES):
        theirs.env.reset()
        compare(ours, theirs, f"start of episode {episode}")
        terminated = False
        for t in itertools.count():
            if terminated:
                break
            actions = choose(np.array(ours.get_avail_actions()), ours.n_actions_no_attack, rng)
            reward, terminated, info = ours.step(list(actions))
            other_reward, other_terminated, other_info = theirs.env.step(list(actions))
            where = f"step {t} of episode {episode}"
            np.testing.assert_allclose(reward, other_reward, atol=TOLERANCE, err_msg=where)
            assert (terminated, info) == (other_terminated, other_info), (where, info, other_info)
            compare(ours, theirs, where)
            n_steps += 1
        results.append(info["battle_won"])
    stats, other_stats = ours.get_stats(), theirs.env.get_stats()
    assert {key: stats[key] for key in other_stats} == other_stats
    info, other_info = ours.get_env_info(), theirs.env.get_env_info()
    assert {key: info[key] for key in other_info} == other_info
    theirs.env.close()
    features.draw_looks = draw_looks
    return f"{race} {options}: {n_steps} steps, won {results}"


if __name__ == "__main__":
    for variant in VARIANTS:
        print(play(sys.argv[1], VARIANTS[variant]))
