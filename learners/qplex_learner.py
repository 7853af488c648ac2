"""QPLEX (Wang et al. 2021): Q-learning of a team's value that any joint action may have, by duplex dueling.

Its networks are in `modules/mixers/qplex.py`; monotonic mixers are learned in `learners/q_learner.py`.
Tensors are [batch, time, agent, ...]; the suffix `_t` is for the steps t of all transitions, `_tp1` for those after.
"""

import torch as th
import torch.nn.functional as F

from components.episode_buffer import EpisodeBatch
from components.transitions import make_transitions
from learners.q_learner import QLearner, TDLoss, mix
from modules.mixers.qplex import QPlexMixer
from utils.rl_utils import best_available, build_td_lambda_targets, chosen, masked_mean


class QPlexLearner(QLearner):
    """Trains Q_tot(s, u) by Q-learning, with double Q if `double_q`."""

    own_mixer = QPlexMixer
    learns_seats = False

    def train(self, batch: EpisodeBatch, t_env: int, episode_num: int) -> None:
        """Performs one update, where V(s_tp1) = Q_target(s_tp1, u*) and u* are the best actions of the live agents, or
        without `double_q` those of the target agents.
        """
        transitions = make_transitions(batch, self.args.gamma)
        state, mask, actions_t, played = transitions.state, transitions.mask, transitions.actions, transitions.played
        q = self.mac.unroll(batch)
        best_actions = best_available(q, transitions.avail)
        q_t = mix(
            self.mixer,
            chosen(q[:, :-1], actions_t),
            state[:, :-1],
            played,
            chosen(q, best_actions)[:, :-1].detach(),
            self._one_hot(actions_t),
        )
        with th.no_grad():
            target_q = self.target_mac.unroll(batch)
            best_targets = best_available(target_q, transitions.avail)
            target_actions = best_actions if self.args.double_q else best_targets
            value_tp1 = mix(
                self.target_mixer,
                chosen(target_q, target_actions)[:, 1:],
                state[:, 1:],
                played,
                chosen(target_q, best_targets)[:, 1:],
                self._one_hot(target_actions[:, 1:]),
            )
            target_t = build_td_lambda_targets(
                transitions.reward, transitions.discount, mask, value_tp1, self.args.td_lambda
            )
        loss = self.args.td_loss_weight * masked_mean((target_t - q_t) ** 2, mask)
        grad_norm = self.descend(loss, self.optimiser, self.params, t_env)
        self.targets.update_if_due(episode_num)
        if self.is_log_due(t_env):
            hits = (actions_t == best_actions[:, :-1]).float()
            self.log_update(t_env, TDLoss(loss, q_t, target_t, mask), grad_norm, hit_prob=masked_mean(hits, mask))

    def _one_hot(self, actions: th.Tensor) -> th.Tensor:
        """[b, T, a] to [b, T, a, u]."""
        return F.one_hot(actions, self.args.n_actions).float()
