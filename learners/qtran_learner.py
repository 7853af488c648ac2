"""QTRAN-base (Son et al. 2019): a joint action value that the sum of the agents' values is made to agree with.

Networks of the joint value are in `modules/mixers/qtran.py`; mixed values are learned in `learners/q_learner.py`.
Variables with the suffix `_t` hold step t of every transition, those with `_tp1` the step after it.
"""

import torch as th
import torch.nn.functional as F

from components.episode_buffer import EpisodeBatch
from components.transitions import make_transitions
from learners.base_learner import BaseLearner


class QTranLearner(BaseLearner):
    """Trains Q(s, u) by one-step Q-learning, with double Q if `double_q`, and the agents' values by it."""

    def train(self, batch: EpisodeBatch, t_env: int, episode_num: int) -> None:
        """One update by td_loss + opt_loss * L_opt + nopt_min_loss * L_nopt, means over played steps.

        td_loss = (Q(s_t, u_t) - (r_t + discount_t * Q_target(s_tp1, u*)))^2
        L_opt   = (sum_a Q_a(u*_a) - Q(s_t, u*) + V(s_t))^2
        L_nopt  = min(sum_a Q_a(u_a) - Q(s_t, u_t) + V(s_t), 0)^2
        u* is what the agents hold best; Q is held constant in L_opt and L_nopt.
        """
        transitions = make_transitions(batch, self.args.gamma)
        played = transitions.played
        inputs = self.mac.pack_inputs(batch)
        t, tp1 = inputs.steps.ends(played)
        unavailable = ~inputs.steps.pack(transitions.avail)
        state_t, state_tp1 = transitions.state[:, :-1][played], transitions.state[:, 1:][played]

        q, hidden = self.mac.unroll_rows(inputs)
        best_q, best_actions = q.masked_fill(unavailable, -th.inf).max(-1)
        with th.no_grad():
            target_q, target_hidden = self.target_mac.unroll_rows(inputs)
            chosen_tp1 = best_actions
            if not self.args.double_q:
                chosen_tp1 = target_q.masked_fill(unavailable, -th.inf).argmax(-1)
            target_joint_q_tp1 = self.target_mixer(state_tp1, target_hidden[tp1], self._onehot(chosen_tp1[tp1]))
            best_joint_q_t = self.mixer(state_t, hidden[t], self._onehot(best_actions[t]))

        # From here on [n, 1]: a value of the team at every played step.
        actions_t = transitions.actions[played]
        joint_q_t = self.mixer(state_t, hidden[t], self._onehot(actions_t))
        value_t = self.mixer.state_value(state_t)
        sum_q_t = q[t].gather(-1, actions_t.unsqueeze(-1)).sum(1)
        sum_best_q_t = best_q[t].sum(1, keepdim=True)

        target_t = transitions.reward[played] + transitions.discount[played] * target_joint_q_tp1
        td_error_t = joint_q_t - target_t
        td_loss = (td_error_t**2).mean()
        opt_loss = ((sum_best_q_t - best_joint_q_t + value_t) ** 2).mean()
        nopt_loss = ((sum_q_t - joint_q_t.detach() + value_t).clamp(max=0) ** 2).mean()
        loss = td_loss + self.args.opt_loss * opt_loss + self.args.nopt_min_loss * nopt_loss
        grad_norm = self.optimise(loss, t_env)
        self.update_targets_if_due(episode_num)

        if self.is_log_due(t_env):
            self.log(
                t_env,
                loss=loss,
                td_loss=td_loss,
                opt_loss=opt_loss,
                nopt_loss=nopt_loss,
                grad_norm=grad_norm,
                td_error_abs=td_error_t.abs().mean(),
                td_targets=target_t.mean(),
                td_chosen_qs=joint_q_t.mean(),
                v_mean=value_t.mean(),
                agent_indiv_qs=sum_q_t.mean() / self.args.n_agents,
            )

    def _onehot(self, actions: th.Tensor) -> th.Tensor:
        """[n, a] to [n, a, u]."""
        return F.one_hot(actions, self.args.n_actions).float()
