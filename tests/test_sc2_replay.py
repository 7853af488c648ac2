"""Replays: they give the same battle bit for bit or are refused; the files that are written, and the command line."""

import gzip
import json

import numpy as np
import pytest
from PIL import Image

from envs.check import random_actions
from envs.multiagentenv import Observations, Outcomes
from envs.sc2.sim.env import BattleVectorEnv
from envs.sc2.sim.film import main, save_film
from envs.sc2.sim.replay import SUFFIX, Replay
from envs.sc2.sim.smac import StarCraft2Env
from utils.errors import UserError


def play(n_steps=40, n_episodes=1, **env_args) -> BattleVectorEnv:
    """Three battles with random actions, the last episode cut off after so many steps of the first one."""
    battle = BattleVectorEnv([1, 2, 3], **{"map_name": "3m"} | env_args)
    seen, outcomes = Observations.empty(3, battle.get_env_info()), Outcomes.empty(3, battle.info_keys)
    rng = np.random.default_rng(0)
    for _ in range(n_episodes):
        battle.reset(seen)
        for t in range(n_steps):
            battle.step(random_actions(seen.avail_actions, rng), seen, outcomes)
            battle.step(random_actions(seen.avail_actions, rng), seen, outcomes, np.array([False, True, t % 2 == 0]))
    return battle


def units_at_the_end(replay: Replay, every: int = 10**9) -> bytes:
    for battle in replay.moments(every):
        units = battle.units[0]
    return units.tobytes()


@pytest.fixture(scope="module")
def short() -> Replay:
    return Replay.of(play(n_steps=3))


@pytest.fixture
def short_file(short, tmp_path):
    short.save(tmp_path / f"short{SUFFIX}")
    return tmp_path / f"short{SUFFIX}"


# --- the same battle


@pytest.mark.parametrize(
    "env_args",
    [
        {},
        {"n_episodes": 3},
        {"map_name": "8m", "heuristic_ai": True},
        {"map_name": "5m_vs_6m", "heuristic_ai": True, "heuristic_rest": True, "n_steps": 30},
        {"step_mul": 5, "move_amount": 3, "rules": {"passing_side": "left", "scan_period_loops": 3}},
    ],
    ids=str,
)
def test_a_replay_gives_the_same_units_bit_for_bit_whatever_is_shown_between(env_args, tmp_path):
    battle = play(**env_args)
    replay = Replay.of(battle)
    replay.save(tmp_path / "replay")
    loaded = Replay.load(tmp_path / "replay")
    assert units_at_the_end(loaded) == units_at_the_end(loaded, every=3) == battle.units[0].tobytes()
    assert len(battle.recorded_actions) == len(loaded.actions) == env_args.get("n_steps", 40)


def test_moments_follow_each_other_after_so_many_loops_and_at_the_end_of_each_step(short):
    loops = [int(battle.loops[0]) for battle in short.moments(every=3)]
    assert loops == [1, 4, 7, 9, 12, 15, 17, 20, 23, 25]
    assert [int(battle.episode_steps[0]) for battle in short.moments()] == [0, 1, 2, 3]


def test_an_action_that_was_refused_is_not_part_of_the_replay():
    env = StarCraft2Env(map_name="3m", seed=1)
    env.reset()
    env.step([1, 1, 1])
    with pytest.raises(ValueError):
        env.step([0, 1, 1])
    assert len(env.battle.recorded_actions) == 1


def test_a_replay_is_small():
    replay = Replay.of(play(n_steps=60))
    assert len(gzip.compress(json.dumps(replay.actions.tolist()).encode())) < 1000


# --- refused


@pytest.mark.parametrize(
    "change",
    [
        {"checksum": "0" * 16},
        {"random": 12345},
        {"settings": {"map_name": "3m", "rules": {"spawn_age_loops": 9}}},
        {"settings": {"map_name": "3m", "rules": {"no_such_rule": 1}}},
        {"settings": {"map_name": "no_such_map"}},
        {"actions": np.zeros((3, 3), int)},
        {"actions": np.ones((3, 40), int)},
    ],
    ids=lambda change: ", ".join(change),
)
def test_a_replay_that_comes_out_otherwise_is_refused_and_nothing_is_written(short, change, tmp_path):
    with pytest.raises(UserError, match="engine with other rules"):
        save_film(short._replace(**change), tmp_path / "film.gif", size=160)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no gzip", "is no replay"),
        (gzip.compress(b"no json", mtime=0), "is no replay"),
        (gzip.compress(b"[1, 2]", mtime=0), "is no replay"),
        (gzip.compress(b'{"format": 1, "settings": {}}', mtime=0), "is no replay"),
        (
            gzip.compress(b'{"format": 1, "settings": {}, "random": 1, "actions": [], "checksum": ""}', mtime=0),
            "is no replay",
        ),
        (gzip.compress(b'{"format": 99}', mtime=0), "in format 99 and this version reads format 1"),
        (None, "there is no replay"),
    ],
    ids=["no gzip", "no JSON", "a list", "incomplete", "no steps", "other format", "no file"],
)
def test_a_file_that_is_no_replay_is_named(content, says, tmp_path):
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"(?s){says}") as caught:
        Replay.load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


