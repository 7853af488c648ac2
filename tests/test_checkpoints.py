"""Checkpoints: a resumed run is the run that was never interrupted, and no kill leaves one that can't be read."""

import errno
import json
import logging
import os
import random
import signal
import time
from collections import OrderedDict
from pathlib import Path

import pytest
import torch as th

import main
import run
from tests.games import RandomGame, configure, registered
from tests.test_run import SHORT, RecordedRun, built, equal, quiet_logger, sequential, whole_run
from tests.warm import warm_process
from utils.checkpoints import (
    Checkpoints,
    find_checkpoint,
    warn_of_other_world,
)
from utils.dict2namedtuple import convert
from utils.errors import UserError
from utils.random_states import random_states, set_random_states
from utils.weights import load_into

SETTINGS = {
    "iql_omg": {"omg_vae_pretrain_steps": 70, "target_update_interval": 11},
    "iql_omg alone": {"learner": "am_learner"},
    "pqn_vdn pieces": {"collect_steps": 5, "epsilon_alpha": 3.0},
}

ON_POLICY = ("ippo", "mappo", "pqn")


def steps_in(folder):
    return sorted(int(path.name) for path in Path(folder).iterdir() if path.name.isdigit())


def contents(folder):
    """All files of weights and states of a checkpoint, loaded."""
    return {path.name: th.load(path, weights_only=True) for path in folder.glob("*.th")}


# --- resuming


RESUMED = ["coma", "iql_am", "iql_omg alone", "qmix_beta", "cw_qmix", "qplex", "mappo_epymarl", "ippo_liam", "ippo_omg"]
RESUMED += ["qmix", "qtran", "iql_omg", "pqn_vdn", "pqn_vdn pieces"]
RESUMED = [pytest.param(alg, marks=pytest.mark.slow) for alg in RESUMED]


@pytest.mark.parametrize("alg", ["iql", "mappo", *RESUMED])
def test_a_resumed_run_is_bit_for_bit_the_run_that_was_never_interrupted(tmp_path, alg):
    interval = "critic_target_update_interval" if alg == "coma" else "target_update_interval"
    settings = {"save_model": True} | SETTINGS.get(alg, {interval: 11})
    if alg in ("coma", "qmix_beta"):
        settings |= {"batch_size_run": 2, "test_nepisode": 4}
        settings |= {"runner": "parallel"} if alg == "qmix_beta" else {}
    if alg.startswith(ON_POLICY):
        own = {"batch_size": "null", "buffer_size": "null", "num_mini_batch": 2, "epochs": 2}
        settings = SETTINGS.get(alg, {}) | {"save_model": True, "batch_size_run": 4, "test_nepisode": 4} | own
        settings |= {"runner": "parallel"} if alg == "mappo" else {}
    settings["alg"] = alg.split()[0]
    whole, info = whole_run(local_results_path=tmp_path / "whole", t_max=240, **settings)
    half, _ = whole_run(local_results_path=tmp_path / "half", t_max=120, **settings)
    settings |= {"checkpoint_path": half["models"], "seed": 9}  # the seed of the first part counts
    rest, resumed_info = whole_run(local_results_path=tmp_path / "rest", t_max=240, **settings)
    assert resumed_info == info
    (last,) = steps_in(whole["models"])
    assert steps_in(rest["models"]) == [last]
    whole_files, rest_files = (contents(Path(folders["models"]) / str(last)) for folders in (whole, rest))
    assert {"agent.th", "state.th", "buffer.th"} <= whole_files.keys()
    for name in whole_files:
        assert equal(whole_files[name], rest_files[name]), name


def test_a_checkpoint_of_before_omg_knew_its_first_update_is_resumed(tmp_path):
    settings = {"alg": "iql_omg", "omg_vae_pretrain_steps": 70, "save_model": True, "local_results_path": tmp_path}
    folders, _ = whole_run(t_max=120, **settings)
    (step,) = steps_in(folders["models"])
    file = Path(folders["models"]) / str(step) / "state.th"
    state = th.load(file, weights_only=True)
    del state["learner"]["learns_from"]
    th.save(state, file)
    rest, _ = whole_run(t_max=180, checkpoint_path=folders["models"], **settings)
    assert max(steps_in(rest["models"])) > step


