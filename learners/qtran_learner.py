"""QTRAN-base (Son et al. 2019): a joint action value that the sum of the agents' values is made to agree with.

Networks of the joint value are in `modules/mixers/qtran.py`; mixed values are learned in `learners/q_learner.py`.
Tensors are [batch, time, agent, ...]; the suffix `_t` is for the steps t of all transitions, `_tp1` for those after.
"""

from dataclasses import dataclass

import torch as th
import torch.nn.functional as F

from components.episode_buffer import EpisodeBatch
from components.transitions import make_transitions
from learners.q_learner import QLearner
from modules.mixers.qtran import QTranBase
from utils.config import M, key
from utils.rl_utils import best_available, build_td_lambda_targets, chosen, masked_mean


class QTranLearner(QLearner):
    """Trains Q(s, u) by Q-learning, with double Q if `double_q`, and the agents' values by it."""

    @dataclass(frozen=True)
    class Keys(QLearner.Keys):
        opt_loss: float = key(1, "weight of the loss where the agents choose what they hold best", low=0, high=M)
        nopt_min_loss: float = key(0.1, "weight of the loss where they chose anything else", low=0, high=M)

    mixer: QTranBase
    target_mixer: QTranBase
    own_mixer = QTranBase
    learns_seats = False

    def train(self, batch: EpisodeBatch, t_env: int, episode_num: int) -> None:
        """Performs one update by td_loss_weight * L_td + opt_loss * L_opt + nopt_min_loss * L_nopt, means over steps.

        L_td    = (G_t - Q(s_t, u_t))^2, where G_t is the TD(lambda) target with V(s_tp1) = Q_target(s_tp1, u*_tp1)
        L_opt   = (sum_a Q_a(u*_a) - Q(s_t, u*) + V(s_t))^2
        L_nopt  = min(sum_a Q_a(u_a) - Q(s_t, u_t) + V(s_t), 0)^2
        u* is what the agents hold best; Q is held constant in L_opt and L_nopt.
        """
        transitions = make_transitions(batch, self.args.gamma)
        state, mask, actions_t = transitions.state, transitions.mask, transitions.actions
        q, hidden = self.mac.unroll_with_hidden(batch)
        best_actions = best_available(q, transitions.avail)
        with th.no_grad():
            target_q, target_hidden = self.target_mac.unroll_with_hidden(batch)
            target_actions = best_actions if self.args.double_q else best_available(target_q, transitions.avail)
            value_tp1 = self.target_mixer(state, target_hidden, self._onehot(target_actions))[:, 1:]
            best_joint_q_t = self.mixer(state[:, :-1], hidden[:, :-1], self._onehot(best_actions[:, :-1]))
            reward, discount = transitions.reward, transitions.discount
            target_t = build_td_lambda_targets(reward, discount, mask, value_tp1, self.args.td_lambda)

        # From here on [b, T, 1]: values of the team.
        joint_q_t = self.mixer(state[:, :-1], hidden[:, :-1], self._onehot(actions_t))
        value_t = self.mixer.state_value(state[:, :-1])
        sum_q_t = chosen(q[:, :-1], actions_t).sum(-1, keepdim=True)
        sum_best_q_t = chosen(q, best_actions)[:, :-1].sum(-1, keepdim=True)

        td_loss = masked_mean((target_t - joint_q_t) ** 2, mask)
        opt_loss = masked_mean((sum_best_q_t - best_joint_q_t + value_t) ** 2, mask)
        nopt_loss = masked_mean((sum_q_t - joint_q_t.detach() + value_t).clamp(max=0) ** 2, mask)
        loss = self.args.td_loss_weight * td_loss + self.args.opt_loss * opt_loss + self.args.nopt_min_loss * nopt_loss
        grad_norm = self.descend(loss, self.optimiser, self.params, t_env)
        self.targets.update_if_due(episode_num)

        if self.is_log_due(t_env):
            self.log(
                t_env,
                loss=loss,
                td_loss=td_loss,
                opt_loss=opt_loss,
                nopt_loss=nopt_loss,
                grad_norm=grad_norm,
                td_error_abs=masked_mean((joint_q_t - target_t).abs(), mask),
                td_targets=masked_mean(target_t, mask),
                td_chosen_qs=masked_mean(joint_q_t, mask),
                v_mean=masked_mean(value_t, mask),
                agent_indiv_qs=masked_mean(sum_q_t, mask) / self.args.n_agents,
            )

    def _onehot(self, actions: th.Tensor) -> th.Tensor:
        """Returns one-hot actions [b, T, a, u] of indices [b, T, a]."""
        return F.one_hot(actions, self.args.n_actions).float()
