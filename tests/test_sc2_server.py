"""The stand-in for StarCraft II through pysc2 alone: it speaks the game's protocol, and fights as the engine does."""

import time

import numpy as np
import pytest

from envs.sc2.sim.smac import StarCraft2Env
from tests.sc2_server.install import BUILD_4_6_2, BUILD_4_10_0, install

flags = pytest.importorskip("absl.flags")
run_configs = pytest.importorskip("pysc2.run_configs", reason="pysc2 is not installed")
pytest.importorskip("websockets", reason="the stand-in needs the package websockets")
from pysc2.lib import protocol, remote_controller  # noqa: E402
from s2clientprotocol import debug_pb2, sc2api_pb2  # noqa: E402

STOP, MOVE, ATTACK, HEAL = 4, 16, 23, 386
STEPS = {2: (0, 2), 3: (0, -2), 4: (2, 0), 5: (-2, 0)}


@pytest.fixture
def launch(tmp_path, monkeypatch):
    """Launches the stand-in as pysc2 does the game; all that were launched are closed."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["tests"])
    monkeypatch.setenv(
        "SC2PATH", str(install(tmp_path / "game", (BUILD_4_6_2, BUILD_4_10_0), ("3m", "MMM", "so_many_baneling")))
    )
    processes = []

    def launched(version=None, timeout_seconds=30):
        config = run_configs.get(version=version)
        processes.append(config.start(want_rgb=False, timeout_seconds=timeout_seconds))
        return processes[-1]

    yield launched
    for process in processes:
        process.close()


def create(controller, map_name, seed):
    request = sc2api_pb2.RequestCreateGame(random_seed=seed)
    request.local_map.map_path = f"SMAC_Maps/{map_name}.SC2Map"
    request.player_setup.add(type=sc2api_pb2.Participant)
    request.player_setup.add(type=sc2api_pb2.Computer)
    controller.create_game(request)
    controller.join_game(sc2api_pb2.RequestJoinGame(options=sc2api_pb2.InterfaceOptions(raw=True)))


def units_of(controller):
    return list(controller.observe().observation.raw_data.units)


def orders(actions, env, tags):
    """The agents' actions as the game takes them; tags [unit], agents first."""
    request = sc2api_pb2.RequestAction()
    for i, action in enumerate(actions):
        if action == 0:
            continue
        command = request.actions.add().action_raw.unit_command
        command.unit_tags.append(tags[i])
        if action == 1:
            command.ability_id = STOP
        elif action in STEPS:
            command.ability_id, pos = MOVE, env.agents[i].pos
            command.target_world_space_pos.x = np.float32(pos.x) + STEPS[action][0]
            command.target_world_space_pos.y = np.float32(pos.y) + STEPS[action][1]
        else:
            heals = bool(env.battle.units[0, i]["heals"])
            command.ability_id = HEAL if heals else ATTACK
            command.target_unit_tag = tags[action - 6 + (0 if heals else env.n_agents)]
    return request


def random_actions(env, rng):
    return [int(rng.choice(np.flatnonzero(available)[-3:])) for available in env.get_avail_actions()]


def assert_alike(units, env, tags):
    """The game's units are the engine's living ones, to single precision."""
    living = [u for u in [*env.agents.values(), *env.enemies.values()] if u.health > 0]
    assert [u.tag for u in units] == [tags[u.tag - 1] for u in living]
    for theirs, ours in zip(units, living):
        assert theirs.unit_type == ours.unit_type and theirs.owner == (1 if ours.tag <= env.n_agents else 2)
        shown = (theirs.pos.x, theirs.pos.y, theirs.health, theirs.shield, theirs.energy, theirs.weapon_cooldown)
        meant = (*ours.pos, ours.health, ours.shield, ours.energy, ours.weapon_cooldown)
        assert shown == tuple(float(np.float32(value)) for value in meant)
        assert theirs.health_max == ours.health_max and theirs.shield_max == ours.shield_max


