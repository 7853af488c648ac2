"""Opponent modelling by subgoal inference (OMG; Yu, Jiang and Lu, NeurIPS 2024): a prior that embeds states as
subgoals, and a posterior that infers from an agent's trajectory which state the others are heading for.

`learners/omg_learner.py` picks the subgoals to learn from; `controllers/om_controller.py` acts on the inferred ones.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
import torch.nn.functional as F
from torch import nn

from modules.am.trajectory_am import NumpyInference, unroll_packed
from utils.inputs import StepInputs, last_actions
from utils.numpy_layers import numpy_gru_cell, numpy_layer
from utils.rl_utils import gaussian_kl
from utils.seats import seat_ids, team
from utils.transfer import Where
from utils.weights import load_into

HIDDEN = 128
FEATURES = 32
TRAJECTORY = HIDDEN - FEATURES


class Gaussian(NamedTuple):
    """Diagonal Gaussians [..., Z]."""

    mu: th.Tensor
    log_var: th.Tensor

    def sample(self) -> th.Tensor:
        """One draw of each; gradients flow into mu and log_var."""
        return self.mu + (0.5 * self.log_var).exp() * th.randn_like(self.mu)

    def rows(self, index: th.Tensor) -> "Gaussian":
        return Gaussian(self.mu[index], self.log_var[index])


class Posterior(NamedTuple):
    """What `OMGAM.encode` gives for every filled step and agent, [N, agent, ...]."""

    subgoal: Gaussian  # q_phi(g | tau_t, o_t)
    trajectory: th.Tensor  # h_t, the encoding of tau_t

    def rows(self, index: th.Tensor) -> "Posterior":
        return Posterior(self.subgoal.rows(index), self.trajectory[index])


def _mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with a LeakyReLU after each."""
    layers: list[nn.Module] = []
    for size_in, size_out in zip(sizes[:-1], sizes[1:]):
        layers += [nn.Linear(size_in, size_out), nn.LeakyReLU()]
    return nn.Sequential(*layers)


class SubgoalPrior(nn.Module):
    """The variational auto-encoder p_psi whose latent space is the space of subgoals."""

    is_trained: th.Tensor

    def __init__(self, input_size: int, subgoal_dim: int):
        super().__init__()
        self.encoder = _mlp(input_size, HIDDEN, HIDDEN)
        self.mu = nn.Linear(HIDDEN, subgoal_dim)
        self.log_var = nn.Linear(HIDDEN, subgoal_dim)
        self.decoder = nn.Sequential(_mlp(subgoal_dim, HIDDEN, HIDDEN), nn.Linear(HIDDEN, input_size))
        self.register_buffer("is_trained", th.tensor(False))

    def _apply(self, fn: Any, recurse: bool = True) -> "SubgoalPrior":
        """Moves all but `is_trained`: the host reads it before every update, and would wait for a GPU."""
        is_trained = self.is_trained
        super()._apply(fn, recurse)
        self.is_trained = is_trained
        return self

    def encode(self, states: th.Tensor) -> Gaussian:
        """p_psi(g | s) of states [..., D]."""
        features = self.encoder(states)
        return Gaussian(self.mu(features), self.log_var(features))

    def decode(self, subgoals: th.Tensor) -> th.Tensor:
        """The states [..., D] that subgoals [..., Z] stand for."""
        return self.decoder(subgoals)


