"""Configuration as data: YAML and schema against each other, strict reading, typing, merging, freezing."""

import importlib
import inspect
import json
import logging
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import main
from config.components import all_parts, conflict
from config.layers import merge, merge_population, read_file
from config.schema import OF_PYMARL, RUN
from utils.config import Key, Numbers, flatten, nested, recursive_dict_update
from utils.dict2namedtuple import convert
from utils.errors import UserError
from utils.logging import LOGGER_NAME
from utils.MY_EXP_PATH import check_results_path, experiment_root, make_results_folder
from utils.yaml_files import load_yaml

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


@pytest.mark.parametrize("agent", ["ff", "mlp"])
def test_qtran_needs_agents_with_hidden_states(agent):
    assert f"agent={agent} has none; take agent=rnn" in conflict({**merged("qtran"), "agent": agent})
    assert not conflict(merged("qtran"))


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"batch_size": 64, "buffer_size": 32}, "training would never start"),
        ({"updates_per_round": 2, "batch_size": 8, "buffer_size": 8}, "learns from the same 8 episodes"),
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
    ("alg", "changes", "fragment"),
    [
        ("qmix", {"learner": "qplex_learner"}, "qplex_learner and qplex need each other; take both, as --config=qplex"),
        ("vdn", {"mixer": "qplex"}, "qplex_learner and qplex need each other"),
        ("qtran", {"mixer": "qplex"}, "qtran_learner and qtran_base need each other"),
        ("cw_qmix", {"mixer": None}, "give a mixer, such as mixer=qmix"),
        ("cw_qmix", {"mixer": "vdn"}, ""),
        ("pqn_vdn", {"mixer": "qplex"}, "qplex_learner and qplex need each other"),
        ("pqn_vdn", {"num_mini_batch": 3}, "batch_size_run=128 episodes can't be divided into num_mini_batch=3"),
        ("pqn_vdn", {"buffer_size": 5000}, "learner=pqn_learner has no replay buffer"),
        ("pqn_vdn", {"common_reward": False}, "learns the value of the whole team"),
        ("pqn_iql", {"common_reward": False}, ""),
        (
            "ippo",
            {"buffer_size": 5000},
            "has no replay buffer: it learns once from the batch_size_run=32 episodes just",
        ),
        ("mappo", {"batch_size": 4, "buffer_size": 4}, "episodes just played; leave out batch_size=4"),
        ("mappo", {"buffer_size": 10}, "episodes just played; leave out buffer_size=10"),
        ("mappo", {"buffer_device": "disk"}, "episodes just played; leave out buffer_device=disk"),
        ("mappo", {"updates_per_round": 4}, "episodes just played; leave out updates_per_round=4"),
        ("mappo", {"num_mini_batch": 64}, "make batch_size_run a multiple of num_mini_batch"),
        ("ippo_epymarl", {"target_update_interval_or_tau": 2.5}, "neither a share of at most 1 nor a whole number"),
        ("ippo_epymarl", {"target_update_interval_or_tau": 200.0}, ""),
        (
            "mappo",
            {"num_mini_batch": 3},
            "batch_size_run=32 episodes can't be divided into num_mini_batch=3 equal parts",
        ),
        ("mappo", {"num_mini_batch": 4}, ""),
        ("ippo", {"population": {"ippo": 1}, "ippo": {}, "train_alg": "ippo"}, ""),
        (
            "ippo",
            {"population": {"ippo": 1}, "ippo": {}, "train_alg": "ippo", "population_factor": 2},
            "population_factor=2 asks for more episodes between updates, but learner=ppo_learner learns once",
        ),
        (
            "pqn_vdn",
            {"population": {"pqn_vdn": 1}, "pqn_vdn": {}, "train_alg": "pqn_vdn"},
            "learns the values of whole teams",
        ),
        ("ippo", {"population": {"ippo": 1}, "ippo": {"batch_size": 2}, "train_alg": "iql"}, ""),
        ("ippo", {"common_reward": False}, ""),
        ("mappo", {"agent_output_type": "q"}, "learner=ppo_learner needs agent_output_type=pi_logits, not q"),
    ],
)
def test_what_learners_of_teams_and_of_the_present_policy_can_not_do_is_named(alg, changes, fragment):
    sentence = conflict({**merged(alg), **changes})
    assert fragment in sentence and bool(fragment) == bool(sentence)


@pytest.mark.parametrize(
    ("alg", "setting", "reason"),
    [
        ("ippo", ("mixer", "qmix"), "unknown key 'mixer'; it belongs to learner=q_learner"),
        ("mappo", ("td_lambda", "1.5"), "td_lambda=1.5 is not allowed: it must be a number, at least 0, at most 1"),
        ("mappo", ("critic_reads", "states"), "did you mean 'state'"),
        ("qplex", ("adv_hypernet_layers", "4"), "one of 1, 2, 3"),
    ],
)
def test_settings_that_they_do_not_have_are_refused(alg, setting, reason):
    with pytest.raises(UserError, match=reason):
        merge(alg, "sc2", [setting])


