"""SMAC's view of a battle, compiled: available actions, observations, the state, the reward and the end of an episode.

Everything follows SMAC's interface to the letter, its quirks included; nothing here moves a unit (`dynamics.py` does).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from envs.sc2.sim.jit import borrowed, compiled, inlined

SIGHT_RANGE = 9.0
SHOOT_RANGE = 6.0
N_ACTIONS_NO_ATTACK = 6  # no-op, stop, north, south, east, west
MAX_MEDIVAC_ENERGY = 200.0

RUNNING, DRAWN, WON, LOST = 0, 1, 2, 3
"""How a battle stands."""


class Layout(NamedTuple):
    """The sizes, switches and divisors of one map's features; see `env.py` for how they come about."""

    n_agents: int
    n_enemies: int
    n_actions: int
    obs_size: int
    state_size: int
    ally_features: int  # width of one ally's block in the observation
    enemy_features: int
    ally_state_features: int  # width of one ally's row in the state
    enemy_state_features: int
    type_bits: int
    ally_has_shield: bool
    enemy_has_shield: bool
    max_distance_x: float
    max_distance_y: float
    move_amount: float
    episode_limit: int
    obs_all_health: bool
    obs_own_health: bool
    obs_last_action: bool
    obs_pathing_grid: bool
    obs_terrain_height: bool
    obs_timestep_number: bool
    obs_instead_of_state: bool
    state_last_action: bool
    state_timestep_number: bool
    reward_sparse: bool
    reward_only_positive: bool
    reward_death_value: float
    reward_win: float
    reward_defeat: float
    reward_negative_scale: float
    reward_divisor: float


@compiled
def observe(units, last_actions, episode_steps, worlds, layout, pathing, heights, obs, state, avail_actions):
    """Writes what is seen in every battle of the mask.

    units [batch, unit], agents first; last_actions [batch, agent], -1 before the first; episode_steps, worlds [batch];
    pathing (bool) and heights (0..1) [x, y];
    obs [batch, agent, obs_size], state [batch, state_size], avail_actions [batch, agent, n_actions].
    """
    for b in range(units.shape[0]):
        if worlds[b]:
            _observe_battle(
                b, units, last_actions, episode_steps, layout, pathing, heights, obs, state, avail_actions
            )  # fmt: skip


@compiled(parallel=True)
def observe_parallel(units, last_actions, episode_steps, worlds, layout, pathing, heights, obs, state, avail_actions):
    """`observe` with the battles spread over numba's threads."""
    for b in prange(units.shape[0]):
        if worlds[b]:
            _observe_battle(
                b, units, last_actions, episode_steps, layout, pathing, heights, obs, state, avail_actions
            )  # fmt: skip


@compiled
def _observe_battle(b, units, last_actions, episode_steps, layout, pathing, heights, obs, state, avail_actions):
    units, last_actions = borrowed(units)[b], borrowed(last_actions)[b]
    pathing, heights = borrowed(pathing), borrowed(heights)
    obs, state, avail_actions = borrowed(obs)[b], borrowed(state)[b], borrowed(avail_actions)[b]
    _write_avail_actions(units, layout, pathing, avail_actions)
    time = episode_steps[b] / layout.episode_limit
    for i in range(layout.n_agents):
        _write_obs(units, i, avail_actions, last_actions, time, layout, pathing, heights, obs[i])
    if layout.obs_instead_of_state:
        for i in range(layout.n_agents):
            start = i * obs.shape[1]
            state[start : start + obs.shape[1]] = obs[i]
    else:
        _write_state(units, last_actions, time, layout, pathing, state)


@inlined
def distance_between(u, v):
    return np.sqrt((v.x - u.x) ** 2 + (v.y - u.y) ** 2)


@inlined
def _is_pathable(x, y, pathing):
    return 0 <= x < pathing.shape[0] and 0 <= y < pathing.shape[1] and pathing[x, y]


@inlined
def write_moves(u, layout, pathing, avail):
    """Writes which of stop and the four moves are available to a living agent."""
    ahead = layout.move_amount / 2
    avail[1] = 1
    avail[2] = _is_pathable(int(u.x), int(u.y + ahead), pathing)
    avail[3] = _is_pathable(int(u.x), int(u.y - ahead), pathing)
    avail[4] = _is_pathable(int(u.x + ahead), int(u.y), pathing)
    avail[5] = _is_pathable(int(u.x - ahead), int(u.y), pathing)


@inlined
def _write_avail_actions(units, layout, pathing, avail):
    n_agents = layout.n_agents
    avail[:] = 0
    for i in range(n_agents):
        u = units[i]
        if u.health <= 0:
            avail[i, 0] = 1
            continue
        write_moves(u, layout, pathing, avail[i])
        if u.heals:  # it heals agent k instead of attacking enemy k
            for k in range(n_agents):
                v = units[k]
                if not v.heals and v.health > 0 and distance_between(u, v) <= SHOOT_RANGE:
                    avail[i, N_ACTIONS_NO_ATTACK + k] = 1
        else:
            for k in range(layout.n_enemies):
                v = units[n_agents + k]
                if v.health > 0 and distance_between(u, v) <= SHOOT_RANGE:
                    avail[i, N_ACTIONS_NO_ATTACK + k] = 1


