"""Reads the records of trainings: this framework's folders, and the Sacred folders that PyMARL and EPyMARL wrote.

`groups.py` says which of them belong together.
"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from envs.multiagentenv import SELF, as_word
from envs.sc2.enemies import BOT
from run import ENGINE_NAMES
from utils.config import flatten
from utils.errors import UserError
from utils.files import Json, digest, read_config, read_json
from utils.pools import MEMBER_FILE
from utils.records import METRIC, read_json_lines
from utils.yaml_files import load_yaml

WON, RETURN = "test_battle_won_mean", "test_return_mean"
ABSOLUTE = "absolute_"  # before the names of statistics of the best checkpoint's own test
KEPT = (WON, RETURN, "steps_per_second", *(ABSOLUTE + name.removeprefix("test_") for name in (WON, RETURN)))
RECORD_FILES = ("metrics.jsonl", "metrics.json", "info.json")  # the best one first
PREFIXES = ("test_", ABSOLUTE)
OF_STARCRAFT = ("sc2", "sc2_beta", "sc2v2")
CONFIG = {"name": str, "env": str, "env_args": dict}
SILENT_SECONDS = 600.0  # after which a run that calls itself RUNNING is taken to be gone
OTHERS = "PyMARL"
REMEDY = "restore it, or leave this run out"


class Task(NamedTuple):
    """What runs have in common that may be compared: results of different engines or versions never are."""

    env: str
    map: str  # or the environment's key; "" where there is one world only
    engine: str  # as the records say: sim, game, or "" where there is no choice
    version: str  # of the engine, as far as it was recorded
    enemy: str = ""  # whom tests are played against (env_args.test_enemies); "": the world's own

    @property
    def suite(self) -> tuple[str, str, str, str]:
        """What tasks must share for their scores to be averaged."""
        return self.env, self.engine, self.version, self.enemy

    @property
    def suite_title(self) -> str:
        name = ENGINE_NAMES.get(self.engine, self.engine)
        version, enemy = f"version {self.version}" * bool(self.version), f"against {self.enemy}" * bool(self.enemy)
        return ", ".join(filter(None, (self.env, name, version, enemy)))

    @property
    def title(self) -> str:
        return (self.map or self.env) + f" against {self.enemy}" * bool(self.enemy)


class Curve(NamedTuple):
    """A statistic over a run, in the order of its steps: two arrays of equal length."""

    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """The records of one training."""

    folder: Path
    origin: str  # "" for this framework, else whose records these are
    task: Task
    algorithm: str
    seed: int | None
    settings: Mapping[str, object]  # flat
    t_max: int  # environment steps that it was to play
    status: str
    commit: str
    curves: Mapping[str, Curve]
    seconds: float | None  # that the run took, where it was recorded

    @property
    def steps(self) -> int:
        """The environment step of the last test; 0 before there is one."""
        return int(max((curve.steps[-1] for key, curve in self.curves.items() if key in (WON, RETURN)), default=0))

    @property
    def steps_per_second(self) -> float | None:
        if curve := self.curves.get("steps_per_second"):
            return float(curve.values[-1])
        return self.steps / self.seconds if self.seconds else None


class LeftOut(NamedTuple):
    """A folder that takes no part in the report, and why."""

    folder: Path
    reason: str


def find_runs(places: Sequence[Path]) -> tuple[list[TrainingRun], list[LeftOut]]:
    """Returns all runs below the folders, and those that can't be read or have no tests.

    Raises: UserError where a folder is missing, or none holds a run.
    """
    runs, left_out = [], []
    for folder in record_folders(places):
        try:
            run = read_run(folder)
            read = by_enemy(run)
        except UserError as error:
            left_out.append(LeftOut(folder, str(error)))
            continue
        tested = [one for one in read if one.curves.keys() & {WON, RETURN}]
        runs += tested
        if not tested:
            left_out.append(LeftOut(folder, f"it has recorded no test yet ({run.status})"))
    if not runs:
        named = ", ".join(map(str, places))
        why = f"; of {len(left_out)} folders none can be used: {left_out[0].reason}" if left_out else ""
        raise UserError(f"there are no runs with tests in {named}{why}; give folders that hold records of trainings")
    return runs, left_out


def by_enemy(run: TrainingRun) -> list[TrainingRun]:
    """Returns a run as one for each enemy that its tests meet, where these are several: they are never pooled."""
    enemies = _test_enemies(run.settings)
    if len(enemies) < 2:
        return [run]
    curves = dict(_curves(run.folder, [f"{prefix}vs_{as_word(enemy)}_" for enemy in enemies for prefix in PREFIXES]))
    found = []
    for enemy in enemies:
        own = {key: run.curves[key] for key in ("steps_per_second",) if key in run.curves}
        for prefix in PREFIXES:
            for name in (WON, RETURN):
                statistic = name.removeprefix("test_")
                if curve := curves.get(f"{prefix}vs_{as_word(enemy)}_{statistic}"):
                    own[prefix + statistic] = curve
        found.append(replace(run, task=run.task._replace(enemy=_enemy(enemy)), curves=own))
    return found


def _test_enemies(settings: Mapping[str, object]) -> list[str]:
    """Returns whom the tests of a run with these settings meet; nobody where that is not recorded."""
    given = settings.get("env_args.test_enemies") or settings.get("env_args.enemy") or []
    return [given] if isinstance(given, str) else [str(enemy) for enemy in given] if isinstance(given, list) else []


def _enemy(name: str) -> str:
    """Returns an enemy as tasks have it: the bot is the world's own."""
    return "" if name == BOT else name


