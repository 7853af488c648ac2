"""Looks inside OMG: `python -m experiments.subgoals results/models/<name>` draws what inferred subgoals stand for.

The model is `modules/am/omg_am.py`; the hit ratio and the choice in hindsight are `utils/subgoals.py`.
"""

import json
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
from PIL import Image, ImageDraw, ImageFont

import main as command_line
from envs.sc2.sim.features import SIGHT_RANGE, Layout
from envs.sc2.sim.film import LEAST_VIEW, MARGIN
from envs.sc2.sim.maps import MAP_NAMES, SC2Map
from envs.sc2.sim.render import TEAM_COLOURS, TEXT, Painter, view_around
from envs.sc2.sim.replay import Replay
from run import EpisodeBatch, Run
from utils.checkpoints import find_checkpoint
from utils.command import Parser, exit_status, run_program
from utils.config import flatten
from utils.errors import UserError, unknown
from utils.files import Json, read_config
from utils.MY_EXP_PATH import check_results_path, experiment_root
from utils.rl_utils import is_alive
from utils.subgoals import mean_hit_ratio, nearest_steps
from utils.weights import fits

DESCRIPTION = """Plays test episodes of an OMG checkpoint on the embedded engine. Draws, over the first of them and step
by step, the state that the decoded subgoal of one agent stands for, as a GIF and a PNG; prints the subgoal hit ratio
and how far ahead subgoals lie, beside the paper's numbers."""
PAPER_SHARES = (35.4, 20.0, 22.8, 19.3, 2.5)
"""Yu et al. 2024: how often hindsight picks the state 1..5 steps ahead, per cent."""
PAPER_HIT_RATIO = "from 0.03 to about 0.14 in 25,000 episodes of 8x8 foraging"
PRESENT = 0.1  # a decoded unit of which distance and health are less is not there
STRIP_PICTURES = 4
POINTER = (255, 255, 255)


class Ghost(NamedTuple):
    """Where a decoded state has a unit: a point of the map, or one relative to who sees it."""

    unit: int  # agents first, then enemies
    x: float
    y: float
    health: float  # 0..1; 1 where it is not observed


class Inference(NamedTuple):
    """What the agents inferred in whole episodes, [b, T, agent, ...]."""

    decoded: th.Tensor  # the states that the subgoals stand for, [..., D]
    nearest: th.Tensor  # the step of the episode's state nearest to that, -1 where no action was taken
    n_states: th.Tensor  # of each episode, [b]


# ------------------------------------------------------------------------------------------------ the model


@th.no_grad()
def infer(mac: Any, batch: EpisodeBatch) -> Inference:
    """Returns the subgoals on which the tested agents acted, decoded by the prior, and the nearest states (L2)."""
    states = mac.am.observations(batch)
    outputs, _ = mac.infer(batch)
    decoded = mac.am.vae.decode(mac.am.features(outputs))
    filled = batch["filled"].squeeze(-1).bool()
    n_states = filled.sum(1)
    has_acted = th.arange(filled.shape[1]) < n_states.unsqueeze(1) - 1
    acted = has_acted.unsqueeze(-1) & is_alive(batch["avail_actions"], filled.unsqueeze(-1))
    return Inference(decoded, nearest_steps(decoded, states, filled, acted), n_states)


def shares_ahead(nearest: th.Tensor, horizon: int) -> tuple[list[float], float, float]:
    """Returns the shares of steps [b, T, agent] whose nearest state is 1..horizon ahead, further, or not ahead."""
    steps = th.arange(nearest.shape[1]).view(1, -1, 1)
    ahead = (nearest - steps)[nearest >= 0]
    shares = [(ahead == k).float().mean().item() for k in range(1, horizon + 1)]
    return shares, (ahead > horizon).float().mean().item(), (ahead <= 0).float().mean().item()


# ------------------------------------------------------------------------------------------------ decoded states


def seen_units(obs: Sequence[float], layout: Layout, agent: int) -> list[Ghost]:
    """Returns the others in an observation [obs_size] of this agent, at places relative to it in map units."""
    others = [unit for unit in range(layout.n_agents) if unit != agent]
    enemies = range(layout.n_agents, layout.n_agents + layout.n_enemies)
    at = 4 + 8 * layout.obs_pathing_grid + 9 * layout.obs_terrain_height
    ghosts = []
    for units, width in ((enemies, layout.enemy_features), (others, layout.ally_features)):
        for unit in units:
            _, distance, dx, dy, *more = (float(value) for value in obs[at : at + width])
            health = more[0] if layout.obs_all_health else 1.0
            if max(distance, health * layout.obs_all_health) > PRESENT:
                ghosts.append(Ghost(unit, SIGHT_RANGE * dx, SIGHT_RANGE * dy, health))
            at += width
    return ghosts


