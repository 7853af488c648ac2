"""Files that hold something else: each is refused in one sentence that names it, before anything of it is used."""

import gzip
import io
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch as th

from envs.sc2.sim import film
from experiments import jobs, subgoals
from experiments.omg_runs import FIELDS, Evaluation, read_rows
from experiments.pool import Plan
from experiments.send_records import is_running
from tests.test_pool import make_member
from tests.test_run import built, equal, sequential, whole_run
from tests.test_sc2_replay import Replay, play
from utils.checkpoints import find_checkpoint
from utils.errors import UserError
from utils.files import MOST_UNPACKED_BYTES, fitted
from utils.pools import MEMBER_FILE, Identity, load_pool
from utils.random_states import random_states
from utils.weights import load_weights
from utils.yaml_files import load_yaml

HUGE = 10**30
LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 30))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The folder of a real run's only checkpoint."""
    folders, _ = whole_run(alg="qmix", local_results_path=tmp_path_factory.mktemp("results"), save_model=True)
    return Path(folders["models"])


def refused(path, read, *arguments, **settings):
    """Asserts that `read` refuses the file in one sentence; gives the sentence."""
    with pytest.raises(UserError) as caught:
        read(*arguments, **settings)
    said = str(caught.value)
    assert str(path) in said and "\n" not in said and "Traceback" not in said and len(said) < 600 + len(str(path))
    return said


def put(*keys, value):
    """A change of the value at these keys."""

    def change(content):
        *outer, last = keys
        for key in outer:
            content = content[key]
        content[last] = value(content[last]) if callable(value) else value

    return change


def drop(*keys):
    def change(content):
        *outer, last = keys
        for key in outer:
            content = content[key]
        del content[last]

    return change


def longer(tensor):
    return th.cat([tensor, tensor[:1]])


def no_tensor(tensor):
    return tensor.tolist()


