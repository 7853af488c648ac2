"""Learners: from an `EpisodeBatch` to one update of a controller."""

from utils.registry import Registry

REGISTRY = Registry(
    "learner",
    am_learner="learners.am_learner:AMLearner",
    coma_learner="learners.coma_learner:COMALearner",
    q_learner="learners.q_learner:QLearner",
    omg_learner="learners.omg_learner:OMGLearner",
    q_learner_4am="learners.q_learner_4am:QLearner4AM",
    pqn_learner="learners.pqn_learner:PQNLearner",
    ppo_learner="learners.ppo_learner:PPOLearner",
    qplex_learner="learners.qplex_learner:QPlexLearner",
    wqmix_learner="learners.wqmix_learner:WQMixLearner",
    qtran_learner="learners.qtran_learner:QTranLearner",
)
