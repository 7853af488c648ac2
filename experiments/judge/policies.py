"""Policies that were trained in StarCraft II, played on the embedded engine: how often they win, and whether their own
values agree with what they meet.

A Q-function that was learnt in the game satisfies Bellman's equation there. Along battles of the engine its residual
r + gamma max Q_tot(s') - Q_tot(s) tells by how much, and at which step or event, the engine is better (above zero) or
worse for the agents than the game.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from envs.multiagentenv import Observations, Outcomes
from envs.sc2.sim.env import BattleVectorEnv
from envs.sc2.sim.features import N_ACTIONS_NO_ATTACK, SIGHT_RANGE
from envs.sc2.sim.maps import MAP_NAMES
from envs.sc2.sim.rules import Rules
from experiments.judge.networks import Agent, Mixer, read_agent, read_mixer
from utils.errors import UserError, unknown
from utils.intervals import mean_interval, wilson_interval

GAMMA = 0.99
FIRST_STEPS = 14
AT_ONCE = 64  # battles in memory; the numbers do not depend on it
EVENTS = ("first sight", "agents' first shot", "enemies' first shot", "first death", "change of target", "last enemy")
PLAYED_ARGS = ("move_amount", "step_mul", "obs_all_health", "obs_own_health", "obs_last_action", "obs_pathing_grid",
               "obs_terrain_height", "obs_timestep_number", "state_last_action", "state_timestep_number")  # fmt: skip
"""Environment arguments that a policy may have been trained with and that the engine can play it by."""


class Policy(NamedTuple):
    """One trained policy; where it comes from."""

    name: str
    map_name: str
    algorithm: str
    game_win_rate: float | None  # 0..1
    env_args: dict[str, Any]
    agent: Agent
    mixer: Mixer | None
    has_last_action: bool
    has_agent_id: bool
    note: str  # why there is no residual


class Residual(NamedTuple):
    """The mean residual over transitions of one kind, and its interval of 95 %."""

    where: str  # a step's number, or an event
    n: int
    mean: float
    low: float
    high: float


class PolicyRow(NamedTuple):
    """How one policy fares on the engine."""

    name: str
    map: str
    algorithm: str
    battles: int
    won: int
    win_rate: float  # 0..1, as are the next three
    low: float
    high: float
    game_win_rate: float | None
    episode_steps: float
    residual_size: float | None  # mean over the first steps of the size of the mean residual
    by_step: list[Residual]
    by_event: list[Residual]
    note: str


# ------------------------------------------------------------------------------------------------ reading


def read_policies(folder: Path, maps: Sequence[str] = (), names: Sequence[str] = ()) -> list[Policy]:
    """The policies that `index.json` of a folder lists, those of the given maps and names only, if any are given.

    Raises: UserError where the index or a policy is missing, broken, or does not fit its map.
    """
    index = _read_index(folder / "index.json")
    known = {str(entry["name"]) for entry in index}
    for name in names:
        if name not in known:
            raise UserError(f"--names: {unknown('policy', name, known)}")
    return [
        _read_policy(folder / entry["name"], entry)
        for entry in index
        if (not maps or entry["map"] in maps) and (not names or entry["name"] in names)
    ]


def _read_index(path: Path) -> list[dict[str, Any]]:
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: it lists the policies of the folder") from None
    except (OSError, ValueError) as mistake:
        raise UserError(f"{path} is no JSON: {mistake}") from mistake
    for entry in index if isinstance(index, list) else [None]:
        if not isinstance(entry, dict) or not {"name", "map"} <= entry.keys():
            raise UserError(f"{path} must be a list of objects with at least a name and a map")
        if entry["map"] not in MAP_NAMES:
            raise UserError(f"{path}, policy {entry['name']}: {unknown('map', entry['map'], MAP_NAMES)}")
    return index


def _read_policy(folder: Path, entry: dict[str, Any]) -> Policy:
    agent = read_agent(folder / "agent.th")
    env_args = {key: value for key, value in entry.get("env_args_not_default", {}).items() if key in PLAYED_ARGS}
    info = BattleVectorEnv([0], map_name=entry["map"], **env_args).get_env_info()
    has_last_action, has_agent_id = _find_inputs(folder, agent, info, entry)
    mixer, note = None, "no mixer.th: win rate only"
    if (folder / "mixer.th").is_file():
        mixer, note = read_mixer(folder / "mixer.th"), ""
        if mixer is None:
            note = "the mixer is not QMIX's: win rate only"
        elif (mixer.n_state, mixer.n_agents) != (info["state_shape"], info["n_agents"]):
            raise UserError(
                f"{folder / 'mixer.th'} is for {mixer.n_agents} agents and states of {mixer.n_state}; "
                f"{entry['map']} has {info['n_agents']} and {info['state_shape']}"
            )
    return Policy(
        entry["name"], entry["map"], entry.get("algorithm", ""), entry.get("test_win_rate"), env_args, agent, mixer,
        has_last_action, has_agent_id, note,
    )  # fmt: skip


def _find_inputs(folder: Path, agent: Agent, info: dict[str, Any], entry: dict[str, Any]) -> tuple[bool, bool]:
    """Whether the agent reads its last action and its id, by the index or else by the width of its inputs."""
    n_obs, n_actions, n_agents = info["obs_shape"], info["n_actions"], info["n_agents"]
    said = entry.get("obs_last_action_id")
    for last_action, agent_id in [said] if said else ((True, True), (True, False), (False, True), (False, False)):
        width = n_obs + last_action * n_actions + agent_id * n_agents
        if (agent.n_inputs, agent.n_actions) == (width, n_actions):
            return bool(last_action), bool(agent_id)
    raise UserError(
        f"{folder / 'agent.th'} takes {agent.n_inputs} inputs and gives {agent.n_actions} actions; {entry['map']} has "
        f"observations of {n_obs}, with the last action {n_obs + n_actions}, with that and the agent's id "
        f"{n_obs + n_actions + n_agents}, and {n_actions} actions"
    )


# ------------------------------------------------------------------------------------------------ playing


class Battles(NamedTuple):
    """What is kept of the steps of some battles; rows of battles that are over hold zeros."""

    running: np.ndarray  # bool [step, battle]: whether the battle was under way before the step
    reward: np.ndarray  # [step, battle]
    ended: np.ndarray  # bool [step, battle]
    q_tot: np.ndarray  # [step, battle], max Q_tot of the state before the step
    events: np.ndarray  # bool [step, battle, event]
    won: np.ndarray  # bool [battle]


def judge_policies(
    policies: Iterable[Policy], n_battles: int, seed: int, rules: Rules, n_threads: int = 1
) -> Iterable[PolicyRow]:
    """Plays each policy, greedily, n_battles times; battle i has the seed `seed` + i."""
    for policy in policies:
        chunks = [
            play(policy, range(seed + first, seed + min(first + AT_ONCE, n_battles)), rules, n_threads)
            for first in range(0, n_battles, AT_ONCE)
        ]
        yield _row(policy, chunks)


def play(policy: Policy, seeds: Sequence[int], rules: Rules, n_threads: int = 1) -> Battles:
    """One battle of a policy for each seed, all at once."""
    env = BattleVectorEnv(seeds, policy.map_name, rules=rules, n_threads=n_threads, **policy.env_args)
    info, n = env.get_env_info(), env.n_envs
    seen, outcomes = Observations.empty(n, info), Outcomes.empty(n, env.info_keys)
    hidden = np.zeros((n, info["n_agents"], policy.agent.n_hidden), np.float32)
    running, won = np.ones(n, bool), np.zeros(n, bool)
    steps: list[tuple[np.ndarray, ...]] = []
    env.reset(seen)
    watch = _Watch(env)
    while running.any():
        outputs, hidden = policy.agent.forward(_inputs(policy, env, seen.obs), hidden)
        outputs[seen.avail_actions == 0] = -np.inf
        actions, q_tot = outputs.argmax(-1), np.zeros(n)
        if policy.mixer:
            q_tot = policy.mixer.forward(outputs.max(-1), seen.state)
        before = running.copy()
        env.step(actions, seen, outcomes, running)
        ended = before & (outcomes.terminated | outcomes.truncated)
        won |= ended & outcomes.info["battle_won"].astype(bool)
        steps.append((before, np.where(before, outcomes.reward, 0), ended, q_tot, watch.look(actions, before)))
        running &= ~ended
    was_running, reward, has_ended, q_tots, events = (np.stack(column) for column in zip(*steps, strict=True))
    return Battles(was_running, reward, has_ended, q_tots, events, won)


def _inputs(policy: Policy, env: BattleVectorEnv, obs: np.ndarray) -> np.ndarray:
    """PyMARL's inputs [battle, agent, input]: observation, one-hot of the last action, one-hot of the agent."""
    parts = [obs]
    n_agents = obs.shape[1]
    if policy.has_last_action:
        parts.append((env.last_actions[..., None] == np.arange(policy.agent.n_actions)).astype(np.float32))
    if policy.has_agent_id:
        parts.append(np.broadcast_to(np.eye(n_agents, dtype=np.float32), (len(obs), n_agents, n_agents)))
    return np.concatenate(parts, axis=-1)


