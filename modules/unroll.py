"""Networks over time: one step, whole episodes, and one step with each of several features, by `forward` alone.

Networks are those of `modules/network.py`. Those whose exact type is listed in `modules/fast_paths.py` are computed by
other code, to the same numbers.
"""

from collections.abc import Callable

import torch as th

from components.packed_steps import PackedSteps
from modules.fast_paths import FAST_PATHS, NO_FAST_PATHS
from modules.network import Network, Outputs

Step = Callable[[th.Tensor, th.Tensor], Outputs]


def step(network: Network, inputs: th.Tensor, hidden: th.Tensor) -> Outputs:
    """Computes a step: inputs [..., in], hidden states [..., H] to outputs [..., out], next hidden states [..., H]."""
    outputs, next_hidden = network(inputs.flatten(0, -2), hidden.flatten(0, -2))
    return outputs.unflatten(0, inputs.shape[:-1]), next_hidden.reshape(hidden.shape)


def acting_step(network: Network) -> Step:
    """Returns `step` of the network without gradients, with the weights that it has now.

    A network on a CPU that has a NumPy form in `FAST_PATHS` is computed by that.
    """
    make_numpy_step = FAST_PATHS.get(type(network), NO_FAST_PATHS).numpy_step
    if make_numpy_step is None or network.init_hidden().device.type != "cpu":
        return th.no_grad()(lambda inputs, hidden: step(network, inputs, hidden))
    numpy_step = make_numpy_step(network)

    def act(inputs: th.Tensor, hidden: th.Tensor) -> Outputs:
        outputs, next_hidden = numpy_step(inputs.flatten(0, -2).numpy(), hidden.flatten(0, -2).numpy())
        return th.from_numpy(outputs).view(*inputs.shape[:-1], -1), th.from_numpy(next_hidden).view(hidden.shape)

    return act


def unroll(network: Network, rows: th.Tensor, steps: PackedSteps, before: th.Tensor | None = None) -> th.Tensor:
    """Returns the outputs of `unroll_with_hidden` alone."""
    outputs, _, unpack = _unroll(network, rows, steps, before)
    return unpack(outputs)


def unroll_with_hidden(
    network: Network, rows: th.Tensor, steps: PackedSteps, before: th.Tensor | None = None
) -> Outputs:
    """Computes all steps of episodes, each from the hidden state after the one before.

    Args:
        rows: inputs [N, agent, in] of the filled steps, in the order of `steps`.
        steps: where these steps stand in [batch, time].
        before: hidden states [batch, agent, H] before the first step; None: the network's own first one.

    Returns:
        Outputs [batch, time, agent, out] and hidden states [batch, time, agent, H] after each step; zeros where a step
        is not filled.
    """
    outputs, hiddens, unpack = _unroll(network, rows, steps, before)
    return unpack(outputs), unpack(hiddens)


def _unroll(
    network: Network, rows: th.Tensor, steps: PackedSteps, before: th.Tensor | None
) -> tuple[th.Tensor, th.Tensor, Callable[[th.Tensor], th.Tensor]]:
    """Returns outputs and hidden states in the order of computing, and what brings them into [batch, time, ...]."""
    n_agents = rows.shape[1]
    fast_unroll = FAST_PATHS.get(type(network), NO_FAST_PATHS).unroll
    if fast_unroll is not None:
        batch_sizes = [count * n_agents for count in steps.batch_sizes]
        hidden = network.init_hidden().expand(batch_sizes[0], -1)
        if before is not None:
            hidden = before.index_select(0, steps.order).flatten(0, 1)
        outputs, hiddens = fast_unroll(network, rows.flatten(0, 1), hidden, batch_sizes)
        return outputs, hiddens, lambda computed: steps.unpack(computed.unflatten(0, (-1, n_agents)))
    inputs = steps.unpack(rows)
    hidden = network.init_hidden().expand(len(inputs), inputs.shape[2], -1) if before is None else before
    outputs_of_steps, hiddens_of_steps = [], []
    for t in range(inputs.shape[1]):
        outputs, hidden = step(network, inputs[:, t], hidden)
        outputs_of_steps.append(outputs)
        hiddens_of_steps.append(hidden)
    is_padding = (steps.filled == 0).unsqueeze(-1).to(rows.device)
    outputs, hiddens = th.stack(outputs_of_steps, 1), th.stack(hiddens_of_steps, 1)
    return outputs, hiddens, lambda computed: computed.masked_fill(is_padding, 0.0)


def step_from(network: Network, rows: th.Tensor, hidden: th.Tensor, steps: PackedSteps) -> th.Tensor:
    """Returns the outputs of one step from given hidden states at every filled step, [batch, time, agent, out].

    Args:
        rows: inputs [N, agent, in] of the filled steps, in the order of `steps`.
        hidden: [batch, time, agent, H], the state before each step.
        steps: where these steps stand in [batch, time].
    """
    states = steps.pack(hidden)
    fast_unroll = FAST_PATHS.get(type(network), NO_FAST_PATHS).unroll
    if fast_unroll is None:
        return steps.unpack(step(network, rows, states)[0])
    flat = rows.flatten(0, 1)  # many short episodes of one step
    outputs, _ = fast_unroll(network, flat, states.flatten(0, 1), [len(flat)])
    return steps.unpack(outputs.unflatten(0, rows.shape[:2]))


@th.no_grad()
def step_candidates(
    network: Network, inputs: th.Tensor, features: th.Tensor, ahead: th.Tensor, hidden: th.Tensor, seats: PackedSteps
) -> th.Tensor:
    """Returns one step of every seat with each of K features appended to its inputs: [N, K, out].

    Args:
        inputs: [batch, time, agent, in], without the features.
        features: [batch, time, agent, Z].
        ahead: [batch, time, K], the steps of the same episode whose features, of the same seat, are tried.
        hidden: [batch, time, agent, H], the state before each step.
        seats: which steps of which seats [batch, time, agent] are computed, and in which order.
    """
    fast_candidates = FAST_PATHS.get(type(network), NO_FAST_PATHS).step_candidates
    if fast_candidates is not None:
        n_episodes, n_steps, n_agents = features.shape[:3]
        episode, seat = (th.arange(n, device=ahead.device) for n in (n_episodes, n_agents))
        first = ((episode.view(-1, 1, 1) * n_steps + ahead) * n_agents).unsqueeze(2)
        rows, states, chosen = (seats.pack(x).flatten(0, -2) for x in (inputs, hidden, first + seat.view(-1, 1)))
        return fast_candidates(network, rows, features.flatten(0, 2), chosen, states)
    each = []
    for step_k in ahead.unbind(-1):
        tried = features.gather(1, step_k[..., None, None].expand_as(features))
        each.append(seats.pack(step(network, th.cat([inputs, tried], -1), hidden)[0]).flatten(0, -2))
    return th.stack(each, 1)
