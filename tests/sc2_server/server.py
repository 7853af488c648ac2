"""A process that poses as StarCraft II's binary: the game's protocol over a websocket, one client, one game.

`install.py` puts it in place and tells how to make it fail, `messages.py` answers what concerns a game.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from s2clientprotocol import sc2api_pb2
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

if TYPE_CHECKING:
    from tests.sc2_server.messages import Game

CLIENT_SECONDS = 60  # for a client to connect, before the process ends
GARBAGE = b"\xff\xfe\xfdno message"


class Fault(NamedTuple):
    """What SC2_STANDIN_FAULT orders."""

    kind: str
    at: str  # the number of a step, or "launch"
    always: bool

    @classmethod
    def ordered(cls) -> Fault | None:
        if not (order := os.environ.get("SC2_STANDIN_FAULT")):
            return None
        kind, _, at = order.removesuffix("!").partition("@")
        assert kind in ("crash", "hang", "garbage", "vanish"), order
        return cls(kind, at or "1", order.endswith("!"))


class Process:
    """Answers requests; fails where it was told to."""

    def __init__(self, build: int, binary: Path, folder: Path):
        self.build, self.binary, self.folder = build, binary, folder
        self.status = sc2api_pb2.launched
        self.game: Game | None = None
        self.n_steps = 0
        self.lonely = threading.Timer(CLIENT_SECONDS, os._exit, [1])
        self.fault = Fault.ordered()

    def serve(self, client: ServerConnection) -> None:
        """Answers this client until it quits or is gone, which ends the process."""
        self.lonely.cancel()
        try:
            while True:
                # pysc2 sends messages as text, though they are binary
                request = sc2api_pb2.Request.FromString(client.recv(decode=False))
                if request.WhichOneof("request") == "quit":
                    break
                if request.HasField("step"):
                    self.n_steps += 1
                    if self.fails_at(str(self.n_steps)):
                        client.send(GARBAGE)
                        continue
                client.send(self.answer(request).SerializeToString())
        except ConnectionClosed:
            pass
        finally:
            sys.stderr.flush()
            os._exit(0)

    def fails_at(self, place: str) -> bool:
        """Fails if this is the place; True where garbage is to be sent."""
        fault = self.fault
        if fault is None or fault.at != place or not (fault.always or self._is_first()):
            return False
        if fault.kind == "hang":
            time.sleep(3600)
        if fault.kind == "vanish":
            self.binary.unlink()
        if fault.kind != "garbage":
            os._exit(1)
        return True

    def _is_first(self) -> bool:
        try:
            (self.folder / "fault_happened").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def answer(self, request: sc2api_pb2.Request) -> sc2api_pb2.Response:
        kind = request.WhichOneof("request")
        response = sc2api_pb2.Response(id=request.id)
        try:
            self._answer(kind, getattr(request, kind), getattr(response, kind))
        except Refusal as refusal:
            response.Clear()
            response.id = request.id
            response.error.append(str(refusal))
        response.status = self.status
        return response

    def _answer(self, kind: str, request: object, response: object) -> None:
        from tests.sc2_server import messages

        response.SetInParent()  # type: ignore[attr-defined]
        if kind == "ping":
            messages.write_version(response, self.build)
        elif kind == "create_game":
            self.game = messages.Game.of(request, response, self.build)
            if self.game is not None:
                self.status = sc2api_pb2.init_game
        elif self.game is None:
            raise Refusal(f"{kind} needs a game, and none has been created")
        elif kind == "join_game":
            self.game.begin()
            response.player_id = messages.PLAYER  # type: ignore[attr-defined]
            self.status = sc2api_pb2.in_game
        elif kind == "restart_game":
            self.game.begin()
        elif kind == "leave_game":
            self.game, self.status = None, sc2api_pb2.launched
        elif self.status != sc2api_pb2.in_game or kind not in messages.ANSWERS:
            raise Refusal(f"the stand-in does not answer {kind} now")
        else:
            messages.ANSWERS[kind](self.game, request, response)


class Refusal(Exception):
    """Why a request is not answered."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=int, required=True)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("-listen", required=True)
    parser.add_argument("-port", type=int, required=True)
    parser.add_argument("-dataDir", type=Path, required=True)
    args, _ = parser.parse_known_args()  # the others are about pictures
    process = Process(args.build, args.binary, args.dataDir)
    process.fails_at("launch")
    # The engine takes a second to load, which is as long as pysc2 waits between its attempts to connect.
    threading.Thread(target=importlib.import_module, args=("tests.sc2_server.messages",), daemon=True).start()
    process.lonely.start()
    with serve(process.serve, args.listen, args.port, max_size=None, compression=None) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
