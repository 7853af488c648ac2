"""Agent networks: every registered one keeps the family's rules; `unroll` is `forward`, step by step."""

import pytest
import torch as th
import torch.nn.functional as F

from modules.agents import REGISTRY
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
    single_q, single_h = agent(th.zeros(1, INPUTS), agent.init_hidden())
    assert single_q.shape == (1, args.n_actions) and single_h.shape == (1, args.rnn_hidden_dim)


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
