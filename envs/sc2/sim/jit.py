"""How the engine's loops are compiled: the decorators of all compiled code in this package."""

import hashlib
import logging
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import numba
from numba.core import cgutils
from numba.core.caching import FunctionCache
from numba.cpython.unsafe.numbers import trailing_zeros
from numba.extending import intrinsic

from utils.logging import LOGGER_NAME

FOLDER = Path(__file__).parent


def sources_stamp(folder: Path) -> str:
    """Changes with every source file there: numba itself looks only at the file of the function it has cached, not at
    the files of the functions that this one calls."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


STAMP = sources_stamp(FOLDER)


@cache
def warn_without_cache() -> None:
    """Says, once in a process, that compiled code cannot be kept."""
    logging.getLogger(LOGGER_NAME).warning(
        "the embedded engine's compiled code can't be kept, so each start compiles it anew, many seconds; "
        "set the environment variable NUMBA_CACHE_DIR to a folder that can be written to"
    )


class DiskCache(FunctionCache):
    """numba's cache, which is valid as long as no source file of this package changes, and without which it goes on."""

    def __init__(self, function: Callable) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = STAMP

    @contextmanager
    def _guard_against_spurious_io_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, pickle.UnpicklingError):
            warn_without_cache()


def compiled(function: Callable | None = None, **options: Any) -> Any:
    """`numba.njit` with a cache on disk, or without one where there is no folder to write to."""
    if function is None:
        return partial(compiled, **options)
    dispatcher = numba.njit(error_model="numpy", **options)(function)
    if not numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        try:
            dispatcher._cache = DiskCache(function)
        except RuntimeError:  # numba's, where neither the sources' folder nor HOME can be written to
            warn_without_cache()
    return dispatcher


inlined = compiled(forceinline=True)
"""For what every unit does in every loop, where a call costs as much as the work. (LLVM inlines it: with numba's own
inlining, `inline="always"`, compiling takes eight times as long, and battles run some per cent slower.)"""

if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]

    def borrowed(array):
        return array

    def lowest_bit(bits):
        return (int(bits) & -int(bits)).bit_length() - 1

else:
    lowest_bit = trailing_zeros  # type: ignore[assignment]
    """The number of the lowest bit that is set; some must be."""

    @intrinsic
    def borrowed(typing_context, array):
        """The same array without its reference count, which compiled code otherwise updates atomically at every use.

        The caller must keep the array alive, as all kernels do that got it as an argument.
        """

        def code(context, builder, signature, arguments):
            view = context.make_array(signature.return_type)(context, builder, arguments[0])
            view.meminfo = cgutils.get_null_value(view.meminfo.type)
            return view._getvalue()

        return array(array), code
