"""Agent networks: every registered one keeps the family's rules. `test_fast_paths.py` has their faster forms."""

import pytest
import torch as th
import torch.nn.functional as F

from modules.agents import REGISTRY
from modules.agents.ff_agent import FFAgent
from modules.agents.idv_rnn_agent import IdvRNNAgent
from modules.agents.rnn_agent import RNNAgent
from modules.initial import orthogonal_
from modules.unroll import step
from tests.builders import golden_case, golden_weights, make_args, unrolled

INPUTS = 9


@pytest.fixture(params=[False, True], ids=["plain", "dueling"])
def args(request):
    return make_args(dueling=request.param)


def whole(agent, inputs):
    """Values and hidden states of episodes without padding, of inputs [b, T, agent, in]."""
    return unrolled(agent, inputs, th.ones(*inputs.shape[:2], 1))


@pytest.mark.parametrize("name", list(REGISTRY))
def test_contract_of_one_step(name, args):
    agent = REGISTRY[name](INPUTS, args)
    assert agent.init_hidden().shape == (1, args.rnn_hidden_dim)
    for leading in ((4, 3), (2, 4, 3)):
        q, h = step(agent, th.randn(*leading, INPUTS), agent.init_hidden().expand(*leading, -1))
        assert q.shape == (*leading, args.n_actions) and h.shape == (*leading, args.rnn_hidden_dim)


@pytest.mark.parametrize("name", list(REGISTRY))
def test_one_step_of_an_unroll_does_not_see_the_future(name, args):
    agent, inputs = REGISTRY[name](INPUTS, args), th.randn(2, 6, 3, INPUTS)
    later = inputs.clone()
    later[:, 4:] = 99
    assert th.equal(whole(agent, inputs)[0][:, :4], whole(agent, later)[0][:, :4])


def test_without_memory_every_step_is_like_the_first_of_the_recurrent_network(args):
    agent, recurrent = FFAgent(INPUTS, args), RNNAgent(INPUTS, args)
    agent.load_state_dict(recurrent.state_dict())
    inputs = th.randn(4, 6, 3, INPUTS)
    firsts = th.cat([whole(recurrent, inputs[:, t : t + 1])[0] for t in range(6)], 1)
    assert th.allclose(whole(agent, inputs)[0], firsts, atol=1e-6)
    assert th.allclose(step(agent, inputs, th.randn(4, 6, 3, args.rnn_hidden_dim))[0], firsts, atol=1e-6)
    assert not th.allclose(whole(recurrent, inputs)[0], firsts, atol=1e-3)


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
    filled = (th.arange(5) < th.tensor([[4], [1], [2]])).unsqueeze(-1)
    inputs = th.randn(3, 5, 3, INPUTS)
    got = unrolled(together, inputs, filled)
    each = [unrolled(agent, inputs[:, :, i : i + 1], filled) for i, agent in enumerate(alone)]
    expected = [th.cat(parts, 2) for parts in zip(*each, strict=True)]
    for q, h in (got, expected):
        (q.square().mean() + h.sin().mean()).backward()
    assert all(th.allclose(*pair, atol=1e-6) for pair in zip(got, expected, strict=True))
    for name, parameter in together.named_parameters():
        expected = th.stack([agent.get_parameter(name).grad for agent in alone])
        assert expected.abs().max() > 0 and th.allclose(parameter.grad, expected, rtol=1e-5, atol=1e-6), name


def test_individual_networks_begin_different_from_each_other(args):
    for name, parameter in IdvRNNAgent(INPUTS, args).named_parameters():
        assert not th.isclose(parameter[0], parameter[1]).any(), name


@pytest.mark.parametrize("name", list(REGISTRY))
def test_orthogonal_weights_keep_lengths_up_to_their_gain_and_biases_are_zero(name):
    agent = REGISTRY[name](INPUTS, make_args())
    orthogonal_(agent, head_gain=0.01)
    gains = {"fc1": 2**0.5, "fc_h": 2**0.5, "rnn": 1.0, "fc2": 0.01}
    for key, parameter in agent.named_parameters():
        layer, _, kind = key.partition(".")
        if layer == "norm":
            continue
        if "bias" in kind:
            assert not parameter.any(), key
            continue
        for weight in parameter if parameter.dim() == 3 else [parameter]:
            short = weight if weight.shape[0] <= weight.shape[1] else weight.t()
            assert th.allclose(short @ short.t(), gains[layer] ** 2 * th.eye(len(short)), atol=1e-5), key
