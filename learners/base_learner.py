"""What learners share besides maths: an optimiser's step, how often to log, saving and restoring.

The maths is in `utils/rl_utils.py`; each learner's `train` reads from top to bottom in its own file.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import torch as th

from components.episode_buffer import EpisodeBatch
from learners import REGISTRY as LEARNERS
from modules.am import REGISTRY as AGENT_MODELS
from modules.am.none_am import NoneAM
from modules.network import Network, Outputs
from utils.config import K, T, key
from utils.dict2namedtuple import Args, Config
from utils.errors import UserError
from utils.logging import Logger
from utils.weights import StateDict, Stateful, load_into


class Policy(Stateful, Protocol):
    """A controller as learners know it; controllers/basic_controller.py documents these methods."""

    n_agents: int

    def networks(self) -> dict[str, Network]: ...
    def parameters(self) -> Iterator[th.nn.Parameter]: ...
    def unroll(self, ep_batch: EpisodeBatch, test_mode: bool = False) -> th.Tensor: ...
    def unroll_with_hidden(self, ep_batch: EpisodeBatch) -> Outputs: ...
    def load_state(self, other_mac: Self) -> None: ...
    def save_models(self, path: str | Path) -> None: ...
    def load_models(self, path: str | Path) -> None: ...


class LossNotFinite(UserError, FloatingPointError):
    """Training diverged, or its data are not finite."""


class Learner:
    """A checked step of an optimiser, how often to log, saving and restoring of the `parts`."""

    @dataclass(frozen=True)
    class Keys:
        gamma: float = key(0.99, "discount per environment step", low=0, high=1)
        lr: float = key(0.0005, "the optimiser's learning rate", above=0, high=K)
        critic_lr: float = key(0.0005, "the optimiser's learning rate for a critic", above=0, high=K)
        lr_decay: bool = key(False, "learning rates fall with the environment steps, evenly, to 0 at t_max")
        optimizer: str = key("rmsprop", "what descends the loss", choices=("rmsprop", "adam", "radam"))
        optim_alpha: float = key(0.99, "RMSprop's smoothing of squared gradients", low=0, high=1)
        optim_eps: float = key(0.00001, "the optimiser's epsilon", above=0, high=K)
        grad_norm_clip: float = key(10, "longest gradient that is applied, L2 norm", above=0, high=T)
        td_lambda: float = key(0.0, "the values' targets: 0 looks one step ahead, 1 at the whole return", low=0, high=1)

    output_type = "q"
    """The `agent_output_type` that it needs."""
    needs_model = False
    """Whether it learns with the controller's agent model."""
    later_counts: Mapping[str, int] = {}
    """What `counts` that older checkpoints do not have are when they are loaded."""
    has_replay = True
    """Whether it learns from a replay buffer, and not once from each collection of episodes."""
    learns_pieces = False
    """Whether it can learn from pieces of episodes (components/pieces.py)."""
    learns_seats = True
    """Whether it can learn from the episodes of single seats, as in a population."""

    @classmethod
    def trains(cls, model: type) -> bool:
        """Returns whether nothing of an agent model is left untrained by it."""
        return issubclass(model, NoneAM)

    @classmethod
    def conflict(cls, config: Config, kinds: Mapping[str, type]) -> str:
        """Returns a sentence about what it can't learn with, or nothing; `kinds` are the chosen components' classes."""
        learner, mac, model = config["learner"], config["mac"], config.get("am_model")
        if (output := config["agent_output_type"]) != cls.output_type:
            return f"learner={learner} needs agent_output_type={cls.output_type}, not {output}"
        if cls.needs_model and not ("am_model" in kinds and cls.trains(kinds["am_model"])):
            models = " or ".join(name for name in AGENT_MODELS if cls.trains(AGENT_MODELS[name]))
            return f"learner={learner} needs mac=multi_module_mac and am_model={models}, not {mac} and {model}"
        if "am_model" in kinds and not cls.trains(kinds["am_model"]):
            known = {name: LEARNERS[name] for name in LEARNERS}
            able = " or ".join(n for n, k in known.items() if issubclass(k, Learner) and k.trains(kinds["am_model"]))
            return f"learner={learner} would leave am_model={model} untrained; set learner={able}, or am_model=none"
        alg, mixer = config["train_alg"], config.get("mixer")
        is_for_team = not cls.learns_seats or mixer is not None
        if is_for_team and not config["common_reward"]:
            return (
                f"common_reward=False gives each agent a reward of its own, but learner={learner} with mixer={mixer} "
                "learns the value of the whole team; leave it True, or take an algorithm without a mixer, such as "
                "--config=iql"
            )
        if config["population"] and alg == config["name"] and is_for_team:
            able = ", ".join(name for name in LEARNERS if getattr(LEARNERS[name], "learns_seats", False))
            return (
                f"train_alg={alg} learns the values of whole teams (learner={learner}, mixer={mixer}); "
                f"in a population one learns for single seats: a learner of {able}, and mixer=null"
            )
        return ""

    generator: th.Generator | None = None
    """Where random numbers of learning come from; None: torch's default generator of the device."""

    def __init__(self, mac: Policy, logger: Logger, args: Args):
        self.args = args
        self.factor = args.population_factor or 1  # how many times as many steps a population plays
        self.mac = mac
        self.logger = logger
        # So that the first update is logged.
        self.log_stats_t = -args.learner_log_interval - 1

    def make_optimiser(self, params: list[th.nn.Parameter], lr: float) -> th.optim.Optimizer:
        """Returns the `optimizer` of `params`, with a learning rate `lr`."""
        eps = self.args.optim_eps
        if self.args.optimizer == "rmsprop":
            return th.optim.RMSprop(params, lr=lr, alpha=self.args.optim_alpha, eps=eps, foreach=True)
        return {"adam": th.optim.Adam, "radam": th.optim.RAdam}[self.args.optimizer](params, lr=lr, eps=eps)

    def train(self, batch: EpisodeBatch, t_env: int, episode_num: int) -> None:
        """Performs one update from `batch`, after `t_env` environment steps and `episode_num` episodes of training."""
        raise NotImplementedError

    def parts(self) -> dict[str, Stateful]:
        """Returns everything with a state dict, by name; "agent" is the controller, "target_..." copies of networks.

        Each is saved as `<name>.th`.
        """
        raise NotImplementedError

    def update_targets(self) -> None:
        """Copies the live networks to their targets, if the learner has any."""

    def is_log_due(self, t_env: int) -> bool:
        return t_env - self.log_stats_t >= self.args.learner_log_interval

    def log(self, t_env: int, **stats: th.Tensor) -> None:
        """Logs scalars and counts the interval from here."""
        for name, value in stats.items():
            self.logger.log_stat(name, value.item(), t_env)
        self.log_stats_t = t_env

    def descend(
        self, loss: th.Tensor, optimiser: th.optim.Optimizer, params: list[th.nn.Parameter], t_env: int
    ) -> th.Tensor:
        """Steps against the gradient of `loss`, clipped to `grad_norm_clip`; returns the norm before clipping.

        Raises: LossNotFinite where the loss is not finite; the weights are left as they were.
        """
        self.check_finite(loss, optimiser, t_env)
        optimiser.zero_grad()
        loss.backward()
        grad_norm = th.nn.utils.clip_grad_norm_(params, self.args.grad_norm_clip)
        if self.args.lr_decay:
            t_max = self.factor * self.args.t_max
            for group in optimiser.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * max(1 - t_env / t_max, 0)
        optimiser.step()
        return grad_norm

    def check_finite(self, loss: th.Tensor, optimiser: th.optim.Optimizer, t_env: int) -> None:
        """Raises: LossNotFinite if the loss, a scalar, is not finite."""
        # On a GPU looking at the loss makes the host wait, so there it is done only when it is logged anyway.
        if (loss.device.type == "cpu" or self.is_log_due(t_env)) and not th.isfinite(loss):
            advice = f"look for huge rewards or observations, or lower lr ({optimiser.param_groups[0]['lr']})"
            raise LossNotFinite(f"the loss is {loss.item()} at t_env {t_env}: {advice}")

    def state_dict(self) -> StateDict:
        """Returns all that an update depends on: networks, targets, optimisers and the counters."""
        return {name: part.state_dict() for name, part in self.parts().items()} | self.counts()

    def load_state_dict(self, state: StateDict) -> None:
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        self.set_counts(state)

    def save_models(self, path: str | Path) -> None:
        """Writes PyMARL's files, such as agent.th and opt.th, and the targets' into the folder `path`."""
        self.mac.save_models(path)
        for name, part in self.parts().items():
            if name != "agent":
                th.save(part.state_dict(), Path(path) / f"{name}.th")

    def load_models(self, path: str | Path) -> None:
        """Reads a folder that `save_models` or PyMARL wrote.

        Where it has no targets, as PyMARL writes it, they are copies of the live networks. Without an optimiser's file
        that optimiser starts anew, with a warning.

        Raises: UserError where another file is missing, or one can't be read or does not fit.
        """
        self.mac.load_models(path)
        parts = {name: (part, Path(path) / f"{name}.th") for name, part in self.parts().items() if name != "agent"}
        targets = {name: parts.pop(name) for name in list(parts) if name.startswith("target_")}
        for name, (part, file) in parts.items():
            if name.endswith("opt") and not file.is_file():
                self.logger.console_logger.warning(f"there is no {file}: this optimiser starts anew")
            else:
                load_into(part, file, self.args.device)
        self.update_targets()
        for part, file in targets.values():
            if file.is_file():
                load_into(part, file, self.args.device)

    def counts(self) -> dict[str, int]:
        """Returns the numbers that an update depends on and that no file of `save_models` holds."""
        return {"log_stats_t": self.log_stats_t}

    def set_counts(self, counts: dict[str, int]) -> None:
        """Continues from the numbers that `counts` returned."""
        self.log_stats_t = counts["log_stats_t"]
