"""The controller whose agents act on an agent model: Q(o_t, g_t, .), where the model infers g_t from the trajectory.

The plain controller is `basic_controller.py`; the models are in `modules/am`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch as th
import torch.nn.functional as F

from components.episode_buffer import EpisodeBatch
from controllers.basic_controller import BasicMAC, PackedInputs, replaced
from controllers.numpy_acting import NumpyActing, numpy_acting
from modules.agents.idv_rnn_agent import IdvRNNAgent
from modules.agents.packed_gru import tanh_
from modules.am import REGISTRY as AGENT_MODELS
from utils.weights import load_into

ROWS_AT_ONCE = {"cpu": 128, "cuda": 16384}
"""Agents' steps, where each of them is looked at with several subgoals."""


class MultiModuleMAC(BasicMAC):
    """One agent model, shared by all agents, and their policy; what the model infers is an input of the policy."""

    def __init__(self, scheme: dict, groups: dict[str, int], args: Any):
        self.am = AGENT_MODELS[args.am_model](scheme, args).to(args.device)
        super().__init__(scheme, groups, args)
        self.am_hidden_states: th.Tensor | None = None  # [batch, agent, ...]

    def input_size(self, scheme: dict) -> int:
        return super().input_size(scheme) + self.am.output_size

    def forward(self, ep_batch: EpisodeBatch, t: int, bs: Any = slice(None), test_mode: bool = False) -> th.Tensor:
        """Q-values [b, agent, action] at step `t`; moves the hidden states of policy and model on."""
        if self.hidden_states is None or self.am_hidden_states is None:
            raise RuntimeError("call init_hidden(batch_size) before the first step of an episode")
        subgoals, am_hidden_states = self.am.infer(ep_batch, t, self.am_hidden_states[bs], bs, test_mode)
        inputs = th.cat([self.build_inputs(ep_batch, bs, slice(t, t + 1)).squeeze(1), subgoals], -1)
        q, hidden_states = self.agent(inputs, self.hidden_states[bs])
        self.hidden_states = replaced(self.hidden_states, bs, hidden_states)
        self.am_hidden_states = replaced(self.am_hidden_states, bs, am_hidden_states)
        return q

    def in_numpy(self) -> NumpyActing | None:
        return numpy_acting(self)

    def unroll(self, ep_batch: EpisodeBatch, test_mode: bool = False) -> th.Tensor:
        """Q-values [b, T, agent, action] of whole episodes on what the model infers without chance; zero in padding."""
        inputs = self.pack_inputs(ep_batch)
        q, _ = self.unroll_policy(inputs, self.am.unroll(ep_batch, inputs.steps).detach())
        return inputs.steps.unpack(q)

    def unroll_policy(self, inputs: PackedInputs, subgoals: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Q-values [N, agent, action] and hidden states [N, agent, H] after each filled step, on given subgoals."""
        return self.unroll_rows(inputs._replace(rows=th.cat([inputs.rows, subgoals], -1)))

    def step_policy(self, inputs: th.Tensor, subgoals: th.Tensor, hidden_states: th.Tensor) -> th.Tensor:
        """Q-values [..., action] after one step from given hidden states."""
        rows = th.cat([inputs, subgoals], -1)
        # An unroll of one step: on many rows faster than `forward`.
        q, _ = self.agent.unroll_packed(rows.flatten(0, -2), [rows.shape[:-1].numel()], hidden_states.flatten(0, -2))
        return q.view(*rows.shape[:-1], -1)

    @th.no_grad()
    def step_policy_over(
        self, inputs: th.Tensor, subgoals: th.Tensor, candidates: th.Tensor, hidden_states: th.Tensor
    ) -> th.Tensor:
        """`step_policy` of each row with each of K subgoals: [N, agent, K, action].

        inputs [N, agent, in], hidden_states [N, agent, H]; candidates [N, K]: rows of subgoals [M, agent, Z]. Products
        that do not depend on the pair are computed once.
        """
        if isinstance(self.agent, IdvRNNAgent):  # agents have to be the last dimension but one
            paired, n_k = subgoals[candidates], candidates.shape[1]  # [N, K, agent, Z]
            inputs, hidden_states = (x.unsqueeze(1).expand(-1, n_k, -1, -1) for x in (inputs, hidden_states))
            return self.step_policy(inputs, paired, hidden_states).transpose(1, 2)
        agent, rnn = self.agent, self.agent.rnn
        w_inputs, w_subgoals = agent.fc1.weight.split([inputs.shape[-1], subgoals.shape[-1]], 1)
        all_from_inputs = F.linear(inputs, w_inputs, agent.fc1.bias).unsqueeze(-2)
        all_from_subgoals = F.linear(subgoals, w_subgoals)
        # A few rows at a time: what lies between inputs and Q-values is K times as large, and stays in the cache so.
        n_rows = max(ROWS_AT_ONCE["cuda" if inputs.is_cuda else "cpu"] // inputs.shape[1], 1)
        qs = []
        for from_inputs, chosen, h in zip(
            *(rows.split(n_rows) for rows in (all_from_inputs, candidates, hidden_states)), strict=True
        ):
            x = F.relu(from_inputs + all_from_subgoals[chosen].transpose(1, 2))
            reset_x, update_x, new_x = F.linear(x, rnn.weight_ih, rnn.bias_ih).chunk(3, -1)
            reset_h, update_h, new_h = F.linear(h, rnn.weight_hh, rnn.bias_hh).unsqueeze(-2).chunk(3, -1)
            new = tanh_(new_x + th.sigmoid(reset_x + reset_h) * new_h)
            qs.append(agent.head(th.lerp(new, h.unsqueeze(-2).expand_as(new), th.sigmoid(update_x + update_h))))
        return th.cat(qs)

    def init_hidden(self, batch_size: int) -> None:
        super().init_hidden(batch_size)
        self.am_hidden_states = self.am.init_hidden(batch_size, self.n_agents)

    def parameters(self) -> Iterator[th.nn.Parameter]:
        """The policy's: the Q-loss never trains the model."""
        return self.agent.parameters()

    def to(self, device: str | th.device) -> "MultiModuleMAC":
        super().to(device)
        self.am.to(device)
        self.am_hidden_states = None
        return self

    def state_dict(self) -> dict[str, Any]:
        return {"agent": self.agent.state_dict(), "am": self.am.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.agent.load_state_dict(state["agent"])
        self.am.load_state_dict(state["am"])

    def save_models(self, path: str | Path) -> None:
        """Writes agent.th and the model's own files into the folder `path`."""
        th.save(self.agent.state_dict(), Path(path) / "agent.th")
        self.am.save_models(path)

    def load_models(self, path: str | Path) -> None:
        """Reads the same files from the folder `path`."""
        load_into(self.agent, Path(path) / "agent.th", self.device)
        self.am.load_models(path)
