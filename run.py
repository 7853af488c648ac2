"""One run, as an object: a configuration becomes an environment, a runner, a team, a buffer and a learner, which play,
learn and test until `t_max`.

`main.py` makes the configuration and calls `run` inside a Sacred run.
"""

import json
import logging
import random
import shutil
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch as th

from components.episode_buffer import EpisodeBatch, ReplayBuffer
from components.step_rows import NoRoom
from controllers import REGISTRY as CONTROLLERS
from controllers.basic_controller import BasicMAC
from controllers.check import check_policy
from controllers.enemy import EnemyPolicy, EnemySource, SelfPlay
from controllers.layout import episode_layout
from controllers.policy import Policy, load_mac, load_policy
from controllers.population_controller import PopulationTeam
from controllers.team import Team
from envs.multiagentenv import POLICY, SELF, EnvInfo, VectorEnv, fields_of
from envs.sc2.sim.maps import is_map_file
from learners import REGISTRY as LEARNERS
from runners import REGISTRY as RUNNERS
from utils.checkpoints import (
    SETTINGS_FILE,
    Checkpoints,
    find_checkpoint,
    find_weights,
    warn_of_other_world,
    whole_folder,
)
from utils.dict2namedtuple import Args, Config, convert, unfrozen
from utils.errors import UserError
from utils.files import Json, fitted
from utils.logging import Logger, get_logger
from utils.memory import format_bytes, free_memory, sized_to_fit
from utils.process import keep_freed_memory, set_threads
from utils.progress import Progress
from utils.random_states import RANDOM_STATES, Generators, random_states, set_random_states
from utils.signals import StopRequest
from utils.trackers import open_tracker
from utils.weights import StateDict, fits, load_weights

if TYPE_CHECKING:
    from sacred.run import Run as SacredRun

__all__ = ["ENGINE_NAMES", "BasicMAC", "Policy", "Run", "episode_layout", "load_policy", "run", "sizes_of"]
SMALLER = "lower batch_size_run or the widths of networks, such as rnn_hidden_dim"
ABSOLUTE_FACTOR = 10  # by which a test of the best weights is longer than others
BEST = "best"  # folder beside the checkpoints
COPIES_FILE = "self_play.th"  # in a checkpoint: the earlier copies that the policy plays against
ENGINE_NAMES = {"sim": "the embedded engine (not StarCraft II)", "game": "StarCraft II"}


@dataclass
class Clock:
    """Where the training loop stands: episodes, and the environment steps at which things were done last."""

    last_test_t: int
    last_log_t: int = 0
    last_save_t: int = 0
    episode: int = 0