class _Watch:
    """Says of each step which EVENTS fell into it."""

    def __init__(self, env: BattleVectorEnv):
        self._env, self._n_agents = env, env.map.n_agents
        self._health, self._cooldown = env.units["health"].copy(), env.units["cooldown"].copy()
        self._aims = np.full((env.n_envs, self._n_agents), -1)
        self._happened = np.zeros((env.n_envs, len(EVENTS)), bool)

    def look(self, actions: np.ndarray, running: np.ndarray) -> np.ndarray:
        """[battle, event] of the step that has been played with these actions [battle, agent]."""
        units, n = self._env.units, self._n_agents
        health, cooldown = units["health"], units["cooldown"]
        shot, alive = (cooldown > self._cooldown) & (self._health > 0), health > 0
        apart = [units[axis][:, :n, None] - units[axis][:, None, n:] for axis in "xy"]
        sees = (np.hypot(*apart) < SIGHT_RANGE) & alive[:, :n, None] & alive[:, None, n:]
        attacks = actions >= N_ACTIONS_NO_ATTACK
        turns = attacks & (self._aims >= 0) & (actions != self._aims)
        last_enemy = (self._health[:, n:] > 0).any(-1) & ~alive[:, n:].any(-1)
        died = ((self._health > 0) & ~alive).any(-1)
        now = np.stack(
            (sees.any((1, 2)), shot[:, :n].any(-1), shot[:, n:].any(-1), died, turns.any(-1), last_enemy), axis=-1
        )
        self._aims[attacks] = actions[attacks]
        self._health, self._cooldown = health.copy(), cooldown.copy()
        once = np.array([event.startswith(("first", "agents", "enemies")) for event in EVENTS])
        events = now & ~(self._happened & once) & running[:, None]
        self._happened |= events
        return events


