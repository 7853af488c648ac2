"""Maps of one's own, from YAML files, and SMAClite's from JSON files; docs/maps.md describes both.

A file becomes plain data of one form (`read_map`), which records and replays hold, and that a map (`map_of`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from envs.sc2.sim.maps import AGENT_TYPE_ORDER, MOST_UNITS, OVERLAP, OWN, Placement, SC2Map, Spawn, spawn_positions
from envs.sc2.sim.terrain import BORDER, height_grid, layer_grid
from envs.sc2.sim.units import layer, unit_data
from utils.config import Key
from utils.errors import UserError, nearest, shortened, unknown
from utils.files import Json, digest, fitted, read_bytes, read_json, reason

LEAST_SIZE, MOST_SIZE = 8, 64
MOST_CELLS = 1500  # of ground with walls in it: ways round walls are found for every two cells
MOST_TRIES = 1000
SIDES = ("agents", "enemies")
GROUND, HIGH, CLIFF, VOID = ".^#~"
LEVEL_OF_CELL = {GROUND: "l", HIGH: "h", CLIFF: "l", VOID: "v"}
UNITS = tuple(unit_data())

COORDINATE = Key(float, "map units", low=0, high=MOST_SIZE).read
POINT = [COORDINATE, COORDINATE]
GROUP = {"unit": str}
PLACES = {"at": POINT, "area": [COORDINATE] * 4, "places": [POINT]}
"""The three ways to say where the units of a group are created."""
SIZE = Key(int, "cells", low=LEAST_SIZE, high=MOST_SIZE).read
REQUIRED = {
    "episode_limit": Key(int, "environment steps", low=1, high=10_000).read,
    "agents": [GROUP],
    "enemies": [GROUP],
}
OPTIONAL = {
    "name": Key(str, is_in_file_name=True).read,
    "size": [SIZE, SIZE],
    "terrain": [str],
    "enemy_order": (str, {"attack": POINT}),
}
ORDERS = ("hunt", "stand")

SMACLITE_LIMIT = 150
SMACLITE_CELLS = {" ": GROUND, "_": GROUND, ".": GROUND, "X": CLIFF, "C": CLIFF, "#": CLIFF}
SMACLITE_SIMPLE = ["#" * 32] * 8 + ["." * 32] * 16 + ["#" * 32] * 8
"""The terrain of most of SMAClite's maps: two rows narrower than the field of SMAC's."""
SMACLITE = {
    "groups": [{"x": COORDINATE, "y": COORDINATE, "faction": str, "units": ({str: int}, [[str, int]])}],
    "num_allied_units": int,
    "num_enemy_units": int,
}


class Placed(NamedTuple):
    """A unit where it is created."""

    type_name: str
    x: float
    y: float
    group: str  # where in the file


def load_map(path: str | Path) -> SC2Map:
    """Returns the map in a file. Raises: UserError as `read_map` and `map_of`."""
    return map_of(read_map(path), str(path))


def read_map(path: str | Path) -> Json:
    """Returns what a YAML file of a map, or one of SMAClite's JSON files, holds, in the form of the YAML file.

    Raises: UserError where it can't be read, or a key is missing, unknown or of another type.
    """
    path = Path(path)
    if path.suffix == ".json":
        content = read_json(path, dict, "map", "give a map of SMAClite, or a YAML file")
        if "groups" in content:
            content = _of_smaclite(content, str(path))
    else:
        try:
            from utils.yaml_files import load_yaml  # here: the engine as a package of its own has no PyYAML
        except ImportError as error:
            raise UserError(f"{path} needs the package pyyaml: pip install pyyaml, or write it as JSON") from error
        content = load_yaml(path)
    return _checked({"name": path.stem, **content}, str(path))


def map_of(content: Mapping[str, Any], place: str = "the map") -> SC2Map:
    """Returns the map of this content; `place` is where it was read, for messages.

    Raises: UserError where the content is not of a map's layout, or units stand on walls, on each other or outside.
    """
    content = _checked({"name": "map", **content}, place)
    rows = content["terrain"][::-1]  # from the south
    cells = np.array([list(row) for row in rows]).T
    pathing = np.isin(cells, (GROUND, HIGH))
    levels = ["".join(f"1{LEVEL_OF_CELL[cell]}" for cell in row) for row in rows]
    _check_ground(pathing, place)
    grid = layer_grid(pathing, levels)
    allies, enemies = sides = _place(content, grid, place)
    allies.sort(key=lambda unit: (AGENT_TYPE_ORDER.index(unit.type_name), unit.x, unit.y))
    types = [[unit.type_name for unit in side] for side in sides]
    n_types = len({*types[0], *types[1]})
    return SC2Map(
        name=content["name"],
        episode_limit=content["episode_limit"],
        map_type=OWN,
        unit_type_bits=n_types if n_types > 1 else 0,
        ally_race=_race(types[0]),
        enemy_race=_race(types[1]),
        ally_types=types[0],
        enemy_types=types[1],
        ally_spawns=[Spawn(1, unit.type_name, (unit.x, unit.y)) for unit in allies],
        enemy_spawns=[Spawn(1, unit.type_name, (unit.x, unit.y)) for unit in enemies],
        enemy_order=_order(content["enemy_order"]),
        pathing=pathing,
        grid=grid,
        heights=height_grid(levels),
        playable=(float(pathing.shape[0] - 2 * BORDER), float(pathing.shape[1] - 2 * BORDER)),
        placement=Placement(
            [unit[:3] for unit in allies], [unit[:3] for unit in enemies], _areas(content, (*allies, *enemies))
        ),
        content=content,
    )


# ------------------------------------------------------------------------------------------------ what a file holds


def _checked(content: Json, place: str) -> Json:
    """Returns the content with its terrain as rows and an order. Raises: UserError where it is not of the layout."""
    _check_keys(content, {**REQUIRED, **OPTIONAL}, place)
    try:
        content = fitted(content, {**REQUIRED, **{key: OPTIONAL[key] for key in content.keys() & OPTIONAL.keys()}})
        groups = {side: [_group(group, f"{side}[{i}]") for i, group in enumerate(content[side])] for side in SIDES}
    except ValueError as error:
        raise UserError(f"{place}: {error}; see docs/maps.md") from error
    for side, own in groups.items():
        n_units = sum(group["count"] for group in own)
        if not 1 <= n_units <= MOST_UNITS:
            raise UserError(f"{place}: {side} has {n_units:,} units; a side may have 1 to {MOST_UNITS}")
        if all("heal" in unit_data()[group["unit"]] for group in own):
            raise UserError(f"{place}: {side} has {own[0]['unit']}s alone, and ends with its first step; add a fighter")
    if "terrain" in content and "size" in content:
        raise UserError(f"{place} gives both 'terrain' and 'size'; leave 'size' out, the rows have it")
    terrain = content["terrain"] if "terrain" in content else _open_field(*content.pop("size", (32, 32)))
    _check_rows(terrain, place)
    order = content.get("enemy_order", ORDERS[0])
    _check_order(order, len(terrain[0]), len(terrain), place)
    return {**content, **groups, "terrain": terrain, "enemy_order": order}


def _group(group: Json, where: str) -> Json:
    """Returns a group of units with its type's name as it is here, and its count.

    Raises: ValueError where it is none.
    """
    known = {"unit": str, "count": Key(int, "units", low=1, high=MOST_UNITS).read, **PLACES}
    for key in group.keys() - known.keys():
        raise ValueError(f"'{where}' has an unknown key '{key!s:.80}'{nearest(str(key), known)}")
    ways = [key for key in PLACES if key in group]
    if len(ways) != 1:
        given = " and ".join(ways) or "nothing"
        raise ValueError(f"'{where}' says where its units are by {given}; give one of {', '.join(PLACES)}")
    fitted(group, {key: known[key] for key in group}, where)
    count = len(group["places"]) if "places" in group else group.get("count", 1)
    if group.get("count", count) != count:
        raise ValueError(f"'{where}' has count={group['count']}, but {count} places; leave count out")
    return {**group, "unit": _unit_name(group["unit"], where), "count": count}


def _unit_name(name: str, where: str) -> str:
    """Returns the name of a unit type as it is here, for any way to write it: SpineCrawler for SPINE_CRAWLER."""
    by_letters = {known.lower(): known for known in UNITS}
    letters = name.replace("_", "").replace(" ", "").lower()
    if letters not in by_letters:
        raise ValueError(f"'{where}' has an {unknown('unit', by_letters.get(letters, name), UNITS)}")
    found = by_letters[letters]
    if where.startswith(SIDES[0]) and not unit_data()[found]["speed_per_normal_second"]:
        raise ValueError(f"'{where}' has a {found}, which can't move; only enemies may be such units")
    return found


def _check_keys(content: Mapping[str, Any], known: Mapping[str, object], place: str) -> None:
    for key in content.keys() - known.keys():
        raise UserError(f"{place} has an unknown key '{shortened(key)}'{nearest(str(key), known)}; see docs/maps.md")
    for key in REQUIRED.keys() - content.keys():
        raise UserError(f"{place} lacks the key '{key}'; see docs/maps.md")


def _open_field(width: int, height: int) -> list[str]:
    inner = height - 2 * BORDER
    edge = CLIFF * width
    row = CLIFF * BORDER + GROUND * (width - 2 * BORDER) + CLIFF * BORDER
    return [edge] * BORDER + [row] * inner + [edge] * BORDER


def _check_rows(rows: Sequence[str], place: str) -> None:
    sizes = {len(row) for row in rows} or {0}
    if len(sizes) != 1:
        raise UserError(f"{place}: terrain has rows of {min(sizes)} to {max(sizes)} characters; make them equally long")
    for size, what in ((len(rows), "rows"), (min(sizes), "characters in a row")):
        if not LEAST_SIZE <= size <= MOST_SIZE:
            raise UserError(f"{place}: terrain has {size} {what}; it may have {LEAST_SIZE} to {MOST_SIZE}")
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            if cell not in LEVEL_OF_CELL:
                raise UserError(
                    f"{place}: terrain has '{cell}' in row {y + 1}, column {x + 1}; the characters are . ground, "
                    "^ high ground, # cliff and ~ void"
                )


def _check_ground(pathing: np.ndarray, place: str) -> None:
    inner = pathing[BORDER:-BORDER, BORDER:-BORDER]
    if pathing.sum() != inner.sum():
        raise UserError(f"{place}: the {BORDER} outer rows and columns of the terrain must be # or ~ all around")
    if not inner.any():
        raise UserError(f"{place}: the terrain has no ground; write . for it")
    free = np.argwhere(pathing)
    low, high = free.min(0), free.max(0)
    is_open = pathing[low[0] : high[0] + 1, low[1] : high[1] + 1].all()
    if len(free) > MOST_CELLS and not is_open:
        raise UserError(
            f"{place}: the terrain has walls and {len(free):,} cells of ground; with walls it may have {MOST_CELLS:,}"
        )


def _check_order(order: str | Mapping[str, Any], width: int, height: int, place: str) -> None:
    if not isinstance(order, Mapping):
        if order not in ORDERS:
            raise UserError(f"{place}: enemy_order={shortened(order)} is none; write hunt, stand, or attack: [x, y]")
        return
    for key in order.keys() - {"attack"}:
        raise UserError(f"{place}: enemy_order has an unknown key '{shortened(key)}'; write attack: [x, y] alone")
    x, y = order["attack"]
    if not (x <= width and y <= height):
        raise UserError(
            f"{place}: enemy_order attacks [{x:g}, {y:g}], outside of a map of {width} by {height}; move it"
        )


def _order(order: str | Mapping[str, Any]) -> Json:
    """Returns the enemies' order as maps have it."""
    if isinstance(order, Mapping):
        return {"kind": "attack_move_to_point", "point": [float(value) for value in order["attack"]]}
    return {"kind": "attack_unit_group"} if order == "hunt" else {"kind": "none"}


