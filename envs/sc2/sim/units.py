"""The ten unit types of the SMAC maps as one table, read from `data/units.json` (StarCraft II's Liberty data).

Times become game loops (1/16 of a normal second) and speeds distance per loop, once, here; `dynamics.py` counts loops.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

LOOPS_PER_SECOND = 16
ATTRIBUTES = ("Light", "Armored", "Biological", "Mechanical", "Massive", "Structure")

UNIT_TYPE = np.dtype(
    [
        ("health", "f8"),
        ("shield", "f8"),
        ("armor", "f8"),
        ("attributes", "i8"),  # bits, in the order of ATTRIBUTES
        ("speed", "f8"),  # distance per loop
        ("damage", "f8"),  # per hit
        ("bonus", "f8"),
        ("bonus_attributes", "i8"),  # bits
        ("hits", "i8"),
        ("range", "f8"),  # edge to edge
        ("range_slop", "f8"),
        ("scan_range", "f8"),
        ("period", "f8"),  # loops from one attack to the next, before the random delay
        ("delay_min", "f8"),
        ("delay_max", "f8"),
        ("damage_point", "f8"),  # loops of wind-up
        ("backswing", "f8"),  # loops
    ],
    align=True,
)


@cache
def unit_data() -> dict[str, dict[str, Any]]:
    """The raw data of every unit type by name, times in normal seconds."""
    return json.loads((Path(__file__).parent / "data" / "units.json").read_text())


def unit_types(names: list[str]) -> np.ndarray:
    """The table [len(names)] of UNIT_TYPE for these types, in this order."""
    table = np.zeros(len(names), UNIT_TYPE)
    for row, name in zip(table, names, strict=True):
        unit = unit_data()[name]
        row["health"], row["shield"], row["armor"] = unit["hp"], unit["shield"], unit["armor"]
        row["attributes"] = _bits(unit["attributes"])
        row["speed"] = unit["speed_per_normal_second"] / LOOPS_PER_SECOND
        for weapon in unit["weapons"][:1]:
            row["damage"], row["hits"] = weapon["damage_per_hit"], weapon["hits_per_attack"]
            row["bonus"] = sum(weapon["bonus"].values())
            row["bonus_attributes"] = _bits(list(weapon["bonus"]))
            row["range"], row["range_slop"] = weapon["range"], weapon["range_slop"]
            row["scan_range"] = max(weapon["min_scan_range"], weapon["range"])
            row["period"] = weapon["cooldown_s_normal"] * LOOPS_PER_SECOND
            row["delay_min"], row["delay_max"] = np.array(weapon["random_delay_s_normal"]) * LOOPS_PER_SECOND
            row["damage_point"] = weapon["damage_point_s"] * LOOPS_PER_SECOND
            row["backswing"] = weapon["backswing_s"] * LOOPS_PER_SECOND
    return table


def _bits(attributes: list[str]) -> int:
    return sum(1 << ATTRIBUTES.index(attribute) for attribute in attributes)
