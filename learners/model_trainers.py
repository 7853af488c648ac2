"""How a learner of policies trains the agent model that its policy reads: one seam for all learners and all models.

    model = model_trainer(learner)
    if model.is_ready(batch, t_env):
        inferred = model.infer(batch)                          # .batch has the features that the policy acts on
        learned = model.look_back(inferred, values_of, t_env) # the batch with those that values are learned on
        ...                                                    # the learner's own update: unrolls read the features
        stats = model.train(inferred, transitions, t_env)

The models are in `modules/am`; a learner that trains nothing but a model is `am_learner.py`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch as th
import torch.nn.functional as F

from components.episode_buffer import EpisodeBatch
from components.epsilon_schedules import DecayThenFlatSchedule
from components.seats import rows_per_episode
from components.transitions import Transitions, played_mask
from learners.base_learner import Learner, Policy
from modules.am.agent_model import FEATURES
from modules.am.omg_am import OMGAM, Gaussian
from modules.inputs import lives_on_host, living
from modules.network import Outputs
from utils.subgoals import (
    active_units,
    candidate_steps,
    choose_candidate,
    mean_hit_ratio,
    nearest_steps,
    q_sensitivity,
    signal_to_noise,
    skill,
)
from utils.transfer import step_index, to_device
from utils.weights import Stateful

SeatIndex = tuple[th.Tensor, th.Tensor, th.Tensor]
"""Indices of episodes, of steps and of agents, [N] each."""
ValuesOf = Callable[[th.Tensor, th.Tensor], th.Tensor]
"""(subgoals [b, T+1, agent, Z], steps `ahead` [b, T+1, K] of the candidates) to their values [N, K], where the N rows
are the steps of living agents as `living` packs them."""


class ModelPolicy(Policy, Protocol):
    """A controller with an agent model `am`; controllers/om_controller.py documents these methods."""

    am: Any

    def infer(self, ep_batch: EpisodeBatch) -> Outputs: ...
    def unroll_with_hidden(self, ep_batch: EpisodeBatch, features: th.Tensor | None = None) -> Outputs: ...
    def step_from(
        self, ep_batch: EpisodeBatch, features: th.Tensor, hidden_states: th.Tensor, start: int = 0
    ) -> th.Tensor: ...
    def step_candidates(
        self, ep_batch: EpisodeBatch, features: th.Tensor, ahead: th.Tensor, hidden_states: th.Tensor
    ) -> th.Tensor: ...


class Inferred(NamedTuple):
    """What the model infers at every step of a batch: its outputs and hidden states after it, [b, T+1, agent, ...]."""

    batch: EpisodeBatch  # with the features that the policy acts on, which no gradient leaves
    outputs: th.Tensor
    hidden: th.Tensor
    drawn: th.Tensor | None = None  # a draw of the outputs, with gradients, where they are distributions


class Hindsight(NamedTuple):
    """The subgoals picked in hindsight at every step."""

    prior: Gaussian  # p_psi at the chosen states, [b, T+1, agent, Z]
    choice: th.Tensor  # how many steps ahead each is, less one: [b, T+1, agent]
    step: th.Tensor  # the step of the chosen state: [b, T+1, agent]

    def at(self, index: SeatIndex) -> SeatIndex:
        """Returns the indices of the states that were chosen at those of steps."""
        episodes, _, agents = index
        return episodes, self.step[index], agents


class NoTrainer:
    """Of a policy without an agent model."""

    def is_ready(self, batch: EpisodeBatch, t_env: int) -> bool:
        return True

    def infer(self, batch: EpisodeBatch) -> Inferred:
        return Inferred(batch, batch["obs"], batch["obs"])

    def look_back(self, inferred: Inferred, values_of: ValuesOf, t_env: int) -> EpisodeBatch:
        return inferred.batch

    def train(self, inferred: Inferred, transitions: Transitions, t_env: int, times: int = 1) -> dict[str, th.Tensor]:
        return {}

    def parts(self) -> dict[str, Stateful]:
        return {}

    def counts(self) -> dict[str, int]:
        return {}

    def set_counts(self, counts: dict[str, int]) -> None:
        pass


class ModelTrainer(NoTrainer):
    """Trains a model of the others by its own loss, beside the updates of the policy. `parts` belong to the learner's.

    Neither trains the other's networks.
    """

    def __init__(self, learner: Learner):
        self.learner, self.args = learner, learner.args
        self.mac: ModelPolicy = learner.mac  # type: ignore[assignment]  # it has a model
        self.am = self.mac.am
        self.params = self.trained_parameters()
        self.optimiser = th.optim.Adam(self.params, lr=self.args.am_lr) if self.params else None

    def trained_parameters(self) -> list[th.nn.Parameter]:
        return list(self.am.parameters())

    def infer(self, batch: EpisodeBatch) -> Inferred:
        """Computes what the model infers, with gradients, and the features that the policy reads, without."""
        outputs, hidden = self.mac.infer(batch)
        with th.no_grad():
            return Inferred(batch.with_field(FEATURES, self.am.features(outputs)), outputs, hidden)

    def train(self, inferred: Inferred, transitions: Transitions, t_env: int, times: int = 1) -> dict[str, th.Tensor]:
        """Updates the model `times` times; returns what to log of the last."""
        stats: dict[str, th.Tensor] = {}
        for i in range(times):
            if i > 0:
                inferred = self.infer(inferred.batch)
            loss, stats = self.loss(inferred, transitions)
            if self.optimiser is not None:
                stats["am_grad_norm"] = self.learner.descend(loss, self.optimiser, self.params, t_env)
        return stats

    def loss(self, inferred: Inferred, transitions: Transitions) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        played = transitions.played
        return self.am.loss(inferred.batch, inferred.outputs[played], played)

    def parts(self) -> dict[str, Stateful]:
        return {} if self.optimiser is None else {"am_opt": self.optimiser}


class SubgoalTrainer(ModelTrainer):
    """Trains OMG's posterior towards the subgoals that hindsight picks, after the prior, which is then frozen."""

    later_counts = {"prior_from": -1, "learns_from": -1}
    """What `counts` that older checkpoints do not have are when they are loaded."""

    def __init__(self, learner: Learner):
        super().__init__(learner)
        self.eta_schedule = DecayThenFlatSchedule(self.args.eta, 0.0, self.args.eta_anneal_time)
        self.prior_from = self.learns_from = -1  # the steps of the first updates of prior and policy, once there were
        self.prior_optimiser = th.optim.Adam(self.am.vae.parameters(), lr=self.args.am_lr)
        self.eta = self.args.eta

    def trained_parameters(self) -> list[th.nn.Parameter]:
        return self.am.posterior_parameters()

    def is_ready(self, batch: EpisodeBatch, t_env: int) -> bool:
        """Returns False in the first updates of a run without a prior, after an update of that alone."""
        if self.am.vae.is_trained:
            return True
        if self.prior_from < 0:
            self.prior_from = t_env
        if self._own_steps(self.prior_from, t_env) < self.args.omg_vae_pretrain_steps:
            prior_loss = train_prior(self.learner, self.am, self.prior_optimiser, batch, t_env)
            if self.learner.is_log_due(t_env):
                self.learner.log(t_env, omg_prior_loss=prior_loss)
            return False
        self.am.vae.is_trained.fill_(True)
        log = self.learner.logger.console_logger
        log.info(f"The subgoal prior is trained and frozen from step {t_env} on")
        return True

    def infer(self, batch: EpisodeBatch) -> Inferred:
        outputs, trajectory = self.mac.infer(batch)
        seats = living(batch, outputs.device)
        posterior = Gaussian(*map(seats.pack, Gaussian.of(outputs)))
        drawn = seats.unpack(posterior.sample(self.learner.generator))
        features = drawn if self.am.draws() else Gaussian.of(outputs).mu
        return Inferred(batch.with_field(FEATURES, features.detach()), outputs, trajectory, drawn)

    @th.no_grad()
    def look_back(self, inferred: Inferred, values_of: ValuesOf, t_env: int) -> EpisodeBatch:
        """Picks the subgoal of every step among the next states by their values (equations 6 and 7).

        Returns the batch on whose subgoals values are learned: those picked, with a chance of eta, drawn per episode
        and step, else those inferred (equation 8).
        """
        self.eta = self.eta_at(t_env)
        batch, mode, horizon = inferred.batch, self.args.subgoal_mode, self.args.omg_horizon
        device = inferred.outputs.device
        filled, seats = batch.steps(device), living(batch, device)
        ahead = candidate_steps(batch["filled"].sum((1, 2)).to(device), batch.max_seq_length, horizon)  # [b, T+1, K]
        prior = Gaussian(*map(filled.unpack, self.am.vae.encode(filled.pack(self.am.observations(batch)))))
        if isinstance(mode, bool) or mode in ("optimistic", "conservative"):
            values = seats.unpack(values_of(prior.mu, ahead).unsqueeze(1))  # [b, T+1, agent, K]
        else:
            values = prior.mu.new_empty(*prior.mu.shape[:3], horizon)
        choice = choose_candidate(values, mode, self.learner.generator)  # [b, T+1, agent]
        step = ahead.gather(2, choice)
        # The last state repeats where no other is left; which of its repeats is picked depends on rounding only.
        repeats = F.pad(ahead[..., 1:] == ahead[..., :-1], (1, 0)).cumsum(-1)
        episodes, agents = (th.arange(n, device=device) for n in (step.shape[0], step.shape[2]))
        picked = prior.at((episodes.view(-1, 1, 1), step, agents))
        self.hindsight = Hindsight(picked, choice - repeats.gather(2, choice), step)
        if self.eta == 0:
            return batch
        draws = th.rand(*step.shape[:2], 1, 1, device=device, generator=self.learner.generator)
        alive = to_device(seats.filled, device).unsqueeze(-1)  # the dead keep zeros
        return batch.with_field(FEATURES, th.where(draws < self.eta, picked.mu * alive, batch[FEATURES]))

    def eta_at(self, t_env: int) -> float:
        """Returns the chance of a picked subgoal; `eta_steps` says which steps count."""
        if self.learns_from < 0:
            self.learns_from = t_env
        if self.args.eta_steps == "environment":
            return self.eta_schedule.eval(t_env)
        return self.eta_schedule.eval(self._own_steps(self.learns_from, t_env))

    def _own_steps(self, first: int, t_env: int) -> int:
        """Returns the environment steps since `first`, in a population those of each seat that learns."""
        return (t_env - first) // self.learner.factor

    def loss(self, inferred: Inferred, transitions: Transitions) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        """Returns the posterior's loss towards the subgoals of the last `look_back` (equation 5), of the living."""
        assert inferred.drawn is not None
        acted = seats_that_acted(inferred.batch, inferred.outputs.device)
        return self.am.loss(
            observations=self.am.observations(inferred.batch)[acted],
            subgoal=Gaussian.of(inferred.outputs[acted]),
            trajectory=inferred.hidden[acted],
            drawn=inferred.drawn[acted],
            chosen=self.hindsight.prior.at(acted),
        )

    def train(self, inferred: Inferred, transitions: Transitions, t_env: int, times: int = 1) -> dict[str, th.Tensor]:
        stats = super().train(inferred, transitions, t_env, times)
        if not self.learner.is_log_due(t_env):
            return stats
        choice = self.hindsight.choice[seats_that_acted(inferred.batch, inferred.outputs.device)]
        shares = {f"subgoal_k{k + 1}": (choice == k).float().mean() for k in range(self.args.omg_horizon)}
        return {**stats, "eta": th.tensor(self.eta), **self._diagnose(inferred, transitions), **shares}

    @th.no_grad()
    def _diagnose(self, inferred: Inferred, transitions: Transitions) -> dict[str, th.Tensor]:
        """Returns how much subgoals tell, and how much the policy listens, over the living: see utils/subgoals.py.

        Subgoals are exchanged with those at the same step of another episode of the batch, where the agent lives there;
        of a batch of one episode the policy's part is left out.
        """
        batch, posterior = inferred.batch, Gaussian.of(inferred.outputs.detach())
        acted, states = seats_that_acted(batch, posterior.mu.device), self.am.observations(batch)
        has_acted = th.zeros_like(posterior.mu[..., 0], dtype=th.bool)
        has_acted[acted] = True
        stats = {
            "subgoal_hit_ratio": self._hit_ratio(batch, posterior.mu, has_acted),
            "omg_active_units": active_units(*self.hindsight.prior.at(acted)),
            "omg_signal_to_noise": signal_to_noise(*posterior.at(acted)),
            "omg_skill": skill(
                self.am.vae.decode(posterior.mu[acted]), states[acted], states[self.hindsight.at(acted)]
            ),
        }
        n_rows = rows_per_episode(self.args)
        if batch.batch_size > n_rows:
            before_t = before(self.mac.unroll_with_hidden(batch, posterior.mu)[1])
            q, exchanged = (
                self.mac.step_from(batch, subgoals, before_t)[acted]
                for subgoals in (posterior.mu, posterior.mu.roll(n_rows, 0))
            )
            both = has_acted.roll(n_rows, 0)[acted]
            stats["omg_q_sensitivity"] = q_sensitivity(q[both], exchanged[both], transitions.avail[acted][both])
        return stats

    def _hit_ratio(self, batch: EpisodeBatch, subgoals: th.Tensor, acted: th.Tensor) -> th.Tensor:
        """Returns the mean subgoal hit ratio over episodes and agents; `acted` [b, T+1, agent] bool."""
        filled = batch["filled"].bool().squeeze(-1).to(acted.device)
        nearest = nearest_steps(self.am.vae.decode(subgoals), self.am.observations(batch), filled, acted)
        return mean_hit_ratio(nearest, filled.sum(1))

    def parts(self) -> dict[str, Stateful]:
        return {"prior_opt": self.prior_optimiser, **super().parts()}

    def counts(self) -> dict[str, int]:
        return {"prior_from": self.prior_from, "learns_from": self.learns_from}

    def set_counts(self, counts: dict[str, int]) -> None:
        self.prior_from, self.learns_from = counts["prior_from"], counts["learns_from"]


