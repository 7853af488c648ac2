"""Reading weight files, for whatever has a `load_models`, and the other files of a checkpoint."""

import copy
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch as th

from utils.errors import UserError
from utils.files import fitted, reason, values_in

StateDict = dict[str, Any]
"""Tensors and numbers by name."""
MISFITS = (RuntimeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
"""What is raised by content that is not what it should be."""


class Stateful(Protocol):
    """What can be saved and restored: a network, a controller or an optimiser."""

    def state_dict(self) -> StateDict: ...
    def load_state_dict(self, state_dict: StateDict, /) -> object: ...


class MissingWeights(UserError, FileNotFoundError):
    """A weight file that is not there."""


def load_weights(path: str | Path, device: str | th.device, mmap: bool = False) -> Any:
    """Returns what is in the file `path`, its tensors on `device`. No code is run, whatever is in it.

    With `mmap` the tensors are read from the file as they are used, so that a large one is not in memory as a whole.

    Raises:
        MissingWeights: there is no such file.
        UserError: it is broken, or something else than weights, or unfolds to more than it holds.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingWeights(f"no weights at {path}: a run with save_model=True writes this file; check the path")
    try:
        size = path.stat().st_size
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > size:
                    raise ValueError("it unfolds to more than it holds")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch says of other pickles that it may fail, and then fails
            content = th.load(path, map_location=device, weights_only=True, mmap=mmap)
        for value in values_in(content, size):
            if isinstance(value, th.Tensor) and not _is_stored(value):
                raise ValueError("it has a tensor that is not stored in full")
    except Exception as error:  # broken bytes make an unpickler raise anything
        raise UserError(f"{path} can't be read as weights: {reason(error)}; use another checkpoint") from error
    return content


def _is_stored(tensor: th.Tensor) -> bool:
    is_plain = tensor.layout == th.strided and not tensor.is_meta
    return is_plain and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


@contextmanager
def fits(path: str | Path) -> Iterator[None]:
    """Turns what is raised while the content of a file is applied into a UserError that names the file."""
    try:
        yield
    except MISFITS as error:
        raise UserError(
            f"{path} does not fit this run ({reason(error)}); "
            "use the algorithm, the map and the sizes of networks that it was saved with"
        ) from error


def load_into(part: Stateful, path: str | Path, device: str | th.device) -> None:
    """Loads the weights in the file `path` into a network, a controller or an optimiser.

    An optimiser takes the moments and keeps its own rates: they are settings of the run, not of the file.

    Raises: MissingWeights, UserError as `load_weights`; also where the weights are of another kind or shape, or not
    finite. Nothing has been taken then.
    """
    weights = load_weights(path, device)
    with fits(path):
        if isinstance(part, th.optim.Optimizer):
            _try_out(part, weights)
            rates = [{key: value for key, value in group.items() if key != "params"} for group in part.param_groups]
            part.load_state_dict(weights)
            for group, own in zip(part.param_groups, rates, strict=True):
                params = group["params"]
                group.clear()
                group.update(own, params=params)
        else:
            fitted(weights, _layout_of(part.state_dict()))
            part.load_state_dict(weights)


def _layout_of(own: object) -> object:
    """Returns the layout, as utils/files.py has them, of whatever may take the place of a state dict."""
    if isinstance(own, Mapping):
        return {key: _layout_of(value) for key, value in own.items()}

    if not isinstance(own, th.Tensor):
        return type(own)

    def like_own(value: object) -> th.Tensor:
        if not isinstance(value, th.Tensor) or (value.shape, value.dtype) != (own.shape, own.dtype):
            raise ValueError(f"it is {_describe(value)}, not {_describe(own)}")
        if not value.isfinite().all():
            raise ValueError("it must be finite")
        return value

    return like_own


def _describe(value: object) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, th.Tensor) else type(value).__name__


def _try_out(optimiser: th.optim.Optimizer, state: StateDict) -> None:
    """Has a copy of the optimiser take the state and make a step without gradients.

    Raises: ValueError where it is of another kind, or leads to what is not finite; or whatever the optimiser raises.
    """
    fitted(state, {"state": dict, "param_groups": [{"params": list}]})
    trial, state = copy.deepcopy((optimiser, state))
    parameters = [parameter for group in trial.param_groups for parameter in group["params"]]
    kinds = {parameter.dtype for parameter in parameters}
    for value in values_in(state, 2**30):
        if isinstance(value, th.Tensor) and value.dtype not in kinds:
            raise ValueError(f"it has numbers of the kind {value.dtype}")
    trial.load_state_dict(state)
    for parameter in parameters:
        parameter.grad = th.zeros_like(parameter)
    trial.step()
    if not all(parameter.isfinite().all() for parameter in parameters):
        raise ValueError("a step by it gives numbers that are not finite")
