"""Maps of one's own: what a file means, what is refused, and that records and replays hold the content."""

import copy
import json
import re

import numpy as np
import pytest
import yaml

import main
from envs.check import check_vector_env, random_actions
from envs.multiagentenv import Observations, Outcomes
from envs.sc2.own_maps import load_map, map_of, read_map
from envs.sc2.sim.env import BattleVectorEnv
from envs.sc2.sim.film import main as show
from envs.sc2.sim.maps import MAP_NAMES, NAMES_AND_FILES, get_map
from envs.sc2.sim.replay import SUFFIX, Replay
from envs.sc2.sim.smac import StarCraft2Env
from utils.errors import UserError

EXAMPLE = re.search(r"```yaml\n(.*?)```", (main.ROOT / "docs" / "maps.md").read_text(), re.DOTALL)[1]
DUEL = {
    "episode_limit": 40,
    "size": [20, 16],
    "agents": [{"unit": "Marine", "count": 2, "at": [5, 8]}],
    "enemies": [{"unit": "Zealot", "at": [14, 8]}],
}


@pytest.fixture
def example(tmp_path):
    (tmp_path / "ambush.yaml").write_text(EXAMPLE)
    return tmp_path / "ambush.yaml"


def written(folder, content, name="mine.yaml"):
    text = json.dumps(content) if name.endswith(".json") else yaml.safe_dump(content)
    (folder / name).write_text(text)
    return folder / name


def play(battle, n_steps=40):
    n = battle.n_envs
    seen, outcomes = Observations.empty(n, battle.get_env_info()), Outcomes.empty(n, battle.info_keys)
    battle.reset(seen)
    rng = np.random.default_rng(0)
    for _ in range(n_steps):
        battle.step(random_actions(seen.avail_actions, rng), seen, outcomes)
    return battle


# --- what a file means


def test_the_documentations_example_is_a_map(example):
    sc2_map = load_map(example)
    assert sc2_map.name == "ambush" and sc2_map.episode_limit == 120
    assert sc2_map.ally_types == ["Stalker"] * 2 + ["Zealot"] * 3
    assert sc2_map.enemy_types == ["Marine"] * 6 + ["Medivac"]
    assert sc2_map.ally_type_index == [2, 2, 3, 3, 3] and sc2_map.enemy_type_index == [0] * 6 + [1]
    assert sc2_map.pathing.shape == (32, 24) and sc2_map.playable == (28, 20)
    assert not sc2_map.pathing[15, 6] and sc2_map.pathing[15, 12] and not sc2_map.pathing[15, 17]
    high, low = sc2_map.heights[29, 13], sc2_map.heights[29, 10]  # the rows are from north to south
    assert high > low == sc2_map.heights[5, 13]
    info = BattleVectorEnv([0], map_name=str(example)).get_env_info()
    assert (info["n_agents"], info["n_actions"], info["episode_limit"]) == (5, 6 + 7, 120)
    assert info["agent_features"][-5:] == ["shield", "type_0", "type_1", "type_2", "type_3"]


def test_its_units_stand_where_the_file_says(example):
    battle = BattleVectorEnv(range(30), map_name=str(example), rules={"spawn_age_loops": 0, "enemy_list": "created"})
    battle.reset(Observations.empty(30, battle.get_env_info()))
    zealots = battle.units[:, 2:5]
    np.testing.assert_array_equal(np.stack([zealots["x"], zealots["y"]], -1)[7], [[8, 9], [8, 12], [8, 15]])
    marines = battle.units[:, 5:11]
    assert (marines["x"] >= 20).all() and (marines["x"] <= 26).all()
    assert (marines["y"] >= 6).all() and (marines["y"] <= 18).all()
    assert len({places.tobytes() for places in marines["x"]}) == 30
    assert {(float(x), float(y)) for x, y in zip(battle.units["x"][:, 11], battle.units["y"][:, 11])} == {(27, 12)}


