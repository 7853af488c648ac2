"""From the YAML files of this folder and the settings of the command line to one configuration.

Each setting is checked against `schema.py` by utils/config.py; main.py reads the command line.
"""

import importlib
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from config.schema import OF_PYMARL, RENAMED, SCHEMA
from utils.config import Declarations, flatten, load_json, load_yaml, recursive_dict_update
from utils.errors import UserError, shortened, unknown

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "config"
SUBFOLDERS = {"--config": "algs", "--env-config": "envs"}
COMMAND_LINE = "command line"
NO_SETTINGS = ("resolved", "population")  # of a recorded configuration: what the program found out by itself

Settings = Sequence[tuple[str, str]]  # (key, text), as they were typed
Files = Sequence[tuple[str, dict[str, Any]]]  # (path, content) of a user's own, as given after `with`


def known_names(arg_name: str) -> list[str]:
    """The names that --config or --env-config may take."""
    return sorted(path.stem for path in (CONFIG / SUBFOLDERS[arg_name]).glob("*.yaml"))


def read_file(path: Path) -> dict[str, Any]:
    """The settings in a YAML or JSON file of a user's own, such as the `config.json` of a run.

    Raises:
        UserError: the file is not well formed.
    """
    content = load_json(path) if path.suffix == ".json" else load_yaml(path)
    if "***" in str(content.get("mongo_url")):  # a password that was left out can't be used again
        del content["mongo_url"]
    return {key: value for key, value in content.items() if key not in NO_SETTINGS}


def merge(alg: str, env: str, settings: Settings, files: Files = ()) -> dict[str, Any]:
    """The configuration of a run of one algorithm: default.yaml, the environment's YAML, the algorithm's, `files`,
    `settings`.

    Raises:
        UserError: the first mistake that is found.
    """
    config = _overlay(_merge_files(alg, env), files, [alg, env])
    return _with_policy_model(_apply(config, settings, [alg, env]), settings)


def merge_population(
    name: str, counts: dict[str, int], env: str, settings: Settings, files: Files = ()
) -> dict[str, Any]:
    """The configuration of a run of several algorithms: that of the one that learns, and each one's under its name.

    A setting holds for all algorithms that have its key, ALGORITHM.key=value for one; so in a file, where it stands
    under the algorithm's name. `population` has the seats.

    Raises:
        UserError: the first mistake that is found.
    """
    asked = {key: str(value) for _, content in files for key, value in content.items()} | dict(settings)
    if asked.get("multi_algs", "").lower() != "true":
        raise UserError(f"--config={name} is a population of several algorithms; add --multi_algs")
    learner = asked.get("train_alg", "")
    if learner not in counts:
        raise UserError(f"{COMMAND_LINE}: {unknown('train_alg', learner, list(counts))}; say which of them learns")
    bases = {alg: _merge_files(alg, env) for alg in counts}
    keys = {alg: _keys(base) for alg, base in bases.items()}
    for source, content in files:
        common = {key: value for key, value in content.items() if key not in (*counts, "name")}
        _overlay(bases[learner], [(source, common)], [*counts, env], set().union(*keys.values()))  # for its errors
        for alg in counts:
            layers = [(source, _only(common, keys[alg])), (f"{source}, {alg}", content.get(alg, {}))]
            bases[alg] = _overlay(bases[alg], layers, [alg, env])
    for_all = [(key, text) for key, text in settings if key.partition(".")[0] not in counts]
    _apply(bases[learner], for_all, [*counts, env], set().union(*keys.values()))  # for its errors: the keys of any
    merged = {}
    for alg, base in bases.items():
        own = [(key.removeprefix(f"{alg}."), text) for key, text in settings if key.startswith(f"{alg}.")]
        shared = [(key, text) for key, text in for_all if key in keys[alg] or key == "env_args"]
        config = _apply(_apply(base, shared, [alg, env]), own, [alg, env], source=f"{COMMAND_LINE}, {alg}")
        merged[alg] = _with_policy_model(config, [*shared, *own])
    run = {**merged[learner], "name": name, "population": counts}
    return run | {alg: {key: value for key, value in own.items() if key != "env_args"} for alg, own in merged.items()}


