"""Runners play episodes: they join an environment and a team into an EpisodeBatch."""

from utils.registry import Registry

REGISTRY = Registry(
    "runner",
    episode="runners.episode_runner:EpisodeRunner",
    parallel="runners.parallel_runner:ParallelRunner",
)
