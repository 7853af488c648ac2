"""A battle as a small file from which the engine plays it again, exactly: where its random numbers started, and all
actions. `film.py` shows it.
"""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from envs.multiagentenv import Observations, Outcomes
from envs.sc2.enemies import BOT
from envs.sc2.sim.enemies import REPEATED
from envs.sc2.sim.env import BattleVectorEnv
from envs.sc2.sim.rules import ENGINE_VERSION
from utils.config import Key
from utils.errors import UserError
from utils.files import fitted, read_json
from utils.records import write_whole

FORMAT = 1
SMALL = Key(int, low=0, high=10_000).read
SUFFIX = ".sim.json.gz"
SMACV2 = "smacv2"
"""Under which a replay of SMACv2 has the arguments that SMAC lacks."""
KIND, REMEDY = "replay", f"give a file of the embedded engine that save_replay wrote, named *{SUFFIX}"
OTHER_ENGINE = (
    "the replay was recorded by an embedded engine with other rules, which played another battle; "
    "show it with the version of the code that recorded it"
)


class Replay(NamedTuple):
    """One battle from its reset to the last step."""

    settings: dict[str, Any]  # the arguments of BattleVectorEnv on which a battle depends
    random: int  # state of the battle's generator before its reset
    actions: np.ndarray  # int64 [step, agent], as the environment was given them
    checksum: str  # of the units at the end
    enemy_actions: np.ndarray | None = None  # int64 [step, enemy], commands of sim/enemies.py; None: a bot played them

    @classmethod
    def of(cls, battle: BattleVectorEnv) -> Replay:
        """What the environment's first battle has come to since its last reset.

        Raises:
            UserError: it has played no step since.
        """
        if not battle.recorded_actions:
            raise UserError("there is no episode to save as a replay; play one first")
        settings = {
            "map_name": battle.map.name if battle.map.content is None else battle.map.content,
            "step_mul": battle.step_mul,
            "move_amount": battle.move_amount,
            "heuristic_ai": battle.heuristic_ai,
            "heuristic_rest": battle.heuristic_rest,
            "rules": battle.rules._asdict(),
            **battle.more_settings(),
        }
        enemies, enemy_actions = battle.enemies, None
        if enemies is not None and enemies.is_commanded:
            settings["enemy"] = enemies.notes[0]["enemy"]
            enemy_actions = np.array(enemies.recorded_commands, np.int64)
        actions = np.array(battle.recorded_actions, np.int64)
        return cls(settings, int(battle.recorded_random), actions, checksum(battle.units[0]), enemy_actions)

    def save(self, path: Path) -> None:
        content = {
            "format": FORMAT,
            "engine": "sim",
            "engine_version": ENGINE_VERSION,
            **self._asdict(),
            "actions": self.actions.tolist(),
            "enemy_actions": None if self.enemy_actions is None else self.enemy_actions.tolist(),
        }
        write_whole(path, gzip.compress(json.dumps(content).encode(), mtime=0))

    @classmethod
    def load(cls, path: Path) -> Replay:
        """The replay in a file that `save` wrote.

        Raises:
            UserError: there is no such file, it is no replay, or it is one in a format of another version.
        """
        version = read_json(path, {"format": int}, KIND, REMEDY, packed=True)["format"]
        if version != FORMAT:
            raise UserError(
                f"{path} is a replay in format {version} and this version reads format {FORMAT}; "
                "show it with the version of the code that recorded it"
            )
        content = read_json(path, LAYOUT, KIND, REMEDY, packed=True)
        if content.get("enemy_actions") is not None:  # replays of earlier versions have none
            content = read_json(path, {**LAYOUT, "enemy_actions": _actions}, KIND, REMEDY, packed=True)
        return cls(**{key: content[key] for key in LAYOUT}, enemy_actions=content.get("enemy_actions"))

    def moments(self, every: int = 10**9) -> Iterator[BattleVectorEnv]:
        """The battle after its reset and, within each step, after every so many game loops and at the step's end.

        What is given must not be changed, and changes when the next moment is asked for.

        Raises:
            UserError: the battle comes out otherwise than it was recorded, for the engine's rules have changed.
        """
        try:
            battle = _make_battle(self._arguments())
            n_steps, n_agents = self.actions.shape
            if n_agents != battle.map.n_agents or n_steps > battle.map.episode_limit:
                raise ValueError(f"{n_steps} steps of {n_agents} agents")
            if battle.enemies is not None:
                battle.enemies.repeat(self.enemy_actions, n_steps)
            seen, outcomes = Observations.empty(1, battle.get_env_info()), Outcomes.empty(1, battle.info_keys)
            battle._random[0] = self.random
            battle.reset(seen)
            yield battle
            for actions in self.actions[:, None]:
                for n_loops in range(every, battle.step_mul, every):
                    # a step cut short, on a copy: units move in a new sequence from one call of the engine to the next,
                    # so that a step played in two halves would be another step
                    shortened = copy.deepcopy(battle)
                    shortened.step_mul = n_loops
                    shortened.step(actions, seen, outcomes)
                    yield shortened
                battle.step(actions, seen, outcomes)
                yield battle
        except (
            ValueError,
            TypeError,
            AttributeError,
            ArithmeticError,
            UserError,
        ) as error:  # an argument, a map or an action that this engine does not have
            raise UserError(OTHER_ENGINE) from error
        if checksum(battle.units[0]) != self.checksum:
            raise UserError(OTHER_ENGINE)

    def _arguments(self) -> dict[str, Any]:
        """Returns the arguments of the environment that plays it; who commanded the enemies then is of no matter."""
        return {**self.settings, "enemy": BOT if self.enemy_actions is None else REPEATED}


def _make_battle(settings: dict[str, Any]) -> BattleVectorEnv:
    if SMACV2 not in settings:
        return BattleVectorEnv([0], **settings)
    from envs.sc2.sim.smacv2.env import BattleVectorEnv as SmacV2VectorEnv  # here: most replays are of SMAC

    of_smac = {name: value for name, value in settings.items() if name != SMACV2}
    return SmacV2VectorEnv([0], **of_smac, **settings[SMACV2])


def _actions(value: Any) -> np.ndarray:
    actions = np.array(fitted(value, [[SMALL]]), np.int64)
    if actions.ndim != 2:
        raise ValueError("it must be a list of as many actions for each step")
    return actions


LAYOUT = {
    "settings": {
        "map_name": (str, dict),
        "step_mul": Key(int, low=1, high=10_000).read,
        "move_amount": Key(float).read,
        "heuristic_ai": bool,
        "heuristic_rest": bool,
        "rules": {str: (bool, str, SMALL)},
    },
    "random": Key(int, low=0, high=2**64 - 1).read,
    "actions": _actions,
    "checksum": str,
}
"""Of a replay's content, as utils/files.py has layouts."""


def checksum(units: np.ndarray) -> str:
    """Of the places and the health of units [unit], to a ten-thousandth: less than that shows nowhere."""
    values = np.stack([units[name] for name in ("x", "y", "health", "shield")])
    return hashlib.sha256(np.round(values * 10_000).astype("<i8").tobytes()).hexdigest()[:16]
