"""The agents' network without its memory; `rnn_agent.py` has the one that remembers."""

from collections.abc import Sequence

import torch as th

from modules.agents.rnn_agent import RNNAgent


class FFAgent(RNNAgent):
    """RNNAgent, parameter for parameter, whose hidden state is zeros at every step: Q depends on the inputs alone."""

    def forward(self, inputs: th.Tensor, hidden_state: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        nothing = th.zeros_like(hidden_state)
        q, _ = super().forward(inputs, nothing)
        return q, nothing

    def unroll_packed(
        self, rows: th.Tensor, batch_sizes: Sequence[int], hidden_state: th.Tensor | None = None
    ) -> tuple[th.Tensor, th.Tensor]:
        return self.forward(rows, self.init_hidden().expand(len(rows), -1))
