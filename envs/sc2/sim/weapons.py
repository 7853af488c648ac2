"""What units do to each other: wind-ups, shots, missiles, beams, explosions, damage and healing."""

import numpy as np

from envs.sc2.sim.jit import compiled, inlined
from envs.sc2.sim.records import EXPLOSION, HIT, MISSILE, NO_UNIT, next_random, within
from envs.sc2.sim.targets import alert
from envs.sc2.sim.units import BEAMS, BLAST, PLANES, STRUCTURE

MIN_DAMAGE = 0.5
FIRING_ARC = np.deg2rad(12)  # a marine that must turn by 75 degrees or more shoots a loop later in recorded battles
NOWHERE = 1e9  # where the dead are, who block nobody

BEAM_POINTS = 11
BEAM_SPACING = 0.25
BEAM_RADIUS = 0.15
BEAM_POINTS_PER_LOOP = 2  # 0.0312 s each
BEAM_LOOPS = 6
BEAM_DELAY_LOOPS = 4.0
MAIN_TARGET_DELAY_LOOPS = 6.0
BLAST_RADIUS = 2.2

ON_GROUND = PLANES["Ground"]


@compiled
def start_shot(units, i, loop, types, effects, n_effects, battle, places):
    """Turns to the target, and begins the wind-up once it faces it."""
    u = units[i]
    unit_type = types[u.type]
    if unit_type.turn > 0 and not _faces(u, units[u.target], unit_type.turn):
        return
    u.shooting_at = u.target
    alert(units, u.target, i, loop, types)
    u.windup = unit_type.damage_point
    if _is_in_melee(u, units[u.target], unit_type):
        u.windup = unit_type.melee_damage_point
    if u.windup <= 0:
        _shoot(units, i, types, effects, n_effects, battle, places)


@inlined
def _is_in_melee(u, v, unit_type):
    return unit_type.melee_range > 0 and within(u, v, unit_type.melee_range)


@inlined
def _faces(u, v, turn):
    """Whether it can shoot in its present direction, give or take one loop's turn; else it makes that turn."""
    angle = np.arctan2(v.y - u.y, v.x - u.x)
    aside = (angle - np.arctan2(u.face_y, u.face_x) + np.pi) % (2 * np.pi) - np.pi
    if abs(aside) > turn + FIRING_ARC:
        angle -= aside - np.sign(aside) * turn
    u.face_x, u.face_y = np.cos(angle), np.sin(angle)
    return abs(aside) <= turn + FIRING_ARC


@inlined
def _start_cooldown(u, unit_type):
    """The period runs from when the weapon was ready or, if later, the wind-up began, but counts from the shot on."""
    u.random, draw = next_random(u.random)
    u.cooldown += unit_type.period + unit_type.delay_min + draw * (unit_type.delay_max - unit_type.delay_min)


@inlined
def wind_up(units, i, types, effects, n_effects, battle, places):
    """Goes on preparing the shot; it is called off when the target dies or is out of range by more than the slop."""
    u = units[i]
    v = units[u.shooting_at]
    unit_type = types[u.type]
    if v.health <= 0 or not within(u, v, unit_type.range + unit_type.range_slop):
        u.shooting_at = NO_UNIT
        u.cooldown = 0.0
        return
    u.windup -= 1
    if u.windup <= 0:
        _shoot(units, i, types, effects, n_effects, battle, places)


@compiled
def _shoot(units, i, types, effects, n_effects, battle, places):
    u = units[i]
    unit_type = types[u.type]
    target = u.shooting_at
    u.shooting_at = NO_UNIT
    u.backswing = unit_type.backswing
    _start_cooldown(u, unit_type)
    if unit_type.weapon == BLAST:
        _die(units, i, types, effects, n_effects, places)
    elif unit_type.weapon == BEAMS:
        _start_beams(units, i, target, effects, n_effects, battle)
    elif unit_type.missile_speed > 0 and not _is_in_melee(u, units[target], unit_type):
        _add_effect(effects, n_effects, MISSILE, i, target, 0.0, u.x, u.y)
    else:
        _strike(units, target, i, types, effects, n_effects, places)
        if unit_type.second_hit > 0:
            _add_effect(effects, n_effects, HIT, i, target, unit_type.second_hit + 1, u.x, u.y)


# ------------------------------------------------------------------------------------------------ damage


@inlined
def _strike(units, target, source, types, effects, n_effects, places):
    """One hit by the weapon of the source, and what follows from it."""
    v = units[target]
    hit(v, types[units[source].type], types[v.type])
    if v.health <= 0:
        v.killed_by = source
        _die(units, target, types, effects, n_effects, places)


@inlined
def hit(v, attacker_type, victim_type):
    """One hit: bonus against matching attributes, shields first (they have no armor), life less its armor."""
    damage = attacker_type.damage
    if attacker_type.bonus_attributes & victim_type.attributes:
        damage += attacker_type.bonus
    v.shield_wait = int(victim_type.shield_delay)
    absorbed = min(damage, v.shield)
    v.shield -= absorbed
    damage -= absorbed
    if damage > 0:
        v.health = max(v.health - max(damage - victim_type.armor, MIN_DAMAGE), 0.0)


