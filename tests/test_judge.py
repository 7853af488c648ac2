"""The judge by policies: PyMARL's networks against torch's own, residuals by hand, mistakes, and the command."""

import json

import numpy as np
import pytest
import torch as th
from torch import nn

from envs.sc2.sim.rules import Rules
from experiments.judge import __main__ as judge
from experiments.judge.networks import read_agent, read_mixer
from experiments.judge.policies import EVENTS, Battles, judge_policies, play, read_policies, residuals
from utils.errors import UserError

N_OBS, N_ACTIONS, N_AGENTS, N_STATE, N_HIDDEN = 30, 9, 3, 48, 5  # of 3m


def agent_weights(n_inputs=N_OBS + N_ACTIONS + N_AGENTS, n_actions=N_ACTIONS):
    th.manual_seed(3)
    layers = nn.ModuleDict(
        {
            "fc1": nn.Linear(n_inputs, N_HIDDEN),
            "rnn": nn.GRUCell(N_HIDDEN, N_HIDDEN),
            "fc2": nn.Linear(N_HIDDEN, n_actions),
        }
    )
    return layers, layers.state_dict()


def mixer_weights(hypernet_layers=1, n_embed=4, n_state=N_STATE, n_agents=N_AGENTS):
    def hypernet(n_out):
        if hypernet_layers == 1:
            return nn.Linear(n_state, n_out)
        return nn.Sequential(nn.Linear(n_state, 6), nn.ReLU(), nn.Linear(6, n_out))

    th.manual_seed(4)
    layers = nn.ModuleDict(
        {
            "hyper_w_1": hypernet(n_embed * n_agents),
            "hyper_w_final": hypernet(n_embed),
            "hyper_b_1": nn.Linear(n_state, n_embed),
            "V": nn.Sequential(nn.Linear(n_state, n_embed), nn.ReLU(), nn.Linear(n_embed, 1)),
        }
    )
    return layers, layers.state_dict()


@pytest.fixture
def folder(tmp_path):
    """A folder with one made-up policy on 3m, with a mixer."""
    write(tmp_path, [{"name": "made_up", "map": "3m", "algorithm": "QMIX", "test_win_rate": 0.5}])
    (tmp_path / "made_up").mkdir()
    th.save(agent_weights()[1], tmp_path / "made_up" / "agent.th")
    th.save(mixer_weights()[1], tmp_path / "made_up" / "mixer.th")
    return tmp_path


def write(folder, index):
    (folder / "index.json").write_text(index if isinstance(index, str) else json.dumps(index))


def run(capsys, *params):
    """Exit status, and what was printed to either output."""
    status = judge.main([str(param) for param in params])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


# ------------------------------------------------------------------------------------------------ networks


def test_the_agent_is_torchs_gru_cell_between_two_layers(folder):
    layers, _ = agent_weights()
    agent = read_agent(folder / "made_up" / "agent.th")
    rng = np.random.default_rng(0)
    inputs, hidden = rng.normal(size=(2, 3, agent.n_inputs)), rng.normal(size=(2, 3, N_HIDDEN))
    for _ in range(3):
        outputs, hidden = agent.forward(inputs.astype(np.float32), hidden_before := hidden.astype(np.float32))
        with th.no_grad():
            x = th.relu(layers["fc1"](th.tensor(inputs, dtype=th.float32)))
            h = layers["rnn"](x.reshape(-1, N_HIDDEN), th.tensor(hidden_before).reshape(-1, N_HIDDEN))
            q = layers["fc2"](h).reshape(2, 3, N_ACTIONS)
        np.testing.assert_allclose(hidden, h.reshape(2, 3, N_HIDDEN), atol=1e-6)
        np.testing.assert_allclose(outputs, q, atol=1e-6)
        assert (outputs.argmax(-1) == q.argmax(-1).numpy()).all()


