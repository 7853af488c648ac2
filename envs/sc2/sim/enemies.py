"""The enemy's side of battles, where no bot plays it: scripts and policies give its units the actions that agents have.

They see the battle from their side, as agents there would: their own units come first, sorted as agents are (by type,
x and y at the start), their opponents follow in the order of the agents' ids, and east and west are exchanged. The
scripts are in `scripts.py`, the names in `envs/sc2/enemies.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from envs.multiagentenv import Observations
from envs.sc2.enemies import BOT, SCRIPT, SCRIPTS, check_enemies, read_enemies
from envs.sc2.sim import dynamics, features, records
from envs.sc2.sim.creation import Types
from envs.sc2.sim.jit import borrowed, compiled
from envs.sc2.sim.maps import SC2Map
from envs.sc2.sim.scripts import STOP, Side, tend
from utils.config import Key
from utils.errors import UserError
from utils.files import fitted

Script = Callable[[np.ndarray, np.ndarray, Side, np.ndarray, np.ndarray], None]
REPEATED = f"{SCRIPT}hold"  # any, where all that the enemies do is given
NOT_SEATED = "no policy has been given to play it; main.py and run.Run do, for others see BattleVectorEnv.seat_enemies"


class EnemyPolicy(Protocol):
    """A policy that plays the enemy's side, in any of the battles. The sizes are those of `Enemies.env_info`."""

    def begin(self, battles: np.ndarray) -> None:
        """Begins new episodes in these battles; the others go on."""

    def act(self, seen: Observations, battles: np.ndarray) -> np.ndarray:
        """Returns actions [len(battles), own unit] in these battles, for what is seen in their rows of `seen`."""


EnemySource = Callable[[float], tuple[dict[str, Any], EnemyPolicy]]
"""Returns who plays an episode, and what its record says of it, for a number in [0, 1) that was drawn for it."""


