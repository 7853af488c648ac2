"""SMACv2's view of a battle, compiled: what `../features.py` has for SMAC, with its ranges, cones, capabilities and
marks of who knows of which enemy.

Everything follows SMACv2's interface to the letter, its quirks included. `Layout` is SMAC's, with SMACv2's sizes;
`Switches` has what SMAC lacks, `Episode` what SMACv2 remembers of each battle.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from envs.sc2.sim.dynamics import shuffle
from envs.sc2.sim.features import (
    DRAWN,
    LOST,
    N_ACTIONS_NO_ATTACK,
    RUNNING,
    WON,
    Layout,
    battle_reward,
    distance_between,
    update_previous,
    write_ally_state,
    write_enemies_actions_and_time,
    write_moves,
    write_surroundings,
)
from envs.sc2.sim.jit import borrowed, compiled, inlined
from envs.sc2.sim.records import next_random

NOBODY = -1
SMALLEST = 1e-7
"""What SMACv2 puts in place of a difference that is nothing, before it divides by it."""


class Switches(NamedTuple):
    """SMACv2's own options for one environment."""

    n_directions: int  # of the cone; 0: there is no cone
    half_angle: float  # of the cone
    obs_own_pos: bool
    obs_starcraft: bool
    fully_observable: bool
    action_mask: bool
    blanks: bool  # whoever was not told of an enemy loses sight of those before it
    prob_obs_enemy: float
    stochastic_attack: bool
    stochastic_health: bool
    observe_attack: bool
    observe_health: bool
    observe_types: bool
    masks_enemies: bool
    has_medivacs: bool  # the map's race is terran, whatever the teams


class Episode(NamedTuple):
    """What SMACv2 keeps of each battle beside its units; all begin with the axis [batch]."""

    direction: np.ndarray  # float64 [batch, agent, (x, y)]: where the cone looks
    attack: np.ndarray  # float64 [batch, agent]: chance to carry out an attack
    health: np.ndarray  # float64 [batch, agent]: share of the health below which an agent dies
    enemy_mask: np.ndarray  # uint8 [batch, agent, enemy]: 0 where an enemy's health and type are shown
    known: np.ndarray  # uint8 [batch, enemy, agent]: the agent has been told of the enemy
    seen_by: np.ndarray  # int64 [batch, enemy]: who saw it first, or NOBODY
    can_target: np.ndarray  # uint8 [batch, agent, target]: the target is in reach
    order: np.ndarray  # int64 [batch, agent]: in which the agents look
    numbers: np.ndarray  # float64 [batch, enemy * (agent - 1)]: uniform, for who is told of enemies
    rolls: np.ndarray  # float64 [batch, agent]: uniform, for attacks that depend on chance
    random: np.ndarray  # uint64 [batch]: state of the generator of all of these numbers


def empty_episode(n_envs: int, layout: Layout, switches: Switches) -> Episode:
    """Returns the arrays that an environment keeps beside its units; see `Episode`."""
    n_agents, n_enemies = layout.n_agents, layout.n_enemies
    needs_numbers = switches.blanks and 0 < switches.prob_obs_enemy < 1
    return Episode(
        direction=np.zeros((n_envs, n_agents, 2)),
        attack=np.ones((n_envs, n_agents)),
        health=np.zeros((n_envs, n_agents)),
        enemy_mask=np.zeros((n_envs, n_agents, n_enemies), np.uint8),
        known=np.zeros((n_envs, n_enemies, n_agents), np.uint8),
        seen_by=np.full((n_envs, n_enemies), NOBODY),
        can_target=np.zeros((n_envs, n_agents, max(n_agents, n_enemies)), np.uint8),
        order=np.tile(np.arange(n_agents), (n_envs, 1)),
        numbers=np.zeros((n_envs, needs_numbers * n_enemies * (n_agents - 1))),
        rolls=np.zeros((n_envs, n_agents)),
        random=np.zeros(n_envs, np.uint64),
    )


# ------------------------------------------------------------------------------------------------ observing