def record_folders(places: Sequence[Path]) -> list[Path]:
    """Returns the folders of records below these, each once. Raises: UserError where there is no such folder."""
    found: dict[Path, Path] = {}
    for place in places:
        if not place.is_dir():
            raise UserError(f"there is no folder {place}; give folders that hold records of trainings")
        for top, folders, files in os.walk(place):
            folders[:] = sorted(name for name in folders if name not in ("_sources", "models", "tb_logs"))
            is_member = MEMBER_FILE in files  # of a pool
            if is_member or ("config.json" in files and not {"run.json", *RECORD_FILES}.isdisjoint(files)):
                found.setdefault(Path(top).resolve(), Path(top))
    return list(found.values())


def read_run(folder: Path) -> TrainingRun:
    """Returns the records in a folder. Raises: UserError where a file is torn or is not of the known layouts."""
    config = _config(folder)
    about = folder / "run.json"
    run = {"status": "COMPLETED" if (folder / MEMBER_FILE).is_file() else "UNKNOWN"}
    if about.is_file():
        run = read_json(about, {"status": str}, "record of a run", REMEDY)
    resolved = config.get("resolved")
    is_own = isinstance(resolved, Mapping)
    curves = dict(_curves(folder))
    settings = dict(flatten(config))
    if config["env"] in OF_STARCRAFT:
        settings.setdefault("env_args.enemy", BOT)  # before there was a choice
    if SELF not in str(settings.get("env_args.enemy")):
        settings = {key: value for key, value in settings.items() if not key.startswith("self_play_")}
    enemies = _test_enemies(settings)
    enemy = _enemy(enemies[0]) if len(enemies) == 1 else ""
    stamps = [_seconds(run.get(name)) for name in ("start_time", "stop_time", "heartbeat")]
    stop = stamps[1] or stamps[2]
    factor = config.get("population_factor") or 1
    return TrainingRun(
        folder=folder,
        origin="" if is_own else OTHERS,
        task=Task(config["env"], _map_of(config), *_engine(config), enemy),
        algorithm=config["name"],
        seed=config.get("seed"),
        settings=settings,
        t_max=int(factor * config.get("t_max", 0)),
        status=_status(run["status"], stamps[2]),
        commit=str((resolved.get("commit") if isinstance(resolved, Mapping) else None) or ""),
        curves=curves,
        seconds=stop - stamps[0] if stop and stamps[0] else None,
    )


