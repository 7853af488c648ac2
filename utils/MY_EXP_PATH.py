"""Where experiment data lies: the root under which trained weights are looked for, and the check of a results folder.
Where a run writes is its own key, `local_results_path`, in config/default.yaml.
"""

import os
from pathlib import Path

from utils.errors import UserError, shortened


def experiment_root() -> Path:
    """Returns the experiment-data root: the environment variable MY_EXP_PATH, or the folder `results`."""
    return Path(os.path.expanduser(os.environ.get("MY_EXP_PATH", "results")))


def expanded(path: str) -> str:
    """Returns the path with `~` or `~USER` at its start written out.

    Raises: ValueError where there is no such home folder.
    """
    full = os.path.expanduser(path)
    if full.startswith("~"):
        raise ValueError(f"{path} names a home folder that is not there")
    return full


def check_results_path(path: str | Path, key: str = "local_results_path") -> None:
    """Checks, without creating anything, that the folder `path` of this key exists or could be made, and be written to.

    Raises: UserError where something in the way is not a folder, or may not be written to.
    """
    existing = Path(path).absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        problem = "may not be written to" if existing.is_dir() else "is not a folder"
        raise UserError(f"{key}='{shortened(path)}' can't be used: {existing} {problem}; give another folder")


def make_results_folder(path: str | Path, key: str = "local_results_path") -> None:
    """Makes the folder `path` of this key where it is not there.

    Raises: UserError where the system refuses, as under /proc.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{key}='{shortened(path)}' can't be used: the folder can't be made ({error.strerror}); give another folder"
        ) from error