# ------------------------------------------------------------------------------------------------ judging


def residuals(battles: Battles, gamma: float = GAMMA) -> np.ndarray:
    """r + gamma max Q_tot(s') - Q_tot(s) [step, battle]; Q_tot of what follows the end is 0, time-outs included, as
    PyMARL trains on SMAC. Not a number where the battle was over before the step."""
    next_q = np.concatenate([battles.q_tot[1:], np.zeros_like(battles.q_tot[:1])])
    found = battles.reward + gamma * np.where(battles.ended, 0, next_q) - battles.q_tot
    return np.where(battles.running, found, np.nan)


def _row(policy: Policy, chunks: list[Battles]) -> PolicyRow:
    won = np.concatenate([battles.won for battles in chunks])
    low, high = wilson_interval(int(won.sum()), len(won))
    by_step, by_event = [], []
    if policy.mixer:
        found = [residuals(battles) for battles in chunks]
        for t in range(FIRST_STEPS):
            values = np.concatenate([chunk[t] for chunk in found if t < len(chunk)])
            by_step.append(_summary(str(t), values[~np.isnan(values)]))
        for k, event in enumerate(EVENTS):
            values = np.concatenate([chunk[battles.events[..., k]] for chunk, battles in zip(found, chunks)])
            by_event.append(_summary(event, values))
    n_steps = sum(int(battles.running.sum()) for battles in chunks)
    sizes = [abs(step.mean) for step in by_step if step.n]
    return PolicyRow(
        name=policy.name,
        map=policy.map_name,
        algorithm=policy.algorithm,
        battles=len(won),
        won=int(won.sum()),
        win_rate=float(won.mean()),
        low=low,
        high=high,
        game_win_rate=policy.game_win_rate,
        episode_steps=n_steps / len(won),
        residual_size=float(np.mean(sizes)) if sizes else None,
        by_step=by_step,
        by_event=by_event,
        note=policy.note,
    )


def _summary(where: str, values: np.ndarray) -> Residual:
    if not len(values):
        return Residual(where, 0, 0.0, 0.0, 0.0)
    low, high = mean_interval(values.tolist()) if len(values) > 1 else (float(values[0]),) * 2
    return Residual(where, len(values), float(values.mean()), low, high)
