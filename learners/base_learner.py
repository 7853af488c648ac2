"""What learners share besides maths: an optimiser's step, how often to log, saving, and the Q-learners' targets.

The maths is in `utils/rl_utils.py`; each learner's `train` reads from top to bottom in its own file.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import torch as th

from components.episode_buffer import EpisodeBatch
from components.transitions import Transitions
from modules.mixers import REGISTRY as MIXERS
from utils.errors import UserError
from utils.weights import load_into


class LossNotFinite(UserError, FloatingPointError):
    """Training diverged, or was given what is not a number."""


class Learner:
    """What every learner shares: a checked step of an optimiser, how often to log, saving and restoring its parts.

    Each part (see `_parts`) is saved as `<name>.th`; `counters` names the numbers that an update depends on.
    """

    counters: tuple[str, ...] = ("log_stats_t",)

    def __init__(self, mac: Any, logger: Any, args: Any):
        self.args = args
        self.mac = mac
        self.logger = logger
        # So that the first update is logged.
        self.log_stats_t = -args.learner_log_interval - 1

    def train(self, batch: EpisodeBatch, t_env: int, episode_num: int) -> None:
        """One update from `batch`, after `t_env` environment steps and `episode_num` episodes of training."""
        raise NotImplementedError

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
        """Steps against the gradient of `loss`, clipped to `grad_norm_clip`; gives the norm before clipping.

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

    def _parts(self) -> dict[str, Any]:
        """Everything with a state dict, by name; "agent" is the controller, "target_..." copies of live networks."""
        raise NotImplementedError

    def _update_targets(self) -> None:
        """Copies the live networks to their targets."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """All that an update depends on: networks, targets, optimisers and the counters."""
        return {name: part.state_dict() for name, part in self._parts().items()} | self.counts()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.set_counts(state)

    def save_models(self, path: str | Path) -> None:
        """Writes PyMARL's files, such as agent.th and opt.th, and the targets' into the folder `path`."""
        self.mac.save_models(path)
        for name, part in self._parts().items():
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
        parts = {name: (part, Path(path) / f"{name}.th") for name, part in self._parts().items() if name != "agent"}
        targets = {name: parts.pop(name) for name in list(parts) if name.startswith("target_")}
        for name, (part, file) in parts.items():
            if name.endswith("opt") and not file.is_file():
                self.logger.console_logger.warning(f"there is no {file}: this optimiser starts anew")
            else:
                load_into(part, file, self.args.device)
        self._update_targets()
        for part, file in targets.values():
            if file.is_file():
                load_into(part, file, self.args.device)

    def counts(self) -> dict[str, int]:
        """The `counters`, which no file of `save_models` holds."""
        return {name: getattr(self, name) for name in self.counters}

    def set_counts(self, counts: dict[str, int]) -> None:
        for name in self.counters:
            setattr(self, name, counts[name])


class TDUpdate(NamedTuple):
    """One step of Q-learning, over N played steps: [N, agent], or [N, 1] where a mixer gives the team's value."""

    loss: th.Tensor
    grad_norm: th.Tensor
    td_error_t: th.Tensor
    q_t: th.Tensor
    target_t: th.Tensor


class BaseLearner(Learner):
    """A Q-learner: a controller, an optional mixer, their target copies and one RMSprop over both."""

    counters = ("last_target_update_episode", "log_stats_t")

    def __init__(self, mac: Any, scheme: dict, logger: Any, args: Any):
        super().__init__(mac, logger, args)
        self.mixer: Any = None if args.mixer is None else MIXERS[args.mixer](args).to(args.device)
        self.target_mac = deepcopy(mac)
        self.target_mixer: Any = deepcopy(self.mixer)
        self.params = list(mac.parameters()) + ([] if self.mixer is None else list(self.mixer.parameters()))
        rates = {"lr": args.lr, "alpha": args.optim_alpha, "eps": args.optim_eps}
        self.optimiser = th.optim.RMSprop(self.params, **rates, foreach=True)
        self.last_target_update_episode = 0

    def td_update(self, transitions: Transitions, q_t: th.Tensor, value_tp1: th.Tensor, t_env: int) -> TDUpdate:
        """One step by the loss mean((r_t + discount_t * V_tp1 - Q_t)^2) over played steps.

        q_t and value_tp1 [N, agent] are those of the played steps; a mixer joins them first.
        """
        played = transitions.played
        if self.mixer is not None:
            q_t = self.mixer(q_t, transitions.state[:, :-1][played])
            with th.no_grad():
                value_tp1 = self.target_mixer(value_tp1, transitions.state[:, 1:][played])
        target_t = transitions.reward[played] + transitions.discount[played] * value_tp1
        td_error_t = q_t - target_t
        loss = (td_error_t**2).mean()
        return TDUpdate(loss, self.optimise(loss, t_env), td_error_t, q_t, target_t)

    def log_update(self, t_env: int, update: TDUpdate, **stats: th.Tensor) -> None:
        """Logs PyMARL's statistics of an update, and more."""
        # Per agent also where a mixer gives the team's value, as PyMARL logs it.
        agents_per_value = 1 if self.mixer is None else self.args.n_agents
        self.log(
            t_env,
            loss=update.loss,
            grad_norm=update.grad_norm,
            td_error_abs=update.td_error_t.abs().mean(),
            q_taken_mean=update.q_t.mean() / agents_per_value,
            target_mean=update.target_t.mean() / agents_per_value,
            **stats,
        )

    def optimise(self, loss: th.Tensor, t_env: int) -> th.Tensor:
        """One step of all networks; gives the norm of the gradient. See `descend`."""
        return self.descend(loss, self.optimiser, self.params, t_env)

    def update_targets_if_due(self, episode_num: int) -> None:
        """Copies the live networks every `target_update_interval` episodes."""
        if episode_num - self.last_target_update_episode >= self.args.target_update_interval:
            self._update_targets()
            self.last_target_update_episode = episode_num

    def _update_targets(self) -> None:
        self.target_mac.load_state(self.mac)
        if self.mixer is not None:
            self.target_mixer.load_state_dict(self.mixer.state_dict())

    def _parts(self) -> dict[str, Any]:
        parts = {"agent": self.mac, "target_agent": self.target_mac, "opt": self.optimiser}
        if self.mixer is not None:
            parts |= {"mixer": self.mixer, "target_mixer": self.target_mixer}
        return parts
