"""`--watch`: a page that follows runs while they go on, served to this machine only."""

import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from experiments.report.groups import group
from experiments.report.page import as_html
from experiments.report.runs import RECORD_FILES, find_runs, record_folders
from experiments.report.summary import summarise
from utils.errors import UserError

HOST = "127.0.0.1"


class Latest:
    """The page as of the newest records."""

    def __init__(self, places: Sequence[Path], at: int | None, every_seconds: int) -> None:
        self.places, self.at, self.every_seconds = places, at, every_seconds
        self.stamp, self.page = "", b""

    def update(self) -> bool:
        """Makes the page anew if any record has changed; returns whether it has.

        Raises: UserError where there are no runs with tests (yet).
        """
        if (stamp := self._stamp()) == self.stamp:
            return False
        runs, left_out = find_runs(self.places)
        summary = summarise(group(runs, left_out, self.at))
        self.page = as_html(summary, self.places, refresh_seconds=self.every_seconds).encode()
        self.stamp = stamp
        return True

    def _stamp(self) -> str:
        files = [folder / name for folder in record_folders(self.places) for name in (*RECORD_FILES, "run.json")]
        states = [(str(file), file.stat().st_mtime_ns) for file in files if file.is_file()]
        return f"{hash(tuple(states)):x}"


def make_server(latest: Latest, port: int) -> ThreadingHTTPServer:
    """Returns a server of the page and its stamp. Raises: UserError where the port is taken."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            contents = {"/": ("text/html; charset=utf-8", latest.page), "/stamp": ("text/plain", latest.stamp.encode())}
            kind, content = contents.get(self.path.partition("?")[0], ("text/plain", b"there is only the page /"))
            self.send_response(200 if self.path.partition("?")[0] in contents else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    try:
        return ThreadingHTTPServer((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        raise UserError(f"--port={port} can't be used ({error}); give another, or 0 for any that is free") from error


def serve(places: Sequence[Path], at: int | None, port: int, every_seconds: int) -> None:
    """Serves the page until Ctrl-C. Raises: UserError where there are no runs at the start, or the port is taken."""
    latest = Latest(places, at, every_seconds)
    latest.update()
    with make_server(latest, port) as server:
        print(f"http://{HOST}:{server.server_address[1]}/ (Ctrl-C ends it)", flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        pause = threading.Event()
        try:
            while not pause.wait(every_seconds):
                try:
                    latest.update()
                except UserError as error:  # a file is being written, perhaps
                    print(f"not updated: {error}", flush=True)
        finally:
            server.shutdown()
