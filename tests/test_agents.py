"""Agent networks: every registered one keeps the family's rules; `unroll` is `forward`, step by step."""

import pytest
import torch as th
import torch.nn.functional as F

from modules.agents import REGISTRY
from modules.agents.ff_agent import FFAgent
from modules.agents.idv_rnn_agent import IdvRNNAgent
from modules.agents.rnn_agent import RNNAgent
from tests.builders import golden_case, golden_weights, make_args

INPUTS = 9


@pytest.fixture(params=[False, True], ids=["plain", "dueling"])
def args(request):
    return make_args(dueling=request.param)


@pytest.mark.parametrize("name", list(REGISTRY))
def test_contract_of_one_step(name, args):
    agent = REGISTRY[name](INPUTS, args)
    assert agent.init_hidden().shape == (1, args.rnn_hidden_dim)
    q, h = agent(th.randn(4, 3, INPUTS), agent.init_hidden().expand(4, 3, -1))
    assert q.shape == (4, 3, args.n_actions) and h.shape == (4, 3, args.rnn_hidden_dim)
    flat_q, flat_h = agent(th.zeros(3, INPUTS), agent.init_hidden().expand(3, -1))
    assert flat_q.shape == (3, args.n_actions) and flat_h.shape == (3, args.rnn_hidden_dim)


@pytest.mark.parametrize("name", list(REGISTRY))
@pytest.mark.parametrize("starts_from_zeros", [True, False])
def test_unroll_equals_stacked_forward_in_values_and_gradients(name, args, starts_from_zeros):
    agent = REGISTRY[name](INPUTS, args)
    inputs = th.randn(6, 12, INPUTS)
    hidden = None if starts_from_zeros else th.randn(6, args.rnn_hidden_dim)
    results = []
    for unroll in (agent.unroll, agent.unroll_reference):
        agent.zero_grad()
        q, h = unroll(inputs, hidden)
        assert q.shape == (6, 12, args.n_actions) and h.shape == (6, 12, args.rnn_hidden_dim)
        (q.square().mean() + h.sin().mean()).backward()
        results.append([q, h, *(parameter.grad.clone() for parameter in agent.parameters())])
    for got, expected in zip(*results, strict=True):
        assert th.allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_without_memory_every_step_is_like_the_first_of_the_recurrent_network(args):
    agent, recurrent = FFAgent(INPUTS, args), RNNAgent(INPUTS, args)
    agent.load_state_dict(recurrent.state_dict())
    inputs = th.randn(4, 6, INPUTS)
    firsts = th.stack([recurrent.unroll(inputs[:, t : t + 1])[0][:, 0] for t in range(6)], 1)
    assert th.allclose(agent.unroll(inputs, th.randn(4, args.rnn_hidden_dim))[0], firsts, atol=1e-6)
    assert not th.allclose(recurrent.unroll(inputs)[0], firsts, atol=1e-3)


def test_one_step_of_an_unroll_does_not_see_the_future(args):
    agent = RNNAgent(INPUTS, args)
    inputs = th.randn(2, 6, INPUTS)
    later = inputs.clone()
    later[:, 4:] = 99
    assert th.equal(agent.unroll(inputs)[0][:, :4], agent.unroll(later)[0][:, :4])


def test_parameters_have_pymarls_names_and_pymarls_weights_load():
    args, _, arrays = golden_case("iql")
    weights = golden_weights(arrays, "before/agent/")
    agent = RNNAgent(weights["fc1.weight"].shape[1], args)
    assert list(agent.state_dict()) == list(weights)
    agent.load_state_dict(weights)


def test_the_dueling_head_is_a_value_and_centred_advantages():
    agent = RNNAgent(INPUTS, make_args(dueling=True))
    inputs = th.randn(4, INPUTS)
    q, h = agent(inputs, agent.init_hidden().expand(4, -1))
    assert th.allclose(q.mean(-1, keepdim=True), agent.fc_v(h), atol=1e-6)
    advantage = F.linear(h, agent.fc2.weight, agent.fc2.bias)
    assert th.equal(q.argmax(-1), advantage.argmax(-1))
    assert "fc_v.weight" in agent.state_dict()


def test_individual_networks_equal_separate_ones_in_values_and_gradients(args):
    together = IdvRNNAgent(INPUTS, args)
    alone = [RNNAgent(INPUTS, args) for _ in range(3)]
    for i, agent in enumerate(alone):
        agent.load_state_dict({name: value[i] for name, value in together.state_dict().items()})
    sizes = [4, 4, 2, 1]  # of episodes that still run
    rows, hidden = th.randn(sum(sizes), 3, INPUTS), th.randn(4, 3, args.rnn_hidden_dim)
    q, h = together.unroll_packed(rows.flatten(0, 1), [3 * size for size in sizes], hidden.flatten(0, 1))
    step_q, step_h = together(rows[:4], hidden)
    (q.square().mean() + h.sin().mean()).backward()

    each = [agent.unroll_packed(rows[:, i], sizes, hidden[:, i]) for i, agent in enumerate(alone)]
    q_alone, h_alone = (th.stack(outputs, 1) for outputs in zip(*each, strict=True))
    (q_alone.square().mean() + h_alone.sin().mean()).backward()
    assert th.allclose(q.view_as(q_alone), q_alone, atol=1e-6) and th.allclose(h.view_as(h_alone), h_alone, atol=1e-6)
    assert th.allclose(step_q, q_alone[:4], atol=1e-6) and th.allclose(step_h, h_alone[:4], atol=1e-6)
    for name, parameter in together.named_parameters():
        expected = th.stack([agent.get_parameter(name).grad for agent in alone])
        assert expected.abs().max() > 0 and th.allclose(parameter.grad, expected, rtol=1e-5, atol=1e-6), name


def test_individual_networks_begin_different_from_each_other(args):
    for name, parameter in IdvRNNAgent(INPUTS, args).named_parameters():
        assert not th.isclose(parameter[0], parameter[1]).any(), name
