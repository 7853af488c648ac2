"""Frozen policies that differ in nothing but their networks, acting together: the inputs of all their seats are built
at once and their actions are chosen at once, and each network computes its own rows.

Private to `population_controller.py`, for policies of the exact type BasicMAC; the actions are those of one policy
after the other.
"""

from collections.abc import Sequence
from dataclasses import fields

import torch as th

from controllers.basic_controller import BasicMAC
from modules.network import Network, Outputs
from modules.unroll import acting_step

OWN_KEYS = {"agent", "rnn_hidden_dim", "orthogonal_init"}
"""Those of BasicMAC.Keys that say no more than how a network is made."""


class _Networks(Network):
    """Networks of which each computes its own rows: first those of the first one, `counts[0]` of them, and so on."""

    def __init__(self, networks: Sequence[Network]):
        super().__init__()
        self.first = networks[0]
        self.steps = [acting_step(network) for network in networks]
        self.counts = [0] * len(networks)

    def init_hidden(self) -> th.Tensor:
        return self.first.init_hidden()

    def forward(self, inputs: th.Tensor, hidden: th.Tensor) -> Outputs:
        rows = zip(self.steps, inputs.split(self.counts), hidden.split(self.counts), strict=True)
        outputs, next_hidden = zip(*(step(x, h) for step, x, h in rows if len(x)), strict=True)
        return th.cat(outputs), th.cat(next_hidden)


class MembersTogether(BasicMAC):
    """Policies that act greedily, with the weights that they have now, as one."""

    agent: _Networks

    def __init__(self, macs: Sequence[BasicMAC]):
        vars(self).update(vars(macs[0]))
        self.agent = _Networks([mac.agent for mac in macs])

    @staticmethod
    def can_hold(one: BasicMAC, other: BasicMAC) -> bool:
        """Returns whether two policies that act greedily differ in their networks alone."""
        selector = type(one.action_selector)
        if not type(one) is type(other) is BasicMAC or type(other.action_selector) is not selector:
            return False
        keys = {field.name for kind in (BasicMAC, selector) for field in fields(kind.Keys)} - OWN_KEYS
        are_alike = all(getattr(one.args, key) == getattr(other.args, key) for key in keys)
        is_greedy = one.args.test_greedy and other.args.test_greedy  # else tests draw random numbers
        return are_alike and is_greedy and one.agent.init_hidden().shape == other.agent.init_hidden().shape

    def give_rows(self, counts: Sequence[int]) -> None:
        """Says how many rows of the next step are each policy's, in the order of the policies."""
        self.agent.counts = list(counts)
