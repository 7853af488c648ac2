"""Collections of a fixed number of steps: pieces of episodes that fit together, and what a learner is told of each."""

import numpy as np
import pytest
import torch as th

from components.pieces import ACTIONS_BEFORE, HIDDEN_BEFORE
from run import Run
from tests.builders import RecordingLogger
from tests.games import MemoryGame, RandomGame, configure, registered

QUIET = {"log_interval": 10**6, "rnn_hidden_dim": 8, "test_nepisode": 2}
N_STEPS, N_WORLDS = 5, 3


class CountingGame(RandomGame):
    """Also shows the number of the episode, and of the step in it."""

    episodes = 0

    def reset(self):
        self.episodes += 1
        return super().reset()

    def get_obs(self):
        return [np.concatenate([[self.episodes, self.t], obs[2:]]).astype(np.float32) for obs in self.obs]

    def get_state(self):
        return self.get_obs()[0]


def made(game=CountingGame, **settings):
    own = {"batch_size_run": N_WORLDS, "seed": 3, "num_mini_batch": 1, "collect_steps": N_STEPS}
    with registered(game):
        config = configure("pqn_vdn", **(QUIET | own | settings))
        return Run({**config, "device": "cpu", "runner": "episode"}, RecordingLogger())  # worlds in this process


def collected(run, n=6):
    """All pieces of several collections: (batch, row) in the order in which they were played."""
    pieces = []
    for _ in range(n):
        batch = run.runner.run()
        assert batch["filled"].sum() - batch.batch_size == N_STEPS * N_WORLDS
        pieces += [(batch, b) for b in range(batch.batch_size)]
    return pieces


def length_of(batch, b):
    return int(batch["filled"][b].sum()) - 1


def test_pieces_follow_each_other_step_by_step_and_no_step_is_left_out_or_played_twice():
    run = made()
    for batch, b in collected(run):
        length = length_of(batch, b)
        number, t = (batch["obs"][b, : length + 1, 0, i].tolist() for i in (0, 1))
        assert set(number) == {number[0]} and t == [t[0] + k for k in range(length + 1)]
        assert not batch["actions"][b, length:].any() and not batch["reward"][b, length:].any()
        assert not batch["terminated"][b, length:].any() and not batch["obs"][b, length + 1 :].any()
    assert run.t_env == 6 * N_STEPS * N_WORLDS


def test_stitched_pieces_are_episodes_and_a_network_computes_the_same_in_both():
    """Hidden states and last actions before each piece are those that the episode has there."""
    run = made(obs_last_action=True)
    batches = [run.runner.run() for _ in range(6)]
    q_of = {id(batch): run.mac.unroll(batch) for batch in batches}
    stitched = 0
    open_pieces = []  # of episodes that a collection has cut
    for batch in batches:
        still_open = []
        for b in range(batch.batch_size):
            length = length_of(batch, b)
            number, t = batch["obs"][b, 0, 0, :2].tolist()
            parts = next((parts for parts in open_pieces if follows(parts, batch, b)), []) if t else []
            assert bool(parts) == bool(t), (number, t)
            parts = [*parts, (batch, b, length)]
            if len(parts) > 1:
                check_stitched(run, parts, q_of)
                stitched += 1
            still_open.append(parts)
        open_pieces = still_open
    assert stitched > 5


def follows(parts, batch, b):
    """Whether a piece begins with what the last of `parts` has seen last."""
    last, row, length = parts[-1]
    return th.equal(last["obs"][row, length], batch["obs"][b, 0])


def check_stitched(run, parts, q_of):
    fields = ("obs", "state", "avail_actions", "actions", "reward", "terminated")
    total = sum(length for _, _, length in parts)
    whole = run.runner.new_batch(total + 1, 1)
    t = 0
    for batch, b, length in parts:
        whole.update({key: batch[key][b : b + 1, : length + 1] for key in fields}, ts=slice(t, t + length + 1))
        t += length
    q, t = run.mac.unroll(whole)[0], 0
    for batch, b, length in parts:
        assert th.allclose(q[t : t + length + 1], q_of[id(batch)][b, : length + 1], atol=1e-5)
        t += length


def test_a_piece_that_begins_an_episode_has_no_past():
    run = made()
    for batch, b in collected(run):
        goes_on = batch["obs"][b, 0, 0, 1] > 0
        assert batch[HIDDEN_BEFORE][b].any() == goes_on
        assert batch[ACTIONS_BEFORE][b].sum() == (3 if goes_on else 0)


def test_as_many_steps_as_every_episode_has_are_whole_episodes():
    pieces, episodes = (made(MemoryGame, collect_steps=steps) for steps in (3, None))
    for _ in range(4):
        batch, whole = pieces.runner.run(), episodes.runner.run()
        order = batch["obs"].flatten(1).sum(1)  # rows come as they end, here all at once
        assert order.shape == (N_WORLDS,)
        for key in ("obs", "state", "avail_actions", "actions", "reward", "terminated", "filled"):
            assert th.equal(batch[key], whole[key]), key
        assert th.allclose(pieces.mac.unroll(batch), episodes.mac.unroll(whole), atol=1e-6)
    assert pieces.t_env == episodes.t_env and pieces.runner.n_ended == N_WORLDS


def test_a_time_limit_inside_a_collection_bootstraps_from_what_was_seen_last():
    run = made()
    for batch, b in collected(run, 12):
        length, t = length_of(batch, b), batch["obs"][b, 0, 0, 1]
        if t + length == CountingGame.episode_limit:
            assert not batch["terminated"][b].any() and batch["obs"][b, length, 0, 1] == CountingGame.episode_limit
            return
    raise AssertionError("no episode was cut off")


def test_statistics_are_those_of_whole_episodes():
    run = made(MemoryGame, collect_steps=5, runner_log_interval=1)
    for _ in range(6):
        run.runner.run()
    assert set(run.logger.values("ep_length_mean")) == {3.0}
    assert run.logger.stats["return_mean"] and run.runner.n_ended == 2 * N_WORLDS


def test_worlds_explore_less_the_higher_their_number():
    run = made(epsilon_alpha=3.0, epsilon_start=0.5, epsilon_finish=0.5)
    selector = run.mac.action_selector
    run.runner.run()
    selector.worlds = np.array([0, 0.5, 1])
    assert selector._epsilons().ravel().tolist() == pytest.approx([0.5, 0.5**2.5, 0.5**4])
    values, avail = th.zeros(3, 4000, 2), th.ones(3, 4000, 2)
    values[..., 0] = 1
    shares = selector.select_action(values, avail, 0).float().mean(1)
    assert shares.tolist() == pytest.approx([0.25, 0.088, 0.031], abs=0.03)
    assert not selector.select_action(values, avail, 0, test_mode=True).any()
