"""Weighted QMIX (Rashid et al. 2020): QMIX whose errors count less where it overestimates, so that its monotonic mixer
fits best what the agents would do; its targets come from an unrestricted mixer, `modules/mixers/qmix_central.py`.
"""

from dataclasses import dataclass
from typing import Any

import torch as th

from components.episode_buffer import EpisodeBatch
from components.transitions import make_transitions
from learners.q_learner import QLearner, TDLoss, mix
from learners.targets import Targets
from modules.mixers.qmix_central import QMixerCentral
from utils.config import key
from utils.rl_utils import best_available, build_td_lambda_targets, chosen, masked_mean


class WQMixLearner(QLearner):
    """Trains Q_tot and Q*, each by its own networks, towards r + gamma Q*_target(s_tp1, argmax_u Q_tot(s_tp1, u))."""

    @dataclass(frozen=True)
    class Keys(QLearner.Keys, QMixerCentral.Keys):
        weighting: str = key("centrally", "which errors count fully", choices=("centrally", "optimistically"))
        w: float = key(0.1, "weight of the other errors", low=0, high=1)

    learns_seats = False

    def __init__(self, mac: Any, scheme: dict, logger: Any, args: Any):
        super().__init__(mac, scheme, logger, args)
        self.central_mac = type(mac)(scheme, {"agents": args.n_agents}, args)
        self.central_mixer = QMixerCentral(args).to(args.device)
        self.central = Targets(self.central_mac, self.central_mixer, args.target_update_interval)
        self.params += [*self.central_mac.parameters(), *self.central_mixer.parameters()]
        self.optimiser = self.make_optimiser()

    def train(self, batch: EpisodeBatch, t_env: int, episode_num: int) -> None:
        """One update by the mean over played steps of w (y - Q_tot)^2 + (y - Q*)^2."""
        transitions = make_transitions(batch, self.args.gamma)
        state, mask, actions_t = transitions.state, transitions.mask, transitions.actions
        state_t, state_tp1, played = state[:, :-1], state[:, 1:], transitions.played
        q, central_q = self.mac.unroll(batch), self.central_mac.unroll(batch)
        best = best_available(q, transitions.avail)
        q_t = mix(self.mixer, chosen(q[:, :-1], actions_t), state_t, played)
        central_t = mix(self.central_mixer, chosen(central_q[:, :-1], actions_t), state_t, played)
        with th.no_grad():
            target_q = chosen(self.central.mac.unroll(batch), best)
            value_tp1 = mix(self.central.mixer, target_q[:, 1:], state_tp1, played)
            target_t = build_td_lambda_targets(
                transitions.reward, transitions.discount, mask, value_tp1, self.args.td_lambda
            )
            if self.args.weighting == "centrally":
                best_t = mix(self.central.mixer, target_q[:, :-1], state_t, played)
                counts_fully = (target_t > best_t) | (actions_t == best[:, :-1]).all(-1, keepdim=True)
            else:
                counts_fully = q_t < target_t
            weight_t = th.where(counts_fully, 1.0, self.args.w)
        loss = masked_mean(weight_t * (target_t - q_t) ** 2, mask) + masked_mean((target_t - central_t) ** 2, mask)
        grad_norm = self.descend(loss, self.optimiser, self.params, t_env)
        self.targets.update_if_due(episode_num)
        self.central.update_if_due(episode_num)
        if self.is_log_due(t_env):
            td = TDLoss(loss, q_t, target_t, mask)
            self.log_update(t_env, td, grad_norm, w_to_use=masked_mean(weight_t, mask))

    def parts(self) -> dict[str, Any]:
        central = {"central_agent": self.central_mac, "central_mixer": self.central_mixer}
        return super().parts() | central | self.central.parts("target_central_")

    def update_targets(self) -> None:
        super().update_targets()
        self.central.update()
