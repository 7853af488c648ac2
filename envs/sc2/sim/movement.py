"""How units move: round walls, foes and friends who stand and fight; other friends push each other aside."""

import numpy as np

from envs.sc2.sim.jit import borrowed, compiled, inlined, lowest_bit
from envs.sc2.sim.lanes import LANES, bits, lanes
from envs.sc2.sim.records import ATTACK_MOVE, IDLE, NO_UNIT
from envs.sc2.sim.units import AIR, GROUND, ROOMY
from envs.sc2.sim.weapons import NOWHERE

WALL_WAYS = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))
STUCK_LOOPS = 1
DETOUR_LOOPS = 32  # after which a unit takes the straight way again, however long it is
LAYERS_APART = 1e4  # what keeps the layers from touching in `place`
CONTACT = 1e-6
NO_TEAM = -1.0  # to which nobody yields
FIRM = 2.0  # beside the teams 0 and 1: whom even friends do not push
IDLE_SHARE = 0.93  # of a push that an idle unit takes: in recorded battles it goes along at almost full speed
PASSING_OFFSET = 0.2  # sine
GOING_ALONG = 0.5  # cosine between its step and a push, from which on a unit is not pushed but leaves
PASSING_TURN = 0.3  # radians by which the push of two that run into each other is turned to the side of passing
HORIZON = 0.5  # how far a unit looks for who else stands there when it chooses the side of a detour
EVEN = 1e-3  # turns that differ by no more are the same
HALF_TURN = 2.0  # as `_turn` counts
OVERLAP = 0.0625  # by which units may overlap: of 100,000 pairs of marines in recorded battles none is nearer
CORE = 0.1875 - 1e-6  # by which friends may be nearer still until they have been pushed apart: a fast unit's step
X, Y, RADIUS, YIELDS, TOUCHES, PUSH_X, PUSH_Y = range(7)  # the rows of places
N_ROWS = 7
WORD = 64  # bits
ALL = np.uint64(2**64 - 1)
MAY_TOUCH, IS_TOUCHED = 1, 2  # values of TOUCHES beside 0: overlaps somebody perhaps, or by what somebody else did


