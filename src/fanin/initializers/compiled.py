# mypy: ignore-errors
"""The fills of `fills.py`, compiled: the same bits as the NumPy specification, an order of magnitude faster.

Importing this module imports Numba. Philox runs on 32-bit words kept in 64-bit lanes, which is the one
product that vector units have, and leaves its words packed in the order in which they are used. No
multiply-add is fused, because Numba fuses none unless told to.
"""

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from fanin.initializers import transforms

__all__ = ["NORMAL", "TRUNCATED", "UNIFORM", "fill_columns", "fill_runs"]

UNIFORM, NORMAL, TRUNCATED = 0, 1, 2
"""Which transform `fill_runs` applies to the words."""

_BLOCKS = 256
"""Philox blocks per tile: 4 KiB of words, so that a tile never leaves the first-level cache."""
_ROWS, _WIDTH = 64, 4 * _BLOCKS - 4
"""Runs drawn side by side, and elements of each at a time: a tile less the elements before an odd start."""

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _HALF_WORD = np.uint64(0xFFFFFFFF), np.uint64(32)
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8 = map(np.float32, transforms.LOG)
_S0, _S1, _S2, _S3 = map(np.float32, transforms.SIN)
_C0, _C1, _C2, _C3 = map(np.float32, transforms.COS)
_E0, _E1, _E2, _E3, _E4, _E5, _E6, _E7, _E8, _E9, _E10, _E11, _E12 = map(np.float32, transforms.CENTRAL)
_ONE, _HALF, _MINUS_TWO = np.float32(1), np.float32(0.5), np.float32(-2)
_WORD, _TOP = np.float32(2.0**-32), np.float32(2.0**-24)
_SQRT_HALF_BITS, _MANTISSA = np.int32(transforms.SQRT_HALF_BITS), np.int32(0x7FFFFF)
_LN2_HIGH, _LN2_LOW = np.float32(transforms.LN2_HIGH), np.float32(transforms.LN2_LOW)
_ANGLE, _OFFSET, _SHIFT = np.float32(transforms.ANGLE), np.float32(1.1), np.float32(0.6825)


@intrinsic
def _wide(typing_context):
    """Ask LLVM for 512-bit vectors in this function, where the machine has them: a third faster here."""

    def code(context, builder, signature, arguments):
        # llvmlite checks the names of attributes against a list that lacks this one.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), code


@numba.njit(nogil=True, cache=True)
def _philox(block, count, low, high, key_low, key_high, words):
    """`count` blocks from `block` on, two words in each of the 64-bit `words`."""
    _wide()
    for i in range(count):
        position = block + np.uint64(i)
        c0, c1, c2, c3 = position & _LOW, position >> _HALF_WORD, low, high
        k0, k1 = key_low, key_high
        for _ in range(10):
            p0, p1 = (c0 & _LOW) * _M0, (c2 & _LOW) * _M1
            c0, c1 = (p1 >> _HALF_WORD) ^ c1 ^ k0, p1
            c2, c3 = (p0 >> _HALF_WORD) ^ c3 ^ k1, p0
            k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
        words[2 * i] = (c0 & _LOW) | (c1 << _HALF_WORD)
        words[2 * i + 1] = (c2 & _LOW) | (c3 << _HALF_WORD)


@numba.njit(nogil=True, cache=True)
def _uniform(words, count, out, scale, shift):
    _wide()
    for i in range(4 * count):
        odd = np.int32(np.int32(words[i] >> np.uint32(8)) * np.int32(2) + np.int32(1 - 2**24))
        out[i] = (np.float32(odd) * _TOP) * scale + shift


@numba.njit(nogil=True, cache=True)
def _truncated(words, count, out, scale, shift):
    _wide()
    for i in range(4 * count):
        odd = np.int32(np.int32(words[i] >> np.uint32(8)) * np.int32(2) + np.int32(1 - 2**24))
        s = np.float32(odd) * _TOP
        t = np.sqrt(_OFFSET - s * s) - _SHIFT
        p = ((((((_E12 * t + _E11) * t + _E10) * t + _E9) * t + _E8) * t + _E7) * t + _E6) * t + _E5
        p = ((((p * t + _E4) * t + _E3) * t + _E2) * t + _E1) * t + _E0
        out[i] = (s * p) * scale + shift


