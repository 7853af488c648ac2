"""Every learner's update against the same update by plain loops: `unroll_reference`, GRUCells, and pairs one by one."""

import pytest
import torch as th
from torch.nn.utils.rnn import pad_sequence

from controllers.basic_controller import BasicMAC
from controllers.om_controller import MultiModuleMAC
from learners import REGISTRY
from modules.agents.rnn_agent import RNNAgent
from tests.builders import RecordingLogger, make_batch, make_omg_args, make_scheme

POLICY = dict(agent_output_type="pi_logits", action_selector="multinomial", epsilon_start=0.5)
CASES = {
    "iql": ("q_learner", {}),
    "iql_single_q": ("q_learner", dict(double_q=False)),
    "iql_idv": ("q_learner", dict(agent="idv_rnn", obs_agent_id=False)),
    "iql_dueling": ("q_learner", dict(dueling=True)),
    "vdn": ("q_learner", dict(mixer="vdn")),
    "qmix": ("q_learner", dict(mixer="qmix")),
    "qtran": ("qtran_learner", dict(mixer="qtran_base")),
    "coma": ("coma_learner", POLICY),
    "iql_am": ("q_learner_4am", dict(am_model="base")),
    "iql_liam": ("q_learner_4am", dict(am_model="liam")),
    "iql_omg": ("omg_learner", dict(am_model="omg")),
}


def padded(rows, batch_sizes):
    """Packed rows [N, ...] as [rows of the first step, T, ...], and which of them were there."""
    is_there = th.arange(batch_sizes[0]) < th.tensor(batch_sizes).unsqueeze(1)
    return pad_sequence(rows.split(list(batch_sizes)), batch_first=True).transpose(0, 1), is_there


def unroll_by_steps(agent, rows, batch_sizes, hidden_state=None):
    inputs, is_there = padded(rows, batch_sizes)
    return tuple(outputs.transpose(0, 1)[is_there] for outputs in agent.unroll_reference(inputs, hidden_state))


def gru_by_steps(x, hidden_state, cell, batch_sizes):
    inputs, is_there = padded(x, batch_sizes)
    hs = [hidden_state]
    for t in range(len(batch_sizes)):
        hs.append(cell(inputs[:, t], hs[-1]))
    return th.stack(hs[1:])[is_there]


def step_one_by_one(mac, inputs, subgoals, candidates, hidden_states):
    return th.stack([mac.step_policy(inputs, subgoals[chosen], hidden_states) for chosen in candidates.T], 2)


def updated(name, n_updates=3, **sizes):
    """Statistics, and the last gradients of all networks, of some updates of a learner."""
    learner_name, own = CASES[name]
    args = make_omg_args(**(dict(target_update_interval=2) | own | sizes))
    scheme, groups, _ = make_scheme(args)
    th.manual_seed(3)
    mac = (MultiModuleMAC if "am_model" in own else BasicMAC)(scheme, groups, args)
    logger = RecordingLogger()
    learner = REGISTRY[learner_name](mac, scheme, logger, args)
    for i in range(n_updates):
        batch = make_batch(args, [8, 2, 5, 7], [True, False, True, False], seed=i)
        learner.train(batch, t_env=100 * i, episode_num=i)
    networks = {name: part for name, part in vars(learner).items() if isinstance(part, th.nn.Module)}
    networks["agent"] = mac.agent
    grads = {
        f"{name}/{key}": parameter.grad
        for name, part in networks.items()
        for key, parameter in part.named_parameters()
        if parameter.grad is not None
    }
    return {key: logger.values(key) for key in logger.stats}, grads


@pytest.mark.parametrize("name", CASES)
def test_an_update_has_the_losses_and_gradients_of_plain_loops(name, monkeypatch):
    stats, grads = updated(name)
    monkeypatch.setattr(RNNAgent, "unroll_packed", unroll_by_steps)
    monkeypatch.setattr("modules.agents.idv_rnn_agent.IdvRNNAgent.unroll_packed", unroll_by_steps)
    monkeypatch.setattr("modules.am.trajectory_am.packed_gru", gru_by_steps)
    monkeypatch.setattr(MultiModuleMAC, "step_policy_over", step_one_by_one)
    expected_stats, expected_grads = updated(name)
    assert {key: pytest.approx(values, rel=1e-5, abs=1e-6) for key, values in expected_stats.items()} == stats
    assert grads.keys() == expected_grads.keys() and all(grad.any() for grad in grads.values())
    for key, grad in grads.items():
        error = (grad - expected_grads[key]).norm() / expected_grads[key].norm().clamp(min=1e-6)
        assert error < 1e-5, (key, error)


@pytest.mark.parametrize("name", ["qmix", "iql_omg"])
def test_an_update_does_not_depend_on_the_number_of_threads(name):
    """With networks that are large enough for two threads to share the work."""
    results = []
    for n_threads in (1, 2):
        th.set_num_threads(n_threads)
        results.append(updated(name, n_updates=1, rnn_hidden_dim=384, obs_shape=200))
    (stats, grads), (other_stats, other_grads) = results
    assert {key: pytest.approx(values, rel=1e-5, abs=1e-6) for key, values in stats.items()} == other_stats
    for key, grad in grads.items():
        assert (grad - other_grads[key]).norm() / grad.norm().clamp(min=1e-6) < 1e-5, key
