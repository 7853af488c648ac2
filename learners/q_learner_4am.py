"""Q-learning on what an agent model infers of the others, while the model learns beside it: naive opponent modelling
and LIAM (`modules/am`). Without a model it is plain Q-learning, `q_learner.py`; OMG has its own, `omg_learner.py`.

Variables with the suffix `_t` hold step t of every transition, those with `_tp1` the step after it.
"""

from typing import Any

import torch as th

from components.episode_buffer import EpisodeBatch
from components.transitions import make_transitions
from learners.base_learner import BaseLearner
from utils.rl_utils import best_value


class QLearner4AM(BaseLearner):
    """One-step Q-learning as in `QLearner`; the live model's features are an input of live and target policy alike.

    Neither loss trains the other's networks.
    """

    def __init__(self, mac: Any, scheme: dict, logger: Any, args: Any):
        super().__init__(mac, scheme, logger, args)
        self.am = mac.am
        self.am_params = list(self.am.parameters())
        self.am_optimiser = th.optim.Adam(self.am_params, lr=args.am_lr) if self.am_params else None

    def train(self, batch: EpisodeBatch, t_env: int, episode_num: int) -> None:
        """One update of the policy by the loss of `QLearner`, and one of the model by its own loss."""
        transitions = make_transitions(batch, self.args.gamma)
        played = transitions.played
        inputs = self.mac.pack_inputs(batch)
        t, tp1 = inputs.steps.ends(played)
        avail = inputs.steps.pack(transitions.avail)

        encoded = self.am.encode(batch, inputs.steps)
        with th.no_grad():
            features = self.am.features(encoded)
        q, _ = self.mac.unroll_policy(inputs, features)
        q_t = q[t].gather(-1, transitions.actions[played].unsqueeze(-1)).squeeze(-1)
        with th.no_grad():
            target_q, _ = self.target_mac.unroll_policy(inputs, features)
            chooser_q = q if self.args.double_q else target_q
            value_tp1 = best_value(target_q[tp1], chooser_q[tp1], avail[tp1])

        update = self.td_update(transitions, q_t, value_tp1, t_env)
        self.update_targets_if_due(episode_num)

        am_loss, stats = self.am.loss(batch, encoded[t], played)
        if self.am_optimiser is not None:
            stats["am_grad_norm"] = self.descend(am_loss, self.am_optimiser, self.am_params, t_env)

        if self.is_log_due(t_env):
            self.log_update(t_env, update, **stats)

    def _parts(self) -> dict[str, Any]:
        return super()._parts() | ({} if self.am_optimiser is None else {"am_opt": self.am_optimiser})