class StoppedGame(RandomGame):
    """Sends its own process SIGTERM at its `stop_step`-th step, counted over all episodes; 0: never."""

    def __init__(self, seed=None, stop_step=0):
        super().__init__(seed)
        self.stop_step, self.n_steps = stop_step, 0

    def play(self, actions):
        self.n_steps += 1
        if self.n_steps == self.stop_step:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().play(actions)


STOPS = [pytest.param(step, marks=pytest.mark.slow) for step in (5, 61, 62, 64, 65, 66, 68)]


@pytest.mark.slow
@pytest.mark.parametrize("stop_step", [60, 63, 67, 100, *STOPS])  # 60 to 68: in and around a test
def test_a_signal_at_any_moment_costs_nothing(tmp_path, stop_step):
    _, info = whole_run(StoppedGame, env_args={"stop_step": 0}, local_results_path=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        whole_run(StoppedGame, env_args={"stop_step": stop_step}, local_results_path=tmp_path / "first")
    (models,) = (tmp_path / "first" / "models").iterdir()
    settings = {"local_results_path": tmp_path / "rest", "checkpoint_path": models}
    _, resumed_info = whole_run(StoppedGame, env_args={"stop_step": 0}, **settings)
    assert resumed_info == info


def test_what_a_checkpoint_lacks_is_said_and_the_rest_is_taken(tmp_path, caplog):
    settings = {"save_model": True, "save_buffer": False, "batch_size_run": 2}
    folders, info = whole_run(local_results_path=tmp_path, **settings)
    assert not list(tmp_path.glob("**/buffer.th"))
    resumed, args, _ = built(checkpoint_path=folders["models"], batch_size_run=3)
    resumed.resume()
    assert "no replay buffer" in caplog.text and "no state of these environments" in caplog.text
    (step,) = steps_in(folders["models"])
    assert resumed.runner.t_env == step and resumed.clock.episode > 0 and resumed.buffer.episodes_in_buffer == 0
    assert equal(resumed.mac.state_dict(), th.load(find_checkpoint(folders["models"], 0) / "agent.th"))


def test_testing_a_checkpoint_takes_its_weights_only(tmp_path):
    folders, _ = whole_run(local_results_path=tmp_path, save_model=True)
    logger = sequential(checkpoint_path=folders["models"], evaluate=True)
    (step,) = steps_in(folders["models"])
    assert logger.stats.keys() >= {"test_return_mean"} and "loss" not in logger.stats
    assert [t for t, _ in logger.stats["test_return_mean"]] == [step]


def test_the_generators_go_on_where_they_stood():
    before = random_states()
    drawn = [(random.random(), run.np.random.rand(), th.rand(1).item()) for _ in range(2)]
    set_random_states(before)
    assert drawn == [(random.random(), run.np.random.rand(), th.rand(1).item()) for _ in range(2)]


# --- which are kept


@pytest.mark.parametrize(
    ("keep", "scores", "kept"),
    [
        (0, [1, 0, 0, 0], [10, 20, 30, 40]),
        (2, [0, 1, 0, 0], [20, 30, 40]),
        (2, [1, 1, 0, 0], [20, 30, 40]),
        (1, [None, None, 0, 1], [40]),
        (3, [2, 0, 1, 0], [10, 20, 30, 40]),
    ],
)
def test_the_last_and_the_best_are_kept(tmp_path, keep, scores, kept):
    checkpoints = Checkpoints(tmp_path / "models", keep)
    for step, score in zip((10, 20, 30, 40), scores):
        with checkpoints.new(step, score) as path:
            (path / "agent.th").write_text("x")
    assert sorted(os.listdir(tmp_path / "models")) == [str(step) for step in kept]


@pytest.mark.slow
def test_a_run_keeps_as_many_as_it_is_told(tmp_path):
    settings = {"save_model": True, "save_model_interval": 10, "keep_checkpoints": 2}
    folders, info = whole_run(local_results_path=tmp_path, **settings)
    _, everything = whole_run(local_results_path=tmp_path / "all", **(settings | {"keep_checkpoints": 0}))
    steps = steps_in(next((tmp_path / "all" / "models").iterdir()))
    assert len(steps) > 6 and everything == info

    def tested_before(step):
        return max(
            (t, rate) for t, rate in zip(info["test_battle_won_mean_T"], info["test_battle_won_mean"]) if t <= step
        )

    best = max(steps, key=lambda step: (tested_before(step)[1], step))
    assert steps_in(folders["models"]) == sorted({*steps[-2:], best})


def test_a_final_test_is_of_the_final_weights(tmp_path):
    folders, info = whole_run(local_results_path=tmp_path, save_model=True, final_eval=True)
    _, without = whole_run(local_results_path=tmp_path / "without")
    (step,) = steps_in(folders["models"])
    assert info["test_return_mean_T"] == [*without["test_return_mean_T"], step]


def test_the_best_weights_get_a_longer_test_of_their_own(tmp_path):
    folders, info = whole_run(local_results_path=tmp_path, final_eval="best", test_nepisode=2)
    _, without = whole_run(local_results_path=tmp_path / "without", test_nepisode=2)
    assert info["test_return_mean"] == without["test_return_mean"] and len(info["absolute_return_mean"]) == 1
    assert info["absolute_return_mean_T"][0] >= info["test_return_mean_T"][-1]
    assert (Path(folders["models"]) / "best" / "agent.th").is_file()


def test_the_best_weights_are_those_of_the_best_test_and_survive_a_resume(tmp_path):
    logger = quiet_logger()
    with registered(RandomGame):
        config = configure("iql", **(SHORT | {"final_eval": "best", "local_results_path": tmp_path}))
        with run.Run({**config, "models_path": str(tmp_path / "models")}, logger) as made:
            weights = []
            for score in (0.2, 0.8, 0.5):
                next(iter(made.mac.parameters())).data.fill_(score)
                logger.log_stat("test_return_mean", score, len(weights))
                made._keep_best()
                weights.append(th.load(tmp_path / "models" / "best" / "agent.th"))
            first = [next(iter(saved.values())).flatten()[0].item() for saved in weights]
            assert first == pytest.approx([0.2, 0.8, 0.8])
            made._evaluate_best()
            assert next(iter(made.mac.parameters())).flatten()[0].item() == pytest.approx(0.8)
            assert made.runner.test_nepisode == 10 * config["test_nepisode"]
        other = {**config, "models_path": str(tmp_path / "other"), "checkpoint_path": str(tmp_path / "models")}
        with run.Run({**config, "models_path": str(tmp_path / "models")}, logger) as made:
            made.save(tmp_path / "models" / "40")
        with run.Run(other, quiet_logger()) as resumed:
            resumed.resume()
            assert (tmp_path / "other" / "best" / "agent.th").is_file()


# --- what goes wrong


def test_a_full_disk_costs_the_checkpoint_and_not_the_run(tmp_path, monkeypatch, caplog):
    def full(obj, file):
        Path(file).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(th, "save", full)
    folders, info = whole_run(local_results_path=tmp_path, save_model=True)
    assert "Could not save models" in caplog.text and "No space left on device" in caplog.text
    assert info["return_mean"] and os.listdir(folders["models"]) == []


@pytest.mark.parametrize("broken", ["agent.th", "opt.th", "state.th", "buffer.th"])
def test_a_broken_file_is_named_in_one_sentence(tmp_path, broken):
    folders, _ = whole_run(local_results_path=tmp_path, save_model=True)
    path = find_checkpoint(folders["models"], 0) / broken
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"{broken} can't be read") as caught:
        sequential(checkpoint_path=folders["models"])
    assert "\n" not in str(caught.value)