def test_without_a_number_a_batch_is_what_is_played_at_once_and_the_buffer_holds_a_batch():
    config = merge("ippo", "sc2", [("batch_size_run", "16")])
    assert (config["batch_size"], config["buffer_size"]) == (16, 16)
    assert merge("iql", "sc2", [("batch_size", "64"), ("buffer_size", "null")])["buffer_size"] == 64


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
        (Key(str), "a #1", "a #1"),
        (Key(str), " a: {b", " a: {b"),
        (Key(str), "'a' and 'b'", "'a' and 'b'"),
        (Key(str), "None", "None"),
        (Key(str), "2024-01-01", "2024-01-01"),
        (Key(str, nullable=True), "None", None),
        (Key(str, nullable=True), "~", None),
        (Key(str, nullable=True), "'None'", "None"),
        (Key(int, nullable=True), "NULL", None),
        (Key(Path), "/x/exp #1", "/x/exp #1"),
        (Key(Path), "~/x", os.path.expanduser("~/x")),
        (Key(Path), "", ""),
        (Key(int), "010", 10),
        (Key(int), "+7", 7),
        (Key(int), "1_000_000", 1000000),
        (Key(float), "0010.5", 10.5),
        (Key((bool, int, str), low=1, choices=("random",)), "random", "random"),
        (Key((bool, int, str), low=1, choices=("random",)), "True", True),
        (Key((bool, int, str), low=1, choices=("random",)), "3", 3),
        (Key(list), "[a, 'b c', 7]", ["a", "b c", "7"]),
        (Key(list), "[]", []),
        (Key(Numbers), "[0.5, 1, 2e-1]", [0.5, 1.0, 0.2]),
        (Key(Numbers, nullable=True), "null", None),
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
        (Key(int), "1:30"),
        (Key(int), "0x10"),
        (Key(int), "0o7"),
        (Key(int), "1_0"),
        (Key(int), "\u0663"),
        (Key(int), "~"),
        (Key(int), "9" * 400),
        (Key(int), "9" * 5000),
        (Key(float), "1e400"),
        (Key(float), "1e99999999999"),
        (Key(float), "1:30.5"),
        (Key(Path), "None"),
        (Key(Path), "null"),
        (Key(Path), "/" + "a" * 5000),
        (Key(Path), "a/" * 2000),
        (Key(Path), "/x/" + "a" * 256),
        (Key(Path), "a\0b"),
        (Key(str, is_in_file_name=True), "a/b"),
        (Key(str, is_in_file_name=True), "a" * 101),
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
        (Key(list), "a, b"),
        (Key(Numbers), "[0.5, half]"),
        (Key(Numbers), "0.5"),
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
        (Key(float, above=0, high=10**6), "a number, above 0, at most 1,000,000"),
        (Key(Path), "a path, or empty"),
        (Key(str, choices=("mean", "max")), "one of mean, max"),
        (Key(int, nullable=True), "a whole number, or null"),
        (Key(Numbers), "a list of numbers, such as [0.5, 1]"),
        (Key((int, str), low=1, choices=("random",)), "a whole number, at least 1, or one of random"),
    ],
)
def test_what_is_allowed_is_said_in_words(key, words):
    assert key.allowed() == words


def test_a_home_folder_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="~nobody-is-called-so/x names a home folder that is not there"):
        Key(Path).read_text("~nobody-is-called-so/x")


def test_numbers_in_yaml_files_are_decimal_too_and_dates_are_text(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("a: 010\nb: 1:30\nc: 0x10\nd: 1e-4\ne: -1.5\nf: 2024-01-01\ng: 1_000\n")
    assert load_yaml(path) == {"a": 10, "b": "1:30", "c": "0x10", "d": 1e-4, "e": -1.5, "f": "2024-01-01", "g": 1000}


NUMBERS = {key: declaration for key, declaration in SCHEMA.items() if {int, float} & set(declaration._free_kinds())}


@pytest.mark.parametrize("key", NUMBERS)
def test_every_number_has_bounds_and_what_is_beyond_them_is_refused(key):
    low = NUMBERS[key].above if NUMBERS[key].low is None else NUMBERS[key].low
    high = NUMBERS[key].high
    assert low is not None and high is not None
    assert NUMBERS[key].read_text(str(high)) == high
    for beyond in (str(high + 1), str(low - 1), "1e300", "-1e300", "9" * 400):
        with pytest.raises(ValueError, match="at most"):
            NUMBERS[key].read_text(beyond)
    for beyond in (high + 1, low - 1, 1e300, 10**400, float("nan"), float("inf")):  # as in a file
        with pytest.raises(ValueError, match="at most"):
            NUMBERS[key].read(beyond)


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
    assert nested("env_args.rules.scan_period_loops", 4) == {"env_args": {"rules": {"scan_period_loops": 4}}}


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


def test_what_the_system_refuses_as_a_results_folder_is_one_sentence():
    with pytest.raises(UserError, match="local_results_path='/proc/x' can't be used: the folder can't be made"):
        make_results_folder("/proc/x")


# --- files of a user's own, and PyMARL's


def recorded(tmp_path, config):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**config, "resolved": {"engine": "sim"}}))
    return [(str(path), read_file(path))]


