"""Machine words: the few instructions that Python has no name for, usable in jitted code."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from penstock.kernel.jit import inlined, inner

FRACTION_BITS = 52
EXPONENT_MASK = 0x7FF
SIGN_TO_ORDER = 0x7FFFFFFFFFFFFFFF


def _unary(name: str) -> Any:
    def typed(_context: Any, _value: Any) -> Any:
        def generate(_codegen: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return getattr(builder, name)(arguments[0], ir.Constant(ir.IntType(1), 0))

        return types.int64(types.uint64), generate

    typed.__name__ = name
    return intrinsic(typed)


leading_zeros = _unary("ctlz")
trailing_zeros = _unary("cttz")


@intrinsic
def multiply_high(_context: Any, _left: Any, _right: Any) -> Any:
    """Return the upper 64 bits of the 128-bit product of two unsigned words."""

    def generate(_codegen: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


@intrinsic
def load_word(_context: Any, data: Any, _index: Any) -> Any:
    """Return the 8 bytes behind an address, from `index` on, as one little-endian word, aligned or not."""

    def generate(_codegen: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        place = builder.gep(arguments[0], [arguments[1]])
        word = builder.load(builder.bitcast(place, ir.IntType(64).as_pointer()))
        word.align = 1
        return word

    return types.uint64(data, types.int64), generate


@intrinsic
def pointer(_context: Any, array: Any) -> Any:
    """Return the address of an array's first element: what inner functions index instead of the array.

    An array is seven words that every call would copy, and each of its indices is checked for being negative; an
    address is one word, and its indices are not.
    """
    dtype = types.uint8 if array.dtype == types.boolean else array.dtype

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.bitcast(place, context.get_value_type(signature.return_type))

    address: Any = types.CPointer
    return address(dtype)(array), generate


def _at(dtype: Any) -> Any:
    address: Any = types.CPointer(dtype)  # type: ignore[no-untyped-call]

    def typed(_context: Any, _word: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return address(types.int64), generate

    return intrinsic(typed)


# The address that a word holds, of words and of bytes.
words_at = _at(types.int64)
bytes_at = _at(types.uint8)


@intrinsic
def behind(_context: Any, address: Any, _index: Any) -> Any:
    """Return the address of the element `index` behind an address."""

    def generate(_codegen: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.gep(arguments[0], [arguments[1]])

    return address(address, types.int64), generate


@intrinsic
def as_bytes(_context: Any, address: Any) -> Any:
    """Return an address of words as one of bytes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    pointer_to: Any = types.CPointer
    return pointer_to(types.uint8)(address), generate


