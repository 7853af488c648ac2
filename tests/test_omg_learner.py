"""The OMG learner: the equations of the paper on small numbers, and what may train what."""

import copy

import pytest
import torch as th

from components.transitions import make_transitions
from learners.model_trainers import q_of_candidates
from learners.omg_learner import OMGLearner
from modules.am.agent_model import FEATURES
from modules.am.omg_am import Gaussian
from modules.inputs import living
from modules.unroll import step
from tests.builders import make_batch, make_mac, make_omg_args, make_scheme
from tests.test_agent_models import encoded, killed
from utils.errors import UserError
from utils.rl_utils import gaussian_kl


def make_learner(args, logger):
    return OMGLearner(make_mac(args), make_scheme(args)[0], logger, args)


def copies(modules):
    return [parameter.clone() for module in modules for parameter in module.parameters()]


def same(before, after):
    return all(th.equal(a, b) for a, b in zip(before, after, strict=True))


def parts(learner):
    """(policy, prior, posterior) as lists of modules."""
    am = learner.am
    return [learner.mac.agent], [am.vae], [am.cvae, am.cond_rnn, am.fc]


def test_the_prior_is_trained_first_and_alone(logger):
    args = make_omg_args(omg_vae_pretrain_steps=100)
    learner = make_learner(args, logger)
    batch = make_batch(args, lengths=[8, 8, 5])
    policy, prior, posterior = (copies(modules) for modules in parts(learner))
    for t_env in range(0, 100, 10):
        learner.train(batch, t_env, t_env)
    after = [copies(modules) for modules in parts(learner)]
    assert same(policy, after[0]) and same(posterior, after[2])
    assert not same(prior, after[1])
    losses = logger.values("omg_prior_loss")
    assert losses[-1] < losses[0]


def test_a_prior_whose_first_update_comes_late_is_trained_all_the_same(logger):
    """A population's first update waits for as many episodes as it has seats times batch_size."""
    args = make_omg_args(omg_vae_pretrain_steps=100, population_factor=2)
    learner = make_learner(args, logger)
    batch = make_batch(args, lengths=[8, 8, 5])
    for t_env, trains_prior in ((5000, True), (5199, True), (5200, False)):  # 100 steps of each seat
        before = copies([learner.am.vae])
        learner.train(batch, t_env, 1)
        assert same(before, copies([learner.am.vae])) is not trains_prior
        assert bool(learner.am.vae.is_trained) is not trains_prior


def test_the_prior_is_frozen_while_the_rest_learns(logger):
    args = make_omg_args()
    learner = make_learner(args, logger)
    batch = make_batch(args, lengths=[8, 8, 5])
    policy, prior, posterior = (copies(modules) for modules in parts(learner))
    learner.train(batch, 200, 1)
    after = [copies(modules) for modules in parts(learner)]
    assert same(prior, after[1])
    assert not same(policy, after[0]) and not same(posterior, after[2])


def test_the_q_loss_does_not_train_the_model_nor_the_models_loss_the_policy(logger):
    args = make_omg_args(lr=1e-12, am_lr=0.01)
    learner = make_learner(args, logger)
    batch = make_batch(args, lengths=[8, 8])
    policy = copies(parts(learner)[0])
    learner.train(batch, 200, 1)
    assert all(th.allclose(a, b, atol=1e-9) for a, b in zip(policy, copies(parts(learner)[0])))
    learner = make_learner(make_omg_args(am_lr=1e-12), logger)
    posterior = copies(parts(learner)[2])
    learner.train(batch, 200, 1)
    assert all(th.allclose(a, b, atol=1e-9) for a, b in zip(posterior, copies(parts(learner)[2])))


