"""Tensors on their way from main memory to a GPU, for which the host does not wait."""

from collections.abc import Mapping
from math import prod

import torch as th

ALIGNMENT = 16  # bytes: where any field may begin

StepIndex = tuple[th.Tensor, th.Tensor]
"""Indices of episodes and of steps, [N] each. A mask in their place would be counted, and the host wait for that."""


def step_index(mask: th.Tensor, device: str | th.device) -> StepIndex:
    """Returns the true entries of a mask [b, T] in main memory, episode after episode, as indices on `device`."""
    episodes, steps = mask.nonzero(as_tuple=True)
    return to_device(episodes, device), to_device(steps, device)


def to_device(tensor: th.Tensor, device: str | th.device) -> th.Tensor:
    """Returns a tensor of main memory on `device`; itself if that is main memory."""
    if th.device(device).type == "cuda":
        tensor = tensor.pin_memory()  # else the host would wait until all work before has been done
    return tensor.to(device, non_blocking=True)


def to_device_together(fields: Mapping[str, th.Tensor], device: str | th.device) -> dict[str, th.Tensor]:
    """Returns several tensors of main memory on `device`, by one transfer: views of one piece of memory there."""
    ends, n_bytes = {}, 0
    for key, field in fields.items():
        n_bytes += field.nbytes
        ends[key] = n_bytes
        n_bytes += -n_bytes % ALIGNMENT
    packed = th.empty(n_bytes, dtype=th.uint8, pin_memory=th.device(device).type == "cuda")
    for key, field in fields.items():
        _part(packed, ends[key], field).copy_(field)
    arrived = packed.to(device, non_blocking=True)
    return {key: _part(arrived, ends[key], field) for key, field in fields.items()}


def _part(packed: th.Tensor, end: int, like: th.Tensor) -> th.Tensor:
    """Returns the bytes before `end` as a tensor of the shape and dtype of another."""
    n_bytes = prod(like.shape) * like.element_size()
    return packed[end - n_bytes : end].view(like.dtype).view(like.shape)