class SubgoalPosterior(nn.Module):
    """The conditional variational auto-encoder q_phi over subgoals, given the encoded trajectory."""

    def __init__(self, input_size: int, subgoal_dim: int):
        super().__init__()
        self.encoder = _mlp(HIDDEN, HIDDEN)
        self.mu = nn.Linear(HIDDEN, subgoal_dim)
        self.log_var = nn.Linear(HIDDEN, subgoal_dim)
        self.decoder = nn.Sequential(_mlp(subgoal_dim + TRAJECTORY, HIDDEN), nn.Linear(HIDDEN, input_size))

    def encode(self, features: th.Tensor, trajectory: th.Tensor) -> Gaussian:
        """q_phi(g | tau_t, o_t) from the features of o_t [..., 32] and h_t [..., 96]."""
        encoded = self.encoder(th.cat([features, trajectory], -1))
        return Gaussian(self.mu(encoded), self.log_var(encoded))

    def in_numpy(self) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """`encode` of the joined rows [N, 128], by NumPy."""
        encoder, mu, log_var = numpy_layer(self.encoder), numpy_layer(self.mu), numpy_layer(self.log_var)

        def encode(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            encoded = encoder(rows)
            return mu(encoded), log_var(encoded)

        return encode

    def decode(self, subgoals: th.Tensor, trajectory: th.Tensor) -> th.Tensor:
        """The observation o_t [..., D] itself: to rebuild its features instead would let them collapse."""
        return self.decoder(th.cat([subgoals, trajectory], -1))


class SubgoalRegressor(nn.Module):
    """The paper's ablation (`omg_supervised`): in place of the CVAE, an MLP that names one subgoal."""

    def __init__(self, subgoal_dim: int):
        super().__init__()
        self.layers = nn.Sequential(_mlp(HIDDEN, HIDDEN), nn.Linear(HIDDEN, subgoal_dim))

    def encode(self, features: th.Tensor, trajectory: th.Tensor) -> Gaussian:
        """A Gaussian without spread, whose every draw is the subgoal inferred from o_t [..., 32] and h_t [..., 96]."""
        mu = self.layers(th.cat([features, trajectory], -1))
        return Gaussian(mu, th.full_like(mu, -th.inf))

    def in_numpy(self) -> Callable[[np.ndarray], tuple[np.ndarray, None]]:
        """The same of the joined rows [N, 128], by NumPy."""
        layers = numpy_layer(self.layers)
        return lambda rows: (layers(rows), None)


class OMGAM(nn.Module):
    """The subgoal prior (`vae`), and the posterior: `fc` reads o_t, `cond_rnn` the trajectory before it, `cvae` (or
    `regressor`, if `omg_supervised`) infers.

    o_t is an agent's observation, or with `obs_is_state` the state, which then has to be seen while acting, too.
    `omg_prior_path` gives the prior alone; it counts as trained where it was.

    Raises:
        UserError: there is no prior, or it does not fit.
    """

    def __init__(self, scheme: dict, args: Any):
        super().__init__()
        self.args = args
        self.input_size = args.state_shape if args.obs_is_state else args.obs_shape
        self.output_size = args.omg_subgoal_dim
        seen_actions = 1 + args.n_agents * args.omg_opponent_actions
        self.vae = SubgoalPrior(self.input_size, args.omg_subgoal_dim)
        self.fc = nn.Linear(self.input_size, FEATURES)
        self.cond_rnn = nn.GRUCell(self.input_size + seen_actions * args.n_actions + args.n_agents, TRAJECTORY)
        if args.omg_supervised:
            self.regressor = SubgoalRegressor(args.omg_subgoal_dim)
        else:
            self.cvae = SubgoalPosterior(self.input_size, args.omg_subgoal_dim)
        if args.omg_prior_path:
            load_into(self.vae, Path(args.omg_prior_path) / "vae.th", args.device)

    def observations(self, ep_batch: Any, bs: Any = slice(None), ts: slice = slice(None)) -> th.Tensor:
        """What subgoals stand for, o_t [b, T, agent, D], of episodes `bs` and steps `ts`."""
        if self.args.obs_is_state:
            states = ep_batch["state"][bs, ts].to(self.args.device)
            return states.unsqueeze(2).expand(-1, -1, ep_batch["obs"].shape[2], -1)
        return ep_batch["obs"][bs, ts].to(self.args.device)

    def init_hidden(self, batch_size: int, n_agents: int) -> th.Tensor:
        """Zeros [batch, agent, 96]."""
        return self.fc.weight.new_zeros(batch_size, n_agents, TRAJECTORY)

    def infer(
        self, ep_batch: Any, t: int, hidden_state: th.Tensor, bs: Any = slice(None), test_mode: bool = False
    ) -> tuple[th.Tensor, th.Tensor]:
        """Inferred subgoals [b, agent, Z] at step t, drawn, or their means when testing; and the next hidden state."""
        inputs = self._trajectory_inputs(ep_batch, bs, slice(t, t + 1))
        trajectory = self.cond_rnn(inputs.flatten(0, 2), hidden_state.flatten(0, 1)).view_as(hidden_state)
        observations = self.observations(ep_batch, bs, slice(t, t + 1)).squeeze(1)
        subgoal = self._infer(observations, trajectory)
        return subgoal.mu if test_mode else subgoal.sample(), trajectory

    def in_numpy(self) -> NumpyInference:
        """`infer` on what is seen at one step, rows [N, ...], with the present weights, on the CPU."""
        fc, cond_rnn, inference = numpy_layer(self.fc), numpy_gru_cell(self.cond_rnn), self._inference.in_numpy()

        def infer(seen: StepInputs, hidden_state: np.ndarray, test_mode: bool) -> tuple[np.ndarray, np.ndarray]:
            last, now = (seen.last_state, seen.state) if self.args.obs_is_state else (seen.last_obs, seen.obs)
            of_team = [seen.team_last_actions] if self.args.omg_opponent_actions else []
            inputs = np.concatenate([last, seen.last_actions, *of_team, seen.ids], -1)
            trajectory = cond_rnn(inputs, hidden_state)
            mu, log_var = inference(np.concatenate([fc(now), trajectory], -1))
            if test_mode or log_var is None:
                return mu, trajectory
            return mu + np.exp(0.5 * log_var) * th.randn(mu.shape).numpy(), trajectory

        return infer

    def unroll(self, ep_batch: Any, steps: Any) -> th.Tensor:
        """What a tested policy reads in the filled `PackedSteps` of whole episodes: the means [N, agent, Z]."""
        return self.encode(ep_batch, steps).subgoal.mu

    def encode(self, ep_batch: Any, steps: Any) -> Posterior:
        """The posterior in the filled `PackedSteps` of whole episodes."""
        inputs = steps.pack(self._trajectory_inputs(ep_batch))
        start = self.init_hidden(steps.batch_sizes[0], inputs.shape[1])
        trajectory = unroll_packed(inputs, start, self.cond_rnn, steps)
        return Posterior(self._infer(steps.pack(self.observations(ep_batch)), trajectory), trajectory)

    def prior_loss(self, states: th.Tensor) -> th.Tensor:
        """MSE(s, decode(z)) + omg_vae_alpha KL(p_psi(z | s) || N(0, I)), averaged over states [rows, D]."""
        posterior = self.vae.encode(states)
        reconstruction = F.mse_loss(self.vae.decode(posterior.sample()), states)
        zeros = th.zeros_like(posterior.mu)
        return reconstruction + self.args.omg_vae_alpha * gaussian_kl(*posterior, zeros, zeros).mean()

    def loss(
        self, ep_batch: Any, encoded_t: Posterior, played: Where, subgoals_t: th.Tensor, chosen_t: Gaussian
    ) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        """The loss, and what to log, over the `played` steps, from their posterior (equation 5).

        MSE(o_t, decode(g, h_t)) + omg_cvae_alpha KL(q_phi || p_psi), means over rows [N, agent, ...]. subgoals_t: draws
        of the posterior; chosen_t: the prior at the subgoals picked in hindsight, which the posterior is pulled
        towards. With `omg_supervised` the MSE between the inferred and the picked subgoals.
        """
        if self.args.omg_supervised:
            loss = F.mse_loss(encoded_t.subgoal.mu, chosen_t.mu)
            return loss, {"omg_regression_loss": loss}
        observations_t = self.observations(ep_batch)[played]
        reconstruction = F.mse_loss(self.cvae.decode(subgoals_t, encoded_t.trajectory), observations_t)
        kl = gaussian_kl(*encoded_t.subgoal, *chosen_t).mean()
        return reconstruction + self.args.omg_cvae_alpha * kl, {"omg_recon_loss": reconstruction, "omg_kl": kl}

    def posterior_parameters(self) -> list[nn.Parameter]:
        """All but the prior's."""
        return [*self.fc.parameters(), *self.cond_rnn.parameters(), *self._inference.parameters()]

    def save_models(self, path: str | Path) -> None:
        """Writes vae.th, cvae.th (or regressor.th), cond_rnn.th and fc.th into the folder `path`."""
        for name, module in self.named_children():
            th.save(module.state_dict(), Path(path) / f"{name}.th")

    def load_models(self, path: str | Path) -> None:
        """Reads the same files from the folder `path`."""
        for name, module in self.named_children():
            load_into(module, Path(path) / f"{name}.th", self.args.device)

    @property
    def _inference(self) -> SubgoalPosterior | SubgoalRegressor:
        return self.regressor if self.args.omg_supervised else self.cvae

    def _infer(self, observations: th.Tensor, trajectory: th.Tensor) -> Gaussian:
        """q_phi(g | tau_t, o_t) from o_t [..., D] and h_t [..., 96]."""
        return self._inference.encode(self.fc(observations), trajectory)

    def _trajectory_inputs(self, ep_batch: Any, bs: Any = slice(None), ts: slice = slice(None)) -> th.Tensor:
        """(o_{t-1}, last action, agent id), zeros but for the id at step 0: [b, T, agent, in]."""
        start, stop, _ = ts.indices(ep_batch.max_seq_length)
        before = self.observations(ep_batch, bs, slice(max(start - 1, 0), stop - 1))
        observations = before if start else F.pad(before, (0, 0, 0, 0, 1, 0))
        parts = [observations, last_actions(ep_batch["actions"], self.args.n_actions, self.args.device, bs, ts)]
        if self.args.omg_opponent_actions:
            of_team = last_actions(team(ep_batch, "actions"), self.args.n_actions, self.args.device, bs, ts)
            parts.append(of_team.flatten(2).unsqueeze(2).expand(-1, -1, observations.shape[2], -1))
        ids = seat_ids(ep_batch, self.args.n_agents, observations.device, bs)
        return th.cat([*parts, ids.expand(*observations.shape[:2], -1, -1)], -1)
