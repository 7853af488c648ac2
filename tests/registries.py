"""The registries whose every entry is tested, by package."""

LAZY = (
    "envs",
    "runners",
    "controllers",
    "learners",
    "modules.agents",
    "modules.mixers",
    "modules.critics",
    "modules.am",
)
"""Those whose entries are imported only when they are asked for."""
ALL = (*LAZY, "components.action_selectors")
