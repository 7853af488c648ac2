"""The episode runner over many worlds at once: in a process each, unless the environment plays them all in this one."""

from collections.abc import Sequence
from typing import Any

from envs import REGISTRY as ENVS
from envs.multiagentenv import VectorEnv, WorkerLimits
from runners.episode_runner import EpisodeRunner


class ParallelRunner(EpisodeRunner):
    """Plays the same episodes as `EpisodeRunner` does with as many worlds."""

    def make_env(self, seeds: Sequence[int], env_args: dict[str, Any]) -> VectorEnv:
        limits = WorkerLimits(self.args.max_worker_restarts, self.args.worker_timeout_seconds)
        return ENVS[self.args.env].vector(seeds, workers=limits, **env_args)
