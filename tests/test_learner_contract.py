"""What every learner owes: one contract over the registry, and over a learner that a user registers.

The equations of each are in its own file; that updates make a GPU wait for nothing is in `test_transfer.py`.
"""

from copy import deepcopy

import pytest
import torch as th

from components.seats import every_seat
from learners import REGISTRY
from learners.base_learner import LossNotFinite
from learners.q_learner import QLearner, TDLoss
from modules.fast_paths import FAST_PATHS
from tests.builders import (
    RecordingLogger,
    act,
    acts_in,
    make_batch,
    make_mac,
    make_omg_args,
    make_scheme,
    with_noisy_padding,
)
from tests.test_peers import EPYMARL
from tests.test_run import equal
from utils.errors import UserError
from utils.rl_utils import masked_mean


class WeightedLearner(QLearner):
    """A user's own: errors weigh a tenth where the value is too high already."""

    def td_loss(self, transitions, q_t, value):
        td = super().td_loss(transitions, q_t, value)
        error = td.target_t - td.q_t
        return TDLoss(masked_mean(th.where(error > 0, 1.0, 0.1) * error**2, td.mask), *td[1:])


POLICY = dict(agent_output_type="pi_logits", action_selector="multinomial", epsilon_start=0.5)
PPO = POLICY | dict(optimizer="adam", epsilon_start=0.0, epsilon_finish=0.0, td_lambda=0.95)
SINGLE_Q = dict(double_q=False)
CASES = {
    "iql": ("q_learner", {}),
    "iql_single_q": ("q_learner", SINGLE_Q),
    "iql_idv": ("q_learner", dict(agent="idv_rnn", obs_agent_id=False)),
    "iql_ff": ("q_learner", dict(agent="ff")),
    "iql_dueling": ("q_learner", dict(dueling=True)),
    "vdn": ("q_learner", dict(mixer="vdn")),
    "qmix": ("q_learner", dict(mixer="qmix")),
    "qmix_single_q_lambda": ("q_learner", SINGLE_Q | dict(mixer="qmix", td_lambda=0.6)),
    "weighted": ("weighted_learner", dict(mixer="vdn")),
    "qtran": ("qtran_learner", dict(mixer="qtran_base")),
    "qtran_big_single_q": ("qtran_learner", SINGLE_Q | dict(mixer="qtran_base", network_size="big")),
    "cw_qmix": ("wqmix_learner", dict(mixer="qmix")),
    "ow_qmix": ("wqmix_learner", SINGLE_Q | dict(mixer="qmix", weighting="optimistically", td_lambda=0.6)),
    "qplex": ("qplex_learner", dict(mixer="qplex")),
    "qplex_single_q": ("qplex_learner", SINGLE_Q | dict(mixer="qplex", adv_hypernet_layers=1, td_lambda=0.6)),
    "coma": ("coma_learner", POLICY | dict(mask_before_softmax=False)),
    "coma_masked": ("coma_learner", POLICY | dict(mask_before_softmax=True, td_lambda=0.8)),
    "ippo": ("ppo_learner", PPO | dict(critic_reads="obs")),
    "ippo_ns": ("ppo_learner", PPO | dict(critic_reads="obs", agent="idv_rnn", critic="idv_rnn", num_mini_batch=2)),
    "ippo_ff": ("ppo_learner", PPO | dict(critic_reads="obs", agent="ff", critic="ff", standardise_returns=False)),
    "mappo": ("ppo_learner", PPO),
    "mappo_chunks": ("ppo_learner", PPO | dict(data_chunk_length=3, num_mini_batch=2)),
    "mappo_omg_chunks": (
        "ppo_learner",
        PPO | dict(am_model="omg", data_chunk_length=3, critic="rnn_norm", omg_policy_reads="mean"),
    ),
    "mappo_target": (
        "ppo_learner",
        PPO
        | dict(
            critic="mlp_critic",
            critic_reads="state",
            target_update_interval_or_tau=2,
            recompute_returns=True,
            q_nstep=3,
        ),
    ),
    "mappo_epymarl": ("ppo_learner", PPO | EPYMARL | dict(critic_reads="state", target_update_interval_or_tau=0.01)),
    "ippo_liam": ("ppo_learner", PPO | dict(critic_reads="obs", am_model="liam", num_mini_batch=2)),
    "ippo_omg": (
        "ppo_learner",
        PPO | dict(critic_reads="obs", am_model="omg", omg_policy_reads="mean", standardise_returns=False),
    ),
    "mappo_omg": (
        "ppo_learner",
        PPO | dict(am_model="omg", recompute_returns=True, critic="mlp_critic", omg_supervised=True),
    ),
    "pqn_omg": ("pqn_learner", dict(am_model="omg", td_lambda=0.8)),
    "pqn_am": ("pqn_learner", dict(am_model="base", td_lambda=0.8, mixer="vdn")),
    "pqn_iql": ("pqn_learner", dict(agent="rnn_norm", optimizer="radam", td_lambda=0.8)),
    "pqn_vdn": ("pqn_learner", dict(agent="rnn_norm", mixer="vdn", num_mini_batch=2)),
    "pqn_qmix": ("pqn_learner", dict(mixer="qmix", td_lambda=0.8)),
    "iql_none": ("q_learner_4am", dict(am_model="none")),
    "iql_am": ("q_learner_4am", dict(am_model="base")),
    "iql_liam": ("q_learner_4am", dict(am_model="liam")),
    "qmix_liam": ("q_learner_4am", dict(am_model="liam", mixer="qmix")),
    "iql_omg": ("omg_learner", dict(am_model="omg")),
    "vdn_omg": ("omg_learner", dict(am_model="omg", mixer="vdn")),
    "omg_supervised": ("omg_learner", dict(am_model="omg", omg_supervised=True)),
    "omg_conservative": ("omg_learner", SINGLE_Q | dict(am_model="omg", subgoal_mode="conservative", omg_value="max")),
    "omg_random": ("omg_learner", dict(am_model="omg", subgoal_mode="random")),
    "omg_second": ("omg_learner", dict(am_model="omg", subgoal_mode=2)),
    "omg_prior": ("omg_learner", dict(am_model="omg", omg_vae_pretrain_steps=10**6)),
    "am": ("am_learner", dict(am_model="base")),
    "am_liam": ("am_learner", dict(am_model="liam")),
    "am_omg": ("am_learner", dict(am_model="omg")),
}
OF_SEATS = [
    "iql",
    "iql_none",
    "iql_am",
    "iql_liam",
    "iql_omg",
    "omg_supervised",
    "omg_conservative",
    "omg_second",
    "am",
    "ippo_ff",
    "ippo_omg",
    "pqn_iql",
    "pqn_omg",
]
WITHOUT_TARGETS = (
    "am",
    "am_liam",
    "am_omg",
    "ippo",
    "ippo_ns",
    "ippo_ff",
    "ippo_liam",
    "ippo_omg",
    "mappo_omg",
    "pqn_am",
    "pqn_omg",
    "mappo",
    "mappo_chunks",
    "mappo_omg_chunks",
    "pqn_iql",
    "pqn_vdn",
    "pqn_qmix",
)


