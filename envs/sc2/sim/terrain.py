"""The ground: which cells a unit may stand on and how high they are.

Cell (x, y) covers [x, x+1) x [y, y+1); y grows northwards. Decoded from the run-length rows of `data/maps.json`; arrays
are indexed [x, y], as SMAC indexes the game's own grids.
"""

import re

import numpy as np

from envs.sc2.sim.units import AIR, CLIFF, GROUND, ROOMY

BORDER = 2  # cells on every side of a map where nobody can be
HEIGHT_OF_LEVEL = {"v": 0.0, "l": 8.0, "r": 9.0, "h": 10.0}  # void, low ground, ramp, high ground
RUN = re.compile(r"(\d+)(\D)")


def pathing_grid(rows: list[str]) -> np.ndarray:
    """bool [x, y]: True where ground units can stand (`.`, not `X`)."""
    return decode(rows) == "."


def height_grid(rows: list[str]) -> np.ndarray:
    """float64 [x, y] in 0..1: the byte that the game's interface would report for each cell, divided by 255."""
    heights = np.vectorize(HEIGHT_OF_LEVEL.__getitem__)(decode(rows))
    return np.floor((heights + 16) * 255 / 32) / 255


def layer_grid(pathing: np.ndarray, levels: list[str]) -> np.ndarray:
    """uint8 [x, y]: bit k is set where units of layer k (`units.py`) may be, bit k + ROOMY where also all around.

    Colossi stand anywhere on solid ground that the void does not touch; flyers keep to the map less its border.
    """
    solid = decode(levels) != "v"
    inside = np.zeros_like(pathing)
    inside[BORDER:-BORDER, BORDER:-BORDER] = True
    climbable = pathing | (_all_around(solid) & inside)
    grid = np.zeros(pathing.shape, np.uint8)
    for layer, cells in ((GROUND, pathing), (CLIFF, climbable), (AIR, inside)):
        grid |= (cells << layer | _all_around(cells) << (layer + ROOMY)).astype(np.uint8)
    return grid


def _all_around(cells: np.ndarray) -> np.ndarray:
    """bool [x, y]: whether the cell and its eight neighbours are all True; outside the map nothing is."""
    around, result = np.pad(cells, 1), np.ones_like(cells)
    for dx in range(3):
        for dy in range(3):
            result &= around[dx : dx + cells.shape[0], dy : dy + cells.shape[1]]
    return result


def decode(rows: list[str]) -> np.ndarray:
    """Rows from south to north, each `<count><symbol>...` from west to east, into single characters [x, y]."""
    from_south = [list("".join(symbol * int(count) for count, symbol in RUN.findall(row))) for row in rows]
    return np.ascontiguousarray(np.transpose(from_south))
