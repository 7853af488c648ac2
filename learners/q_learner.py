"""Q-learning for teams: IQL (no mixer), VDN and QMIX. With an agent model it is `q_learner_4am.py`.

Tensors are [batch, time, agent, ...]; the suffix `_t` is for the steps t of all transitions, `_tp1` for those after.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch as th
from torch import nn

from components.episode_buffer import EpisodeBatch, Scheme
from components.transitions import Transitions, make_transitions
from learners.base_learner import Learner, Policy
from learners.targets import Targets
from modules.mixers import REGISTRY as MIXERS
from modules.mixers.qplex import QPlexMixer
from modules.mixers.qtran import QTranBase
from utils.config import EPISODES, M, T, key
from utils.dict2namedtuple import Args, Config
from utils.logging import Logger
from utils.rl_utils import best_value, build_td_lambda_targets, chosen, masked_mean
from utils.transfer import StepIndex
from utils.weights import Stateful

OWN_MIXERS: dict[type[nn.Module], tuple[str, str]] = {
    QTranBase: ("qtran", "qtran_learner and qtran_base"),
    QPlexMixer: ("qplex", "qplex_learner and qplex"),
}
"""Mixers of joint actions' values that need a learner of their own: an algorithm that has both, and their names."""


class TDLoss(NamedTuple):
    """A loss, and what it was made of: [b, T, agent], or [b, T, 1] where a mixer computes the team's value."""

    loss: th.Tensor
    q_t: th.Tensor
    target_t: th.Tensor
    mask: th.Tensor  # [b, T, 1], the steps that were played


class QLearner(Learner):
    """Q-learning over whole episodes, with double Q (van Hasselt et al. 2016) if `double_q`."""

    @dataclass(frozen=True)
    class Keys(Learner.Keys):
        mixer: str | None = key(None, "joins the agents' values; null: none does", names="modules.mixers:REGISTRY")
        double_q: bool = key(True, "the live network picks the action whose value the target network computes")
        target_update_interval: int = key(200, "from one copy of the networks to the next", EPISODES, low=1, high=T)
        td_loss_weight: float = key(1.0, "factor of the squared errors of values", above=0, high=M)

    own_mixer: type[nn.Module] | None = None
    """The mixer of joint actions' values that it learns, and nothing else does; None: it learns any other mixer."""

    @classmethod
    def conflict(cls, config: Config, kinds: Mapping[str, type]) -> str:
        return mixer_conflict(cls.own_mixer, config, kinds) or super().conflict(config, kinds)

    def __init__(self, mac: Policy, scheme: Scheme, logger: Logger, args: Args):
        super().__init__(mac, logger, args)
        self.mixer: nn.Module | None = None if args.mixer is None else MIXERS[args.mixer](args).to(args.device)
        self.targets = Targets(mac, self.mixer, args.target_update_interval)
        self.target_mac, self.target_mixer = self.targets.mac, self.targets.mixer
        self.params = [*mac.parameters(), *(self.mixer.parameters() if self.mixer else ())]
        self.optimiser = self.make_optimiser(self.params, args.lr)

    def train(self, batch: EpisodeBatch, t_env: int, episode_num: int) -> None:
        td, grad_norm = self.update(batch, make_transitions(batch, self.args.gamma), t_env, episode_num)
        if self.is_log_due(t_env):
            self.log_update(t_env, td, grad_norm)

    def update(
        self, batch: EpisodeBatch, transitions: Transitions, t_env: int, episode_num: int
    ) -> tuple[TDLoss, th.Tensor]:
        """Performs one update, where V(s_tp1) = Q_target(s_tp1, argmax_u Q(s_tp1, u)), see `td_loss`.

        Returns the loss and the length of its gradient.
        """
        q = self.mac.unroll(batch)
        q_t = chosen(q[:, :-1], transitions.actions)
        with th.no_grad():
            target_q = self.target_mac.unroll(batch)
            value_tp1 = best_value(target_q, q if self.args.double_q else target_q, transitions.avail)[:, 1:]
        td = self.td_loss(transitions, q_t, value_tp1)
        grad_norm = self.descend(td.loss, self.optimiser, self.params, t_env)
        self.targets.update_if_due(episode_num)
        return td, grad_norm

    def td_loss(self, transitions: Transitions, q_t: th.Tensor, value_tp1: th.Tensor) -> TDLoss:
        """Returns td_loss_weight times the mean over played steps of (G_t - Q_t)^2, where G_t is the TD(lambda) target.

        A mixer joins the agents' values [b, T, agent] first: q_t, and value_tp1 of the target networks.
        """
        reward, discount, mask, state = transitions.reward, transitions.discount, transitions.mask, transitions.state
        q_t = mix(self.mixer, q_t, state[:, :-1], transitions.played)
        with th.no_grad():
            value_tp1 = mix(self.target_mixer, value_tp1, state[:, 1:], transitions.played)
            target_t = build_td_lambda_targets(reward, discount, mask, value_tp1, self.args.td_lambda)
        loss = self.args.td_loss_weight * masked_mean((target_t - q_t) ** 2, mask)
        return TDLoss(loss, q_t, target_t, mask)

    def log_update(self, t_env: int, td: TDLoss, grad_norm: th.Tensor, **stats: th.Tensor) -> None:
        """Logs PyMARL's statistics of an update, and more."""
        self.log(t_env, grad_norm=grad_norm, **td_statistics(td, self.mixer, self.args.n_agents), **stats)

    def parts(self) -> dict[str, Stateful]:
        live = {"agent": self.mac} | ({} if self.mixer is None else {"mixer": self.mixer})
        return live | self.targets.parts() | {"opt": self.optimiser}

    def update_targets(self) -> None:
        self.targets.update()

    def counts(self) -> dict[str, int]:
        return super().counts() | {"last_target_update_episode": self.targets.last_update_episode}

    def set_counts(self, counts: dict[str, int]) -> None:
        super().set_counts(counts)
        self.targets.last_update_episode = counts["last_target_update_episode"]


