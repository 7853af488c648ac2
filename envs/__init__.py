"""The environments by name. `multiagentenv.py` has their interfaces, against which `check.py` holds any of them."""

from utils.registry import Registry

REGISTRY = Registry(
    "environment",
    sc2="envs.sc2:StarCraft2Env",
    sc2v2="envs.sc2.v2:SMACv2Env",
    foraging="envs.grid_foraging:GridForaging",
    lbforaging="envs.foraging:ForagingEnv",
    predator_prey="envs.particle_tag:ParticleTag",
    simple_tag="envs.predator_prey:PredatorPreyEnv",
    gymma="envs.gymma:GymmaEnv",
    pettingzoo="envs.pettingzoo_env:PettingZooEnv",
    goal_game="envs.goal_game:GoalGame",
)
