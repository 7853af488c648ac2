"""The sizes of SMACv2's observations, states and actions, and the names of their columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from envs.sc2.sim import features
from envs.sc2.sim.env import attribute_names
from envs.sc2.sim.smacv2.capabilities import Capabilities
from envs.sc2.sim.smacv2.features import Switches
from envs.sc2.sim.smacv2.races import SHOOT_RANGES, SIGHT_RANGES, FlatMap

OF_SMACV2 = (
    "conic_fov", "num_fov_actions", "obs_own_pos", "obs_starcraft", "fully_observable", "action_mask", "prob_obs_enemy",
)  # fmt: skip
"""Options that SMAC lacks, of those that sizes and features depend on."""


class Sizes(NamedTuple):
    """The parts of an observation, and what else has a size."""

    move: int
    enemy: int  # one enemy's block
    ally: int
    own: int
    time: int
    ally_state: int
    enemy_state: int
    capability: int  # one agent's
    n_actions: int


def sizes_of(sc2_map: FlatMap, capabilities: Capabilities, options: Mapping[str, Any]) -> Sizes:
    """Returns the sizes under these options of SMACv2's constructor."""
    shield, bits = int(sc2_map.ally_race == "P"), sc2_map.unit_type_bits
    directions = options["num_fov_actions"] if options["conic_fov"] else 0
    sees_own_health = options["obs_own_health"] or options["obs_all_health"]
    numbers = ("attack" in capabilities.distributions) + ("health" in capabilities.distributions)
    n_targets = sc2_map.n_enemies
    if sc2_map.map_type == "terran_gen":
        n_targets = max(n_targets, sc2_map.n_agents)  # medivacs name their patients
    n_actions = features.N_ACTIONS_NO_ATTACK + directions + n_targets
    health = options["obs_all_health"] * (1 + shield)
    own = sees_own_health * (1 + shield) + numbers + 2 * options["obs_own_pos"] + 2 * (directions > 0)
    return Sizes(
        move=4 + 8 * options["obs_pathing_grid"] + 9 * options["obs_terrain_height"],
        enemy=4 + health + bits,
        ally=4 + health + numbers + bits + options["obs_last_action"] * n_actions,
        own=own * options["obs_starcraft"] + bits,
        time=int(options["obs_timestep_number"]),
        ally_state=4 + shield + numbers + 2 * (directions > 0) + bits,
        enemy_state=3 + shield + bits,
        capability=numbers + bits,
        n_actions=n_actions,
    )


def make_layout(
    sc2_map: FlatMap, capabilities: Capabilities, blanks: bool, max_distance: float | None = None, **options: Any
) -> tuple[features.Layout, Switches]:
    """Returns SMAC's layout with SMACv2's sizes, and SMACv2's own switches; rewards have a divisor in every battle.

    blanks: with the rules of June 2023 for who knows of which enemy. max_distance: by which positions are divided in
    the state; None: the playable area.
    """
    sizes, n_agents, n_enemies = sizes_of(sc2_map, capabilities, options), sc2_map.n_agents, sc2_map.n_enemies
    observed = sizes.move + n_enemies * sizes.enemy + (n_agents - 1) * sizes.ally + sizes.own + sizes.time
    state_size = n_agents * sizes.ally_state + n_enemies * sizes.enemy_state + options["state_timestep_number"]
    state_size += options["state_last_action"] * n_agents * sizes.n_actions
    of_smac: dict[str, Any] = {
        name: value if isinstance(value, bool) else float(value)
        for name, value in options.items()
        if name not in (*OF_SMACV2, "obs_own_health")
    }
    layout = features.Layout(
        n_agents=n_agents,
        n_enemies=n_enemies,
        n_actions=sizes.n_actions,
        obs_size=observed if options["obs_starcraft"] else 1,
        state_size=state_size,
        ally_features=sizes.ally,
        enemy_features=sizes.enemy,
        ally_state_features=sizes.ally_state,
        enemy_state_features=sizes.enemy_state,
        type_bits=sc2_map.unit_type_bits,
        ally_has_shield=sc2_map.ally_race == "P",
        enemy_has_shield=sc2_map.enemy_race == "P",
        max_distance_x=float(max_distance or sc2_map.playable[0]),
        max_distance_y=float(max_distance or sc2_map.playable[1]),
        episode_limit=sc2_map.episode_limit,
        obs_own_health=bool(options["obs_own_health"] or options["obs_all_health"]),
        obs_instead_of_state=False,
        reward_divisor=1.0,
        **of_smac,
    )
    n_directions = options["num_fov_actions"] if options["conic_fov"] else 0
    switches = Switches(
        n_directions=n_directions,
        half_angle=float(np.pi / n_directions) if n_directions else 0.0,
        obs_own_pos=options["obs_own_pos"],
        obs_starcraft=options["obs_starcraft"],
        fully_observable=options["fully_observable"],
        action_mask=options["action_mask"],
        blanks=blanks,
        prob_obs_enemy=float(options["prob_obs_enemy"]),
        stochastic_attack="attack" in capabilities.distributions,
        stochastic_health="health" in capabilities.distributions,
        observe_attack=capabilities.observes("attack"),
        observe_health=capabilities.observes("health"),
        observe_types=capabilities.observes("team_gen"),
        masks_enemies="enemy_mask" in capabilities.distributions,
        has_medivacs=sc2_map.map_type == "terran_gen",
    )
    return layout, switches


