"""Environments of one's own that err: one sentence names the class, the method, what it gave and what is needed."""

import json
import sys

import numpy as np
import pytest

import main
from envs import REGISTRY
from envs.goal_game import GoalGame
from envs.multiagentenv import MultiAgentEnv, Observations, Outcomes, WorkerLimits
from envs.vector import SerialVectorEnv
from tests.games import EndlessGame, RandomGame
from tests.test_run import built, whole_run
from utils.command import Parser, exit_status
from utils.errors import UserError

NAN, INF = float("nan"), float("inf")


class Sound(EndlessGame):
    """Three steps, two agents, two actions, three places."""

    n_places = 3

    def get_obs(self):
        return np.zeros((2, 3))


def game_with(n_sound=0, info_keys=(), **answers):
    """`Sound`, but that its methods give `answers` once `n_sound` steps are over."""

    def giving(name, answer):
        def method(self, *args):
            sound = getattr(Sound, name)(self, *args)
            return sound if self.t < n_sound else answer

        return method

    methods = {name: giving(name, answer) for name, answer in answers.items()}
    return type("Mine", (Sound,), {"info_keys": info_keys, **methods})


def play(game, n_worlds=1, workers=None, n_steps=3, **env_args):
    """Plays the first action of all agents in the game; gives what was seen and brought at the end."""
    env = game.vector(list(range(n_worlds)), workers=workers, **env_args)
    try:
        seen, outcomes = Observations.empty(n_worlds, env.get_env_info()), Outcomes.empty(n_worlds, env.info_keys)
        env.reset(seen)
        for _ in range(n_steps):
            env.step(seen.avail_actions.argmax(-1), seen, outcomes)
        return seen, outcomes
    finally:
        env.close()


OBS, STATE = "array of numbers [n_agents, get_obs_size()] = [2, 3]", "array of numbers [get_state_size()] = [3]"
AVAIL = "array of numbers [n_agents, get_total_actions()] = [2, 2]"
NUMBER, BOOL, SIZE = "one finite number for the team", "True or False, one for the team", "a whole number of at least 1"
WON = {"info_keys": ("battle_won",)}
SEEN = [
    ({"get_obs": [np.zeros(4)] * 2}, "an array float64 [2, 4]", OBS),
    ({"get_obs": [0.0, 0.0, 0.0]}, "[0.0, 0.0, 0.0]", OBS),  # NumPy would have copied it to both agents
    ({"get_obs": [np.zeros(3), np.zeros(4)]}, "rows of the lengths [3, 4]", OBS),
    ({"get_obs": [["1", "2", "3"]] * 2}, "a list without numbers", OBS),
    ({"get_obs": None}, "None", OBS),
    ({"get_obs": {"agent_0": np.zeros(3), "agent_1": np.zeros(3)}}, "a dict without numbers", OBS),
    ({"get_obs": np.zeros((2, 3), complex)}, "a ndarray without numbers", OBS),
    ({"get_obs": [[0, 0, 0], [0, NAN, 0]]}, "nan at index [1, 1]", "finite numbers"),
    ({"get_state": [0, 1e300, 0]}, "inf at index [1]", "finite numbers, in float32 too"),
    ({"get_state": 0.0}, "0.0", STATE),
    ({"get_state": np.zeros((1, 3))}, "array([[0., 0., 0.]])", STATE),
    ({"get_avail_actions": [1, 1]}, "[1, 1]", AVAIL),
    ({"get_avail_actions": [[1, 1], [0, 0]]}, "agent 1 no available action", "at least one for each"),
    ({"get_avail_actions": [[1, 0.5], [1, 1]]}, "an availability of 0.5", "1 for an available action and 0"),
    ({"get_avail_actions": [[1, 256], [1, 1]]}, "an availability of 256", "1 for an available action and 0"),
    ({"get_avail_actions": [[1, -1], [0, 0]]}, "an availability of -1", "1 for an available action and 0"),
    ({"get_avail_actions": [[1, NAN], [1, 1]]}, "an availability of nan", "1 for an available action and 0"),
    ({"step": (1.0, False)}, "2 values", "three values, reward, terminated and info"),
    ({"step": ([0], 1.0, False, False, {})}, "5 values", "three values, reward, terminated and info"),
    ({"step": 1.0}, "1.0", "three values, reward, terminated and info"),
    ({"step": (np.ones(2), False, {})}, "the reward array([1., 1.])", NUMBER),
    ({"step": (np.ones(1), False, {})}, "the reward array([1.])", NUMBER),
    ({"step": (None, False, {})}, "the reward None", NUMBER),
    ({"step": ("1.5", False, {})}, "the reward '1.5'", NUMBER),
    ({"step": (np.float64("nan"), False, {})}, "the reward nan", NUMBER),
    ({"step": (-1e300, False, {})}, "the reward -1e+300", NUMBER),
    ({"step": (10**400, False, {})}, "the reward 10000000000000000000...", NUMBER),
    ({"step": (1.0, [False, False], {})}, "terminated=[False, False]", BOOL),
    ({"step": (1.0, None, {})}, "terminated=None", BOOL),
    ({"step": (1.0, False, None)}, "the info None", "a dict, which may be empty"),
    ({"step": (1.0, True, {"episode_limit": 50})}, "episode_limit=50", BOOL),
    ({"step": (1.0, False, {"battle_won": "yes"}), **WON}, "info['battle_won']='yes'", "one finite number"),
    ({"step": (1.0, False, {"battle_won": INF}), **WON}, "info['battle_won']=inf", "one finite number"),
]
TOLD = [
    ({"get_env_info": None}, "None", "a dict of its sizes"),
    ({"get_env_info": {"n_agents": 2}}, "state_shape=None", SIZE),
    ({"get_obs_size": (3,)}, "obs_shape=(3,)", SIZE),
    ({"get_state_size": 2.5}, "state_shape=2.5", SIZE),
    ({"get_state_size": "3"}, "state_shape='3'", SIZE),
    ({"get_total_actions": 0}, "n_actions=0", SIZE),
    ({"get_total_actions": INF}, "n_actions=inf", SIZE),
]


