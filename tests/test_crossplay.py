"""Cross-play: who plays which seat, that it is the same game for every pair, the numbers and the files."""

import csv
import json
import os
import shutil
import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch as th
import yaml
from PIL import Image

from experiments import crossplay, crossplay_jobs
from tests.games import RandomGame, registered
from tests.test_population import make_pool
from tests.test_run import built
from utils.errors import UserError
from utils.pools import MEMBER_FILE, load_pool, weights_id
from utils.weights import load_weights

POOL = [("d", "iql", 14), ("b", "vdn", 12), ("c", "vdn", 3)]  # in order: d, c, b


class SeatsGame(RandomGame):
    """Its return spells the last actions, seat by seat, and it is won where they are all the same."""

    episode_limit = 3
    info_keys = ("battle_won",)

    def _draw(self):
        super()._draw()
        self.avail[:] = True

    def play(self, actions):
        self.actions = actions
        is_over = self.t + 1 >= self.length
        return float(is_over * sum(action * 10**seat for seat, action in enumerate(actions))), is_over

    def info(self):
        return {"battle_won": len(set(self.actions)) == 1}


class UnwinnableGame(SeatsGame):
    info_keys = ()


def edit(folder, **changes):
    path = folder / MEMBER_FILE
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def make_stubborn(folder, alg, action):
    """Lets a member take this action, whatever it sees."""
    file = folder / alg / "agent.th"
    weights = load_weights(file, "cpu")
    weights["fc2.weight"].zero_()
    weights["fc2.bias"].copy_(th.arange(4) == action)
    th.save(weights, file)
    edit(folder, weights={alg: weights_id(file)})


@pytest.fixture(scope="module")
def stubborn_pool(tmp_path_factory):
    """d always takes action 1, c 2 and b 3."""
    pool = tmp_path_factory.mktemp("pools") / "stubborn"
    make_pool(pool, *POOL)
    for (name, alg, _), action in zip(POOL, (1, 3, 2)):
        make_stubborn(pool / name, alg, action)
    return pool


def play(pool, out, *params, game=SeatsGame):
    """Exit status of the command."""
    with registered(game):
        return crossplay.main([str(pool), f"--out={out}", *params])


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def returns(folder, i, j):
    rows = read(folder / "episodes.csv")
    return [float(row["return"]) for row in rows if (row["member_i"], row["member_j"]) == (i, j)]


# --- who plays


