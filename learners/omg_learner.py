"""Q-learning on subgoals (OMG; Yu, Jiang and Lu, NeurIPS 2024): the policy learns Q(o_t, g_t, .) while the agent model
learns to infer the subgoals that hindsight picks.

Plain Q-learning is `q_learner.py`; the model is `modules/am/omg_am.py`, the choice of subgoals `utils/subgoals.py`.
Tensors are [batch, time, agent, ...]; the suffix `_t` is for the steps t of all transitions, `_tp1` for those after.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch as th
import torch.nn.functional as F

from components.episode_buffer import EpisodeBatch, Scheme
from components.epsilon_schedules import DecayThenFlatSchedule
from components.transitions import Transitions, make_transitions
from learners.am_learner import ModelPolicy, train_prior
from learners.q_learner import QLearner
from modules.am.omg_am import OMGAM, Gaussian
from utils.config import STEPS, K, T, key
from utils.dict2namedtuple import Args, Config
from utils.logging import Logger
from utils.rl_utils import best_value, chosen
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
from utils.weights import Stateful


class Hindsight(NamedTuple):
    """The subgoals picked in hindsight at every step."""

    prior: Gaussian  # p_psi at the chosen states, [b, T+1, agent, Z]
    choice: th.Tensor  # how many steps ahead each is, less one: [b, T+1, agent]
    step: th.Tensor  # the step of the chosen state: [b, T+1, agent]

    def at(self, index: tuple[th.Tensor, th.Tensor]) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """Returns the indices (episode, step, agent) of the states chosen at indices of episodes and steps."""
        step = self.step[index]
        return index[0].unsqueeze(1).expand_as(step), step, th.arange(step.shape[1], device=step.device).expand_as(step)


class OMGLearner(QLearner):
    """Trains policy and posterior together, after the prior, which is frozen once it is trained."""

    @dataclass(frozen=True)
    class Keys(QLearner.Keys):
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
        omg_next_subgoal: str = key("same", "that o_{t+1} is paired with in the target", choices=("same", "next"))
        omg_vae_pretrain_steps: int = key(10000, "first the prior is trained, then frozen", STEPS, low=0, high=T)

    mac: ModelPolicy
    target_mac: ModelPolicy
    needs_model = True
    later_counts = {"learns_from": -1}

    @classmethod
    def trains(cls, model: type) -> bool:
        return issubclass(model, OMGAM)

    @classmethod
    def conflict(cls, config: Config, kinds: Mapping[str, type]) -> str:
        ahead, horizon = config["subgoal_mode"], config["omg_horizon"]
        if type(ahead) is int and ahead > horizon:
            return f"subgoal_mode={ahead} lies beyond omg_horizon={horizon}; raise one or lower the other"
        return super().conflict(config, kinds)

    def __init__(self, mac: ModelPolicy, scheme: Scheme, logger: Logger, args: Args):
        super().__init__(mac, scheme, logger, args)
        self.am = mac.am
        self.eta_schedule = DecayThenFlatSchedule(args.eta, 0.0, args.eta_anneal_time, decay="linear")
        self.learns_from = -1  # the step of the first update of the policy, once there was one
        self.am_params = self.am.posterior_parameters()
        self.prior_optimiser = th.optim.Adam(self.am.vae.parameters(), lr=args.am_lr)
        self.am_optimiser = th.optim.Adam(self.am_params, lr=args.am_lr)

    def train(self, batch: EpisodeBatch, t_env: int, episode_num: int) -> None:
        """Performs one update: of the prior at the start of a run without one, else of the policy and the posterior."""
        if not self.am.vae.is_trained:
            if t_env < self.args.omg_vae_pretrain_steps:
                prior_loss = train_prior(self, batch, t_env)
                if self.is_log_due(t_env):
                    self.log(t_env, omg_prior_loss=prior_loss)
                return
            self.am.vae.is_trained.fill_(True)
            self.logger.console_logger.info(f"The subgoal prior is trained and frozen from step {t_env} on")

        if self.learns_from < 0:
            self.learns_from = t_env
        transitions = make_transitions(batch, self.args.gamma)
        outputs, trajectory = self.mac.infer(batch)
        posterior = Gaussian.of(outputs)
        drawn = posterior.sample(self.generator)
        inferred = (drawn if self.am.draws() else posterior.mu).detach()
        eta = self.eta_schedule.eval(self._steps_of_eta(t_env))
        with th.set_grad_enabled(eta == 0):  # then no subgoal is exchanged, and these are the values to learn
            q, hidden = self.mac.unroll_with_hidden(batch, inferred)
        with th.no_grad():
            hindsight = self._look_back(batch, transitions, hidden)
            # equation 8, drawn per episode and step
            draws = th.rand(*inferred.shape[:2], 1, 1, device=inferred.device, generator=self.generator)
            subgoals = th.where(draws < eta, hindsight.prior.mu, inferred)
        if eta > 0:
            q, hidden = self.mac.unroll_with_hidden(batch, subgoals)
        q_t = chosen(q[:, :-1], transitions.actions)
        with th.no_grad():
            target_q, target_hidden = self.target_mac.unroll_with_hidden(batch, subgoals)
            target_q_tp1 = self._next_q(self.target_mac, batch, subgoals, target_q, target_hidden)
            chooser_q_tp1 = target_q_tp1
            if self.args.double_q:
                chooser_q_tp1 = self._next_q(self.mac, batch, subgoals, q, hidden)
            value_tp1 = best_value(target_q_tp1, chooser_q_tp1, transitions.avail[:, 1:])
        td = self.td_loss(transitions, q_t, value_tp1)
        grad_norm = self.descend(td.loss, self.optimiser, self.params, t_env)
        self.targets.update_if_due(episode_num)

        played = transitions.played
        am_loss, am_stats = self.am.loss(
            observations=self.am.observations(batch)[played],
            subgoal=posterior.at(played),
            trajectory=trajectory[played],
            drawn=drawn[played],
            chosen=hindsight.prior.at(played),
        )
        self.descend(am_loss, self.am_optimiser, self.am_params, t_env)

        if self.is_log_due(t_env):
            shares = [(hindsight.choice[played] == k).float().mean() for k in range(self.args.omg_horizon)]
            self.log_update(
                t_env,
                td,
                grad_norm,
                **am_stats,
                eta=th.tensor(eta),
                **self._diagnose(batch, transitions, posterior, hindsight),
                **{f"subgoal_k{k + 1}": share for k, share in enumerate(shares)},
            )

    def _next_q(
        self, mac: ModelPolicy, batch: EpisodeBatch, subgoals: th.Tensor, q: th.Tensor, hidden: th.Tensor
    ) -> th.Tensor:
        """Returns Q-values [b, T, agent, action] of the next observations, by what `mac` computed at each step.

        Each is paired with the same subgoal g_t (equation 4), or with its own, see `omg_next_subgoal`.
        """
        if self.args.omg_next_subgoal == "next":
            return q[:, 1:]
        return mac.step_from(batch, subgoals[:, :-1], hidden[:, :-1], start=1)

    def _steps_of_eta(self, t_env: int) -> int:
        """Returns the steps by which eta has fallen, see `eta_steps`."""
        if self.args.eta_steps == "environment":
            return t_env
        return (t_env - self.learns_from) // (self.args.population_factor or 1)

    @th.no_grad()
    def _diagnose(
        self, batch: EpisodeBatch, transitions: Transitions, posterior: Gaussian, hindsight: Hindsight
    ) -> dict[str, th.Tensor]:
        """Returns how much subgoals tell, and how much the policy listens, over played steps: see utils/subgoals.py.

        Subgoals are exchanged with those at the same step of another episode of the batch, where it has that step.
        """
        played, states = transitions.played, self.am.observations(batch)
        _, hidden = self.mac.unroll_with_hidden(batch, posterior.mu)
        hidden_before = _before(hidden)
        q, exchanged = (
            self.mac.step_from(batch, subgoals, hidden_before)[played]
            for subgoals in (posterior.mu, posterior.mu.roll(1, 0))
        )
        both = (transitions.mask.roll(1, 0) > 0).squeeze(-1)[played]
        return {
            "subgoal_hit_ratio": self._hit_ratio(batch, posterior.mu, transitions.mask > 0),
            "omg_active_units": active_units(*hindsight.prior.at(played)),
            "omg_signal_to_noise": signal_to_noise(*posterior.at(played)),
            "omg_skill": skill(self.am.vae.decode(posterior.mu[played]), states[played], states[hindsight.at(played)]),
            "omg_q_sensitivity": q_sensitivity(q[both], exchanged[both], transitions.avail[played][both]),
        }

    def _look_back(self, batch: EpisodeBatch, transitions: Transitions, hidden: th.Tensor) -> Hindsight:
        """Picks the subgoal of every step among the next states by their value V(o_t, g) (equations 6 and 7).

        Q has the hidden state before t along the played trajectory; `hidden` [b, T+1, agent, H] are those after it.
        """
        n_states = batch["filled"].sum((1, 2)).to(hidden.device)
        ahead = candidate_steps(n_states, hidden.shape[1], self.args.omg_horizon)  # [b, T+1, K]
        filled = batch.steps(hidden.device)
        prior = Gaussian(*map(filled.unpack, self.am.vae.encode(filled.pack(self.am.observations(batch)))))
        mode = self.args.subgoal_mode
        if isinstance(mode, bool) or mode in ("optimistic", "conservative"):
            q = self.mac.step_candidates(batch, prior.mu, ahead, _before(hidden))
            avail = filled.pack(transitions.avail).unsqueeze(-2)
            values = filled.unpack(self._value(q, avail))  # [b, T+1, agent, K]
        else:
            values = prior.mu.new_empty(*prior.mu.shape[:3], self.args.omg_horizon)
        choice = choose_candidate(values, mode, self.generator)  # [b, T+1, agent]
        step = ahead.gather(2, choice)
        # The last state repeats where no other is left; which of its repeats is picked depends on rounding only.
        repeats = F.pad(ahead[..., 1:] == ahead[..., :-1], (1, 0)).cumsum(-1)
        episodes, agents = (th.arange(n, device=step.device) for n in (step.shape[0], step.shape[2]))
        picked = prior.at((episodes.view(-1, 1, 1), step, agents))
        return Hindsight(picked, choice - repeats.gather(2, choice), step)

    def _value(self, q: th.Tensor, avail: th.Tensor) -> th.Tensor:
        """Returns the mean or the maximum of Q-values [..., action] over available actions: [...]."""
        if self.args.omg_value == "max":
            return q.masked_fill(~avail, -th.inf).max(-1).values
        return (q * avail).sum(-1) / avail.sum(-1).clamp(min=1)

    @th.no_grad()
    def _hit_ratio(self, batch: EpisodeBatch, subgoals: th.Tensor, played: th.Tensor) -> th.Tensor:
        """Returns the mean subgoal hit ratio over episodes and agents; `played` [b, T, 1] bool."""
        filled = batch["filled"].bool().squeeze(-1).to(played.device)
        acted, decoded = F.pad(played.squeeze(-1), (0, 1)), self.am.vae.decode(subgoals)
        return mean_hit_ratio(nearest_steps(decoded, self.am.observations(batch), filled, acted), filled.sum(1))

    def parts(self) -> dict[str, Stateful]:
        return super().parts() | {"prior_opt": self.prior_optimiser, "am_opt": self.am_optimiser}

    def counts(self) -> dict[str, int]:
        return super().counts() | {"learns_from": self.learns_from}

    def set_counts(self, counts: dict[str, int]) -> None:
        super().set_counts(counts)
        self.learns_from = counts["learns_from"]


def _before(hidden: th.Tensor) -> th.Tensor:
    """Returns the hidden states before each step from those after it, [b, T, agent, H]; zeros before the first."""
    return F.pad(hidden[:, :-1], (0, 0, 0, 0, 1, 0))