@pytest.mark.parametrize("hypernet_layers", [1, 2])
def test_the_mixer_is_qmixs_with_hypernetworks_of_one_layer_or_two(tmp_path, hypernet_layers):
    layers, weights = mixer_weights(hypernet_layers)
    th.save(weights, tmp_path / "mixer.th")
    mixer = read_mixer(tmp_path / "mixer.th")
    rng = np.random.default_rng(1)
    qs, states = rng.normal(size=(7, N_AGENTS)), rng.normal(size=(7, N_STATE))
    with th.no_grad():
        s = th.tensor(states, dtype=th.float32)
        w_1 = layers["hyper_w_1"](s).abs().view(-1, N_AGENTS, 4)
        q = th.tensor(qs, dtype=th.float32).view(-1, 1, N_AGENTS)
        hidden = nn.functional.elu(th.bmm(q, w_1) + layers["hyper_b_1"](s).view(-1, 1, 4))
        expected = th.bmm(hidden, layers["hyper_w_final"](s).abs().view(-1, 4, 1)).view(-1) + layers["V"](s).view(-1)
    np.testing.assert_allclose(mixer.forward(qs, states), expected, atol=1e-5)
    assert (mixer.n_agents, mixer.n_state) == (N_AGENTS, N_STATE)


# ------------------------------------------------------------------------------------------------ playing


def test_residuals_by_hand():
    battles = Battles(
        running=np.array([[True, True], [True, False]]),
        reward=np.array([[1.0, 2.0], [3.0, 0.0]]),
        ended=np.array([[False, True], [True, False]]),
        q_tot=np.array([[10.0, 20.0], [30.0, 99.0]]),
        events=np.zeros((2, 2, len(EVENTS)), bool),
        won=np.array([True, False]),
    )
    np.testing.assert_allclose(residuals(battles, gamma=0.5), [[1 + 0.5 * 30 - 10, 2 - 20], [3 - 30, np.nan]])


def test_events_fall_where_they_happen(folder):
    (policy,) = read_policies(folder)
    battles = play(policy, range(4), Rules())
    first = battles.events.argmax(0)  # [battle, event]
    happened = battles.events.any(0)
    once = [EVENTS.index(event) for event in ("first sight", "enemies' first shot", "first death")]
    assert (battles.events[..., once].sum(0) <= 1).all()
    assert happened[:, once].all()  # the enemies kill whoever does nothing sensible
    sight, shot, death = first[:, once].T
    assert ((sight <= shot) & (shot <= death)).all()
    assert not battles.events[~battles.running].any()


def test_the_numbers_do_not_depend_on_how_many_battles_are_in_memory(folder, monkeypatch):
    policies = read_policies(folder)
    (whole,) = judge_policies(policies, 5, 0, Rules())
    monkeypatch.setattr("experiments.judge.policies.AT_ONCE", 2)
    (parts,) = judge_policies(policies, 5, 0, Rules())
    assert (parts.won, parts.episode_steps) == (whole.won, whole.episode_steps)
    assert [event.n for event in parts.by_event] == [event.n for event in whole.by_event]
    assert parts.residual_size == pytest.approx(whole.residual_size, abs=1e-4)


def test_without_a_mixer_there_are_win_rates_only_and_the_note_says_so(folder):
    (folder / "made_up" / "mixer.th").unlink()
    (row,) = judge_policies(read_policies(folder), 2, 0, Rules())
    assert (row.residual_size, row.by_step, row.note) == (None, [], "no mixer.th: win rate only")


def test_the_mixer_of_another_algorithm_counts_as_none(folder):
    path = folder / "made_up" / "mixer.th"
    th.save({**mixer_weights()[1], "correction.weight": th.zeros(2, 2)}, path)
    (row,) = judge_policies(read_policies(folder), 2, 0, Rules())
    assert row.note == "the mixer is not QMIX's: win rate only"


# ------------------------------------------------------------------------------------------------ mistakes


def no_agent(folder):
    (folder / "made_up" / "agent.th").unlink()


def torn_agent(folder):
    path = folder / "made_up" / "agent.th"
    path.write_bytes(path.read_bytes()[:300])


def a_list_for_an_agent(folder):
    th.save([1, 2], folder / "made_up" / "agent.th")


def another_network(folder):
    weights = agent_weights()[1]
    del weights["fc2.bias"]
    th.save(weights, folder / "made_up" / "agent.th")


def torn_apart(folder):
    weights = agent_weights()[1]
    weights["rnn.weight_hh"] = weights["rnn.weight_hh"][:-1]
    th.save(weights, folder / "made_up" / "agent.th")


