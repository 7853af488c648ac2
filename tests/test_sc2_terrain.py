"""The ground: walls, cliffs, the edge of the map, and the ways round walls."""

import numpy as np
import pytest

from envs.multiagentenv import Observations
from envs.sc2.sim import dynamics
from envs.sc2.sim.env import BattleVectorEnv
from envs.sc2.sim.maps import MAP_NAMES, get_map
from envs.sc2.sim.paths import STRAIGHT, find_ways
from envs.sc2.sim.records import HUNT
from envs.sc2.sim.units import AIR, CLIFF, GROUND
from tests.scenes import ATTACK, EAST, NORTH, SOUTH, STOP, WEST, Scene, draw

WALLED_MAPS = ["corridor", "so_many_baneling", "bane_vs_bane", "2c_vs_64zg"]

# ------------------------------------------------------------------------------------------------ walls


def test_walls_stop_units():
    scene = draw("""
        XXXXXXXXXXX
        X..X......X
        Xm.X......X
        X..X......X
        X..X.....MX
        XXXXXXXXXXX
    """)
    scene.enemies["acquires"] = 0
    for _ in range(5):
        scene.order(EAST)
        scene.loop(8)
    assert 2.5 < scene.allies["x"][0] <= 3 - 0.3125  # its edge is at the western face of the wall
    assert scene.allies["y"][0] == 3.5


def test_a_unit_goes_round_a_wall():
    scene = draw(
        """
        XXXXXXXXXXXXXXXXXXXXXXX
        X..........X..........X
        X..........X..........X
        X..........X..........X
        X..........X..........X
        X.........MX..........X
        X.....................X
        Xm....................X
        XXXXXXXXXXXXXXXXXXXXXXX
        """,
        enemy_goal=(20.5, 5.5),
    )
    scene.allies["health"] = 0
    scene.loop(8 * 16)
    assert (scene.enemies["x"][0], scene.enemies["y"][0]) == pytest.approx((20.5, 5.5))


@pytest.mark.parametrize("letter", ["Z", "L", "M"])
def test_enemies_find_the_way_out_of_a_dead_end_to_their_target(letter):
    picture = """
        XXXXXXXXXXXXXXXXXXXX
        X..................X
        X....XXXXXXXXX.....X
        X............X.....X
        X.........{}..X..m..X
        X............X.....X
        X....XXXXXXXXX.....X
        X..................X
        XXXXXXXXXXXXXXXXXXXX
    """
    scene = draw(picture.format(letter))
    scene.enemies["order"] = HUNT
    scene.loop(16 * 14)
    assert scene.allies["health"][0] < 45


def test_the_shorter_way_is_taken():
    """Round the wall it is 4 cells to the south, and 6 to the north."""
    scene = draw(
        """
        ...................
        .........X.........
        .........X.........
        .........X.........
        .........X.........
        .........X.........
        ......M..X.....m...
        .........X.........
        .........X.........
        .........X.........
        ...................
        """,
        enemy_goal=(12.5, 4.5),
    )
    scene.enemies["acquires"] = 0
    lowest = 10.0
    for _ in range(16 * 7):
        scene.loop()
        lowest = min(lowest, float(scene.enemies["y"][0]))
        assert scene.enemies["y"][0] < 5
    assert lowest < 1.1
    assert scene.enemies["x"][0] == pytest.approx(12.5)


def test_nobody_slides_along_a_wall_into_somebody():
    pathing = np.ones((32, 32), bool)
    pathing[:2] = False
    scene = Scene([(2.7, 10.5)], [(2.08, 10)], pathing=pathing, enemy_goal=(0, 12))
    scene.enemies["acquires"] = 0
    for _ in range(10):
        scene.loop()
        gap = np.hypot(scene.enemies["x"] - scene.allies["x"], scene.enemies["y"] - scene.allies["y"])
        assert gap >= 0.6875 - 0.01


# ------------------------------------------------------------------------------------------------ cliffs


CLIFF_AND_WALL = """
    ....#.......
    .{}..#.......
    ....#......M
    ....#.......
"""


