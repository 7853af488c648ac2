"""Schedules over environment steps, used by `components/action_selectors.py` for epsilon."""

import math


class DecayThenFlatSchedule:
    """From `start` to `finish` over `time_length` steps, then flat.

    linear: start + (finish - start) * min(t / time_length, 1)
    exp:    exp(t * ln(finish) / time_length), held between finish and start
    """

    def __init__(self, start: float, finish: float, time_length: int, decay: str = "linear"):
        if decay not in ("linear", "exp"):
            raise ValueError(f"decay is 'linear' or 'exp', not {decay!r}")
        if time_length <= 0:
            raise ValueError(f"time_length must be positive, not {time_length}")
        if decay == "exp" and finish <= 0:
            raise ValueError(f"an exponential decay never reaches {finish}: finish must be positive")
        self.start = start
        self.finish = finish
        self.time_length = time_length
        self.decay = decay

    def eval(self, t: int) -> float:
        """Returns the value after `t` steps."""
        if self.decay == "linear":
            return self.start + (self.finish - self.start) * min(t / self.time_length, 1.0)
        return min(self.start, max(self.finish, math.exp(t * math.log(self.finish) / self.time_length)))
