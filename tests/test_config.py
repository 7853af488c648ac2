"""Configuration as data: YAML and schema against each other, strict reading, typing, merging, freezing."""

import importlib
import inspect
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import main
from config.components import all_parts, conflict
from config.layers import merge, merge_population
from config.schema import RUN
from utils.config import Key, flatten, load_yaml, nested, recursive_dict_update
from utils.dict2namedtuple import convert
from utils.errors import UserError
from utils.MY_EXP_PATH import check_results_path, experiment_root

CONFIG = Path(main.__file__).parent / "config"
DEFAULT_YAML = CONFIG / "default.yaml"
ALG_YAMLS = sorted((CONFIG / "algs").glob("*.yaml"))
ENV_YAMLS = sorted((CONFIG / "envs").glob("*.yaml"))
YAMLS = [DEFAULT_YAML, *ALG_YAMLS, *ENV_YAMLS]

PYMARL_DEFAULTS = {
    "gamma": 0.99,
    "batch_size": 32,
    "buffer_size": 5000,
    "lr": 0.0005,
    "critic_lr": 0.0005,
    "optim_alpha": 0.99,
    "optim_eps": 1e-5,
    "grad_norm_clip": 10,
    "rnn_hidden_dim": 64,
    "obs_agent_id": True,
    "obs_last_action": True,
    "epsilon_start": 1.0,
    "epsilon_finish": 0.05,
    "epsilon_anneal_time": 50000,
    "target_update_interval": 200,
    "double_q": True,
    "mixing_embed_dim": 32,
    "hypernet_layers": 2,
    "hypernet_embed": 64,
    "t_max": 2050000,
    "test_nepisode": 32,
    "test_interval": 10000,
    "log_interval": 10000,
    "env_args.step_mul": 8,
    "env_args.difficulty": "7",
    "env_args.move_amount": 2,
    "env_args.reward_death_value": 10,
    "env_args.reward_defeat": 0,
    "env_args.reward_negative_scale": 0.5,
    "env_args.reward_only_positive": True,
    "env_args.reward_scale_rate": 20,
    "env_args.reward_win": 200,
}


SCHEMA = dict(RUN)
for some in all_parts():
    SCHEMA |= some.keys


def leaves(path):
    """The keys that a YAML file sets and their values; an empty group is no key."""
    return {key: value for key, value in flatten(load_yaml(path)) if value != {} and key != "extends"}


def merged(alg):
    return {**merge(alg, "sc2", []), "population": {}}


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_every_value_in_yaml_is_what_its_key_allows(path):
    for key, value in leaves(path).items():
        SCHEMA[key].read(value)


def test_every_key_of_a_run_has_its_value_in_the_default_yaml_and_no_default_stands_twice():
    assert leaves(DEFAULT_YAML).keys() == RUN.keys()
    for part in all_parts():
        assert not part.keys.keys() & RUN.keys(), part
    for path in (*ALG_YAMLS, *ENV_YAMLS):
        own = leaves(path).items() - {("env", "sc2")}
        assert not own & leaves(DEFAULT_YAML).items(), path


def test_every_key_of_a_component_says_in_one_line_what_it_is():
    for part in all_parts():
        for key, declared in part.keys.items():
            assert declared.help and "\n" not in declared.help, key


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_every_key_carries_a_comment_with_its_unit(path):
    commented = {}
    for line in path.read_text().splitlines():
        if match := re.match(r"\s*(\w+):.* # (.+)", line):
            commented[match[1]] = match[2]
    for key in leaves(path):
        assert SCHEMA[key].unit in commented[key.split(".")[-1]], key


@pytest.mark.parametrize("alg", [path.stem for path in ALG_YAMLS])
def test_shipped_configurations_agree_with_themselves_and_name_themselves(alg):
    config = merged(alg)
    assert conflict(config) == ""
    assert config["name"] == alg


