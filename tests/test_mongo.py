"""Records in MongoDB, with pymongo, Sacred and a server that speaks MongoDB's protocol, in a process of its own.

The runs are tiny experiments of Sacred's under the observers of main.py.
"""

import json
import logging
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pymongo
import pytest
import yaml
from pymongo.errors import OperationFailure

import main
from experiments import send_records
from utils import mongo
from utils.errors import UserError

SERVER = Path(sys.executable).with_name("secantusd-py")
QUIET = {"--capture": "no"}
pytestmark = pytest.mark.sources


class Server:
    """A MongoDB server on a port of its own, which can be killed and started again."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.client = pymongo.MongoClient("127.0.0.1", self.port, serverSelectionTimeoutMS=30000)

    def start(self):
        storage = ["--storage-path", str(self.folder), "--sync-on-commit", "--log-level", "ERROR"]
        self.process = subprocess.Popen([SERVER, "--standalone", "--port", str(self.port), *storage])
        until(self.answers, seconds=60)

    def answers(self):
        try:
            return self.client.admin.command("ping")
        except pymongo.errors.AutoReconnect:  # over a connection to the server that was killed
            return None

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("mongo"))
    server.start()
    yield server
    server.client.close()
    server.kill()


@pytest.fixture
def database(server, request):
    """A database of the test's own: its `address`, and what it holds in `runs`, `metrics` and `files`."""
    name = re.sub(r"\W", "_", request.node.name)[:60]
    tables = server.client[name]
    address = f"127.0.0.1:{server.port}:{name}"
    return SimpleNamespace(address=address, runs=tables.runs, metrics=tables.metrics, files=tables["fs.files"])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(mongo, "SEND_SECONDS", 0.1)
    monkeypatch.setattr(logging.getLogger(mongo.LOGGER_NAME), "propagate", True)  # for caplog


def nobody():
    """An address where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}:nothing"


def play(folder, address, body, config=(), others=()):
    """Runs `body(run)` as an experiment whose records go to the folder and to the address; gives the run's folder."""
    from sacred import Experiment  # here: utils.mongo has silenced what it warns of

    from utils.file_records import FileRecords

    ex = Experiment("tiny", save_git_info=False)
    ex.add_config({"seed": 1, **dict(config)})
    files = FileRecords(folder)
    ex.observers += [files, mongo.MongoRecords(address, files), *others]
    ex.main(lambda _run: body(_run))
    ex.run(options={**QUIET, "--beat-interval": 0.05})
    return Path(files.dir)


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def short_run(run, n=3):
    for t in range(n):
        run.log_scalar("loss", t / 2, t * 10)
    run.info["loss"] = [0.0]
    return "done"


def content(table, file_id):
    return b"".join(chunk["data"] for chunk in table.database["fs.chunks"].find({"files_id": file_id}).sort("n"))


# --- what is sent


def test_a_document_is_what_sacreds_own_observer_writes(database, tmp_path):
    def body(run):
        run.add_artifact(__file__, name="weights.txt")
        return short_run(run)

    client = database.runs.database.client
    theirs = mongo.MongoObserver(client=client, db_name="theirs")
    play(tmp_path, database.address, body, others=[theirs])
    (ours,), (own,) = list(database.runs.find()), list(theirs.runs.find())
    assert ours.pop("record") and ours["status"] == "COMPLETED" and ours["result"] == "done"
    assert ours.keys() == own.keys()

    sources = [{name: content(table, i) for name, i in document["experiment"].pop("sources")}
               for table, document in ((database.runs, ours), (theirs.runs, own))]  # fmt: skip
    artifacts = [{a["name"]: content(table, a["file_id"]) for a in document.pop("artifacts")}
                 for table, document in ((database.runs, ours), (theirs.runs, own))]  # fmt: skip
    assert sources[0] == sources[1] and any(Path(__file__).read_bytes() == source for source in sources[0].values())
    assert artifacts[0] == artifacts[1] == {"weights.txt": Path(__file__).read_bytes()}

    for document, table in ((ours, database.metrics), (own, theirs.metrics)):
        (entry,), (metric,) = document["info"].pop("metrics"), list(table.find())
        assert entry == {"name": "loss", "id": str(metric.pop("_id"))}
        assert metric.pop("run_id") == document["_id"]
        document["metric"] = metric
    assert ours["metric"]["steps"] == [0, 10, 20] and ours["metric"]["values"] == [0, 0.5, 1]
    for key in ours:
        assert ours[key] == own[key], key


