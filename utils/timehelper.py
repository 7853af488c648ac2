"""Durations as text, for log lines. The progress line that uses them is in utils/progress.py."""

import time


def time_left(start_time: float, t_start: int, t_current: int, t_max: int) -> str:
    """Estimates how long the steps t_current..t_max take at the mean speed since `start_time` (time.time()).

    Returns "-" where there is nothing left or no step yet to measure a speed by.
    """
    if t_current >= t_max or t_current <= t_start:
        return "-"
    elapsed_seconds = time.time() - start_time
    return time_str(elapsed_seconds * (t_max - t_current) / (t_current - t_start))


def time_str(seconds: float) -> str:
    """Returns a duration as text, from its largest unit that is not zero: `1 hours, 2 minutes, 3 seconds`."""
    minutes, whole_seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "days"), (hours, "hours"), (minutes, "minutes"), (whole_seconds, "seconds")]
    while len(parts) > 1 and parts[0][0] == 0:
        del parts[0]
    return ", ".join(f"{count} {unit}" for count, unit in parts)
