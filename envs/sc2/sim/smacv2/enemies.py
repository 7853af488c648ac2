"""The enemy's side of SMACv2's battles, where no bot plays it; `../enemies.py` has the side of SMAC's.

A policy meets there what an agent would: a cone that it turns, chances to hit, levels of health at which its units die
and masks, drawn for its side as they are for the agents'. Scripts, as the bot, have none of these.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.sc2.sim import enemies
from envs.sc2.sim.features import Layout
from envs.sc2.sim.smacv2 import features
from envs.sc2.sim.smacv2.capabilities import Capabilities
from envs.sc2.sim.smacv2.races import FlatMap


class Enemies(enemies.Enemies):
    """Deals the enemies to the episodes of B battles. Raises: UserError where one is none."""

    def __init__(
        self,
        n_envs: int,
        enemy: str | Sequence[str],
        test_enemies: Sequence[str] | None,
        sc2_map: FlatMap,
        layout: Layout,
        switches: features.Switches,
        types: np.ndarray,
        ranges: tuple[np.ndarray, np.ndarray],
        capabilities: Capabilities,
    ):
        """layout and switches: of the map as it is from the other side; types, ranges: of the map's unit types."""
        super().__init__(n_envs, enemy, test_enemies, sc2_map, layout, types)
        self.episode = features.empty_episode(n_envs, layout, switches)
        self._type_indices = np.tile(np.arange(len(types)), (2, 1))  # both sides are of one race
        self._switches, self._ranges, self._capabilities = switches, ranges, capabilities
        self._doomed = np.zeros((n_envs, layout.n_agents), bool)
        self.n_commands = layout.n_actions * (1 + switches.stochastic_health)  # the second half: and die in this step

    def kill(self, units: np.ndarray, worlds: np.ndarray) -> None:
        """Kills those enemies, in the battles of the mask, that were below their level of health before the step."""
        for _, battles in self._groups:
            for b in battles[worlds[battles]]:
                units["health"][b, self._own[b, self._commands[b] >= self.layout.n_actions]] = 0

    def _draw_for_policy(self, random: np.ndarray, b: int) -> None:
        self.episode.random[b] = seed = int(enemies.draw(random, b) * 2**53)
        generator = np.random.Generator(np.random.PCG64(seed))
        for key, array in zip(("attack", "health", "enemy_mask"), self.episode[1:4], strict=True):
            if key in self._capabilities.distributions:
                drawn = self._capabilities.distributions[key].draw(
                    self.layout.n_agents, self.layout.n_enemies, [generator]
                )
                array[b] = drawn.reshape(array[b].shape)

    def _observe(self, episode_steps: np.ndarray, worlds: np.ndarray) -> None:
        begins, goes_on = worlds & (episode_steps == 0), worlds & (episode_steps > 0)
        features.begin(begins, self.episode)
        if self._switches.blanks:  # as the agents: they look twice at first, and forget after every step
            self._look(episode_steps, begins)
            features.forget(self._units, goes_on, self.layout, self.episode)
        self._look(episode_steps, worlds)

    def _look(self, episode_steps: np.ndarray, worlds: np.ndarray) -> None:
        if self._switches.blanks:
            features.draw_looks(worlds, self._switches, self.episode)
        features.observe(
            self._units, self._last_actions, episode_steps, worlds, self.layout, self._switches, *self._ranges,
            self.episode, self._side.pathing, self._heights, *self._seen,
        )  # fmt: skip

    def _translate(self, worlds: np.ndarray) -> None:
        if self._switches.stochastic_attack:
            features.draw_rolls(worlds, self.episode)
        features.turn_and_translate(self._last_actions, worlds, self._switches, self.episode, self._commands)
        if self._switches.stochastic_health:
            features.doom(self._units, worlds, self.layout, self.episode, self._doomed)
            self._commands[self._doomed] += self.layout.n_actions
