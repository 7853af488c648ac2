"""PPO for teams: IPPO, whose critic reads what an agent observes (de Witt et al. 2020), and MAPPO, whose critic reads
the state (Yu et al. 2022).

Critics are in `modules/critics/value.py`, returns and losses in `utils/rl_utils.py`. Tensors are [batch, time, agent,
...]; the suffix `_t` is for the steps t of all transitions.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

import torch as th
import torch.nn.functional as F

from components.episode_buffer import EpisodeBatch, Scheme
from components.packed_steps import PackedSteps
from components.pieces import Pieces, batch_of_pieces, cut_into_pieces
from components.transitions import Transitions, make_transitions, played_mask
from learners.base_learner import Policy
from learners.model_trainers import ValuesOf, before
from learners.on_policy import OnPolicyLearner
from modules.critics import VALUES
from modules.critics.value import READS, OneOutput, value_input_size, value_inputs
from modules.initial import orthogonal_
from modules.inputs import last_actions, living
from modules.moments import RunningMoments
from modules.network import Network
from modules.unroll import step_candidates, unroll, unroll_with_hidden
from utils.config import STEPS, K, M, key
from utils.dict2namedtuple import Args, Config
from utils.logging import Logger
from utils.rl_utils import (
    build_td_lambda_targets,
    chosen,
    clipped_surrogate,
    is_alive,
    masked_mean,
    n_step_returns,
    value_errors,
)
from utils.weights import Stateful

SMALLEST = 1e-10
"""A probability below counts as this one where its logarithm is taken."""


class Experience(NamedTuple):
    """What an update learns from, one row for each episode."""

    inputs: th.Tensor  # of the critic, [b, T+1, a, in]
    avail: th.Tensor  # [b, T+1, a, u]
    actions: th.Tensor  # [b, T, a], and so all that follow
    mask: th.Tensor  # 1.0 where the policy learns from the agent's step
    played: th.Tensor  # 1.0 where the critic does: in every step, of the dead, too
    log_pi: th.Tensor  # of the actions, by the policy that played
    value: th.Tensor  # by the critic before the updates; with `recompute_returns` before those of the epoch
    return_: th.Tensor
    advantage: th.Tensor
    hidden: th.Tensor | None = None  # of the critic before the first step, [b, a, H]; None: its own first one

    def at(self, episodes: th.Tensor | slice) -> "Experience":
        return Experience(*(field[episodes] if field is not None else field for field in self))  # type: ignore[arg-type]


class Chunks(NamedTuple):
    """Pieces of episodes to learn from, as a batch, and what cuts the rest of the experience alike."""

    batch: EpisodeBatch
    pieces: Pieces
    hidden: th.Tensor  # of the critic before the first step of each, [piece, a, H]

    def cut(self, experience: Experience) -> Experience:
        cut = Experience(*(self.pieces.take(field) for field in experience if field is not None))
        inputs, avail = (F.pad(field, (0, 0, 0, 0, 0, 1)) for field in (cut.inputs, cut.avail))
        mask, played = (field * self.pieces.filled.unsqueeze(-1) for field in (cut.mask, cut.played))
        return cut._replace(inputs=inputs, avail=avail, mask=mask, played=played, hidden=self.hidden)


class PPOLearner(OnPolicyLearner):
    """Raises PPO's clipped objective with an entropy bonus, and trains a critic towards lambda- or n-step returns.

    Recurrent networks are trained through whole episodes, or through pieces of `data_chunk_length` steps that begin
    with the hidden states of the networks before the updates, as Yu et al. have it.
    """

    @dataclass(frozen=True)
    class Keys(OnPolicyLearner.Keys):
        critic: str = key("rnn", "the critic's network, as wide as the agents'", names="modules.critics:VALUES")
        critic_reads: str = key(
            "state_obs", "own observation, state, both, or state and all observations", choices=READS
        )
        eps_clip: float = key(0.2, "how far ratios of new to old probabilities count, from 1", above=0, high=1)
        entropy_coef: float = key(0.01, "weight of the policy's entropy", low=0, high=M)
        clip_values: bool = key(True, "values count as if they had changed by eps_clip at most")
        huber_delta: float | None = key(
            10.0, "error from which the critic's loss is linear; null: none", above=0, high=M
        )
        q_nstep: int = key(0, "rewards in a return; 0: lambda-returns by td_lambda, as in GAE", STEPS, low=0, high=K)
        add_value_last_step: bool = key(True, "returns of an episode that was cut off include its last value")
        standardise_rewards: bool = key(False, "rewards are less their running mean, over their deviation")
        standardise_returns: bool = key(True, "the critic learns returns less their running mean, over their deviation")
        standardise_advantages: bool = key(True, "advantages are less their mean, over their deviation")
        death_masking: bool = key(True, "the policy learns nothing from the dead; the critic reads zeros and their id")
        recompute_returns: bool = key(False, "compute returns and advantages anew in each epoch")
        target_update_interval_or_tau: float | None = key(
            None, "target critic: collections between copies, or up to 1 a share; null: none", above=0, high=M
        )
        data_chunk_length: int | None = key(
            None, "recurrent networks are trained through pieces so long; null: episodes", STEPS, low=1, high=K
        )
        padding_counts: bool = key(False, "padding counts in running moments and in returns, as in EPyMARL")

    output_type = "pi_logits"

    @classmethod
    def conflict(cls, config: Config, kinds: Mapping[str, type]) -> str:
        if config["padding_counts"] and config["data_chunk_length"]:
            return "data_chunk_length cuts episodes that padding_counts=True has padded; leave one of them out"
        tau = config["target_update_interval_or_tau"]
        if tau is not None and tau > 1 and tau % 1:
            return (
                f"target_update_interval_or_tau={tau} is neither a share of at most 1 nor a whole number of "
                "collections; give one of them"
            )
        return super().conflict(config, kinds)

    def __init__(self, mac: Policy, scheme: Scheme, logger: Logger, args: Args):
        super().__init__(mac, logger, args)
        self.features_size: int = getattr(mac.networks().get("am"), "output_size", 0)
        input_size = value_input_size(args) + self.features_size
        self.critic: Network = VALUES[args.critic](input_size, OneOutput(args)).to(args.device)
        if args.orthogonal_init:
            orthogonal_(self.critic, head_gain=1.0)
        self.target_critic = None if args.target_update_interval_or_tau is None else deepcopy(self.critic)
        self.rew_ms = RunningMoments(1 if args.common_reward else mac.n_agents).to(args.device)
        self.ret_ms = RunningMoments(mac.n_agents).to(args.device)
        self.agent_params, self.critic_params = list(mac.parameters()), list(self.critic.parameters())
        self.agent_optimiser = self.make_optimiser(self.agent_params, args.lr)
        self.critic_optimiser = self.make_optimiser(self.critic_params, args.critic_lr)
        self.training_steps = 0

    def train(self, batch: EpisodeBatch, t_env: int, episode_num: int) -> None:
        """Performs `epochs` times `num_mini_batch` updates of critic and policy, by means over played steps of

        critic: l(V_t, G_t), see `value_errors`
        policy: -min(r_t A_t, clip(r_t, 1 - eps, 1 + eps) A_t) - entropy_coef * H(pi_t), r_t = pi(u_t) / pi_old(u_t)

        where A_t = G_t - V_t, by default of the critic before its updates. With `standardise_returns` V_t is in units
        of the running moments before this collection, G_t of those after it, as in EPyMARL. With `death_masking` the
        policy's mean is over the living alone, the critic's over all: returns go on by the values of the dead.

        With OMG (the paper's second algorithm) the policy and the V_t of advantages read the inferred subgoals, on
        which the policy acted; the critic is trained, with a chance of eta, on those that hindsight picks by their V.
        """
        if not self.model.is_ready(batch, t_env):
            return
        args, transitions = self.args, make_transitions(batch, self.args.gamma)
        inferred = self.model.infer(batch)
        batch = inferred.batch
        inputs = value_inputs(batch, args)
        learned = self.model.look_back(inferred, self._value_of_candidates(batch, inputs), t_env)
        actions_t, played = transitions.actions, transitions.mask.expand_as(transitions.actions)
        mask = played
        if args.death_masking:
            mask = played * is_alive(transitions.avail, batch["filled"].bool())[:, :-1]
        learned_inputs = inputs if learned is batch else value_inputs(learned, args)
        with th.no_grad():
            old_log_pi_t = chosen(self._policy(batch, transitions.avail), actions_t).log()
            value = self._values(self.critic, batch, inputs)
            known = masked_mean(old_log_pi_t + value[:, :-1] + transitions.reward, mask)
        self.check_finite(known, self.agent_optimiser, t_env)  # before it reaches any moments
        steps = self._steps_of_returns(transitions)
        chunks = self._chunks(batch, learned_inputs) if args.data_chunk_length else None

        for epoch in range(args.epochs):
            if epoch > 0 and args.recompute_returns:
                value = self._values(self.critic, batch, inputs).detach()
            if epoch == 0 or args.recompute_returns:
                learned_value = value if learned is batch else self._values(self.critic, batch, learned_inputs).detach()
                return_t = self._returns(batch, inputs, steps, transitions.mask, value)
                advantage_t = return_t - value[:, :-1]
                if args.standardise_advantages:
                    centred = advantage_t - masked_mean(advantage_t, mask)
                    advantage_t = centred / (masked_mean(centred**2, mask).sqrt() + 1e-5)
            values = (old_log_pi_t, learned_value[:, :-1], return_t, advantage_t)
            experience = Experience(learned_inputs, transitions.avail, actions_t, mask, played, *values)
            if chunks:
                experience = chunks.cut(experience)
            for part, episodes in self.mini_batches(chunks.batch if chunks else batch):
                of_part = experience.at(episodes)
                critic_stats = self._train_critic(part, of_part, t_env)
                agent_stats = self._train_policy(part, of_part, t_env)

        self.training_steps += 1
        self._update_target_if_due()
        model_stats = self.model.train(inferred, transitions, t_env, args.epochs)
        if self.is_log_due(t_env):
            self.log(t_env, **critic_stats, **agent_stats, **model_stats)

    def _train_critic(self, batch: EpisodeBatch, experience: Experience, t_env: int) -> dict[str, th.Tensor]:
        """Steps the critic; returns what to log."""
        args, mask, return_t = self.args, experience.played, experience.return_
        value_t = self._values(self.critic, batch, experience.inputs, experience.hidden)[:, :-1]
        eps_clip = args.eps_clip if args.clip_values else None
        loss = masked_mean(value_errors(value_t, return_t, experience.value, eps_clip, args.huber_delta), mask)
        grad_norm = self.descend(loss, self.critic_optimiser, self.critic_params, t_env)
        return {
            "critic_loss": loss,
            "critic_grad_norm": grad_norm,
            "td_error_abs": masked_mean((return_t - value_t).abs(), mask),
            "q_taken_mean": masked_mean(value_t, mask),
            "target_mean": masked_mean(return_t, mask),
        }

    def _train_policy(self, batch: EpisodeBatch, experience: Experience, t_env: int) -> dict[str, th.Tensor]:
        """Steps the policy; returns what to log."""
        args, mask = self.args, experience.mask
        pi_t = self._policy(batch, experience.avail)
        log_ratio = chosen(pi_t, experience.actions).log() - experience.log_pi
        objective = clipped_surrogate(log_ratio, experience.advantage, args.eps_clip)
        entropy = -(pi_t * pi_t.log()).sum(-1)
        loss = -masked_mean(objective + args.entropy_coef * entropy, mask)
        grad_norm = self.descend(loss, self.agent_optimiser, self.agent_params, t_env)
        is_clipped = ((log_ratio.exp() - 1).abs() > args.eps_clip).float()
        return {
            "advantage_mean": masked_mean(experience.advantage, mask),
            "pg_loss": loss,
            "agent_grad_norm": grad_norm,
            "pi_max": masked_mean(pi_t.max(-1).values, mask),
            "entropy": masked_mean(entropy, mask),
            "clipped_share": masked_mean(is_clipped, mask),
        }

    def _policy(self, batch: EpisodeBatch, avail: th.Tensor) -> th.Tensor:
        """Returns the policy over available actions in all steps but the last, [b, T, a, u], not below SMALLEST."""
        pi = self.mac.unroll(batch)[:, :-1].masked_fill(~avail[:, :-1], 0.0)
        # Where nothing is available, in padding, any finite policy will do.
        return (pi / pi.sum(-1, keepdim=True).clamp(min=SMALLEST)).clamp(min=SMALLEST)

    def _chunks(self, batch: EpisodeBatch, inputs: th.Tensor) -> Chunks:
        """Cuts episodes; hidden states are those of the networks as they are, which have played."""
        device = inputs.device
        steps = batch.steps(device)
        on_host = cut_into_pieces(played_mask(batch).squeeze(-1), self.args.data_chunk_length)
        pieces = on_host.to(device)
        last = last_actions(batch["actions"], self.args.n_actions, device)
        with th.no_grad():
            _, of_policy = self.mac.unroll_with_hidden(batch)
            _, of_critic = unroll_with_hidden(self.critic, steps.pack(inputs), steps)
        return Chunks(
            batch_of_pieces(batch, on_host, before(of_policy), last), pieces, pieces.at_start(before(of_critic))
        )

    def _values(
        self, critic: Network, batch: EpisodeBatch, inputs: th.Tensor, hidden: th.Tensor | None = None
    ) -> th.Tensor:
        """Returns the critic's values [b, T+1, a]; zeros in padding unless that counts."""
        steps = batch.steps(inputs.device)
        if self.args.padding_counts:
            steps = PackedSteps(th.ones_like(steps.filled), inputs.device)
        return unroll(critic, steps.pack(inputs), steps, hidden).squeeze(-1)

    def _value_of_candidates(self, batch: EpisodeBatch, inputs: th.Tensor) -> ValuesOf:
        """Returns V(o_t, g) of candidates by the critic, along the trajectory of the inferred subgoals.

        `inputs` [b, T+1, agent, in] are the critic's on those subgoals.
        """

        def values_of(subgoals: th.Tensor, ahead: th.Tensor) -> th.Tensor:
            steps, observed = batch.steps(subgoals.device), inputs[..., : -self.features_size]
            _, hidden = unroll_with_hidden(self.critic, steps.pack(inputs), steps)
            seats = living(batch, subgoals.device)
            return step_candidates(self.critic, observed, subgoals, ahead, before(hidden), seats).squeeze(-1)

        return values_of

    def _steps_of_returns(self, transitions: Transitions) -> Transitions:
        """Returns the transitions over which returns are computed, with their rewards standardised if asked for."""
        args, mask = self.args, transitions.mask
        reward, discount = transitions.reward.masked_fill(mask == 0, 0.0), transitions.discount
        counted = th.ones_like(mask) if args.padding_counts else mask
        if args.standardise_rewards:
            self.rew_ms.update(reward, counted)
            reward = self.rew_ms.standardise(reward).masked_fill(mask == 0, 0.0)
        if args.padding_counts:
            discount = th.full_like(discount, args.gamma)
        if not args.add_value_last_step:
            discount = discount * F.pad(counted[:, 1:], (0, 0, 0, 1))
        return transitions._replace(reward=reward, discount=discount, mask=counted)

    @th.no_grad()
    def _returns(
        self, batch: EpisodeBatch, inputs: th.Tensor, steps: Transitions, played: th.Tensor, value: th.Tensor
    ) -> th.Tensor:
        """Returns lambda- or n-step returns [b, T, a], standardised if asked for.

        They go on by values [b, T+1, a] of the target critic, if there is one, else by `value`.
        """
        args = self.args
        if self.target_critic is not None:
            value = self._values(self.target_critic, batch, inputs)
        if args.standardise_returns:
            value = self.ret_ms.restore(value)
        if args.padding_counts:
            value = value * F.pad(played, (0, 0, 0, 1), value=1.0)
        given = (steps.reward, steps.discount, steps.mask, value[:, 1:])
        if args.q_nstep:
            return_t = n_step_returns(*given, args.q_nstep)
        else:
            return_t = build_td_lambda_targets(*given, args.td_lambda)
        if args.standardise_returns:
            self.ret_ms.update(return_t, steps.mask)
            return_t = self.ret_ms.standardise(return_t)
        return return_t

    def _update_target_if_due(self) -> None:
        """Moves the target critic, if there is one, by a share of the way to the critic, or all of it now and then."""
        tau = self.args.target_update_interval_or_tau
        if tau is None or self.target_critic is None:
            return
        if tau > 1 and self.training_steps % tau == 0:
            self.update_targets()
        if tau <= 1:
            with th.no_grad():
                for target, live in zip(self.target_critic.parameters(), self.critic.parameters(), strict=True):
                    target.lerp_(live, tau)

    def parts(self) -> dict[str, Stateful]:
        target: dict[str, Stateful] = {} if self.target_critic is None else {"target_critic": self.target_critic}
        return {
            "agent": self.mac,
            "critic": self.critic,
            **target,
            "rew_ms": self.rew_ms,
            "ret_ms": self.ret_ms,
            "agent_opt": self.agent_optimiser,
            "critic_opt": self.critic_optimiser,
            **self.model.parts(),
        }

    def update_targets(self) -> None:
        if self.target_critic is not None:
            self.target_critic.load_state_dict(self.critic.state_dict())

    def counts(self) -> dict[str, int]:
        return super().counts() | {"training_steps": self.training_steps}

    def set_counts(self, counts: dict[str, int]) -> None:
        super().set_counts(counts)
        self.training_steps = counts["training_steps"]
