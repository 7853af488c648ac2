"""Checkpoints on the disk: folders `<models>/<t_env>/`, written whole or not at all, found again, cleared away.

What goes into one is decided in run.py; single weight files are read in utils/weights.py.
"""

import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from utils.config import flatten
from utils.dict2namedtuple import Args, unfrozen
from utils.errors import UserError
from utils.files import read_json
from utils.logging import LOGGER_NAME
from utils.MY_EXP_PATH import experiment_root

SETTINGS_FILE = "settings.json"
"""In a checkpoint: the settings of the run that wrote it, and the sizes of its environment."""
SAME_PLAY = re.compile(
    r"seed|engine|map_name|game_version|debug|(test_)?enem(y|ies)|(heuristic|replay|reward|window)_.*"
)
"""Arguments of environments that change nothing of what a policy sees and what its actions do, or have warnings and
refusals of their own."""


def warn_of_other_world(place: Path, args: Args, trained: Mapping[str, Any] | None = None) -> None:
    """Warns where weights were trained on another version of the embedded engine, or of a map, than this run plays, or
    where what agents see or do was another.

    Args:
        place: where the weights are.
        args: the settings of this run.
        trained: those of the run that trained them; None: as SETTINGS_FILE there has them, if it is there.
    """
    file = place / SETTINGS_FILE
    if trained is None:
        trained = read_json(file, dict, "configuration", "restore it") if file.is_file() else {}
    settings, log = unfrozen(args), logging.getLogger(LOGGER_NAME)
    played, was = settings["resolved"], trained.get("resolved", {})
    version = was.get("engine_version", "1, or an unknown one,")
    if played.get("engine") == was.get("engine") == "sim" and version != played["engine_version"]:
        log.warning(
            f"{place} was trained on version {version} of the embedded engine and this run plays version "
            f"{played['engine_version']}, where battles come out otherwise: do not compare their figures"
        )
    if "map" in was and was["map"] != played.get("map"):
        log.warning(
            f"{place} was trained on another content of the map than this run plays: do not compare their figures"
        )
    plays, played_before = (dict(flatten(one.get("env_args", {}))) for one in (settings, trained))
    others = [
        f"{name}={played_before[name]} (here {plays[name]})"
        for name in sorted(plays.keys() & played_before.keys())
        if plays[name] != played_before[name] and not SAME_PLAY.fullmatch(name)
    ]
    if others:
        log.warning(f"{place} was trained with other arguments of the environment: env_args.{', '.join(others)}")


class Checkpoints:
    """The checkpoints of one run. The last `keep` of them stay, and the one with the best score; 0 keeps all."""

    def __init__(self, folder: str | Path, keep: int) -> None:
        self.folder = Path(folder)
        self.keep = keep
        self._scores: dict[int, float] = {}

    @contextmanager
    def new(self, step: int, score: float | None) -> Iterator[Path]:
        """A folder to write into; left in order, it becomes `<folder>/<step>`."""
        with whole_folder(self.folder / str(step)) as partial:
            yield partial
        self._scores[step] = -np.inf if score is None else score
        self._clear_away()

    def _clear_away(self) -> None:
        best = max(self._scores, key=lambda step: (self._scores[step], step))
        for step in sorted(self._scores)[: -self.keep] if self.keep else []:
            if step != best:
                del self._scores[step]
                # Renamed first, so that a kill in the middle leaves nothing that looks like a checkpoint.
                gone = (self.folder / str(step)).rename(self.folder / f".{step}.partial")
                shutil.rmtree(gone)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into. Left in order, it becomes `folder`; after an error nothing is left of it.

    It is renamed when all of it is on the disk, so that a kill or a power cut leaves no half of it.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        for path in [*partial.rglob("*"), partial]:
            _sync(path)
        partial.rename(folder)
    except BaseException as error:
        try:
            if isinstance(error, RuntimeError):  # torch's writer does not say what the system answered
                (partial / "probe").write_bytes(bytes(2**16))
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def find_checkpoint(folder: str | Path, step: int) -> Path:
    """Returns the checkpoint whose step is nearest to `step`, or the newest for 0.

    Raises: UserError where there is no such folder, or no checkpoint in it.
    """
    folder = Path(folder)
    steps = [int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()] if folder.is_dir() else []
    if not steps:
        raise UserError(
            f"checkpoint_path {folder} holds no saved step; give the folder that a run with save_model=True wrote, "
            "whose folders are named by their steps"
        )
    return folder / str(max(steps) if step == 0 else min(steps, key=lambda known: abs(known - step)))


def find_weights(path: str, map_name: str = "") -> Path:
    """Returns the folder that `init_param_path` means: as given or under the experiment root, or its map's folder.

    Raises: UserError where there is none.
    """
    for folder in (Path(path), experiment_root() / path):
        if map_name and (folder / map_name).is_dir():
            return folder / map_name
        if folder.is_dir():
            return folder
    raise UserError(
        f"init_param_path {path} is no folder, here or under {experiment_root()}; "
        "give one that a run with save_model=True wrote"
    )
