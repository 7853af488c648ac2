"""The contract of environments as assertions: `check_env` for a `MultiAgentEnv`, `check_vector_env` for a `VectorEnv`.

Every environment's test calls them, and so may whoever writes a new one. The interfaces are in `multiagentenv.py`;
`answers.py` refuses the worst of it while a run plays.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import TypeVar

import numpy as np

from envs.answers import SIZES
from envs.multiagentenv import EnvInfo, MultiAgentEnv, Observations, Outcomes, VectorEnv

Env = TypeVar("Env", MultiAgentEnv, VectorEnv)


def check_env(
    env: MultiAgentEnv,
    n_episodes: int = 3,
    rng: np.random.Generator | None = None,
    make_env: Callable[[], MultiAgentEnv] | None = None,
    refuses_unavailable: bool = False,
) -> None:
    """Plays random episodes and closes the environment.

    `make_env` makes an environment with a fixed seed, of which two must play alike, as must one that is given the
    state of another. `refuses_unavailable` says that `step` promises a ValueError for an action that is not available.

    Raises: AssertionError with one sentence on the first rule that is broken.
    """
    rng = rng or np.random.default_rng(0)
    for _ in range(n_episodes):
        _play_episode(env, rng, refuses_unavailable)
    if make_env is not None:
        _check_alike(env, make_env, _play_episode, int(rng.integers(2**32)))
    env.close()
    env.close()


def check_vector_env(
    env: VectorEnv,
    n_episodes: int = 2,
    rng: np.random.Generator | None = None,
    make_env: Callable[[], VectorEnv] | None = None,
    refuses_unavailable: bool = True,
) -> None:
    """Plays random episodes, in which at every step some worlds stand still, and closes the environment.

    `make_env` and `refuses_unavailable` are those of `check_env`.

    Raises: AssertionError with one sentence on the first rule that is broken.
    """
    rng = rng or np.random.default_rng(0)
    for _ in range(n_episodes):
        _play_episodes(env, rng, refuses_unavailable)
    if make_env is not None:
        _check_alike(env, make_env, _play_episodes, int(rng.integers(2**32)))
    env.close()
    env.close()


def _check_alike(env: Env, make: Callable[[], Env], play: Callable[[Env, np.random.Generator], str], seed: int) -> None:
    """Two of one seed play alike, and a third does from the state of another; all that are made here are closed."""
    first, second, third = (make() for _ in range(3))
    assert play(first, np.random.default_rng(seed)) == play(second, np.random.default_rng(seed)), (
        "two environments of one seed did not play alike"
    )
    if (state := env.state_dict()) is not None:
        third.load_state_dict(json.loads(json.dumps(state)))
        assert play(env, np.random.default_rng(seed)) == play(third, np.random.default_rng(seed)), (
            "an environment did not go on from its state_dict as another did that was given it"
        )
    for made in (first, second, third):
        made.close()


def random_actions(avail_actions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns one available action each, drawn uniformly: [..., n_actions] -> [...]."""
    return (rng.random(avail_actions.shape) * (avail_actions != 0)).argmax(-1)


def _play_episode(env: MultiAgentEnv, rng: np.random.Generator, refuses_unavailable: bool = False) -> str:
    env_info = _check_env_info(env.get_env_info())
    obs, state = env.reset()
    assert np.array_equal(obs, env.get_obs()), "reset and get_obs gave different observations"
    assert np.array_equal(state, env.get_state()), "reset and get_state gave different states"
    seen, n_steps, terminated, history = _look(env, env_info), 0, False, hashlib.sha1()
    while not terminated:
        assert n_steps < env_info["episode_limit"], f"the episode went on beyond {n_steps} steps, its limit"
        if refuses_unavailable and not seen.avail_actions.all():
            refused = random_actions(seen.avail_actions[0] == 0, rng)
            _assert_refused(env.step, refused.tolist())
            assert _equal(seen, _look(env, env_info)), "a refused action changed what is seen"
        actions = random_actions(seen.avail_actions[0], rng)
        reward, terminated, info = env.step(actions.tolist())
        assert np.shape(reward) == (() if env.common_reward else (env.n_agents,)), (
            f"the reward {reward!r} is not one for {'the team' if env.common_reward else 'each agent'}"
        )
        rewards = [reward] if env.common_reward else list(reward)  # type: ignore[arg-type]
        assert all(isinstance(each, float) and np.isfinite(each) for each in rewards), (
            f"the reward {reward!r} is no finite float"
        )
        assert isinstance(terminated, bool), f"terminated is {terminated!r}, which is no bool"
        n_steps += 1
        seen = _look(env, env_info)
        _record(history, [*seen, np.array([*rewards, terminated])])
    for key in env.info_keys:
        assert key in info, f"info lacks {key!r} of info_keys at the end of the episode"
        assert np.isfinite(float(info[key])), f"info[{key!r}] is {info[key]!r}, which is no finite number"
    assert env.get_env_info() == env_info, "get_env_info changed during an episode"
    return history.hexdigest()


