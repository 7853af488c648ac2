"""Ctrl-C, SIGTERM and a terminal that closes (SIGHUP) are KeyboardInterrupts that name their signal; a run that trains
comes to a good place to stop first. A signal that is ignored, as SIGHUP is under `nohup`, stays so; outside of
the main thread, which is given all signals, nothing changes.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Handler = Callable[[int, FrameType | None], object] | int | None  # as the module signal has them
MESSAGE = b"\nstopping: a checkpoint is saved after this episode; once more stops at once, without it\n"


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Has `handler` called for the stop signals within its `with`."""
    before: dict[int, Handler] = {}
    if threading.current_thread() is threading.main_thread():
        for number in map(int, STOP_SIGNALS):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            if signal.getsignal(number) is not signal.SIG_IGN:  # else a terminal has hung up, and may again
                signal.signal(number, earlier)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raises: KeyboardInterrupt, whose argument is the signal."""
    _hear_one_hang_up(number)
    raise KeyboardInterrupt(number)


def _hear_one_hang_up(number: int) -> None:
    """Ignores SIGHUP from now on: a terminal that closes may send several, which would disturb the end."""
    if number == signal.SIGHUP:
        signal.signal(number, signal.SIG_IGN)


class StopRequest:
    """Within its `with`, the first signal only sets `number`; a second one, but SIGHUP, raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._handled = handled(self._ask)

    @property
    def asked(self) -> bool:
        return self.number is not None

    def __enter__(self) -> "StopRequest":
        self._handled.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._handled.__exit__(*exception)  # type: ignore[arg-type]

    def _ask(self, number: int, frame: FrameType | None) -> None:
        _hear_one_hang_up(number)
        if self.asked and number != signal.SIGHUP:
            raise KeyboardInterrupt(number)
        self.number = self.number or number
        with suppress(OSError):  # the terminal may be gone
            os.write(2, MESSAGE)  # print and logging may be in the middle of a line
