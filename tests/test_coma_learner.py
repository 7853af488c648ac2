"""COMA against PyMARL's numbers, against noise in the padding, at time limits, and its saved models."""

import numpy as np
import pytest
import torch as th

from controllers.basic_controller import BasicMAC
from learners.coma_learner import COMALearner
from modules.critics.coma import COMACritic
from tests.builders import (
    RecordingLogger,
    check_twelve_updates,
    copied_weights,
    golden_case,
    golden_weights,
    make_args,
    make_batch,
    make_scheme,
    same,
    with_noisy_padding,
)

LENGTHS, ENDED = [8, 5, 3], [False, False, True]
STATISTICS = (
    "critic_loss",
    "critic_grad_norm",
    "td_error_abs",
    "q_taken_mean",
    "target_mean",
    "advantage_mean",
    "coma_loss",
    "agent_grad_norm",
    "pi_max",
)


def coma_args(**overrides):
    policy = dict(agent_output_type="pi_logits", action_selector="multinomial", mask_before_softmax=False)
    return make_args(**(policy | overrides))


def make_learner(args, logger=None) -> COMALearner:
    scheme, groups, _ = make_scheme(args)
    return COMALearner(BasicMAC(scheme, groups, args), scheme, logger or RecordingLogger(), args)


def weights_of(learner: COMALearner) -> dict[str, th.Tensor]:
    return copied_weights(agent=learner.mac, critic=learner.critic)


@pytest.mark.parametrize("name", ["coma", "coma_masked"])
def test_twelve_updates_give_pymarls_weights_and_statistics(name, logger):
    args, batch, arrays = golden_case(name)
    learner = make_learner(args, logger)
    learner.mac.load_state_dict(golden_weights(arrays, "before/agent/"))
    for critic in (learner.critic, learner.target_critic):
        critic.load_state_dict(golden_weights(arrays, "before/critic/"))

    check_twelve_updates(learner, batch, arrays, weights_of)

    assert {f"stat/{stat}" for stat in STATISTICS} == {key for key in arrays if key.startswith("stat/")}
    for stat in STATISTICS:
        np.testing.assert_allclose(logger.values(stat), arrays[f"stat/{stat}"], rtol=1e-4, atol=1e-6, err_msg=stat)


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("size", [1e3, 1e8])
def test_noise_in_the_padding_changes_no_loss_and_no_gradient(masks, size):
    args = coma_args(mask_before_softmax=masks)
    batch, results = make_batch(args, LENGTHS, ENDED), []
    for given in (batch, with_noisy_padding(batch, size)):
        th.manual_seed(1)
        logger = RecordingLogger()
        learner = make_learner(args, logger)
        learner.train(given, t_env=0, episode_num=0)
        params = [*learner.agent_params, *learner.critic_params]
        results.append((dict(logger.stats), weights_of(learner), [p.grad.clone() for p in params]))
    assert results[0][0] == results[1][0]
    assert same(results[0][1], results[1][1])
    assert all(th.equal(*grads) for grads in zip(results[0][2], results[1][2], strict=True))


def test_cutting_the_padding_off_changes_nothing():
    args = coma_args()
    batch, runs = make_batch(args, [5, 4, 2], ENDED), []
    for given in (batch, batch[:, : batch.max_t_filled()]):
        th.manual_seed(1)
        logger = RecordingLogger()
        learner = make_learner(args, logger)
        learner.train(given, t_env=0, episode_num=0)
        runs.append([logger.values(stat)[0] for stat in STATISTICS] + [learner.critic_training_steps])
    assert runs[0] == pytest.approx(runs[1], rel=1e-6) and runs[0][-1] == 5


@pytest.mark.parametrize(("ended", "target"), [(True, 1.0), (False, 1.0 + 0.5 * 4)])
def test_an_episode_that_was_cut_off_bootstraps_from_its_last_observation(ended, target, logger):
    """One step that pays 1, and a critic that gives every action the value 4."""
    args = coma_args(gamma=0.5)
    learner, batch = make_learner(args, logger), make_batch(args, [1], [ended])
    batch["reward"][:, 0] = 1
    for parameter in learner.target_critic.parameters():
        parameter.data.zero_()
    learner.target_critic.fc3.bias.data.fill_(4)
    learner.train(batch, t_env=0, episode_num=0)
    assert logger.values("target_mean") == [pytest.approx(target)]


def test_where_an_episode_was_cut_off_the_team_acts_by_its_policy():
    """The value there is that of available actions, not of action 0, which only fills the place in the batch."""
    args = coma_args(gamma=1.0)
    batch, targets = make_batch(args, [1, 8], [False, True]), []
    batch["avail_actions"][0, 1] = 0
    batch["avail_actions"][0, 1, :, 3] = 1
    batch["actions"][0, 1] = 0
    for bonus in (th.tensor([0.0, 0, 0, 9, 0]), th.tensor([9.0, 9, 9, 9, 9])):
        logger = RecordingLogger()
        learner = make_learner(args, logger)
        for parameter in learner.target_critic.parameters():
            parameter.data.zero_()
        learner.target_critic.fc3.bias.data.copy_(bonus)
        learner.train(batch[0], t_env=0, episode_num=0)
        targets.append(logger.values("target_mean")[0])
    assert targets[0] == pytest.approx(batch["reward"][0, 0].item() + 9) == targets[1]


