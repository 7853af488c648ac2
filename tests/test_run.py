"""A whole run below the command line: seeds, intervals, checkpoints, weights to start from or to test, crashes."""

import logging
from types import SimpleNamespace

import pytest
import torch as th

import run
from components import step_rows
from learners.q_learner import QLearner
from runners import REGISTRY as RUNNERS
from tests.games import CrashingGame, MatrixGame, RandomGame, configure, frozen, registered
from utils.errors import UserError
from utils.logging import Logger
from utils.seeding import world_seeds

SHORT = {
    "t_max": 120,
    "batch_size": 4,
    "buffer_size": 8,
    "rnn_hidden_dim": 8,
    "test_interval": 40,
    "test_nepisode": 2,
    "log_interval": 30,
    "runner_log_interval": 30,
    "learner_log_interval": 30,
    "seed": 1,
}


def quiet_logger():
    return Logger(logging.getLogger("tests"))


class RecordedRun:
    """Stands in for Sacred's run."""

    def __init__(self):
        self._id = 1
        self.info = {}

    def log_scalar(self, name, value, step):
        pass


def whole_run(game=RandomGame, alg="iql", env_args=None, **settings):
    """Runs `run.run`; gives the folders and Sacred's info."""
    config = configure(alg, env_args, **(SHORT | settings))
    sacred_run = RecordedRun()
    with registered(game):
        folders = run.run(sacred_run, config, logging.getLogger("tests"))
    return folders, sacred_run.info


def sequential(game=RandomGame, alg="iql", **settings):
    """Runs `run.run_sequential`; gives the logger. Models are written below `local_results_path`."""
    logger = quiet_logger()
    with registered(game):
        run.run_sequential(frozen(configure(alg, **(SHORT | settings))), logger)
    return logger


def built(game=RandomGame, alg="iql", env_args=None, **settings):
    """A run before its first episode, its `args` and its logger."""
    logger = quiet_logger()
    with registered(game):
        made = run.Run(frozen(configure(alg, env_args, **(SHORT | settings)))._asdict(), logger)
    return made, made.args, logger