@compiled
def _die(units, i, types, effects, n_effects, places):
    """Nobody is blocked by the unit any more; a baneling explodes, however it dies."""
    u = units[i]
    u.health = 0.0
    places[0, i] = NOWHERE
    if types[u.type].weapon == BLAST:
        _add_effect(effects, n_effects, EXPLOSION, i, NO_UNIT, 0.0, u.x, u.y)


# ------------------------------------------------------------------------------------------------ what is under way


@inlined
def _add_effect(effects, n_effects, kind, source, target, wait, x, y):
    effect = effects[n_effects[0]]
    effect.kind, effect.source, effect.target = kind, source, target
    effect.wait, effect.x, effect.y = wait, x, y
    n_effects[0] += 1


@compiled
def run_effects(units, types, effects, n_effects, battle, places):
    """Missiles fly on, hits and explosions strike when their time has come; explosions may set off others."""
    k, n_kept = 0, 0
    while k < n_effects[0]:
        effect = effects[k]
        k += 1
        if effect.kind == EXPLOSION:
            _explode(units, effect.source, effect.x, effect.y, types, effects, n_effects, battle, places)
            continue
        v = units[effect.target]
        if v.health <= 0:
            continue
        if effect.kind == MISSILE:
            speed = types[units[effect.source].type].missile_speed
            dx, dy = v.x - effect.x, v.y - effect.y
            distance = np.sqrt(dx * dx + dy * dy)
            arrives = distance - v.radius <= speed
            if not arrives:
                effect.x += dx * speed / distance
                effect.y += dy * speed / distance
        else:
            effect.wait -= 1
            arrives = effect.wait <= 0
        if arrives:
            _strike(units, effect.target, effect.source, types, effects, n_effects, places)
        else:
            effects[n_kept] = effect
            n_kept += 1
    n_effects[0] = n_kept


@compiled
def _explode(units, source, x, y, types, effects, n_effects, battle, places):
    """A baneling hurts every opponent on the ground within 2.2 of its centre, except structures."""
    first, last = (battle.n_agents, len(units)) if units[source].team == 0 else (0, battle.n_agents)
    for k in range(first, last):
        v = units[k]
        if v.health <= 0 or not v.planes & ON_GROUND or types[v.type].attributes & STRUCTURE:
            continue
        reach = BLAST_RADIUS + v.radius
        if (v.x - x) ** 2 + (v.y - y) ** 2 <= reach * reach:
            _strike(units, k, source, types, effects, n_effects, places)


# ------------------------------------------------------------------------------------------------ beams


@compiled
def _start_beams(units, i, target, effects, n_effects, battle):
    """Lays the beams' line across the target, which both beams are sure to hit."""
    u, v = units[i], units[target]
    dx, dy = v.x - u.x, v.y - u.y
    distance = np.sqrt(dx * dx + dy * dy)
    if distance == 0:
        dx, distance = 1.0, 1.0
    u.beam_x, u.beam_y = v.x, v.y
    u.beam_dx, u.beam_dy = -dy / distance, dx / distance
    u.sweep = 1
    bit = np.uint64(1) << np.uint64(target - (battle.n_agents if u.team == 0 else 0))
    u.swept[0] = bit
    u.swept[1] = bit
    for _ in range(2):
        _add_effect(effects, n_effects, HIT, i, target, MAIN_TARGET_DELAY_LOOPS + 1, v.x, v.y)


@compiled
def sweep_beams(units, i, effects, n_effects, battle):
    """Two beams go along the line from opposite ends; whoever one of them touches is hit once by it, a little later."""
    u = units[i]
    first, last = (battle.n_agents, len(units)) if u.team == 0 else (0, battle.n_agents)
    for point in range(BEAM_POINTS_PER_LOOP * (u.sweep - 1), min(BEAM_POINTS_PER_LOOP * u.sweep, BEAM_POINTS)):
        for beam in range(2):
            along = (1 - 2 * beam) * (point - BEAM_POINTS // 2) * BEAM_SPACING
            x, y = u.beam_x + along * u.beam_dx, u.beam_y + along * u.beam_dy
            for k in range(first, last):
                v = units[k]
                reach = BEAM_RADIUS + v.radius
                if v.health > 0 and v.planes & ON_GROUND and (v.x - x) ** 2 + (v.y - y) ** 2 <= reach * reach:
                    bit = np.uint64(1) << np.uint64(k - first)
                    if u.swept[beam] & bit == 0:
                        u.swept[beam] |= bit
                        _add_effect(effects, n_effects, HIT, i, k, BEAM_DELAY_LOOPS + 1, v.x, v.y)
    u.sweep = u.sweep + 1 if u.sweep < BEAM_LOOPS else 0


# ------------------------------------------------------------------------------------------------ healing


@inlined
def heal(u, v, unit_type):
    """One loop of healing, as far as it is needed."""
    amount = min(unit_type.heal, v.health_max - v.health)
    v.health += amount
    u.energy -= amount * unit_type.heal_cost


@inlined
def regenerate(u, unit_type):
    """One loop of regeneration."""
    if u.shield_wait > 0:
        u.shield_wait -= 1
    elif u.shield < unit_type.shield:
        u.shield = min(u.shield + unit_type.shield_regeneration, unit_type.shield)
    if u.health < u.health_max:
        u.health = min(u.health + unit_type.health_regeneration, u.health_max)
    if u.energy < unit_type.energy_max:
        u.energy = min(u.energy + unit_type.energy_regeneration, unit_type.energy_max)
