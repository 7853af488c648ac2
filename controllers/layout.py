"""Which fields an episode has: those of the environment, the team's actions, and the controller's own."""

import torch as th

from components.episode_buffer import Preprocess, Scheme
from components.seats import rows_per_episode
from components.transforms import OneHot
from controllers import REGISTRY as CONTROLLERS
from utils.dict2namedtuple import Args

EpisodeLayout = tuple[Scheme, dict[str, int], Preprocess]


def episode_layout(args: Args) -> EpisodeLayout:
    """Returns the fields of an episode, as an `EpisodeBatch` takes them: (scheme, groups, preprocess).

    Those in `args.fields` are the environment's (`fields_of` in envs/multiagentenv.py), others the controller's own.
    """
    scheme: Scheme = {}
    for name, field in args.fields.items():
        entry = {**field, "dtype": getattr(th, field["dtype"])}
        scheme[name] = {key: value for key, value in entry.items() if value is not None}
    scheme |= {
        "actions": {
            "vshape": (1,),
            "group": "agents",
            "dtype": th.long,
            "store_dtype": th.int16,
            "below": args.n_actions,
        },
        "terminated": {"vshape": (1,), "dtype": th.uint8, "below": 2},
    }
    groups = {"agents": args.n_agents}
    if not args.population:
        scheme |= CONTROLLERS[args.mac].fields(args)
    else:
        own = (rows_per_episode(args),)
        scheme["agent_idx"] = {"vshape": own, "dtype": th.long, "episode_const": True, "below": args.n_agents}
    preprocess: Preprocess = {"actions": ("actions_onehot", [OneHot(out_dim=args.n_actions)])}
    return scheme, groups, preprocess
