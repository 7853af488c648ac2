"""What a researcher changes in one place holds everywhere: each change acts by what it learns, in a small real run.

And what truly acts by one rule and learns by another is refused before anything is played.
"""

import pytest
import torch as th
import torch.nn.functional as F
from torch import nn

import main
import run
from components.action_selectors import REGISTRY as SELECTORS
from components.action_selectors import EpsilonGreedyActionSelector
from controllers import REGISTRY as CONTROLLERS
from controllers.basic_controller import ALL, BasicMAC
from controllers.om_controller import MultiModuleMAC
from learners import REGISTRY as LEARNERS
from learners.q_learner import QLearner
from modules.agents import REGISTRY as AGENTS
from modules.agents.rnn_agent import RNNAgent
from modules.am import REGISTRY as AGENT_MODELS
from modules.am.base_am import BaseAM
from modules.inputs import living
from modules.unroll import step
from tests.builders import act, acts_in, make_batch, make_mac, make_omg_args
from tests.test_run import built
from utils.errors import UserError

pytestmark = pytest.mark.slow


class OtherForward(RNNAgent):
    """Forgets half of what it knew, and adds what it sees."""

    def forward(self, inputs, hidden_state):
        x = th.tanh(self.fc1(inputs))
        h = self.rnn(x, 0.5 * hidden_state) + x
        return self.head(h), h


class OtherHead(RNNAgent):
    """Values between -5 and 5."""

    def head(self, h):
        return 5 * th.tanh(super().head(h))


class WithLayerNorm(RNNAgent):
    """A normalised hidden state."""

    def __init__(self, input_shape, args):
        super().__init__(input_shape, args)
        self.norm = nn.LayerNorm(args.rnn_hidden_dim)

    def forward(self, inputs, hidden_state):
        h = self.norm(self.rnn(F.relu(self.fc1(inputs)), hidden_state))
        return self.head(h), h


class PymarlStyle(nn.Module):
    """A network as a PyMARL user has it, which knows nothing of this project."""

    def __init__(self, input_shape, args):
        super().__init__()
        self.args = args
        self.inward = nn.Linear(input_shape, args.rnn_hidden_dim)
        self.memory = nn.GRUCell(args.rnn_hidden_dim, args.rnn_hidden_dim)
        self.outward = nn.Linear(args.rnn_hidden_dim, args.n_actions)

    def init_hidden(self):
        return self.inward.weight.new(1, self.args.rnn_hidden_dim).zero_()

    def forward(self, inputs, hidden_state):
        x = F.relu(self.inward(inputs))
        h_in = hidden_state.reshape(-1, self.args.rnn_hidden_dim)
        h = self.memory(x, h_in)
        return self.outward(h), h


class OtherFeatures(BaseAM):
    """An agent model whose policy reads logits."""

    def features(self, encoded, is_drawn=False, generator=None):
        return self.head(encoded)


class MoreInputs:
    """An input more, the squares of the observation."""

    def input_size(self, scheme):
        return super().input_size(scheme) + self.args.obs_shape

    def build_inputs(self, ep_batch, bs=ALL, ts=ALL):
        squares = ep_batch["obs"][bs, ts].to(self.device).square()
        return th.cat([squares, super().build_inputs(ep_batch, bs, ts)], -1)


class Basic(MoreInputs, BasicMAC):
    """For IQL and the like."""


class Modelling(MoreInputs, MultiModuleMAC):
    """For policies with an agent model."""


class Watched(EpsilonGreedyActionSelector):
    """The worst available action; counts how often it is asked."""

    asked = 0

    def select_action(self, agent_inputs, avail_actions, t_env, test_mode=False):
        type(self).asked += 1
        return super().select_action(-agent_inputs, avail_actions, t_env, test_mode=True)


