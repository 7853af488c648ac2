"""What learners share besides maths: an optimiser's step, how often to log, saving and restoring.

The maths is in `utils/rl_utils.py`; each learner's `train` reads from top to bottom in its own file.
"""

from pathlib import Path
from typing import Any

import torch as th

from components.episode_buffer import EpisodeBatch
from utils.errors import UserError
from utils.weights import load_into


class LossNotFinite(UserError, FloatingPointError):
    """Training diverged, or was given what is not a number."""


class Learner:
    """A checked step of an optimiser, how often to log, saving and restoring of the `parts`."""

    generator: th.Generator | None = None
    """Where random numbers of learning come from; None: torch's default generator of the device."""

    def __init__(self, mac: Any, logger: Any, args: Any):
        self.args = args
        self.mac = mac
        self.logger = logger
        # So that the first update is logged.
        self.log_stats_t = -args.learner_log_interval - 1

    def train(self, batch: EpisodeBatch, t_env: int, episode_num: int) -> None:
        """One update from `batch`, after `t_env` environment steps and `episode_num` episodes of training."""
        raise NotImplementedError

    def parts(self) -> dict[str, Any]:
        """Everything with a state dict, by name; "agent" is the controller, "target_..." copies of live networks.

        Each is saved as `<name>.th`.
        """
        raise NotImplementedError

    def update_targets(self) -> None:
        """Copies the live networks to their targets, if the learner has any."""

    def is_log_due(self, t_env: int) -> bool:
        return t_env - self.log_stats_t >= self.args.learner_log_interval

    def log(self, t_env: int, **stats: th.Tensor) -> None:
        """Logs scalars and counts the interval from here."""
        for key, value in stats.items():
            self.logger.log_stat(key, value.item(), t_env)
        self.log_stats_t = t_env

    def descend(
        self, loss: th.Tensor, optimiser: th.optim.Optimizer, params: list[th.nn.Parameter], t_env: int
    ) -> th.Tensor:
        """Steps against the gradient of `loss`, clipped to `grad_norm_clip`; returns the norm before clipping.

        Raises:
            LossNotFinite: the loss is not finite; the weights are left as they were.
        """
        # On a GPU looking at the loss makes the host wait, so there it is done only when it is logged anyway.
        if (loss.device.type == "cpu" or self.is_log_due(t_env)) and not th.isfinite(loss):
            advice = f"look for huge rewards or observations, or lower lr ({optimiser.param_groups[0]['lr']})"
            raise LossNotFinite(f"the loss is {loss.item()} at t_env {t_env}: {advice}")
        optimiser.zero_grad()
        loss.backward()
        grad_norm = th.nn.utils.clip_grad_norm_(params, self.args.grad_norm_clip)
        optimiser.step()
        return grad_norm

    def state_dict(self) -> dict[str, Any]:
        """All that an update depends on: networks, targets, optimisers and the counters."""
        return {name: part.state_dict() for name, part in self.parts().items()} | self.counts()

    def load_state_dict(self, state: dict[str, Any]) -> None:
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
        """Reads such a folder.

        One without targets, as PyMARL writes it, gives targets equal to the live networks. Without an optimiser's file
        that optimiser starts anew, with a warning.

        Raises:
            UserError: another file is missing, or one can't be read or does not fit.
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
        """The numbers that an update depends on, and that no file of `save_models` holds."""
        return {"log_stats_t": self.log_stats_t}

    def set_counts(self, counts: dict[str, int]) -> None:
        """Goes on from such numbers."""
        self.log_stats_t = counts["log_stats_t"]
