"""Learners against the numbers of their authors' own code on the same batch and weights (`tests/golden/peers`)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch as th

from learners import REGISTRY
from tests.builders import RecordingLogger, batch_of, golden_weights, make_args, make_mac, make_scheme

PEERS = Path(__file__).parent / "golden" / "peers"
WQMIX = dict(optimizer="rmsprop")
PYMARL2 = dict(optimizer="adam", optim_eps=1e-8)
CW, OW = dict(weighting="centrally"), dict(weighting="optimistically")
QPLEX = dict(mixer="qplex")
EPYMARL = dict(
    rnn_hidden_dim=16,
    action_selector="multinomial",
    epsilon_start=0.0,
    epsilon_finish=0.0,
    optimizer="adam",
    optim_eps=1e-8,
    critic="mlp_critic",
    clip_values=False,
    huber_delta=None,
    standardise_advantages=False,
    death_masking=False,
    recompute_returns=True,
    padding_counts=True,
)
ACTORS = ("critic_loss", "critic_grad_norm", "td_error_abs", "q_taken_mean", "target_mean", "advantage_mean", "pg_loss")
ACTORS += ("agent_grad_norm", "pi_max")
VALUES = ("loss", "grad_norm", "td_error_abs", "q_taken_mean", "target_mean")
WEIGHTED = (*VALUES, "qmix_loss", "central_loss")  # the authors' w_to_use is a mean over padding, too

CASES = {
    "wqmix_cw_qmix": ("wqmix_learner", WQMIX | CW, WEIGHTED),
    "wqmix_ow_qmix": ("wqmix_learner", WQMIX | OW, WEIGHTED),
    "pymarl2_cw_qmix": ("wqmix_learner", PYMARL2 | CW | dict(central_loss=0.5), WEIGHTED),
    "pymarl2_ow_qmix": ("wqmix_learner", PYMARL2 | OW | dict(central_loss=0.5), WEIGHTED),
    "wqmix_qplex": ("qplex_learner", WQMIX | QPLEX, (*VALUES, "hit_prob")),
    "pymarl2_qplex": ("qplex_learner", PYMARL2 | QPLEX | dict(td_loss_weight=0.5), (*VALUES, "hit_prob")),
    **{
        name: ("ppo_learner", EPYMARL | dict(critic_reads=reads, critic_lr=lr), ACTORS)
        for name, reads, lr in (
            ("mappo", "state", 3e-4),
            ("mappo_clip", "state", 0.02),
            ("mappo_returns", "state", 3e-4),
            ("mappo_plain", "state_team", 3e-4),
            ("ippo", "obs", 3e-4),
            ("ippo_clip", "obs", 0.02),
        )
    },
}
"""The learner, arguments in place of the authors' or besides them, and the statistics that both log."""


def golden_learner(name):
    """A learner that starts with the authors' weights; the batch; their arrays."""
    learner_name, ours, _ = CASES[name]
    with np.load(PEERS / f"{name}.npz") as file:
        arrays = dict(file)
    args = make_args(**json.loads(str(arrays["args"])) | ours, episode_limit=arrays["filled"].shape[1] - 1)
    learner = REGISTRY[learner_name](make_mac(args), make_scheme(args)[0], RecordingLogger(), args)
    for part in parts_in(arrays, "before"):
        learner.parts()[part].load_state_dict(golden_weights(arrays, f"before/{part}/"))
    learner.update_targets()
    return learner, batch_of(args, arrays), arrays


def parts_in(arrays, when):
    return {key.split("/")[1] for key in arrays if key.startswith(f"{when}/")}


@pytest.mark.parametrize("name", CASES)
def test_updates_give_the_authors_weights_and_statistics(name):
    learner, batch, arrays = golden_learner(name)
    whens = {int(key.split("/")[0].removeprefix("after_")) for key in arrays if key.startswith("after_")}
    for update in range(1, max(whens) + 1):
        learner.train(batch, t_env=100 * update, episode_num=update)
        for part in parts_in(arrays, f"after_{update}"):
            expected = golden_weights(arrays, f"after_{update}/{part}/")
            for key, weight in learner.parts()[part].state_dict().items():
                th.testing.assert_close(
                    weight, expected[key].expand_as(weight), rtol=1e-5, atol=1e-5, check_dtype=False
                )
    for stat in CASES[name][2]:
        np.testing.assert_allclose(learner.logger.values(stat), arrays[f"stat/{stat}"], rtol=1e-5, atol=1e-5)


def test_every_file_of_the_peers_is_here():
    assert {path.stem for path in PEERS.glob("*.npz")} == set(CASES)
