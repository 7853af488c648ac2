"""Critics: what judges actions or states during training."""

from utils.registry import Registry

REGISTRY = Registry(
    "critic",
    coma="modules.critics.coma:COMACritic",
)
"""Of actions."""

VALUES = Registry(
    "critic",
    mlp_critic="modules.critics.value:MLPCritic",
    rnn="modules.agents.rnn_agent:RNNAgent",
    rnn_norm="modules.agents.rnn_norm_agent:RNNNormAgent",
    idv_rnn="modules.agents.idv_rnn_agent:IdvRNNAgent",
    ff="modules.agents.ff_agent:FFAgent",
    mlp="modules.agents.mlp_agent:MLPAgent",
)
"""Of states: networks of agents with one output."""
