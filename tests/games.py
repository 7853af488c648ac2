"""Tiny worlds for tests: games whose values are known by hand, and worlds that misbehave.

`configure` makes the configuration of a run in one of them, by the real command line's code.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

import main
from envs import REGISTRY
from envs.multiagentenv import Field, MultiAgentEnv
from utils.dict2namedtuple import convert

NAME = "game_of_a_test"


@contextmanager
def registered(game: type[MultiAgentEnv]) -> Iterator[None]:
    """Inside the `with`, runs that `configure` made are played in `game`."""
    REGISTRY[NAME] = game
    try:
        yield
    finally:
        del REGISTRY[NAME]


def configure(alg: str, env_args: dict[str, Any] | None = None, batch_size_run: int = 1, **settings: Any) -> dict:
    """What main.py hands to run.py for `--config=alg --key=value ...`, but in the registered game, without a GPU and,
    unless a setting asks for them, without worker processes, which take a second each to start.
    """
    quiet = {"use_cuda": False, "use_tensorboard": False}
    params = [f"--{key}={value}" for key, value in (quiet | settings).items()]
    config = main.read_settings(*[f"--config={alg}", "--env-config=sc2", *params])
    world = {"env": NAME, "env_args": env_args or {}, "batch_size_run": batch_size_run}
    world["runner"] = settings.get("runner", "episode")
    if config["batch_size"] == config["batch_size_run"]:  # a batch is what has just been played
        world |= {"batch_size": batch_size_run, "buffer_size": batch_size_run}
    with nullcontext() if NAME in REGISTRY else registered(Game):
        if "omg_horizon" in config:
            world["omg_horizon"] = min(config["omg_horizon"], REGISTRY[NAME].episode_limit)
        return main.resolve({**config, **world})


def frozen(config: dict) -> Any:
    """The `args` that run.py makes of it before it knows the environment's sizes."""
    return convert({**config, "device": config["resolved"]["device"], "models_path": config["local_results_path"]})


