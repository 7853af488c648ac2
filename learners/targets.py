"""Target networks: copies of a controller and a mixer that follow the live ones now and then."""

from copy import deepcopy

from torch import nn

from learners.base_learner import Policy
from utils.weights import Stateful


class Targets:
    """Copies `mac` and `mixer` of live networks, renewed every `interval` episodes (Mnih et al. 2015)."""

    def __init__(self, mac: Policy, mixer: nn.Module | None, interval: int):
        self._live_mac, self._live_mixer = mac, mixer
        self.mac: Policy = deepcopy(mac)
        self.mixer = deepcopy(mixer)
        self.interval = interval
        self.last_update_episode = 0

    def update_if_due(self, episode_num: int) -> None:
        """Copies the live networks where `interval` episodes were played since the last copy."""
        if episode_num - self.last_update_episode >= self.interval:
            self.update()
            self.last_update_episode = episode_num

    def update(self) -> None:
        """Copies the live networks."""
        self.mac.load_state(self._live_mac)
        if self.mixer is not None and self._live_mixer is not None:
            self.mixer.load_state_dict(self._live_mixer.state_dict())

    def parts(self, prefix: str = "target_") -> dict[str, Stateful]:
        """Returns what has a state dict, by default under the names of PyMARL's files."""
        return {f"{prefix}agent": self.mac} | ({} if self.mixer is None else {f"{prefix}mixer": self.mixer})