@compiled
def observe(
    units, last_actions, episode_steps, worlds, layout, switches, sight, reach, episode, pathing, heights,
    obs, state, avail_actions,
):  # fmt: skip
    """Writes what is seen in every battle of the mask, as `get_obs` once and then the rest: marks change with it.

    sight and reach [type]: how far units of a type see, and how near a target must be. The order of the agents and the
    numbers are those of the episode (`draw_looks`). The other arguments are those of `../features.py`.
    """
    for b in range(units.shape[0]):
        if worlds[b]:
            _observe_battle(
                b, units, last_actions, episode_steps, layout, switches, sight, reach, episode, pathing, heights,
                obs, state, avail_actions,
            )  # fmt: skip


@compiled(parallel=True)
def observe_parallel(
    units, last_actions, episode_steps, worlds, layout, switches, sight, reach, episode, pathing, heights,
    obs, state, avail_actions,
):  # fmt: skip
    """`observe` with the battles spread over numba's threads."""
    for b in prange(units.shape[0]):
        if worlds[b]:
            _observe_battle(
                b, units, last_actions, episode_steps, layout, switches, sight, reach, episode, pathing, heights,
                obs, state, avail_actions,
            )  # fmt: skip


@compiled
def _observe_battle(
    b, units, last_actions, episode_steps, layout, switches, sight, reach, episode, pathing, heights,
    obs, state, avail_actions,
):  # fmt: skip
    units, last_actions = borrowed(units)[b], borrowed(last_actions)[b]
    pathing, heights = borrowed(pathing), borrowed(heights)
    obs, state, avail_actions = borrowed(obs)[b], borrowed(state)[b], borrowed(avail_actions)[b]
    sight, reach, episode = borrowed(sight), borrowed(reach), _of_battle(episode, b)
    time = episode_steps[b] / layout.episode_limit
    _find_targets(units, layout, switches, reach, episode.direction, episode.can_target)
    _write_avail_actions(units, layout, switches, pathing, episode.can_target, avail_actions)
    n_numbers = 0
    for i in episode.order:
        n_numbers = _write_obs(
            units, i, avail_actions, last_actions, time, layout, switches, sight, episode, pathing, heights,
            n_numbers, obs[i],
        )  # fmt: skip
    _write_state(units, last_actions, time, layout, switches, episode, pathing, state)


@inlined
def _of_battle(episode, b):
    """The same without the axis of battles."""
    return Episode(
        borrowed(episode.direction)[b],
        borrowed(episode.attack)[b],
        borrowed(episode.health)[b],
        borrowed(episode.enemy_mask)[b],
        borrowed(episode.known)[b],
        borrowed(episode.seen_by)[b],
        borrowed(episode.can_target)[b],
        borrowed(episode.order)[b],
        borrowed(episode.numbers)[b],
        borrowed(episode.rolls)[b],
        borrowed(episode.random)[b : b + 1],
    )


@compiled
def draw_looks(worlds, switches, episode):
    """Draws, for every battle of the mask, in which order the agents look and the numbers of who is told."""
    needs_numbers = 0 < switches.prob_obs_enemy < 1
    for b in range(len(worlds)):
        if worlds[b]:
            order, numbers = episode.order[b], episode.numbers[b]
            for i in range(len(order)):
                order[i] = i
            shuffle(order, episode.random, b)
            if needs_numbers:
                for k in range(len(numbers)):
                    episode.random[b], numbers[k] = next_random(episode.random[b])


@compiled
def begin(worlds, episode):
    """Starts an episode in every battle of the mask: nobody knows of anybody, and all look east."""
    for b in range(len(worlds)):
        if worlds[b]:
            episode.known[b] = 0
            episode.seen_by[b] = NOBODY
            episode.direction[b, :, 0] = 1.0
            episode.direction[b, :, 1] = 0.0


# ------------------------------------------------------------------------------------------------ sight


