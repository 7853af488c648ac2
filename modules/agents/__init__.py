"""Policy networks of the agents that play the same algorithm: one for all of them, or one for each."""

from utils.registry import Registry

REGISTRY = Registry(
    "agent",
    rnn="modules.agents.rnn_agent:RNNAgent",
    rnn_norm="modules.agents.rnn_norm_agent:RNNNormAgent",
    idv_rnn="modules.agents.idv_rnn_agent:IdvRNNAgent",
    ff="modules.agents.ff_agent:FFAgent",
    mlp="modules.agents.mlp_agent:MLPAgent",
)
