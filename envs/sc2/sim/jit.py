"""How the engine's loops are compiled: the decorators of all compiled code in this package."""

from pathlib import Path

import numba
from numba.core import cgutils
from numba.cpython.unsafe.numbers import trailing_zeros
from numba.extending import intrinsic

from utils.jit import compiler, sources_stamp

FOLDER = Path(__file__).parent
STAMP = sources_stamp(FOLDER)

compiled = compiler(STAMP)
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
