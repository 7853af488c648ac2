"""A diagnostic game in which acting well needs the teammate's goal, and only its past moves tell which one it is.

Two agents stand in the middle of a line of five cells. The teammate is going to one of its ends, drawn for each
episode. It peeks: at one of the first three steps it moves a cell that way, and back. Then both set off at the same
time, and arrive two steps later; the team gets 1 if they arrive at the same end.
"""

from collections.abc import Sequence

import numpy as np

from envs.multiagentenv import Info, SeededEnv

N_CELLS = 5
MIDDLE = N_CELLS // 2
PEEKS = 3  # steps at which the teammate may peek
SET_OFF = PEEKS + 1  # the step at which both leave: the teammate is back in the middle
LEARNER, TEAMMATE = range(2)
LEFT, STAY, RIGHT = range(3)


class GoalGame(SeededEnv):
    """Actions: left, stay, right. Agent 0 must stay until it may set off, so that its own place remembers nothing. Of
    agent 1, the teammate, only the move of its script is available, whoever plays it.

    An agent sees, one-hot, its own cell, the other's, and the step; the state is what agent 0 sees. When they set off,
    that is the same for both goals, so that without memory one half of the episodes is the best that can be had. The
    teammate's next step shows its goal, too late to turn round. (Agent models that learn from the choices of others,
    base and liam, have nothing to learn here: the teammate has none.)
    """

    n_agents = 2
    episode_limit = SET_OFF + MIDDLE

    def __init__(self, seed: int | None = None):
        super().__init__(seed)
        self.reset()

    def reset(self) -> tuple[list[np.ndarray], np.ndarray]:
        self.t = 0
        self.cells = [MIDDLE, MIDDLE]
        self.goes_right = bool(self._rng.integers(2))
        there, back = (RIGHT, LEFT) if self.goes_right else (LEFT, RIGHT)
        peek = int(self._rng.integers(PEEKS))
        self._script = [STAY] * SET_OFF + [there] * MIDDLE
        self._script[peek : peek + 2] = there, back
        return self.get_obs(), self.get_state()

    def step(self, actions: Sequence[int]) -> tuple[float, bool, Info]:
        if not all(avail[int(action)] for action, avail in zip(actions, self.get_avail_actions(), strict=True)):
            raise ValueError(f"actions {list(actions)} are not all available")
        self.cells = [cell + int(action) - STAY for cell, action in zip(self.cells, actions)]
        self.t += 1
        is_over = self.t == self.episode_limit
        return float(is_over and self.cells[LEARNER] == self.cells[TEAMMATE]), is_over, {}

    def get_obs(self) -> list[np.ndarray]:
        cell, step = np.eye(N_CELLS, dtype=np.float32), np.eye(self.episode_limit + 1, dtype=np.float32)[self.t]
        return [np.concatenate([cell[self.cells[i]], cell[self.cells[1 - i]], step]) for i in (LEARNER, TEAMMATE)]

    def get_state(self) -> np.ndarray:
        return self.get_obs()[LEARNER]

    def get_avail_actions(self) -> list[list[int]]:
        if self.t < SET_OFF:
            of_learner = [0, 1, 0]
        else:
            of_learner = [int(0 <= self.cells[LEARNER] + move < N_CELLS) for move in (-1, 0, 1)]
        move = self._script[min(self.t, self.episode_limit - 1)]
        return [of_learner, [int(action == move) for action in (LEFT, STAY, RIGHT)]]

    def get_obs_size(self) -> int:
        return 2 * N_CELLS + self.episode_limit + 1

    def get_state_size(self) -> int:
        return self.get_obs_size()

    def get_total_actions(self) -> int:
        return 3
