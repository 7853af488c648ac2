"""Many worlds of `GridForaging`, played together over arrays: what its `vector` returns for the class itself."""

from collections.abc import Sequence

import numpy as np

from envs.grid_foraging import MOVES, PICK_UP, GridForaging
from envs.multiagentenv import Observations, Outcomes
from envs.vector import SerialVectorEnv

STEPS = np.array(MOVES)


class GridForagingWorlds(SerialVectorEnv):
    """Has the given worlds draw where everything starts, and plays their episodes itself."""

    def __init__(self, envs: Sequence[GridForaging]):
        super().__init__(envs)
        self.keys, self.common_reward = envs[0].keys, envs[0].common_reward
        self.obs_size, self.state_size = envs[0].get_obs_size(), envs[0].get_state_size()
        n, n_foods = envs[0].n_agents, self.keys.foods
        self.players = np.zeros((self.n_envs, n, 2), int)
        self.foods = np.zeros((self.n_envs, n_foods, 2), int)
        self.is_there = np.zeros((self.n_envs, n_foods), bool)
        self.t = np.zeros(self.n_envs, int)
        self._others = np.array([[j for j in range(n) if j != i] for i in range(n)], int).reshape(n, n - 1)
        size = self.keys.field_size
        self._middles = 2 * size + (2 * size - 1) * np.arange(2 * (n - 1 + n_foods)).reshape(-1, 2) + size - 1
        """Where, in what a player sees, the distance 0 to something stands, [other or food, axis]."""

    def reset(self, observations: Observations, worlds: np.ndarray | None = None) -> None:
        rows = self.rows_of(worlds)
        for row in rows.tolist():
            self.envs[row].draw_start()
            self.players[row], self.foods[row] = self.envs[row].players, self.envs[row].foods
        self.is_there[rows], self.t[rows] = True, 0
        self._show(rows, observations)

    def step(
        self, actions: np.ndarray, observations: Observations, outcomes: Outcomes, worlds: np.ndarray | None = None
    ) -> None:
        rows = self.rows_of(worlds)
        actions = actions[rows]
        if not np.take_along_axis(self._avail_actions(rows), actions[..., None], 2).all():
            raise ValueError(f"actions {actions.tolist()} are not all available")
        self.players[rows] += STEPS[actions]
        is_on = (self.players[rows, :, None] == self.foods[rows, None]).all(3)  # [world, player, food]
        finds = is_on & (actions == PICK_UP)[..., None] & self.is_there[rows, None]
        n_finders = finds.sum(1, keepdims=True)
        rewards = (self.keys.food_value / np.maximum(n_finders, 1) * finds).sum(2)
        self.is_there[rows] &= n_finders[:, 0] == 0
        self.t[rows] += 1
        n_left = self.is_there[rows].sum(1)
        outcomes.reward[rows] = rewards.sum(1) if self.common_reward else rewards
        outcomes.terminated[rows] = n_left == 0
        outcomes.truncated[rows] = (n_left > 0) & (self.t[rows] == self.keys.max_episode_steps)
        outcomes.lost[rows] = False
        outcomes.info["food_picked"][rows] = 1 - n_left / self.keys.foods
        self._show(rows, observations)

    def _show(self, rows: np.ndarray, observations: Observations) -> None:
        seen = self._see(rows)
        observations.obs[rows] = seen
        observations.state[rows] = seen.reshape(len(rows), self.state_size)
        observations.avail_actions[rows] = self._avail_actions(rows)

    def _see(self, rows: np.ndarray) -> np.ndarray:
        """Returns what each player sees, [world, player, feature]."""
        players = self.players[rows]
        n, n_foods = players.shape[1], self.keys.foods
        foods = np.broadcast_to(self.foods[rows, None], (len(rows), n, n_foods, 2))
        distances = np.concatenate([players[:, self._others], foods], 2) - players[:, :, None]
        ones = np.concatenate([players[:, :, None] + [0, self.keys.field_size], self._middles + distances], 2)
        is_seen = np.ones(ones.shape, np.float32)
        is_seen[:, :, -n_foods:] = self.is_there[rows, None, :, None]
        seen = np.zeros((len(rows), n, self.obs_size), np.float32)
        flat = (len(rows), n, 2 * ones.shape[2])
        np.put_along_axis(seen, ones.reshape(flat), is_seen.reshape(flat), 2)
        return seen

    def _avail_actions(self, rows: np.ndarray) -> np.ndarray:
        """Returns whether each action can be done, [world, player, action]."""
        ends = self.players[rows, :, None] + STEPS
        return ((ends >= 0) & (ends < self.keys.field_size)).all(3)
