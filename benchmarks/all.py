"""Every benchmark after the other, and at the end every target with its figure, met or not.

`python -m benchmarks.all`. `README.md` beside this file records the last full table.
"""

import json
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from benchmarks.engine import TARGETS as ENGINE_TARGETS
from utils.command import Parser, check_json, exit_status, run_program
from utils.errors import UserError

BENCHMARKS = {
    "engine": ("--map", *ENGINE_TARGETS, "--envs", "16", "64", "256", "--threads", "2"),
    "collect": (),
    "learner": ("--threads", "2"),
    "training": (),
    "memory": (),
}
"""The programs, with the arguments that measure all there is a target for, and how the costs grow."""
DESCRIPTION = """Runs all benchmarks, each in a process of its own, and repeats at the end every line that holds a
figure against a target. It takes about ten minutes; the machine should be idle."""


def run_one(name: str, arguments: Sequence[str], json_file: Path) -> list[str]:
    """Runs a benchmark and passes its output on; returns the lines that hold a figure against a target.

    Raises: UserError where it fails.
    """
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments, "--json", str(json_file)]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip("\n"))
    if process.returncode != 0:
        raise UserError(f"benchmarks.{name} failed; run it alone")
    return [line for line in lines if ", target " in line]


def _parse(argv: Sequence[str] | None) -> Namespace:
    """Raises: UserError for what can't be done."""
    parser = Parser(prog="python -m benchmarks.all", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--only", nargs="+", default=list(BENCHMARKS), choices=list(BENCHMARKS), help="default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what all of them write, by name, there")
    args = parser.parse_args(argv)
    check_json(args.json)
    return args


def run_all(argv: Sequence[str] | None) -> None:
    """Raises: UserError where one fails."""
    args = _parse(argv)
    verdicts, results = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.only:
            print(f"--- {name}", flush=True)
            file = Path(folder) / f"{name}.json"
            verdicts += run_one(name, BENCHMARKS[name], file)
            results[name] = json.loads(file.read_text())
    print("--- targets", *verdicts, sep="\n")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 2 after a user's mistake, or where a benchmark fails."""
    return exit_status(lambda: run_all(argv))


if __name__ == "__main__":
    run_program(main)
