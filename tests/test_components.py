"""Components and their keys: what is chosen brings its keys in, and whatever is offered builds or is refused."""

from dataclasses import dataclass

import pytest
import torch as th

import main
from config.components import all_parts, names_of
from config.layers import merge
from config.schema import RUN
from modules.mixers import REGISTRY as MIXERS
from modules.mixers.vdn import VDNMixer
from tests.games import RandomGame
from tests.test_run import whole_run
from utils.config import K, key
from utils.errors import UserError

pytestmark = pytest.mark.slow

SC2 = "--env-config=sc2"


class Mine(VDNMixer):
    """A user's own mixer."""

    @dataclass(frozen=True)
    class Keys:
        my_width: int = key(3, "width of mine", "units", low=1, high=K)

    def __init__(self, args):
        super().__init__(args)
        self.layer = th.nn.Linear(args.my_width, 1)


@pytest.fixture
def mine(monkeypatch):
    monkeypatch.setitem(MIXERS._entries, "mine", Mine)


@pytest.mark.usefixtures("mine")
def test_the_key_of_a_users_component_is_one_of_the_command_line():
    config = main.read_settings("--config=vdn", SC2, "with", "mixer=mine", "my_width=7")
    assert (config["mixer"], config["my_width"]) == ("mine", 7)
    assert main.read_settings("--config=vdn", SC2, "--mixer=mine")["my_width"] == 3


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["--mixer=mine", "--my_width=0"], "my_width=0 is not allowed: it must be a whole number in units, at least 1"),
        (["--mixer=mine", "--my_widht=2"], "unknown key 'my_widht'; did you mean 'my_width'?"),
        (["--my_width=2"], "unknown key 'my_width'; it belongs to mixer=mine"),
        (["--mixer=mine", "--mixing_embed_dim=2"], "it belongs to mixer=qmix and mixer=qtran_base"),
    ],
)
def test_a_key_is_refused_where_nothing_that_is_chosen_has_it(settings, sentence):
    with pytest.raises(UserError) as caught:
        main.read_settings("--config=vdn", SC2, *settings)
    assert sentence in str(caught.value)


def test_defaults_are_those_of_the_component_that_is_chosen():
    assert merge("vdn", "sc2", [("mixer", "qmix")]) == {**merge("qmix", "sc2", []), "name": "vdn"}
    assert merge("qtran", "sc2", [])["mixing_embed_dim"] == 64 and merge("qmix", "sc2", [])["mixing_embed_dim"] == 32


def test_what_a_file_sets_for_a_component_that_is_replaced_is_left_out():
    content = {"mixer": "qmix", "mixing_embed_dim": 8}
    config = merge("vdn", "sc2", [("mixer", "vdn")], [("mine.yaml", content)])
    assert config == merge("vdn", "sc2", [])
    with pytest.raises(UserError, match="mine.yaml: unknown key 'mixing_embed_dim'; it belongs to mixer=qmix"):
        merge("vdn", "sc2", [], [("mine.yaml", {"mixing_embed_dim": 8})])


def test_a_file_extends_one_that_is_there_and_not_itself(tmp_path, monkeypatch):
    for name, base in (("a", "b"), ("b", "a"), ("c", "nobody")):
        (tmp_path / "config" / "algs").mkdir(parents=True, exist_ok=True)
        (tmp_path / "config" / "algs" / f"{name}.yaml").write_text(f"extends: {base}\n")
    monkeypatch.setattr("config.layers.ROOT", tmp_path)
    monkeypatch.setattr("config.layers.CONFIG", tmp_path / "config")
    (tmp_path / "config" / "envs").mkdir()
    (tmp_path / "config" / "envs" / "e.yaml").write_text("env: sc2\n")
    for name in "ac":
        with pytest.raises(UserError, match="unknown file to extend"):
            merge(name, "e", [])


# --- every value that is offered


def offered():
    """(algorithm, key, value) for each value that a key's choices or names offer, in algorithms that have the key.

    Trackers, which take seconds to start, in one algorithm only.
    """
    cases = {}
    for alg in ("iql", "qmix", "qtran", "coma", "iql_am", "iql_omg"):
        config = merge(alg, "sc2", [])
        keys = RUN | {
            key: part.keys[key] for part in all_parts() if config.get(part.key) == part.name for key in part.keys
        }
        for name, declared in keys.items():
            is_left_out = name.startswith("env") or (name == "tracker" and alg != "iql")
            values = () if is_left_out else (*declared.choices, *names_of(declared))
            cases |= {f"{alg} {name}={value}": (alg, name, value) for value in values}
    return cases


CASES = offered()


@pytest.mark.parametrize("case", CASES)
def test_every_value_that_is_offered_trains_or_is_refused_in_a_sentence(case, tmp_path):
    alg, name, value = CASES[case]
    short = {"t_max": 12, "batch_size": 2}
    short |= {"omg_vae_pretrain_steps": 4} if alg == "iql_omg" and name not in ("learner", "mac", "am_model") else {}
    try:
        whole_run(RandomGame, alg, local_results_path=tmp_path, **(short | {name: value}))
    except UserError as refused:
        assert "\n" not in str(refused) and f"{value}" in str(refused)


def test_some_values_that_are_offered_can_not_be_combined_and_all_others_can():
    assert (
        len(CASES) > 60
        and {"qmix mixer=qtran_base", "iql learner=coma_learner", "coma mac=multi_module_mac"} <= CASES.keys()
    )
