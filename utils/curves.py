"""Writers of TensorBoard curves, one for each `tensorboard_backend`. The Logger in utils/logging.py uses them."""

import importlib.util
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from utils.errors import UserError

PROTOBUF = "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"


def check_backend(backend: str) -> None:
    """Raises: UserError for a backend whose package is not installed."""
    if backend == "tensorboard_logger" and importlib.util.find_spec("tensorboard_logger") is None:
        raise UserError(
            "tensorboard_backend=tensorboard_logger needs the package tensorboard-logger, which is not installed; "
            "`pip install tensorboard-logger`, or take tensorboard_backend=torch, which writes the same curves"
        )


def curve_writer(directory: Path, backend: str) -> Any:
    """A writer to `directory` with `add_scalar(key, value, t)` and `close()`."""
    check_backend(backend)
    if backend == "tensorboard_logger":
        return LegacyWriter(directory)
    from torch.utils.tensorboard import SummaryWriter  # here: it costs a second and not every run wants it

    return SummaryWriter(str(directory))


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
        self.add_scalar = tensorboard_logger.Logger(str(directory)).log_value

    def close(self) -> None:
        """Nothing is held back."""
