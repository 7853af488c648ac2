"""Every form in FAST_PATHS against the plain one in `modules/unroll.py`, on the same weights; and who gets one."""

import pytest
import torch as th

from components.packed_steps import PackedSteps
from modules import numpy_layers
from modules.agents.rnn_agent import RNNAgent
from modules.am import REGISTRY as AGENT_MODELS
from modules.fast_paths import FAST_PATHS, NO_FAST_PATHS
from modules.unroll import acting_step, step, step_candidates, step_from, unroll
from tests.builders import act, make_args, make_batch, make_mac, make_omg_args, make_scheme, unrolled

INPUTS, FEATURES = 6, 4
OPTIONS = [
    {},
    {"dueling": True},
    {"obs_is_state": True},
    {"omg_opponent_actions": True},
    {"omg_supervised": True},
    {"obs_is_state": True, "omg_opponent_actions": True, "omg_supervised": True},
]
FORMS = [(kind, form) for kind, paths in FAST_PATHS.items() for form in paths._fields if getattr(paths, form)]


def forms(name):
    """Over all classes that have a form of this name, with all options."""
    cases = [(kind, options) for kind, form in FORMS if form == name for options in OPTIONS]
    return pytest.mark.parametrize(
        ("kind", "options"), cases, ids=lambda part: part.__name__ if isinstance(part, type) else "-".join(part)
    )


def made(kind, options):
    """A network, and inputs [b, T, agent, in] of four episodes with `filled` [b, T, 1]."""
    args = make_omg_args(**options)
    batch = make_batch(args, [8, 2, 5, 5], [True, False, True, False])
    if kind in [AGENT_MODELS[name] for name in AGENT_MODELS]:
        network = kind(make_scheme(args)[0], args)
        return network, network.build_inputs(batch), batch["filled"]
    return kind(INPUTS + FEATURES, args), th.randn(4, 9, 3, INPUTS + FEATURES), batch["filled"]


def by_both(kind, form, compute):
    """What `compute` gives by the fast form, which is really called, and without any."""
    calls, fast = [], getattr(FAST_PATHS[kind], form)
    with pytest.MonkeyPatch.context() as patch:
        watched = FAST_PATHS[kind]._replace(**{form: lambda *given: calls.append(given) or fast(*given)})
        patch.setitem(FAST_PATHS, kind, watched)
        by_fast = compute()
        assert calls
        patch.delitem(FAST_PATHS, kind)
        return by_fast, compute()


def close(first, second, atol=1e-6):
    return all(th.allclose(got, expected, rtol=1e-5, atol=atol) for got, expected in zip(first, second, strict=True))


def test_there_is_something_to_compare():
    assert len(FORMS) >= 9 and (RNNAgent, "step_candidates") in FORMS


@forms("unroll")
def test_episodes_of_different_lengths_in_values_and_gradients(kind, options):
    network, inputs, filled = made(kind, options)
    steps = PackedSteps(filled)
    inputs.requires_grad_()

    def compute():
        network.zero_grad()
        inputs.grad = None
        outputs, hidden = unrolled(network, inputs, filled)
        assert th.equal(unroll(network, steps.pack(inputs), steps), outputs)
        finite = outputs.masked_fill(outputs.isinf(), 0)  # the log-variance of a subgoal without spread
        (finite.square().mean() + hidden.sin().mean()).backward()
        learned = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        assert inputs.grad.any() and learned
        return [outputs, hidden, inputs.grad, *learned]

    by_fast, expected = by_both(kind, "unroll", compute)
    assert close(by_fast, expected)
    assert (by_fast[0][filled.squeeze(-1) == 0] == 0).all()


@forms("unroll")
def test_one_step_each_from_given_hidden_states(kind, options):
    network, inputs, filled = made(kind, options)
    hidden, steps = th.randn(4, 9, 3, network.init_hidden().shape[-1]), PackedSteps(filled)
    by_fast, expected = by_both(kind, "unroll", lambda: step_from(network, steps.pack(inputs), hidden, steps))
    assert close([by_fast], [expected]) and by_fast.any()
    q, _ = step(network, inputs, hidden)
    is_filled = filled.squeeze(-1) > 0
    assert close([q[is_filled]], [expected[is_filled]])