@pytest.mark.parametrize(
    ("letter", "crosses"),
    [("c", True), ("d", True), ("m", False), ("r", False), ("s", False), ("z", False), ("l", False), ("h", False)],
)
def test_colossi_and_flyers_cross_cliffs_and_nobody_else(letter, crosses):
    scene = draw(CLIFF_AND_WALL.format(letter))
    scene.enemies["acquires"] = 0
    for _ in range(8):
        scene.order(EAST)
        scene.loop(8)
    assert (scene.allies["x"][0] > 6) == crosses
    assert crosses or scene.allies["x"][0] < 4


@pytest.mark.parametrize(("letter", "crosses"), [("c", False), ("d", True)])
def test_only_flyers_cross_walls(letter, crosses):
    scene = draw(CLIFF_AND_WALL.replace("#", "X").format(letter))
    scene.enemies["acquires"] = 0
    for _ in range(8):
        scene.order(EAST)
        scene.loop(8)
    assert (scene.allies["x"][0] > 6) == crosses


@pytest.mark.parametrize(("letter", "reaches"), [("m", True), ("s", True), ("h", True), ("z", False), ("l", False)])
def test_shots_cross_cliffs(letter, reaches):
    scene = draw(CLIFF_AND_WALL.format(letter))
    scene.enemies["acquires"] = 0
    scene.enemies["x"] = 6.5
    scene.order(ATTACK)
    scene.loop(40)
    assert (scene.enemies["health"][0] < 45) == reaches
    assert reaches == (scene.allies["x"][0] == 1.5)


def test_units_of_different_layers_are_in_nobodys_way():
    there = [(29, 29), (30, 30)]
    scene = Scene([(10, 10), (14, 10), (12, 10)], there, ally_type=["Zealot", "Colossus", "Medivac"])
    for _ in range(4):
        scene.order(EAST, STOP, STOP)
        scene.loop(8)
    assert (scene.allies["x"][0], scene.allies["y"][0]) == (pytest.approx(14.5), 10)
    assert scene.allies["x"][1:].tolist() == [14, 12]


@pytest.mark.parametrize(("name", "apart"), [("Colossus", 1.9375), ("Medivac", 1.4375)])
def test_units_of_one_layer_are_in_each_others_way(name, apart):
    scene = Scene([(10, 10)], [(13, 10)], ally_type=name, enemy_type=name)
    scene.enemies["acquires"] = 0
    for _ in range(6):
        scene.order(EAST)
        scene.loop(8)
        gap = np.hypot(scene.enemies["x"] - scene.allies["x"], scene.enemies["y"] - scene.allies["y"])
        assert gap >= apart - 0.01


def test_units_of_different_layers_are_created_at_one_place():
    """As recorded battles of MMM2 show for its medivac."""
    for map_name in ("MMM2", "1c3s5z"):
        env = BattleVectorEnv([0], map_name=map_name)
        places = list(zip(env._fresh_units[0]["x"].tolist(), env._fresh_units[0]["y"].tolist(), strict=True))
        at_the_point = [name for name, place in zip(env.map.ally_types, places, strict=False) if place == (9, 16)]
        assert at_the_point == {"MMM2": ["Marine", "Medivac"], "1c3s5z": ["Colossus", "Stalker"]}[map_name]


# ------------------------------------------------------------------------------------------------ the maps


@pytest.mark.parametrize("action", [NORTH, SOUTH, EAST, WEST])
@pytest.mark.parametrize("map_name", ["MMM", "1c3s5z", "2c_vs_64zg", "bane_vs_bane"])
def test_nobody_leaves_the_map(map_name, action):
    env = BattleVectorEnv([0], map_name=map_name)
    env.reset(Observations.empty(1, env.get_env_info()))
    env.units["acquires"] = 0
    actions, world = np.full((1, env.map.n_agents), action), np.ones(1, bool)
    layers = env.types["layer"][env.units["type"][0]]
    for _ in range(30):  # enough for 32 cells
        dynamics.give_orders(env.units, actions, np.ones((1, env.map.n_agents, 6)), world, 2.0, env.types)
        env._play(world, 8)
        x, y = env.units["x"][0], env.units["y"][0]
        assert (env.map.grid[x.astype(int), y.astype(int)] >> layers & 1).all()
        assert (x >= 2).all() and (x < 30).all() and (y >= 2).all() and (y < 30).all()