def seats_that_acted(batch: EpisodeBatch, device: str | th.device) -> SeatIndex:
    """Returns the transitions of living agents, of those that were played."""

    def index() -> SeatIndex:
        episodes, steps, agents = (lives_on_host(batch)[:, :-1] & played_mask(batch)).nonzero(as_tuple=True)
        return to_device(episodes, device), to_device(steps, device), to_device(agents, device)

    return batch.cached(("acted", device), ("avail_actions", "filled", "terminated"), index)


def model_trainer(learner: Learner) -> NoTrainer:
    """Returns what trains the agent model of a learner's controller, if it has one."""
    am = learner.mac.networks().get("am")
    if am is None:
        return NoTrainer()
    return SubgoalTrainer(learner) if isinstance(am, OMGAM) else ModelTrainer(learner)


def train_prior(
    learner: Learner, am: OMGAM, optimiser: th.optim.Optimizer, batch: EpisodeBatch, t_env: int
) -> th.Tensor:
    """Makes `omg_vae_batches` gradient steps of a subgoal prior, each on other states of the batch; returns the last
    loss.
    """
    observations = am.observations(batch)
    states = observations[step_index(batch.on_host("filled").squeeze(-1).bool(), observations.device)].flatten(0, -2)
    states = states[th.randperm(len(states), device=states.device, generator=learner.generator)]
    params = list(am.vae.parameters())
    for part in states.chunk(learner.args.omg_vae_batches):
        loss = am.prior_loss(part, learner.generator)
        learner.descend(loss, optimiser, params, t_env)
    return loss