@pytest.mark.parametrize("many_rows", [1, 10**6])
@forms("numpy_step")
def test_acting_in_numpy_with_few_rows_and_with_many(kind, options, many_rows, monkeypatch):
    monkeypatch.setattr(numpy_layers, "MANY_ROWS", many_rows)
    network, inputs, _ = made(kind, options)

    def compute():
        one_step, hidden, results = acting_step(network), network.init_hidden().expand(4, 3, -1), []
        for t in range(4):
            outputs, hidden = one_step(inputs[:, t], hidden)
            assert not outputs.requires_grad and outputs.shape[:2] == hidden.shape[:2] == (4, 3)
            results += [outputs, hidden]
        return results

    assert close(*by_both(kind, "numpy_step", compute), atol=1e-5)


@forms("step_candidates")
def test_one_step_with_each_of_many_features(kind, options):
    network, inputs, filled = made(kind, options)
    observed, features = inputs.split([INPUTS, FEATURES], -1)
    ahead, hidden = th.randint(2, (4, 9, 5)), th.randn(4, 9, 3, network.init_hidden().shape[-1])
    lengths = th.tensor([[8, 3, 9], [2, 2, 2], [5, 1, 4], [5, 5, 0]])
    seats = PackedSteps((th.arange(9).view(1, -1, 1) < lengths.unsqueeze(1)).to(th.uint8))
    given = (network, observed, features, ahead, hidden, seats)
    by_fast, expected = by_both(kind, "step_candidates", lambda: seats.unpack(step_candidates(*given).unsqueeze(1)))
    assert by_fast.shape == (4, 9, 3, 5, 5) and close([by_fast], [expected], atol=1e-5)
    alone, _ = step(network, th.cat([observed[0, 2], features[0, ahead[0, 2, 2]]], -1), hidden[0, 2])
    assert close([expected[0, 2, :, 2]], [alone])


# --- who gets one


class MyAgent(RNNAgent):
    """Changes nothing."""


def refuse(*_):
    raise AssertionError("this form is another class's")


def test_a_subclass_inherits_none_and_gets_them_by_one_line(monkeypatch):
    agent, inputs, filled = made(MyAgent, {})
    assert type(agent) not in FAST_PATHS
    observed, features = inputs.split([INPUTS, FEATURES], -1)
    hidden, ahead = th.zeros(4, 9, 3, agent.init_hidden().shape[-1]), th.zeros(4, 9, 2, dtype=th.long)
    steps = PackedSteps(filled)
    uses = [
        lambda: unroll(agent, steps.pack(inputs), steps),
        lambda: step_from(agent, steps.pack(inputs), hidden, steps),
        lambda: acting_step(agent)(inputs[:, 0], hidden[:, 0])[0],
        lambda: step_candidates(agent, observed, features, ahead, hidden, PackedSteps(filled.expand(-1, -1, 3))),
    ]
    with monkeypatch.context() as patch:
        patch.setitem(
            FAST_PATHS, RNNAgent, FAST_PATHS[RNNAgent]._replace(**dict.fromkeys(NO_FAST_PATHS._fields, refuse))
        )
        plain = [use() for use in uses]
        patch.setitem(FAST_PATHS, MyAgent, FAST_PATHS[RNNAgent])
        for use in uses:
            with pytest.raises(AssertionError, match="another class's"):
                use()
    monkeypatch.setitem(FAST_PATHS, MyAgent, FAST_PATHS[RNNAgent])
    assert close([use() for use in uses], plain, atol=1e-5)


@pytest.mark.parametrize("args", [make_args(), make_omg_args(), make_omg_args(am_model="liam")])
def test_a_policy_acts_by_the_weights_that_it_has_when_episodes_begin(args):
    mac, batch = make_mac(args), make_batch(args, [8])
    first = act(mac, batch)
    parts = mac.state_dict() if "agent" in mac.state_dict() else {"": mac.state_dict()}
    doubled = {part: {name: 2 * value for name, value in state.items()} for part, state in parts.items()}
    mac.load_state_dict(doubled.get("", doubled))
    loaded = act(mac, batch)
    optimiser = th.optim.SGD(mac.parameters(), lr=0.1)
    mac.unroll(batch).sum().backward()
    optimiser.step()
    learned = act(mac, batch)
    assert not th.allclose(first, loaded) and not th.allclose(loaded, learned)
    assert th.allclose(learned[:, :8], mac.unroll(batch)[:, :8], atol=1e-5)
