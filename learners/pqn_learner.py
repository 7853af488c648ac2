"""PQN, parallelised Q-learning (Gallici et al. 2024): Q(lambda) on what many worlds have just played, without a replay
buffer and without target networks; for teams alone (`pqn_iql`), or with a mixer (`pqn_vdn`, `pqn_qmix`).

Q-learning from a replay buffer is `q_learner.py`. Tensors are [batch, time, agent, ...]; the suffix `_t` is for the
steps t of all transitions, `_tp1` for those after.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch as th
from torch import nn

from components.episode_buffer import EpisodeBatch, Scheme
from components.transitions import make_transitions
from learners.base_learner import Policy
from learners.model_trainers import q_of_candidates
from learners.on_policy import OnPolicyLearner
from learners.q_learner import TDLoss, mix, mixer_conflict, td_statistics
from modules.mixers import REGISTRY as MIXERS
from utils.config import key
from utils.dict2namedtuple import Args, Config
from utils.logging import Logger
from utils.rl_utils import best_value, build_td_lambda_targets, chosen, masked_mean
from utils.weights import Stateful


class PQNLearner(OnPolicyLearner):
    """Trains Q towards lambda-returns of the greedy values that it had before the first update from a collection.

    Recurrent networks start each episode from zeros, or its pieces (`collect_steps`) from the hidden states that they
    were played with.
    """

    learns_pieces = True

    @dataclass(frozen=True)
    class Keys(OnPolicyLearner.Keys):
        mixer: str | None = key(None, "joins the agents' values; null: none does", names="modules.mixers:REGISTRY")

    @classmethod
    def conflict(cls, config: Config, kinds: Mapping[str, type]) -> str:
        return mixer_conflict(None, config, kinds) or super().conflict(config, kinds)

    def __init__(self, mac: Policy, scheme: Scheme, logger: Logger, args: Args):
        super().__init__(mac, logger, args)
        self.mixer: nn.Module | None = None if args.mixer is None else MIXERS[args.mixer](args).to(args.device)
        self.params = [*mac.parameters(), *(self.mixer.parameters() if self.mixer else ())]
        self.optimiser = self.make_optimiser(self.params, args.lr)

    def train(self, batch: EpisodeBatch, t_env: int, episode_num: int) -> None:
        """Performs `epochs` times `num_mini_batch` updates by the mean over played steps of (G_t - Q_t)^2, where

        G_t = r_t + gamma ((1 - lambda) max_u Q(s_tp1, u) + lambda G_tp1), with lambda = `td_lambda`.
        """
        if not self.model.is_ready(batch, t_env):
            return
        transitions = make_transitions(batch, self.args.gamma)
        inferred = self.model.infer(batch)
        batch = self.model.look_back(inferred, q_of_candidates(self, inferred, transitions.avail), t_env)
        with th.no_grad():
            q = self.mac.unroll(batch)
            value_tp1 = best_value(q, q, transitions.avail)[:, 1:]
            value_tp1 = mix(self.mixer, value_tp1, transitions.state[:, 1:], transitions.played)
            target_t = build_td_lambda_targets(
                transitions.reward, transitions.discount, transitions.mask, value_tp1, self.args.td_lambda
            )
        self.check_finite(masked_mean(target_t, transitions.mask), self.optimiser, t_env)  # before any update

        for _ in range(self.args.epochs):
            for part, episodes in self.mini_batches(batch):
                of_part = make_transitions(part, self.args.gamma)
                q_t = chosen(self.mac.unroll(part)[:, :-1], of_part.actions)
                q_t = mix(self.mixer, q_t, of_part.state[:, :-1], of_part.played)
                loss = masked_mean((target_t[episodes] - q_t) ** 2, of_part.mask)
                grad_norm = self.descend(loss, self.optimiser, self.params, t_env)

        model_stats = self.model.train(inferred, transitions, t_env, self.args.epochs)
        if self.is_log_due(t_env):
            td = TDLoss(loss, q_t, target_t[episodes], of_part.mask)
            self.log(t_env, grad_norm=grad_norm, **td_statistics(td, self.mixer, self.args.n_agents), **model_stats)

    def parts(self) -> dict[str, Stateful]:
        mixer: dict[str, Stateful] = {} if self.mixer is None else {"mixer": self.mixer}
        return {"agent": self.mac, **mixer, "opt": self.optimiser, **self.model.parts()}
