"""Signal propagation by slow and obvious routes, none of them the one that fanin takes.

Means of one normal number: sums of ``u^m exp(k u)`` on pieces in closed form, closed forms from papers, and for what
is left the trapezoidal rule in asinh(u), which converges exponentially. Slopes are avoided where they can be:
E phi' = E[phi u] / q and d E phi^2 / dq = E[phi^2 (u^2 - q)] / (2 q^2), both by parts. Two normal numbers: closed
forms, Mehler's expansion in Hermite polynomials, and a plain sum over a grid in the plane.
"""

import math
from functools import lru_cache

import mpmath as mp
import numpy as np
from scipy.optimize import brentq
from scipy.special import erf

from tests.oracles.activations import PHI, SELU_ALPHA, SELU_SCALE

DIGITS = 30
INF = mp.inf
_SIXTH, _HALF = mp.mpf(1) / 6, mp.mpf(1) / 2


def _exponential(scale, alpha):
    """ELU and its kin."""
    return ((-INF, 0, {(0, 1): scale * alpha, (0, 0): -scale * alpha}), (0, INF, {(1, 0): scale}))


PIECES = {  # (low, high, {(m, k): coefficient of u^m exp(k u)})
    "linear": ((-INF, INF, {(1, 0): 1}),),
    "relu": ((0, INF, {(1, 0): 1}),),
    "relu6": ((0, 6, {(1, 0): 1}), (6, INF, {(0, 0): 6})),
    "leaky_relu": ((-INF, 0, {(1, 0): mp.mpf(1) / 100}), (0, INF, {(1, 0): 1})),
    "elu": _exponential(1, 1),
    "celu": _exponential(1, 1),
    "selu": _exponential(SELU_SCALE, SELU_ALPHA),
    "hard_tanh": ((-INF, -1, {(0, 0): -1}), (-1, 1, {(1, 0): 1}), (1, INF, {(0, 0): 1})),
    "hard_sigmoid": ((-3, 3, {(1, 0): _SIXTH, (0, 0): _HALF}), (3, INF, {(0, 0): 1})),
    "hard_silu": ((-3, 3, {(2, 0): _SIXTH, (1, 0): _HALF}), (3, INF, {(1, 0): 1})),
    "step": ((0, INF, {(0, 0): 1}),),
    "sign": ((-INF, 0, {(0, 0): -1}), (0, INF, {(0, 0): 1})),
}
JUMPS = ("step", "sign")


def _partial(power, rate, low, high, q):
    """E[u^power exp(rate u); low < u < high]: complete the square, then integrate by parts downwards."""
    root, shift = mp.sqrt(q), rate * q
    a, b = ((mp.mpf(end) - shift) / root for end in (low, high))

    def edge(z, n):
        return z**n * mp.npdf(z) if mp.isfinite(z) else mp.mpf(0)

    normal = [mp.ncdf(-a) - mp.ncdf(-b) if a > 0 else mp.ncdf(b) - mp.ncdf(a), edge(a, 0) - edge(b, 0)]
    for n in range(2, power + 1):
        normal.append(edge(a, n - 1) - edge(b, n - 1) + (n - 1) * normal[n - 2])
    total = mp.fsum(mp.binomial(power, n) * root**n * shift ** (power - n) * normal[n] for n in range(power + 1))
    return mp.exp(shift * rate / 2) * total


def _expect(pieces, q, power=0):
    """E[u^power f(u)] of a function in pieces."""
    return mp.fsum(
        value * _partial(m + power, k, low, high, q) for low, high, terms in pieces for (m, k), value in terms.items()
    )


def _square(pieces):
    found = []
    for low, high, terms in pieces:
        product = {}
        for (m, k), x in terms.items():
            for (n, j), y in terms.items():
                product[m + n, k + j] = product.get((m + n, k + j), 0) + x * y
        found.append((low, high, product))
    return found


def _slope(pieces):
    found = []
    for low, high, terms in pieces:
        derivative = {}
        for (m, k), value in terms.items():
            if m:
                derivative[m - 1, k] = derivative.get((m - 1, k), 0) + m * value
            if k:
                derivative[m, k] = derivative.get((m, k), 0) + k * value
        found.append((low, high, derivative))
    return found


def _in_pieces(name, q):
    pieces, squared = PIECES[name], _square(PIECES[name])
    second = _expect(squared, q)
    return {
        "mean": _expect(pieces, q),
        "second": second,
        "slope_mean": _expect(pieces, q, 1) / q,
        "slope_second": mp.inf if name in JUMPS else _expect(_square(_slope(pieces)), q),
        "growth": (_expect(squared, q, 2) - q * second) / (2 * q**2),
    }


def _sin(q):
    even = mp.exp(-2 * q)
    return {"mean": mp.mpf(0), "second": (1 - even) / 2, "slope_mean": mp.exp(-q / 2), "slope_second": (1 + even) / 2,
            "growth": even}  # fmt: skip


