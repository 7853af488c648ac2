"""The calibration: its interval, its published values and verdicts, what it refuses, and that it plays what it says."""

import json

import pytest

from envs.sc2.sim.maps import map_data
from envs.sc2.sim.rules import Rules
from experiments import calibrate

COLUMNS = {
    "map", "battles", "won", "win_rate", "interval", "episode_steps", "allies", "allies_left", "enemies",
    "enemies_left", "timeouts", "published", "within_aim", "changed",
}  # fmt: skip


def run(capsys, *params):
    """Exit status and printed lines."""
    status = calibrate.main(list(params))
    return status, capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("n_won", "n_battles", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (5, 10, 0.2366, 0.7634),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_the_interval_is_wilsons(n_won, n_battles, low, high):
    assert calibrate.wilson_interval(n_won, n_battles) == pytest.approx((low, high), abs=5e-5)


def test_published_values():
    assert calibrate.PUBLISHED.keys() <= map_data().keys()
    above_zero = {name: value for name, value in calibrate.PUBLISHED.items() if value}
    assert above_zero == {"2s3z": 90, "1c3s5z": 81, "bane_vs_bane": 43, "3s5z": 42, "10m_vs_11m": 12}
    assert len(calibrate.PUBLISHED) == 14


@pytest.mark.parametrize(
    ("map_name", "n_won", "n_battles", "expected"),
    [
        ("3s5z", 32, 100, True),
        ("3s5z", 31, 100, False),
        ("3s5z", 52, 100, True),
        ("3s5z", 53, 100, False),
        ("10m_vs_11m", 66, 300, True),  # 22 %, where 22 - 12 is a matter of rounding
        ("10m_vs_11m", 67, 300, False),
        ("10m_vs_11m", 6, 300, True),
        ("MMM2", 15, 300, True),
        ("MMM2", 16, 300, False),
        ("3m", 300, 300, None),
    ],
)
def test_the_aim_at_its_edges(map_name, n_won, n_battles, expected):
    assert calibrate.within_aim(map_name, n_won, n_battles) is expected


def test_the_verdict_names_the_maps_that_miss():
    results = [
        {"map": "MMM2", "win_rate": 6.0, "published": 0, "within_aim": False},
        {"map": "3s5z", "win_rate": 40.0, "published": 42, "within_aim": True},
        {"map": "3m", "win_rate": 95.0, "published": None, "within_aim": None},
    ]
    expected = "1 of 2 maps with a published value within the aim"
    assert calibrate.verdict(results) == f"{expected}; missed: MMM2 (6.0, published 0)"
    assert calibrate.verdict(results[1:]) == "1 of 1 maps with a published value within the aim"
    assert calibrate.verdict(results[2:]) == "no map with a published value"


def test_a_map_prints_a_line_and_writes_json(tmp_path, capsys):
    path = tmp_path / "results.json"
    params = ("--map", "3m", "5m_vs_6m", "--battles", "4", "--seed", "7", "--json", str(path))
    status, (_, _, header, *rows, verdict) = run(capsys, *params)
    assert status == 0
    assert header.split()[:2] == ["map", "battles"]
    assert [row.split()[:2] for row in rows] == [["3m", "4"], ["5m_vs_6m", "4"]]
    assert "of 1 maps with a published value within the aim" in verdict
    written = json.loads(path.read_text())
    assert written.keys() == {"machine", "seed", "heuristic_rest", "rules", "results"}
    assert written["seed"] == 7 and written["rules"] == Rules()._asdict()
    for result in written["results"]:
        assert result.keys() == COLUMNS and result["changed"] == {} and result["battles"] == 4
        low, high = result["interval"]
        assert 0 <= low <= result["win_rate"] <= high <= 100
        assert 0 < result["episode_steps"] <= map_data()[result["map"]]["episode_limit"]
        assert 0 <= result["allies_left"] <= result["allies"] and 0 <= result["enemies_left"] <= result["enemies"]


def test_the_same_seed_gives_the_same_numbers_whatever_is_played_at_once(monkeypatch):
    def numbers(n_battles=9, seed=0):
        return calibrate.play("3m", n_battles, seed, Rules(), False, 1)

    first = numbers()
    monkeypatch.setattr(calibrate, "AT_ONCE", 4)
    assert numbers() == first
    assert numbers(seed=100) != first
    alone = [numbers(1, seed) for seed in range(9)]
    assert first["won"] == sum(result["won"] for result in alone)
    assert first["episode_steps"] == pytest.approx(sum(result["episode_steps"] for result in alone) / 9)


def test_what_is_counted_at_the_end_of_a_battle(monkeypatch):
    """Nobody is in reach in the few loops of an episode of two steps: every battle times out with all units left."""
    construct = calibrate.BattleVectorEnv.__init__

    def short(self, *args, **env_args):
        construct(self, *args, **env_args)
        self.layout = self.layout._replace(episode_limit=2)

    monkeypatch.setattr(calibrate.BattleVectorEnv, "__init__", short)
    result = calibrate.play("3m", 3, 0, Rules(), True, 1)
    assert result["timeouts"] == result["allies_left"] == result["enemies_left"] == 3
    assert result["won"] == 0 and result["episode_steps"] == 2


def test_a_battle_stands_still_after_its_end():
    env = calibrate.BattleVectorEnv(range(4), map_name="3m", heuristic_ai=True)
    steps = calibrate.play_to_the_end(env)[:, 2]
    assert len(set(steps)) > 1 and env.episode_steps.tolist() == steps.tolist()


def test_sensitivity_plays_every_other_value_of_every_rule(tmp_path, capsys, monkeypatch):
    def play(map_name, n_battles, seed, rules, *args):
        played.append(rules)
        return original(map_name, n_battles, seed, rules, *args)

    played, original, path = [], calibrate.play, tmp_path / "results.json"
    monkeypatch.setattr(calibrate, "play", play)
    changed = "passing_side=left"
    params = ("--map", "3m", "--battles", "2", "--sensitivity", "--rules", changed, "--json", str(path))
    status, lines = run(capsys, *params)
    assert status == 0
    rows = {line.split("  ")[0]: line.split()[-1] for line in lines[2:-1]}
    results = json.loads(path.read_text())["results"]
    assert results[0]["changed"] == {}
    for result in results[1:]:
        ((name, value),) = result["changed"].items()
        assert rows[f"{name}={value}"] == f"{result['win_rate']:.1f}"
    tried = {name for result in results for name in result["changed"]}
    assert tried == set(Rules._fields)
    assert played == [Rules(passing_side="left")._replace(**result["changed"]) for result in results]
    assert "passing_side=right" in rows and "passing_side=left" not in rows


def test_an_interruption_keeps_what_was_finished(tmp_path, capsys, monkeypatch):
    def interrupted(map_name, *args):
        if map_name == "8m":
            raise KeyboardInterrupt
        return play(map_name, *args)

    play, path = calibrate.play, tmp_path / "results.json"
    monkeypatch.setattr(calibrate, "play", interrupted)
    status, lines = run(capsys, "--map", "3m", "8m", "--battles", "2", "--json", str(path))
    assert status == 130
    assert any(line.startswith("3m ") for line in lines) and "interrupted; what was finished counts" in lines
    assert [result["map"] for result in json.loads(path.read_text())["results"]] == ["3m"]


@pytest.mark.parametrize(
    ("params", "fragment"),
    [
        (["--map", "8n"], "unknown map '8n'"),
        (["--battles", "0"], "--battles and --threads must be above 0"),
        (["--threads", "100000"], "--threads=100000 is more than"),
        (["--seed", "-1"], "--seed=-1 must be at least 0"),
        (["--rules", "enemy_lst=created"], "did you mean 'enemy_list'?"),
        (["--rules", "enemy_list"], "'enemy_list' must have the form key=value"),
        (["--rules", "enemy_list=sorted"], "enemy_list can't be 'sorted'; it must be one of shuffled, created"),
        (["--rules", "scan_period_loops=1.5"], "scan_period_loops can't be '1.5'; it must be a whole number"),
        (["--rules", "scan_period_loops=-1"], "at least 0"),
        (["--json", "/dev/null/x"], "--json=/dev/null/x can't be written"),
        (["--sensitive"], "--sensitive"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_status_2(capsys, params, fragment):
    assert calibrate.main(params) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and fragment in captured.err


def test_rules_are_typed_by_their_fields():
    rules = calibrate.read_rules(["enemy_list=created", "scan_period_loops=4"])
    assert rules == Rules(enemy_list="created", scan_period_loops=4)
    assert calibrate.read_rules([]) == Rules()
