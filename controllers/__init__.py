"""Controllers ("macs"): policies, made of agent networks, agent models and an action selector; and teams of them."""

from utils.registry import Registry

REGISTRY = Registry(
    "controller",
    basic_mac="controllers.basic_controller:BasicMAC",
    multi_module_mac="controllers.om_controller:MultiModuleMAC",
)
