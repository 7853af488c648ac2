"""Vectors of eight numbers, for the loops over all neighbours of a unit.

`lanes(rows, row, k)` reads eight columns of a row. Vectors are added, subtracted, multiplied and compared, with each
other and with numbers; `bits` packs what a comparison gives into a number. LLVM vectorises such loops by itself, too,
but shifts every bit to its place on its own, and spends as much before and after a loop over 30 units as in it.
"""

import operator
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, overload, register_model

LANES = 8

if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]

    def lanes(rows, row, k):
        return rows[row, k : k + LANES]

    def bits(mask):
        return np.uint64(np.packbits(mask, bitorder="little")[0])

else:

    class Vector(types.Type):
        """Eight doubles."""

    class Mask(types.Type):
        """Eight truth values."""

    VECTOR, MASK = Vector(name="Vector"), Mask(name="Mask")
    IR_VECTOR, IR_MASK = ir.VectorType(ir.DoubleType(), LANES), ir.VectorType(ir.IntType(1), LANES)
    register_model(Vector)(lambda manager, of: models.PrimitiveModel(manager, of, IR_VECTOR))
    register_model(Mask)(lambda manager, of: models.PrimitiveModel(manager, of, IR_MASK))

    @intrinsic
    def lanes(typing_context, rows, row, k):
        """Columns k to k + 7 of a row; rows [row, column] is C-contiguous, its width a multiple of eight."""

        def code(context, builder, signature, arguments):
            array = context.make_array(rows)(context, builder, arguments[0])
            at_row, at_column = (
                context.cast(builder, value, of, types.intp)
                for value, of in zip(arguments[1:], signature.args[1:], strict=True)
            )
            width = builder.extract_value(array.shape, 1)
            first = builder.gep(array.data, [builder.add(builder.mul(at_row, width), at_column)])
            return builder.load(builder.bitcast(first, IR_VECTOR.as_pointer()), align=8)

        return VECTOR(rows, row, k), code

    @intrinsic
    def bits(typing_context, mask):
        """The number, uint64, whose bit k is lane k of a comparison."""

        def code(context, builder, signature, arguments):
            return builder.zext(builder.bitcast(arguments[0], ir.IntType(LANES)), ir.IntType(64))

        return types.uint64(mask), code

    def _in_all_lanes(context, builder, value, of):
        """A vector as it is, a number eight times."""
        if of in (VECTOR, MASK):
            return value
        undefined, index = ir.Constant(IR_VECTOR, ir.Undefined), ir.IntType(32)
        value = context.cast(builder, value, of, types.float64)
        first = builder.insert_element(undefined, value, ir.Constant(index, 0))
        return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(index, LANES), [0] * LANES))

    def _define(python_operator: Any, result: types.Type, instruction: Callable) -> None:
        """Gives an operator its meaning between two vectors, or a vector and a number."""

        @intrinsic
        def operate(typing_context, a, b):
            def code(context, builder, signature, arguments):
                pairs = zip(arguments, signature.args, strict=True)
                return instruction(builder, *(_in_all_lanes(context, builder, value, of) for value, of in pairs))

            return result(a, b), code

        @overload(python_operator)
        def overloaded(a, b):
            return (lambda a, b: operate(a, b)) if {a, b} & {VECTOR, MASK} else None  # type: ignore[call-arg]

    _define(operator.add, VECTOR, ir.IRBuilder.fadd)
    _define(operator.sub, VECTOR, ir.IRBuilder.fsub)
    _define(operator.mul, VECTOR, ir.IRBuilder.fmul)
    _define(operator.lt, MASK, lambda builder, a, b: builder.fcmp_ordered("<", a, b))
    _define(operator.gt, MASK, lambda builder, a, b: builder.fcmp_ordered(">", a, b))
    _define(operator.ne, MASK, lambda builder, a, b: builder.fcmp_unordered("!=", a, b))
    _define(operator.and_, MASK, ir.IRBuilder.and_)
    _define(operator.or_, MASK, ir.IRBuilder.or_)