def test_an_ended_episode_may_leave_no_action_available(logger):
    args = coma_args()
    batch = make_batch(args, [4], [True])
    batch["avail_actions"][0, 4] = 0
    make_learner(args, logger).train(batch, t_env=0, episode_num=0)
    assert np.isfinite([logger.values(stat)[0] for stat in STATISTICS]).all()


def test_the_target_critic_is_copied_every_interval_of_the_critics_steps():
    args = coma_args(critic_target_update_interval=10)
    learner, batch = make_learner(args), make_batch(args, LENGTHS, ENDED)
    for steps, is_copied in [(8, False), (16, True), (24, False), (32, True)]:
        learner.train(batch, t_env=0, episode_num=0)
        assert learner.critic_training_steps == steps
        assert same(learner.critic.state_dict(), learner.target_critic.state_dict()) == is_copied
    assert all(parameter.grad is None for parameter in learner.target_critic.parameters())


def test_statistics_are_logged_at_the_interval(logger):
    args = coma_args(learner_log_interval=100)
    learner, batch = make_learner(args, logger), make_batch(args, LENGTHS)
    for t_env in (5, 60, 104, 105, 300):
        learner.train(batch, t_env=t_env, episode_num=0)
    assert set(logger.stats) == set(STATISTICS)
    assert all([t for t, _ in logger.stats[stat]] == [5, 105, 300] for stat in STATISTICS)


def test_a_loss_that_is_not_finite_stops_before_it_spoils_the_weights():
    args = coma_args()
    learner, batch = make_learner(args), make_batch(args, [8])
    batch["reward"][0, 7] = float("nan")
    before = weights_of(learner)
    with pytest.raises(FloatingPointError, match="the loss is nan at t_env 700"):
        learner.train(batch, t_env=700, episode_num=0)
    assert same(weights_of(learner), before)


# --- the critic


def test_a_critic_does_not_see_its_own_agents_action_but_all_others():
    critic = COMACritic(make_args())
    state, obs, last = th.randn(1, 7), th.randn(1, 3, 6), th.zeros(1, 3, 5)
    first, second = (th.nn.functional.one_hot(th.tensor([[2, action, 4]]), 5).float() for action in (0, 1))
    changed = critic(critic.build_inputs(state, obs, first, last)) - critic(
        critic.build_inputs(state, obs, second, last)
    )
    assert (changed != 0).any(-1).tolist() == [[True, False, True]]
    changed = critic.build_inputs(state, obs, first, first) != critic.build_inputs(state, obs, first, second)
    assert changed.any(-1).all()


@pytest.mark.parametrize("name", ["coma", "coma_masked"])
def test_parameters_have_pymarls_names_and_pymarls_weights_load(name):
    args, _, arrays = golden_case(name)
    weights = golden_weights(arrays, "before/critic/")
    critic = COMACritic(args)
    assert list(critic.state_dict()) == list(weights)
    critic.load_state_dict(weights)


# --- saving


@pytest.fixture
def trained():
    args = coma_args(critic_target_update_interval=20)
    learner = make_learner(args)
    for update in range(4):
        learner.train(make_batch(args, LENGTHS, seed=update), t_env=update, episode_num=update)
    return learner


def test_a_restored_state_goes_on_bit_for_bit(trained, tmp_path):
    th.save(trained.state_dict(), tmp_path / "learner.th")
    other = make_learner(trained.args)
    other.load_state_dict(th.load(tmp_path / "learner.th", weights_only=True))
    for update in range(4, 8):
        batch = make_batch(trained.args, LENGTHS, seed=update)
        for learner in (trained, other):
            learner.train(batch, t_env=update, episode_num=update)
    assert same(weights_of(trained), weights_of(other))
    assert same(trained.target_critic.state_dict(), other.target_critic.state_dict())


def test_saved_models_hold_the_critic_its_target_and_both_optimisers(trained, tmp_path):
    trained.save_models(tmp_path)
    names = {"agent.th", "critic.th", "target_critic.th", "agent_opt.th", "critic_opt.th"}
    assert {file.name for file in tmp_path.iterdir()} == names
    other = make_learner(trained.args)
    other.load_models(tmp_path)
    for part in ("agent", "critic", "target_critic"):
        assert same(trained.state_dict()[part], other.state_dict()[part]), part
    for part in ("agent_optimiser", "critic_optimiser"):
        averages = [getattr(learner, part).state_dict()["state"][0]["square_avg"] for learner in (trained, other)]
        assert th.equal(*averages)
    assert not same(other.critic.state_dict(), other.target_critic.state_dict())


def test_pymarls_folders_without_targets_load(trained, tmp_path):
    trained.save_models(tmp_path)
    (tmp_path / "target_critic.th").unlink()
    other = make_learner(trained.args)
    other.load_models(tmp_path)
    assert same(other.target_critic.state_dict(), trained.critic.state_dict())


@pytest.mark.parametrize("name", ["agent.th", "critic.th"])
def test_a_missing_file_is_named(trained, tmp_path, name):
    trained.save_models(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"no weights at .*{name}"):
        trained.load_models(tmp_path)