class Game(MultiAgentEnv):
    """Two agents with two actions; all see the state, which is the one-hot place [n_places]. Any map is the same."""

    n_agents = 2
    n_actions = 2
    n_places = 1
    episode_limit = 1

    def __init__(self, seed: int | None = None, map_name: str = ""):
        self._seed = seed
        self.rng = np.random.default_rng(seed)
        self.place, self.t, self.is_over = 0, 0, True

    def state_dict(self) -> dict[str, Any]:
        return {"random": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rng.bit_generator.state = state["random"]

    def play(self, actions: Sequence[int]) -> tuple[float, bool]:
        """The rule: moves on from `self.place` and `self.t`; gives (reward, over)."""
        raise NotImplementedError

    def reset(self) -> tuple[list[np.ndarray], np.ndarray]:
        self.place, self.t, self.is_over = 0, 0, False
        return self.get_obs(), self.get_state()

    def step(self, actions: Sequence[int]) -> tuple[float, bool, dict[str, Any]]:
        if self.is_over:
            raise RuntimeError("a step after the end of the episode")
        reward, self.is_over = self.play([int(action) for action in actions])
        self.t += 1
        return reward, self.is_over, self.info()

    def info(self) -> dict[str, Any]:
        return {}

    def get_state(self) -> np.ndarray:
        return np.eye(self.n_places, dtype=np.float32)[self.place]

    def get_obs(self) -> list[np.ndarray]:
        return [self.get_state()] * self.n_agents

    def get_avail_actions(self) -> list[list[int]]:
        return [[1] * self.n_actions] * self.n_agents

    def get_obs_size(self) -> int:
        return self.n_places

    def get_state_size(self) -> int:
        return self.n_places

    def get_total_actions(self) -> int:
        return self.n_actions

    def seed(self) -> int | None:
        return self._seed


class MatrixGame(Game):
    """One step; both must choose the second action, which also pays most on average: 3 at best."""

    def play(self, actions: Sequence[int]) -> tuple[float, bool]:
        return ((1.0, 0.0), (0.0, 3.0))[actions[0]][actions[1]], True


class TwoStepGame(Game):
    """Rashid et al. 2018, section 5: the first agent leads to a sure 7, or to a game that pays 8 if both know it.

    The best sum of two agents' values for that game is 6.5, so that who can only add them up stays with 7.
    """

    n_places = 3
    episode_limit = 2

    def play(self, actions: Sequence[int]) -> tuple[float, bool]:
        if self.place == 0:
            self.place = 1 + actions[0]
            return 0.0, False
        if self.place == 1:
            return 7.0, True
        return ((0.0, 1.0), (1.0, 8.0))[actions[0]][actions[1]], True


class MemoryGame(Game):
    """A cue, 0 or 1, is seen at the first of three steps; at the last one both must choose it: 1, else 0."""

    n_places = 3  # cue 0, cue 1, nothing to see
    episode_limit = 3

    def reset(self) -> tuple[list[np.ndarray], np.ndarray]:
        super().reset()
        self.cue = self.place = int(self.rng.integers(2))
        return self.get_obs(), self.get_state()

    def play(self, actions: Sequence[int]) -> tuple[float, bool]:
        self.place = 2
        is_last = self.t == self.episode_limit - 1
        return float(is_last and all(action == self.cue for action in actions)), is_last


class EndlessGame(Game):
    """Every step pays 1 and nothing ever ends, but a time limit of three steps cuts it off."""

    episode_limit = 3

    def play(self, actions: Sequence[int]) -> tuple[float, bool]:
        return 1.0, self.t == self.episode_limit - 1

    def info(self) -> dict[str, Any]:
        return {"episode_limit": self.is_over}


class RandomGame(Game):
    """Episodes of random lengths, observations, availability and rewards, all drawn from the world's seed.

    What is drawn depends on the actions, so that two histories agree only if all their actions do.
    """

    n_agents = 3
    n_actions = 4
    n_places = 5
    episode_limit = 7
    info_keys = ("battle_won", "steps_done")

    def reset(self) -> tuple[list[np.ndarray], np.ndarray]:
        self.length = int(self.rng.integers(1, self.episode_limit + 1))
        self._draw()
        return super().reset()

    def play(self, actions: Sequence[int]) -> tuple[float, bool]:
        if not all(self.avail[agent, action] for agent, action in enumerate(actions)):
            raise ValueError(f"actions {actions} are not all available")
        self.rng.random(1 + sum(actions))
        self._draw()
        return float(self.rng.normal()), self.t + 1 >= self.length

    def info(self) -> dict[str, Any]:
        # "episode_limit" as SMAC has it, and things that nobody declared as statistics
        return {
            "battle_won": self.length % 2 == 0,
            "steps_done": self.t,
            "episode_limit": self.t == self.episode_limit,
            "junk": 12.5,
            "words": "no number",
        }

    def _draw(self) -> None:
        self.obs = self.rng.normal(size=(self.n_agents, self.n_places)).astype(np.float32)
        self.avail = self.rng.random((self.n_agents, self.n_actions)) < 0.5
        self.avail[:, 0] |= ~self.avail.any(1)

    def get_obs(self) -> list[np.ndarray]:
        return list(self.obs)

    def get_state(self) -> np.ndarray:
        return self.obs.mean(0)

    def get_avail_actions(self) -> list[list[int]]:
        return self.avail.astype(int).tolist()


class Harvest(RandomGame):
    """Declares three fields: of each agent, of the team, and a whole number."""

    fields = {"own_food": Field((2,), group="agents"), "weather": Field(3), "clock": Field((), "int64", below=8)}

    def get_own_food(self) -> np.ndarray:
        return 2 * self.obs[:, :2]

    def get_weather(self) -> np.ndarray:
        return self.obs[0, :3] + 1

    def get_clock(self) -> int:
        return self.t


class Wages(RandomGame):
    """Pays agent i (i + 1) times what the first one gets; the team gets the sum."""

    def __init__(self, seed: int | None = None, common_reward: bool = True):
        super().__init__(seed)
        self.common_reward = common_reward

    def step(self, actions: Sequence[int]) -> tuple[Any, bool, dict[str, Any]]:
        reward, over, info = super().step(actions)
        own = [reward * (i + 1) for i in range(3)]
        return sum(own) if self.common_reward else own, over, info


class CrashingGame(EndlessGame):
    """Raises `error` at its step number `crash_step` (from 1 on, over all episodes), and remembers who was closed."""

    closed: list[int | None] = []

    def __init__(self, error: type[BaseException] = OSError, crash_step: int = 1000, seed: int | None = None):
        super().__init__(seed)
        self.error, self.steps_left = error, crash_step

    def play(self, actions: Sequence[int]) -> tuple[float, bool]:
        self.steps_left -= 1
        if self.steps_left == 0:
            raise self.error("the world is gone")
        return super().play(actions)

    def close(self) -> None:
        self.closed.append(self._seed)


class TroubledGame(RandomGame):
    """Meets with troubles, {seed: (kind, step)}, at that step over all episodes, from 1 on; step 0: when it is made.

    "die" kills its process, "hang" is silent for ever, and a class of errors is raised.
    """

    def __init__(self, seed: int, troubles: Mapping[int, tuple[Any, int]] | None = None):
        super().__init__(seed)
        self.trouble, self.steps_left = (troubles or {}).get(seed, (None, -1))
        self._meet_trouble()

    def play(self, actions: Sequence[int]) -> tuple[float, bool]:
        self.steps_left -= 1
        self._meet_trouble()
        return super().play(actions)

    def _meet_trouble(self) -> None:
        if self.steps_left != 0:
            return
        if self.trouble == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "hang":
            time.sleep(1000)
        raise self.trouble("the world is gone")

    def get_stats(self) -> dict[str, float]:
        return {"seed": self._seed, "has_torch": "torch" in sys.modules}


class ProgramGame(RandomGame):
    """Played by a program of its own, as StarCraft II's battles are. Troubles are as `TroubledGame`'s, of other kinds:

    "crash" ends the program, which is started anew, "hang" has it answer no more, and "vanish" kills the process that
    started it.
    """

    needs_process = True

    def __init__(self, seed: int, troubles: Mapping[int, tuple[str, int]] | None = None):
        super().__init__(seed)
        self.trouble, self.steps_left = (troubles or {}).get(seed, ("", -1))
        self.crashed = False
        self._launch()

    def _launch(self) -> None:
        # the program has a child of its own by the time that it has written its line
        self.program = subprocess.Popen(["sh", "-c", "sleep 1000 & echo; wait"], stdout=subprocess.PIPE)
        assert self.program.stdout is not None
        self.program.stdout.readline()

    def reset(self) -> tuple[list[np.ndarray], np.ndarray]:
        self.crashed = False
        return super().reset()

    def play(self, actions: Sequence[int]) -> tuple[float, bool]:
        self.steps_left -= 1
        if self.steps_left == 0 and self.trouble == "vanish":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.steps_left == 0:
            if self.trouble == "crash":
                self.close()
            self.program.wait()
            self._launch()
            self.crashed = True
            return 0.0, True
        return super().play(actions)

    def info(self) -> dict[str, Any]:
        return {"lost": True} if self.crashed else super().info()

    def get_stats(self) -> dict[str, float]:
        return {"seed": self._seed, "program": self.program.pid}

    def close(self) -> None:
        self.program.kill()
        self.program.wait()


class UnendingGame(EndlessGame):
    """Goes on beyond its own limit."""

    def play(self, actions: Sequence[int]) -> tuple[float, bool]:
        return 1.0, False
