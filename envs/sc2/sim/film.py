"""Replays as animated GIFs: what `save_replay` writes, and the command `python -m envs.sc2.sim.render`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from PIL import Image

from envs.sc2.sim.env import BattleVectorEnv
from envs.sc2.sim.render import Painter, View, view_around
from envs.sc2.sim.replay import SUFFIX, Replay
from utils.command import Parser, exit_status
from utils.errors import UserError
from utils.MY_EXP_PATH import experiment_root

SIZE, FPS, EVERY = 640, 12.0, 2
"""Width of the pictures in pixels, pictures per second, and game loops from one picture to the next.

That is 24 game loops per second: close to the 22.4 of StarCraft II's speed "faster", at which people play it.
"""
LAST_SECONDS = 2.0  # for which the last picture stands
MARGIN, LEAST_VIEW = 2.5, 12.0  # around the units, and least width and height of what is shown, map units
DESCRIPTION = f"""Shows a replay of the embedded engine: the whole battle as an animated GIF, or its last moment as a
PNG. The engine plays the battle again for that, and refuses if it comes out otherwise. `save_replay=True` makes a run
write replays, named *{SUFFIX}."""


def save_replay(battle: BattleVectorEnv) -> list[Path]:
    """Writes the last episode of the environment's first battle as a replay and as a film; gives both files.

    They lie in `replay_dir`, or else in the folder `replays` of the experiment root.

    Raises:
        UserError: no episode has been played, or the folder can't be written to.
    """
    replay = Replay.of(battle)
    folder = Path(battle.replay_dir or experiment_root() / "replays")
    name = f"{battle.replay_prefix or battle.map.name}_{datetime.now():%Y-%m-%d-%H-%M-%S-%f}"
    files = [folder / f"{name}{SUFFIX}", folder / f"{name}.sim.gif"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replay.save(files[0])
    except OSError as error:
        raise UserError(f"a replay can't be written to {folder} ({error.strerror}); set env_args.replay_dir") from error
    save_film(replay, files[1])
    return files


def save_film(replay: Replay, path: Path, fps: float = FPS, every: int = EVERY, size: int = SIZE) -> None:
    """Writes the replay as an animated GIF, or its last picture where the file is named `.png`.

    Raises:
        UserError: the replay is of an engine with other rules; nothing has been written.
    """
    view = _view(replay)
    pictures = _pictures(replay, view, size, every)
    if path.suffix == ".png":
        *_, last = pictures
        last.save(path)
        return
    palette = _palette(replay, view, size)
    frames = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures)
    n_frames = 1 + len(replay.actions) * -(-replay.settings["step_mul"] // every)
    durations = [1000 / fps] * (n_frames - 1) + [1000 * LAST_SECONDS]
    next(frames).save(path, format="GIF", save_all=True, append_images=frames, duration=durations, loop=0)


def _pictures(replay: Replay, view: View, size: int, every: int) -> Iterator[Image.Image]:
    painter = None
    for battle in replay.moments(every):
        painter = painter or Painter(battle.map, size, view)
        yield painter.draw(battle)


def _view(replay: Replay) -> View:
    """The part of the map in which the battle takes place."""
    places = []
    for battle in replay.moments():
        alive = battle.units[0, battle.units["health"][0] > 0]
        places.append(np.stack([alive["x"], alive["y"]], axis=1))
    return view_around(battle.map, np.concatenate(places), MARGIN, LEAST_VIEW)


def _palette(replay: Replay, view: View, size: int) -> Image.Image:
    """An image with the colours of a film of the battle."""
    chosen = np.linspace(0, len(replay.actions), 6).astype(int)
    samples = [np.asarray(p) for k, p in enumerate(_pictures(replay, view, size, 10**9)) if k in chosen]
    return Image.fromarray(np.concatenate(samples)).quantize(256)


def _parse(argv: Sequence[str] | None) -> Namespace:
    """Raises: UserError for what can't be shown or written."""
    parser = Parser(prog="python -m envs.sc2.sim.render", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("replay", type=Path, metavar="REPLAY", help=f"a file *{SUFFIX}")
    parser.add_argument("out", type=Path, metavar="OUT", help="the file to write: *.gif or *.png")
    parser.add_argument("--fps", type=float, default=FPS, help="pictures per second, 1 to 50 (default: %(default)s)")
    parser.add_argument("--every", type=int, default=EVERY, help="game loops between pictures (default: %(default)s)")
    parser.add_argument("--size", type=int, default=SIZE, help="width in pixels, 160 to 4096 (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.out.suffix not in (".gif", ".png"):
        raise UserError(f"{args.out} is named neither .gif nor .png; give a file of one of these kinds")
    if args.out.is_dir() or not args.out.parent.is_dir():
        raise UserError(f"{args.out} can't be written; give a file in a folder that is there")
    if not (1 <= args.fps <= 50 and args.every >= 1 and 160 <= args.size <= 4096):
        raise UserError("--fps must be 1 to 50, --every at least 1, and --size 160 to 4096")
    return args


def _show(args: Namespace) -> None:
    """Raises: UserError where the file is no replay, or one that can't be shown."""
    replay = Replay.load(args.replay)
    try:
        save_film(replay, args.out, args.fps, args.every, args.size)
    except UserError as mistake:
        raise UserError(f"{args.replay}: {mistake}") from mistake
    print(args.out)


def main(argv: Sequence[str] | None = None) -> int:
    """Shows a replay; gives the exit status: 2 after a user's mistake."""
    return exit_status(lambda: _show(_parse(argv)))
