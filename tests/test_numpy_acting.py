"""Acting by NumPy: the same Q-values, hidden states and choices as the controllers' `forward`, on the same weights."""

import numpy as np
import pytest
import torch as th
from components.fold import FoldedBatch

from components.action_selectors import REGISTRY as SELECTORS
from controllers.basic_controller import BasicMAC
from controllers.om_controller import MultiModuleMAC
from modules.agents import REGISTRY as AGENTS
from modules.agents.rnn_agent import RNNAgent
from modules.am import REGISTRY as AGENT_MODELS
from modules.am.base_am import BaseAM
from tests.builders import make_args, make_batch, make_omg_args, make_scheme
from utils import numpy_layers

WHOLE, SOME = slice(None), np.array([0, 2])
FLAGS = [{}, {"dueling": True}, {"obs_last_action": False}, {"obs_agent_id": False}]
MODEL_FLAGS = [{}, {"obs_is_state": True}, {"omg_opponent_actions": True}, {"omg_supervised": True}]
CASES = [make_args(**flags) for flags in FLAGS]
CASES += [make_omg_args(am_model=name, **flags) for name in AGENT_MODELS for flags in MODEL_FLAGS]


class Recorder:
    """Stands in for the selector: keeps Q-values, and takes the first available action."""

    def __init__(self):
        self.q = []

    def select_rows(self, values, avail_actions, t_env, test_mode):
        self.q.append(th.from_numpy(values.copy()))
        return avail_actions.argmax(-1)


def make_mac(args, folds):
    th.manual_seed(0)
    scheme, groups, _ = make_scheme(args)
    return (MultiModuleMAC if hasattr(args, "am_model") else BasicMAC)(scheme, {"agents": 1} if folds else groups, args)


def folded(batch, ts=WHOLE):
    n = batch.groups["agents"]
    return FoldedBatch(batch, th.arange(batch.batch_size).repeat_interleave(n), th.arange(n).repeat(3), ts)


@pytest.mark.parametrize("folds", [False, True])
@pytest.mark.parametrize("args", CASES)
def test_q_values_are_those_of_forward_also_where_some_episodes_are_over(args, folds):
    batch = make_batch(args, lengths=[8, 8, 8])
    batch = folded(batch) if folds else batch
    mac = make_mac(args, folds)
    mac.begin(batch.batch_size)
    recorder = mac._acting.selector = Recorder()
    for t in range(6):
        mac.select_actions(batch, t, t_env=0, bs=SOME if t > 3 else WHOLE, test_mode=True)
    mac.init_hidden(batch.batch_size)
    for t in range(6):
        with th.no_grad():
            q = mac.forward(batch, t, bs=SOME if t > 3 else WHOLE, test_mode=True)
        assert th.allclose(recorder.q[t], q.flatten(0, 1), atol=1e-5), t


def test_many_rows_are_computed_like_few(monkeypatch):
    args = make_omg_args(dueling=True)
    batch, mac, q = make_batch(args, lengths=[8, 8]), make_mac(args, False), []
    for many_rows in (10**6, 1):
        monkeypatch.setattr(numpy_layers, "MANY_ROWS", many_rows)
        mac.begin(2)
        recorder = mac._acting.selector = Recorder()
        for t in range(4):
            mac.select_actions(batch, t, t_env=0, test_mode=True)
        q.append(th.stack(recorder.q))
    assert th.allclose(*q, atol=1e-5) and not th.equal(*q)


def test_it_follows_the_weights_of_a_learner_and_of_a_checkpoint():
    args = make_omg_args()
    batch, mac = make_batch(args, lengths=[8]), make_mac(args, False)

    def q_at_the_start():
        mac.begin(1)
        recorder = mac._acting.selector = Recorder()
        mac.select_actions(batch, 0, t_env=0, test_mode=True)
        return recorder.q[0]

    first = q_at_the_start()
    mac.load_state_dict({key: {n: 2 * v for n, v in part.items()} for key, part in mac.state_dict().items()})
    loaded = q_at_the_start()
    optimiser = th.optim.SGD(mac.parameters(), lr=0.1)
    mac.unroll(batch).sum().backward()
    optimiser.step()
    learned = q_at_the_start()
    assert not th.allclose(first, loaded) and not th.allclose(loaded, learned)
    mac.init_hidden(1)
    assert th.allclose(learned, mac.forward(batch, 0, test_mode=True).flatten(0, 1), atol=1e-5)