def of_learners(names):
    """A test for each of these cases; quick is the first of each registered learner."""
    first = {learner: name for name, (learner, _) in reversed(CASES.items())}.values()
    return pytest.mark.parametrize(
        "name", [name if name in first else pytest.param(name, marks=pytest.mark.slow) for name in names]
    )


every_learner = of_learners(CASES)

VALUES = {"loss", "grad_norm", "td_error_abs", "q_taken_mean", "target_mean"}
PREDICTIONS = {"am_loss", "am_action_accuracy", "am_grad_norm"}
LIAM = PREDICTIONS | {"liam_recon_loss", "liam_action_loss"}
SUBGOALS = {"eta", "am_grad_norm", "subgoal_hit_ratio", "subgoal_k1", "subgoal_k2", "subgoal_k3"} | {
    "omg_active_units", "omg_signal_to_noise", "omg_skill", "omg_q_sensitivity"
}  # fmt: skip
QTRAN = {"loss", "td_loss", "opt_loss", "nopt_loss", "grad_norm", "td_error_abs", "td_targets", "td_chosen_qs"}
COMA = {"critic_loss", "critic_grad_norm", "td_error_abs", "q_taken_mean", "target_mean"}
PPO_STATS = COMA | {"advantage_mean", "pg_loss", "agent_grad_norm", "pi_max", "entropy", "clipped_share"}
STATISTICS = {
    "ppo_learner": lambda own: PPO_STATS | of_model(own),
    "q_learner": lambda own: VALUES,
    "weighted_learner": lambda own: VALUES,
    "pqn_learner": lambda own: VALUES | of_model(own),
    "qtran_learner": lambda own: QTRAN | {"v_mean", "agent_indiv_qs"},
    "wqmix_learner": lambda own: VALUES | {"qmix_loss", "central_loss", "w_to_use"},
    "qplex_learner": lambda own: VALUES | {"hit_prob"},
    "coma_learner": lambda own: COMA | {"advantage_mean", "coma_loss", "agent_grad_norm", "pi_max"},
    "q_learner_4am": lambda own: VALUES | of_model(own),
    "am_learner": lambda own: {"base": PREDICTIONS, "liam": LIAM, "omg": {"omg_prior_loss"}}[own["am_model"]],
    "omg_learner": lambda own: {"omg_prior_loss"} if "omg_vae_pretrain_steps" in own else VALUES | of_model(own),
}


