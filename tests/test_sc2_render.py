"""Pictures of battles: what stands where, in whose colour, and what of it changes with the battle."""

import numpy as np
import pytest

from envs.sc2.sim.render import (
    HEALTH,
    HIGH_GROUND,
    LOW_GROUND,
    SHIELD,
    SHOT,
    TEAM_COLOURS,
    WALL,
    Painter,
    View,
    draw,
    view_around,
)
from envs.sc2.sim.shapes import SHAPES
from envs.sc2.sim.smac import StarCraft2Env
from envs.sc2.sim.units import unit_data
from tests.scenes import ATTACK, STOP, Scene
from tests.scenes import draw as scene_of
from utils.errors import UserError

CELL, STRIP = 20, 35  # of a picture 640 pixels wide of a scene of 32 by 32 cells


def field(image) -> np.ndarray:
    """The picture [row, column, 3] without the lines of text."""
    return np.asarray(image)[STRIP:-STRIP].astype(int)


def near(pixels: np.ndarray, colour, tolerance: int = 12) -> np.ndarray:
    return (np.abs(pixels - np.array(colour)) <= tolerance).all(-1)


def place_of(colour, image) -> tuple[float, float]:
    """The middle of what has this colour, in map units."""
    rows, columns = np.nonzero(near(field(image), colour))
    return (columns.min() + columns.max() + 1) / 2 / CELL, 32 - (rows.min() + rows.max() + 1) / 2 / CELL


def n_pixels(colour, image) -> int:
    return int(near(field(image), colour).sum())


def test_units_stand_where_they_are_in_their_sides_colour_and_north_is_up():
    image = draw(Scene(allies=[(5.0, 25.0)], enemies=[(20.0, 4.0)]).battle)
    assert image.size == (640, 640 + 2 * STRIP)
    assert place_of(TEAM_COLOURS[0], image) == pytest.approx((5, 25), abs=0.3)
    assert place_of(TEAM_COLOURS[1], image) == pytest.approx((20, 4), abs=0.3)


def test_walls_and_low_and_high_ground_differ():
    scene = scene_of("XXXX mX.. .... ...M")
    heights = np.where(np.arange(4)[:, None] < 2, 0.5, 0.75) * np.ones((4, 4))
    painter = Painter(scene.battle.map._replace(heights=heights), view=View(0, 0, 4, 4))
    image = np.asarray(painter.draw(scene.battle)).astype(int)

    def colour_at(x, y):
        column, row = painter.pixel(x, y)
        return image[int(row), int(column)]

    assert near(colour_at(0.5, 3.5), WALL) and near(colour_at(1.5, 2.5), WALL)
    assert near(colour_at(1.5, 0.5), LOW_GROUND)
    assert near(colour_at(2.5, 1.5), HIGH_GROUND)


def test_the_health_bar_shrinks_with_the_health():
    scene = Scene(allies=[(8.0, 16.0)], enemies=[(24.0, 16.0)])
    unhurt = n_pixels(HEALTH[2], draw(scene.battle))
    scene.allies["health"] /= 2
    hurt = draw(scene.battle)
    assert n_pixels(HEALTH[2], hurt) == pytest.approx(unhurt / 2)  # the enemy's
    assert n_pixels(HEALTH[1], hurt) == pytest.approx(unhurt / 4, rel=0.35)


def test_shields_have_a_bar_of_their_own():
    scene = Scene(allies=[(8.0, 16.0)], enemies=[(24.0, 16.0)], enemy_type="Zealot")
    full = n_pixels(SHIELD, draw(scene.battle))
    scene.enemies["shield"] = 0
    assert full > 0 and n_pixels(SHIELD, draw(scene.battle)) == 0


def test_the_dead_leave_a_faint_mark_only():
    scene = Scene(allies=[(8.0, 16.0)], enemies=[(24.0, 16.0)])
    before = draw(scene.battle)
    scene.enemies["health"] = 0
    after = draw(scene.battle)
    assert n_pixels(TEAM_COLOURS[1], before) > 50 and n_pixels(TEAM_COLOURS[1], after) == 0
    around = field(after)[15 * CELL : 17 * CELL, 23 * CELL : 25 * CELL]
    assert not near(around, around[0, 0]).all()


@pytest.mark.parametrize("enemy_health", [45.0, 1.0])
def test_a_shot_is_drawn_from_shooter_to_target_also_where_it_kills(enemy_health):
    scene = Scene(allies=[(14.0, 16.0)], enemies=[(18.0, 16.0)], enemy_health=enemy_health)
    scene.enemies["acquires"] = 0
    painter = Painter(scene.battle.map)
    scene.order(ATTACK)
    assert n_pixels(SHOT, painter.draw(scene.battle)) == 0
    while scene.enemies["health"] == enemy_health:
        scene.loop()
    scene.loop()  # in which the agent notices that its target is dead
    image = painter.draw(scene.battle)
    _, columns = np.nonzero(near(field(image), SHOT, 60))
    assert columns.min() / CELL == pytest.approx(14.4, abs=0.3) and columns.max() / CELL == pytest.approx(18, abs=0.3)
    assert n_pixels(SHOT, painter.draw(scene.battle)) == 0  # no shot since


