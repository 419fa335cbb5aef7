"""From random words to random numbers: the written specification, in float32 with fixed operation order.

Every operation is an IEEE addition, multiplication or square root, or works on integers, so any
implementation that keeps the order (and fuses no multiply-add) produces the same bits. The polynomial
coefficients are derived by ``tools/fit_transforms.py``; the tests hold the functions against 30-digit
arithmetic.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["centred_uniform", "cut_normal", "normal", "truncated_normal"]

Words = NDArray[np.uint32]
Floats = NDArray[np.float32]

LOG = (
    0.3333333134651184,
    -0.2499999701976776,
    0.20000715553760529,
    -0.1666780263185501,
    0.14249058067798615,
    -0.12425687164068222,
    0.11685419827699661,
    -0.11479733884334564,
    0.06971611827611923,
)
SIN = (-0.1666666716337204, 0.008333331905305386, -0.00019840087043121457, 2.7249925551586784e-06)
COS = (0.0416666679084301, -0.00138888880610466, 2.480059993104078e-05, -2.730095900460583e-07)
CENTRAL = (
    1.4758436679840088,
    -0.9801971316337585,
    0.7869008183479309,
    -0.7269575595855713,
    0.752533495426178,
    -0.8448634743690491,
    1.0167218446731567,
    -1.4233174324035645,
    1.876995325088501,
    -0.775555431842804,
    0.9316225647926331,
    -11.630805015563965,
    16.662160873413086,
)
SQRT_HALF_BITS = np.int32(0x3F3504F3)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
ANGLE = np.float32(np.pi * 2.0**-31)
"""Radians per unit of a 32-bit angle, whose full turn is 2**32."""


def _polynomial(coefficients: tuple[float, ...], x: Floats) -> Floats:
    """Horner's rule, lowest coefficient first."""
    result = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        result = result * x + np.float32(coefficient)
    return result


def _log(x: Floats) -> Floats:
    """Natural logarithm of positive normal numbers, relative error below 2e-7."""
    shifted = x.view(np.int32) - SQRT_HALF_BITS
    exponent = (shifted >> 23).astype(np.float32)
    mantissa: Floats = ((shifted & np.int32(0x7FFFFF)) + SQRT_HALF_BITS).view(np.float32)
    f = mantissa - np.float32(1)
    square = f * f
    tail = (square * f) * _polynomial(LOG, f) + exponent * LN2_LOW
    result: Floats = (f + (tail - np.float32(0.5) * square)) + exponent * LN2_HIGH
    return result


def _cos_sin(angle: Words) -> tuple[Floats, Floats]:
    """Cosine and sine of a 32-bit angle; the quadrant is taken off in integers, so nothing is lost."""
    quadrant = (angle + np.uint32(2**29)) >> np.uint32(30)
    t = (angle - (quadrant << np.uint32(30))).view(np.int32).astype(np.float32) * ANGLE
    square = t * t
    sine = t + (t * square) * _polynomial(SIN, square)
    cosine = (np.float32(1) - np.float32(0.5) * square) + (square * square) * _polynomial(COS, square)
    swap = (quadrant & np.uint32(1)).astype(bool)
    first, second = np.where(swap, -sine, cosine), np.where(swap, cosine, sine)
    half_turn = np.where((quadrant & np.uint32(2)).astype(bool), np.float32(-1), np.float32(1))
    return first * half_turn, second * half_turn


def centred_uniform(word: Words) -> Floats:
    """Uniform on (-1, 1) from the top 24 bits: the odd multiples of 2**-24, symmetric and exact."""
    odd = (word >> np.uint32(8)).astype(np.int32) * np.int32(2) + np.int32(1 - 2**24)
    return odd.astype(np.float32) * np.float32(2.0**-24)


def normal(word: Words) -> Floats:
    """Standard normal numbers by Box and Muller: words (2k, 2k+1) give the numbers (2k, 2k+1).

    The radius takes all 32 bits of its word, so the largest number is sqrt(-2 log 2**-33) = 6.76.

    Args:
        word: An even number of words, from an even position on.
    """
    u = (word[0::2].astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-32)
    radius = np.sqrt(np.float32(-2) * _log(u))
    cosine, sine = _cos_sin(word[1::2])
    return np.stack([radius * cosine, radius * sine], axis=1).reshape(-1)


def truncated_normal(word: Words) -> Floats:
    """Standard normal numbers cut at +-2 by the inverse distribution function, one word each.

    Relative error below 1e-6; never outside of the cut, never clamped or drawn again.
    """
    s = centred_uniform(word)
    t = np.sqrt(np.float32(1.1) - s * s) - np.float32(0.6825)
    return s * _polynomial(CENTRAL, t)


def cut_normal(word: Words, low: float, high: float) -> NDArray[np.float64]:
    """Standard normal numbers cut to any interval by the inverse distribution function, in float64.

    An interval above zero is drawn below it and mirrored, where the distribution function keeps its digits.
    """
    from scipy.special import ndtr, ndtri  # heavy, and needed for uncommon bounds alone

    mirrored = low + high > 0
    if mirrored:
        low, high = -high, -low
    below, above = ndtr(low), ndtr(high)
    z: NDArray[np.float64] = ndtri(below + (word.astype(np.float64) + 0.5) * 2.0**-32 * (above - below))
    return -z if mirrored else z
