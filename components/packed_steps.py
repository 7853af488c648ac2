"""The filled steps of episodes as rows, so that nothing is computed for padding, or for the dead.

The order of the rows is the one that a recurrence needs: see `modules/packed_gru.py`.
"""

import torch as th

from utils.transfer import to_device


class PackedSteps:
    """Which rows the filled steps of a batch become: step after step, within a step the longest episodes first.

    `filled` is 1 in the first steps of each episode, [b, T, 1], whose rows then hold all agents; or in the first steps
    of each seat, [b, T, agent], whose rows hold one. It is in main memory, so that no work of a GPU has to be waited
    for; what is packed is on `device`. `batch_sizes[t]` counts the episodes, or seats, with a step t.
    """

    def __init__(self, filled: th.Tensor, device: str | th.device = "cpu"):
        self.filled = filled
        self.of_seats = filled.shape[2] > 1
        self.leading = filled.shape if self.of_seats else filled.shape[:2]
        n_steps, n_seats = filled.shape[1:]
        lengths = filled.sum(1, dtype=th.long).flatten()  # of each seat of each episode
        order = lengths.argsort(descending=True, stable=True)
        runs = th.arange(n_steps).unsqueeze(1) < lengths[order]  # [T, b * seats]
        t, rank = runs.nonzero(as_tuple=True)
        episode, seat = order[rank] // n_seats, order[rank] % n_seats
        self.batch_sizes = [count for count in runs.sum(1).tolist() if count > 0]
        self.index = to_device((episode * n_steps + t) * n_seats + seat, device)
        self.order = to_device(order[: (self.batch_sizes or [0])[0]], device)  # the episodes, as rows of the first step

    def __len__(self) -> int:
        return len(self.index)

    def pack(self, steps: th.Tensor) -> th.Tensor:
        """Returns the rows of steps [b, T, ...]: [N, ...], or of steps [b, T, agent, ...] of seats: [N, 1, ...]."""
        rows = steps.flatten(0, len(self.leading) - 1).index_select(0, self.index)
        return rows.unsqueeze(1) if self.of_seats else rows

    def unpack(self, rows: th.Tensor) -> th.Tensor:
        """Returns the steps [b, T, ...] of rows as `pack` returns them, with zeros in the padding."""
        rows = rows.squeeze(1) if self.of_seats else rows
        steps = rows.new_zeros(self.leading.numel(), *rows.shape[1:])
        return steps.index_copy_(0, self.index, rows).unflatten(0, self.leading)
