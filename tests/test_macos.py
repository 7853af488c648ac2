"""What macOS lacks is not needed: programs run where Python does not offer it. That is as near to macOS as Linux comes:
`sys.platform` stays, since other packages choose their libraries by it.
"""

import json
import os
import subprocess
import sys

import pytest

import main

# Python runs a module of this name at the start of every process, those that the programs start included.
SITECUSTOMIZE = """
import ctypes, fcntl, mmap, multiprocessing, os, resource, select, signal, socket, sys
from pathlib import Path

LACKING = {
    os: "eventfd fdatasync getrandom getresuid getresgid getxattr listxattr memfd_create pidfd_open pipe2 "
    "posix_fadvise posix_fallocate removexattr sched_getaffinity sched_setaffinity sched_getparam sched_getscheduler "
    "setns setresuid setresgid setxattr splice unshare waitid copy_file_range "
    "O_DIRECT O_LARGEFILE O_NOATIME O_PATH O_TMPFILE",
    signal: "pidfd_send_signal sigtimedwait sigwaitinfo SIGCLD SIGPOLL SIGPWR SIGRTMAX SIGRTMIN SIGSTKFLT",
    select: "epoll",
    fcntl: "F_ADD_SEALS F_GETPIPE_SZ F_OFD_SETLK F_OFD_SETLKW F_SETPIPE_SZ F_SETSIG",
    mmap: "MAP_DENYWRITE MAP_EXECUTABLE MAP_POPULATE MADV_DONTFORK MADV_HUGEPAGE MADV_REMOVE",
    resource: "prlimit RLIMIT_RTPRIO RLIMIT_SIGPENDING",
    socket: "AF_NETLINK AF_PACKET AF_VSOCK SOCK_CLOEXEC SOCK_NONBLOCK",
}
for module, names in LACKING.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
multiprocessing.set_start_method("spawn")


class OfMacOS(ctypes.CDLL):
    def __getattr__(self, name):
        if name in ("mallopt", "malloc_trim"):
            raise AttributeError(name)
        return super().__getattr__(name)


ctypes.CDLL = OfMacOS
ROOT, LIBRARY, PACKAGES = {root!r}, os.path.dirname(os.__file__), "site-packages"


def is_lacking(path):  # for the project: other packages know by sys.platform that they are on Linux
    if not str(path).startswith(("/proc", "/sys", "/dev/shm")):
        return False
    frame = sys._getframe(2)
    while frame.f_back and is_standard(frame.f_code.co_filename):
        frame = frame.f_back
    return frame.f_code.co_filename.startswith(ROOT) and PACKAGES not in frame.f_code.co_filename


def is_standard(file):
    return file.startswith((LIBRARY, "<")) and PACKAGES not in file


def refuse(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], str) and is_lacking(arguments[0]):
        raise FileNotFoundError(2, "macOS has no such file", arguments[0])


def stat(path, *arguments, of_linux=os.stat, **named):
    if not isinstance(path, int) and is_lacking(os.fspath(path)):
        raise FileNotFoundError(2, "macOS has no such file", os.fspath(path))
    return of_linux(path, *arguments, **named)


os.stat = stat
sys.addaudithook(refuse)
"""
SHORT = ("t_max=60", "test_nepisode=2", "test_interval=40", "batch_size=2", "buffer_size=8", "rnn_hidden_dim=8")
WORLDS = ("--env-config=goal_game", "--runner=parallel", "--batch_size_run=2", "--seed=1")


@pytest.fixture(scope="module")
def on_macos(tmp_path_factory):
    """Runs a program of the project, or code, without what macOS lacks; returns what was printed."""
    hidden = tmp_path_factory.mktemp("macos")
    text = SITECUSTOMIZE.replace("{root!r}", repr(str(main.ROOT) + os.sep))
    (hidden / "sitecustomize.py").write_text(text, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(hidden), str(main.ROOT)))}

    def run(*words, cwd):
        command = [sys.executable, *map(str, words)]
        finished = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
        assert finished.returncode == 0, finished.stderr + finished.stdout
        return finished.stdout

    return run


@pytest.mark.parametrize(
    "words",
    ["import os; os.memfd_create('a')", "open('/proc/self/status')", "import pathlib; pathlib.Path('/proc').stat()"],
)
def test_what_macos_lacks_is_hidden(on_macos, tmp_path, words):
    (tmp_path / "program.py").write_text(words)
    with pytest.raises(AssertionError, match="AttributeError|macOS has no such file"):
        on_macos("-c", f"exec(compile({words!r}, {str(main.ROOT / 'program.py')!r}, 'exec'))", cwd=tmp_path)


@pytest.mark.slow
def test_a_training_in_worker_processes_with_its_buffer_on_disk_ends_and_goes_on(on_macos, tmp_path):
    words = (main.ROOT / "main.py", "--config=iql", *WORLDS, "with", *SHORT, "buffer_device=disk", "save_model=True")
    on_macos(*words, cwd=tmp_path)
    (model,) = (tmp_path / "results/models").iterdir()
    on_macos(*words, "t_max=90", f"checkpoint_path={model}", cwd=tmp_path)
    records = sorted((tmp_path / "results/sacred").glob("*/run.json"))
    assert [json.loads(path.read_text())["status"] for path in records] == ["COMPLETED"] * 2
