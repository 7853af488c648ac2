"""Learners: from an `EpisodeBatch` to one update of the controller that they are handed."""

from utils.registry import Registry

REGISTRY = Registry(
    "learner",
    {
        "coma_learner": "learners.coma_learner:COMALearner",
        "q_learner": "learners.q_learner:QLearner",
        "omg_learner": "learners.omg_learner:OMGLearner",
        "qtran_learner": "learners.qtran_learner:QTranLearner",
    },
)
