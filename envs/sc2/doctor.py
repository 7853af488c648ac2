"""Says what is there and what is missing for StarCraft II itself (`env_args.engine=game`), and how to mend it.

    python -m envs.sc2.doctor [--map 3m] [--json]

The exit status is 0 only where a battle was played. The checks stand in the order in which they need each other; none
imports smac or pysc2 into this process, since a wrong one may do anything.
"""

import importlib.metadata
import importlib.util
import json
import os
import pickle
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from envs.sc2.game import is_starcrafts
from envs.sc2.ports import HOST, PortPicker
from envs.sc2.sim.maps import MAP_NAMES
from utils.command import Parser, exit_status, run_program, version_of
from utils.errors import UserError, unknown

STATES = OK, MISSING, WRONG, UNTRIED = "ok", "missing", "wrong", "untried"
INSTALL = "pip install -r requirements-sc2.txt"
NEW_PROTOCOL = "pip uninstall -y s2clientprotocol pys2clientprotocol && pip install pys2clientprotocol==1.0.2"
GAME_ZIP = "SC2.4.10.zip"
KNOWN_BUILDS = {69232: "4.6.2, which SMAC's paper used", 75689: "4.10, which most later work used"}
OLDEST_BUILD = 55958  # 3.16.1; pysc2 refuses older ones
IMPORT_SECONDS = 60.0
BATTLE_SECONDS = 180.0
BATTLE_STEPS = 5


class Check(NamedTuple):
    """What one check came to."""

    name: str
    state: str  # of STATES
    found: str
    remedy: str = ""  # a command, or what to do; empty where there is nothing to mend


def check_system() -> Check:
    """Blizzard's builds for machines without a screen are for Linux on x86-64."""
    found = f"{platform.system()} on {platform.machine()}"
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        return Check("system", OK, found)
    return Check("system", WRONG, found, "use Linux on x86_64, or the embedded engine (env_args.engine=sim)")


def check_smac() -> Check:
    """`pip install smac` brings SMAC3, another package of this name."""
    spec = importlib.util.find_spec("smac")
    if spec is None:
        return Check("smac", MISSING, "not installed", INSTALL)
    if is_starcrafts(spec):
        return Check("smac", OK, f"SMAC {version_of('smac') or 'without a version'}")
    summary = importlib.metadata.metadata("smac").json.get("summary") if version_of("smac") else ""
    found = f"smac {version_of('smac') or spec.origin} is not StarCraft's" + (f", but: {summary}" if summary else "")
    return Check("smac", WRONG, found, f"pip uninstall -y smac && {INSTALL}")


def check_pysc2() -> Check:
    """SMAC needs pysc2 3 or newer."""
    version = version_of("pysc2")
    if version is None:
        return Check("pysc2", MISSING, "not installed", INSTALL)
    if _major(version) < 3:
        return Check("pysc2", WRONG, f"pysc2 {version} is older than 3", "pip install --no-deps pysc2==4.0.0")
    return Check("pysc2", OK, f"pysc2 {version}")


def check_protocol() -> Check:
    """Two packages bring the module s2clientprotocol; each goes with other versions of protobuf."""
    old, new, protobuf = map(version_of, ("s2clientprotocol", "pys2clientprotocol", "protobuf"))
    if not (old or new):
        return Check("protocol", MISSING, "neither s2clientprotocol nor pys2clientprotocol is installed", INSTALL)
    if protobuf is None:
        return Check("protocol", MISSING, "protobuf is not installed", INSTALL)
    found = f"{f'pys2clientprotocol {new}' if new else f's2clientprotocol {old}'} with protobuf {protobuf}"
    if old and new:
        found = f"s2clientprotocol {old} and pys2clientprotocol {new} are installed over each other"
        return Check("protocol", WRONG, found, NEW_PROTOCOL)
    if new and not 6 <= _major(protobuf) < 8:
        return Check("protocol", WRONG, f"{found}, but it needs protobuf 6 or 7", 'pip install "protobuf>=6,<8"')
    pure_python = os.environ.get("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION") == "python"
    if old and _major(protobuf) > 3 and not pure_python:
        remedy = NEW_PROTOCOL if _major(protobuf) >= 6 else "pip install protobuf==3.20.3"
        return Check("protocol", WRONG, f"{found}, but it needs protobuf 3", remedy)
    return Check("protocol", OK, found)


def check_imports() -> Check:
    """In a process of its own."""
    code = "import smac.env, pysc2.run_configs, s2clientprotocol.sc2api_pb2"
    try:
        finished = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, errors="replace", timeout=IMPORT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return Check("imports", WRONG, f"importing smac and pysc2 takes more than {IMPORT_SECONDS:.0f} s", INSTALL)
    if finished.returncode == 0:
        return Check("imports", OK, "smac and pysc2 can be imported")
    return Check("imports", WRONG, _last_line(finished.stderr) or f"exit status {finished.returncode}", INSTALL)


def game_folder() -> Path:
    """Returns where pysc2 looks for the game."""
    return Path(os.environ.get("SC2PATH", "~/StarCraftII")).expanduser()