# --- files


def test_a_film_has_a_picture_after_every_two_loops_and_stands_still_at_the_end(short, tmp_path):
    save_film(short, tmp_path / "film.gif", size=160)
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 1 + 3 * 4 and film.width == 160
        assert film.info["duration"] == 80  # hundredths of a second
        film.seek(film.n_frames - 1)
        assert film.info["duration"] == 2000


def test_save_replay_writes_replay_and_film_named_by_prefix_or_map(tmp_path):
    for prefix, name in (("", "3m_"), ("mine", "mine_")):
        env = StarCraft2Env(map_name="3m", seed=1, replay_dir=str(tmp_path / "new" / name), replay_prefix=prefix)
        env.reset()
        for _ in range(2):
            env.step([1, 1, 1])
        replay, film = env.save_replay()
        assert sorted((tmp_path / "new" / name).iterdir()) == sorted([replay, film])
        assert replay.name.startswith(name) and replay.name.endswith(SUFFIX) and film.name.endswith(".sim.gif")
        assert units_at_the_end(Replay.load(replay)) == env.battle.units[0].tobytes()
        with Image.open(film) as pictures:
            assert pictures.n_frames == 9


def test_without_a_folder_replays_lie_under_the_experiment_root(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_EXP_PATH", str(tmp_path))
    env = StarCraft2Env(map_name="3m", seed=1)
    env.reset()
    env.step([1, 1, 1])
    assert {path.parent for path in env.save_replay()} == {tmp_path / "replays"}


def test_where_nothing_was_played_or_nothing_can_be_written_one_sentence_says_so(tmp_path):
    (tmp_path / "file").touch()
    env = StarCraft2Env(map_name="3m", seed=1, replay_dir=str(tmp_path / "file"))
    env.reset()
    with pytest.raises(UserError, match="no episode"):
        env.save_replay()
    env.step([1, 1, 1])
    with pytest.raises(UserError, match="can't be written to .*file.*env_args.replay_dir"):
        env.save_replay()


# --- the command line


def test_the_command_writes_a_film_and_the_last_picture(short_file, tmp_path, capsys):
    film, picture = tmp_path / "film.gif", tmp_path / "picture.png"
    assert main([str(short_file), str(film), "--size=160", "--every=8", "--fps=5"]) == 0
    assert main([str(short_file), str(picture), "--size=160"]) == 0
    assert capsys.readouterr().out.split() == [str(film), str(picture)]
    with Image.open(film) as pictures, Image.open(picture) as last:
        assert pictures.n_frames == 4 and pictures.info["duration"] == 200
        pictures.seek(3)
        difference = np.abs(np.asarray(pictures.convert("RGB")).astype(int) - np.asarray(last))
        assert difference.mean() < 2  # a film has 256 colours


@pytest.mark.parametrize(
    ("params", "says"),
    [
        (["nowhere", "out.gif"], "there is no replay nowhere"),
        (["short" + SUFFIX, "out.mp4"], "neither .gif nor .png"),
        (["short" + SUFFIX, "nowhere/out.gif"], "in a folder that is there"),
        (["short" + SUFFIX], "required: OUT; see --help"),
        (["short" + SUFFIX, "out.gif", "--fps=0"], "--fps must be 1 to 50"),
        (["short" + SUFFIX, "out.gif", "--every=0"], "--every at least 1"),
        (["short" + SUFFIX, "out.gif", "--size=9"], "--size 160 to 4096"),
        (["short" + SUFFIX, "out.gif", "--sise=9"], "--sise"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_status_2(short_file, params, says, monkeypatch, capsys):
    monkeypatch.chdir(short_file.parent)
    assert main(params) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and says in said
    assert [path.name for path in short_file.parent.iterdir()] == [short_file.name]
