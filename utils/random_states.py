"""The random numbers of a run: a generator for each kind, and the states of the global ones, saved and restored."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch as th

from utils.config import Key
from utils.seeding import named_seed
from utils.weights import StateDict

WORD, PLACE = Key(int, low=0, high=2**32 - 1).read, Key(int, low=0, high=624).read  # of a Mersenne twister
RANDOM_STATES = {
    "python": [int, [WORD] * 624 + [PLACE], (None, float)],
    "numpy": {"bit_generator": str, "state": {"key": [WORD] * 624, "pos": PLACE}, "has_gauss": PLACE, "gauss": float},
    "torch": th.Tensor,
    "cuda": [th.Tensor],
}
"""The layout of `random_states`, in the form of utils/files.py."""


@dataclass(frozen=True)
class Generators:
    """The random numbers of a run, each kind from a generator of its own, made from the run's seed and its name."""

    sampling: np.random.Generator  # which episodes are learned from
    acting: th.Generator  # actions; goes on where the initial weights left torch's default generator
    dealing: th.Generator  # who plays in which seat
    learning: th.Generator  # what learners draw, on the device that computes

    @classmethod
    def of(cls, seed: int, device: str) -> "Generators":
        """Returns the generators of a run, once its networks have been made."""
        acting = th.Generator()
        acting.set_state(th.get_rng_state())
        dealing, learning = (
            th.Generator(place).manual_seed(named_seed(seed, name))
            for name, place in (("dealing", "cpu"), ("learning", device))
        )
        return cls(np.random.default_rng(seed), acting, dealing, learning)

    def state_dict(self) -> dict[str, th.Tensor]:
        """Returns the states of torch's generators, by name."""
        return {name: getattr(self, name).get_state() for name in ("acting", "dealing", "learning")}

    def load_state_dict(self, state: Mapping[str, th.Tensor]) -> None:
        for name, value in state.items():
            getattr(self, name).set_state(value)


def random_states() -> StateDict:
    """Returns the states of the global generators of Python, NumPy and torch, as plain data and tensors."""
    numpy_state = cast(StateDict, np.random.get_state(legacy=False))
    numpy_state["state"]["key"] = numpy_state["state"]["key"].tolist()
    cuda = th.cuda.get_rng_state_all() if th.cuda.is_available() else []
    return {"python": random.getstate(), "numpy": numpy_state, "torch": th.get_rng_state(), "cuda": cuda}


def set_random_states(states: StateDict) -> None:
    """Sets the global generators to a `random_states`; those of GPUs only if there are as many."""
    random.setstate(states["python"])
    numpy_state = states["numpy"]["state"]
    np.random.set_state({**states["numpy"], "state": {**numpy_state, "key": np.array(numpy_state["key"], np.uint32)}})
    th.set_rng_state(states["torch"])
    if th.cuda.is_available() and len(states["cuda"]) == th.cuda.device_count():
        th.cuda.set_rng_state_all(states["cuda"])
