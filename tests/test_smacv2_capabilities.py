"""What SMACv2 draws: one for one what its own code draws where its generators are seeded (`golden/smacv2`), and what
can't be drawn."""

import itertools
import json
import os
from pathlib import Path
from random import Random

import numpy as np
import pytest

from envs.sc2.sim.smacv2.capabilities import AllTeams, Capabilities, Mask, PerAgentUniform, ReflectPosition
from envs.sc2.sim.smacv2.races import SCENARIOS, race_of, standard_config
from utils.errors import UserError

FOLDER = Path(os.environ.get("SMACV2_GOLDEN") or Path(__file__).parent / "golden" / "smacv2")
with np.load(FOLDER / "generators.npz") as file:
    GOLDEN = dict(file)
META = json.loads(str(GOLDEN["meta"]))
TERRAN = ("marine", "marauder", "medivac")


def generator(k):
    """The k-th that SMACv2 made for itself when the other draws were recorded."""
    return np.random.default_rng([META["other_seed"], k])


def indices(names, unit_types):
    return [unit_types.index(name) for name in names]


def config(**changes):
    return {**standard_config("terran_5_vs_5"), **changes}


def team(**changes):
    return config(team_gen={**standard_config("terran_5_vs_5")["team_gen"], **changes})


# ------------------------------------------------------------------------------------------------ draws


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_teams_and_places_are_those_that_smacv2_draws(scenario):
    recorded, capabilities = META["scenarios"][scenario], Capabilities(standard_config(scenario), race_of(scenario))
    numbers = itertools.count(1)
    generators = capabilities.generators(lambda: np.random.default_rng([recorded["seed"], next(numbers)]))
    assert sum(map(len, generators.values())) == recorded["n_generators"]
    golden = {name: GOLDEN[f"{scenario}/exact/{name}"] for name in ("ally_team", "enemy_team")}
    places = {name: GOLDEN[f"{scenario}/exact/{name}"] for name in ("ally_positions", "enemy_positions")}
    shuffler = Random(recorded["seed"])
    for t in range(len(golden["ally_team"])):
        draws = capabilities.draw(generators, shuffler)
        assert indices(draws.teams.allies, recorded["unit_types"]) == golden["ally_team"][t].tolist()
        assert indices(draws.teams.enemies, recorded["unit_types"]) == golden["enemy_team"][t].tolist()
        np.testing.assert_array_equal(draws.places.allies, places["ally_positions"][t])
        np.testing.assert_array_equal(draws.places.enemies, places["enemy_positions"][t])


def test_numbers_masks_and_whole_teams_are_those_that_smacv2_draws():
    uniform, first = PerAgentUniform((0.2,), (0.9,)), generator(1)
    np.testing.assert_array_equal([uniform.draw(5, 6, [first]) for _ in range(20)], GOLDEN["per_agent_uniform"])
    mask, second = Mask(0.3), generator(2)
    np.testing.assert_array_equal([mask.draw(5, 6, [second]) for _ in range(20)], GOLDEN["mask"])
    every, shuffler = AllTeams(TERRAN, ("medivac",)), Random(META["other_seed"])
    teams = [indices(every.draw(4, 4, [], shuffler).allies, TERRAN) for _ in range(20)]
    assert teams == GOLDEN["all_teams/team"].tolist()
    reflect, third = ReflectPosition(), generator(3)
    places = [reflect.draw(5, 3, [third]) for _ in range(10)]
    np.testing.assert_array_equal([drawn.allies for drawn in places], GOLDEN["reflect_fewer/ally"])
    np.testing.assert_array_equal([drawn.enemies for drawn in places], GOLDEN["reflect_fewer/enemy"])


def test_enemies_copy_the_allies_and_the_eleventh_is_never_alone_an_exception():
    capabilities, seeded = Capabilities(standard_config("terran_10_vs_11"), race_of("terran_10_vs_11")), generator(4)
    generators, shuffler = capabilities.generators(lambda: seeded), Random(0)
    for _ in range(200):
        teams = capabilities.draw(generators, shuffler).teams
        assert teams.enemies[:10] == teams.allies and set(teams.allies) != {"medivac"}
        assert teams.enemies[10] != "medivac"


def test_without_start_positions_the_sides_stand_opposite_each_other():
    given = config()
    del given["start_positions"]
    capabilities, seeded = Capabilities(given, race_of("terran_5_vs_5")), generator(5)
    places = capabilities.draw(capabilities.generators(lambda: seeded), Random(0)).places
    assert places.allies.tolist() == [[8, 16]] * 5 and places.enemies.tolist() == [[24, 16]] * 5


def test_numbers_that_smacv2s_wrapper_overwrites_mean_nothing():
    given = config(start_positions={**config()["start_positions"], "n_enemies": 9, "env_key": "start_positions"})
    assert Capabilities(given, race_of("terran_5_vs_5")).n_enemies == 5


# ------------------------------------------------------------------------------------------------ mistakes


HEALTH = {"dist_type": "per_agent_uniform", "lower_bound": [0.1], "upper_bound": [0.4]}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (team(weights=[0.5, 0.4, 0.2]), "team_gen has weights [0.5, 0.4, 0.2], which sum to 1.1; they must sum to 1"),
        (team(weights=[1.2, -0.2, 0.0]), "none may be below 0"),
        (team(weights=[], unit_types=[]), "draws no unit"),
        (
            config(health={"dist_type": "per_agent_uniform", "lower_bound": [1], "upper_bound": [1]}),
            "agents begin dead",
        ),
        (team(weights=[0.5, 0.5]), "2 weights for 3 unit_types"),
        (team(unit_types=["marine", "marauder", "zealot"]), "team_gen has an unknown unit type 'zealot'"),
        (team(unit_types=["marine", "marine", "medivac"]), "one of them twice"),
        (team(weights=[0, 0, 1.0]), "draws no unit that is not in exception_unit_types"),
        (team(dist_type="weighted_team"), "did you mean 'weighted_teams'"),
        (team(wieghts=[1]), "did you mean 'weights'"),
        (config(n_units=65), "n_units=65 are more units than the map has room for; give at most 64"),
        (config(n_enemies=0), "n_enemies is 0; it must be a whole number from 1 on"),
        (config(team_gen=None), "lacks team_gen"),
        (config(start_positions={"dist_type": "surrounded_and_reflect", "map_x": 32, "map_y": 32}), "lacks p"),
        (config(start_positions={"dist_type": "reflect_position", "map_x": 64, "map_y": 32}), "the map is 32 by 32"),
        (config(attack={"dist_type": "per_agent_uniform", "lower_bound": [0.9], "upper_bound": [0.2]}), "must rise"),
        (config(enemy_mask={"dist_type": "mask", "mask_probability": 2}), "a chance from 0 to 1"),
        (config(team_generator={}), "did you mean 'team_gen'"),
        (
            config(n_enemies=6, team_gen={"dist_type": "all_teams", "unit_types": list(TERRAN)}),
            "all_teams gives both sides the same team",
        ),
    ],
)
def test_a_configuration_that_can_not_be_is_refused_in_one_sentence(given, says):
    with pytest.raises(UserError) as error:
        Capabilities(given, race_of("10gen_terran"))
    assert says in str(error.value) and str(error.value).startswith(("env_args.capability_config", "all_teams"))