def _erf(q):
    root = mp.sqrt(1 + 4 * q)
    return {
        "mean": mp.mpf(0),
        "second": 2 / mp.pi * mp.asin(2 * q / (1 + 2 * q)),
        "slope_mean": 2 / mp.sqrt(mp.pi * (1 + 2 * q)),
        "slope_second": 4 / mp.pi / root,
        "growth": 4 / mp.pi / ((1 + 2 * q) * root),
    }


def _gelu(q):
    """Roberts, Yaida, Hanin 2022, chapter 5."""

    def second(k):
        return k / 4 + k / (2 * mp.pi) * (mp.asin(k / (1 + k)) + 2 * k / ((1 + k) * mp.sqrt(1 + 2 * k)))

    bend = q * (3 + 5 * q) / ((1 + q) * (1 + 2 * q) ** mp.mpf(1.5))
    return {
        "mean": q / mp.sqrt(2 * mp.pi * (1 + q)),
        "second": second(q),
        "slope_mean": mp.mpf(1) / 2,
        "slope_second": mp.mpf(1) / 4 + (mp.asin(q / (1 + q)) + bend) / (2 * mp.pi),
        "growth": mp.diff(second, q, h=q * mp.mpf(10) ** -10),
    }


def _logistic(u):
    return 1 / (1 + mp.exp(-u))


def _mish_slope(u):
    t = mp.tanh(mp.log1p(mp.exp(u)))
    return t + u * (1 - t * t) * _logistic(u)


def _gelu_tanh_slope(u):
    root, cubic = mp.sqrt(2 / mp.pi), mp.mpf("0.044715")
    t = mp.tanh(root * (u + cubic * u**3))
    return (1 + t) / 2 + u / 2 * (1 - t * t) * root * (1 + 3 * cubic * u**2)


SLOPES = {
    "silu": lambda u: _logistic(u) * (1 + u * (1 - _logistic(u))),
    "mish": _mish_slope,
    "softplus": _logistic,
    "softsign": lambda u: 1 / (1 + abs(u)) ** 2,
    "tanh": lambda u: 1 / mp.cosh(u) ** 2,
    "sigmoid": lambda u: _logistic(u) * _logistic(-u),
    "gelu_tanh": _gelu_tanh_slope,
}


def _by_sum(phi, slope, nodes, weights, q):
    rows = []
    for u, weight in zip(nodes, weights, strict=True):
        p, d = phi(u), slope(u)
        rows.append([weight * v for v in (p, p * p, p * u, d * d, p * p * (u * u - q))])
    mean, second, crossed, slopes, grown = (mp.fsum(column) for column in zip(*rows, strict=True))
    return {"mean": mean, "second": second, "slope_mean": crossed / q, "slope_second": slopes,
            "growth": grown / (2 * q * q)}  # fmt: skip


def _smooth(name, q):
    """The trapezoidal rule in t, u = s sinh(t); with a kink at 0, in t on both sides, u = +- s exp(t - exp(-t))."""
    root, step = mp.sqrt(q), mp.mpf(1) / 20
    s = min(mp.mpf(1), root)
    reach = 12 * root / s
    if name == "softsign":
        t = [step * k for k in range(-85, int(mp.log(reach + 2) / step) + 12)]
        half = [s * mp.exp(v - mp.exp(-v)) for v in t]
        inner = [u * (1 + mp.exp(-v)) for u, v in zip(half, t, strict=True)]
        nodes, measure = [-u for u in half] + half, inner + inner
    else:
        count = int(mp.asinh(reach) / step) + 1
        t = [step * k for k in range(-count, count + 1)]
        nodes, measure = [s * mp.sinh(v) for v in t], [s * mp.cosh(v) for v in t]
    weights = [step * w * mp.npdf(u / root) / root for u, w in zip(nodes, measure, strict=True)]
    return _by_sum(PHI[name], SLOPES[name], nodes, weights, q)


@lru_cache(maxsize=4096)
def moments(name, q):
    """The means of `fanin.theory.maps.Moments` at the second moment q, to 20 digits or more."""
    with mp.workdps(80 if name in PIECES else DIGITS):
        q = mp.mpf(q)
        if name in PIECES:
            return _in_pieces(name, q)
        closed = {"sin": _sin, "erf": _erf, "gelu": _gelu}.get(name)
        return closed(q) if closed else _smooth(name, q)


def scales(found, q):
    """The natural size of each mean: what it is made of, before anything cancels."""
    second, slope = found["second"], found["slope_second"]
    return {
        "mean": mp.sqrt(second),
        "second": second,
        "slope_mean": mp.sqrt(slope) if slope < mp.inf else mp.sqrt(second / q),
        "slope_second": slope,
        "growth": second / q,
    }