WEIGHTS = "fc1.weight"
STATES = {
    "no clock": drop("clock"),
    "text as a clock": put("clock", value="noon"),
    "a clock without hands": drop("clock", "last_log_t"),
    "text as a time": put("clock", "episode", value="three"),
    "a tensor as a time": put("clock", "last_test_t", value=th.ones(2)),
    "a counter missing": drop("learner", "log_stats_t"),
    "a counter that is half": put("learner", "last_target_update_episode", value=0.5),
    "steps below zero": put("runner", "t_env", value=-1),
    "no steps": put("runner", "t_env", value=None),
    "more worlds than states": put("runner", "n_envs", value=3),
    "tests of other worlds": put("runner", "n_tests", value=[1, 2, 3]),
    "returns as text": put("runner", "train_stats", "returns", value=["much"]),
    "sums as a list": put("runner", "train_stats", "sums", value=[1.0]),
    "worlds missing": put("runner", "env", value={"worlds": []}),
    "worlds of another game": put("runner", "env", value={"worlds": [{"random": [1]}]}),
    "another generator": put("sampling", "bit_generator", value="MT19937"),
    "a generator of text": put("sampling", "state", "state", value="x"),
    "Python's words too few": put("random", "python", value=(3, (1, 2, 3), None)),
    "Python's place too far": put("random", "python", value=lambda state: (3, (*state[1][:-1], 625), None)),
    "NumPy's words too few": put("random", "numpy", "state", "key", value=[1]),
    "NumPy's words too large": put("random", "numpy", "state", "key", value=[HUGE] * 624),
    "NumPy's place too far": put("random", "numpy", "state", "pos", value=10**9),
    "torch's state too short": put("random", "torch", value=th.zeros(3, dtype=th.uint8)),
    "torch's state of floats": put("random", "torch", value=th.Tensor.float),
    "torch's state empty of sense": put("random", "torch", value=lambda state: th.full_like(state, 255)),
    "statistics as pairs": put("stats", value=[1, 2]),
    "statistics without times": put("stats", "return_mean", value=[1.0, 2.0]),
    "statistics of text": put("stats", "return_mean", value=[(1, "much")]),
}
BUFFERS = {
    "no lengths": drop("lengths"),
    "lengths as a tensor": put("lengths", value=th.tensor),
    "lengths below one": put("lengths", 0, value=0),
    "an episode too long": put("lengths", 0, value=10**6),
    "more steps than rows": put("lengths", value=lambda lengths: lengths * 50),
    "rows twice": put("rows", value=th.zeros_like),
    "rows out of reach": put("rows", 0, value=10**6),
    "rows of floats": put("rows", value=th.Tensor.float),
    "rows in a square": put("rows", value=lambda rows: rows[None]),
    "no fields": drop("fields"),
    "a field missing": drop("fields", "obs"),
    "a field too many": put("fields", "smell", value=th.zeros(3)),
    "a field as a list": put("fields", "reward", value=no_tensor),
    "a field too long": put("fields", "reward", value=longer),
    "a field of another shape": put("fields", "obs", value=lambda obs: obs[..., :-1].contiguous()),
    "a field of another kind": put("fields", "state", value=th.Tensor.double),
    "a field of complex numbers": put("fields", "reward", value=lambda reward: reward.to(th.complex64)),
    "an action that is none": put("fields", "actions", 0, value=99),
    "an action below zero": put("fields", "actions", 0, value=-1),
    "a flag that is none": put("fields", "terminated", 0, value=7),
    "an observation of nothing": put("fields", "obs", 0, value=float("nan")),
    "a list": None,
}
AGENTS = {
    "a weight missing": drop(WEIGHTS),
    "a weight too many": put("fc9.weight", value=th.ones(1)),
    "halves": put(WEIGHTS, value=th.Tensor.half),
    "doubles": put(WEIGHTS, value=th.Tensor.double),
    "complex numbers": put(WEIGHTS, value=lambda weight: weight.to(th.complex64)),
    "whole numbers": put(WEIGHTS, value=th.Tensor.long),
    "a list": put(WEIGHTS, value=no_tensor),
    "another shape": put(WEIGHTS, value=longer),
    "transposed": put(WEIGHTS, value=lambda weight: weight.T),
    "no number": put(WEIGHTS, 0, value=float("nan")),
    "infinity": put(WEIGHTS, 0, value=float("inf")),
    "not stored in full": put(WEIGHTS, value=lambda weight: th.zeros(1, 1).expand(weight.shape)),
    "sparse": put(WEIGHTS, value=th.Tensor.to_sparse),
    "a list of nothing": None,
}
OPTIMISERS = {
    "no groups": drop("param_groups"),
    "no state": drop("state"),
    "too few parameters": put("param_groups", 0, "params", value=[0]),
    "a rate of text": put("param_groups", 0, "lr", value="fast"),
    "a rate without end": put("param_groups", 0, "lr", value=float("inf")),
    "no rate": drop("param_groups", 0, "lr"),
    "an average missing": drop("state", 0, "square_avg"),
    "an average of another shape": put("state", 0, "square_avg", value=th.ones(2, 3)),
    "an average of halves": put("state", 0, "square_avg", value=th.Tensor.half),
    "an average below zero": put("state", 0, "square_avg", value=lambda average: average - 1e3),
    "another optimiser's": put("state", 0, value={"step": 3, "exp_avg": th.zeros(1)}),
    "a list": None,
}
TABLE = [
    pytest.param(file, change, id=f"{file}: {name}")
    for file, changes in {"state": STATES, "buffer": BUFFERS, "agent": AGENTS, "opt": OPTIMISERS}.items()
    for name, change in changes.items()
]


@pytest.mark.parametrize(("file", "change"), TABLE)
def test_a_checkpoint_that_holds_something_else_is_refused_before_the_first_step(models, tmp_path, file, change):
    shutil.copytree(models, tmp_path / "models")
    path = find_checkpoint(tmp_path / "models", 0) / f"{file}.th"
    content = th.load(path, weights_only=True)
    if change is None:
        content = [content]
    else:
        change(content)
    th.save(content, path)
    parts, args, logger = built(alg="qmix", checkpoint_path=tmp_path / "models")
    before = random_states()
    refused(path, parts.resume)
    assert parts.runner.t_env == 0 or file == "state"
    assert not logger.stats and (file == "state" or equal(before, random_states()))
    assert file != "buffer" or parts.buffer.episodes_in_buffer == 0


