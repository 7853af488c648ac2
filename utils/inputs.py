"""What networks read besides observations: last actions, and one-hot rows that are looked up rather than made."""

from functools import cache
from typing import Any

import torch as th
import torch.nn.functional as F


@cache
def one_hot_rows(n: int, device: str | th.device) -> th.Tensor:
    """All one-hot vectors of length n, [n, n]; the same tensor in every call, to be read only."""
    return th.eye(n, device=device)


def last_actions(
    actions: th.Tensor, n_actions: int, device: str | th.device, bs: Any = slice(None), ts: slice = slice(None)
) -> th.Tensor:
    """From actions [b, T, agent, 1] those before each of the steps `ts`, one-hot [b, T, agent, u], zeros at step 0."""
    start, stop, _ = ts.indices(actions.shape[1])
    before = actions[bs, max(start - 1, 0) : stop - 1].squeeze(-1).to(device)
    one_hot = F.embedding(before, one_hot_rows(n_actions, device))
    return one_hot if start else F.pad(one_hot, (0, 0, 0, 0, 1, 0))