class Run:
    """A configuration and the parts that it means: `runner`, `team`, `mac`, `buffer`, `learner`, `clock`, `generators`.

    Used as a context manager, it closes the environments at the end:

        with Run(main.settings("--config=qmix", "--env-config=sc2", "with", "t_max=20000")) as run:
            run.train()
            run.evaluate(32)
            run.save("weights")

    Args:
        config: what `main.settings` returns.
        logger: where statistics go; None: to the console and to `run.logger.stats`.

    Raises: UserError where the environment can't be had, the population does not fit it, weights to start from are
    missing, or the policy acts by other values than it learns.
    """

    def __init__(self, config: Config, logger: Logger | None = None):
        self.logger = logger or Logger(get_logger())
        self.log = self.logger.console_logger
        config = {"device": config["resolved"]["device"], "models_path": "", **config}
        for seed in (random.seed, np.random.seed, th.manual_seed):
            seed(config["seed"])
        set_threads(config["n_threads"])
        keep_freed_memory()
        th.autograd.set_detect_anomaly(config["debug"])
        args = convert(config)
        with sized_to_fit(SMALLER):
            self.runner = RUNNERS[args.runner](args=args, logger=self.logger)
        try:
            with sized_to_fit(SMALLER):
                self._build(args)
        except BaseException:
            self.close()
            raise

    def _build(self, args: Args) -> None:
        env_info = self.runner.get_env_info()
        self.args = args = with_sizes(args, env_info)
        self.factor = args.population_factor or 1
        self.t_max, self.batch_size = self.factor * args.t_max, self.factor * args.batch_size
        if args.save_replay and not self.runner.env.keeps_replays:
            raise UserError(f"save_replay=True, but the environment '{args.env}' keeps no replays; leave it False")
        if args.stop_win_rate is not None and "battle_won" not in self.runner.env.info_keys:
            raise UserError(
                f"stop_win_rate={args.stop_win_rate} ends the run once so many tests are won, but nothing can be won "
                f"in the environment '{args.env}'; leave it out"
            )
        scheme, groups, preprocess = episode_layout(args)
        buffer_device = args.buffer_device or ("cpu" if args.buffer_cpu_only else args.device)
        buffer_sizes = args.buffer_size, args.episode_limit + 1
        self.buffer = ReplayBuffer(scheme, groups, *buffer_sizes, preprocess, buffer_device, args.local_results_path)
        self._check_memory()
        if args.population:
            self._check_seats()
            self.team: Team = PopulationTeam(scheme, groups, args)
        else:
            self.team = Team(CONTROLLERS[args.mac](scheme, groups, args))
        self.mac = self.team.mac
        check_policy(self.team, scheme, groups, preprocess)
        if args.init_param_path:
            map_name = str(args.env_args.get("map_name", ""))
            self.team.start_from(find_weights(args.init_param_path, map_name))
        elif args.population and not (args.opponent_pool or args.checkpoint_path or args.evaluate_path):
            self.log.warning("the frozen seats have untrained weights; give init_param_path or opponent_pool")
        self.runner.setup(scheme=scheme, groups=groups, preprocess=preprocess, mac=self.team)
        seat_policies(self.runner.env)
        self.self_play: SelfPlay | None = None
        if SELF in self.runner.env.enemy_names:
            self._check_sides()
            self.self_play = SelfPlay(self.mac, episode_layout(args), args.batch_size_run, args)
            self.runner.env.seat_enemies({SELF: self.self_play.draw})
        self.learner = LEARNERS[args.learner](self.mac, scheme, self.logger, args)
        self.clock = Clock(last_test_t=-args.test_interval - 1)  # so that the first episodes are followed by a test
        self.checkpoints = Checkpoints(args.models_path, args.keep_checkpoints)
        self.generators = Generators.of(args.seed, args.device)
        self.team.use_generators(self.generators.acting, self.generators.dealing)
        self.learner.generator = self.generators.learning

    def _check_memory(self) -> None:
        """Raises: UserError where what is played at once does not fit into memory."""
        per_step, n_worlds, n_steps = self.buffer.bytes_per_step, self.args.batch_size_run, self.args.collect_steps
        if n_steps:
            what, remedy = f"{n_steps:,} steps in each of {n_worlds} environments", "batch_size_run or collect_steps"
            n_bytes = 2 * n_worlds * n_steps * per_step  # as they are played, and as the pieces that are learned from
        else:
            what, remedy = f"{n_worlds} episodes at once", "batch_size_run"
            n_bytes = n_worlds * self.buffer.max_seq_length * per_step
        if n_bytes > (free := free_memory()):
            free_bytes = format_bytes(free)
            raise UserError(f"{what} take {format_bytes(n_bytes)}, but {free_bytes} of memory are free; lower {remedy}")

    def _check_sides(self) -> None:
        """Raises: UserError where the policy could not play the enemy's side."""
        sizes = self.runner.env.enemy_info
        if not sizes["is_same_army"]:
            raise UserError(
                f"env_args.enemy=self has the policy play the other side of {self.args.env_args['map_name']}, too, "
                "where the army is another one; take a map of two equal armies, such as 3m, MMM or terran_5_vs_5"
            )

    def _check_seats(self) -> None:
        args = self.args
        seats = " + ".join(f"{count} {alg}" for alg, count in args.population.items())
        if sum(args.population.values()) != args.n_agents:
            raise UserError(
                f"--config={args.name} has {seats} = {sum(args.population.values())} seats, but the environment has "
                f"{args.n_agents} agents; make the counts add up to {args.n_agents}"
            )
        if self.batch_size > args.buffer_size:
            raise UserError(
                f"batch_size={args.batch_size}, {self.factor} times as many in this population, is more than "
                f"buffer_size={args.buffer_size} episodes, so training would never start; raise buffer_size"
            )
        self.log.info(
            f"{seats}, of which {args.train_alg} learns: {self.factor} times the episodes, t_max={self.t_max}, "
            f"batch_size={self.batch_size}"
        )

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the environments."""
        self.runner.close_env()

    @property
    def t_env(self) -> int:
        """Environment steps of training so far."""
        return self.runner.t_env

    def train(self, t_max: int | None = None) -> None:
        """Trains until `t_max`, `stop_win_rate` or a signal: episodes, updates, tests, summaries and checkpoints.

        Raises:
            KeyboardInterrupt: a signal asked, and a checkpoint has been saved.
            UserError: there is no room for the replay buffer. Where that turns out underway, a checkpoint has been
                saved.
        """
        t_max = self.t_max if t_max is None else t_max
        self._log_memory()
        self._started = time.time(), self.t_env
        progress = Progress(t_max, self.args.log_interval)
        self.log.info(f"Beginning training for {t_max} timesteps")
        try:
            with StopRequest() as stop:
                if self.clock.episode > 0:  # resumed: perhaps where a test was broken off
                    self._after_episode(stop)
                while self.t_env <= t_max and not stop.asked and not self._is_good_enough():
                    self.play_and_learn()
                    self._after_episode(stop)
                    progress.update(self.t_env, self.clock.episode, self.runner.test_win_rate)
                if self.args.save_model or stop.asked:
                    self.save_checkpoint()
                if stop.asked:
                    raise KeyboardInterrupt(stop.number)
        except NoRoom:
            self.save_checkpoint()
            raise
        finally:
            progress.close()
        self.log.info("Finished Training")

    def _log_memory(self) -> None:
        """Logs what is kept to learn from: the replay buffer, or where a learner has none, one collection."""
        if self.learner.has_replay:
            self.buffer.log_size(self.log)
            return
        per_step = sum(field.nbytes for field in self.runner.new_batch(1, 1).data.transition_data.values())
        n_steps, n_worlds = (self.args.collect_steps or self.args.episode_limit) + 1, self.args.batch_size_run
        most = format_bytes(per_step * n_steps * n_worlds)
        self.log.info(
            f"A collection takes {per_step:,} bytes per step, at most {most} for {n_steps} steps in each of {n_worlds} "
            f"environments, and an update some times as much; "
            f"{format_bytes(free_memory())} of main memory are free. There is no replay buffer"
        )

    def _is_good_enough(self) -> bool:
        """Returns whether the last test was won as often as `stop_win_rate` asks, if it asks."""
        asked, won = self.args.stop_win_rate, self.runner.test_win_rate
        return asked is not None and won is not None and won >= asked

    def play_and_learn(self) -> None:
        """Performs one round of training: an episode in each world, or in a population several, and updates.

        A learner without a replay buffer learns at once from what was played.
        """
        if not self.learner.has_replay:
            batch = self.runner.run(test_mode=False)
            self._learn(batch[:, : batch.max_t_filled()])
            self.clock.episode += self.runner.n_ended
            return
        n_runs = -(-self.factor // self.args.batch_size_run)
        for _ in range(n_runs):
            self.buffer.insert_episode_batch(self.runner.run(test_mode=False))
        if self.buffer.can_sample(self.batch_size):
            for _ in range(self.args.updates_per_round):
                self._learn(self.buffer.sample(self.batch_size, rng=self.generators.sampling))
        self.clock.episode += n_runs * self.args.batch_size_run

    def _learn(self, batch: EpisodeBatch) -> None:
        if str(batch.device) != self.args.device:
            batch.to(self.args.device)
        self.learner.train(self.team.experience(batch), self.t_env, self.clock.episode)

    def _after_episode(self, stop: StopRequest) -> None:
        """Copies the policy for self-play, runs a test, logs a summary and saves a checkpoint, each if it is due."""
        args, clock, t_env = self.args, self.clock, self.t_env
        if self.self_play is not None:
            self.self_play.add_if_due(self.mac, t_env)
        if t_env - clock.last_test_t >= args.test_interval:
            before = self.training_state()
            if not self._test(args.test_nepisode, stop):
                self.set_training_state(before)  # so that a run resumed from here plays the whole test
                return
            clock.last_test_t = t_env
            if args.final_eval == "best":
                self._keep_best()
        if t_env - clock.last_log_t >= args.log_interval:
            clock.last_log_t = t_env
            self.logger.log_stat("episode", clock.episode, t_env)
            started, first_t = self._started
            speed = (t_env - first_t) / max(time.time() - started, 1e-9)
            self.logger.log_stat("steps_per_second", speed, t_env, to_sacred=False)
            self.logger.print_recent_stats()
        if args.save_model and t_env - clock.last_save_t >= args.save_model_interval:
            clock.last_save_t = t_env
            self.save_checkpoint()

    def evaluate(self, n_episodes: int | None = None) -> dict[str, float]:
        """Plays at least `n_episodes` test episodes (None: `test_nepisode`), in every world equally many.

        Returns their statistics by PyMARL's names, such as test_return_mean; they are logged, too.
        """
        self._test(n_episodes or self.args.test_nepisode)
        stats = self.logger.stats
        return {key: stats[key][-1][1] for key in list(stats) if key.startswith("test_")}

    @property
    def _best_folder(self) -> Path:
        """Where the weights are that were best in tests, with final_eval=best."""
        return self.checkpoints.folder / BEST

    def _keep_best(self) -> None:
        """Saves the weights where no earlier test was better. A disk that takes none costs an error message."""
        stats = self.logger.stats
        scores = next(stats[key] for key in ("test_battle_won_mean", "test_return_mean") if key in stats)
        if scores[-1][1] < max(score for _, score in scores):
            return
        try:
            shutil.rmtree(self._best_folder, ignore_errors=True)
            with whole_folder(self._best_folder) as partial:
                self.team.save_models(partial, self.learner)
        except (OSError, RuntimeError) as error:  # torch's writer raises the second
            self.log.error(f"Could not save the best models to {self._best_folder}: {error}; the run goes on without")

    def _evaluate_best(self) -> None:
        """Tests the best weights with ten times the episodes (Gorsane et al. 2022): `absolute_return_mean` and so on.

        The final weights are gone then.
        """
        if not self._best_folder.is_dir():
            self.log.error("final_eval=best: no best models have been saved, so there is no absolute metric")
            return
        self.team.load_models(self._best_folder)
        self.runner.test_prefix = "absolute_"
        self._test(ABSOLUTE_FACTOR * self.args.test_nepisode)
        self.runner.test_prefix = "test_"

    def _test(self, n_episodes: int, stop: StopRequest | None = None) -> bool:
        """Returns False where a stop was asked for in the middle; nothing is logged then."""
        per_round = self.args.batch_size_run
        self.runner.test_nepisode = -(-n_episodes // per_round) * per_round
        for _ in range(self.runner.test_nepisode // per_round):
            if stop is not None and stop.asked:
                return False
            self.runner.run(test_mode=True)
        return True

    def execute(self) -> None:
        """Trains, or tests weights and stops, as configured."""
        args = self.args
        if args.checkpoint_path or args.evaluate_path:
            self.resume()
        elif args.evaluate and not (args.init_param_path or args.env_args.get("heuristic_ai")):
            self.log.warning("evaluate=True tests untrained weights; trained ones need a checkpoint_path")
        if self._only_tests:
            self.evaluate()
            self.logger.log_stat("episode", args.test_nepisode, self.t_env)
            self.logger.print_recent_stats()
        else:
            self.train()
            if args.final_eval is True:
                self.evaluate()
            if args.save_replay:
                self.runner.run(test_mode=True)
        if args.save_replay:
            try:
                self.runner.save_replay()
            except (OSError, UserError) as error:  # the disk may be full
                if self._only_tests:
                    raise
                self.log.error(f"Could not save the replay: {error}")
        if args.final_eval == "best" and not self._only_tests:
            self._evaluate_best()

    @property
    def _only_tests(self) -> bool:
        """Whether the run tests weights and stops; as in PyMARL, a replay of a checkpoint asks for no training."""
        args = self.args
        return bool(args.evaluate or args.evaluate_path or (args.save_replay and args.checkpoint_path))

    def training_state(self) -> StateDict:
        """Returns what the rest of a run depends on besides weights and episodes: counters and random states."""
        return {
            "clock": asdict(self.clock),
            "learner": self.learner.counts(),
            "runner": self.runner.state_dict(),
            "sampling": self.generators.sampling.bit_generator.state,
            "random": random_states(),
            "generators": self.generators.state_dict(),
        }

    def _read_training_state(self, file: Path) -> StateDict:
        """Returns the `training_state` in a state.th, and the statistics under "stats"; changes nothing.

        Raises: UserError where it can't be read, or is not of the layout that these parts have.
        """
        layout = {
            "clock": dict.fromkeys(asdict(self.clock), int),
            "learner": dict.fromkeys(self.learner.counts(), int),
            "runner": self.runner.state_layout,
            "sampling": dict,
            "random": RANDOM_STATES,
            "stats": {str: [[int, float]]},
        }
        content = load_weights(file, "cpu")
        with fits(file):
            # Before the generators had names, torch's default one drew all numbers.
            content.setdefault("generators", {"acting": content["random"]["torch"]})
            content["learner"] = {**self.learner.later_counts, **content["learner"]}
            return fitted(content, layout | {"generators": dict.fromkeys(content["generators"], th.Tensor)})

    def set_training_state(self, state: StateDict) -> None:
        """Continues from a `training_state`."""
        for name in asdict(self.clock):
            setattr(self.clock, name, state["clock"][name])
        self.learner.set_counts(state["learner"])
        self.runner.load_state_dict(state["runner"])
        self.generators.sampling.bit_generator.state = state["sampling"]
        self.generators.load_state_dict(state["generators"])
        set_random_states(state["random"])

    def save(self, folder: str | Path) -> None:
        """Writes PyMARL's files, such as agent.th, and what it takes to resume: state.th and buffer.th.

        Raises: OSError, RuntimeError where they can't be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SETTINGS_FILE).write_text(json.dumps(unfrozen(self.args)) + "\n", encoding="utf-8")
        self.team.save_models(folder, self.learner)
        th.save({**self.training_state(), "stats": self.logger.state_dict()}, folder / "state.th")
        if self.self_play is not None:
            th.save(self.self_play.state_dict(), folder / COPIES_FILE)
        if self.args.save_buffer:
            th.save(self.buffer.state_dict(), folder / "buffer.th")

    def save_checkpoint(self) -> None:
        """`save` into `<models>/<t_env>`, whole or not at all.

        A checkpoint that can't be written, on a full disk for instance, costs an error message and not the run.
        """
        folder, stats = self.checkpoints.folder / str(self.t_env), self.logger.stats
        if folder.exists():
            return  # nothing has happened since
        scores = [stats[key][-1][1] for key in ("test_battle_won_mean", "test_return_mean") if key in stats]
        try:
            with self.checkpoints.new(self.t_env, scores[0] if scores else None) as path:
                self.save(path)
        except (OSError, RuntimeError) as error:  # torch's writer raises the second
            self.log.error(f"Could not save models to {folder}: {error}; the run goes on without")
            return
        self.log.info(f"Saved models to {folder}")

    def resume(self) -> None:
        """Loads the weights of `evaluate_path`, or continues from the step of `checkpoint_path` next to `load_step`.

        Raises: UserError where there is no such folder, no step in it, or one of its files is broken or does not fit.
        """
        args = self.args
        if args.evaluate_path:
            folder = Path(args.evaluate_path)
            if not folder.is_dir():
                raise UserError(f"evaluate_path {folder} is no folder; give one that a run with save_model=True wrote")
            warn_of_other_world(folder, args)
            self.team.load_models(folder)
            self._load_copies(folder)
            return
        folder = find_checkpoint(args.checkpoint_path, args.load_step)
        warn_of_other_world(folder, args)
        if self._only_tests:
            self.team.load_models(folder)
            self._load_copies(folder)
            self.runner.t_env = int(folder.name)
        else:
            self.load(folder)
            if args.final_eval == "best" and (best := folder.parent / BEST).is_dir():
                shutil.copytree(best, self._best_folder, dirs_exist_ok=True)

    def _load_copies(self, folder: Path) -> bool:
        """Reads the copies of self-play from a checkpoint; returns whether they are there, or none are needed.

        Where they are not, the present weights are the only copy.

        Raises: UserError where the file is broken or does not fit.
        """
        if self.self_play is None:
            return True
        file = folder / COPIES_FILE
        is_there = file.is_file()
        copies = load_weights(file, "cpu") if is_there else {"steps": [0], "weights": [self.mac.state_dict()]}
        with fits(file):
            self.self_play.load_state_dict(copies)
        return is_there

    def load(self, folder: str | Path) -> None:
        """Continues from what `save` wrote; if part of it is missing, not bit for bit, and with a warning.

        Raises: UserError where weights are missing, or a file is broken or does not fit.
        """
        folder, missing = Path(folder), []
        buffer_file, state_file = folder / "buffer.th", folder / "state.th"
        state = self._read_training_state(state_file) if state_file.is_file() else None
        self.team.load_models(folder, self.learner)
        if not self._load_copies(folder):
            missing.append("earlier copies to play against")
        if buffer_file.is_file():
            episodes = load_weights(buffer_file, "cpu", mmap=True)
            with fits(buffer_file):
                self.buffer.load_state_dict(episodes)
        else:
            missing.append("replay buffer")
        if state is not None:
            with fits(state_file):
                self.set_training_state(state)
            self.logger.load_state_dict(state["stats"])
            if state["runner"]["env"] is None or state["runner"]["n_envs"] != self.args.batch_size_run:
                missing.append("state of these environments")
        else:
            if folder.name.isdigit():
                self.runner.t_env = self.clock.last_save_t = int(folder.name)
            missing.append("counters, statistics and random states")
        if missing:
            self.log.warning(f"{folder} has no {', no '.join(missing)}: the run goes on, but not bit for bit")