def n_columns(n_units: int) -> int:
    """Returns how long the rows of places are: full vectors."""
    return -(-n_units // LANES) * LANES


@inlined
def walk(units, i, goal_x, goal_y, loop, types, grid, cells, ways, battle, places, near):
    """One step towards a point: straight on, else in the direction nearest to it that is free."""
    u = units[i]
    unit_type = types[u.type]
    if u.stuck_wait > 0:
        u.stuck_wait -= 1
        return
    if u.backswing > 0:
        return
    layer = unit_type.layer
    if battle.has_ways and layer == GROUND:
        way = _way(u, goal_x, goal_y, cells, ways)
        if way >= 0:
            goal_x, goal_y = way // cells.shape[1] + 0.5, way % cells.shape[1] + 0.5
    dx, dy = goal_x - u.x, goal_y - u.y
    distance = np.sqrt(dx * dx + dy * dy)
    u.speed = min(u.speed + unit_type.acceleration, unit_type.speed)
    step = min(u.speed, distance)
    if step <= CONTACT:
        _arrive(u)
        return
    scale = step / distance
    dx, dy = _along_walls(u, dx * scale, dy * scale, layer, grid)
    is_blocked, is_touched = _in_the_way(places, i, u.team, dx, dy)
    if u.side == 0 and not is_blocked:
        _step(units, i, dx, dy, places)
        places[TOUCHES, i] = is_touched
        return
    n_near = _find_near(places, i, 0, places.shape[1], u.team, step, near)
    blocker = _blocker(units, i, dx, dy, loop, near, n_near)
    if blocker == NO_UNIT and (u.side == 0 or distance < u.detour or n_near == 0 or u.detour_loops >= DETOUR_LOOPS):
        u.side = 0
        if not _enters_core(places, i, dx, dy):
            _step(units, i, dx, dy, places)
            places[TOUCHES, i] = 1
        return
    _go_round(units, i, dx, dy, step, distance, loop, layer, grid, battle, places, near, n_near)


@compiled
def _go_round(units, i, dx, dy, step, distance, loop, layer, grid, battle, places, near, n_near):
    """One step with a hand on what is in the way, until the straight way is free and shorter than where it was left.

    Tried are the ways that just touch a neighbour, and those along walls; taken is the first free one of them, turning
    from the obstacle's side. (The "bug" algorithms of robotics; Lumelsky and Stepanov 1987.)
    """
    u = units[i]
    begins, side = u.side == 0, u.side
    u.detour_loops += 1
    if begins:
        u.detour, u.detour_loops = distance, 0
        u.heading_x, u.heading_y = dx / step, dy / step
        side = _shorter_side(units, i, battle, places, near[n_near:])
    best_angle, best_x, best_y, best_side = 5.0, 0.0, 0.0, 0
    for k in range(2 * n_near + 4 * _touches_wall(u, step, layer, grid)):
        if k < 2 * n_near:
            if k % 2 == 0:
                ahead_x, ahead_y, across = _touching_ways(u, units[near[k // 2]], step)
            else:
                across = -across
            way_x, way_y = ahead_x - across * ahead_y, ahead_y + across * ahead_x
        else:
            way_x, way_y = WALL_WAYS[k - 2 * n_near]
        way_side, angle = side, _turn(u, way_x, way_y, 1 if side == 0 else side, begins)
        if side == 0:
            way_side, angle = (1, angle) if angle <= 2 else (-1, 4 - angle)
        if not angle < best_angle or not _has_room(u, way_x * step, way_y * step, layer, grid):
            continue
        if _blocker(units, i, way_x * step, way_y * step, loop, near, n_near) == NO_UNIT:
            best_angle, best_x, best_y, best_side = angle, way_x, way_y, way_side
    if best_side == 0:
        u.stuck_wait = STUCK_LOOPS
        u.side = 0
        return
    u.side = best_side
    u.heading_x, u.heading_y = best_x, best_y
    if not _enters_core(places, i, best_x * step, best_y * step):
        _step(units, i, best_x * step, best_y * step, places)
        places[TOUCHES, i] = 1


@inlined
def _shorter_side(units, i, battle, places, near):
    """To which side a unit turns less to find its way free of those near who stand there: 1 left, -1 right, 0: nobody
    does. Where it is the same, to the side on which friends pass."""
    u = units[i]
    n_near = _find_near(places, i, 0, places.shape[1], u.team, HORIZON, near)
    best_turn, best_side = HALF_TURN + EVEN, 0
    for k in range(n_near):
        v = units[near[k]]
        from_x, from_y = v.x - u.x, v.y - u.y
        square = from_x * from_x + from_y * from_y
        room = u.separation_radius + v.separation_radius - OVERLAP
        ahead, across = np.sqrt(max(1 - room * room / square, 0.0)), min(room / np.sqrt(square), 1.0)
        for side in range(-1, 2, 2):  # the way that passes v on that side
            scale = 1 / np.sqrt(square)
            way_x = (from_x * ahead - side * across * from_y) * scale
            way_y = (from_y * ahead + side * across * from_x) * scale
            turn = _turn(u, way_x, way_y, side, True)
            shorter = turn < best_turn - EVEN or (turn < best_turn + EVEN and side == battle.passing_side)
            if shorter and _is_open(units, u, way_x, way_y, near, n_near):
                best_turn, best_side = turn, side
    return best_side


@inlined
def _is_open(units, u, way_x, way_y, near, n_near):
    """Whether none of the units near stands in a direction."""
    n_blockers = 0
    for k in range(n_near):
        v = units[near[k]]
        room = u.separation_radius + v.separation_radius - OVERLAP - EVEN
        from_x, from_y = v.x - u.x, v.y - u.y
        along, across = from_x * way_x + from_y * way_y, from_x * way_y - from_y * way_x
        n_blockers += (along > 0) & (abs(across) < room)
    return n_blockers == 0


@inlined
def _touching_ways(u, v, step):
    """(x, y, across): after a step in the direction (x - across * y, y + across * x), u just touches v; with -across,
    it does so on the other side. Not a number where none does."""
    room = u.separation_radius + v.separation_radius - OVERLAP
    from_x, from_y = v.x - u.x, v.y - u.y
    square = from_x * from_x + from_y * from_y
    along = (square + step * step - room * room) * (0.5 / step)  # of the step towards v, times the distance of v
    scale = along / square
    return scale * from_x, scale * from_y, np.sqrt(square - along * along) / along


@inlined
def _touches_wall(u, step, layer, grid):
    """Whether there is a wall within a step, which is shorter than a cell."""
    if _is_free(u.x, u.y, layer + ROOMY, grid):
        return False
    free = _is_free(u.x + step, u.y, layer, grid) and _is_free(u.x - step, u.y, layer, grid)
    return not (free and _is_free(u.x, u.y + step, layer, grid) and _is_free(u.x, u.y - step, layer, grid))


@inlined
def _turn(u, way_x, way_y, side, begins):
    """How far a way turns to a side, 0 to 4 for 0 to 360 degrees: from straight on when a detour begins, else from a
    right angle towards the obstacle."""
    ahead = way_x * u.heading_x + way_y * u.heading_y
    aside = side * (way_y * u.heading_x - way_x * u.heading_y)
    if not begins:
        ahead, aside = -aside, ahead
    turn = 1 - ahead / (abs(ahead) + abs(aside))
    return turn if aside >= 0 else 4 - turn


@inlined
def _way(u, goal_x, goal_y, cells, ways):
    """The cell, as a number, that lies on the way to a point behind a corner; below 0: straight on."""
    size_x, size_y = cells.shape
    to_x, to_y = min(max(int(goal_x), 0), size_x - 1), min(max(int(goal_y), 0), size_y - 1)
    return ways[cells[int(u.x), int(u.y)], cells[to_x, to_y]]


@inlined
def _arrive(u):
    if u.order == ATTACK_MOVE:
        u.home_x, u.home_y = u.goal_x, u.goal_y
    u.order = IDLE


@inlined
def place(units, types, places):
    """Writes the rows [N_ROWS, n_columns] for the search for neighbours: x, y, separation radius, whom a unit yields
    to, and whether it may overlap another one; the others are scratch space of `push_apart`.

    Whoever can't be in anybody's way lies far off: the dead, and the layers of each other. It yields to its team, or
    is FIRM.
    """
    for k in range(len(units)):
        u = units[k]
        places[X, k] = u.x if u.health > 0 else NOWHERE
        places[Y, k] = u.y + LAYERS_APART * types[u.type].layer
        places[RADIUS, k] = u.separation_radius - OVERLAP / 2
        places[YIELDS, k] = FIRM if (u.target != NO_UNIT and u.speed == 0) or types[u.type].speed == 0 else u.team
        places[TOUCHES, k] = u.health > 0
    places[X, len(units) :] = NOWHERE


@inlined
def _in_the_way(places, i, team, dx, dy):
    """(whether a unit ahead is in the way of a step, whether one overlaps after it): foes and the FIRM are in the way
    as soon as they overlap, friends when it would bring them nearer than their CORE."""
    x, y, radius = places[X, i], places[Y, i], places[RADIUS, i] - CONTACT
    blocks, touches = np.uint64(0), np.uint64(0)
    own, own_lanes = np.uint64(1) << np.uint64(i % LANES), i - i % LANES
    for k in range(0, places.shape[1], LANES):
        from_x, from_y = lanes(places, X, k) - x, lanes(places, Y, k) - y
        room = lanes(places, RADIUS, k) + radius
        after_x, after_y = from_x - dx, from_y - dy
        square = after_x * after_x + after_y * after_y
        core = room - CORE
        is_touched = square < room * room
        is_ahead = from_x * dx + from_y * dy > 0
        is_foe = lanes(places, YIELDS, k) != team
        blocks |= bits(((square < core * core) | (is_touched & is_foe)) & is_ahead)
        touches |= bits(is_touched) & ~(own if k == own_lanes else np.uint64(0))
    return blocks != 0, touches != 0


@inlined
def _bit(k):
    """The word in which bit k is set; without bits where k is not in it."""
    return np.uint64(1) << np.uint64(k) if 0 <= k < WORD else np.uint64(0)


@inlined
def _find_near(places, i, first, last, team, reach, near):
    """Writes into `near` which of the units from first to last are nearer to unit i than `reach`, edge to edge, and do
    not yield to this team; gives their number."""
    x, y, reach = places[X, i], places[Y, i], places[RADIUS, i] + reach
    n_near = 0
    for start in range(first // LANES * LANES, last, WORD):
        found = np.uint64(0)
        for k in range(start, min(start + WORD, last), LANES):
            from_x, from_y = lanes(places, X, k) - x, lanes(places, Y, k) - y
            room = lanes(places, RADIUS, k) + reach
            is_near = (from_x * from_x + from_y * from_y < room * room) & (lanes(places, YIELDS, k) != team)
            found |= bits(is_near) << np.uint64(k - start)
        found &= ~_bit(i - start)
        if start < first:
            found &= ALL << np.uint64(first - start)
        if last < start + WORD:
            found &= ALL >> np.uint64(start + WORD - last)
        while found != 0:
            near[n_near] = start + lowest_bit(found)
            n_near += 1
            found &= found - np.uint64(1)
    return n_near


@inlined
def _enters_core(places, i, dx, dy):
    """Whether a step leads into another unit's CORE."""
    x, y, radius = places[X, i], places[Y, i], places[RADIUS, i] - CORE - CONTACT
    entered = np.uint64(0)
    for k in range(0, places.shape[1], LANES):
        from_x, from_y = lanes(places, X, k) - x, lanes(places, Y, k) - y
        room = lanes(places, RADIUS, k) + radius
        after_x, after_y = from_x - dx, from_y - dy
        is_in = after_x * after_x + after_y * after_y < room * room
        entered |= bits(is_in & (from_x * dx + from_y * dy > 0))
    return entered != 0


@inlined
def push_apart(units, sequence, types, grid, battle, places, near):
    """Friends that overlap after all steps are pushed apart along the line of their centres: both by half; one alone if
    the other is FIRM, and an idle one by most of it; but nobody into another one's CORE. Whom that brings into contact
    is pushed on in the next loop."""
    n_touching = 0
    for i in range(len(units)):
        n_touching += places[TOUCHES, i] != 0
    if n_touching > 0 and _collect_pushes(units, battle, borrowed(places), borrowed(near)):
        _apply_pushes(units, sequence, types, grid, borrowed(places))


@compiled
def _collect_pushes(units, battle, places, near):
    """Adds up in `places` what every unit is pushed, and returns whether anybody is."""
    pushed = False
    for i in range(len(units)):
        if places[TOUCHES, i] != MAY_TOUCH:
            continue
        first, last = (0, battle.n_agents) if i < battle.n_agents else (battle.n_agents, len(units))
        n_near = 0  # also of the dead, who lie one upon the other
        if units[i].health > 0:
            n_near = _find_near(places, i, first, last, NO_TEAM, -CONTACT, near)
        if n_near == 0:
            places[TOUCHES, i] = 0
            continue
        if not pushed:
            places[PUSH_X:] = 0
            pushed = True
        for k in near[:n_near]:
            if places[TOUCHES, k] != MAY_TOUCH or k > i:  # else it has been k's turn
                if places[YIELDS, i] != FIRM or places[YIELDS, k] != FIRM:  # else neither would move
                    _push(units, i, k, battle, places)
                places[TOUCHES, k] = places[TOUCHES, k] or IS_TOUCHED
    return pushed


@compiled
def _apply_pushes(units, sequence, types, grid, places):
    for i in borrowed(sequence):
        if places[TOUCHES, i] != 0:
            places[TOUCHES, i] = MAY_TOUCH
            dx, dy = places[PUSH_X, i], places[PUSH_Y, i]
            if dx != 0 or dy != 0:
                u = units[i]
                dx, dy = _along_walls(u, dx, dy, types[u.type].layer, grid)
                if not _enters_core(places, i, dx, dy):
                    _move(u, i, dx, dy, places)


@inlined
def _push(units, i, k, battle, places):
    """Adds what two friends push each other."""
    u, v = units[i], units[k]
    from_x, from_y = u.x - v.x, u.y - v.y
    distance = max(np.sqrt(from_x * from_x + from_y * from_y), CONTACT)
    overlap, from_x, from_y = places[RADIUS, i] + places[RADIUS, k] - distance, from_x / distance, from_y / distance
    u_holds = places[YIELDS, i] == FIRM or u.step_x * from_x + u.step_y * from_y > GOING_ALONG * u.speed
    v_holds = places[YIELDS, k] == FIRM or -v.step_x * from_x - v.step_y * from_y > GOING_ALONG * v.speed
    u_moves, v_moves = u.step_x != 0 or u.step_y != 0, v.step_x != 0 or v.step_y != 0
    u_share = v_share = 0.5
    if u_holds or v_holds:
        u_share, v_share = 0.0 if u_holds else 1.0, 0.0 if v_holds else 1.0
    elif u_moves and v_moves:
        against = -(u.step_x * v.step_x + u.step_y * v.step_y) > GOING_ALONG * u.speed * v.speed
        aside = from_x * (u.step_y - v.step_y) - from_y * (u.step_x - v.step_x)
        if against and abs(aside) < PASSING_OFFSET * (u.speed + v.speed):
            turn = -PASSING_TURN * battle.passing_side
            from_x, from_y = from_x - turn * from_y, from_y + turn * from_x
    elif u_moves or v_moves:
        u_share = 1 - IDLE_SHARE if u_moves else IDLE_SHARE
        v_share = 1 - u_share
    places[PUSH_X, i] += overlap * u_share * from_x
    places[PUSH_Y, i] += overlap * u_share * from_y
    places[PUSH_X, k] -= overlap * v_share * from_x
    places[PUSH_Y, k] -= overlap * v_share * from_y


@inlined
def _blocker(units, i, dx, dy, loop, near, n_near):
    """The nearest unit ahead, of those near, that would be overlapped after a step of (dx, dy)."""
    u = units[i]
    found, found_square = NO_UNIT, np.inf
    for k in range(n_near):
        v = units[near[k]]
        room = u.separation_radius + v.separation_radius - OVERLAP - CONTACT
        from_x, from_y = v.x - u.x, v.y - u.y
        if v.acted_loop < loop:  # it will make this step, too
            from_x, from_y = from_x + v.step_x, from_y + v.step_y
        square = (from_x - dx) ** 2 + (from_y - dy) ** 2
        if square < room * room and from_x * dx + from_y * dy > 0 and square < found_square:
            found, found_square = near[k], square
    return found


@inlined
def _along_walls(u, dx, dy, layer, grid):
    """The step (dx, dy), or the part of it that runs along a wall."""
    if _has_room(u, dx, dy, layer, grid):
        return dx, dy
    if _has_room(u, dx, 0.0, layer, grid):
        return dx, 0.0
    if _has_room(u, 0.0, dy, layer, grid):
        return 0.0, dy
    return 0.0, 0.0


@inlined
def _has_room(u, dx, dy, layer, grid):
    """Whether a unit may make a step, its edge no further in a wall than in another unit; who is there may go on."""
    x, y = u.x + dx, u.y + dy
    if _is_free(x, y, layer + ROOMY, grid):
        return True
    reach = u.separation_radius - OVERLAP
    return _is_free(x, y, layer, grid) and (
        layer == AIR or _is_off_walls(x, y, reach, layer, grid) or not _is_off_walls(u.x, u.y, reach, layer, grid)
    )


@inlined
def _is_off_walls(x, y, reach, layer, grid):
    free = _is_free(x + reach, y, layer, grid) and _is_free(x - reach, y, layer, grid)
    return free and _is_free(x, y + reach, layer, grid) and _is_free(x, y - reach, layer, grid)


@inlined
def _is_free(x, y, layer, grid):
    """Whether units of a layer may stand there; grid [x, y] of `terrain.layer_grid`."""
    width, height = grid.shape
    return 0 <= x < width and 0 <= y < height and grid[int(x), int(y)] >> layer & 1


@inlined
def _step(units, i, dx, dy, places):
    u = units[i]
    if dx != 0 or dy != 0:
        u.face_x, u.face_y = dx, dy
        u.step_x, u.step_y = dx, dy
    _move(u, i, dx, dy, places)


@inlined
def _move(u, i, dx, dy, places):
    u.x, u.y = u.x + dx, u.y + dy
    places[X, i], places[Y, i] = places[X, i] + dx, places[Y, i] + dy
