"""Policies read from the folder of a checkpoint, for use outside of a run."""

from pathlib import Path

import numpy as np

from components.action_selectors import REGISTRY as SELECTORS
from components.episode_buffer import EpisodeBatch
from controllers import REGISTRY as CONTROLLERS
from controllers.basic_controller import BasicMAC
from controllers.layout import EpisodeLayout, episode_layout
from utils.checkpoints import SETTINGS_FILE
from utils.config import declared_keys
from utils.dict2namedtuple import Args, convert
from utils.errors import UserError
from utils.files import read_json
from utils.weights import fits


class Policy:
    """A trained policy that acts in one episode at a time, outside of a run.

    policy = load_policy("results/models/<run>/<step>")
    policy.reset()
    actions = policy.act(obs, avail_actions)
    """

    def __init__(self, mac: BasicMAC, layout: EpisodeLayout, n_steps: int):
        self.mac = mac
        self._new_batch = lambda: EpisodeBatch(*layout[:2], 1, n_steps, preprocess=layout[2])
        self.reset()

    def reset(self) -> None:
        """Resets the hidden states; to be called before the first step of an episode."""
        self.mac.init_hidden(1)
        self._batch, self._t = self._new_batch(), 0

    def act(self, obs: np.ndarray, avail_actions: np.ndarray, state: np.ndarray | None = None) -> np.ndarray:
        """Returns the actions [agent] of one step, without exploration.

        Args:
            obs: [agent, obs_shape].
            avail_actions: [agent, n_actions], not 0 where an action is available.
            state: [state_shape], for agent models that read it.

        Raises: ValueError where a shape is another than the policy was trained with, or the episode is longer.
        """
        seen = {"obs": obs, "avail_actions": avail_actions} | ({} if state is None else {"state": state})
        if self._t == self._batch.max_seq_length:
            raise ValueError(f"the policy was trained in episodes of at most {self._t} steps; call reset() after it")
        self._batch.update({key: np.asarray(value)[None] for key, value in seen.items()}, ts=self._t)
        actions = self.mac.select_actions(self._batch, self._t, t_env=0, test_mode=True).cpu()
        self._batch.update({"actions": actions}, ts=self._t)
        self._t += 1
        return actions[0].numpy()


def load_policy(folder: str | Path) -> Policy:
    """Returns the policy in the folder of a checkpoint, `<models>/<run>/<step>`, computing on the CPU.

    Raises:
        UserError: the folder has no settings or weights, they do not fit, or the checkpoint is that of a population.
    """
    mac, args = load_mac(folder)
    return Policy(mac, episode_layout(args), args.episode_limit + 1)


def load_mac(folder: str | Path) -> tuple[BasicMAC, Args]:
    """Returns the controller in the folder of a checkpoint, computing on the CPU, and the settings that it was made by.

    Raises: UserError as `load_policy`.
    """
    remedy = "give the folder of a checkpoint that a run with save_model=True wrote, named by its step"
    layout = {"mac": str, "action_selector": str, "population": dict}
    settings = read_json(Path(folder) / SETTINGS_FILE, layout, "configuration", remedy)
    if settings["population"]:
        raise UserError(f"{folder} holds a population, whose seats need each other; resume it with checkpoint_path")
    with fits(Path(folder) / SETTINGS_FILE):
        # Checkpoints of earlier versions do not have the keys that were declared later.
        parts = (CONTROLLERS[settings["mac"]], SELECTORS[settings["action_selector"]])
        defaults = {name: key.default for part in parts for name, key in declared_keys(part.Keys).items()}
        args = convert({**defaults, **settings, "device": "cpu", "test_greedy": True})
        mac = CONTROLLERS[args.mac](*episode_layout(args)[:2], args)
    mac.load_models(folder)
    return mac, args
