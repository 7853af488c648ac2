"""Running means and variances, by which rewards or values are standardised."""

import torch as th
from torch import nn


class RunningMoments(nn.Module):
    """Mean and variance [n] of all values so far; each batch is joined by the parallel form of Chan et al. (1979)."""

    mean: th.Tensor
    var: th.Tensor
    count: th.Tensor

    def __init__(self, n: int):
        super().__init__()
        self.register_buffer("mean", th.zeros(n))
        self.register_buffer("var", th.ones(n))
        self.register_buffer("count", th.full((n,), 1e-4, dtype=th.double))

    @th.no_grad()
    def update(self, values: th.Tensor, mask: th.Tensor) -> None:
        """Joins values [..., n] where mask [..., 1] or [..., n] is not 0; of the batch its unbiased variance counts."""
        counts = mask.expand_as(values).flatten(0, -2) != 0
        values = values.flatten(0, -2).masked_fill(~counts, 0.0)
        n = counts.sum(0)
        mean = values.sum(0) / n.clamp(min=1)
        var = ((values - mean) ** 2).masked_fill(~counts, 0.0).sum(0) / (n - 1).clamp(min=1)
        total, delta = self.count + n, mean - self.mean
        squares = self.var * self.count + var * n + delta**2 * self.count * n / total
        self.mean += (delta * n / total).float()
        self.var.copy_(squares / total)
        self.count.copy_(total)

    def standardise(self, values: th.Tensor) -> th.Tensor:
        """Returns values [..., n] less the mean, over the standard deviation."""
        return (values - self.mean) / self.var.sqrt()

    def restore(self, values: th.Tensor) -> th.Tensor:
        """Returns what was standardised as it was before."""
        return values * self.var.sqrt() + self.mean
