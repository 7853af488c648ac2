"""What an environment declares and nobody else names: fields of its own, and a reward for each agent."""

import json
import signal

import numpy as np
import pytest
import torch as th

import main
import run
from components.seats import cut_seats
from components.transitions import make_transitions
from envs.check import check_env, check_vector_env
from envs.multiagentenv import Field, WorkerLimits
from envs.vector import ProcessVectorEnv, SerialVectorEnv
from learners.q_learner import QLearner
from tests.builders import RecordingLogger, make_args, make_batch, make_mac, make_scheme
from tests.games import Harvest, Wages, configure, registered
from tests.test_run import equal, whole_run
from utils.errors import UserError

LIMITS = WorkerLimits(max_restarts=0, timeout_seconds=60)


@pytest.fixture(autouse=True)
def same_signal_handler_after():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


# --- fields of an environment's own


@pytest.mark.parametrize("kind", [SerialVectorEnv, ProcessVectorEnv])
def test_a_declared_field_reaches_the_learner(kind, tmp_path, monkeypatch):
    batches, worlds = [], []
    monkeypatch.setattr(QLearner, "train", lambda self, batch, t_env, episode: batches.append(batch))
    runner = "parallel" if kind is ProcessVectorEnv else "episode"
    n_worlds = 2 if kind is ProcessVectorEnv else 1
    vector = Harvest.vector
    monkeypatch.setattr(Harvest, "vector", lambda *args, **kw: worlds.append(vector(*args, **kw)) or worlds[-1])
    whole_run(Harvest, runner=runner, batch_size_run=n_worlds, local_results_path=tmp_path)
    assert type(worlds[0]) is kind and len(batches) > 2
    for batch in batches:
        filled = batch["filled"].squeeze(-1).bool()
        assert th.equal(batch["own_food"], 2 * batch["obs"][..., :2]) and batch["own_food"][filled].any()
        assert th.equal(batch["weather"][filled], batch["obs"][:, :, 0, :3][filled] + 1)
        assert th.equal(batch["clock"], th.arange(filled.shape[1]) * filled)
        assert batch["clock"].dtype == th.int64 and not batch["weather"][~filled].any()
        seat = cut_seats(batch, th.tensor([1]), th.tensor([2]))
        assert th.equal(seat["own_food"][0, :, 0], batch["own_food"][1, :, 2])
        assert th.equal(seat["weather"][0], batch["weather"][1])


def test_the_contract_holds_for_fields_of_ones_own():
    check_env(Harvest(seed=1), make_env=lambda: Harvest(seed=1))
    check_vector_env(Harvest.vector([1, 2], workers=LIMITS), n_episodes=1)


@pytest.mark.parametrize(
    ("fields", "methods", "sentence"),
    [
        ({"food": Field(2)}, {}, "declares the field 'food', but has no method get_food"),
        ({"food": Field(2)}, {"get_food": [1.0]}, "get_food gave [1.0], but what is needed is an array of numbers"),
        ({"food": Field(2)}, {"get_food": [1.0, np.nan]}, "get_food gave nan at index [1]"),
        ({"food": Field(1, "uint8")}, {"get_food": [300]}, "get_food gave [300], but what is needed is uint8"),
        (
            {"food": Field(1, "int64", below=2)},
            {"get_food": [2]},
            "get_food gave [2], but what is needed is int64 below",
        ),
        ({"filled": Field(1)}, {}, "the field 'filled': "),
        ({"team_food": Field(1)}, {}, "the field 'team_food': "),
        ({"reward": Field(3)}, {}, "the field 'reward': "),
        ({"food": (2,)}, {}, "the field 'food': (2,), but what is needed is a Field"),
    ],
)
def test_a_wrong_declaration_is_one_sentence(fields, methods, sentence):
    given = {name: lambda self, value=value: value for name, value in methods.items()}
    env = type("Mine", (Harvest,), {"fields": fields, **given}).vector([1])
    with pytest.raises(UserError) as caught:
        check_vector_env(env)
    assert sentence in str(caught.value)


# --- a reward for each agent


def play(runner, n_runs=3, **settings):
    """The batches that a runner of two worlds of `Wages` plays, and what it logs."""
    config = configure("iql", batch_size_run=2, runner=runner, seed=7, runner_log_interval=1, **settings)
    logger = RecordingLogger()
    with registered(Wages), run.Run({**config, "common_reward": False}, logger) as made:
        return [made.runner.run(test_mode=i % 2 == 1) for i in range(n_runs)], logger