def seat_policies(env: VectorEnv) -> None:
    """Has the policies play that the environment names as enemies, `policy:FOLDER`, each as it would play in a test.

    Raises: UserError where a folder holds no policy, or one of other sizes than the enemy's side has.
    """
    sources: dict[str, EnemySource] = {}
    sizes = env.enemy_info
    for name in env.enemy_names:
        if not name.startswith(POLICY):
            continue
        try:
            with th.random.fork_rng([]):  # so that the run draws the same numbers whoever it plays against
                mac, args = load_mac(name.removeprefix(POLICY))
        except UserError as error:
            raise UserError(
                f"env_args.enemy={name}: {error}; give the folder of a checkpoint, named by its step"
            ) from error
        trained = unfrozen(args)
        for size in ("n_agents", "n_actions", "obs_shape", "state_shape"):
            if trained[size] != sizes[size]:
                raise UserError(
                    f"env_args.enemy={name} has {size}={trained[size]}, but the enemy's side here has "
                    f"{sizes[size]}; give a policy that was trained for the same armies, with the same observations"
                )
        sources[name] = EnemyPolicy(mac, episode_layout(args), env.n_envs).as_source()
    if sources:
        env.seat_enemies(sources)


def with_sizes(args: Args, env_info: EnvInfo) -> Args:
    """Returns the configuration with the sizes of the environment and the fields that it writes."""
    return convert({**args._asdict(), **sizes_of(env_info)})


