"""Which of SMACv2's arguments can be, and which together; nothing here plays, or is compiled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envs.sc2.sim.smacv2.capabilities import Capabilities
from envs.sc2.sim.smacv2.races import MAP_NAMES, RACES, SCENARIOS, race_of, standard_config
from utils.errors import UserError, unknown

VERSIONS = {"before_epo": "e86d20b (February 2023)", "head": "577ab5a (February 2024)"}
"""SMACv2's code before and after agents learnt of enemies by being told; the published results are of the first."""


def checked(
    map_name: str, capability_config: Mapping[str, Any] | None, options: Mapping[str, Any], version: str
) -> Capabilities:
    """Returns what a scenario or a configuration draws.

    Raises: UserError for a mistake in it, and for options that can't be, or not with each other.
    """
    if map_name not in MAP_NAMES:
        raise UserError(unknown("env_args.map_name", map_name, MAP_NAMES))
    config = without_nothing(capability_config or {})
    if map_name in SCENARIOS and config:
        raise UserError(
            f"env_args.map_name={map_name} has its own capability_config; leave yours out, or take "
            f"map_name={SCENARIOS[map_name][0]}"
        )
    if map_name in RACES and not config:
        named = f"{map_name.removeprefix('10gen_')}_5_vs_5"
        raise UserError(
            f"env_args.map_name={map_name} needs env_args.capability_config, which says what is drawn; give it, or "
            f"take a standard scenario such as map_name={named}"
        )
    if mistake := mistake_in(options, version):
        raise UserError(mistake)
    capabilities = Capabilities(config or standard_config(map_name), race_of(map_name))
    if "health" not in capabilities.distributions:
        return capabilities
    if not options["reward_only_positive"]:
        raise UserError(
            "a health capability needs env_args.reward_only_positive=True, since it kills agents; leave it True"
        )
    if not 0 <= options["kill_unit_step_mul"] <= options["step_mul"]:
        raise UserError(
            f"env_args.kill_unit_step_mul={options['kill_unit_step_mul']} are more game loops than a step has; give at "
            f"most step_mul={options['step_mul']}"
        )
    return capabilities


def mistake_in(options: Mapping[str, Any], version: str) -> str:
    """Returns a sentence about options that can't be, or not together, or nothing."""
    if version not in VERSIONS:
        return unknown("env_args.version", version, VERSIONS)
    if options["obs_instead_of_state"]:
        return "SMACv2 has no env_args.obs_instead_of_state; leave it False"
    if not options["obs_starcraft"] and not options["obs_timestep_number"]:
        return "env_args.obs_starcraft=False leaves only the time to observe; add env_args.obs_timestep_number=True"
    if options["conic_fov"] and options["num_fov_actions"] < 1:
        return "env_args.conic_fov=True needs actions to turn the cone; give env_args.num_fov_actions at least 1"
    if not 0 <= options["prob_obs_enemy"] <= 1:
        return f"env_args.prob_obs_enemy={options['prob_obs_enemy']} is no chance; give a number from 0 to 1"
    if version == "before_epo" and (options["prob_obs_enemy"] != 1 or not options["action_mask"]):
        return "env_args.prob_obs_enemy and env_args.action_mask came to SMACv2 in June 2023; add env_args.version=head"
    return ""


def without_nothing(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the configuration without entries that are None, and without groups in which there is nothing else."""
    nested = {k: without_nothing(v) if isinstance(v, Mapping) else v for k, v in config.items()}
    return {key: value for key, value in nested.items() if value is not None and value != {}}