def units_of_state(state: Sequence[float], layout: Layout, sc2_map: SC2Map) -> list[Ghost]:
    """Returns all units in a state [state_size], at their places on the map."""
    centre_x, centre_y = (size / 2 for size in sc2_map.pathing.shape)
    ghosts, at = [], 0
    widths = [layout.ally_state_features] * layout.n_agents + [layout.enemy_state_features] * layout.n_enemies
    for unit, width in enumerate(widths):
        health, x, y = (float(state[at + k]) for k in ((0, 2, 3) if unit < layout.n_agents else (0, 1, 2)))
        if health > PRESENT:
            place = centre_x + layout.max_distance_x * x, centre_y + layout.max_distance_y * y
            ghosts.append(Ghost(unit, *place, health))
        at += width
    return ghosts


# ------------------------------------------------------------------------------------------------ pictures


def draw_film(
    replay: Replay, inference: Inference, layout: Layout, agent: int, is_state: bool, size: int
) -> Iterator[Image.Image]:
    """A picture for each step of the first episode: the battle with what the agent's subgoal stands for drawn over it,
    and beside it the moment of the episode that this is nearest to."""
    moments = [(battle, battle.units[0].copy()) for battle in replay.moments()]
    sc2_map, units = moments[0][0].map, np.stack([moment for _, moment in moments])
    alive = units[units["health"] > 0]
    view = view_around(sc2_map, np.stack([alive["x"], alive["y"]], axis=1), MARGIN, LEAST_VIEW)
    painter = Painter(sc2_map, size, view)
    pictures = [painter.draw(battle) for battle in replay.moments()]
    for t in range(len(units) - 1):
        nearest, decoded = int(inference.nearest[0, t, agent]), inference.decoded[0, t, agent].tolist()
        there = units[nearest][agent]  # an observation does not tell where its agent stands
        if is_state:
            ghosts = units_of_state(decoded, layout, sc2_map)
        else:
            ghosts = [g._replace(x=g.x + there["x"], y=g.y + there["y"]) for g in seen_units(decoded, layout, agent)]
            ghosts.append(Ghost(agent, there["x"], there["y"], 1.0))
        picture = pictures[t].copy()
        for ghost in ghosts:
            draw_ghost(picture, painter, ghost, units[t][ghost.unit])
        mark(picture, painter, units[t][agent])
        yield side_by_side(picture, pictures[nearest], caption(agent, t, nearest, len(units)))


def draw_ghost(picture: Image.Image, painter: Painter, ghost: Ghost, unit: np.void) -> None:
    """A ring, filled like a pie to the share of its health, and a line from where the unit is now."""
    canvas, colour = ImageDraw.Draw(picture, "RGBA"), TEAM_COLOURS[int(unit["team"])]
    x, y = painter.pixel(ghost.x, ghost.y)
    radius = painter.cell * float(unit["radius"])
    box = (x - radius, y - radius, x + radius, y + radius)
    canvas.line([painter.pixel(unit["x"], unit["y"]), (x, y)], (*colour, 120), 1)
    canvas.pieslice(box, -90, -90 + 360 * min(max(ghost.health, 0.0), 1.0), (*colour, 90))
    canvas.ellipse(box, outline=(*colour, 255), width=2)


def mark(picture: Image.Image, painter: Painter, unit: np.void) -> None:
    """A white ring around the agent whose subgoal it is."""
    x, y = painter.pixel(unit["x"], unit["y"])
    radius = painter.cell * float(unit["radius"]) + 3
    ImageDraw.Draw(picture).ellipse((x - radius, y - radius, x + radius, y + radius), outline=POINTER, width=2)


def caption(agent: int, t: int, nearest: int, n_states: int) -> str:
    ahead = nearest - t
    words = f"{ahead} ahead: a hit" if ahead > 0 else f"{-ahead} back: no hit" if ahead else "now: no hit"
    return f"agent {agent}, step {t} of {n_states - 1}\nits subgoal is nearest\nto step {nearest} (above)\n{words}"


