"""From episodes of whole teams to episodes of single seats, each with one agent, to act in or to learn from."""

from types import SimpleNamespace

import torch as th

from components.episode_buffer import ALL, OF_TEAM, EpisodeBatch
from utils.dict2namedtuple import Args
from utils.transfer import to_device

SEAT = {"vshape": (), "group": "agents", "dtype": th.long, "episode_const": True}
FIELDS_OF_OTHERS = ("obs", "actions", "avail_actions")


def rows_per_episode(args: Args) -> int:
    """Returns how many rows of a batch an episode has: one, or in a population one for each seat that learns."""
    return args.population[args.train_alg] if args.population else 1


def cut_seats(batch: EpisodeBatch, episodes: th.Tensor, seats: th.Tensor, ts: slice = ALL) -> EpisodeBatch:
    """Returns a batch with an episode of one agent for each of `seats` [k] in `episodes` [k], and its steps `ts`.

    Fields of the group "agents" hold the agent of that seat alone, [k, T, 1, ...]; `seat` [k, 1] says which it was, and
    `team_obs`, `team_actions` and `team_avail_actions` [k, T, n, ...] hold the whole team's. All others are repeated.
    `episodes` are in main memory.
    """
    is_whole = th.equal(episodes, th.arange(batch.batch_size))
    episodes, seats = to_device(episodes, batch.device), seats.to(batch.device)

    def repeated(field: th.Tensor) -> th.Tensor:
        return field if is_whole else field[episodes]

    scheme = {**batch.scheme, "seat": SEAT}
    data = SimpleNamespace(transition_data={}, episode_data={"seat": seats.unsqueeze(1)})
    for key in FIELDS_OF_OTHERS:
        entry = batch.scheme[key]
        scheme[OF_TEAM + key] = {"vshape": (batch.groups["agents"], *entry["vshape"]), "dtype": entry["dtype"]}
        data.transition_data[OF_TEAM + key] = repeated(batch[key][:, ts])
    for key, field in batch.data.transition_data.items():
        of_agents = batch.scheme[key].get("group") == "agents"
        steps = field[:, ts]
        data.transition_data[key] = steps[episodes, :, seats].unsqueeze(2) if of_agents else repeated(steps)
    for key, field in batch.data.episode_data.items():
        data.episode_data[key] = repeated(field)
    n_steps = len(range(*ts.indices(batch.max_seq_length)))
    groups = {**batch.groups, "agents": 1}
    return EpisodeBatch(scheme, groups, len(seats), n_steps, data, batch.preprocess, batch.device)


def every_seat(batch: EpisodeBatch, ts: slice = ALL) -> EpisodeBatch:
    """Returns all seats of a batch of teams, one episode after the other: b * n episodes of one agent, steps `ts`."""
    n_agents = batch.groups["agents"]
    episodes = th.arange(batch.batch_size).repeat_interleave(n_agents)
    return cut_seats(batch, episodes, th.arange(n_agents).repeat(batch.batch_size), ts)


def seats_that_learn(batch: EpisodeBatch) -> EpisodeBatch:
    """Returns the seats `agent_idx` [b, m] of a batch of teams: b * m episodes of one agent."""
    seats = batch.on_host("agent_idx")
    episodes, seats = th.arange(batch.batch_size).repeat_interleave(seats.shape[1]), seats.flatten()
    cut = cut_seats(batch, episodes, seats)
    on_host = batch.steps_on_host()
    for key, field in on_host.items():
        of_agents = batch.scheme[key].get("group") == "agents"
        on_host[key] = field[episodes, :, seats].unsqueeze(2) if of_agents else field[episodes]
    cut.keep_on_host(on_host)
    return cut
