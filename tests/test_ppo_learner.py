"""PPO: what it computes, worked out by hand; its authors' numbers are in `test_peers.py`, what it learns in
`test_learning.py`.
"""

import pytest
import torch as th

from components.transitions import make_transitions
from learners.ppo_learner import PPOLearner
from modules.am.agent_model import FEATURES
from modules.critics.value import READS, value_input_size, value_inputs
from modules.moments import RunningMoments
from tests.builders import RecordingLogger, make_args, make_batch, make_mac, make_omg_args, make_scheme
from tests.test_learner_contract import PPO
from utils.rl_utils import build_td_lambda_targets, clipped_surrogate, n_step_returns, value_errors


def made(**overrides):
    make = make_omg_args if "am_model" in overrides else make_args
    args = make(**(PPO | overrides))
    th.manual_seed(0)
    return PPOLearner(make_mac(args), make_scheme(args)[0], RecordingLogger(), args)


@pytest.fixture
def given():
    """Reward, discount and mask of three episodes, of which the second is cut off, and values [b, T+1, 2]."""
    transitions = make_transitions(make_batch(make_args(), [8, 5, 3], [True, False, True]), 0.9)
    return (transitions.reward, transitions.discount, transitions.mask), th.randn(3, 9, 2)


def test_generalised_advantages_are_discounted_sums_of_errors(given):
    (reward, discount, mask), value = given
    advantage = (build_td_lambda_targets(reward, discount, mask, value[:, 1:], 0.8) - value[:, :-1]) * mask
    error = (reward + discount * value[:, 1:] - value[:, :-1]) * mask
    for t in range(8):
        expected = sum((0.9 * 0.8) ** k * error[:, t + k] for k in range(8 - t))
        assert th.allclose(advantage[:, t], expected * mask[:, t], atol=1e-5)


@pytest.mark.parametrize("n", [1, 3, 8, 20])
def test_n_step_returns_are_sums_of_rewards_and_the_value_after_them(given, n):
    (reward, discount, mask), value = given
    got = n_step_returns(reward, discount, mask, value[:, 1:], n)
    for b, (length, ended) in enumerate([(8, True), (5, False), (3, True)]):
        assert (got[b, length:] == 0).all()
        for t in range(length):
            last = min(t + n, length)
            expected = sum(0.9 ** (k - t) * reward[b, k] for k in range(t, last))
            if last < length or not ended:
                expected = expected + 0.9 ** (last - t) * value[b, last]
            assert th.allclose(got[b, t], expected, atol=1e-5)


def test_one_step_and_all_steps_are_lambda_0_and_1(given):
    (reward, discount, mask), value = given
    for n, td_lambda in ((1, 0.0), (8, 1.0)):
        by_lambda = build_td_lambda_targets(reward, discount, mask, value[:, 1:], td_lambda)
        assert th.allclose(n_step_returns(reward, discount, mask, value[:, 1:], n), by_lambda, atol=1e-5)


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective", "slope"),
    [(1.1, 2, 2.2, 2.2), (1.5, 2, 2.4, 0), (0.5, 2, 1, 1), (0.5, -2, -1.6, 0), (1.5, -2, -3, -3)],
)
def test_the_objective_is_flat_where_the_policy_has_gone_far_enough(ratio, advantage, objective, slope):
    log_ratio = th.tensor(ratio).log().requires_grad_()
    value = clipped_surrogate(log_ratio, th.tensor(float(advantage)), 0.2)
    value.backward()
    assert value.item() == pytest.approx(objective) and log_ratio.grad.item() == pytest.approx(slope)


@pytest.mark.parametrize(
    ("value", "clip", "delta", "error"),
    [(3, None, None, 4), (3, None, 1.0, 1.5), (1.5, None, 1.0, 0.125), (2, 0.2, None, 1), (0.9, 0.2, None, 0.04)],
)
def test_errors_of_values(value, clip, delta, error):
    """The target is 1; before the updates the value was 0.6, from which it goes on to 0.8 at most."""
    got = value_errors(th.tensor(float(value)), th.tensor(1.0), th.tensor(0.6), clip, delta)
    assert got.item() == pytest.approx(error)


