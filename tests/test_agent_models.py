"""Agent models: every registered one keeps the family's rules, and the losses of each on small numbers."""

import pytest
import torch as th
import torch.nn.functional as F

from components.seats import every_seat
from components.transitions import make_transitions
from modules.am import REGISTRY
from modules.am.omg_am import Gaussian
from modules.am.trajectory_am import both_alive
from modules.inputs import others
from modules.unroll import step
from tests.builders import make_batch, make_mac, make_omg_args, make_scheme, same, unrolled
from utils.errors import UserError
from utils.transfer import step_index

FILES = {
    "none": set(),
    "base": {"base_am.th"},
    "liam": {"liam_am.th"},
    "omg": {"vae.th", "cvae.th", "cond_rnn.th", "fc.th"},
    "supervised": {"vae.th", "regressor.th", "cond_rnn.th", "fc.th"},
}
MODELS = [*REGISTRY, "supervised"]  # omg_am's ablation counts as one more


def make_model_args(name, **overrides):
    variant = {"am_model": "omg", "omg_supervised": True} if name == "supervised" else {"am_model": name}
    return make_omg_args(**variant, **overrides)


def make_am(args):
    return REGISTRY[args.am_model](make_scheme(args)[0], args)


def infer(am, batch, is_drawn=False):
    """Features of all steps, one step at a time: [b, T, agent, output_size]."""
    hidden, features = am.init_hidden().expand(*batch["obs"].shape[::2][:2], -1), []
    for t in range(batch.max_seq_length):
        outputs, hidden = step(am, am.build_inputs(batch, ts=slice(t, t + 1)).squeeze(1), hidden)
        features.append(am.features(outputs, is_drawn))
    return th.stack(features, 1)


def encoded(am, batch):
    """What the model's loss is computed from: outputs and hidden states [b, T, agent, ...]."""
    return unrolled(am, am.build_inputs(batch), batch["filled"])


def played_steps(batch):
    return make_transitions(batch, 0.99).played


def loss_of(am, batch):
    """The loss of a model that learns from episodes alone, and its statistics."""
    played = played_steps(batch)
    return am.loss(batch, encoded(am, batch)[0][played], played)


# --- the family's rules


