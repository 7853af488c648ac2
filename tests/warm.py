"""Processes that begin with the imports of a training, which take seconds, already done: they are forked from one that
has done no more than these.
"""

import multiprocessing
import os
import sys
import types
from multiprocessing import forkserver
from pathlib import Path
from unittest.mock import patch

import main

WARM = multiprocessing.get_context("forkserver")
PRELOADED = ("torch._dynamo", "sacred", "run", "learners.q_learner", "tests.test_checkpoints")


def warm_process(target, *args):
    """A process, not yet started, that calls `target`, a function of a module."""
    WARM.set_forkserver_preload(list(PRELOADED))
    with patch.dict(os.environ, PYTHONPATH=str(main.ROOT)):  # by which it finds them
        forkserver.ensure_running()
    return WARM.Process(target=target, args=args)


def run_program(code, folder):
    """Runs a Python program in a folder; returns its exit status and what it wrote to standard error."""
    errors = Path(folder) / "stderr.txt"
    errors.touch()  # also where the process dies before its first line
    process = warm_process(_as_program, code, str(folder), str(errors))
    process.start()
    process.join(600)
    process.kill()
    return process.exitcode, errors.read_text()


def _as_program(code, folder, errors):
    os.dup2(os.open(errors, os.O_WRONLY), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.chdir(folder)
    os.environ["MPLBACKEND"] = "Agg"
    program = sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(code, "program", "exec"), program.__dict__)
