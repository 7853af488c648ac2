"""Console logging, and the Logger through which every statistic reaches the console, TensorBoard and Sacred.
The progress line is in utils/progress.py.
"""

import logging
from collections import defaultdict
from pathlib import Path
from typing import Any

LOGGER_NAME = "pymarl"
STATS_PER_LINE = 4
RECENT_VALUES = 5


def get_logger() -> logging.Logger:
    """Gives the program's own logger, writing to stderr; the root logger stays as other packages expect it."""
    logger = logging.getLogger(LOGGER_NAME)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("[%(levelname)s %(asctime)s] %(name)s %(message)s", "%H:%M:%S"))
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return logger


class Logger:
    """Collects statistics: `stats[key]` is the list of (t, value); TensorBoard and Sacred get them once set up."""

    def __init__(self, console_logger: logging.Logger) -> None:
        self.console_logger = console_logger
        self.stats: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self._tb_writer: Any = None
        self._sacred_run: Any = None
        self._outside_sacred: set[str] = set()

    def setup_tb(self, directory: str | Path) -> None:
        """Writes TensorBoard curves to `directory` from now on."""
        from torch.utils.tensorboard import SummaryWriter  # here: it costs a second and not every run wants it

        self._tb_writer = SummaryWriter(str(directory))

    def setup_sacred(self, sacred_run: Any) -> None:
        """Records into the Sacred run from now on: its metrics, and `info[key]` beside `info[key + "_T"]`."""
        self._sacred_run = sacred_run

    def log_stat(self, key: str, value: Any, t: int, to_sacred: bool = True) -> None:
        """Records one value at environment step `t`; a one-element tensor or NumPy scalar becomes a plain float."""
        value, t = float(value), int(t)
        self.stats[key].append((t, value))
        if not to_sacred:
            self._outside_sacred.add(key)
        if self._tb_writer is not None:
            self._tb_writer.add_scalar(key, value, t)
        if self._sacred_run is not None and to_sacred:
            run = self._sacred_run
            if key not in run.info:
                # A new dict: Sacred's heartbeat thread may be iterating over the old one, which must not change size.
                run.info = {**run.info, key: [], f"{key}_T": []}
            run.info[key].append(value)
            run.info[f"{key}_T"].append(t)
            run.log_scalar(key, value, t)

    def state_dict(self) -> dict[str, list[tuple[int, float]]]:
        """All statistics so far, but for those that are kept from Sacred because they differ from run to run."""
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
                recent = [value for _, value in values[-(1 if key == "epsilon" else RECENT_VALUES) :]]
                items.append(f"{key + ':':<25}{sum(recent) / len(recent):>12.4f}")
        lines = ["   ".join(items[i : i + STATS_PER_LINE]) for i in range(0, len(items), STATS_PER_LINE)]
        header = f"Recent Stats | t_env: {t_env:>10} | Episode: {int(episode):>8}"
        self.console_logger.info("\n".join([header, *lines]))

    def close(self) -> None:
        """Writes out what TensorBoard still holds back."""
        if self._tb_writer is not None:
            self._tb_writer.close()
            self._tb_writer = None
