"""The ten unit types of the SMAC maps as one table, read from `data/units.json` (StarCraft II's Liberty data).

Times become game loops (1/16 of a normal second) and speeds distance per loop, once, here; `dynamics.py` counts loops.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

LOOPS_PER_SECOND = 16
TURN = np.deg2rad(999.84) / LOOPS_PER_SECOND
SCAN_BEYOND_RANGE = 0.5  # marines in recorded battles turn to opponents up to 5.5 away
ATTRIBUTES = ("Light", "Armored", "Biological", "Mechanical", "Massive", "Structure")
BIOLOGICAL, STRUCTURE = (1 << ATTRIBUTES.index(name) for name in ("Biological", "Structure"))

PLANES = {"Ground": 1, "Air": 2}
"""Bits: as what a unit can be a target, and what a weapon reaches."""

GROUND, CLIFF, AIR = 0, 1, 2
"""Layers of movement: nobody blocks anybody of another one. Colossi walk over cliffs and over everybody."""

ROOMY = 3
"""What is added to a layer for the bit of cells whose eight neighbours belong to the layer, too."""

SHOT, BEAMS, BLAST = 0, 1, 2
"""What a weapon does to its target and around: hits it; the colossus's two beams; the baneling's explosion."""

WEAPON_OF_SPLASH = {"line": BEAMS, "circle": BLAST}

UNIT_TYPE = np.dtype(
    [
        ("health", "f8"),
        ("shield", "f8"),
        ("armor", "f8"),
        ("health_regeneration", "f8"),  # per loop
        ("shield_regeneration", "f8"),  # per loop
        ("shield_delay", "f8"),  # loops without damage before it
        ("attributes", "i8"),  # bits, in the order of ATTRIBUTES
        ("layer", "i8"),
        ("speed", "f8"),  # distance per loop
        ("turn", "f8"),  # radians per loop; 0: its weapon turns by itself
        ("acceleration", "f8"),  # of the speed, per loop
        ("weapon", "i8"),  # SHOT, BEAMS or BLAST
        ("reaches", "i8"),  # bits of PLANES; 0: unarmed
        ("damage", "f8"),  # per hit
        ("bonus", "f8"),
        ("bonus_attributes", "i8"),  # bits
        ("second_hit", "f8"),  # loops after the first; 0: there is none
        ("missile_speed", "f8"),  # distance per loop; 0: hits at once
        ("range", "f8"),  # edge to edge
        ("range_slop", "f8"),
        ("scan_range", "f8"),  # edge to edge
        ("period", "f8"),  # loops from one attack to the next, before the random delay
        ("delay_min", "f8"),
        ("delay_max", "f8"),
        ("damage_point", "f8"),  # loops of wind-up
        ("backswing", "f8"),  # loops
        ("melee_range", "f8"),  # within which a second weapon strikes at once; 0: there is none
        ("melee_damage_point", "f8"),
        # of medivacs
        ("heal_range", "f8"),
        ("heal", "f8"),  # health per loop
        ("heal_cost", "f8"),  # energy per point of health
        ("heal_scan_range", "f8"),
        ("heal_min_energy", "f8"),  # to begin by itself
        ("energy_max", "f8"),
        ("energy_regeneration", "f8"),  # per loop
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
        row["health_regeneration"] = unit["hp_regen_per_s"] / LOOPS_PER_SECOND
        row["attributes"] = _bits(unit["attributes"])
        row["layer"] = layer(name)
        row["speed"] = unit["speed_per_normal_second"] / LOOPS_PER_SECOND
        row["turn"] = 0 if unit.get("turret") else TURN
        row["acceleration"] = unit["acceleration"] / LOOPS_PER_SECOND**2
        if "shield_regen" in unit:
            row["shield_regeneration"] = unit["shield_regen"]["rate_per_game_loop"]
            row["shield_delay"] = unit["shield_regen"]["delay_game_loops"]
        for weapon in unit["weapons"][:1]:
            _write_weapon(row, weapon)
        for weapon in unit["weapons"][1:]:
            row["melee_range"] = weapon["range"]
            row["melee_damage_point"] = round(weapon["damage_point_s"] * LOOPS_PER_SECOND)
        if "heal" in unit:
            heal, energy = unit["heal"], unit["energy"]
            row["heal_range"], row["heal_scan_range"] = heal["range"], heal["autocast_scan_range"]
            row["heal"] = heal["hp_per_s_normal"] / LOOPS_PER_SECOND
            row["heal_cost"], row["heal_min_energy"] = heal["energy_per_hp"], heal["autocast_min_energy"]
            row["energy_max"], row["energy_regeneration"] = energy["max"], energy["regen_per_game_loop"]
    return table


def layer(name: str) -> int:
    """In which layer units of this type move: GROUND, CLIFF or AIR."""
    unit = unit_data()[name]
    return AIR if unit["flying"] else CLIFF if "collision_layers" in unit else GROUND


def planes(name: str) -> int:
    """As what units of this type can be a target: bits of PLANES."""
    return sum(PLANES[plane] for plane in unit_data()[name]["planes_targetable_as"])


def _write_weapon(row: np.void, weapon: dict[str, Any]) -> None:
    row["weapon"] = WEAPON_OF_SPLASH[weapon["splash"]["shape"]] if "splash" in weapon else SHOT
    row["reaches"] = weapon["targets_ground"] * PLANES["Ground"] + weapon["targets_air"] * PLANES["Air"]
    row["damage"] = weapon["damage_per_hit"]
    row["bonus"] = sum(weapon["bonus"].values())
    row["bonus_attributes"] = _bits(list(weapon["bonus"]))
    row["second_hit"] = weapon.get("hit_times_s", [0])[-1] * LOOPS_PER_SECOND
    row["missile_speed"] = weapon.get("missile_speed_per_s", 0) / LOOPS_PER_SECOND
    row["range"], row["range_slop"] = weapon["range"], weapon["range_slop"]
    row["scan_range"] = max(weapon["min_scan_range"], weapon["range"] + SCAN_BEYOND_RANGE)
    row["period"] = weapon["cooldown_s_normal"] * LOOPS_PER_SECOND
    row["delay_min"], row["delay_max"] = np.array(weapon["random_delay_s_normal"]) * LOOPS_PER_SECOND
    row["damage_point"] = round(weapon["damage_point_s"] * LOOPS_PER_SECOND)
    row["backswing"] = weapon["backswing_s"] * LOOPS_PER_SECOND


def _bits(attributes: list[str]) -> int:
    return sum(1 << ATTRIBUTES.index(attribute) for attribute in attributes)
