"""How loops are compiled by numba, and kept on disk until a source file changes."""

import hashlib
import logging
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache

from utils.logging import LOGGER_NAME


def sources_stamp(place: Path) -> str:
    """Changes with that file, or with every source file in that folder: numba itself looks only at the file of the
    function it has cached, not at the files of the functions that this one calls."""
    digest = hashlib.sha256()
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def warn_without_cache() -> None:
    """Says, once in a process, that compiled code cannot be kept."""
    logging.getLogger(LOGGER_NAME).warning(
        "compiled code can't be kept, so each start compiles it anew, the embedded engine's for many seconds; "
        "set the environment variable NUMBA_CACHE_DIR to a folder that can be written to"
    )


class DiskCache(FunctionCache):
    """numba's cache, which is valid as long as the stamp of the sources is the same, and without which it goes on."""

    def __init__(self, function: Callable, stamp: str) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = stamp

    @contextmanager
    def _guard_against_spurious_io_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, pickle.UnpicklingError):
            warn_without_cache()


def compiler(stamp: str) -> Callable[..., Any]:
    """Returns a decorator: `numba.njit` with a cache on disk, or without one where there is no folder to write to.

    What was compiled from sources with another `stamp`, see `sources_stamp`, is not used.
    """

    def compiled(function: Callable | None = None, **options: Any) -> Any:
        if function is None:
            return partial(compiled, **options)
        dispatcher = numba.njit(error_model="numpy", **options)(function)
        if not numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
            try:
                dispatcher._cache = DiskCache(function, stamp)
            except RuntimeError:  # numba's, where neither the sources' folder nor HOME can be written to
                warn_without_cache()
        return dispatcher

    return compiled
