"""A moment of a battle as a picture. `shapes.py` has the units' outlines, `film.py` replays and the command line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from envs.sc2.sim.features import DRAWN, LOST, RUNNING, WON
from envs.sc2.sim.maps import SC2Map
from envs.sc2.sim.records import IDLE, MISSILE, NO_UNIT
from envs.sc2.sim.shapes import SHAPES, Shape
from envs.sc2.sim.units import unit_data
from envs.sc2.sim.weapons import BEAM_POINTS, BEAM_SPACING

if TYPE_CHECKING:
    from envs.sc2.sim.env import BattleVectorEnv, Cone

Colour = tuple[int, ...]
TEAM_COLOURS = ((86, 170, 255), (255, 104, 84))
"""Of the agents and of the enemies."""
WALL, LOW_GROUND, HIGH_GROUND = (30, 33, 40), (66, 72, 78), (104, 109, 112)
EDGE, OUTLINE, TEXT, MARGIN = (14, 16, 20), (16, 18, 24), (224, 228, 234), (18, 20, 25)
SHOT, SHIELD, ENERGY, EMPTY = (255, 232, 140), (110, 205, 255), (206, 128, 255), (10, 11, 14)
HEALTH = ((228, 62, 52), (240, 190, 60), (92, 210, 96))
"""Of a unit that is nearly dead, half alive, unhurt."""
OVERSAMPLING = 2  # pictures are drawn this many times larger, so that their edges come out smooth


class View(NamedTuple):
    """The part of a map that is drawn: its cells from west up to east and from south up to north."""

    west: int
    south: int
    east: int
    north: int


def view_around(sc2_map: SC2Map, points: np.ndarray, margin: float, least: float = 1) -> View:
    """The view of all points [point, (x, y)] with a margin: at least `least` map units, and where the map allows it as
    wide as it is high."""
    low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
    span = np.maximum(high - low, least)
    span[0] = span.max()
    west, south = np.floor((low + high - span) / 2).clip(0).astype(int).tolist()
    east, north = np.ceil((low + high + span) / 2).clip(0, sc2_map.pathing.shape).astype(int).tolist()
    return View(west, south, east, north)


class Painter:
    """Draws battles on one map: the cells of `view`, by default all that can be walked on. Pictures are `size` pixels
    wide; their height depends on the view.

    A unit that has fired since the last picture is drawn with its shot: one painter per battle.
    """

    def __init__(self, sc2_map: SC2Map, size: int = 640, view: View | None = None):
        self.map = sc2_map
        self.type_names: list[str] = []  # of the units in the picture that is drawn
        self.flies: list[bool] = []
        self.view = view or view_around(sc2_map, np.argwhere(sc2_map.pathing) + 0.5, margin=1)
        self.cell = size / (self.view.east - self.view.west)  # pixels per map unit
        self.strip = round(0.055 * size)  # height of the lines of text above and below
        self.size = size, round(self.cell * (self.view.north - self.view.south)) + 2 * self.strip
        self.font = ImageFont.load_default(OVERSAMPLING * self.strip * 0.42)
        self.small_font = ImageFont.load_default(OVERSAMPLING * self.strip * 0.35)
        self.background = self._draw_ground()
        self._before: np.ndarray | None = None  # the units of the last picture
        self._loops = 0
        self._headings = self._first_headings()

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the map lies in the picture: from the left, from the top."""
        return (x - self.view.west) * self.cell, (self.view.north - y) * self.cell + self.strip

    def draw(self, battle: BattleVectorEnv, b: int = 0) -> Image.Image:
        """The battle as it stands, RGB."""
        units = battle.units[b]
        kinds = self.map.type_names
        self.type_names = [kinds[k] for k in units["type"]]  # enemies are listed in another order in every battle
        self.flies = [unit_data()[name]["flying"] for name in self.type_names]
        if battle.loops[b] < self._loops:  # another battle
            self._before, self._headings = None, self._first_headings()
        image = self.background.copy()
        canvas = ImageDraw.Draw(image, "RGBA")
        self._turn(units)
        alive = np.flatnonzero(units["health"] > 0).tolist()
        alive.sort(key=lambda i: self.flies[i])  # who flies is drawn above the others
        for grave in units[units["health"] <= 0]:
            self._draw_grave(canvas, grave)
        for cone in battle.cones(b):
            self._draw_cone(canvas, units[cone.unit], cone)
        for i in alive:
            self._draw_order(canvas, units, i)
        for i in alive:
            self._draw_unit(canvas, units[i], i)
        for i in alive:
            self._draw_bars(canvas, units[i], i)
        for i in np.flatnonzero((units["sweep"] > 0) & (units["health"] > 0)).tolist():
            self._draw_beams(canvas, units[i])
        for i, target in self._shots(units):
            self._draw_shot(canvas, units[i], units[target])
        for effect in battle.effects[b, : battle.n_effects[b, 0]]:
            if effect["kind"] == MISSILE:
                self._draw_spot(canvas, effect["x"], effect["y"])
        self._draw_text(canvas, battle, b)
        self._before, self._loops = units.copy(), int(battle.loops[b])
        return image.reduce(OVERSAMPLING)

    def _first_headings(self) -> np.ndarray:
        """The armies look at each other."""
        return np.where(np.arange(self.map.n_agents + self.map.n_enemies) < self.map.n_agents, 0.0, np.pi)

    def _turn(self, units: np.ndarray) -> None:
        """Units look at their target or goal; one without either goes on looking where it looked."""
        has_target = units["target"] != NO_UNIT
        dx = np.where(has_target, units["x"][units["target"]], units["goal_x"]) - units["x"]
        dy = np.where(has_target, units["y"][units["target"]], units["goal_y"]) - units["y"]
        turns = (has_target | (units["order"] != IDLE)) & (np.hypot(dx, dy) > 0.01)
        self._headings = np.where(turns, np.arctan2(dy, dx), self._headings)

    def _shots(self, units: np.ndarray) -> list[tuple[int, int]]:
        """(shooter, target) of the shots being prepared and of those fired since the last picture."""
        targets, before = units["shooting_at"].copy(), self._before
        if before is not None:
            had_aimed = (before["shooting_at"] != NO_UNIT) & (units["cooldown"] > 0)  # 0: the shot was called off
            fired = (targets == NO_UNIT) & (had_aimed | (units["cooldown"] > before["cooldown"]))
            for guess in (before["shooting_at"], units["target"], before["target"]):  # the target may be dead by now
                targets = np.where(fired & (targets == NO_UNIT), guess, targets)
        shoots = (targets != NO_UNIT) & (units["health"] > 0)
        return [(i, int(targets[i])) for i in np.flatnonzero(shoots).tolist()]

    # ------------------------------------------------------------------------------------------------ layers

    def _draw_ground(self) -> Image.Image:
        """Walls, and ground that is the brighter the higher it is; lines where the one meets the other."""
        columns, rows = slice(self.view.west, self.view.east), slice(self.view.south, self.view.north)
        pathing, heights = self.map.pathing[columns, rows], self.map.heights[columns, rows]
        ground = heights[pathing]
        level = ((heights - ground.min()) / max(float(np.ptp(ground)), 0.1)).clip(0, 1)[..., None]
        shades = (1 - level) * LOW_GROUND + level * HIGH_GROUND
        cells = np.where(pathing[..., None], shades, WALL).astype(np.uint8)  # [x, y, colour]
        width, height = (OVERSAMPLING * pixels for pixels in self.size)
        strip = OVERSAMPLING * self.strip
        image = Image.new("RGB", (width, height), MARGIN)
        rows_from_north = np.ascontiguousarray(cells.transpose(1, 0, 2)[::-1])
        field = Image.fromarray(rows_from_north).resize((width, height - 2 * strip), Image.Resampling.NEAREST)
        image.paste(field, (0, strip))
        canvas = ImageDraw.Draw(image)
        kind = np.where(pathing, heights, -1.0)
        for x, y in np.argwhere(kind[1:] != kind[:-1]) + (columns.start + 1, rows.start):
            canvas.line(self._points([(x, y), (x, y + 1)]), EDGE, width=OVERSAMPLING)
        for x, y in np.argwhere(kind[:, 1:] != kind[:, :-1]) + (columns.start, rows.start + 1):
            canvas.line(self._points([(x, y), (x + 1, y)]), EDGE, width=OVERSAMPLING)
        return image

    def _draw_grave(self, canvas: Any, unit: np.void) -> None:
        x, y, arm = unit["x"], unit["y"], 0.6 * unit["radius"]
        for turn in (1, -1):
            ends = self._points([(x - arm, y - turn * arm), (x + arm, y + turn * arm)])
            canvas.line(ends, (*TEAM_COLOURS[unit["team"]], 110), width=self._width(0.1))

    def _draw_cone(self, canvas: Any, unit: np.void, cone: Cone) -> None:
        angles = cone.direction + np.linspace(-cone.half_angle, cone.half_angle, 9)
        rim = [(unit["x"] + cone.reach * np.cos(a), unit["y"] + cone.reach * np.sin(a)) for a in angles]
        canvas.polygon(self._points([(unit["x"], unit["y"]), *rim]), (*TEAM_COLOURS[unit["team"]], 24))

    def _draw_order(self, canvas: Any, units: np.ndarray, i: int) -> None:
        """A faint line to the target, or to the goal."""
        unit = units[i]
        if unit["target"] != NO_UNIT:
            goal = units[unit["target"]]["x"], units[unit["target"]]["y"]
        elif unit["order"] != IDLE:
            goal = unit["goal_x"], unit["goal_y"]
        else:
            return
        ends = self._points([(unit["x"], unit["y"]), goal])
        canvas.line(ends, (*TEAM_COLOURS[unit["team"]], 60), width=self._width(0.05))

    def _draw_unit(self, canvas: Any, unit: np.void, i: int) -> None:
        shape = SHAPES[self.type_names[i]]
        place = self._points([(unit["x"], unit["y"])])[0]
        radius = OVERSAMPLING * self.cell * float(unit["radius"])
        if self.flies[i]:  # it casts its shadow on the ground
            shadow = _placed(shape.body, (place[0] + 0.5 * radius, place[1] + 0.7 * radius), radius, self._headings[i])
            canvas.polygon(shadow, (0, 0, 0, 90))
        _draw_shape(canvas, shape, place, radius, self._headings[i], TEAM_COLOURS[unit["team"]], self._width(0.05))

    def _draw_bars(self, canvas: Any, unit: np.void, i: int) -> None:
        """Health, above it shield and energy where its type has them."""
        data = unit_data()[self.type_names[i]]
        health = float(unit["health"] / data["hp"])
        bars = [(health, _blend(HEALTH, health))]
        if data["shield"]:
            bars.append((float(unit["shield"] / data["shield"]), SHIELD))
        if "energy" in data:
            bars.append((float(unit["energy"] / data["energy"]["max"]), ENERGY))
        half, thickness = 0.85 * float(unit["radius"]), 0.12
        left, right = unit["x"] - half, unit["x"] + half
        bottom = unit["y"] + unit["radius"] + 0.02
        for share, colour in bars:
            full = left + (right - left) * min(share, 1.0)
            frame = self._points([(left, bottom + thickness), (right, bottom)])
            canvas.rectangle(frame, EMPTY)
            canvas.rectangle(self._points([(left, bottom + thickness), (full, bottom)]), colour)
            bottom += thickness + 0.04

    def _draw_shot(self, canvas: Any, shooter: np.void, target: np.void) -> None:
        dx, dy = target["x"] - shooter["x"], target["y"] - shooter["y"]
        muzzle = shooter["radius"] / max(np.hypot(dx, dy), shooter["radius"])
        ends = self._points([(shooter["x"] + muzzle * dx, shooter["y"] + muzzle * dy), (target["x"], target["y"])])
        canvas.line(ends, (*SHOT, 225), width=self._width(0.09))
        self._draw_spot(canvas, target["x"], target["y"])

    def _draw_beams(self, canvas: Any, unit: np.void) -> None:
        """The line that the beams sweep, and the two that feed it."""
        half = BEAM_POINTS // 2 * BEAM_SPACING
        centre, along = np.array([unit["beam_x"], unit["beam_y"]]), half * np.array([unit["beam_dx"], unit["beam_dy"]])
        ends = [tuple(centre - along), tuple(centre + along)]
        canvas.line(self._points(ends), (*SHOT, 225), width=self._width(0.3))
        for end in ends:
            canvas.line(self._points([(unit["x"], unit["y"]), end]), (*SHOT, 110), width=self._width(0.06))

    def _draw_spot(self, canvas: Any, x: float, y: float) -> None:
        """Where a shot strikes, or a missile is."""
        ((x, y),), radius = self._points([(x, y)]), OVERSAMPLING * self.cell * 0.14
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), (*SHOT, 240))

    def _draw_text(self, canvas: Any, battle: BattleVectorEnv, b: int) -> None:
        """Above: map, engine, how the battle stands, time. Below: who is alive on both sides, by type."""
        width, height = (OVERSAMPLING * pixels for pixels in self.size)
        strip, pad = OVERSAMPLING * self.strip, OVERSAMPLING * self.strip * 0.4
        steps, limit = int(battle.episode_steps[b]), self.map.episode_limit
        times = f"step {steps}/{limit}   loop {int(battle.loops[b])}"
        canvas.text((pad, strip / 2), f"{self.map.name}   embedded engine", TEXT, self.font, "lm")
        canvas.text((width - pad, strip / 2), times, TEXT, self.font, "rm")
        result, is_late = int(battle.result[b]), steps >= limit
        words, colour = {
            RUNNING: ("time is up" if is_late else "", TEXT),
            DRAWN: ("draw", TEXT),
            WON: ("agents won", TEAM_COLOURS[0]),
            LOST: ("enemies won", TEAM_COLOURS[1]),
        }[result]
        canvas.text((width / 2, strip / 2), words, colour, self.font, "mm")
        for team, start in ((0, pad), (1, width / 2 + pad)):
            self._draw_army(canvas, battle.units[b], team, start, height - strip / 2)

    def _draw_army(self, canvas: Any, units: np.ndarray, team: int, x: float, y: float) -> None:
        names = np.array(self.type_names)
        size = OVERSAMPLING * self.strip * 0.24
        for name in dict.fromkeys(names[units["team"] == team]):
            army = units[(units["team"] == team) & (names == name)]
            _draw_shape(canvas, SHAPES[name], (x + size, y), size, 0.0, TEAM_COLOURS[team], 1)
            text = f"{name} {np.count_nonzero(army['health'] > 0)}/{len(army)}"
            canvas.text((x + 2.9 * size, y), text, TEXT, self.small_font, "lm")
            x += 4.3 * size + canvas.textlength(text, self.small_font)

    # ------------------------------------------------------------------------------------------------ measures

    def _points(self, points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
        """Points of the map on the canvas."""
        pixels = (self.pixel(float(x), float(y)) for x, y in points)
        return [(OVERSAMPLING * x, OVERSAMPLING * y) for x, y in pixels]

    def _width(self, map_units: float) -> int:
        return max(round(OVERSAMPLING * self.cell * map_units), 1)


def draw(battle: BattleVectorEnv, b: int = 0, size: int = 640) -> Image.Image:
    """One picture of battle b, RGB, `size` pixels wide."""
    return Painter(battle.map, size).draw(battle, b)


def _draw_shape(
    canvas: Any, shape: Shape, place: tuple[float, float], radius: float, heading: float, colour: Colour, line: int
) -> None:
    canvas.polygon(_placed(shape.body, place, radius, heading), colour, OUTLINE, line)
    canvas.polygon(_placed(shape.mark, place, radius, heading), OUTLINE)


def _placed(points: Iterable[tuple[float, float]], place: tuple[float, float], radius: float, heading: float) -> list:
    """The outline on the canvas, where y grows downwards, around `place`."""
    cos, sin = radius * np.cos(heading), radius * np.sin(heading)
    return [(place[0] + cos * x - sin * y, place[1] - sin * x - cos * y) for x, y in points]


def _blend(colours: tuple[Colour, ...], share: float) -> Colour:
    """The colour at 0..1 on the way through these."""
    places = np.linspace(0, 1, len(colours))
    return tuple(int(np.interp(share, places, [colour[k] for colour in colours])) for k in range(3))


if __name__ == "__main__":
    from envs.sc2.sim.film import main
    from utils.command import run_program

    run_program(main)
