"""How the engine's loops are compiled: the decorators of all compiled code in this package."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numba
from numba.core import cgutils
from numba.extending import intrinsic

FOLDER = Path(__file__).parent


def sources_stamp(folder: Path) -> str:
    """Changes with every source file there: numba itself looks only at the file of the function it has cached, not at
    the files of the functions that this one calls."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


STAMP = sources_stamp(FOLDER)


def compiled(function: Callable | None = None, **options: Any) -> Any:
    """`numba.njit` with a cache on disk that is valid as long as no source file of this package changes."""
    if function is None:
        return partial(compiled, **options)
    dispatcher = numba.njit(cache=True, error_model="numpy", **options)(function)
    if not numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        dispatcher._cache._cache_file._source_stamp = STAMP
    return dispatcher


inlined = compiled(inline="always")
"""For what every unit does in every loop, where a call costs as much as the work."""

if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]

    def borrowed(array):
        return array

else:

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
