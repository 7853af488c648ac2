"""Arguments, schemes and random batches for tests, and PyMARL's own numbers (`tests/golden/pymarl`)."""

import itertools
import json
import logging
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch as th

from components.episode_buffer import EpisodeBatch
from components.packed_steps import PackedSteps
from components.transforms import OneHot
from controllers.basic_controller import BasicMAC
from controllers.om_controller import MultiModuleMAC
from modules.network import Network
from modules.unroll import unroll_with_hidden
from utils.rl_utils import is_alive

GOLDEN = Path(__file__).parent / "golden" / "pymarl"


class RecordingLogger:
    """Stands in for `utils.logging.Logger`: keeps `stats[key]` as lists of (t, value), and the test episodes."""

    def __init__(self):
        self.stats = defaultdict(list)
        self.test_episodes = []
        self.console_logger = logging.getLogger("tests")

    def log_stat(self, key: str, value: float, t: int, to_sacred: bool = True) -> None:
        self.stats[key].append((t, value))

    def log_test_episode(self, episode: dict[str, Any]) -> None:
        self.test_episodes.append(episode)

    def values(self, key: str) -> list[float]:
        return [value for _, value in self.stats[key]]


def make_args(**overrides: Any) -> SimpleNamespace:
    """Arguments of a small world; anything can be overridden."""
    args = dict(
        n_agents=3,
        n_actions=5,
        state_shape=7,
        obs_shape=6,
        episode_limit=8,
        device="cpu",
        resolved={},
        population={},
        population_factor=None,
        agent="rnn",
        rnn_hidden_dim=16,
        dueling=False,
        obs_last_action=True,
        obs_agent_id=True,
        agent_output_type="q",
        mask_before_softmax=True,
        action_selector="epsilon_greedy",
        epsilon_start=1.0,
        epsilon_finish=0.05,
        epsilon_anneal_time=1000,
        test_greedy=True,
        mixer=None,
        mixing_embed_dim=8,
        hypernet_layers=2,
        hypernet_embed=16,
        num_kernel=4,
        adv_hypernet_layers=2,
        adv_hypernet_embed=16,
        critic_q_fn="coma",
        common_reward=True,
        epochs=2,
        num_mini_batch=1,
        critic="rnn",
        critic_reads="state_obs",
        eps_clip=0.2,
        entropy_coef=0.01,
        clip_values=True,
        huber_delta=10.0,
        q_nstep=0,
        add_value_last_step=True,
        standardise_rewards=False,
        standardise_returns=True,
        standardise_advantages=True,
        death_masking=True,
        recompute_returns=False,
        target_update_interval_or_tau=None,
        padding_counts=False,
        data_chunk_length=None,
        orthogonal_init=False,
        epsilon_alpha=0.0,
        critic_lr=0.0005,
        td_lambda=0.0,
        qtran_arch="qtran_paper",
        network_size="small",
        opt_loss=1,
        nopt_min_loss=0.1,
        gamma=0.99,
        double_q=True,
        td_loss_weight=1.0,
        weighting="centrally",
        w=0.1,
        central_loss=1.0,
        central_mixing_embed_dim=16,
        lr=0.0005,
        lr_decay=False,
        optimizer="rmsprop",
        optim_alpha=0.99,
        optim_eps=1e-5,
        grad_norm_clip=10,
        target_update_interval=200,
        critic_target_update_interval=200,
        learner_log_interval=0,
    )
    return SimpleNamespace(**(args | overrides))


def make_scheme(args: SimpleNamespace) -> tuple[dict, dict, dict]:
    """(scheme, groups, preprocess) as a run has them."""
    scheme = {
        "state": {"vshape": args.state_shape},
        "obs": {"vshape": args.obs_shape, "group": "agents"},
        "actions": {"vshape": (1,), "group": "agents", "dtype": th.long, "store_dtype": th.int16},
        "avail_actions": {"vshape": (args.n_actions,), "group": "agents", "dtype": th.uint8},
        "reward": {"vshape": (1,)},
        "terminated": {"vshape": (1,), "dtype": th.uint8},
    }
    return scheme, {"agents": args.n_agents}, {"actions": ("actions_onehot", [OneHot(args.n_actions)])}


