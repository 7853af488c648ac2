"""Any multi-agent environment that is registered with Gymnasium (EPyMARL's `gymma`), such as LBF and RWARE.

What it has in common with PettingZoo's is in `spaces_env.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.spaces_env import Answer, SpacesEnv, made
from utils.config import key
from utils.errors import UserError, nearest


class GymmaEnv(SpacesEnv):
    """`key` is the name under which it is registered, `MODULE:NAME` where importing MODULE registers it.

    Its action space is a Tuple of Discrete spaces, one for each agent, and its observation space a Tuple. `step`
    returns rewards, one for each agent or one for all, and masks, if any, as `info["action_mask"]`, one row for each
    agent.
    """

    @dataclass(frozen=True)
    class Keys(SpacesEnv.Keys):
        key: str = key("", "the environment's name, such as rware:rware-tiny-2ag-v2")

    package = "gymnasium"

    @property
    def _title(self) -> str:
        return f"env_args.key={self._key}"

    def _make(self, keys: Any, extra: dict[str, Any]) -> tuple[Sequence[Any], Sequence[Any]]:
        gymnasium = self._import("")
        self._key = keys.key
        if not keys.key:
            raise UserError(
                "env_args.key names no environment; give the name of one that is registered with Gymnasium, such as "
                "env_args.key=lbforaging:Foraging-8x8-2p-3f-v3"
            )
        module, colon, name = keys.key.rpartition(":")
        if colon:
            self._import_of_user(module)
        try:
            gymnasium.spec(name)
        except gymnasium.error.Error as error:
            hint = nearest(name, gymnasium.registry) or "; write MODULE:NAME where MODULE registers it"
            raise UserError(f"{self._title}: Gymnasium knows no environment '{name}'{hint}") from error
        self._env = made(self._title, lambda **given: gymnasium.make(name, disable_env_checker=True, **given), extra)
        observations, actions = self._env.observation_space, self._env.action_space
        if not all(isinstance(space, gymnasium.spaces.Tuple) for space in (observations, actions)):
            raise UserError(
                f"{self._title} has one agent, with actions {actions}; take an environment whose observation and "
                "action spaces are Tuples of one space for each agent"
            )
        return list(observations), list(actions)

    def _begin(self, seed: int) -> None:
        obs, info = self._env.reset(seed=seed)
        self._look(obs, self._masks(info))

    def _play(self, actions: list[int]) -> Answer:
        obs, rewards, terminated, truncated, info = self._env.step(actions)
        self._look(obs, self._masks(info))
        is_end = bool(np.all(terminated))
        return Answer(rewards, is_end, not is_end and bool(np.all(np.logical_or(terminated, truncated))))

    def _masks(self, info: Any) -> Sequence[Any]:
        masks = info.get("action_mask") if isinstance(info, dict) else None
        return [None] * self.n_agents if masks is None else masks
