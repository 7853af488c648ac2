"""Pools of trained policies: folders of members, each a folder with weights and a `member.yaml` that says whose.

    <pool>/<member>/member.yaml
    <pool>/<member>/<algorithm>/agent.th ...

Runs draw teammates from a pool; `experiments/pool.py` trains its members.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from utils.config import STEPS, Key
from utils.dict2namedtuple import Config
from utils.errors import UserError
from utils.yaml_files import load_yaml

MEMBER_FILE = "member.yaml"
AGENT_FILE = "agent.th"


class Identity(NamedTuple):
    """What makes two trainings the same one: with another length or other settings they are not independent either."""

    algorithm: str
    env: str
    map: str | None
    seed: int

    def __str__(self) -> str:
        return f"{self.algorithm} on {self.map or self.env} with seed {self.seed}"


def entry(kind: type, unit: str = "", layout: object = None, **limits: Any) -> Any:
    """Declares a field of `Member` that its `member.yaml` holds, by its layout or by the arguments of a `Key`."""
    return field(metadata={"layout": layout or Key(kind, unit, **limits).read})


@dataclass(frozen=True)
class Member:
    """A trained policy; the fields are the keys of its `member.yaml`, but for `folder`, which is its place."""

    folder: Path
    algorithm: str = entry(str)  # as --config names it
    env: str = entry(str)
    map: str | None = entry(str, nullable=True)  # None where the environment has no maps
    engine: str | None = entry(str, nullable=True)  # None where there is no choice of engines
    seed: int = entry(int, low=0)
    t_max: int = entry(int, STEPS, low=1)
    steps: int = entry(int, STEPS, low=0)  # that it was trained for
    test_win_rate: float | None = entry(float, low=0, high=1, nullable=True)  # in its last test, if one can win
    test_win_rate_of_five: float | None = entry(float, low=0, high=1, nullable=True)  # the mean of its last five tests
    test_return: float | None = entry(float, nullable=True)  # in its last test
    steps_per_second: float | None = entry(float, above=0, nullable=True)  # while it was trained
    weights: Mapping[str, str] = entry(dict, layout={str: str})  # the SHA-256 of each algorithm's agent.th
    config: Config = entry(dict, layout=dict)  # of the run that trained it, with versions and commit

    @property
    def identity(self) -> Identity:
        return Identity(self.algorithm, self.env, self.map, self.seed)

    @property
    def own_config(self) -> Config:
        """`config` to build networks by: all their weights are here, also those that once came from elsewhere."""
        return {key: "" if key == "omg_prior_path" else value for key, value in self.config.items()}

    def weights_folder(self, algorithm: str | None = None) -> Path:
        """Returns the folder of the weights of one of its algorithms, by default the one that it is named for."""
        return self.folder / (algorithm or self.algorithm)


LAYOUT = {one.name: one.metadata["layout"] for one in fields(Member) if one.name != "folder"}
"""The layout of member.yaml, in the form of utils/files.py."""


def load_pool(folder: str | Path) -> list[Member]:
    """Returns the members of a pool, by name. Raises: UserError where there are none, or one of them is broken."""
    members = find_members(folder)
    if not members:
        raise UserError(
            f"the pool {folder} holds no members; give another folder, or train some: "
            f"python -m experiments.pool {folder} --algs ... --seeds ..."
        )
    return members


def load_pool_for(folder: str | Path, env: str, env_args: Config) -> list[Member]:
    """Returns the members of a pool that are to play in this environment.

    Raises: UserError as `load_pool`, or where one was trained in another environment or on another map.
    """
    members, map_name = load_pool(folder), env_args.get("map_name")
    for member in members:
        if (member.env, member.map) != (env, map_name):
            world = f"{member.env}, {member.map}" if member.map else member.env
            raise UserError(
                f"{member.folder} was trained in {world}, but this run plays {map_name or env}; "
                "give a pool of the same environment and map"
            )
    return members


def find_members(folder: str | Path) -> list[Member]:
    """Returns the members of a pool that may be empty or not there yet; of a member's own folder, that one alone.

    Hidden folders are none. Raises: UserError where one of them is broken.
    """
    if (Path(folder) / MEMBER_FILE).is_file():
        return [read_member(Path(folder))]
    entries = sorted(Path(folder).iterdir()) if Path(folder).is_dir() else []
    return [read_member(entry) for entry in entries if entry.is_dir() and not entry.name.startswith(".")]


def read_member(folder: Path) -> Member:
    """Returns the member in this folder, whose weights are those that it was saved with.

    Raises: UserError where its `member.yaml` or its weights are missing, or not what they should be.
    """
    path = folder / MEMBER_FILE
    if not path.is_file():
        raise UserError(f"{folder} is in a pool but has no {MEMBER_FILE}; move it away, or train the member anew")
    values = load_yaml(path, LAYOUT, "restore it, or train the member anew")
    if values["algorithm"] not in values["weights"]:
        raise UserError(f"{path}: 'weights' has none of its algorithm, {values['algorithm']}; restore them")
    member = Member(folder=folder, **{key: values[key] for key in LAYOUT})
    for algorithm, expected in member.weights.items():
        file = member.weights_folder(algorithm) / AGENT_FILE
        if not file.is_file():
            raise UserError(f"{path} names weights that are missing: {file}; restore them, or train the member anew")
        if weights_id(file) != expected:
            raise UserError(f"{file} is not the file that {path} names; restore it, or train the member anew")
    return member


def weights_id(file: Path) -> str:
    """Returns the SHA-256 of a file of weights, by which they are identified."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def check_disjoint(first: Sequence[Member], second: Sequence[Member]) -> None:
    """Raises: UserError where a member of one pool is in the other, by its weights or by its training."""
    trained = {member.identity: member for member in first}
    of_weights = {weights: member for member in first for weights in member.weights.values()}
    for member in second:
        same = trained.get(member.identity)
        reason = f"both are {member.identity}"
        for weights in member.weights.values():
            if weights in of_weights:
                same, reason = of_weights[weights], "their weights are the same"
        if same is not None:
            raise UserError(
                f"{same.folder} and {member.folder} are one member in two pools that must be disjoint ({reason}); "
                "take one of them out"
            )
