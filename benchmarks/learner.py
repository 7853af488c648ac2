"""How long a Q-learning update and a choice of actions take, and whether the update's targets are met.

`python -m benchmarks.learner --map 8m`. The learner is `learners/q_learner.py`, the controller
`controllers/basic_controller.py`; the engine has its own benchmark in `engine.py`.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import process_time
from types import SimpleNamespace
from typing import Any

import torch as th
import yaml

from components.episode_buffer import EpisodeBatch
from components.packed_steps import PackedSteps
from controllers.basic_controller import BasicMAC, PackedInputs
from envs.sc2.sim.env import BattleVectorEnv
from learners.q_learner import QLearner
from utils.command import in_words, surroundings

CONFIG = Path(__file__).resolve().parent.parent / "config"
MAPS = ("3m", "8m", "27m_vs_30m")
STEPS = 60
ENVS = (1, 64)
REPEATS = 7
TARGET_MAP = "8m"
TARGET_TIMES_LOOP = 3.0
"""The loop's time over the update's, on TARGET_MAP."""
TARGET_SHARE_OF_PRODUCTS = 0.5
"""The time of the update's matrix products alone over the update's, on TARGET_MAP."""
COLUMNS = ("update", "lowest", "highest", "loop", "lowest", "highest", "times", "products", "ragged")
HEADER = f"{'map':<12}" + "".join(f"{name:>10}" for name in COLUMNS)
DESCRIPTION = f"""Measures a whole update by the default QMIX on random episodes of {STEPS} steps: as it is, and with
networks that go step by step through a loop over GRUCell (`unroll_reference`); the two take turns. Prints milliseconds
of computing on one thread, the median, lowest and highest of {REPEATS} repeats; the loop over the update ("times");
the matrix products of the update alone ("products"); an update of episodes between {STEPS // 2} and {STEPS} steps
long ("ragged"); and microseconds of one `select_actions` with {ENVS[0]} and {ENVS[1]} environments."""
JSON_HELP = """also write the results there: "machine" and "results", a list with all repeats of each map"""


class StepByStepMAC(BasicMAC):
    """The same Q-values from the loop that `unroll` must equal, padding included."""

    def pack_inputs(self, ep_batch: EpisodeBatch) -> PackedInputs:
        """Inputs in name only: the loop builds its own."""
        return PackedInputs(th.empty(0), PackedSteps(ep_batch["filled"]))

    def unroll(self, ep_batch: EpisodeBatch, test_mode: bool = False, inputs: PackedInputs | None = None) -> th.Tensor:
        rows = self.build_inputs(ep_batch).transpose(1, 2)  # [b, a, T, in]
        q, _ = self.agent.unroll_reference(rows.flatten(0, 1))
        return q.unflatten(0, rows.shape[:2]).transpose(1, 2)


class SilentLogger:
    """Stands in for `utils.logging.Logger`."""

    def log_stat(self, key: str, value: float, t: int) -> None:
        """Keeps nothing."""


def qmix_args(map_name: str) -> SimpleNamespace:
    """The arguments of QMIX with its defaults on a map."""
    config: dict[str, Any] = {}
    for file in (CONFIG / "default.yaml", CONFIG / "algs" / "qmix.yaml"):
        config |= yaml.safe_load(file.read_text(encoding="utf-8"))
    sizes = BattleVectorEnv(range(1), map_name=map_name).get_env_info()
    return SimpleNamespace(**{**config, **sizes, "device": "cpu"})


def scheme_of(args: SimpleNamespace) -> tuple[dict, dict]:
    """(scheme, groups) as `run.py` makes them."""
    scheme = {
        "state": {"vshape": args.state_shape},
        "obs": {"vshape": args.obs_shape, "group": "agents"},
        "actions": {"vshape": (1,), "group": "agents", "dtype": th.long},
        "avail_actions": {"vshape": (args.n_actions,), "group": "agents", "dtype": th.uint8},
        "reward": {"vshape": (1,)},
        "terminated": {"vshape": (1,), "dtype": th.uint8},
    }
    return scheme, {"agents": args.n_agents}


def random_batch(args: SimpleNamespace, batch_size: int, shortest: int) -> EpisodeBatch:
    """Episodes of `shortest` to STEPS transitions; every action is available."""
    batch = EpisodeBatch(*scheme_of(args), batch_size, STEPS + 1)
    for b, length in enumerate(th.linspace(shortest, STEPS, batch_size).long().tolist()):
        fields = {key: value[b : b + 1, : length + 1] for key, value in batch.data.transition_data.items()}
        terminated = th.zeros_like(fields["terminated"])
        terminated[:, -2] = 1
        data = {key: th.randn(fields[key].shape) for key in ("obs", "state", "reward")}
        data["actions"] = th.randint(args.n_actions, fields["actions"].shape)
        data |= {"avail_actions": th.ones_like(fields["avail_actions"]), "terminated": terminated}
        batch.update(data, bs=b, ts=slice(0, length + 1))
    return batch


def milliseconds(work: Callable[[], Any]) -> float:
    """Of computing, so that what others do on the machine counts little."""
    started = process_time()
    work()
    return 1e3 * (process_time() - started)


def products(args: SimpleNamespace, learner: QLearner) -> Callable[[], None]:
    """The matrix products of an update of full episodes, of the same sizes and as few as can be, and nothing else."""
    agent_rows, step_rows = args.batch_size * args.n_agents * (STEPS + 1), args.batch_size * args.n_agents
    mixer_rows = args.batch_size * STEPS
    linear = [module.weight for module in learner.mixer.modules() if isinstance(module, th.nn.Linear)]
    agent = learner.mac.agent
    of_inputs = [(agent_rows, agent.fc1.weight, 3)]  # live, target, and back to the weights only
    of_inputs += [(mixer_rows, w, 3) for w in linear if w.shape[1] == args.state_shape]
    inside = [(agent_rows, w, 4) for w in (agent.rnn.weight_ih, agent.fc2.weight)]
    inside += [(mixer_rows, w, 4) for w in linear if w.shape[1] != args.state_shape]
    # The recurrence goes through its weights step by step, and back; its gradient is one product.
    recurrent = [(step_rows, agent.rnn.weight_hh, 3 * (STEPS + 1)), (agent_rows, agent.rnn.weight_hh, 1)]
    pairs = [(th.randn(rows, w.shape[1]), w.detach().t(), times) for rows, w, times in of_inputs + inside + recurrent]
    outs = [th.empty(len(x), w.shape[1]) for x, w, _ in pairs]

    def work() -> None:
        for (x, w, times), out in zip(pairs, outs, strict=True):
            for _ in range(times):
                th.mm(x, w, out=out)

    return work


def measure(map_name: str) -> dict[str, Any]:
    """All figures of one map; update, loop and products take turns, so that they see the same machine."""
    args = qmix_args(map_name)
    scheme, groups = scheme_of(args)
    full, ragged = random_batch(args, args.batch_size, STEPS), random_batch(args, args.batch_size, STEPS // 2)
    th.manual_seed(0)
    learner = QLearner(BasicMAC(scheme, groups, args), scheme, SilentLogger(), args)
    loop = QLearner(StepByStepMAC(scheme, groups, args), scheme, SilentLogger(), args)
    work = {
        "update": lambda: learner.train(full, 0, 0),
        "loop": lambda: loop.train(full, 0, 0),
        "products": products(args, learner),
        "ragged": lambda: learner.train(ragged, 0, 0),
    }
    for warm_up in work.values():
        warm_up()
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(REPEATS):
        for name, one in work.items():
            times[name].append(milliseconds(one))
    acting = {n_envs: acting_microseconds(learner.mac, args, n_envs) for n_envs in ENVS}
    return {"map": map_name, "milliseconds": times, "select_actions_microseconds": acting}


def acting_microseconds(mac: BasicMAC, args: SimpleNamespace, n_envs: int) -> list[float]:
    """Of one `select_actions` in training, averaged over each of REPEATS episodes."""
    batch = random_batch(args, n_envs, STEPS)

    def episode() -> None:
        mac.init_hidden(n_envs)
        for t in range(STEPS):
            mac.select_actions(batch, t, t_env=0)

    episode()
    return [1e3 * milliseconds(episode) / STEPS for _ in range(REPEATS)]


def ratio(result: dict[str, Any], over: str, under: str) -> float:
    """The median over the repeats of one time over another."""
    times = result["milliseconds"]
    return median(a / b for a, b in zip(times[over], times[under], strict=True))


def row(result: dict[str, Any]) -> str:
    """A line of the table under HEADER."""
    times = result["milliseconds"]
    spread = [f(times[name]) for name in ("update", "loop") for f in (median, min, max)]
    figures = [*spread, ratio(result, "loop", "update"), median(times["products"]), median(times["ragged"])]
    return f"{result['map']:<12}" + "".join(f"{figure:>10.1f}" for figure in figures)


def verdicts(result: dict[str, Any]) -> list[str]:
    """The times of acting, and one line for each target that this result can be held against."""
    name, lines = result["map"], []
    for n_envs, repeats in result["select_actions_microseconds"].items():
        spread = f"{min(repeats):,.0f} to {max(repeats):,.0f}"
        lines.append(f"{name}, select_actions, {n_envs} environments: {median(repeats):,.0f} microseconds ({spread})")
    if name == TARGET_MAP:
        lines.append(_verdict(f"{name}, loop over update", ratio(result, "loop", "update"), TARGET_TIMES_LOOP))
        share = ratio(result, "products", "update")
        lines.append(_verdict(f"{name}, matrix products' share of the update", share, TARGET_SHARE_OF_PRODUCTS))
    return lines


def _verdict(what: str, figure: float, target: float) -> str:
    return f"{what}: {figure:.2f}, target {target:.2f}, {'met' if figure >= target else 'not met'}"


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learner", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--map", nargs="+", default=MAPS, choices=MAPS, help="maps whose sizes are used (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help=JSON_HELP)
    given = parser.parse_args(argv)
    th.set_num_threads(1)
    machine = surroundings("torch")
    print(in_words(machine))
    print(HEADER)
    results = []
    for name in given.map:
        results.append(measure(name))
        print(row(results[-1]), flush=True)
    for result in results:
        print(*verdicts(result), sep="\n")
    if given.json:
        given.json.write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