def test_the_values_that_users_of_pymarl_expect():
    values = dict(flatten(merged("qmix")))
    assert {key: values[key] for key in PYMARL_DEFAULTS} == PYMARL_DEFAULTS


def test_comas_values_are_pymarls():
    expected = {
        "runner": "parallel",
        "batch_size_run": 8,
        "batch_size": 8,
        "buffer_size": 8,
        "td_lambda": 0.8,
        "epsilon_start": 0.5,
        "epsilon_finish": 0.01,
        "epsilon_anneal_time": 100000,
        "mask_before_softmax": False,
        "critic_q_fn": "coma",
        "critic_baseline_fn": "coma",
        "q_nstep": 0,
        "critic_target_update_interval": 200,
        "env_args.state_last_action": False,
    }
    values = dict(flatten(merged("coma")))
    assert {key: values[key] for key in expected} == expected


def test_a_controller_with_an_agent_model_is_refused_where_none_is_declared():
    assert "needs an agent model" in conflict({**merged("iql"), "mac": "multi_module_mac"})


def test_no_key_is_counted_in_two_units():
    """PyMARL counts `target_update_interval` in episodes, but for COMA in steps of the critic."""
    assert "target_update_interval" not in merged("coma")
    assert SCHEMA["target_update_interval"].unit != SCHEMA["critic_target_update_interval"].unit


def test_parallel_plays_as_many_environments_as_asked():
    config = {**merged("iql"), "runner": "parallel"}
    assert not conflict({**config, "batch_size_run": 8}) and not conflict({**config, "batch_size_run": 1})


def test_the_keys_of_sc2_give_every_argument_its_constructors_default():
    sim = importlib.import_module("envs.sc2.sim.env")
    parameters = inspect.signature(sim.BattleVectorEnv.__init__).parameters
    env_args = merged("iql")["env_args"]
    rules = importlib.import_module("envs.sc2.sim.rules").Rules()
    assert env_args.pop("rules") == rules._asdict()
    assert env_args.pop("engine") == "auto" and env_args.pop("seed") is None
    assert env_args == {name: parameters[name].default for name in env_args}


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"batch_size": 64, "buffer_size": 32}, "training would never start"),
        ({"batch_size_run": 8}, "the episode runner plays one environment; set it to 1, or runner=parallel"),
        ({"agent_output_type": "pi_logits"}, "learner=omg_learner needs agent_output_type=q, not pi_logits"),
        ({"learner": "coma_learner"}, "learner=coma_learner needs agent_output_type=pi_logits, not q"),
        ({"action_selector": "multinomial"}, "action_selector=multinomial does not go with agent_output_type=q"),
        ({"mac": "basic_mac"}, "needs mac=multi_module_mac and am_model=omg, not basic_mac and omg"),
        ({"am_model": "none"}, "needs mac=multi_module_mac and am_model=omg, not multi_module_mac and none"),
        ({"subgoal_mode": 6}, "beyond omg_horizon=5"),
        ({"mixer": "qtran_base"}, "qtran_learner and qtran_base need each other"),
        ({"learner": "qtran_learner"}, "qtran_learner and qtran_base need each other"),
    ],
)
def test_values_that_contradict_each_other_are_named(changes, fragment):
    assert fragment in conflict({**merged("iql_omg"), **changes})


@pytest.mark.parametrize(
    ("settings", "agent"),
    [
        ({"policy_model": "idv_rnn"}, "idv_rnn"),
        ({"policy_model": "ff", "agent": "ff"}, "ff"),
        ({"policy_model": "null", "agent": "ff"}, "ff"),
        ({}, "rnn"),
    ],
)
def test_policy_model_names_the_agent_where_there_is_an_agent_model(settings, agent):
    assert merge("iql_omg", "sc2", list(settings.items()))["agent"] == agent


