"""What a learner reads: named tensors of one batch that line up in time.

The batch itself is `components/episode_buffer.py`; returns and masked means are in `utils/rl_utils.py`.
"""

from typing import NamedTuple

import torch as th

from components.episode_buffer import EpisodeBatch
from utils.transfer import StepIndex, step_index, to_device


class Transitions(NamedTuple):
    """T transitions per episode. The step after transition t is t + 1 of the fields with T + 1 entries."""

    obs: th.Tensor  # [b, T+1, a, o]
    avail: th.Tensor  # [b, T+1, a, u], True where the action is available
    state: th.Tensor  # [b, T+1, s]
    actions: th.Tensor  # [b, T, a], integers
    reward: th.Tensor  # [b, T, 1], or [b, T, a] where each agent has its own
    discount: th.Tensor  # [b, T, 1], gamma, or 0 where the episode truly ended
    mask: th.Tensor  # [b, T, 1], 1.0 where the transition was played
    played: StepIndex  # the same as indices: x[played] are the N played transitions of x [b, T (+1), ...]


def make_transitions(batch: EpisodeBatch, gamma: float) -> Transitions:
    """Lines up the steps of `batch`, [batch, T+1, ...], whose last filled step holds the final observation."""
    terminated = batch["terminated"][:, :-1].bool()
    mask = played_mask(batch)
    return Transitions(
        obs=batch["obs"],
        avail=batch["avail_actions"].bool(),
        state=batch["state"],
        actions=batch["actions"][:, :-1].squeeze(-1),
        reward=batch["reward"][:, :-1],
        discount=gamma * (~terminated).float(),
        mask=to_device(mask.float(), batch.device),
        played=step_index(mask.squeeze(-1), batch.device),
    )


def played_mask(batch: EpisodeBatch) -> th.Tensor:
    """Returns which transitions were played, [b, T, 1] bool, in main memory.

    A transition counts when it was filled, no earlier one ended the episode, and it has somewhere to go: a real next
    observation, or an end. So the final observation of an episode that a time limit cut off is no transition of its
    own, and the one before it bootstraps from it: the episode was cut off, it is not over.
    """
    filled = batch.on_host("filled").bool()
    terminated = batch.on_host("terminated")[:, :-1].bool()
    over = terminated.cumsum(1) - terminated.long() > 0
    return filled[:, :-1] & (filled[:, 1:] | terminated) & ~over
