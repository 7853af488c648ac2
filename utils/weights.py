"""Reading weight files, for whatever has a `load_models`."""

import pickle
from pathlib import Path
from typing import Any

import torch as th

from utils.errors import UserError


class MissingWeights(UserError, FileNotFoundError):
    """A weight file that is not there."""


def load_weights(path: str | Path, device: str | th.device, mmap: bool = False) -> Any:
    """What is in the file `path`, its tensors on `device`. No code is run, whatever is in it.

    With `mmap` the tensors are read from the file as they are used, so that a large one is not in memory as a whole.

    Raises:
        MissingWeights: there is no such file.
        UserError: it is broken, or something else than weights.
    """
    if not Path(path).is_file():
        raise MissingWeights(f"no weights at {path}: a run with save_model=True writes this file; check the path")
    try:
        return th.load(path, map_location=device, weights_only=True, mmap=mmap)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise UserError(f"{path} can't be read as weights: {_first_line(error)}; use another checkpoint") from error


def load_into(part: Any, path: str | Path, device: str | th.device) -> None:
    """Gives the weights in the file `path` to a network, a controller or an optimiser.

    Raises:
        MissingWeights, UserError: as `load_weights`; also where the weights are of another shape.
    """
    weights = load_weights(path, device)
    try:
        part.load_state_dict(weights)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} does not fit this run ({_first_line(error)}); "
            "use the algorithm, the map and the sizes of networks that it was saved with"
        ) from error


def _first_line(error: Exception) -> str:
    """The error in a few words: torch opens with a title and has one line per parameter after it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[1] if len(lines) > 1 else lines[0] if lines else type(error).__name__).rstrip(".")
