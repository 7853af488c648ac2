"""Weighted QMIX (Rashid et al. 2020): QMIX whose errors count less where it overestimates, so that its monotonic mixer
fits best what the agents would do; its targets come from an unrestricted mixer, `modules/mixers/qmix_central.py`.

Tensors are [batch, time, agent, ...]; the suffix `_t` is for the steps t of all transitions, `_tp1` for those after.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch as th

from components.episode_buffer import EpisodeBatch, Scheme
from components.transitions import make_transitions
from learners.base_learner import Policy
from learners.q_learner import QLearner, TDLoss, mix
from learners.targets import Targets
from modules.mixers.qmix_central import QMixerCentral
from utils.config import M, key
from utils.dict2namedtuple import Args, Config
from utils.logging import Logger
from utils.rl_utils import best_available, build_td_lambda_targets, chosen, masked_mean
from utils.weights import Stateful


class WQMixLearner(QLearner):
    """Trains Q_tot and Q*, each by its own networks, towards y = r + gamma Q*_target(s_tp1, argmax_u Q_tot(s_tp1, u))
    and its TD(lambda) form.

    `weighting` says which errors of Q_tot count fully (equations 6 and 9): "optimistically" where Q_tot < y,
    "centrally" where y > Q*_target(s_t, u*) or u_t = u*, with u* = argmax_u Q_tot(s_t, u).
    """

    @dataclass(frozen=True)
    class Keys(QLearner.Keys, QMixerCentral.Keys):
        weighting: str = key("centrally", "which errors count fully", choices=("centrally", "optimistically"))
        w: float = key(0.1, "weight of the other errors", low=0, high=1)
        central_loss: float = key(1.0, "factor of the squared errors of the unrestricted value", low=0, high=M)

    learns_seats = False

    @classmethod
    def conflict(cls, config: Config, kinds: Mapping[str, type]) -> str:
        if config["mixer"] is None:
            return f"learner={config['learner']} weighs errors of the team's value; give a mixer, such as mixer=qmix"
        return super().conflict(config, kinds)

    def __init__(self, mac: Policy, scheme: Scheme, logger: Logger, args: Args):
        super().__init__(mac, scheme, logger, args)
        self.central_mac = cast(Callable[..., Policy], type(mac))(scheme, {"agents": args.n_agents}, args)
        self.central_mixer = QMixerCentral(args).to(args.device)
        self.central_targets = Targets(self.central_mac, self.central_mixer, args.target_update_interval)
        self.params += [*self.central_mac.parameters(), *self.central_mixer.parameters()]
        self.optimiser = self.make_optimiser(self.params, args.lr)

    def train(self, batch: EpisodeBatch, t_env: int, episode_num: int) -> None:
        """Performs one update by td_loss_weight * weight_t (y - Q_tot)^2 + central_loss * (y - Q*)^2, means over played
        steps.
        """
        transitions = make_transitions(batch, self.args.gamma)
        state, mask, actions_t, played = transitions.state, transitions.mask, transitions.actions, transitions.played
        q, central_q = self.mac.unroll(batch), self.central_mac.unroll(batch)
        q_t = mix(self.mixer, chosen(q[:, :-1], actions_t), state[:, :-1], played)
        central_q_t = mix(self.central_mixer, chosen(central_q[:, :-1], actions_t), state[:, :-1], played)
        with th.no_grad():
            target_q, central_mixer = self.central_targets.mac.unroll(batch), self.central_targets.mixer
            best_actions = best_available(q, transitions.avail)
            chooser_q = q if self.args.double_q else self.target_mac.unroll(batch)
            best_q_tp1 = chosen(target_q, best_available(chooser_q, transitions.avail))[:, 1:]
            value_tp1 = mix(central_mixer, best_q_tp1, state[:, 1:], played)
            target_t = build_td_lambda_targets(
                transitions.reward, transitions.discount, mask, value_tp1, self.args.td_lambda
            )
            if self.args.weighting == "centrally":
                best_q_t = mix(central_mixer, chosen(target_q, best_actions)[:, :-1], state[:, :-1], played)
                is_best = (actions_t == best_actions[:, :-1]).all(-1, keepdim=True)
                counts_fully = (target_t > best_q_t) | is_best
            else:
                counts_fully = q_t < target_t
            weight_t = th.where(counts_fully, 1.0, self.args.w)

        qmix_loss = self.args.td_loss_weight * masked_mean(weight_t * (target_t - q_t) ** 2, mask)
        central_loss = self.args.central_loss * masked_mean((target_t - central_q_t) ** 2, mask)
        loss = qmix_loss + central_loss
        grad_norm = self.descend(loss, self.optimiser, self.params, t_env)
        self.targets.update_if_due(episode_num)
        self.central_targets.update_if_due(episode_num)

        if self.is_log_due(t_env):
            stats = {"qmix_loss": qmix_loss, "central_loss": central_loss, "w_to_use": masked_mean(weight_t, mask)}
            self.log_update(t_env, TDLoss(loss, q_t, target_t, mask), grad_norm, **stats)

    def parts(self) -> dict[str, Stateful]:
        central: dict[str, Stateful] = {"central_agent": self.central_mac, "central_mixer": self.central_mixer}
        return super().parts() | central | self.central_targets.parts("target_central_")

    def update_targets(self) -> None:
        super().update_targets()
        self.central_targets.update()

    def set_counts(self, counts: dict[str, int]) -> None:
        super().set_counts(counts)
        self.central_targets.last_update_episode = self.targets.last_update_episode
