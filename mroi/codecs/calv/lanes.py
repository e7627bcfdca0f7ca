"""Vectors of 16 integers for kernels: numba has none, so they are made of instructions of LLVM.

A vector holds an integer of 32 bits, a mask one truth, for each of 16 rows that are decoded in
lockstep. In a kernel they are values like any other: ``+ - * & | ^ << >> < > ==`` work between
two of them, and with an integer as the second. Arithmetic is modulo 2^32, comparisons and ``>>``
are of signed integers. LLVM uses the widest registers that the machine has.
"""

# Kernels are typed by numba when they are called, and what makes them by numba itself.
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, overload, register_model

__all__ = [
    "LANES",
    "any_negative",
    "any_true",
    "broadcast",
    "gather",
    "gather_through",
    "less_unsigned",
    "load",
    "logical_shift",
    "maximum",
    "minimum",
    "minimum_unsigned",
    "ones",
    "select",
    "slide",
    "store",
]

LANES = 16
"""Integers in a vector."""

_WORD = ir.IntType(32)
_INDEX = ir.IntType(64)
_VECTOR = ir.VectorType(_WORD, LANES)
_TRUTHS = ir.VectorType(ir.IntType(1), LANES)
_ANYTHING = ir.Constant(_VECTOR, ir.Undefined)


