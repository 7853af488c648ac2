"""Trains nothing but an agent model. What trains one beside a policy is `model_trainers.py`."""

import torch as th

from components.episode_buffer import EpisodeBatch, Scheme
from components.transitions import make_transitions
from learners.base_learner import Learner
from learners.model_trainers import ModelPolicy, train_prior
from modules.am.none_am import NoneAM
from utils.dict2namedtuple import Args
from utils.logging import Logger
from utils.weights import Stateful


class AMLearner(Learner):
    """Trains the controller's agent model on episodes of whatever policy plays; of OMG's model the prior alone.

    A prior that was trained is found so by the learners of policies, which then train no other.
    """

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
        self.am_optimiser = th.optim.Adam(self.am_params, lr=args.am_lr)

    def train(self, batch: EpisodeBatch, t_env: int, episode_num: int) -> None:
        """Updates the model once; a subgoal prior `omg_vae_batches` times."""
        if self.args.am_model == "omg":
            stats = {"omg_prior_loss": train_prior(self, self.am, self.am_optimiser, batch, t_env)}
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