def test_nothing_is_inferred_nor_learned_of_the_dead(logger):
    args = make_omg_args(eta=0.0)
    whole = make_batch(args, lengths=[8, 5, 4])
    batch = killed(whole)
    learner, other = make_learner(args, logger), make_learner(args, logger)
    other.load_state_dict(copy.deepcopy(learner.state_dict()))
    inferred, of_all = learner.model.infer(batch), learner.model.infer(whole)
    lives = th.ones(3, 9, 3, 1) * batch["filled"].unsqueeze(-1)
    lives[0, 2:, 1] = lives[-1, 1:] = 0  # in the first step everybody lives
    for name in ("outputs", "hidden"):
        assert th.allclose(getattr(inferred, name), getattr(of_all, name) * lives, atol=1e-6)
    assert not inferred.batch[FEATURES][lives.expand_as(inferred.drawn) == 0].any()
    seen_differently = batch[:]
    seen_differently.data.transition_data["obs"] = batch["obs"].masked_fill(lives == 0, 7.0)
    for each, given in ((learner, batch), (other, seen_differently)):
        each.generator = th.Generator().manual_seed(3)
        now, n_living = each.model.infer(given), len(living(given, "cpu"))
        each.model.look_back(now, lambda subgoals, ahead, n=n_living: th.zeros(n, args.omg_horizon), t_env=1)
        zeros = th.zeros_like(now.drawn)  # the subgoals of the last steps are those of what the dead see
        each.model.hindsight = each.model.hindsight._replace(prior=Gaussian(zeros, zeros))
        before = copies(parts(each)[2])
        each.model.train(now, make_transitions(given, args.gamma), t_env=1)
        assert not same(before, copies(parts(each)[2]))
    assert same(copies(parts(learner)[2]), copies(parts(other)[2]))


@pytest.mark.parametrize("pairing", ["same", "next"])
def test_target_pairs_the_next_observation_with_the_same_subgoal_or_with_the_next(logger, pairing):
    """Equation 4, by hand, step by step, with the GRU cell itself."""
    args = make_omg_args(eta=1.0, eta_anneal_time=10**9, subgoal_mode=1, omg_next_subgoal=pairing)
    learner = make_learner(args, logger)
    for agent in (learner.mac.agent, learner.target_mac.agent):  # so that the subgoal decides which action is best
        th.nn.init.normal_(agent.fc1.weight)
        th.nn.init.normal_(agent.fc2.weight)
    th.nn.init.normal_(learner.am.vae.mu.weight, std=3.0)
    batch = make_batch(args, lengths=[8])
    with th.no_grad():
        observations = learner.am.observations(batch)
        subgoals = learner.am.vae.encode(th.cat([observations[:, 1:], observations[:, -1:]], 1)).mu  # k = 1
        inputs = learner.mac.build_inputs(batch)
        live, target = learner.mac.agent, learner.target_mac.agent
        h = target_h = th.zeros(1, args.n_agents, args.rnn_hidden_dim)
        targets, taken = [], []
        for t in range(8):
            now = th.cat([inputs[:, t], subgoals[:, t]], -1)
            (q, h), (_, target_h) = step(live, now, h), step(target, now, target_h)
            taken.append(q.gather(-1, batch["actions"][:, t]))
            ahead = th.cat([inputs[:, t + 1], subgoals[:, t + (pairing == "next")]], -1)
            chosen = (
                step(live, ahead, h)[0].masked_fill(batch["avail_actions"][:, t + 1] == 0, -th.inf).argmax(-1, True)
            )
            value = step(target, ahead, target_h)[0].gather(-1, chosen)
            targets.append(batch["reward"][:, t].unsqueeze(1) + args.gamma * value * (t < 7))
    learner.train(batch, 0, 1)
    taken, targets = th.stack(taken), th.stack(targets)
    assert logger.values("target_mean")[0] == pytest.approx(targets.mean().item(), rel=1e-4)
    assert logger.values("loss")[0] == pytest.approx(((taken - targets) ** 2).mean().item(), rel=1e-4)


def used_subgoals(learner, monkeypatch):
    """A list of the subgoals [b, T, agent, Z] on which the policy is unrolled; the last but one are learned on."""
    seen, unroll = [], learner.mac.unroll_with_hidden

    def remembered(batch, goals=None):
        seen.append(batch[FEATURES] if goals is None else goals)
        return unroll(batch, goals)

    monkeypatch.setattr(learner.mac, "unroll_with_hidden", remembered)
    return seen


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_eta_mixes_hindsight_and_inference(logger, monkeypatch, eta):
    """With eta 1 the policy never learns on an inferred subgoal, with eta 0 never on one of hindsight."""
    learner = make_learner(make_omg_args(eta=eta, eta_anneal_time=10**9, subgoal_mode=1), logger)
    batch = make_batch(learner.args, lengths=[8, 6])
    seen = used_subgoals(learner, monkeypatch)
    learner.train(batch, 0, 1)
    next_states = learner.am.vae.encode(learner.am.observations(batch)).mu[0, 1:]
    used = seen[-2][0, :-1]
    assert th.isclose(used, next_states, atol=1e-6).all(-1).float().mean().item() == eta
    assert logger.values("eta") == [eta]


