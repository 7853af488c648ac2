"""Console logging, and the Logger through which statistics reach the console, TensorBoard, Sacred and JSON lines.
The progress line is in utils/progress.py, what writes curves in utils/curves.py and lines in utils/records.py.
"""

import logging
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, SupportsFloat

from utils.curves import EventWriter, LegacyWriter, curve_writer
from utils.files import Json
from utils.records import JsonLines
from utils.trackers import Tracker

if TYPE_CHECKING:
    from sacred.run import Run as SacredRun

LOGGER_NAME = "pymarl"
STATS_PER_LINE = 4
RECENT_VALUES = 5
LATEST_ONLY = ("epsilon", "dropped_episodes")  # a schedule and a count, of which a mean says little


def get_logger() -> logging.Logger:
    """Returns the program's own logger, writing to stderr; the root logger stays as other packages expect it."""
    logger = logging.getLogger(LOGGER_NAME)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("[%(levelname)s %(asctime)s] %(name)s %(message)s", "%H:%M:%S"))
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return logger


class Logger:
    """Collects statistics: `stats[key]` is the list of (t, value); what is set up gets each of them, too."""

    def __init__(self, console_logger: logging.Logger) -> None:
        self.console_logger = console_logger
        self.stats: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self._tb_writer: EventWriter | LegacyWriter | None = None
        self._sacred_run: SacredRun | None = None
        self._outside_sacred: set[str] = set()
        self._metrics: JsonLines | None = None
        self._test_episodes: JsonLines | None = None
        self._tracker: Tracker | None = None

    def setup_tb(self, directory: str | Path, backend: str = "torch") -> None:
        """Writes TensorBoard curves to `directory` from now on; the backends are in utils/curves.py."""
        self._tb_writer = curve_writer(Path(directory), backend)

    def setup_sacred(self, sacred_run: "SacredRun") -> None:
        """Records into the Sacred run from now on: its metrics, and `info[key]` beside `info[key + "_T"]`."""
        self._sacred_run = sacred_run

    def setup_tracker(self, tracker: Tracker) -> None:
        """Records with the tracker, too, from now on."""
        self._tracker = tracker

    def setup_records(self, directory: str | Path) -> None:
        """Appends statistics and test episodes to `metrics.jsonl` and `test_episodes.jsonl` there from now on."""
        self._metrics = JsonLines(Path(directory) / "metrics.jsonl")
        self._test_episodes = JsonLines(Path(directory) / "test_episodes.jsonl")

    def log_stat(self, key: str, value: SupportsFloat, t: int, to_sacred: bool = True) -> None:
        """Records one value at environment step `t`; a one-element tensor or NumPy scalar becomes a plain float."""
        value, t = float(value), int(t)
        self.stats[key].append((t, value))
        if not to_sacred:
            self._outside_sacred.add(key)
        self._write(key, value, t, to_sacred)

    def log_test_episode(self, episode: Json) -> None:
        """Records one test episode; what is known of it is the runner's business."""
        if self._test_episodes is not None:
            self._test_episodes.append({**episode, "time": time.time()})

    def _write(self, key: str, value: float, t: int, to_sacred: bool) -> None:
        """Hands one statistic to all that is set up."""
        if self._tb_writer is not None:
            self._tb_writer.add_scalar(key, value, t)
        if self._metrics is not None:
            self._metrics.append({"t_env": t, "key": key, "value": value, "time": time.time()})
        if self._tracker is not None:
            self._tracker.log(key, value, t)
        if self._sacred_run is not None and to_sacred:
            run = self._sacred_run
            if key not in run.info:
                # A new dict: Sacred's heartbeat thread may be iterating over the old one, which must not change size.
                run.info = {**run.info, key: [], f"{key}_T": []}
            run.info[key].append(value)
            run.info[f"{key}_T"].append(t)
            run.log_scalar(key, value, t)

    def state_dict(self) -> dict[str, list[tuple[int, float]]]:
        """Returns all statistics so far, but for those that are kept from Sacred: they differ from run to run."""
        return {key: list(values) for key, values in self.stats.items() if key not in self._outside_sacred}

    def load_state_dict(self, state: dict[str, list[tuple[int, float]]]) -> None:
        """Logs the statistics of an earlier run, so that the records of the run that resumes it hold whole curves."""
        history = [(t, key, value) for key, values in state.items() for t, value in values]
        for t, key, value in sorted(history, key=lambda entry: entry[0]):
            self.log_stat(key, value, t)

    def print_recent_stats(self) -> None:
        """Prints every statistic as the mean of its last values, under the latest environment step and episode."""
        t_env, episode = self.stats["episode"][-1] if self.stats["episode"] else (0, 0)
        items = []
        for key, values in sorted(self.stats.items()):
            if key != "episode":
                recent = [value for _, value in values[-(1 if key in LATEST_ONLY else RECENT_VALUES) :]]
                items.append(f"{key + ':':<25}{sum(recent) / len(recent):>12.4f}")
        lines = ["   ".join(items[i : i + STATS_PER_LINE]) for i in range(0, len(items), STATS_PER_LINE)]
        header = f"Recent Stats | t_env: {t_env:>10} | Episode: {int(episode):>8}"
        self.console_logger.info("\n".join([header, *lines]))

    def close(self) -> None:
        """Writes out what is still held back; records no more."""
        for sink in (self._tb_writer, self._metrics, self._test_episodes, self._tracker):
            if sink is not None:
                sink.close()
        self._tb_writer = self._metrics = self._test_episodes = self._tracker = None
