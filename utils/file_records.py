"""Sacred's record of a run in a folder, in the layout of its FileStorageObserver, on a disk that may fill up."""

import json
import os
import shutil
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

from utils.errors import UserError
from utils.files import Json
from utils.records import RecordFiles, files_of, write_whole

with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # Sacred 0.8 still imports the deprecated pkg_resources
    from sacred.dependencies import get_digest
    from sacred.observers import FileStorageObserver
    from sacred.serializer import flatten


class FileRecords(FileStorageObserver):
    """Records in `<basedir>/<id>/`. A disk without room delays files, and stops a run only before it has begun."""

    def __init__(self, basedir: Path) -> None:
        super().__init__(basedir)
        self._lock = threading.RLock()  # a last heartbeat may still be writing when the run ends
        self._metrics: dict[str, dict[str, list]] = {}

    @property
    def files(self) -> RecordFiles:
        """What writes the run's folder."""
        assert self.dir is not None, "the run has begun"
        return files_of(Path(self.dir))

    def queued_event(self, **event: object) -> object:  # type: ignore[override]  # Sacred names all arguments
        return self._begin(super().queued_event, event)

    def started_event(self, **event: object) -> object:  # type: ignore[override]  # Sacred names all arguments
        return self._begin(super().started_event, event)

    def _begin(self, record: Callable[..., object], event: Json) -> object:
        """Makes the folder with its first files.

        Raises: UserError where they can't be written; then the folder is not there.
        """
        try:
            run_id = record(**event)
            if self.files.problem:
                raise self.files.problem
        except OSError as error:
            if self.dir is not None:
                self.files.forget()
                shutil.rmtree(self.dir, ignore_errors=True)
                self.dir = None
            is_taken = isinstance(error, FileExistsError) and event["_id"] is not None
            place = error.filename if is_taken else self.basedir
            other = "--id" if is_taken else "local_results_path, or make room"
            raise UserError(f"a run can't be recorded in {place}: {error.strerror}; give another {other}") from error
        return run_id

    def _make_run_dir(self, _id: object) -> None:
        try:
            super()._make_run_dir(_id)
        except OSError:
            self.dir = None  # Sacred leaves the folder of another run there
            raise

    def find_or_save(self, filename: str, store_dir: Path) -> Path:
        stem, extension = os.path.splitext(os.path.basename(filename))
        path = store_dir / f"{stem}_{get_digest(filename)}{extension}"
        store_dir.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_whole(path, Path(filename).read_bytes())
        return path

    def save_json(self, obj: object, filename: str) -> None:
        """Writes what Sacred has to say. The run, in its own thread, may put more into `info` in the meantime."""
        with self._lock:
            self.files.replace(filename, json.dumps(flatten(_copied(obj)), sort_keys=True, indent=2).encode())

    def save_file(self, filename: str, target_name: str | None = None) -> None:
        name = target_name or os.path.basename(filename)
        if name in ("run.json", "config.json", "cout.txt", "metrics.json"):
            raise FileExistsError(f"{name} is a file of the record itself; give the artifact another name")
        self.files.replace(name, Path(filename).read_bytes())

    def save_cout(self) -> None:
        self.files.append("cout.txt", self.cout[self.cout_write_cursor :].encode())
        self.cout_write_cursor = len(self.cout)

    def log_metrics(self, metrics_by_name: dict[str, dict[str, list]], info: object) -> None:
        for name, new in metrics_by_name.items():
            known = self._metrics.setdefault(name, {"values": [], "steps": [], "timestamps": []})
            known["values"] += new["values"]
            known["steps"] += new["steps"]
            known["timestamps"] += [stamp.isoformat() for stamp in new["timestamps"]]
        self.save_json(self._metrics, "metrics.json")

    def completed_event(self, stop_time: object, result: object) -> None:
        super().completed_event(stop_time, result)
        self.files.finish()

    def interrupted_event(self, interrupt_time: object, status: object) -> None:
        super().interrupted_event(interrupt_time, status)
        self.files.finish()

    def failed_event(self, fail_time: object, fail_trace: object) -> None:
        if self.dir is not None:  # it has begun
            super().failed_event(fail_time, fail_trace)
            self.files.finish()


def _copied(value: object) -> object:
    """Returns copies of dicts and of dicts in them, which another thread may make larger while they are walked over."""
    if type(value) is not dict:
        return value
    return {key: _copied(entry) for key, entry in list(value.items())}
