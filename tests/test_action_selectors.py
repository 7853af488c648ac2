"""Action selectors."""

import pytest
import torch as th
from hypothesis import given
from hypothesis import strategies as st

from components.action_selectors import REGISTRY
from tests.builders import make_args


def frequencies(selector, outputs, avail, t_env, test_mode=False, draws=4000) -> th.Tensor:
    """How often each action is picked for one agent."""
    outputs, avail = th.tensor(outputs).expand(draws, 1, -1), th.tensor(avail).expand(draws, 1, -1)
    actions = selector.select_action(outputs, avail, t_env, test_mode)
    assert actions.shape == (draws, 1) and actions.dtype == th.long
    return th.bincount(actions.flatten(), minlength=outputs.shape[-1]) / draws


def test_epsilon_greedy_mixes_the_best_and_the_uniform_over_available_actions():
    args = make_args(epsilon_start=0.6, epsilon_finish=0.0, epsilon_anneal_time=100)
    selector = REGISTRY["epsilon_greedy"](args)
    got = frequencies(selector, [5.0, -3.0, 9.0, -1.0], [1, 1, 0, 1], t_env=50)
    assert selector.epsilon == pytest.approx(0.3)
    assert got.tolist() == pytest.approx([0.8, 0.1, 0.0, 0.1], abs=0.03)


def test_epsilon_greedy_is_greedy_when_testing_and_keeps_the_epsilon_of_training():
    selector = REGISTRY["epsilon_greedy"](make_args())
    assert frequencies(selector, [-5.0, -3.0, 9.0], [1, 1, 0], t_env=500, test_mode=True).tolist() == [0, 1, 0]
    assert selector.epsilon == 1.0


def test_multinomial_draws_from_the_policy_over_available_actions():
    selector = REGISTRY["multinomial"](make_args())
    got = frequencies(selector, [0.1, 0.3, 0.5, 0.1], [1, 1, 0, 1], t_env=0)
    assert got.tolist() == pytest.approx([0.2, 0.6, 0.0, 0.2], abs=0.03)


@pytest.mark.parametrize("test_greedy, best", [(True, 1.0), (False, 0.6)])
def test_multinomial_when_testing(test_greedy, best):
    selector = REGISTRY["multinomial"](make_args(test_greedy=test_greedy))
    got = frequencies(selector, [0.4, 0.6], [1, 1], t_env=0, test_mode=True)
    assert got[1].item() == pytest.approx(best, abs=0.03)


@pytest.mark.parametrize("test_mode", [False, True])
def test_multinomial_takes_an_available_action_even_where_all_probability_was_rounded_away(test_mode):
    got = frequencies(REGISTRY["multinomial"](make_args()), [1.0, 0.0, 0.0], [0, 0, 1], t_env=0, test_mode=test_mode)
    assert got.tolist() == [0, 0, 1]


@pytest.mark.parametrize("name", list(REGISTRY))
@pytest.mark.parametrize("test_mode", [False, True])
@given(data=st.data())
def test_an_unavailable_action_is_never_selected(name, test_mode, data):
    avail = th.tensor(data.draw(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=5)))
    avail[:, data.draw(st.integers(0, 3))] = True
    outputs = th.rand(1, *avail.shape)
    selector = REGISTRY[name](make_args())
    actions = selector.select_action(outputs, avail.unsqueeze(0).to(th.uint8), t_env=0, test_mode=test_mode)
    assert avail.gather(1, actions.T).all()


@pytest.mark.parametrize("name", list(REGISTRY))
def test_the_same_seed_selects_the_same_actions(name):
    selector, outputs, avail = REGISTRY[name](make_args()), th.rand(50, 2, 4), th.ones(50, 2, 4)
    picks = []
    for seed in (1, 1, 2):
        th.manual_seed(seed)
        picks.append(selector.select_action(outputs, avail, 0))
    assert th.equal(picks[0], picks[1]) and not th.equal(picks[0], picks[2])
