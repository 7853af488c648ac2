"""Trains nothing but an agent model. Together with Q-learning that is `q_learner_4am.py`, or `omg_learner.py`."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch as th

from components.episode_buffer import EpisodeBatch, Scheme
from components.transitions import make_transitions
from learners.base_learner import Learner, Policy
from modules.am.none_am import NoneAM
from modules.network import Outputs
from utils.config import K, key
from utils.dict2namedtuple import Args
from utils.logging import Logger
from utils.transfer import step_index
from utils.weights import Stateful


class ModelPolicy(Policy, Protocol):
    """A controller with an agent model `am`; controllers/om_controller.py documents these methods."""

    am: Any

    def infer(self, ep_batch: EpisodeBatch) -> Outputs: ...
    def unroll_with_hidden(self, ep_batch: EpisodeBatch, features: th.Tensor | None = None) -> Outputs: ...
    def step_from(
        self, ep_batch: EpisodeBatch, features: th.Tensor, hidden_states: th.Tensor, start: int = 0
    ) -> th.Tensor: ...
    def step_candidates(
        self, ep_batch: EpisodeBatch, features: th.Tensor, ahead: th.Tensor, hidden_states: th.Tensor
    ) -> th.Tensor: ...


class AMLearner(Learner):
    """Trains the controller's agent model on episodes of whatever policy plays; of OMG's model the prior alone.

    A prior that was trained is found so by `omg_learner`, which then trains no other.
    """

    @dataclass(frozen=True)
    class Keys(Learner.Keys):
        am_lr: float = key(0.001, "Adam's learning rate for the opponent model", above=0, high=K)

    mac: ModelPolicy
    needs_model = True

    @classmethod
    def trains(cls, model: type) -> bool:
        return not issubclass(model, NoneAM)

    def __init__(self, mac: ModelPolicy, scheme: Scheme, logger: Logger, args: Args):
        super().__init__(mac, logger, args)
        self.am = mac.am
        learned = self.am.vae if args.am_model == "omg" else self.am
        self.am_params = list(learned.parameters())
        self.am_optimiser = self.prior_optimiser = th.optim.Adam(self.am_params, lr=args.am_lr)

    def train(self, batch: EpisodeBatch, t_env: int, episode_num: int) -> None:
        """Updates the model once; a subgoal prior `omg_vae_batches` times."""
        if self.args.am_model == "omg":
            stats = {"omg_prior_loss": train_prior(self, batch, t_env)}
            self.am.vae.is_trained.fill_(True)
        else:
            played = make_transitions(batch, self.args.gamma).played
            encoded, _ = self.mac.infer(batch)
            loss, stats = self.am.loss(batch, encoded[played], played)
            stats["am_grad_norm"] = self.descend(loss, self.am_optimiser, self.am_params, t_env)
        if self.is_log_due(t_env):
            self.log(t_env, **stats)

    def parts(self) -> dict[str, Stateful]:
        return {"agent": self.mac, "am_opt": self.am_optimiser}


def train_prior(learner: Any, batch: EpisodeBatch, t_env: int) -> th.Tensor:
    """Makes `omg_vae_batches` gradient steps of a learner's subgoal prior, each on other states of the batch.

    The learner has `am` and `prior_optimiser`. Returns the last loss.
    """
    observations = learner.am.observations(batch)
    states = observations[step_index(batch.on_host("filled").squeeze(-1).bool(), observations.device)].flatten(0, -2)
    states = states[th.randperm(len(states), device=states.device, generator=learner.generator)]
    params = list(learner.am.vae.parameters())
    for part in states.chunk(learner.args.omg_vae_batches):
        loss = learner.am.prior_loss(part, learner.generator)
        learner.descend(loss, learner.prior_optimiser, params, t_env)
    return loss
