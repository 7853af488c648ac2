"""How many environment steps per second the embedded engine plays, map by map, and whether its targets are met.

`python -m benchmarks.engine --map 8m --envs 64 --seconds 5`. The engine is `envs/sc2/sim`.
"""

from argparse import Namespace
from collections.abc import Sequence
from itertools import product
from statistics import median
from time import perf_counter, process_time
from typing import NamedTuple

import numba
import numpy as np

from benchmarks.program import check_seconds, make_parser, parse, print_machine, print_results, verdict, write_json
from envs.multiagentenv import Observations, Outcomes
from envs.sc2.sim.env import BattleVectorEnv
from envs.sc2.sim.maps import MAP_NAMES
from envs.sc2.sim.smacv2.env import BattleVectorEnv as SmacV2VectorEnv
from envs.sc2.sim.smacv2.races import SCENARIOS
from utils.command import check_threads, exit_status, run_program
from utils.errors import UserError
from utils.files import Json

REPEATS = 5
TARGET_ENVS = 64
TARGETS = {"3m": 250_000, "8m": 60_000, "2s3z": 60_000, "MMM2": 25_000, "27m_vs_30m": 6_000}
TARGETS |= {"terran_5_vs_5": 50_000, "zerg_20_vs_23": 8_000}
"""Environment steps per second of TARGET_ENVS battles on one core."""
TWO_THREADS_TARGET = 1.8
"""Two threads over one, on an idle machine."""
HEADER = f"{'map':<18}{'envs':>6}{'threads':>9}{'steps/s':>12}{'lowest':>12}{'highest':>12}{'cores had':>11}"
DESCRIPTION = f"""Plays battles with random available actions, all of them at once, and counts environment steps per
second, on SMAC's maps and in SMACv2's standard scenarios. Counted is the time in `step` and in `reset` of the finished
battles, with all observations, states, available actions and rewards that these write. Not counted: drawing the
actions, and a warm-up of one episode, which compiles.
Prints the median of {REPEATS} repeats, the lowest and highest of them, and how many cores the program had meanwhile:
where that is less than its threads, others had the rest and the figures are too low."""
JSON_HELP = """also write "machine" and "results" there; of a single result its entries stand at the top as well"""


class Speed(NamedTuple):
    """What one repeat came to."""

    steps_per_second: float
    cores_had: float  # seconds of computing per second that passed


class Play:
    """Battles that are played on and on."""

    def __init__(self, map_name: str, n_envs: int, n_threads: int):
        self.env = make_env(map_name, n_envs, n_threads)
        info = self.env.get_env_info()
        self.observations = Observations.empty(n_envs, info)
        self.outcomes = Outcomes.empty(n_envs, self.env.info_keys)
        self.actions = np.zeros((n_envs, info["n_agents"]), np.int64)
        self.env.reset(self.observations)
        for _ in range(info["episode_limit"]):
            self._step()

    def speed(self, seconds: float) -> Speed:
        """Measures over at least `seconds` of counted time."""
        counted, computed, n_steps = 0.0, 0.0, 0
        while counted < seconds:
            passed, worked = self._step()
            counted += passed
            computed += worked
            n_steps += self.env.n_envs
        return Speed(n_steps / counted, computed / counted)

    def _step(self) -> tuple[float, float]:
        """Plays one step of all battles; returns the seconds that passed and those of computing."""
        draw_actions(self.observations.avail_actions, self.actions)
        started, started_computing = perf_counter(), process_time()
        self.env.step(self.actions, self.observations, self.outcomes)
        over = self.outcomes.terminated | self.outcomes.truncated
        if over.any():
            self.env.reset(self.observations, over)
        return perf_counter() - started, process_time() - started_computing


def make_env(map_name: str, n_envs: int, n_threads: int) -> BattleVectorEnv:
    """Returns battles on one of SMAC's maps, or of one of SMACv2's standard scenarios."""
    if map_name in SCENARIOS:
        return SmacV2VectorEnv(range(n_envs), map_name, n_threads=n_threads, obs_own_pos=True, use_unit_ranges=True)
    return BattleVectorEnv(range(n_envs), map_name=map_name, n_threads=n_threads)


