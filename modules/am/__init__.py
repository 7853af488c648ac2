"""Agent models ("AMs"): what an agent infers of the others, as an extra input of its policy (agent_model.py)."""

from utils.registry import Registry

REGISTRY = Registry(
    "agent model",
    none="modules.am.none_am:NoneAM",
    base="modules.am.base_am:BaseAM",
    liam="modules.am.liam_am:LIAMAM",
    omg="modules.am.omg_am:OMGAM",
)