def test_a_running_run_is_seen_with_its_heartbeat_and_its_metrics(database, tmp_path):
    def body(run):
        assert database.runs.find_one()["status"] == "RUNNING"
        run.log_scalar("loss", 1.0, 0)
        until(lambda: database.metrics.count_documents({}))
        beat = database.runs.find_one()["heartbeat"]
        until(lambda: database.runs.find_one()["heartbeat"] != beat)
        until(lambda: "loss" in str(database.runs.find_one()["info"]))

    play(tmp_path, database.address, body)
    assert database.runs.find_one()["status"] == "COMPLETED"


def test_the_files_of_records_are_artifacts(database, tmp_path):
    folder = play(tmp_path, database.address, short_run)
    for lines in (b'{"won": true}\n', b'{"won": true}\n{"won": false}\n'):
        (folder / "test_episodes.jsonl").write_bytes(lines)
        assert send_records.main([str(folder), f"--mongo_db={database.address}"]) == 0
        (artifact,) = database.runs.find_one()["artifacts"]
        assert artifact["name"] == "test_episodes.jsonl" and content(database.runs, artifact["file_id"]) == lines


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "INTERRUPTED"), (ZeroDivisionError, "FAILED")])
def test_a_run_that_does_not_complete_says_so(database, tmp_path, error, status):
    def body(run):
        raise error

    with pytest.raises(error):
        play(tmp_path, database.address, body)
    assert database.runs.find_one()["status"] == status and "stop_time" in database.runs.find_one()