def _config(folder: Path) -> Json:
    """Returns the settings of the run, as its own records or the pool that it is a member of have them."""
    member = folder / MEMBER_FILE
    if member.is_file():
        return load_yaml(member, {"config": CONFIG}, REMEDY)["config"]
    return read_config(folder, CONFIG)


def _map_of(config: Json) -> str:
    """Returns the map or the environment's key; of a map file with a mark of its content, as files may change."""
    env_args, resolved = config["env_args"], config.get("resolved")
    name = str(env_args.get("map_name") or env_args.get("key") or "")
    content = resolved.get("map") if isinstance(resolved, Mapping) else None
    if content is None:
        return name
    return f"{name} ({digest(content).hex()[:6]})"


def _engine(config: Json) -> tuple[str, str]:
    """Returns the engine and its version, as far as the records name them."""
    resolved = config.get("resolved")
    if not isinstance(resolved, Mapping):  # PyMARL's StarCraft is the game
        is_game = config["env"] in OF_STARCRAFT
        return ("game", str(config["env_args"].get("game_version") or "")) if is_game else ("", "")
    game = resolved.get("game")
    version = game.get("version") if isinstance(game, Mapping) else resolved.get("engine_version")
    return str(resolved.get("engine") or ""), str(version or "")


def _status(recorded: str, heartbeat: float | None) -> str:
    if recorded == "RUNNING" and heartbeat and time.time() - heartbeat > SILENT_SECONDS:
        return "SILENT"  # killed, most likely
    return recorded


def _seconds(stamp: object) -> float | None:
    """Reads Sacred's time stamps, which are in UTC and do not say so; jsonpickle may have wrapped them."""
    if isinstance(stamp, Mapping):
        stamp = stamp.get("value")
    try:
        return datetime.fromisoformat(str(stamp)).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _curves(folder: Path, prefixes: Sequence[str] = ()) -> Iterator[tuple[str, Curve]]:
    """Yields the statistics that reports are made of, or their like with these prefixes, from the best file."""
    kept = [prefix + name.removeprefix("test_") for prefix in prefixes for name in (WON, RETURN)] or list(KEPT)
    file = next((folder / name for name in RECORD_FILES if (folder / name).is_file()), None)
    points: Mapping[str, Iterable[tuple[float, float]]]
    if file is None:
        points = {}
    elif file.suffix == ".jsonl":
        points = _of_lines(file, kept)
    elif file.name == "metrics.json":
        layout = {str: {"steps": [float], "values": [object]}}
        content = read_json(file, layout, "record of metrics", REMEDY)
        points = {key: zip(entry["steps"], map(_number, entry["values"])) for key, entry in content.items()}
    else:
        content = read_json(file, dict, "record of statistics", REMEDY)
        points = {
            key: zip(map(_number, content[f"{key}_T"]), map(_number, content[key]))
            for key in kept
            if isinstance(content.get(key), list) and isinstance(content.get(f"{key}_T"), list)
        }
    for key in kept:
        latest = {t: value for t, value in points.get(key, ()) if np.isfinite(value)}  # a later one replaces
        if latest:
            steps = np.array(sorted(latest), float)
            yield key, Curve(steps, np.array([latest[t] for t in steps]))


def _of_lines(file: Path, kept: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
    points: dict[str, list[tuple[float, float]]] = {}
    for entry in read_json_lines(file, METRIC | {"t_env": int}):
        if entry["key"] in kept:
            points.setdefault(entry["key"], []).append((entry["t_env"], entry["value"]))
    return points


def _number(value: object) -> float:
    """Reads a number that older records hold as an object of NumPy's; what can't be read is NaN."""
    if isinstance(value, Mapping):
        value = value.get("value")
    return float(value) if isinstance(value, int | float) else float("nan")