def test_running_moments_are_those_of_all_values_that_count():
    th.manual_seed(0)
    moments, values = RunningMoments(2), 3 * th.randn(4, 10, 2) + 5
    mask = (th.rand(4, 10, 1) < 0.7).float()
    noisy = th.where(mask > 0, values, 1e6)
    for part, counts in zip(noisy, mask, strict=True):
        moments.update(part, counts)
    counted = values[mask.squeeze(-1) > 0]
    assert moments.mean.tolist() == pytest.approx(counted.mean(0).tolist(), rel=1e-3)
    assert moments.var.tolist() == pytest.approx(counted.var(0).tolist(), rel=0.1)  # of each batch the unbiased one
    assert th.allclose(moments.restore(moments.standardise(values)), values, atol=1e-5)


@pytest.mark.parametrize("reads", READS)
@pytest.mark.parametrize("last", [False, True])
def test_critics_of_each_kind_read_what_they_say_and_nothing_of_padding_or_the_dead(reads, last):
    args = make_args(critic_reads=reads, obs_last_action=last)
    batch = make_batch(args, [8, 3], [True, True])
    batch["avail_actions"][0, 4:, 1] = th.tensor([1, 0, 0, 0, 0])
    inputs = value_inputs(batch, args)
    assert inputs.shape == (2, 9, 3, value_input_size(args))
    assert th.equal(inputs[..., -3:], th.eye(3).expand(2, 9, 3, 3))
    seen = inputs[..., :-3].any(-1)
    assert not seen[0, 4:, 1].any() and seen[0, :4].all() and seen[0, :5, 0].all() and not seen[1, 4:].any()
    whole = value_inputs(batch, make_args(critic_reads=reads, obs_last_action=last, death_masking=False))
    assert whole[0, 4:, 1, :-3].any(-1).all()
    if reads != "obs":
        assert th.equal(inputs[0, 0, 2, :7], batch["state"][0, 0])


def batch_with_a_death(args, lengths=(8, 5)):
    """Episodes in which agent 1 is dead from step 2 on."""
    batch = make_batch(args, list(lengths), [True] * len(lengths))
    batch["avail_actions"][:, 2:, 1] = th.tensor([1, 0, 0, 0, 0], dtype=th.uint8)
    batch["actions"][:, 2:, 1] = 0
    return batch


def test_what_the_dead_see_is_not_learned():
    learners = [made(critic_reads="obs", obs_last_action=False) for _ in range(2)]
    for learner, number in zip(learners, (0, 3), strict=True):
        batch = batch_with_a_death(learner.args)
        batch["obs"][:, 2:, 1] = number
        learner.train(batch, 0, 0)
    first, second = learners
    assert first.logger.stats == second.logger.stats


def test_the_policy_learns_nothing_from_the_dead():
    learner = made()
    seen = []
    learner._train_policy = lambda part, experience, t_env: seen.append(experience.mask) or {}
    batch = batch_with_a_death(learner.args)
    learner.train(batch, 0, 0)
    alive = th.ones(2, 8, 3)
    alive[:, 2:, 1], alive[1, 5:] = 0, 0
    assert all(th.equal(mask, alive) for mask in seen) and seen


@pytest.mark.parametrize("chunk", [None, 4])
def test_the_critic_learns_what_the_team_earns_after_a_death(chunk):
    """Returns of the living go on by the values of the dead."""
    settings = dict(td_lambda=1.0, q_nstep=0, standardise_returns=False, clip_values=False, critic_lr=0.01)
    learner = made(**settings, obs_last_action=False, data_chunk_length=chunk)
    batch = batch_with_a_death(learner.args, lengths=[8])
    batch["reward"][:], batch["reward"][:, 7] = 0, 1
    for _ in range(50):
        learner.train(batch, 0, 0)
    values = learner._values(learner.critic, batch, value_inputs(batch, learner.args))[0, 2:8, 1]
    assert values.tolist() == pytest.approx([learner.args.gamma ** (7 - t) for t in range(2, 8)], abs=0.1)


