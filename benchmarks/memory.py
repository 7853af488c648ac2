"""How much memory a replay buffer of real battles takes, and whether its targets are met.

`python -m benchmarks.memory --map 8m --episodes 5000`. The buffer is in `components/episode_buffer.py`.
"""

import os
import subprocess
from argparse import Namespace
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from statistics import mean, median
from time import process_time

import numpy as np
import torch as th

from benchmarks.engine import draw_actions
from benchmarks.program import make_parser, parse, print_machine, print_results, verdict, write_json
from components.episode_buffer import EpisodeBatch, ReplayBuffer
from controllers.layout import episode_layout
from envs.multiagentenv import Observations, Outcomes
from envs.sc2.sim.env import BattleVectorEnv
from run import sizes_of
from utils.command import check_at_least, exit_status, run_program
from utils.dict2namedtuple import convert
from utils.files import Json

MAPS = ("8m", "27m_vs_30m")
ENVS = 16
BATCH_SIZE = 32
FILLINGS = 4, 2, 1
"""Measured is the buffer with a fourth, half and all of the episodes."""
TARGET_SHARE = 0.4
"""The share of the memory that PyMARL's layout takes for as many episodes."""
TARGET_EVENNESS = 1.1
"""Memory per step where it is most over where it is least, of all FILLINGS."""
PYMARLS = {"actions": th.int64, "avail_actions": th.int32, "actions_onehot": th.float32, "filled": th.int64}
"""The dtypes of PyMARL's layout where they differ; it stores one-hot actions as well."""
COLUMNS = ("episodes", "steps", "stored", "resident", "PyMARL", "insert", "sample")
HEADER = f"{'map':<18}" + "".join(f"{name:>10}" for name in COLUMNS)
DESCRIPTION = f"""Fills a replay buffer with battles of random available actions, and prints at a fourth, half and all
of the episodes: steps in thousands; GB stored; GB by which the program's resident memory has grown since the buffer was
empty; GB that PyMARL's layout reserves at the start, every episode padded to the limit (computed); milliseconds of
computing to insert an episode, the mean, and to sample {BATCH_SIZE}, the median."""


