"""How much main memory is found to be free, under every kind of limit."""

import pytest

from utils.memory import format_bytes, free_memory

V1 = "sys/fs/cgroup/memory"


def machine(root, groups, files):
    """A root folder: 8 GB free, `proc/self/cgroup`, and (limit, used, cached files) of control groups."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text("MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n")
    (root / "proc/self/cgroup").write_text(groups)
    for folder, (limit, used, cached) in files.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        is_v1 = folder.startswith(V1)
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if is_v1 else ("memory.max", "memory.current")
        for name, value in zip(names, (limit, used)):
            (root / folder / name).write_text(f"{value}\n")
        cache = "total_inactive_file" if is_v1 else "inactive_file"
        (root / folder / "memory.stat").write_text(f"anon 5\n{cache} {cached}\n")
    return root


@pytest.mark.parametrize(
    ("groups", "files", "free"),
    [
        ("", {}, 8_192_000_000),
        ("0::/\n", {"sys/fs/cgroup": ("max", 10**9, 0)}, 8_192_000_000),
        ("0::/\n", {"sys/fs/cgroup": (4 * 10**9, 3 * 10**9, 5 * 10**8)}, 15 * 10**8),
        (
            "0::/job/step\n",
            {"sys/fs/cgroup/job/step": ("max", 7, 0), "sys/fs/cgroup/job": (10**9, 10**8, 0)},
            9 * 10**8,
        ),
        ("4:cpu,memory:/job\n", {f"{V1}/job": (10**9, 10**8, 0)}, 9 * 10**8),
        ("4:memory:/job\n", {V1: (10**9, 10**8, 10)}, 9 * 10**8 + 10),  # as a container sees its own group
        ("4:memory:/\n3:cpu:/\n0::/\n", {V1: (2**63 - 4096, 10**8, 0)}, 8_192_000_000),
        ("0::/\n", {"sys/fs/cgroup": (10**9, 2 * 10**9, 0)}, 0),
    ],
)
def test_the_nearest_limit_counts(tmp_path, groups, files, free):
    assert free_memory(machine(tmp_path, groups, files)) == free


def test_this_machine_has_some():
    assert free_memory() > 10**7


@pytest.mark.parametrize(
    ("n_bytes", "words"),
    [
        (999, "999 bytes"),
        (3_302_526_000_000, "3,302.5 GB"),
        (2_036_430_000, "2.0 GB"),
        (5.5e6, "5.5 MB"),
        (3366, "3.4 kB"),
    ],
)
def test_bytes_in_words(n_bytes, words):
    assert format_bytes(n_bytes) == words