def test_each_agents_rewards_are_in_the_batch_and_its_returns_in_the_records():
    batches, logger = play("parallel", test_nepisode=2)
    in_turn, logger_in_turn = play("episode", test_nepisode=2)
    for batch, other in zip(batches, in_turn, strict=True):
        assert batch["reward"].shape == (2, 8, 3) and th.equal(batch["reward"], other["reward"])
        assert th.allclose(batch["reward"], batch["reward"][..., :1] * th.tensor([1.0, 2.0, 3.0]))
    assert logger.stats == logger_in_turn.stats and logger.test_episodes == logger_in_turn.test_episodes
    for prefix, batch in (("", batches[0]), ("test_", batches[1])):
        own = batch["reward"].double().sum(1).numpy()
        expected = {f"agent_{i}_": own[:, i] for i in range(3)} | {"total_": own.sum(1), "": own.sum(1)}
        for name, values in expected.items():
            assert logger.values(f"{prefix}{name}return_mean")[0] == pytest.approx(values.mean()), name
            assert logger.values(f"{prefix}{name}return_std")[0] == pytest.approx(values.std()), name
    own = batches[1]["reward"].double().sum(1)
    for world, episode in enumerate(logger.test_episodes):
        assert episode["returns"] == pytest.approx(own[world].tolist())
        assert episode["return"] == pytest.approx(sum(episode["returns"]))


@pytest.mark.parametrize("reward", [1.0, [1.0, 2.0], [1.0, 2.0, np.nan], [[1.0, 2.0, 3.0]], [1e300, 0, 0]])
def test_what_is_no_reward_for_each_agent_is_refused(reward):
    class Mine(Wages):
        def step(self, actions):
            return reward, *super().step(actions)[1:]

    with pytest.raises(UserError, match="Mine.step gave the reward .* needed is 3 finite numbers, one for each agent"):
        check_vector_env(Mine.vector([1], common_reward=False), refuses_unavailable=False)


def test_the_contract_holds_for_a_reward_of_each_agent():
    make = {"make_env": lambda: Wages(seed=1, common_reward=False)}
    check_env(Wages(seed=1, common_reward=False), **make)
    check_vector_env(Wages.vector([1, 2], workers=LIMITS, common_reward=False), n_episodes=1)
    with pytest.raises(AssertionError, match="is not one for the team"):
        check_env(type("Mine", (Wages,), {"step": lambda self, actions: ([1.0] * 3, True, {})})(seed=1))


# --- who learns from it


def batch_with_own_rewards(args, lengths):
    batch = make_batch(args, lengths)
    batch.scheme["reward"] = {"vshape": (), "group": "agents", "dtype": th.float32}
    batch.data.transition_data["reward"] = batch["reward"] * th.tensor([1.0, 2.0, 3.0])
    return batch


@pytest.mark.parametrize("td_lambda", [0.0, 0.8])
def test_each_agents_targets_are_those_of_its_own_reward(td_lambda):
    args = make_args(td_lambda=td_lambda)
    batch = batch_with_own_rewards(args, [8, 3])
    learner = QLearner(make_mac(args), make_scheme(args)[0], RecordingLogger(), args)
    values = th.rand(2, 8, 3)
    whole = learner.td_loss(make_transitions(batch, 0.9), values, values)
    for agent in range(3):
        alone = make_batch(args, [8, 3])
        alone["reward"][:] = batch["reward"][..., agent : agent + 1]
        own = values[..., agent : agent + 1]
        assert th.equal(
            whole.target_t[..., agent : agent + 1], learner.td_loss(make_transitions(alone, 0.9), own, own).target_t
        )
    learner.train(batch, t_env=0, episode_num=0)
    assert len(learner.logger.values("loss")) == 1


def test_a_seat_learns_from_its_own_reward():
    batch = batch_with_own_rewards(make_args(), [8, 3])
    cut = cut_seats(batch, th.tensor([0, 1]), th.tensor([2, 0]))
    assert make_transitions(cut, 0.9).reward.shape == (2, 8, 1)
    assert th.equal(cut["reward"][0, :, 0], batch["reward"][0, :, 2])
    assert th.equal(cut["reward"][1, :, 0], batch["reward"][1, :, 0])