@numba.njit(cache=True)
def draw_actions(avail_actions, actions):
    """Writes into actions [batch, agent] a random one of the available actions [batch, agent, n_actions]."""
    for b in range(actions.shape[0]):
        for i in range(actions.shape[1]):
            left = np.random.randint(avail_actions[b, i].sum())
            for action in range(avail_actions.shape[2]):
                if avail_actions[b, i, action]:
                    if left == 0:
                        actions[b, i] = action
                        break
                    left -= 1


def measure(map_name: str, n_envs: int, n_threads: int, seconds: float) -> Json:
    """Returns the speed on one map; several threads and one take turns, so that they see the same machine."""
    plays = {n: Play(map_name, n_envs, n) for n in sorted({1, n_threads})}
    share = seconds / REPEATS / len(plays)
    repeats = [{n: play.speed(share) for n, play in plays.items()} for _ in range(REPEATS)]
    speeds = [repeat[n_threads].steps_per_second for repeat in repeats]
    result = {
        "map": map_name,
        "envs": n_envs,
        "threads": n_threads,
        "steps_per_second": median(speeds),
        "repeats": speeds,
        "cores_had": median(repeat[n_threads].cores_had for repeat in repeats),
    }
    if n_threads > 1:
        of_one = [repeat[1].steps_per_second for repeat in repeats]
        result["one_thread_steps_per_second"] = median(of_one)
        result["times_one_thread"] = median(many / one for many, one in zip(speeds, of_one, strict=True))
    return result


def row(result: Json) -> str:
    """Returns a line of the table under HEADER."""
    speeds = (result["steps_per_second"], min(result["repeats"]), max(result["repeats"]))
    columns = f"{result['map']:<18}{result['envs']:>6}{result['threads']:>9}"
    return columns + "".join(f"{speed:>12,.0f}" for speed in speeds) + f"{result['cores_had']:>11.2f}"


def verdicts(result: Json) -> list[str]:
    """Returns one line for each target that this result can be held against."""
    map_name, one_thread = result["map"], result.get("one_thread_steps_per_second") or result["steps_per_second"]
    lines = []
    if map_name in TARGETS and result["envs"] == TARGET_ENVS:
        lines.append(verdict(f"{map_name}, one thread, steps/s", one_thread, TARGETS[map_name], ",.0f"))
    if result["threads"] == 2 and result["envs"] == TARGET_ENVS:
        speed_up = result["times_one_thread"]
        lines.append(verdict(f"{map_name}, two threads over one", speed_up, TWO_THREADS_TARGET, ".2f"))
    return lines or [f"{map_name}: no target for {result['envs']} environments and {result['threads']} threads"]


def _parse(argv: Sequence[str] | None) -> Namespace:
    """Raises: UserError for what cannot be measured here."""
    parser = make_parser("engine", DESCRIPTION, ["8m"], JSON_HELP)
    parser.add_argument("--envs", type=int, nargs="+", default=[TARGET_ENVS], help="battles at once (default: 64)")
    parser.add_argument("--seconds", type=float, default=5.0, help="counted seconds per line (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads; one is measured as well (default: 1)")
    args = parse(parser, argv, (*MAP_NAMES, *SCENARIOS))
    check_seconds(args.seconds)
    if min(args.envs) < 1 or args.threads < 1:
        raise UserError("--envs, --threads and --seconds must be above 0")
    check_threads(args.threads, numba.get_num_threads())
    return args


def run_all(args: Namespace) -> None:
    """Measures and prints."""
    machine = print_machine(("numpy", "numba"))
    measured = (measure(name, n_envs, args.threads, args.seconds) for name, n_envs in product(args.map, args.envs))
    results = print_results(HEADER, measured, row, verdicts)
    single = results[0] if len(results) == 1 else {}
    write_json(args.json, **single, machine=machine, results=results)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 2 after a user's mistake."""
    return exit_status(lambda: run_all(_parse(argv)))


if __name__ == "__main__":
    run_program(main)