def another_map(folder):
    write(folder, [{"name": "made_up", "map": "8m"}])


def mixer_of_another_map(folder):
    th.save(mixer_weights(n_state=50)[1], folder / "made_up" / "mixer.th")


def no_json(folder):
    write(folder, "[{")


def no_list(folder):
    write(folder, {"name": "made_up"})


def unknown_map(folder):
    write(folder, [{"name": "made_up", "map": "4m"}])


def no_index(folder):
    (folder / "index.json").unlink()


MISTAKES = {
    no_agent: "agent.th is missing: a policy is a folder with PyMARL's agent.th",
    torn_agent: "agent.th can't be read as PyTorch weights: copy it again",
    a_list_for_an_agent: "agent.th holds no state dict: give the agent.th or mixer.th that PyMARL saved",
    another_network: "agent.th is not PyMARL's recurrent agent",
    torn_apart: "agent.th fits no layout: from_hidden has the shape (14, 5) beside 5 hidden units",
    another_map: "agent.th takes 42 inputs and gives 9 actions; 8m has observations of 80",
    mixer_of_another_map: "mixer.th is for 3 agents and states of 50; 3m has 3 and 48",
    no_json: "index.json is no JSON",
    no_list: "index.json must be a list of objects with at least a name and a map",
    unknown_map: "policy made_up: unknown map '4m'",
    no_index: "index.json is missing: it lists the policies of the folder",
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_broken_folder_is_one_sentence_and_status_2(folder, capsys, mistake):
    mistake(folder)
    status, _, error = run(capsys, "--policies", folder, "--battles", 2)
    assert status == 2
    assert error.startswith("error: ") and error.count("\n") == 1
    assert MISTAKES[mistake] in error


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        (["--names", "made_op"], "--names: unknown policy 'made_op'; did you mean 'made_up'?"),
        (["--maps", "8m"], "lists no policy of the given --maps and --names"),
        (["--maps", "9m"], "--map: unknown map '9m'"),
        (["--battles", "0"], "--battles=0 must be at least 1"),
        (["--rules", "gravity=9.8"], "--rules: unknown rule 'gravity'"),
        (["--picture", "drawing.txt"], "must end in .png, .svg or .pdf"),
        (["--json", "nowhere/results.json"], "can't be written"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_status_2(folder, capsys, params, sentence):
    status, _, error = run(capsys, "--policies", folder, *params)
    assert status == 2
    assert sentence in error


def test_without_a_judge_there_is_nothing_to_do(capsys):
    status, _, error = run(capsys)
    assert (status, error) == (
        2,
        "error: nothing to judge by: give --trajectories, --replays or --policies with a folder\n",
    )


def test_a_missing_folder_is_a_mistake_of_the_user(tmp_path):
    with pytest.raises(UserError, match=r"index\.json is missing"):
        read_policies(tmp_path / "nowhere")


# ------------------------------------------------------------------------------------------------ the command


def test_the_command_judges_each_setting_of_the_rules(folder, tmp_path, capsys):
    results, picture = tmp_path / "results.json", tmp_path / "picture.png"
    settings = ("--rules", "scan_period_loops=3", "--rules", "scan_period_loops=6", "passing_side=left")
    files = ("--json", results, "--picture", picture)
    status, printed, _ = run(capsys, "--policies", folder, "--battles", 4, *settings, *files)
    assert status == 0
    assert printed.count("made_up") == 2 * 3  # win rate, residual by step, by event
    assert "rules scan_period_loops=6 passing_side=left\n" in printed
    written = json.loads(results.read_text())
    assert [one["changed"] for one in written["settings"]] == [
        "scan_period_loops=3",
        "scan_period_loops=6 passing_side=left",
    ]
    (policy,) = written["settings"][1]["policies"]
    assert (policy["name"], policy["battles"], policy["game_win_rate"]) == ("made_up", 4, 0.5)
    assert [step["where"] for step in policy["by_step"]] == [str(t) for t in range(14)]
    assert [event["where"] for event in policy["by_event"]] == list(EVENTS)
    assert picture.read_bytes().startswith(b"\x89PNG")
