"""The controller whose agents share one network: a policy for as many agents as a batch has.

Networks come from `modules/agents`, the choice of actions from `components/action_selectors.py`; who plays in which
seat of a team is the business of `controllers/team.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch as th

from components.action_selectors import REGISTRY as ACTION_SELECTORS
from components.episode_buffer import ALL, EpisodeBatch, Episodes, Scheme
from components.pieces import ACTIONS_BEFORE, HIDDEN_BEFORE
from modules.agents import REGISTRY as AGENTS
from modules.initial import orthogonal_
from modules.inputs import agent_ids, last_actions
from modules.network import Network, Outputs
from modules.unroll import Step, acting_step, step, unroll, unroll_with_hidden
from utils.config import WIDE, key
from utils.dict2namedtuple import Args
from utils.weights import StateDict, load_into


class BasicMAC:
    """One agent network for all agents; the agent's id among its inputs tells them apart.

    Another input is a change of `build_inputs` and `input_size`, another network an entry of `modules/agents`.

    The batch may be on another device than the network: inputs are moved to `args.device`.
    """

    @dataclass(frozen=True)
    class Keys:
        agent: str = key("rnn", "the agents' network", names="modules.agents:REGISTRY")
        rnn_hidden_dim: int = key(64, "size of the network's hidden state", "units", low=1, high=WIDE)
        obs_agent_id: bool = key(True, "append the agent's one-hot id to its observation")
        obs_last_action: bool = key(True, "append the agent's one-hot last action to its observation")
        agent_output_type: str = key("q", "outputs: action values, or a policy's logits", choices=("q", "pi_logits"))
        orthogonal_init: bool = key(False, "networks start with orthogonal weights, and a critic's do, too")
        action_selector: str = key("epsilon_greedy", "exploration", names="components.action_selectors:REGISTRY")

    generator: th.Generator | None = None
    """Where random numbers of acting come from, in main memory; None: torch's default generator."""

    def __init__(self, scheme: Scheme, groups: dict[str, int], args: Args):
        if args.agent_output_type not in ("q", "pi_logits"):
            raise ValueError(f"agent_output_type is 'q' or 'pi_logits', not {args.agent_output_type!r}")
        self.args = args
        self.n_agents = groups["agents"]  # in a batch: all of the team, or one where single seats are cut out
        self.device = args.device
        self.agent: Network = AGENTS[args.agent](self.input_size(scheme), args).to(self.device)
        if args.orthogonal_init:
            orthogonal_(self.agent, head_gain=0.01)
        self.action_selector = ACTION_SELECTORS[args.action_selector](args)
        self.hidden_states: th.Tensor | None = None  # [batch, agent, H]

    @classmethod
    def fields(cls, args: Args) -> Scheme:
        """Returns the fields that `select_actions` writes into the batch besides actions, as entries of its scheme.

        `ep_batch.update({name: value}, bs=bs, ts=t_ep)` writes one. Learners find them in their batches.
        """
        return {}

    def input_size(self, scheme: Scheme) -> int:
        """Returns the width of the network's inputs."""
        (size,) = scheme["obs"]["vshape"] if isinstance(scheme["obs"]["vshape"], tuple) else (scheme["obs"]["vshape"],)
        if self.args.obs_last_action:
            size += self.args.n_actions
        if self.args.obs_agent_id:
            size += self.args.n_agents
        return size

    def build_inputs(self, ep_batch: EpisodeBatch, bs: Episodes = ALL, ts: slice = ALL) -> th.Tensor:
        """Returns observation, last action (zeros at step 0) and agent id of episodes `bs`, steps `ts`: [b, T, a, in].

        Acting calls it for one step at a time, learning for all steps at once.
        """
        obs = ep_batch["obs"][bs, ts].to(self.device)
        parts = [obs]
        if self.args.obs_last_action:
            parts.append(self.last_actions(ep_batch, bs, ts))
        if self.args.obs_agent_id:
            ids = agent_ids(ep_batch, self.args.n_agents, self.device, bs)
            parts.append(ids.expand(*obs.shape[:-1], -1))
        return th.cat(parts, dim=-1)

    def last_actions(self, ep_batch: EpisodeBatch, bs: Episodes = ALL, ts: slice = ALL) -> th.Tensor:
        """Returns the one-hot actions before each step [b, T, a, u]: zeros, or of pieces ACTIONS_BEFORE, at step 0."""
        actions = last_actions(ep_batch["actions"], self.args.n_actions, self.device, bs, ts)
        if ACTIONS_BEFORE in ep_batch.scheme and not ts.indices(ep_batch.max_seq_length)[0]:
            actions[:, 0] = ep_batch[ACTIONS_BEFORE][bs].to(self.device)
        return actions

    @th.no_grad()
    def select_actions(
        self, ep_batch: EpisodeBatch, t_ep: int, t_env: int, bs: Episodes = ALL, test_mode: bool = False
    ) -> th.Tensor:
        """Returns actions [b, agent] at step `t_ep` of episodes `bs` and advances their hidden states."""
        agent_outputs = self.forward(ep_batch, t_ep, bs, test_mode)
        self.action_selector.worlds = self._worlds[bs]
        return self.action_selector.select_action(agent_outputs, ep_batch["avail_actions"][bs, t_ep], t_env, test_mode)

    def forward(self, ep_batch: EpisodeBatch, t: int, bs: Episodes = ALL, test_mode: bool = False) -> th.Tensor:
        """Returns Q-values or action probabilities [b, agent, action] at step `t`; advances hidden states of `bs`."""
        if self.hidden_states is None:
            raise RuntimeError("call init_hidden(batch_size) before the first step of an episode")
        inputs = self.step_inputs(ep_batch, t, bs, test_mode)
        agent_outputs, hidden_states = self._step_of(self.agent)(inputs, self.hidden_states[bs])
        self.hidden_states = with_rows(self.hidden_states, bs, hidden_states)
        if self.args.agent_output_type == "q":
            return agent_outputs
        return self._policy(agent_outputs, ep_batch["avail_actions"][bs, t], test_mode)

    def step_inputs(self, ep_batch: EpisodeBatch, t: int, bs: Episodes, test_mode: bool) -> th.Tensor:
        """Returns the network's inputs at step `t` of episodes `bs` when acting, [b, agent, in]."""
        return self.build_inputs(ep_batch, bs, slice(t, t + 1)).squeeze(1)

    def unroll(self, ep_batch: EpisodeBatch, test_mode: bool = False) -> th.Tensor:
        """Returns Q-values or action probabilities [b, T, agent, action] of whole episodes, from a first hidden state,
        or of pieces (components/pieces.py), from theirs.

        Q-values of steps that are not filled are zeros.
        """
        outputs = unroll(self.agent, self.packed_inputs(ep_batch), ep_batch.steps(self.device), hidden_before(ep_batch))
        if self.args.agent_output_type == "q":
            return outputs
        return self._policy(outputs, ep_batch["avail_actions"], test_mode)

    def unroll_with_hidden(self, ep_batch: EpisodeBatch) -> Outputs:
        """Returns the network's outputs [b, T, agent, action] and hidden states [b, T, agent, H] after each step."""
        steps = ep_batch.steps(self.device)
        return unroll_with_hidden(self.agent, self.packed_inputs(ep_batch), steps, hidden_before(ep_batch))

    def packed_inputs(self, ep_batch: EpisodeBatch) -> th.Tensor:
        """Returns the network's inputs [N, agent, in] in the filled steps of whole episodes.

        Live and target policy share those of `build_inputs`, which depend on the batch alone.
        """
        steps = ep_batch.steps(self.device)
        if type(self).build_inputs is not BasicMAC.build_inputs:
            return steps.pack(self.build_inputs(ep_batch))
        key = ("inputs", self.device, self.args.obs_last_action, self.args.obs_agent_id)
        return ep_batch.cached(key, ("obs", "actions", "filled"), lambda: steps.pack(self.build_inputs(ep_batch)))

    def _policy(self, logits: th.Tensor, avail_actions: th.Tensor, test_mode: bool) -> th.Tensor:
        """Returns the policy [..., action] of logits; in training a share epsilon of it is uniform."""
        masks = self.args.mask_before_softmax
        unavailable = avail_actions.to(self.device) == 0
        if masks:
            logits = logits.masked_fill(unavailable, -1e10)
        policy = logits.softmax(-1)
        if test_mode:
            return policy
        epsilon = self.action_selector.epsilon
        if not masks:
            return (1 - epsilon) * policy + epsilon / self.args.n_actions
        # Padded steps have no available action: any finite count will do there.
        n_available = (~unavailable).sum(-1, keepdim=True).clamp(min=1)
        return ((1 - epsilon) * policy + epsilon / n_available).masked_fill(unavailable, 0.0)

    def use_generator(self, generator: th.Generator) -> None:
        """Sets the generator, in main memory, of random numbers when acting."""
        self.generator = self.action_selector.generator = generator

    def init_hidden(self, batch_size: int) -> None:
        """Resets the hidden states for `batch_size` episodes, in which the networks act with their present weights.

        Steps with gradients always compute with the weights of the moment.
        """
        self.hidden_states = self._first_hidden(self.agent, batch_size)
        self._worlds = np.linspace(0, 1, batch_size)
        self._acting_steps: dict[Network, Step] = {}

    def restart(self, rows: np.ndarray) -> None:
        """Resets the hidden states of these episodes alone, which begin anew."""
        assert self.hidden_states is not None, "call init_hidden first"
        self.hidden_states = with_rows(self.hidden_states, rows, self._first_hidden(self.agent, len(rows)))

    def renew(self) -> None:
        """Has the networks act with their present weights; hidden states go on."""
        self._acting_steps = {}

    def _first_hidden(self, network: Network, batch_size: int) -> th.Tensor:
        return network.init_hidden().unsqueeze(0).expand(batch_size, self.n_agents, -1)

    def _step_of(self, network: Network) -> Step:
        """Returns a function that computes one step of the network: `acting_step` if no gradients are recorded."""
        if th.is_grad_enabled():
            return lambda inputs, hidden: step(network, inputs, hidden)
        if network not in self._acting_steps:
            self._acting_steps[network] = acting_step(network)
        return self._acting_steps[network]

    def networks(self) -> dict[str, Network]:
        """Returns all networks of the policy, by name."""
        return {"agent": self.agent}

    def parameters(self) -> Iterator[th.nn.Parameter]:
        """Returns the parameters that the loss of the policy trains."""
        return self.agent.parameters()

    def to(self, device: str | th.device) -> "BasicMAC":
        """Moves the networks; hidden states start anew with `init_hidden`."""
        self.device = device
        for network in self.networks().values():
            network.to(device)
        self.hidden_states = None
        return self

    def load_state(self, other_mac: "BasicMAC") -> None:
        """Copies the other controller's weights."""
        self.load_state_dict(other_mac.state_dict())

    def state_dict(self) -> StateDict:
        return self.agent.state_dict()

    def load_state_dict(self, state: StateDict) -> None:
        self.agent.load_state_dict(state)

    def save_models(self, path: str | Path) -> None:
        """Writes agent.th into the folder `path`."""
        th.save(self.agent.state_dict(), Path(path) / "agent.th")

    def load_models(self, path: str | Path) -> None:
        """Reads agent.th, PyMARL's own included, from the folder `path`."""
        load_into(self.agent, Path(path) / "agent.th", self.device)


def hidden_before(ep_batch: EpisodeBatch) -> th.Tensor | None:
    """Returns the hidden states [b, agent, H] that pieces of episodes begin with; nothing of whole episodes."""
    return ep_batch[HIDDEN_BEFORE] if HIDDEN_BEFORE in ep_batch.scheme else None


def with_rows(states: th.Tensor, bs: Episodes, new: th.Tensor) -> th.Tensor:
    """Returns `states` with the rows `bs` exchanged; the old tensor is left as it was."""
    if isinstance(bs, slice) and bs == ALL:
        return new
    states = states.clone()
    states[bs] = new
    return states
