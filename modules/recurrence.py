"""Running a GRU cell over many steps in one call, for agents and agent models alike."""

import torch as th
from torch import nn


def unroll_gru_cell(cell: nn.GRUCell, inputs: th.Tensor, hidden_state: th.Tensor | None = None) -> th.Tensor:
    """The hidden states [T, rows, H] after each step of inputs [T, rows, in], from [rows, H] or from zeros."""
    if hidden_state is None:
        hidden_state = inputs.new_zeros(inputs.shape[1], cell.hidden_size)
    weights = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
    hidden_states, _ = th.gru(
        inputs,
        hidden_state.unsqueeze(0).contiguous(),
        weights,
        has_biases=True,
        num_layers=1,
        dropout=0.0,
        train=cell.training,
        bidirectional=False,
        batch_first=False,
    )
    return hidden_states
