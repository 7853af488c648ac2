"""Pools: what a member must be, what makes two pools overlap, and the command that trains members and goes on."""

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
import yaml

from experiments import jobs, pool
from utils.errors import UserError
from utils.pools import MEMBER_FILE, check_disjoint, find_members, load_pool, weights_id

TINY = (
    "env_args.map_name=3m",
    "env_args.engine=sim",
    "rnn_hidden_dim=8",
    "batch_size=2",
    "buffer_size=4",
    "test_nepisode=2",
    "test_interval=50",
    "log_interval=50",
)
# Stands in for main.py: trains in steps of 40 until t_max, saves every time, and obeys or disobeys as it is told.
STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path
given = dict(word.lstrip("-").split("=", 1) for word in sys.argv[1:] if "=" in word)
work, t_max, seed = Path(given["local_results_path"]), int(given["t_max"]), int(given["seed"])
asked = []
signal.signal(signal.SIGTERM, lambda *_: os._exit(9) if asked else asked.append(1))
records = work / "sacred" / str(1 + len(list(work.glob("sacred/*"))))
records.mkdir(parents=True)
place = {"env": "sc2", "env_args": {"map_name": "3m"}, "resolved": {"engine": "sim"}}
config = {**place, "t_max": t_max, "seed": seed, "lr": float(given.get("lr", 0.0005))}
(records / "config.json").write_text(json.dumps(config))
step = 0
if "checkpoint_path" in given:
    step = max(int(p.name) for p in Path(given["checkpoint_path"]).iterdir())
keeps_others_out = any(path.resolve().name == "lock" for path in Path("/proc/self/fd").iterdir())
print("seed", seed, "threads", os.environ["OMP_NUM_THREADS"], "lock", keeps_others_out, flush=True)
while step <= t_max and not asked:
    step += 40
    if seed == 13 and step > 80 and "checkpoint_path" not in given:
        print("bad luck", flush=True)
        sys.exit(3)
    while seed == 7 and step > 80 and "checkpoint_path" not in given and not asked:
        time.sleep(0.01)  # until it is interrupted
    if asked:
        time.sleep(0.3)  # as an episode goes on
    folder = work / "models" / f"run{records.name}" / str(step)
    folder.mkdir(parents=True)
    for name in ("agent.th", "mixer.th", "buffer.th", "state.th"):
        (folder / name).write_text(f"{name} of {sys.argv[1]}, seed {seed}")
    with (records / "metrics.jsonl").open("a") as lines:
        for key, value in {"test_battle_won_mean": step / 1000, "test_return_mean": step, "loss": 1.0}.items():
            lines.write(json.dumps({"t_env": step, "key": key, "value": value}) + "\\n")
