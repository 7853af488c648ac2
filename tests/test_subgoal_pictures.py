"""Looking inside OMG: decoded states as units on the map, the numbers beside the pictures, and the command itself."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch as th
from PIL import Image

import main
from envs.sc2.sim.render import TEAM_COLOURS, Painter
from experiments import subgoals
from experiments.subgoals import Ghost, Inference
from run import Run
from tests.scenes import Scene
from tests.test_sc2_render import near
from utils.rl_utils import is_alive
from utils.subgoals import mean_hit_ratio

SMALL = ("env_args.map_name=3m", "rnn_hidden_dim=8", "omg_subgoal_dim=4", "omg_horizon=3")
OPTIONS = {
    "as in SMAC": {},
    "all that is observed": {"obs_pathing_grid": True, "obs_terrain_height": True, "obs_last_action": True},
    "no health": {"obs_all_health": False},
}


def arguments(**changes):
    given = dict(
        checkpoint=None, map=None, episodes=2, agent=0, seed=0, config="iql_omg", env_config="sc2", record=None, set=[]
    )
    return SimpleNamespace(**(given | changes))


def make_checkpoint(folder, is_trained=True, settings=SMALL):
    """An untrained checkpoint and its record, as a run leaves them; gives the folder of models."""
    config = subgoals.configure(arguments(set=list(settings)))
    parts = Run({**main.resolve(config), "device": "cpu"})
    parts.mac.am.vae.is_trained.fill_(is_trained)
    models, record = folder / "models" / "iql_omg_3m_sim_seed1_4", folder / "sacred" / "4"
    for path in (models / "120", record):
        path.mkdir(parents=True)
    parts.mac.save_models(models / "120")
    (record / "config.json").write_text(json.dumps({**config, "a_key_of_an_older_version": 1}))
    return models


# --- decoded states as units


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("types", [("Marine", "Marine"), ("Stalker", "Zealot")])
def test_an_observation_tells_where_the_others_are(types, options):
    allies, enemies = [(10.0, 10.0), (13.0, 8.5), (25.0, 25.0)], [(15.0, 11.0), (9.0, 16.0), (30.0, 2.0)]
    scene = Scene(allies, enemies, ally_type=types[0], enemy_type=types[1], **options)
    scene.battle.units["health"][0, 1] /= 4
    scene.battle._observe(np.ones(1, bool), scene.seen)
    ghosts = subgoals.seen_units(scene.seen.obs[0, 0], scene.battle.layout, agent=0)
    shares = {1: 0.25, 3: 1.0, 4: 1.0} if options.get("obs_all_health", True) else {1: 1.0, 3: 1.0, 4: 1.0}
    assert {ghost.unit: ghost.health for ghost in ghosts} == pytest.approx(shares, abs=1e-5)
    for ghost in ghosts:  # enemies come first
        place = (allies + enemies)[ghost.unit]
        assert (10 + ghost.x, 10 + ghost.y) == pytest.approx(place, abs=1e-4)


def test_an_agent_is_no_unit_of_its_own_observation():
    scene = Scene(allies=[(10.0, 10.0), (12.0, 10.0)], enemies=[(14.0, 10.0)])
    seen = [subgoals.seen_units(scene.seen.obs[0, agent], scene.battle.layout, agent) for agent in (0, 1)]
    assert [[(ghost.unit, round(ghost.x, 3)) for ghost in ghosts] for ghosts in seen] == [
        [(2, 4.0), (1, 2.0)],
        [(2, 2.0), (0, -2.0)],
    ]


def test_of_the_dead_nothing_is_decoded():
    layout = Scene(allies=[(10.0, 10.0), (12.0, 10.0)], enemies=[(14.0, 10.0)]).battle.layout
    assert subgoals.seen_units(np.full(layout.obs_size, 0.05), layout, agent=0) == []


@pytest.mark.parametrize("types", [("Marine", "Marine"), ("Stalker", "Zealot")])
def test_a_state_tells_where_all_are(types):
    allies, enemies = [(10.0, 10.0), (3.0, 28.5)], [(15.0, 11.0), (30.0, 2.0)]
    battle = (scene := Scene(allies, enemies, ally_type=types[0], enemy_type=types[1])).battle
    battle.units["health"][0, 1] /= 2
    battle.units["health"][0, 3] = 0
    battle._observe(np.ones(1, bool), scene.seen)
    ghosts = subgoals.units_of_state(scene.seen.state[0], battle.layout, battle.map)
    expected = [Ghost(0, 10.0, 10.0, 1.0), Ghost(1, 3.0, 28.5, 0.5), Ghost(2, 15.0, 11.0, 1.0)]
    assert [ghost.unit for ghost in ghosts] == [0, 1, 2]
    assert np.allclose(ghosts, expected, atol=1e-4)


# --- numbers


def test_shares_ahead_of_a_known_episode():
    nearest = th.tensor([[[1, 3], [0, 2], [7, 2], [-1, -1]]])  # 1 and 3 ahead, 1 back and 1 ahead, 5 ahead and now
    ahead, further, not_ahead = subgoals.shares_ahead(nearest, horizon=3)
    assert ahead == pytest.approx([2 / 6, 0, 1 / 6])
    assert (further, not_ahead) == pytest.approx((1 / 6, 2 / 6))


def test_the_hit_ratio_is_the_mean_over_episodes_and_agents():
    # the paper's example, 0.4; and an agent whose subgoals never hit; then an episode of two states, of which one hits
    first = [[2, 0], [0, 0], [4, 0], [4, 0], [-1, -1]]
    second = [[1, 0], [-1, -1], [-1, -1], [-1, -1], [-1, -1]]
    inference = Inference(th.zeros(0), th.tensor([first, second]), th.tensor([5, 2]))
    assert mean_hit_ratio(inference.nearest, inference.n_states).item() == pytest.approx((0.4 + 0 + 0.5 + 0) / 4)


def test_numbers_are_those_of_the_learner():
    settings = [*SMALL, "obs_is_state=False"]
    parts = Run({**main.resolve(subgoals.configure(arguments(episodes=3, set=settings))), "device": "cpu"})
    parts.mac.am.vae.is_trained.fill_(True)
    batch = parts.runner.run(test_mode=True)
    inference = subgoals.infer(parts.mac, batch)
    picked = subgoals.picked_in_hindsight(parts, batch)
    ratio = mean_hit_ratio(inference.nearest, inference.n_states).item()
    assert ratio == pytest.approx(parts.logger.stats["subgoal_hit_ratio"][-1][1])
    assert len(picked) == 3 and sum(picked) == pytest.approx(1)
    lengths = batch["filled"].sum((1, 2))
    alive = is_alive(batch["avail_actions"], batch["filled"].bool())
    n_final = (lengths.unsqueeze(1) == alive.sum(1)).sum()  # agents that live to see the final state, and act no more
    assert (inference.nearest >= 0).sum() == alive.sum() - n_final and inference.n_states.tolist() == lengths.tolist()


# --- the command


def test_a_checkpoint_becomes_pictures_and_a_table(tmp_path, capsys):
    models = make_checkpoint(tmp_path)
    params = ["--episodes=2", "--agent=2", "--size=160", f"--out={tmp_path / 'out'}"]
    assert subgoals.main([str(models), *params]) == 0
    out = capsys.readouterr().out
    assert "2 episodes of 3m on the embedded engine" in out and "subgoal hit ratio: " in out
    assert [len(line.split()) for line in out.splitlines() if line.startswith(("steps ahead", "picked"))] == [5, 7]
    gif, png = (tmp_path / "out" / f"subgoals_3m_agent2_seed0.{kind}" for kind in ("gif", "png"))
    with Image.open(gif) as film, Image.open(png) as strip:
        assert film.n_frames > 3 and film.width == strip.width == 240
        assert strip.height == 4 * film.height
        first = np.asarray(film.convert("RGB"))
        film.seek(film.n_frames - 1)
        assert not np.array_equal(first, np.asarray(film.convert("RGB")))


def test_a_ghost_is_a_ring_at_its_place_with_a_line_from_the_unit():
    battle = Scene(allies=[(8.0, 16.0)], enemies=[(24.0, 16.0)]).battle
    painter = Painter(battle.map, 640)
    before = painter.draw(battle)
    picture = before.copy()
    subgoals.draw_ghost(picture, painter, Ghost(1, 20.0, 25.0, 0.5), battle.units[0, 1])
    rows, columns = np.nonzero((np.asarray(picture) != np.asarray(before)).any(-1))
    ring = near(np.asarray(picture).astype(int), TEAM_COLOURS[1]) & (np.asarray(picture) != np.asarray(before)).any(-1)
    place = np.argwhere(ring).mean(0)[::-1]
    assert np.abs(place - painter.pixel(20.0, 25.0)).max() < 1.5
    assert (columns.max(), rows.max()) == pytest.approx(painter.pixel(24.0, 16.0), abs=1.5)


@pytest.mark.parametrize("is_state", [False, True])
def test_a_perfect_subgoal_is_drawn_where_the_units_will_be(monkeypatch, is_state):
    """It decodes to the agent's observation, or to the state, three steps later."""
    parts = Run({**main.resolve(subgoals.configure(arguments(episodes=1, set=list(SMALL)))), "device": "cpu"})
    batch = parts.runner.run(test_mode=False)  # at random, so that all of them move about
    replay, n_states = subgoals.Replay.of(parts.runner.env), int(batch["filled"].sum())
    later = (th.arange(batch["obs"].shape[1]) + 3).clamp(max=n_states - 1)
    decoded = batch["state"][:, later].unsqueeze(2).expand(-1, -1, 3, -1) if is_state else batch["obs"][:, later]
    perfect = Inference(decoded, later.view(1, -1, 1).expand(-1, -1, 3), th.tensor([n_states]))
    drawn, t = [], 0
    monkeypatch.setattr(subgoals, "draw_ghost", lambda picture, painter, ghost, unit: drawn.append(ghost))
    moments = [battle.units[0].copy() for battle in replay.moments()]
    for picture in subgoals.draw_film(replay, perfect, parts.runner.env.layout, 1, is_state, 160):
        units = moments[min(t + 3, n_states - 1)]
        assert picture.width == 240 and (drawn or units["health"][1] <= 0)
        for ghost in drawn:
            assert (ghost.x, ghost.y) == pytest.approx((units["x"][ghost.unit], units["y"][ghost.unit]), abs=1e-3)
        drawn.clear()
        t += 1
    assert t == n_states - 1