@pytest.mark.parametrize("n_sound", [0, 2])
@pytest.mark.parametrize(("answers", "given", "needed"), SEEN, ids=[given for _, given, _ in SEEN])
def test_a_wrong_answer_is_one_sentence_at_the_first_step_and_later(answers, given, needed, n_sound):
    with pytest.raises(UserError) as caught:
        play(game_with(n_sound, **answers))
    assert str(caught.value).startswith(f"Mine.{next(iter(answers))} gave {given}, but what is needed is ")
    assert needed in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("answers", "given", "needed"), TOLD, ids=[given for _, given, _ in TOLD])
def test_sizes_are_whole_numbers(answers, given, needed):
    with pytest.raises(UserError) as caught:
        play(game_with(**answers))
    assert str(caught.value).startswith(f"Mine.get_env_info gave {given}, but what is needed is {needed}")


def test_numpys_numbers_and_bools_are_as_good_as_pythons():
    answers = {
        "get_obs": np.eye(3)[:2].astype(bool),
        "get_state": (1, np.float64(2), np.array(3)),
        "get_avail_actions": np.array([[True, False], [False, True]]),
        "step": [np.array(3, np.int8), np.bool_(True), {"episode_limit": np.int64(1), "battle_won": np.bool_(True)}],
    }
    seen, outcomes = play(game_with(**answers, **WON), n_worlds=2, n_steps=1)
    assert np.array_equal(seen.obs, [np.eye(3)[:2]] * 2) and seen.state.tolist() == [[1, 2, 3]] * 2
    assert seen.avail_actions.tolist() == [[[1, 0], [0, 1]]] * 2
    assert outcomes.reward.tolist() == [3, 3] and outcomes.truncated.all() and not outcomes.terminated.any()
    assert outcomes.info["battle_won"].tolist() == [1, 1]


def test_large_numbers_are_finite():
    seen, _ = play(game_with(get_state=[3e38, -3e38, 1]))
    assert np.array_equal(seen.state, np.array([[3e38, -3e38, 1]], np.float32))


def test_after_the_end_nobody_needs_an_action_but_after_a_time_out_everybody_does():
    nobody = {"get_avail_actions": [[0, 0], [0, 0]]}
    seen, outcomes = play(game_with(1, step=(1.0, True, {}), **nobody), n_steps=1)
    assert outcomes.terminated.all() and not seen.avail_actions.any()
    with pytest.raises(UserError, match="agent 0 no available action"):
        play(game_with(1, step=(1.0, True, {"episode_limit": True}), **nobody), n_steps=1)


class NumpysSizes(RandomGame):
    """Has no size that is an int."""

    n_agents = np.int64(3)
    episode_limit = np.float32(7)

    def get_obs_size(self):
        return np.int64(self.n_places)

    def get_state_size(self):
        return np.uint8(self.n_places)

    def get_total_actions(self):
        return np.int32(4)


