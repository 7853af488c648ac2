"""What the doctor says about every state in which StarCraft II and its packages can be, and what it exits with."""

import importlib
import json
import os
import platform
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from envs.sc2 import doctor, ports
from envs.sc2.doctor import MISSING, OK, UNTRIED, WRONG
from envs.worker import Worker
from tests.sc2_server.install import install

STANDARD_LIBRARY = [path for path in sys.path if not path.endswith("site-packages")]
PACKAGES = ("smac", "pysc2", "s2clientprotocol", "pys2clientprotocol", "protobuf")


class Site:
    """A folder of packages that stands in for all that are installed."""

    def __init__(self, folder):
        self.folder = folder

    def install(self, name, version, *modules, summary="", code=""):
        info = self.folder / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: {summary}\n")
        for module in modules:
            path = self.folder / module
            path.mkdir(parents=True)
            (path / "__init__.py").write_text(code)
        importlib.invalidate_caches()


@pytest.fixture
def site(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    folder.mkdir()
    for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [*STANDARD_LIBRARY, str(folder)])
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.delenv("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", raising=False)
    return Site(folder)


@pytest.fixture
def game(tmp_path, monkeypatch):
    """The folder of a sound installation, to which SC2PATH points."""
    folder = install(tmp_path / "StarCraftII")
    monkeypatch.setenv("SC2PATH", str(folder))
    return folder


def binary_of(game):
    return game / "Versions" / "Base75689" / "SC2_x64"


def assert_check(check, state, found="", remedy=""):
    assert check.state == state and found in check.found and remedy in check.remedy, check
    assert bool(check.remedy) == (state in (MISSING, WRONG))


# --- the system and the packages


