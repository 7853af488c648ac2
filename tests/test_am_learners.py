"""Learners of agent models: beside Q (`q_learner_4am`, and OMG's where it is alike), and alone (`am_learner`)."""

from copy import deepcopy

import pytest
import torch as th

from controllers.om_controller import MultiModuleMAC
from learners import REGISTRY as LEARNERS
from learners.base_learner import LossNotFinite
from learners.q_learner import QLearner
from tests.builders import RecordingLogger, make_batch, make_scheme, same, with_noisy_padding
from tests.test_agent_models import act, fold_all, make_model_args
from utils.errors import UserError

LENGTHS, ENDED = [8, 5, 3], [False, False, True]
TOGETHER = [("q_learner_4am", "none"), ("q_learner_4am", "base"), ("q_learner_4am", "liam")]
OMG = [("omg_learner", "omg"), ("omg_learner", "supervised")]
ALONE = [("am_learner", "base"), ("am_learner", "liam"), ("am_learner", "omg")]


def make_learner(learner, model, logger=None, n_seats=None, **overrides):
    """A learner of batches whose agent dimension is `n_seats`, the whole team if left out."""
    args = make_model_args(model, **overrides)
    scheme, groups, _ = make_scheme(args)
    mac = MultiModuleMAC(scheme, {"agents": n_seats or groups["agents"]}, args)
    return LEARNERS[learner](mac, scheme, logger or RecordingLogger(), args)


def weights_of(learner):
    return {key: value.clone() for key, value in learner.mac.agent.state_dict().items()}, {
        key: value.clone() for key, value in learner.am.state_dict().items()
    }


def trained(learner, model, batch, n_seats=None, **overrides):
    """The learner after one update from seed 1, and its statistics."""
    th.manual_seed(1)
    made = make_learner(learner, model, n_seats=n_seats, **overrides)
    th.manual_seed(2)
    made.train(batch, t_env=0, episode_num=0)
    return made, {key: values[0][1] for key, values in made.logger.stats.items()}


# --- for every learner


@pytest.mark.parametrize(("learner", "model"), TOGETHER + ALONE)
@pytest.mark.parametrize("size", [1e3, 1e8])
def test_noise_in_the_padding_changes_no_loss_and_no_weight(learner, model, size):
    batch = make_batch(make_model_args(model), LENGTHS, ENDED)
    clean, stats = trained(learner, model, batch)
    noisy, noisy_stats = trained(learner, model, with_noisy_padding(batch, size))
    assert stats and stats == noisy_stats
    assert all(map(same, weights_of(clean), weights_of(noisy)))


@pytest.mark.parametrize(("learner", "model"), TOGETHER + OMG)
def test_all_seats_as_episodes_of_their_own_teach_the_same_as_the_teams(learner, model, monkeypatch):
    monkeypatch.setattr("modules.am.omg_am.Gaussian.sample", lambda gaussian: gaussian.mu)
    settings = {"eta": 1.0, "eta_anneal_time": 10**9, "grad_norm_clip": 1e9}
    batch = make_batch(make_model_args(model), LENGTHS, ENDED)
    team, stats = trained(learner, model, batch, **settings)
    folded, folded_stats = trained(learner, model, fold_all(batch), n_seats=1, **settings)
    assert stats == pytest.approx(folded_stats, rel=1e-4)
    for of_team, of_seats in ((team.mac.agent, folded.mac.agent), (team.am, folded.am)):
        for (key, parameter), other in zip(of_team.named_parameters(), of_seats.parameters(), strict=True):
            assert (parameter.grad is None) == (other.grad is None) == key.startswith("vae"), key
            assert parameter.grad is None or th.allclose(parameter.grad, other.grad, atol=1e-5), key


@pytest.mark.parametrize(("learner", "model"), TOGETHER + ALONE)
def test_saved_and_restored_learners_go_on_bit_for_bit(learner, model, tmp_path):
    batch = make_batch(make_model_args(model), LENGTHS, ENDED)
    first, _ = trained(learner, model, batch)
    first.save_models(tmp_path)
    by_files, by_state = make_learner(learner, model), make_learner(learner, model)
    by_files.load_models(tmp_path)
    by_files.set_counts(first.counts())
    by_state.load_state_dict(deepcopy(first.state_dict()))
    for which in (first, by_files, by_state):
        th.manual_seed(5)
        which.train(batch, t_env=10, episode_num=1)
    assert all(map(same, weights_of(first), weights_of(by_files)))
    assert all(map(same, weights_of(first), weights_of(by_state)))


@pytest.mark.parametrize(("learner", "model"), [*TOGETHER[1:], *ALONE, *OMG])
def test_a_model_that_diverges_stops_the_run(learner, model):
    made = make_learner(learner, model, omg_vae_pretrain_steps=100)
    batch = make_batch(made.args, LENGTHS)
    batch["obs"][0, 1] = float("inf")
    with pytest.raises(LossNotFinite, match="the loss is"):
        made.train(batch, t_env=10, episode_num=0)


# --- beside Q


def test_without_a_model_it_is_plain_q_learning():
    batch = make_batch(make_model_args("none"), LENGTHS, ENDED)
    made, stats = trained("q_learner_4am", "none", batch)
    plain = make_learner("q_learner_4am", "none")
    plain = QLearner(plain.mac, {}, RecordingLogger(), plain.args)
    th.manual_seed(1)
    plain.mac.load_state_dict(make_learner("q_learner_4am", "none").mac.state_dict())
    plain.target_mac.load_state(plain.mac)
    plain.train(batch, 0, 0)
    assert stats == pytest.approx({key: values[0][1] for key, values in plain.logger.stats.items()}, rel=1e-5)
    for key, value in plain.mac.agent.state_dict().items():
        assert th.allclose(value, made.mac.agent.state_dict()[key], atol=1e-6), key


