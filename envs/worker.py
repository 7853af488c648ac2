"""A process that plays one world for a `ProcessVectorEnv` (vector.py): `Worker` from outside, `work` from inside.

It is sent calls, (method, arguments), and answers each with (number of the call, its result or a `Failure`); arrays go
through shared memory. It ends when its pipe does: that was closed, or the process at the other end is no more. A shell
beside it ends it, with all that it started, where it can't do so itself.
"""

import fcntl
import mmap
import multiprocessing
import os
import pickle
import signal
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from io import FileIO
from multiprocessing.connection import Connection
from multiprocessing.reduction import DupFd
from typing import Any, NamedTuple

import numpy as np

from envs.multiagentenv import EnvInfo, Observations, Outcomes
from utils.command import NOT_GUARDED, check_guarded, main_script
from utils.errors import UserError, describe_exit
from utils.signals import STOP_SIGNALS

SPAWN = multiprocessing.get_context("spawn")  # a fork would copy locks that threads of torch or numba hold
GRACE_SECONDS = 5  # for closing the world when the process at the other end is no more
# Waits for the end of the process that made the worker, and for the worker's own; then kills the worker's group.
GUARD = f"(read _ <&3; sleep {GRACE_SECONDS}; kill -9 0) & read _; kill -9 0"


class WorkerLost(Exception):
    """The reason for which a worker has not answered."""


class Failure(NamedTuple):
    """An exception of a world, as it travels."""

    kind: type[Exception]  # UserError, ValueError or else RuntimeError
    text: str  # the user's sentence, or the traceback

    @classmethod
    def of(cls, error: Exception | SystemExit) -> "Failure":
        if isinstance(error, SystemExit):
            return cls(UserError, describe_exit(error))
        if isinstance(error, UserError):
            return cls(UserError, str(error))
        return cls(ValueError if isinstance(error, ValueError) else RuntimeError, traceback.format_exc())


class SharedStep(NamedTuple):
    """What worlds and their runner exchange at a step, as views of their rows in shared memory."""

    actions: np.ndarray  # [batch, agent] int64
    observations: Observations
    outcomes: Outcomes

    @classmethod
    def of(cls, rows: np.ndarray) -> "SharedStep":
        """Views of rows [batch] of the dtype `row_type`."""
        info = {key: rows["info"][key] for key in rows.dtype["info"].names or ()}
        outcomes = Outcomes(info=info, **{key: rows[key] for key in ("reward", "terminated", "truncated", "lost")})
        assert rows.dtype.names is not None
        seen = {name: rows[name] for name in rows.dtype.names if name not in cls._fields + Outcomes._fields}
        return cls(rows["actions"], Observations(**seen), outcomes)


def row_type(env_info: EnvInfo, info_keys: Sequence[str]) -> np.dtype:
    """Returns the layout of one world's row."""
    seen, outcomes = Observations.empty(1, env_info), Outcomes.empty(1, info_keys, env_info)
    fields = {"actions": np.zeros((1, env_info["n_agents"]), np.int64), **vars(seen), **outcomes._asdict()}
    info = np.dtype([(key, array.dtype) for key, array in fields.pop("info").items()])
    layout = [(name, array.dtype, array.shape[1:]) for name, array in fields.items()]
    return np.dtype([*layout, ("info", info)], align=True)


class MemoryFile(FileIO):
    """Memory without a name, for processes that get this file at their start; gone when the last of them is."""

    @classmethod
    def new(cls) -> "MemoryFile":
        if hasattr(os, "memfd_create"):
            return cls(os.memfd_create("worlds"), "r+")
        with tempfile.TemporaryFile() as file:
            return cls(os.dup(file.fileno()), "r+")

    def map(self) -> mmap.mmap:
        return mmap.mmap(self.fileno(), 0)  # all of it

    def __reduce_ex__(self, protocol: object) -> tuple[object, ...]:  # files have one of their own since Python 3.12
        return _attach, (DupFd(self.fileno()),)


def _attach(duplicate: Any) -> MemoryFile:
    return MemoryFile(duplicate.detach(), "r+")