def test_a_record_is_found_beside_the_models(tmp_path):
    models = make_checkpoint(tmp_path, settings=(*SMALL, "omg_value=max", "omg_prior_path=gone"))
    assert subgoals.record_of(models) == subgoals.record_of(models / "120") == tmp_path / "sacred" / "4"
    assert subgoals.record_of(tmp_path) is None
    config = subgoals.configure(arguments(record=tmp_path / "sacred" / "4", set=["omg_value=mean"]))
    assert config["rnn_hidden_dim"] == 8 and config["omg_value"] == "mean" and config["env_args"]["engine"] == "sim"
    assert config["env_args"]["map_name"] == "3m"
    assert config["omg_prior_path"] == ""  # the checkpoint has the prior


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (["--map=8mm"], "did you mean '8m'"),
        (["--size=9"], "--size"),
        (["--episodes=0"], "--episodes must be at least 1"),
        (["--agent=3"], "--agent=3 must be one of the 3 agents"),
        (["--set", "am_model=none", "learner=q_learner"], "is no OMG checkpoint of a StarCraft map"),
        (["--config=iql"], "is no OMG checkpoint of a StarCraft map"),
        (["--env-config=foraging"], "is no OMG checkpoint of a StarCraft map"),
        (["--set", "gama=1"], "did you mean 'gamma'"),
        (["--record=nowhere"], "--record=nowhere has no config.json"),
        (["--set", "rnn_hidden_dim=16"], "does not fit this run"),
        (["--set", "obs_is_state=True", "env_args.obs_instead_of_state=True"], "can't be drawn"),
    ],
)
def test_mistakes_are_one_sentence_and_write_nothing(tmp_path, capsys, params, said):
    models = make_checkpoint(tmp_path)
    assert subgoals.main([str(models), f"--out={tmp_path / 'out'}", *params]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_prior_that_is_not_trained_is_refused(tmp_path, capsys):
    assert subgoals.main([str(make_checkpoint(tmp_path, is_trained=False))]) == 2
    assert "120 is not trained yet" in capsys.readouterr().err