@pytest.mark.parametrize("double_q", [True, False])
def test_target_reads_the_live_models_features_at_both_ends(double_q, logger):
    """The update by hand, step by step."""
    made = make_learner("q_learner_4am", "base", logger, double_q=double_q)
    for agent in (made.mac.agent, made.target_mac.agent):
        th.nn.init.normal_(agent.fc1.weight)
    th.nn.init.normal_(made.target_mac.am.head.weight)  # a target of the model would be seen
    batch = make_batch(made.args, [8])
    with th.no_grad():
        inputs = th.cat([made.mac.build_inputs(batch), act(made.am, batch)], -1)
        qs = [agent.unroll_reference(inputs[0].transpose(0, 1))[0] for agent in (made.mac.agent, made.target_mac.agent)]
        live, target = (q.transpose(0, 1) for q in qs)
        chooser = (live if double_q else target).masked_fill(batch["avail_actions"][0] == 0, -th.inf)
        value_tp1 = target.gather(-1, chooser.argmax(-1, keepdim=True))[1:, :, 0]
        goes_on = 1.0 - batch["terminated"][0, :8].float()
        target_t = batch["reward"][0, :8] + made.args.gamma * goes_on * value_tp1
        q_t = live[:8].gather(-1, batch["actions"][0, :8]).squeeze(-1)
    made.train(batch, 0, 0)
    assert logger.values("target_mean")[0] == pytest.approx(target_t.mean().item(), rel=1e-4)
    assert logger.values("loss")[0] == pytest.approx(((q_t - target_t) ** 2).mean().item(), rel=1e-4)


@pytest.mark.parametrize("model", ["base", "liam"])
def test_neither_loss_trains_the_others_networks(model):
    batch = make_batch(make_model_args(model), LENGTHS, ENDED)
    for rates, still in (({"lr": 1e-12}, 0), ({"am_lr": 1e-12}, 1)):
        th.manual_seed(1)
        start = weights_of(make_learner("q_learner_4am", model))
        after = weights_of(trained("q_learner_4am", model, batch, **rates)[0])
        for part in (0, 1):
            moved = max((after[part][key] - value).abs().max().item() for key, value in start[part].items())
            assert (moved < 1e-9) == (part == still)


def test_a_mixer_joins_the_values(logger):
    made = make_learner("q_learner_4am", "liam", logger, mixer="qmix")
    made.train(make_batch(made.args, LENGTHS), 0, 0)
    assert logger.values("loss")[0] > 0 and "mixer" in made.state_dict()


# --- alone


def test_a_model_learns_alone_and_the_policy_stays():
    for learner, model in ALONE:
        th.manual_seed(1)
        made = make_learner(learner, model)
        policy, am = weights_of(made)
        made.train(make_batch(made.args, LENGTHS), 0, 0)
        after = weights_of(made)
        assert same(policy, after[0])
        changed = {key.split(".")[0] for key in am if not th.equal(am[key], after[1][key])}
        assert changed == ({"vae"} if model == "omg" else {name for name, _ in made.am.named_children()})


def test_a_prior_that_was_trained_alone_is_the_one_that_subgoals_come_from(tmp_path):
    alone = make_learner("am_learner", "omg")
    batch = make_batch(alone.args, LENGTHS)
    for update in range(30):
        alone.train(batch, t_env=update, episode_num=update)
    losses = alone.logger.values("omg_prior_loss")
    assert losses[-1] < losses[0]
    alone.save_models(tmp_path)
    mac = make_learner("omg_learner", "omg", omg_vae_pretrain_steps=10**6).mac
    mac.load_models(tmp_path)  # as init_param_path does
    learner = LEARNERS["omg_learner"](mac, {}, RecordingLogger(), mac.args)
    learner.train(batch, t_env=0, episode_num=0)
    assert "omg_kl" in learner.logger.stats and "omg_prior_loss" not in learner.logger.stats
    assert same(mac.am.vae.state_dict(), alone.am.vae.state_dict())


def test_a_prior_of_states_does_not_go_for_one_of_observations(tmp_path):
    make_learner("am_learner", "omg", obs_is_state=True).save_models(tmp_path)
    with pytest.raises(UserError, match=r"vae\.th does not fit this run .*, 7\].*, 6\]"):
        make_learner("omg_learner", "omg").mac.load_models(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["base", "liam"])
def test_a_teammates_rule_is_learned_from_its_past(model, logger):
    """Agent 1 chooses at every step what it was shown one step earlier, which the others saw, too."""
    made = make_learner("am_learner", model, logger, am_lr=0.02, am_hidden_dim=16)
    batch = make_batch(made.args, [8] * 16)
    for key, value in (("avail_actions", 1), ("obs", 0), ("actions", 0)):
        batch[key][:] = value
    for update in range(200):
        shown = th.randint(2, (16, 9, 1))
        batch["obs"][..., 0] = shown.float()
        batch["actions"][:, 1:, 1] = shown[:, :-1]
        made.train(batch, t_env=update, episode_num=update)
    accuracy = logger.values("am_action_accuracy")
    assert accuracy[0] < 0.7 and accuracy[-1] > 0.99
