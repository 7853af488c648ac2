"""The controller whose agents share one network. Populations are in `controllers/om_controller.py`.

Networks come from `modules/agents`, the choice of actions from `components/action_selectors.py`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th

from components.action_selectors import REGISTRY as ACTION_SELECTORS
from components.episode_buffer import EpisodeBatch
from components.packed_steps import PackedSteps
from controllers.numpy_acting import NumpyActing, numpy_acting
from modules.agents import REGISTRY as AGENTS
from utils.inputs import last_actions
from utils.seats import seat_ids
from utils.weights import load_into


class PackedInputs(NamedTuple):
    """What the network reads in the filled steps of a batch, and where those steps are."""

    rows: th.Tensor  # [N, a, in]
    steps: PackedSteps


class BasicMAC:
    """One agent network for all agents; the agent's id among its inputs tells them apart.

    The batch may lie on another device than the network: inputs are moved to `args.device`.
    """

    def __init__(self, scheme: dict, groups: dict[str, int], args: Any):
        if args.agent_output_type not in ("q", "pi_logits"):
            raise ValueError(f"agent_output_type is 'q' or 'pi_logits', not {args.agent_output_type!r}")
        self.args = args
        self.n_agents = groups["agents"]  # in a batch: all of the team, or one where seats are folded (utils/seats.py)
        self.device = args.device
        self.agent = AGENTS[args.agent](self.input_size(scheme), args).to(self.device)
        self.action_selector = ACTION_SELECTORS[args.action_selector](args)
        self.hidden_states: th.Tensor | None = None  # [batch, agent, H]
        self._acting: NumpyActing | None = None

    def input_size(self, scheme: dict) -> int:
        """The width of what `build_inputs` gives."""
        (size,) = scheme["obs"]["vshape"] if isinstance(scheme["obs"]["vshape"], tuple) else (scheme["obs"]["vshape"],)
        if self.args.obs_last_action:
            size += self.args.n_actions
        if self.args.obs_agent_id:
            size += self.args.n_agents
        return size

    def build_inputs(self, ep_batch: EpisodeBatch, bs: Any = slice(None), ts: slice = slice(None)) -> th.Tensor:
        """Observation, last action (zeros at step 0) and agent id of episodes `bs`, steps `ts`: [b, T, a, in]."""
        obs = ep_batch["obs"][bs, ts].to(self.device)
        actions = last_actions(ep_batch["actions"], self.args.n_actions, self.device, bs, ts)
        return self._join(obs, actions, seat_ids(ep_batch, self.args.n_agents, self.device, bs))

    def pack_inputs(self, ep_batch: EpisodeBatch) -> PackedInputs:
        """The inputs of all filled steps, for `unroll_rows`; controllers of the same kind can share them."""
        steps = PackedSteps(ep_batch.on_host("filled"), self.device)
        actions = last_actions(ep_batch["actions"], self.args.n_actions, self.device)
        ids = seat_ids(ep_batch, self.args.n_agents, self.device)
        ids = steps.pack(ids.expand(*steps.leading, -1, -1)) if len(ids) > 1 else ids[0]
        rows = self._join(steps.pack(ep_batch["obs"].to(self.device)), steps.pack(actions), ids)
        return PackedInputs(rows, steps)

    def _join(self, obs: th.Tensor, actions: th.Tensor, ids: th.Tensor) -> th.Tensor:
        """The network's inputs [..., a, in] from what changes over time."""
        parts = [obs]
        if self.args.obs_last_action:
            parts.append(actions)
        if self.args.obs_agent_id:
            parts.append(ids.expand(*obs.shape[:-1], -1))
        return th.cat(parts, dim=-1)

    @th.no_grad()
    def select_actions(
        self, ep_batch: EpisodeBatch, t_ep: int, t_env: int, bs: Any = slice(None), test_mode: bool = False
    ) -> th.Tensor:
        """Actions [b, agent] at step `t_ep` of episodes `bs`; only their hidden states move on."""
        if self._acting is not None:
            return self._acting.select_actions(ep_batch, t_ep, t_env, bs, test_mode)
        agent_outputs = self.forward(ep_batch, t_ep, bs, test_mode)
        avail_actions = ep_batch["avail_actions"][bs, t_ep].to(self.device)
        return self.action_selector.select_action(agent_outputs, avail_actions, t_env, test_mode)

    def forward(self, ep_batch: EpisodeBatch, t: int, bs: Any = slice(None), test_mode: bool = False) -> th.Tensor:
        """Q-values or action probabilities [b, agent, action] at step `t`; moves the hidden states of `bs` on."""
        if self.hidden_states is None:
            raise RuntimeError("call init_hidden(batch_size) before the first step of an episode")
        inputs = self.build_inputs(ep_batch, bs, slice(t, t + 1)).squeeze(1)
        agent_outputs, hidden_states = self.agent(inputs, self.hidden_states[bs])
        self.hidden_states = replaced(self.hidden_states, bs, hidden_states)
        return self._outputs(agent_outputs, ep_batch["avail_actions"][bs, t], test_mode)

    def unroll(self, ep_batch: EpisodeBatch, test_mode: bool = False) -> th.Tensor:
        """Q-values or action probabilities [b, T, agent, action] of whole episodes; leaves the hidden states alone.

        Padding is not computed: Q-values are zero there.
        """
        inputs = self.pack_inputs(ep_batch)
        agent_outputs, _ = self.unroll_rows(inputs)
        return self._outputs(inputs.steps.unpack(agent_outputs), ep_batch["avail_actions"], test_mode)

    def unroll_rows(self, inputs: PackedInputs) -> tuple[th.Tensor, th.Tensor]:
        """The network's outputs [N, agent, action] and hidden states [N, agent, H] after each filled step."""
        batch_sizes = [count * self.n_agents for count in inputs.steps.batch_sizes]
        agent_outputs, hidden = self.agent.unroll_packed(inputs.rows.flatten(0, 1), batch_sizes)
        return agent_outputs.unflatten(0, (-1, self.n_agents)), hidden.unflatten(0, (-1, self.n_agents))

    def _outputs(self, agent_outputs: th.Tensor, avail_actions: th.Tensor, test_mode: bool) -> th.Tensor:
        """Q-values as they are; logits as a policy that in training keeps a share epsilon of uniform actions."""
        if self.args.agent_output_type == "q":
            return agent_outputs
        masks = self.args.mask_before_softmax
        unavailable = avail_actions.to(self.device) == 0
        if masks:
            agent_outputs = agent_outputs.masked_fill(unavailable, -1e10)
        policy = agent_outputs.softmax(-1)
        if test_mode:
            return policy
        epsilon = self.action_selector.epsilon
        if not masks:
            return (1 - epsilon) * policy + epsilon / self.args.n_actions
        # Padded steps have no available action: any finite count will do there.
        n_available = (~unavailable).sum(-1, keepdim=True).clamp(min=1)
        return ((1 - epsilon) * policy + epsilon / n_available).masked_fill(unavailable, 0.0)

    def start_episodes(self, ep_batch: EpisodeBatch, worlds: np.ndarray) -> None:
        """Gets ready for the first step of the episodes in the mask [batch] bool; the others are over."""
        self.begin(ep_batch.batch_size)

    def begin(self, batch_size: int) -> None:
        """Gets ready to act in `batch_size` episodes."""
        self.init_hidden(batch_size)
        self._acting = self.in_numpy()

    def in_numpy(self) -> NumpyActing | None:
        """What takes the place of `build_inputs`, `forward` and the selection while acting on a CPU."""
        return numpy_acting(self)

    def seats_of(self, world: int) -> tuple[list[int], list[str]]:
        """The seats of those who learn in a world, and the names of their teammates: here all learn together."""
        return list(range(self.args.n_agents)), []

    def init_hidden(self, batch_size: int) -> None:
        """Forgets everything, before the first step of `batch_size` episodes."""
        self._acting = None
        self.hidden_states = self.agent.init_hidden().unsqueeze(0).expand(batch_size, self.n_agents, -1)

    @property
    def learner(self) -> "BasicMAC":
        """The controller that is handed to the learner: this one, as all seats learn."""
        return self

    def learner_batch(self, ep_batch: EpisodeBatch) -> EpisodeBatch:
        """What there is to learn from in a batch of the team's episodes: all of it."""
        return ep_batch

    def learner_folder(self, path: Path) -> Path:
        """Where in the folder of a checkpoint the learner's files are."""
        return path

    def save_frozen(self, path: Path) -> None:
        """Writes what the learner does not save: nothing, as all seats learn."""

    def load_frozen(self, path: Path) -> None:
        """Reads the same."""

    def init_models(self, path: str | Path) -> None:
        """Takes the weights that a run is to start from."""
        self.load_models(path)

    def parameters(self) -> Iterator[th.nn.Parameter]:
        return self.agent.parameters()

    def to(self, device: str | th.device) -> "BasicMAC":
        """Moves the network; hidden states start anew with `init_hidden`."""
        self.device = device
        self.agent.to(device)
        self.hidden_states = self._acting = None
        return self

    def load_state(self, other_mac: "BasicMAC") -> None:
        """Takes over the other controller's weights."""
        self.load_state_dict(other_mac.state_dict())

    def state_dict(self) -> dict[str, Any]:
        return self.agent.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.agent.load_state_dict(state)

    def save_models(self, path: str | Path) -> None:
        """Writes agent.th into the folder `path`."""
        th.save(self.state_dict(), Path(path) / "agent.th")

    def load_models(self, path: str | Path) -> None:
        """Reads agent.th, PyMARL's own included, from the folder `path`."""
        load_into(self, Path(path) / "agent.th", self.device)


def replaced(states: th.Tensor, bs: Any, new: th.Tensor) -> th.Tensor:
    """`states` with the rows `bs` exchanged; the old tensor is left as it was."""
    if isinstance(bs, slice) and bs == slice(None):
        return new
    states = states.clone()
    states[bs] = new
    return states
