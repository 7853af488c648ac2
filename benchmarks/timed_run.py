"""A run of main.py that is played step by step under a stopwatch, for `collect.py` and `training.py`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

import main as command_line
from run import Run
from utils.logging import Logger, get_logger

PHASES = ("engine", "policy", "storing", "sampling", "update")


class Speed(NamedTuple):
    """What some time of a run came to. Counted are seconds of computing: waiting for a processor is not in them."""

    n_steps: int  # of the environment
    seconds: float
    cores_had: float  # seconds of computing per second that passed
    shares: dict[str, float]  # of `seconds`, by phase; "other" is the rest

    @property
    def steps_per_second(self) -> float:
        return self.n_steps / self.seconds


class TimedRun:
    """An algorithm on a map of the embedded engine, with its default settings but for `settings` of the command line.

    It writes nothing. `seconds` adds up the computing in each of PHASES.
    """

    def __init__(self, algorithm: str, map_name: str, results: Path, settings: Sequence[str] = ()):
        own = [f"env_args.map_name={map_name}", "env_args.engine=sim", "seed=1", "use_cuda=False"]
        given = [f"--config={algorithm}", "--env-config=sc2", "with", *own, f"local_results_path={results}", *settings]
        config = command_line.settings(*given)
        logger = Logger(get_logger())
        logger.console_logger.setLevel("ERROR")
        self.parts = Run(config, logger)
        self.seconds = dict.fromkeys(PHASES, 0.0)
        for owner, method, phase in (
            (self.parts.runner.env, "reset", "engine"),
            (self.parts.runner.env, "step", "engine"),
            (self.parts.team, "select_actions", "policy"),
            (self.parts.buffer, "insert_episode_batch", "storing"),
            (self.parts.buffer, "sample", "sampling"),
            (self.parts.learner, "train", "update"),
        ):
            setattr(owner, method, self._timed(getattr(owner, method), phase))

    def collect(self) -> None:
        """Plays an episode in each world, and stores it."""
        self.parts.buffer.insert_episode_batch(self.parts.runner.run())

    def train(self) -> None:
        """One round of the training loop of run.py: episodes, and where there are enough, an update."""
        self.parts.play_and_learn()

    def speed(self, work: Callable[[], None], seconds: float) -> Speed:
        """Does `work` until so much time has passed."""
        self.seconds = dict.fromkeys(PHASES, 0.0)
        first_t, started, started_computing = self.parts.runner.t_env, perf_counter(), process_time()
        while (passed := perf_counter() - started) < seconds:
            work()
        computed = process_time() - started_computing
        shares = {phase: spent / computed for phase, spent in self.seconds.items()}
        shares["other"] = 1 - sum(shares.values())
        return Speed(self.parts.runner.t_env - first_t, computed, computed / passed, shares)

    def close(self) -> None:
        self.parts.close()

    def _timed(self, method: Callable[..., Any], phase: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = process_time()
            try:
                return method(*args, **kwargs)
            finally:
                self.seconds[phase] += process_time() - started

        return timed