@pytest.mark.parametrize("n_agents", [2, 3, 8])
def test_each_plays_every_seat_as_often_and_neither_the_larger_half(n_agents):
    deals = crossplay.deal_seats(40, n_agents, seed=1)
    assert deals.shape == (40, n_agents) and (deals.mean(0) == 0.5).all()
    assert set(deals.sum(1)) == {n_agents // 2, (n_agents + 1) // 2}
    assert (deals[::2] == ~deals[1::2]).all() and len({tuple(deal) for deal in deals}) > min(n_agents, 3) - 1
    assert np.array_equal(crossplay.deal_seats(7, n_agents, seed=1), deals[:7])
    assert not np.array_equal(crossplay.deal_seats(40, n_agents, seed=2), deals)


@pytest.mark.parametrize("worlds", [5, 64])
def test_each_seat_is_played_by_whom_the_records_name(stubborn_pool, tmp_path, worlds):
    assert play(stubborn_pool, tmp_path / "out", "--episodes=8", f"--worlds={worlds}") == 0
    rows = read(tmp_path / "out" / "episodes.csv")
    assert len(rows) == 6 * 8
    action_of = {"d": 1, "b": 3, "c": 2}
    for row in rows:
        seats = {int(seat) for seat in row["seats_i"].split()}
        actions = [action_of[row["member_i" if seat in seats else "member_j"]] for seat in range(3)]
        assert float(row["return"]) == sum(action * 10**seat for seat, action in enumerate(actions))
        assert row["won"] == str(int(row["member_i"] == row["member_j"]))
        assert len(seats) == 3 if row["member_i"] == row["member_j"] else len(seats) in (1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("alg", ["iql", "iql_omg", "iql_idv", "coma"])
def test_a_member_with_itself_plays_as_the_plain_team(tmp_path, alg):
    make_pool(tmp_path / "pool", ("a", alg, 4), ("b", "vdn", 5))
    if alg == "iql_omg":  # its prior came from a folder that is no longer there
        config = yaml.safe_load((tmp_path / "pool" / "a" / MEMBER_FILE).read_text())["config"]
        edit(tmp_path / "pool" / "a", config={**config, "omg_prior_path": "gone"})
    out, settings = tmp_path / "out", ("--episodes=6", "--worlds=3", "--seed=9")
    assert play(tmp_path / "pool", out, *settings, game=RandomGame) == 0
    parts, _, logger = built(alg=alg, seed=9, batch_size_run=3, runner="parallel" if alg == "coma" else "episode")
    parts.mac.load_models(tmp_path / "pool" / "a" / alg)
    records = []
    logger.log_test_episode = records.append
    parts.runner.run(test_mode=True)
    parts.runner.run(test_mode=True)
    parts.runner.close_env()
    assert returns(out, "a", "a") == [record["return"] for record in records]


@pytest.mark.slow
def test_the_same_policy_twice_plays_as_the_plain_team(tmp_path):
    make_pool(tmp_path / "pool", ("a", "vdn", 4), ("c", "vdn", 5))
    shutil.copytree(tmp_path / "pool" / "a", tmp_path / "pool" / "b")
    out = tmp_path / "out"
    assert play(tmp_path / "pool", out, "--episodes=6", game=RandomGame) == 0
    assert returns(out, "a", "b") == returns(out, "a", "a") == returns(out, "b", "b")
    assert returns(out, "a", "c") == returns(out, "b", "c") != returns(out, "a", "a")


@pytest.mark.slow
def test_a_pair_plays_the_same_whoever_else_is_in_the_pool_and_other_seeds_differ(tmp_path):
    make_pool(tmp_path / "more", ("d", "coma", 14), *POOL[1:])
    edit(tmp_path / "more" / "d", config={**load_pool(tmp_path / "more")[2].config, "test_greedy": False})
    shutil.copytree(tmp_path / "more", tmp_path / "few", ignore=shutil.ignore_patterns("c"))
    for pool, seed, out in (("few", 0, "1"), ("more", 0, "2"), ("few", 1, "3")):
        assert play(tmp_path / pool, tmp_path / out, "--episodes=5", f"--seed={seed}", game=RandomGame) == 0
    few, more, other = (returns(tmp_path / out, "d", "b") for out in "123")
    assert few == more != other
    seeds = [row["seed"] for row in read(tmp_path / "2" / "episodes.csv")]
    assert len(set(seeds)) == 5 and seeds == seeds[:5] * 6


# --- numbers and files


def test_the_matrix_is_in_order_and_complete(stubborn_pool, tmp_path, capsys):
    out = tmp_path / "out"
    assert play(stubborn_pool, out, "--episodes=4") == 0
    assert {path.name for path in out.iterdir()} == {
        *("matrix.csv", "matrix.png", "pairs.csv", "episodes.csv", "settings.json")
    }
    matrix = read(out / "matrix.csv")
    assert list(matrix[0]) == ["member", "d", "c", "b"] and [row["member"] for row in matrix] == ["d", "c", "b"]
    assert [[float(row[name]) for name in "dcb"] for row in matrix] == np.eye(3).tolist()
    pairs = {(row["member_i"], row["member_j"]): row for row in read(out / "pairs.csv")}
    assert list(pairs) == [("d", "d"), ("d", "c"), ("d", "b"), ("c", "c"), ("c", "b"), ("b", "b")]
    assert float(pairs["d", "d"]["won_low"]) == pytest.approx(0.5101, abs=1e-4) and pairs["d", "d"]["episodes"] == "4"
    assert float(pairs["d", "b"]["return"]) == np.mean(returns(out, "d", "b"))
    settings = json.loads((out / "settings.json").read_text())
    assert (settings["episodes"], settings["metric"], list(settings["members"])) == (4, "won", ["d", "c", "b"])
    with Image.open(out / "matrix.png") as picture:
        assert picture.width > 300 and len(picture.convert("RGB").getcolors(1 << 24)) > 10
    printed = capsys.readouterr().out
    assert "[6/6] vdn 12 + vdn 12: won 100.0 % (51.0 to 100.0)" in printed and "time left: " in printed
    assert "  2  vdn 3      0.0  100.0    0.0" in printed
    assert [line.split()[-5] for line in printed.splitlines() if "mean of" in line] == ["100.0", "0.0", "0.0", "0.0"]


def test_self_play_is_the_diagonal_and_cross_play_the_rest():
    matrix = np.array([[0.9, 0.6, 0.1], [0.6, 0.7, 0.3], [0.1, 0.3, 0.5]])
    lines = crossplay.summary(matrix, ["iql", "iql", "vdn"], "won").splitlines()
    assert [line.split("mean")[0].split()[-1] for line in lines] == ["70.0", "33.3", "60.0", "20.0"]
    assert [line.split()[-2] for line in lines] == ["3", "3", "1", "2"]


def test_where_nothing_can_be_won_the_mean_return_counts(stubborn_pool, tmp_path, capsys):
    out = tmp_path / "out"
    assert play(stubborn_pool, out, "--episodes=4", game=UnwinnableGame) == 0
    assert float(read(out / "matrix.csv")[2]["b"]) == 333
    assert read(out / "pairs.csv")[0]["won"] == read(out / "episodes.csv")[0]["won"] == ""
    assert play(stubborn_pool, tmp_path / "other", "--metric=won", game=UnwinnableGame) == 2
    assert "nothing can be won in game_of_a_test" in capsys.readouterr().err


def test_the_metric_can_be_chosen(stubborn_pool, tmp_path):
    assert play(stubborn_pool, tmp_path / "out", "--episodes=2", "--metric=return") == 0
    assert float(read(tmp_path / "out" / "matrix.csv")[0]["d"]) == 111


# --- mistakes and interruptions


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (["--episodes=0"], "--episodes=0 must be at least 1"),
        (["--worlds=0"], "--worlds=0 must be at least 1"),
        (["--seed=-1"], "--seed=-1"),
        (["--metric=lost"], "--metric"),
        (["--out={pool}/results"], "lies in the pool"),
        (["--out={pool}"], "is there already"),
        (["--out=/dev/null/x"], "is not a folder"),
    ],
)
def test_mistakes_are_one_sentence(stubborn_pool, tmp_path, capsys, params, said):
    out = tmp_path / "out"
    assert play(stubborn_pool, out, *(param.format(pool=stubborn_pool) for param in params)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("of_game", "config", "said"),
    [
        ({}, {"env_args": {"map_name": "8m"}}, "env_args.map_name=3m, but .*pool/b with 8m"),
        ({"env": "other"}, {}, "env=sc2, but .* with other"),
        ({"engine": "game"}, {}, "engine=sim, but .* with game"),
        ({}, {"env_args": {"map_name": "3m", "reward": 2}}, ""),  # a key that the other does not know
        ({}, {"env_args": {"map_name": "3m", "seed": 2, "state_last_action": False}}, ""),
        ({}, {"env_args": {"map_name": "3m", "state_last_action": False}, "obs_is_state": True}, ""),
    ],
)
def test_members_of_two_worlds_are_refused(of_game, config, said):
    env_args = {"map_name": "3m", "seed": 1, "state_last_action": True}
    first = {"env": "sc2", "engine": "sim", "folder": "pool/a", "config": {"env_args": env_args}}
    second = {**first, **of_game, "folder": "pool/b", "config": {"env_args": env_args, **config}}
    members = [SimpleNamespace(**first), SimpleNamespace(**second)]
    if said:
        with pytest.raises(UserError, match=said):
            crossplay.common_world(members)
    else:
        assert crossplay.common_world(members) is members["obs_is_state" in config]