def test_weights_of_other_sizes_are_refused_in_one_sentence(tmp_path):
    folders, _ = whole_run(local_results_path=tmp_path, save_model=True)
    for settings in ({"rnn_hidden_dim": 16}, {"alg": "iql_omg"}, {"dueling": True}):
        with pytest.raises(UserError, match="agent.th") as caught:
            sequential(checkpoint_path=folders["models"], **settings)
        assert "\n" not in str(caught.value) and "does not fit" in str(caught.value)


def one_life(folder, number, t_max, save_model_interval=1):
    """One life of a run that goes on from the newest checkpoint of the lives before."""
    lives = [path for path in sorted(Path(folder).glob("models/*"), key=os.path.getmtime) if steps_in(path)]
    settings = SHORT | {"t_max": t_max, "save_model": True, "keep_checkpoints": 2}
    settings["save_model_interval"] = save_model_interval
    if lives:
        settings["checkpoint_path"] = max(lives, key=lambda path: steps_in(path)[-1])
    config = configure("iql", local_results_path=folder, **settings)
    sacred_run = RecordedRun()
    sacred_run._id = number
    with registered(RandomGame):
        run.run(sacred_run, config, logging.getLogger("tests"))
    th.save(sacred_run.info, Path(folder) / "info.th")


N_LIVES = 20