IN_AREAS = DUEL | {
    "agents": [
        {"unit": "Marine", "count": 3, "area": [3, 3, 9, 13]},
        {"unit": "Marine", "places": [[6, 8]]},
        {"unit": "Colossus", "area": [3, 3, 9, 13]},
        {"unit": "Medivac", "count": 2, "area": [3, 3, 5, 5]},
    ],
    "enemies": [{"unit": "Zealot", "count": 4, "area": [3, 3, 9, 13]}, {"unit": "Zealot", "at": [14, 8]}],
    "enemy_order": {"attack": [5, 8]},
}


def test_units_in_areas_stand_elsewhere_in_every_episode_where_they_have_room():
    battle = BattleVectorEnv(range(50), map_name=IN_AREAS, rules={"spawn_age_loops": 0})
    drawn = []
    for _ in range(2):
        battle.reset(Observations.empty(50, battle.get_env_info()))
        drawn.append(battle.units.copy())
    units = np.concatenate(drawn)
    assert len({row.tobytes() for row in units["x"]}) == 100
    names = np.array(battle.map.type_names)[units["type"]]
    assert names[0, :7].tolist() == ["Colossus", *["Marine"] * 4, "Medivac", "Medivac"]
    assert (np.diff(units["x"][:, 1:5], axis=1) >= 0).all()  # agents are numbered by place
    for flies in (True, False):
        for row, flying in zip(units, names == "Medivac"):
            own = row[flying == flies]
            gap = np.hypot(own["x"][:, None] - own["x"], own["y"][:, None] - own["y"])
            gap -= own["radius"][:, None] + own["radius"]
            assert gap[np.triu_indices(len(own), 1)].min() > -0.13
    here = ((units["x"] == 6) & (units["y"] == 8)).sum(1), ((units["x"] == 14) & (units["y"] == 8)).sum(1)
    assert (np.array(here) == 1).all()
    assert units["x"].mean() == pytest.approx(6, abs=0.8) and units["y"].std() > 2  # all of an area is used
    enemies = units[:, 7:]
    for axis, goal in (("x", 5), ("y", 8)):  # they march in formation
        offsets = enemies[axis] - enemies[axis].mean(1, keepdims=True)
        np.testing.assert_allclose(enemies[f"goal_{axis}"] - goal, offsets, atol=1e-9)
        np.testing.assert_array_equal(enemies[f"home_{axis}"], enemies[axis])


def test_where_units_in_areas_stand_depends_on_the_worlds_seed_and_its_episodes_alone():
    def histories(seeds, state=None):
        battle, found = BattleVectorEnv(seeds, map_name=IN_AREAS, enemy=["bot", "script:focus"]), []
        if state is not None:
            battle.load_state_dict(json.loads(json.dumps(state)))
        for _ in range(3):
            battle.reset(Observations.empty(len(seeds), battle.get_env_info()))
            found.append([units.tobytes() for units in battle.units])
        return found, battle.state_dict()

    (together, state), (alone, _) = histories([3, 4]), histories([4])
    assert [units[1] for units in together] == [units[0] for units in alone]
    assert histories([3, 4], state)[0] == histories([7, 8], state)[0] != together


def test_units_that_find_no_room_stand_as_when_the_file_was_read():
    battle = BattleVectorEnv([1], map_name=IN_AREAS, rules={"spawn_age_loops": 0, "enemy_list": "created"})
    battle.map.placement.areas[~np.isnan(battle.map.placement.areas)] = 0.5  # a wall
    battle.reset(Observations.empty(1, battle.get_env_info()))
    places = [unit[1:] for side in battle.map.placement[:2] for unit in side]
    np.testing.assert_array_equal(np.stack([battle.units["x"][0], battle.units["y"][0]], -1), places)


def test_battles_are_fought_on_it(example):
    battle = play(BattleVectorEnv([1, 2, 3], map_name=str(example)), 100)
    assert (battle.units["health"] <= 0).any()
    x, y = (battle.units[name].astype(int) for name in "xy")
    walks = battle.units["type"] != battle.map.type_names.index("Medivac")
    assert battle.map.pathing[x, y][walks].all()


