"""Q-learning on subgoals (OMG; Yu, Jiang and Lu, NeurIPS 2024): the policy learns Q(o_t, g_t, .) while the agent model
learns to infer the subgoals that hindsight picks.

Plain Q-learning is `q_learner.py`; the model is `modules/am/omg_am.py`, and `model_trainers.py` trains it. Tensors are
[batch, time, agent, ...]; the suffix `_t` is for the steps t of all transitions, `_tp1` for those after.
"""

from dataclasses import dataclass

import torch as th

from components.episode_buffer import EpisodeBatch, Scheme
from components.transitions import make_transitions
from learners.model_trainers import ModelPolicy, SubgoalTrainer, q_of_candidates
from learners.q_learner import QLearner
from modules.am.agent_model import FEATURES
from modules.am.omg_am import OMGAM
from utils.config import key
from utils.dict2namedtuple import Args
from utils.logging import Logger
from utils.rl_utils import best_value, chosen
from utils.weights import Stateful


class OMGLearner(QLearner):
    """Trains policy and posterior together, after the prior, which is frozen once it is trained."""

    @dataclass(frozen=True)
    class Keys(QLearner.Keys):
        omg_next_subgoal: str = key("next", "that o_{t+1} is paired with in the target", choices=("same", "next"))

    mac: ModelPolicy
    target_mac: ModelPolicy
    needs_model = True
    later_counts = SubgoalTrainer.later_counts

    @classmethod
    def trains(cls, model: type) -> bool:
        return issubclass(model, OMGAM)

    def __init__(self, mac: ModelPolicy, scheme: Scheme, logger: Logger, args: Args):
        super().__init__(mac, scheme, logger, args)
        self.am = mac.am
        self.model = SubgoalTrainer(self)

    def train(self, batch: EpisodeBatch, t_env: int, episode_num: int) -> None:
        """Performs one update: of the prior at the start of a run without one, else of the policy and the posterior."""
        if not self.model.is_ready(batch, t_env):
            return
        transitions = make_transitions(batch, self.args.gamma)
        inferred = self.model.infer(batch)
        with th.set_grad_enabled(self.model.eta_at(t_env) == 0):  # then no subgoal is exchanged: these values learn
            q, hidden = self.mac.unroll_with_hidden(inferred.batch)
        learned = self.model.look_back(inferred, q_of_candidates(self, inferred, transitions.avail, hidden), t_env)
        if learned is not inferred.batch:
            q, hidden = self.mac.unroll_with_hidden(learned)
        q_t = chosen(q[:, :-1], transitions.actions)
        with th.no_grad():
            target_q, target_hidden = self.target_mac.unroll_with_hidden(learned)
            target_q_tp1 = self._next_q(self.target_mac, learned, target_q, target_hidden)
            chooser_q_tp1 = target_q_tp1
            if self.args.double_q:
                chooser_q_tp1 = self._next_q(self.mac, learned, q, hidden)
            value_tp1 = best_value(target_q_tp1, chooser_q_tp1, transitions.avail[:, 1:])
        td = self.td_loss(transitions, q_t, value_tp1)
        grad_norm = self.descend(td.loss, self.optimiser, self.params, t_env)
        self.targets.update_if_due(episode_num)
        stats = self.model.train(inferred, transitions, t_env)
        if self.is_log_due(t_env):
            self.log_update(t_env, td, grad_norm, **stats)

    def _next_q(self, mac: ModelPolicy, batch: EpisodeBatch, q: th.Tensor, hidden: th.Tensor) -> th.Tensor:
        """Returns Q-values [b, T, agent, action] of the next observations, by what `mac` computed at each step.

        Each is paired with the same subgoal g_t (equation 4), or with its own, see `omg_next_subgoal`.
        """
        if self.args.omg_next_subgoal == "next":
            return q[:, 1:]
        return mac.step_from(batch, batch[FEATURES][:, :-1], hidden[:, :-1], start=1)

    def parts(self) -> dict[str, Stateful]:
        return super().parts() | self.model.parts()

    def counts(self) -> dict[str, int]:
        return super().counts() | self.model.counts()

    def set_counts(self, counts: dict[str, int]) -> None:
        super().set_counts(counts)
        self.model.set_counts(counts)
