"""How long one update of each learner takes, how that grows, and whether the targets are met.

`python -m benchmarks.learner --map 8m`. The learners are in `learners/`; the engine's benchmark is `engine.py`.
"""

import logging
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from operator import attrgetter
from statistics import median
from time import perf_counter, process_time

import torch as th

from benchmarks.program import make_parser, parse, print_machine, print_results, verdict, write_json
from components.episode_buffer import EpisodeBatch
from config.layers import merge
from controllers import REGISTRY as CONTROLLERS
from controllers.layout import episode_layout
from envs.sc2.sim.env import BattleVectorEnv
from learners import REGISTRY as LEARNERS
from modules.am.omg_am import OMGAM
from modules.fast_paths import FAST_PATHS, NO_FAST_PATHS
from run import sizes_of
from utils.command import check_at_least, check_threads, exit_status, n_cores, run_program
from utils.dict2namedtuple import convert
from utils.errors import UserError, unknown
from utils.files import Json
from utils.logging import Logger
from utils.process import keep_freed_memory

ALGORITHMS = (
    *("iql", "vdn", "qmix", "qtran", "coma", "cw_qmix", "qplex", "iql_am", "iql_liam", "iql_omg"),
    *("ippo", "mappo", "ippo_liam", "ippo_omg", "pqn_vdn", "pqn_qmix", "pqn_omg"),
)
THREADS_MAPS = ("3m", "8m", "27m_vs_30m")
STEPS = 60
GROWTH = (1, 2, 4)
"""Shares of the batch: a quarter, a half and all of it."""
REPEATS = 5
TARGET = ("8m", "qmix")
TARGET_TIMES_LOOP = 3.0
"""The loop's time over the update's, of TARGET."""
TARGET_SHARE_OF_PRODUCTS = 0.5
"""The time of the update's matrix products alone over the update's, of TARGET."""
IN_PARTS = "iql_omg"
"""The algorithm of whose update is shown where its time goes."""
PARTS = {
    "the model infers": (("model", "infer"),),
    "subgoals are picked": (("model", "look_back"),),
    "values": (("mac", "unroll_with_hidden"), ("target_mac", "unroll_with_hidden")),
    "the policy learns": (("", "descend"),),
    "the model learns": (("model", "train"),),
}
"""Methods of the learner's attributes, or of its own, by what they do; what one calls within another is the other's."""
COLUMNS = ("batch", "update", "lowest", "highest", "loop", "times", "ragged")
HEADER = f"{'map':<12}{'algorithm':<10}" + "".join(f"{name:>9}" for name in COLUMNS)
DESCRIPTION = f"""Measures whole updates of the default algorithms on random episodes of {STEPS} steps: as they are, and
with policy networks that go step by step through their `forward` (modules/unroll.py); the two take turns. Prints
milliseconds of computing on one thread, or on a GPU the time that passes, the batch's transfer included: the median,
lowest and highest of {REPEATS} repeats; the loop over the update ("times"); and an update of episodes between
{STEPS // 2} and {STEPS} steps long ("ragged"). Then how an update of the first algorithm grows with the batch, and
where the time of {IN_PARTS}'s goes."""
JSON_HELP = """also write the results there: "machine", and "results", "growth" and "threads", with all repeats"""
THREADS_HELP = f"""also compare one thread with this many, by qmix on {", ".join(THREADS_MAPS)}: milliseconds that pass
and those of computing (default: 1, no comparison)"""