def ranges(sc2_map: FlatMap, use_unit_ranges: bool, min_attack_range: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns how far units of each type of the map see, and how near their targets must be: float64 [type] each."""
    names = sc2_map.type_names
    if not use_unit_ranges:
        return np.full(len(names), features.SIGHT_RANGE), np.full(len(names), features.SHOOT_RANGE)
    reach = [max(SHOOT_RANGES[name], min_attack_range) for name in names]
    return np.array([SIGHT_RANGES[name] for name in names], float), np.array(reach, float)


def names_in_env_info(layout: features.Layout, switches: Switches) -> dict[str, list[str]]:
    """Returns SMACv2's `agent_features` and `enemy_features`, which are in another order than the state's columns."""
    names = attribute_names(layout)
    own = ["fov_x", "fov_y"] * (switches.n_directions > 0)
    own += ["attack_probability"] * switches.stochastic_attack + ["total_health"] * switches.stochastic_health
    agent = names["agent_features"]
    types = agent[-layout.type_bits :]
    return {**names, "agent_features": [*agent[: -layout.type_bits], *own, *types]}


def obs_feature_names(layout: features.Layout, switches: Switches, agent: int = 0) -> list[str]:
    """Returns SMACv2's names of the columns of an agent's observation."""
    if not switches.obs_starcraft:
        return ["timestep"] * layout.obs_timestep_number
    bits = range(layout.type_bits)
    names = [f"move_action_{way}" for way in ("north", "south", "east", "west")]
    names += [f"pathing_grid_{n}" for n in range(8 * layout.obs_pathing_grid)]
    names += [f"terrain_height_{n}" for n in range(9 * layout.obs_terrain_height)]
    for k in range(layout.n_enemies):
        names += [f"enemy_{what}_{k}" for what in ("shootable", "distance", "relative_x", "relative_y")]
        names += [f"enemy_{what}_{k}" for what in _healths(layout.obs_all_health, layout.enemy_has_shield)]
        names += [f"enemy_unit_type_{k}_bit_{bit}" for bit in bits]
    for k in (k for k in range(layout.n_agents) if k != agent):
        names += [f"ally_{what}_{k}" for what in ("visible", "distance", "relative_x", "relative_y")]
        names += [f"ally_{what}_{k}" for what in _healths(layout.obs_all_health, layout.ally_has_shield)]
        names += [f"ally_{what}_{k}" for what in _numbers(switches)]
        names += [f"ally_unit_type_{k}_bit_{bit}" for bit in bits]
        names += [
            f"ally_last_action_{k}_action_{action}" for action in range(layout.obs_last_action * layout.n_actions)
        ]
    names += [f"own_{what}" for what in _healths(layout.obs_own_health, layout.ally_has_shield) + _numbers(switches)]
    names += ["own_pos_x", "own_pos_y"] * switches.obs_own_pos + ["own_fov_x", "own_fov_y"] * (
        switches.n_directions > 0
    )
    return [*names, *(f"own_unit_type_bit_{bit}" for bit in bits), *["timestep"] * layout.obs_timestep_number]


def state_feature_names(layout: features.Layout, switches: Switches) -> list[str]:
    """Returns SMACv2's names of the state's columns."""
    bits, names = range(layout.type_bits), []
    for i in range(layout.n_agents):
        own = ["health", "cooldown", "relative_x", "relative_y"] + ["shield"] * layout.ally_has_shield
        own += _numbers(switches) + ["fov_x", "fov_y"] * (switches.n_directions > 0)
        names += [f"ally_{what}_{i}" for what in own] + [f"ally_unit_type_{i}_bit_{bit}" for bit in bits]
    for k in range(layout.n_enemies):
        own = ["health", "relative_x", "relative_y"] + ["shield"] * layout.enemy_has_shield
        names += [f"enemy_{what}_{k}" for what in own] + [f"enemy_unit_type_{k}_bit_{bit}" for bit in bits]
    for i in range(layout.n_agents * layout.state_last_action):
        names += [f"ally_last_action_{i}_action_{action}" for action in range(layout.n_actions)]
    return names + ["timestep"] * layout.state_timestep_number


def _healths(are_seen: bool, has_shield: bool) -> list[str]:
    return (["health"] + ["shield"] * has_shield) * are_seen


def _numbers(switches: Switches) -> list[str]:
    return ["attack_prob"] * switches.stochastic_attack + ["health_level"] * switches.stochastic_health
