"""Records in MongoDB: a run's document is made from its folder of records, so that it can be made again at any time.

`send` brings a document up to what the folder holds, whatever of it the database has already. A running run does so now
and then (`MongoRecords`, which main.py adds); `experiments/send_records.py` does so later. Documents have the form of
Sacred's MongoObserver, which viewers such as Omniboard read, and beside it `record`, by which `send` knows a run again.
"""

import hashlib
import json
import logging
import mimetypes
import re
import threading
import time
import warnings
from datetime import datetime
from pathlib import Path

import bson
import pymongo
from bson.errors import InvalidDocument
from pymongo.errors import OperationFailure, PyMongoError

from utils.errors import UserError
from utils.file_records import FileRecords
from utils.files import Json
from utils.logging import LOGGER_NAME

with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # Sacred 0.8 still imports the deprecated pkg_resources
    from sacred.observers import MongoObserver, RunObserver
    from sacred.observers.mongo import get_pattern, parse_mongo_db_arg

ANSWER_MS = 1000  # how long is waited for a server
TRANSFER_MS = 5000  # how long is waited for one answer of a server that is there
SEND_SECONDS = 30  # from one update of a running run's document to the next, and from one try to the next
UNSENT = "unsent.json"  # a file in the folder of a run of which the database has not got everything
TIMES = ("start_time", "stop_time", "heartbeat")
MOST_BYTES = 15 * 2**20  # of a document: MongoDB takes 16 MB
MOST_VALUES = 250_000  # of a metric: as many with their steps and times are about 12 MB
TAIL = 2**20  # characters of a text that is too long
UNSENDABLE = (OSError, ValueError, KeyError, OverflowError, InvalidDocument)  # what `send` raises for one record
FILE_OF = {"info": "info.json", "captured_out": "cout.txt", "config": "config.json"}  # and run.json for the others


def without_password(address: str) -> str:
    """Returns the address as it may be printed and recorded: no password, and no options, which may hold others."""
    return re.sub(r"^(.*?://|(?!.*://))([^:@/]*):.*@", r"\1\2:***@", address).partition("?")[0]


def open_database(address: str) -> MongoObserver:
    """Returns the database at a MongoDB URL or at Sacred's [HOST:PORT:]DATABASE; nothing is asked of it yet.

    Raises: UserError where the address is neither.
    """
    is_url = "://" in address
    place: Json = {}
    if not is_url:
        if not re.match(get_pattern(), address):
            public_address = without_password(address)
            raise UserError(
                f"'{public_address}' is no address of a database; write HOST:PORT:DATABASE or mongodb://HOST/DATABASE"
            )
        place = parse_mongo_db_arg(address)
        if place.keys() & {"overwrite", "priority"}:
            raise UserError(f"'{address}' names a run or a priority, too; write HOST:PORT:DATABASE")
    try:
        client: pymongo.MongoClient = pymongo.MongoClient(
            address if is_url else place.pop("url", None),
            serverSelectionTimeoutMS=ANSWER_MS,
            connectTimeoutMS=ANSWER_MS,
            socketTimeoutMS=TRANSFER_MS,
            retryReads=False,  # a server that is lost would be waited for twice
            retryWrites=False,
        )
        if is_url:
            place["db_name"] = client.get_default_database().name
    except (PyMongoError, ValueError) as error:
        raise UserError(
            f"mongo_url={without_password(address)} is no address of a database; "
            "write mongo_url=mongodb://USER:PASSWORD@HOST:PORT/DATABASE, the password's special characters as in %40"
        ) from error
    return MongoObserver(client=client, **place)


def is_there(store: MongoObserver) -> bool:
    """Returns whether the server answers, within about a second; what `send` looks runs up by is indexed then.

    Raises: UserError where it answers, but refuses to be written to.
    """
    try:
        store.runs.create_index("record", sparse=True)
        store.metrics.create_index([("run_id", 1), ("name", 1)])
    except OperationFailure as error:
        reason = str(error).partition(", full error")[0]
        raise UserError(f"MongoDB takes no records from here: {reason}; check the user and the password") from error
    except PyMongoError:
        return False
    return True


