"""How much main memory is left, and how a number of bytes is printed."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from utils.errors import UserError

# Of each kind of control group: where they are, the files of limit and use, and the entry of memory.stat for files
# that the system keeps at hand and would give up.
_GROUPS = {
    "": ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def format_bytes(n_bytes: float) -> str:
    """Returns such as `2.0 GB`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:,.1f} {unit}"
    return f"{n_bytes:.0f} bytes"


@contextmanager
def sized_to_fit(remedy: str) -> Iterator[None]:
    """For what allocates as much as settings ask for.

    Raises: UserError where the memory inside was refused; the sentence ends with `remedy`.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch raises the second
        if isinstance(error, RuntimeError) and not re.search("can't allocate|not enough|out of memory", str(error)):
            raise
        left = format_bytes(free_memory())
        raise UserError(f"the run does not fit into memory, of which {left} are free; {remedy}") from error


def free_memory(root: Path = Path("/")) -> int:
    """Returns the bytes that this process can still take: what the machine has free, or less where a container's or a
    job's limit is nearer. `root` is where `proc` and `sys` are.
    """
    meminfo = root / "proc/meminfo"
    if not meminfo.is_file():  # not Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    lines = meminfo.read_text().splitlines()
    free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    return max(min([free, *_left_by_limits(root)]), 0)


def _left_by_limits(root: Path) -> Iterator[int]:
    """Bytes that each control group above this process leaves."""
    groups = root / "proc/self/cgroup"
    for line in groups.read_text().splitlines() if groups.is_file() else ():
        _, kinds, group = line.split(":", 2)
        kind = "memory" if "memory" in kinds.split(",") else kinds
        if kind not in _GROUPS:
            continue
        place, limit_file, used_file, files = _GROUPS[kind]
        inside = PurePosixPath(group.lstrip("/"))
        for folder in {root / place / level for level in (inside, *inside.parents)}:
            if not (folder / limit_file).is_file():
                continue  # a container sees its own group only, as the topmost one
            limit = (folder / limit_file).read_text().strip()
            if limit != "max":
                stat = dict(entry.split() for entry in (folder / "memory.stat").read_text().splitlines())
                yield int(limit) - int((folder / used_file).read_text()) + int(stat.get(files, 0))