@pytest.mark.parametrize("runner", ["episode", pytest.param("parallel", marks=pytest.mark.slow)])
def test_a_run_takes_any_whole_numbers_as_sizes_and_records_ints(tmp_path, runner):
    _, args, _ = built(NumpysSizes)
    sizes = (args.n_agents, args.n_actions, args.obs_shape, args.state_shape, args.episode_limit)
    assert sizes == (3, 4, 5, 5, 7) and {type(size) for size in sizes} == {int}
    _, info = whole_run(NumpysSizes, "qmix", runner=runner, batch_size_run=2, local_results_path=tmp_path)
    _, expected = whole_run(RandomGame, "qmix", batch_size_run=2, local_results_path=tmp_path)
    assert info == expected and len(info["loss"]) > 1


class OwnVector(NumpysSizes):
    """Its worlds are played together by code of its own."""

    class Worlds(SerialVectorEnv):
        def get_env_info(self):
            return self.envs[0].get_env_info()

    @classmethod
    def vector(cls, seeds, **_):
        return cls.Worlds([cls(seed) for seed in seeds])


def test_so_does_a_run_in_worlds_that_play_together():
    assert type(built(OwnVector)[1].episode_limit) is int


# --- what else a class can get wrong


class Quits(RandomGame):
    """Ends the program in one of its methods."""

    def __init__(self, method="step", seed=None):
        self.quits_in = method
        super().__init__(seed)
        self._reach("__init__")

    def _reach(self, method):
        if method == self.quits_in:
            sys.exit()

    def play(self, actions):
        self._reach("step")
        return super().play(actions)

    def get_state(self):
        self._reach("get_state")
        return super().get_state()

    def close(self):
        self._reach("close")


@pytest.mark.parametrize("method", ["__init__", "step", "get_state", "close"])
def test_a_world_that_ends_the_program_never_ends_it_with_success(method, tmp_path, capsys):
    assert exit_status(lambda: whole_run(Quits, env_args={"method": method}, local_results_path=tmp_path)) == 2
    says = capsys.readouterr().err
    assert says.splitlines()[-1].startswith("error: Quits._reach (")
    assert f"{__file__}, line " in says and "called sys.exit(None)" in says


@pytest.mark.slow
def test_a_world_in_a_worker_process_is_told_of_in_the_same_sentences():
    env = Errs.vector([0, 1], workers=WorkerLimits(max_restarts=0, timeout_seconds=60))
    seen, outcomes = Observations.empty(2, env.get_env_info()), Outcomes.empty(2, env.info_keys)
    env.reset(seen)
    for worlds, says in (([True, False], "called sys.exit"), ([False, True], "Errs.get_obs gave nan at index")):
        with pytest.raises(UserError, match=says):
            env.step(seen.avail_actions.argmax(-1), seen, outcomes, np.array(worlds))
    env.close()


class Errs(RandomGame):
    """Of seed 0 it ends the program at its first step, of any other it shows NaN then."""

    def play(self, actions):
        if self.seed() == 0:
            sys.exit()
        return super().play(actions)

    def get_obs(self):
        return [obs * (1 if self.t == 0 else NAN) for obs in super().get_obs()]


def test_help_is_no_exit_in_the_middle_of_the_work(capsys):
    assert exit_status(lambda: Parser(prog="program").parse_args(["--help"])) == 0
    assert capsys.readouterr().out.startswith("usage: program")


class WithoutSeed(EndlessGame):
    def __init__(self, size=3):
        super().__init__()


class Half(MultiAgentEnv):
    def __init__(self, seed=None):
        pass

    def reset(self):
        pass


def test_a_class_that_cannot_be_made_is_one_sentence():
    with pytest.raises(UserError, match=r"^WithoutSeed can't be made with seed, size .* argument 'seed'"):
        play(WithoutSeed, size=2)
    with pytest.raises(UserError, match="^Half lacks get_avail_actions, get_obs, .*, step, which envs/multi"):
        play(Half)


class Gymnasiums(GoalGame):
    def step(self, actions):
        reward, over, info = super().step(actions)
        return self.get_obs(), reward, over, False, info


def test_the_command_line_prints_the_sentence_and_records_a_failed_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(REGISTRY._entries, "goal_game", Gymnasiums)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    given = [f"--local_results_path={tmp_path}", "--seed=1", "--use_tensorboard=False"]
    assert main.main(["--config=iql", "--env-config=goal_game", *given]) == 2
    assert "error: Gymnasiums.step gave 5 values, but what is needed is three values" in capsys.readouterr().err
    assert json.loads((tmp_path / "sacred" / "1" / "run.json").read_text())["status"] == "FAILED"
