"""Populations: several algorithms in one team, of which one learns for its seats."""

import shutil

import numpy as np
import pytest
import torch as th
import yaml

import main
import run
from components.seats import seats_that_learn
from config.components import conflict
from config.layers import known_names, read_population
from controllers.basic_controller import BasicMAC
from controllers.members_together import MembersTogether
from controllers.population_controller import PopulationTeam
from controllers.team import Team
from modules.agents.rnn_agent import RNNAgent
from modules.fast_paths import FAST_PATHS
from tests.builders import make_args, make_batch, make_mac, make_omg_args, make_scheme
from tests.games import NAME, configure
from tests.test_agent_models import MODELS
from tests.test_run import SHORT, built, equal, whole_run
from utils.dict2namedtuple import convert
from utils.errors import UserError
from utils.pools import weights_id

POPULATION = {"iql": 2, "vdn": 1}


# --- the command line


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("7iql1iql_omg", {"iql": 7, "iql_omg": 1}),
        ("1iql_omg7iql", {"iql_omg": 1, "iql": 7}),
        ("4iql3qmix1iql_omg", {"iql": 4, "qmix": 3, "iql_omg": 1}),
        ("12vdn", {"vdn": 12}),
    ],
)
def test_counts_and_names_are_read(name, counts):
    assert read_population(name, known_names("--config")) == counts
    assert list(read_population(name, known_names("--config"))) == list(counts)