def test_a_first_pass_in_one_part_has_ratios_of_one_and_leaves_the_gradient_of_the_policy():
    learner = made(epochs=1)
    learner.train(make_batch(learner.args, [8, 5]), 0, 0)
    assert learner.logger.values("clipped_share") == [0]
    assert learner.logger.values("advantage_mean") == [pytest.approx(0, abs=1e-6)]


def test_every_episode_is_in_one_of_the_mini_batches():
    learner = made(num_mini_batch=3)
    batch = make_batch(learner.args, [8, 5, 4, 3, 2, 1])
    parts = list(learner.mini_batches(batch))
    assert [part.batch_size for part, _ in parts] == [2, 2, 2]
    assert sorted(th.cat([episodes for _, episodes in parts]).tolist()) == list(range(6))
    for part, episodes in parts:
        assert th.equal(part["obs"], batch["obs"][episodes])


def test_each_agent_learns_from_its_own_reward():
    """Only the first agent's advantages change with its reward, as without a common one."""
    args = make_args(**(PPO | dict(critic_reads="obs", common_reward=False, standardise_advantages=False)))
    batch = make_batch(args, [8, 5])
    reward = batch["reward"].expand(-1, -1, 3).clone()
    learner = PPOLearner(make_mac(args), make_scheme(args)[0], RecordingLogger(), args)
    seen = []
    learner._train_policy = lambda part, experience, t_env: seen.append(experience.advantage) or {}
    for factor in (1.0, 2.0):
        batch.data.transition_data["reward"] = reward * th.tensor([factor, 1, 1])
        learner.args.epochs, learner.args.standardise_returns = 1, False
        state = learner.state_dict()
        learner._train_critic = lambda *given: {}
        learner.train(batch, 0, 0)
        learner.load_state_dict(state)
    changed = (seen[0] != seen[1]).flatten(0, 1).any(0)
    assert changed.tolist() == [True, False, False]


# --- in pieces

RECURRENT = dict(obs_last_action=True, critic_reads="state_obs")


@pytest.mark.parametrize("length", [8, 20])
@pytest.mark.parametrize("agent", ["rnn", "rnn_norm", "idv_rnn"])
def test_pieces_as_long_as_episodes_are_episodes(length, agent):
    whole, cut = (made(agent=agent, critic=agent, data_chunk_length=given, **RECURRENT) for given in (None, length))
    for learner in (whole, cut):
        learner.train(make_batch(learner.args, [8, 5, 3], [True, False, True]), 0, 0)
    assert whole.logger.stats.keys() == cut.logger.stats.keys()
    for key in whole.logger.stats:
        assert whole.logger.values(key) == pytest.approx(cut.logger.values(key), rel=1e-4, abs=1e-6), key


@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("model", [{}, dict(am_model="liam")])
def test_a_piece_begins_where_the_episode_stands(length, model):
    """Losses before any update are those of whole episodes; gradients end where the piece begins."""
    whole, cut = (
        made(data_chunk_length=given, epochs=1, lr=1e-12, critic_lr=1e-12, **RECURRENT, **model)
        for given in (None, length)
    )
    for learner in (whole, cut):
        th.nn.init.normal_(learner.mac.agent.rnn.weight_hh)
        th.manual_seed(1)
        th.nn.init.normal_(learner.critic.rnn.weight_hh)
        learner.mac.agent.load_state_dict(whole.mac.agent.state_dict())
        learner.train(make_batch(learner.args, [8, 5, 3], [True, False, True]), 0, 0)
    norms = ("agent_grad_norm", "critic_grad_norm")
    for key in whole.logger.stats:
        is_same = whole.logger.values(key) == pytest.approx(cut.logger.values(key), rel=1e-4, abs=1e-6)
        assert is_same == (key not in norms), key


# --- with an agent model

OMG = dict(am_model="omg", omg_policy_reads="mean", critic_reads="obs", epochs=1, eta_anneal_time=10**9)


