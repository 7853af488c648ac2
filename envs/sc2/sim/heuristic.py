"""SMAC's built-in controller (`heuristic_ai`): every agent attacks the nearest enemy until it dies; medivacs heal the
nearest wounded friend. Published win rates of it calibrate the engine."""

from envs.sc2.sim.jit import compiled

NO_COMMAND = 0


@compiled
def choose_actions(units, targets, avail_actions, layout, rest, first_target, actions):
    """Writes the controller's actions [batch, agent]; NO_COMMAND where an agent finds no target.

    targets [batch, agent]: whom each agent attacks or heals, kept until dead (or healed), -1 for nobody.
    first_target: the action that names the first target. rest: keep to available actions, walking towards a target
    that is out of SMAC's range (`heuristic_rest`).
    """
    for b in range(units.shape[0]):
        for i in range(layout.n_agents):
            u = units[b, i]
            heals = u.heals != 0
            if targets[b, i] < 0 or not _wants(units[b, targets[b, i]], heals):
                targets[b, i] = _nearest(units[b], i, heals, layout.n_agents)
            target = targets[b, i]
            if target < 0:
                actions[b, i] = NO_COMMAND
                continue
            actions[b, i] = first_target + (target if heals else target - layout.n_agents)
            if rest and avail_actions[b, i, actions[b, i]] == 0:
                dx, dy = units[b, target].x - u.x, units[b, target].y - u.y
                if abs(dx) > abs(dy):
                    actions[b, i] = 4 if dx > 0 else 5
                else:
                    actions[b, i] = 2 if dy > 0 else 3


@compiled
def _wants(v, heals):
    if heals:
        return v.health > 0 and v.health < v.health_max and not v.heals
    return v.health > 0


@compiled
def _nearest(units, i, heals, n_agents):
    first, last = (0, n_agents) if heals else (n_agents, len(units))
    best, best_square = -1, 1e18
    for k in range(first, last):
        square = (units[k].x - units[i].x) ** 2 + (units[k].y - units[i].y) ** 2
        if _wants(units[k], heals) and square < best_square:
            best, best_square = k, square
    return best
