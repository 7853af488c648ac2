"""Learners of agent models: beside Q (`q_learner_4am`), and alone (`am_learner`)."""

import pytest
import torch as th

from learners import REGISTRY as LEARNERS
from learners.q_learner import QLearner
from tests.builders import RecordingLogger, make_batch, make_mac, make_scheme, same, unrolled
from tests.test_agent_models import infer, make_model_args
from utils.errors import UserError

LENGTHS, ENDED = [8, 5, 3], [False, False, True]
ALONE = [("am_learner", "base"), ("am_learner", "liam"), ("am_learner", "omg")]


def make_learner(learner, model, logger=None, **overrides):
    args = make_model_args(model, **overrides)
    return LEARNERS[learner](make_mac(args), make_scheme(args)[0], logger or RecordingLogger(), args)


def weights_of(learner):
    return {key: value.clone() for key, value in learner.mac.agent.state_dict().items()}, {
        key: value.clone() for key, value in learner.am.state_dict().items()
    }


def trained(learner, model, batch, **overrides):
    """The learner after one update from seed 1, and its statistics."""
    th.manual_seed(1)
    made = make_learner(learner, model, **overrides)
    th.manual_seed(2)
    made.train(batch, t_env=0, episode_num=0)
    return made, {key: values[0][1] for key, values in made.logger.stats.items()}


# --- beside Q


@pytest.mark.slow
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
        inputs = th.cat([made.mac.build_inputs(batch), infer(made.am, batch)], -1)
        agents = (made.mac.agent, made.target_mac.agent)
        live, target = (unrolled(agent, inputs, batch["filled"])[0][0] for agent in agents)
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
