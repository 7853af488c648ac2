"""The outlines of the ten unit types for `render.py`: points in units of the radius, looking along the x axis.

A unit is its body, filled with its side's colour, and a mark on top of it.
"""

from math import cos, pi, sin
from typing import NamedTuple

Points = list[tuple[float, float]]


class Shape(NamedTuple):
    body: Points
    mark: Points


def _star(n_points: int, outer: float, inner: float, turn: float = 0.0) -> Points:
    """A star of this many points; a circle where there are many and both radii are equal."""
    corners = ((outer if k % 2 == 0 else inner, turn + k * pi / n_points) for k in range(2 * n_points))
    return [(radius * cos(angle), radius * sin(angle)) for radius, angle in corners]


def _disc(radius: float) -> Points:
    return _star(10, radius, radius)


def _mirrored(half: Points) -> Points:
    """The outline whose left half (y >= 0) is this one, from front to back."""
    return half + [(x, -y) for x, y in reversed(half)]


SHAPES = {
    "Marine": Shape([(1.5, 0.22), *_disc(0.95)[1:-1], (1.5, -0.22)], _disc(0.32)),
    "Marauder": Shape(
        _mirrored([(0.6, 0.35), (1.1, 0.4), (1.1, 0.9), (-0.5, 0.95), (-0.9, 0.55)]),
        _mirrored([(0.3, 0.3), (-0.3, 0.3)]),
    ),
    "Medivac": Shape(
        _mirrored([(1.2, 0.3), (0.5, 0.45), (0.5, 0.95), (-0.6, 0.95), (-0.5, 0.45), (-1.1, 0.35)]),
        _mirrored([(0.55, 0.15), (0.15, 0.15), (0.15, 0.55), (-0.15, 0.55), (-0.15, 0.15), (-0.55, 0.15)]),
    ),
    "Stalker": Shape(_star(4, 1.1, 0.5, turn=pi / 4), _disc(0.28)),
    "Zealot": Shape(
        _mirrored([(0.35, 0.0), (0.35, 0.55), (1.25, 0.75), (0.2, 1.0), (-0.7, 0.55)]),
        _mirrored([(0.1, 0.25), (-0.4, 0.25)]),
    ),
    "Colossus": Shape(_star(4, 1.2, 0.5, turn=pi / 4), _disc(0.36)),
    "Zergling": Shape(
        _mirrored([(0.45, 0.0), (0.55, 0.25), (1.15, 0.35), (0.5, 0.75), (-0.2, 0.6), (-1.05, 0.12)]),
        _mirrored([(0.2, 0.12), (-0.4, 0.12)]),
    ),
    "Baneling": Shape(_star(9, 1.1, 0.78), _disc(0.45)),
    "Hydralisk": Shape(
        _mirrored([(0.95, 0.1), (0.35, 0.8), (-0.2, 0.5), (-0.5, 0.2), (-1.1, 0.12)]),
        _mirrored([(0.45, 0.1), (0.0, 0.3)]),
    ),
    "SpineCrawler": Shape(_star(6, 1.0, 0.75), _mirrored([(1.0, 0.06), (0.1, 0.3), (-0.4, 0.3)])),
}