def sizes_of(env_info: EnvInfo) -> Config:
    """Returns what networks and episodes need of an environment: its sizes, and its `fields` as mappings."""
    sizes = {key: env_info[key] for key in ("n_agents", "n_actions", "state_shape", "obs_shape", "episode_limit")}
    return {**sizes, "fields": {name: asdict(field) for name, field in fields_of(env_info).items()}}


def map_word(config: Config) -> str:
    """Returns the name of the run's map, or else of its environment, for names of folders; of a file: without path."""
    name = str(config["env_args"].get("map_name", config["env"]))
    return Path(name).stem if is_map_file(name) else name


def population_factor(config: Config) -> int | None:
    """Returns how many times the episodes a population plays: by its seats, or once where nothing is replayed."""
    seats = config["population"]
    if not seats or config["population_factor"] is not None:
        return config["population_factor"]
    has_replay = LEARNERS[config["learner"]].has_replay
    return max(sum(seats.values()) // seats[config["train_alg"]], 1) if has_replay else 1


def args_sanity_check(config: Config, _log: logging.Logger) -> Json:
    """Returns the configuration as this machine can run it: no CUDA where there is none, tests in whole batches.

    Raises: UserError where the replay buffer is to be on a GPU that does not compute.
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


def run(_run: "SacredRun", _config: Config, _log: logging.Logger) -> dict[str, str]:
    """Trains or tests as configured; returns the folders of its curves and models, and of its replays if it writes any.

    Raises:
        UserError: weights that are asked for are not there, or the environment cannot be had or keeps no replays.
    """
    config = dict(_config)
    engine = config["resolved"]["engine"]
    if engine:
        _log.info(f"{map_word(config)} is played on {ENGINE_NAMES[engine]}")
    results = Path(config["local_results_path"])
    place = [map_word(config), *([engine] if engine else [])]
    started = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    token = "_".join([config["name"], *place, f"seed{config['seed']}", started, str(_run._id)])
    folders = {"curves": str(results / "tb_logs" / token), "models": str(results / "models" / token)}

    if config["save_replay"] and "replay_dir" in config["env_args"]:
        folders["replays"] = config["env_args"]["replay_dir"] or str(results / "replays" / token)
        config["env_args"] = {**config["env_args"], "replay_dir": folders["replays"]}

    args = convert({**config, "device": config["resolved"]["device"], "models_path": folders["models"]})
    logger = Logger(_log)
    logger.setup_sacred(_run)
    if args.use_tensorboard:
        logger.setup_tb(folders["curves"], args.tensorboard_backend)
    if args.tracker:
        logger.setup_tracker(open_tracker(args.tracker, results / args.tracker, Path(folders["curves"]).name, config))
    records = results / "sacred" / str(_run._id)
    if records.is_dir():  # there is none with --unobserved
        logger.setup_records(records)
    try:
        run_sequential(args, logger)
    finally:
        logger.close()
    return folders


def run_sequential(args: Args, logger: Logger) -> None:
    """Sets everything up, and trains or tests; environments are closed however it ends."""
    with Run(args._asdict(), logger) as run:
        run.execute()
