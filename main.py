"""The command line: settings become one validated configuration, which run.py gets inside a Sacred run.
Values are read and checked by utils/config.py, and declared in config/schema.py; the training loop is in run.py.
"""

import os
import platform
import re
import secrets
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterable, Sequence
from logging import Logger
from multiprocessing import resource_tracker
from pathlib import Path
from threading import TIMEOUT_MAX
from typing import TYPE_CHECKING

from config.components import conflict
from config.layers import (
    COMMAND_LINE,
    CONFIG,
    ROOT,
    SUBFOLDERS,
    Files,
    about,
    explain,
    known_names,
    merge,
    merge_population,
    read_file,
    read_population,
    yaml_files,
)
from config.schema import RUN
from envs import REGISTRY as ENVS
from utils.command import check_guarded, exit_status, forgiving, run_program, version_of
from utils.curves import check_backend
from utils.dict2namedtuple import Config
from utils.errors import UserError, shortened, unknown
from utils.files import Json
from utils.logging import get_logger
from utils.MY_EXP_PATH import check_results_path, expanded, make_results_folder
from utils.pools import load_pool_for
from utils.trackers import check_tracker

if TYPE_CHECKING:
    from sacred import Experiment
    from sacred.run import Run as SacredRun

    from utils.file_records import FileRecords

HELP = {"-h", "--help", "help"}
RECORDED_PACKAGES = ("torch", "numpy", "numba", "sacred", "smac", "pysc2", "lbforaging", "mpe2", "rware", "pettingzoo")
NAME_OF_RUN = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")
USAGE = """usage: python main.py --config=ALGORITHM --env-config=ENVIRONMENT [--KEY=VALUE ...] [with KEY=VALUE ...]

Precedence, lowest first: config/default.yaml, the environment's YAML, the algorithm's YAML, files after `with`,
--KEY=VALUE, `with KEY=VALUE`. Such a file is YAML or JSON of your own, or the config.json of a run: it is done again.
Dotted keys reach into groups: --env_args.map_name=3m. A bare --KEY is --KEY=True. Text is taken as it stands, and ~ at
the start of a path means the home folder; numbers are decimal; null, None and ~ are nothing where a key may be null.
--help qmix lists the keys of that algorithm, --help sc2 those of that environment.
Sacred's own commands and options work too: print_config, --name=, --comment=, --mongo_db=, --unobserved, --force ...
"""