# --- whole runs

FORAGING = ("env_args.force_coop=False", "env_args.field_size=5", "env_args.max_episode_steps=20")
SHORT = ("test_interval=100", "test_nepisode=2", "batch_size=2", "buffer_size=8", "rnn_hidden_dim=8", "save_model=True")
LOGS = ("log_interval=50", "runner_log_interval=50", "learner_log_interval=50", "use_tensorboard=False")


def foraging(folder, *settings, alg="iql"):
    """A run with a reward for each player; gives its exit status."""
    given = ("common_reward=False", "use_cuda=False", "seed=1", f"local_results_path={folder}", *settings)
    return main.main([f"--config={alg}", "--env-config=lbforaging", "with", *FORAGING, *SHORT, *LOGS, *given])


def metrics(folder):
    kept = json.loads((folder / "sacred" / "1" / "metrics.json").read_text())
    return {key: (entry["steps"], entry["values"]) for key, entry in kept.items()}


@pytest.mark.slow
def test_a_run_with_workers_learns_from_own_rewards_and_resumes_bit_for_bit(tmp_path):
    whole, half, rest = tmp_path / "whole", tmp_path / "half", tmp_path / "rest"
    workers = ("runner=parallel", "batch_size_run=2", "target_update_interval=7")
    assert foraging(whole, *workers, "t_max=600") == foraging(half, *workers, "t_max=230") == 0
    (models,) = (half / "models").iterdir()
    assert foraging(rest, *workers, "t_max=600", f"checkpoint_path={models}") == 0
    kept, resumed = metrics(whole), metrics(rest)
    assert {"agent_0_return_mean", "agent_1_return_std", "total_return_mean", "test_total_return_std"} <= kept.keys()
    assert kept["total_return_mean"] == kept["return_mean"] and any(kept["test_total_return_std"][1] + kept["loss"][1])
    assert any(kept["agent_0_return_mean"][1]) and kept["agent_0_return_mean"] != kept["agent_1_return_mean"]
    for key, (steps, values) in resumed.items():
        (all_steps, all_values), first = kept[key], len(kept[key][0]) - len(steps)
        assert (steps, values) == (all_steps[first:], all_values[first:]), key
    last = [max(folder.glob("models/*/*"), key=lambda path: int(path.name)) for folder in (whole, rest)]
    assert last[0].name == last[1].name
    files = [{file.name: th.load(file) for file in folder.glob("*.th")} for folder in last]
    assert files[0]["state.th"].pop("stats") and files[1]["state.th"].pop("stats")
    assert all(equal(files[0][name], files[1][name]) for name in files[0])
    assert files[0]["buffer.th"]["fields"]["reward"].shape[1:] == (2,)


@pytest.mark.slow
@pytest.mark.parametrize("alg", ["iql_liam", "iql_omg", "1iql1iql_am"])
def test_agent_models_and_populations_learn_from_own_rewards(alg, tmp_path):
    settings = ["t_max=120"]
    settings += ["omg_vae_pretrain_steps=40"] if alg == "iql_omg" else []
    settings += ["multi_algs=True", "train_alg=iql"] if alg[0] == "1" else []
    assert foraging(tmp_path, *settings, alg=alg) == 0
    assert {"loss", "agent_1_return_mean"} <= metrics(tmp_path).keys()


@pytest.mark.parametrize(
    ("alg", "env", "sentence"),
    [
        ("iql", "sc2", "the environment 'sc2' has one reward for the whole team"),
        ("iql", "goal_game", "the environment 'goal_game' has one reward for the whole team"),
        ("vdn", "lbforaging", "learner=q_learner with mixer=vdn learns the value of the whole team"),
        ("qmix_beta", "simple_tag", "learner=q_learner with mixer=qmix learns the value of the whole team"),
        ("qtran", "lbforaging", "learner=qtran_learner with mixer=qtran_base learns the value"),
        ("coma", "lbforaging", "learner=coma_learner with mixer=None learns the value of the whole team"),
    ],
)
def test_who_has_one_reward_only_refuses_in_a_sentence(alg, env, sentence, tmp_path, capsys):
    given = ["--common_reward=False", f"--local_results_path={tmp_path / 'results'}"]
    assert main.main([f"--config={alg}", f"--env-config={env}", *given]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: common_reward=False") and sentence in message
    assert not (tmp_path / "results").exists()
