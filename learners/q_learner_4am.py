"""Q-learning on what an agent model infers of the others, while the model learns beside it: naive opponent modelling
and LIAM (`modules/am`). Without a model it is plain Q-learning, `q_learner.py`; OMG has its own, `omg_learner.py`.
"""

from components.episode_buffer import EpisodeBatch, Scheme
from components.transitions import make_transitions
from learners.model_trainers import ModelPolicy, model_trainer
from learners.q_learner import QLearner
from modules.am.omg_am import OMGAM
from utils.dict2namedtuple import Args
from utils.logging import Logger
from utils.weights import Stateful


class QLearner4AM(QLearner):
    """Q-learning as in `QLearner`; the live model's features are an input of live and target policy alike."""

    needs_model = True

    @classmethod
    def trains(cls, model: type) -> bool:
        return not issubclass(model, OMGAM)

    def __init__(self, mac: ModelPolicy, scheme: Scheme, logger: Logger, args: Args):
        super().__init__(mac, scheme, logger, args)
        self.am = mac.am
        self.model = model_trainer(self)

    def train(self, batch: EpisodeBatch, t_env: int, episode_num: int) -> None:
        """Performs one update of the policy by the loss of `QLearner`, and one of the model by its own loss."""
        transitions = make_transitions(batch, self.args.gamma)
        inferred = self.model.infer(batch)
        td, grad_norm = self.update(inferred.batch, transitions, t_env, episode_num)
        stats = self.model.train(inferred, transitions, t_env)
        if self.is_log_due(t_env):
            self.log_update(t_env, td, grad_norm, **stats)

    def parts(self) -> dict[str, Stateful]:
        return super().parts() | self.model.parts()
