"""One run: wires runner, controller, buffer and learner, and loops over episodes, updates and tests.

`main.py` makes the configuration and hands it over inside a Sacred run.
"""

import random
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch as th

from components.episode_buffer import ReplayBuffer
from components.transforms import OneHot
from controllers import REGISTRY as CONTROLLERS
from learners import REGISTRY as LEARNERS
from runners import REGISTRY as RUNNERS
from utils.dict2namedtuple import convert
from utils.errors import UserError
from utils.logging import Logger
from utils.MY_EXP_PATH import experiment_root
from utils.progress import Progress

ENGINE_NAMES = {"sim": "the embedded engine (not StarCraft II)", "game": "StarCraft II"}


def args_sanity_check(config: Mapping[str, Any], _log: Any) -> dict[str, Any]:
    """The configuration as this machine can run it: no CUDA where there is none, tests in whole batches."""
    config = dict(config)
    if config["use_cuda"] and not th.cuda.is_available():
        config["use_cuda"] = False
        _log.warning("CUDA is switched off because no CUDA device is available")
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
    th.set_num_threads(args.n_threads)
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
        args = convert({**args._asdict(), **_sizes(runner.get_env_info())})
        parts = build(args, logger, runner)
        if args.checkpoint_path or args.evaluate_path:
            load_checkpoint(args, parts)
        if _only_tests(args):
            evaluate_sequential(args, logger, runner)
        else:
            train_sequential(args, logger, parts)
            if args.save_replay:
                runner.run(test_mode=True)
        if args.save_replay:
            runner.save_replay()
    finally:
        runner.close_env()


def _only_tests(args: Any) -> bool:
    """Whether the run tests weights and stops; as in PyMARL, a replay of a checkpoint asks for no training."""
    return bool(args.evaluate or args.evaluate_path or (args.save_replay and args.checkpoint_path))


def _sizes(env_info: Mapping[str, Any]) -> dict[str, Any]:
    """What the environment decides, to join the configuration."""
    return {key: env_info[key] for key in ("n_agents", "n_actions", "state_shape", "obs_shape", "episode_limit")}


def build(args: Any, logger: Any, runner: Any) -> SimpleNamespace:
    """Controller, buffer and learner for the runner's environment, as `mac`, `buffer`, `learner`, beside `runner`."""
    scheme = {
        "state": {"vshape": args.state_shape},
        "obs": {"vshape": args.obs_shape, "group": "agents"},
        "actions": {"vshape": (1,), "group": "agents", "dtype": th.long, "store_dtype": th.int16},
        "avail_actions": {"vshape": (args.n_actions,), "group": "agents", "dtype": th.uint8},
        "reward": {"vshape": (1,)},
        "terminated": {"vshape": (1,), "dtype": th.uint8},
    }
    groups = {"agents": args.n_agents}
    preprocess = {"actions": ("actions_onehot", [OneHot(out_dim=args.n_actions)])}
    buffer_device = "cpu" if args.buffer_cpu_only else args.device
    buffer = ReplayBuffer(scheme, groups, args.buffer_size, args.episode_limit + 1, preprocess, buffer_device)
    mac = CONTROLLERS[args.mac](scheme, groups, args)
    if args.init_param_path:
        mac.load_models(_find_weights(args))
    runner.setup(scheme=scheme, groups=groups, preprocess=preprocess, mac=mac)
    learner = LEARNERS[args.learner](mac, scheme, logger, args)
    return SimpleNamespace(mac=mac, buffer=buffer, learner=learner, runner=runner)


def train_sequential(args: Any, logger: Any, parts: SimpleNamespace) -> None:
    """Episodes, updates, tests, logs and saved models until `t_max`; an interrupted run saves its models, too."""
    runner, buffer, learner = parts.runner, parts.buffer, parts.learner
    rng = np.random.default_rng(args.seed)
    episode = 0
    last_test_t = -args.test_interval - 1  # so that the first episodes are followed by a test
    last_log_t = 0
    last_save_t = runner.t_env
    started, first_t = time.time(), runner.t_env
    progress = Progress(args.t_max, args.log_interval)
    logger.console_logger.info(f"Beginning training for {args.t_max} timesteps")
    try:
        while runner.t_env <= args.t_max:
            buffer.insert_episode_batch(runner.run(test_mode=False))
            if buffer.can_sample(args.batch_size):
                sample = buffer.sample(args.batch_size, rng=rng)
                if str(sample.device) != args.device:
                    sample.to(args.device)
                learner.train(sample, runner.t_env, episode)

            if runner.t_env - last_test_t >= args.test_interval:
                last_test_t = runner.t_env
                evaluate_sequential(args, logger, runner)
            if args.save_model and runner.t_env - last_save_t >= args.save_model_interval:
                last_save_t = runner.t_env
                save_checkpoint(args, logger, parts)
            episode += args.batch_size_run
            progress.update(runner.t_env, episode, runner.test_win_rate)
            if runner.t_env - last_log_t >= args.log_interval:
                last_log_t = runner.t_env
                logger.log_stat("episode", episode, runner.t_env)
                speed = (runner.t_env - first_t) / (time.time() - started)
                logger.log_stat("steps_per_second", speed, runner.t_env, to_sacred=False)
                logger.print_recent_stats()
        if args.save_model:
            save_checkpoint(args, logger, parts)
    except KeyboardInterrupt:
        save_checkpoint(args, logger, parts)
        raise
    finally:
        progress.close()
    logger.console_logger.info("Finished Training")


def evaluate_sequential(args: Any, logger: Any, runner: Any) -> None:
    """Plays `test_nepisode` episodes greedily; the runner logs their statistics under `test_...`."""
    for _ in range(args.test_nepisode // args.batch_size_run):
        runner.run(test_mode=True)
    if _only_tests(args):
        logger.log_stat("episode", args.test_nepisode, runner.t_env)
        logger.print_recent_stats()


def save_checkpoint(args: Any, logger: Any, parts: SimpleNamespace) -> None:
    """Writes PyMARL's files into `<models>/<t_env>`."""
    folder = Path(args.models_path) / str(parts.runner.t_env)
    folder.mkdir(parents=True, exist_ok=True)
    parts.learner.save_models(folder)
    logger.console_logger.info(f"Saved models to {folder}")


def load_checkpoint(args: Any, parts: SimpleNamespace) -> None:
    """Takes the weights of `evaluate_path`, or goes on from the step of `checkpoint_path` that `load_step` asks for.

    Raises:
        UserError: there is no such folder, or no step in it.
    """
    if args.evaluate_path:
        folder = Path(args.evaluate_path)
        if not folder.is_dir():
            raise UserError(f"evaluate_path {folder} is not a folder; give one that a run with save_model=True wrote")
        parts.mac.load_models(folder)
        return
    folder = Path(args.checkpoint_path)
    steps = [int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()] if folder.is_dir() else []
    if not steps:
        raise UserError(
            f"checkpoint_path {folder} holds no saved step; give the folder that a run with save_model=True wrote, "
            "whose folders are named by their steps"
        )
    step = max(steps) if args.load_step == 0 else min(steps, key=lambda known: abs(known - args.load_step))
    parts.learner.load_models(folder / str(step))
    parts.runner.t_env = step


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
