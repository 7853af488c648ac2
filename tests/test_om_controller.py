"""The controller that acts on inferred subgoals; the agent models behind it are in `test_agent_models.py`."""

import pytest
import torch as th

from controllers.om_controller import MultiModuleMAC
from modules.agents import REGISTRY as AGENTS
from modules.am import REGISTRY as AGENT_MODELS
from modules.am.omg_am import OMGAM
from tests.builders import make_batch, make_omg_args, make_scheme
from utils.errors import UserError


def make_mac(args):
    scheme, groups, _ = make_scheme(args)
    return MultiModuleMAC(scheme, groups, args)


def play(mac, batch, test_mode=True):
    """Q-values of all steps, one step at a time: [b, T, agent, action]."""
    mac.init_hidden(batch.batch_size)
    with th.no_grad():
        return th.stack([mac.forward(batch, t, test_mode=test_mode) for t in range(batch.max_seq_length)], 1)


@pytest.mark.parametrize("am_model", list(AGENT_MODELS))
@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"obs_is_state": True},
        {"omg_opponent_actions": True},
        {"dueling": True},
        {"agent": "idv_rnn"},
        {"agent": "ff"},
    ],
)
def test_unroll_equals_acting_step_by_step(am_model, overrides):
    args = make_omg_args(am_model=am_model, **overrides)
    batch = make_batch(args, lengths=[8, 5, 3])
    mac = make_mac(args)
    filled = batch["filled"].bool().squeeze(-1)
    assert th.allclose(mac.unroll(batch)[filled], play(mac, batch)[filled], atol=1e-6)


def test_subgoals_are_drawn_in_training_and_are_the_means_in_tests():
    args = make_omg_args()
    batch = make_batch(args, lengths=[8])
    mac = make_mac(args)
    assert th.equal(play(mac, batch), play(mac, batch))
    assert not th.equal(play(mac, batch, test_mode=False), play(mac, batch, test_mode=False))


def test_only_the_named_episodes_are_computed_and_move_on():
    args = make_omg_args()
    batch = make_batch(args, lengths=[8, 8, 8])
    mac = make_mac(args)
    whole = play(mac, batch)
    mac.init_hidden(3)
    mac.forward(batch, 0, test_mode=True)
    before = mac.hidden_states.clone(), mac.am_hidden_states.clone()
    q = mac.forward(batch, 1, bs=[0, 2], test_mode=True)
    assert th.allclose(q, whole[[0, 2], 1], atol=1e-6)
    assert th.equal(mac.hidden_states[1], before[0][1]) and th.equal(mac.am_hidden_states[1], before[1][1])
    assert not th.equal(mac.hidden_states[0], before[0][0])


@pytest.mark.parametrize("agent", list(AGENTS))
def test_one_step_over_many_subgoals_equals_one_step_for_each(agent):
    args = make_omg_args(dueling=True, agent=agent)
    mac = make_mac(args)
    width = mac.input_size(make_scheme(args)[0]) - args.omg_subgoal_dim
    inputs, hidden = th.randn(6, 3, width), th.randn(6, 3, args.rnn_hidden_dim) * (agent != "ff")
    subgoals = th.randn(7, 3, args.omg_subgoal_dim)
    candidates = th.randint(7, (6, 5))
    together = mac.step_policy_over(inputs, subgoals, candidates, hidden)
    for k in range(5):
        alone = mac.step_policy(inputs, subgoals[candidates[:, k]], hidden)
        assert th.allclose(together[:, :, k], alone, atol=1e-5)


def test_rollouts_record_no_graph():
    args = make_omg_args()
    batch = make_batch(args, lengths=[8])
    mac = make_mac(args)
    mac.init_hidden(1)
    mac.select_actions(batch, 0, 0)
    assert mac.hidden_states.grad_fn is None and mac.am_hidden_states.grad_fn is None


def test_saved_models_are_pymarls_files_and_come_back(tmp_path):
    args = make_omg_args()
    batch = make_batch(args, lengths=[8, 4])
    mac, other = make_mac(args), make_mac(args)
    mac.am.vae.is_trained.fill_(True)
    mac.save_models(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"agent.th", "vae.th", "cvae.th", "cond_rnn.th", "fc.th"}
    assert not th.allclose(play(mac, batch), play(other, batch))
    other.load_models(tmp_path)
    assert th.equal(play(mac, batch), play(other, batch))
    assert other.am.vae.is_trained


def test_a_prior_is_taken_over_alone(tmp_path):
    trained = make_mac(make_omg_args())
    trained.am.vae.is_trained.fill_(True)
    trained.save_models(tmp_path)
    mac = make_mac(make_omg_args(omg_prior_path=str(tmp_path)))
    for name, value in trained.am.vae.state_dict().items():
        assert th.equal(mac.am.vae.state_dict()[name], value)  # is_trained among them
    assert not th.equal(mac.am.fc.weight, trained.am.fc.weight)
    assert not th.equal(mac.agent.fc1.weight, trained.agent.fc1.weight)
    with pytest.raises(UserError, match="vae.th"):
        make_mac(make_omg_args(omg_prior_path=str(tmp_path / "nowhere")))


def test_a_missing_file_is_named(tmp_path):
    args = make_omg_args()
    mac = make_mac(args)
    mac.save_models(tmp_path)
    (tmp_path / "cond_rnn.th").unlink()
    with pytest.raises(UserError, match="cond_rnn.th"):
        mac.load_models(tmp_path)


def test_the_prior_embeds_and_rebuilds_what_the_subgoals_stand_for():
    args = make_omg_args(obs_is_state=True)
    am = OMGAM(make_scheme(args)[0], args)
    states = th.randn(5, args.state_shape)
    prior = am.vae.encode(states)
    assert prior.mu.shape == prior.log_var.shape == (5, args.omg_subgoal_dim)
    assert am.vae.decode(prior.mu).shape == states.shape