@pytest.mark.slow
def test_no_kill_leaves_a_checkpoint_that_cannot_be_read_and_the_curve_goes_on(tmp_path):
    moments = random.Random(1)
    newest = 0
    for life in range(N_LIVES):
        process = warm_process(one_life, str(tmp_path), life, 10**9)
        process.start()
        deadline = time.monotonic() + 300
        while not list(tmp_path.glob(f"models/*_{life}/*")) and process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.2))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        for models in tmp_path.glob("models/*"):
            for step in steps_in(models):
                assert {"agent.th", "opt.th", "state.th", "buffer.th"} <= contents(models / str(step)).keys()
        steps = [step for models in tmp_path.glob("models/*") for step in steps_in(models)]
        assert max(steps, default=0) >= newest
        newest = max(steps, default=0)
    assert newest > 0
    t_max = newest + 100
    process = warm_process(one_life, str(tmp_path), N_LIVES, t_max, 10**9)
    process.start()
    process.join(300)
    assert process.exitcode == 0
    _, info = whole_run(local_results_path=tmp_path / "whole", t_max=t_max)
    assert th.load(tmp_path / "info.th") == info


# --- PyMARL's own files


def pymarl_files(folder, learner, with_optimiser):
    """Writes agent.th, mixer.th and opt.th as PyMARL does, in the file format and with the keys of its old torch."""
    folder.mkdir(parents=True)
    old = {"_use_new_zipfile_serialization": False}
    th.save(OrderedDict(learner.mac.state_dict()), folder / "agent.th", **old)
    th.save(OrderedDict(learner.mixer.state_dict()), folder / "mixer.th", **old)
    if with_optimiser:
        ids = [140_000_000_000_000 + 8 * i for i in range(len(learner.params))]
        group = {"lr": 0.0005, "momentum": 0, "alpha": 0.99, "eps": 1e-5, "centered": False, "weight_decay": 0}
        state = {key: {"step": 7, "square_avg": th.full_like(param, 0.25)} for key, param in zip(ids, learner.params)}
        th.save({"state": state, "param_groups": [group | {"params": ids}]}, folder / "opt.th", **old)


@pytest.mark.parametrize("with_optimiser", [True, False])
def test_pymarls_own_weights_load_with_and_without_its_optimiser(tmp_path, caplog, with_optimiser):
    parts, _, _ = built(alg="qmix")
    pymarl_files(tmp_path / "12345", parts.learner, with_optimiser)
    resumed, args, logger = built(alg="qmix", seed=5, checkpoint_path=tmp_path, t_max=12345 + 60)
    resumed.resume()
    assert resumed.runner.t_env == 12345
    learner = resumed.learner
    assert equal(dict(learner.mac.state_dict()), dict(parts.mac.state_dict()))
    assert equal(dict(learner.mixer.state_dict()), dict(parts.learner.mixer.state_dict()))
    assert equal(dict(learner.target_mac.state_dict()), dict(parts.mac.state_dict()))
    assert ("opt.th: this optimiser starts anew" in caplog.text) is not with_optimiser
    if with_optimiser:
        averages = [learner.optimiser.state[param]["square_avg"] for param in learner.params]
        assert all((average == 0.25).all() for average in averages)
    resumed.train()
    assert logger.stats["loss"][0][0] > 12345


