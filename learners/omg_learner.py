"""Q-learning on subgoals (OMG; Yu, Jiang and Lu, NeurIPS 2024): the policy learns Q(o_t, g_t, .) while the agent model
learns to infer the subgoals that hindsight picks.

Plain Q-learning is `q_learner.py`; the model is `modules/am/omg_am.py`, the choice of subgoals `utils/subgoals.py`.
Variables with the suffix `_t` hold step t of every transition, those with `_tp1` the step after it.
"""

from typing import Any, NamedTuple

import torch as th
import torch.nn.functional as F

from components.episode_buffer import EpisodeBatch
from components.epsilon_schedules import DecayThenFlatSchedule
from components.transitions import make_transitions
from learners.am_learner import train_prior
from learners.base_learner import BaseLearner
from modules.am.omg_am import Gaussian
from utils.rl_utils import best_value
from utils.subgoals import candidate_steps, choose_candidate, subgoal_hit_ratio


class Hindsight(NamedTuple):
    """The subgoals picked in hindsight for every filled step."""

    prior: Gaussian  # p_psi at the chosen states, [N, agent, Z]
    choice: th.Tensor  # how many steps ahead each lies, less one: [N, agent]


class OMGLearner(BaseLearner):
    """Trains policy and posterior together, after the prior, which is frozen once it is trained."""

    def __init__(self, mac: Any, scheme: dict, logger: Any, args: Any):
        super().__init__(mac, scheme, logger, args)
        self.am = mac.am
        self.eta_schedule = DecayThenFlatSchedule(args.eta, 0.0, args.eta_anneal_time, decay="linear")
        self.am_params = self.am.posterior_parameters()
        self.prior_optimiser = th.optim.Adam(self.am.vae.parameters(), lr=args.am_lr)
        self.am_optimiser = th.optim.Adam(self.am_params, lr=args.am_lr)

    def train(self, batch: EpisodeBatch, t_env: int, episode_num: int) -> None:
        """One update: of the prior at the start of a run that has none, else of the policy and the posterior."""
        if not self.am.vae.is_trained:
            if t_env < self.args.omg_vae_pretrain_steps:
                prior_loss = train_prior(self, batch, t_env)
                if self.is_log_due(t_env):
                    self.log(t_env, omg_prior_loss=prior_loss)
                return
            self.am.vae.is_trained.fill_(True)
            self.logger.console_logger.info(f"The subgoal prior is trained and frozen from step {t_env} on")

        transitions = make_transitions(batch, self.args.gamma)
        played = transitions.played
        inputs = self.mac.pack_inputs(batch)
        t, tp1 = inputs.steps.ends(played)
        avail = inputs.steps.pack(transitions.avail)

        posterior = self.am.encode(batch, inputs.steps)
        inferred = posterior.subgoal.sample()
        with th.no_grad():
            hindsight = self._look_back(batch, inputs, inferred, avail)
            # equation 8, drawn per episode and step
            eta = self.eta_schedule.eval(t_env)
            from_hindsight = th.rand(len(inferred), 1, 1, device=inferred.device) < eta
            subgoals = th.where(from_hindsight, hindsight.prior.mu, inferred)

        # equation 4: the next observation is paired with the same subgoal, g_t
        q, hidden = self.mac.unroll_policy(inputs, subgoals)
        q_t = q[t].gather(-1, transitions.actions[played].unsqueeze(-1)).squeeze(-1)
        with th.no_grad():
            _, target_hidden = self.target_mac.unroll_policy(inputs, subgoals)
            target_q_tp1 = self.target_mac.step_policy(inputs.rows[tp1], subgoals[t], target_hidden[t])
            chooser_q_tp1 = target_q_tp1
            if self.args.double_q:
                chooser_q_tp1 = self.mac.step_policy(inputs.rows[tp1], subgoals[t], hidden[t])
            value_tp1 = best_value(target_q_tp1, chooser_q_tp1, avail[tp1])

        update = self.td_update(transitions, q_t, value_tp1, t_env)
        self.update_targets_if_due(episode_num)

        am_loss, am_stats = self.am.loss(batch, posterior.rows(t), played, inferred[t], hindsight.prior.rows(t))
        self.descend(am_loss, self.am_optimiser, self.am_params, t_env)

        if self.is_log_due(t_env):
            shares = [(hindsight.choice[t] == k).float().mean() for k in range(self.args.omg_horizon)]
            self.log_update(
                t_env,
                update,
                **am_stats,
                eta=th.tensor(eta),
                subgoal_hit_ratio=self._hit_ratio(batch, inputs.steps, posterior.subgoal.mu, transitions.mask > 0),
                **{f"subgoal_k{k + 1}": share for k, share in enumerate(shares)},
            )

    def _look_back(self, batch: EpisodeBatch, inputs: Any, inferred: th.Tensor, avail: th.Tensor) -> Hindsight:
        """Picks the subgoal of every filled step among the next states by their value V(o_t, g) (equations 6 and 7).

        Q has the hidden state that it had before t along the played trajectory.
        """
        steps, row_of = inputs.steps, inputs.steps.row_of()
        n_states = batch["filled"].sum((1, 2)).to(row_of.device)
        ahead = candidate_steps(n_states, row_of.shape[1], self.args.omg_horizon)
        candidates = steps.pack(row_of.gather(1, ahead.flatten(1)).view_as(ahead))  # [N, k]
        prior = self.am.vae.encode(steps.pack(self.am.observations(batch)))
        mode = self.args.subgoal_mode
        if isinstance(mode, bool) or mode in ("optimistic", "conservative"):
            _, hidden = self.mac.unroll_policy(inputs, inferred)
            hidden_before = steps.pack(F.pad(steps.unpack(hidden)[:, :-1], (0, 0, 0, 0, 1, 0)))
            q = self.mac.step_policy_over(inputs.rows, prior.mu, candidates, hidden_before)
            values = self._value(q, avail.unsqueeze(-2))
        else:
            values = prior.mu.new_empty(*prior.mu.shape[:2], self.args.omg_horizon)
        choice = choose_candidate(values, mode)
        agents = th.arange(choice.shape[1], device=choice.device)
        chosen = candidates.gather(1, choice)
        # The last state repeats where no other is left; which of its repeats is picked depends on rounding only.
        repeats = F.pad(candidates[:, 1:] == candidates[:, :-1], (1, 0)).cumsum(-1)
        steps_ahead = choice - repeats.gather(1, choice)
        return Hindsight(Gaussian(prior.mu[chosen, agents], prior.log_var[chosen, agents]), steps_ahead)

    def _value(self, q: th.Tensor, avail: th.Tensor) -> th.Tensor:
        """The mean or the maximum of Q-values [..., action] over available actions: [...]."""
        if self.args.omg_value == "max":
            return q.masked_fill(~avail, -th.inf).max(-1).values
        return (q * avail).sum(-1) / avail.sum(-1).clamp(min=1)

    @th.no_grad()
    def _hit_ratio(self, batch: EpisodeBatch, steps: Any, subgoals: th.Tensor, played: th.Tensor) -> th.Tensor:
        """The mean subgoal hit ratio over episodes and agents."""
        filled = batch["filled"].bool().squeeze(-1).to(played.device)
        states = self.am.observations(batch).transpose(1, 2).contiguous()  # [b, agent, T + 1, D]
        decoded = steps.unpack(self.am.vae.decode(subgoals)).transpose(1, 2)
        distance = th.cdist(decoded, states).masked_fill(~filled[:, None, None], th.inf)
        nearest = distance.argmin(-1).masked_fill(~F.pad(played.squeeze(-1), (0, 1))[:, None], -1)
        n_states = filled.sum(1, keepdim=True).expand(-1, states.shape[1]).flatten()
        return subgoal_hit_ratio(nearest.flatten(0, 1), n_states).mean()

    def _parts(self) -> dict[str, Any]:
        return {**super()._parts(), "prior_opt": self.prior_optimiser, "am_opt": self.am_optimiser}