@inlined
def _write_obs(units, i, avail, last_actions, time, layout, pathing, heights, obs):
    n_agents = layout.n_agents
    u = units[i]
    obs[:] = 0
    if layout.obs_timestep_number:
        obs[-1] = time  # also of the dead
    if u.health <= 0:
        return
    for direction in range(4):
        obs[direction] = avail[i, 2 + direction]
    at = 4
    if layout.obs_pathing_grid or layout.obs_terrain_height:
        at = write_surroundings(u, layout, pathing, heights, obs, at)

    for k in range(layout.n_enemies):
        v = units[n_agents + k]
        distance = distance_between(u, v)
        if v.health > 0 and distance < SIGHT_RANGE:
            obs[at] = avail[i, N_ACTIONS_NO_ATTACK + k]
            obs[at + 1] = distance / SIGHT_RANGE
            obs[at + 2] = (v.x - u.x) / SIGHT_RANGE
            obs[at + 3] = (v.y - u.y) / SIGHT_RANGE
            next_feature = at + 4
            if layout.obs_all_health:
                next_feature = _write_health(v, layout.enemy_has_shield, obs, next_feature)
            if layout.type_bits > 0:
                obs[next_feature + v.type_index] = 1
        at += layout.enemy_features

    for k in range(n_agents):
        if k == i:
            continue
        v = units[k]
        distance = distance_between(u, v)
        if v.health > 0 and distance < SIGHT_RANGE:
            obs[at] = 1
            obs[at + 1] = distance / SIGHT_RANGE
            obs[at + 2] = (v.x - u.x) / SIGHT_RANGE
            obs[at + 3] = (v.y - u.y) / SIGHT_RANGE
            next_feature = at + 4
            if layout.obs_all_health:
                next_feature = _write_health(v, layout.ally_has_shield, obs, next_feature)
            if layout.type_bits > 0:
                obs[next_feature + v.type_index] = 1
                next_feature += layout.type_bits
            if layout.obs_last_action and last_actions[k] >= 0:
                obs[next_feature + last_actions[k]] = 1
        at += layout.ally_features

    if layout.obs_own_health:
        at = _write_health(u, layout.ally_has_shield, obs, at)
    if layout.type_bits > 0:
        obs[at + u.type_index] = 1


@inlined
def _write_health(v, has_shield, obs, at):
    obs[at] = v.health / v.health_max
    if has_shield:
        obs[at + 1] = v.shield / v.shield_max
        return at + 2
    return at + 1


@compiled
def write_surroundings(u, layout, pathing, heights, obs, at):
    """The eight (pathing) or nine (height) points around a unit; points outside the map count as 1."""
    x, y = int(u.x), int(u.y)
    m = int(layout.move_amount)
    points = (
        (x, y + 2 * m), (x, y - 2 * m), (x + 2 * m, y), (x - 2 * m, y),
        (x + m, y + m), (x - m, y - m), (x + m, y - m), (x - m, y + m), (x, y),
    )  # fmt: skip
    if layout.obs_pathing_grid:
        for p in range(8):
            px, py = points[p]
            inside = 0 <= px < pathing.shape[0] and 0 <= py < pathing.shape[1]
            obs[at + p] = pathing[px, py] if inside else 1
        at += 8
    if layout.obs_terrain_height:
        for p in range(9):
            px, py = points[p]
            inside = 0 <= px < heights.shape[0] and 0 <= py < heights.shape[1]
            obs[at + p] = heights[px, py] if inside else 1
        at += 9
    return at


@inlined
def _write_state(units, last_actions, time, layout, pathing, state):
    state[:] = 0
    at = 0
    for i in range(layout.n_agents):
        u = units[i]
        if u.health > 0:
            column = write_ally_state(u, u.health / u.health_max, layout, pathing, state, at)
            if layout.type_bits > 0:
                state[column + u.type_index] = 1
        at += layout.ally_state_features
    write_enemies_actions_and_time(units, last_actions, time, layout, pathing, state, at)


@inlined
def write_ally_state(u, health, layout, pathing, state, at):
    """Writes what the state holds of a living agent, but its type; returns the next column."""
    state[at] = health
    if u.heals:
        state[at + 1] = u.energy / MAX_MEDIVAC_ENERGY
    else:
        state[at + 1] = max(u.cooldown, 0.0) / u.cooldown_max
    state[at + 2] = (u.x - pathing.shape[0] / 2) / layout.max_distance_x
    state[at + 3] = (u.y - pathing.shape[1] / 2) / layout.max_distance_y
    if layout.ally_has_shield:
        state[at + 4] = u.shield / u.shield_max
        return at + 5
    return at + 4