def my_main(_run: "SacredRun", _config: Config, _log: Logger) -> dict[str, str]:
    """Sacred's main function; returns the folders of curves, models and replays that the run has written."""
    from run import run  # here: it imports torch, and help and mistakes are to be answered at once

    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPIPE])  # that was for the start of Sacred's processes
    return {name: path for name, path in run(_run, _config, _log).items() if any(Path(path).glob("*"))}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns the exit status: 2 after a user's mistake, 128 and the signal's number (130 for
    Ctrl-C) after one that stops it. It may be called in any thread.
    """
    check_guarded()
    params = list(sys.argv[1:] if argv is None else argv)
    if HELP & set(params):
        names = [param for param in params if param in known_names("--config") + known_names("--env-config")]
        return exit_status(lambda: print("\n".join(map(explain, names)) or _help()))
    return exit_status(lambda: _run_command_line(params))


def _run_command_line(params: list[str]) -> None:
    ex = _experiment()
    config, command, options = _configure(ex, params)
    database = _take_database(config, options)
    if command != my_main.__name__:
        ex.add_config(config)
        _run_sacred(ex, command, options)
        return
    config = resolve(config)
    # Worker processes need it. Were it started later, it would hold the output that Sacred captures open: 2 seconds
    resource_tracker.ensure_running()
    results, storage = Path(config["local_results_path"]), options["--file_storage"]
    make_results_folder(results if options["--unobserved"] else results / "sacred")
    if storage:
        make_results_folder(storage, "--file_storage")
    records = _add_file_storage(ex, results)
    if database and not options["--unobserved"]:
        from utils.mongo import MongoRecords

        ex.observers.append(MongoRecords(database, records))
    ex.add_config(config)
    _add_components(ex)
    _keep_terminal()
    # Sacred's `tee` processes inherit this: one whose reader has gone still writes what goes into the records
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPIPE])
    try:
        result = _run_sacred(ex, command, options)
        for name, path in (result or {}).items():  # with --queue there is none
            print(f"{name}: {path}")
    finally:
        if records.dir is not None:  # there is none with --unobserved
            print(f"records: {records.dir}")


def _configure(ex: "Experiment", params: list[str]) -> tuple[Json, str, Json]:
    """Returns the validated configuration, Sacred's command and Sacred's options, and has touched no disk.

    Raises: UserError for the first mistake that is found.
    """
    (name, counts), (env, _) = (_get_config(params, arg_name) for arg_name in SUBFOLDERS)
    settings = _get_other_config(params, _sacred_flags(ex))
    command, files, updates, options = _parse_sacred(ex, params)
    given = [*settings, *updates]
    if name in counts:
        config = {**merge(name, env, given, files), "population": {}}
    else:
        config = merge_population(name, counts, env, given, files)
    if sentence := conflict(config):
        raise UserError(sentence)
    _add_sources(ex, yaml_files(list(counts), env))
    if not config["common_reward"]:
        from envs.multiagentenv import check_rewards_of_each  # here: it imports NumPy

        check_rewards_of_each(ENVS[config["env"]], config["env"])
    check_results_path(config["local_results_path"])
    _check_storage(Path(config["local_results_path"]) / "sacred", options)
    if config["use_tensorboard"]:
        check_backend(config["tensorboard_backend"])
    check_tracker(config["tracker"])
    if config["save_replay"] and config["env_args"].get("replay_dir"):
        check_results_path(config["env_args"]["replay_dir"], "env_args.replay_dir")
    return config, command, options


def _get_config(params: list[str], arg_name: str) -> tuple[str, dict[str, int]]:
    """Takes `--config=NAME` or `--env-config=NAME` out of params; returns NAME and the YAML files that it means.

    They are counted: a population such as 7iql1iql_omg means several.
    """
    known = known_names(arg_name)
    given = [param for param in params if param.partition("=")[0] == arg_name]
    if len(given) != 1 or "=" not in given[0]:
        problem = "is given twice" if len(given) > 1 else "is missing"
        raise UserError(f"{arg_name} {problem}; write {arg_name}=NAME once, with one of: {', '.join(known)}")
    params.remove(given[0])
    name = given[0].partition("=")[2]
    if arg_name == "--config" and name[:1].isdigit() and name not in known:
        return name, read_population(name, known)
    if name not in known:
        folder = f"config/{SUBFOLDERS[arg_name]}/"
        raise UserError(f"{COMMAND_LINE}: {unknown(f'{arg_name} name', name, known)}; see {folder}")
    return name, {name: 1}


def _get_other_config(params: list[str], sacred_flags: set[str]) -> list[tuple[str, str]]:
    """Takes `--key=value` and bare `--key` out of params, but for Sacred's flags; returns (key, text) in order."""
    settings = []
    for param in [p for p in params if p.startswith("--") and p.partition("=")[0] not in sacred_flags]:
        params.remove(param)
        key, equals, text = param[2:].partition("=")
        if not equals and key in RUN and bool not in RUN[key].kinds:
            raise UserError(f"{COMMAND_LINE}: --{key} needs a value; write --{key}=VALUE")
        settings.append((key, text if equals else "True"))
    return settings


def _parse_sacred(ex: "Experiment", params: list[str]) -> tuple[str, Files, list[tuple[str, str]], Json]:
    """Reads what remains by Sacred's own grammar; returns its command, the files and the (key, text) after `with`, and
    its options.
    """
    from docopt import DocoptExit, docopt

    usage = ex.get_usage()[2]
    try:
        options = docopt(usage, params, default_help=False)
    except DocoptExit as error:
        raise UserError(f"{COMMAND_LINE}: can't make sense of '{shortened(' '.join(params))}'; see --help") from error
    command: str = options["COMMAND"] or my_main.__name__
    if command not in ex.commands:
        hint = f"; a setting goes after `with`, or is written --{command}" if "=" in command else ""
        raise UserError(f"{COMMAND_LINE}: {unknown('command', command, ex.commands)}{hint}")
    files, updates = [], []
    for update in options["UPDATE"]:
        key, equals, text = update.partition("=")
        is_file = Path(update).suffix in (".json", ".yaml", ".yml")
        if is_file and os.path.isfile(update):
            files.append((update, read_file(Path(update))))
        elif not equals:
            hint = "there is no such file" if is_file else f"write {update}=VALUE"
            raise UserError(f"{COMMAND_LINE}: '{shortened(update)}' after `with` is no setting; {hint}")
        else:
            updates.append((key.strip(), text.strip() if key[-1:].isspace() else text))
    return command, files, updates, dict(options)


