"""Networks over time: one step, whole episodes, and one step with each of several features, from `forward` alone.

A network has `init_hidden() -> [1, H]` and `forward(inputs [rows, in], hidden [rows, H]) -> (outputs, hidden)`, as in
PyMARL. Networks whose exact type is listed in `modules/fast_paths.py` are computed by other code, to the same numbers.
"""

from collections.abc import Callable

import torch as th
from torch import nn

from components.packed_steps import PackedSteps
from modules.fast_paths import FAST_PATHS, NO_FAST_PATHS

Step = Callable[[th.Tensor, th.Tensor], tuple[th.Tensor, th.Tensor]]


def step(network: nn.Module, inputs: th.Tensor, hidden: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """One step of inputs [..., in] from hidden states [..., H]: outputs [..., out] and next hidden states [..., H]."""
    outputs, next_hidden = network(inputs.flatten(0, -2), hidden.flatten(0, -2))
    return outputs.unflatten(0, inputs.shape[:-1]), next_hidden.reshape(hidden.shape)


def acting_step(network: nn.Module) -> Step:
    """Returns `step` of the network without gradients, with the weights that it has now.

    A network on a CPU that has a NumPy form in `FAST_PATHS` is computed by that.
    """
    make_numpy_step = FAST_PATHS.get(type(network), NO_FAST_PATHS).numpy_step
    if make_numpy_step is None or network.init_hidden().device.type != "cpu":
        return th.no_grad()(lambda inputs, hidden: step(network, inputs, hidden))
    numpy_step = make_numpy_step(network)

    def act(inputs: th.Tensor, hidden: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        outputs, next_hidden = numpy_step(inputs.flatten(0, -2).numpy(), hidden.flatten(0, -2).numpy())
        return th.from_numpy(outputs).view(*inputs.shape[:-1], -1), th.from_numpy(next_hidden).view(hidden.shape)

    return act


def unroll(network: nn.Module, inputs: th.Tensor, filled: th.Tensor) -> th.Tensor:
    """The outputs of `unroll_with_hidden` alone."""
    rows, _, unpack = _unroll(network, inputs, filled)
    return unpack(rows)


def unroll_with_hidden(network: nn.Module, inputs: th.Tensor, filled: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """All steps of episodes, each from the hidden state after the one before.

    Args:
        inputs: [batch, time, agent, in].
        filled: [batch, time, 1] in main memory; not zero in the first steps of each episode, those that it has.

    Returns:
        Outputs [batch, time, agent, out] and hidden states [batch, time, agent, H] after each step; zeros where a step
        is not filled.
    """
    rows, hiddens, unpack = _unroll(network, inputs, filled)
    return unpack(rows), unpack(hiddens)


def _unroll(
    network: nn.Module, inputs: th.Tensor, filled: th.Tensor
) -> tuple[th.Tensor, th.Tensor, Callable[[th.Tensor], th.Tensor]]:
    """Outputs and hidden states in the order in which they were computed, and what brings them into that of `inputs`."""
    n_episodes, n_steps, n_agents, _ = inputs.shape
    hidden = network.init_hidden().expand(n_episodes * n_agents, -1)
    fast_unroll = FAST_PATHS.get(type(network), NO_FAST_PATHS).unroll
    if fast_unroll is not None:
        steps = PackedSteps(filled, inputs.device)
        batch_sizes = [count * n_agents for count in steps.batch_sizes]
        outputs, hiddens = fast_unroll(network, steps.pack(inputs).flatten(0, 1), hidden[: batch_sizes[0]], batch_sizes)
        return outputs, hiddens, lambda rows: steps.unpack(rows.unflatten(0, (-1, n_agents)))
    hidden = hidden.unflatten(0, (n_episodes, n_agents))
    outputs_of_steps, hiddens_of_steps = [], []
    for t in range(n_steps):
        outputs, hidden = step(network, inputs[:, t], hidden)
        outputs_of_steps.append(outputs)
        hiddens_of_steps.append(hidden)
    is_padding = (filled == 0).unsqueeze(-1).to(inputs.device)
    return th.stack(outputs_of_steps, 1), th.stack(hiddens_of_steps, 1), lambda rows: rows.masked_fill(is_padding, 0.0)


def step_each(network: nn.Module, inputs: th.Tensor, hidden: th.Tensor, filled: th.Tensor) -> th.Tensor:
    """One step from given hidden states at every filled step: outputs [batch, time, agent, out], zeros elsewhere.

    Args:
        inputs: [batch, time, agent, in].
        hidden: [batch, time, agent, H], the state before each step.
        filled: as in `unroll`.
    """
    steps = PackedSteps(filled, inputs.device)
    rows, states = steps.pack(inputs), steps.pack(hidden)
    fast_unroll = FAST_PATHS.get(type(network), NO_FAST_PATHS).unroll
    if fast_unroll is None:
        return steps.unpack(step(network, rows, states)[0])
    flat = rows.flatten(0, 1)  # many short episodes of one step
    outputs, _ = fast_unroll(network, flat, states.flatten(0, 1), [len(flat)])
    return steps.unpack(outputs.unflatten(0, rows.shape[:2]))


@th.no_grad()
def step_over(
    network: nn.Module, inputs: th.Tensor, features: th.Tensor, ahead: th.Tensor, hidden: th.Tensor, filled: th.Tensor
) -> th.Tensor:
    """One step at every filled step with each of K features appended to the inputs: [batch, time, agent, K, out].

    Args:
        inputs: [batch, time, agent, in], without the features.
        features: [batch, time, agent, Z].
        ahead: [batch, time, K], the steps of the same episode whose features are tried.
        hidden: [batch, time, agent, H], the state before each step.
        filled: as in `unroll`.
    """
    steps = PackedSteps(filled, inputs.device)
    # The rows of the packed features, in place of steps of episodes.
    chosen = steps.pack(steps.row_of().gather(1, ahead.flatten(1)).view_as(ahead))
    packed = [steps.pack(part) for part in (inputs, features)]
    states = steps.pack(hidden)
    fast_over = FAST_PATHS.get(type(network), NO_FAST_PATHS).step_over
    if fast_over is not None:
        return steps.unpack(fast_over(network, *packed, chosen, states))
    outputs = [
        step(network, th.cat([packed[0], packed[1][of_rows]], -1), states)[0] for of_rows in chosen.unbind(1)
    ]  # [N, agent, out] for each of K
    return steps.unpack(th.stack(outputs, -2))
