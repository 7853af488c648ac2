"""Mixers: from the agents' Q-values to the team's."""

from utils.registry import Registry

REGISTRY = Registry("mixer", {"vdn": "modules.mixers.vdn:VDNMixer", "qmix": "modules.mixers.qmix:QMixer"})