class Case:
    """A learner with its default settings on the sizes of a map, and episodes to learn from."""

    def __init__(self, algorithm: str, map_name: str, device: str, batch_share: int = 1):
        config = merge(algorithm, "sc2", [])
        sizes = sizes_of(BattleVectorEnv(range(1), map_name=map_name).get_env_info())
        own = {"device": device, "population": {}, "batch_size": config["batch_size"] // batch_share}
        self.args = convert({**config, **sizes, **own})
        scheme, groups, _ = episode_layout(self.args)
        th.manual_seed(0)
        self.learner = LEARNERS[self.args.learner](
            CONTROLLERS[self.args.mac](scheme, groups, self.args),
            scheme,
            Logger(logging.getLogger("benchmarks")),
            self.args,
        )
        if isinstance(am := self.learner.mac.networks().get("am"), OMGAM):
            am.vae.is_trained.fill_(True)
        self.full, self.ragged = self._random_batch(STEPS), self._random_batch(STEPS // 2)

    def _random_batch(self, shortest: int) -> EpisodeBatch:
        """Episodes of `shortest` to STEPS transitions; every action is available."""
        scheme, groups, preprocess = episode_layout(self.args)
        batch = EpisodeBatch(scheme, groups, self.args.batch_size, STEPS + 1, preprocess=preprocess)
        for b, length in enumerate(th.linspace(shortest, STEPS, self.args.batch_size).long().tolist()):
            fields = {key: value[b : b + 1, : length + 1] for key, value in batch.data.transition_data.items()}
            terminated = th.zeros_like(fields["terminated"])
            terminated[:, -2] = 1
            data = {key: th.randn(fields[key].shape) for key in ("obs", "state", "reward")}
            data["actions"] = th.randint(self.args.n_actions, fields["actions"].shape)
            data |= {"avail_actions": th.ones_like(fields["avail_actions"]), "terminated": terminated}
            batch.update(data, bs=b, ts=slice(0, length + 1))
        return batch

    def update(self, batch: EpisodeBatch) -> None:
        """A training call that logs nothing and updates no targets."""
        if self.args.device != "cpu":
            # A copy, as `to` is in place and what is measured begins with a sample on the host.
            batch = batch[:, :].to(self.args.device)
        self.learner.train(batch, 0, 0)


def update_step_by_step(case: Case) -> None:
    """An update of full episodes in which the policy networks have no faster `unroll`."""
    kind = type(case.learner.mac.agent)
    paths = FAST_PATHS.get(kind, NO_FAST_PATHS)
    FAST_PATHS[kind] = paths._replace(unroll=None)
    try:
        case.update(case.full)
    finally:
        FAST_PATHS[kind] = paths


def products(case: Case) -> Callable[[], None]:
    """Returns the matrix products of a QMIX update of full episodes, as few as can be, and nothing else."""
    args, learner = case.args, case.learner
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
    shapes = of_inputs + inside + recurrent
    pairs = [(th.randn(rows, w.shape[1], device=w.device), w.detach().t(), times) for rows, w, times in shapes]
    outs = [x.new_empty(len(x), w.shape[1]) for x, w, _ in pairs]

    def work() -> None:
        for (x, w, times), out in zip(pairs, outs, strict=True):
            for _ in range(times):
                th.mm(x, w, out=out)

    return work


class Times:
    """Milliseconds of several kinds of work that take turns, so that they see the same machine."""

    def __init__(self, work: Mapping[str, Callable[[], object]], device: str):
        for warm_up in work.values():
            warm_up()
        self.passed: dict[str, list[float]] = {name: [] for name in work}
        self.computed: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(REPEATS):
            for name, one in work.items():
                if device != "cpu":
                    th.cuda.synchronize()
                started, started_computing = perf_counter(), process_time()
                one()
                if device != "cpu":
                    th.cuda.synchronize()
                self.computed[name].append(1e3 * (process_time() - started_computing))
                self.passed[name].append(1e3 * (perf_counter() - started))
        # What others do on the machine counts little in time of computing; a GPU's is not in it.
        self.counted = self.computed if device == "cpu" else self.passed


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """Returns the median over the repeats of one time over another."""
    return median(a / b for a, b in zip(over, under, strict=True))


def measure(algorithm: str, map_name: str, device: str) -> Json:
    """Returns all figures of one algorithm on one map."""
    case, loop = Case(algorithm, map_name, device), Case(algorithm, map_name, device)
    work: dict[str, Callable[[], object]] = {
        "update": lambda: case.update(case.full),
        "loop": lambda: update_step_by_step(loop),
        "ragged": lambda: case.update(case.ragged),
    }
    if (map_name, algorithm) == TARGET:
        work["products"] = products(case)
    times = Times(work, device).counted
    return {"map": map_name, "algorithm": algorithm, "batch": case.args.batch_size, "milliseconds": times}


def row(result: Json) -> str:
    """Returns a line of the table under HEADER."""
    times = result["milliseconds"]
    spread = [f(times["update"]) for f in (median, min, max)]
    figures = [*spread, median(times["loop"]), ratio(times["loop"], times["update"]), median(times["ragged"])]
    columns = f"{result['map']:<12}{result['algorithm']:<10}{result['batch']:>9}"
    return columns + "".join(f"{figure:>9.1f}" for figure in figures)


def measure_growth(algorithm: str, map_name: str, device: str) -> Json:
    """Returns milliseconds of an update by the size of the batch."""
    cases = [Case(algorithm, map_name, device, share) for share in reversed(GROWTH)]
    work = {str(case.args.batch_size): lambda case=case: case.update(case.full) for case in cases}  # type: ignore[misc]
    return {"map": map_name, "algorithm": algorithm, "milliseconds": Times(work, device).counted}


def measure_threads(map_name: str, n_threads: int) -> Json:
    """Returns milliseconds of an update by QMIX, that pass and of computing, by the number of torch's threads."""
    case = Case("qmix", map_name, "cpu")

    def update(n: int) -> None:
        th.set_num_threads(n)
        case.update(case.full)

    times = Times({str(n): lambda n=n: update(n) for n in (1, n_threads)}, "cpu")  # type: ignore[misc]
    th.set_num_threads(1)
    return {"map": map_name, "passed": times.passed, "computed": times.computed}


def measure_parts(algorithm: str, map_name: str, device: str) -> Json:
    """Returns the shares of an update's time that PARTS take, and the rest of it."""
    case, spent = Case(algorithm, map_name, device), dict.fromkeys(PARTS, 0.0)
    inside: list[str] = []

    def timed(name: str, method: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            if inside:  # of another part
                return method(*args, **kwargs)
            inside.append(name)
            started = process_time()
            try:
                return method(*args, **kwargs)
            finally:
                spent[name] += process_time() - started
                inside.pop()

        return call

    for name, methods in PARTS.items():
        for owner, method in methods:
            part = attrgetter(owner)(case.learner) if owner else case.learner
            setattr(part, method, timed(name, getattr(part, method)))
    case.update(case.full)
    spent |= dict.fromkeys(spent, 0.0)
    started = process_time()
    for _ in range(REPEATS):
        case.update(case.full)
    whole = process_time() - started
    shares = {name: seconds / whole for name, seconds in spent.items()}
    return {"map": map_name, "algorithm": algorithm, "shares": {**shares, "the rest": 1 - sum(shares.values())}}


def parts_words(result: Json) -> str:
    """Returns one line: where an update's time goes."""
    shares = ", ".join(f"{name} {share:.0%}" for name, share in result["shares"].items())
    return f"{result['map']}, {result['algorithm']}, where an update's time goes: {shares}"


def verdicts(result: Json) -> list[str]:
    """Returns one line for each target that this result can be held against."""
    times, what = result["milliseconds"], f"{result['map']}, {result['algorithm']}"
    if (result["map"], result["algorithm"]) != TARGET:
        return []
    share = ratio(times["products"], times["update"])
    return [
        verdict(f"{what}, loop over update", ratio(times["loop"], times["update"]), TARGET_TIMES_LOOP),
        verdict(f"{what}, matrix products' share of the update", share, TARGET_SHARE_OF_PRODUCTS),
    ]


def growth_words(growth: Json) -> str:
    """Returns one line: the time per episode at each size of the batch."""
    each = [f"{n}: {median(times) / int(n):.2f}" for n, times in growth["milliseconds"].items()]
    return f"{growth['map']}, {growth['algorithm']}, milliseconds per episode, by batch: {', '.join(each)}"


def threads_words(result: Json) -> str:
    """Returns one line: what a second thread (or more) brings, and what it costs."""
    (one, many), (_, n) = result["passed"].values(), result["passed"]
    computed = result["computed"]
    return (
        f"{result['map']}, qmix: 1 thread {median(one):.1f} ms, {n} threads {median(many):.1f} ms, "
        f"{ratio(one, many):.2f} times as fast for {ratio(computed[n], computed['1']):.2f} times the computing"
    )


def _parse(argv: Sequence[str] | None) -> Namespace:
    """Raises: UserError for what cannot be measured here."""
    parser = make_parser("learner", DESCRIPTION, ["8m"], JSON_HELP)
    parser.add_argument("--alg", nargs="+", default=ALGORITHMS, metavar="NAME", help="algorithms (default: all)")
    parser.add_argument("--threads", type=int, default=1, help=THREADS_HELP)
    parser.add_argument("--device", default="cpu", help="where networks are: cpu, or cuda (default: %(default)s)")
    args = parse(parser, argv)
    for name in args.alg:
        if name not in ALGORITHMS:
            raise UserError(f"--alg: {unknown('algorithm', name, ALGORITHMS)}")
    if args.device not in ("cpu", "cuda"):
        raise UserError(f"--device={args.device} must be cpu or cuda")
    if args.device == "cuda" and not th.cuda.is_available():
        raise UserError("--device=cuda, but torch finds no GPU here; take cpu")
    check_at_least(1, threads=args.threads)
    check_threads(args.threads, n_cores())
    return args


def run_all(args: Namespace) -> None:
    """Measures and prints."""
    th.set_num_threads(1)
    keep_freed_memory()
    machine = print_machine(("torch",), args.device)
    cases = product(args.map, args.alg)
    measured = (measure(algorithm, map_name, args.device) for map_name, algorithm in cases)
    results = print_results(HEADER, measured, row, verdicts)
    growth = [measure_growth(args.alg[0], map_name, args.device) for map_name in args.map]
    print(*map(growth_words, growth), sep="\n")
    in_parts = args.map if IN_PARTS in args.alg and args.device == "cpu" else []
    parts = [measure_parts(IN_PARTS, map_name, args.device) for map_name in in_parts]
    print(*map(parts_words, parts), sep="\n", end="\n" if parts else "")
    threads = [measure_threads(map_name, args.threads) for map_name in THREADS_MAPS if args.threads > 1]
    print(*map(threads_words, threads), sep="\n", end="\n" if threads else "")
    write_json(args.json, machine=machine, results=results, growth=growth, parts=parts, threads=threads)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 2 after a user's mistake."""
    return exit_status(lambda: run_all(_parse(argv)))


if __name__ == "__main__":
    run_program(main)
