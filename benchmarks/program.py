"""What the benchmarks share: arguments, the order of printing, verdicts, and the JSON file."""

import json
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from envs.sc2.sim.maps import MAP_NAMES
from utils.command import Parser, check_json, chosen_maps, format_machine, machine_info
from utils.errors import UserError
from utils.files import Json

JSON_HELP = 'also write "machine" and "results" there'


def make_parser(name: str, description: str, maps: Sequence[str], json_help: str = JSON_HELP) -> Parser:
    """Returns the parser of `python -m benchmarks.<name>` with --map and --json."""
    parser = Parser(prog=f"python -m benchmarks.{name}", description=description, allow_abbrev=False)
    help = f"maps, or all (default: {' '.join(maps)})"
    parser.add_argument("--map", nargs="+", default=maps, metavar="NAME", help=help)
    parser.add_argument("--json", type=Path, metavar="FILE", help=json_help)
    return parser


def parse(parser: Parser, argv: Sequence[str] | None, known: Sequence[str] = MAP_NAMES) -> Namespace:
    """Returns the arguments. Raises: UserError for maps or a file that can't be."""
    args = parser.parse_args(argv)
    args.map = chosen_maps(args.map, known)
    check_json(args.json)
    return args


def check_seconds(seconds: float) -> None:
    """Raises: UserError for a --seconds that nothing can be measured for."""
    if not 0 < seconds < float("inf"):
        raise UserError(f"--seconds={seconds} must be above 0")


def print_machine(packages: Sequence[str], *more: str) -> Json:
    """Prints the machine in one line and returns it."""
    machine = machine_info(*packages)
    print(format_machine(machine), *more, sep="; ")
    return machine


def print_results(
    header: str, results: Iterable[Json], row: Callable[[Json], str], verdicts: Callable[[Json], list[str]]
) -> list[Json]:
    """Prints a line for each result as it comes, then the verdicts; returns the results."""
    print(header)
    done = []
    for result in results:
        done.append(result)
        print(row(result), flush=True)
    for line in [line for result in done for line in verdicts(result)]:
        print(line)
    return done


def write_json(path: Path | None, **content: object) -> None:
    """Writes the file that `--json` names, if it names one."""
    if path:
        path.write_text(json.dumps(content, indent=1) + "\n")


def verdict(what: str, figure: float, target: float, digits: str = ".2f", at_most: bool = False) -> str:
    """Returns a line that holds a figure against a target, which is met from it on, or with `at_most` up to it."""
    is_met = figure <= target if at_most else figure >= target
    return f"{what}: {figure:{digits}}, target {target:{digits}}, {'met' if is_met else 'not met'}"
