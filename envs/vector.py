"""`VectorEnv` over any `MultiAgentEnv`: one after the other in this process, or all at once in a process each.

What happens inside of such a process is in `worker.py`.
"""

import atexit
import logging
import pickle
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from envs import answers
from envs.multiagentenv import EnvInfo, Field, MultiAgentEnv, Observations, Outcomes, State, VectorEnv, WorkerLimits
from envs.worker import Failure, MemoryFile, SharedStep, Worker, WorkerLost, row_type
from utils.errors import UserError
from utils.logging import LOGGER_NAME
from utils.memory import format_bytes, free_memory
from utils.seeding import replacement_seed

BYTES_PER_WORKER = 30_000_000  # at least, with Python and NumPy in it
CLOSE_SECONDS = 10.0  # for all worlds to be closed, before their processes are killed


class SerialVectorEnv(VectorEnv):
    """Plays the given worlds, which must have equal sizes, in turn.

    Raises, in `get_env_info`, `reset` and `step`: UserError where a world breaks the interface (`answers.py`).
    """

    def __init__(self, envs: Sequence[MultiAgentEnv]):
        self.envs = list(envs)
        self.n_envs = len(self.envs)
        self.info_keys = self.envs[0].info_keys

    def get_env_info(self) -> EnvInfo:
        return answers.whole_sizes(self.envs[0].get_env_info(), type(self.envs[0]).__name__)

    @cached_property
    def _own_fields(self) -> dict[str, Field]:
        return {name: field for name, field in self.get_env_info().get("fields", {}).items() if name != "reward"}

    def reset(self, observations: Observations, worlds: np.ndarray | None = None) -> None:
        for i in self.rows_of(worlds).tolist():
            self.envs[i].reset()
            self._write(i, observations)

    def step(
        self, actions: np.ndarray, observations: Observations, outcomes: Outcomes, worlds: np.ndarray | None = None
    ) -> None:
        for i in self.rows_of(worlds).tolist():
            env = self.envs[i]
            name = type(env).__name__
            outcomes.reward[i], over, info = answers.read_step(name, env.step(actions[i]), outcomes.reward.shape[1:])
            truncated = over and answers.read_flag(name, "episode_limit", info.get("episode_limit", False))
            outcomes.terminated[i] = over and not truncated
            outcomes.truncated[i] = truncated
            outcomes.lost[i] = lost = answers.read_flag(name, "lost", info.get("lost", False))
            for key in self.info_keys:
                outcomes.info[key][i] = answers.read_entry(name, info, key)
            if not lost:
                self._write(i, observations, is_over=over and not truncated)

    def get_stats(self) -> list[dict[str, float]]:
        return [env.get_stats() for env in self.envs]

    def state_dict(self) -> State | None:
        states = [env.state_dict() for env in self.envs]
        return None if None in states else {"worlds": states}

    def load_state_dict(self, state: State) -> None:
        for env, world in zip(self.envs, state["worlds"], strict=True):
            env.load_state_dict(world)

    @property
    def keeps_replays(self) -> bool:
        return self.envs[0].keeps_replays

    def save_replay(self) -> Sequence[Path] | None:
        return self.envs[0].save_replay()

    def close(self) -> None:
        for env in self.envs:
            env.close()

    def _write(self, i: int, observations: Observations, is_over: bool = False) -> None:
        env, name = self.envs[i], type(self.envs[i]).__name__
        answers.write(name, "get_obs", env.get_obs(), observations.obs[i], "n_agents, get_obs_size()")
        answers.write(name, "get_state", env.get_state(), observations.state[i], "get_state_size()")
        answers.write_avail_actions(name, env.get_avail_actions(), observations.avail_actions[i], is_over)
        for own, field in self._own_fields.items():
            answers.write_field(env, own, vars(observations)[own][i, ...], field.below)