def test_subgoals_are_drawn_while_training():
    args = make_omg_args()
    batch, mac = make_batch(args, lengths=[8]), make_mac(args, False)
    q = []
    for test_mode in (True, True, False, False):
        mac.begin(1)
        recorder = mac._acting.selector = Recorder()
        mac.select_actions(batch, 0, t_env=0, test_mode=test_mode)
        q.append(recorder.q[0])
    assert th.equal(q[0], q[1]) and not th.allclose(q[2], q[3]) and not th.allclose(q[0], q[2])


@pytest.mark.parametrize(
    "args",
    [
        make_args(agent="idv_rnn"),
        make_args(agent="ff"),
        make_args(agent_output_type="pi_logits", action_selector="multinomial"),
        make_args(action_selector="multinomial"),
    ],
)
def test_what_numpy_does_not_compute_acts_by_forward(args):
    batch, mac = make_batch(args, lengths=[8, 8]), make_mac(args, False)
    mac.begin(2)
    before = mac.hidden_states
    assert mac.select_actions(batch, 0, t_env=0).shape == (2, 3)
    assert mac._acting is None
    assert mac.args.agent == "ff" or not th.equal(before, mac.hidden_states)


def test_a_class_that_changes_what_torch_computes_acts_by_torch(monkeypatch):
    class Agent(RNNAgent):
        def forward(self, inputs, hidden_state):
            return super().forward(inputs, th.zeros_like(hidden_state))

    class Model(BaseAM):
        def features(self, encoded):
            return -super().features(encoded)

    class Controller(MultiModuleMAC):
        def build_inputs(self, ep_batch, bs=WHOLE, ts=WHOLE):
            return -super().build_inputs(ep_batch, bs, ts)

    monkeypatch.setitem(AGENTS, "changed", Agent)
    monkeypatch.setitem(AGENT_MODELS, "changed", Model)
    scheme, groups, _ = make_scheme(make_args())
    made = [MultiModuleMAC(scheme, groups, make_omg_args(am_model=name)) for name in ("base", "changed")]
    made += [MultiModuleMAC(scheme, groups, make_omg_args(agent="changed", am_model="base"))]
    made += [Controller(scheme, groups, make_omg_args(am_model="base"))]
    for mac in made:
        mac.begin(2)
    assert [mac._acting is not None for mac in made] == [True, False, False, False]


def test_a_learner_that_steps_through_forward_after_an_episode_gets_gradients():
    args = make_args()
    batch, mac = make_batch(args, lengths=[8]), make_mac(args, False)
    mac.begin(1)
    mac.select_actions(batch, 0, t_env=0)
    mac.init_hidden(1)
    mac.forward(batch, 0).sum().backward()
    assert mac.agent.fc1.weight.grad is not None


def test_rows_are_selected_like_tensors():
    args = make_args(epsilon_start=0.6, epsilon_finish=0.0, epsilon_anneal_time=100)
    selector = SELECTORS["epsilon_greedy"](args)
    q = np.tile(np.array([5, -3, 9, -1], np.float32), (8000, 1))
    avail = np.tile(np.array([1, 1, 0, 1], np.uint8), (8000, 1))
    chosen = selector.select_rows(q, avail, t_env=50, test_mode=False)
    assert selector.epsilon == pytest.approx(0.3)
    assert (np.bincount(chosen, minlength=4) / 8000).tolist() == pytest.approx([0.8, 0.1, 0.0, 0.1], abs=0.03)
    assert (selector.select_rows(q, avail, t_env=90, test_mode=True) == 0).all()
    assert selector.epsilon == pytest.approx(0.3)


@pytest.mark.parametrize("ts", [WHOLE, slice(2, 4)])
def test_arrays_of_a_fold_are_its_fields(ts):
    batch = make_batch(make_args(), lengths=[8, 3, 5])
    fold = folded(batch, ts)
    for key in fold.scheme:
        if key != "actions_onehot":
            assert np.array_equal(fold.array(key), fold[key].numpy()), key
            assert fold[key].shape[:2] == ((9, 1) if key == "seat" else (9, fold.max_seq_length)), key
