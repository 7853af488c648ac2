"""Predators and prey of the particle world (Lowe et al. 2017, `simple_tag`), all of them agents, many worlds at once.

Physics, observations and rewards are those of the package `mpe2`; `predator_prey.py` has the package itself, with
predators as one team and a prey that follows a rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.multiagentenv import EnvInfo, Info, Observations, Outcomes, SeededEnv, State, VectorEnv, WorkerLimits
from utils.config import STEPS, M, key

N_DIRECTIONS = 5
DIRECTIONS = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)], float)  # none, left, right, down, up
STEP_SECONDS, DAMPING, CONTACT_FORCE, CONTACT_MARGIN = 0.1, 0.25, 100.0, 0.001
SIZES = {"predator": 0.075, "prey": 0.05, "obstacle": 0.2}
ACCELERATIONS, TOP_SPEEDS = {"predator": 3.0, "prey": 4.0}, {"predator": 1.0, "prey": 1.3}
PAY = 10.0  # for a touch
OBSTACLES_WITHIN = 0.9
INSIDE = 0.9  # from the middle: further out the prey pays


@dataclass(frozen=True)
class TagKeys(SeededEnv.Keys):
    num_adversaries: int = key(3, "predators, the first agents", "predators", low=1, high=100)
    num_good: int = key(1, "those that flee, the last agents", "prey", low=1, high=100)
    num_obstacles: int = key(2, "obstacles that nobody can pass", low=0, high=100)
    max_cycles: int = key(25, "the time limit", STEPS, low=1, high=M)


class TagWorlds:
    """The places and the speeds of everything in B worlds, and what follows from them."""

    def __init__(self, n_worlds: int, keys: TagKeys):
        self.keys = keys
        self.n_predators, self.n_agents = keys.num_adversaries, keys.num_adversaries + keys.num_good
        kinds = ["predator"] * keys.num_adversaries + ["prey"] * keys.num_good
        self.sizes = np.array([SIZES[kind] for kind in kinds] + [SIZES["obstacle"]] * keys.num_obstacles)
        self.accelerations = np.array([ACCELERATIONS[kind] for kind in kinds])[:, None]
        self.top_speeds = np.array([TOP_SPEEDS[kind] for kind in kinds])[:, None]
        self.places = np.zeros((n_worlds, len(self.sizes), 2))  # agents, then obstacles
        self.speeds = np.zeros((n_worlds, self.n_agents, 2))
        self.t = np.zeros(n_worlds, int)
        self.caught = np.zeros(n_worlds, bool)

    @property
    def sizes_of_info(self) -> EnvInfo:
        """The sizes of observation and state."""
        n = self.n_agents
        obs = 4 + 2 * self.keys.num_obstacles + 2 * (n - 1) + 2 * self.keys.num_good
        return {"obs_shape": obs, "state_shape": 4 * n + 2 * self.keys.num_obstacles}

    def reset(self, world: int, rng: np.random.Generator) -> None:
        self.places[world, : self.n_agents] = rng.uniform(-1, 1, (self.n_agents, 2))
        self.places[world, self.n_agents :] = rng.uniform(-1, 1, (self.keys.num_obstacles, 2)) * OBSTACLES_WITHIN
        self.speeds[world] = 0
        self.t[world], self.caught[world] = 0, False

    def step(self, worlds: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Moves the agents of these worlds, actions [w, agent]; returns their rewards [w, agent]."""
        places, speeds = self.places[worlds], self.speeds[worlds]
        forces = DIRECTIONS[actions] * self.accelerations + self._pushes(places)
        places[:, : self.n_agents] += speeds * STEP_SECONDS  # by the speed of before
        speeds = speeds * (1 - DAMPING) + forces * STEP_SECONDS
        size = np.linalg.norm(speeds, axis=-1, keepdims=True)
        speeds = np.where(size > self.top_speeds, speeds / np.maximum(size, 1e-12) * self.top_speeds, speeds)
        self.places[worlds], self.speeds[worlds] = places, speeds
        self.t[worlds] += 1
        return self._rewards(worlds)

    def _pushes(self, places: np.ndarray) -> np.ndarray:
        """Returns the forces of contacts on agents, [w, agent, 2]."""
        apart = places[:, : self.n_agents, None] - places[:, None]  # [w, agent, thing, 2]
        distance = np.sqrt((apart**2).sum(-1))
        gap = distance - (self.sizes[: self.n_agents, None] + self.sizes)
        pressed = np.logaddexp(0, -gap / CONTACT_MARGIN) * CONTACT_MARGIN
        pressed[:, range(self.n_agents), range(self.n_agents)] = 0  # nobody pushes itself
        return ((CONTACT_FORCE * pressed / np.maximum(distance, 1e-12))[..., None] * apart).sum(2)

    def _rewards(self, worlds: np.ndarray) -> np.ndarray:
        predators, prey = np.split(self.places[worlds, : self.n_agents], [self.n_predators], axis=1)
        distance = np.linalg.norm(predators[:, :, None] - prey[:, None], axis=-1)  # [w, predator, prey]
        touches = distance < SIZES["predator"] + SIZES["prey"]
        self.caught[worlds] |= touches.any((1, 2))
        of_predators = np.repeat(PAY * touches.sum((1, 2))[:, None], self.n_predators, axis=1)
        return np.concatenate([of_predators, -PAY * touches.sum(1) - _cost_outside(prey)], axis=1)

    def observe(self, worlds: np.ndarray) -> np.ndarray:
        """Returns [w, agent, feature]: own speed and place; from there obstacles and the other agents; speeds of the
        other prey, behind which zeros stand in place of the prey's own.
        """
        places, speeds = self.places[worlds], self.speeds[worlds]
        n, k = self.n_agents, self.n_predators
        obstacles = places[:, None, n:] - places[:, :n, None]
        others = places[:, [[j for j in range(n) if j != i] for i in range(n)]] - places[:, :n, None]
        of_prey = np.zeros((len(places), n, n - k, 2))
        of_prey[:, :k] = speeds[:, None, k:]
        for i in range(n - k):
            of_prey[:, k + i, : n - k - 1] = np.delete(speeds[:, k:], i, axis=1)
        pairs = np.concatenate([speeds[:, :, None], places[:, :n, None], obstacles, others, of_prey], 2)
        return pairs.reshape(len(places), n, 2 * pairs.shape[2])

    def states(self, worlds: np.ndarray) -> np.ndarray:
        """Returns all speeds and places, [w, feature]."""
        pairs = np.concatenate([self.speeds[worlds], self.places[worlds]], 1)
        return pairs.reshape(len(pairs), 2 * pairs.shape[1])