def mix(
    mixer: nn.Module | None, agent_qs: th.Tensor, state: th.Tensor, played: StepIndex, *others: th.Tensor
) -> th.Tensor:
    """Returns the team's values [b, T, 1] from the agents' [b, T, agent] and the states [b, T, s]; zeros in padding.

    `others` [b, T, ...] are what else the mixer reads. Without a mixer the agents' values, as they are.
    """
    if mixer is None:
        return agent_qs
    values = agent_qs.new_zeros(*agent_qs.shape[:2], 1)
    values[played] = mixer(agent_qs[played], state[played], *(other[played] for other in others))
    return values


def td_statistics(td: TDLoss, mixer: nn.Module | None, n_agents: int) -> dict[str, th.Tensor]:
    """Returns what to log of a loss, as PyMARL does: values are per agent also where a mixer computes the team's."""
    agents_per_value = 1 if mixer is None else n_agents
    return {
        "loss": td.loss,
        "td_error_abs": masked_mean((td.q_t - td.target_t).abs(), td.mask),
        "q_taken_mean": masked_mean(td.q_t, td.mask) / agents_per_value,
        "target_mean": masked_mean(td.target_t, td.mask) / agents_per_value,
    }


def mixer_conflict(own_mixer: type[nn.Module] | None, config: Config, kinds: Mapping[str, type]) -> str:
    """Returns a sentence about a mixer that a learner with `own_mixer`, or none, can't learn with, or nothing."""
    mixer = kinds.get("mixer", object)
    needed = own_mixer or next((kind for kind in OWN_MIXERS if issubclass(mixer, kind)), None)
    if needed is None or (own_mixer and issubclass(mixer, own_mixer)):
        return ""
    alg, pair = OWN_MIXERS[needed]
    return (
        f"learner={config['learner']} and mixer={config['mixer']} do not go together: "
        f"{pair} need each other; take both, as --config={alg} does, or neither"
    )
