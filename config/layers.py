"""From the YAML files of this folder and the settings of the command line to one configuration.

Each setting is checked against the keys of the run and of the components that were chosen (`components.py`); main.py
reads the command line.
"""

import re
from collections.abc import Collection, Sequence
from itertools import chain
from pathlib import Path

import yaml

from config.components import OF_ALGORITHMS, Choice, Setting, check_known, choose
from config.schema import RENAMED, RUN
from utils.config import flatten, load_json, nested
from utils.errors import UserError, shortened, unknown
from utils.files import Json
from utils.yaml_files import load_yaml, parse_yaml

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "config"
SUBFOLDERS = {"--config": "algs", "--env-config": "envs"}
COMMAND_LINE = "command line"
NO_SETTINGS = ("resolved", "population")  # of a recorded configuration: what the program found out by itself

Settings = Sequence[tuple[str, str]]  # (key, text), as they were typed
Files = Sequence[tuple[str, Json]]  # (path, content) of a user's own, as given after `with`
Layers = Sequence[list[Setting]]  # one for each file, lowest first


def known_names(arg_name: str) -> list[str]:
    """Returns the names that --config or --env-config may take."""
    return sorted(path.stem for path in (CONFIG / SUBFOLDERS[arg_name]).glob("*.yaml"))


def read_file(path: Path) -> Json:
    """Returns the settings in a YAML or JSON file of a user's own, such as the `config.json` of a run.

    Raises: UserError where the file is not well formed.
    """
    content = load_json(path) if path.suffix == ".json" else load_yaml(path)
    if "***" in str(content.get("mongo_url")):  # a password that was left out can't be used again
        del content["mongo_url"]
    return {key: value for key, value in content.items() if key not in NO_SETTINGS}


def merge(alg: str, env: str, settings: Settings, files: Files = ()) -> Json:
    """Returns the configuration of a run of one algorithm. Lowest first: its components' defaults, default.yaml, the
    environment's YAML, the algorithm's, `files`, `settings`.

    Raises: UserError for the first mistake that is found.
    """
    written, typed = [_layer(content, source) for source, content in files], _typed(settings, COMMAND_LINE)
    choice, may_set = _choose(alg, env, written, typed)
    check_known(chain(*written), may_set)
    check_known(typed, choice.keys)
    return _completed(choice, typed)


def merge_population(name: str, counts: dict[str, int], env: str, settings: Settings, files: Files = ()) -> Json:
    """Returns the configuration of several algorithms: that of the one that learns, and each one's under its name.

    A setting holds for all algorithms that have its key, ALGORITHM.key=value for one; so in a file, where it stands
    under the algorithm's name. `population` has the seats.

    Raises: UserError for the first mistake that is found.
    """
    asked = {key: str(value) for _, content in files for key, value in content.items()} | dict(settings)
    if asked.get("multi_algs", "").lower() != "true":
        raise UserError(f"--config={name} is a population of several algorithms; add --multi_algs")
    learner = asked.get("train_alg", "")
    if learner not in counts:
        raise UserError(f"{COMMAND_LINE}: {unknown('train_alg', learner, list(counts))}; say which of them learns")
    shared = [_layer(content, source, without=(*counts, "name")) for source, content in files]
    for_all = _typed([(key, text) for key, text in settings if key.partition(".")[0] not in counts], COMMAND_LINE)
    merged: dict[str, Json] = {}
    may_be_written: set[str] = set()
    may_be_typed: set[str] = set()
    for alg in counts:
        own = [(key.removeprefix(f"{alg}."), text) for key, text in settings if key.startswith(f"{alg}.")]
        typed = _typed(own, f"{COMMAND_LINE}, {alg}")
        written = [_layer(content.get(alg) or {}, f"{source}, {alg}") for source, content in files]
        choice, may_set = _choose(alg, env, [*chain(*zip(shared, written))], [*for_all, *typed])
        check_known(chain(*written), may_set)
        check_known(typed, choice.keys)
        may_be_written |= may_set
        may_be_typed |= choice.keys.keys()
        merged[alg] = _completed(choice, [s for s in (*for_all, *typed) if s.key in choice.keys])
    check_known(chain(*shared), may_be_written)
    check_known(for_all, may_be_typed)
    run = {**merged[learner], "name": name, "population": counts}
    return run | {alg: {key: value for key, value in own.items() if key != "env_args"} for alg, own in merged.items()}


