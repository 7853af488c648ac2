"""What a battle consists of: the records of units and of what is under way, orders, and random numbers.

`dynamics.py` plays them, `units.py` has the fixed facts of the unit types.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from envs.sc2.sim.jit import inlined

NO_UNIT = -1
IDLE, MOVE, ATTACK, ATTACK_MOVE, HUNT = 0, 1, 2, 3, 4
"""Orders: stand; go to the goal; attack (a medivac: heal) the target only; go to the goal and fight whoever comes into
scan range; attack the nearest opponent wherever it is."""

UNIT = np.dtype(
    [
        # what the loops over all units read comes first, in one cache line
        ("x", "f8"),
        ("y", "f8"),
        ("health", "f8"),  # 0: dead
        ("radius", "f8"),  # for ranges; fixed by its type
        ("separation_radius", "f8"),  # for collisions; fixed by its type
        ("target", "i4"),  # the unit it attacks or heals
        ("team", "i4"),
        ("type", "i4"),  # row of the table of unit types
        ("order", "i4"),
        ("planes", "i4"),  # bits of units.PLANES; fixed by its type
        ("shooting_at", "i4"),  # the unit that the wind-up is for
        ("shield", "f8"),
        ("energy", "f8"),
        ("cooldown", "f8"),  # loops until the weapon is ready
        ("windup", "f8"),  # loops until the shot that is being prepared
        ("backswing", "f8"),  # loops until the unit may walk on
        ("goal_x", "f8"),
        ("goal_y", "f8"),
        ("home_x", "f8"),  # where an idle unit goes back to after a chase
        ("home_y", "f8"),
        ("speed", "f8"),  # that it has reached, distance per loop
        ("face_x", "f8"),  # direction in which it last moved or shot
        ("face_y", "f8"),
        ("step_x", "f8"),  # its step in this loop, or before its turn has come the one that it is expected to make
        ("step_y", "f8"),
        ("acted_loop", "i4"),  # when its turn last was
        ("random", "u8"),  # state of the unit's own generator
        ("chases", "i4"),  # whoever shot at it or called from out of its scan range, or threatens it out of its reach
        ("alert_loop", "i4"),  # when it was shot at or called, until it has looked for a target; targets.NEVER
        ("help_wait", "i4"),  # loop until which it does not call for help again
        ("scan_phase", "i4"),  # shifts the loops in which it looks for a target
        ("scan_wait", "i4"),  # loops in which nobody can come into its scan range
        ("shield_wait", "i4"),  # loops until its shield regenerates
        ("acquires", "i4"),  # 1: chooses targets by itself
        ("killed_by", "i4"),  # the unit whose hit was the last
        ("free_fire", "i4"),  # 1: shoots at whoever is in range though it has no order to attack
        ("stuck_wait", "i4"),  # loops until a unit that is hemmed in looks for a way out again
        ("side", "i4"),  # 1 or -1: to which side it goes round an obstacle; 0: no obstacle
        ("detour", "f8"),  # its distance from the goal when it met the obstacle
        ("detour_loops", "i4"),  # since then
        ("heading_x", "f8"),  # of its last step round the obstacle
        ("heading_y", "f8"),
        # a colossus's beams: across (beam_x, beam_y) along the unit vector (beam_dx, beam_dy)
        ("sweep", "i4"),  # loops that they have swept, from 1; 0: there are none
        ("beam_x", "f8"),
        ("beam_y", "f8"),
        ("beam_dx", "f8"),
        ("beam_dy", "f8"),
        ("swept", "u8", (2,)),  # bits of the opponents that either beam has touched
        # what features.py divides by and writes of its type; fixed
        ("health_max", "f8"),
        ("shield_max", "f8"),  # 1 where it has none
        ("cooldown_max", "f8"),
        ("type_index", "i4"),  # in the one-hot of unit types
        ("heals", "i4"),  # 1: a medivac
    ],
    align=True,
)

HIT, MISSILE, EXPLOSION = 0, 1, 2
EFFECT = np.dtype(
    [
        ("kind", "i4"),  # HIT: strikes the target after the wait; MISSILE: flies to it; EXPLOSION: strikes all around
        ("source", "i4"),
        ("target", "i4"),
        ("wait", "f8"),  # loops
        ("x", "f8"),
        ("y", "f8"),
    ],
    align=True,
)
"""Something that will strike though its source may be dead by then."""


class Battle(NamedTuple):
    """What the compiled code must know of the map and of the open rules (`rules.py`)."""

    n_agents: int
    scan_period_loops: int
    regenerates: bool  # some type on the map regains shield, health or energy
    passing_side: int  # 1: friends that meet pass each other on the left, -1: on the right
    has_ways: bool  # there are walls to go round


@inlined
def next_random(state):
    """(new state, uniform number in [0, 1)); the generator is SplitMix64 (Steele, Lea and Flood 2014)."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return state, np.float64(z >> np.uint64(11)) * 1.1102230246251565e-16


@inlined
def within(u, v, reach):
    """Whether two units are no further apart than `reach`, edge to edge."""
    reach = reach + u.radius + v.radius
    return (v.x - u.x) ** 2 + (v.y - u.y) ** 2 <= reach * reach
