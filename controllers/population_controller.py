"""A population: a team whose seats play different algorithms, of which only one learns.

Each algorithm has a policy of its own (`basic_controller.py`, `om_controller.py`), for which every seat is an episode
of one agent (components/seats.py). The team deals the seats out and joins the actions.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch as th

from components.episode_buffer import ALL, EpisodeBatch, Episodes, Scheme
from components.seats import every_seat, seats_that_learn
from controllers import REGISTRY as CONTROLLERS
from controllers.basic_controller import BasicMAC
from controllers.members_together import MembersTogether
from controllers.team import Team
from utils.checkpoints import warn_of_other_world
from utils.dict2namedtuple import Args, Config, convert
from utils.errors import UserError
from utils.pools import MEMBER_FILE, Member, load_pool_for
from utils.weights import fits

FROM_POOL = -1


class Player(NamedTuple):
    """One policy of the population."""

    name: str
    mac: BasicMAC
    is_frozen: bool
    acts_greedily: bool


class PopulationTeam(Team):
    """Several algorithms in one team. `args.population` counts the seats of each; `args.train_alg` alone learns.

    The seats are dealt in the order of the names, moved on by `agent_shift` seats; with `is_agent_shift` they are moved
    on by a number drawn for each episode. `agent_idx` [b, m] of the batch says which seats learn. With `opponent_pool`
    the other seats are played by its members, drawn for each episode: one for all (homologue) or one for each.

    Raises: UserError where the pool is broken, is of another map, or has too few members.
    """

    def __init__(self, scheme: Scheme, groups: dict[str, int], args: Args):
        self.args = args
        self.generator: th.Generator | None = None  # by which seats are dealt; None: torch's default one
        self.n_agents = args.n_agents
        self._plan = (scheme, {**groups, "agents": 1})
        own = args._asdict()  # each algorithm's keys stand under its name
        self.players = [self._player(name, name == args.train_alg, own[name]) for name in args.population]
        counts = list(args.population.values())
        # Who plays each seat, without a shift: indices of players, or FROM_POOL; the pool's members are the last ones.
        self.seat_order = th.arange(len(counts)).repeat_interleave(th.tensor(counts))
        learner = list(args.population).index(args.train_alg)
        super().__init__(self.players[learner].mac)
        if args.opponent_pool:
            self.seat_order[self.seat_order != learner] = FROM_POOL
            pool = load_pool_for(args.opponent_pool, args.env, args.env_args)
            self.players += [self._member(member) for member in pool]
            self._check_enough_members()
        self._actors = self._group_players()
        self.player_of: np.ndarray | None = None  # of each seat, [batch, agent]: indices of players

    def _player(self, name: str, is_learner: bool, own: Config) -> Player:
        """Returns a policy built from its own keys over those of the run."""
        if not is_learner:
            chance = self.args.opponent_epsilon
            own = {**own, "epsilon_start": chance, "epsilon_finish": chance, "am_in_tests": "own"}
        own_args = convert({**self.args._asdict(), **own})
        mac = CONTROLLERS[own_args.mac](*self._plan, own_args)
        for network in mac.networks().values() if not is_learner else ():
            network.requires_grad_(False).eval()
        return Player(name, mac, not is_learner, not is_learner and self.args.opponent_epsilon == 0)

    def _member(self, member: Member) -> Player:
        warn_of_other_world(member.folder, self.args, member.config)
        if member.config.get("agent") == "idv_rnn":
            raise UserError(f"{member.folder} has a network for each agent, which a population can't deal out; drop it")
        of_run = ("env_args", "population", "train_alg")
        own = {key: value for key, value in member.own_config.items() if key not in of_run}
        with fits(member.folder / MEMBER_FILE):
            player = self._player(member.folder.name, False, own)
        player.mac.load_models(member.weights_folder())
        return player

    def _group_players(self) -> list[tuple[BasicMAC, list[int]]]:
        """Returns the policies that act one after the other, and the players (indices) whose seats each of them plays.

        Members of the pool act together where they can.
        """
        n_own = len(self.args.population)
        members: list[list[int]] = []
        for i, player in enumerate(self.players[n_own:], n_own):
            for group in members:
                if player.acts_greedily and MembersTogether.can_hold(self.players[group[0]].mac, player.mac):
                    group.append(i)
                    break
            else:
                members.append([i])
        groups = [[i] for i in range(n_own)] + members
        macs = [[self.players[i].mac for i in group] for group in groups]
        together = [MembersTogether(of_group) if len(of_group) > 1 else of_group[0] for of_group in macs]
        return list(zip(together, groups, strict=True))

    def _check_enough_members(self) -> None:
        seats, members = int((self.seat_order == FROM_POOL).sum()), len(self.players) - len(self.args.population)
        if self.args.opponent_group == "non_homologue" and members < seats:
            raise UserError(
                f"opponent_group=non_homologue needs a member for each of {seats} seats, but {self.args.opponent_pool} "
                f"has {members}; train more, or take opponent_group=homologue"
            )

    def _deal_seats(self) -> th.Tensor:
        """Draws who plays each seat of one episode: indices of players [agent]."""
        shift = self.args.agent_shift
        if self.args.is_agent_shift:
            shift += int(th.randint(self.n_agents, (), generator=self.generator))
        players = self.seat_order.roll(shift)
        drawn = players == FROM_POOL
        if drawn.any():
            first = len(self.args.population)
            members = first + th.randperm(len(self.players) - first, generator=self.generator)
            players[drawn] = members[0] if self.args.opponent_group == "homologue" else members[: int(drawn.sum())]
        return players

    def use_generators(self, acting: th.Generator, dealing: th.Generator) -> None:
        for player in self.players:
            player.mac.use_generator(acting)
        self.generator = dealing

    def reset(self, batch: EpisodeBatch, worlds: np.ndarray) -> None:
        """Deals the seats of the episodes in the mask [batch] and writes the learner's; all hidden states are new."""
        if self.player_of is None or len(self.player_of) != batch.batch_size:
            self.player_of = np.zeros((batch.batch_size, self.n_agents), np.int64)
        for b in np.flatnonzero(worlds).tolist():
            self.player_of[b] = self._deal_seats().numpy()
            batch["agent_idx"][b] = th.tensor(self.seats_of(b)[0])
        for mac, _ in self._actors:
            mac.init_hidden(self.player_of.size)  # rows of `every_seat`: it uses those it plays

    @th.no_grad()
    def select_actions(
        self, batch: EpisodeBatch, t_ep: int, t_env: int, bs: Episodes = ALL, test_mode: bool = False
    ) -> th.Tensor:
        """Returns actions [b, agent] at step `t_ep` of episodes `bs` and advances their hidden states."""
        assert self.player_of is not None, "call reset before the first step of an episode"
        is_running = np.zeros(batch.batch_size, bool)
        is_running[bs] = True
        # The last step is all that a policy reads of the past: the rest is in its hidden state.
        seen = every_seat(batch, slice(max(t_ep - 1, 0), t_ep + 1))
        actions = np.zeros(self.player_of.size, np.int64)
        for mac, players in self._actors:
            rows_of = [np.flatnonzero((self.player_of == i) & is_running[:, None]) for i in players]
            rows = np.concatenate(rows_of)
            if not len(rows):
                continue
            if isinstance(mac, MembersTogether):
                mac.give_rows([len(own_rows) for own_rows in rows_of])
            acts_greedily = test_mode or self.players[players[0]].acts_greedily
            own = mac.select_actions(seen, min(t_ep, 1), t_env, rows, acts_greedily)
            actions[rows] = own[:, 0].cpu().numpy()
        return th.from_numpy(actions.reshape(self.player_of.shape)[bs])

    def seats_of(self, world: int) -> tuple[list[int], list[str]]:
        """Returns the learner's seats in the current episode of a world, and who plays each of the other seats."""
        assert self.player_of is not None
        players = [self.players[i] for i in self.player_of[world].tolist()]
        return (
            [seat for seat, player in enumerate(players) if not player.is_frozen],
            [player.name for player in players if player.is_frozen],
        )

    def experience(self, batch: EpisodeBatch) -> EpisodeBatch:
        """Returns the seats that learn, each an episode of one agent."""
        return seats_that_learn(batch)

    def folders(self, path: Path) -> dict[Path, BasicMAC]:
        """Returns a folder for each algorithm; members of a pool are not saved again."""
        return {path / player.name: player.mac for player in self._own_players()}

    def start_from(self, path: Path) -> None:
        """Reads the folders of the frozen algorithms and, where there is one, that of the one that learns.

        Raises: UserError where a frozen one's is missing, or there is none at all, or one does not fit.
        """
        folders = {folder: mac for folder, mac in self.folders(path).items() if mac is not self.mac or folder.is_dir()}
        if not folders:
            raise UserError(f"init_param_path {path} has no folder {self.args.train_alg}; give its parent folder")
        for folder, mac in folders.items():
            mac.load_models(folder)

    def _own_players(self) -> list[Player]:
        own = self.players[: len(self.args.population)]
        return [player for player in own if not (player.is_frozen and self.args.opponent_pool)]
