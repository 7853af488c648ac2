"""The basic controller: inputs, hidden states, rollouts without graphs, weights."""

import pytest
import torch as th

from controllers.basic_controller import BasicMAC
from modules.agents import REGISTRY as AGENTS
from tests import builders
from tests.builders import act, make_args, make_batch

LENGTHS = [8, 5, 3, 8]


def make_mac(**overrides) -> BasicMAC:
    return builders.make_mac(make_args(**overrides))


@pytest.fixture
def batch():
    return make_batch(make_args(), LENGTHS, ended=[False, False, True, True])


OUTPUTS = [
    dict(agent_output_type="q"),
    dict(agent_output_type="q", agent="idv_rnn"),
    dict(agent_output_type="pi_logits", action_selector="multinomial", mask_before_softmax=True),
    dict(agent_output_type="pi_logits", action_selector="multinomial", mask_before_softmax=False),
]


@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("obs_last_action", [True, False])
@pytest.mark.parametrize("obs_agent_id", [True, False])
@pytest.mark.parametrize("dueling", [True, False])
def test_unroll_equals_stacked_forward(batch, outputs, obs_last_action, obs_agent_id, dueling):
    mac = make_mac(obs_last_action=obs_last_action, obs_agent_id=obs_agent_id, dueling=dueling, **outputs)
    stacked = act(mac, batch, test_mode=False)
    assert stacked.shape == (4, 9, 3, 5)
    filled = batch["filled"].squeeze(-1).bool()
    assert th.allclose(mac.unroll(batch)[filled], stacked[filled], atol=1e-6)


def test_q_values_of_the_padding_are_not_computed(batch):
    q = make_mac().unroll(batch)
    assert ((q != 0).any(-1).any(-1) == batch["filled"].squeeze(-1).bool()).all()


def test_a_batch_of_one_is_a_slice_of_a_batch_of_many(batch):
    mac = make_mac()
    assert th.allclose(mac.unroll(batch[2]), mac.unroll(batch)[2:3], atol=1e-6)


def test_inputs_are_observation_last_action_and_id(batch):
    inputs = make_mac().build_inputs(batch)
    assert inputs.shape == (4, 9, 3, 6 + 5 + 3)
    obs, last_action, agent_id = inputs.split([6, 5, 3], dim=-1)
    assert th.equal(obs, batch["obs"])
    assert last_action[:, 0].abs().sum() == 0
    assert th.equal(last_action[:, 1:], batch["actions_onehot"][:, :-1])
    assert th.equal(agent_id, th.eye(3).expand(4, 9, 3, 3))


@pytest.mark.parametrize("ts", [slice(0, 1), slice(1, 2), slice(3, 7), slice(8, 9), slice(0, 9)])
@pytest.mark.parametrize("bs", [slice(None), [3, 1], slice(1, 2)])
def test_inputs_of_any_steps_and_episodes_are_a_slice_of_all(batch, bs, ts):
    mac = make_mac()
    assert th.equal(mac.build_inputs(batch, bs, ts), mac.build_inputs(batch)[bs, ts])


def test_only_the_named_episodes_are_computed_and_remembered(batch):
    mac = make_mac()
    mac.init_hidden(4)
    mac.forward(batch, 0)
    before = mac.hidden_states.clone()
    rows = []
    handle = mac.agent.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape[0]))
    q = mac.forward(batch, 1, bs=[3, 1])
    handle.remove()
    assert rows == [2 * 3] and q.shape == (2, 3, 5)
    assert th.equal(mac.hidden_states[[0, 2]], before[[0, 2]])
    assert not th.isclose(mac.hidden_states[[1, 3]], before[[1, 3]]).all(-1).any()

    mac.hidden_states = before
    assert th.allclose(mac.forward(batch, 1)[[3, 1]], q, atol=1e-6)


def test_rollouts_record_no_graph_and_their_hidden_states_can_be_trained_on(batch):
    mac = make_mac()
    mac.init_hidden(4)
    for t in range(3):
        actions = mac.select_actions(batch, t, t_env=0, bs=[0, 2])
        assert actions.shape == (2, 3) and not mac.hidden_states.requires_grad
    mac.forward(batch, 3).sum().backward()
    assert all(parameter.grad is not None for parameter in mac.parameters())


@pytest.mark.parametrize("agent", list(AGENTS))
def test_acting_sees_no_state_and_nothing_that_others_saw_and_did(batch, agent):
    mac = make_mac(agent=agent)
    th.nn.init.normal_(mac.agent.fc2.weight)
    for seat in range(3):
        garbled = batch[:]
        the_others = [other for other in range(3) if other != seat]
        for key, value in (("obs", 1e3), ("actions", 3)):
            garbled.data.transition_data[key] = batch[key].clone()
            garbled[key][:, :, the_others] = value
        garbled.data.transition_data["state"] = th.full_like(batch["state"], 1e3)
        chosen = []
        for given in (batch, garbled):
            mac.init_hidden(len(LENGTHS))
            chosen.append(th.stack([mac.select_actions(given, t, 0, test_mode=True) for t in range(4)], 1))
        assert th.equal(chosen[0][:, :, seat], chosen[1][:, :, seat])
        assert not th.equal(chosen[0][:, :, the_others], chosen[1][:, :, the_others])


def test_greedy_actions_are_the_best_available_ones(batch):
    mac = make_mac()
    q = mac.unroll(batch).masked_fill(batch["avail_actions"] == 0, -th.inf)
    mac.init_hidden(4)
    for t in range(4):
        assert th.equal(mac.select_actions(batch, t, t_env=0, test_mode=True), q[:, t].argmax(-1))


def test_a_step_without_init_hidden_says_so(batch):
    with pytest.raises(RuntimeError, match="call init_hidden"):
        make_mac().forward(batch, 0)


@pytest.mark.parametrize("masks", [True, False])
def test_a_policy_sums_to_one_and_keeps_its_share_of_exploration(batch, masks):
    mac = make_mac(
        agent_output_type="pi_logits", action_selector="multinomial", mask_before_softmax=masks, epsilon_start=0.4
    )
    played = batch["filled"].squeeze(-1).bool()
    policy, avail = mac.unroll(batch)[played], batch["avail_actions"][played] > 0
    assert th.allclose(policy.sum(-1), th.ones(policy.shape[:-1]), atol=1e-5)
    n_actions = avail.sum(-1, keepdim=True) if masks else 5
    floor = (0.4 / n_actions * th.ones(5)).expand_as(policy)
    assert (policy >= floor - 1e-6)[avail].all()
    assert (policy[~avail] == 0).all() == masks
    plain = mac.unroll(batch, test_mode=True)[played]
    assert th.allclose((0.6 * plain + floor)[avail], policy[avail], atol=1e-6)


def test_weights_survive_saving(tmp_path, batch):
    mac, other = make_mac(), make_mac()
    assert not th.allclose(mac.unroll(batch), other.unroll(batch))
    mac.save_models(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["agent.th"]
    other.load_models(tmp_path)
    assert th.equal(mac.unroll(batch), other.unroll(batch))


def test_load_state_copies(batch):
    mac, other = make_mac(), make_mac()
    other.load_state(mac)
    expected = mac.unroll(batch).detach()
    with th.no_grad():
        mac.agent.fc2.bias.add_(1)
    assert th.equal(other.unroll(batch), expected)


def test_missing_weights_name_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights at .*agent.th"):
        make_mac().load_models(tmp_path)


def test_an_unknown_output_type_is_refused():
    with pytest.raises(ValueError, match="'q' or 'pi_logits', not 'v'"):
        make_mac(agent_output_type="v")