class ProcessVectorEnv(VectorEnv):
    """Plays one world per seed, each in a worker process of its own.

    A world's exception is raised here, with its traceback and the world's index. A worker that dies, or is silent for
    `limits.timeout_seconds`, is replaced: the world is lost (`Outcomes.lost`), and a new one with the seed
    `replacement_seed(seed, n)`, the n-th after the first, waits for its `reset`.

    Raises, wherever a world is called:
        UserError, ValueError: the world raised one.
        RuntimeError: the world raised something else, or more than `limits.max_restarts` workers were lost.
    """

    def __init__(
        self, env_class: type[MultiAgentEnv], seeds: Sequence[int], limits: WorkerLimits, env_args: dict[str, object]
    ):
        self.n_envs = len(seeds)
        if self.n_envs * BYTES_PER_WORKER > free_memory():
            raise UserError(
                f"there is no memory for a process for each of {self.n_envs} environments: "
                f"{format_bytes(free_memory())} are free; lower batch_size_run"
            )
        self.seeds = list(seeds)
        self.limits = limits
        self._recipe = pickle.dumps((env_class, env_args))
        self._n_restarts = np.zeros(self.n_envs, int)
        self._lost = np.zeros(self.n_envs, bool)
        self._file = MemoryFile.new()
        self._workers: list[Worker] = []
        atexit.register(self.close)
        try:
            for i, seed in enumerate(seeds):
                self._workers.append(Worker(i, seed, self._recipe, self._file))
            self._env_info, self.info_keys, self._keeps_replays = self._ask(range(self.n_envs), "launch")[0]
            row = row_type(self._env_info, self.info_keys)
            self._file.truncate(self.n_envs * row.itemsize)
            self._shared: SharedStep | None = SharedStep.of(np.ndarray(self.n_envs, row, self._file.map()))
        except BaseException:
            self.close()
            raise

    def get_env_info(self) -> EnvInfo:
        return dict(self._env_info)

    def reset(self, observations: Observations, worlds: np.ndarray | None = None) -> None:
        assert self._shared is not None
        self._ask(self.rows_of(worlds).tolist(), "reset")
        rows = slice(None) if worlds is None else worlds
        self._lost[rows] = self._shared.outcomes.lost[rows] = False
        _copy_rows(vars(self._shared.observations), vars(observations), rows)

    def step(
        self, actions: np.ndarray, observations: Observations, outcomes: Outcomes, worlds: np.ndarray | None = None
    ) -> None:
        assert self._shared is not None
        rows = slice(None) if worlds is None else worlds
        self._shared.actions[rows] = actions[rows]
        self._call([i for i in self.rows_of(worlds).tolist() if not self._lost[i]], "step")
        self._shared.outcomes.lost[self._lost] = True
        _copy_rows(vars(self._shared.observations), vars(observations), rows)
        _copy_rows(self._shared.outcomes._asdict(), outcomes._asdict(), rows)

    def get_stats(self) -> list[dict[str, float]]:
        return [stats for (stats,) in self._ask(range(self.n_envs), "get_stats")]

    def state_dict(self) -> State | None:
        states = self._ask(range(self.n_envs), "state_dict")
        return None if None in states else {"worlds": [world for state in states for world in state["worlds"]]}

    def load_state_dict(self, state: State) -> None:
        for i, world in zip(range(self.n_envs), state["worlds"], strict=True):
            self._ask([i], "load_state_dict", {"worlds": [world]})

    @property
    def keeps_replays(self) -> bool:
        return self._keeps_replays

    def save_replay(self) -> Sequence[Path] | None:
        return self._ask([0], "save_replay")[0]

    def close(self) -> None:
        atexit.unregister(self.close)
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.connection.close()
        self._shared = None
        self._file.close()
        deadline = time.monotonic() + CLOSE_SECONDS
        for worker in workers:
            worker.process.join(max(deadline - time.monotonic(), 0))
            if worker.process.is_alive():
                message = f"{worker.process.name} was not closed within {CLOSE_SECONDS:.0f} s and is killed"
                logging.getLogger(LOGGER_NAME).warning(message)
            worker.kill()

    def _ask(self, worlds: Sequence[int], method: str, *arguments: object) -> list[Any]:
        """Returns the worlds' answers, in their order; in place of a lost world the one that replaces it answers."""
        answers: dict[int, Any] = {}
        while missing := [i for i in worlds if i not in answers]:
            answers |= self._call(missing, method, *arguments)
        return [answers[i] for i in worlds]

    def _call(self, worlds: Sequence[int], method: str, *arguments: object) -> dict[int, Any]:
        """Calls a method of all these worlds at once; returns the answers of those that are not lost."""
        for i in worlds:
            self._workers[i].send(method, arguments, self.limits.timeout_seconds)
        answers, losses = {}, {}
        for i in worlds:
            try:
                answers[i] = self._workers[i].answer()
            except WorkerLost as loss:
                losses[i] = str(loss)
        for i, answer in answers.items():
            if isinstance(answer, Failure):
                where = "" if answer.kind is UserError else f"{self._name(i)} failed in its worker process:\n\n"
                raise answer.kind(where + answer.text)
        for i, reason in losses.items():
            self._replace(i, f"{reason} in {method}")
        return answers

    def _replace(self, i: int, reason: str) -> None:
        self._workers[i].kill()
        limit, n_restarts = self.limits.max_restarts, int(self._n_restarts.sum())
        if n_restarts == limit:
            raise RuntimeError(
                f"{self._name(i)} {reason}, and max_worker_restarts={limit} workers have been replaced before; look "
                "for the cause, such as too little memory, then lower batch_size_run, or raise max_worker_restarts, or "
                "worker_timeout_seconds where the environment needs more time"
            )
        self._n_restarts[i] += 1
        self._lost[i] = True
        seed = replacement_seed(self.seeds[i], int(self._n_restarts[i]))
        place = f"a new one with seed {seed} takes its place (restart {n_restarts + 1} of at most {limit})"
        logging.getLogger(LOGGER_NAME).warning(f"{self._name(i)} {reason}; {place}")
        self._workers[i] = Worker(i, seed, self._recipe, self._file)

    def _name(self, i: int) -> str:
        return f"environment {i} of 0 to {self.n_envs - 1}"


def _copy_rows(source: dict, target: dict, rows: np.ndarray | slice) -> None:
    """Copies rows of all arrays, those of inner dicts included."""
    for name, array in source.items():
        if isinstance(array, dict):
            _copy_rows(array, target[name], rows)
        else:
            target[name][rows] = array[rows]