def side_by_side(picture: Image.Image, nearest: Image.Image, text: str) -> Image.Image:
    small = nearest.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS)
    whole = Image.new("RGB", (picture.width + small.width, picture.height), picture.getpixel((0, 0)))
    whole.paste(picture, (0, 0))
    whole.paste(small, (picture.width, 0))
    place, font = (picture.width + small.width // 12, small.height + small.width // 12), small.width // 14
    ImageDraw.Draw(whole).multiline_text(place, text, TEXT, ImageFont.load_default(font), spacing=font // 2)
    return whole


def save_pictures(pictures: Sequence[Image.Image], path: Path, fps: float) -> list[Path]:
    """Writes them as `<path>.gif`, and some of them, one under the other, as `<path>.png`; returns both files."""
    chosen = [pictures[k] for k in np.unique(np.linspace(0, len(pictures) - 1, STRIP_PICTURES).astype(int))]
    strip = Image.fromarray(np.concatenate([np.asarray(picture) for picture in chosen]))
    palette = strip.quantize(256)
    first, *rest = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures)
    files = [path.with_name(f"{path.name}{suffix}") for suffix in (".gif", ".png")]
    path.parent.mkdir(parents=True, exist_ok=True)
    first.save(files[0], save_all=True, append_images=rest, duration=1000 / fps, loop=0)
    strip.save(files[1])
    return files


# ------------------------------------------------------------------------------------------------ command


def record_of(checkpoint: Path) -> Path | None:
    """Returns the record of the run that wrote the checkpoint `<results>/models/<name>_<id>/<step>`, if it is there."""
    models = checkpoint.absolute().parent if checkpoint.name.isdigit() else checkpoint.absolute()
    record = models.parent.parent / "sacred" / models.name.rpartition("_")[2]
    return record if (record / "config.json").is_file() else None


def configure(args: Namespace) -> Json:
    """Returns the configuration of the checkpoint: its record's, as far as its keys are still known.

    Raises: UserError where it can't be made, or it is no configuration of OMG.
    """
    names = [f"--config={args.config}", f"--env-config={args.env_config}"]
    # Before settings of ours, which others than OMG would refuse in words that the user has not typed.
    _check_model(command_line.read_settings(*names, *(["with", *args.set] if args.set else [])), args)
    own = [
        *("env_args.engine=sim", "env_args.seed=null", f"seed={args.seed}", "use_cuda=False", "runner=parallel"),
        *(f"batch_size_run={args.episodes}", f"test_nepisode={args.episodes}", "batch_size=1", "buffer_size=1"),
        *("init_param_path=", "omg_prior_path=", "save_replay=False", "checkpoint_path=", "learner_log_interval=1"),
    ]
    own += [f"env_args.map_name={args.map}"] if args.map else []
    config = command_line.read_settings(*names, "with", *args.set, *own)
    if args.record:
        recorded = read_config(args.record, dict)
        # Not the learner: one that trains the model alone picks no subgoals.
        known = dict(flatten(config)).keys() - {"population", "learner"}
        settings = [f"{key}={json.dumps(value)}" for key, value in flatten(recorded) if key in known]
        config = command_line.read_settings(*names, "with", *settings, *args.set, *own)
        _check_model(config, args)
    if config["obs_is_state"] and config["env_args"]["obs_instead_of_state"]:
        raise UserError("states that are all observations joined (obs_instead_of_state) can't be drawn")
    return config


def _check_model(config: Json, args: Namespace) -> None:
    if config["env"] != "sc2" or config.get("am_model") != "omg":
        raise UserError(f"{args.checkpoint} is no OMG checkpoint of a StarCraft map, or --config is not its own")


def load_weights(mac: Any, checkpoint: Path) -> None:
    """Raises: UserError where the weights are missing or do not fit, or the prior has not been trained."""
    folder = checkpoint if (checkpoint / "agent.th").is_file() else find_checkpoint(checkpoint, 0)
    mac.load_models(folder)
    if not mac.am.vae.is_trained:
        raise UserError(f"the prior in {folder} is not trained yet, so its subgoals mean nothing; take a later one")


def picked_in_hindsight(run: Run, batch: EpisodeBatch) -> list[float]:
    """Returns how often the learner picks each k of 1..horizon, as it logs it of an update (of the weights, too)."""
    run.learner.train(batch, t_env=10**9, episode_num=0)
    return [run.logger.stats[f"subgoal_k{k}"][-1][1] for k in range(1, run.args.omg_horizon + 1)]


def table(picked: Sequence[float], nearest: tuple[list[float], float, float]) -> str:
    """Returns shares of k in per cent, beside the paper's."""
    ahead, further, not_ahead = nearest
    rows = {
        "steps ahead": [str(k) for k in range(1, len(ahead) + 1)],
        "picked in hindsight, %": [f"{100 * share:.1f}" for share in picked],
        "inferred subgoals, %": [f"{100 * share:.1f}" for share in ahead],
        "the paper's picks, H = 5, %": [f"{share:.1f}" for share in PAPER_SHARES],
    }
    lines = [f"{name:<30}" + "".join(f"{cell:>7}" for cell in cells) for name, cells in rows.items()]
    return "\n".join([*lines, f"inferred subgoals further ahead: {further:.1%}; now or in the past: {not_ahead:.1%}"])


def look(args: Namespace) -> list[Path]:
    """Plays, prints and draws; returns the files. Raises: UserError where the checkpoint can't be looked at."""
    config = configure(args)
    with fits(args.record / "config.json" if args.record else args.checkpoint):
        made = Run({**command_line.resolve(config), "device": "cpu"})
    with made as run:
        load_weights(run.mac, args.checkpoint)
        if not 0 <= args.agent < run.args.n_agents:
            raise UserError(f"--agent={args.agent} must be one of the {run.args.n_agents} agents, from 0 on")
        batch = run.runner.run(test_mode=True)
        battle = run.runner.env
        inference = infer(run.mac, batch)
        map_name, won = battle.map.name, run.logger.stats["test_battle_won_mean"][-1][1]
        print(f"{args.episodes} episodes of {map_name} on the embedded engine, {won:.0%} won")
        ratio = mean_hit_ratio(inference.nearest, inference.n_states)
        print(f"subgoal hit ratio: {ratio:.3f} (the paper's: {PAPER_HIT_RATIO})")
        picked = picked_in_hindsight(run, batch)
        print(table(picked, shares_ahead(inference.nearest, run.args.omg_horizon)))
        film = draw_film(Replay.of(battle), inference, battle.layout, args.agent, run.args.obs_is_state, args.size)
        name = f"subgoals_{map_name}_agent{args.agent}_seed{args.seed}"
        return save_pictures(list(film), args.out / name, args.fps)


def _parse(argv: Sequence[str] | None) -> Namespace:
    """Raises: UserError for arguments that can't be meant."""
    parser = Parser(prog="python -m experiments.subgoals", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a run's models, or one step of them")
    parser.add_argument("--map", metavar="NAME", help="(default: that of the run's record)")
    parser.add_argument("--episodes", type=int, default=20, help="to be played (default: %(default)s)")
    parser.add_argument("--agent", type=int, default=0, help="whose subgoals are drawn (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the battles (default: %(default)s)")
    parser.add_argument("--config", default="iql_omg", metavar="NAME", help="as of main.py (default: %(default)s)")
    parser.add_argument("--env-config", default="sc2", metavar="NAME", help="as of main.py (default: %(default)s)")
    parser.add_argument("--record", type=Path, metavar="FOLDER", help="the run's (default: results/sacred/<its id>)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of main.py, over these")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="(default: subgoals, where results lie)")
    parser.add_argument("--fps", type=float, default=2.0, help="steps per second, 0.2 to 50 (default: %(default)s)")
    parser.add_argument("--size", type=int, default=480, help="of a battle, 160 to 2048 pixels (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.map and args.map not in MAP_NAMES:
        raise UserError(f"--map: {unknown('map', args.map, MAP_NAMES)}")
    if not (args.episodes >= 1 and 0.2 <= args.fps <= 50 and 160 <= args.size <= 2048):
        raise UserError("--episodes must be at least 1, --fps 0.2 to 50, and --size 160 to 2048")
    if args.record and not (args.record / "config.json").is_file():
        raise UserError(f"--record={args.record} has no config.json; give a folder such as results/sacred/3")
    args.record = args.record or record_of(args.checkpoint)
    args.out = args.out or experiment_root() / "subgoals"
    check_results_path(args.out, "--out")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Looks at a checkpoint; returns the exit status: 2 after a user's mistake."""
    return exit_status(lambda: print(*look(_parse(argv)), sep="\n"))


if __name__ == "__main__":
    run_program(main)
