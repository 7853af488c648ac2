"""One run: wires runner, controller, buffer and learner, and loops over episodes, updates and tests.

`main.py` makes the configuration and hands it over inside a Sacred run.
"""

import random
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch as th

from components.episode_buffer import ReplayBuffer
from components.step_rows import NoRoom
from components.transforms import OneHot
from controllers import REGISTRY as CONTROLLERS
from controllers.check import check_policy
from controllers.population_controller import PopulationTeam
from controllers.team import Team
from envs.multiagentenv import fields_of
from learners import REGISTRY as LEARNERS
from runners import REGISTRY as RUNNERS
from utils.checkpoints import RANDOM_STATES, Checkpoints, find_checkpoint, random_states, set_random_states
from utils.dict2namedtuple import convert
from utils.errors import UserError
from utils.files import fitted
from utils.logging import Logger
from utils.MY_EXP_PATH import experiment_root
from utils.process import keep_freed_memory, set_threads
from utils.progress import Progress
from utils.signals import StopRequest
from utils.weights import fits, load_weights

ENGINE_NAMES = {"sim": "the embedded engine (not StarCraft II)", "game": "StarCraft II"}


@dataclass
class Clock:
    """Where the training loop stands: episodes, and the environment steps at which things were done last."""

    last_test_t: int
    last_log_t: int = 0
    last_save_t: int = 0
    episode: int = 0


