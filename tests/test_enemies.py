"""Enemies to choose, in whole runs: frozen policies, several in a test, records, statistics and mistakes."""

import json

import numpy as np
import pytest
import torch as th

import main
from envs.check import random_actions
from envs.multiagentenv import Observations, Outcomes
from envs.sc2.sim.env import BattleVectorEnv
from run import Run, load_policy, seat_policies
from tests.builders import RecordingLogger
from utils.errors import UserError

SMALL = ["--rnn_hidden_dim=8", "--seed=1", "--use_tensorboard=False", "--env_args.map_name=3m", "--env_args.engine=sim"]
SMALL += ["--test_nepisode=2", "--test_interval=1000000", "--use_cuda=False"]
FEW = ["--batch_size=2", "--buffer_size=4", "--mixing_embed_dim=4", "--hypernet_embed=4"]


def settings(*params, alg="qmix"):
    return main.settings(f"--config={alg}", "--env-config=sc2", *SMALL, *(FEW if alg == "qmix" else ()), *params)


def finished(*params, alg="qmix", t_max=60, **config):
    """A run that is over, and its logger."""
    logger = RecordingLogger()
    logger.state_dict = lambda: {}
    with Run({**settings(*params, alg=alg), **config}, logger) as run:
        run.train(t_max)
    return run, logger


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The folder of a policy of 3m that has hardly learned."""
    folder = tmp_path_factory.mktemp("policy")
    run, _ = finished(t_max=1)
    run.save(folder)
    return folder


def test_a_run_plays_against_a_frozen_policy_that_acts_as_it_does_elsewhere(checkpoint):
    with Run(settings(f"--env_args.enemy=policy:{checkpoint}"), RecordingLogger()) as run:
        enemies, policy, steps = run.runner.env.enemies, load_policy(checkpoint), []
        (played,) = {enemies.sources[name](0.5)[1] for name in enemies.names}
        act = played.act

        def watched(seen, battles):
            steps.append((seen.obs[0].copy(), seen.avail_actions[0].copy(), act(seen, battles)[0]))
            return steps[-1][2][None]

        played.act = watched
        for _ in range(2):
            policy.reset()
            steps.clear()
            run.runner.run(test_mode=True)
            assert len(steps) > 5
            for obs, avail, actions in steps:
                assert policy.act(obs, avail).tolist() == actions.tolist()
                assert avail[np.arange(3), actions].all()


def test_a_battle_against_a_policy_in_a_batch_equals_that_battle_alone(checkpoint):
    ends = []
    for seeds, place in (((5, 6, 7), 1), ((6,), 0)):
        env = BattleVectorEnv(seeds, map_name="3m", enemy=["script:kite", f"policy:{checkpoint}"])
        seat_policies(env)
        n = len(seeds)
        seen, outcomes = Observations.empty(n, env.get_env_info()), Outcomes.empty(n, env.info_keys)
        rng, history = np.random.default_rng(0), []
        for n_steps in (9, 14, 20):
            env.reset(seen, np.arange(n) == place)
            history.append(env.episode_notes()[place]["enemy"])
            env.reset(seen, np.arange(n) != place)
            for _ in range(n_steps):
                actions = np.ones((n, 3), np.int64) * (seen.avail_actions[:, :, 1] > 0)
                actions[place] = random_actions(seen.avail_actions[place : place + 1], rng)[0]
                env.step(actions, seen, outcomes)
                history.append(env.units[place].tobytes())
        ends.append(history)
    assert ends[0] == ends[1]
    assert f"policy:{checkpoint}" in ends[0]


def test_worlds_at_other_steps_of_their_episodes_play_as_they_would_alone(checkpoint):
    enemy = f"--env_args.enemy=[script:kite, policy:{checkpoint}]"
    settings_of = {"alg": "pqn_vdn", "collect_steps": 7, "batch_size": None, "buffer_size": None}
    ends = []
    for n_worlds in (2, 4):
        config = {**settings_of, "batch_size_run": n_worlds, "runner": "parallel"}
        alg = config.pop("alg")
        config |= {"batch_size": n_worlds, "buffer_size": n_worlds, "num_mini_batch": 1, "epochs": 1}
        with Run({**settings(enemy, alg=alg), **config}, RecordingLogger()) as run:
            th.manual_seed(0)
            run.team.use_generators(th.Generator().manual_seed(3), th.Generator())
            env, seen = run.runner.env, []
            for _ in range(12):
                run.runner.run()
                notes = [note["enemy"] for note in env.episode_notes()]
                seen.append(notes[:2])
        ends.append(seen)
    assert ends[0][0] == ends[1][0]
    assert len({name for step in ends[0] for name in step}) == 2


def test_a_policy_of_other_sizes_is_refused_in_one_sentence(checkpoint):
    with pytest.raises(UserError, match=r"n_agents=3, but the enemy's side here has 6; give a policy"):
        Run(settings(f"--env_args.enemy=policy:{checkpoint}", "--env_args.map_name=5m_vs_6m"), RecordingLogger())
    with pytest.raises(UserError, match=r"obs_shape=30, but the enemy's side here has 48"):
        settings_of = settings(f"--env_args.enemy=policy:{checkpoint}", "--env_args.obs_last_action=True")
        Run(settings_of, RecordingLogger())


def test_a_policy_that_does_not_fit_ends_the_program_with_one_sentence(checkpoint, tmp_path, capsys):
    other = ["--env_args.map_name=5m_vs_6m", f"--local_results_path={tmp_path}"]
    for enemy, sentence in (
        (f"policy:{checkpoint}", "has n_agents=3, but the enemy's side here has 6"),
        ("self", "take a map of two equal armies"),
        (f"policy:{tmp_path}", "there is no configuration"),
    ):
        assert main.main(["--config=qmix", "--env-config=sc2", *SMALL, *FEW, *other, f"--env_args.enemy={enemy}"]) == 2
        message = capsys.readouterr().err.splitlines()[-1]
        assert message.startswith("error: ") and sentence in message
    assert not list(tmp_path.glob("models/*/*"))


def test_whom_a_run_plays_against_leaves_its_own_numbers_as_they_are(checkpoint):
    weights = []
    for enemy in ("script:kite", f"policy:{checkpoint}"):
        with Run(settings(f"--env_args.enemy={enemy}"), RecordingLogger()) as run:
            weights.append(run.mac.state_dict())
            weights.append({"acting": run.generators.acting.get_state()})
    for first, second in zip(weights[:2], weights[2:], strict=True):
        assert all(th.equal(first[name], second[name]) for name in first)


def test_tests_meet_every_enemy_in_turn_and_are_counted_apart():
    enemies = ["script:hold", "bot", "script:focus"]
    logger = RecordingLogger()
    with Run(settings(f"--env_args.test_enemies=[{', '.join(enemies)}]", "--test_nepisode=7"), logger) as run:
        stats = run.evaluate()
    assert [episode["enemy"] for episode in logger.test_episodes] == [*enemies * 2, "script:hold"]
    for enemy, name in zip(enemies, ("script_hold", "bot", "script_focus"), strict=True):
        returns = [episode["return"] for episode in logger.test_episodes if episode["enemy"] == enemy]
        assert logger.values(f"test_vs_{name}_return_mean") == [pytest.approx(np.mean(returns))]
        assert f"test_vs_{name}_battle_won_mean" in logger.stats
    assert stats["test_return_mean"] == pytest.approx(np.mean([e["return"] for e in logger.test_episodes]))


def test_an_enemy_that_a_test_has_not_met_has_no_statistics_of_that_test():
    logger = RecordingLogger()
    with Run(settings("--env_args.enemy=[script:hold, bot]"), logger) as run:
        for _ in range(2):
            run.evaluate(1)
    assert len(logger.values("test_return_mean")) == 2
    for name in ("script_hold", "bot"):
        (value,) = logger.values(f"test_vs_{name}_return_mean")
        assert np.isfinite(value)


def test_one_enemy_has_no_statistics_of_its_own():
    logger = RecordingLogger()
    with Run(settings("--env_args.enemy=script:hold"), logger) as run:
        run.evaluate(1)
    assert [episode["enemy"] for episode in logger.test_episodes] == ["script:hold"]
    assert not [name for name in logger.stats if "vs_" in name]


@pytest.mark.slow
def test_a_resumed_run_meets_the_enemies_that_the_whole_one_met(tmp_path):
    enemies = ["--env_args.enemy=[bot, script:kite, script:hold]", "--test_interval=60", "--test_nepisode=4"]
    whole, logger = finished(*enemies, t_max=240)
    half, _ = finished(*enemies, t_max=120)
    half.save(tmp_path / "half")
    rest = RecordingLogger()
    rest.load_state_dict = lambda state: None
    with Run(settings(*enemies), rest) as run:
        run.load(tmp_path / "half")
        run.train(240)
    met = [(episode["enemy"], episode["return"]) for episode in logger.test_episodes]
    assert [(episode["enemy"], episode["return"]) for episode in rest.test_episodes] == met[-len(rest.test_episodes) :]
    assert len(rest.test_episodes) >= 4
    assert all(th.equal(whole.mac.state_dict()[name], value) for name, value in run.mac.state_dict().items())


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        (["--env_args.enemy=script:kit"], "unknown script 'kit'; did you mean 'kite'?"),
        (["--env_args.enemy=[bot, boot]"], "env_args.enemy=boot is no enemy"),
        (["--env_args.test_enemies=hold"], "env_args.test_enemies=hold is not allowed: it must be a list of names"),
        (["--env_args.enemy=policy:nowhere"], "env_args.enemy=policy:nowhere: there is no such folder"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_written(params, sentence, tmp_path, capsys):
    assert main.main(["--config=qmix", "--env-config=sc2", *params, f"--local_results_path={tmp_path}"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: ") and sentence in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_run_of_the_program_records_whom_it_met(tmp_path):
    enemy = "--env_args.enemy=[script:hold, script:focus]"
    params = ["--config=qmix", "--env-config=sc2", *SMALL, *FEW, enemy, "--t_max=20", "--evaluate"]
    assert main.main([*params, f"--local_results_path={tmp_path}", "--save_replay"]) == 0
    (lines,) = tmp_path.glob("sacred/*/test_episodes.jsonl")
    assert [json.loads(line)["enemy"] for line in lines.read_text().splitlines()] == ["script:hold", "script:focus"]
    assert list(tmp_path.glob("replays/*/*.gif"))


# --- self-play

SELF = ["--env_args.enemy=self", "--self_play_interval=60", "--self_play_copies=3"]
OF_PPO = ["--batch_size_run=2", "--runner=parallel", "--num_mini_batch=1"]
ALGORITHMS = {"qmix": [], "iql": FEW[:2], "vdn": FEW[:2], "ippo": OF_PPO, "mappo": OF_PPO}


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_a_run_keeps_its_last_copies_as_enemies(alg):
    with Run(settings(*SELF, *ALGORITHMS[alg], alg=alg), RecordingLogger()) as run:
        first = {name: value.clone() for name, value in run.mac.state_dict().items()}
        played = set()
        while len(run.self_play.copies) < 3 or run.self_play.copies[0][0] == 0:
            oldest = run.self_play.copies[0]
            run.train(run.t_env)
            played |= {notes["enemy_t_env"] for notes in run.runner.env.episode_notes()}
            assert oldest[0] > 0 or equal(oldest[1].mac.state_dict(), first)
        steps = [t_env for t_env, _ in run.self_play.copies]
        assert all(later - before >= 60 for before, later in zip(steps, steps[1:], strict=False))
        assert len(played) > 1
        assert not equal(run.self_play.copies[-1][1].mac.state_dict(), first)


def equal(first, second):
    return all(th.equal(first[name], second[name]) for name in first)


def test_the_newest_copy_plays_as_often_as_it_is_told():
    with Run(settings(*SELF, "--self_play_newest=0.4"), RecordingLogger()) as run:
        for t_env in (60, 120):
            run.self_play.add(run.mac.state_dict(), t_env)
        drawn = [
            run.self_play.draw(number)[0]["enemy_t_env"] for number in (0, 0.39, 0.41, 0.59, 0.61, 0.79, 0.81, 0.99)
        ]
        assert drawn == [120, 120, 0, 0, 60, 60, 120, 120]


@pytest.mark.slow
@pytest.mark.parametrize("alg", ["qmix", "ippo"])
def test_a_resumed_run_of_self_play_is_the_run_that_was_never_interrupted(alg, tmp_path):
    own = [*SELF, *ALGORITHMS[alg], "--test_interval=60", "--test_nepisode=2"]
    whole, logger = finished(*own, alg=alg, t_max=240)
    half, _ = finished(*own, alg=alg, t_max=120)
    half.save(tmp_path / "half")
    rest = RecordingLogger()
    rest.load_state_dict = lambda state: None
    with Run(settings(*own, alg=alg), rest) as run:
        run.load(tmp_path / "half")
        assert [t_env for t_env, _ in run.self_play.copies] == [t_env for t_env, _ in half.self_play.copies]
        run.train(240)
    assert equal(whole.mac.state_dict(), run.mac.state_dict())
    met = [(episode["enemy"], episode["enemy_t_env"], episode["return"]) for episode in logger.test_episodes]
    again = [(episode["enemy"], episode["enemy_t_env"], episode["return"]) for episode in rest.test_episodes]
    assert again == met[-len(again) :] and len(again) >= 2


@pytest.mark.slow
def test_a_test_of_a_checkpoint_meets_its_copies(tmp_path):
    params = ["--config=qmix", "--env-config=sc2", *SMALL, *FEW, *SELF, f"--local_results_path={tmp_path}"]
    assert main.main([*params, "--t_max=150", "--save_model"]) == 0
    (models,) = (tmp_path / "models").iterdir()
    assert main.main([*params, f"--checkpoint_path={models}", "--evaluate", "--test_nepisode=6"]) == 0
    lines = max(tmp_path.glob("sacred/*/test_episodes.jsonl")).read_text().splitlines()
    met = [json.loads(line) for line in lines]
    assert {episode["enemy"] for episode in met} == {"self"} and max(episode["enemy_t_env"] for episode in met) > 0


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        (["--config=2iql1qmix", "--multi_algs", "--train_alg=iql", "--env_args.enemy=self"], "names a population"),
        (["--config=qmix", "--env_args.enemy=self", "--self_play_copies=0"], "self_play_copies=0 is not allowed"),
        (
            ["--config=qmix", "--env_args.test_enemies=[bot, self]", "--test_nepisode=1"],
            "is fewer than the 2 env_args.test_enemies",
        ),
        (
            ["--config=qmix", "--env_args.enemy=[bot, self]", "--test_nepisode=1"],
            "is fewer than the 2 env_args.enemy",
        ),
    ],
)
def test_a_mistake_in_self_play_is_one_sentence_and_nothing_is_written(params, sentence, tmp_path, capsys):
    assert main.main([*params, "--env-config=sc2", f"--local_results_path={tmp_path}"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: ") and sentence in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("map_name", ["5m_vs_6m", "3s_vs_3z"])
def test_self_play_needs_two_equal_armies(map_name):
    with pytest.raises(UserError, match=r"the army is another one; take a map of two equal armies, such as 3m"):
        Run(settings(*SELF, f"--env_args.map_name={map_name}"), RecordingLogger())
