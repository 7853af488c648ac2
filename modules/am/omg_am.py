"""Opponent modelling by subgoal inference (OMG; Yu, Jiang and Lu, NeurIPS 2024): a prior that embeds states as
subgoals, and a posterior that infers from an agent's trajectory which state the others are heading for.

`learners/omg_learner.py` picks the subgoals to learn from; `controllers/om_controller.py` acts on the inferred ones.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch as th
import torch.nn.functional as F
from torch import nn

from components.episode_buffer import ALL, EpisodeBatch, Episodes, Scheme
from modules.am.agent_model import AgentModel, Loss, check_others
from modules.inputs import agent_ids, last_actions
from modules.network import Outputs
from utils.checkpoints import warn_of_other_world
from utils.config import STEPS, WIDE, K, M, T, key
from utils.dict2namedtuple import Args, Config
from utils.errors import UserError
from utils.rl_utils import gaussian_kl
from utils.weights import load_into

HIDDEN = 128
FEATURES = 32
TRAJECTORY = HIDDEN - FEATURES


class Gaussian(NamedTuple):
    """Diagonal Gaussians [..., Z]."""

    mu: th.Tensor
    log_var: th.Tensor

    @staticmethod
    def of(outputs: th.Tensor) -> "Gaussian":
        """Returns the Gaussians of joined means and log-variances [..., 2 Z]."""
        return Gaussian(*outputs.chunk(2, -1))

    def sample(self, generator: th.Generator | None = None) -> th.Tensor:
        """Returns one draw of each; gradients flow into mu and log_var."""
        device = self.mu.device if generator is None else generator.device
        noise = th.randn(self.mu.shape, generator=generator, device=device)
        return self.mu + (0.5 * self.log_var).exp() * noise.to(self.mu.device)

    def at(self, index: tuple[th.Tensor, ...]) -> "Gaussian":
        """Returns those at indices of episodes, steps (and agents)."""
        return Gaussian(self.mu[index], self.log_var[index])


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

    def _apply(self, fn: Callable[[th.Tensor], th.Tensor], recurse: bool = True) -> "SubgoalPrior":
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
        """Returns the states [..., D] that subgoals [..., Z] stand for."""
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

    def decode(self, subgoals: th.Tensor, trajectory: th.Tensor) -> th.Tensor:
        """Returns the observation o_t [..., D] itself: to rebuild its features instead would let them collapse."""
        return self.decoder(th.cat([subgoals, trajectory], -1))


class SubgoalRegressor(nn.Module):
    """The paper's ablation (`omg_supervised`): in place of the CVAE, an MLP that names one subgoal."""

    def __init__(self, subgoal_dim: int):
        super().__init__()
        self.layers = nn.Sequential(_mlp(HIDDEN, HIDDEN), nn.Linear(HIDDEN, subgoal_dim))

    def encode(self, features: th.Tensor, trajectory: th.Tensor) -> Gaussian:
        """Returns a Gaussian without spread at the subgoal inferred from o_t [..., 32] and h_t [..., 96]."""
        mu = self.layers(th.cat([features, trajectory], -1))
        return Gaussian(mu, th.full_like(mu, -th.inf))