def _check_storage(records: Path, options: Json) -> None:
    """Checks where Sacred's options put records, and writes their `~` out.

    Raises:
        UserError: `--id` is of a run that is there, or is no name for one; `--file_storage` can't be written to.
    """
    check_results_path(records)
    folders = [records]
    if options["--file_storage"]:
        try:
            options["--file_storage"] = expanded(options["--file_storage"])
        except ValueError as error:
            raise UserError(f"--file_storage: {error}") from error
        check_results_path(options["--file_storage"], "--file_storage")
        folders.append(Path(options["--file_storage"]))
    if (given := options["--id"]) is None:
        return
    if not NAME_OF_RUN.fullmatch(given):
        raise UserError(f"--id={shortened(given)} is no name for a run; write a number or a word of letters and digits")
    for folder in folders:
        if (folder / given).exists():
            raise UserError(f"--id={given} is taken: {folder / given} is there; give another, or leave --id out")


def _run_sacred(ex: "Experiment", command: str, options: Json) -> dict[str, str] | None:
    """Runs Sacred's command; returns what it returns.

    Raises: UserError where Sacred, or an observer that an option asks for, refuses before the command begins.
    """
    begun: list[bool] = []
    try:
        run = ex._create_run(command, options=options)
        for observer in run.observers if options["--id"] is None else ():
            if hasattr(observer, "_make_run_dir"):  # a number that is free in one folder may be taken in another
                observer._make_run_dir = lambda _, make=observer._make_run_dir: make(None)
        if not 0 < run.beat_interval < TIMEOUT_MAX:
            raise ValueError(f"--beat-interval={run.beat_interval} must be a number of seconds above 0")
        run.pre_run_hooks.append(lambda: begun.append(True))
        return run()
    except Exception as error:
        known = (ArithmeticError, ImportError, LookupError, OSError, RuntimeError, ValueError)
        if begun or not (isinstance(error, known) or type(error).__module__.startswith("sqlalchemy")):
            raise
        raise UserError(f"{COMMAND_LINE}: Sacred can't start the run: {' '.join(str(error).split())}") from error


def _experiment() -> "Experiment":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Sacred 0.8 still imports the deprecated pkg_resources
        from sacred import SETTINGS, Experiment

    # Descriptors, not `sys`: Sacred's `sys` capture reads and writes one buffer from two threads and loses lines, and
    # misses what compiled code and worker processes print.
    SETTINGS.CAPTURE_MODE = "fd"
    SETTINGS.DISCOVER_SOURCES = "none"  # `_add_components` finds all of them, when they are imported
    ex = Experiment("pymarl", save_git_info=False)  # with git information Sacred stops where git is not installed
    ex.logger = get_logger()  # type: ignore[assignment]
    ex.main(my_main)
    return ex


def _add_components(ex: "Experiment") -> None:
    """Has Sacred store the sources of the components that are chosen, and of all that these import."""
    import run  # noqa: F401  # for all that it imports; the components were imported for their keys

    files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    ours, installed = f"{ROOT}{os.sep}", f"{Path(sys.prefix)}{os.sep}"
    own = (file for file in files if file.startswith(ours) and file.endswith(".py") and not file.startswith(installed))
    _add_sources(ex, map(Path, own))


def _add_sources(ex: "Experiment", files: Iterable[Path]) -> None:
    from sacred.dependencies import Source, get_digest  # Sacred's own method takes Python files only

    for file in sorted(set(files) - {Path(source.filename) for source in ex.sources}):
        ex.sources.add(Source(str(file), get_digest(str(file)), None, None, None))


