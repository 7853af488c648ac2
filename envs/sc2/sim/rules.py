"""The rules of the game that are not settled, each with the default that the engine plays by.

They are set under `env_args.rules` (see `RuleKeys` in `envs/sc2`); all other rules are facts of the game's data.
"""

from typing import Literal, NamedTuple


class Rules(NamedTuple):
    spawn_lattice: Literal["greedy", "square"] = "greedy"
    """Where units created at one point come to stand: the nearest free places, or a square block."""

    spawn_age_loops: Literal[0, 1, 2] = 2
    """Game loops that have passed since the creation of the units when the agents see them first."""

    enemy_march: Literal["formation", "point"] = "formation"
    """Whether enemies ordered to one point keep their places relative to each other, or all go to that point."""

    enemy_medivac: Literal["march", "stay"] = "march"
    """Whether an enemy medivac goes with the army, or stays where it was created; it heals whoever is near."""

    scan_period_loops: int = 3
    """Game loops between two looks for a target of a unit that chooses its own."""

    cooldown_start: Literal["windup", "effect"] = "windup"
    """Whether a weapon's period runs from the start of the wind-up or from the shot itself."""

    creep_damage: bool = False
    """Whether a spine crawler loses 3 health per second because there is no creep."""

    playable_area: Literal[32, 28] = 32
    """Width by which SMAC divides positions in the state: the whole map, or the map less its border."""