def _race(type_names: Sequence[str]) -> str:
    """Returns the race as far as it matters: P for a side that has shields."""
    return "P" if any(unit_data()[name]["shield"] for name in type_names) else unit_data()[type_names[0]]["race"][0]


# ------------------------------------------------------------------------------------------------ where units stand


def _place(content: Json, grid: np.ndarray, place: str) -> tuple[list[Placed], list[Placed]]:
    """Returns the units of both sides in the order of the file, those of areas anywhere in them, the same for the same
    content.

    Raises: UserError where one stands on a wall, or on another, or has no room.
    """
    fixed = [unit for side in SIDES for unit in _fixed(content[side], grid, side, place)]
    _check_places(fixed, grid, place)
    stand: list[Placed] = list(fixed)
    rng = np.random.default_rng(int.from_bytes(digest(content)[:8], "little"))
    for side in SIDES:
        for i, group in enumerate(content[side]):
            if "area" in group:
                stand += _in_area(group, f"{side}[{i}]", stand, grid, rng, place)
    by_group: dict[str, list[Placed]]
    by_group = {f"{side}[{i}]": [] for side in SIDES for i in range(len(content[side]))}
    for unit in stand:
        by_group[unit.group].append(unit)
    agents, enemies = ([unit for i in range(len(content[side])) for unit in by_group[f"{side}[{i}]"]] for side in SIDES)
    return agents, enemies


