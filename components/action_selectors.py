"""From a controller's outputs to actions, unavailable actions excluded.

Actions are chosen in main memory, where the environments want them, so that draws are the same on every device. The
schedules of epsilon are in `components/epsilon_schedules.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch as th

from components.epsilon_schedules import DecayThenFlatSchedule
from utils.config import STEPS, K, T, key
from utils.dict2namedtuple import Args, Config
from utils.registry import Registry

REGISTRY = Registry(
    "action selector",
    epsilon_greedy="components.action_selectors:EpsilonGreedyActionSelector",
    multinomial="components.action_selectors:MultinomialActionSelector",
)


class ActionSelector:
    """Holds `epsilon`, the share of random actions at the last training step that was asked for."""

    @dataclass(frozen=True)
    class Keys:
        epsilon_start: float = key(1.0, "share of random actions at the start", low=0, high=1)
        epsilon_finish: float = key(0.05, "share of random actions from epsilon_anneal_time on", low=0, high=1)
        epsilon_anneal_time: int = key(50000, "from epsilon_start to epsilon_finish", STEPS, low=1, high=T)

    output_type = "q"
    """What it reads, as `agent_output_type` has it."""

    @classmethod
    def conflict(cls, config: Config, kinds: Mapping[str, type]) -> str:
        selector, output = config["action_selector"], config["agent_output_type"]
        sentence = (
            f"action_selector={selector} does not go with agent_output_type={output}; "
            "multinomial draws from a policy (pi_logits), epsilon_greedy reads values (q)"
        )
        return "" if output == cls.output_type else sentence

    generator: th.Generator | None = None
    """Where random numbers come from; None: torch's default generator."""
    worlds: np.ndarray | None = None
    """Of the episodes that actions are asked for, from 0 for the first world to 1 for the last; None: unknown."""

    def __init__(self, args: Args):
        self.args = args
        self.schedule = DecayThenFlatSchedule(args.epsilon_start, args.epsilon_finish, args.epsilon_anneal_time)
        self.epsilon = self.schedule.eval(0)

    def select_action(
        self, agent_inputs: th.Tensor, avail_actions: th.Tensor, t_env: int, test_mode: bool = False
    ) -> th.Tensor:
        """Returns actions [batch, agent] from outputs [batch, agent, action] and availability (non-zero: available)."""
        raise NotImplementedError


class EpsilonGreedyActionSelector(ActionSelector):
    """The best available Q-value, or with probability epsilon any available action; always the best when testing.

    With `epsilon_alpha` worlds differ: number i of n explores by epsilon^(1 + alpha i / (n - 1)) (Horgan et al. 2018).
    """

    @dataclass(frozen=True)
    class Keys(ActionSelector.Keys):
        epsilon_alpha: float = key(0.0, "how much less the last world explores than the first; 0: alike", low=0, high=K)

    def select_action(
        self, agent_inputs: th.Tensor, avail_actions: th.Tensor, t_env: int, test_mode: bool = False
    ) -> th.Tensor:
        values = agent_inputs.cpu().numpy()
        if not test_mode:
            self.epsilon = self.schedule.eval(t_env)
            draws = th.rand((*values.shape[:-1], 1 + values.shape[-1]), generator=self.generator).numpy()
            # The largest of independent uniform numbers is equally likely to be any available action's.
            values = np.where(draws[..., :1] < self._epsilons(), draws[..., 1:], values)
        return th.from_numpy(np.where(avail_actions.cpu().numpy() != 0, values, -np.inf).argmax(-1))

    def _epsilons(self) -> float | np.ndarray:
        """Returns epsilon, or that of each episode [batch, 1, 1]."""
        if self.args.epsilon_alpha == 0 or self.worlds is None:
            return self.epsilon
        return self.epsilon ** (1 + self.args.epsilon_alpha * self.worlds[:, None, None])


class MultinomialActionSelector(ActionSelector):
    """A draw from the policy over available actions; its most likely action when testing with `test_greedy`."""

    @dataclass(frozen=True)
    class Keys(ActionSelector.Keys):
        mask_before_softmax: bool = key(False, "the policy's softmax leaves unavailable actions out")

    output_type = "pi_logits"

    def select_action(
        self, agent_inputs: th.Tensor, avail_actions: th.Tensor, t_env: int, test_mode: bool = False
    ) -> th.Tensor:
        agent_inputs, avail_actions = agent_inputs.cpu(), avail_actions.cpu()
        # Below zero, so that an available action whose probability was rounded to 0 still comes first.
        policy = agent_inputs.masked_fill(avail_actions == 0, -1.0)
        if test_mode and self.args.test_greedy:
            return policy.argmax(-1)
        if not test_mode:
            self.epsilon = self.schedule.eval(t_env)
        # argmax p_u / e_u with e_u ~ Exp(1) draws u with probability p_u / sum(p).
        return (policy / th.empty_like(policy).exponential_(generator=self.generator)).argmax(-1)