def test_six_runs_at_once_get_numbers_and_folders_of_their_own(database, tmp_path):
    together = threading.Barrier(6)
    folders = {}

    def start(label):
        def body(run):
            together.wait()
            short_run(run, n=label)

        together.wait()
        folders[label] = play(tmp_path, database.address, body, {"label": label})

    threads = [threading.Thread(target=start, args=(label,)) for label in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    documents = {document["config"]["label"]: document for document in database.runs.find()}
    assert sorted(document["_id"] for document in documents.values()) == [1, 2, 3, 4, 5, 6]
    assert len(set(folders.values())) == 6
    for label, document in documents.items():
        assert json.loads((folders[label] / "config.json").read_text())["label"] == label
        assert len(database.metrics.find_one({"run_id": document["_id"]})["steps"]) == label


# --- a database that is not there


@pytest.mark.slow
def test_a_server_killed_in_the_middle_stops_nothing_and_gets_all_of_it_in_the_end(server, database, tmp_path, caplog):
    caplog.set_level("INFO")

    def body(run):
        run.log_scalar("loss", 1.0, 1)
        until(lambda: database.metrics.count_documents({}))
        server.kill()
        run.log_scalar("loss", 2.0, 2)
        run.log_scalar("later", 2.0, 2)
        until(lambda: "is lost" in caplog.text)
        server.start()
        until(lambda: "is back" in caplog.text)
        run.log_scalar("loss", 3.0, 3)

    folder = play(tmp_path, database.address, body)
    assert json.loads((folder / "run.json").read_text())["status"] == "COMPLETED"
    assert caplog.text.count("is lost") == 1 and not (folder / mongo.UNSENT).exists()
    assert [document["status"] for document in database.runs.find()] == ["COMPLETED"]
    metrics = {metric["name"]: metric["values"] for metric in database.metrics.find()}
    assert metrics == {"loss": [1, 2, 3], "later": [2]}


@pytest.mark.slow
def test_without_a_server_a_run_is_recorded_on_disk_and_sent_later_once(database, tmp_path, caplog, capsys):
    started = time.monotonic()
    address = nobody()
    folder = play(tmp_path, address, short_run)
    assert time.monotonic() - started < 25  # the driver itself would wait for 30
    assert f"No MongoDB answers at {address}" in caplog.text
    assert f"python -m experiments.send_records {folder} --mongo_db={address}" in caplog.text
    assert json.loads((folder / "run.json").read_text())["status"] == "COMPLETED"

    assert send_records.main([str(tmp_path), f"--mongo_db={database.address}"]) == 0
    assert capsys.readouterr().out == f"{folder}: run 1 in {database.address}\n"
    (document,), (metric,) = list(database.runs.find()), list(database.metrics.find())
    assert document["status"] == "COMPLETED" and metric["values"] == [0, 0.5, 1]
    n_files = database.files.count_documents({})

    assert send_records.main([str(tmp_path), f"--mongo_db={database.address}"]) == 0
    assert capsys.readouterr().out == "there is nothing to send\n"
    assert send_records.main([str(folder), f"--mongo_db={database.address}"]) == 0
    assert list(database.runs.find()) == [document] and list(database.metrics.find()) == [metric]
    assert database.files.count_documents({}) == n_files


def test_what_half_arrived_is_completed(database, tmp_path):
    folder = play(tmp_path, database.address, short_run)
    whole = database.runs.find_one()
    database.metrics.delete_many({})
    database.files.delete_many({})
    database.runs.update_one({}, {"$set": {"status": "RUNNING", "info": {}}, "$unset": {"stop_time": 1}})
    mongo.send(mongo.open_database(database.address), folder)
    document = database.runs.find_one()
    assert {k: v for k, v in document.items() if k not in ("info", "experiment")} == {
        k: v for k, v in whole.items() if k not in ("info", "experiment")
    }
    assert database.metrics.find_one()["values"] == [0, 0.5, 1]
    for _, file_id in document["experiment"]["sources"]:
        assert content(database.runs, file_id)


def test_a_database_that_takes_nothing_more_does_not_stop_the_run(database, tmp_path, monkeypatch):
    def body(run):
        def refuse(*_):
            raise OperationFailure("quota exceeded")

        monkeypatch.setattr(mongo, "send", refuse)
        return short_run(run)

    folder = play(tmp_path, database.address, body)
    assert json.loads((folder / "run.json").read_text())["status"] == "COMPLETED"
    assert (folder / mongo.UNSENT).exists() and database.runs.find_one()["status"] == "RUNNING"


def test_an_answer_is_waited_for_one_second():
    options = mongo.open_database("mongodb://somewhere/db").runs.database.client.options
    assert options.server_selection_timeout == 1 and options.pool_options.connect_timeout == 1


@pytest.mark.slow
def test_a_run_that_is_still_running_is_left_to_itself(database, tmp_path, capsys):
    def body(run):
        (folder,) = tmp_path.glob("[0-9]*")
        assert send_records.main([str(folder), f"--mongo_db={database.address}"]) == 0

    folder = play(tmp_path, nobody(), body)
    assert capsys.readouterr().out.startswith(f"{folder}: still running")
    assert database.runs.count_documents({}) == 0


# --- what MongoDB does not take


@pytest.mark.slow
def test_a_record_that_is_too_large_arrives_without_its_bulk_and_the_next_one_arrives_too(
    database, tmp_path, caplog, capsys
):
    def large(run):
        run.log_scalar("loss", 1.0, 1)
        run.info["loss"] = [0.5] * 650_000
        run.info["loss_T"] = list(range(650_000))
        return "done"

    first, second = play(tmp_path, nobody(), large), play(tmp_path, nobody(), short_run)
    long = {"values": [0.5] * 650_000, "steps": list(range(650_000)), "timestamps": ["2026-01-01T00:00:00"] * 650_000}
    (second / "metrics.json").write_text(json.dumps({"long": long}))
    caplog.clear()
    assert send_records.main([str(tmp_path), f"--mongo_db={database.address}"]) == 0
    assert capsys.readouterr().out.count(": run ") == 2 and caplog.text.count("too large") == 2

    (document, other), metrics = database.runs.find().sort("_id"), {m["name"]: m for m in database.metrics.find()}
    assert document["status"] == other["status"] == "COMPLETED" and document["config"]["seed"] == 1
    assert document["info"].keys() == {"metrics"} and metrics["loss"]["values"] == [1]
    (artifact,) = document["artifacts"]
    assert artifact["name"] == "info.json"
    assert content(database.runs, artifact["file_id"]) == (first / "info.json").read_bytes()
    steps = metrics["long"]["steps"]
    assert len(steps) == len(metrics["long"]["values"]) <= mongo.MOST_VALUES and steps == list(range(0, 650_000, 3))
    assert [artifact["name"] for artifact in other["artifacts"]] == ["metrics.json"]


def test_of_a_text_that_is_too_long_the_end_stays_and_what_bson_has_no_form_for_goes():
    document = {"captured_out": "x" * mongo.MOST_BYTES + "end", "config": {"seed": 10**30}, "status": "COMPLETED"}
    assert sorted(mongo.fit(document)) == ["captured_out", "config"]
    assert document["captured_out"].endswith("end") and len(document["captured_out"]) == mongo.TAIL
    assert document["config"] == {} and document["status"] == "COMPLETED"
    document = {"captured_out": "x" * 2**20, "config": {"seed": 1}}
    assert mongo.fit(document) == [] and document["config"] == {"seed": 1}


@pytest.mark.slow
def test_a_record_that_is_torn_does_not_keep_the_next_one_back(database, tmp_path, capsys):
    torn, whole = play(tmp_path, nobody(), short_run), play(tmp_path, nobody(), short_run)
    (torn / "info.json").write_text('{"loss"')
    capsys.readouterr()
    assert send_records.main([str(tmp_path), f"--mongo_db={database.address}"]) == 2
    printed = capsys.readouterr()
    assert printed.out == f"{whole}: run 1 in {database.address}\n" and (torn / mongo.UNSENT).exists()
    assert printed.err.startswith(f"error: {torn / 'info.json'} is no") and printed.err.count("\n") == 1


# --- mistakes and secrets


@pytest.mark.parametrize(
    ("address", "fragment"),
    [
        ("somewhere:port:db", "'somewhere:port:db' is no address"),
        ("me:secret@somewhere", "'me:***@somewhere' is no address"),
        ("127.0.0.1:1:db!5", "names a run or a priority"),
        ("mongodb://somewhere", "mongo_url=mongodb://somewhere is no address"),
        ("mongodb://me:se/cret@somewhere/db", "mongo_url=mongodb://me:***@somewhere/db is no address"),
        ("mongodb://me:secret@somewhere:port/db?appName=secret", "mongo_url=mongodb://me:***@somewhere:port/db is no"),
    ],
)
def test_an_address_that_is_none_is_a_mistake(address, fragment):
    with pytest.raises(UserError) as mistake:
        mongo.open_database(address)
    assert fragment in str(mistake.value) and "cret" not in str(mistake.value)


def test_a_server_that_refuses_is_a_mistake(monkeypatch):
    store = mongo.open_database("db")

    def refuse(*_, **__):
        raise OperationFailure("not authorized on db, full error: {...}")

    monkeypatch.setattr(type(store.runs), "create_index", refuse)
    with pytest.raises(UserError, match="not authorized on db; check the user and the password"):
        mongo.is_there(store)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("mongodb://me@host,other:5/db", "mongodb://me@host,other:5/db"),
        ("mongodb+srv://me:p%40ss@host/db?x=a@b", "mongodb+srv://me:***@b"),
        ("127.0.0.1:27017:db", "127.0.0.1:27017:db"),
    ],
)
def test_of_an_address_all_but_password_and_options_is_shown(address, shown):
    assert mongo.without_password(address) == shown


