"""COMA: a policy gradient with counterfactual baselines (Foerster et al., AAAI 2018).

The critic is `modules/critics/coma.py`; lambda-returns are in `utils/rl_utils.py`. Tensors are [batch, time, agent,
...]; the suffix `_t` is for one step t.
"""

from collections import defaultdict
from copy import deepcopy
from dataclasses import dataclass

import torch as th
import torch.nn.functional as F

from components.episode_buffer import EpisodeBatch, Scheme
from components.transitions import Transitions, make_transitions, played_mask
from learners.base_learner import Learner, Policy
from modules.critics import REGISTRY as CRITICS
from utils.config import STEPS, T, key
from utils.dict2namedtuple import Args
from utils.logging import Logger
from utils.rl_utils import build_td_lambda_targets, chosen, masked_mean
from utils.transfer import step_index
from utils.weights import Stateful


class COMALearner(Learner):
    """Trains the critic towards TD(lambda) and the policy by the critic's counterfactual advantages."""

    @dataclass(frozen=True)
    class Keys(Learner.Keys):
        critic_target_update_interval: int = key(200, "from one copy to the next", "gradient steps", low=1, high=T)
        critic_q_fn: str = key("coma", "the critic's network", names="modules.critics:REGISTRY")
        critic_baseline_fn: str = key("coma", "baseline: what the agent's other actions are worth", choices=("coma",))
        q_nstep: int = key(0, "further steps in the advantage's Q-values: 0 (the critic's own)", STEPS, choices=(0,))

    output_type = "pi_logits"
    learns_seats = False

    def __init__(self, mac: Policy, scheme: Scheme, logger: Logger, args: Args):
        super().__init__(mac, logger, args)
        self.critic = CRITICS[args.critic_q_fn](args).to(args.device)
        self.target_critic = deepcopy(self.critic)
        self.agent_params = list(mac.parameters())
        self.critic_params = list(self.critic.parameters())
        self.agent_optimiser = self.make_optimiser(self.agent_params, args.lr)
        self.critic_optimiser = self.make_optimiser(self.critic_params, args.critic_lr)
        self.critic_training_steps = 0
        self.last_target_update_step = 0

    def train(self, batch: EpisodeBatch, t_env: int, episode_num: int) -> None:
        """Makes one step of the critic per time step, then one of the policy along the gradient of
        mean(A_a * log pi(u_a)), A_a = Q(s, u) - sum_u' pi(u') Q(s, (u_-a, u')) (equation 4), over played steps.
        """
        transitions = make_transitions(batch, self.args.gamma)
        mask, actions_t = transitions.mask, transitions.actions
        policy = self.mac.unroll(batch).masked_fill(~transitions.avail, 0.0)
        q, critic_stats = self._train_critic(batch, transitions, policy.detach(), t_env)

        # Where nothing is available, in padding, any finite policy will do.
        pi = policy[:, :-1]
        pi = pi / pi.sum(-1, keepdim=True).clamp(min=1e-10)
        baseline = (pi.detach() * q).sum(-1)
        advantage = chosen(q, actions_t) - baseline
        log_pi_taken = chosen(pi, actions_t).masked_fill(mask == 0, 1.0).log()
        coma_loss = -masked_mean(advantage * log_pi_taken, mask)
        grad_norm = self.descend(coma_loss, self.agent_optimiser, self.agent_params, t_env)

        if self.critic_training_steps - self.last_target_update_step >= self.args.critic_target_update_interval:
            self.update_targets()
            self.last_target_update_step = self.critic_training_steps

        if self.is_log_due(t_env):
            self.log(
                t_env,
                **critic_stats,
                advantage_mean=masked_mean(advantage, mask),
                coma_loss=coma_loss,
                agent_grad_norm=grad_norm,
                pi_max=masked_mean(pi.max(-1).values, mask),
            )

    def _train_critic(
        self, batch: EpisodeBatch, transitions: Transitions, policy: th.Tensor, t_env: int
    ) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        """Steps the critic once per time step, from the last one backwards.

        Returns the Q-values [b, T, a, u] as they were before each step, and means over time steps to log where that is
        due.
        """
        mask = transitions.mask
        actions = self._with_last_actions(batch, policy)  # [b, T+1, a]
        one_hot = F.one_hot(actions, self.args.n_actions).float()
        last_one_hot = F.pad(one_hot[:, :-1], (0, 0, 0, 0, 1, 0))
        fields = (transitions.state, transitions.obs, one_hot, last_one_hot)
        inputs = self.critic.build_inputs(*(field.flatten(0, 1) for field in fields)).unflatten(0, actions.shape[:2])
        with th.no_grad():
            target_values = chosen(self.target_critic(inputs), actions)
        targets = build_td_lambda_targets(
            transitions.reward, transitions.discount, mask, target_values[:, 1:], self.args.td_lambda
        )
        qs, stats = [], defaultdict(list)
        n_steps = int(played_mask(batch).any(0).sum())  # of the longest episode
        for t in reversed(range(n_steps)):
            mask_t, target_t = mask[:, t : t + 1], targets[:, t : t + 1]
            q_t = self.critic(inputs[:, t : t + 1])
            q_taken_t = chosen(q_t, actions[:, t : t + 1])
            loss = masked_mean((q_taken_t - target_t) ** 2, mask_t)
            grad_norm = self.descend(loss, self.critic_optimiser, self.critic_params, t_env)
            self.critic_training_steps += 1
            qs.append(q_t.detach())
            if self.is_log_due(t_env):
                stats["critic_grad_norm"].append(grad_norm)
                stats["critic_loss"].append(loss.detach())
                stats["td_error_abs"].append(masked_mean((q_taken_t.detach() - target_t).abs(), mask_t))
                stats["q_taken_mean"].append(masked_mean(q_taken_t.detach(), mask_t))
                stats["target_mean"].append(masked_mean(target_t, mask_t))
        q = F.pad(th.cat(qs[::-1], 1), (0, 0, 0, 0, 0, mask.shape[1] - n_steps))
        return q, {key: th.stack(values).mean() for key, values in stats.items()}

    def _with_last_actions(self, batch: EpisodeBatch, policy: th.Tensor) -> th.Tensor:
        """Returns the actions [b, T+1, a], with draws from the policy at the end of episodes that were cut off.

        They bootstrap from the critic's value of that step, which is one of a joint action, though nobody acted there.
        """
        actions = batch["actions"].squeeze(-1).clone()
        filled = batch.on_host("filled").bool()
        has_ended = (filled & batch.on_host("terminated").bool()).any(1, keepdim=True)
        is_last = filled & ~F.pad(filled[:, 1:], (0, 0, 0, 1)) & ~has_ended
        last = step_index(is_last.squeeze(-1), actions.device)
        # argmax p_u / e_u with e_u ~ Exp(1) draws u with probability p_u, without the checks of th.multinomial.
        chances = policy[last]
        actions[last] = (chances / th.empty_like(chances).exponential_(generator=self.generator)).argmax(-1)
        return actions

    def parts(self) -> dict[str, Stateful]:
        return {
            "agent": self.mac,
            "critic": self.critic,
            "target_critic": self.target_critic,
            "agent_opt": self.agent_optimiser,
            "critic_opt": self.critic_optimiser,
        }

    def update_targets(self) -> None:
        self.target_critic.load_state_dict(self.critic.state_dict())

    def counts(self) -> dict[str, int]:
        return super().counts() | {
            "critic_training_steps": self.critic_training_steps,
            "last_target_update_step": self.last_target_update_step,
        }

    def set_counts(self, counts: dict[str, int]) -> None:
        super().set_counts(counts)
        self.critic_training_steps = counts["critic_training_steps"]
        self.last_target_update_step = counts["last_target_update_step"]
