"""A user's mistakes about learners of the present policy and about agent models, through the command line."""

import pytest

import main

ONE_PLAYER = ["--env-config=foraging", "--env_args.players=1"]


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        (["--config=ippo", "--mixer=qmix"], "unknown key 'mixer'; it belongs to learner=q_learner"),
        (["--config=mappo", "--buffer_size=5000"], "learner=ppo_learner has no replay buffer"),
        (["--config=pqn_vdn", "--batch_size=32"], "learner=pqn_learner has no replay buffer"),
        (["--config=mappo", "--num_mini_batch=3"], "batch_size_run=32 episodes can't be divided into num_mini_batch=3"),
        (["--config=pqn_vdn", "--batch_size_run=100"], "=100 episodes can't be divided into num_mini_batch=16"),
        (["--config=mappo", "--td_lambda=1.5"], "td_lambda=1.5 is not allowed: it must be a number, at least 0"),
        (["--config=pqn_vdn", "--td_lambda=-0.1"], "td_lambda=-0.1 is not allowed: it must be a number, at least 0"),
        (["--config=mappo", "--updates_per_round=2"], "just played; leave out updates_per_round=2"),
        (["--config=mappo_epymarl", "--data_chunk_length=10"], "data_chunk_length cuts episodes that padding_counts=T"),
        (["--config=qmix", "--collect_steps=5"], "learner=q_learner learns from whole ones"),
        (["--config=mappo", "--collect_steps=5"], "learner=ppo_learner learns from whole ones"),
        (["--config=pqn_omg", "--collect_steps=5"], "am_model=omg needs whole ones"),
        (["--config=pqn_vdn", "--collect_steps=0"], "collect_steps=0 is not allowed"),
        (["--config=pqn_vdn", "--epsilon_alpha=-1"], "epsilon_alpha=-1 is not allowed"),
        (["--config=ippo_omg", "--subgoal_mode=9"], "subgoal_mode=9 lies beyond omg_horizon=5"),
        (
            ["--config=ippo_omg", "--omg_next_subgoal=next"],
            "unknown key 'omg_next_subgoal'; it belongs to learner=omg_",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_sentence_and_nothing_is_written(params, sentence, tmp_path, capsys):
    assert main.main([*params, "--env-config=sc2", f"--local_results_path={tmp_path}"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: ") and sentence in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("alg", ["iql_am", "ippo_liam", "ippo_omg", "pqn_omg"])
def test_an_agent_model_needs_other_agents(alg, tmp_path, capsys):
    assert main.main([f"--config={alg}", *ONE_PLAYER, f"--local_results_path={tmp_path}"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: ") and "models the other agents, but there is one agent" in message
    assert not list(tmp_path.glob("models/*/*"))
