"""Policy networks of one agent, shared by all agents that play the same algorithm."""

from utils.registry import Registry

REGISTRY = Registry("agent", {"rnn": "modules.agents.rnn_agent:RNNAgent"})