def test_a_file_that_is_no_weights_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "gone"),))

    th.save(Evil(), tmp_path / "agent.th")
    with pytest.raises(UserError, match="can't be read as weights"):
        load_into(th.nn.Linear(1, 1), tmp_path / "agent.th", "cpu")
    assert not (tmp_path / "gone").exists()


def test_weights_of_another_version_of_the_engine_are_told(tmp_path, caplog):
    def weights(name, **resolved):
        (tmp_path / name).mkdir()
        (tmp_path / name / "settings.json").write_text(json.dumps({"resolved": resolved}))
        return tmp_path / name

    args = convert({"resolved": {"engine": "sim", "engine_version": "2"}})
    same, old = weights("same", engine="sim", engine_version="2"), weights("old", engine="sim", engine_version="1")
    unknown, game = weights("unknown", engine="sim"), weights("game", engine="game")
    for quiet in (same, game, tmp_path / "none"):
        warn_of_other_world(quiet, args)
        warn_of_other_world(quiet, convert({"resolved": {}}))  # what plays no embedded engine
    assert not caplog.messages
    warn_of_other_world(old, args)
    warn_of_other_world(unknown, args)
    warn_of_other_world(same, args, {"resolved": {"engine": "sim", "engine_version": "3"}})  # a member's own settings
    versions = ("1", "1, or an unknown one,", "3")
    assert len(caplog.messages) == 3
    for message, version in zip(caplog.messages, versions):
        assert f"was trained on version {version} of the embedded engine and this run plays version 2" in message


def test_weights_of_other_arguments_of_the_environment_are_told(tmp_path, caplog):
    trained = {
        "map_name": "3m",
        "seed": 1,
        "move_amount": 2,
        "reward_win": 200,
        "enemy": "bot",
        "gone": 1,
        "a": {"b": [1]},
    }
    (tmp_path / "settings.json").write_text(json.dumps({"env_args": trained}))
    played = {**trained, "map_name": "folder/3m.yaml", "seed": 7, "reward_win": 100, "enemy": "self", "new": 3}
    del played["gone"]
    warn_of_other_world(tmp_path, convert({"resolved": {}, "env_args": played}))
    assert not caplog.messages
    warn_of_other_world(tmp_path, convert({"resolved": {}, "env_args": {**played, "move_amount": 3, "a": {"b": [2]}}}))
    (message,) = caplog.messages
    assert message.endswith("other arguments of the environment: env_args.a.b=[1] (here [2]), move_amount=2 (here 3)")


@pytest.mark.slow
def test_a_test_of_weights_of_another_version_of_the_engine_warns(tmp_path, capfd):
    short = ("with", "t_max=60", "env_args.map_name=3m", "rnn_hidden_dim=8", "batch_size=1", "buffer_size=4", "seed=1")
    own = (*short, "test_nepisode=1", "use_tensorboard=False", f"local_results_path={tmp_path}", "save_model=True")
    assert main.main(["--config=iql", "--env-config=sc2", *own]) == 0
    (checkpoint,) = [path for path in tmp_path.glob("models/*/*") if path.name.isdigit()][-1:]
    settings = json.loads((checkpoint / "settings.json").read_text())
    settings["resolved"]["engine_version"] = "0"
    (checkpoint / "settings.json").write_text(json.dumps(settings))
    capfd.readouterr()
    assert main.main(["--config=iql", "--env-config=sc2", *own, f"evaluate_path={checkpoint}"]) == 0
    captured = capfd.readouterr()
    assert "was trained on version 0 of the embedded engine" in captured.out + captured.err