sys.exit(130 if asked else 0)
"""


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(jobs, "MAIN", script)


def fill(folder, *more, algs=("iql",), seeds=(1, 2), t_max=200, settings=("env_args.map_name=3m",)):
    """Exit status of the command."""
    params = [str(folder), "--algs", *algs, "--seeds", *map(str, seeds), f"--t_max={t_max}", "--set", *settings]
    return pool.main([*params, *more])


def make_member(folder: Path, text="weights", **changes) -> Path:
    """A member as its files, with changes to its member.yaml; None takes a key out."""
    weights = folder / "iql" / "agent.th"
    weights.parent.mkdir(parents=True)
    weights.write_text(text)
    content = {
        "algorithm": "iql",
        "env": "sc2",
        "map": "3m",
        "engine": "sim",
        "seed": 1,
        "t_max": 100,
        "steps": 117,
        "test_win_rate": 0.5,
        "test_win_rate_of_five": 0.25,
        "test_return": 9.5,
        "steps_per_second": 1000.0,
        "weights": {"iql": weights_id(weights)},
        "config": {"agent": "rnn"},
    } | changes
    present = {key: value for key, value in content.items() if value != "left out"}
    (folder / MEMBER_FILE).write_text(yaml.safe_dump(present))
    return folder


# --- reading


def test_a_pool_is_read_as_its_members_by_name(tmp_path):
    make_member(tmp_path / "b", seed=2)
    make_member(tmp_path / "a", test_win_rate=None, map=None, engine=None)
    (tmp_path / ".work").mkdir()
    (tmp_path / "notes.txt").touch()
    first, second = load_pool(tmp_path)
    assert (first.folder.name, second.folder.name) == ("a", "b")
    assert second.weights_folder() == tmp_path / "b" / "iql" and second.config == {"agent": "rnn"}
    assert second.identity == ("iql", "sc2", "3m", 2) and str(second.identity) == "iql on 3m with seed 2"
    assert first.test_win_rate is None and str(first.identity) == "iql on sc2 with seed 1"


def test_a_pool_without_members_says_what_makes_some(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert find_members(folder) == []
        with pytest.raises(UserError, match=f"{folder} holds no members.*experiments.pool"):
            load_pool(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": "left out"}, "'seed' is missing"),
        ({"seed": "one"}, "seed=one is not allowed: it must be a whole number, at least 0"),
        ({"test_win_rate": 50}, "test_win_rate=50 is not allowed: it must be a number, at least 0, at most 1, or null"),
        ({"weights": {}}, "'weights' has none of its algorithm, iql"),
        ({"weights": ["iql"]}, "'weights' must be a group of keys"),
        ({"weights": {"iql": 3}}, "'weights.iql' must be text, not a whole number"),
        ({"weights": {"qmix": "0"}}, "'weights' has none of its algorithm, iql"),
        ({"weights": {"iql": "0"}}, "is not the file that"),
        ({"config": [1]}, "'config' must be a group of keys"),
    ],
)
def test_a_broken_member_is_named_with_what_is_wrong(tmp_path, changes, said):
    make_member(tmp_path / "m", **changes)
    with pytest.raises(UserError) as mistake:
        load_pool(tmp_path)
    assert said in str(mistake.value) and str(tmp_path / "m") in str(mistake.value)


def test_missing_files_of_a_member_are_named(tmp_path):
    make_member(tmp_path / "m")
    (tmp_path / "m" / "iql" / "agent.th").unlink()
    with pytest.raises(UserError, match=r"missing: .*m/iql/agent\.th"):
        load_pool(tmp_path)
    (tmp_path / "m" / MEMBER_FILE).unlink()
    with pytest.raises(UserError, match=f"m is in a pool but has no {MEMBER_FILE}"):
        load_pool(tmp_path)


# --- disjoint pools


def test_pools_overlap_by_weights_or_by_training(tmp_path):
    make_member(tmp_path / "train" / "m", "some weights", seed=1)
    make_member(tmp_path / "fine" / "m", "other weights", seed=2)
    make_member(tmp_path / "again" / "m2", "others", seed=1, t_max=999, engine="game")
    make_member(tmp_path / "copied" / "m3", "some weights", seed=5, algorithm="iql")
    train, fine, again, copied = (load_pool(tmp_path / name) for name in ("train", "fine", "again", "copied"))
    check_disjoint(train, fine)
    with pytest.raises(UserError, match=r"train/m and .*again/m2 .*both are iql on 3m with seed 1"):
        check_disjoint(train, again)
    with pytest.raises(UserError, match=r"train/m and .*copied/m3 .*weights are the same"):
        check_disjoint(train, copied)


def test_seeds_of_another_pool_are_refused_before_anything_is_written(tmp_path, stand_in, capsys):
    assert fill(tmp_path / "train") == 0
    capsys.readouterr()
    assert fill(tmp_path / "test", "--disjoint-from", str(tmp_path / "train"), seeds=(3, 2)) == 2
    assert "iql on 3m with seed 2 is in the other pool" in capsys.readouterr().err
    assert not (tmp_path / "test").exists()
    disjoint = ("--disjoint-from", str(tmp_path / "train"))
    assert fill(tmp_path / "test", *disjoint, seeds=(3,)) == 0
    shutil.copytree(tmp_path / "train" / "iql_3m_sim_seed1", tmp_path / "test" / "other_name")
    assert fill(tmp_path / "test", *disjoint, seeds=(4,)) == 2
    assert "one member in two pools" in capsys.readouterr().err


# --- training


def test_members_are_trained_at_once_and_written_whole(tmp_path, stand_in, capsys):
    assert fill(tmp_path / "p", "--jobs=2", algs=("iql", "qmix"), seeds=(1, 2)) == 0
    members = load_pool(tmp_path / "p")
    assert [m.folder.name for m in members] == [f"{a}_3m_sim_seed{s}" for a in ("iql", "qmix") for s in (1, 2)]
    member = members[2]
    assert (member.algorithm, member.seed, member.engine, member.t_max, member.steps) == ("qmix", 1, "sim", 200, 240)
    assert (member.test_win_rate, member.test_return) == (0.24, 240)
    assert member.test_win_rate_of_five == pytest.approx((0.08 + 0.12 + 0.16 + 0.20 + 0.24) / 5)
    assert {path.name for path in member.weights_folder().iterdir()} == {"agent.th", "mixer.th"}
    assert (member.folder / "metrics.jsonl").is_file() and member.config["seed"] == 1
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == [".work", *(m.folder.name for m in members)]
    assert [path.name for path in (tmp_path / "p" / ".work").iterdir()] == ["lock"]
    out = capsys.readouterr().out
    assert "4 of 4 members to train, 200 steps each, 2 at a time" in out
    assert "[4/4]" in out and "time left" in out and "last test won 24%" in out


def test_finished_members_stay_and_missing_ones_are_trained(tmp_path, stand_in, capsys):
    fill(tmp_path, seeds=(1,))
    before = (tmp_path / "iql_3m_sim_seed1" / MEMBER_FILE).stat().st_mtime_ns
    capsys.readouterr()
    assert fill(tmp_path, seeds=(1, 2)) == 0
    assert (tmp_path / "iql_3m_sim_seed1" / MEMBER_FILE).stat().st_mtime_ns == before
    assert "1 of 2 members to train" in capsys.readouterr().out and len(load_pool(tmp_path)) == 2


def test_a_failed_member_is_reported_and_the_others_go_on(tmp_path, stand_in, capsys):
    assert fill(tmp_path, "--jobs=1", seeds=(13, 1)) == 1
    captured = capsys.readouterr()
    assert "iql_3m_sim_seed13 failed with status 3" in captured.out and "    bad luck" in captured.out
    assert captured.err.strip() == "1 of 2 members failed: iql_3m_sim_seed13"
    assert [m.seed for m in load_pool(tmp_path)] == [1]
    assert fill(tmp_path, seeds=(13, 1)) == 0  # from its checkpoint of step 80
    assert "iql_3m_sim_seed13" in capsys.readouterr().out.splitlines()[0] and len(load_pool(tmp_path)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_handed_on_and_the_next_command_resumes(tmp_path, stand_in, capsys, sent):
    first, second = (tmp_path / ".work" / f"iql_3m_sim_seed{seed}" for seed in (7, 1))

    def interrupt():
        while not list(tmp_path.glob(".work/*/models/*/80")):
            time.sleep(0.02)
        os.kill(os.getpid(), sent)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert fill(tmp_path, "--jobs=1", seeds=(7, 1)) == 128 + sent
    thread.join()
    captured = capsys.readouterr()
    assert "seed7: stopped, to be resumed from step 120" in captured.out and "goes on from here" in captured.err
    assert find_members(tmp_path) == [] and not second.exists()
    assert (first / "log.txt").read_text() == "seed 7 threads 1 lock True\n"
    assert fill(tmp_path, "--jobs=1", seeds=(7, 1)) == 0
    assert "from step 120" in capsys.readouterr().out
    assert [m.seed for m in load_pool(tmp_path)] == [1, 7]


def test_other_settings_under_the_same_name_are_refused(tmp_path, stand_in, capsys):
    fill(tmp_path, seeds=(1, 13))  # one member and one interrupted run
    for settings, t_max, said in (("lr=0.1", 200, "lr=0.0005, not 0.1"), ("lr=0.0005", 300, "t_max=200, not 300")):
        for seed in (1, 13):
            capsys.readouterr()
            assert fill(tmp_path, seeds=(seed,), t_max=t_max, settings=("env_args.map_name=3m", settings)) == 2
            error = capsys.readouterr().err
            assert f"iql_3m_sim_seed{seed} is trained with {said}" in error and error.count("\n") == 1


def test_a_run_that_has_not_saved_its_final_weights_is_no_member(tmp_path, stand_in, capsys):
    script = jobs.MAIN.read_text()
    jobs.MAIN.write_text(script.replace("while step <= t_max", "while step <= t_max / 2"))
    assert fill(tmp_path, seeds=(1,)) == 1
    assert "final weights or its records have not been saved" in capsys.readouterr().out
    assert find_members(tmp_path) == []


def test_two_commands_do_not_fill_one_folder_at_the_same_time(tmp_path, stand_in, capsys):
    with pool.only_one(tmp_path):
        assert fill(tmp_path) == 2
    assert "is being filled by another process" in capsys.readouterr().err
    assert fill(tmp_path) == 0


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (("--algs", "iqll", "--seeds", "1", "--t_max=9"), "did you mean 'iql'"),
        (("--algs", "iql", "2iql1iql_omg", "--seeds", "1", "--t_max=9"), "2iql1iql_omg is no algorithm; a member"),
        (("--algs", "iql", "--seeds", "one", "--t_max=9"), "--seeds"),
        (("--algs", "iql", "--seeds", "-1", "--t_max=9"), "--seeds"),
        (("--algs", "iql", "--seeds", "1", "--t_max=0"), "t_max=0 is not allowed"),
        (("--algs", "iql", "--seeds", "1", "--t_max=9", "--jobs=0"), "--jobs"),
        (("--algs", "iql", "--seeds", "1", "--t_max=9", "--set", "seed=3"), "'seed' is not for you to set"),
        (("--algs", "iql", "--seeds", "1", "--t_max=9", "--set", "gama=1"), "did you mean 'gamma'"),
        (("--algs", "iql", "--seeds", "1", "--t_max=9", "--disjoint-from", "nowhere"), "nowhere holds no members"),
        (("--algs", "iql", "--t_max=9"), "--seeds"),
    ],
)
def test_mistakes_are_one_sentence_and_write_nothing(tmp_path, capsys, params, said):
    assert pool.main([str(tmp_path / "p"), *params]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1
    assert not (tmp_path / "p").exists()


@pytest.mark.slow
def test_real_members_are_those_of_main(tmp_path, capsys):
    assert fill(tmp_path, "--jobs=2", t_max=100, settings=TINY) == 0, capsys.readouterr().out
    first, second = load_pool(tmp_path)
    assert first.engine == "sim" and first.steps > 100 and first.config["rnn_hidden_dim"] == 8
    assert first.test_win_rate is not None and first.weights != second.weights
    assert {"agent.th", "opt.th"} <= {path.name for path in first.weights_folder().iterdir()}
    assert not {"buffer.th", "state.th"} & {path.name for path in first.weights_folder().iterdir()}
    assert json.loads((first.folder / "metrics.jsonl").read_text().splitlines()[0])["t_env"] >= 0
    assert fill(tmp_path, t_max=100, settings=TINY) == 0  # nothing is left to do, and what was done fits
    assert "0 of 2 members to train" in capsys.readouterr().out