def test_eta_is_drawn_per_episode_and_step_for_all_agents_at_once(logger, monkeypatch):
    learner = make_learner(make_omg_args(eta=0.3, eta_anneal_time=10**9, subgoal_mode=1), logger)
    batch = make_batch(learner.args, lengths=[8] * 40)
    seen = used_subgoals(learner, monkeypatch)
    learner.train(batch, 0, 1)
    next_states = learner.am.vae.encode(learner.am.observations(batch)).mu[:, 1:]
    from_hindsight = th.isclose(seen[-2][:, :-1], next_states, atol=1e-6).all(-1)  # [b, T, agent]
    assert th.equal(from_hindsight.all(-1), from_hindsight.any(-1))
    drawn = from_hindsight[..., 0].float()
    assert drawn.mean().item() == pytest.approx(0.3, abs=0.08)
    assert drawn.mean(1).unique().numel() > 3 and drawn.mean(0).unique().numel() > 3


def test_eta_falls_to_zero(logger):
    learner = make_learner(make_omg_args(eta=0.5, eta_anneal_time=1000), logger)
    batch = make_batch(learner.args, lengths=[8])
    for t_env in (0, 500, 1000, 5000):
        learner.train(batch, t_env, 1)
    assert logger.values("eta") == pytest.approx([0.5, 0.25, 0.0, 0.0])


@pytest.mark.parametrize(("mode", "pick"), [("optimistic", max), ("conservative", min)])
@pytest.mark.parametrize("value", ["mean", "max"])
def test_hindsight_picks_by_the_value_of_the_live_network(logger, mode, pick, value):
    """Equations 6 and 7, candidate by candidate."""
    args = make_omg_args(subgoal_mode=mode, omg_value=value)
    learner = make_learner(args, logger)
    batch = make_batch(args, lengths=[8, 5])
    avail = batch["avail_actions"].bool()
    with th.no_grad():
        seen = learner.model.infer(batch)
        learner.model.look_back(seen, q_of_candidates(learner, seen, avail), t_env=0)
        inferred, hindsight = seen.batch[FEATURES], learner.model.hindsight
        choice, goal_mu = hindsight.choice, hindsight.prior.mu
        prior = learner.am.vae.encode(learner.am.observations(batch)).mu
        inputs = learner.mac.build_inputs(batch)
        for b, length in enumerate((8, 5)):
            for i in range(args.n_agents):
                h = th.zeros(1, args.rnn_hidden_dim)
                for t in range(length):
                    values = {}
                    for k in range(args.omg_horizon):
                        goal = prior[b, min(t + 1 + k, length), i]
                        q = learner.mac.agent(th.cat([inputs[b, t, i], goal])[None], h)[0][0][avail[b, t, i]]
                        values[k] = (q.mean() if value == "mean" else q.max()).item()
                    best = pick(values.values())
                    assert values[choice[b, t, i].item()] == pytest.approx(best, abs=1e-6)
                    chosen = prior[b, min(t + 1 + choice[b, t, i].item(), length), i]
                    assert th.allclose(goal_mu[b, t, i], chosen, atol=1e-6)
                    _, h = learner.mac.agent(th.cat([inputs[b, t, i], inferred[b, t, i]])[None], h)


def test_the_models_loss_by_hand(logger):
    """Equation 5 on given numbers: the squared error per feature, and the divergence between two Gaussians."""
    args = make_omg_args(omg_cvae_alpha=0.2)
    am = make_learner(args, logger).am
    batch = make_batch(args, lengths=[8])
    played = make_transitions(batch, 0.99).played
    outputs, trajectory = (part[played] for part in encoded(am, batch))
    posterior = Gaussian.of(outputs)
    chosen = Gaussian(posterior.mu + 1.0, posterior.log_var)
    loss, stats = am.loss(am.observations(batch)[played], posterior, trajectory, posterior.mu, chosen)
    rebuilt = am.cvae.decode(posterior.mu, trajectory)
    assert stats["omg_recon_loss"].item() == pytest.approx(((rebuilt - batch["obs"][0, :8]) ** 2).mean().item())
    # equal variances and means one apart: sum over Z of 1 / (2 var)
    by_hand = (0.5 / posterior.log_var.exp()).sum(-1).mean()
    assert stats["omg_kl"].item() == pytest.approx(by_hand.item(), rel=1e-4)
    assert loss.item() == pytest.approx((stats["omg_recon_loss"] + 0.2 * stats["omg_kl"]).item())
    assert gaussian_kl(*chosen, *chosen).abs().max().item() < 1e-6