def _look(env: MultiAgentEnv, env_info: EnvInfo) -> Observations:
    """Returns what is seen now, through PyMARL's methods, checked: a batch of one."""
    avail_actions = np.array(env.get_avail_actions())
    names = env_info.get("fields", {}).keys() - {"reward"}
    own = {name: np.array(getattr(env, f"get_{name}")())[None] for name in sorted(names)}
    seen = Observations(np.stack(env.get_obs())[None], env.get_state()[None], avail_actions[None], **own)
    sizes = env.get_obs_size(), env.get_state_size(), env.get_total_actions(), env.n_agents, env.episode_limit
    declared = tuple(env_info[key] for key in ("obs_shape", "state_shape", "n_actions", "n_agents", "episode_limit"))
    assert sizes == declared, f"get_env_info declares the sizes {declared}, the methods and attributes {sizes}"
    assert np.array_equal(env.get_obs_agent(0), seen.obs[0, 0]), "get_obs_agent and get_obs differ"
    assert np.array_equal(env.get_avail_agent_actions(0), avail_actions[0]), "get_avail_agent_actions differs"
    _check_seen(seen, np.ones(1, bool), env_info)
    return seen


def _play_episodes(env: VectorEnv, rng: np.random.Generator, refuses_unavailable: bool = False) -> str:
    env_info = _check_env_info(env.get_env_info())
    limit = env_info["episode_limit"]
    seen, outcomes = Observations.empty(env.n_envs, env_info), Outcomes.empty(env.n_envs, env.info_keys, env_info)
    env.reset(seen)
    running, n_steps, history = np.ones(env.n_envs, bool), np.zeros(env.n_envs, int), hashlib.sha1()
    while running.any():
        _check_seen(seen, running, env_info)
        worlds = running & (rng.random(env.n_envs) < 0.8)
        arrays = [*seen, outcomes.reward, outcomes.terminated, outcomes.truncated, *outcomes.info.values()]
        before = [array.copy() for array in arrays]
        lacking = worlds & (seen.avail_actions == 0).any((1, 2))  # worlds in which there is something to refuse
        if refuses_unavailable and lacking.any():
            refused = random_actions(seen.avail_actions == 0, rng)
            _assert_refused(env.step, refused, seen, outcomes, lacking)
            assert _equal(arrays, before), "a refused action changed what is seen or its outcome"
        env.step(random_actions(seen.avail_actions, rng), seen, outcomes, worlds)
        n_steps += worlds
        assert (n_steps <= limit).all(), f"an episode went on beyond {limit} steps, its limit"
        untouched = _equal([array[~worlds] for array in arrays], [array[~worlds] for array in before])
        assert untouched, "rows of worlds outside the mask were written"
        numbers = [outcomes.reward, *outcomes.info.values()]
        assert all(np.isfinite(array).all() for array in numbers), "a reward or an entry of info is not finite"
        both = outcomes.terminated & outcomes.truncated & worlds
        assert not both.any(), "an episode was both terminated and truncated"
        running &= ~(worlds & (outcomes.terminated | outcomes.truncated))
        _record(history, arrays)
    assert env.get_env_info() == env_info, "get_env_info changed during an episode"
    return history.hexdigest()


def _check_env_info(env_info: EnvInfo) -> EnvInfo:
    for key in SIZES:
        assert isinstance(env_info.get(key), Integral) and env_info[key] > 0, (
            f"get_env_info has no positive int {key!r}"
        )
    return env_info


def _check_seen(seen: Observations, worlds: np.ndarray, env_info: EnvInfo) -> None:
    """Shapes, kinds and values of what is seen in the worlds of the mask."""
    wanted = vars(Observations.empty(len(worlds), env_info))
    assert vars(seen).keys() == wanted.keys(), f"{sorted(vars(seen))} is written and not {sorted(wanted)}, as declared"
    for name, array in vars(seen).items():
        declared = wanted[name]
        assert array.shape == declared.shape, f"{name} is {array.shape[1:]} and not {declared.shape[1:]}, as declared"
        are_floats = declared.dtype.kind == "f"
        assert name == "avail_actions" or (array.dtype.kind == "f") == are_floats, f"{name} is {array.dtype}"
        assert np.isfinite(array[worlds]).all(), f"{name} is not finite"
    avail_actions = seen.avail_actions[worlds]
    assert np.isin(avail_actions, (0, 1)).all(), "an availability is neither 0 nor 1"
    assert avail_actions.any(-1).all(), "an agent has no available action"


def _assert_refused(step: Callable[..., object], *arguments: object) -> None:
    try:
        step(*arguments)
    except ValueError:
        return
    raise AssertionError("an action that is not available was not refused by a ValueError")


def _equal(arrays: Iterable[np.ndarray], others: Iterable[np.ndarray]) -> bool:
    return all(map(np.array_equal, arrays, others))


def _record(history: "hashlib._Hash", arrays: Sequence[np.ndarray]) -> None:
    for array in arrays:
        history.update(np.ascontiguousarray(array).data)