class Worker:
    """One worker process from outside. `recipe` is the pickled (class, arguments) of its world."""

    def __init__(self, index: int, seed: int, recipe: bytes, file: MemoryFile):
        check_guarded()
        self.script = main_script()
        self.connection, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=work, args=(theirs, index, seed, recipe, file), name=f"environment {index}")
        self.n_calls = 0
        # The process starts with these blocked, and unblocks them when it has handlers of its own.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            theirs.close()

    def send(self, method: str, arguments: tuple, timeout_seconds: float) -> None:
        """Makes a call; its answer must have come before the time is out."""
        self.n_calls += 1
        self.timeout_seconds, self.deadline = timeout_seconds, time.monotonic() + timeout_seconds
        with suppress(ConnectionError):  # whoever waits for the answer learns that the worker has died
            self.connection.send((method, arguments))

    def answer(self) -> Any:
        """Returns the answer to the last call; one to an earlier call, whose wait was interrupted, is thrown away.

        Raises: WorkerLost where none comes. UserError where the program's main script starts its work in workers, too.
        """
        number, answer = -1, None
        while number != self.n_calls:
            if not self.connection.poll(max(self.deadline - time.monotonic(), 0)):
                raise WorkerLost(f"was silent for {self.timeout_seconds:g} s")
            try:
                number, answer = self.connection.recv()
            except (EOFError, ConnectionError):
                self.process.join(1)
                code = self.process.exitcode
                if code == NOT_GUARDED:
                    raise UserError(
                        f"{self.script} is run again by each worker process that it starts; "
                        'put what it does under `if __name__ == "__main__":`'
                    ) from None
                how = f"signal {signal.Signals(-code).name}" if code and code < 0 else f"exit status {code}"
                raise WorkerLost(f"died ({how})") from None
        return answer

    def kill(self) -> None:
        """Ends the process, with all that its world has started, and waits for its end."""
        self.connection.close()
        assert self.process.pid is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()


class World:
    """One world, its row of the shared memory, and what can be asked of it."""

    def __init__(self, index: int, seed: int, recipe: bytes, file: MemoryFile):
        env_class, env_args = pickle.loads(recipe)
        self.env = env_class.vector([seed], **env_args)
        self.index, self.file = index, file
        self.shared: SharedStep | None = None

    def call(self, method: str, arguments: tuple) -> object:
        """Calls one of the methods below or, by any other name, the world's own."""
        return getattr(self if hasattr(World, method) else self.env, method)(*arguments)

    def launch(self) -> tuple[EnvInfo, tuple[str, ...], bool]:
        """Returns what is known once the world is made."""
        return self.env.get_env_info(), tuple(self.env.info_keys), self.env.keeps_replays

    def reset(self) -> None:
        if self.shared is None:
            row = row_type(self.env.get_env_info(), self.env.info_keys)
            self.shared = SharedStep.of(np.ndarray(1, row, self.file.map(), self.index * row.itemsize))
        self.env.reset(self.shared.observations)

    def step(self) -> None:
        assert self.shared is not None
        # a copy, since a world may keep what it is given
        self.env.step(self.shared.actions.copy(), self.shared.observations, self.shared.outcomes)

    def close(self) -> None:
        self.env.close()


def work(connection: Connection, index: int, seed: int, recipe: bytes, file: MemoryFile) -> None:
    """The process: answers calls until the pipe ends."""
    for number in STOP_SIGNALS:  # whether to stop is decided at the other end
        signal.signal(number, lambda *_: None)  # no SIG_IGN: a program that the world starts would inherit it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    os.setpgrp()  # so that what the world starts, such as a game, can be killed along with it
    _guard_group()
    world, n_calls = None, 0
    try:
        while True:
            method, arguments = connection.recv()
            n_calls += 1
            try:
                world = world or World(index, seed, recipe, file)
                connection.send((n_calls, world.call(method, arguments)))
            except (Exception, SystemExit) as error:
                connection.send((n_calls, Failure.of(error)))
    except (EOFError, ConnectionError):
        pass
    finally:
        if world is not None:
            world.close()


def _guard_group() -> None:
    """Starts the shell that kills this process, with all that it started, if it outlives its parent: it may be stuck in
    its world, or stopped. However this process ends, what it started is killed, too.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    ours, theirs = os.pipe()  # only this process holds the end `theirs`, and leaves it to the system to close it
    above = fcntl.fcntl(parent.sentinel, fcntl.F_DUPFD_CLOEXEC, 10)  # no 3 becomes 3, which not all systems do
    ends = [(os.POSIX_SPAWN_DUP2, ours, 0), (os.POSIX_SPAWN_DUP2, above, 3)]
    os.posix_spawnp("sh", ["sh", "-c", GUARD], os.environ, file_actions=ends)
    os.close(ours)
    os.close(above)