def of_model(own):
    """What the trainer of an agent model logs."""
    of_omg = {"omg_regression_loss"} if "omg_supervised" in own else {"omg_recon_loss", "omg_kl"}
    logs = {"": set(), "none": set(), "base": PREDICTIONS, "liam": LIAM, "omg": SUBGOALS | of_omg}
    return logs[own.get("am_model", "")]


@pytest.fixture(autouse=True)
def a_users_learner(monkeypatch):
    monkeypatch.setitem(REGISTRY, "weighted_learner", WeightedLearner)


def make_learner(name, n_seats=None, seed=1, **overrides):
    learner, own = CASES[name]
    args = make_omg_args(**(own | overrides))
    if "am_model" not in own:
        del args.am_model
    th.manual_seed(seed)
    return REGISTRY[learner](make_mac(args, n_seats), make_scheme(args)[0], RecordingLogger(), args)


def some_episodes(args, seed=0):
    return make_batch(args, [8, 2, 5, 7], [True, False, True, False], seed=seed)


def train(learner, n_updates=1, first=1, seed=2):
    """Updates number `first` and following."""
    for i in range(first, first + n_updates):
        th.manual_seed(seed + i)
        learner.train(some_episodes(learner.args, seed=i), t_env=100 * i, episode_num=i)
    return learner


def state_of(learner):
    """All that the next update depends on, as it is now."""
    return deepcopy(learner.state_dict())


def networks_of(learner):
    """The live ones, by name."""
    parts = {name: part for name, part in vars(learner).items() if isinstance(part, th.nn.Module)}
    return {name: part for name, part in parts.items() if not name.startswith("target_")} | learner.mac.networks()


def gradients_of(learner):
    return {
        (name, key): parameter.grad
        for name, network in networks_of(learner).items()
        for key, parameter in network.named_parameters()
        if parameter.grad is not None
    }


def statistics_of(learner):
    return {key: learner.logger.values(key) for key in learner.logger.stats}


def test_every_registered_learner_is_here():
    assert {learner for learner, _ in CASES.values()} == set(REGISTRY)


@every_learner
@pytest.mark.parametrize("size", [1e3, 1e8])
def test_noise_in_the_padding_changes_no_loss_and_no_gradient(name, size):
    clean, noisy = make_learner(name), make_learner(name)
    batch = some_episodes(clean.args)
    for learner, given in ((clean, batch), (noisy, with_noisy_padding(batch, size))):
        th.manual_seed(2)
        learner.train(given, t_env=0, episode_num=0)
    assert statistics_of(clean) == statistics_of(noisy)
    assert gradients_of(clean) and equal(gradients_of(clean), gradients_of(noisy))
    assert equal(state_of(clean), state_of(noisy))