CHANGES = {
    "forward": ("iql", AGENTS, "rnn", OtherForward),
    "forward_under_qmix": ("qmix", AGENTS, "rnn", OtherForward),
    "forward_under_qtran": ("qtran", AGENTS, "rnn", OtherForward),
    "forward_under_coma": ("coma", AGENTS, "rnn", OtherForward),
    "forward_under_liam": ("iql_liam", AGENTS, "rnn", OtherForward),
    "forward_under_omg": ("iql_omg", AGENTS, "rnn", OtherForward),
    "head": ("iql", AGENTS, "rnn", OtherHead),
    "head_under_omg": ("iql_omg", AGENTS, "rnn", OtherHead),
    "layer_norm": ("iql", AGENTS, "rnn", WithLayerNorm),
    "layer_norm_under_omg": ("iql_omg", AGENTS, "rnn", WithLayerNorm),
    "pymarls_style": ("iql", AGENTS, "rnn", PymarlStyle),
    "pymarls_style_under_qmix": ("qmix", AGENTS, "rnn", PymarlStyle),
    "pymarls_style_under_omg": ("iql_omg", AGENTS, "rnn", PymarlStyle),
    "inputs": ("iql", CONTROLLERS, "basic_mac", Basic),
    "inputs_under_am": ("iql_am", CONTROLLERS, "multi_module_mac", Modelling),
    "inputs_under_omg": ("iql_omg", CONTROLLERS, "multi_module_mac", Modelling),
    "features": ("iql_am", AGENT_MODELS, "base", OtherFeatures),
    "selection": ("iql", SELECTORS, "epsilon_greedy", Watched),
}


def put(monkeypatch, registry, name, kind):
    """Puts a class in another's place, so that every algorithm takes it; names stay in the order that messages have."""
    monkeypatch.setitem(registry._entries, name, kind)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_in_one_place_acts_by_what_it_learns(change, monkeypatch):
    alg, registry, name, kind = CHANGES[change]
    put(monkeypatch, registry, name, kind)
    Watched.asked = 0
    prior = {"omg_vae_pretrain_steps": 30} if alg == "iql_omg" else {}
    parts, args, logger = built(alg=alg, target_update_interval=20, **prior) if alg != "coma" else built(alg=alg)
    of_run = [type(part) for part in (parts.mac, parts.mac.action_selector, *parts.mac.networks().values())]
    assert kind in of_run
    batch = parts.runner.run()
    before = act(parts.mac, batch)
    parts.train()
    after, learned = act(parts.mac, batch), parts.mac.unroll(batch, test_mode=True)
    counts = acts_in(parts.mac, batch)
    assert th.allclose(after[counts], learned[counts], atol=1e-5)
    assert not th.allclose(after[counts], before[counts], atol=1e-4)
    played = parts.runner.run(test_mode=True)
    if kind is Watched:
        assert Watched.asked > 20  # in training and in tests
        values = parts.mac.unroll(played, test_mode=True).masked_fill(played["avail_actions"] == 0, th.inf)
        best = values.argmin(-1)
    else:
        best = act(parts.mac, played).masked_fill(played["avail_actions"] == 0, -th.inf).argmax(-1)
    steps = played["filled"].squeeze(-1)[:, 1:] > 0
    assert th.equal(best[:, :-1][steps], played["actions"].squeeze(-1)[:, :-1][steps])


@pytest.mark.parametrize("kind", [WithLayerNorm, OtherForward, OtherHead, PymarlStyle])
@th.no_grad()
def test_omg_tries_subgoals_by_the_networks_own_forward(kind, monkeypatch):
    """`step_candidates` equals one step after the other with each of the candidates."""
    put(monkeypatch, AGENTS, "rnn", kind)
    args = make_omg_args()
    mac, batch = make_mac(args), make_batch(args, [8, 3])
    features, ahead = th.randn(2, 9, 3, args.omg_subgoal_dim), th.randint(4, (2, 9, 3))
    hidden = th.randn(2, 9, 3, args.rnn_hidden_dim)
    seats, inputs = living(batch, "cpu"), mac.build_inputs(batch)
    values = seats.unpack(mac.step_candidates(batch, features, ahead, hidden).unsqueeze(1))
    lives = seats.filled > 0
    assert lives.sum() > 20
    for b, length in enumerate((8, 3)):
        for t in range(length + 1):
            for k in range(3):
                tried = th.cat([inputs[b, t], features[b, ahead[b, t, k]]], -1)
                alone = step(mac.agent, tried, hidden[b, t])[0]
                assert th.allclose(values[b, t, lives[b, t], k], alone[lives[b, t]], atol=1e-6)


# --- the command line


COMMAND = ("--env-config=goal_game", "with", "t_max=40", "batch_size=2", "use_tensorboard=False", "test_nepisode=2")