def test_shares_of_k_add_up_to_one(logger):
    learner = make_learner(make_omg_args(omg_horizon=4), logger)
    learner.train(make_batch(learner.args, lengths=[8, 5]), 0, 1)
    shares = [logger.values(f"subgoal_k{k}")[0] for k in (1, 2, 3, 4)]
    assert sum(shares) == pytest.approx(1.0)


def test_a_horizon_beyond_the_episode_is_refused(logger):
    with pytest.raises(UserError, match="omg_horizon=9 looks beyond an episode, which has at most 8 steps"):
        make_learner(make_omg_args(omg_horizon=9), logger)


def test_how_far_q_moves_is_logged_where_there_is_another_episode_to_exchange_subgoals_with(logger):
    population = {"population": {"iql": 1, "iql_omg": 2}, "train_alg": "iql_omg"}
    for settings, n_rows, is_logged in (({}, 1, False), ({}, 2, True), (population, 2, False), (population, 4, True)):
        logger.stats.clear()
        learner = make_learner(make_omg_args(**settings), logger)
        learner.train(make_batch(learner.args, lengths=[8] * n_rows), 0, 1)
        assert "omg_skill" in logger.stats
        assert ("omg_q_sensitivity" in logger.stats) is is_logged


def test_a_policy_network_for_each_agent_learns_in_all_of_them(logger):
    learner = make_learner(make_omg_args(agent="idv_rnn"), logger)
    before = copies([learner.mac.agent])
    learner.train(make_batch(learner.args, lengths=[8, 5]), 0, 1)
    for old, new in zip(before, copies([learner.mac.agent]), strict=True):
        assert ((old - new).abs().flatten(1).max(1).values > 0).all()


@pytest.mark.parametrize(
    ("reads", "acting", "testing"),
    [("mean", False, False), ("draw_in_training", True, False), ("draw", True, True)],
)
def test_the_policy_reads_means_or_draws_where_it_acts_and_where_it_learns(logger, monkeypatch, reads, acting, testing):
    learner = make_learner(make_omg_args(omg_policy_reads=reads, eta=0.0), logger)
    mac, batch = learner.mac, make_batch(learner.args, lengths=[8, 5])

    def first_inputs(test_mode):
        mac.init_hidden(2)
        return mac.step_inputs(batch, 0, slice(None), test_mode)

    for test_mode, is_drawn in ((False, acting), (True, testing)):
        assert th.equal(first_inputs(test_mode), first_inputs(test_mode)) != is_drawn
    mac.am.eval()  # a frozen policy never draws
    assert th.equal(first_inputs(False), first_inputs(False))
    mac.am.train()
    seen = used_subgoals(learner, monkeypatch)
    learner.train(batch, 0, 1)
    assert th.equal(seen[0], seen[-1]) != acting  # the last ones are the means, of which diagnoses are made


def test_the_mean_over_dimensions_weighs_the_divergence_less(logger):
    losses = {}
    for reduction in ("sum", "mean"):
        am = make_learner(make_omg_args(omg_kl_reduction=reduction, omg_cvae_alpha=1.0), logger).am
        zeros = th.zeros(2, 3, am.args.omg_subgoal_dim)
        prior, posterior = Gaussian(zeros, zeros), Gaussian(zeros + 2, zeros)
        _, stats = am.loss(zeros.new_zeros(2, 3, am.input_size), posterior, zeros.new_zeros(2, 3, 96), zeros, prior)
        losses[reduction] = stats["omg_kl"].item()
    assert losses == pytest.approx({"sum": 0.5 * 2**2 * am.args.omg_subgoal_dim, "mean": 0.5 * 2**2})


def test_eta_may_fall_by_the_steps_of_the_seat_that_learns(logger):
    """From the first update of the policy on, and over as many seats as the population's factor."""
    args = make_omg_args(eta_steps="learner", population_factor=4)
    learner = make_learner(args, logger)
    batch = make_batch(args, lengths=[8])
    for t_env in (1000, 3000):
        learner.train(batch, t_env, 1)
    resumed = make_learner(args, logger)
    resumed.load_state_dict(learner.state_dict())
    resumed.train(batch, 5000, 1)
    assert logger.values("eta") == pytest.approx([0.5, 0.25, 0.0])