@pytest.mark.parametrize(
    ("params", "fragments"),
    [
        (["--config=7iq1iql_omg", "--multi_algs"], ("7iq1iql_omg", "a count and an algorithm in turn", "iql, iql_")),
        (["--config=0iql1vdn", "--multi_algs"], ("0iql1vdn is no population",)),
        (["--config=2iql1iql", "--multi_algs"], ("has iql twice",)),
        (["--config=2iql1vdn"], ("add --multi_algs",)),
        (["--config=2iql1vdn", "--multi_algs"], ("train_alg", "known: iql, vdn", "which of them learns")),
        (["--config=2iql1vdn", "--multi_algs", "--train_alg=qmix"], ("'qmix'", "known: iql, vdn")),
        (["--config=2iql1qmix", "--multi_algs", "--train_alg=qmix"], ("train_alg=qmix", "mixer=null")),
        (["--config=2iql1coma", "--multi_algs", "--train_alg=coma"], ("train_alg=coma", "single seats")),
        (["--config=2iql_idv1iql", "--multi_algs", "--train_alg=iql"], ("iql_idv.agent=rnn",)),
        (["--config=2iql1qmix", "--multi_algs", "--train_alg=iql", "--qmix.lrr=1"], ("command line, qmix", "'lrr'")),
        (["--config=2iql1qmix", "--multi_algs", "--train_alg=iql", "--lrr=1"], ("unknown key 'lrr'",)),
        (["--config=iql", "--multi_algs"], ("for a population, such as",)),
        (["--config=iql", "--train_alg=iql"], ("for a population, such as",)),
        (["--config=iql_omg", "--am_in_tests=exchanged"], ("raise batch_size_run",)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_bad_population_is_one_sentence(params, fragments):
    with pytest.raises(UserError) as caught:
        main.read_settings(*params, "--env-config=sc2")
    assert "\n" not in str(caught.value)
    for fragment in fragments:
        assert fragment in str(caught.value)


def configured(*params):
    return main.read_settings("--env-config=sc2", "--multi_algs", *params)


def test_each_algorithm_has_its_own_keys_and_the_learners_stand_on_top():
    config = configured("--config=2qmix1iql_omg", "--train_alg=iql_omg")
    assert config["name"] == "2qmix1iql_omg" and config["population"] == {"qmix": 2, "iql_omg": 1}
    assert (config["learner"], config["mac"]) == ("omg_learner", "multi_module_mac")
    assert (config["qmix"]["learner"], config["qmix"]["mac"]) == ("q_learner", "basic_mac")
    assert "mixing_embed_dim" in config["qmix"] and "mixing_embed_dim" not in config
    assert "env_args" not in config["qmix"] and config["env_args"]["map_name"] == "8m"
    assert conflict(config) == ""


def test_a_setting_holds_for_all_that_have_its_key_or_for_one():
    config = configured(
        "--config=2qmix1iql_omg", "--train_alg=iql_omg", "--rnn_hidden_dim=32", "--qmix.obs_agent_id=False", "--eta=0.1"
    )
    assert config["rnn_hidden_dim"] == config["qmix"]["rnn_hidden_dim"] == config["iql_omg"]["rnn_hidden_dim"] == 32
    assert config["qmix"]["obs_agent_id"] is False and config["obs_agent_id"] is True
    assert config["eta"] == config["iql_omg"]["eta"] == 0.1 and "eta" not in config["qmix"]


# --- the controller


def make_team(**overrides):
    """Two seats of iql, one of vdn, which learns."""
    settings = {"population": POPULATION, "train_alg": "vdn", "is_agent_shift": False, "agent_shift": 0}
    settings |= {
        "opponent_epsilon": 0.0,
        "opponent_pool": "",
        "opponent_group": "homologue",
        "mac": "basic_mac",
        "iql": {},
        "vdn": {},
        **overrides,
    }
    args = make_omg_args(**settings)
    scheme, groups, _ = make_scheme(args)
    return PopulationTeam(scheme, groups, run.convert(vars(args)))


def test_a_frozen_agent_model_is_read_whatever_tests_of_the_learner_read():
    omg = {"mac": "multi_module_mac", "am_in_tests": "zeros"}
    frozen = make_team(iql=omg).players[0].mac.args
    learner = make_team(vdn=omg, mac="multi_module_mac").mac.args
    assert (frozen.am_in_tests, learner.am_in_tests) == ("own", "zeros")


def team_batch(lengths=(8, 5, 3)):
    """Episodes as a population plays them, with `agent_idx`."""
    batch = make_batch(make_args(), list(lengths))
    batch.data.episode_data["agent_idx"] = th.zeros(len(lengths), 1, dtype=th.long)
    batch.scheme["agent_idx"] = {"vshape": (1,), "dtype": th.long, "episode_const": True}
    return batch


def greedy_actions(team, batch, bs=slice(None)):
    """[b, T, agent]."""
    team.reset(batch, np.ones(batch.batch_size, bool))
    steps = range(batch.max_seq_length)
    return th.stack([team.select_actions(batch, t, t_env=0, bs=bs, test_mode=True) for t in steps], 1)


def test_a_population_of_one_policy_acts_as_the_plain_team():
    team, batch = make_team(), team_batch()
    plain = Team(make_mac(make_args()))
    for player in team.players:
        player.mac.load_state(plain.mac)
    for shift in (0, 1, 2):
        team.args = team.args._replace(agent_shift=shift)
        assert th.equal(greedy_actions(team, batch), greedy_actions(plain, batch))


def test_each_seat_is_played_by_its_owner_and_the_learners_is_noted():
    team, batch = make_team(), team_batch()
    iql, vdn = (greedy_actions(single(player.mac), batch) for player in team.players)
    for shift, seats in ((0, [2]), (1, [0]), (2, [1]), (4, [0])):
        team.args = team.args._replace(agent_shift=shift)
        actions = greedy_actions(team, batch)
        assert batch["agent_idx"].tolist() == [seats] * 3
        assert team.seats_of(0) == (seats, ["iql", "iql"])
        for seat in range(3):
            assert th.equal(actions[:, :, seat], (vdn if seat in seats else iql)[:, :, seat])
    assert not th.equal(iql, vdn)


def single(mac):
    """The plain team that plays one player's policy in all seats."""
    plain = Team(make_mac(make_args()))
    plain.mac.load_state(mac)
    return plain


def test_no_policy_computes_what_it_does_not_play(monkeypatch):
    team, batch = make_team(), team_batch()
    names = {player.mac.agent: player.name for player in team.players}
    rows = {name: [] for name in names.values()}
    numpy_step = FAST_PATHS[RNNAgent].numpy_step

    def watched(agent):
        step = numpy_step(agent)
        return lambda inputs, hidden: rows[names[agent]].append(len(inputs)) or step(inputs, hidden)

    monkeypatch.setitem(FAST_PATHS, RNNAgent, FAST_PATHS[RNNAgent]._replace(numpy_step=watched))
    greedy_actions(team, batch)
    assert set(rows["iql"]) == {2 * 3} and set(rows["vdn"]) == {1 * 3}
    rows["iql"].clear()
    greedy_actions(team, batch, bs=np.array([0, 2]))  # the battle of episode 1 is over
    assert set(rows["iql"]) == {2 * 2}


def test_finished_episodes_leave_the_others_actions_alone():
    team, batch = make_team(), team_batch()
    everything = greedy_actions(team, batch)
    assert th.equal(greedy_actions(team, batch, bs=np.array([0, 2])), everything[[0, 2]])


def test_with_is_agent_shift_the_learners_seat_is_drawn_for_each_episode():
    team, batch = make_team(is_agent_shift=True), team_batch([3] * 300)
    team.reset(batch, np.ones(300, bool))
    drawn = batch["agent_idx"].flatten()
    assert th.bincount(drawn, minlength=3).min() > 70
    before = drawn.clone()
    team.reset(batch, np.arange(300) < 150)  # lost worlds alone start anew
    assert th.equal(batch["agent_idx"].flatten()[150:], before[150:])
    assert not th.equal(batch["agent_idx"].flatten()[:150], before[:150])


@pytest.mark.parametrize("am_model", [None, *MODELS])
def test_acting_sees_no_state_and_nothing_that_other_seats_saw(am_model):
    model = {"am_model": "omg", "omg_supervised": True} if am_model == "supervised" else {"am_model": am_model}
    own = {"mac": "multi_module_mac", **model} if am_model else {}
    team, batch = make_team(iql=own, vdn=own), team_batch()
    actions = greedy_actions(team, batch)
    for seat in range(3):
        spoilt = team_batch()
        kept = [j for j in range(3) if j != seat]
        spoilt["state"][:] = 1e3
        spoilt["obs"][:, :, kept] = 1e3
        spoilt["actions"][:, :, kept] = 0
        by_spoilt = greedy_actions(team, spoilt)
        assert th.equal(by_spoilt[:, :, seat], actions[:, :, seat])
        assert not th.equal(by_spoilt[:, :, kept], actions[:, :, kept])


def test_frozen_teammates_act_by_chance_as_often_as_told():
    batch = team_batch([8] * 200)
    greedy = greedy_actions(make_team(), batch)
    team = make_team(opponent_epsilon=0.3)
    twin = make_team()
    for player, other in zip(team.players, twin.players, strict=True):
        player.mac.load_state(other.mac)
    greedy = greedy_actions(twin, batch)
    team.reset(batch, np.ones(200, bool))
    chosen = th.stack([team.select_actions(batch, t, t_env=0, test_mode=False) for t in range(3)], 1)
    differs = (chosen != greedy[:, :3])[:, :, :2].float().mean()
    assert 0.1 < differs < 0.3  # a random action may be the greedy one


@pytest.mark.parametrize(
    "own",
    [
        {"action_selector": "multinomial", "agent_output_type": "pi_logits"},
        {"mac": "multi_module_mac", "am_model": "omg"},
    ],
    ids=["COMA", "OMG"],
)
def test_frozen_teammates_that_would_draw_lots_act_in_training_as_in_tests(own):
    """COMA its most likely action, OMG on the mean of its subgoals; only the learner explores."""
    team, batch = make_team(iql=own), team_batch([8] * 50)
    greedy = greedy_actions(team, batch)
    team.reset(batch, np.ones(50, bool))
    chosen = th.stack([team.select_actions(batch, t, t_env=0, test_mode=False) for t in range(9)], 1)
    assert th.equal(chosen[:, :, :2], greedy[:, :, :2]) and not th.equal(chosen[:, :, 2], greedy[:, :, 2])


# --- pools


def make_pool(folder, *members):
    """A pool of untrained members (name, algorithm, seed) for RandomGame; gives their controllers by name."""
    macs = {}
    for name, alg, seed in members:
        parts, args, _ = built(alg=alg, seed=seed)
        weights = folder / name / alg
        weights.mkdir(parents=True)
        parts.mac.save_models(weights)
        config = configure(alg, seed=seed, **{key: value for key, value in SHORT.items() if key != "seed"})
        content = {"algorithm": alg, "env": NAME, "map": None, "engine": None, "seed": seed, "t_max": 1, "steps": 1}
        content |= dict.fromkeys(("test_win_rate", "test_win_rate_of_five", "test_return", "steps_per_second"))
        content |= {"weights": {alg: weights_id(weights / "agent.th")}, "config": config}
        (folder / name / "member.yaml").write_text(yaml.safe_dump(content))
        macs[name] = parts.mac
    return macs


POOL = [("a", "iql", 11), ("b", "vdn", 12), ("c", "qmix", 13)]
IN_POOL = {"multi_algs": True, "train_alg": "iql_omg", "buffer_size": 40, "is_agent_shift": True}


def play_tests(parts, n_episodes):
    """The records of test episodes."""
    episodes = []
    parts.runner.logger.log_test_episode = episodes.append
    for _ in range(n_episodes):
        parts.runner.run(test_mode=True)
    return episodes


@pytest.mark.slow
@pytest.mark.parametrize("group", ["homologue", "non_homologue"])
def test_members_of_the_pool_are_drawn_for_each_episode(tmp_path, group):
    macs = make_pool(tmp_path, *POOL)
    parts, _, _ = built(alg="2iql1iql_omg", opponent_pool=tmp_path, opponent_group=group, **IN_POOL)
    for player in parts.team.players[2:]:
        assert equal(player.mac.state_dict(), macs[player.name].state_dict())
        assert not any(parameter.requires_grad for parameter in player.mac.parameters())
    teams = [tuple(episode["teammates"]) for episode in play_tests(parts, 60)]
    if group == "homologue":
        assert set(teams) == {("a", "a"), ("b", "b"), ("c", "c")}
    else:
        assert set(teams) == {(x, y) for x in "abc" for y in "abc" if x != y}


@pytest.mark.slow
@pytest.mark.parametrize("group", ["homologue", "non_homologue"])
def test_members_that_act_together_act_as_one_after_the_other(tmp_path, group):
    make_pool(tmp_path, *POOL, ("d", "iql_omg", 14), ("e", "coma", 15), ("f", "coma", 16))
    played = []
    for is_together in (True, False):
        parts, _, _ = built(alg="2iql1iql_omg", opponent_pool=tmp_path, opponent_group=group, **IN_POOL)
        if is_together:
            actors = [[parts.team.players[i].name for i in of_mac] for _, of_mac in parts.team._actors]
            assert actors == [["iql"], ["iql_omg"], ["a", "b", "c"], ["d"], ["e", "f"]]
        else:
            parts.team._actors = [(player.mac, [i]) for i, player in enumerate(parts.team.players)]
        batches = [parts.runner.run(test_mode=is_test) for is_test in (False, True) for _ in range(20)]
        played.append([batch["actions"] for batch in batches])
    assert all(th.equal(*actions) for actions in zip(*played, strict=True))


def test_policies_that_differ_in_more_than_their_networks_do_not_act_together():
    def mac(**settings):
        return make_mac(convert({**vars(make_args()), "test_greedy": True, **settings}))

    plain = mac()
    assert MembersTogether.can_hold(plain, mac(orthogonal_init=True))
    for settings in (
        {"obs_agent_id": False},
        {"obs_last_action": False},
        {"rnn_hidden_dim": 24},
        {"test_greedy": False},
    ):
        assert not MembersTogether.can_hold(plain, mac(**settings))

    class Changed(BasicMAC):
        pass

    changed = mac()
    changed.__class__ = Changed
    assert not MembersTogether.can_hold(plain, changed) and not MembersTogether.can_hold(changed, changed)


@pytest.mark.slow
def test_a_run_with_a_pool_is_resumed_bit_for_bit_and_saves_the_learner_only(tmp_path):
    make_pool(tmp_path / "pool", *POOL)
    settings = {"is_agent_shift": True, "save_model": True, "opponent_pool": tmp_path / "pool"}
    _, info = population_run("2iql1iql_omg", "iql_omg", tmp_path / "whole", **settings)
    half, _ = population_run("2iql1iql_omg", "iql_omg", tmp_path / "half", t_max=60, **settings)
    (checkpoint,) = (tmp_path / "half").glob("models/*/*")
    assert {path.name for path in checkpoint.iterdir()} == {"iql_omg", "settings.json", "state.th", "buffer.th"}
    resumed = {"checkpoint_path": half["models"], "seed": 8}
    _, resumed_info = population_run("2iql1iql_omg", "iql_omg", tmp_path / "rest", **settings, **resumed)
    assert resumed_info == info


@pytest.mark.slow
def test_whoever_is_tested_meets_the_same_teammates(tmp_path, monkeypatch):
    make_pool(tmp_path / "pool", *POOL)
    met = {"iql": [], "iql_omg": []}
    for alg, episodes in met.items():
        monkeypatch.setattr(run.Logger, "log_test_episode", lambda _, episode, kept=episodes: kept.append(episode))
        settings = {"evaluate": True, "test_nepisode": 12, "is_agent_shift": True, "opponent_pool": tmp_path / "pool"}
        population_run(f"2vdn1{alg}", alg, tmp_path / alg, **settings)
    first, second = ([(episode["seat"], episode["teammates"]) for episode in episodes] for episodes in met.values())
    assert first == second and len({tuple(teammates) for _, teammates in first}) == 3


@pytest.mark.slow
def test_a_member_has_its_prior_itself_also_where_it_came_from_elsewhere(tmp_path):
    macs = make_pool(tmp_path, ("a", "iql_omg", 11))
    path = tmp_path / "a" / "member.yaml"
    path.write_text(path.read_text().replace("omg_prior_path: ''", "omg_prior_path: gone"))
    assert "gone" in path.read_text()
    parts, _, _ = built(alg="2iql1iql_omg", opponent_pool=tmp_path, **IN_POOL)
    assert equal(parts.team.players[-1].mac.state_dict(), macs["a"].state_dict())


@pytest.mark.parametrize(
    ("pool", "sentence"), [("8m", "was trained in sc2, 8m, but this run plays 3m"), ("no", "holds no members")]
)
def test_a_pool_of_another_world_is_refused_before_anything_is_written(pool, sentence, tmp_path, capsys):
    make_pool(tmp_path / "8m", POOL[0])
    path = tmp_path / "8m" / "a" / "member.yaml"
    path.write_text(path.read_text().replace("map: null", "map: 8m").replace("env: game_of_a_test", "env: sc2"))
    given = ["--config=2iql1iql_omg", "--env-config=sc2", "--multi_algs", "--train_alg=iql_omg"]
    given += ["with", "env_args.map_name=3m", f"opponent_pool={tmp_path / pool}"]
    assert main.main([*given, f"local_results_path={tmp_path / 'results'}"]) == 2
    assert sentence in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_pool_that_does_not_fit_is_one_sentence(tmp_path):
    make_pool(tmp_path / "one", POOL[0])
    with pytest.raises(UserError, match="needs a member for each of 2 seats, but .*one has 1"):
        built(alg="2iql1iql_omg", opponent_pool=tmp_path / "one", opponent_group="non_homologue", **IN_POOL)
    make_pool(tmp_path / "each", ("d", "iql_idv", 14))
    with pytest.raises(UserError, match="each/d has a network for each agent, which a population can't deal out"):
        built(alg="2iql1iql_omg", opponent_pool=tmp_path / "each", **IN_POOL)
    path = tmp_path / "one" / "a" / "member.yaml"
    path.write_text(path.read_text().replace("map: null", "map: 8m"))
    with pytest.raises(UserError, match="was trained in game_of_a_test, 8m, but this run plays game_of_a_test"):
        built(alg="2iql1iql_omg", opponent_pool=tmp_path / "one", **IN_POOL)
    with pytest.raises(UserError, match="holds no members"):
        built(alg="2iql1iql_omg", opponent_pool=tmp_path / "nowhere", **IN_POOL)


# --- learning


def test_a_learner_is_given_the_rows_of_its_seat():
    batch = team_batch()
    batch["agent_idx"][:] = th.tensor([[2], [0], [1]])
    cut = seats_that_learn(batch)
    assert cut["seat"].tolist() == [[2], [0], [1]]
    for b, seat in enumerate((2, 0, 1)):
        assert th.equal(cut["obs"][b, :, 0], batch["obs"][b, :, seat])


def population_run(name, train_alg, folder, **settings):
    prior = {"omg_vae_pretrain_steps": 60} if train_alg == "iql_omg" else {}
    given = {"multi_algs": True, "train_alg": train_alg, "buffer_size": 40, "local_results_path": folder}
    return whole_run(alg=name, **(prior | given | settings))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "train_alg"),
    [
        ("1iql1qmix1iql_omg", "iql_omg"),
        ("2iql_am1iql_liam", "iql_liam"),
    ],
)
def test_only_the_learner_learns_and_a_resumed_run_is_the_same(tmp_path, name, train_alg):
    settings = {"is_agent_shift": True, "save_model": True}
    population_run(name, train_alg, tmp_path / "start", t_max=1, **settings)
    folders, info = population_run(name, train_alg, tmp_path / "whole", **settings)
    ((start,), (end,)) = (sorted((tmp_path / part).glob("models/*/*")) for part in ("start", "whole"))
    algs = set(read_population(name, known_names("--config")))
    for alg in algs:
        for file in ("agent.th", *(path.name for path in (start / alg).glob("*_am.th"))):
            before, after = (th.load(folder / alg / file) for folder in (start, end))
            assert equal(before, after) == (alg != train_alg), (alg, file)
    assert len(info["loss"]) > 1

    half, _ = population_run(name, train_alg, tmp_path / "half", t_max=60, **settings)
    resumed = {"checkpoint_path": half["models"], "seed": 8}
    _, resumed_info = population_run(name, train_alg, tmp_path / "rest", **settings, **resumed)
    assert resumed_info == info


@pytest.mark.slow
def test_a_seat_gets_as_much_experience_as_a_team(tmp_path, caplog):
    caplog.set_level("INFO")
    _, info = population_run("2iql1iql_omg", "iql_omg", tmp_path, t_max=50, batch_size=2)
    assert info["episode_T"][-1] + 40 > 150 and info["return_mean_T"][-1] > 100
    assert "3 times the episodes, t_max=150, batch_size=6" in caplog.text
    assert all(episode % 3 == 0 for episode in info["episode"])


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("2iql1iql_omg", {"buffer_size": 5, "batch_size": 4}, "batch_size=4, 3 times as many in this population"),
        ("7iql1iql_omg", {}, "7 iql + 1 iql_omg = 8 seats, but the environment has 3 agents"),
    ],
)
def test_what_does_not_fit_the_environment_is_one_sentence(tmp_path, name, settings, says):
    with pytest.raises(UserError, match=says.replace("+", r"\+")) as caught:
        population_run(name, "iql_omg", tmp_path, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_teammates_come_from_init_param_path(tmp_path, caplog):
    parts, _, _ = built(alg="iql", seed=5)
    for alg in ("iql", "vdn"):
        (tmp_path / "pool" / alg).mkdir(parents=True)
        parts.mac.save_models(tmp_path / "pool" / alg)
    given = {"multi_algs": True, "train_alg": "vdn", "vdn.mixer": "null", "buffer_size": 40}
    made, _, _ = built(alg="2iql1vdn", init_param_path=tmp_path / "pool", **given)
    for player in made.team.players:
        assert equal(player.mac.state_dict(), parts.mac.state_dict())
    assert "untrained" not in caplog.text
    shutil.rmtree(tmp_path / "pool" / "vdn")  # the learner may start anew
    made, _, _ = built(alg="2iql1vdn", init_param_path=tmp_path / "pool", **given)
    learner, frozen = (next(p for p in made.team.players if p.is_frozen == is_frozen) for is_frozen in (False, True))
    assert equal(frozen.mac.state_dict(), parts.mac.state_dict())
    assert not equal(learner.mac.state_dict(), parts.mac.state_dict())
    shutil.rmtree(tmp_path / "pool" / "iql")
    with pytest.raises(UserError, match="no weights at .*pool/iql/agent.th"):
        built(alg="2iql1vdn", init_param_path=tmp_path / "pool", **given)
    built(alg="2iql1vdn", **given)
    assert "untrained weights" in caplog.text


def test_a_test_episode_is_recorded_with_seat_and_teammates():
    settings = {"multi_algs": True, "train_alg": "vdn", "vdn.mixer": "null", "buffer_size": 40}
    parts, _, logger = built(alg="2iql1vdn", is_agent_shift=True, **settings)
    episodes = []
    logger.log_test_episode = episodes.append
    for _ in range(8):
        parts.runner.run(test_mode=True)
    assert {episode["seat"] for episode in episodes} == {0, 1, 2}
    assert all(episode["teammates"] == ["iql", "iql"] for episode in episodes)
