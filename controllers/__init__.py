"""Controllers ("macs"): a team's policy, made of agent networks, agent models and an action selector."""

from utils.registry import Registry

REGISTRY = Registry(
    "controller",
    {
        "basic_mac": "controllers.basic_controller:BasicMAC",
        "multi_module_mac": "controllers.om_controller:MultiModuleMAC",
        "population_mac": "controllers.population_controller:PopulationMAC",
    },
)