@pytest.mark.slow
def test_orders_through_the_protocol_fight_the_engines_battle(launch):
    controller = launch().controller
    create(controller, "MMM", seed=4)
    env, rng, earlier, over = StarCraft2Env("MMM", seed=4), np.random.default_rng(1), set(), False
    for n_steps in (150, 5):  # the second battle begins when all units of the first are killed
        env.reset()
        units = units_of(controller)
        tags = [unit.tag for unit in units]
        assert not earlier & set(tags)
        while n_steps and not over:
            assert_alike(units, env, tags)
            actions = random_actions(env, rng)
            controller.actions(orders(actions, env, tags))
            controller.step(8)
            over, n_steps, units = env.step(actions)[1], n_steps - 1, units_of(controller)
        assert_alike(units, env, tags)
        over, earlier = False, set(tags)
        controller.debug(debug_pb2.DebugCommand(kill_unit=debug_pb2.DebugKillUnit(tag=[u.tag for u in units])))
        assert not units_of(controller)
        controller.step(2)
    assert b"MMM" in controller.save_replay()


@pytest.mark.slow
@pytest.mark.parametrize(("version", "build"), [("4.6.2", BUILD_4_6_2), (None, BUILD_4_10_0)])
def test_a_process_is_of_its_build_and_plays_one_game_after_the_other(launch, version, build):
    process = launch(version)
    controller = process.controller
    assert controller.ping().base_build == build
    with pytest.raises(remote_controller.RequestError, match="InvalidMapPath"):
        create(controller, "4m", seed=1)
    with pytest.raises(protocol.ProtocolError, match="needs a game"):
        controller._client.send(step=sc2api_pb2.RequestStep(count=1))
    for seed, map_name, types in ((1, "3m", {"Marine"}), (2, "so_many_baneling", {"Zealot", "Baneling"})):
        create(controller, map_name, seed)
        env = StarCraft2Env(map_name, seed=seed)
        info = controller.game_info().start_raw
        grid = np.frombuffer(info.pathing_grid.data, np.uint8)
        if build == BUILD_4_6_2:
            assert np.array_equal(grid.reshape(32, 32)[::-1].T == 0, env.pathing_grid)
        else:
            assert np.array_equal(np.unpackbits(grid).reshape(32, 32).T == 1, env.pathing_grid)
        heights = np.frombuffer(info.terrain_height.data, np.uint8).reshape(32, 32)[::-1].T
        assert np.array_equal(heights, np.round(env.terrain_height * 255))
        assert len(units_of(controller)) == env.n_agents + env.n_enemies
        assert {unit.name for unit in controller.data_raw().units} == types
        controller.leave()
        assert controller.status == protocol.Status.launched
    controller.quit()
    process._proc.wait(10)


def step(process):
    process.controller._client.send(step=sc2api_pb2.RequestStep(count=1))


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["crash@2", "vanish@2", "hang@2", "garbage@2"])
def test_a_fault_happens_once_at_its_step(launch, monkeypatch, fault):
    monkeypatch.setenv("SC2_STANDIN_FAULT", fault)
    process = launch(timeout_seconds=2)
    with pytest.raises(protocol.ProtocolError, match="needs a game"):
        step(process)
    with pytest.raises(Exception, match="onnection|timed out|Error parsing") as raised:
        step(process)
    assert "needs a game" not in str(raised.value)
    if fault == "vanish@2":
        with pytest.raises(Exception, match="No SC2 binary found"):
            launch()
        return
    if fault == "crash@2":
        again = launch()
        for _ in range(3):
            with pytest.raises(protocol.ProtocolError, match="needs a game"):
                step(again)


@pytest.mark.slow
def test_a_fault_can_be_at_every_launch(launch, monkeypatch):
    monkeypatch.setenv("SC2_STANDIN_FAULT", "crash@launch!")
    for _ in range(2):
        with pytest.raises(remote_controller.ConnectError):
            launch()


@pytest.mark.slow
def test_a_client_that_dies_takes_the_process_with_it(launch):
    process = launch()
    process.controller.close()
    deadline = time.monotonic() + 60
    while process.running:
        assert time.monotonic() < deadline
        time.sleep(0.05)