def read_population(name: str, known: Collection[str]) -> dict[str, int]:
    """How many seats each algorithm has: 7iql1iql_omg gives {"iql": 7, "iql_omg": 1}.

    Raises:
        UserError: it is not counts and known names in turn, or a name comes twice.
    """
    pair = rf"([1-9][0-9]{{0,3}})({'|'.join(map(re.escape, known))})"
    counts: dict[str, int] = {}
    if not re.fullmatch(f"({pair})+", name):
        raise UserError(
            f"{COMMAND_LINE}: --config={shortened(name)} is no population: write a count and an algorithm in turn, "
            f"such as 7iql1iql_omg, with some of: {', '.join(known)}"
        )
    # A name that another begins with, such as iql and iql_omg, ends where a count begins, or the whole.
    for count, alg in re.findall(rf"{pair}(?=[0-9]|$)", name):
        if alg in counts:
            raise UserError(f"{COMMAND_LINE}: --config={name} has {alg} twice; add its counts up")
        counts[alg] = int(count)
    return counts


def _merge_files(alg: str, env: str) -> dict[str, Any]:
    from_files = Declarations(SCHEMA, SCHEMA, names_of, lambda key: (), OF_PYMARL)
    config: dict[str, Any] = {}
    for path in (CONFIG / "default.yaml", CONFIG / "envs" / f"{env}.yaml", CONFIG / "algs" / f"{alg}.yaml"):
        layer = from_files.read_layer(_renamed(load_yaml(path)), shown(path))
        if path.parent.name == "algs":  # what it sets for an environment holds in those that have it
            own = layer.get("env_args", {}).items()
            layer["env_args"] = {key: value for key, value in own if key in config["env_args"]}
        config = recursive_dict_update(config, layer)
    return config


def _renamed(layer: dict[str, Any]) -> dict[str, Any]:
    """`layer` with the names that this program has for what PyMARL names otherwise."""
    names = RENAMED.get(str(layer.get("learner")), {})
    return {names.get(key, key): value for key, value in layer.items()}


def _overlay(
    config: dict[str, Any], files: Files, chosen: Sequence[str], declared: Collection[str] | None = None
) -> dict[str, Any]:
    """`config` with what `files` hold over it; `chosen` are the names of its YAML files."""
    keys = declared or _keys(config)
    declarations = Declarations(SCHEMA, keys, names_of, lambda key: _owners_of(key, chosen), OF_PYMARL)
    for source, content in files:
        config = recursive_dict_update(config, declarations.read_layer(_renamed(content), source))
    return config


def _only(content: dict[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """What is in `content` under `keys`, of which an environment's are not told apart."""
    return {key: value for key, value in content.items() if key in keys or key == "env_args"}


def _keys(config: dict[str, Any]) -> set[str]:
    return {key for key, _ in flatten(config)} & SCHEMA.keys()


def _apply(
    config: dict[str, Any],
    settings: Settings,
    chosen: Sequence[str],
    declared: Collection[str] | None = None,
    source: str = COMMAND_LINE,
) -> dict[str, Any]:
    """`config` with the settings over it; `chosen` are the names of its YAML files."""
    keys = declared or _keys(config)
    declarations = Declarations(SCHEMA, keys, names_of, lambda key: _owners_of(key, chosen), OF_PYMARL)
    for key, text in settings:
        config = recursive_dict_update(config, declarations.read_text(key, text, source))
    return config


def _with_policy_model(config: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """`config`, whose `agent` is what `policy_model` names, the word for it beside an agent model.

    Raises:
        UserError: the settings give both, and not the same.
    """
    policy = config.get("policy_model")
    if policy is None:
        return config
    if "agent" in dict(settings) and config["agent"] != policy:
        raise UserError(f"agent={config['agent']} and policy_model={policy} both name the policy network; give one")
    return {**config, "agent": policy}


def names_of(reference: str) -> Iterable[str]:
    """Gives the names in a collection such as "runners:REGISTRY"; importing a registry imports nothing else."""
    module, _, attribute = reference.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _owners_of(key: str, chosen: Sequence[str]) -> list[str]:
    """Gives the algorithms and environments, other than the chosen ones, whose YAML declares the key."""
    files = (path for folder in SUBFOLDERS.values() for path in sorted((CONFIG / folder).glob("*.yaml")))
    return [f.stem for f in files if f.stem not in chosen and key in dict(flatten(load_yaml(f)))]


def shown(path: Path) -> str:
    """A path as messages show it."""
    return str(path.relative_to(ROOT))
