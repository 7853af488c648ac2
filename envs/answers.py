"""What worlds answer, checked while they play: `SerialVectorEnv` (vector.py) reads every answer through here.

`check.py` holds an environment against the whole contract beforehand. All that is refused here is a UserError of one
sentence: the world's class, the method, what it returned, and what is needed.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from envs.multiagentenv import REWARD_OF_EACH, EnvInfo, Field, MultiAgentEnv
from utils.errors import UserError

SIZES = ("state_shape", "obs_shape", "n_actions", "n_agents", "episode_limit")
LARGEST = float(np.finfo(np.float32).max)
# Names that fields of a world's own can't have: they mean something else in a batch, at a step or after `get_`.
TAKEN = {"obs", "state", "avail_actions", "env_info", "stats", "total_actions", "actions", "actions_onehot", "filled"}
TAKEN |= {"terminated", "truncated", "info", "lost", "seat", "agent_idx"}


def whole_sizes(env_info: object, name: str) -> EnvInfo:
    """Returns the `env_info` of the environment `name`; its sizes, which may be any whole numbers, are ints."""
    if not isinstance(env_info, Mapping):
        raise _error(name, "get_env_info", _describe(env_info), "a dict of its sizes")
    sizes = {}
    for key in SIZES:
        size = _number(env_info.get(key))
        if size is None or size < 1 or not size.is_integer():
            raise _error(name, "get_env_info", f"{key}={_describe(env_info.get(key))}", "a whole number of at least 1")
        sizes[key] = int(size)
    for key, field in env_info.get("fields", {}).items():
        is_own = key not in TAKEN and not key.startswith("team_") if key != "reward" else field == REWARD_OF_EACH
        if not (is_own and isinstance(field, Field)):
            raise _error(name, "get_env_info", f"the field {key!r}: {field}", "a Field with a name of its own")
    return {**env_info, **sizes}


def read_step(name: str, answer: Any, shape: tuple[int, ...] = ()) -> tuple[float | np.ndarray, bool, Mapping]:
    """Returns (reward, terminated, info) from the answer of `step`; `shape` is the reward's, [] or [agent]."""
    try:
        reward, over, info = answer
    except (TypeError, ValueError):
        n_values = f"{len(answer)} values" if isinstance(answer, tuple | list) else _describe(answer)
        needed = 'three values, reward, terminated and info (with info["episode_limit"]=True after a time-out)'
        raise _error(name, "step", n_values, needed) from None
    number = _numbers(reward, shape) if shape else _number(reward)
    if number is None:
        needed = f"{shape[0]} finite numbers, one for each agent" if shape else "one finite number for the team"
        raise _error(name, "step", f"the reward {_describe(reward)}", needed)
    if not isinstance(info, dict | Mapping):  # the first is the faster look
        raise _error(name, "step", f"the info {_describe(info)}", "a dict, which may be empty")
    return number, read_flag(name, "terminated", over), info


def read_flag(name: str, what: str, value: object) -> bool:
    """Returns the truth value `value` that `step` returned as `what`."""
    if value is True or value is False:
        return value
    number = _number(value)
    if number not in (0, 1):
        raise _error(name, "step", f"{what}={_describe(value)}", "True or False, one for the team")
    return bool(number)


def read_entry(name: str, info: Mapping, key: str) -> float:
    """Returns an entry of `step`'s info that becomes a statistic, 0 if it is missing."""
    number = _number(info.get(key, 0))
    if number is None:
        raise _error(name, "step", f"info[{key!r}]={_describe(info[key])}", "one finite number, as it is in info_keys")
    return number


def write(name: str, method: str, given: object, row: np.ndarray, sizes: str) -> None:
    """Copies what a method returned into `row`, whose shape `get_env_info` declared; `sizes` names that shape."""
    array = _shaped(name, method, given, row.shape, sizes)
    if array.dtype == row.dtype:
        row[...] = array
    else:
        with np.errstate(over="ignore"):  # what is too large for float32 is infinite, and refused
            row[...] = array
    if not math.isfinite(np.vdot(row, row)):  # the fastest look; large numbers may overflow there
        for place in np.argwhere(~np.isfinite(row)).tolist():
            raise _error(name, method, f"{row[tuple(place)]} at index {place}", "finite numbers, in float32 too")


