"""`python -m experiments.report RESULTS... --out FOLDER`: all runs below the folders as a page, figures and tables."""

import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from envs.sc2.enemies import BOT
from experiments.report.against import as_rows, compare, published, read_references
from experiments.report.figures import draw_all
from experiments.report.groups import Results, group
from experiments.report.page import as_html
from experiments.report.runs import Task, find_runs
from experiments.report.summary import Summary, summarise
from experiments.report.tables import in_words, write_tables
from utils.command import Parser, check_at_least, exit_status, run_program
from utils.errors import UserError
from utils.files import Json
from utils.MY_EXP_PATH import check_results_path, make_results_folder
from utils.records import write_whole

DESCRIPTION = """Groups all runs below the folders (of this framework, PyMARL or EPyMARL) by environment, map, engine,
engine version, algorithm and the settings that differ. Writes report.html, figures/, table.csv, table.tex, runs.csv and
marl_eval.json to FOLDER."""
AT_HELP = "compare at this environment step instead of at the end of the runs"
AGAINST_HELP = "a folder of reference curves, such as reference: says where the runs lie"
WATCH_HELP = "serve the page on this machine and keep it up to date while runs go on, until Ctrl-C"


def read(places: Sequence[Path], at: int | None) -> Results:
    """Returns all runs below the folders, grouped. Raises: UserError as `find_runs`."""
    runs, left_out = find_runs(places)
    return group(runs, left_out, at)


def write(places: Sequence[Path], out: Path, at: int | None = None, against: Path | None = None) -> Summary:
    """Writes everything into the folder.

    Raises: UserError where there are no runs, a package is missing, or the folder can't be written to.
    """
    summary = summarise(read(places, at))
    rows = beside(summary, against) if against else []
    page = as_html(summary, places, rows)
    make_results_folder(out, "--out")
    try:
        write_tables(summary, out)
        draw_all(summary, out / "figures")
        write_whole(out / "report.html", page.encode())
    except OSError as error:
        raise UserError(f"{out}: {error.strerror}; make room, or give another --out") from error
    return summary


def beside(summary: Summary, against: Path) -> list[Json]:
    """Returns the rows of the table that holds runs against references. Raises: UserError as `read_references`."""
    return as_rows(compare(summary, read_references(against)), published(against))


def in_text(summary: Summary) -> str:
    """Returns what the command prints: a line for each cell, what may be claimed, and what is missing or left out."""
    results, lines = summary.results, []
    width = max(16, *(len(task.title) + 2 for task, _ in summary.cells))
    for suite in summary.suites:
        lines.append(suite.title)
        for (task, method), of in summary.cells.items():
            if task in suite.tasks:
                finished = f"{len(of.cell.scores)} of {len(of.cell.runs)} runs"
                lines.append(f"  {task.title:<{width}}{method.title:<40}{in_words(of.last):<24}{finished}")
        lines += [f"  {claim}" for claim in suite.claims]
    lines += by_enemy(summary)
    for title, sentences in (
        ("Missing", results.missing()),
        ("Left out", [f"{gone.folder}: {gone.reason}" for gone in results.left_out]),
    ):
        if sentences:
            lines += [f"{title}:", *(f"  {sentence}" for sentence in sentences)]
    return "\n".join(lines)


def by_enemy(summary: Summary) -> list[str]:
    """Returns a table for each task whose tests met several enemies: a row for each of them, a column for each method.
    The figures are those above; nothing is pooled."""
    of_all: dict[Task, list[Task]] = {}
    for task in dict.fromkeys(task for task, _ in summary.cells):
        of_all.setdefault(task._replace(enemy=""), []).append(task)
    lines = []
    for of, tasks in of_all.items():
        methods = list(dict.fromkeys(method for task, method in summary.cells if task in tasks))
        if len(tasks) > 1:
            lines.append(f"{of.title} by enemy, {of.suite_title}")
            lines.append(f"  {'':<24}" + "".join(f"{method.title:<40}" for method in methods))
            for task in tasks:
                cells = [summary.cells.get((task, method)) for method in methods]
                words = [in_words(cell.last) if cell else "–" for cell in cells]
                lines.append(f"  {task.enemy or BOT:<24}" + "".join(f"{word:<40}" for word in words))
    return [line.rstrip() for line in lines]


def report(args: Namespace) -> None:
    """Writes the report, or serves it."""
    if args.watch:
        from experiments.report.watch import serve

        serve(args.results, args.at, args.port, args.every)
        return
    began = time.monotonic()
    summary = write(args.results, args.out, args.at, args.against)
    print(in_text(summary))
    for row in beside(summary, args.against) if args.against else ():
        print(
            f"{row['method']} on {row['map']} at {row['step']} steps: {row['here']}, reference {row['reference']}: ",
            end="",
        )
        print(f"{row['verdict']}; published {row['published']}")
    print(f"{args.out}: report.html, figures, tables; {time.monotonic() - began:.0f} seconds")


def _parse(argv: Sequence[str] | None) -> Namespace:
    """Raises: UserError for arguments that can't be meant."""
    parser = Parser(prog="python -m experiments.report", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS", help="folders with records of runs")
    parser.add_argument("--out", type=Path, default=Path("report"), metavar="FOLDER", help="default: %(default)s")
    parser.add_argument("--at", type=int, metavar="STEPS", help=AT_HELP)
    parser.add_argument("--against", type=Path, metavar="FOLDER", help=AGAINST_HELP)
    parser.add_argument("--watch", action="store_true", help=WATCH_HELP)
    parser.add_argument("--port", type=int, default=8000, help="of --watch (default: %(default)s; 0: any)")
    parser.add_argument("--every", type=int, default=30, metavar="SECONDS", help="of --watch (default: %(default)s)")
    args = parser.parse_args(argv)
    check_at_least(1, every=args.every, **({} if args.at is None else {"at": args.at}))
    check_at_least(0, port=args.port)
    check_results_path(args.out, "--out")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Reports; returns the exit status, as `exit_status` does."""
    return exit_status(lambda: report(_parse(argv)))


if __name__ == "__main__":
    run_program(main)
