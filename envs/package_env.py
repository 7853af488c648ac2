"""What the environments of other packages have in common: `foraging.py`, `predator_prey.py` and `spaces_env.py`.

Such a package is imported when a world of it is made. What it leaves open is as in EPyMARL: the state is all
observations joined, and every action can always be taken.
"""

import importlib
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from envs.multiagentenv import SeededEnv
from utils.errors import UserError


class PackageEnv(SeededEnv):
    """A world whose episodes each begin with a seed of their own, drawn from the environment's."""

    n_actions: int
    package: ClassVar[str]
    """The name by which the package is imported."""

    def __init__(self, seed: int | None = None):
        super().__init__(seed)
        self._obs = np.zeros((0, 0), np.float32)  # [agent, obs_shape], from the constructor's first reset on

    @abstractmethod
    def _reset(self, seed: int) -> None:
        """Starts the episode of this seed and writes `_obs`."""

    @classmethod
    def resolve(cls, **env_args: Any) -> None:
        cls(**env_args).close()

    @classmethod
    def _import(cls, module: str) -> Any:
        """Returns a module of the package. Raises: UserError where it can't be imported."""
        try:
            return importlib.import_module(f"{cls.package}.{module}".rstrip("."))
        except ImportError as error:
            raise UserError(
                f"this environment needs the package {cls.package}, which can't be imported ({error}); "
                "get it with `pip install -r requirements-envs.txt`"
            ) from error

    @staticmethod
    def _import_of_user(module: str) -> Any:
        """Returns a module that an argument names. Raises: UserError where it can't be imported."""
        try:
            return importlib.import_module(module)
        except (ImportError, TypeError, ValueError) as error:  # the latter two: it is no name of a module
            package = module.partition(".")[0]
            raise UserError(
                f"the module '{module}' can't be imported ({error}); correct its name, or install its package, such as "
                f"with `pip install {package}` or `pip install -r requirements-envs.txt`"
            ) from error

    def reset(self) -> tuple[list[np.ndarray], np.ndarray]:
        self._reset(int(self._rng.integers(2**31)))
        return self.get_obs(), self.get_state()

    def get_obs(self) -> list[np.ndarray]:
        return list(self._obs)

    def get_state(self) -> np.ndarray:
        return self._obs.ravel()

    def get_avail_actions(self) -> list[list[int]]:
        return [[1] * self.n_actions] * self.n_agents

    def get_obs_size(self) -> int:
        return self._obs.shape[1]

    def get_state_size(self) -> int:
        return self._obs.size

    def get_total_actions(self) -> int:
        return self.n_actions