def resident_bytes() -> int:
    """Returns what this program has of the main memory now."""
    status = Path("/proc/self/status")
    if not status.is_file():  # macOS
        command = ["ps", "-o", "rss=", "-p", str(os.getpid())]
        return 1024 * int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    lines = status.read_text(encoding="utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


class Play:
    """Battles that are played into one batch, again and again."""

    def __init__(self, map_name: str):
        self.env = BattleVectorEnv(range(ENVS), map_name=map_name)
        self.info = self.env.get_env_info()
        self.layout = episode_layout(convert({**sizes_of(self.info), "population": {}, "mac": "basic_mac"}))
        scheme, groups, preprocess = self.layout
        self.batch = EpisodeBatch(scheme, groups, ENVS, self.info["episode_limit"] + 1, preprocess=preprocess)
        self.fields = {key: value.numpy() for key, value in self.batch.data.transition_data.items()}
        self.outcomes = Outcomes.empty(ENVS, self.env.info_keys)

    def __call__(self) -> EpisodeBatch:
        """Plays one battle in each world; returns the batch, whose steps after an end are left as they were."""
        fields, running = self.fields, np.ones(ENVS, bool)
        fields["filled"][:] = 0
        self.env.reset(self._observations(0))
        for t in range(self.info["episode_limit"]):
            fields["filled"][running, t] = 1
            actions = fields["actions"][:, t, :, 0]
            drawn = actions[running]
            draw_actions(fields["avail_actions"][running, t], drawn)
            actions[running] = drawn
            self.env.step(actions, self._observations(t + 1), self.outcomes, running)
            fields["filled"][running, t + 1] = 1
            fields["reward"][:, t, 0] = self.outcomes.reward
            fields["terminated"][:, t, 0] = self.outcomes.terminated
            running &= ~(self.outcomes.terminated | self.outcomes.truncated)
            if not running.any():
                break
        return self.batch

    def _observations(self, t: int) -> Observations:
        return Observations(*(self.fields[key][:, t] for key in ("obs", "state", "avail_actions")))


def pymarls_bytes_per_step(batch: EpisodeBatch) -> int:
    """Returns what PyMARL stores of one step, filled or not."""
    dtypes = {key: PYMARLS.get(key) or batch.scheme[key]["dtype"] for key in batch.scheme}
    return sum(prod(batch[key].shape[2:]) * dtype.itemsize for key, dtype in dtypes.items())


def milliseconds(work: Callable[..., object], *args: object, **kwargs: object) -> float:
    """Returns milliseconds of computing, in which what others do on the machine counts little."""
    started = process_time()
    work(*args, **kwargs)
    return 1e3 * (process_time() - started)


def measure(map_name: str, n_episodes: int, most_bytes: float) -> Json:
    """Returns all figures of one map; with fewer episodes where these take more than `most_bytes`."""
    play = Play(map_name)
    buffer = ReplayBuffer(play.layout[0], play.layout[1], n_episodes, play.info["episode_limit"] + 1, play.layout[2])
    n_steps = mean(int(play()["filled"].sum()) / ENVS for _ in range(4))  # of an episode
    fitting = int(most_bytes / (n_steps * buffer.bytes_per_step))
    n_filled = min(n_episodes, fitting)
    empty, times, fillings = resident_bytes(), [], []
    for part in FILLINGS:
        while buffer.episodes_in_buffer < n_filled // part:
            batch = play()[: n_filled // part - buffer.episodes_in_buffer]
            times.append(milliseconds(buffer.insert_episode_batch, batch) / batch.batch_size)
        grown = max(resident_bytes() - empty, 1)  # a few episodes find room in what the program has already
        rng = np.random.default_rng(0)
        size = min(BATCH_SIZE, buffer.episodes_in_buffer)
        samples = [milliseconds(buffer.sample, size, rng=rng) for _ in range(10)]
        fillings.append(
            {
                "episodes": buffer.episodes_in_buffer,
                "steps": buffer.nbytes // buffer.bytes_per_step,
                "stored_bytes": buffer.nbytes,
                "resident_bytes": grown,
                "insert_milliseconds": mean(times),
                "sample_milliseconds": median(samples),
            }
        )
    return {
        "map": map_name,
        "asked_episodes": n_episodes,
        "steps_per_episode": buffer.max_seq_length,
        "bytes_per_step": buffer.bytes_per_step,
        "pymarls_bytes_per_step": pymarls_bytes_per_step(play.batch),
        "fillings": fillings,
    }


def rows(result: Json) -> str:
    """Returns lines of the table under HEADER."""
    pymarls = result["pymarls_bytes_per_step"] * result["steps_per_episode"]
    lines = []
    for filling in result["fillings"]:
        sizes = filling["stored_bytes"], filling["resident_bytes"], pymarls * result["fillings"][-1]["episodes"]
        columns = f"{result['map']:<18}{filling['episodes']:>10}{filling['steps'] / 1e3:>10.1f}"
        columns += "".join(f"{size / 1e9:>10.3f}" for size in sizes)
        lines.append(columns + f"{filling['insert_milliseconds']:>10.2f}{filling['sample_milliseconds']:>10.2f}")
    return "\n".join(lines)


def verdicts(result: Json) -> list[str]:
    """Returns what the figures hang on, and one line for each target."""
    name, last, limit = result["map"], result["fillings"][-1], result["steps_per_episode"]
    pymarls = result["pymarls_bytes_per_step"]
    share = last["resident_bytes"] / (pymarls * limit * last["episodes"])
    per_step = [filling["resident_bytes"] / filling["steps"] for filling in result["fillings"]]
    full_length = result["bytes_per_step"] / pymarls
    lines = []
    if last["episodes"] < result["asked_episodes"]:
        lines.append(f"{name}: {last['episodes']} of {result['asked_episodes']} episodes, no more fit into --gib")
    lines += [
        f"{name}: {result['bytes_per_step']:,} bytes per step, PyMARL's {pymarls:,}; episodes of "
        f"{last['steps'] / last['episodes']:.1f} steps, up to {limit}; if all had {limit}: {full_length:.2f} of "
        f"PyMARL's layout, and {TARGET_SHARE:.2f} of it at {TARGET_SHARE / full_length * limit:.0f}",
        verdict(f"{name}, resident memory over PyMARL's layout", share, TARGET_SHARE, at_most=True),
        verdict(
            f"{name}, memory per step, most over least", max(per_step) / min(per_step), TARGET_EVENNESS, at_most=True
        ),
    ]
    return lines


def _parse(argv: Sequence[str] | None) -> Namespace:
    """Raises: UserError for what cannot be measured here."""
    parser = make_parser("memory", DESCRIPTION, MAPS)
    parser.add_argument("--episodes", type=int, default=5000, help="in the buffer (default: %(default)s)")
    parser.add_argument("--gib", type=int, default=5, help="that a buffer may take, else fewer episodes (default: 5)")
    args = parse(parser, argv)
    check_at_least(FILLINGS[0], episodes=args.episodes)
    check_at_least(1, gib=args.gib)
    return args


def run_all(args: Namespace) -> None:
    """Measures and prints."""
    th.set_num_threads(1)
    machine = print_machine(("numpy", "torch"))
    measured = (measure(name, args.episodes, args.gib * 2**30) for name in args.map)
    results = print_results(HEADER, measured, rows, verdicts)
    write_json(args.json, machine=machine, results=results)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 2 after a user's mistake."""
    return exit_status(lambda: run_all(_parse(argv)))


if __name__ == "__main__":
    run_program(main)
