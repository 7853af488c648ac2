"""Trained policies outside of a run: `load_policy`, and the ONNX file of the agents' network."""

import json
import sys

import numpy as np
import pytest
import torch as th

import main
from envs.goal_game import GoalGame
from experiments import export_onnx
from run import Run, load_policy
from utils.errors import UserError

GAME = ("--env-config=goal_game", "t_max=10", "batch_size=2", "buffer_size=2", "use_tensorboard=False")


def checkpoint(folder, alg, *settings):
    config, *rest = GAME
    run_settings = main.settings(f"--config={alg}", config, "with", *rest, f"local_results_path={folder}", *settings)
    with Run(run_settings) as run:
        run.save(folder / "weights")
    return folder / "weights"


@pytest.fixture(scope="module")
def qmix(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("qmix"), "qmix")


def play(network, act, n_steps=5):
    """(greedy actions of `network`, those of `act`) at each step of a random episode; the former's inputs by hand."""
    env, rng, n = GoalGame(seed=1), np.random.default_rng(0), GoalGame().n_agents
    env.reset()
    hidden, last = network.init_hidden().expand(n, -1), th.zeros(n, env.get_total_actions())
    for _ in range(n_steps):
        obs = rng.normal(size=(n, env.get_obs_size())).astype(np.float32)
        avail = np.ones((n, env.get_total_actions()), np.uint8)
        avail[:, 0] = 0
        inputs = th.cat([th.tensor(obs), last, th.eye(n)], 1)
        with th.no_grad():
            values, hidden = network(inputs, hidden)
        greedy = values.masked_fill(th.tensor(avail) == 0, -np.inf).argmax(1)
        last = th.nn.functional.one_hot(greedy, avail.shape[1]).float()
        yield greedy.numpy(), act(obs, avail)


def test_a_loaded_policy_acts_greedily_on_observation_last_action_and_id(qmix):
    policy = load_policy(qmix)
    first = [own for _, own in play(policy.mac.agent, policy.act)]
    policy.reset()
    for expected, own in play(policy.mac.agent, policy.act):
        assert np.array_equal(expected, own) and (own > 0).all()
    policy.reset()
    assert np.array_equal(first, [own for _, own in play(policy.mac.agent, policy.act)])


def test_a_checkpoint_that_lacks_keys_of_later_versions_acts_as_by_their_defaults(tmp_path):
    folder = checkpoint(tmp_path, "iql_omg")
    whole = load_policy(folder)
    settings = json.loads((folder / "settings.json").read_text())
    later = ("orthogonal_init", "epsilon_alpha", "am_in_tests")
    (folder / "settings.json").write_text(json.dumps({key: settings[key] for key in settings if key not in later}))
    older, rng = load_policy(folder), np.random.default_rng(0)
    for _ in range(3):
        seen = rng.normal(size=(GoalGame().n_agents, GoalGame().get_obs_size())).astype(np.float32)
        avail = np.ones((GoalGame().n_agents, GoalGame().get_total_actions()), np.uint8)
        assert np.array_equal(whole.act(seen, avail), older.act(seen, avail))


def test_what_is_no_checkpoint_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(UserError, match="there is no configuration .*settings.json"):
        load_policy(tmp_path)


@pytest.mark.slow
def test_the_onnx_file_computes_what_the_network_does_for_any_number_of_rows(qmix, tmp_path, capsys):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert export_onnx.main([str(qmix), "--out", str(tmp_path / "agent.onnx")]) == 0
    assert capsys.readouterr().out.strip().endswith("agent.onnx")
    session = runtime.InferenceSession(str(tmp_path / "agent.onnx"), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["inputs", "hidden_state"]
    agent = load_policy(qmix).mac.agent
    for rows in (1, 2, 7):
        inputs, hidden = th.randn(rows, agent.fc1.in_features), agent.init_hidden().expand(rows, -1)
        for _ in range(3):
            given = {"inputs": inputs.numpy(), "hidden_state": hidden.detach().numpy()}
            outputs, following = session.run(["outputs", "next_hidden_state"], given)
            expected, hidden = agent(inputs, hidden)
            np.testing.assert_allclose(outputs, expected.detach(), atol=1e-5)
            np.testing.assert_allclose(following, hidden.detach(), atol=1e-5)
    layout = session.get_modelmeta().custom_metadata_map
    assert layout["n_agents"] == str(GoalGame().n_agents) and layout["obs_last_action"] == "True"


def test_a_policy_with_an_agent_model_is_refused(tmp_path):
    folder = checkpoint(tmp_path, "iql_liam")
    with pytest.raises(UserError, match="acts by more than the agents' network"):
        export_onnx.export(folder, tmp_path / "agent.onnx")
    assert not (tmp_path / "agent.onnx").exists()


def test_a_missing_package_is_one_sentence(qmix, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert export_onnx.main([str(qmix), "--out", str(tmp_path / "a.onnx")]) == 2
    assert "pip install -r requirements-onnx.txt" in capsys.readouterr().err and not (tmp_path / "a.onnx").exists()