def _areas(content: Json, units: Sequence[Placed]) -> np.ndarray | None:
    """Returns the area of each of these units, as Placement has them."""
    groups = {f"{side}[{i}]": group for side in SIDES for i, group in enumerate(content[side])}
    areas = np.array([groups[unit.group].get("area", [np.nan] * 4) for unit in units], float)
    return None if np.isnan(areas).all() else areas


def _fixed(groups: Sequence[Json], grid: np.ndarray, side: str, place: str) -> Iterator[Placed]:
    """Yields the units of groups that have `places`, or are created around a point as the game does it."""
    spawned = [(f"{side}[{i}]", group) for i, group in enumerate(groups) if "at" in group]
    for where, group in spawned:
        x, y = group["at"]
        if not _is_free(x, y, group["unit"], grid):
            raise UserError(f"{place}: {where} is at {group['at']}, where no {group['unit']} can stand; move it")
    try:
        units = spawn_positions([Spawn(g["count"], g["unit"], tuple(g["at"])) for _, g in spawned], grid)
    except StopIteration:
        raise UserError(f"{place}: there is no room for all {side} around their points; spread them out") from None
    names = [where for where, group in spawned for _ in range(group["count"])]
    yield from (Placed(*unit, where) for unit, where in zip(units, names, strict=True))
    for i, group in enumerate(groups):
        for x, y in group.get("places", ()):
            yield Placed(group["unit"], float(x), float(y), f"{side}[{i}]")