@numba.njit(nogil=True, cache=True)
def _normal(words, count, out, scale, shift):
    _wide()
    for i in range(2 * count):
        u = (np.float32(words[2 * i]) + _HALF) * _WORD
        shifted = np.int32(np.float32(u).view(np.int32) - _SQRT_HALF_BITS)
        exponent = np.float32(np.int32(shifted >> np.int32(23)))
        f = np.int32(np.int32(shifted & _MANTISSA) + _SQRT_HALF_BITS).view(np.float32) - _ONE
        square = f * f
        p = (((((((_L8 * f + _L7) * f + _L6) * f + _L5) * f + _L4) * f + _L3) * f + _L2) * f + _L1) * f + _L0
        tail = (square * f) * p + exponent * _LN2_LOW
        log = (f + (tail - _HALF * square)) + exponent * _LN2_HIGH
        radius = np.sqrt(_MINUS_TWO * log)

        angle = words[2 * i + 1]
        quadrant = np.uint32(np.uint32(angle + np.uint32(2**29)) >> np.uint32(30))
        rest = np.uint32(angle - np.uint32(quadrant << np.uint32(30)))
        t = np.float32(np.uint32(rest).view(np.int32)) * _ANGLE
        square = t * t
        sine = t + (t * square) * (((_S3 * square + _S2) * square + _S1) * square + _S0)
        cosine = (_ONE - _HALF * square) + (square * square) * (((_C3 * square + _C2) * square + _C1) * square + _C0)
        swap = (quadrant & np.uint32(1)) != 0
        half_turn = -_ONE if (quadrant & np.uint32(2)) != 0 else _ONE
        first = -sine if swap else cosine
        second = cosine if swap else sine
        out[2 * i] = (radius * (first * half_turn)) * scale + shift
        out[2 * i + 1] = (radius * (second * half_turn)) * scale + shift


@numba.njit(nogil=True, cache=True)
def _tile(packed, block, count, out, law, stream_and_key):
    """The 4 * `count` elements of `count` blocks; `packed` is room for their words."""
    low, high, key_low, key_high = stream_and_key
    kind, scale, shift = law
    words = packed.view(np.uint32)
    _philox(block, count, low, high, key_low, key_high, packed)
    if kind == UNIFORM:
        _uniform(words, count, out, scale, shift)
    elif kind == NORMAL:
        _normal(words, count, out, scale, shift)
    else:
        _truncated(words, count, out, scale, shift)


# Not a function for each law made by a function: Numba keeps compiled closures, but does not find them again.
@numba.njit(nogil=True, cache=True)
def fill_runs(out, starts, law, stream_and_key):
    """Fill each row of `out` with consecutive elements of one parameter.

    Args:
        out: Float32, shape (runs, length), rows contiguous.
        starts: The element that each row begins with, uint64.
        law: `UNIFORM`, `NORMAL` or `TRUNCATED`, and the float32 scale and shift of the standard numbers.
        stream_and_key: The low and high halves of the stream and of the seed, uint64.
    """
    packed = np.empty(2 * _BLOCKS, np.uint64)
    scratch = np.empty(4 * _BLOCKS, np.float32)
    length = out.shape[1]
    for run in range(out.shape[0]):
        row = out[run]
        block = starts[run] // np.uint64(4)
        position = -np.int64(starts[run] % np.uint64(4))
        while position < length:
            count = min(_BLOCKS, (length - position + 3) // 4)
            if position >= 0 and position + 4 * count <= length:
                _tile(packed, block, count, row[position : position + 4 * count], law, stream_and_key)
            else:
                _tile(packed, block, count, scratch, law, stream_and_key)
                for i in range(max(0, -position), min(4 * count, length - position)):
                    row[position + i] = scratch[i]
            block += np.uint64(count)
            position += 4 * count


@numba.njit(nogil=True, cache=True)
def fill_columns(out, starts, offsets, length, stride, law, stream_and_key):
    """Fill runs of consecutive elements that lie `stride` apart in memory, as in a transposed matrix.

    A tile of `_ROWS` runs is drawn side by side and written across, so that whole cache lines are written.

    Args:
        out: Float32, flat.
        starts: The element that each run begins with, uint64.
        offsets: Where in `out` each run begins, int64, rising.
        length: Elements of a run.
        stride: From one element of a run to the next.
        law, stream_and_key: As in `fill_runs`.
    """
    packed = np.empty(2 * _BLOCKS, np.uint64)
    scratch = np.empty((_ROWS, 4 * _BLOCKS), np.float32)
    skips = np.empty(_ROWS, np.int64)
    for first in range(0, starts.size, _ROWS):
        rows = min(_ROWS, starts.size - first)
        for low in range(0, length, _WIDTH):
            width = min(_WIDTH, length - low)
            for r in range(rows):
                start = starts[first + r] + np.uint64(low)
                skips[r] = np.int64(start % np.uint64(4))
                _tile(packed, start // np.uint64(4), (width + skips[r] + 3) // 4, scratch[r], law, stream_and_key)
            for column in range(width):
                at = (low + column) * stride
                for r in range(rows):
                    out[offsets[first + r] + at] = scratch[r, column + skips[r]]