def write_field(env: MultiAgentEnv, key: str, row: np.ndarray, below: int | None) -> None:
    """Copies what `get_<key>` returns into `row`, the place of a field of the environment's own, of numbers `below`."""
    name, method = type(env).__name__, f"get_{key}"
    if not hasattr(env, method):
        raise UserError(f"{name} declares the field {key!r}, but has no method {method} that gives it")
    given = getattr(env, method)()
    write(name, method, given, row, f"n_agents and vshape of its Field {key!r}")
    if row.dtype.kind != "f" and not (np.array_equal(row, given) and (below is None or (row < below).all())):
        raise _error(name, method, _describe(given), f"{row.dtype}" + (f" below {below}" if below else ""))


def write_avail_actions(name: str, given: object, row: np.ndarray, is_over: bool) -> None:
    """Copies available actions into `row` [agent, action]; an agent may have none only if the episode `is_over`."""
    method = "get_avail_actions"
    array = _shaped(name, method, given, row.shape, "n_agents, get_total_actions()")
    whole = array if array.dtype.kind != "f" else np.where(np.isin(array, (0, 1)), array, 2).astype(np.uint8)
    bits = np.bitwise_or.reduce(whole, axis=1).tolist()  # of each agent; 1 where all is well
    row[...] = whole
    if not set(bits) <= ({0, 1} if is_over else {1}):
        if not set(bits) <= {0, 1}:
            odd = array[~np.isin(array, (0, 1))][0]
            raise _error(name, method, f"an availability of {odd}", "1 for an available action and 0 for any other")
        needed = "at least one for each, such as one that does nothing"
        raise _error(name, method, f"agent {bits.index(0)} no available action", needed)


def _shaped(name: str, method: str, given: object, shape: tuple[int, ...], sizes: str) -> np.ndarray:
    array = _array(given)
    if array is None or array.shape != shape:
        raise _error(name, method, _describe(given), f"an array of numbers [{sizes}] = {list(shape)}")
    return array


def _array(value: object) -> np.ndarray | None:
    """Returns numbers as an array; None for anything else, such as text, objects or rows of unequal lengths."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # the first and last are torch's, for what it keeps from NumPy
        return None
    return array if array.dtype.kind in "fiub" else None


def _number(value: Any) -> float | None:
    """Returns one number that is finite in float32; None for anything else."""
    if not isinstance(value, int | float):  # but NumPy's, or an array without axes
        array = _array(value)
        if array is None or array.ndim:
            return None
        value = array.item()
    return float(value) if abs(value) <= LARGEST else None


def _numbers(value: object, shape: tuple[int, ...]) -> np.ndarray | None:
    """Returns an array of this shape, finite in float32; None for anything else."""
    array = _array(value)
    return array if array is not None and array.shape == shape and (abs(array) <= LARGEST).all() else None


def _describe(value: object) -> str:
    """Describes a value: a short one as it is, a long one by its type and shape."""
    words = repr(value.item() if isinstance(value, np.generic) else value)
    if len(words) <= 30 and "\n" not in words:
        return words
    if isinstance(value, int | float):
        return f"{words[:20]}..."
    if (array := _array(value)) is not None:
        return f"an array {array.dtype} {list(array.shape)}"
    lengths = {len(row) for row in value if hasattr(row, "__len__")} if isinstance(value, tuple | list) else set()
    return f"rows of the lengths {sorted(lengths)}" if len(lengths) > 1 else f"a {type(value).__name__} without numbers"


def _error(name: str, method: str, given: str, needed: str) -> UserError:
    return UserError(f"{name}.{method} gave {given}, but what is needed is {needed}")