def _in_area(
    group: Json, where: str, others: Sequence[Placed], grid: np.ndarray, rng: np.random.Generator, place: str
) -> list[Placed]:
    west, south, east, north = group["area"]
    if west > east or south > north:
        raise UserError(f"{place}: {where} has area {group['area']}; write [west, south, east, north]")
    placed: list[Placed] = []
    for _ in range(MOST_TRIES * group["count"]):
        x, y = rng.uniform((west, south), (east, north)).tolist()
        unit = Placed(group["unit"], round(x, 3), round(y, 3), where)
        if _is_free(unit.x, unit.y, unit.type_name, grid) and not any(_overlap(unit, v) for v in (*others, *placed)):
            placed.append(unit)
            if len(placed) == group["count"]:
                return placed
    raise UserError(f"{place}: {where} has no room for {group['count']} {group['unit']} in {group['area']}; enlarge it")


def _check_places(units: Sequence[Placed], grid: np.ndarray, place: str) -> None:
    for k, unit in enumerate(units):
        spot = f"{unit.type_name} of {unit.group} at [{unit.x:g}, {unit.y:g}]"
        if not _is_free(unit.x, unit.y, unit.type_name, grid):
            raise UserError(f"{place}: the {spot} would stand on a wall or outside of the map; move it")
        for other in units[:k]:
            if _overlap(unit, other):
                raise UserError(
                    f"{place}: the {spot} overlaps the {other.type_name} of {other.group} at "
                    f"[{other.x:g}, {other.y:g}]; move one of them"
                )


def _is_free(x: float, y: float, type_name: str, grid: np.ndarray) -> bool:
    inside = 0 <= x < grid.shape[0] and 0 <= y < grid.shape[1]
    return inside and bool(grid[int(x), int(y)] >> layer(type_name) & 1)


