"""A user's mistake, and the helpers that word it.
main.py turns a UserError into one line on stderr and exit status 2; any other error is ours and keeps its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from traceback import walk_tb


class UserError(Exception):
    """A mistake of the user, worded as one sentence: what was given, what is allowed, what to do."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns `; did you mean 'x'?` for the known name closest to `name`, or nothing where none is close."""
    matches = get_close_matches(name, list(known), n=1)
    return f"; did you mean '{matches[0]}'?" if matches else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Words an unknown name: its kind, the nearest known name and all known ones."""
    known = sorted(known)
    return f"unknown {kind} '{shortened(name)}'{nearest(name, known)} (known: {', '.join(known) or 'none'})"


def describe_exit(end: SystemExit) -> str:
    """Describes a `sys.exit` in the middle of the work, such as in a user's environment: where it was called."""
    places = [
        f"{frame.f_code.co_qualname} ({frame.f_code.co_filename}, line {line})"
        for frame, line in walk_tb(end.__traceback__)
        if not frame.f_code.co_filename.startswith("<frozen")  # the built-in `exit`'s own
    ]
    return f"{places[-1]} called sys.exit({end.code!r}) in the middle of the work; raise an exception there instead"


def shortened(value: object) -> str:
    """Returns the value as text that a sentence can hold."""
    try:
        text = str(value)
    except ValueError:  # Python writes out no whole number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 100 else f"{text[:80]}... ({len(text):,} characters)"
