"""How a controller's Q-networks act on a CPU: everything from the batch to the actions in NumPy.

A step of acting is a few rows wide, and torch would spend most of it on finding out what to do. The weights are those
that the networks have when episodes begin (utils/numpy_layers.py). Networks that have no `in_numpy` of their own,
policies and GPUs take the controller's `forward`.
"""

from typing import Any

import numpy as np
import torch as th

from components.episode_buffer import EpisodeBatch
from utils.inputs import StepInputs
from utils.numpy_layers import acts_by_numpy


def numpy_acting(mac: Any) -> "NumpyActing | None":
    """From the controller's hidden states on; nothing where it has to act by torch."""
    networks = [mac, mac.agent, *([mac.am] if hasattr(mac, "am") else [])]
    can_select = hasattr(mac.action_selector, "select_rows") and mac.args.agent_output_type == "q"
    if can_select and th.device(mac.device).type == "cpu" and all(map(acts_by_numpy, networks)):
        return NumpyActing(mac)
    return None


class NumpyActing:
    """The steps of the agent and, if there is one, of the agent model; hidden states change in place."""

    def __init__(self, mac: Any):
        self.args, self.selector = mac.args, mac.action_selector
        mac.hidden_states = mac.hidden_states.contiguous()
        self.step, self.hidden = mac.agent.in_numpy(), mac.hidden_states.numpy()
        self.infer = None
        if hasattr(mac, "am"):
            mac.am_hidden_states = mac.am_hidden_states.contiguous()
            self.infer, self.am_hidden = mac.am.in_numpy(), mac.am_hidden_states.numpy()

    def select_actions(self, ep_batch: EpisodeBatch, t: int, t_env: int, bs: Any, test_mode: bool) -> th.Tensor:
        """As the controller's."""
        seen = StepInputs(ep_batch, t, bs, self.args)
        parts = [seen.obs]
        if self.args.obs_last_action:
            parts.append(seen.last_actions)
        if self.args.obs_agent_id:
            parts.append(seen.ids)
        if self.infer is not None:
            am_hidden = self.am_hidden[bs]
            features, new_am_hidden = self.infer(seen, _rows(am_hidden), test_mode)
            self.am_hidden[bs] = new_am_hidden.reshape(am_hidden.shape)
            parts.append(features)
        hidden = self.hidden[bs]
        q, new_hidden = self.step(np.concatenate(parts, -1), _rows(hidden))
        self.hidden[bs] = new_hidden.reshape(hidden.shape)
        avail_actions = ep_batch.array("avail_actions")[bs, t]
        actions = self.selector.select_rows(q, avail_actions.reshape(q.shape), t_env, test_mode)
        return th.from_numpy(actions.reshape(avail_actions.shape[:-1]))


def _rows(hidden: np.ndarray) -> np.ndarray:
    return hidden.reshape(hidden.shape[0] * hidden.shape[1], hidden.shape[2])