def test_a_map_is_an_environment_by_the_whole_contract(tmp_path):
    path = written(tmp_path, DUEL)

    def make():
        return BattleVectorEnv(range(3), map_name=str(path), enemy=["bot", "script:kite"])

    check_vector_env(make(), make_env=make)
    env = StarCraft2Env(str(path), seed=1)
    env.reset()
    assert env.get_unit_types()[2] == 73 and (env.map_x, env.map_y) == (20, 16)


@pytest.mark.parametrize("enemy", ["script:focus", "script:kite"])
def test_scripts_play_on_it(example, enemy):
    play(BattleVectorEnv([1, 2], map_name=str(example), enemy=enemy))


def test_a_side_of_more_agents_than_enemies_may_have_a_medivac(tmp_path):
    agents = [{"unit": "Marine", "count": 4, "at": [5, 8]}, {"unit": "Medivac", "at": [4, 8]}]
    path = written(tmp_path, DUEL | {"agents": agents})
    battle = BattleVectorEnv([1], map_name=str(path))
    assert battle.layout.n_actions == 6 + 5
    play(battle)


def test_the_state_divides_by_the_playable_area(tmp_path):
    battle = BattleVectorEnv([1], map_name=str(written(tmp_path, DUEL)), rules={"spawn_age_loops": 0})
    seen = Observations.empty(1, battle.get_env_info())
    battle.reset(seen)
    x, y = battle.units["x"][0, 0], battle.units["y"][0, 0]
    assert seen.state[0, 2:4] == pytest.approx([(x - 10) / 16, (y - 8) / 12])


def test_a_map_like_smacs_plays_smacs_battles(tmp_path):
    like_3m = {"episode_limit": 60, "agents": [{"unit": "Marine", "count": 8, "at": [9, 16]}]}
    like_3m |= {"enemies": [{"unit": "Marine", "count": 8, "at": [23, 16]}], "enemy_order": {"attack": [9, 16]}}
    rows = ["#" * 32] * 7 + ["##" + "." * 28 + "##"] * 18 + ["#" * 32] * 7
    path = written(tmp_path, like_3m | {"terrain": rows})
    own, smacs = load_map(path), get_map("8m")
    np.testing.assert_array_equal(own.pathing, smacs.pathing)
    ends = [play(BattleVectorEnv([5], map_name=name), 30).units.tobytes() for name in (str(path), "8m")]
    assert ends[0] == ends[1]


def test_the_same_keys_in_json_are_the_same_map(tmp_path):
    own = load_map(written(tmp_path, DUEL, "duel.json"))
    assert own.content == load_map(written(tmp_path, DUEL, "duel.yaml")).content


def test_names_and_files_are_both_maps():
    assert "3m" in NAMES_AND_FILES and "a/b.yaml" in NAMES_AND_FILES and "3n" not in NAMES_AND_FILES
    assert tuple(NAMES_AND_FILES) == MAP_NAMES


# --- what is refused


def changed(**changes):
    content = copy.deepcopy(DUEL)
    for key, value in changes.items():
        content = {key: content[key] for key in content if key != value} if key == "without" else content | {key: value}
    return content


