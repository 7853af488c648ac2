"""The game that needs the teammate's goal: its rules, and that OMG solves it by the goal that it infers."""

import csv

import numpy as np
import pytest
import torch as th

import run
from envs.check import check_env, check_vector_env
from envs.goal_game import LEARNER, LEFT, MIDDLE, N_CELLS, PEEKS, RIGHT, SET_OFF, STAY, TEAMMATE, GoalGame
from experiments import goal_game
from modules.am import REGISTRY as AGENT_MODELS
from tests.test_agent_models import encoded

OTHERS_CELL = slice(N_CELLS, 2 * N_CELLS)  # in an observation


# --- the rules


def play(game, way):
    """One episode in which the learner goes `way` as soon as it may: its observations [T + 1, o] and the return."""
    game.reset()
    seen, episode_return, is_over = [game.get_obs()[LEARNER]], 0.0, False
    while not is_over:
        script = int(np.argmax(game.get_avail_actions()[TEAMMATE]))
        reward, is_over, _ = game.step([STAY if game.t < SET_OFF else way, script])
        seen.append(game.get_obs()[LEARNER])
        episode_return += reward
    return np.stack(seen), episode_return


def test_it_keeps_the_contract_of_environments():
    check_env(GoalGame(seed=1), make_env=lambda: GoalGame(seed=1), refuses_unavailable=True)
    check_vector_env(GoalGame.vector([1, 2, 3]), make_env=lambda: GoalGame.vector([1, 2, 3]))


def test_the_teammate_peeks_towards_its_goal_and_both_look_alike_when_they_set_off():
    game = GoalGame(seed=0)
    peeks = set()
    when_setting_off = []
    for _ in range(60):
        seen, _ = play(game, LEFT)
        cells = seen[:, OTHERS_CELL].argmax(-1) - MIDDLE
        (peek,) = cells[: SET_OFF + 1].nonzero()[0]
        side = 1 if game.goes_right else -1
        assert cells[peek] == side and cells[-1] == side * MIDDLE
        peeks.add((peek, side))
        when_setting_off.append(seen[SET_OFF])
    assert peeks == {(t, side) for t in range(1, PEEKS + 1) for side in (-1, 1)}
    assert np.unique(when_setting_off, axis=0).shape[0] == 1


def test_the_team_is_paid_where_both_arrive_at_the_same_end():
    game = GoalGame(seed=0)
    for way in (LEFT, RIGHT, STAY):
        for _ in range(10):
            _, episode_return = play(game, way)
            assert episode_return == (way != STAY and game.goes_right == (way == RIGHT))


def test_before_it_may_set_off_the_learner_can_only_stay_and_it_never_leaves_the_line():
    game = GoalGame(seed=0)
    while game.t < SET_OFF:
        assert game.get_avail_actions()[LEARNER] == [0, 1, 0]
        game.step([STAY, int(np.argmax(game.get_avail_actions()[TEAMMATE]))])
    assert game.get_avail_actions()[LEARNER] == [1, 1, 1]
    game.cells[LEARNER] = N_CELLS - 1
    assert game.get_avail_actions()[LEARNER] == [1, 1, 0]


# --- learning


def played(parts, n_runs=12):
    """Greedy episodes: their batches, whether the teammate ended on the right [b], and which were won [b]."""
    batches = [parts.runner.run(test_mode=True) for _ in range(n_runs)]
    right = th.cat([batch["obs"][:, -1, LEARNER, OTHERS_CELL].argmax(-1) > MIDDLE for batch in batches])
    won = th.cat([batch["reward"].sum((1, 2)) > 0 for batch in batches])
    return batches, right, won


def subgoals(am, batches):
    """What `am` infers for the learner when both set off, without chance: [b, Z]."""
    return th.cat([am.features(encoded(am, batch)[0])[:, SET_OFF, LEARNER] for batch in batches])


def linear_probe(features, right):
    """A least-squares classifier of features [b, Z] by side [b]: gives a function from features to sides."""
    weights = th.linalg.lstsq(with_one(features), right.float().unsqueeze(1) * 2 - 1, driver="gelsd").solution
    return lambda other: (with_one(other) @ weights).squeeze(1) > 0


def with_one(features):
    return th.cat([features, th.ones(len(features), 1)], 1)


def decoded_sides(am, inferred):
    """On which side of the middle the states that subgoals [b, Z] stand for have the teammate, [b]."""
    cells = am.vae.decode(inferred)[:, OTHERS_CELL]
    return cells[:, MIDDLE + 1 :].sum(-1) > cells[:, :MIDDLE].sum(-1)


def share(first, second):
    return (first == second).float().mean().item()


@pytest.mark.slow
def test_without_memory_one_half_of_the_episodes_is_the_optimum():
    """When they set off nothing tells the goals apart: one way is taken in all episodes, and is right in half."""
    parts, curve = goal_game.train(goal_game.make_config("IQL without memory", seed=0, t_max=6000))
    _, right, won = played(parts)
    assert share(won, right) in (0, 1)
    assert curve[-1][1] == pytest.approx(goal_game.OPTIMUM_WITHOUT_MEMORY, abs=0.25)


@pytest.mark.slow
@th.no_grad()
def test_omg_reaches_the_optimum_by_subgoals_that_stand_for_the_teammates_goal():
    """The policy has no memory: of the peek it can only know by the inferred subgoal."""
    config = goal_game.make_config("OMG, its policy without memory", seed=0, t_max=8000)
    with th.enable_grad():
        parts, _ = goal_game.train(config)
    batches, right, won = played(parts)
    for t_max in (12000, 16000):  # some seeds take longer
        if not won.all():
            with th.enable_grad():
                run.train_sequential(parts.mac.args._replace(t_max=t_max), parts.learner.logger, parts)
            batches, right, won = played(parts)
    assert won.all()

    inferred, am = subgoals(parts.mac.am, batches), parts.mac.am
    half = len(inferred) // 2
    assert share(linear_probe(inferred[:half], right[:half])(inferred[half:]), right[half:]) >= 0.9
    # A probe finds a trace of the past in any recurrent network. So the prior's decoder, which has only seen states,
    # has to find the teammate on the side of its goal, too; in the subgoals of an untrained posterior it does not.
    assert share(decoded_sides(am, inferred), right) >= 0.9
    untrained = AGENT_MODELS["omg"](parts.buffer.scheme, parts.mac.args)
    assert share(decoded_sides(am, subgoals(untrained, batches)), right) < 0.75


def test_the_script_writes_curves_of_all_methods(tmp_path, capsys):
    assert goal_game.main(["--seeds", "1", "--t_max", "40", "--out", str(tmp_path / "new")]) == 0
    with (tmp_path / "new" / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    runs = {(row["method"], row["seed"]) for row in rows}
    assert runs == {(method, "1") for method in goal_game.METHODS}
    assert all(0 <= float(row["test_return"]) <= 1 for row in rows)
    assert (tmp_path / "new" / "curves.png").stat().st_size > 0
    assert "curves.csv" in capsys.readouterr().out
    assert goal_game.main(["--t_max", "0"]) == 2