def kink_kernel(deficit):
    """1 - cosine behind ReLU at its edge, from 1 - cosine in front: Cho and Saul 2009, to 40 digits."""
    with mp.workdps(50):
        angle = mp.acos(1 - mp.mpf(deficit))
        return 1 - (mp.sin(angle) + (mp.pi - angle) * mp.cos(angle)) / mp.pi


@lru_cache(maxsize=32)
def hermite(name, q, count):
    """Coefficients of phi(sqrt(q) z) in normalised Hermite polynomials, of an activation in pieces."""
    with mp.workdps(80):
        q = mp.mpf(q)
        powers = [_expect(PIECES[name], q, n) / q ** (mp.mpf(n) / 2) for n in range(count)]
        rows = [[mp.mpf(1)], [mp.mpf(0), mp.mpf(1)]]
        for n in range(1, count - 1):
            up = [mp.mpf(0), *rows[n]]
            rows.append([x - n * y for x, y in zip(up, [*rows[n - 1], 0, 0], strict=True)])
        return [
            mp.fsum(x * m for x, m in zip(row, powers, strict=False)) / mp.sqrt(mp.factorial(n))
            for n, row in enumerate(rows)
        ]


def mehler(name, c, q, count=44):
    """E[phi(u) phi(v)] at the cosine c; what is left out is below |c|^count E phi^2."""
    with mp.workdps(80):
        return mp.fsum(a * a * mp.mpf(c) ** n for n, a in enumerate(hermite(name, q, count)))


NUMPY = {
    "tanh": np.tanh,
    "gelu": lambda u: 0.5 * u * (1 + erf(u / math.sqrt(2))),
    "silu": lambda u: u / (1 + np.exp(-u)),
    "sin": np.sin,
    "erf": erf,
    "softplus": lambda u: np.logaddexp(0, u),
    "sigmoid": lambda u: np.exp(-np.logaddexp(0, -u)),
    "mish": lambda u: u * np.tanh(np.logaddexp(0, u)),
}


def plane(left, right, c, q, step=0.04):
    """E[left(u) right(v)] of smooth functions by a plain sum over a square grid of z and z', v = c z + s z'."""
    z = np.arange(-9, 9 + step / 2, step)
    weight = step * np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    u, v = math.sqrt(q) * z, math.sqrt(q) * (c * z[:, None] + math.sqrt(1 - c * c) * z)
    return float((weight * left(u)) @ right(v) @ weight)


def line(function, q, step=0.01):
    """E[function(u)] of a smooth function by a plain sum."""
    z = np.arange(-9, 9 + step / 2, step)
    return float(step * np.exp(-0.5 * z**2) @ function(math.sqrt(q) * z) / math.sqrt(2 * math.pi))


NUMPY_SLOPES = {
    "tanh": lambda u: 1 - np.tanh(u) ** 2,
    "gelu": lambda u: 0.5 * (1 + erf(u / math.sqrt(2))) + u * np.exp(-0.5 * u**2) / math.sqrt(2 * math.pi),
    "erf": lambda u: 2 / math.sqrt(math.pi) * np.exp(-(u**2)),
    "sin": np.cos,
}


@lru_cache(maxsize=4096)
def second(name, q):
    """E phi^2 as a float, quickly: the trapezoidal rule in asinh(u) for smooth functions, else `moments`."""
    if name not in NUMPY or (name == "sin" and q > 100):
        return float(moments(name, q)["second"])
    root = math.sqrt(q)
    s = min(1.0, root)
    t = np.linspace(-1, 1, 601) * math.asinh(9 * root / s)
    u = s * np.sinh(t)
    weight = (t[1] - t[0]) * s * np.cosh(t) * np.exp(-0.5 * (u / root) ** 2) / (root * math.sqrt(2 * math.pi))
    with np.errstate(over="ignore"):  # exp(-u) of SiLU
        return float(weight @ NUMPY[name](u) ** 2)


def fixed_points(name, sigma_w2, sigma_b2, low=1e-7, high=3e7, count=280):
    """Where ``sigma_w2 E phi^2 + sigma_b2 - q`` changes its sign, by scanning and bisecting; and its slope there."""

    def excess(log_q):
        q = math.exp(log_q)
        return (sigma_w2 * second(name, q) + sigma_b2) / q - 1

    grid = np.linspace(math.log(low), math.log(high), count)
    values = [excess(x) for x in grid]
    found = []
    for i in range(count - 1):
        if values[i] * values[i + 1] < 0:
            at = brentq(excess, grid[i], grid[i + 1], xtol=1e-14)
            slope = (excess(at + 1e-3) - excess(at - 1e-3)) / 2e-3  # of V(q) / q - 1 in log q
            found.append((math.exp(at), 1 + slope))
    return found