def equal(first, second):
    """Whether two trees of dicts, lists and tensors are the same, bit for bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    return th.equal(first, second) if isinstance(first, th.Tensor) else first == second


# --- seeds


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(tmp_path):
    _, first = whole_run(local_results_path=tmp_path)
    th.rand(3)  # what happened before the run does not matter
    _, again = whole_run(local_results_path=tmp_path)
    _, other = whole_run(local_results_path=tmp_path, seed=2)
    assert first == again
    assert first["return_mean"] != other["return_mean"] and first["loss"] != other["loss"]


def test_a_seed_of_the_environment_seeds_the_worlds_and_the_runs_seed_the_rest():
    runs = {}
    for seed, env_seed in ((1, None), (1, 5), (2, 5)):
        with registered(RandomGame):
            config = configure("iql", env_args={"seed": env_seed}, **(SHORT | {"seed": seed}))
            runner = RUNNERS["episode"](args=frozen(config), logger=quiet_logger())
        runs[seed, env_seed] = runner.env.envs[0].seed()
    assert runs[1, None] == world_seeds(1, 1)[0]
    assert runs[1, 5] == runs[2, 5] == world_seeds(5, 1)[0]


# --- what the machine and the batches of worlds allow


def test_cuda_is_switched_off_with_a_warning_where_there_is_none(monkeypatch):
    monkeypatch.setattr(th.cuda, "is_available", lambda: False)
    warnings = []
    log = SimpleNamespace(warning=warnings.append)
    config = {"use_cuda": True, "batch_size_run": 1, "test_nepisode": 20, "buffer_device": None, "population": {}}
    assert run.args_sanity_check(config, log) == {**config, "use_cuda": False}
    assert len(warnings) == 1 and "CUDA" in warnings[0] and config["use_cuda"] is True
    monkeypatch.setattr(th.cuda, "is_available", lambda: True)
    assert run.args_sanity_check(config, log) == config and len(warnings) == 1


def test_a_replay_buffer_on_a_gpu_that_does_not_compute_is_refused():
    config = {"use_cuda": False, "buffer_device": "cuda", "batch_size_run": 1, "test_nepisode": 20}
    with pytest.raises(UserError, match="buffer_device=cuda, but .* set buffer_device=cpu or disk"):
        run.args_sanity_check(config, None)


@pytest.mark.slow
@pytest.mark.parametrize(("collect_steps", "n_steps"), [("null", 8), (5, 6)])
def test_learners_without_a_replay_buffer_say_what_a_collection_takes(collect_steps, n_steps, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    own = {"batch_size_run": 4, "num_mini_batch": 1, "batch_size": "null", "buffer_size": "null"}
    own["collect_steps"] = collect_steps
    whole_run(alg="pqn_vdn", local_results_path=tmp_path, t_max=20, **own)
    # float32: obs 3 x 5, state 5, reward; int64: actions 3; bytes: avail_actions 3 x 4, terminated, filled
    per_step = 4 * (15 + 5 + 1) + 8 * 3 + 12 + 2
    said = (
        f"A collection takes {per_step} bytes per step, at most {per_step * n_steps * 4 / 1000:.1f} kB for {n_steps} "
    )
    assert f"{said}steps in each of 4 environments" in caplog.text
    assert "The replay buffer takes" not in caplog.text


def test_where_the_replay_buffer_is_changes_nothing(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    _, in_memory = whole_run(local_results_path=tmp_path, buffer_cpu_only=False)
    assert "The replay buffer takes" in caplog.text and "of main memory are free" in caplog.text
    _, on_disk = whole_run(local_results_path=tmp_path, buffer_device="disk")
    assert f"of the disk of {tmp_path} are free" in caplog.text
    assert len(in_memory["loss"]) > 1 and on_disk == in_memory


def test_a_replay_buffer_that_finds_no_room_costs_no_training(tmp_path, monkeypatch):
    monkeypatch.setattr(step_rows, "free_memory", lambda: 3_000)
    with pytest.raises(UserError, match="has no room for more"):
        whole_run(buffer_size=20, local_results_path=tmp_path)
    (checkpoint,) = tmp_path.glob("models/*/*")
    assert {"agent.th", "state.th", "buffer.th"} <= {path.name for path in checkpoint.iterdir()}


@pytest.mark.parametrize(("asked", "worlds", "played"), [(20, 1, 20), (20, 8, 16), (3, 8, 8), (8, 8, 8)])
def test_tests_are_whole_batches_of_worlds(asked, worlds, played):
    config = {
        "use_cuda": False,
        "batch_size_run": worlds,
        "test_nepisode": asked,
        "buffer_device": None,
        "population": {},
    }
    assert run.args_sanity_check(config, None)["test_nepisode"] == played


# --- the loop


@pytest.mark.parametrize("n_worlds", [1, 3])
def test_tests_logs_and_training_come_at_their_intervals(n_worlds):
    logger = sequential(t_max=400, test_nepisode=6, batch_size_run=n_worlds)
    longest_batch = n_worlds * RandomGame.episode_limit
    for key, first_by in (("test_return_mean", 1), ("return_mean", 1), ("loss", 8), ("episode", 30 + n_worlds)):
        interval = 40 if key.startswith("test") else 30
        times = [t for t, _ in logger.stats[key]]
        assert times[0] <= max(first_by, 4) * longest_batch, key
        assert all(interval <= b - a < interval + longest_batch for a, b in zip(times, times[1:], strict=False)), key
        assert times[-1] > 400 - interval - longest_batch, key


def test_updates_per_round_learns_as_often_from_a_batch_of_its_own(monkeypatch):
    batches = []
    monkeypatch.setattr(QLearner, "train", lambda learner, batch, t_env, episode_num: batches.append((t_env, batch)))
    sequential(t_max=60, updates_per_round=3)
    by_round = [[batch for at, batch in batches if at == t_env] for t_env in dict.fromkeys(t for t, _ in batches)]
    assert len(by_round) > 3 and all(len(round_) == 3 for round_ in by_round)
    assert any(not th.equal(round_[0]["obs"], round_[1]["obs"]) for round_ in by_round)


def test_stop_win_rate_is_refused_where_nothing_can_be_won():
    with pytest.raises(UserError, match="nothing can be won in the environment"):
        sequential(MatrixGame, stop_win_rate=0.5)


def test_stop_win_rate_ends_a_run_at_the_test_that_is_won_as_often():
    class Won(RandomGame):
        def info(self):
            return {**super().info(), "battle_won": True}

    logger = sequential(Won, stop_win_rate=1.0)
    assert [won for _, won in logger.stats["test_battle_won_mean"]] == [1.0]
    assert len(sequential(Won, stop_win_rate=None).stats["test_battle_won_mean"]) > 2


def test_what_the_info_holds_never_becomes_a_metric(tmp_path):
    _, info = whole_run(local_results_path=tmp_path)
    names = {key.removeprefix("test_") for key in info if not key.endswith("_T")}
    episodes = {"return_mean", "return_std", "ep_length_mean", "battle_won_mean", "steps_done_mean"}
    learning = {"loss", "grad_norm", "td_error_abs", "q_taken_mean", "target_mean"}
    assert names == episodes | learning | {"epsilon", "episode"}


def test_debug_switches_anomaly_detection_on_for_its_own_run_only(tmp_path):
    whole_run(MatrixGame, local_results_path=tmp_path, t_max=1, debug=True)
    assert th.is_anomaly_enabled()
    whole_run(MatrixGame, local_results_path=tmp_path, t_max=1)
    assert not th.is_anomaly_enabled()


# --- checkpoints


@pytest.mark.parametrize("alg", ["iql", "qmix", "qtran", "iql_omg"])
def test_a_checkpoint_brings_back_networks_targets_optimiser_and_steps(tmp_path, alg):
    prior = {"omg_vae_pretrain_steps": 30} if alg == "iql_omg" else {}
    parts, args, logger = built(alg=alg, local_results_path=tmp_path, target_update_interval=20, **prior)
    parts.train()
    parts.save_checkpoint()
    resumed, args, _ = built(alg=alg, checkpoint_path=tmp_path, seed=9, **prior)
    assert not equal(resumed.mac.state_dict(), parts.mac.state_dict())
    resumed.resume()
    assert resumed.runner.t_env == parts.runner.t_env
    saved, loaded = parts.learner.state_dict(), resumed.learner.state_dict()
    for name in saved.keys() - {"last_target_update_episode", "log_stats_t"}:
        assert equal(saved[name], loaded[name]), name
    assert not equal(loaded["agent"], loaded["target_agent"])


@pytest.mark.parametrize(("load_step", "taken"), [(0, 1000), (90, 100), (149, 100), (151, 200), (5000, 1000)])
def test_load_step_takes_the_newest_or_the_nearest_step(tmp_path, load_step, taken):
    parts, args, logger = built(local_results_path=tmp_path)
    weight = parts.mac.agent.fc2.bias
    for step in (100, 200, 1000):
        parts.runner.t_env = step
        weight.data.fill_(step)
        parts.save_checkpoint()
    (tmp_path / "notes").mkdir()
    resumed, args, _ = built(checkpoint_path=tmp_path, load_step=load_step)
    resumed.resume()
    assert resumed.runner.t_env == taken and (resumed.mac.agent.fc2.bias == taken).all()


def test_a_resumed_run_goes_on_to_t_max_from_where_it_stopped(tmp_path):
    whole, _ = whole_run(local_results_path=tmp_path, save_model=True)
    stopped_at = max(int(folder.name) for folder in (tmp_path / "models").glob("*/*"))
    _, info = whole_run(local_results_path=tmp_path / "b", checkpoint_path=whole["models"], t_max=200)
    times = info["return_mean_T"]
    assert times == sorted(set(times)) and times[0] < 30 and 170 < times[-1] <= 207  # the whole curve, no step twice
    assert sum(t > stopped_at for t in times) in (2, 3)


def test_models_are_saved_at_their_interval_and_at_the_end(tmp_path):
    folders, _ = whole_run(local_results_path=tmp_path, save_model=True, save_model_interval=50)
    steps = sorted(int(path.name) for path in (tmp_path / "models").glob("*/*"))
    assert len(steps) == 3 and 50 <= steps[0] < 57 and steps[0] + 50 <= steps[1] < steps[0] + 57 and steps[2] > 120
    assert str(tmp_path / "models") in folders["models"]


def test_without_save_model_nothing_is_written(tmp_path):
    whole_run(local_results_path=tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- weights to start from, and weights to test


def saved_weights(folder, value):
    """A folder with the weights of an untrained team whose Q-values all are `value`."""
    parts, _, _ = built()
    parts.mac.agent.fc2.weight.data.zero_()
    parts.mac.agent.fc2.bias.data.fill_(value)
    folder.mkdir(parents=True)
    parts.learner.save_models(folder)
    return folder


def q_bias(init_param_path):
    """The bias of the Q-values that a run on the map "small" starts from."""
    parts, _, _ = built(env_args={"map_name": "small"}, init_param_path=init_param_path)
    assert equal(parts.learner.target_mac.state_dict(), parts.mac.state_dict()) and parts.runner.t_env == 0
    return parts.mac.agent.fc2.bias[0].item()


def test_init_param_path_is_looked_for_as_given_then_under_the_root_with_the_maps_name_if_there(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_EXP_PATH", str(tmp_path / "root"))
    monkeypatch.chdir(tmp_path)
    saved_weights(tmp_path / "root" / "pool", 1)
    assert q_bias("pool") == 1
    saved_weights(tmp_path / "root" / "pool" / "small", 2)
    assert q_bias("pool") == 2
    saved_weights(tmp_path / "pool", 3)
    assert q_bias("pool") == q_bias(tmp_path / "pool") == 3
    saved_weights(tmp_path / "pool" / "small", 4)
    saved_weights(tmp_path / "pool" / "other_map", 5)
    assert q_bias("pool") == 4


def test_evaluate_path_tests_those_weights_and_trains_nothing(tmp_path):
    weights = saved_weights(tmp_path / "weights", 1)
    parts, _, _ = built()
    parts.mac.load_models(weights)
    logger = sequential(evaluate_path=weights, test_nepisode=6)
    assert [t for t, _ in logger.stats["test_return_mean"]] == [0]
    assert logger.stats["episode"] == [(0, 6)]
    assert not {"loss", "return_mean", "epsilon"} & logger.stats.keys()


def test_evaluate_with_a_checkpoint_tests_the_checkpoint(tmp_path):
    parts, args, logger = built(MatrixGame, local_results_path=tmp_path)
    parts.mac.agent.fc2.weight.data.zero_()
    for step, best in ((10, 0), (20, 1)):
        parts.mac.agent.fc2.bias.data.copy_(th.eye(2)[best])
        parts.runner.t_env = step
        parts.save_checkpoint()
    for step, greedy_return in ((10, 1), (20, 3)):
        logger = sequential(MatrixGame, evaluate=True, checkpoint_path=tmp_path, load_step=step)
        assert logger.stats["test_return_mean"] == [(step, greedy_return)]


@pytest.mark.parametrize("weights", [False, True])
def test_a_test_of_untrained_weights_is_told(tmp_path, caplog, weights):
    sequential(evaluate=True, init_param_path=saved_weights(tmp_path / "weights", 1) if weights else "")
    assert ("evaluate=True tests untrained weights" in caplog.text) is not weights


@pytest.mark.slow
def test_more_episodes_at_once_than_memory_holds_are_refused(monkeypatch):
    monkeypatch.setattr(run, "free_memory", lambda: 3_000)
    with pytest.raises(UserError, match="8 episodes at once take .* but 3.0 kB of memory are free; lower"):
        built(runner="parallel", batch_size_run=8)


def test_a_longer_collection_than_memory_holds_is_refused(monkeypatch):
    monkeypatch.setattr(run, "free_memory", lambda: 3_000)
    with pytest.raises(UserError, match="1,000 steps in each of 1 environments take .*; lower batch_size_run or coll"):
        built(alg="pqn_iql", batch_size=128, buffer_size=128, collect_steps=1000)


@pytest.mark.parametrize("refusal", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_memory_that_is_refused_at_the_start_is_one_sentence(refusal, monkeypatch):
    def build(*_):
        raise refusal

    monkeypatch.setattr(run.Run, "_build", build)
    with pytest.raises(UserError, match="the run does not fit into memory, of which .* are free; lower batch_size_run"):
        sequential()


def test_another_error_at_the_start_keeps_its_traceback(monkeypatch):
    def build(*_):
        raise RuntimeError("our own fault")

    monkeypatch.setattr(run.Run, "_build", build)
    with pytest.raises(RuntimeError, match="our own fault"):
        sequential()


class RecordedGame(RandomGame):
    """Writes into `saved`, for each replay, how many episodes this world has begun and where the replay should go."""

    saved: list[tuple[int, str]] = []

    def __init__(self, seed=None, replay_dir=""):
        super().__init__(seed)
        self.n_episodes, self.replay_dir = 0, replay_dir

    def reset(self):
        self.n_episodes += 1
        return super().reset()

    def save_replay(self):
        self.saved.append((self.n_episodes, self.replay_dir))


@pytest.fixture
def replays(monkeypatch):
    monkeypatch.setattr(RecordedGame, "saved", [])
    return RecordedGame.saved


def test_a_replay_after_a_training_is_of_one_more_test_episode(tmp_path, replays, monkeypatch):
    runner, test_modes = RUNNERS["episode"], []

    def watched(self, test_mode=False, play=runner.run):
        test_modes.append(test_mode)
        return play(self, test_mode)

    monkeypatch.setattr(runner, "run", watched)
    settings = {"test_interval": 1000, "batch_size": 8, "local_results_path": tmp_path}
    folders, info = whole_run(RecordedGame, env_args={"replay_dir": ""}, save_replay=True, **settings)
    assert test_modes[-2:] == [False, True]
    _, without = whole_run(RecordedGame, env_args={"replay_dir": ""}, **settings)
    assert info == without  # the training is the same
    [(_, folder)] = replays
    assert folder == folders["replays"] == folders["models"].replace("models", "replays")


def test_replays_go_where_the_environments_arguments_say(tmp_path, replays):
    env_args = {"replay_dir": str(tmp_path / "mine")}
    folders, _ = whole_run(RecordedGame, env_args=env_args, save_replay=True, local_results_path=tmp_path)
    assert replays[0][1] == folders["replays"] == str(tmp_path / "mine")


@pytest.mark.parametrize("how", [{}, {"evaluate": True}])
def test_a_replay_of_a_checkpoint_is_of_the_last_test_episode_and_nothing_is_trained(tmp_path, replays, how):
    parts, args, logger = built(RecordedGame, local_results_path=tmp_path)
    parts.save_checkpoint()
    logger = sequential(RecordedGame, checkpoint_path=tmp_path, save_replay=True, test_nepisode=4, **how)
    assert replays == [(4, "")]
    assert "test_return_mean" in logger.stats and "return_mean" not in logger.stats


def test_a_world_that_keeps_no_replays_is_refused_before_anything_is_played(monkeypatch):
    closed = watch_closing(monkeypatch)
    with pytest.raises(UserError, match="save_replay=True, but the environment 'game_of_a_test' keeps no replays"):
        sequential(CrashingGame, save_replay=True, env_args={"crash_step": 1})
    assert len(closed) == 1


@pytest.mark.parametrize("key", ["checkpoint_path", "evaluate_path", "init_param_path"])
def test_weights_that_are_not_there_are_the_users_mistake_and_close_the_world(tmp_path, key, monkeypatch):
    closed = watch_closing(monkeypatch)
    for folder in (tmp_path / "nowhere", tmp_path):  # no folder, and one that holds no weights
        with pytest.raises(UserError, match=str(folder)) as caught:
            sequential(CrashingGame, **{key: folder})
        assert "\n" not in str(caught.value) and "save_model=True" in str(caught.value)
    assert len(closed) == 2


# --- what goes wrong


def watch_closing(monkeypatch):
    monkeypatch.setattr(CrashingGame, "closed", [])
    return CrashingGame.closed


@pytest.mark.parametrize("crash_step", [1, 50])
def test_worlds_are_closed_when_the_run_raises(tmp_path, monkeypatch, crash_step):
    closed = watch_closing(monkeypatch)
    with pytest.raises(OSError, match="the world is gone"):
        whole_run(CrashingGame, env_args={"crash_step": crash_step}, local_results_path=tmp_path)
    assert closed == world_seeds(1, 1)
    assert list(tmp_path.iterdir()) == []


def test_worlds_are_closed_when_all_went_well(monkeypatch):
    closed = watch_closing(monkeypatch)
    sequential(CrashingGame, t_max=3)
    assert closed == world_seeds(1, 1)


def test_a_run_that_is_stopped_at_once_closes_its_worlds_and_says_so(tmp_path, monkeypatch):
    closed = watch_closing(monkeypatch)
    env_args = {"error": KeyboardInterrupt, "crash_step": 50}
    with pytest.raises(KeyboardInterrupt):
        whole_run(CrashingGame, env_args=env_args, local_results_path=tmp_path)
    assert closed == world_seeds(1, 1)