def _overlap(unit: Placed, other: Placed) -> bool:
    first, second = layer(unit.type_name), layer(other.type_name)
    if first != second and max(first, second) > 1:  # flyers are in nobody's way
        return False
    radii = unit_data()[unit.type_name]["radius"] + unit_data()[other.type_name]["radius"]
    return float(np.hypot(unit.x - other.x, unit.y - other.y)) < radii - 2 * OVERLAP - 1e-9


# ------------------------------------------------------------------------------------------------ SMAClite


def _of_smaclite(content: Json, place: str) -> Json:
    """Returns a map of SMAClite in the form of ours. Raises: UserError where it has what is not read here."""
    try:
        content = fitted(content, SMACLITE)
    except ValueError as error:
        raise UserError(f"{place} is no map of SMAClite: {error}; see docs/maps.md") from error
    sides: dict[str, list[Json]] = {"ALLY": [], "ENEMY": []}
    for i, group in enumerate(content["groups"]):
        if group["faction"] not in sides:
            raise UserError(f"{place}: groups[{i}] has faction '{shortened(group['faction'])}'; it is ALLY or ENEMY")
        point = [group["x"], group["y"]]
        units = group["units"].items() if isinstance(group["units"], dict) else group["units"]
        sides[group["faction"]] += [{"unit": name, "count": n, "at": point} for name, n in units]
    for key, faction in (("num_allied_units", "ALLY"), ("num_enemy_units", "ENEMY")):
        n_units = sum(group["count"] for group in sides[faction])
        if content[key] != n_units:
            raise UserError(f"{place}: {key} is {content[key]}, but the groups have {n_units} of {faction}; correct it")
    own: Json = {"episode_limit": content.get("episode_limit", SMACLITE_LIMIT)}
    own |= {"agents": sides["ALLY"], "enemies": sides["ENEMY"], "terrain": _terrain_of_smaclite(content, place)}
    if content.get("attack_point") is not None:
        own["enemy_order"] = {"attack": content["attack_point"]}
    return own | ({"name": content["name"]} if "name" in content else {})


def _terrain_of_smaclite(content: Json, place: str) -> list[str]:
    rows, preset = content.get("terrain"), content.get("terrain_preset")
    if preset is not None or rows is None:
        rows = SMACLITE_SIMPLE if preset in (None, "SIMPLE") else _preset(preset, place)
    elif isinstance(rows, list) and rows and all(isinstance(row, (str, list)) and row for row in rows):
        rows = rows[::-1]  # SMAClite's own files have the north first, rows within a map the south
    else:
        raise UserError(f"{place}: terrain is no list of rows; write each row as text")
    try:
        field = np.array([[SMACLITE_CELLS[str(cell)] for cell in row] for row in rows])
    except KeyError as error:
        raise UserError(f"{place}: terrain has {error}; ' ', _ and . are ground, X, C and # are walls") from error
    except ValueError as error:
        raise UserError(f"{place}: terrain has rows of several lengths; make them equally long") from error
    for edge in (slice(None, BORDER), slice(-BORDER, None)):  # nobody can be there
        field[edge] = field[:, edge] = CLIFF
    return ["".join(row) for row in field]


def _preset(name: str, place: str) -> list[str]:
    """Returns the rows of a terrain preset, from its file beside the map or in the installed package.

    Raises: UserError where there is no such file.
    """
    file, package = f"{str(name).lower()}.slt", find_spec("smaclite")
    is_word = re.fullmatch(r"\w{1,40}", str(name))
    installed = (package and package.submodule_search_locations) or ()
    for folder in (Path(place).parent, *(Path(root) / "env" / "terrain" / "smaclite_terrain" for root in installed)):
        if is_word and (folder / file).is_file():
            try:
                return read_bytes(folder / file).decode().split()
            except UnicodeDecodeError as error:
                raise UserError(f"{folder / file} can't be read as text: {reason(error)}; restore it") from error
    raise UserError(
        f"{place}: terrain_preset={shortened(name)} is not known here without SMAClite's own file {shortened(file)}; "
        "put that beside the map, install the package smaclite, or write the rows as 'terrain'"
    )
