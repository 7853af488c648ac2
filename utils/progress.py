"""How far a run is: one updating line on a terminal, plain lines at the log interval anywhere else.
Statistics are not its business: they go through utils/logging.py.
"""

import logging
import sys
import time
from typing import TextIO

from utils.logging import LOGGER_NAME
from utils.timehelper import time_left

REFRESH_SECONDS = 0.2
ERASE_LINE = "\r\x1b[2K"


class Progress:
    """Shows steps, episodes/s, steps/s, time left and the last test win rate.

    The terminal is looked for behind `sys.__stderr__`, which main.py keeps clear of Sacred's capture; plain lines go
    to stderr, in line with the log. Speeds count from the first update, so that a resumed run is not overrated.
    """

    def __init__(self, total_steps: int, log_interval_steps: int, stream: TextIO | None = None) -> None:
        terminal = stream or sys.__stderr__
        self._live = terminal is not None and terminal.isatty()
        self._stream = terminal if self._live else stream
        self._total_steps, self._log_interval_steps = total_steps, log_interval_steps
        self._next_line_steps = 0
        self._next_refresh_seconds = 0.0
        self._start: tuple[float, int, int] | None = None  # time, steps and episodes at the first update
        self._test_win_rate: float | None = None
        if self._live:
            self._open_bar()

    def update(self, t_env: int, episodes: int, test_win_rate: float | None = None) -> None:
        """Displays how far the run is, in environment steps and episodes; a test win rate stays until the next one."""
        now = time.time()
        if self._start is None:
            self._start = (now, t_env, episodes)
        if test_win_rate is not None:
            self._test_win_rate = float(test_win_rate)
        if self._live and now >= self._next_refresh_seconds:
            self._next_refresh_seconds = now + REFRESH_SECONDS
            self._bar.update(self._task, completed=t_env, description=self._describe(now, t_env, episodes))
            self._bar.refresh()
        elif not self._live and t_env >= self._next_line_steps:
            self._next_line_steps = t_env + self._log_interval_steps
            line = f"{t_env:,}/{self._total_steps:,} steps | {self._describe(now, t_env, episodes)}"
            print(line, file=self._stream or sys.stderr, flush=True)

    def close(self) -> None:
        """Removes the line from the terminal and restores the cursor; to be called however the run ends."""
        if self._live:
            self._bar.stop()
            for handler in self._logger.handlers:
                handler.removeFilter(self._erase)

    def _describe(self, now: float, t_env: int, episodes: int) -> str:
        assert self._start is not None
        start_seconds, start_steps, start_episodes = self._start
        elapsed = max(now - start_seconds, 1e-9)
        win_rate = "-" if self._test_win_rate is None else f"{self._test_win_rate:.0%}"
        return (
            f"{(episodes - start_episodes) / elapsed:.1f} episodes/s | {(t_env - start_steps) / elapsed:,.0f} steps/s"
            f" | left: {time_left(start_seconds, start_steps, t_env, self._total_steps)} | test win rate: {win_rate}"
        )

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar
        from rich.table import Column

        one_line = Column(no_wrap=True, overflow="ellipsis")  # a second line would stay behind when it is erased
        self._bar = Bar(
            TextColumn("{task.completed:,}/{task.total:,} steps", table_column=one_line),
            BarColumn(bar_width=20),
            TextColumn("{task.description}", table_column=one_line),
            console=Console(file=self._stream),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task("", total=self._total_steps)
        self._bar.start()
        self._logger = logging.getLogger(LOGGER_NAME)
        for handler in self._logger.handlers:
            handler.addFilter(self._erase)

    def _erase(self, record: logging.LogRecord) -> bool:
        """Clears the line just before a log record is written over it; lets every record through."""
        assert self._stream is not None
        self._stream.write(ERASE_LINE)
        self._stream.flush()
        return True