@every_learner
def test_the_same_seed_gives_the_same_weights_and_another_gives_others(name):
    first, again, other = (train(make_learner(name, seed=seed), 2) for seed in (1, 1, 2))
    assert equal(state_of(first), state_of(again)) and statistics_of(first) == statistics_of(again)
    assert not equal(state_of(first), state_of(other))


@every_learner
def test_statistics_have_their_names_and_their_interval(name):
    learner = make_learner(name, learner_log_interval=100)
    for t_env in (5, 60, 104, 105, 110, 300):
        learner.train(some_episodes(learner.args), t_env=t_env, episode_num=0)
    of_learner, own = CASES[name]
    assert learner.logger.stats.keys() == STATISTICS[of_learner](own)
    for values in learner.logger.stats.values():
        assert [t for t, _ in values] == [5, 105, 300] and all(type(value) is float for _, value in values)


@every_learner
def test_targets_get_no_gradient_and_follow_at_their_interval(name):
    # The intervals are episodes, or the critic's training steps, of which each update has 8.
    learner = make_learner(name, target_update_interval=2, critic_target_update_interval=16)
    targets = [part.removeprefix("target_") for part in learner.parts() if part.startswith("target_")]
    assert bool(targets) == (name not in WITHOUT_TARGETS)
    for i, follows in ((1, False), (2, True), (3, False), (4, True)):
        before, after = state_of(learner), state_of(train(learner, first=i))
        # The prior comes before the rest; EPyMARL's target moves a share of the way.
        for part in targets if name not in ("omg_prior", "mappo_epymarl") else ():
            live, target, old = (
                policy_in(state) for state in (after[part], after[f"target_{part}"], before[f"target_{part}"])
            )
            if live:  # VDN's mixer has no weights
                assert equal(live, target) == follows and equal(old, target) != follows, (part, i)
    copies = [getattr(learner, f"target_{part}", None) for part in ("mac", "mixer", "critic")]
    networks = [*copies[0].networks().values()] if copies[0] else []
    for network in (*networks, *(copy for copy in copies[1:] if copy)):
        assert all(parameter.grad is None for parameter in network.parameters())


def policy_in(state):
    """Of a controller with an agent model the policy alone: the target's model is never read."""
    return state.get("agent", state)


@every_learner
def test_what_is_restored_goes_on_bit_for_bit(name, tmp_path):
    settings = {"target_update_interval": 2, "critic_target_update_interval": 12, "learner_log_interval": 150}
    learner = train(make_learner(name, **settings), 3)
    learner.save_models(tmp_path)
    th.save(learner.state_dict(), tmp_path / "all.state")
    by_files, by_state = (make_learner(name, seed=9, **settings) for _ in range(2))
    by_files.load_models(tmp_path)
    by_files.set_counts(deepcopy(learner.counts()))
    by_state.load_state_dict(th.load(tmp_path / "all.state", weights_only=True))
    for other in (by_files, by_state):
        assert equal(state_of(other), state_of(learner))
    train(learner, 2, first=4)
    for other in (by_files, by_state):
        assert equal(state_of(train(other, 2, first=4)), state_of(learner))
        assert other.logger.stats == {key: values[-1:] for key, values in learner.logger.stats.items()}  # of 500


@every_learner
def test_a_folder_without_targets_gives_targets_like_the_live_networks_and_a_missing_file_is_named(name, tmp_path):
    learner = train(make_learner(name), 2)
    learner.save_models(tmp_path)
    for file in tmp_path.glob("target_*"):
        file.unlink()
    other = make_learner(name, seed=9)
    other.load_models(tmp_path)
    state = state_of(other)
    assert all(
        equal(part, state[key.removeprefix("target_")]) for key, part in state.items() if key.startswith("target_")
    )
    for file in sorted(file for file in tmp_path.iterdir() if not file.stem.endswith("opt")):
        file.rename(tmp_path / "kept")
        with pytest.raises(UserError, match=f"no weights at .*{file.name}"):
            other.load_models(tmp_path)
        (tmp_path / "kept").rename(file)


