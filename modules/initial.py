"""Initial weights of networks, in place of torch's own."""

import torch as th
from torch import nn

from modules.network import Network


@th.no_grad()
def orthogonal_(network: Network, head_gain: float) -> None:
    """Makes weights orthogonal and biases zero, in place, as PPO's authors do (Yu et al. 2022; Saxe et al. 2014).

    The gain is sqrt(2) for linear layers, 1 for recurrent ones, and `head_gain` for the last layer. Of a network for
    each agent, each agent's is.
    """
    layers = [module for module in network.modules() if isinstance(module, (nn.Linear, nn.GRUCell))]
    last = [layer for layer in layers if isinstance(layer, nn.Linear)][-1]
    for layer in layers:
        gain = head_gain if layer is last else 2**0.5 if isinstance(layer, nn.Linear) else 1.0
        for name, parameter in layer.named_parameters(recurse=False):
            if name.startswith("bias"):
                parameter.zero_()
                continue
            for weight in parameter if parameter.dim() == 3 else [parameter]:
                weight.copy_(nn.init.orthogonal_(th.empty(weight.shape, device=weight.device), gain))
