"""What the episode runner writes into a batch, counts and logs, in one world and in several of different lengths."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch as th

import run
from envs import REGISTRY as ENVS
from runners.episode_runner import EpisodeRunner
from tests.builders import RecordingLogger
from tests.games import EndlessGame, Game, RandomGame, UnendingGame, configure, frozen, registered
from utils.errors import UserError
from utils.seeding import world_seeds

FIELDS = ("obs", "state", "avail_actions", "actions", "reward", "terminated", "filled")


class WatchedGame(RandomGame):
    """Keeps what happened: `history` has for every episode what was seen, played and paid, step by step."""

    def __init__(self, seed=None):
        super().__init__(seed)
        self.history = []

    def reset(self):
        seen = super().reset()
        self.history.append([])
        self._keep(None, 0.0, False)
        return seen

    def step(self, actions):
        reward, over, info = super().step(actions)
        self._keep(np.array(actions), reward, over and not info["episode_limit"])
        return reward, over, info

    def _keep(self, actions, reward, ended):
        seen = {"obs": np.array(self.get_obs()), "state": self.get_state(), "avail_actions": self.get_avail_actions()}
        self.history[-1].append({**seen, "actions": actions, "reward": reward, "terminated": ended})


def set_up(game=WatchedGame, n_worlds=1, env=None, **settings):
    """A runner with a controller over `n_worlds` worlds of the game, or of the registered environment `env`."""
    config = configure("iql", batch_size_run=n_worlds, seed=7, rnn_hidden_dim=16, **settings)
    if env is not None:
        name, env_args = env
        config |= {"env": name, "env_args": env_args}
    logger = RecordingLogger()
    with registered(game):
        made = run.Run({**config, "device": "cpu"}, logger)
    return made.runner, made.mac, logger


def play_until(runner, condition, test_mode=False):
    """The first batch of many that fulfils the condition."""
    for _ in range(50):
        batch = runner.run(test_mode=test_mode)
        if condition(batch):
            return batch
    raise AssertionError("no such episode")


def lengths_of(batch):
    return (batch["filled"].sum((1, 2)) - 1).tolist()


# --- the batch


@pytest.mark.parametrize("n_worlds", [1, 3])
def test_every_step_of_the_batch_is_what_the_world_showed_and_what_was_played(n_worlds):
    runner, _, _ = set_up(n_worlds=n_worlds)
    for episode in range(4):
        batch = runner.run()
        for b, world in enumerate(runner.env.envs):
            steps = world.history[episode]
            for t, (now, after) in enumerate(zip(steps, steps[1:], strict=False)):
                for key in ("obs", "state", "avail_actions"):
                    assert np.array_equal(batch[key][b, t], np.asarray(now[key], np.float32)), key
                assert batch["actions"][b, t, :, 0].tolist() == after["actions"].tolist()
                assert batch["reward"][b, t, 0].item() == pytest.approx(after["reward"], rel=1e-6)
                assert batch["terminated"][b, t, 0] == after["terminated"]
            assert np.array_equal(batch["obs"][b, len(steps) - 1], steps[-1]["obs"])
            assert lengths_of(batch)[b] == len(steps) - 1


def test_steps_after_an_episodes_end_stay_empty():
    runner, _, _ = set_up(n_worlds=3)
    batch = play_until(runner, lambda batch: min(lengths_of(batch)) + 2 <= max(lengths_of(batch)))
    for b, length in enumerate(lengths_of(batch)):
        assert batch["filled"][b, :, 0].tolist() == [1] * (length + 1) + [0] * (runner.episode_limit - length)
        for key in FIELDS:
            assert not batch[key][b, length + 1 :].any(), key
        for key in ("actions", "reward", "terminated"):  # the final observation is followed by nothing
            assert not batch[key][b, length].any(), key


@pytest.mark.parametrize(("bootstrap_timeouts", "is_end"), [(True, 0), (False, 1)])
def test_a_time_out_is_stored_as_an_end_only_where_timeouts_do_not_bootstrap(bootstrap_timeouts, is_end):
    runner, _, _ = set_up(bootstrap_timeouts=bootstrap_timeouts)
    cut_off = play_until(runner, lambda batch: lengths_of(batch) == [runner.episode_limit])
    assert cut_off["terminated"][0, :, 0].tolist() == [0] * (runner.episode_limit - 1) + [is_end, 0]
    ended = play_until(runner, lambda batch: lengths_of(batch) < [runner.episode_limit])
    assert ended["terminated"].sum() == 1 and ended["terminated"][0, lengths_of(ended)[0] - 1] == 1


@pytest.mark.parametrize(("continues", "is_end"), [(None, 1), (False, 1), (True, 0)])
@pytest.mark.parametrize(("env", "map_name"), [("sc2", "3m"), ("sc2v2", "terran_5_vs_5")])
def test_on_starcraft_a_time_out_is_an_end_unless_episodes_continue(env, map_name, continues, is_end):
    """Agents who stand, and enemies who hold their places, until the time is over."""
    option = {} if continues is None else {"continuing_episode": continues}
    runner, _, _ = set_up(env=(env, {"map_name": map_name, "engine": "sim", "enemy": "script:hold", **option}))
    runner.team.select_actions = lambda batch, t, *_, bs, **__: batch["avail_actions"][bs, t, :, 1].long()
    batch = play_until(runner, lambda batch: lengths_of(batch) == [runner.episode_limit])
    assert batch["terminated"][0, :, 0].tolist() == [0] * (runner.episode_limit - 1) + [is_end, 0]


def test_rollouts_record_no_graph():
    runner, mac, _ = set_up()
    batch = runner.run()
    assert not any(batch[key].requires_grad for key in FIELDS)
    assert mac.hidden_states.grad_fn is None and not mac.hidden_states.requires_grad


def test_every_episode_starts_without_memories_of_the_last_one(monkeypatch):
    runner, mac, _ = set_up(n_worlds=2)
    select_actions, remembered = mac.select_actions, []

    def watched(batch, t_ep, *args, **kwargs):
        remembered.append((t_ep, mac.hidden_states.abs().sum().item()))
        return select_actions(batch, t_ep, *args, **kwargs)

    monkeypatch.setattr(mac, "select_actions", watched)
    for _ in range(3):
        runner.run()
    assert [memory for t_ep, memory in remembered if t_ep == 0] == [0, 0, 0]
    assert all(memory > 0 for t_ep, memory in remembered if t_ep > 0)


def test_a_new_episode_leaves_the_batch_of_the_last_one_alone():
    runner, _, _ = set_up()
    first = runner.run()
    before = {key: first[key].clone() for key in FIELDS}
    runner.run()
    assert all(th.equal(first[key], before[key]) for key in FIELDS)


def test_a_world_that_goes_on_beyond_its_limit_is_an_error_that_names_the_limit():
    runner, _, _ = set_up(game=UnendingGame)
    with pytest.raises(UserError, match="'game_of_a_test' went on beyond its episode_limit of 3 steps"):
        runner.run()


# --- several worlds


# An untrained team stands still in battle, so that all battles take equally long; the heuristic one fights.
BATTLE = ("sc2", {"engine": "sim", "map_name": "3m", "heuristic_ai": True})


@pytest.mark.parametrize("env", [None, BATTLE], ids=["game", "battle"])
def test_an_episode_in_one_of_three_worlds_equals_the_same_world_played_alone(env):
    runner, _, _ = set_up(n_worlds=3, env=env)
    # Greedily, since random actions are drawn for all worlds together.
    together = [runner.run(test_mode=True) for _ in range(4)]
    assert any(len(set(lengths_of(batch))) > 1 for batch in together)
    for b, seed in enumerate(world_seeds(7, 3)):
        alone, mac, _ = set_up(n_worlds=1, env=env)
        mac.load_state(runner.team.mac)
        alone.env = ENVS["sc2"].vector([seed], **env[1]) if env else WatchedGame.vector([seed])
        for batch in together:
            lone = alone.run(test_mode=True)
            for key in FIELDS:
                assert th.equal(lone[key][0], batch[key][b]), (b, key)


def test_worlds_of_one_run_differ_and_so_do_those_of_another_seed():
    seeds = world_seeds(7, 3)
    assert len({*seeds, *world_seeds(8, 3)}) == 6
    assert world_seeds(7, 1) == seeds[:1]
    runner, _, _ = set_up(n_worlds=3)
    assert [world.seed() for world in runner.env.envs] == seeds


def test_finished_worlds_are_not_stepped():
    runner, _, _ = set_up(n_worlds=3)
    batch = play_until(runner, lambda batch: len(set(lengths_of(batch))) > 1)  # a game refuses steps after its end
    assert [len(world.history[-1]) - 1 for world in runner.env.envs] == lengths_of(batch)


# --- what is counted and logged


def test_only_the_steps_of_training_are_counted():
    runner, _, _ = set_up(n_worlds=3)
    batches = [runner.run(test_mode=test_mode) for test_mode in (False, True, False)]
    assert runner.t_env == sum(lengths_of(batches[0])) + sum(lengths_of(batches[2]))


def test_training_statistics_are_means_over_the_episodes_since_the_last_ones():
    runner, _, logger = set_up(n_worlds=2, runner_log_interval=20)
    logged_t, since = -21, []
    for _ in range(12):
        batch = runner.run()
        for b, length in enumerate(lengths_of(batch)):
            since.append((batch["reward"][b].sum().item(), length, length % 2 == 0))
        if runner.t_env - logged_t >= 20:
            returns, lengths, won = (np.array(column, float) for column in zip(*since, strict=True))
            expected = {
                "return_mean": returns.mean(),
                "return_std": returns.std(),
                "ep_length_mean": lengths.mean(),
                "battle_won_mean": won.mean(),
                "steps_done_mean": lengths.mean(),
                "epsilon": runner.team.epsilon,
            }
            for key, value in expected.items():
                t, last = logger.stats[key][-1]
                assert t == runner.t_env and last == pytest.approx(value, abs=1e-6), key
            assert set(logger.stats) == set(expected)
            logged_t, since = runner.t_env, []
    assert 2 < len(logger.stats["return_mean"]) < 12 and logger.stats["return_mean"][0][0] <= 14


def test_test_statistics_cover_all_episodes_of_the_test_and_no_other():
    runner, _, logger = set_up(test_nepisode=20)
    runner.run()
    logger.stats.clear()
    batches = []
    for episode in range(20):
        assert not logger.stats and runner.test_win_rate is None, episode
        batches.append(runner.run(test_mode=True))
    returns = [batch["reward"].sum().item() for batch in batches]
    lengths = [lengths_of(batch)[0] for batch in batches]
    won = np.mean([length % 2 == 0 for length in lengths])
    assert logger.values("test_return_mean") == [pytest.approx(np.mean(returns), abs=1e-6)]
    assert logger.values("test_return_std") == [pytest.approx(np.std(returns), abs=1e-6)]
    assert logger.values("test_ep_length_mean") == [pytest.approx(np.mean(lengths))]
    assert logger.values("test_battle_won_mean") == [pytest.approx(won)] and runner.test_win_rate == pytest.approx(won)
    assert all(key.startswith("test_") for key in logger.stats)


def test_what_the_info_holds_is_no_statistic_unless_the_world_declares_it():
    runner, _, logger = set_up(runner_log_interval=1, test_nepisode=1)
    for test_mode in (False, True):
        runner.run(test_mode=test_mode)
    assert not [key for key in logger.stats if "junk" in key or "words" in key or "episode_limit" in key]


def test_a_world_without_battles_has_no_win_rate():
    runner, _, logger = set_up(game=EndlessGame, test_nepisode=1)
    runner.run(test_mode=True)
    assert runner.test_win_rate is None
    assert set(logger.stats) == {"test_return_mean", "test_return_std", "test_ep_length_mean"}
    assert logger.values("test_return_mean") == [3] and logger.values("test_ep_length_mean") == [3]


def test_closing_the_runner_closes_every_world():
    closed = []

    class ClosedGame(Game):
        def close(self):
            closed.append(self.seed())

    with registered(ClosedGame):
        runner = EpisodeRunner(args=frozen(configure("iql", batch_size_run=3, seed=7)), logger=SimpleNamespace())
    runner.close_env()
    assert closed == world_seeds(7, 3)