@pytest.mark.parametrize(
    "params",
    [["--mongo_url=mongodb://me:secret@host/db"], ["with", "mongo_url=mongodb://me:secret@host/db?token=secret"]],
)
def test_no_password_gets_into_what_is_recorded(params):
    config, _, options = main._configure(main._experiment(), ["--config=iql", "--env-config=sc2", *params])
    address = main._take_database(config, options)
    assert "me:secret@host/db" in address
    assert "secret" not in json.dumps([config, options]) and config["mongo_url"] == "mongodb://me:***@host/db"


def test_sacreds_flag_is_ours_and_two_databases_are_a_mistake():
    params = ["--config=iql", "--env-config=sc2", "--mongo_db=host:1:db"]
    config, _, options = main._configure(main._experiment(), list(params))
    assert main._take_database(config, options) == "host:1:db" and options["--mongo_db"] is None
    config, _, options = main._configure(main._experiment(), [*params, "--mongo_url=mongodb://host/db"])
    with pytest.raises(UserError, match="give one of them"):
        main._take_database(config, options)


@pytest.mark.parametrize(
    ("params", "fragment"),
    [
        ((), "the following arguments are required"),
        (("/nowhere", "--mongo_db=db"), "/nowhere is no folder"),
        ((".", "--mongo_db=db", "--mongo_url=mongodb://h/db"), "not allowed with"),
    ],
)
def test_mistakes_of_sending_are_one_sentence(capsys, params, fragment):
    assert send_records.main(list(params)) == 2
    message = capsys.readouterr().err
    assert fragment in message and message.count("\n") == 1


@pytest.mark.slow
def test_sending_needs_a_server_and_whole_records(database, tmp_path, capsys):
    (tmp_path / "run.json").write_text('{"status": "COMP')
    address = nobody()
    for place, fragment in ((address, f"no MongoDB answers at {address}"), (database.address, "is no complete record")):
        assert send_records.main([str(tmp_path), f"--mongo_db={place}"]) == 2
        assert fragment in capsys.readouterr().err


def test_the_compose_file_gives_the_database_that_its_own_command_names():
    text = (Path(main.__file__).parent / "compose.yaml").read_text()
    services = yaml.safe_load(text)["services"]
    host, port, name = re.search(r"--mongo_db=(\S+)", text)[1].split(":")
    assert services["mongo"]["ports"] == [f"{host}:{port}:27017"]
    assert services["omniboard"]["command"] == ["-m", f"mongo:27017:{name}"]
    for service in services.values():
        assert re.search(r":\w", service["image"])
        assert all(published.startswith("127.0.0.1:") for published in service["ports"])
    (volume,) = yaml.safe_load(text)["volumes"]
    assert services["mongo"]["volumes"] == [f"{volume}:/data/db"]