@pytest.mark.parametrize("map_name", MAP_NAMES)
def test_flyers_and_colossi_may_be_wherever_the_ground_is_free(map_name):
    grid, pathing = get_map(map_name).grid, get_map(map_name).pathing
    ground, cliff, air = (grid >> layer & 1 for layer in (GROUND, CLIFF, AIR))
    assert np.array_equal(ground, pathing)
    assert (cliff[pathing] == 1).all() and (air[cliff == 1] == 1).all()
    assert np.argwhere(air).tolist() == [[x, y] for x in range(2, 30) for y in range(2, 30)]


# ------------------------------------------------------------------------------------------------ ways


def assert_clear(pathing: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """The lines from the centres of cells a [n, 2] to those of b stay on free ground, but for grazing a corner.
    5,000 of them are looked at."""
    some = np.random.default_rng(0).permutation(len(a))[:5000]
    a, b = a[some], b[some]
    share = np.linspace(0, 1, 400)[:, None, None]
    x, y = np.moveaxis((a + 0.5) * (1 - share) + (b + 0.5) * share, -1, 0).astype(int)
    blocked_length = (~pathing[x, y]).mean(0) * np.hypot(*(a - b).T)
    assert (blocked_length < 0.15).all(), f"the line from {a[blocked_length.argmax()]} to {b[blocked_length.argmax()]}"


def areas(pathing: np.ndarray) -> np.ndarray:
    """A number for every cell, the same for cells that can be reached from each other; 0: not free."""
    number = np.where(pathing, np.arange(1, pathing.size + 1).reshape(pathing.shape), 0)
    while True:
        padded = np.pad(number, 1)
        around = np.max(
            [padded[1:-1, 1:-1], padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]], 0
        )
        around = np.where(pathing, around, 0)
        if np.array_equal(around, number):
            return number
        number = around


@pytest.mark.parametrize("map_name", WALLED_MAPS)
def test_the_ways_lead_from_everywhere_to_everywhere(map_name):
    """From any free cell to any other one that can be reached, along clear lines."""
    pathing = get_map(map_name).pathing
    cells, ways = find_ways(pathing)
    free = np.argwhere(pathing)
    assert np.array_equal(cells[pathing], np.arange(len(free)))
    area = areas(pathing)[pathing]
    at, goal = (pairs.copy() for pairs in np.nonzero(area[:, None] == area[None]))
    for _ in range(60):
        way = ways[at, goal]
        arrived = way == STRAIGHT
        assert_clear(pathing, free[at[arrived]], free[goal[arrived]])
        if arrived.all():
            return
        at, goal, way = at[~arrived], goal[~arrived], way[~arrived]
        following = cells[way // pathing.shape[1], way % pathing.shape[1]]
        assert_clear(pathing, free[at], free[following])
        at = following
    raise AssertionError(f"from {free[at[0]]} one never arrives at {free[goal[0]]}")


@pytest.mark.parametrize("map_name", WALLED_MAPS)
def test_the_way_over_open_ground_is_straight(map_name):
    """Where the whole rectangle between two cells is free."""
    pathing = get_map(map_name).pathing
    _, ways = find_ways(pathing)
    free = np.argwhere(pathing)
    walls = np.pad(np.cumsum(np.cumsum(~pathing, 0), 1), ((1, 0), (1, 0)))
    low, high = np.minimum(free[:, None], free[None]), np.maximum(free[:, None], free[None]) + 1
    x1, y1, x2, y2 = low[..., 0], low[..., 1], high[..., 0], high[..., 1]
    open_ground = walls[x2, y2] - walls[x1, y2] - walls[x2, y1] + walls[x1, y1] == 0
    assert open_ground.sum() > len(free)
    assert (ways[open_ground] == STRAIGHT).all()


def test_there_are_no_ways_where_all_are_straight():
    assert find_ways(np.ones((12, 12), bool))[1].size == 0
    assert find_ways(get_map("3m").pathing)[1].size == 0


def test_what_cannot_be_reached_is_approached_straight():
    pathing = np.ones((9, 9), bool)
    pathing[4] = False
    cells, ways = find_ways(pathing)
    assert ways[cells[1, 1], cells[7, 1]] == STRAIGHT
    assert cells[4, 3] in (cells[3, 3], cells[5, 3])  # a wall's cell counts as the nearest free one
