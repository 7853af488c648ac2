"""Ways round walls: for every two cells of the ground, where to head for. `movement.py` follows them."""

from functools import cache

import numpy as np

from envs.sc2.sim.jit import compiled

STRAIGHT = -1
NOT_FOUND = 1e9


def find_ways(pathing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(cells int16 [x, y], ways int16 [n, n]) of the ground, pathing bool [x, y], with n free cells.

    `cells` numbers the free cells; any other one has the number of the nearest free one. `ways[a, b]` is STRAIGHT where
    whoever stands in cell a can walk straight to cell b, or can't get there at all; else the last cell on the shortest
    path that can be walked to straight from anywhere in a, as x * height + y. No ways [0, 0] where all are straight.
    """
    return _ways_of(pathing.shape, pathing.tobytes())


@cache
def _ways_of(shape: tuple[int, int], cells_of_pathing: bytes) -> tuple[np.ndarray, np.ndarray]:
    pathing = np.frombuffer(cells_of_pathing, bool).reshape(shape).copy()
    free = np.argwhere(pathing)
    corners = np.array([(x, y) for x in range(pathing.shape[0]) for y in range(pathing.shape[1])])
    nearest = ((corners[:, None] - free[None]) ** 2).sum(-1).argmin(-1)
    cells = nearest.reshape(pathing.shape).astype(np.int16)
    low, high = free.min(0), free.max(0)
    if pathing[low[0] : high[0] + 1, low[1] : high[1] + 1].all():
        return cells, np.zeros((0, 0), np.int16)
    visible = np.zeros((len(free), len(free)), bool)
    _find_visible(pathing, free, visible)
    if visible.all():
        return cells, np.zeros((0, 0), np.int16)
    ways = np.full((len(free), len(free)), STRAIGHT, np.int16)
    _find_ways(pathing, free, cells, visible, ways)
    return cells, ways


@compiled
def _find_visible(pathing, free, visible):
    for a in range(len(free)):
        for b in range(len(free)):
            visible[a, b] = _is_straight(pathing, free[a], free[b])


@compiled
def _is_straight(pathing, a, b):
    """Whether the lines from the corners and the centre of cell a to the centre of cell b stay on free ground."""
    for corner_x, corner_y in ((0.5, 0.5), (0.01, 0.01), (0.01, 0.99), (0.99, 0.01), (0.99, 0.99)):
        from_x, from_y = a[0] + corner_x, a[1] + corner_y
        dx, dy = b[0] + 0.5 - from_x, b[1] + 0.5 - from_y
        n_points = int(8 * max(abs(dx), abs(dy))) + 1
        for k in range(n_points + 1):
            if not pathing[int(from_x + dx * k / n_points), int(from_y + dy * k / n_points)]:
                return False
    return True


@compiled
def _find_ways(pathing, free, cells, visible, ways):
    towards = np.empty(len(free), np.int64)
    for b in range(len(free)):
        _find_paths(pathing, free, cells, b, towards)
        for a in range(len(free)):
            if visible[a, b] or towards[a] < 0:
                continue
            way = towards[a]
            while way != b and visible[a, towards[way]]:
                way = towards[way]
            ways[a, b] = free[way, 0] * pathing.shape[1] + free[way, 1]


@compiled
def _find_paths(pathing, free, cells, goal, towards):
    """Writes the next cell on the shortest path to the goal from every cell, -1 where there is none (Dijkstra 1959)."""
    distance = np.full(len(free), NOT_FOUND)
    done = np.zeros(len(free), np.bool_)
    towards[:] = -1
    distance[goal] = 0.0
    for _ in range(len(free)):
        best, best_distance = -1, NOT_FOUND
        for a in range(len(free)):
            if not done[a] and distance[a] < best_distance:
                best, best_distance = a, distance[a]
        if best < 0:
            return
        done[best] = True
        x, y = free[best]
        for dx in range(-1, 2):
            for dy in range(-1, 2):
                if _can_step(pathing, x, y, dx, dy):
                    a = cells[x + dx, y + dy]
                    longer = best_distance + np.sqrt(dx * dx + dy * dy)
                    if longer < distance[a]:
                        distance[a] = longer
                        towards[a] = best


@compiled
def _can_step(pathing, x, y, dx, dy):
    """Between neighbouring cells; not diagonally past a wall's corner."""
    inside = 0 <= x + dx < pathing.shape[0] and 0 <= y + dy < pathing.shape[1]
    return (dx != 0 or dy != 0) and inside and pathing[x + dx, y + dy] and pathing[x + dx, y] and pathing[x, y + dy]