def test_a_shot_that_is_called_off_is_not_drawn():
    scene = Scene(allies=[(14.0, 16.0)], enemies=[(18.0, 16.0)])
    painter = Painter(scene.battle.map)
    scene.allies["shooting_at"], scene.allies["cooldown"] = 1, 10
    assert n_pixels(SHOT, painter.draw(scene.battle)) > 0
    scene.order(STOP)
    assert n_pixels(SHOT, painter.draw(scene.battle)) == 0


def test_a_painter_that_comes_to_another_battle_draws_no_shots_of_the_one_before():
    scene = Scene(allies=[(14.0, 16.0)], enemies=[(18.0, 16.0)])
    painter = Painter(scene.battle.map)
    scene.loop(5)
    painter.draw(scene.battle)
    scene.battle.reset(scene.seen)
    scene.allies["cooldown"], scene.allies["target"] = 99, 1
    assert n_pixels(SHOT, painter.draw(scene.battle)) == 0


def test_every_unit_type_has_a_shape_of_its_own():
    assert SHAPES.keys() == unit_data().keys()
    outlines = [tuple(shape.body) for shape in SHAPES.values()]
    assert len(set(outlines)) == len(SHAPES)
    for shape in SHAPES.values():  # neither much larger nor much smaller than what the engine plays with
        assert 0.9 < np.hypot(*np.transpose(shape.body)).max() < 1.6


def test_the_result_stands_in_the_winners_colour():
    scene = Scene(allies=[(14.0, 16.0)], enemies=[(18.0, 16.0)], enemy_health=1.0)

    def headline() -> np.ndarray:
        return np.asarray(draw(scene.battle))[:STRIP, 240:400].astype(int)

    assert not near(headline(), TEAM_COLOURS[0]).any()
    while not scene.is_over:
        scene.step(ATTACK)
    assert near(headline(), TEAM_COLOURS[0]).any() and not near(headline(), TEAM_COLOURS[1]).any()


def test_a_view_holds_all_points_within_the_map_and_is_at_least_as_wide_as_high():
    sc2_map = Scene(allies=[(14.0, 16.0)], enemies=[(18.0, 16.0)]).battle.map
    assert view_around(sc2_map, np.array([[3.0, 4.0], [20.0, 9.5]]), margin=1) == (2, 3, 21, 11)
    assert view_around(sc2_map, np.array([[16.0, 8.0], [16.0, 16.0]]), margin=1) == (11, 7, 21, 17)
    assert view_around(sc2_map, np.array([[0.5, 31.0]]), margin=2, least=12) == (0, 25, 7, 32)


def test_render_gives_a_picture_and_has_no_window():
    env = StarCraft2Env(map_name="3m", seed=1)
    env.reset()
    first = env.render(mode="rgb_array")
    assert first.dtype == np.uint8 and first.shape[1:] == (640, 3)
    env.step([5, 5, 5])
    second = env.render(mode="rgb_array")
    assert second.shape == first.shape and not np.array_equal(first, second)
    with pytest.raises(UserError, match="no window.*rgb_array"):
        env.render()


def test_a_missile_is_drawn_where_it_is():
    scene = Scene([(10, 10)], [(16, 10)], ally_type="Stalker", enemy_type="Stalker")
    scene.enemies["acquires"] = 0
    scene.order(ATTACK)
    scene.loop(6)  # 2.67 loops of wind-up, then the missile flies 1.17 a loop
    (missile,) = scene.battle.effects[0, : scene.battle.n_effects[0, 0]]
    assert 11.5 < missile["x"] < 15
    painter = Painter(scene.battle.map)
    with_missile = n_pixels(SHOT, painter.draw(scene.battle))
    column = round(float(missile["x"]) * CELL)
    pixels = near(field(painter.draw(scene.battle)), SHOT)[(32 - 10) * CELL - 1 : (32 - 10) * CELL + 1]
    assert pixels[:, column - 1 : column + 1].all()
    scene.battle.n_effects[:] = 0
    assert n_pixels(SHOT, painter.draw(scene.battle)) < with_missile


def test_beams_are_drawn_across_their_target():
    scene = Scene([(10, 10)], [(16, 10)], ally_type="Colossus", enemy_type="Zealot")
    scene.enemies["acquires"] = 0
    scene.order(ATTACK)
    scene.loop(4)
    assert scene.allies["sweep"][0] > 0
    rows, columns = np.nonzero(near(field(draw(scene.battle)), SHOT, tolerance=40)[:, round(15.9 * CELL) : 17 * CELL])
    assert (rows.max() - rows.min()) / CELL == pytest.approx(2.5, abs=0.3)
    scene.allies["sweep"] = 0
    assert not near(field(draw(scene.battle)), SHOT, tolerance=40)[: 21 * CELL].any()