def send(store: MongoObserver, folder: Path, with_artifacts: bool = True) -> int:
    """Brings the document of the run whose records are in `folder` up to date, or makes it; returns its number there.

    What MongoDB does not take is cut, with a warning, and its file becomes an artifact.

    Raises:
        One of UNSENDABLE: a file of the record is missing or torn, or holds what MongoDB has no form for.
        PyMongoError: the database does not take it.
    """
    run, config, info, metrics = (_read(folder / f"{name}.json") for name in ("run", "config", "info", "metrics"))
    run["experiment"]["sources"] = [
        [name, _put(store, folder.parent / copy, f"{run['experiment']['base_dir']}/{name}")]
        for name, copy in run["experiment"]["sources"]
    ]
    identity = json.dumps([run["start_time"], run["host"], config], sort_keys=True)
    document = {
        **run,
        **{name: datetime.fromisoformat(run[name]) for name in TIMES if run.get(name)},
        "record": hashlib.md5(identity.encode()).hexdigest(),
        "format": store.VERSION,
        "config": config,
        "info": info,
        "captured_out": (folder / "cout.txt").read_text(encoding="utf-8", errors="replace"),
        "artifacts": [],
    }
    cut = [FILE_OF.get(key, "run.json") for key in fit(document)]
    known = store.runs.find_one({"record": document["record"]}, {"artifacts": 1})
    if known is None:
        store.run_entry = known = dict(document)
        store.insert()  # takes the next free number
    run_id = known["_id"]

    for name, values in metrics.items():
        stamps = [datetime.fromisoformat(stamp) for stamp in values["timestamps"]]
        columns = {**values, "timestamps": stamps}
        every = -(-len(stamps) // MOST_VALUES) or 1
        if every > 1:
            cut.append("metrics.json")
        update = {"$set": {column: content[::every] for column, content in columns.items()}}
        store.metrics.update_one({"run_id": run_id, "name": name}, update, upsert=True)
    sent = store.metrics.find({"run_id": run_id}, {"name": 1})
    document["info"]["metrics"] = [{"name": metric["name"], "id": str(metric["_id"])} for metric in sent]

    document["artifacts"] = known["artifacts"]
    if with_artifacts:
        names = [*run["artifacts"], *sorted({path.name for path in folder.glob("*.jsonl")} | set(cut))]
        if cut:
            logging.getLogger(LOGGER_NAME).warning(
                f"{folder} is too large for a document of MongoDB, which holds a part of it; "
                f"whole, as artifacts: {', '.join(sorted(set(cut)))}"
            )
        document["artifacts"] = [
            {"name": name, "file_id": _put(store, folder / name, f"artifact://{store.runs.name}/{run_id}/{name}")}
            for name in names
        ]
    store.runs.update_one({"_id": run_id}, {"$set": document})
    return run_id


def fit(document: Json) -> list[str]:
    """Cuts the largest entries of a run's document until MongoDB takes it; returns their names.

    Of a text the end stays, and nothing of anything else.
    """
    sizes = {key: _n_bytes(value) for key, value in document.items()}
    cut = []
    for key in sorted(sizes, key=lambda key: -sizes[key]):
        if sum(sizes.values()) > MOST_BYTES:
            document[key] = document[key][-TAIL:] if isinstance(document[key], str) else type(document[key])()
            sizes[key] = _n_bytes(document[key])
            cut.append(key)
    return cut


def _n_bytes(value: object) -> float:
    """Returns the size of a value in a document; infinite where MongoDB knows no such values."""
    try:
        return len(bson.encode({"": value}))
    except (InvalidDocument, OverflowError, UnicodeEncodeError, RecursionError):
        return float("inf")


def _read(path: Path) -> Json:
    """Returns what a file of the record holds; Sacred writes those of the results only when there are some."""
    if path.name in ("info.json", "metrics.json") and not path.exists():
        return {}
    return json.loads(path.read_text(encoding="utf-8"))


def _put(store: MongoObserver, path: Path, filename: str) -> object:
    """Stores a file unless it is there already; returns its id."""
    content = path.read_bytes()
    md5 = hashlib.md5(content).hexdigest()
    known = store.fs.find_one({"filename": filename, "md5": md5})
    content_type = mimetypes.guess_type(filename)[0]
    return known._id if known else store.fs.put(content, filename=filename, md5=md5, content_type=content_type)


class MongoRecords(RunObserver):
    """Sends a run's folder as the run goes on. Nothing that the database does or leaves undone stops the run."""

    priority = 0  # after FileStorageObserver, which gives the run its number and writes what is sent

    def __init__(self, address: str, files: FileRecords) -> None:
        """Asks once for the server at `address`; `files` is the FileStorageObserver whose folder is sent.

        Raises: UserError where the address is malformed, or the server refuses to be written to.
        """
        self._store, self._files, self._address = open_database(address), files, without_password(address)
        self._log = logging.getLogger(LOGGER_NAME)
        self._lock = threading.Lock()  # a last heartbeat may still be on its way when the run ends
        self._next_try = 0.0
        self._is_lost = not is_there(self._store)
        if self._is_lost:
            self._next_try = time.monotonic() + SEND_SECONDS
            self._log.warning(f"No MongoDB answers at {self._address}; the run is recorded on disk, to be sent later")

    def started_event(self, *, _id: object, **event: object) -> object:  # type: ignore[override]  # Sacred names all arguments
        unsent = json.dumps({"database": self._address}) + "\n"
        self._files.files.replace(UNSENT, unsent.encode())
        self.heartbeat_event()
        return _id

    def heartbeat_event(self, **event: object) -> None:  # type: ignore[override]  # Sacred names all arguments
        if time.monotonic() >= self._next_try:
            self._send()

    def _send(self, with_artifacts: bool = False) -> None:
        with self._lock:
            try:
                send(self._store, self._files.files.folder, with_artifacts)
            except (PyMongoError, *UNSENDABLE) as error:
                if not self._is_lost:
                    reason = str(error).partition(",")[0]
                    self._log.warning(f"MongoDB at {self._address} is lost ({reason}); the run goes on without it")
                self._is_lost = True
            else:
                if self._is_lost:
                    self._log.info(f"MongoDB at {self._address} is back and has what it missed")
                self._is_lost = False
            self._next_try = time.monotonic() + SEND_SECONDS

    def completed_event(self, **event: object) -> None:  # type: ignore[override]  # Sacred names all arguments
        if self._files.dir is None:
            return  # the run could not begin
        self._send(with_artifacts=True)
        folder = self._files.files.folder
        if not self._is_lost:
            (folder / UNSENT).unlink(missing_ok=True)
            return
        flag = "mongo_url" if "://" in self._address else "mongo_db"
        command = f"python -m experiments.send_records {folder} --{flag}={self._address}"
        self._log.warning(f"MongoDB has not got all of this run; send it with: {command}")

    interrupted_event = failed_event = completed_event  # type: ignore[assignment]