def q_of_candidates(
    learner: Learner, inferred: Inferred, avail: th.Tensor, hidden: th.Tensor | None = None
) -> ValuesOf:
    """Returns V(o_t, g) of candidates: the mean, or with `omg_value=max` the maximum, of Q over available actions.

    Q has the hidden state before t along the played trajectory; `hidden` [b, T+1, agent, H] are those after it, if they
    have been computed.
    """
    mac: ModelPolicy = learner.mac  # type: ignore[assignment]  # it has a model

    def values_of(subgoals: th.Tensor, ahead: th.Tensor) -> th.Tensor:
        after = mac.unroll_with_hidden(inferred.batch)[1] if hidden is None else hidden
        q = mac.step_candidates(inferred.batch, subgoals, ahead, before(after))
        available = living(inferred.batch, q.device).pack(avail)  # [N, 1, action]
        if learner.args.omg_value == "max":
            return q.masked_fill(~available, -th.inf).max(-1).values
        return (q * available).sum(-1) / available.sum(-1).clamp(min=1)

    return values_of


def before(hidden: th.Tensor) -> th.Tensor:
    """Returns the hidden states before each step from those after it, [b, T, agent, H]; zeros before the first."""
    return F.pad(hidden[:, :-1], (0, 0, 0, 0, 1, 0))
