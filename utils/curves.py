"""Writers of TensorBoard curves, one for each `tensorboard_backend`. The Logger in utils/logging.py uses them."""

import importlib.util
import logging
import os
import socket
import time
from importlib.metadata import version
from pathlib import Path

from utils.errors import UserError
from utils.records import files_of

PROTOBUF = "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"


def check_backend(backend: str) -> None:
    """Raises: UserError for a backend whose package is not installed."""
    if backend == "tensorboard_logger" and importlib.util.find_spec("tensorboard_logger") is None:
        raise UserError(
            "tensorboard_backend=tensorboard_logger needs the package tensorboard-logger, which is not installed; "
            "`pip install tensorboard-logger`, or take tensorboard_backend=torch, which writes the same curves"
        )


def curve_writer(directory: Path, backend: str) -> "EventWriter | LegacyWriter":
    """Returns what writes curves to `directory`. Raises: UserError as `check_backend`."""
    check_backend(backend)
    return LegacyWriter(directory) if backend == "tensorboard_logger" else EventWriter(directory)


class EventWriter:
    """A file of events as torch's writer makes it, without its thread, in which a full disk would stop the run."""

    def __init__(self, directory: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # here: not every run wants curves
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary, self._records = Event, Summary, RecordWriter(self)
        self._files = files_of(directory)
        self._name = f"events.out.tfevents.{int(time.time()):010}.{socket.gethostname()}.{os.getpid()}.0"
        self._add(file_version="brain.Event:2")

    def add_scalar(self, key: str, value: float, t: int) -> None:
        self._add(step=t, summary=self._summary(value=[self._summary.Value(tag=key, simple_value=value)]))

    def _add(self, **content: object) -> None:
        self._records.write(self._event(wall_time=time.time(), **content).SerializeToString())

    def write(self, record: bytes) -> None:
        """Takes one framed record from TensorBoard's own writer."""
        self._files.append(self._name, record)

    def close(self) -> None:
        self._files.finish()


class LegacyWriter:
    """The package tensorboard_logger; it writes each value at once."""

    def __init__(self, directory: Path) -> None:
        # Its code is for protobuf 3; newer ones read that in pure Python only, if this variable says so at the import.
        # It is taken back, since processes that are started later need not be slow.
        needs_variable = PROTOBUF not in os.environ and int(version("protobuf").split(".")[0]) > 3
        if needs_variable:
            os.environ[PROTOBUF] = "python"
        try:
            import tensorboard_logger
        finally:
            if needs_variable:
                del os.environ[PROTOBUF]
        self._log_value = tensorboard_logger.Logger(str(directory)).log_value
        self._directory, self._is_lost = directory, False

    def add_scalar(self, key: str, value: float, t: int) -> None:
        """Writes until the disk refuses: of what the package has half written, nothing can be completed."""
        if not self._is_lost:
            try:
                self._log_value(key, value, t)
            except OSError as error:
                self._is_lost = True
                from utils.logging import LOGGER_NAME  # here: it imports this module

                logging.getLogger(LOGGER_NAME).warning(f"{error.strerror}: the curves in {self._directory} end here")

    def close(self) -> None:
        """Nothing is held back."""
