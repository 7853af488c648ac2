"""Sends runs that were recorded on disk to MongoDB: `python -m experiments.send_records results/sacred --mongo_db=...`.

For runs whose database was lost or not there yet; sending a run again only completes it. The form of the documents is
in `utils/mongo.py`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pymongo.errors import ConnectionFailure, PyMongoError

from utils.command import Parser, exit_status, run_program
from utils.errors import UserError
from utils.files import read_json
from utils.mongo import UNSENDABLE, UNSENT, is_there, open_database, send, without_password

WORDS = "complete record", "leave this run out, or restore it"
LAYOUTS = {
    "run": {
        "status": str,
        "start_time": str,
        "host": dict,
        "artifacts": [str],
        "experiment": {"base_dir": str, "sources": [[str, str]]},
    },
    "config": dict,
    "info": dict,
    "metrics": {str: {"steps": list, "values": list, "timestamps": [str]}},
}
"""The layouts of the files of a record, in the form of utils/files.py; info and metrics may be missing."""
ALIVE = timedelta(seconds=60)  # Sacred's heart beats every ten seconds
DESCRIPTION = """Sends the records of runs to MongoDB, in the form of Sacred's MongoObserver. A run that is there
already is completed, and nothing is stored twice. Runs that are still running are left alone: they send themselves."""
FOLDERS_HELP = f"""folders of runs, such as results/sacred/3; of a folder that holds runs, such as results/sacred, those
that were meant for a database and are not all there (they contain {UNSENT})"""


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """Returns the folders of runs that are meant. Raises: UserError where a folder is not there."""
    runs: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder; give folders of runs, such as results/sacred/3, or results/sacred")
        found = [folder] if (folder / "run.json").is_file() else [path.parent for path in folder.glob(f"*/{UNSENT}")]
        runs += sorted(found, key=lambda path: (len(path.name), path.name))
    return runs


def is_running(folder: Path) -> bool:
    """Returns whether the run's heart has beaten within the last minute."""
    run = read_json(folder / "run.json", LAYOUTS["run"], *WORDS)
    last = datetime.fromisoformat(run.get("heartbeat") or run["start_time"]).replace(tzinfo=UTC)
    return run["status"] == "RUNNING" and datetime.now(UTC) - last < ALIVE


def send_runs(runs: Sequence[Path], address: str) -> None:
    """Sends each run and prints its number in the database; a record that can't be sent does not keep the others back.

    Raises: UserError where the database is not there or is lost, or records could not be sent.
    """
    store, public_address = open_database(address), without_password(address)
    if not is_there(store):
        raise UserError(f"no MongoDB answers at {public_address}; start it, or correct the address")
    failed = []
    for folder in runs:
        try:
            if is_running(folder):
                print(f"{folder}: still running, left alone")
                continue
            for name in LAYOUTS:
                if (folder / f"{name}.json").exists():
                    read_json(folder / f"{name}.json", LAYOUTS[name], *WORDS)
            number = send(store, folder)
        except ConnectionFailure as error:
            reason = str(error).partition(",")[0]
            raise UserError(f"MongoDB at {public_address} was lost ({reason}); send again later") from error
        except UserError as mistake:
            failed.append(str(mistake))
        except PyMongoError as error:
            failed.append(f"{folder} is refused by MongoDB ({str(error).partition(',')[0]})")
        except UNSENDABLE as error:
            failed.append(f"{folder} is no complete record ({error}); leave it out, or restore it")
        else:
            (folder / UNSENT).unlink(missing_ok=True)
            print(f"{folder}: run {number} in {public_address}")
    if failed:
        raise UserError("; ".join(failed))


def main(argv: Sequence[str] | None = None) -> int:
    """Sends and prints; returns the exit status: 2 after a user's mistake."""
    parser = Parser(prog="python -m experiments.send_records", description=DESCRIPTION)
    parser.add_argument("folders", nargs="+", type=Path, help=FOLDERS_HELP)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--mongo_db", metavar="HOST:PORT:DATABASE", dest="address", help="as of main.py")
    where.add_argument("--mongo_url", metavar="URL", dest="address", help="mongodb://USER:PASSWORD@HOST:PORT/DATABASE")

    def work() -> None:
        args = parser.parse_args(argv)
        runs = find_runs(args.folders)
        if runs:
            send_runs(runs, args.address)
        else:
            print("there is nothing to send")

    return exit_status(work)


if __name__ == "__main__":
    run_program(main)