WALLED = ["#" * 12] * 2 + ["##" + "." * 8 + "##"] * 6 + ["#" * 12] * 2
MISTAKES = [
    (changed(without="enemies"), "lacks the key 'enemies'"),
    (changed(without="episode_limit"), "lacks the key 'episode_limit'"),
    (changed(enemy=[]), "has an unknown key 'enemy'; did you mean 'enemies'?"),
    (changed(episode_limit="long"), "episode_limit=long is not allowed"),
    (changed(agents=[]), "agents has 0 units; a side may have 1 to 64"),
    (changed(agents=[{"unit": "Marin", "at": [5, 8]}]), "unknown unit 'Marin'; did you mean 'Marine'?"),
    (changed(agents=[{"unit": "Marine"}]), "'agents[0]' says where its units are by nothing; give one of at, area, pl"),
    (changed(agents=[{"unit": "Marine", "at": [5, 8], "cuont": 2}]), "unknown key 'cuont'; did you mean 'count'?"),
    (changed(agents=[{"unit": "Marine", "at": [5, "x"]}]), "agents[0].at[1]=x is not allowed"),
    (changed(agents=[{"unit": "Marine", "at": [5]}]), "'agents[0].at' has 1 entries, not 2"),
    (changed(agents="Marine"), "'agents' must be a list, not text"),
    (changed(agents=[{"unit": "Marine", "at": [1, 8]}]), "agents[0] is at [1, 8], where no Marine can stand"),
    (
        changed(agents=[{"unit": "Marine", "places": [[19.5, 8]]}]),
        "Marine of agents[0] at [19.5, 8] would stand on a wal",
    ),
    (changed(agents=[{"unit": "SpineCrawler", "at": [5, 8]}]), "a SpineCrawler, which can't move; only enemies may be"),
    (changed(agents=[{"unit": "Marine", "count": 65, "at": [5, 8]}]), "count=65 is not allowed"),
    (changed(agents=[{"unit": "Marine", "count": 33, "at": [5, y]} for y in (5, 8)]), "agents has 66 units"),
    (changed(agents=[{"unit": "Marine", "places": [[5, 8], [5.2, 8]]}]), "overlaps the Marine of agents[0] at [5, 8]"),
    (changed(enemies=[{"unit": "Zealot", "places": [[5, 8]]}]), "Zealot of enemies[0] at [5, 8] overlaps the Marine"),
    (changed(agents=[{"unit": "Marine", "count": 9, "area": [5, 8, 5.5, 8.5]}]), "no room for 9 Marine in [5, 8, 5.5"),
    (changed(agents=[{"unit": "Marine", "area": [9, 8, 5, 8]}]), "write [west, south, east, north]"),
    (changed(agents=[{"unit": "Marine", "count": 3, "places": [[5, 8]]}]), "has count=3, but 1 places"),
    (changed(enemy_order="march"), "enemy_order=march is none; write hunt, stand, or attack: [x, y]"),
    (changed(enemy_order={"attack": 5}), "'enemy_order.attack' must be a list"),
    (changed(enemy_order={"attack": [5, 8], "hold": True}), "enemy_order has an unknown key 'hold'"),
    (changed(enemy_order={"attack": [30, 8]}), "attacks [30, 8], outside of a map of 20 by 16; move it"),
    (changed(agents=[{"unit": "Medivac", "at": [5, 8]}]), "agents has Medivacs alone"),
    (changed(without="size", terrain=[]), "terrain has 0 rows"),
    (changed(size=[4, 16]), "size[0]=4 is not allowed"),
    (changed(terrain=WALLED), "gives both 'terrain' and 'size'"),
    (changed(without="size", terrain=[*WALLED[:-1], "#" * 11]), "rows of 11 to 12 characters"),
    (changed(without="size", terrain=[row.replace("##.", "#?.") for row in WALLED]), "has '?' in row 3, column 2"),
    (changed(without="size", terrain=[row.replace("##.", "#..") for row in WALLED]), "outer rows and columns of the t"),
    (changed(without="size", terrain=["#" * 12] * 10), "the terrain has no ground"),
]