def test_the_recorded_configuration_of_a_run_gives_that_run_again(tmp_path):
    config = merge("qmix", "sc2", [("seed", "7"), ("lr", "0.01"), ("env_args.map_name", "3m")])
    again = merge("qmix", "sc2", [("gamma", "0.5")], recorded(tmp_path, {**config, "population": {}}))
    assert again == {**config, "gamma": 0.5}


def test_the_recorded_configuration_of_a_population_gives_it_again(tmp_path):
    counts = {"iql": 2, "iql_omg": 1}
    settings = [("multi_algs", "True"), ("train_alg", "iql_omg"), ("iql.gamma", "0.5"), ("lr", "0.01"), ("seed", "7")]
    config = merge_population("2iql1iql_omg", counts, "sc2", settings)
    files = recorded(tmp_path, config)
    assert merge_population("2iql1iql_omg", counts, "sc2", [], files) == config
    changed = merge_population("2iql1iql_omg", counts, "sc2", [("lr", "0.1")], files)
    assert [changed[alg]["lr"] for alg in counts] == [0.1, 0.1] and changed["iql"]["gamma"] == 0.5


def test_in_a_file_for_a_population_a_key_is_for_all_or_stands_under_an_algorithms_name():
    content = {"multi_algs": True, "train_alg": "iql", "gamma": 0.5, "iql": {"lr": 0.1}}
    config = merge_population("2iql1iql_omg", {"iql": 2, "iql_omg": 1}, "sc2", [], [("mine.yaml", content)])
    assert config["iql"]["gamma"] == config["iql_omg"]["gamma"] == 0.5
    assert config["iql"]["lr"] == 0.1 and config["iql_omg"]["lr"] == 0.0005
    with pytest.raises(UserError, match="mine.yaml: unknown key 'gama'; did you mean 'gamma'"):
        merge_population("2iql1iql_omg", {"iql": 2}, "sc2", [], [("mine.yaml", {**content, "gama": 1})])
    with pytest.raises(UserError, match="mine.yaml, iql: unknown key 'am_lr'; it belongs to"):
        merge_population("2iql1iql_omg", {"iql": 2}, "sc2", [], [("mine.yaml", {**content, "iql": {"am_lr": 1}})])


def test_a_recorded_address_without_its_password_is_left_out(tmp_path):
    ((_, content),) = recorded(tmp_path, {"mongo_url": "mongodb://me:***@host/db", "seed": 1})
    assert content == {"seed": 1}


@pytest.mark.parametrize(
    ("name", "text", "fragment"),
    [
        ("mine.json", '{"lr": ', "mine.json can't be read as JSON"),
        ("mine.json", "[1]", "must hold an object with keys, not list"),
        ("mine.json", '{"t_max": ' + "9" * 5000 + "}", "mine.json can't be read as JSON"),
        ("mine.json", '{"t_max": ' + "9" * 400 + "}", r"t_max=9*\.\.\. \(400 characters\) is not allowed"),
        ("mine.json", '{"lr": NaN}', "lr=nan is not allowed"),
        ("mine.json", "[" * 100_000, "mine.json can't be read as JSON"),
        ("mine.yaml", "a: " + "[" * 100_000, "mine.yaml: line 1, column 1003: exceeded maximum nesting depth"),
        ("mine.yaml", "lrr: 1", "mine.yaml: unknown key 'lrr'; did you mean 'lr'"),
        ("mine.yaml", "lr: !!int x", "line 1, column 5: x is no"),
    ],
)
def test_a_file_of_ones_own_that_is_not_well_formed_is_one_sentence(tmp_path, name, text, fragment):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=fragment):
        merge("iql", "sc2", [], [(str(tmp_path / name), read_file(tmp_path / name))])


def test_pymarls_keys_that_change_nothing_are_left_out_with_a_warning(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger(LOGGER_NAME), "propagate", True)
    for key, value in OF_PYMARL.items():
        caplog.clear()
        assert merge("coma", "sc2", [(key, str(value))]) == merge("coma", "sc2", [])
        assert merge("coma", "sc2", [], [("mine.yaml", {key: value})]) == merge("coma", "sc2", [])
        words = f"{key}={value} is PyMARL's and changes nothing here"
        assert set(caplog.messages) == {f"command line: {words}", f"mine.yaml: {words}"}
        with pytest.raises(UserError, match=f"{key}=other is not allowed: .* {value} only"):
            merge("coma", "sc2", [(key, "other")])


def test_pymarls_own_yaml_of_coma_means_what_it_meant():
    pymarls = {
        **{"learner": "coma_learner", "critic_train_mode": "seq", "critic_train_reps": 1, "q_nstep": 0},
        "target_update_interval": 100,
    }
    config = merge("coma", "sc2", [], [("coma.yaml", pymarls)])
    assert config == {**merge("coma", "sc2", []), "critic_target_update_interval": 100}