def zipped(path, change):
    """The archive of a weight file written anew, packed, each of its files with changed content."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, change(name, content))
    return packed.getvalue()


def saved(content):
    file = io.BytesIO()
    th.save(content, file)
    return file.getvalue()


def looped(n=40):
    """A list that holds the one before ten times, again and again, from the smallest one on."""
    content = [1.0]
    for _ in range(n):
        content = [content] * 10
    return content


BYTES = {
    "nothing": lambda path: b"",
    "text": lambda path: b"weights",
    "JSON": lambda path: b'{"fc1.weight": 1}',
    "zeros": lambda path: bytes(1000),
    "the first half": lambda path: path.read_bytes()[: path.stat().st_size // 2],
    "the second half": lambda path: path.read_bytes()[path.stat().st_size // 2 :],
    "a byte changed": lambda path: path.read_bytes()[:200] + b"\xff" + path.read_bytes()[201:],
    "no pickle in it": lambda path: zipped(path, lambda name, content: b"x" if name.endswith(".pkl") else content),
    "a pickle of another kind": lambda path: pickle.dumps({"fc1.weight": 1.0}),
    "a pickle of a path": lambda path: pickle.dumps(Path("x")),
    "an archive without weights": lambda path: zipped(path, lambda name, content: b""),
    "an archive that unfolds": lambda path: zipped(
        path, lambda name, content: bytes(10**7) if "/data/" in name else content
    ),
    "an image of nothing": lambda path: gzip.compress(path.read_bytes()),
    "lists that unfold": lambda path: saved(looped()),
    "a tensor that unfolds": lambda path: saved({"fc1.weight": th.zeros(1).expand(10**12)}),
    "NumPy's": lambda path: np.lib.format.magic(1, 0),
}


OTHER_FILES = ("opt", "mixer", "target_agent", "state", "buffer")


@pytest.mark.parametrize("name", BYTES)
@pytest.mark.parametrize("file", ["agent", *(pytest.param(file, marks=pytest.mark.slow) for file in OTHER_FILES)])
def test_other_bytes_in_a_weight_file_are_refused(models, tmp_path, file, name):
    shutil.copytree(models, tmp_path / "models")
    path = find_checkpoint(tmp_path / "models", 0) / f"{file}.th"
    path.write_bytes(BYTES[name](path))
    parts, args, logger = built(alg="qmix", checkpoint_path=tmp_path / "models")
    said = refused(path, parts.resume)
    assert "unfold" not in name or "unfolds" in said or "not stored in full" in said


def test_a_list_that_holds_itself_ends(tmp_path):
    content = []
    content.append(content)
    th.save(content, tmp_path / "agent.th")
    assert "unfolds" in refused(tmp_path / "agent.th", load_weights, tmp_path / "agent.th", "cpu")


def test_what_is_refused_ends_a_run_before_its_first_episode(models, tmp_path):
    shutil.copytree(models, tmp_path / "models")
    path = find_checkpoint(tmp_path / "models", 0) / "state.th"
    content = th.load(path)
    content["sampling"] = {}
    th.save(content, path)
    refused(path, sequential, alg="qmix", checkpoint_path=tmp_path / "models", local_results_path=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_untouched_checkpoint_is_taken(models):
    parts, args, logger = built(alg="qmix", checkpoint_path=models)
    parts.resume()
    assert parts.runner.t_env > 0 and logger.stats and parts.buffer.episodes_in_buffer > 0


# --- replays


@pytest.fixture(scope="module")
def replay_content():
    replay = Replay.of(play(n_steps=2))
    return {"format": 1, **replay._asdict(), "actions": replay.actions.tolist()}


REPLAYS = {
    **{f"no {key}": drop(key) for key in ("format", "settings", "random", "actions", "checksum")},
    **{f"no {key} in the settings": drop("settings", key) for key in ("map_name", "step_mul", "rules")},
    "another map": put("settings", "map_name", value="9m"),
    "a step of no length": put("settings", "step_mul", value=0),
    "a step without end": put("settings", "step_mul", value=10**12),
    "a step of text": put("settings", "step_mul", value="8"),
    "a move to nowhere": put("settings", "move_amount", value=float("nan")),
    "a rule that is none": put("settings", "rules", "passing_side", value=["left"]),
    "a rule without end": put("settings", "rules", "spawn_age_loops", value=10**12),
    "an argument too many": put("settings", "seeds", value=[1]),
    "random numbers of text": put("random", value="x"),
    "random numbers below zero": put("random", value=-1),
    "random numbers too large": put("random", value=HUGE),
    "actions of text": put("actions", 0, value=["a", "b", "c"]),
    "actions below zero": put("actions", 0, value=[-1, 0, 0]),
    "actions too large": put("actions", 0, value=[HUGE, 0, 0]),
    "actions of few": put("actions", 0, value=[1]),
    "actions without end": put("actions", value=lambda actions: actions * 10_000),
    "no steps": put("actions", value=[]),
    "a checksum of nothing": put("checksum", value=None),
}


@pytest.mark.parametrize("name", REPLAYS)
def test_a_replay_that_holds_something_else_is_refused(replay_content, tmp_path, capsys, name):
    content = json.loads(json.dumps(replay_content))
    REPLAYS[name](content)
    path = tmp_path / "battle.sim.json.gz"
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    assert film.main([str(path), str(tmp_path / "film.png")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {path}") and said.count("\n") == 1
    assert not (tmp_path / "film.png").exists()


def test_a_replay_of_more_steps_than_a_battle_has_is_refused_before_it_is_played(replay_content):
    content = {key: replay_content[key] for key in Replay._fields}
    replay = Replay(**{**content, "actions": np.ones((10_000, 3), int)})
    with pytest.raises(UserError, match="engine with other rules"):
        next(replay.moments())


def test_a_replay_that_unfolds_is_refused_at_once(tmp_path, capsys):
    path = tmp_path / "battle.sim.json.gz"
    part = gzip.compress(bytes(2**20))
    path.write_bytes(part * (1 + MOST_UNPACKED_BYTES // 2**20))
    assert film.main([str(path), str(tmp_path / "film.png")]) == 2
    assert f"{path} is no replay (it unfolds to more than" in capsys.readouterr().err
    path.write_bytes(gzip.compress(b"[" * 10**6))
    assert film.main([str(path), str(tmp_path / "film.png")]) == 2
    path.write_bytes(part[:-20])
    assert film.main([str(path), str(tmp_path / "film.png")]) == 2


# --- members, configurations and records

YAMLS = {
    "aliases that unfold": LAUGHS,
    "a list that holds itself": "a: &a [*a]",
    "brackets in brackets": "a: " + "[" * 1000,
    "a file too large": "#" * 2**19,
    "a tag of Python": "a: !!python/object/apply:os.getpid []",
    "a key of lists": "? [a]\n: 1",
    "merged groups": "a: &a {b: 1}\nc: {<<: *a}",
    "an alias of nothing": "a: *b",
    "bytes": "a: \x00",
    "no mapping": "- a\n- b",
    "a colon too many": "a: b: c",
}


@pytest.mark.parametrize("name", YAMLS)
def test_a_yaml_that_unfolds_or_is_none_is_refused(tmp_path, name):
    path = tmp_path / "some.yaml"
    path.write_text(YAMLS[name])
    refused(path, load_yaml, path)
    member = make_member(tmp_path / "pool" / "m")
    (member / MEMBER_FILE).write_text(YAMLS[name])
    refused(member / MEMBER_FILE, load_pool, tmp_path / "pool")


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": {"iql": ["0"]}},
        {"weights": "0"},
        {"config": None},
        {"seed": -1},
        {"seed": True},
        {"steps": 1.5},
        {"test_return": "much"},
        {"test_return": float("nan")},
        {"algorithm": ["iql"]},
        {"map": 3},
        {"algorithm": "left out"},
        {"config": "left out"},
    ],
    ids=str,
)
def test_a_member_that_holds_something_else_is_refused(tmp_path, changes):
    path = make_member(tmp_path / "m", **changes) / MEMBER_FILE
    refused(path, load_pool, tmp_path)


RECORDS = {
    "nothing": b"",
    "a torn line": b'{"resolved": {"engine": "si',
    "a list": b"[]",
    "no engine": b'{"resolved": {}, "t_max": 1}',
    "an engine of numbers": b'{"resolved": {"engine": 3}, "t_max": 1}',
    "text": b"config",
    "brackets": b"[" * 10**6,
    "other bytes": b"\xff\xfe\xfd",
    "nothing of everything": b"null",
}


@pytest.fixture
def job(tmp_path):
    """Arguments of a job that has ended, with records and a last checkpoint."""
    work = tmp_path / "work"
    (work / "models" / "run" / "100").mkdir(parents=True)
    (work / "models" / "run" / "100" / "agent.th").touch()
    records = work / "sacred" / "1"
    records.mkdir(parents=True)
    (records / "config.json").write_text(json.dumps({"resolved": {"engine": "sim"}, "t_max": 9}))
    (records / "metrics.jsonl").write_text('{"t_env": 1, "key": "test_return_mean", "value": 1.5}\n')
    episode = {"won": True, "return": 1.5, "length": 3, "seat": 0, "teammates": ["m"]}
    (records / "test_episodes.jsonl").write_text(json.dumps(episode) + "\n")
    return {"name": "job", "arguments": (), "n_steps": 9, "output": tmp_path / "job", "work": work}


def plan(job):
    return Plan(**job, identity=Identity("iql", "sc2", "3m", 1), config={"t_max": 9})


ABOUT = {"method": "iql", "seed": 1, "phase": "tuned", "group": "1 homologue"}


def evaluation(job):
    return Evaluation(**{**job, "output": job["output"] / "test.csv"}, about=ABOUT, n_episodes=1)


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("make", [plan, evaluation])
def test_a_configuration_that_holds_something_else_publishes_nothing(job, make, name):
    path = make(job).records() / "config.json"
    path.write_bytes(RECORDS[name])
    refused(path, make(job).publish)
    assert not job["output"].exists()


LINES = {
    "a torn line in the middle": b'{"t_env": 1, "ke\n{"t_env": 1, "key": "loss", "value": 1.0}\n',
    "a line of another kind": b"[1, 2]\n",
    "a line without anything": b"{}\n",
    "numbers of text": b'{"key": "loss", "value": "x", "won": true, "return": "x"}\n',
    "other bytes": b"\xff\xfe\n",
}


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize(("make", "file"), [(plan, "metrics.jsonl"), (evaluation, "test_episodes.jsonl")])
def test_lines_that_hold_something_else_publish_nothing(job, make, file, name):
    path = make(job).records() / file
    path.write_bytes(LINES[name])
    made = make(job)
    if make is evaluation:
        made = Evaluation(**{**vars(made), "n_episodes": LINES[name].count(b"\n")})
    assert "line 1" in refused(path, made.publish)
    assert not job["output"].exists()


def test_records_as_they_should_be_are_published(job):
    assert "steps" in plan(job).publish() and load_yaml(job["output"] / MEMBER_FILE)["test_return"] == 1.5
    shutil.rmtree(job["output"])
    assert "100%" in evaluation(job).publish()
    (row,) = read_rows(job["output"] / "test.csv")
    assert row["won"] == "1" and row["length"] == "3"


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", ",".join(FIELDS) + "\n1,2\n", "a\0b\n\0"])
def test_tables_of_something_else_are_refused(tmp_path, content):
    path = tmp_path / "test.csv"
    path.write_text(content or ",".join(FIELDS) + "\n" + ",".join(["x"] * len(FIELDS)) + "\n")
    refused(path, read_rows, path)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"status": "RUNNING"', b'{"status": 3, "start_time": "x"}', b"\xff"])
def test_a_torn_record_is_not_sent(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    refused(tmp_path / "run.json", is_running, tmp_path)


@pytest.mark.parametrize("name", [name for name in RECORDS if "engine" not in name])
def test_a_torn_record_is_not_looked_at(tmp_path, capsys, name):
    (tmp_path / "config.json").write_bytes(RECORDS[name])
    assert subgoals.main([str(tmp_path / "models"), f"--record={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path / 'config.json'} is no configuration of a run" in said and said.count("\n") == 1


# --- layouts


def test_a_layout_gives_the_value_and_names_the_place_that_is_wrong():
    layout = {"a": [int, (None, str)], "b": {str: [float]}, "c": lambda value: {"one": 1}[value] if value else 0}
    value = {"a": (1, None), "b": {"x": [1, 2.5], "y": []}, "c": "one", "d": "else"}
    assert fitted(value, layout) == {**value, "c": 1}
    for change, said in (
        (put("a", value=[1]), r"'a' has 1 entries, not 2"),
        (put("a", value=[True, ""]), r"'a\[0\]' must be a whole number, not True or False"),
        (put("b", "y", value=[None]), r"'b.y\[0\]' must be a number, not nothing"),
        (put("b", value=[]), "'b' must be a group of keys, not a list"),
        (drop("c"), "'c' is missing"),
    ):
        changed = {**value, "b": dict(value["b"])}
        change(changed)
        with pytest.raises(ValueError, match=said):
            fitted(changed, layout)


def test_jobs_that_can_not_be_published_are_told_of_and_others_go_on(job, monkeypatch, capsys, tmp_path):
    script = tmp_path / "main.py"
    script.write_text("")
    monkeypatch.setattr(jobs, "MAIN", script)
    (plan(job).records() / "config.json").write_text("{")
    with jobs.only_one(tmp_path) as lock:
        queue = jobs.JobQueue([plan(job)], 1, lock)
        queue.run()
    assert queue.failed == ["job"]
    said = capsys.readouterr().out
    assert "has ended, but" in said and "config.json" in said