def _cost_outside(places: np.ndarray) -> np.ndarray:
    """Returns what prey at places [..., 2] pays for leaving the square from -1 to 1, [...]."""
    far = np.abs(places)
    near, beyond = (far - INSIDE) * 10, np.minimum(np.exp(2 * far - 2), 10)
    return np.where(far < INSIDE, 0, np.where(far < 1, near, beyond)).sum(-1)


class ParticleTag(SeededEnv):
    """Actions: none, left, right, down, up; all can always be taken. `max_cycles` cuts an episode off.

    Every touch of a predator and a prey pays 10 to each predator and costs that prey 10, which also pays for leaving
    the square from -1 to 1. The team's reward is the sum of all agents'. Prey are faster than predators.
    """

    Keys = TagKeys
    info_keys = ("caught",)
    """1 if a prey was touched in the episode, else 0."""

    def __init__(self, common_reward: bool = True, **env_args: int | None):
        keys = self.Keys(**env_args)  # type: ignore[arg-type]  # checked against Keys by the command line
        super().__init__(keys.seed)
        self.common_reward = common_reward
        self.worlds = TagWorlds(1, keys)
        self.n_agents, self.episode_limit = self.worlds.n_agents, keys.max_cycles
        self.reset()

    def reset(self) -> tuple[list[np.ndarray], np.ndarray]:
        self.worlds.reset(0, self._rng)
        return self.get_obs(), self.get_state()

    def step(self, actions: Sequence[int]) -> tuple[float | list[float], bool, Info]:
        rewards = self.worlds.step(np.array([0]), np.array([actions], int))[0]
        over = bool(self.worlds.t[0] == self.episode_limit)
        info = {"caught": bool(self.worlds.caught[0]), "episode_limit": over}
        return float(rewards.sum()) if self.common_reward else rewards.tolist(), over, info

    def get_obs(self) -> list[np.ndarray]:
        return list(self.worlds.observe(np.array([0]))[0].astype(np.float32))

    def get_state(self) -> np.ndarray:
        return self.worlds.states(np.array([0]))[0].astype(np.float32)

    def get_avail_actions(self) -> list[list[int]]:
        return [[1] * N_DIRECTIONS] * self.n_agents

    def get_obs_size(self) -> int:
        return self.worlds.sizes_of_info["obs_shape"]

    def get_state_size(self) -> int:
        return self.worlds.sizes_of_info["state_shape"]

    def get_total_actions(self) -> int:
        return N_DIRECTIONS

    @classmethod
    def vector(
        cls,
        seeds: Sequence[int],
        *,
        workers: WorkerLimits | None = None,
        parallel: bool = True,
        common_reward: bool = True,
        **env_args: int | None,
    ) -> "TagVectorEnv":
        return TagVectorEnv([cls(common_reward, **{**env_args, "seed": seed}) for seed in seeds])


class TagVectorEnv(VectorEnv):
    """Worlds of equal sizes, whose physics is computed for all of them at once."""

    def __init__(self, envs: Sequence[ParticleTag]):
        self.envs, self.n_envs, self.info_keys = list(envs), len(envs), envs[0].info_keys
        self.worlds = TagWorlds(self.n_envs, envs[0].worlds.keys)

    def get_env_info(self) -> EnvInfo:
        return self.envs[0].get_env_info()

    def reset(self, observations: Observations, worlds: np.ndarray | None = None) -> None:
        rows = self.rows_of(worlds)
        for i in rows:
            self.worlds.reset(i, self.envs[i]._rng)
        self._write(rows, observations)

    def step(
        self, actions: np.ndarray, observations: Observations, outcomes: Outcomes, worlds: np.ndarray | None = None
    ) -> None:
        rows = self.rows_of(worlds)
        rewards = self.worlds.step(rows, actions[rows])
        outcomes.reward[rows] = rewards.sum(1) if self.envs[0].common_reward else rewards
        outcomes.terminated[rows] = outcomes.lost[rows] = False
        outcomes.truncated[rows] = self.worlds.t[rows] == self.envs[0].episode_limit
        outcomes.info["caught"][rows] = self.worlds.caught[rows]
        self._write(rows, observations)

    def _write(self, rows: np.ndarray, observations: Observations) -> None:
        observations.obs[rows], observations.state[rows] = self.worlds.observe(rows), self.worlds.states(rows)
        observations.avail_actions[rows] = 1

    def state_dict(self) -> State:
        return {"worlds": [env.state_dict() for env in self.envs]}

    def load_state_dict(self, state: State) -> None:
        for env, own in zip(self.envs, state["worlds"], strict=True):
            env.load_state_dict(own)

    def close(self) -> None:
        pass