def _sacred_flags(ex: "Experiment") -> set[str]:
    """Returns the long flags that are Sacred's; `--debug` is a key of ours."""
    return {option.get_flag() for option in ex.all_cli_options} - {"--debug"}


def _add_file_storage(ex: "Experiment", results: Path) -> "FileRecords":
    from utils.file_records import FileRecords

    ex.observers.append(observer := FileRecords(results / "sacred"))
    return observer


def _take_database(config: Json, options: Json) -> str:
    """Returns the address of the database, or nothing; what stays behind, to be recorded, holds no password.

    Sacred does not get `--mongo_db`: its observer would wait half a minute for a server and stop the run for it.
    """
    given, options["--mongo_db"] = options["--mongo_db"], None
    url = config["mongo_url"]
    if given and url:
        raise UserError("--mongo_db and mongo_url name two databases; give one of them")
    if url:
        from utils.mongo import without_password

        config["mongo_url"] = without_password(url)
        updates = options["UPDATE"]  # Sacred records what stands after `with`
        options["UPDATE"] = [without_password(u) if u.strip().startswith("mongo_url") else u for u in updates]
    return given or url


def _keep_terminal() -> None:
    """Leaves the terminal within reach at `sys.__stderr__`, for the progress line.

    Sacred's capture puts pipes in place of descriptors 1 and 2 while the run lasts.
    """
    sys.__stderr__ = forgiving(os.dup(2), sys.__stderr__)  # type: ignore[misc, assignment]


def settings(*params: str) -> Json:
    """Returns the configuration that a command line means, for `run.Run`: `settings("--config=qmix", ...)`.

    Raises: UserError for the first mistake that is found.
    """
    return resolve(read_settings(*params))


def read_settings(*params: str) -> Json:
    """Returns the configuration that a command line means, before `resolve`; reads configuration files only."""
    return _configure(_experiment(), list(params))[0]


def resolve(config: Config) -> Json:
    """Returns the configuration as it will really run: seed, device, engine, versions and commit settled."""
    from run import args_sanity_check, population_factor

    seed = secrets.randbelow(2**31) if config["seed"] is None else config["seed"]
    env_args = config["env_args"]
    if config["population"] and config["opponent_pool"]:
        load_pool_for(config["opponent_pool"], config["env"], env_args)  # so that a mistake writes nothing
    if "seed" in env_args and env_args["seed"] is None:
        env_args = {**env_args, "seed": seed}
    engine = ENVS[config["env"]].resolve(**env_args)
    asked, log = config["test_nepisode"], get_logger()
    config = args_sanity_check({**config, "seed": seed, "env_args": env_args}, log)
    if config["test_nepisode"] != asked:
        per_run = config["batch_size_run"]
        log.warning(f"test_nepisode={asked} becomes {config['test_nepisode']}: {per_run} episodes are played at once")
    config["population_factor"] = population_factor(config)
    resolved = {
        "engine": engine,
        **ENVS[config["env"]].describe(**env_args),
        "device": "cuda" if config["use_cuda"] else "cpu",
        "python": platform.python_version(),
        "packages": {name: version for name in RECORDED_PACKAGES if (version := version_of(name))},
        "commit": _commit(),
    }
    return {**config, "resolved": resolved}


def _commit() -> str | None:
    """Returns the commit of this checkout, with `-dirty` after it where files differ; nothing without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _help() -> str:
    """Usage, algorithms, environments and the keys of every run, with the comments of their YAML file."""
    sections = [USAGE]
    for arg_name, folder in SUBFOLDERS.items():
        firsts = [f"  {name:<10} {about(CONFIG / folder / f'{name}.yaml')}" for name in known_names(arg_name)]
        sections.append("\n".join([f"{arg_name}=", *firsts, ""]))
    body = (CONFIG / "default.yaml").read_text(encoding="utf-8").strip().splitlines()
    return "\n".join([*sections, "config/default.yaml", *(f"  {line}".rstrip() for line in body), ""])


if __name__ == "__main__":
    run_program(main)