def args_sanity_check(config: Mapping[str, Any], _log: Any) -> dict[str, Any]:
    """The configuration as this machine can run it: no CUDA where there is none, tests in whole batches.

    Raises:
        UserError: the replay buffer is to be on a GPU that does not compute.
    """
    config = dict(config)
    if config["use_cuda"] and not th.cuda.is_available():
        config["use_cuda"] = False
        _log.warning("CUDA is switched off because no CUDA device is available")
    if config["buffer_device"] == "cuda" and not config["use_cuda"]:
        raise UserError("buffer_device=cuda, but the run does not compute with CUDA; set buffer_device=cpu or disk")
    per_run = config["batch_size_run"]
    config["test_nepisode"] = max(config["test_nepisode"] // per_run, 1) * per_run
    return config


def run(_run: Any, _config: Mapping[str, Any], _log: Any) -> dict[str, str]:
    """Trains or tests as configured; gives the folders of its curves and models, and of its replays if it writes any.

    Raises:
        UserError: weights that are asked for are not there, or the environment cannot be had or keeps no replays.
    """
    config = dict(_config)
    engine = config["resolved"]["engine"]
    if engine:
        _log.info(f"{config['env_args']['map_name']} is played on {ENGINE_NAMES[engine]}")
    results = Path(config["local_results_path"])
    place = [str(config["env_args"].get("map_name", config["env"])), *([engine] if engine else [])]
    started = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    token = "_".join([config["name"], *place, f"seed{config['seed']}", started, str(_run._id)])
    folders = {"curves": str(results / "tb_logs" / token), "models": str(results / "models" / token)}

    if config["save_replay"] and "replay_dir" in config["env_args"]:
        folders["replays"] = config["env_args"]["replay_dir"] or str(results / "replays" / token)
        config["env_args"] = {**config["env_args"], "replay_dir": folders["replays"]}

    args = convert({**config, "device": config["resolved"]["device"], "models_path": folders["models"]})
    random.seed(args.seed)
    np.random.seed(args.seed)
    th.manual_seed(args.seed)
    set_threads(args.n_threads)
    keep_freed_memory()
    th.autograd.set_detect_anomaly(args.debug)
    logger = Logger(_log)
    logger.setup_sacred(_run)
    if args.use_tensorboard:
        logger.setup_tb(folders["curves"], args.tensorboard_backend)
    records = results / "sacred" / str(_run._id)
    if records.is_dir():  # there is none with --unobserved
        logger.setup_records(records)
    try:
        run_sequential(args, logger)
    finally:
        logger.close()
    return folders


def run_sequential(args: Any, logger: Any) -> None:
    """Sets everything up, and trains or tests; environments are closed however it ends."""
    runner = RUNNERS[args.runner](args=args, logger=logger)
    try:
        if args.save_replay and not runner.env.keeps_replays:
            raise UserError(f"save_replay=True, but the environment '{args.env}' keeps no replays; leave it False")
        args = complete(args, runner.get_env_info(), logger)
        parts = build(args, logger, runner)
        if args.checkpoint_path or args.evaluate_path:
            load_checkpoint(args, logger, parts)
        elif args.evaluate and not (args.init_param_path or args.env_args.get("heuristic_ai")):
            logger.console_logger.warning(
                "evaluate=True tests untrained weights; give checkpoint_path or evaluate_path"
            )
        if _only_tests(args):
            th.manual_seed(args.seed)  # networks drew as many numbers as they have weights: now all meet the same team
            evaluate_sequential(args, logger, runner)
        else:
            train_sequential(args, logger, parts)
            if args.final_eval:
                evaluate_sequential(args, logger, runner)
            if args.save_replay:
                runner.run(test_mode=True)
        if args.save_replay:
            try:
                runner.save_replay()
            except (OSError, UserError) as error:  # the disk may be full
                if _only_tests(args):
                    raise
                logger.console_logger.error(f"Could not save the replay: {error}")
    finally:
        runner.close_env()


def _only_tests(args: Any) -> bool:
    """Whether the run tests weights and stops; as in PyMARL, a replay of a checkpoint asks for no training."""
    return bool(args.evaluate or args.evaluate_path or (args.save_replay and args.checkpoint_path))


def complete(args: Any, env_info: Mapping[str, Any], logger: Any) -> Any:
    """The configuration with what the environment decides: its sizes and, in a population, how much is played.

    A seat that learns alone among n gets one n-th of what a team that shares its parameters gets from an episode. So n
    times as many episodes are played, for each update and in all, and are sampled.

    Raises:
        UserError: the seats do not add up to the environment's agents, or so many episodes do not fit into the buffer.
    """
    sizes = {key: env_info[key] for key in ("n_agents", "n_actions", "state_shape", "obs_shape", "episode_limit")}
    args = convert({**args._asdict(), **sizes, "fields": fields_of(env_info), "runs_per_update": 1})
    if not args.population:
        return args
    seats = " + ".join(f"{count} {alg}" for alg, count in args.population.items())
    if sum(args.population.values()) != args.n_agents:
        raise UserError(
            f"--config={args.name} has {seats} = {sum(args.population.values())} seats, but the environment has "
            f"{args.n_agents} agents; make the counts add up to {args.n_agents}"
        )
    factor = args.n_agents // args.population[args.train_alg]
    changed = {"t_max": factor * args.t_max, "batch_size": factor * args.batch_size}
    if changed["batch_size"] > args.buffer_size:
        raise UserError(
            f"batch_size={args.batch_size}, {factor} times as many in this population, is more than "
            f"buffer_size={args.buffer_size} episodes, so training would never start; raise buffer_size"
        )
    told = ", ".join(f"{key}={value}" for key, value in changed.items())
    logger.console_logger.info(f"{seats}, of which {args.train_alg} learns: {factor} times the episodes, {told}")
    return convert({**args._asdict(), **changed, "runs_per_update": -(-factor // args.batch_size_run)})


def episode_layout(args: Any) -> tuple[dict[str, Any], dict[str, int], dict[str, Any]]:
    """The fields of an episode, as an `EpisodeBatch` takes them: (scheme, groups, preprocess).

    Those in `args.fields` are the environment's (`fields_of` in envs/multiagentenv.py).
    """
    scheme: dict[str, Any] = {}
    for name, field in args.fields.items():
        entry = {**vars(field), "dtype": getattr(th, field.dtype)}
        scheme[name] = {key: value for key, value in entry.items() if value is not None}
    scheme |= {
        "actions": {
            "vshape": (1,),
            "group": "agents",
            "dtype": th.long,
            "store_dtype": th.int16,
            "below": args.n_actions,
        },
        "terminated": {"vshape": (1,), "dtype": th.uint8, "below": 2},
    }
    groups = {"agents": args.n_agents}
    if args.population:
        learners = args.population[args.train_alg]
        scheme["agent_idx"] = {"vshape": (learners,), "dtype": th.long, "episode_const": True, "below": args.n_agents}
    preprocess = {"actions": ("actions_onehot", [OneHot(out_dim=args.n_actions)])}
    return scheme, groups, preprocess


def make_team(args: Any, scheme: dict[str, Any], groups: dict[str, int]) -> Team:
    """The policies that play, in the seats that they play: one for all, or a population."""
    return (
        PopulationTeam(scheme, groups, args) if args.population else Team(CONTROLLERS[args.mac](scheme, groups, args))
    )


def build(args: Any, logger: Any, runner: Any) -> SimpleNamespace:
    """A run's parts: `mac`, `buffer`, `learner`, `runner`, `clock`, `checkpoints`, and `rng`, by which it samples."""
    scheme, groups, preprocess = episode_layout(args)
    buffer_device = args.buffer_device or ("cpu" if args.buffer_cpu_only else args.device)
    buffer_sizes = args.buffer_size, args.episode_limit + 1
    buffer = ReplayBuffer(scheme, groups, *buffer_sizes, preprocess, buffer_device, args.local_results_path)
    team = make_team(args, scheme, groups)
    check_policy(team, scheme, groups, preprocess)
    if args.init_param_path:
        team.start_from(_find_weights(args))
    elif args.population and not (args.opponent_pool or args.checkpoint_path or args.evaluate_path):
        logger.console_logger.warning("the frozen seats have untrained weights; give init_param_path or opponent_pool")
    runner.setup(scheme=scheme, groups=groups, preprocess=preprocess, mac=team)
    learner = LEARNERS[args.learner](team.mac, scheme, logger, args)
    return SimpleNamespace(
        team=team,
        mac=team.mac,
        buffer=buffer,
        learner=learner,
        runner=runner,
        clock=Clock(last_test_t=-args.test_interval - 1),  # so that the first episodes are followed by a test
        checkpoints=Checkpoints(args.models_path, args.keep_checkpoints),
        rng=np.random.default_rng(args.seed),
    )


def train_sequential(args: Any, logger: Any, parts: SimpleNamespace) -> None:
    """Episodes, updates, tests, summaries and checkpoints until `t_max`, or until a signal asks for a stop.

    Raises:
        KeyboardInterrupt: a signal asked, and a checkpoint has been saved.
        UserError: there is no room for the replay buffer. Where that turns out underway, a checkpoint has been saved.
    """
    runner, buffer, learner, clock = parts.runner, parts.buffer, parts.learner, parts.clock
    buffer.tell_size(logger.console_logger)
    parts.started = time.time(), runner.t_env
    progress = Progress(args.t_max, args.log_interval)
    logger.console_logger.info(f"Beginning training for {args.t_max} timesteps")
    try:
        with StopRequest() as stop:
            if clock.episode > 0:  # resumed: perhaps where a test was broken off
                _after_episode(args, logger, parts, stop)
            while runner.t_env <= args.t_max and not stop.asked:
                for _ in range(args.runs_per_update):
                    buffer.insert_episode_batch(runner.run(test_mode=False))
                if buffer.can_sample(args.batch_size):
                    sample = buffer.sample(args.batch_size, rng=parts.rng)
                    if str(sample.device) != args.device:
                        sample.to(args.device)
                    learner.train(parts.team.experience(sample), runner.t_env, clock.episode)
                clock.episode += args.runs_per_update * args.batch_size_run
                _after_episode(args, logger, parts, stop)
                progress.update(runner.t_env, clock.episode, runner.test_win_rate)
            if args.save_model or stop.asked:
                save_checkpoint(args, logger, parts)
            if stop.asked:
                raise KeyboardInterrupt(stop.number)
    except NoRoom:
        save_checkpoint(args, logger, parts)
        raise
    finally:
        progress.close()
    logger.console_logger.info("Finished Training")


def _after_episode(args: Any, logger: Any, parts: SimpleNamespace, stop: StopRequest) -> None:
    """A test, a summary and a checkpoint, each where it is due."""
    runner, clock = parts.runner, parts.clock
    if runner.t_env - clock.last_test_t >= args.test_interval:
        before = training_state(parts)
        if not evaluate_sequential(args, logger, runner, stop):
            set_training_state(parts, before)  # so that a run resumed from here plays the whole test
            return
        clock.last_test_t = runner.t_env
    if runner.t_env - clock.last_log_t >= args.log_interval:
        clock.last_log_t = runner.t_env
        logger.log_stat("episode", clock.episode, runner.t_env)
        started, first_t = parts.started
        speed = (runner.t_env - first_t) / max(time.time() - started, 1e-9)
        logger.log_stat("steps_per_second", speed, runner.t_env, to_sacred=False)
        logger.print_recent_stats()
    if args.save_model and runner.t_env - clock.last_save_t >= args.save_model_interval:
        clock.last_save_t = runner.t_env
        save_checkpoint(args, logger, parts)


def evaluate_sequential(args: Any, logger: Any, runner: Any, stop: StopRequest | None = None) -> bool:
    """Plays `test_nepisode` episodes greedily; the runner logs their statistics under `test_...`.

    Gives False where a stop was asked for in the middle; nothing is logged then.
    """
    for _ in range(args.test_nepisode // args.batch_size_run):
        if stop is not None and stop.asked:
            return False
        runner.run(test_mode=True)
    if _only_tests(args):
        logger.log_stat("episode", args.test_nepisode, runner.t_env)
        logger.print_recent_stats()
    return True


def training_state(parts: SimpleNamespace) -> dict[str, Any]:
    """All that the rest of a run depends on, but for weights and episodes: counters and random numbers."""
    return {
        "clock": asdict(parts.clock),
        "learner": parts.learner.counts(),
        "runner": parts.runner.state_dict(),
        "sampling": parts.rng.bit_generator.state,
        "random": random_states(),
    }


def read_training_state(parts: SimpleNamespace, file: Path) -> dict[str, Any]:
    """The `training_state` in a state.th, and the statistics under "stats"; nothing has been taken over.

    Raises:
        UserError: it can't be read, or is not of the layout that these parts have.
    """
    layout = {
        "clock": dict.fromkeys(asdict(parts.clock), int),
        "learner": dict.fromkeys(parts.learner.counts(), int),
        "runner": parts.runner.state_layout,
        "sampling": dict,
        "random": RANDOM_STATES,
        "stats": {str: [[int, float]]},
    }
    content = load_weights(file, "cpu")
    with fits(file):
        return fitted(content, layout)


def set_training_state(parts: SimpleNamespace, state: dict[str, Any]) -> None:
    for name in asdict(parts.clock):
        setattr(parts.clock, name, state["clock"][name])
    parts.learner.set_counts(state["learner"])
    parts.runner.load_state_dict(state["runner"])
    parts.rng.bit_generator.state = state["sampling"]
    set_random_states(state["random"])


def save_checkpoint(args: Any, logger: Any, parts: SimpleNamespace) -> None:
    """Writes PyMARL's files into `<models>/<t_env>`, and what it takes to resume: state.th and buffer.th.

    A checkpoint that can't be written, on a full disk for instance, costs an error message and not the run.
    """
    step = parts.runner.t_env
    folder = parts.checkpoints.folder / str(step)
    if folder.exists():
        return  # nothing has happened since
    scores = [logger.stats[key][-1][1] for key in ("test_battle_won_mean", "test_return_mean") if key in logger.stats]
    try:
        with parts.checkpoints.new(step, scores[0] if scores else None) as path:
            parts.team.save_models(path, parts.learner)
            th.save({**training_state(parts), "stats": logger.state_dict()}, path / "state.th")
            if args.save_buffer:
                th.save(parts.buffer.state_dict(), path / "buffer.th")
    except (OSError, RuntimeError) as error:  # torch's writer raises the second
        logger.console_logger.error(f"Could not save models to {folder}: {error}; the run goes on without")
        return
    logger.console_logger.info(f"Saved models to {folder}")


def load_checkpoint(args: Any, logger: Any, parts: SimpleNamespace) -> None:
    """Takes the weights of `evaluate_path`, or goes on from the step of `checkpoint_path` that `load_step` asks for.

    Raises:
        UserError: there is no such folder, no step in it, or one of its files is broken or does not fit.
    """
    if args.evaluate_path:
        folder = Path(args.evaluate_path)
        if not folder.is_dir():
            raise UserError(f"evaluate_path {folder} is not a folder; give one that a run with save_model=True wrote")
        parts.team.load_models(folder)
        return
    folder = find_checkpoint(args.checkpoint_path, args.load_step)
    if _only_tests(args):
        parts.team.load_models(folder)
        parts.runner.t_env = int(folder.name)
        return
    missing = []
    buffer_file, state_file = folder / "buffer.th", folder / "state.th"
    state = read_training_state(parts, state_file) if state_file.is_file() else None
    parts.team.load_models(folder, parts.learner)
    if buffer_file.is_file():
        episodes = load_weights(buffer_file, "cpu", mmap=True)
        with fits(buffer_file):
            parts.buffer.load_state_dict(episodes)
    else:
        missing.append("replay buffer")
    if state is not None:
        with fits(state_file):
            set_training_state(parts, state)
        logger.load_state_dict(state["stats"])
        if state["runner"]["env"] is None or state["runner"]["n_envs"] != args.batch_size_run:
            missing.append("state of these environments")
    else:
        parts.runner.t_env = parts.clock.last_save_t = int(folder.name)
        missing.append("counters, statistics and random states")
    if missing:
        logger.console_logger.warning(f"{folder} has no {', no '.join(missing)}: the run goes on, but not bit for bit")


def _find_weights(args: Any) -> Path:
    """The folder that `init_param_path` means: as given or under the experiment root, with the map's name if there.

    Raises:
        UserError: there is none.
    """
    map_name = str(args.env_args.get("map_name", ""))
    for folder in (Path(args.init_param_path), Path(experiment_root()) / args.init_param_path):
        if map_name and (folder / map_name).is_dir():
            return folder / map_name
        if folder.is_dir():
            return folder
    raise UserError(
        f"init_param_path {args.init_param_path} is no folder, here or under {experiment_root()}; "
        "give one that a run with save_model=True wrote"
    )
