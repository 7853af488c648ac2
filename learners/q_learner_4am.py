"""Q-learning on what an agent model infers of the others, while the model learns beside it: naive opponent modelling
and LIAM (`modules/am`). Without a model it is plain Q-learning, `q_learner.py`; OMG has its own, `omg_learner.py`.
"""

from dataclasses import dataclass

import torch as th

from components.episode_buffer import EpisodeBatch, Scheme
from components.transitions import make_transitions
from learners.am_learner import AMLearner, ModelPolicy
from learners.q_learner import QLearner
from modules.am.omg_am import OMGAM
from utils.dict2namedtuple import Args
from utils.logging import Logger
from utils.rl_utils import best_value, chosen
from utils.weights import Stateful


class QLearner4AM(QLearner):
    """Q-learning as in `QLearner`; the live model's features are an input of live and target policy alike.

    Neither loss trains the other's networks.
    """

    @dataclass(frozen=True)
    class Keys(QLearner.Keys, AMLearner.Keys):
        """The keys of both kinds of learning."""

    mac: ModelPolicy
    target_mac: ModelPolicy
    needs_model = True

    @classmethod
    def trains(cls, model: type) -> bool:
        return not issubclass(model, OMGAM)

    def __init__(self, mac: ModelPolicy, scheme: Scheme, logger: Logger, args: Args):
        super().__init__(mac, scheme, logger, args)
        self.am = mac.am
        self.am_params = list(self.am.parameters())
        self.am_optimiser = th.optim.Adam(self.am_params, lr=args.am_lr) if self.am_params else None

    def train(self, batch: EpisodeBatch, t_env: int, episode_num: int) -> None:
        """Performs one update of the policy by the loss of `QLearner`, and one of the model by its own loss."""
        transitions = make_transitions(batch, self.args.gamma)
        encoded, _ = self.mac.infer(batch)
        with th.no_grad():
            features = self.am.features(encoded)
        q, _ = self.mac.unroll_with_hidden(batch, features)
        q_t = chosen(q[:, :-1], transitions.actions)
        with th.no_grad():
            target_q, _ = self.target_mac.unroll_with_hidden(batch, features)
            value_tp1 = best_value(target_q, q if self.args.double_q else target_q, transitions.avail)[:, 1:]
        td = self.td_loss(transitions, q_t, value_tp1)
        grad_norm = self.descend(td.loss, self.optimiser, self.params, t_env)
        self.targets.update_if_due(episode_num)

        am_loss, stats = self.am.loss(batch, encoded[transitions.played], transitions.played)
        if self.am_optimiser is not None:
            stats["am_grad_norm"] = self.descend(am_loss, self.am_optimiser, self.am_params, t_env)

        if self.is_log_due(t_env):
            self.log_update(t_env, td, grad_norm, **stats)

    def parts(self) -> dict[str, Stateful]:
        return super().parts() | ({} if self.am_optimiser is None else {"am_opt": self.am_optimiser})