@pytest.mark.parametrize(("content", "sentence"), MISTAKES, ids=[sentence[:40] for _, sentence in MISTAKES])
def test_a_mistake_in_a_map_is_one_sentence_and_nothing_is_written(content, sentence, tmp_path, capsys):
    path, results = written(tmp_path, content), tmp_path / "results"
    params = ["--config=iql", "--env-config=sc2", f"--env_args.map_name={path}", "--env_args.engine=sim"]
    assert main.main([*params, f"--local_results_path={results}"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"error: {path}") and sentence in message
    assert not results.exists()


def test_a_map_of_many_cells_has_no_walls_in_it(tmp_path):
    rows = ["#" * 60] * 2 + ["##" + "." * 56 + "##"] * 40 + ["#" * 60] * 2
    map_of(changed(without="size", terrain=rows))
    rows[20] = "##" + "." * 20 + "#" + "." * 35 + "##"
    with pytest.raises(UserError, match=r"has walls and 2,239 cells of ground; with walls it may have 1,500"):
        map_of(changed(without="size", terrain=rows))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        BattleVectorEnv([1], map_name=str(tmp_path / "no.yaml"))


# --- SMAClite


SMACLITE = {
    "name": "smaclite_duel",
    "num_allied_units": 3,
    "num_enemy_units": 2,
    "groups": [
        {"x": 9, "y": 16, "faction": "ALLY", "units": {"STALKER": 1, "ZEALOT": 2}},
        {"x": 23, "y": 16, "faction": "ENEMY", "units": {"SPINE_CRAWLER": 1, "MARINE": 1}},
    ],
    "attack_point": [9, 16],
    "terrain_preset": "SIMPLE",
    "num_unit_types": 2,
    "ally_has_shields": True,
    "enemy_has_shields": False,
}


def test_a_map_of_smaclite_is_read(tmp_path):
    sc2_map = load_map(written(tmp_path, SMACLITE, "any.json"))
    assert sc2_map.name == "smaclite_duel" and sc2_map.episode_limit == 150
    assert sc2_map.ally_types == ["Stalker", "Zealot", "Zealot"]
    assert sc2_map.enemy_types == ["SpineCrawler", "Marine"]
    assert sc2_map.enemy_order == {"kind": "attack_move_to_point", "point": [9, 16]}
    assert [sc2_map.pathing[16, y] for y in (7, 8, 23, 24)] == [False, True, True, False]
    assert sc2_map.pathing.sum() == 28 * 16  # 32 by 16, less this engine's border
    rows = ["X" * 32] * 4 + [" " * 32] * 22 + ["X" * 32] * 6  # from the south, as SMAClite reads them
    own = SMACLITE | {"terrain": rows, "terrain_preset": None}
    pathing = load_map(written(tmp_path, own, "rows.json")).pathing
    assert pathing[2:30, 4:26].all() and pathing.sum() == 28 * 22
    both = load_map(written(tmp_path, SMACLITE | {"terrain": rows}, "both.json"))
    assert np.array_equal(both.pathing, sc2_map.pathing)
    play(BattleVectorEnv([1], map_name=str(tmp_path / "any.json")))


def test_the_units_of_a_group_may_be_pairs(tmp_path):
    pairs = copy.deepcopy(SMACLITE)
    pairs["groups"][0]["units"] = [["STALKER", 1], ["ZEALOT", 2]]
    content = read_map(written(tmp_path, pairs, "pairs.json"))
    assert content == read_map(written(tmp_path, SMACLITE, "any.json"))


@pytest.mark.parametrize("is_package", [False, True])
def test_a_preset_is_read_from_its_own_file(is_package, tmp_path, monkeypatch):
    folder = tmp_path
    if is_package:
        folder = tmp_path / "site" / "smaclite" / "env" / "terrain" / "smaclite_terrain"
        folder.mkdir(parents=True)
        (tmp_path / "site" / "smaclite" / "__init__.py").write_text("raise ImportError('it is not imported')")
        monkeypatch.syspath_prepend(tmp_path / "site")
    rows = ["X" * 32] * 8 + ["_" * 32] * 8 + ["__CC" + "_" * 28] * 8 + ["X" * 32] * 8
    (folder / "narrow.slt").write_text("\n".join(rows))
    path = written(tmp_path, SMACLITE | {"terrain_preset": "NARROW"}, "any.json")
    pathing = load_map(path).pathing
    assert pathing[2:30, 16:24].all() and not pathing[2:4, 8:16].any() and pathing[4:30, 8:16].all()
    with pytest.raises(UserError, match=r"without SMAClite's own file wide.slt; put that beside the map, install"):
        load_map(written(tmp_path, SMACLITE | {"terrain_preset": "WIDE"}, "wide.json"))


def test_a_preset_that_is_no_text_is_named(tmp_path):
    (tmp_path / "narrow.slt").write_bytes(b"\xff\xfe_")
    with pytest.raises(UserError, match="narrow.slt can't be read as text"):
        load_map(written(tmp_path, SMACLITE | {"terrain_preset": "NARROW"}, "any.json"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"terrain_preset": None, "terrain": ["X" * 32, "X" * 31]}, "terrain has rows of several lengths"),
        ({"terrain_preset": None, "terrain": ["X?"] * 32}, "terrain has '?'; ' ', _ and . are ground"),
        ({"terrain_preset": None, "terrain": 5}, "terrain is no list of rows"),
        ({"terrain_preset": None, "terrain": [""]}, "terrain is no list of rows"),
        ({"terrain_preset": "../narrow"}, "terrain_preset=../narrow is not known here"),
        ({"num_enemy_units": 3}, "num_enemy_units is 3, but the groups have 2 of ENEMY"),
        ({"terrain_preset": "NARROW"}, "terrain_preset=NARROW is not known here"),
        ({"groups": [{"x": 9, "y": 16, "faction": "FOE", "units": {}}]}, "faction 'FOE'; it is ALLY or ENEMY"),
        ({"groups": [{"x": 9, "y": 16}]}, "'groups[0].faction' is missing"),
    ],
)
def test_a_map_of_smaclite_that_says_something_else_is_refused(change, sentence, tmp_path):
    path = written(tmp_path, SMACLITE | change, "any.json")
    with pytest.raises(UserError, match="\\A[^\n]*\\Z") as refusal:
        load_map(path)
    assert sentence in str(refusal.value)