class Enemies:
    """Deals the enemies named in `enemy` and `test_enemies` to the episodes of B battles, and has them play.

    In training one is drawn for each episode from the battle's generator; in tests each is met in turn.

    Raises: UserError where one is none (see envs/sc2/enemies.py).
    """

    def __init__(
        self,
        n_envs: int,
        enemy: str | Sequence[str],
        test_enemies: Sequence[str] | None,
        sc2_map: SC2Map,
        layout: features.Layout,
        types: np.ndarray,
    ):
        """layout: of the map `sc2_map` as it is from the other side; types: units.UNIT_TYPE."""
        check_enemies(enemy, test_enemies)
        self.names = read_enemies(enemy)
        self.test_names = read_enemies(test_enemies or (), "test_enemies") or self.names
        self.n_envs, self.layout, self.n_commands = n_envs, layout, layout.n_actions
        self._side = Side(layout.n_agents, types, sc2_map.pathing, layout.move_amount)
        self._heights = sc2_map.heights
        self._is_same_army = sorted(sc2_map.ally_types) == sorted(sc2_map.enemy_types)
        of_own = dict(zip(sc2_map.ally_types, sc2_map.ally_type_index, strict=True))
        of_opponents = dict(zip(sc2_map.enemy_types, sc2_map.enemy_type_index, strict=True))
        indices = [[of.get(name, 0) for name in sc2_map.type_names] for of in (of_own, of_opponents)]
        self._type_indices = np.array(indices)
        self._ranks = Types.of(sc2_map.type_names).ranks
        self._shoots_freely = np.array([name == "Colossus" for name in sc2_map.type_names])

        self.sources: dict[str, EnemySource] = {}
        self.notes: list[dict[str, Any]] = [{"enemy": BOT} for _ in range(n_envs)]
        self.recorded_commands: list[np.ndarray] = []  # of the first battle's episode, each step [own unit]
        self.replayed: np.ndarray | None = None  # commands [step, own unit] that the enemies repeat
        self.dealt = np.zeros(n_envs, np.int64)  # test episodes
        self._players: list[Script | EnemyPolicy | None] = [None] * n_envs  # None: the bot
        self._groups: list[tuple[Script | EnemyPolicy, np.ndarray]] = []  # who plays, and in which battles
        n_own, n_units = layout.n_agents, layout.n_agents + layout.n_enemies
        self._own = np.zeros((n_envs, n_own), np.int64)  # the unit behind each of the own ones
        self._units = np.zeros((n_envs, n_units), records.UNIT)
        self._targets = np.full((n_envs, n_own), -1, np.int64)
        self._commands = np.zeros((n_envs, n_own), np.int64)
        self._last_actions = np.full((n_envs, n_own), -1, np.int64)
        self._seen = Observations.empty(n_envs, self.env_info)

    @property
    def env_info(self) -> dict[str, int]:
        """The sizes that a policy meets there, by PyMARL's names, and whether the army is the agents' own."""
        return {
            "is_same_army": self._is_same_army,
            "n_agents": self.layout.n_agents,
            "n_actions": self.layout.n_actions,
            "obs_shape": self.layout.obs_size,
            "state_shape": self.layout.state_size,
            "episode_limit": self.layout.episode_limit,
        }

    @property
    def is_commanded(self) -> bool:
        """Whether anybody but the bot plays in the first battle."""
        return self._players[0] is not None

    def state_dict(self) -> dict[str, Any]:
        return {"dealt": self.dealt.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises: ValueError where it is of other worlds."""
        self.dealt[:] = fitted(state["dealt"], [Key(int, low=0, high=2**62).read] * self.n_envs)

    def deal(self, worlds: np.ndarray, random: np.ndarray, is_test: bool) -> None:
        """Chooses who plays the next episode in the battles of the mask.

        random [batch]: the battles' generators, which go on only where there is a choice.

        Raises: UserError where a policy is named that nobody has given (`sources`).
        """
        names = self.test_names if is_test else self.names
        for b in np.flatnonzero(worlds).tolist():
            k = 0
            if is_test:
                k = (int(self.dealt[b]) * self.n_envs + b) % len(names)
                self.dealt[b] += 1
            elif len(names) > 1:
                k = int(draw(random, b) * len(names))
            name = names[k]
            self.notes[b], self._players[b] = {"enemy": name}, None
            if name.startswith(SCRIPT):
                self._players[b] = SCRIPTS[name.removeprefix(SCRIPT)]  # type: ignore[assignment]
            elif name != BOT:
                if name not in self.sources:
                    raise UserError(f"env_args.enemy={name}: {NOT_SEATED}")
                notes, self._players[b] = self.sources[name](draw(random, b))
                self.notes[b] |= notes
                self._draw_for_policy(random, b)

    def repeat(self, commands: np.ndarray | None, n_steps: int) -> None:
        """Has the enemies of the first battle repeat commands [step, own unit] of a replay. Raises: ValueError"""
        if commands is None or commands.shape != (n_steps, self.layout.n_agents):
            raise ValueError("the replay has no actions of these enemies")
        if ((commands < 0) | (commands >= self.n_commands)).any():
            raise ValueError("the replay has an action of the enemies that there is not")
        self.replayed = commands

    def begin(self, units: np.ndarray, worlds: np.ndarray) -> None:
        """Takes over the fresh enemies in those battles of the mask that no bot plays."""
        groups: dict[int, tuple[Script | EnemyPolicy, list[int]]] = {}
        for b, player in enumerate(self._players):
            if player is not None:
                groups.setdefault(id(player), (player, []))[1].append(b)
        self._groups = [(player, np.array(battles)) for player, battles in groups.values()]
        for player, battles in self._groups:
            new = battles[worlds[battles]]
            self._take_over(units, new)
            if not callable(player):
                player.begin(new)
        if worlds[0]:
            self.recorded_commands = []

    def _take_over(self, units: np.ndarray, battles: np.ndarray) -> None:
        """Makes the enemies of these battles units that only obey, as the agents' are."""
        first = self.layout.n_enemies
        own = units[battles, first:]
        of_agents = {"acquires": 0, "order": records.IDLE, "free_fire": self._shoots_freely[own["type"]]}
        for name, value in {**of_agents, **dict.fromkeys(("goal_x", "goal_y", "step_x", "step_y"), 0.0)}.items():
            units[name][battles, first:] = value
        mirrored_x = np.float32(self._side.pathing.shape[0] - own["x"])  # in the precision of the game's messages
        self._own[battles] = first + np.lexsort((np.float32(own["y"]), mirrored_x, self._ranks[own["type"]]))
        self._targets[battles] = self._last_actions[battles] = -1

    def give_orders(self, units: np.ndarray, episode_steps: np.ndarray, worlds: np.ndarray, move_amount: float) -> None:
        """Has the enemies act in those battles of the mask that no bot plays.

        Raises: ValueError where one of them gives an action that there is not.
        """
        for player, battles in self._groups:
            battles = battles[worlds[battles]]
            if not len(battles):
                continue
            if self.replayed is not None:
                self._commands[0] = self.replayed[episode_steps[0]]
            else:
                self._act(player, units, episode_steps, battles)
            if battles[0] == 0:
                self.recorded_commands.append(self._commands[0].copy())
            actions, n_agents = self._commands % self.layout.n_actions, self.layout.n_enemies
            dynamics.give_enemy_orders(units, actions, self._own, battles, move_amount, n_agents, self._side.types)

    def _act(
        self, player: Script | EnemyPolicy, units: np.ndarray, episode_steps: np.ndarray, battles: np.ndarray
    ) -> None:
        """Writes the commands of these battles."""
        see_from_other_side(units, self._own, battles, self._type_indices, self._side.pathing.shape[0], self._units)
        if callable(player):
            self._commands[battles] = STOP
            player(self._units, battles, self._side, self._targets, self._commands)
            tend(self._units, battles, self._side, self._commands)
            self._check(self._commands, battles)
            return
        worlds = np.zeros(self.n_envs, bool)
        worlds[battles] = True
        self._observe(episode_steps, worlds)
        self._last_actions[battles] = player.act(self._seen, battles)
        self._check(self._last_actions, battles)
        self._translate(worlds)

    def _check(self, actions: np.ndarray, battles: np.ndarray) -> None:
        actions, n_actions = actions[battles], self.layout.n_actions
        wrong = (actions < 0) | (actions >= n_actions)
        if wrong.any():
            raise ValueError(f"{self.notes[battles[0]]['enemy']} gives action {actions[wrong][0]} of {n_actions}")

    # what another view of battles than SMAC's does in its own way

    def _draw_for_policy(self, random: np.ndarray, b: int) -> None:
        """Draws what an episode of battle b holds only where a policy plays the enemies."""

    def _observe(self, episode_steps: np.ndarray, worlds: np.ndarray) -> None:
        """Writes what a policy sees in the battles of the mask."""
        features.observe(
            self._units, self._last_actions, episode_steps, worlds, self.layout, self._side.pathing, self._heights,
            *self._seen,
        )  # fmt: skip

    def _translate(self, worlds: np.ndarray) -> None:
        """Writes the commands for the actions that a policy has given in the battles of the mask."""
        np.copyto(self._commands, self._last_actions, where=worlds[:, None])


@compiled
def draw(random, b):
    """Returns the next number of battle b, in [0, 1)."""
    random[b], number = records.next_random(random[b])
    return number


@compiled
def see_from_other_side(units, own, battles, type_indices, width, seen):
    """Writes these battles into seen [batch, unit] as `Enemies` describes it.

    units [batch, unit]; own [batch, enemy] has the units of the side; type_indices [2, type]: what `type_index` is of
    own units and of opponents; width: of the map.
    """
    units, own, seen = borrowed(units), borrowed(own), borrowed(seen)
    n_own = own.shape[1]
    n_agents = units.shape[1] - n_own
    for b in battles:
        for k in range(units.shape[1]):
            unit = own[b, k] if k < n_own else k - n_own
            seen[b, k] = units[b, unit]
            v = seen[b, k]
            v.type_index = type_indices[int(k >= n_own), v.type]
            v.x, v.goal_x, v.home_x = width - v.x, width - v.goal_x, width - v.home_x
            v.face_x, v.step_x = -v.face_x, -v.step_x
            if v.target >= 0:
                v.target = _number_there(own[b], v.target, n_agents)


@compiled
def _number_there(own, unit, n_agents):
    if unit < n_agents:
        return len(own) + unit
    for k in range(len(own)):
        if own[k] == unit:
            return k
    return records.NO_UNIT