def test_a_pool_of_one_and_no_pool_are_refused(tmp_path, capsys):
    make_pool(tmp_path / "pool", POOL[0])
    assert play(tmp_path / "pool", tmp_path / "out") == 2 and "has one member" in capsys.readouterr().err
    assert play(tmp_path / "nowhere", tmp_path / "out") == 2 and "holds no members" in capsys.readouterr().err


def test_an_interruption_leaves_nothing(stubborn_pool, tmp_path, monkeypatch, capsys):
    drawn = []
    monkeypatch.setattr(crossplay, "draw", lambda *args: drawn.append(os.kill(os.getpid(), signal.SIGINT)))
    assert play(stubborn_pool, tmp_path / "out", "--episodes=1") == 130
    assert "nothing has been written" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


# --- many processes


@pytest.mark.slow
def test_many_processes_play_the_same_episodes_and_go_on_where_they_stopped(
    stubborn_pool, tmp_path, monkeypatch, capsys
):
    assert play(stubborn_pool, tmp_path / "one", "--episodes=4") == 0
    out, done = tmp_path / "many", tmp_path / ".many.pairs"
    with monkeypatch.context() as patch:
        patch.setattr(crossplay_jobs, "PROGRAM", "tests.no_such_program")
        assert play(stubborn_pool, out, "--episodes=4", "--jobs=2") == 2
        assert "the pairs of b, c, d failed" in capsys.readouterr().err and not out.exists()
    monkeypatch.setattr(crossplay_jobs, "PROGRAM", "tests.test_crossplay")
    with monkeypatch.context() as patch:
        patch.setattr(crossplay_jobs.shutil, "rmtree", lambda folder, **how: None)
        assert play(stubborn_pool, out, "--episodes=4", "--jobs=2") == 0
    for name in ("episodes.csv", "pairs.csv", "matrix.csv"):
        assert (out / name).read_text() == (tmp_path / "one" / name).read_text()
    next(done.glob("*.json")).unlink()
    out.rename(tmp_path / "before")
    capsys.readouterr()
    assert play(stubborn_pool, out, "--episodes=4", "--jobs=2") == 0
    assert "[1/1]" in capsys.readouterr().out and not done.exists()
    assert (out / "episodes.csv").read_text() == (tmp_path / "one" / "episodes.csv").read_text()


if __name__ == "__main__":  # a process of many, which knows the game
    with registered(SeatsGame):
        sys.exit(crossplay.main())
