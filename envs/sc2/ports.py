"""Ports for games. The package portpicker, which pysc2 asks, now and then returns the same one to two processes: it
looks which port is free, and the game binds it seconds later; the second game fails, or two workers talk to the first.
"""

import random
import socket

HOST = "127.0.0.1"
PORTS = range(15000, 25000)  # below those that the system chooses for connections


class PortPicker:
    """The functions of portpicker that pysc2 calls. A port is given once on this machine until it is returned or the
    process ends, however that comes, whoever else picks by this class. Linux only.
    """

    def __init__(self) -> None:
        self._claims: dict[int, socket.socket] = {}

    def pick_unused_port(self) -> int:
        """Raises: OSError where none can be had."""
        error: OSError | None = None
        for port in random.SystemRandom().sample(PORTS, 200):
            claim = socket.socket(socket.AF_UNIX)
            try:
                claim.bind(f"\0starcraft-port-{port}")  # a name without a file, that the system frees with the process
                with socket.socket() as trial:
                    trial.bind((HOST, port))
            except OSError as reason:
                error = reason
                claim.close()
            else:
                self._claims[port] = claim
                return port
        raise OSError(f"no port of {HOST} can be bound ({error})")

    def return_port(self, port: int) -> None:
        if port in self._claims:
            self._claims.pop(port).close()