def check_folder() -> Check:
    given = os.environ.get("SC2PATH")
    download = (
        f"wget http://blzdistsc2-a.akamaihd.net/Linux/{GAME_ZIP} && unzip -P iagreetotheeula {GAME_ZIP} -d ~ "
        "(the password accepts Blizzard's AI and Machine Learning License)"
    )
    if given == "":
        return Check("folder", WRONG, "SC2PATH is set, but empty", "unset SC2PATH, or set it to the game's folder")
    folder = game_folder()
    where = f"SC2PATH={folder}" if given else f"{folder} (SC2PATH is not set)"
    if folder.is_dir():
        return Check("folder", OK, where)
    remedy = f"export SC2PATH=<folder of the game>; where there is none yet: {download}" if given else download
    return Check("folder", MISSING, f"{where} is no folder", remedy)


def check_version() -> Check:
    """Of several versions the newest is played, unless env_args.game_version names one."""
    versions = game_folder() / "Versions"
    names = sorted(path.name for path in versions.glob("Base*"))
    unzip = f"unzip it again, with its password: unzip -P iagreetotheeula {GAME_ZIP} -d {shlex.quote(_parent())}"
    if not names:
        return Check("version", MISSING, f"{versions} holds no folder Base<build>", unzip)
    if strange := [name for name in names if not re.fullmatch(r"Base\d+", name)]:
        remedy = f"mv {shlex.quote(str(versions / strange[0]))} {shlex.quote(str(game_folder()))}"
        return Check("version", WRONG, f"pysc2 stumbles over the name {strange[0]} in {versions}", remedy)
    build = _newest_build()
    if build < OLDEST_BUILD:
        return Check("version", WRONG, f"build {build} is older than pysc2 can use ({OLDEST_BUILD})", unzip)
    known = KNOWN_BUILDS.get(build, "a version that no published results of SMAC used")
    others = f"; {len(names) - 1} older beside it" if len(names) > 1 else ""
    return Check("version", OK, f"build {build}: {known}{others}")


def check_binary() -> Check:
    binary = _binary()
    unzip = f"unzip the game again: unzip -P iagreetotheeula {GAME_ZIP} -d {shlex.quote(_parent())}"
    if not binary.is_file():
        return Check("binary", MISSING, f"{binary} is not there", unzip)
    if not os.access(binary, os.X_OK):
        return Check("binary", WRONG, f"{binary} is not executable", f"chmod +x {shlex.quote(str(binary))}")
    with binary.open("rb") as file:
        head = file.read(20)
    is_program = head[:5] == b"\x7fELF\x02" and head[18:20] == b"\x3e\x00"  # 64 bits, x86-64
    if not (is_program or head.startswith(b"#!")):
        return Check("binary", WRONG, f"{binary} is no program for Linux on x86_64", unzip)
    return Check("binary", OK, str(binary))


def check_libraries() -> Check:
    """Looks for what the system's loader lacks for the binary."""
    if shutil.which("ldd") is None:
        return Check("libraries", OK, "not looked at, as there is no ldd")
    path = ":".join(filter(None, [os.environ.get("LD_LIBRARY_PATH"), str(game_folder() / "Libs")]))
    finished = subprocess.run(
        ["ldd", str(_binary())], capture_output=True, text=True, env={**os.environ, "LD_LIBRARY_PATH": path}
    )
    lines = (finished.stdout + finished.stderr).splitlines()
    if lacking := [" ".join(line.split()) for line in lines if "not found" in line]:
        is_old = "GLIBC" in lacking[0]
        remedy = "a system with a newer C library" if is_old else "install them by your system's packages"
        return Check("libraries", MISSING, "; ".join(lacking), remedy)
    return Check("libraries", OK, "all that the binary needs")


def check_maps() -> Check:
    folder = game_folder() / "Maps" / "SMAC_Maps"
    lacking = [name for name in MAP_NAMES if not (folder / f"{name}.SC2Map").is_file()]
    if not lacking:
        return Check("maps", OK, f"all {len(MAP_NAMES)} in {folder}")
    found = f"none of the {len(MAP_NAMES)} is" if len(lacking) == len(MAP_NAMES) else f"{', '.join(lacking)} are not"
    maps = shlex.quote(str(folder.parent))
    remedy = (
        f"git clone https://github.com/oxwhirl/smac && mkdir -p {maps} && "
        f"cp -r smac/smac/env/starcraft2/maps/SMAC_Maps {maps}"
    )
    return Check("maps", MISSING, f"{found} in {folder}", remedy)


def check_port() -> Check:
    """The game listens on a port of this machine, which no proxy must stand before."""
    try:
        picker = PortPicker()
        picker.return_port(port := picker.pick_unused_port())
    except OSError as error:
        return Check("port", WRONG, str(error), f"allow programs to listen on {HOST}")
    proxy, exempt = (os.environ.get(name) or os.environ.get(name.upper()) for name in ("http_proxy", "no_proxy"))
    if proxy and not {HOST, "*"} & set((exempt or "").replace(" ", "").split(",")):
        found = f"the connection to {HOST} would go through http_proxy={proxy}"
        return Check("port", WRONG, found, f"export no_proxy={','.join(filter(None, [exempt, HOST]))}")
    return Check("port", OK, f"{HOST}:{port} is free")