def seen_by(learner, batch):
    """The features that the policy, and the critic of its updates, read in one training call."""
    seen = {}
    train_critic, train_policy = learner._train_critic, learner._train_policy

    def watch_critic(part, given, t_env):
        seen.update(critic=given.inputs[..., -4:], baseline=given.return_ - given.advantage)
        return train_critic(part, given, t_env)

    def watch_policy(part, given, t_env):
        seen.update(policy=part[FEATURES])
        return train_policy(part, given, t_env)

    learner._train_critic, learner._train_policy = watch_critic, watch_policy
    learner.train(batch, 0, 0)
    return seen


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_policy_learns_on_inferred_subgoals_and_the_critic_on_those_of_hindsight(eta):
    learner = made(eta=eta, subgoal_mode=1, death_masking=False, standardise_advantages=False, **OMG)
    batch = make_batch(learner.args, [8, 5])
    with th.no_grad():
        acted_on = learner.model.infer(batch).batch
        inferred = acted_on[FEATURES]
        value = learner._values(learner.critic, acted_on, value_inputs(acted_on, learner.args))
        states = learner.model.am.observations(batch)
        ahead = learner.model.am.vae.encode(th.cat([states[:, 1:], states[:, -1:]], 1)).mu
    seen = seen_by(learner, batch)
    assert th.allclose(seen["policy"], inferred, atol=1e-6)
    expected = ahead if eta else inferred
    for b, length in enumerate((8, 5)):
        assert th.allclose(seen["critic"][b, :length], expected[b, :length], atol=1e-6)
        assert th.allclose(seen["baseline"][b, :length], value[b, :length], atol=1e-5)  # what it acted on


@pytest.mark.parametrize(("mode", "pick"), [("optimistic", max), ("conservative", min)])
@pytest.mark.parametrize("critic", ["rnn", "mlp_critic", "rnn_norm"])
def test_hindsight_picks_by_the_value_of_the_critic(mode, pick, critic):
    """Candidate by candidate, from the critic's hidden state along the inferred subgoals."""
    learner = made(subgoal_mode=mode, critic=critic, **OMG)
    batch, horizon = make_batch(learner.args, [8, 5]), learner.args.omg_horizon
    with th.no_grad():
        inferred = learner.model.infer(batch)
        inputs = value_inputs(inferred.batch, learner.args)
        learner.model.look_back(inferred, learner._value_of_candidates(inferred.batch, inputs), t_env=0)
        choice = learner.model.hindsight.choice
        goals = learner.model.am.vae.encode(learner.model.am.observations(batch)).mu
        for b, length in enumerate((8, 5)):
            h = learner.critic.init_hidden().expand(3, -1)
            for t in range(length):
                candidates = [goals[b, min(t + 1 + k, length)] for k in range(horizon)]
                values = th.stack(
                    [learner.critic(th.cat([inputs[b, t, :, :-4], goal], -1), h)[0].squeeze(-1) for goal in candidates]
                )
                for i in range(3):
                    best = pick(values[:, i].tolist())
                    assert values[choice[b, t, i], i].item() == pytest.approx(best, abs=1e-6)
                _, h = learner.critic(inputs[b, t], h)


@pytest.mark.parametrize("model", ["base", "liam", "omg"])
def test_critic_and_policy_listen_to_the_model(model):
    """Another model's features change both the ratios' policy and the values."""
    seen = []
    for scale in (1.0, 2.0):
        learner = made(**(OMG | dict(am_model=model, eta=0.0)))
        features = learner.model.am.features
        learner.model.am.features = lambda outputs, *more, scale=scale, of=features: scale * of(outputs, *more)
        if model == "omg":
            learner.model.infer = lambda batch, scale=scale, infer=learner.model.infer: _scaled(infer(batch), scale)
        learner.train(make_batch(learner.args, [8, 5]), 0, 0)
        seen.append((learner.logger.values("pi_max"), learner.logger.values("q_taken_mean")))
    (pi, value), (other_pi, other_value) = seen
    assert pi != other_pi and value != other_value


def _scaled(inferred, scale):
    return inferred._replace(batch=inferred.batch.with_field(FEATURES, scale * inferred.batch[FEATURES]))


def test_the_model_has_as_many_updates_as_there_are_epochs():
    learner = made(**(OMG | dict(epochs=3)))
    steps = []
    step = learner.model.optimiser.step
    learner.model.optimiser.step = lambda: steps.append(1) or step()
    learner.train(make_batch(learner.args, [8, 5]), 0, 0)
    assert len(steps) == 3