@every_learner
def test_a_loss_that_is_not_finite_stops_before_it_spoils_the_weights(name):
    learner = train(make_learner(name, omg_vae_batches=1))
    batch, before = some_episodes(learner.args), state_of(learner)
    batch["obs"][0, 7] = float("inf")
    with pytest.raises(LossNotFinite, match="the loss is (nan|inf) at t_env 700"):
        learner.train(batch, t_env=700, episode_num=0)
    assert equal(state_of(learner), before)


@every_learner
def test_learning_rates_that_decay_are_halved_half_way_and_0_at_the_end(name):
    decaying, steady = make_learner(name, lr_decay=True, t_max=1000), make_learner(name)
    given = rates_of(steady)
    for t_env, share in ((0, 1.0), (500, 0.5), (750, 0.25)):
        before = state_of(decaying)
        decaying.train(some_episodes(decaying.args), t_env=t_env, episode_num=0)
        # A prior is not trained together with the rest.
        stepped = [part for part in given if not equal(before[part], decaying.state_dict()[part])]
        assert stepped
        assert {part: rates_of(decaying)[part] for part in stepped} == {part: share * given[part] for part in stepped}
    before = weights_of(decaying)
    decaying.train(some_episodes(decaying.args), t_env=1000, episode_num=0)
    assert equal(before, weights_of(decaying))


@every_learner
def test_learning_rates_of_a_resumed_run_are_those_of_its_settings(name, tmp_path):
    slow = train(make_learner(name, lr=0.001, critic_lr=0.001, am_lr=0.001, lr_decay=True, t_max=1000))
    slow.save_models(tmp_path)
    quick = make_learner(name, lr=0.1, critic_lr=0.1, am_lr=0.1)
    quick.load_models(tmp_path)
    assert set(rates_of(quick).values()) == {0.1}
    train(quick)
    assert set(rates_of(quick).values()) == {0.1}


def test_in_a_population_learning_rates_fall_until_its_own_last_step():
    learner = make_learner("iql", lr_decay=True, t_max=1000, population_factor=4)
    learner.train(some_episodes(learner.args), t_env=2000, episode_num=0)
    assert rates_of(learner) == {"opt": learner.args.lr / 2}


@pytest.mark.parametrize("name", ["ippo", "pqn_iql"])
def test_a_collection_is_learned_from_in_so_many_parts_as_asked_for(name):
    """Also where its pieces can't be divided evenly, and in one for each where they are fewer."""
    for n_parts, sizes in ((4, [2, 2, 1, 1]), (5, [2, 1, 1, 1, 1]), (9, [1] * 6)):
        learner = make_learner(name, num_mini_batch=n_parts)
        parts = list(learner.mini_batches(make_batch(learner.args, [8] * 6)))
        assert [part.batch_size for part, _ in parts] == sizes
        assert sorted(th.cat([episodes for _, episodes in parts]).tolist()) == list(range(6))


def rates_of(learner):
    return {
        part: optimiser.param_groups[0]["lr"]
        for part, optimiser in learner.parts().items()
        if isinstance(optimiser, th.optim.Optimizer)
    }


def weights_of(learner):
    return deepcopy({name: dict(network.named_parameters()) for name, network in networks_of(learner).items()})


@every_learner
def test_after_updates_the_policy_acts_by_what_it_has_learned(name):
    learner = train(make_learner(name), 2)
    batch = some_episodes(learner.args)
    counts = acts_in(learner.mac, batch)
    assert counts.float().mean() > 0.5
    learned = learner.mac.unroll(batch, test_mode=True)
    assert th.allclose(act(learner.mac, batch)[counts], learned[counts], atol=1e-5)


@every_learner
def test_fast_forms_change_no_loss_and_no_gradient(name, monkeypatch):
    fast = train(make_learner(name, target_update_interval=2), 3)
    for kind in list(FAST_PATHS):
        monkeypatch.delitem(FAST_PATHS, kind)
    plain = train(make_learner(name, target_update_interval=2), 3)
    assert {key: pytest.approx(values, rel=1e-5, abs=1e-6) for key, values in statistics_of(plain).items()} == (
        statistics_of(fast)
    )
    grads, expected = gradients_of(fast), gradients_of(plain)
    assert grads.keys() == expected.keys()
    for key, grad in grads.items():
        # Tanh in 32 bits: the compiled one is within 4e-7 of torch's, and three updates carry that on.
        assert (grad - expected[key]).norm() / expected[key].norm().clamp(min=1e-4) < 2e-5, key


