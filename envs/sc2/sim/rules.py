"""The rules of the game that are not settled, each with the default that the engine plays by.

They are set under `env_args.rules` (see `RuleKeys` in `envs/sc2`); all other rules are facts of the game's data.
"""

from typing import Literal, NamedTuple

ENGINE_VERSION = "4"
"""Changes with whatever makes battles come out otherwise; figures of two versions are not to be mixed."""


class Rules(NamedTuple):
    enemy_list: Literal["shuffled", "created"] = "shuffled"
    """Whether enemies are listed in a random order, each put at either end of the list, or in that of their creation.
    In 1,000 recorded battles of 3m just the four orders occur that this makes, a quarter each; more enemies: open."""

    spawn_age_loops: Literal[0, 1] = 1
    """Game loops that have passed since the creation of the units when the agents see them first. In all recorded
    battles of 3m the enemies have then marched for one loop."""

    scan_period_loops: int = 8
    """Game loops between two looks for a target of a unit that chooses its own. Of 27 marines that had not acquired an
    opponent 7 loops after it came within 5.5 in recorded battles, all did in the 8th; before, as many in each loop."""

    passing_side: Literal["right", "left"] = "right"
    """On which side friends go that run straight into each other or round a friend who stands in the middle. In all 900
    recorded battles of 3m whose first orders are head-on both agents went to their right."""