@intrinsic
def prefetch(_context: Any, address: Any, _index: Any) -> Any:
    """Ask the CPU to fetch the cache line of the element `index` behind an address; changes nothing."""

    def generate(_codegen: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        i32 = ir.IntType(32)
        place = builder.bitcast(builder.gep(arguments[0], [arguments[1]]), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [place.type, i32, i32, i32])
        insert: Any = cgutils.get_or_insert_function
        function = insert(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [place, ir.Constant(i32, 0), ir.Constant(i32, 3), ir.Constant(i32, 1)])

    return types.void(address, types.int64), generate


@intrinsic
def stay_apart(_context: Any) -> Any:
    """Keep the function that says this out of its callers' code: what few events need is compiled once, out of the way."""

    def generate(_codegen: Any, builder: Any, _signature: Any, _arguments: Any) -> None:
        builder.function.attributes.add("noinline")

    return types.void(), generate


@intrinsic
def add_three_words(
    _context: Any, address: Any, _source: Any, _target: Any, _w0: Any, _w1: Any, _w2: Any, _negative: Any
) -> Any:
    """Write the number of three words at `source` behind an address, plus or minus another, at `target`: one carry chain."""
    word = types.uint64

    def generate(_codegen: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        base, source, target, *words, negative = arguments
        wide = ir.IntType(192)
        number = builder.zext(words[0], wide)
        for shift, part in ((64, words[1]), (128, words[2])):
            number = builder.or_(number, builder.shl(builder.zext(part, wide), ir.Constant(wide, shift)))
        old = builder.load(builder.bitcast(builder.gep(base, [source]), wide.as_pointer()), align=8)
        # -x is ~x + 1, without a branch.
        mask = builder.sext(builder.trunc(negative, ir.IntType(1)), wide)
        new = builder.sub(builder.add(old, builder.xor(number, mask)), mask)
        builder.store(new, builder.bitcast(builder.gep(base, [target]), wide.as_pointer()), align=8)

    return types.void(address, types.int64, types.int64, word, word, word, types.boolean), generate


@intrinsic
def subtract_three_words(
    _context: Any, address: Any, _target: Any, source: Any, _left: Any, _right: Any
) -> Any:
    """Write the difference of two numbers of three words, at `left` and `right` behind the second address, at `target`."""

    def generate(_codegen: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        base, target, other, *places = arguments
        wide = ir.IntType(192).as_pointer()
        left, right = (
            builder.load(builder.bitcast(builder.gep(other, [place]), wide), align=8) for place in places
        )
        place = builder.bitcast(builder.gep(base, [target]), wide)
        builder.store(builder.sub(left, right), place, align=8)

    return types.void(address, types.int64, source, types.int64, types.int64), generate


@intrinsic
def fused(_context: Any, _left: Any, _right: Any, _added: Any) -> Any:
    """Return ``left * right + added``, rounded once."""

    def generate(_codegen: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float64(types.float64, types.float64, types.float64), generate


@intrinsic
def add_square(
    _context: Any, address: Any, _source: Any, _target: Any, _size: Any, _left: Any, _right: Any
) -> Any:
    """Write the number of three words at `source` plus the square of another at `target`, modulo 2**192.

    The other is one word shifted to the left by `left` bits and to the right by `right`.
    """

    def generate(_codegen: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        base, source, target, size, left, right = arguments
        wide = ir.IntType(192)
        number = builder.shl(builder.zext(size, wide), builder.zext(left, wide))
        number = builder.lshr(number, builder.zext(right, wide))
        old = builder.load(builder.bitcast(builder.gep(base, [source]), wide.as_pointer()), align=8)
        new = builder.add(old, builder.mul(number, number))
        builder.store(new, builder.bitcast(builder.gep(base, [target]), wide.as_pointer()), align=8)

    word = types.int64
    return types.void(address, word, word, types.uint64, word, word), generate


@intrinsic
def subtract_squared_sum(
    _context: Any,
    target: Any,
    sums: Any,
    squares: Any,
    _low: Any,
    _high: Any,
    _right: Any,
    _count: Any,
) -> Any:
    """Write ``count * q - s * s`` at `target`, modulo 2**192: the differences of running totals, of three words each.

    Of `sums`, the difference is shifted to the right by `right` bits; `low` and `high` are the totals' places in words.
    """

    def generate(_codegen: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        to, of_sums, of_squares, low, high, right, count = arguments
        wide = ir.IntType(192)

        def difference(base: Any) -> Any:
            later, earlier = (
                builder.load(builder.bitcast(builder.gep(base, [at]), wide.as_pointer()), align=8)
                for at in (high, low)
            )
            return builder.sub(later, earlier)

        total = builder.ashr(difference(of_sums), builder.zext(right, wide))
        product = builder.mul(builder.zext(count, wide), difference(of_squares))
        place = builder.bitcast(to, wide.as_pointer())
        builder.store(builder.sub(product, builder.mul(total, total)), place, align=8)

    word = types.int64
    return types.void(target, sums, squares, word, word, word, word), generate


@inlined
def bits_of(value: float) -> int:
    """Bit pattern of a float64."""
    return np.float64(value).view(np.int64)


@inlined
def float_of(bits: int) -> float:
    """Float64 of a bit pattern."""
    return np.int64(bits).view(np.float64)


@inlined
def is_finite_bits(bits: int) -> bool:
    """Whether a bit pattern is neither an infinity nor a NaN."""
    return (bits >> FRACTION_BITS) & EXPONENT_MASK != EXPONENT_MASK


@inner
def ordered(bits: int) -> int:
    """Map float64 bits to an integer with the same order; its own inverse."""
    return bits ^ ((bits >> 63) & SIGN_TO_ORDER)