@pytest.mark.parametrize("name", MODELS)
@th.no_grad()
def test_unroll_equals_inferring_step_by_step_from_teams_and_from_single_seats(name):
    args = make_model_args(name)
    am, batch = make_am(args), make_batch(args, [8, 3, 5])
    assert am.init_hidden().shape[0] == 1
    of_team = infer(am, batch)
    assert of_team.shape == (3, 9, args.n_agents, am.output_size)
    seats = every_seat(batch)
    of_seats = of_team.transpose(1, 2).flatten(0, 1).unsqueeze(2)
    assert th.allclose(infer(am, seats), of_seats, atol=1e-6)
    for given, expected in ((batch, of_team), (seats, of_seats)):
        is_filled = given["filled"].bool().squeeze(-1)
        got = am.features(encoded(am, given)[0])
        assert th.allclose(got[is_filled], expected[is_filled], atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_inputs_of_any_steps_and_episodes_are_a_slice_of_all(name):
    args = make_model_args(name, omg_opponent_actions=True)
    am, batch = make_am(args), make_batch(args, [8, 8, 8])
    for given in (batch, every_seat(batch)):
        whole = am.build_inputs(given)
        for bs, ts in (([2, 0], slice(4, 5)), (slice(1, 3), slice(0, 1)), (slice(None), slice(3, 7))):
            assert th.equal(am.build_inputs(given, bs, ts), whole[bs, ts])


@pytest.mark.parametrize("name", MODELS)
def test_the_policys_loss_never_trains_the_model(name):
    args = make_model_args(name)
    mac = make_mac(args)
    mac.unroll(make_batch(args, [8, 3])).square().sum().backward()
    assert all(parameter.grad is not None for parameter in mac.agent.parameters())
    assert all(parameter.grad is None for parameter in mac.am.parameters())
    assert not {id(parameter) for parameter in mac.parameters()} & {id(parameter) for parameter in mac.am.parameters()}


@pytest.mark.parametrize("name", MODELS)
def test_an_agent_acts_on_its_own_trajectory_alone(name):
    """Garbage in the state, and in what all others see and did, changes no action. (obs_is_state and
    omg_opponent_actions ask for more to be seen.)
    """
    args = make_model_args(name)
    mac = make_mac(args)
    th.nn.init.normal_(mac.agent.fc1.weight)
    th.nn.init.normal_(mac.agent.fc2.weight)
    batch = make_batch(args, [8] * 20)
    batch["avail_actions"][:] = 1
    for seat in range(args.n_agents):
        garbled = batch[:]
        the_others = [other for other in range(args.n_agents) if other != seat]
        for key, value in (("obs", 1e3), ("actions", 3)):
            values = batch[key].clone()
            values[:, :, the_others] = value
            garbled.data.transition_data[key] = values
        garbled.data.transition_data["state"] = th.full_like(batch["state"], 1e3)
        chosen = []
        for given in (batch, garbled):
            mac.init_hidden(20)
            chosen.append(th.stack([mac.select_actions(given, t, 0, test_mode=True) for t in range(9)]))
        assert th.equal(chosen[0][:, :, seat], chosen[1][:, :, seat])
        assert not th.equal(chosen[0][:, :, the_others], chosen[1][:, :, the_others])


@pytest.mark.parametrize("name", MODELS)
def test_saved_models_come_back_and_what_is_missing_or_of_other_sizes_is_named(name, tmp_path):
    args = make_model_args(name)
    am, other = make_am(args), make_am(args)
    am.save_models(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == FILES[name]
    other.load_models(tmp_path)
    assert same(am.state_dict(), other.state_dict())
    if not FILES[name]:
        return
    wider = make_am(make_model_args(name, obs_shape=11))
    with pytest.raises(UserError, match=r"(vae|base_am|liam_am)\.th does not fit this run .*(\b6\b.*\b11\b|14.*19)"):
        wider.load_models(tmp_path)
    for file in FILES[name]:
        kept = (tmp_path / file).rename(tmp_path / "kept")
        with pytest.raises(UserError, match=f"no weights at .*{file}"):
            other.load_models(tmp_path)
        kept.rename(tmp_path / file)


@pytest.mark.parametrize("name", ["base", "liam"])
def test_who_models_others_needs_others(name):
    with pytest.raises(UserError, match=f"am_model={name} models the other agents, but there is one agent"):
        make_am(make_model_args(name, n_agents=1))


# --- who counts


def alive_in(batch):
    """`both_alive` of all steps, [b, T, agent, n - 1]."""
    everywhere = th.ones(batch["filled"].shape[:2])
    return both_alive(batch, step_index(everywhere, "cpu")).unflatten(0, everywhere.shape)


def test_the_dead_have_no_choice_left_and_who_waits_is_alive():
    args = make_omg_args()
    batch = make_batch(args, [5, 8])
    avail = th.ones_like(batch["avail_actions"])
    avail[0, 3:, 1, 1:] = 0  # agent 1 dies before step 3
    avail[0, 1, 0, 1:] = 0  # agent 0 has no choice at step 1, but later
    batch.data.transition_data["avail_actions"] = avail
    alive = alive_in(batch)
    expected = th.ones(6, 3, 2, dtype=th.bool)
    expected[3:, 1] = False  # agent 1 sees nothing any more
    expected[3:, 0, 0] = expected[3:, 2, 1] = False  # for agents 0 and 2 it is no longer there
    assert th.equal(alive[0, :6], expected)
    assert not alive[0, 6:].any() and alive[1].all()
    assert th.equal(alive_in(every_seat(batch)), alive.transpose(1, 2).flatten(0, 1).unsqueeze(2))


def killed(batch):
    """A copy in which agent 1 of the first episode dies before step 2, and all agents of the last one at once."""
    batch = batch[:]
    avail = batch["avail_actions"].clone()
    avail[0, 2:, 1, 1:] = avail[-1, :, :, 1:] = 0
    batch.data.transition_data["avail_actions"] = avail
    return batch


@pytest.mark.parametrize("name", ["base", "liam"])
def test_what_the_dead_see_and_do_is_not_learned(name):
    args = make_model_args(name)
    am, batch = make_am(args), killed(make_batch(args, [8, 5, 4]))
    other = batch[:]
    for key in ("obs", "actions"):
        values = batch[key].clone()
        values[0, 2:, 1] = values[-1] = 2
        other.data.transition_data[key] = values
    losses = [loss_of(am, given)[0] for given in (batch, other)]
    assert losses[0].item() == losses[1].item()
    everyone = loss_of(am, make_batch(args, [8, 5, 4]))[0]
    assert losses[0].item() != everyone.item()


@pytest.mark.parametrize("name", ["base", "liam"])
def test_where_nobody_is_left_the_loss_is_zero_and_finite_in_its_gradient(name):
    args = make_model_args(name)
    am, batch = make_am(args), make_batch(args, [3])
    batch["avail_actions"][..., 1:] = 0
    loss, stats = loss_of(am, batch)
    loss.backward()
    assert loss.item() == 0 and stats["am_action_accuracy"].item() == 0
    assert all(p.grad is None or th.isfinite(p.grad).all() for p in am.parameters())


# --- losses by hand


def by_hand(args, batch, step):
    """Means of `step(b, t, agent, index of the other, seat of the other)` over the pairs that are alive."""
    alive, values = alive_in(batch), []
    for b, t in th.stack(played_steps(batch), 1).tolist():
        for i in range(args.n_agents):
            for k, j in enumerate(seat for seat in range(args.n_agents) if seat != i):
                if alive[b, t, i, k]:
                    values.append(step(b, t, i, k, j))
    return th.tensor(values).mean(0)


@th.no_grad()
def test_the_naive_models_loss_by_hand():
    args = make_model_args("base")
    am, batch = make_am(args), killed(make_batch(args, [8, 5, 4], ended=[False, True, True]))
    predicted = infer(am, batch).unflatten(-1, (args.n_agents - 1, args.n_actions))
    assert th.allclose(predicted.sum(-1), th.ones(()))

    def pair(b, t, i, k, j):
        u = batch["actions"][b, t, j].item()
        return -predicted[b, t, i, k, u].log().item(), float(predicted[b, t, i, k].argmax().item() == u)

    loss, stats = loss_of(am, batch)
    expected_loss, accuracy = by_hand(args, batch, pair).tolist()
    assert stats.keys() == {"am_loss", "am_action_accuracy"} and stats["am_loss"] is loss
    assert loss.item() == pytest.approx(expected_loss, rel=1e-5)
    assert stats["am_action_accuracy"].item() == pytest.approx(accuracy)


@th.no_grad()
def test_liams_loss_by_hand():
    args = make_model_args("liam")
    am, batch = make_am(args), killed(make_batch(args, [8, 5, 4], ended=[False, True, True]))
    embedding = infer(am, batch)
    obs = am.obs_decoder(embedding).unflatten(-1, (args.n_agents - 1, args.obs_shape))
    actions = am.action_decoder(embedding).unflatten(-1, (args.n_agents - 1, args.n_actions)).log_softmax(-1)

    def pair(b, t, i, k, j):
        error = ((obs[b, t, i, k] - batch["obs"][b, t, j]) ** 2).mean()
        return error.item(), -actions[b, t, i, k, batch["actions"][b, t, j].item()].item()

    loss, stats = loss_of(am, batch)
    reconstruction, action_loss = by_hand(args, batch, pair).tolist()
    assert stats["liam_recon_loss"].item() == pytest.approx(reconstruction, rel=1e-5)
    assert stats["liam_action_loss"].item() == pytest.approx(action_loss, rel=1e-5)
    assert loss.item() == pytest.approx(reconstruction + action_loss, rel=1e-5)


def test_the_others_are_in_the_order_of_their_seats():
    """With agent 1's action known, its slot in the predictions of agents 0 (first) and 2 (second) is found."""
    args = make_model_args("base")
    batch = make_batch(args, [8])
    batch["actions"][:, :, 1] = 4
    of_others = others(batch, batch["actions"], played_steps(batch))
    assert (of_others[:, 0, 0] == 4).all() and (of_others[:, 2, 1] == 4).all()


@th.no_grad()
def test_the_priors_loss_by_hand(monkeypatch):
    """With means for draws: the squared error, plus alpha times 1/2 sum(mu^2 + var - log var - 1)."""
    args = make_model_args("omg", omg_vae_alpha=0.3)
    am, states = make_am(args), th.randn(7, 6)
    monkeypatch.setattr("modules.am.omg_am.Gaussian.sample", lambda gaussian, generator: gaussian.mu)
    mu, log_var = am.vae.encode(states)
    kl = 0.5 * (mu**2 + log_var.exp() - log_var - 1).sum(-1).mean()
    expected = F.mse_loss(am.vae.decode(mu), states) + 0.3 * kl
    assert am.prior_loss(states).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_ablation_names_one_subgoal_and_is_pulled_to_the_picked_one():
    args = make_model_args("supervised")
    am, batch = make_am(args), make_batch(args, [8, 5])
    assert th.equal(infer(am, batch, is_drawn=True), infer(am, batch))
    outputs, trajectory = encoded(am, batch)
    played = played_steps(batch)
    subgoal = Gaussian.of(outputs).at(played)
    picked = subgoal._replace(mu=subgoal.mu.detach() + 2)
    loss, stats = am.loss(am.observations(batch)[played], subgoal, trajectory[played], subgoal.sample(), picked)
    assert loss.item() == pytest.approx(4, rel=1e-5) and stats == {"omg_regression_loss": loss}
    loss.backward()
    learned = [*am.fc.parameters(), *am.cond_rnn.parameters(), *am.regressor.parameters()]
    assert all(th.isfinite(p.grad).all() and p.grad.abs().sum() > 0 for p in learned)
    assert {id(p) for p in am.posterior_parameters()} == {id(p) for p in learned}
