"""How the engine's loops are compiled: the decorators of `dynamics.py`, `features.py` and `heuristic.py`."""

from functools import partial

import numba
from numba.core import cgutils
from numba.extending import intrinsic

compiled = partial(numba.njit, cache=True, error_model="numpy")

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
