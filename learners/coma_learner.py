"""COMA: a policy gradient with counterfactual baselines (Foerster et al., AAAI 2018).

The critic is `modules/critics/coma.py`; lambda-returns are in `utils/rl_utils.py`. Variables with the suffix `_t` hold
step t of the episodes that played it.
"""

from collections import defaultdict
from copy import deepcopy
from typing import Any

import torch as th
import torch.nn.functional as F

from components.episode_buffer import EpisodeBatch
from components.packed_steps import PackedSteps
from components.transitions import Transitions, make_transitions, played_mask
from learners.base_learner import Learner
from modules.critics import REGISTRY as CRITICS
from utils.rl_utils import build_td_lambda_targets
from utils.transfer import where


class COMALearner(Learner):
    """Trains the critic towards TD(lambda) and the policy by the critic's counterfactual advantages."""

    counters = ("critic_training_steps", "last_target_update_step", "log_stats_t")

    def __init__(self, mac: Any, scheme: dict, logger: Any, args: Any):
        super().__init__(mac, logger, args)
        self.critic = CRITICS[args.critic_q_fn](args).to(args.device)
        self.target_critic = deepcopy(self.critic)
        self.agent_params = list(mac.parameters())
        self.critic_params = list(self.critic.parameters())
        rates = {"alpha": args.optim_alpha, "eps": args.optim_eps}
        self.agent_optimiser = th.optim.RMSprop(self.agent_params, lr=args.lr, **rates)
        self.critic_optimiser = th.optim.RMSprop(self.critic_params, lr=args.critic_lr, **rates)
        self.critic_training_steps = 0
        self.last_target_update_step = 0

    def train(self, batch: EpisodeBatch, t_env: int, episode_num: int) -> None:
        """One step of the critic per time step, then one of the policy along the gradient of
        mean(A_a * log pi(u_a)), A_a = Q(s, u) - sum_u' pi(u') Q(s, (u_-a, u')) (equation 4), over played steps.
        """
        transitions = make_transitions(batch, self.args.gamma)
        played = F.pad(played_mask(batch), (0, 0, 0, 1))
        steps = PackedSteps(played, self.args.device)
        policy = self.mac.unroll(batch).masked_fill(~transitions.avail, 0.0)
        actions = self._with_last_actions(batch, played, policy.detach())
        q, critic_stats = self._train_critic(transitions, actions, steps, t_env)

        # Only played steps, as rows: [n, a] or [n, a, u].
        pi = steps.pack(policy)
        pi = pi / pi.sum(-1, keepdim=True)
        taken = steps.pack(actions).unsqueeze(-1)
        baseline = (pi.detach() * q).sum(-1)
        advantage = q.gather(-1, taken).squeeze(-1) - baseline
        coma_loss = -(advantage * pi.gather(-1, taken).squeeze(-1).log()).mean()
        grad_norm = self.descend(coma_loss, self.agent_optimiser, self.agent_params, t_env)

        if self.critic_training_steps - self.last_target_update_step >= self.args.critic_target_update_interval:
            self._update_targets()
            self.last_target_update_step = self.critic_training_steps

        if self.is_log_due(t_env):
            self.log(
                t_env,
                **critic_stats,
                advantage_mean=advantage.mean(),
                coma_loss=coma_loss,
                agent_grad_norm=grad_norm,
                pi_max=pi.max(-1).values.mean(),
            )

    def _with_last_actions(self, batch: EpisodeBatch, played: th.Tensor, policy: th.Tensor) -> th.Tensor:
        """The actions [b, T+1, a], with draws from the policy at the last observation of episodes that were cut off.

        Nobody acted there, but the critic's value of that step, from which they bootstrap, is one of a joint action.
        `played` [b, T+1, 1] is in main memory.
        """
        actions = batch["actions"].squeeze(-1).clone()
        has_ended = (played & batch.on_host("terminated").bool()).any(1, keepdim=True)
        is_last = batch.on_host("filled").bool() & ~played & ~has_ended
        last = where(is_last.squeeze(-1), actions.device)
        # argmax p_u / e_u with e_u ~ Exp(1) draws u with probability p_u, without the checks of th.multinomial.
        chances = policy[last]
        actions[last] = (chances / th.empty_like(chances).exponential_()).argmax(-1)
        return actions

    def _train_critic(
        self, transitions: Transitions, actions: th.Tensor, steps: PackedSteps, t_env: int
    ) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        """Steps the critic once per time step, from the last one backwards.

        Gives the Q-values of the played `steps`, [n, a, u], as they were before each step, and means over time steps to
        log where that is due.
        """
        one_hot = th.eye(self.args.n_actions, device=actions.device)[actions]
        last_one_hot = F.pad(one_hot[:, :-1], (0, 0, 0, 0, 1, 0))
        parts = (transitions.state, transitions.obs, one_hot, last_one_hot)
        inputs = self.critic.build_inputs(*(part.flatten(0, 1) for part in parts)).unflatten(0, steps.leading)
        with th.no_grad():
            target_values = self.target_critic(inputs).gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        targets = build_td_lambda_targets(
            transitions.reward, transitions.discount, transitions.mask, target_values, self.args.td_lambda
        )
        packed = (steps.pack(part) for part in (inputs, actions, F.pad(targets, (0, 0, 0, 1))))
        qs, stats = [], defaultdict(list)
        for inputs_t, actions_t, target_t in reversed(
            list(zip(*(rows.split(steps.batch_sizes) for rows in packed), strict=True))
        ):
            q_t = self.critic(inputs_t)
            q_taken_t = q_t.gather(-1, actions_t.unsqueeze(-1)).squeeze(-1)
            td_error_t = q_taken_t - target_t
            loss = (td_error_t**2).mean()
            grad_norm = self.descend(loss, self.critic_optimiser, self.critic_params, t_env)
            self.critic_training_steps += 1
            qs.append(q_t.detach())
            if self.is_log_due(t_env):
                stats["critic_grad_norm"].append(grad_norm)
                stats["critic_loss"].append(loss.detach())
                stats["td_error_abs"].append(td_error_t.detach().abs().mean())
                stats["q_taken_mean"].append(q_taken_t.detach().mean())
                stats["target_mean"].append(target_t.mean())
        return th.cat(qs[::-1]), {key: th.stack(values).mean() for key, values in stats.items()}

    def _update_targets(self) -> None:
        self.target_critic.load_state_dict(self.critic.state_dict())

    def _parts(self) -> dict[str, Any]:
        return {
            "agent": self.mac,
            "critic": self.critic,
            "target_critic": self.target_critic,
            "agent_opt": self.agent_optimiser,
            "critic_opt": self.critic_optimiser,
        }
