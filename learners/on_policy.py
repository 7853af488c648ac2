"""What learners share that learn from what has just been played, and from nothing older: PPO and PQN.

The run's replay buffer holds one collection then, `batch_size_run` episodes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch as th

from components.episode_buffer import EpisodeBatch
from learners.base_learner import Learner, Policy
from learners.model_trainers import SubgoalTrainer, model_trainer
from utils.config import K, M, key
from utils.dict2namedtuple import Args, Config
from utils.logging import Logger
from utils.transfer import to_device


class OnPolicyLearner(Learner):
    """Goes over one collection `epochs` times, in `num_mini_batch` updates each; an agent model, afterwards, in as many
    updates as there are epochs.
    """

    @dataclass(frozen=True)
    class Keys(Learner.Keys):
        epochs: int = key(5, "times that it learns from each collection", low=1, high=K)
        num_mini_batch: int = key(1, "equal parts of the episodes or their pieces, with an update each", low=1, high=M)

    has_replay = False
    later_counts = SubgoalTrainer.later_counts

    @classmethod
    def trains(cls, model: type) -> bool:
        return True

    @classmethod
    def conflict(cls, config: Config, kinds: Mapping[str, type]) -> str:
        learner, n_worlds, n_parts = config["learner"], config["batch_size_run"], config["num_mini_batch"]
        if config["population"] and config["train_alg"] != config["name"]:
            return super().conflict(config, kinds)  # a frozen one learns nothing
        if (factor := config["population_factor"]) not in (None, 1):
            return (
                f"population_factor={factor} asks for more episodes between updates, but learner={learner} learns once "
                "from each collection; leave it out"
            )
        # Where nobody gives it, buffer_size is batch_size.
        usual = {"batch_size": n_worlds, "buffer_size": config["batch_size"], "updates_per_round": 1}
        usual["buffer_device"] = None
        if given := [f"{key}={config[key]}" for key, value in usual.items() if config[key] != value]:
            return (
                f"learner={learner} has no replay buffer: it learns once from the batch_size_run={n_worlds} episodes "
                f"just played; leave out {' and '.join(given)}"
            )
        if n_worlds % n_parts:
            return (
                f"batch_size_run={n_worlds} episodes can't be divided into num_mini_batch={n_parts} equal parts; "
                "make batch_size_run a multiple of num_mini_batch"
            )
        return super().conflict(config, kinds)

    def __init__(self, mac: Policy, logger: Logger, args: Args):
        super().__init__(mac, logger, args)
        self.model = model_trainer(self)

    def mini_batches(self, batch: EpisodeBatch) -> Iterator[tuple[EpisodeBatch, th.Tensor | slice]]:
        """Yields parts of the batch, drawn anew in each call, and which episodes they are.

        They are equally long, or differ by one where pieces are more or fewer than can be divided.
        """
        if self.args.num_mini_batch == 1:
            yield batch, slice(None)
            return
        # Drawn in main memory, where the lengths of episodes are known.
        n_parts = min(self.args.num_mini_batch, batch.batch_size)
        for episodes in th.randperm(batch.batch_size).tensor_split(n_parts):
            part = batch[episodes]
            part.keep_on_host({key: field[episodes] for key, field in batch.steps_on_host().items()})
            yield part, to_device(episodes, batch.device)

    def counts(self) -> dict[str, int]:
        return super().counts() | self.model.counts()

    def set_counts(self, counts: dict[str, int]) -> None:
        super().set_counts(counts)
        self.model.set_counts(counts)
