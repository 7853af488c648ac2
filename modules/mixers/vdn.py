"""Value decomposition networks (Sunehag et al. 2018). The state-dependent mixer is in `modules/mixers/qmix.py`."""

import torch as th
from torch import nn

from utils.dict2namedtuple import Args


class VDNMixer(nn.Module):
    """Q_tot = sum over agents of Q_a (equation 2)."""

    def __init__(self, args: Args):
        super().__init__()

    def forward(self, agent_qs: th.Tensor, states: th.Tensor) -> th.Tensor:
        """Computes the team's value [..., 1] from Q-values [..., a]; the states are not read."""
        return agent_qs.sum(dim=-1, keepdim=True)