def read_population(name: str, known: Collection[str]) -> dict[str, int]:
    """Returns how many seats each algorithm has: {"iql": 7, "iql_omg": 1} for 7iql1iql_omg.

    Raises: UserError where it is not counts and known names in turn, or a name comes twice.
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


def explain(name: str) -> str:
    """Returns the help page of an algorithm or an environment: its components, and their keys with defaults."""
    is_alg = name in known_names("--config")
    arg_name, alg, env = ("--config", name, "sc2") if is_alg else ("--env-config", "iql", name)
    chosen, _ = _choose(alg, env, [], [])
    settings = chain(*(layer for _, layer in _chain(arg_name, name)))
    own = {setting.key: setting.value for setting in settings if setting.key in RUN and setting.key != "name"}
    of_run = [f"  {key}: {value}" for key, value in own.items()]
    parts = [part for part in chosen.parts if (part.key == "env") != is_alg]
    lines = [f"{name}: {about(CONFIG / SUBFOLDERS[arg_name] / f'{name}.yaml')}", "", "what it sets of a run", *of_run]
    return "\n".join([*lines, *(part.explain(chosen.values) for part in parts), ""])


def about(path: Path) -> str:
    """Returns the first line of a YAML file, which says what it is."""
    return path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")


def _choose(alg: str, env: str, written: Layers, typed: list[Setting]) -> tuple[Choice, set[str]]:
    """Returns what the YAML files, a user's own and the command line mean, and the keys that such files may set: those
    of the components that are chosen in the end, and of those that the files alone would choose.
    """
    default = CONFIG / "default.yaml"
    chained = [layer for _, layer in (*_chain("--env-config", env), *_chain("--config", alg))]
    run = [_layer(load_yaml(default), short_path(default)), *chained]
    files = [*run, *written]
    choice = choose([*chain(*files), *typed])
    may_set = set(choice.keys).union(*(choose(chain(*files[:n])).keys for n in range(1, len(files) + 1)))
    # What an algorithm's YAML sets for an environment holds in those that have it.
    check_known(
        (s for s in chain(*run) if not (s.source.startswith(OF_ALGORITHMS) and s.key.startswith("env_args."))), may_set
    )
    return choice, may_set


def yaml_files(algs: Collection[str], env: str) -> list[Path]:
    """Returns the files of this folder from which these algorithms and this environment have their values."""
    chains = [_chain("--env-config", env), *(_chain("--config", alg) for alg in algs)]
    return [CONFIG / "default.yaml", *(path for path, _ in chain(*chains))]


def _chain(arg_name: str, name: str, above: Collection[str] = ()) -> list[tuple[Path, list[Setting]]]:
    """Returns the YAML files of this folder, with their layers: the one of this name, after those that it `extends`."""
    path = CONFIG / SUBFOLDERS[arg_name] / f"{name}.yaml"
    content = load_yaml(path)
    base = content.pop("extends", None)
    others = set(known_names(arg_name)) - {name, *above}
    if base is not None and base not in others:
        raise UserError(f"{short_path(path)}: {unknown('file to extend', base, others)}")
    own = [Setting("name", name, short_path(path))] if arg_name == "--config" else []
    below = _chain(arg_name, base, (name, *above)) if base else []
    return [*below, (path, [*own, *_layer(content, short_path(path))])]


def _layer(content: object, source: str, without: Collection[str] = ()) -> list[Setting]:
    """Returns the settings of a file, with the names that this program has for what PyMARL names otherwise."""
    if not isinstance(content, dict):
        raise UserError(f"{source}: '{shortened(content)}' is no group of keys")
    names = RENAMED.get(str(content.get("learner")), {})
    return [
        Setting(names.get(key, key), value, source)
        for key, value in flatten(content)
        if key.partition(".")[0] not in without
    ]


def _typed(settings: Settings, source: str) -> list[Setting]:
    """Returns the command line's settings; a group given as a whole, `env_args={map_name: 3m}`, is taken apart."""
    typed = []
    for key, text in settings:
        group = _as_mapping(text) if key.partition(".")[0] == "env_args" else None
        whole = [Setting(inner, value, source) for inner, value in flatten(nested(key, group))] if group else []
        typed += whole or [Setting(key, text, source, is_typed=True)]
    return typed


def _as_mapping(text: str) -> Json | None:
    try:
        value = parse_yaml(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _completed(choice: Choice, typed: Sequence[Setting]) -> Json:
    """Returns the configuration, with values in place of what other keys settle.

    `agent` is what `policy_model` names, the word for it beside an agent model; a batch is as many episodes as are
    played at once, and the buffer as many as a batch, where the settings leave that open.

    Raises: UserError where the settings give both `agent` and `policy_model`, and not the same.
    """
    config = choice.nested()
    config["batch_size"] = config["batch_size"] or config["batch_size_run"]
    config["buffer_size"] = config["buffer_size"] or config["batch_size"]
    policy = config.get("policy_model")
    if policy is None:
        return config
    if config["agent"] != policy and any(setting.key == "agent" for setting in typed):
        raise UserError(f"agent={config['agent']} and policy_model={policy} both name the policy network; give one")
    return {**config, "agent": policy}


def short_path(path: Path) -> str:
    """Returns a path below the project's folder, as messages print it."""
    return str(path.relative_to(ROOT))
