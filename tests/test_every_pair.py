"""Every algorithm in every environment: the command line within this process. `test_cli.py` has some in their own."""

import json
import signal

import pytest

import main

ALGORITHMS = sorted(path.stem for path in (main.CONFIG / "algs").glob("*.yaml"))
SHORT = ("t_max=30", "test_interval=20", "test_nepisode=2", "save_model=True")
REPLAYED, JUST_PLAYED = ("batch_size=2", "buffer_size=8"), ("num_mini_batch=1", "epochs=2")
# Worlds in worker processes take seconds to start: in those environments only these play two at once.
IN_WORKERS = ("iql_beta", "mappo", "pqn_vdn")
AT_ONCE, ALONE = ("batch_size_run=2",), ("runner=episode", "batch_size_run=1")
PARALLEL = ("coma", "iql_beta", "vdn_beta", "qmix_beta", "ippo", "mappo", "pqn")
ACTORS = ("coma", "ippo", "mappo")
LOGS = ("log_interval=5", "runner_log_interval=5", "learner_log_interval=5", "use_tensorboard=False")
WORLDS = {
    "sc2": ("env_args.map_name=3m", "env_args.engine=sim", "t_max=100"),
    "sc2v2": ("env_args.map_name=terran_5_vs_5", "t_max=100"),
    "lbforaging": ("env_args.max_episode_steps=6",),
    "simple_tag": ("env_args.max_cycles=5",),
    "predator_prey": ("env_args.max_cycles=5",),
    "foraging": ("env_args.max_episode_steps=6",),
    "goal_game": (),
    "gymma": ("env_args.key=lbforaging:Foraging-5x5-2p-1f-v3", "env_args.time_limit=6"),
    "pettingzoo": ("env_args.module=mpe2.simple_spread_v3", "env_args.time_limit=5"),
    "sc2_beta": ("env_args.map_name=3m", "env_args.engine=sim"),
}
OF_EACH_LEARNER = ("iql", "iql_am", "iql_omg", "qtran", "qplex", "cw_qmix", "coma", "mappo", "pqn_vdn")
PAIRS = [(alg, "sc2") for alg in OF_EACH_LEARNER]
PAIRS += [
    ("iql_omg", "goal_game"),
    ("vdn", "sc2_beta"),
    ("iql", "lbforaging"),
    ("qmix", "sc2v2"),
    ("iql_omg", "sc2v2"),
    ("iql", "simple_tag"),
    ("ippo_omg", "predator_prey"),
    ("iql", "foraging"),
]
OTHERS = [pair for env in WORLDS if env != "sc2_beta" for alg in ALGORITHMS if (pair := (alg, env)) not in PAIRS]
INFO = {
    "lbforaging": "food_loaded",
    "simple_tag": "caught",
    "sc2": "battle_won",
    "sc2v2": "battle_won",
    "sc2_beta": "battle_won",
}
INFO |= dict.fromkeys(("gymma", "pettingzoo"), "ep_length")  # they have none of their own
INFO |= {"predator_prey": "caught", "foraging": "food_picked", "goal_game": "ep_length"}
OF_TEAMS = ("vdn", "qmix", "qtran", "qplex", "coma")


@pytest.fixture(autouse=True)
def same_signal_handler_after():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("alg", "env"), [*PAIRS, *(pytest.param(*pair, marks=pytest.mark.slow) for pair in OTHERS)])
def test_a_short_run_trains_tests_and_completes(alg, env, tmp_path):
    params = [f"--config={alg}", f"--env-config={env}", f"--local_results_path={tmp_path}", "--seed=1"]
    batches = JUST_PLAYED if alg.startswith(("ippo", "mappo", "pqn")) else REPLAYED
    own = (f"omg_vae_pretrain_steps={10 if batches is REPLAYED else 0}",) if "omg" in alg else ()  # of few updates
    own += ("common_reward=True",) if any(name in alg for name in OF_TEAMS) else ()
    if alg.startswith(PARALLEL):
        batches += AT_ONCE if alg in IN_WORKERS or env.startswith("sc2") else ALONE
    assert main.main([*params, "with", *SHORT, *batches, *LOGS, *WORLDS[env], *own]) == 0
    run, metrics = (json.loads((tmp_path / "sacred" / "1" / f"{name}.json").read_text()) for name in ("run", "metrics"))
    assert run["status"] == "COMPLETED"
    loss = "critic_loss" if alg.startswith(ACTORS) else "loss"
    info = INFO[env]
    assert {loss, "return_mean", "test_return_mean", f"{info}_mean", f"test_{info}_mean"} <= metrics.keys()
    assert list(tmp_path.glob("models/*/*/agent.th"))


def test_every_environment_is_here():
    assert set(WORLDS) == {path.stem for path in (main.CONFIG / "envs").glob("*.yaml")}


def test_ppo_learns_for_one_seat_among_others(tmp_path):
    """OMG plays one predator; two predators and the prey are played by PPO's networks."""
    params = ["--config=1ippo_omg3ippo", "--env-config=predator_prey", f"--local_results_path={tmp_path}", "--seed=1"]
    seats = ["--multi_algs", "--train_alg=ippo_omg"]
    own = ("t_max=60", "epochs=2", "batch_size_run=2", "omg_vae_pretrain_steps=10", "env_args.max_cycles=5")
    assert main.main([*params, *seats, "with", *own, *LOGS, "test_interval=50", "test_nepisode=2"]) == 0
    metrics = json.loads((tmp_path / "sacred" / "1" / "metrics.json").read_text())
    assert {"critic_loss", "omg_kl", "test_agent_0_return_mean", "test_agent_3_return_mean"} <= metrics.keys()
    episode = json.loads((tmp_path / "sacred" / "1" / "test_episodes.jsonl").read_text().splitlines()[0])
    assert episode["seat"] == 0 and episode["teammates"] == ["ippo"] * 3 and len(episode["returns"]) == 4
