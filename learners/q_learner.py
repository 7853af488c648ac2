"""Q-learning for teams: IQL (no mixer), VDN and QMIX. With an agent model it is `q_learner_4am.py`.

Variables with the suffix `_t` hold step t of every transition, those with `_tp1` the step after it.
"""

import torch as th

from components.episode_buffer import EpisodeBatch
from components.transitions import make_transitions
from learners.base_learner import BaseLearner
from utils.rl_utils import best_value


class QLearner(BaseLearner):
    """One-step Q-learning over whole episodes, with double Q (van Hasselt et al. 2016) if `double_q`."""

    def train(self, batch: EpisodeBatch, t_env: int, episode_num: int) -> None:
        """One update by the loss mean((r_t + discount_t * Q_target(s_tp1, a*) - Q(s_t, a_t))^2) over played steps."""
        transitions = make_transitions(batch, self.args.gamma)
        played = transitions.played
        inputs = self.mac.pack_inputs(batch)
        t, tp1 = inputs.steps.ends(played)
        avail = inputs.steps.pack(transitions.avail)

        q, _ = self.mac.unroll_rows(inputs)
        q_t = q[t].gather(-1, transitions.actions[played].unsqueeze(-1)).squeeze(-1)
        with th.no_grad():
            target_q, _ = self.target_mac.unroll_rows(inputs)
            chooser_q = q if self.args.double_q else target_q
            value_tp1 = best_value(target_q[tp1], chooser_q[tp1], avail[tp1])

        update = self.td_update(transitions, q_t, value_tp1, t_env)
        self.update_targets_if_due(episode_num)
        if self.is_log_due(t_env):
            self.log_update(t_env, update)
