"""The controller that acts on inferred subgoals; the agent models behind it are in `test_agent_models.py`."""

from types import SimpleNamespace

import pytest
import torch as th

from components.seats import every_seat
from modules.agents import REGISTRY as AGENTS
from modules.am import REGISTRY as AGENT_MODELS
from modules.am.omg_am import OMGAM
from modules.inputs import living
from modules.unroll import step
from tests.builders import act, make_batch, make_mac, make_omg_args, make_scheme
from utils.dict2namedtuple import convert
from utils.errors import UserError


@pytest.mark.parametrize("am_model", list(AGENT_MODELS))
@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"obs_is_state": True},
        {"omg_opponent_actions": True},
        {"omg_supervised": True},
        {"dueling": True},
        {"agent": "idv_rnn"},
        {"agent": "ff"},
    ],
)
def test_unroll_equals_acting_step_by_step_of_teams_and_of_single_seats(am_model, overrides):
    args = make_omg_args(am_model=am_model, **overrides)
    batch = make_batch(args, lengths=[8, 5, 3])
    mac = make_mac(args)
    filled = batch["filled"].bool().squeeze(-1)
    acted = act(mac, batch)
    assert th.allclose(mac.unroll(batch)[filled], acted[filled], atol=1e-6)
    if args.agent != "idv_rnn":
        of_one, seats = make_mac(args, n_seats=1), every_seat(batch)
        of_one.load_state(mac)
        filled = seats["filled"].bool().squeeze(-1)
        rows = acted.transpose(1, 2).flatten(0, 1).unsqueeze(2)
        assert th.allclose(act(of_one, seats), rows, atol=1e-5)
        assert th.allclose(of_one.unroll(seats)[filled], rows[filled], atol=1e-5)


def test_subgoals_are_drawn_in_training_and_are_the_means_in_tests():
    args = make_omg_args()
    batch = make_batch(args, lengths=[8])
    mac = make_mac(args)
    assert th.equal(act(mac, batch), act(mac, batch))
    assert not th.equal(act(mac, batch, test_mode=False), act(mac, batch, test_mode=False))


@pytest.mark.parametrize("am_model", ["liam", "omg"])
def test_features_may_be_taken_away_or_exchanged_in_tests_alone(am_model):
    args = make_omg_args(am_model=am_model, omg_policy_reads="mean")
    batch = make_batch(args, lengths=[8, 8])
    own = make_mac(args)
    inferred = own.am.features(own.infer(batch)[0])
    for name, features in (("zeros", th.zeros_like(inferred)), ("exchanged", inferred[[1, 0]])):
        other = make_mac(make_omg_args(am_model=am_model, omg_policy_reads="mean", am_in_tests=name))
        other.load_state(own)
        assert th.allclose(act(other, batch), own.unroll_with_hidden(batch, features)[0], atol=1e-5)
        assert th.allclose(act(other, batch, test_mode=False), act(own, batch), atol=1e-5)
        assert not th.allclose(act(other, batch), act(own, batch), atol=1e-3)


def test_in_a_population_features_are_exchanged_between_episodes_not_between_seats_of_one():
    args = make_omg_args(population={"iql": 1, "iql_omg": 2}, train_alg="iql_omg", omg_policy_reads="mean")
    batch = make_batch(args, lengths=[8, 8, 8, 8])  # two episodes with two seats each
    batch["avail_actions"][:] = 1  # all live
    own, other = make_mac(args), make_mac(SimpleNamespace(**vars(args) | {"am_in_tests": "exchanged"}))
    other.load_state(own)
    of_the_other = own.am.features(own.infer(batch)[0])[[2, 3, 0, 1]]
    assert th.allclose(act(other, batch), own.unroll_with_hidden(batch, of_the_other)[0], atol=1e-5)


def test_only_the_named_episodes_are_computed_and_move_on():
    args = make_omg_args()
    batch = make_batch(args, lengths=[8, 8, 8])
    mac = make_mac(args)
    whole = act(mac, batch)
    mac.init_hidden(3)
    mac.forward(batch, 0, test_mode=True)
    before = mac.hidden_states.clone(), mac.am_hidden_states.clone()
    q = mac.forward(batch, 1, bs=[0, 2], test_mode=True)
    assert th.allclose(q, whole[[0, 2], 1], atol=1e-6)
    assert th.equal(mac.hidden_states[1], before[0][1]) and th.equal(mac.am_hidden_states[1], before[1][1])
    assert not th.equal(mac.hidden_states[0], before[0][0])


@pytest.mark.parametrize("agent", list(AGENTS))
@th.no_grad()
def test_steps_on_given_features_are_those_of_the_network(agent):
    """With each of several subgoals at every step, and with this step's subgoal at the next one."""
    args = make_omg_args(dueling=True, agent=agent)
    mac, batch = make_mac(args), make_batch(args, [8, 8])
    features, hidden = th.randn(2, 9, 3, args.omg_subgoal_dim), th.randn(2, 9, 3, args.rnn_hidden_dim)
    inputs, ahead = mac.build_inputs(batch), th.randint(9, (2, 9, 5))
    together = living(batch, "cpu").unpack(mac.step_candidates(batch, features, ahead, hidden).unsqueeze(1))
    for k in range(5):
        tried = th.stack([features[b, ahead[b, :, k]] for b in range(2)])
        alone, _ = step(mac.agent, th.cat([inputs, tried], -1), hidden)
        assert th.allclose(together[:, :, :, k], alone, atol=1e-5)
    after, _ = step(mac.agent, th.cat([inputs[:, 1:], features[:, :-1]], -1), hidden[:, :-1])
    assert th.allclose(mac.step_from(batch, features[:, :-1], hidden[:, :-1], start=1), after, atol=1e-5)


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
    assert not th.allclose(act(mac, batch), act(other, batch))
    other.load_models(tmp_path)
    assert th.equal(act(mac, batch), act(other, batch))
    assert other.am.vae.is_trained


def test_a_prior_is_taken_over_alone(tmp_path):
    trained = make_mac(make_omg_args())
    trained.am.vae.is_trained.fill_(True)
    trained.save_models(tmp_path)
    mac = make_mac(convert(vars(make_omg_args(omg_prior_path=str(tmp_path)))))
    for name, value in trained.am.vae.state_dict().items():
        assert th.equal(mac.am.vae.state_dict()[name], value)  # is_trained among them
    assert not th.equal(mac.am.fc.weight, trained.am.fc.weight)
    assert not th.equal(mac.agent.fc1.weight, trained.agent.fc1.weight)
    with pytest.raises(UserError, match="vae.th"):
        make_mac(convert(vars(make_omg_args(omg_prior_path=str(tmp_path / "nowhere")))))


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