def test_two_different_names_of_the_policy_network_are_refused_and_plain_algorithms_have_one():
    with pytest.raises(UserError, match="agent=rnn and policy_model=ff both name the policy network; give one"):
        merge("iql_omg", "sc2", [("policy_model", "ff"), ("agent", "rnn")])
    with pytest.raises(UserError, match="'policy_model'; it belongs to mac=multi_module_mac"):
        merge("iql", "sc2", [("policy_model", "ff")])


def test_in_a_population_policy_model_is_that_of_the_algorithms_that_have_it():
    counts = {"iql": 1, "iql_am": 1, "iql_omg": 1}
    for_all = [("multi_algs", "True"), ("train_alg", "iql_omg"), ("policy_model", "ff")]
    config = merge_population("1iql1iql_am1iql_omg", counts, "sc2", [*for_all, ("iql_am.policy_model", "null")])
    assert [config[alg]["agent"] for alg in counts] == ["rnn", "rnn", "ff"] and config["agent"] == "ff"


@pytest.mark.parametrize(
    ("alg", "changes", "fragment"),
    [
        ("iql_am", {"mac": "basic_mac"}, "needs mac=multi_module_mac and am_model=none or base or liam, not basic_mac"),
        ("iql_am", {"am_model": "liam"}, ""),
        ("iql_am", {"am_model": "omg"}, "and am_model=none or base or liam, not multi_module_mac and omg"),
        ("iql_omg", {"learner": "q_learner_4am"}, "not multi_module_mac and omg"),
        ("iql_omg", {"learner": "q_learner"}, "would leave am_model=omg untrained; set learner=am_learner or omg_"),
        ("iql_am", {"learner": "am_learner", "am_model": "none"}, "am_model=base or liam or omg, not multi_module_mac"),
        ("iql_liam", {"learner": "am_learner"}, ""),
        ("iql_omg", {"learner": "am_learner"}, ""),
        ("iql_liam", {"am_model": "base"}, ""),
        ("iql_liam", {"am_model": "none", "learner": "q_learner"}, ""),
    ],
)
def test_agent_models_and_their_learners_need_each_other(alg, changes, fragment):
    sentence = conflict({**merged(alg), **changes})
    assert fragment in sentence and bool(fragment) == bool(sentence)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", "line 3, column 2"),
        ("a: 1\nb: 2\na: 3\n", "line 3, column 1: 'a' is given twice"),
        ("a:\n  b: 1\n  b: 2\n", "line 3, column 3: 'b' is given twice"),
        ("on: 1\n", "line 1, column 1: key True is not text"),
        ("- 1\n- 2\n", "must hold lines of the form"),
        ("a: !!python/object/apply:os.getcwd []\n", "line 1, column 4"),
        ("a: \x00\n", "can't be read as YAML"),
    ],
)
def test_a_yaml_file_that_is_not_well_formed_is_an_error_that_says_where(tmp_path, text, complaint):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_yaml(path)
    assert str(path) in str(caught.value) and complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_yaml_file_changes_nothing(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing yet\n")
    assert load_yaml(path) == {}


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        (Key(float), "1e-4", 0.0001),
        (Key(float), "1.5e3", 1500.0),
        (Key(float), ".5", 0.5),
        (Key(float), "1", 1.0),
        (Key(int), "2e5", 200000),
        (Key(int), "200000.0", 200000),
        (Key(int, nullable=True), "null", None),
        (Key(bool), "True", True),
        (Key(bool), "false", False),
        (Key(str), "7", "7"),
        (Key(str), "True", "True"),
        (Key(str), "", ""),
        (Key(str), "a: b: c", "a: b: c"),
        (Key(str), "'quoted'", "quoted"),
        (Key((bool, int, str), low=1, choices=("random",)), "random", "random"),
        (Key((bool, int, str), low=1, choices=("random",)), "True", True),
        (Key((bool, int, str), low=1, choices=("random",)), "3", 3),
    ],
)
def test_what_is_typed_gets_the_declared_kind(key, text, value):
    read = key.read_text(text)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (Key(int), "abc"),
        (Key(int), "2.5"),
        (Key(int), "True"),
        (Key(int), "null"),
        (Key(int), "[1"),
        (Key(int, low=1), "0"),
        (Key(int, choices=(1, 2)), "3"),
        (Key(float), ".nan"),
        (Key(float), ".inf"),
        (Key(float, above=0), "0"),
        (Key(float, high=1), "1.01"),
        (Key(float), "fast"),
        (Key(bool), "1"),
        (Key(bool), "'True'"),
        (Key(str, choices=("mean", "max")), "min"),
        (Key((bool, int, str), low=1, choices=("random",)), "0"),
        (Key((bool, int, str), low=1, choices=("random",)), "randm"),
    ],
)
def test_a_value_of_another_kind_or_out_of_bounds_is_refused(key, text):
    with pytest.raises(ValueError, match="it must be"):
        key.read_text(text)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (Key(int, "environment steps", low=1), "a whole number in environment steps, at least 1"),
        (Key(float, above=0), "a number, above 0"),
        (Key(str, choices=("mean", "max")), "one of mean, max"),
        (Key(int, nullable=True), "a whole number, or null"),
        (Key((int, str), low=1, choices=("random",)), "a whole number, at least 1, or one of random"),
    ],
)
def test_what_is_allowed_is_said_in_words(key, words):
    assert key.allowed() == words


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_that_python_prints_is_read_back(number):
    assert Key(float).read_text(repr(number)) == number


