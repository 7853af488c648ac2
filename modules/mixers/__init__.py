"""Mixers: from the agents' Q-values to the team's; QTRAN's from their hidden states and actions."""

from utils.registry import Registry

REGISTRY = Registry(
    "mixer",
    vdn="modules.mixers.vdn:VDNMixer",
    qmix="modules.mixers.qmix:QMixer",
    qplex="modules.mixers.qplex:QPlexMixer",
    qtran_base="modules.mixers.qtran:QTranBase",
)
