"""Ctrl-C and SIGTERM while a run trains: it comes to a good place to stop, and only a second one stops it at once."""

import os
import signal
import threading
from types import FrameType
from typing import Any

MESSAGE = b"\nstopping: a checkpoint is saved after this episode; once more stops at once, without it\n"


class StopRequest:
    """Within its `with`, the first SIGINT or SIGTERM only sets `asked`, the second raises KeyboardInterrupt.

    A signal that is ignored stays so. Outside of the main thread, which is given all signals, nothing changes.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        os.write(2, MESSAGE)  # print and logging may be in the middle of a line