@inlined
def _is_in_cone(u, v, distance, direction, radius, half_angle):
    """Whether v is in the cone of u. The arctangent is one-sided: whoever looks east also sees west. Places are in
    single precision, as in the game's messages: units that stand in a row are often just at the edge."""
    if distance > radius:
        return False
    dx, gaze = float(np.float32(v.x)) - float(np.float32(u.x)), direction[0]
    dy = float(np.float32(v.y)) - float(np.float32(u.y))
    if dx > 0:
        dx, gaze = max(dx, SMALLEST), max(gaze, SMALLEST)
    else:
        dx, gaze = min(dx, -SMALLEST), min(gaze, -SMALLEST)
    return abs(np.arctan(dy / dx) - np.arctan(direction[1] / gaze)) < half_angle


@inlined
def _is_in_sight(u, v, distance, direction, radius, switches):
    if switches.n_directions > 0:
        return _is_in_cone(u, v, distance, direction, radius, switches.half_angle)
    return distance < radius


@inlined
def _find_targets(units, layout, switches, reach, directions, can_target):
    """Writes whom each agent can attack, or heal, from where it is."""
    n_agents = layout.n_agents
    can_target[:] = 0
    for i in range(n_agents):
        u = units[i]
        if u.health <= 0:
            continue
        first, last = (0, n_agents) if u.heals else (n_agents, len(units))
        for k in range(first, last):
            v = units[k]
            if v.health <= 0 or (u.heals and v.heals):
                continue
            distance, radius = distance_between(u, v), reach[u.type]
            if switches.n_directions > 0:
                can_target[i, k - first] = _is_in_cone(u, v, distance, directions[i], radius, switches.half_angle)
            else:
                can_target[i, k - first] = distance <= radius


@inlined
def _write_avail_actions(units, layout, switches, pathing, can_target, avail):
    n_agents, first_target = layout.n_agents, N_ACTIONS_NO_ATTACK + switches.n_directions
    avail[:] = 0
    for i in range(n_agents):
        u = units[i]
        if u.health <= 0:
            avail[i, 0] = 1
            continue
        write_moves(u, layout, pathing, avail[i])
        for k in range(switches.n_directions):
            avail[i, N_ACTIONS_NO_ATTACK + k] = 1
        first, last = (0, n_agents) if u.heals else (n_agents, len(units))
        for k in range(first, last):
            v = units[k]
            if switches.action_mask:
                avail[i, first_target + k - first] = can_target[i, k - first]
            else:
                avail[i, first_target + k - first] = v.health > 0 and not (u.heals and v.heals)


# ------------------------------------------------------------------------------------------------ observations


@inlined
def _write_obs(units, i, avail, last_actions, time, layout, switches, sight, episode, pathing, heights, n_numbers, obs):
    """Writes one agent's observation; returns how many of the battle's numbers are used up."""
    n_agents = layout.n_agents
    u = units[i]
    obs[:] = 0
    if layout.obs_timestep_number:
        obs[-1] = time  # also of the dead
    if u.health <= 0 or not switches.obs_starcraft:
        return n_numbers
    for way in range(4):
        obs[way] = avail[i, 2 + way]
    at = 4
    if layout.obs_pathing_grid or layout.obs_terrain_height:
        at = write_surroundings(u, layout, pathing, heights, obs, at)
    radius, direction = sight[u.type], episode.direction[i]

    start = at
    for k in range(layout.n_enemies):
        v = units[n_agents + k]
        distance = distance_between(u, v)
        is_in_sight = _is_in_sight(u, v, distance, direction, radius, switches)
        if switches.blanks and is_in_sight and episode.seen_by[k] == NOBODY:
            n_numbers = _tell(i, k, n_agents, switches, episode, n_numbers)
        is_known = not switches.blanks or episode.known[k, i] != 0
        sees = switches.fully_observable or (is_in_sight and is_known)
        if v.health > 0 and sees:
            obs[at] = episode.can_target[i, k]
            obs[at + 1] = distance / radius
            obs[at + 2] = (v.x - u.x) / radius
            obs[at + 3] = (v.y - u.y) / radius
            if not switches.masks_enemies or episode.enemy_mask[i, k] == 0:
                next_feature = at + 4
                if layout.obs_all_health:
                    next_feature = _write_health(v, v.health / v.health_max, layout.enemy_has_shield, obs, next_feature)
                obs[next_feature + v.type_index] = 1
        at += layout.enemy_features
        if not is_known:
            obs[start : start + layout.n_enemies * layout.enemy_features] = 0

    for k in range(n_agents):
        if k == i:
            continue
        v = units[k]
        distance = distance_between(u, v)
        if v.health > 0 and (switches.fully_observable or _is_in_sight(u, v, distance, direction, radius, switches)):
            _write_ally(u, v, k, distance, radius, last_actions, layout, switches, episode, obs, at)
        at += layout.ally_features

    if layout.obs_own_health:
        at = _write_health(u, _health(u, i, switches, episode), layout.ally_has_shield, obs, at)
    if switches.stochastic_attack:
        obs[at] = episode.attack[i]
        at += 1
    if switches.stochastic_health:
        obs[at] = episode.health[i]
        at += 1
    if switches.obs_own_pos:
        obs[at], obs[at + 1] = u.x / pathing.shape[0], u.y / pathing.shape[1]
        at += 2
    if switches.n_directions > 0:
        obs[at], obs[at + 1] = direction[0], direction[1]
        at += 2
    obs[at + u.type_index] = 1
    return n_numbers


