"""The declaration of every key that a YAML file may hold: one line with its type, unit and allowed values.
The values and what they mean are in the YAML files beside this one; utils/config.py checks the one against the other.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.config import Key

STEPS = "environment steps"
EPISODES = "episodes"
LOOPS = "game loops"
# Bounds far above use: of steps, of counts and points, of what is small, and of the width of networks and of batches.
T, M, K, WIDE = 10**12, 10**6, 10**3, 2**12

DEFAULT = {
    # what is put together
    "runner": Key(str, names="runners:REGISTRY"),
    "mac": Key(str, names="controllers:REGISTRY"),
    "env": Key(str, names="envs:REGISTRY"),
    "agent": Key(str, names="modules.agents:REGISTRY"),
    # a population
    "multi_algs": Key(bool),
    "train_alg": Key(str, nullable=True),
    "population_factor": Key(int, low=1, high=K, nullable=True),
    "is_agent_shift": Key(bool),
    "agent_shift": Key(int, "seats", low=0, high=K),
    "opponent_pool": Key(Path),
    "opponent_group": Key(str, choices=("homologue", "non_homologue")),
    "opponent_epsilon": Key(float, low=0, high=1),
    # the run
    "batch_size_run": Key(int, "environments", low=1, high=WIDE),
    "max_worker_restarts": Key(int, "processes", low=0, high=M),
    "worker_timeout_seconds": Key(float, "seconds", above=0, high=M),
    "t_max": Key(int, STEPS, low=1, high=T),
    "seed": Key(int, low=0, high=2**32 - 1, nullable=True),
    "use_cuda": Key(bool),
    "buffer_device": Key(str, choices=("cpu", "cuda", "disk"), nullable=True),
    "buffer_cpu_only": Key(bool),
    "n_threads": Key(int, "threads", low=1, high=256),
    "debug": Key(bool),
    "repeat_id": Key(int, low=-T, high=T),
    "label": Key(str),
    "common_reward": Key(bool),
    "reward_scalarisation": Key(str, choices=("sum",)),
    # tests
    "test_nepisode": Key(int, EPISODES, low=1, high=M),
    "test_interval": Key(int, STEPS, low=1, high=T),
    "test_greedy": Key(bool),
    # logs and records
    "log_interval": Key(int, STEPS, low=1, high=T),
    "runner_log_interval": Key(int, STEPS, low=1, high=T),
    "learner_log_interval": Key(int, STEPS, low=1, high=T),
    "use_tensorboard": Key(bool),
    "tensorboard_backend": Key(str, choices=("torch", "tensorboard_logger")),
    "mongo_url": Key(str),
    "local_results_path": Key(Path),
    # weights
    "save_model": Key(bool),
    "save_model_interval": Key(int, STEPS, low=1, high=T),
    "save_buffer": Key(bool),
    "keep_checkpoints": Key(int, "saved models", low=0, high=M),
    "checkpoint_path": Key(Path),
    "load_step": Key(int, STEPS, low=0, high=T),
    "init_param_path": Key(Path),
    "evaluate": Key(bool),
    "evaluate_path": Key(Path),
    "final_eval": Key(bool),
    "save_replay": Key(bool),
    # learning
    "gamma": Key(float, low=0, high=1),
    "batch_size": Key(int, EPISODES, low=1, high=M),
    "buffer_size": Key(int, EPISODES, low=1, high=10 * M),
    "lr": Key(float, above=0, high=K),
    "critic_lr": Key(float, above=0, high=K),
    "optim_alpha": Key(float, low=0, high=1),
    "optim_eps": Key(float, above=0, high=K),
    "grad_norm_clip": Key(float, above=0, high=T),
    "td_lambda": Key(float, low=0, high=1),
    "bootstrap_timeouts": Key(bool),
    # the agents' network
    "rnn_hidden_dim": Key(int, "units", low=1, high=WIDE),
    "dueling": Key(bool),
    "obs_agent_id": Key(bool),
    "obs_last_action": Key(bool),
}

ALGORITHMS = {
    "name": Key(str, is_in_file_name=True),
    "action_selector": Key(str, choices=("epsilon_greedy", "multinomial")),
    "epsilon_start": Key(float, low=0, high=1),
    "epsilon_finish": Key(float, low=0, high=1),
    "epsilon_anneal_time": Key(int, STEPS, low=1, high=T),
    "target_update_interval": Key(int, EPISODES, low=1, high=T),
    "agent_output_type": Key(str, choices=("q", "pi_logits")),
    "mask_before_softmax": Key(bool),
    "learner": Key(str, names="learners:REGISTRY"),
    "double_q": Key(bool),
    # mixers
    "mixer": Key(str, names="modules.mixers:REGISTRY", nullable=True),
    "mixing_embed_dim": Key(int, "units", low=1, high=K),
    "hypernet_layers": Key(int, "layers", choices=(1, 2)),
    "hypernet_embed": Key(int, "units", low=1, high=K),
    # critics
    "critic_target_update_interval": Key(int, "gradient steps", low=1, high=T),
    "critic_q_fn": Key(str, names="modules.critics:REGISTRY"),
    "critic_baseline_fn": Key(str, choices=("coma",)),
    "q_nstep": Key(int, STEPS, choices=(0,)),
    # QTRAN
    "qtran_arch": Key(str, choices=("qtran_paper",)),
    "network_size": Key(str, choices=("small", "big")),
    "opt_loss": Key(float, low=0, high=M),
    "nopt_min_loss": Key(float, low=0, high=M),
    # opponent modelling
    "policy_model": Key(str, names="modules.agents:REGISTRY", nullable=True),
    "am_model": Key(str, names="modules.am:REGISTRY"),
    "am_lr": Key(float, above=0, high=K),
    "am_hidden_dim": Key(int, "units", low=1, high=WIDE),
    "liam_embedding_dim": Key(int, "units", low=1, high=WIDE),
    "obs_is_state": Key(bool),
    "omg_horizon": Key(int, STEPS, low=1, high=K),
    "omg_subgoal_dim": Key(int, "units", low=1, high=WIDE),
    "omg_vae_alpha": Key(float, low=0, high=M),
    "omg_cvae_alpha": Key(float, low=0, high=M),
    "omg_value": Key(str, choices=("mean", "max")),
    "omg_opponent_actions": Key(bool),
    "omg_supervised": Key(bool),
    "subgoal_mode": Key((bool, int, str), STEPS, low=1, high=K, choices=("optimistic", "conservative", "random")),
    "eta": Key(float, low=0, high=1),
    "eta_anneal_time": Key(int, STEPS, low=1, high=T),
    "omg_vae_pretrain_steps": Key(int, STEPS, low=0, high=T),
    "omg_prior_path": Key(Path),
    "omg_vae_batches": Key(int, "gradient steps", low=1, high=M),
}

ENVIRONMENTS = {
    "env_args.engine": Key(str, choices=("auto", "game", "sim")),
    "env_args.map_name": Key(str, names="envs.sc2.sim.maps:MAP_NAMES"),
    "env_args.step_mul": Key(int, LOOPS, low=1, high=K),
    "env_args.move_amount": Key(int, "map units", low=1, high=K),
    "env_args.difficulty": Key(str, choices=(*"123456789", "A")),
    "env_args.game_version": Key(str, nullable=True),
    "env_args.seed": Key(int, low=0, high=2**32 - 1, nullable=True),
    "env_args.continuing_episode": Key(bool),
    "env_args.obs_all_health": Key(bool),
    "env_args.obs_own_health": Key(bool),
    "env_args.obs_last_action": Key(bool),
    "env_args.obs_pathing_grid": Key(bool),
    "env_args.obs_terrain_height": Key(bool),
    "env_args.obs_instead_of_state": Key(bool),
    "env_args.obs_timestep_number": Key(bool),
    "env_args.state_last_action": Key(bool),
    "env_args.state_timestep_number": Key(bool),
    "env_args.reward_sparse": Key(bool),
    "env_args.reward_only_positive": Key(bool),
    "env_args.reward_death_value": Key(float, "points", low=-M, high=M),
    "env_args.reward_win": Key(float, "points", low=-M, high=M),
    "env_args.reward_defeat": Key(float, "points", low=-M, high=M),
    "env_args.reward_negative_scale": Key(float, low=-M, high=M),
    "env_args.reward_scale": Key(bool),
    "env_args.reward_scale_rate": Key(float, "points", above=0, high=M),
    "env_args.replay_dir": Key(Path),
    "env_args.replay_prefix": Key(str, is_in_file_name=True),
    "env_args.window_size_x": Key(int, "pixels", low=1, high=10 * K),
    "env_args.window_size_y": Key(int, "pixels", low=1, high=10 * K),
    "env_args.heuristic_ai": Key(bool),
    "env_args.heuristic_rest": Key(bool),
    "env_args.debug": Key(bool),
    "env_args.rules.spawn_lattice": Key(str, choices=("greedy", "square")),
    "env_args.rules.enemy_march": Key(str, choices=("formation", "point")),
    "env_args.rules.enemy_medivac": Key(str, choices=("march", "stay")),
    "env_args.rules.creep_damage": Key(bool),
    "env_args.rules.scan_period_loops": Key(int, LOOPS, low=1, high=K),
    "env_args.rules.cooldown_start": Key(str, choices=("windup", "effect")),
    "env_args.rules.spawn_age_loops": Key(int, LOOPS, low=0, high=2),
    "env_args.rules.playable_area": Key(int, "map units", choices=(32, 28)),
    # lbforaging
    "env_args.field_size": Key(int, "cells", low=5, high=K),
    "env_args.players": Key(int, "players", low=1, high=20),
    "env_args.max_num_food": Key(int, low=1, high=K),
    "env_args.sight": Key(int, "cells", low=1, high=K, nullable=True),
    "env_args.force_coop": Key(bool),
    "env_args.max_episode_steps": Key(int, STEPS, low=1, high=M),
    "env_args.min_player_level": Key(int, low=1, high=K),
    "env_args.max_player_level": Key(int, low=1, high=K),
    "env_args.min_food_level": Key(int, low=1, high=K),
    "env_args.max_food_level": Key(int, low=1, high=K, nullable=True),
    "env_args.observe_agent_levels": Key(bool),
    "env_args.normalize_reward": Key(bool),
    "env_args.penalty": Key(float, low=0, high=M),
    # simple_tag
    "env_args.num_adversaries": Key(int, "predators", low=1, high=100),
    "env_args.num_good": Key(int, "prey", low=1, high=100),
    "env_args.num_obstacles": Key(int, low=0, high=100),
    "env_args.max_cycles": Key(int, STEPS, low=1, high=M),
    "env_args.terminate_on_success": Key(bool),
}

# What the network must give to each learner.
OUTPUT_TYPES: dict[Any, str] = {
    "am_learner": "q",
    "coma_learner": "pi_logits",
    "q_learner": "q",
    "q_learner_4am": "q",
    "omg_learner": "q",
    "qtran_learner": "q",
}
# The agent models that each learner trains; any other learner trains none.
TRAINED_MODELS: dict[Any, tuple[str, ...]] = {
    "q_learner_4am": ("none", "base", "liam"),
    "omg_learner": ("omg",),
    "am_learner": ("base", "liam", "omg"),
}
# A key that each agent model needs, and the algorithm that has all of them.
HOME_OF_MODEL: dict[Any, tuple[str, str]] = {
    "base": ("am_hidden_dim", "iql_am"),
    "liam": ("liam_embedding_dim", "iql_liam"),
    "omg": ("omg_subgoal_dim", "iql_omg"),
}

SCHEMA = {**DEFAULT, **ALGORITHMS, **ENVIRONMENTS}

# Keys of PyMARL's own YAML files that nothing here needs, each with the value under which it changes nothing.
OF_PYMARL = {
    "critic_train_mode": "seq",
    "critic_train_reps": 1,
    "save_episodes": False,
    "episode_dir": "episodes",
    "clear_existing_episodes": True,
}
# PyMARL's names that mean another key's here, for each learner: COMA's critic counts its gradient steps.
RENAMED = {"coma_learner": {"target_update_interval": "critic_target_update_interval"}}


# Learners that can learn from the rows of single seats.
SEAT_LEARNERS = ("q_learner", "q_learner_4am", "omg_learner", "am_learner")


def conflict(config: Mapping[str, Any]) -> str:
    """Gives a sentence about two values that are allowed but not together, or nothing."""
    if config["batch_size"] > config["buffer_size"]:
        return (
            f"batch_size={config['batch_size']} is more than buffer_size={config['buffer_size']} episodes, "
            "so training would never start; raise buffer_size or lower batch_size"
        )
    if config["runner"] == "episode" and config["batch_size_run"] != 1:
        return (
            f"batch_size_run={config['batch_size_run']} but the episode runner plays one environment; "
            "set it to 1, or runner=parallel"
        )
    if (config["multi_algs"] or config["train_alg"] or config["population_factor"]) and not config["population"]:
        return (
            "multi_algs, train_alg and population_factor are for a population, such as --config=7iql1iql_omg; "
            "leave them out"
        )
    if config["population"] and (sentence := _conflict_of_population(config)):
        return sentence
    if sentence := _conflict_of_rewards(config):
        return sentence
    learner, output, selector = (config.get(key) for key in ("learner", "agent_output_type", "action_selector"))
    if output != OUTPUT_TYPES.get(learner, output):
        return f"learner={learner} needs agent_output_type={OUTPUT_TYPES[learner]}, not {output}"
    if (output == "pi_logits") != (selector == "multinomial"):
        return (
            f"action_selector={selector} does not go with agent_output_type={output}; "
            "multinomial draws from a policy (pi_logits), epsilon_greedy reads values (q)"
        )
    mixer = config.get("mixer")
    if (learner == "qtran_learner") != (mixer == "qtran_base"):
        return (
            f"learner={learner} and mixer={mixer} do not go together: "
            "qtran_learner and qtran_base need each other; take both, as --config=qtran does, or neither"
        )
    mac, am_model = config["mac"], config.get("am_model")
    if mac == "multi_module_mac" and am_model is None:
        return "mac=multi_module_mac needs an agent model; take an algorithm that has one, such as --config=iql_omg"
    key, home = HOME_OF_MODEL.get(am_model, ("am_model", ""))
    if am_model is not None and key not in config:
        alg = config["train_alg"] or config["name"]
        return f"am_model={am_model} needs {key} and more, which {alg} lacks; take --config={home}"
    trained = TRAINED_MODELS.get(learner, ("none",))
    if learner in TRAINED_MODELS and (mac != "multi_module_mac" or am_model not in trained):
        models = " or ".join(trained)
        return f"learner={learner} needs mac=multi_module_mac and am_model={models}, not {mac} and {am_model}"
    if mac == "multi_module_mac" and am_model not in trained:
        able = " or ".join(name for name, models in TRAINED_MODELS.items() if am_model in models)
        return f"learner={learner} would leave am_model={am_model} untrained; set learner={able}, or am_model=none"
    steps_ahead = config.get("subgoal_mode")
    if type(steps_ahead) is int and steps_ahead > config["omg_horizon"]:
        return (
            f"subgoal_mode={steps_ahead} lies beyond omg_horizon={config['omg_horizon']}; raise one or lower the other"
        )
    return ""


def _conflict_of_rewards(config: Mapping[str, Any]) -> str:
    learner, mixer = config.get("learner"), config.get("mixer")
    if config["common_reward"] or (mixer is None and learner not in ("coma_learner", "qtran_learner")):
        return ""
    return (
        f"common_reward=False gives each agent a reward of its own, but learner={learner} with mixer={mixer} learns "
        "the value of the whole team; leave it True, or take an algorithm without a mixer, such as --config=iql"
    )


def _conflict_of_population(config: Mapping[str, Any]) -> str:
    learner, alg = config["learner"], config["train_alg"]
    if learner not in SEAT_LEARNERS or config.get("mixer") is not None:
        return (
            f"train_alg={alg} learns the values of whole teams (learner={learner}, mixer={config.get('mixer')}); in a "
            f"population one learns for single seats: a learner of {', '.join(SEAT_LEARNERS)}, and mixer=null"
        )
    for name in config["population"]:
        if config[name]["agent"] == "idv_rnn":
            return f"{name} has a network for each agent, which a population can't deal out; take {name}.agent=rnn"
    return ""