@given(st.integers(min_value=0))
def test_every_whole_number_is_read_back(number):
    assert Key(int).read_text(str(number)) == number


TREES = st.recursive(st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, min_size=1))
MAPPINGS = st.dictionaries(st.sampled_from("abc"), TREES)


@given(MAPPINGS, MAPPINGS)
def test_in_a_merge_the_later_layer_wins_leaf_by_leaf(lower, upper):
    before = repr((lower, upper))
    result = dict(flatten(recursive_dict_update(lower, upper)))
    over = dict(flatten(upper))
    assert over.items() <= result.items()
    for key in result.keys() - over.keys():
        assert result[key] == dict(flatten(lower))[key]
    assert repr((lower, upper)) == before


def test_dotted_keys_reach_into_nested_mappings():
    assert nested("env_args.rules.playable_area", 28) == {"env_args": {"rules": {"playable_area": 28}}}


def test_args_are_read_only_all_the_way_down():
    args = convert({"lr": 0.1, "env_args": {"map_name": "3m", "rules": {"x": 1}}, "layers": [1, 2]})
    assert args.lr == 0.1 and args.env_args["rules"]["x"] == 1 and args.layers == (1, 2)
    with pytest.raises(AttributeError):
        args.lr = 0.2
    with pytest.raises(TypeError):
        args.env_args["map_name"] = "8m"
    with pytest.raises(TypeError):
        args.env_args["rules"]["x"] = 2
    assert dict(**args.env_args)["map_name"] == "3m"


def test_args_do_not_follow_later_changes_of_the_configuration():
    config = {"env_args": {"map_name": "3m"}}
    args = convert(config)
    config["env_args"]["map_name"] = "8m"
    assert args.env_args["map_name"] == "3m"


def test_the_experiment_root_is_set_by_the_environment(monkeypatch):
    monkeypatch.delenv("MY_EXP_PATH", raising=False)
    assert experiment_root() == Path("results")
    monkeypatch.setenv("MY_EXP_PATH", "/data/experiments")
    assert experiment_root() == Path("/data/experiments")


def test_a_results_folder_is_checked_without_being_made(tmp_path):
    check_results_path(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_results_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file is not a folder"):
        check_results_path(tmp_path / "file" / "results")


def test_a_results_folder_that_may_not_be_written_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # tests may run as root, who may write anywhere
    with pytest.raises(UserError, match="may not be written to"):
        check_results_path(tmp_path / "results")
