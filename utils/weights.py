"""Reading weight files, for whatever has a `load_models`."""

from pathlib import Path
from typing import Any

import torch as th

from utils.errors import UserError


class MissingWeights(UserError, FileNotFoundError):
    """A weight file that is not there."""


def load_weights(path: str | Path, device: str | th.device) -> dict[str, Any]:
    """The state dict in file `path`, on `device`.

    Raises:
        MissingWeights: there is no such file.
    """
    if not Path(path).is_file():
        raise MissingWeights(f"no weights at {path}: a run with save_model=True writes this file; check the path")
    return th.load(path, map_location=device, weights_only=True)
