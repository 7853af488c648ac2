"""The keys of every run: one line with type, unit and allowed values; values and meaning are in default.yaml.
The keys of a learner, network, controller, runner or environment stand in its class, as `Keys`.
"""

from pathlib import Path

from utils.config import EPISODES, STEPS, WIDE, K, Key, M, T
from utils.dict2namedtuple import Config

RUN = {
    # the components; the environment first, since the others import torch
    "env": Key(str, names="envs:REGISTRY"),
    "runner": Key(str, names="runners:REGISTRY"),
    "learner": Key(str, names="learners:REGISTRY"),
    "mac": Key(str, names="controllers:REGISTRY"),
    "name": Key(str, is_in_file_name=True),
    # a population
    "multi_algs": Key(bool),
    "train_alg": Key(str, nullable=True),
    "population_factor": Key(int, low=1, high=K, nullable=True),
    "is_agent_shift": Key(bool),
    "agent_shift": Key(int, "seats", low=0, high=K),
    "opponent_pool": Key(Path),
    "opponent_group": Key(str, choices=("homologue", "non_homologue")),
    "opponent_epsilon": Key(float, low=0, high=1),
    # self-play
    "self_play_interval": Key(int, STEPS, low=1, high=T),
    "self_play_copies": Key(int, "copies", low=1, high=K),
    "self_play_newest": Key(float, low=0, high=1),
    # the run
    "batch_size_run": Key(int, "environments", low=1, high=WIDE),
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
    "tracker": Key(str, choices=("wandb", "mlflow"), nullable=True),
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
    "final_eval": Key((bool, str), choices=("best",)),
    "save_replay": Key(bool),
    # learning
    "stop_win_rate": Key(float, low=0, high=1, nullable=True),
    "updates_per_round": Key(int, "updates", low=1, high=M),
    "batch_size": Key(int, EPISODES, low=1, high=M, nullable=True),
    "buffer_size": Key(int, EPISODES, low=1, high=10 * M, nullable=True),
}

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


def conflict(config: Config) -> str:
    """Returns a sentence about two of a run's keys that are allowed but not together, or nothing."""
    if config["batch_size"] > config["buffer_size"]:
        return (
            f"batch_size={config['batch_size']} is more than buffer_size={config['buffer_size']} episodes, "
            "so training would never start; raise buffer_size or lower batch_size"
        )
    if config["updates_per_round"] > 1 and config["batch_size"] == config["buffer_size"]:
        return (
            f"updates_per_round={config['updates_per_round']} learns from the same {config['batch_size']} episodes "
            "each time, as the replay buffer holds no others; leave it out or raise buffer_size"
        )
    if (config["multi_algs"] or config["train_alg"] or config["population_factor"]) and not config["population"]:
        return (
            "multi_algs, train_alg and population_factor are for a population, such as --config=7iql1iql_omg; "
            "leave them out"
        )
    return ""
