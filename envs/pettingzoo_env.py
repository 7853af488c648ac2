"""Any PettingZoo environment with a parallel interface (Terry et al. 2021), whose agents are all of one team.

What it has in common with Gymnasium's is in `spaces_env.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envs.spaces_env import Answer, SpacesEnv, made
from utils.config import key
from utils.errors import UserError


class PettingZooEnv(SpacesEnv):
    """`module` is imported and its `parallel_env` is called with the other arguments.

    Masks are read from `info[agent]["action_mask"]`, or from observations that are dicts of `observation` and
    `action_mask`. An agent that has left sees zeros, earns nothing, and has its first action only. The episode ends
    when no agent is left or all have terminated.
    """

    @dataclass(frozen=True)
    class Keys(SpacesEnv.Keys):
        module: str = key("", "the module that has its parallel_env, such as mpe2.simple_spread_v3")

    package = "gymnasium"

    @property
    def _title(self) -> str:
        return f"env_args.module={self._module}"

    def _make(self, keys: Any, extra: dict[str, Any]) -> tuple[Sequence[Any], Sequence[Any]]:
        self._module = keys.module
        if not keys.module:
            raise UserError(
                "env_args.module names no environment; give the module of one, such as "
                "env_args.module=mpe2.simple_spread_v3"
            )
        module = self._import_of_user(keys.module)
        if not hasattr(module, "parallel_env"):
            raise UserError(
                f"{self._title} has no parallel_env; only environments in which all agents act at once can be played"
            )
        self._env = made(self._title, module.parallel_env, extra)
        self._names = list(self._env.possible_agents)
        observations = [self._env.observation_space(name) for name in self._names]
        self._is_masked = [_is_masked(space) for space in observations]
        inner = [space["observation"] if masked else space for space, masked in zip(observations, self._is_masked)]
        return inner, [self._env.action_space(name) for name in self._names]

    def _begin(self, seed: int) -> None:
        self._ended: set[str] = set()
        self._see(*self._env.reset(seed=seed))

    def _play(self, actions: list[int]) -> Answer:
        chosen = dict(zip(self._names, actions))
        obs, rewards, terminated, truncated, infos = self._env.step({name: chosen[name] for name in self._env.agents})
        self._ended |= {name for name, ended in terminated.items() if ended}
        self._see(obs, infos)
        is_end = len(self._ended) == len(self._names)
        is_over = not self._env.agents or all(terminated[name] or truncated[name] for name in terminated)
        return Answer([float(rewards.get(name, 0)) for name in self._names], is_end, is_over and not is_end)

    def _see(self, obs: Mapping[str, Any], infos: Mapping[str, Any]) -> None:
        seen: list[Any] = []
        masks: list[Any] = []
        for i, name in enumerate(self._names):
            if name not in obs or name in self._ended:
                seen.append(None)
                masks.append([1] + [0] * (self._counts[i] - 1))
                continue
            holder = obs[name] if self._is_masked[i] else infos.get(name, {})
            seen.append(obs[name]["observation"] if self._is_masked[i] else obs[name])
            masks.append(holder.get("action_mask"))
        self._look(seen, masks)


def _is_masked(space: Any) -> bool:
    return {"observation", "action_mask"} == set(getattr(space, "spaces", ()))
