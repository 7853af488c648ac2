"""The controller of a population: a team whose seats play different algorithms, of which only one learns.

Each algorithm has a controller of its own (`basic_controller.py`, `om_controller.py`) over single seats: to it, a seat
is a team of one (components/fold.py). This one deals the seats out and joins the actions.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th

from components.episode_buffer import EpisodeBatch
from components.fold import fold_seats
from controllers import REGISTRY as CONTROLLERS
from controllers.basic_controller import BasicMAC
from utils.dict2namedtuple import convert


class Player(NamedTuple):
    """One policy of the population, and where it plays in the current episodes."""

    name: str
    mac: BasicMAC
    is_frozen: bool
    acts_greedily: bool


class PopulationMAC:
    """Several algorithms in one team. `args.population` counts the seats of each; `args.train_alg` alone learns.

    The seats are dealt in the order of the names, moved on by `agent_shift` seats; with `is_agent_shift` they are moved
    on by a number drawn for each episode. `agent_idx` [b, m] of the batch says which seats learn.
    """

    def __init__(self, scheme: dict, groups: dict[str, int], args: Any):
        self.args = args
        self.n_agents = args.n_agents
        single_seat = {**groups, "agents": 1}
        self.players: list[Player] = []
        for name in args.population:
            own_args = args_of(args, name)
            mac = CONTROLLERS[own_args.mac](scheme, single_seat, own_args)
            is_frozen = name != args.train_alg
            self.players.append(Player(name, mac, is_frozen, is_frozen and args.opponent_epsilon == 0))
            if is_frozen:
                freeze(mac)
        counts = list(args.population.values())
        self.deal = th.arange(len(counts)).repeat_interleave(th.tensor(counts))  # whose each seat is, without a shift
        self.learner = next(player.mac for player in self.players if not player.is_frozen)
        self.owners: th.Tensor | None = None  # [batch, agent], indices of players

    @property
    def action_selector(self) -> Any:
        """The learner's."""
        return self.learner.action_selector

    def start_episodes(self, ep_batch: EpisodeBatch, worlds: np.ndarray) -> None:
        """Deals the seats of the episodes in the mask [batch] and notes the learner's; all memory is new."""
        if self.owners is None or len(self.owners) != ep_batch.batch_size:
            self.owners = self.deal.repeat(ep_batch.batch_size, 1)
        for b in np.flatnonzero(worlds).tolist():
            drawn = int(th.randint(self.n_agents, ())) if self.args.is_agent_shift else 0
            self.owners[b] = self.deal.roll(self.args.agent_shift + drawn)
            ep_batch["agent_idx"][b] = th.tensor(self.seats_of(b)[0])
        for i, player in enumerate(self.players):
            player.mac.init_hidden(int((self.owners == i).sum()))

    @th.no_grad()
    def select_actions(
        self, ep_batch: EpisodeBatch, t_ep: int, t_env: int, bs: Any = slice(None), test_mode: bool = False
    ) -> th.Tensor:
        """Actions [b, agent] at step `t_ep` of episodes `bs`; only their hidden states move on."""
        assert self.owners is not None, "call start_episodes before the first step of an episode"
        chosen = th.arange(ep_batch.batch_size)[bs]
        row_of = th.full((ep_batch.batch_size,), -1).index_copy(0, chosen, th.arange(len(chosen)))
        actions = th.zeros(len(chosen), self.n_agents, dtype=th.long)
        # The last step is all that a controller reads of the past: the rest is in its hidden state.
        window = ep_batch[:, max(t_ep - 1, 0) : t_ep + 1]
        for i, player in enumerate(self.players):
            episodes, seats = (self.owners == i).nonzero(as_tuple=True)
            plays = row_of[episodes] >= 0
            if plays.any():
                seen = fold_seats(window, episodes, seats)
                rows = slice(None) if plays.all() else plays.nonzero().flatten().numpy()
                acts_greedily = test_mode or player.acts_greedily
                own = player.mac.select_actions(seen, min(t_ep, 1), t_env, rows, acts_greedily)
                actions[row_of[episodes[plays]], seats[plays]] = own[:, 0].cpu()
        return actions

    def seats_of(self, world: int) -> tuple[list[int], list[str]]:
        """The learner's seats in the current episode of a world, and who plays each of the other seats."""
        assert self.owners is not None
        players = [self.players[i] for i in self.owners[world].tolist()]
        return (
            [seat for seat, player in enumerate(players) if not player.is_frozen],
            [player.name for player in players if player.is_frozen],
        )

    def parameters(self) -> Iterator[th.nn.Parameter]:
        """The learner's."""
        return self.learner.parameters()

    def save_models(self, path: str | Path) -> None:
        """Writes a folder for each algorithm."""
        for player in self.players:
            folder = Path(path) / player.name
            folder.mkdir(exist_ok=True)
            player.mac.save_models(folder)

    def load_models(self, path: str | Path) -> None:
        """Reads the folders of all algorithms. Raises: UserError where one is missing or does not fit."""
        for player in self.players:
            player.mac.load_models(Path(path) / player.name)


def args_of(args: Any, name: str) -> Any:
    """What one algorithm of the population is built from: its own keys over those of the run."""
    return convert({**args._asdict(), **getattr(args, name)})


def freeze(mac: Any) -> None:
    """Takes all networks of a controller out of learning."""
    for module in (mac.agent, *([mac.am] if hasattr(mac, "am") else [])):
        module.requires_grad_(False).eval()