def test_a_unit_of_smaclite_that_is_not_here_is_refused(tmp_path):
    groups = copy.deepcopy(SMACLITE["groups"])
    groups[0]["units"] = {"PHOENIX": 3}
    with pytest.raises(UserError, match="unknown unit 'PHOENIX'"):
        load_map(written(tmp_path, SMACLITE | {"groups": groups}, "any.json"))


# --- records, replays and checkpoints


def test_a_replay_needs_the_file_no_more(example, tmp_path):
    battle = play(BattleVectorEnv([1, 2], map_name=str(example), enemy="script:weakest"), 20)
    Replay.of(battle).save(tmp_path / f"a{SUFFIX}")
    example.unlink()
    *_, last = Replay.load(tmp_path / f"a{SUFFIX}").moments()
    assert last.units[0].tobytes() == battle.units[0].tobytes()
    assert show([str(tmp_path / f"a{SUFFIX}"), str(tmp_path / "a.png")]) == 0


@pytest.mark.slow
def test_a_run_on_it_records_its_content_and_is_resumed(example, tmp_path, capfd):
    few = ["--rnn_hidden_dim=8", "--test_nepisode=1", "--use_tensorboard=False", "--seed=1", "--save_model"]
    params = ["--config=iql", "--env-config=sc2", *few, f"--env_args.map_name={example}", "--env_args.engine=sim"]
    params.append(f"--local_results_path={tmp_path / 'out'}")
    assert main.main([*params, "--t_max=20", "--save_replay"]) == 0
    (config,) = (tmp_path / "out").glob("sacred/*/config.json")
    assert json.loads(config.read_text())["resolved"]["map"] == read_map(example)
    (models,) = (tmp_path / "out" / "models").iterdir()
    assert models.name.startswith("iql_ambush_sim_seed1")
    (gif,) = (tmp_path / "out").glob("replays/*/*.gif")
    assert gif.name.startswith("ambush_")
    capfd.readouterr()
    assert main.main([*params, f"--checkpoint_path={models}", "--evaluate"]) == 0
    assert "another content" not in capfd.readouterr().err
    example.write_text(EXAMPLE.replace("episode_limit: 120", "episode_limit: 119"))
    assert main.main([*params, f"--checkpoint_path={models}", "--evaluate"]) == 0
    assert "was trained on another content of the map" in capfd.readouterr().err
