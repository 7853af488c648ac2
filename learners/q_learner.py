"""Q-learning for teams: IQL (no mixer), VDN and QMIX.

Variables with the suffix `_t` hold step t of every transition, those with `_tp1` the step after it.
"""

import torch as th

from components.episode_buffer import EpisodeBatch
from components.transitions import make_transitions
from learners.base_learner import BaseLearner


class QLearner(BaseLearner):
    """One-step Q-learning over whole episodes, with double Q (van Hasselt et al. 2016) if `double_q`."""

    def train(self, batch: EpisodeBatch, t_env: int, episode_num: int) -> None:
        """One update by the loss mean((r_t + discount_t * Q_target(s_tp1, a*) - Q(s_t, a_t))^2) over played steps."""
        transitions = make_transitions(batch, self.args.gamma)
        played = transitions.mask.squeeze(-1) > 0
        actions_t = transitions.actions.unsqueeze(-1)
        unavailable_tp1 = ~transitions.avail[:, 1:]

        inputs = self.mac.pack_inputs(batch)
        q = self.mac.unroll(batch, inputs=inputs)
        q_t = q[:, :-1].gather(-1, actions_t).squeeze(-1)[played]
        with th.no_grad():
            target_q_tp1 = self.target_mac.unroll(batch, inputs=inputs)[:, 1:]
            chooser_tp1 = q[:, 1:] if self.args.double_q else target_q_tp1
            best_actions_tp1 = chooser_tp1.masked_fill(unavailable_tp1, -th.inf).argmax(-1, keepdim=True)
            value_tp1 = target_q_tp1.gather(-1, best_actions_tp1).squeeze(-1)[played]

        # From here on only played steps, as rows: [n, a] or, mixed, [n, 1].
        if self.mixer is not None:
            q_t = self.mixer(q_t, transitions.state[:, :-1][played])
            with th.no_grad():
                value_tp1 = self.target_mixer(value_tp1, transitions.state[:, 1:][played])

        target_t = transitions.reward[played] + transitions.discount[played] * value_tp1
        td_error_t = q_t - target_t
        loss = (td_error_t**2).mean()
        grad_norm = self.optimise(loss, t_env)
        self.update_targets_if_due(episode_num)

        if self.is_log_due(t_env):
            # Per agent also where a mixer gives the team's value, as PyMARL logs it.
            agents_per_value = 1 if self.mixer is None else self.args.n_agents
            self.log(
                t_env,
                loss=loss,
                grad_norm=grad_norm,
                td_error_abs=td_error_t.abs().mean(),
                q_taken_mean=q_t.mean() / agents_per_value,
                target_mean=target_t.mean() / agents_per_value,
            )