def empty_batch(args: SimpleNamespace, batch_size: int) -> EpisodeBatch:
    scheme, groups, preprocess = make_scheme(args)
    return EpisodeBatch(scheme, groups, batch_size, args.episode_limit + 1, preprocess=preprocess, device=args.device)


def make_batch(
    args: SimpleNamespace, lengths: list[int], ended: list[bool] | None = None, seed: int = 0
) -> EpisodeBatch:
    """Random episodes of `lengths` transitions each, which end by themselves where `ended` (all, if left out).

    An episode of T transitions fills T + 1 steps; the last one holds the final observation.
    """
    rng = np.random.default_rng(seed)
    batch = empty_batch(args, len(lengths))
    for b, length in enumerate(lengths):
        steps = length + 1
        avail = rng.random((steps, args.n_agents, args.n_actions)) < 0.6
        avail[..., 0] |= ~avail.any(-1)
        actions = (rng.random(avail.shape) * avail).argmax(-1)[..., None]
        reward = rng.normal(size=(steps, 1))
        reward[length] = 0
        terminated = np.zeros((steps, 1))
        terminated[length - 1] = ended is None or ended[b]
        data = {
            "state": rng.normal(size=(steps, args.state_shape)),
            "obs": rng.normal(size=(steps, args.n_agents, args.obs_shape)),
            "actions": actions,
            "avail_actions": avail,
            "reward": reward,
            "terminated": terminated,
        }
        batch.update({key: value[None] for key, value in data.items()}, bs=b, ts=slice(0, steps))
    return batch


def one_step_game(args: SimpleNamespace, payoff: np.ndarray) -> EpisodeBatch:
    """Every joint action once: one step, the payoff as reward, the end."""
    joint_actions = np.array(list(itertools.product(range(args.n_actions), repeat=args.n_agents)))
    batch = empty_batch(args, len(joint_actions))
    ones = np.ones((len(joint_actions), 1, 1))
    avail = np.ones((len(joint_actions), 2, args.n_agents, args.n_actions))
    batch.update({"state": ones.repeat(2, 1), "avail_actions": avail}, ts=slice(0, 2))
    batch.update({"obs": np.ones((len(joint_actions), args.n_agents, 1)), "terminated": ones[:, 0]}, ts=0)
    batch.update({"actions": joint_actions, "reward": payoff[tuple(joint_actions.T)][:, None]}, ts=0)
    return batch


def make_mac(args: SimpleNamespace, n_seats: int | None = None) -> BasicMAC:
    """The controller that the arguments ask for, of batches with so many agents; the whole team's, if left out."""
    scheme, groups, _ = make_scheme(args)
    kind = MultiModuleMAC if hasattr(args, "am_model") else BasicMAC
    return kind(scheme, {"agents": n_seats or groups["agents"]}, args)


@th.no_grad()
def act(mac: BasicMAC, batch: EpisodeBatch, test_mode: bool = True) -> th.Tensor:
    """What the policy acts by, one step at a time: [b, T, agent, action]."""
    mac.init_hidden(batch.batch_size)
    return th.stack([mac.forward(batch, t, test_mode=test_mode) for t in range(batch.max_seq_length)], 1)


def acts_in(mac: BasicMAC, batch: EpisodeBatch) -> th.Tensor:
    """Where the policy acts by what it learns, [b, T, agent] bool: in all steps, or with an agent model in those of
    agents that still have a choice, as nothing is inferred of others when learning."""
    filled = batch["filled"] > 0
    if "am" in mac.networks():
        return is_alive(batch["avail_actions"], filled)
    return filled.expand(-1, -1, batch["obs"].shape[2])


def with_noisy_padding(batch: EpisodeBatch, size: float, seed: int = 1) -> EpisodeBatch:
    """A copy of `batch` whose unfilled steps hold large finite noise instead of zeros."""
    generator = th.Generator().manual_seed(seed)
    noisy = batch[:]
    is_padding = batch["filled"] == 0
    for key in ("state", "obs", "reward"):
        value = batch[key]
        noise = size * th.randn(value.shape, generator=generator)
        where = is_padding.view(*is_padding.shape[:2], *[1] * (value.dim() - 2))
        noisy.data.transition_data[key] = th.where(where, noise, value)
    return noisy