class OMGAM(AgentModel):
    """The subgoal prior (`vae`), and the posterior: `fc` reads o_t, `cond_rnn` the trajectory before it, `cvae` (or
    `regressor`, if `omg_supervised`) infers.

    o_t is an agent's observation, or with `obs_is_state` the state, which then has to be seen while acting, too.
    `omg_prior_path` is the folder of the prior alone, which counts as trained if it was. Each part has its file.

    Raises: UserError where there is no prior, or it does not fit, or there are no others.
    """

    @dataclass(frozen=True)
    class Keys:
        obs_is_state: bool = key(False, "the opponent model reads the state in place of the observation")
        omg_subgoal_dim: int = key(64, "size of a subgoal", "units", low=1, high=WIDE)
        omg_vae_alpha: float = key(0.001, "weight of the KL term in the prior's loss", low=0, high=M)
        omg_cvae_alpha: float = key(0.001, "weight of the KL term in the posterior's loss", low=0, high=M)
        omg_opponent_actions: bool = key(False, "the posterior also reads the teammates' last actions")
        omg_kl_reduction: str = key("sum", "of the KL terms, over dimensions", choices=("sum", "mean"))
        omg_policy_reads: str = key("mean", "the posterior's", choices=("mean", "draw", "draw_in_training"))
        omg_supervised: bool = key(False, "a regression of the picked subgoal replaces the posterior (an ablation)")
        omg_prior_path: Path = key("", "folder of a prior that learner=am_learner trained; empty: train one")
        omg_vae_batches: int = key(8, "of the prior per training call", "gradient steps", low=1, high=M)
        omg_vae_pretrain_steps: int = key(
            10000, "from the first update on the prior alone is trained, then it is frozen", STEPS, low=0, high=T
        )
        omg_horizon: int = key(5, "candidate subgoals lie up to this far ahead", STEPS, low=1, high=K)
        omg_value: str = key("mean", "a candidate's value over the available actions", choices=("mean", "max"))
        subgoal_mode: bool | int | str = key(
            "optimistic",
            "candidate that is picked: optimistic or True, conservative or False, random, or so many steps ahead",
            STEPS,
            low=1,
            high=K,
            choices=("optimistic", "conservative", "random"),
        )
        eta: float = key(0.5, "chance, at the start, of training on the picked subgoal", low=0, high=1)
        eta_anneal_time: int = key(50000, "from eta down to 0", STEPS, low=1, high=T)
        eta_steps: str = key("environment", "which eta_anneal_time counts", choices=("environment", "learner"))

    @staticmethod
    def conflict(config: Config, kinds: Mapping[str, type]) -> str:
        ahead, horizon = config["subgoal_mode"], config["omg_horizon"]
        if type(ahead) is int and ahead > horizon:
            return f"subgoal_mode={ahead} lies beyond omg_horizon={horizon}; raise one or lower the other"
        return ""

    def __init__(self, scheme: Scheme, args: Args):
        super().__init__()
        check_others(args)
        if args.omg_horizon > args.episode_limit:
            raise UserError(
                f"omg_horizon={args.omg_horizon} looks beyond an episode, which has at most {args.episode_limit} "
                "steps; give no more than these"
            )
        self.args = args
        self.is_supervised = args.omg_supervised
        self.input_size = args.state_shape if args.obs_is_state else args.obs_shape
        self.output_size = args.omg_subgoal_dim
        seen_actions = 1 + args.n_agents * args.omg_opponent_actions
        self.vae = SubgoalPrior(self.input_size, args.omg_subgoal_dim)
        self.fc = nn.Linear(self.input_size, FEATURES)
        self.cond_rnn = nn.GRUCell(self.input_size + seen_actions * args.n_actions + args.n_agents, TRAJECTORY)
        if self.is_supervised:
            self.regressor = SubgoalRegressor(args.omg_subgoal_dim)
        else:
            self.cvae = SubgoalPosterior(self.input_size, args.omg_subgoal_dim)
        if args.omg_prior_path:
            warn_of_other_world(Path(args.omg_prior_path), args)
            load_into(self.vae, Path(args.omg_prior_path) / "vae.th", args.device)

    def observations(self, batch: EpisodeBatch, bs: Episodes = ALL, ts: slice = ALL) -> th.Tensor:
        """Returns what subgoals stand for, o_t [b, T, agent, D], of episodes `bs` and steps `ts`."""
        if self.args.obs_is_state:
            states = batch["state"][bs, ts].to(self.args.device)
            return states.unsqueeze(2).expand(-1, -1, batch["seat"].shape[1], -1)
        return batch["obs"][bs, ts].to(self.args.device)

    def init_hidden(self) -> th.Tensor:
        """Returns zeros [1, 96]."""
        return self.fc.weight.new_zeros(1, TRAJECTORY)

    def build_inputs(self, batch: EpisodeBatch, bs: Episodes = ALL, ts: slice = ALL) -> th.Tensor:
        """Returns (o_t, o_{t-1}, last action, agent id) of episodes `bs` and steps `ts`: [b, T, agent, in].

        o_{t-1} and the last action are zeros at step 0. With `omg_opponent_actions` the team's last actions follow
        one's own.
        """
        start, stop, _ = ts.indices(batch.max_seq_length)
        seen = self.observations(batch, bs, slice(max(start - 1, 0), stop))
        before, now = (seen[:, :-1], seen[:, 1:]) if start else (F.pad(seen[:, :-1], (0, 0, 0, 0, 1, 0)), seen)
        n_actions, device = self.args.n_actions, self.args.device
        parts = [now, before, last_actions(batch["actions"], n_actions, device, bs, ts)]
        if self.args.omg_opponent_actions:
            of_team = last_actions(batch["team_actions"], n_actions, device, bs, ts)
            parts.append(of_team.flatten(2).unsqueeze(2).expand(-1, -1, now.shape[2], -1))
        ids = agent_ids(batch, self.args.n_agents, device, bs)
        return th.cat([*parts, ids.expand(*now.shape[:2], -1, -1)], -1)

    def forward(self, inputs: th.Tensor, hidden: th.Tensor) -> Outputs:
        """Computes one step: inputs [rows, in], hidden states [rows, 96] to `infer`'s outputs and next states."""
        now, before = inputs.tensor_split([self.input_size], -1)
        trajectory = self.cond_rnn(before, hidden)
        return self.infer(now, trajectory), trajectory

    def infer(self, observations: th.Tensor, trajectory: th.Tensor) -> th.Tensor:
        """Returns mean and log-variance of q_phi(g | tau_t, o_t), [..., 2 Z], from o_t [..., D] and h_t [..., 96]."""
        inference = self.regressor if self.is_supervised else self.cvae
        return th.cat(inference.encode(self.fc(observations), trajectory), -1)

    def draws(self, test_mode: bool = False) -> bool:
        """Returns whether the policy reads draws; never of a model in eval mode, such as a frozen teammate's."""
        in_tests = self.args.omg_policy_reads == "draw"
        return self.training and (in_tests or (self.args.omg_policy_reads == "draw_in_training" and not test_mode))

    def features(self, outputs: th.Tensor, is_drawn: bool = False, generator: th.Generator | None = None) -> th.Tensor:
        """Returns the subgoals [..., Z] that the policy reads: draws of the posterior, or its means."""
        subgoal = Gaussian.of(outputs)
        return subgoal.sample(generator) if is_drawn else subgoal.mu

    def prior_loss(self, states: th.Tensor, generator: th.Generator | None = None) -> th.Tensor:
        """MSE(s, decode(z)) + omg_vae_alpha KL(p_psi(z | s) || N(0, I)), averaged over states [rows, D]."""
        posterior = self.vae.encode(states)
        reconstruction = F.mse_loss(self.vae.decode(posterior.sample(generator)), states)
        zeros = th.zeros_like(posterior.mu)
        return reconstruction + self.args.omg_vae_alpha * self._kl(posterior, Gaussian(zeros, zeros))

    def loss(
        self, observations: th.Tensor, subgoal: Gaussian, trajectory: th.Tensor, drawn: th.Tensor, chosen: Gaussian
    ) -> Loss:
        """Returns the posterior's loss and what to log, means over all rows [N, ...] (equation 5).

        MSE(o_t, decode(g, h_t)) + omg_cvae_alpha KL(q_phi || p_psi)

        With `omg_supervised` it is the MSE between the inferred and the picked subgoals.

        Args:
            observations: o_t.
            subgoal: the posterior q_phi(g | tau_t, o_t).
            trajectory: h_t, the encoding of tau_t.
            drawn: g, a draw of the posterior.
            chosen: the prior p_psi at the subgoals picked in hindsight.
        """
        if self.is_supervised:
            loss = F.mse_loss(subgoal.mu, chosen.mu)
            return loss, {"omg_regression_loss": loss}
        reconstruction = F.mse_loss(self.cvae.decode(drawn, trajectory), observations)
        kl = self._kl(subgoal, chosen)
        return reconstruction + self.args.omg_cvae_alpha * kl, {"omg_recon_loss": reconstruction, "omg_kl": kl}

    def _kl(self, q: Gaussian, p: Gaussian) -> th.Tensor:
        """Returns the mean over rows of KL(q || p), summed or averaged over dimensions."""
        kl = gaussian_kl(*q, *p).mean()
        return kl if self.args.omg_kl_reduction == "sum" else kl / q.mu.shape[-1]

    def posterior_parameters(self) -> list[nn.Parameter]:
        """Returns all parameters but the prior's."""
        return [
            *self.fc.parameters(),
            *self.cond_rnn.parameters(),
            *(self.regressor if self.is_supervised else self.cvae).parameters(),
        ]