@inlined
def write_enemies_actions_and_time(units, last_actions, time, layout, pathing, state, at):
    """Writes all that the state holds behind the agents."""
    n_agents, centre_x, centre_y = layout.n_agents, pathing.shape[0] / 2, pathing.shape[1] / 2
    for k in range(layout.n_enemies):
        v = units[n_agents + k]
        if v.health > 0:
            state[at] = v.health / v.health_max
            state[at + 1] = (v.x - centre_x) / layout.max_distance_x
            state[at + 2] = (v.y - centre_y) / layout.max_distance_y
            if layout.enemy_has_shield:
                state[at + 3] = v.shield / v.shield_max
            if layout.type_bits > 0:
                state[at + 3 + layout.enemy_has_shield + v.type_index] = 1
        at += layout.enemy_state_features
    if layout.state_last_action:
        for i in range(n_agents):
            if last_actions[i] >= 0:
                state[at + last_actions[i]] = 1
            at += layout.n_actions
    if layout.state_timestep_number:
        state[at] = time


@compiled
def begin(units, previous, last_actions, targets, episode_steps, result, worlds):
    """Starts the books of an episode in every battle of the mask; the arrays are those of `settle`, `conclude` and
    heuristic.choose_actions."""
    units = borrowed(units)
    for b in range(units.shape[0]):
        if worlds[b]:
            for i in range(units.shape[1]):
                previous[b, i] = units[b, i].health + units[b, i].shield
            last_actions[b] = -1
            targets[b] = -1
            episode_steps[b], result[b] = 0, RUNNING


@compiled
def settle(units, previous, worlds, layout, reward, result):
    """Writes the reward of the step and how each battle of the mask stands after it.

    previous [batch, unit]: health plus shield before the step, and -1 for whoever had fallen before, so that a death
    counts once; brought up to date here. reward [batch], already divided; result [batch]: RUNNING, DRAWN, WON or LOST.
    """
    units, previous = borrowed(units), borrowed(previous)
    for b in range(units.shape[0]):
        if worlds[b]:
            result[b] = _result(units[b], layout)
            if layout.reward_sparse:
                update_previous(units[b], previous[b])
                value = (result[b] == WON) * 1.0 - (result[b] == LOST) * 1.0
            else:
                value = battle_reward(units[b], previous[b], layout)
                if layout.reward_only_positive:
                    value = abs(value)  # so that regeneration, too, is rewarded: SMAC's own quirk
                if result[b] == WON:
                    value += layout.reward_win
                elif result[b] == LOST:
                    value += layout.reward_defeat
            reward[b] = value / layout.reward_divisor


@compiled
def conclude(
    units, result, episode_steps, worlds, layout, counts, terminated, truncated, won, dead_allies, dead_enemies
):
    """Counts the step in every battle of the mask and writes how it ended, if it did.

    counts [batch, 3]: battles won, battles played, time-outs, over the life of the environment. The rest is [batch].
    """
    for b in range(units.shape[0]):
        if worlds[b]:
            episode_steps[b] += 1
            over = result[b] != RUNNING
            cut_off = not over and episode_steps[b] >= layout.episode_limit
            terminated[b], truncated[b], won[b] = over, cut_off, result[b] == WON
            counts[b, 0] += result[b] == WON
            counts[b, 1] += over or cut_off
            counts[b, 2] += cut_off
            dead_allies[b], dead_enemies[b] = 0, 0
            for i in range(units.shape[1]):
                if units[b, i].health <= 0:
                    if i < layout.n_agents:
                        dead_allies[b] += 1
                    else:
                        dead_enemies[b] += 1


@compiled
def _result(units, layout):
    allies, fighting_allies, enemies, fighting_enemies = 0, 0, 0, 0
    has_medivacs = False
    for i in range(len(units)):
        alive = units[i].health > 0
        medivac = units[i].heals
        has_medivacs |= medivac
        if i < layout.n_agents:
            allies += alive
            fighting_allies += alive and not medivac
        else:
            enemies += alive
            fighting_enemies += alive and not medivac
    if (allies == 0 and enemies > 0) or (has_medivacs and fighting_allies == 0):
        return LOST
    if (allies > 0 and enemies == 0) or (has_medivacs and fighting_enemies == 0 and enemies == 1):
        return WON
    if allies == 0 and enemies == 0:
        return DRAWN
    return RUNNING


@compiled
def battle_reward(units, previous, layout):
    """Damage done and enemies felled, less a part of what the agents suffered unless rewards are only positive."""
    enemy_losses, ally_losses, deaths = 0.0, 0.0, 0.0
    for i in range(len(units)):
        if previous[i] < 0:
            continue
        u = units[i]
        died = u.health <= 0
        lost = previous[i] if died else previous[i] - u.health - u.shield
        if i >= layout.n_agents:
            enemy_losses += lost
            if died:
                deaths += layout.reward_death_value
        else:
            ally_losses += lost * layout.reward_negative_scale
            if died and not layout.reward_only_positive:
                deaths -= layout.reward_death_value * layout.reward_negative_scale
    update_previous(units, previous)
    if layout.reward_only_positive:
        return enemy_losses + deaths
    return enemy_losses + deaths - ally_losses


@compiled
def update_previous(units, previous):
    for i in range(len(units)):
        previous[i] = units[i].health + units[i].shield if units[i].health > 0 else -1.0