def golden_case(name: str) -> tuple[SimpleNamespace, EpisodeBatch, dict[str, np.ndarray]]:
    """PyMARL's arguments, batch, and all arrays of one case."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        arrays = dict(file)
    pymarls = json.loads(str(arrays["args"]))
    pymarls["critic_target_update_interval"] = pymarls["target_update_interval"]  # one key of two units
    if not name.startswith("coma"):
        pymarls["td_lambda"] = 0  # PyMARL's Q-learners have the key, too, and look one step ahead
    args = make_args(**pymarls, episode_limit=arrays["filled"].shape[1] - 1)
    return args, batch_of(args, arrays), arrays


def batch_of(args: SimpleNamespace, arrays: dict[str, np.ndarray]) -> EpisodeBatch:
    """The episodes that a file of golden numbers has."""
    batch = empty_batch(args, arrays["filled"].shape[0])
    fields = ("state", "obs", "actions", "avail_actions", "reward", "terminated")
    batch.update({key: arrays[key] for key in (*fields, "filled")}, mark_filled=False)
    return batch


def golden_weights(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, th.Tensor]:
    """A state dict: the arrays under `prefix`, such as "before/agent/"."""
    return {key.removeprefix(prefix): th.from_numpy(value) for key, value in arrays.items() if key.startswith(prefix)}


def check_twelve_updates(
    learner: Any,
    batch: EpisodeBatch,
    arrays: dict[str, np.ndarray],
    weights_of: Callable[[Any], dict[str, th.Tensor]],
) -> None:
    """Trains as PyMARL did for the golden numbers; the weights must be its own after the first update and the last."""
    for update in range(1, 13):
        learner.train(batch, t_env=100 * update, episode_num=update)
        if update in (1, 12):
            expected, weights = golden_weights(arrays, f"after_{update}/"), weights_of(learner)
            assert expected.keys() == weights.keys()
            for key, value in weights.items():
                error = (value - expected[key]).norm() / expected[key].norm()
                assert error < {1: 1e-5, 12: 1e-4}[update], (key, update, error)


def copied_weights(**parts: Any) -> dict[str, th.Tensor]:
    """Copies of the weights of several parts, each under its name, such as "agent/fc1.weight"."""
    return {f"{name}/{key}": value.clone() for name, part in parts.items() for key, value in part.state_dict().items()}


def same(first: dict[str, th.Tensor], second: dict[str, th.Tensor]) -> bool:
    """Whether two state dicts hold the same tensors, bit for bit."""
    return first.keys() == second.keys() and all(th.equal(first[key], second[key]) for key in first)


def make_omg_args(**overrides: Any) -> SimpleNamespace:
    """Arguments of a small world whose agents model each other; a subgoal prior is taken as trained at once."""
    omg = dict(
        am_model="omg",
        am_lr=0.001,
        am_hidden_dim=12,
        liam_embedding_dim=6,
        obs_is_state=False,
        omg_horizon=3,
        omg_subgoal_dim=4,
        omg_vae_alpha=0.001,
        omg_cvae_alpha=0.001,
        omg_value="mean",
        omg_opponent_actions=False,
        omg_supervised=False,
        subgoal_mode="optimistic",
        eta=0.5,
        eta_anneal_time=1000,
        eta_steps="environment",
        omg_next_subgoal="same",
        omg_kl_reduction="sum",
        omg_policy_reads="draw_in_training",
        am_in_tests="own",
        omg_vae_pretrain_steps=0,
        omg_prior_path="",
        omg_vae_batches=4,
    )
    return make_args(**(omg | overrides))


def unrolled(network: Network, inputs: th.Tensor, filled: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """`unroll_with_hidden` of inputs [batch, time, agent, in]."""
    steps = PackedSteps(filled)
    return unroll_with_hidden(network, steps.pack(inputs), steps)