@pytest.mark.parametrize("system, machine", [("Linux", "aarch64"), ("Darwin", "x86_64")])
def test_the_game_runs_on_linux_on_x86_64_only(system, machine, monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert_check(doctor.check_system(), WRONG, f"{system} on {machine}", "engine=sim")


def test_the_right_smac_is_told_from_smac3(site):
    assert_check(doctor.check_smac(), MISSING, "not installed", "requirements-sc2.txt")
    site.install("smac", "2.3.1", "smac", summary="SMAC3, a Bayesian optimizer")
    assert_check(
        doctor.check_smac(), WRONG, "smac 2.3.1 is not StarCraft's, but: SMAC3", "pip uninstall -y smac && pip"
    )
    (site.folder / "smac" / "env" / "starcraft2").mkdir(parents=True)
    assert_check(doctor.check_smac(), OK, "SMAC 2.3.1")


def test_a_smac_without_metadata_is_judged_by_its_files(site):
    package = site.folder / "smac"
    package.mkdir()
    (package / "__init__.py").touch()
    assert_check(doctor.check_smac(), WRONG, str(package))
    (package / "env" / "starcraft2").mkdir(parents=True)
    assert_check(doctor.check_smac(), OK, "SMAC without a version")


@pytest.mark.parametrize("version, state", [(None, MISSING), ("2.0.2", WRONG), ("4.0.0", OK)])
def test_pysc2_is_there_and_new_enough(version, state, site):
    if version:
        site.install("pysc2", version)
    assert_check(doctor.check_pysc2(), state, version or "not installed")


@pytest.mark.parametrize(
    "packages, state, found, remedy",
    [
        ({"protobuf": "5.1"}, MISSING, "neither s2clientprotocol nor", "requirements-sc2.txt"),
        ({"s2clientprotocol": "5.0.17"}, MISSING, "protobuf is not installed", "requirements-sc2.txt"),
        ({"s2clientprotocol": "5.0.17", "protobuf": "3.20.3"}, OK, "s2clientprotocol 5.0.17 with protobuf 3.20.3", ""),
        ({"s2clientprotocol": "5.0.17", "protobuf": "4.25.1"}, WRONG, "needs protobuf 3", "install protobuf==3.20.3"),
        ({"s2clientprotocol": "5.0.17", "protobuf": "7.36.2"}, WRONG, "needs protobuf 3", "install pys2clientprotocol"),
        ({"pys2clientprotocol": "1.0.2", "protobuf": "7.36.2"}, OK, "pys2clientprotocol 1.0.2 with protobuf 7", ""),
        ({"pys2clientprotocol": "1.0.2", "protobuf": "3.20.3"}, WRONG, "protobuf 6 or 7", '"protobuf>=6,<8"'),
        (
            {"s2clientprotocol": "5.0", "pys2clientprotocol": "1.0.2", "protobuf": "7.36.2"},
            WRONG,
            "over each other",
            "pip uninstall -y s2clientprotocol pys2clientprotocol && pip install",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
)
def test_the_protocol_goes_with_the_version_of_protobuf(packages, state, found, remedy, site):
    for name, version in packages.items():
        site.install(name, version)
    assert_check(doctor.check_protocol(), state, found, remedy)


def test_the_slow_protobuf_reads_old_messages(site, monkeypatch):
    monkeypatch.setenv("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
    site.install("s2clientprotocol", "5.0.17")
    site.install("protobuf", "7.36.2")
    assert_check(doctor.check_protocol(), OK)


def test_packages_that_break_when_imported_do_so_in_another_process(site, monkeypatch):
    site.install("smac", "1.0.0", "smac", "smac/env", code="import absence_itself\n")
    assert_check(doctor.check_imports(), WRONG, "ModuleNotFoundError: No module named 'absence_itself'", "pip install")
    # Longer than before: within a second, Python tells a file from its compiled form by its length.
    (site.folder / "smac" / "__init__.py").write_text("import os\n\n\nos.abort()\n")
    assert_check(doctor.check_imports(), WRONG, "exit status -6")
    (site.folder / "smac" / "__init__.py").write_text("import time; time.sleep(100)\n")
    monkeypatch.setattr(doctor, "IMPORT_SECONDS", 0.2)
    assert_check(doctor.check_imports(), WRONG, "takes more than 0 s")
    assert "smac" not in sys.modules


# --- the game's files


def test_a_sound_installation(game):
    for check in (doctor.check_folder, doctor.check_version, doctor.check_binary, doctor.check_maps):
        assert_check(check(), OK)
    assert doctor.check_version().found == "build 75689: 4.10, which most later work used"


def test_the_folder(game, monkeypatch, tmp_path):
    assert_check(doctor.check_folder(), OK, f"SC2PATH={game}")
    monkeypatch.setenv("SC2PATH", "")
    assert_check(doctor.check_folder(), WRONG, "set, but empty", "unset SC2PATH")
    monkeypatch.setenv("SC2PATH", str(tmp_path / "nowhere"))
    assert_check(doctor.check_folder(), MISSING, "nowhere is no folder", "export SC2PATH=")
    monkeypatch.delenv("SC2PATH")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert_check(doctor.check_folder(), MISSING, "home/StarCraftII (SC2PATH is not set)", "wget http")


def test_the_version(game):
    versions = game / "Versions"
    (versions / "Base69232").mkdir()
    assert_check(doctor.check_version(), OK, "build 75689: 4.10, which most later work used; 1 older beside it")
    (versions / "Base80949").mkdir()
    assert_check(doctor.check_version(), OK, "build 80949: a version that no published results of SMAC used")
    (versions / "Base75689.old").mkdir()
    assert_check(doctor.check_version(), WRONG, "stumbles over the name Base75689.old", f"mv {versions}/Base75689.old")
    for folder in versions.iterdir():
        folder.rename(game / folder.name)
    assert_check(
        doctor.check_version(), MISSING, "holds no folder Base<build>", "unzip -P iagreetotheeula SC2.4.10.zip"
    )
    (versions / "Base55505").mkdir()
    assert_check(doctor.check_version(), WRONG, "build 55505 is older than pysc2 can use")


def test_the_binary(game):
    binary = binary_of(game)
    elf = b"\x7fELF" + bytes([2, 1, 1, *[0] * 9, 2, 0, 0x3E, 0])
    for content in (elf, b"#!/bin/sh\n"):
        binary.write_bytes(content)
        assert_check(doctor.check_binary(), OK, str(binary))
    for content in (b"", b"MZ\x90", elf.replace(b"\x02\x01", b"\x01\x01"), elf.replace(b"\x3e", b"\xb7")):
        binary.write_bytes(content)
        assert_check(doctor.check_binary(), WRONG, "no program for Linux on x86_64", "unzip the game again")
    binary.chmod(0o644)
    assert_check(doctor.check_binary(), WRONG, "not executable", f"chmod +x {binary}")
    binary.unlink()
    assert_check(doctor.check_binary(), MISSING, "is not there", "unzip the game again")


LIBRARIES = {
    "libc.so.6 => /lib/libc.so.6 (0x00)": (OK, "all that", ""),
    "libstdc++.so.6 => not found": (MISSING, "libstdc++.so.6 => not found", "packages"),
    "./SC2_x64: /lib/libc.so.6: version `GLIBC_2.18' not found": (MISSING, "GLIBC_2.18", "newer C library"),
}


@pytest.mark.parametrize("line", LIBRARIES)
def test_the_libraries(line, game, tmp_path, monkeypatch):
    ldd = tmp_path / "ldd"
    ldd.write_text(
        f'#!/bin/sh\ncase "$LD_LIBRARY_PATH $1" in *"/Libs {binary_of(game)}") echo "\t{line}" ;; esac\n'.replace(
            "`", "\\`"
        )
    )
    ldd.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    state, found, remedy = LIBRARIES[line]
    assert_check(doctor.check_libraries(), state, found, remedy)
    ldd.unlink()
    assert_check(doctor.check_libraries(), OK, "there is no ldd")


def test_the_maps(game):
    maps = game / "Maps" / "SMAC_Maps"
    (maps / "8m.SC2Map").unlink()
    (maps / "MMM.SC2Map").unlink()
    assert_check(
        doctor.check_maps(),
        MISSING,
        "8m, MMM are not in",
        f"cp -r smac/smac/env/starcraft2/maps/SMAC_Maps {maps.parent}",
    )
    maps.rename(game / "SMAC_Maps")
    assert_check(doctor.check_maps(), MISSING, "none of the 23 is in", "mkdir -p")


# --- ports


@pytest.fixture
def no_proxy(monkeypatch):
    for name in ("http_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_a_port_that_nobody_else_has(no_proxy, monkeypatch):
    assert_check(doctor.check_port(), OK, "127.0.0.1:")
    with socket.socket() as taken:
        taken.bind((ports.HOST, 0))
        monkeypatch.setattr(ports, "PORTS", [taken.getsockname()[1]] * 200)
        assert_check(doctor.check_port(), WRONG, "no port of 127.0.0.1 can be bound (", "allow programs")


def test_a_proxy_must_not_stand_before_the_game(no_proxy, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    assert_check(doctor.check_port(), WRONG, "http_proxy=http://proxy:3128", "export no_proxy=127.0.0.1")
    monkeypatch.setenv("no_proxy", "localhost,.lab")
    assert_check(doctor.check_port(), WRONG, remedy="export no_proxy=localhost,.lab,127.0.0.1")
    monkeypatch.setenv("no_proxy", "localhost, 127.0.0.1")
    assert_check(doctor.check_port(), OK)


def test_a_port_is_given_once_over_all_processes_until_it_is_returned_or_its_process_is_gone(monkeypatch):
    with socket.socket() as free:
        free.bind((ports.HOST, 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(ports, "PORTS", [port] * 200)
    here = ports.PortPicker()
    code = (
        f"import time\nfrom envs.sc2 import ports\nports.PORTS = [{port}] * 200\npicker = ports.PortPicker()\n"
        "print(picker.pick_unused_port(), flush=True)\ntime.sleep(100)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent)
    assert int(other.stdout.readline()) == port
    with pytest.raises(OSError, match="can be bound"):
        here.pick_unused_port()
    other.kill()
    other.communicate()
    assert here.pick_unused_port() == port
    with pytest.raises(OSError):
        ports.PortPicker().pick_unused_port()
    here.return_port(port)
    assert here.pick_unused_port() == port


# --- the battle, and the command


class Battle:
    """Stands in for `doctor.Trial`: the map's name says what becomes of it."""

    @classmethod
    def vector(cls, seeds, map_name):
        battle = cls()
        battle.fate = map_name
        return battle

    def play(self):
        os.system("echo what the game says")
        if self.fate == "vanishes":
            os._exit(3)
        if self.fate == "broken":
            raise RuntimeError("it broke")
        if self.fate.startswith("hangs"):
            Path(self.fate.removeprefix("hangs ")).touch()
            subprocess.run(["sleep", "100"])

    def close(self):
        pass


@pytest.mark.parametrize(
    "fate, state, found",
    [
        ("won", OK, "5 steps of won were played"),
        ("vanishes", WRONG, "the process that started the game died (exit status 3)"),
        ("broken", WRONG, "RuntimeError: it broke"),
    ],
)
def test_what_became_of_the_battle(fate, state, found, capfd):
    assert_check(doctor.check_battle(fate, Battle, 60), state, found)
    out, err = capfd.readouterr()
    assert out == "" and "what the game says" in err


def test_a_battle_that_hangs_is_ended(tmp_path, monkeypatch):
    hangs, send = tmp_path / "hangs", Worker.send

    def send_and_wait(worker, method, arguments, seconds):
        """The process may take long to start: its time begins when the battle hangs."""
        send(worker, method, arguments, seconds)
        while not hangs.exists() and worker.process.is_alive():
            time.sleep(0.02)
        worker.deadline = time.monotonic() + seconds

    monkeypatch.setattr(Worker, "send", send_and_wait)
    assert_check(doctor.check_battle(f"hangs {hangs}", Battle, 0.3), WRONG, "was silent for 0.3 s")


def fake_checks(monkeypatch, **states):
    """Replaces the checks by one after the other of these names, each needing the one before it."""
    needs, before = {}, ()
    for name, state in states.items():

        def check(name=name, state=state):
            return doctor.Check(name, state, "words", "" if state == OK else "do this")

        check.__name__ = f"check_{name}"
        needs[check], before = before, (check,)
    monkeypatch.setattr(doctor, "NEEDS", needs)
    monkeypatch.setattr(doctor, "check_battle", lambda map_name: doctor.Check("battle", OK, f"{map_name} was played"))


def test_all_is_well(monkeypatch, capsys):
    fake_checks(monkeypatch, smac=OK, folder=OK)
    assert doctor.main(["--map", "8m"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ok       smac       words",
        "ok       folder     words",
        "ok       battle     8m was played",
        "StarCraft II can be played",
    ]


def test_what_needs_something_missing_is_not_tried_and_names_what_is_to_be_mended_first(monkeypatch, capsys):
    fake_checks(monkeypatch, smac=OK, folder=MISSING, version=OK, binary=WRONG)
    assert doctor.main([]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == ["missing  folder     words", f"{'':19} mend it: do this"]
    assert lines[3:6] == [f"untried  {name:10} first mend: folder" for name in ("version", "binary", "battle")]


def test_json(monkeypatch, capsys):
    fake_checks(monkeypatch, smac=WRONG)
    assert doctor.main(["--json"]) == 1
    smac, battle = {"name": "smac", "state": WRONG, "found": "words", "remedy": "do this"}, "first mend: smac"
    assert json.loads(capsys.readouterr().out) == {
        "ready": False,
        "checks": [smac, {"name": "battle", "state": UNTRIED, "found": battle, "remedy": ""}],
    }
    fake_checks(monkeypatch, smac=OK)
    assert doctor.main(["--json"]) == 0 and json.loads(capsys.readouterr().out)["ready"] is True


def test_an_unknown_map_is_a_mistake(capsys):
    assert doctor.main(["--map", "8mm"]) == 2
    assert "--map: unknown map '8mm'; did you mean '8m'?" in capsys.readouterr().err


def test_every_check_of_the_module_is_made():
    checks = {function for name, function in vars(doctor).items() if name.startswith("check_")}
    assert set(doctor.NEEDS) == checks - {doctor.check_battle}