@pytest.mark.parametrize("alg", ["iql", "iql_omg"])
def test_a_network_in_pymarls_style_is_chosen_by_its_name(alg, monkeypatch, tmp_path):
    monkeypatch.setitem(AGENTS, "mine", PymarlStyle)
    given = (f"--config={alg}", *COMMAND, f"local_results_path={tmp_path}", "agent=mine", "save_model=True")
    assert main.main([*given, *(["omg_vae_pretrain_steps=10"] if alg == "iql_omg" else [])]) == 0
    (weights,) = tmp_path.glob("models/*/*/agent.th")
    assert "memory.weight_ih" in th.load(weights)


class OnlyForward(BasicMAC):
    """Acts by other values than it learns."""

    def forward(self, ep_batch, t, bs=ALL, test_mode=False):
        return -super().forward(ep_batch, t, bs, test_mode)


class OnlyUnroll(BasicMAC):
    """Learns other values than it acts by."""

    def unroll(self, ep_batch, test_mode=False):
        return 2 * super().unroll(ep_batch, test_mode)


@pytest.mark.parametrize("kind", [OnlyForward, OnlyUnroll])
def test_what_acts_by_other_values_than_it_learns_is_refused_in_a_sentence(kind, monkeypatch, tmp_path, capfd):
    monkeypatch.setitem(CONTROLLERS, "mine", kind)
    assert main.main(["--config=iql", *COMMAND, f"local_results_path={tmp_path}", "mac=mine"]) == 2
    sentence = capfd.readouterr().err.splitlines()[-1]
    assert f"the policy of {kind.__name__}, RNNAgent acts by other values than it learns, by up to " in sentence
    assert not list(tmp_path.glob("models/*"))


@pytest.mark.parametrize("method", ["forward", "head"])
def test_a_class_that_was_edited_in_its_file_is_not_computed_as_it_was_before(method, monkeypatch):
    """The entry in FAST_PATHS has the old equations."""
    monkeypatch.setattr(RNNAgent, method, getattr({"forward": OtherForward, "head": OtherTwice}[method], method))
    with pytest.raises(UserError, match="BasicMAC, RNNAgent acts by other .* entry in FAST_PATHS") as caught:
        built()
    assert "\n" not in str(caught.value)


class OtherTwice(RNNAgent):
    """A head without the class's own."""

    def head(self, h):
        return 2 * self.fc2(h)


def test_the_check_leaves_random_numbers_and_the_networks_mode_alone(monkeypatch):
    put(monkeypatch, AGENTS, "rnn", WithDropout)
    states = []
    for check in (run.check_policy, lambda *_: None):
        monkeypatch.setattr(run, "check_policy", check)
        th.manual_seed(3)
        parts, _, _ = built(agent="rnn")
        states.append((th.rand(1), parts.mac.agent.training))
    assert states[0] == states[1] and states[0][1]


class WithDropout(RNNAgent):
    """Draws in training mode."""

    def head(self, h):
        return F.dropout(super().head(h), training=self.training)


class Remembers(BasicMAC):
    """Writes down the value of each action that it takes."""

    @classmethod
    def fields(cls, args):
        return {"value_when_acting": {"vshape": (1,), "group": "agents"}}

    def select_actions(self, ep_batch, t_ep, t_env, bs=ALL, test_mode=False):
        q = self.forward(ep_batch, t_ep, bs, test_mode)
        actions = self.action_selector.select_action(q, ep_batch["avail_actions"][bs, t_ep], t_env, test_mode)
        ep_batch.update({"value_when_acting": q.gather(-1, actions.unsqueeze(-1))}, bs=bs, ts=t_ep)
        return actions


def test_a_controllers_own_field_reaches_the_learner(monkeypatch, tmp_path):
    put(monkeypatch, CONTROLLERS, "basic_mac", Remembers)
    seen = []

    class Reads(QLearner):
        def train(self, batch, t_env, episode_num):
            seen.append(batch["value_when_acting"][:, :-1].abs().sum() > 0)
            super().train(batch, t_env, episode_num)

    put(monkeypatch, LEARNERS, "q_learner", Reads)
    parts, _, _ = built(t_max=40, batch_size=2, local_results_path=tmp_path)
    parts.train()
    assert seen and all(seen)