@inlined
def _tell(i, k, n_agents, switches, episode, n_numbers):
    """Agent i is the first to see enemy k, and tells each of the others by chance."""
    episode.seen_by[k] = i
    episode.known[k, i] = 1
    for j in range(n_agents):
        if j != i:
            if switches.prob_obs_enemy >= 1:
                episode.known[k, j] = 1
            elif switches.prob_obs_enemy > 0:
                if episode.numbers[n_numbers] < switches.prob_obs_enemy:
                    episode.known[k, j] = 1
                n_numbers += 1
    return n_numbers


@inlined
def _write_ally(u, v, k, distance, radius, last_actions, layout, switches, episode, obs, at):
    obs[at] = 1
    obs[at + 1] = distance / radius
    obs[at + 2] = (v.x - u.x) / radius
    obs[at + 3] = (v.y - u.y) / radius
    next_feature = at + 4
    if layout.obs_all_health:
        health = _health(v, k, switches, episode)
        if switches.stochastic_health and not switches.observe_health:
            health = 0.0
        next_feature = _write_health(v, health, layout.ally_has_shield, obs, next_feature)
    if switches.stochastic_attack:
        obs[next_feature] = episode.attack[k] * switches.observe_attack
        next_feature += 1
    if switches.stochastic_health:
        obs[next_feature] = episode.health[k] * switches.observe_health
        next_feature += 1
    if switches.observe_types:
        obs[next_feature + v.type_index] = 1
    next_feature += layout.type_bits
    if layout.obs_last_action and last_actions[k] >= 0:
        obs[next_feature + last_actions[k]] = 1


@inlined
def _health(u, i, switches, episode):
    """The share of agent i's health as it is shown: of what is above the level at which it dies."""
    health = u.health / u.health_max
    if switches.stochastic_health:
        return (health - episode.health[i]) / (1 - episode.health[i])
    return health


@inlined
def _write_health(v, health, has_shield, obs, at):
    obs[at] = health
    if has_shield:
        obs[at + 1] = v.shield / v.shield_max
        return at + 2
    return at + 1


@compiled
def forget(units, worlds, layout, episode):
    """Takes back marks, as SMACv2 does after every step: those by agents that are dead, and those of dead enemies."""
    units, n_agents = borrowed(units), layout.n_agents
    for b in range(units.shape[0]):
        if worlds[b]:
            known, seen_by = episode.known[b], episode.seen_by[b]
            for i in range(n_agents):
                if units[b, i].health <= 0:
                    for k in range(layout.n_enemies):
                        if seen_by[k] == i:
                            seen_by[k] = NOBODY
                            known[k] = 0
                            known[:, i] = 0
            for k in range(layout.n_enemies):
                if units[b, n_agents + k].health <= 0:
                    seen_by[k] = NOBODY
                    known[k] = 0


# ------------------------------------------------------------------------------------------------ state


