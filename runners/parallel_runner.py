"""The episode runner over many worlds at once: in a process each, unless the environment plays them all in this one."""

from runners.episode_runner import EpisodeRunner


class ParallelRunner(EpisodeRunner):
    """Plays the same episodes as `EpisodeRunner` does with as many worlds."""

    parallel = True
