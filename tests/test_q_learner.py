"""The Q-learner (IQL, VDN, QMIX) against PyMARL's numbers, against noise in the padding, and on a small game."""

import numpy as np
import pytest
import torch as th

from controllers.basic_controller import BasicMAC
from learners.q_learner import QLearner
from tests.builders import (
    RecordingLogger,
    check_twelve_updates,
    copied_weights,
    golden_case,
    golden_weights,
    make_args,
    make_batch,
    make_scheme,
    one_step_game,
    same,
    with_noisy_padding,
)

MIXERS = [None, "vdn", "qmix"]
LENGTHS, ENDED = [8, 5, 3], [False, False, True]


def make_learner(args, logger=None) -> QLearner:
    scheme, groups, _ = make_scheme(args)
    return QLearner(BasicMAC(scheme, groups, args), scheme, logger or RecordingLogger(), args)


def weights_of(learner: QLearner) -> dict[str, th.Tensor]:
    return copied_weights(agent=learner.mac, **({} if learner.mixer is None else {"mixer": learner.mixer}))


@pytest.mark.parametrize("name", ["iql", "iql_single_q", "vdn", "qmix", "qmix_1layer", "qmix_clip"])
def test_twelve_updates_give_pymarls_weights_and_statistics(name, logger):
    args, batch, arrays = golden_case(name)
    learner = make_learner(args, logger)
    for mac in (learner.mac, learner.target_mac):
        mac.load_state_dict(golden_weights(arrays, "before/agent/"))
    if args.mixer is not None:
        for mixer in (learner.mixer, learner.target_mixer):
            mixer.load_state_dict(golden_weights(arrays, "before/mixer/"))

    check_twelve_updates(learner, batch, arrays, weights_of)

    for stat in ("loss", "grad_norm", "td_error_abs", "q_taken_mean", "target_mean"):
        # PyMARL divides IQL's means by the number of agents twice.
        factor = args.n_agents if args.mixer is None and stat in ("q_taken_mean", "target_mean") else 1
        np.testing.assert_allclose(logger.values(stat), factor * arrays[f"stat/{stat}"], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("double_q", [True, False])
@pytest.mark.parametrize("size", [1e3, 1e8])
def test_noise_in_the_padding_changes_no_loss_and_no_gradient(mixer, double_q, size):
    args = make_args(mixer=mixer, double_q=double_q)
    batch, results = make_batch(args, LENGTHS, ENDED), []
    for given in (batch, with_noisy_padding(batch, size)):
        th.manual_seed(1)
        logger = RecordingLogger()
        learner = make_learner(args, logger)
        learner.train(given, t_env=0, episode_num=0)
        results.append((dict(logger.stats), weights_of(learner), [p.grad.clone() for p in learner.params]))
    assert results[0][0] == results[1][0]
    assert same(results[0][1], results[1][1])
    assert all(th.equal(*grads) for grads in zip(results[0][2], results[1][2], strict=True))


@pytest.mark.parametrize("mixer", MIXERS)
def test_cutting_the_padding_off_changes_nothing(mixer):
    args = make_args(mixer=mixer)
    batch, losses = make_batch(args, [5, 4, 2], ENDED), []
    for given in (batch, batch[:, : batch.max_t_filled()]):
        th.manual_seed(1)
        logger = RecordingLogger()
        make_learner(args, logger).train(given, t_env=0, episode_num=0)
        losses.append(logger.values("loss")[0])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize("mixer", MIXERS)
def test_the_same_seed_gives_the_same_weights_and_another_gives_others(mixer):
    args, runs = make_args(mixer=mixer), []
    for seed in (1, 1, 2):
        th.manual_seed(seed)
        learner = make_learner(args)
        for update in range(3):
            learner.train(make_batch(args, LENGTHS, ENDED, seed=update), t_env=update, episode_num=update)
        runs.append(weights_of(learner))
    assert same(runs[0], runs[1]) and not same(runs[0], runs[2])


def test_an_unavailable_action_is_never_the_target():
    """With everything but action 0 unavailable after the first step, raising the others' values changes no target."""
    args = make_args(gamma=0.9)
    batch = make_batch(args, [4, 4], ended=[False, False])
    batch["avail_actions"][:, 1:] = 0
    batch["avail_actions"][:, 1:, :, 0] = 1
    targets = []
    for bonus in (0.0, 100.0):
        th.manual_seed(1)
        logger = RecordingLogger()
        learner = make_learner(args, logger)
        for mac in (learner.mac, learner.target_mac):
            with th.no_grad():
                mac.agent.fc2.bias[1:] += bonus
        learner.train(batch, t_env=0, episode_num=0)
        targets.append(logger.values("target_mean"))
    assert targets[0] == pytest.approx(targets[1])


def test_targets_are_updated_every_interval_of_episodes():
    args = make_args(mixer="qmix", target_update_interval=10)
    learner, batch = make_learner(args), make_batch(make_args(), LENGTHS)
    first = weights_of(learner)
    for episode_num, is_updated in [(4, False), (9, False), (11, True), (19, False), (21, True)]:
        learner.train(batch, t_env=0, episode_num=episode_num)
        live = weights_of(learner)
        target = {f"agent/{key}": value for key, value in learner.target_mac.state_dict().items()}
        target |= {f"mixer/{key}": value for key, value in learner.target_mixer.state_dict().items()}
        assert same(live, target) == is_updated, episode_num
        assert same(first, target) == (episode_num < 11)


def test_targets_get_no_gradient():
    learner = make_learner(make_args(mixer="qmix"))
    learner.train(make_batch(make_args(), LENGTHS), t_env=0, episode_num=0)
    targets = [*learner.target_mac.parameters(), *learner.target_mixer.parameters()]
    assert all(parameter.grad is None for parameter in targets)


def test_statistics_are_logged_at_the_interval(logger):
    learner = make_learner(make_args(learner_log_interval=100), logger)
    batch = make_batch(make_args(), LENGTHS)
    for t_env in (5, 60, 104, 105, 110, 300):
        learner.train(batch, t_env=t_env, episode_num=0)
    assert [t for t, _ in logger.stats["loss"]] == [5, 105, 300]
    assert all(isinstance(value, float) for stat in logger.stats for value in logger.values(stat))


def test_means_of_iql_are_means_over_agents(logger):
    """With no weights but a bias of 2, every agent's Q-value is 2."""
    learner = make_learner(make_args(), logger)
    for parameter in learner.mac.parameters():
        parameter.data.zero_()
    learner.mac.agent.fc2.bias.data.fill_(2)
    learner.train(make_batch(make_args(), LENGTHS, ENDED), t_env=0, episode_num=0)
    assert logger.values("q_taken_mean") == [pytest.approx(2)]


def test_a_loss_that_is_not_finite_stops_before_it_spoils_the_weights():
    learner, batch = make_learner(make_args()), make_batch(make_args(), LENGTHS)
    batch["reward"][0, 0] = float("nan")
    before = weights_of(learner)
    with pytest.raises(FloatingPointError, match="the loss is nan at t_env 700"):
        learner.train(batch, t_env=700, episode_num=0)
    assert same(weights_of(learner), before)


# --- saving


@pytest.fixture
def trained():
    args = make_args(mixer="qmix", target_update_interval=3)
    learner = make_learner(args)
    for update in range(4):
        learner.train(make_batch(args, LENGTHS, ENDED, seed=update), t_env=update, episode_num=update)
    return learner


def goes_on_like(learner: QLearner, other: QLearner) -> bool:
    for update in range(4, 8):
        batch = make_batch(learner.args, LENGTHS, ENDED, seed=update)
        learner.train(batch, t_env=update, episode_num=update)
        other.train(batch, t_env=update, episode_num=update)
    return same(weights_of(learner), weights_of(other))


def test_a_restored_state_goes_on_bit_for_bit(trained, tmp_path):
    th.save(trained.state_dict(), tmp_path / "learner.th")
    other = make_learner(trained.args)
    other.load_state_dict(th.load(tmp_path / "learner.th", weights_only=True))
    assert goes_on_like(trained, other)


def test_saved_models_hold_the_targets_and_the_optimiser(trained, tmp_path):
    trained.save_models(tmp_path)
    names = {"agent.th", "mixer.th", "opt.th", "target_agent.th", "target_mixer.th"}
    assert {file.name for file in tmp_path.iterdir()} == names
    other = make_learner(trained.args)
    other.load_models(tmp_path)
    for part, state in trained.state_dict().items():
        if part not in ("opt", "last_target_update_episode", "log_stats_t"):
            assert same(state, other.state_dict()[part]), part
    square_avg = [learner.optimiser.state_dict()["state"][0]["square_avg"] for learner in (trained, other)]
    assert th.equal(*square_avg)


def test_pymarls_folders_without_targets_load(trained, tmp_path):
    trained.save_models(tmp_path)
    for file in tmp_path.glob("target_*"):
        file.unlink()
    other = make_learner(trained.args)
    other.load_models(tmp_path)
    assert same(other.target_mac.state_dict(), trained.mac.state_dict())
    assert same(other.target_mixer.state_dict(), trained.mixer.state_dict())


@pytest.mark.parametrize("name", ["agent.th", "mixer.th"])
def test_a_missing_file_is_named(trained, tmp_path, name):
    trained.save_models(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"no weights at .*{name}"):
        trained.load_models(tmp_path)


# --- learning


@pytest.mark.slow
@pytest.mark.parametrize("mixer", MIXERS)
def test_a_matrix_game_is_solved(mixer, logger):
    """An additive game; VDN and QMIX also learn the payoffs themselves, which independent learners cannot."""
    payoff = np.array([1.0, 3.0, 2.0])[:, None] + np.array([0.0, -1.0, 4.0])[None, :]
    args = make_args(
        n_agents=2,
        n_actions=3,
        state_shape=1,
        obs_shape=1,
        episode_limit=1,
        mixer=mixer,
        lr=0.005,
        learner_log_interval=0,
    )
    batch, learner = one_step_game(args, payoff), make_learner(args, logger)
    for update in range(400):
        learner.train(batch, t_env=update, episode_num=update)
    learner.mac.init_hidden(1)
    assert learner.mac.select_actions(batch, 0, 0, bs=slice(0, 1), test_mode=True).tolist() == [[1, 2]]
    loss = logger.values("loss")[-1]
    assert loss < 0.05 if mixer else loss > 1