@inlined
def _write_state(units, last_actions, time, layout, switches, episode, pathing, state):
    state[:] = 0
    at = 0
    for i in range(layout.n_agents):
        u = units[i]
        if u.health > 0:
            column = write_ally_state(u, _health(u, i, switches, episode), layout, pathing, state, at)
            if switches.stochastic_attack:
                state[column] = episode.attack[i]
                column += 1
            if switches.stochastic_health:
                state[column] = episode.health[i]
                column += 1
            if switches.n_directions > 0:
                state[column], state[column + 1] = episode.direction[i, 0], episode.direction[i, 1]
                column += 2
            state[column + u.type_index] = 1
        at += layout.ally_state_features
    write_enemies_actions_and_time(units, last_actions, time, layout, pathing, state, at)


# ------------------------------------------------------------------------------------------------ actions, rewards


@compiled
def turn_and_translate(actions, worlds, switches, episode, commands):
    """Turns the cones, and writes the engine's actions [batch, agent]: 0, which changes nothing, for a turn, for a
    target that is out of reach and for an attack that fails by chance.
    """
    first_target = N_ACTIONS_NO_ATTACK + switches.n_directions
    for b in range(actions.shape[0]):
        if worlds[b]:
            for i in range(actions.shape[1]):
                action = actions[b, i]
                commands[b, i] = action
                if action >= first_target:
                    target = action - first_target
                    fails = switches.stochastic_attack and episode.rolls[b, i] > episode.attack[b, i]
                    in_reach = episode.can_target[b, i, target] != 0
                    commands[b, i] = N_ACTIONS_NO_ATTACK + target if in_reach and not fails else 0
                elif action >= N_ACTIONS_NO_ATTACK:
                    angle = 2 * np.pi * ((action - N_ACTIONS_NO_ATTACK) / switches.n_directions)
                    episode.direction[b, i, 0], episode.direction[b, i, 1] = np.cos(angle), np.sin(angle)
                    commands[b, i] = 0


@compiled
def draw_rolls(worlds, episode):
    """Draws the numbers of the agents' attacks in every battle of the mask."""
    for b in range(len(worlds)):
        if worlds[b]:
            for i in range(episode.rolls.shape[1]):
                episode.random[b], episode.rolls[b, i] = next_random(episode.random[b])


@compiled
def settle(units, previous, worlds, layout, switches, divisors, reward, result):
    """`../features.py`'s `settle` by SMACv2's rules; divisors [batch] of the rewards."""
    units, previous = borrowed(units), borrowed(previous)
    for b in range(units.shape[0]):
        if worlds[b]:
            result[b] = _result(units[b], layout, switches)
            if layout.reward_sparse:
                update_previous(units[b], previous[b])
                value = (result[b] == WON) * 1.0 - (result[b] == LOST) * 1.0
            else:
                value = battle_reward(units[b], previous[b], layout)
                if layout.reward_only_positive:
                    value = max(value, 0.0)
                if result[b] == WON:
                    value += layout.reward_win
                elif result[b] == LOST:
                    value += layout.reward_defeat
            reward[b] = value / divisors[b]


@compiled
def _result(units, layout, switches):
    allies, fighting_allies, enemies, fighting_enemies = 0, 0, 0, 0
    for i in range(len(units)):
        alive = units[i].health > 0
        if i < layout.n_agents:
            allies += alive
            fighting_allies += alive and not units[i].heals
        else:
            enemies += alive
            fighting_enemies += alive and not units[i].heals
    if (allies == 0 and enemies > 0) or (switches.has_medivacs and fighting_allies == 0):
        return LOST
    if (allies > 0 and enemies == 0) or (switches.has_medivacs and fighting_enemies == 0):
        return WON
    if allies == 0 and enemies == 0:
        return DRAWN
    return RUNNING


@compiled
def doom(units, worlds, layout, episode, doomed):
    """Writes which agents [batch, agent] are below the health at which they die, as the last observation has them."""
    units = borrowed(units)
    for b in range(units.shape[0]):
        for i in range(layout.n_agents):
            u = units[b, i]
            doomed[b, i] = worlds[b] and u.health > 0 and u.health / u.health_max < episode.health[b, i]