@of_learners([name for name in CASES if name not in ("omg_random", "mappo_epymarl")])
def test_cutting_the_padding_off_changes_nothing(name, monkeypatch):
    without_chance(monkeypatch)
    whole, cut = (make_learner(name, eta=1.0, eta_anneal_time=10**9) for _ in range(2))
    batch = make_batch(whole.args, [5, 4, 2], [True, False, True])
    for learner, given in ((whole, batch), (cut, batch[:, : batch.max_t_filled()])):
        th.manual_seed(2)
        learner.train(given, t_env=0, episode_num=0)
    assert statistics_of(whole) == {k: pytest.approx(v, rel=1e-5, abs=1e-7) for k, v in statistics_of(cut).items()}
    assert whole.counts() == cut.counts()


def without_chance(monkeypatch):
    """Subgoals are means, not draws."""
    monkeypatch.setattr("modules.am.omg_am.Gaussian.sample", lambda gaussian, generator=None: gaussian.mu)


@of_learners(OF_SEATS)
def test_all_seats_as_episodes_of_their_own_teach_the_same_as_the_team(name, monkeypatch):
    without_chance(monkeypatch)
    settings = {"eta": 1.0, "eta_anneal_time": 10**9, "grad_norm_clip": 1e9}
    team, seats = make_learner(name, **settings), make_learner(name, n_seats=1, **settings)
    batch = some_episodes(team.args)
    for learner, given in ((team, batch), (seats, every_seat(batch))):
        th.manual_seed(2)
        learner.train(given, t_env=0, episode_num=0)
    of_team, of_seats = statistics_of(team), statistics_of(seats)
    for stats in (of_team, of_seats):  # another episode of the batch may be another seat of the same one
        stats.pop("omg_q_sensitivity", None)
    assert of_team == {k: pytest.approx(v, rel=1e-4, abs=1e-6) for k, v in of_seats.items()}
    expected = gradients_of(seats)
    assert gradients_of(team).keys() == expected.keys()
    for key, grad in gradients_of(team).items():
        assert th.allclose(grad, expected[key], atol=1e-5), key


OF_VALUES = [name for name, (learner, own) in CASES.items() if not learner.startswith(("coma", "am_", "ppo"))]


@of_learners([name for name in OF_VALUES if name != "omg_prior"])
def test_with_lambda_1_the_target_of_an_episode_that_ended_is_its_discounted_return(name):
    learner = make_learner(name, td_lambda=1.0, gamma=0.9, num_mini_batch=1)
    batch = make_batch(learner.args, [8, 5], [True, True])
    returns = []
    for b, length in enumerate((8, 5)):
        discounted = 0.0
        for t in reversed(range(length)):
            discounted = batch["reward"][b, t].item() + 0.9 * discounted
            returns.append(discounted)
    learner.train(batch, t_env=0, episode_num=0)
    key, n = ("td_targets", 1) if "qtran" in name else ("target_mean", 1 if learner.mixer is None else 3)
    assert learner.logger.values(key)[0] * n == pytest.approx(sum(returns) / len(returns), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qmix", "cw_qmix", "qplex", "mappo", "pqn_vdn", "iql_omg"])
def test_an_update_does_not_depend_on_the_number_of_threads(name):
    """With networks that are large enough for two threads to share the work."""
    results = []
    for n_threads in (1, 2):
        th.set_num_threads(n_threads)
        results.append(train(make_learner(name, rnn_hidden_dim=384, obs_shape=200)))
    one, two = results
    stats = {key: pytest.approx(values, rel=1e-5, abs=1e-6) for key, values in statistics_of(one).items()}
    assert stats == statistics_of(two)
    others = gradients_of(two)
    for key, grad in gradients_of(one).items():
        assert (grad - others[key]).norm() / grad.norm().clamp(min=1e-6) < 1e-5, key
