"""Runners play episodes: they join an environment and the controller that they are handed into an EpisodeBatch."""

from utils.registry import Registry

# One class: it plays any number of worlds. The names say what `batch_size_run` may be (config/schema.py).
REGISTRY = Registry(
    "runner",
    {"episode": "runners.episode_runner:EpisodeRunner", "parallel": "runners.episode_runner:EpisodeRunner"},
)
