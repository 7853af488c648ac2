"""The controller whose agents act on an agent model: Q(o_t, g_t, .), where the model infers g_t from the trajectory.

The plain controller is `basic_controller.py`; the models are in `modules/am`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch as th

from components.episode_buffer import EpisodeBatch, Episodes, Scheme
from components.seats import rows_per_episode
from controllers.basic_controller import BasicMAC, hidden_before, with_rows
from modules.am import REGISTRY as AGENT_MODELS
from modules.am.agent_model import FEATURES, AgentModel
from modules.inputs import living
from modules.network import Network, Outputs
from modules.unroll import step_candidates, step_from, unroll_with_hidden
from utils.config import K, key
from utils.dict2namedtuple import Args, Config
from utils.weights import StateDict

IN_TESTS: dict[str, Callable[[th.Tensor, int], th.Tensor]] = {
    "own": lambda features, n_rows: features,
    "zeros": lambda features, n_rows: th.zeros_like(features),
    "exchanged": lambda features, n_rows: features.roll(n_rows, 0),
}
"""What the policy reads in tests in place of features [row, agent, ...], `n_rows` of an episode, to see their worth.

Exchanged ones are those of another episode that is played at the same time; the last one that goes on keeps its own.
"""


class MultiModuleMAC(BasicMAC):
    """One agent model, shared by all agents, and their policy; what the model infers is an input of the policy."""

    @dataclass(frozen=True)
    class Keys(BasicMAC.Keys):
        am_model: str = key("", "the opponent model", names="modules.am:REGISTRY")
        am_lr: float = key(0.001, "Adam's learning rate for the opponent model", above=0, high=K)
        am_in_tests: str = key("own", "the model's features that the policy reads in tests", choices=tuple(IN_TESTS))
        policy_model: str | None = key(None, "the policy's network; null: agent's", names="modules.agents:REGISTRY")

    @staticmethod
    def conflict(config: Config, kinds: Mapping[str, type]) -> str:
        if not config["am_model"]:
            return (
                f"mac={config['mac']} needs an agent model; give am_model, or take an algorithm that has one, such as "
                "--config=iql_omg"
            )
        if config["am_in_tests"] == "exchanged" and config["batch_size_run"] == 1:
            return "am_in_tests=exchanged reads features of another episode: play several at once, raise batch_size_run"
        return ""

    def __init__(self, scheme: Scheme, groups: dict[str, int], args: Args):
        self.am: AgentModel = AGENT_MODELS[args.am_model](scheme, args).to(args.device)
        super().__init__(scheme, groups, args)
        self.am_hidden_states: th.Tensor | None = None  # [batch, agent, ...]

    def input_size(self, scheme: Scheme) -> int:
        return super().input_size(scheme) + self.am.output_size

    def step_inputs(self, ep_batch: EpisodeBatch, t: int, bs: Episodes, test_mode: bool) -> th.Tensor:
        """Returns the inputs of `BasicMAC` and the model's features; advances the model's hidden states of `bs`."""
        assert self.am_hidden_states is not None, "init_hidden makes both kinds of hidden states"
        am_inputs = self.am.build_inputs(ep_batch, bs, slice(t, t + 1)).squeeze(1)
        inferred, am_hidden_states = self._step_of(self.am)(am_inputs, self.am_hidden_states[bs])
        self.am_hidden_states = with_rows(self.am_hidden_states, bs, am_hidden_states)
        features = self.am.features(inferred, self.am.draws(test_mode), self.generator)
        if test_mode:
            features = IN_TESTS[self.args.am_in_tests](features, rows_per_episode(self.args))
        return th.cat([super().step_inputs(ep_batch, t, bs, test_mode), features], -1)

    def infer(self, ep_batch: EpisodeBatch) -> Outputs:
        """Returns the model's outputs and hidden states, [b, T, agent, ...] each, after each step of whole episodes.

        Those of the dead are zeros.
        """
        steps = living(ep_batch, self.device)
        return unroll_with_hidden(self.am, steps.pack(self.am.build_inputs(ep_batch)), steps)

    def packed_inputs(self, ep_batch: EpisodeBatch, features: th.Tensor | None = None) -> th.Tensor:
        """Returns the policy's inputs [N, agent, in] in the filled steps of whole episodes, on given features.

        Without `features` [b, T, agent, ...] on those of the batch (FEATURES), or else on those that the model infers
        without chance; no gradient reaches it.
        """
        if features is None and FEATURES in ep_batch.scheme:
            features = ep_batch[FEATURES]
        if features is None:
            with th.no_grad():
                features = self.am.features(self.infer(ep_batch)[0])
        return th.cat([super().packed_inputs(ep_batch), ep_batch.steps(self.device).pack(features)], -1)

    def unroll_with_hidden(self, ep_batch: EpisodeBatch, features: th.Tensor | None = None) -> Outputs:
        """Returns Q-values [b, T, agent, action] and hidden states [b, T, agent, H] after each step, given features."""
        rows, steps = self.packed_inputs(ep_batch, features), ep_batch.steps(self.device)
        return unroll_with_hidden(self.agent, rows, steps, hidden_before(ep_batch))

    def step_from(
        self, ep_batch: EpisodeBatch, features: th.Tensor, hidden_states: th.Tensor, start: int = 0
    ) -> th.Tensor:
        """Returns Q(o_t, g, .) [b, T - start, agent, action] of one step at each t from `start` on.

        Both the features g and the hidden states [b, T - start, agent, ...] before the step are given.
        """
        steps = ep_batch.steps(self.device, start)
        observed = super().packed_inputs(ep_batch)[-len(steps) :]  # step after step: the first rows are those before
        return step_from(self.agent, th.cat([observed, steps.pack(features)], -1), hidden_states, steps)

    def step_candidates(
        self, ep_batch: EpisodeBatch, features: th.Tensor, ahead: th.Tensor, hidden_states: th.Tensor
    ) -> th.Tensor:
        """Returns Q-values [N, K, action] of one step, on the features of each of the steps `ahead` [b, T, K].

        The N rows are the steps of living agents, as `living` packs them.
        """
        seats = living(ep_batch, self.device)
        return step_candidates(self.agent, self.build_inputs(ep_batch), features, ahead, hidden_states, seats)

    def init_hidden(self, batch_size: int) -> None:
        super().init_hidden(batch_size)
        self.am_hidden_states = self._first_hidden(self.am, batch_size)

    def restart(self, rows: np.ndarray) -> None:
        assert self.am_hidden_states is not None, "init_hidden makes both kinds of hidden states"
        super().restart(rows)
        self.am_hidden_states = with_rows(self.am_hidden_states, rows, self._first_hidden(self.am, len(rows)))

    def networks(self) -> dict[str, Network]:
        return {"agent": self.agent, "am": self.am}

    def state_dict(self) -> StateDict:
        return {name: network.state_dict() for name, network in self.networks().items()}

    def load_state_dict(self, state: StateDict) -> None:
        for name, network in self.networks().items():
            network.load_state_dict(state[name])

    def save_models(self, path: str | Path) -> None:
        """Writes agent.th and the model's own files into the folder `path`."""
        super().save_models(path)
        self.am.save_models(path)

    def load_models(self, path: str | Path) -> None:
        """Reads agent.th and the model's own files from the folder `path`."""
        super().load_models(path)
        self.am.load_models(path)
