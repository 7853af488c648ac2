"""The filled steps of episodes as rows, so that nothing is computed for padding.

The order of the rows is the one that a recurrence needs: see `modules/packed_gru.py`.
"""

import torch as th

from utils.transfer import to_device


class PackedSteps:
    """Which rows the filled steps of a batch become: step after step, within a step the longest episodes first.

    `filled` [b, T, 1] is 1 in the first steps of each episode, and in main memory, so that no work of a GPU has to be
    waited for; what is packed is on `device`. `batch_sizes[t]` counts the episodes with a step t.
    """

    def __init__(self, filled: th.Tensor, device: str | th.device = "cpu"):
        self.filled, self.leading = filled, filled.shape[:2]
        lengths = filled.sum((1, 2))
        order = lengths.argsort(descending=True, stable=True)
        runs = th.arange(self.leading[1]).unsqueeze(1) < lengths[order]  # [T, b]
        t, rank = runs.nonzero(as_tuple=True)
        self.batch_sizes = [count for count in runs.sum(1).tolist() if count > 0]
        self.index = to_device(order[rank] * self.leading[1] + t, device)
        self.order = to_device(order[: (self.batch_sizes or [0])[0]], device)  # the episodes, as rows of the first step

    def __len__(self) -> int:
        return len(self.index)

    def pack(self, steps: th.Tensor) -> th.Tensor:
        """Returns the rows [N, ...] of steps [b, T, ...]."""
        return steps.flatten(0, 1).index_select(0, self.index)

    def unpack(self, rows: th.Tensor) -> th.Tensor:
        """Returns the steps [b, T, ...] of rows [N, ...], with zeros in the padding."""
        steps = rows.new_zeros(self.leading.numel(), *rows.shape[1:])
        return steps.index_copy_(0, self.index, rows).unflatten(0, self.leading)

    def row_of(self) -> th.Tensor:
        """Returns the row of every step, [b, T]; meaningless in the padding, but a row."""
        rows = th.arange(len(self.index), device=self.index.device)
        return self.unpack(rows)