class Trial:
    """What `check_battle` has a worker process play."""

    def __init__(self, seed: int, map_name: str):
        from envs.sc2 import StarCraft2Env

        self.env = StarCraft2Env(engine="game", seed=seed, map_name=map_name)

    @classmethod
    def vector(cls, seeds: Sequence[int], map_name: str) -> "Trial":
        return cls(seeds[0], map_name)

    def play(self) -> None:
        self.env.reset()
        for _ in range(BATTLE_STEPS):
            _, _, info = self.env.step([list(available).index(1) for available in self.env.get_avail_actions()])
            if info.get("lost"):
                raise RuntimeError("the game failed and had to be launched anew")

    def close(self) -> None:
        self.env.close()


def check_battle(map_name: str, trial: type = Trial, seconds: float = BATTLE_SECONDS) -> Check:
    """Plays the first steps of a battle, in a process that is ended with all it started."""
    from envs.sc2.game import OR_ELSE
    from envs.worker import Failure, MemoryFile, Worker, WorkerLost

    remedy = "look at what the game printed above"
    with _stdout_as_stderr(), MemoryFile.new() as file:  # the game prints to stderr, too
        worker = Worker(0, 1, pickle.dumps((trial, {"map_name": map_name})), file)
        try:
            worker.send("play", (), seconds)
            answer = worker.answer()
            if answer is None:
                worker.send("close", (), seconds)
                answer = worker.answer()
        except WorkerLost as loss:
            return Check("battle", WRONG, f"the process that started the game {loss}", remedy)
        finally:
            worker.kill()
    if isinstance(answer, Failure):
        return Check("battle", WRONG, _last_line(answer.text).removesuffix(f"; {OR_ELSE}"), remedy)
    return Check("battle", OK, f"{BATTLE_STEPS} steps of {map_name} were played")


NEEDS: dict[Callable[[], Check], tuple[Callable[[], Check], ...]] = {
    check_system: (),
    check_smac: (),
    check_pysc2: (),
    check_protocol: (),
    check_imports: (check_smac, check_pysc2, check_protocol),
    check_folder: (),
    check_version: (check_folder,),
    check_binary: (check_version,),
    check_libraries: (check_binary,),
    check_maps: (check_folder,),
    check_port: (),
}
"""All checks but that of the battle, which needs them all, and what must be well before each makes sense."""


def examine(map_name: str) -> Iterator[Check]:
    """All checks, one after the other."""
    causes: dict[Callable[[], Check], list[str]] = {}
    for check, needed in NEEDS.items():
        name = check.__name__.removeprefix("check_")
        causes[check] = _unique(cause for other in needed for cause in causes[other])
        found = _untried(name, causes[check]) or check()
        if found.state in (MISSING, WRONG):
            causes[check] = [name]
        yield found
    yield _untried("battle", _unique(cause for some in causes.values() for cause in some)) or check_battle(map_name)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _untried(name: str, causes: Sequence[str]) -> Check | None:
    return Check(name, UNTRIED, f"first mend: {', '.join(causes)}") if causes else None


def format_check(check: Check) -> str:
    """Returns a line of what was found, and one of what to do."""
    line = f"{check.state:8} {check.name:10} {check.found}"
    return f"{line}\n{'':19} mend it: {check.remedy}" if check.remedy else line


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; the exit status is 1 where the game can't be played."""
    return exit_status(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    parser = Parser(prog="python -m envs.sc2.doctor", description="what StarCraft II itself lacks on this machine")
    parser.add_argument("--map", default="3m", metavar="NAME", help="the map of the battle that is tried (3m)")
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the lines")
    args = parser.parse_args(argv)
    if args.map not in MAP_NAMES:
        raise UserError(f"--map: {unknown('map', args.map, MAP_NAMES)}")
    checks = []
    for check in examine(args.map):
        checks.append(check)
        if not args.json:
            print(format_check(check), flush=True)
    is_ready = all(check.state == OK for check in checks)
    if args.json:
        print(json.dumps({"ready": is_ready, "checks": [check._asdict() for check in checks]}, indent=1))
    else:
        print("StarCraft II can be played" if is_ready else "StarCraft II can't be played yet; env_args.engine=sim can")
    return 0 if is_ready else 1


def _major(version: str) -> int:
    return int(version.partition(".")[0])


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""


def _newest_build() -> int:
    return max(int(path.name.removeprefix("Base")) for path in (game_folder() / "Versions").glob("Base*"))


def _binary() -> Path:
    return game_folder() / "Versions" / f"Base{_newest_build():05d}" / "SC2_x64"


def _parent() -> str:
    return str(game_folder().parent)


@contextmanager
def _stdout_as_stderr() -> Iterator[None]:
    """Processes that are started inside write to stderr what they would to stdout."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


if __name__ == "__main__":
    run_program(main)
