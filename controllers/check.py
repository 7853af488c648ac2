"""The check that a policy acts by what it learns: the two are computed by different code."""

import torch as th

from components.episode_buffer import EpisodeBatch, Preprocess, Scheme
from controllers.team import Team
from utils.errors import UserError

N_STEPS = 3
TOLERANCE = 1e-3
"""Largest difference between values, over the largest value; rounding makes far less."""


@th.no_grad()
def check_policy(team: Team, scheme: Scheme, groups: dict[str, int], preprocess: Preprocess) -> None:
    """Compares what the team's policy computes in two made-up episodes when acting, when learning and in `forward`
    with gradients, for which no entry of FAST_PATHS is used. Random generators are left as they were.

    Raises: UserError where these differ, so that training would not improve what acts.
    """
    mac, networks = team.mac, team.mac.networks().values()
    modes = [network.training for network in networks]
    with th.random.fork_rng([th.device(mac.device)] if th.device(mac.device).type == "cuda" else []):
        th.manual_seed(0)
        batch = team.experience(made_up_episodes(scheme, groups, preprocess))
        for network in networks:
            network.eval()  # dropout and the like are no difference
        forms = [mac.unroll(batch)]
        for is_plain in (True, False):
            with th.set_grad_enabled(is_plain):
                mac.init_hidden(batch.batch_size)
                forms.append(th.stack([mac.forward(batch, t) for t in range(N_STEPS)], 1).detach())
    for network, is_training in zip(networks, modes, strict=True):
        network.train(is_training)
    mac.hidden_states = None
    values = th.stack(forms)[:, batch["filled"].squeeze(-1).bool().to(mac.device)]
    difference = (values.amax(0) - values.amin(0)).max()
    if not difference <= TOLERANCE * values.abs().max().clamp(min=1):
        classes = ", ".join(type(part).__name__ for part in (mac, *networks))
        raise UserError(
            f"the policy of {classes} acts by other values than it learns, by up to {difference:.2g} in two made-up "
            "episodes: `forward` one step at a time, `unroll` and the network's entry in FAST_PATHS "
            "(modules/fast_paths.py), if it has one, must agree; change all, or none"
        )


def made_up_episodes(scheme: Scheme, groups: dict[str, int], preprocess: Preprocess) -> EpisodeBatch:
    """Returns two episodes, the second one step shorter, with random observations and actions, all available."""
    batch = EpisodeBatch(scheme, groups, 2, N_STEPS, preprocess=preprocess)
    for field in batch.data.transition_data.values():
        if field.is_floating_point():
            field.normal_()
    batch["avail_actions"][:] = 1
    batch["actions"].random_(batch["avail_actions"].shape[-1])
    batch["filled"][:] = 1
    for field in batch.data.transition_data.values():
        field[1, N_STEPS - 1] = 0
    return batch
