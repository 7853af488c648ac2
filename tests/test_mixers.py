"""Mixers: every registered one keeps the family's rules."""

import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st

from modules.mixers import REGISTRY
from modules.mixers.qmix import QMixer
from modules.mixers.vdn import VDNMixer
from tests.builders import golden_case, golden_weights, make_args

VARIANTS = [("vdn", 2), ("qmix", 1), ("qmix", 2)]


def make_mixer(name: str, hypernet_layers: int) -> th.nn.Module:
    return REGISTRY[name](make_args(hypernet_layers=hypernet_layers))


def test_every_mixer_is_tested_here():
    """But for QTRAN's, which does not mix values: `test_qtran_learner.py` has it; and QPLEX's: `test_qplex.py`."""
    assert {name for name, _ in VARIANTS} == set(REGISTRY) - {"qtran_base", "qplex"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_shapes(variant):
    assert make_mixer(*variant)(th.randn(4, 6, 3), th.randn(4, 6, 7)).shape == (4, 6, 1)


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.01, 100))
def test_the_teams_value_rises_with_every_agents(variant, seed, scale):
    th.manual_seed(seed)
    agent_qs = (scale * th.randn(5, 4, 3)).requires_grad_()
    make_mixer(*variant)(agent_qs, scale * th.randn(5, 4, 7)).sum().backward()
    assert (agent_qs.grad >= 0).all() and agent_qs.grad.sum() > 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_steps_are_mixed_one_by_one(variant):
    mixer, agent_qs, states = make_mixer(*variant), th.randn(4, 6, 3), th.randn(4, 6, 7)
    one = mixer(agent_qs[2:3, 4:5], states[2:3, 4:5])
    assert th.allclose(mixer(agent_qs, states)[2:3, 4:5], one, atol=1e-6)


def test_vdn_is_the_sum():
    assert VDNMixer(make_args())(th.tensor([[[1.0, 2.0, 4.0]]]), th.zeros(1, 1, 7)).item() == 7


def test_qmix_by_hand():
    mixer = QMixer(make_args(n_agents=2, mixing_embed_dim=1, hypernet_layers=1, state_shape=1))
    weights = {
        "hyper_w_1.weight": [[-2.0], [1.0]],
        "hyper_w_final.weight": [[-3.0]],
        "hyper_b_1.weight": [[1.0]],
        "V.0.weight": [[1.0]],
        "V.2.weight": [[5.0]],
    }
    for name, parameter in mixer.named_parameters():
        parameter.data = th.tensor(weights[name]) if name in weights else th.zeros_like(parameter)
    # hidden = elu(|-2| * 1 + |1| * 4 + 1) = 7; Q_tot = |-3| * 7 + 5
    assert mixer(th.tensor([[[1.0, 4.0]]]), th.ones(1, 1, 1)).item() == pytest.approx(26)


@pytest.mark.parametrize("name", ["qmix", "qmix_1layer"])
def test_parameters_have_pymarls_names_and_pymarls_weights_load(name):
    args, _, arrays = golden_case(name)
    weights = golden_weights(arrays, "before/mixer/")
    mixer = QMixer(args)
    assert list(mixer.state_dict()) == list(weights)
    mixer.load_state_dict(weights)


def test_three_hypernet_layers_are_refused():
    with pytest.raises(ValueError, match="hypernet_layers is 1 or 2, not 3"):
        make_mixer("qmix", 3)