class _Vector(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Lanes")


class _Mask(types.Type):
    def __init__(self) -> None:
        super().__init__(name="LaneMask")


_LANES = _Vector()
_MASK = _Mask()


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


@register_model(_Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _TRUTHS)


def _instruction(function: Callable[..., Any]) -> Any:  # numba's own type leaves out an argument
    return intrinsic(function)


# --- memory ---


def _place(context, builder, kind, array, index):
    """Return the pointer to an element; an index of 32 bits is unsigned."""
    if index.type.width < 64:
        index = builder.zext(index, _INDEX)
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


def _widened(builder, value, wide):
    return value if value.type == wide else builder.zext(value, wide)


@_instruction
def load(_, array, index):
    """Return 16 adjacent elements of an array of unsigned integers, or of int32."""

    def emit(context, builder, signature, arguments):
        kind = signature.args[0]
        stored = ir.VectorType(ir.IntType(kind.dtype.bitwidth), LANES)
        place = builder.bitcast(_place(context, builder, kind, *arguments), stored.as_pointer())
        return _widened(builder, builder.load(place, align=kind.dtype.bitwidth // 8), _VECTOR)

    return _LANES(array, index), emit


@_instruction
def store(_, array, index, vector):
    """Store a vector, or the low bits of it, in 16 adjacent elements of an array."""

    def emit(context, builder, signature, arguments):
        kind = signature.args[0]
        stored = ir.VectorType(ir.IntType(kind.dtype.bitwidth), LANES)
        place = _place(context, builder, kind, *arguments[:2])
        value = arguments[2] if stored == _VECTOR else builder.trunc(arguments[2], stored)
        place = builder.bitcast(place, stored.as_pointer())
        builder.store(value, place, align=kind.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(array, index, vector), emit


def _lane(builder, vector, number):
    return builder.extract_element(vector, ir.Constant(_WORD, number))


def _joined(builder, values):
    """Return a vector of integers; one load a lane is no slower than what machines have for 16."""
    result = _ANYTHING
    for number, value in enumerate(values):
        result = builder.insert_element(result, value, ir.Constant(_WORD, number))
    return result


@_instruction
def gather(_, array, index):
    """Return the element of an array at each (unsigned) index."""

    def emit(context, builder, signature, arguments):
        kind = signature.args[0]
        found = []
        for number in range(LANES):
            index = _lane(builder, arguments[1], number)
            place = _place(context, builder, kind, arguments[0], index)
            found.append(_widened(builder, builder.load(place), _WORD))
        return _joined(builder, found)

    return _LANES(array, index), emit


@_instruction
def gather_through(_, inner, index, array, offset):
    """Return ``array[inner[index] + offset]`` for each lane, not making a vector halfway."""

    def emit(context, builder, signature, arguments):
        inner, index, array, offset = arguments
        found = []
        for number in range(LANES):
            place = _lane(builder, index, number)
            place = _place(context, builder, signature.args[0], inner, place)
            start = _widened(builder, builder.load(place), _WORD)
            place = builder.add(start, _lane(builder, offset, number))
            place = _place(context, builder, signature.args[2], array, place)
            found.append(_widened(builder, builder.load(place), _WORD))
        return _joined(builder, found)

    return _LANES(inner, index, array, offset), emit


# --- making, moving and choosing lanes ---


def _broadcast(builder, value):
    """Return a vector of one integer, or the vector or mask that the value is already."""
    if isinstance(value.type, ir.VectorType):
        return value
    if value.type.width > _WORD.width:
        value = builder.trunc(value, _WORD)
    single = builder.insert_element(_ANYTHING, value, ir.Constant(_WORD, 0))
    return builder.shuffle_vector(single, single, ir.Constant(_VECTOR, [0] * LANES))


@_instruction
def broadcast(_, value):
    """Return a vector of one integer."""

    def emit(context, builder, signature, arguments):  # noqa: ARG001
        return _broadcast(builder, arguments[0])

    return _LANES(value), emit


@_instruction
def slide(_, vector, first):
    """Return a vector whose lane j is lane j - 1 of another, and lane 0 an integer."""

    def emit(context, builder, signature, arguments):  # noqa: ARG001
        order = ir.Constant(_VECTOR, [LANES, *range(LANES - 1)])
        return builder.shuffle_vector(arguments[0], _broadcast(builder, arguments[1]), order)

    return _LANES(vector, first), emit


@_instruction
def select(_, mask, vector, other):
    """Return the lanes of a vector where a mask is true, those of another elsewhere."""

    def emit(context, builder, signature, arguments):  # noqa: ARG001
        return builder.select(arguments[0], arguments[1], _broadcast(builder, arguments[2]))

    return _LANES(mask, vector, other), emit


@_instruction
def ones(_, mask):
    """Return a vector of 1 where a mask is true, and 0."""

    def emit(context, builder, signature, arguments):  # noqa: ARG001
        return builder.zext(arguments[0], _VECTOR)

    return _LANES(mask), emit


@_instruction
def any_true(_, mask):
    """Return whether any lane of a mask is true."""

    def emit(context, builder, signature, arguments):  # noqa: ARG001
        whole = builder.bitcast(arguments[0], ir.IntType(LANES))
        return builder.icmp_unsigned("!=", whole, ir.Constant(whole.type, 0))

    return types.boolean(mask), emit


@_instruction
def any_negative(_, vector):
    """Return whether any lane of a vector is negative."""

    def emit(context, builder, signature, arguments):  # noqa: ARG001
        negative = builder.icmp_signed("<", arguments[0], ir.Constant(_VECTOR, [0] * LANES))
        whole = builder.bitcast(negative, ir.IntType(LANES))
        return builder.icmp_unsigned("!=", whole, ir.Constant(whole.type, 0))

    return types.boolean(vector), emit


# --- arithmetic ---


def _between(emit: Callable[..., Any], result: Any = _LANES) -> Any:
    """Return what applies an instruction to a vector and another, or an integer."""

    @_instruction
    def apply(_, vector, other):
        def build(context, builder, signature, arguments):  # noqa: ARG001
            return emit(builder, arguments[0], _broadcast(builder, arguments[1]))

        return (_MASK if vector == _MASK else result)(vector, other), build

    return apply


def _operator(function: Callable[..., Any], emit: Callable[..., Any], result: Any = _LANES) -> None:
    apply = _between(emit, result)

    @overload(function)
    def choose(vector, other):  # noqa: ARG001
        if isinstance(vector, (_Vector, _Mask)):
            return lambda vector, other: apply(vector, other)  # noqa: PLW0108  # numba wants it
        return None


_operator(operator.add, lambda builder, a, b: builder.add(a, b))
_operator(operator.sub, lambda builder, a, b: builder.sub(a, b))
_operator(operator.mul, lambda builder, a, b: builder.mul(a, b))
_operator(operator.and_, lambda builder, a, b: builder.and_(a, b))
_operator(operator.or_, lambda builder, a, b: builder.or_(a, b))
_operator(operator.xor, lambda builder, a, b: builder.xor(a, b))
_operator(operator.lshift, lambda builder, a, b: builder.shl(a, b))
_operator(operator.rshift, lambda builder, a, b: builder.ashr(a, b))
_operator(operator.lt, lambda builder, a, b: builder.icmp_signed("<", a, b), _MASK)
_operator(operator.gt, lambda builder, a, b: builder.icmp_signed(">", a, b), _MASK)
_operator(operator.eq, lambda builder, a, b: builder.icmp_signed("==", a, b), _MASK)


def _chosen(comparison: str, *, signed: bool) -> Any:
    """Build elementwise ``a if a <comparison> b else b``."""

    def emit(builder, a, b):
        compare = builder.icmp_signed if signed else builder.icmp_unsigned
        return builder.select(compare(comparison, a, b), a, b)

    return _between(emit)


minimum = _chosen("<", signed=True)
"""The lower integer of each lane."""

maximum = _chosen(">", signed=True)
"""The higher integer of each lane."""

minimum_unsigned = _chosen("<", signed=False)
"""The lower integer of each lane, taken as unsigned."""

less_unsigned = _between(lambda builder, a, b: builder.icmp_unsigned("<", a, b), _MASK)
"""Whether integers are lower than others, taken as unsigned."""

logical_shift = _between(lambda builder, a, b: builder.lshr(a, b))
"""Integers shifted right, taken as unsigned."""
