"""The kernels of wide networks: against arc cosines, sums over the plane, finite differences and their limits."""

import math

import mpmath as mp
import numpy as np
import pytest

from fanin.errors import InvalidValueError, UnknownNameError
from fanin.theory import correlation_map, critical, kernel, ntk
from tests.oracles import theory as oracle

EDGE = 1.7609546396067406, 0.05


def relu_by_hand(depth, c, q, w, b):
    """Cho and Saul 2009: kernels of degree 1 for the signal and 0 for its slope, in 40 digits."""
    with mp.workdps(40):
        diagonal, off = mp.mpf(q), mp.mpf(q) * mp.mpf(c)
        kernels, tangents = [(diagonal, off)], [(diagonal, off)]
        for _ in range(depth - 1):
            angle = mp.acos(max(-1, min(1, off / diagonal)))
            bent = w * (mp.pi - angle) / (2 * mp.pi)
            off = b + w * diagonal * (mp.sin(angle) + (mp.pi - angle) * mp.cos(angle)) / (2 * mp.pi)
            diagonal = b + mp.mpf(w) * diagonal / 2
            kernels.append((diagonal, off))
            tangents.append((diagonal + w * tangents[-1][0] / 2, off + bent * tangents[-1][1]))
    return kernels, tangents


def smooth_by_hand(name, depth, c, q, w, b):
    """Sums over the plane, with E phi'(u) phi'(v) as a sum of its own."""
    phi, slope = oracle.NUMPY[name], oracle.NUMPY_SLOPES[name]
    kernels, tangents = [(q, q * c)], [(q, q * c)]
    for _ in range(depth - 1):
        c = kernels[-1][1] / q
        straight = w * oracle.line(lambda u: slope(u) ** 2, q)
        bent = w * oracle.plane(slope, slope, c, q)
        off = w * oracle.plane(phi, phi, c, q) + b
        q = w * oracle.line(lambda u: phi(u) ** 2, q) + b
        kernels.append((q, off))
        tangents.append((q + straight * tangents[-1][0], off + bent * tangents[-1][1]))
    return kernels, tangents


def check(found, true, tolerance=1e-10):
    assert len(found.diagonal) == len(found.off) == len(true)
    for d, o, (diagonal, off) in zip(found.diagonal, found.off, true, strict=True):
        assert d == pytest.approx(float(diagonal), rel=tolerance)
        assert o == pytest.approx(float(off), abs=tolerance * float(diagonal))
    assert found.cosine == tuple(o / d for o, d in zip(found.off, found.diagonal, strict=True))


@pytest.mark.parametrize(("w", "b"), [(2.0, 0.0), (1.6, 0.1), (2.4, 0.02)])
@pytest.mark.parametrize("c", [-1.0, -0.5, 0.0, 0.7, 1.0])
def test_relu_against_arc_cosines(c, w, b):
    kernels, tangents = relu_by_hand(8, c, 1.3, w, b)
    check(kernel("relu", 8, c, 1.3, w, b), kernels)
    check(ntk("relu", 8, c, 1.3, w, b), tangents)


@pytest.mark.parametrize("name", ["tanh", "gelu", "erf", "sin"])
def test_smooth_functions_against_sums_over_the_plane(name):
    for c, q, w, b in ((0.6, 0.8, 1.5, 0.05), (-0.3, 2.0, 1.1, 0.0)):
        kernels, tangents = smooth_by_hand(name, 7, c, q, w, b)
        check(kernel(name, 7, c, q, w, b), kernels)
        check(ntk(name, 7, c, q, w, b), tangents)


@pytest.mark.parametrize("name", ["relu", "selu", "hard_tanh", "mish", "softplus", "hard_silu"])
def test_the_tangent_kernel_is_a_sum_over_layers(name):
    """Each layer's kernel times the slopes of the maps behind it, those slopes by finite differences."""
    depth, w, b, h = 5, 1.4, 0.1, 1e-4
    found, tangent = kernel(name, depth, 0.3, 1.2, w, b), ntk(name, depth, 0.3, 1.2, w, b)
    slopes = []
    for q, c, following in zip(found.diagonal, found.cosine, found.diagonal[1:], strict=False):
        up, down = (correlation_map(name, c + step, q, w, b) for step in (h, -h))
        slopes.append((up - down) / (2 * h) * following / q)
    total = sum(found.off[i] * math.prod(slopes[i:]) for i in range(depth))
    # h^2 / 6 times third derivatives of a few, and 1e-12 / h of rounding.
    assert tangent.off[-1] == pytest.approx(total, rel=2e-7)


def test_a_linear_network():
    """Its kernel stays, its tangent kernel gains the same in each layer."""
    found = ntk("linear", 9, -0.4, 2.0, 1.0)
    assert found.diagonal == pytest.approx([2.0 * n for n in range(1, 10)], rel=1e-12)
    assert found.off == pytest.approx([-0.8 * n for n in range(1, 10)], rel=1e-12)
    assert kernel("linear", 9, -0.4, 2.0, 1.0).cosine == pytest.approx([-0.4] * 9, abs=1e-12)


def test_one_layer_and_equal_and_opposite_inputs():
    assert kernel("relu", 1, 0.3, 2.0, 1.0).diagonal == (2.0,)
    assert ntk("relu", 1, 0.3, 2.0, 1.0).off == (0.6,)
    for name in ("relu", "tanh", "gelu"):
        same = ntk(name, 6, 1.0, 1.5, 1.7, 0.1)
        assert same.off == same.diagonal
    opposite = ntk("tanh", 6, -1.0, 1.5, 1.7)
    assert opposite.off == pytest.approx([-value for value in opposite.diagonal], rel=1e-11)


def test_a_function_of_ones_own():
    """Without a slope in closed form: a difference over 1e-4 or a tenth of 1 - c."""
    for name, own in (("relu", lambda z: np.maximum(z, 0)), ("tanh", np.tanh)):
        for c in (0.3, 0.0, -0.6):
            by_name, by_hand = (ntk(given, 4, c, 1.0, 2.0, 0.1) for given in (name, own))
            assert by_hand.off == pytest.approx(by_name.off, rel=1e-6, abs=1e-8)  # the slope by a difference
            assert by_hand.diagonal == pytest.approx(by_name.diagonal, rel=1e-10)


@pytest.mark.parametrize("given", [lambda z: np.maximum(z, 0), np.tanh], ids=["relu", "tanh"])
def test_opposite_inputs_and_a_function_of_ones_own(given):
    by_name = ntk("tanh" if given is np.tanh else "relu", 4, -1.0, 1.0, 2.0, 0.1)
    assert ntk(given, 4, -1.0, 1.0, 2.0, 0.1).off == pytest.approx(by_name.off, abs=1e-5)


def test_jumps_have_no_tangent_kernel():
    found = ntk("sign", 3, 0.3, 1.0, 1.0)
    assert found.diagonal == (1.0, math.inf, math.inf)
    # Off the diagonal the slope of 2 / pi asin(c) is finite.
    first = 2 / math.pi * math.asin(0.3) + 2 / math.pi / math.sqrt(1 - 0.09) * 0.3
    assert found.off[1] == pytest.approx(first, rel=1e-6)


# Limits of great depth ---------------------------------------------------------------------------------------


def relu_at_the_edge(depth, c=0.0):
    """1 - c and the tangent kernel off the diagonal, layer by layer, in angles and double precision."""
    angle = before = math.acos(c)
    deficits, tangents = [], [c]
    for layer in range(depth):
        small = angle < 1e-3
        deficits.append(angle**2 / 2 - angle**4 / 24 if small else 1 - math.cos(angle))
        gained = (angle * math.cos(angle) - math.sin(angle)) / math.pi
        following = deficits[-1] + (-(angle**3) / 3 + angle**5 / 30) / math.pi if small else deficits[-1] + gained
        if layer:
            tangents.append(1 - deficits[-1] + (1 - before / math.pi) * tangents[-1])
        before = angle
        angle = (
            math.sqrt(2 * following) * (1 + following / 12 + 3 * following**2 / 160)
            if small
            else math.acos(1 - following)
        )
    return deficits, tangents


def limit(values, layers):
    """What a sequence tends to if it is a + b log(l) / l + (c + d log(l)^2 / l + e log(l) / l + f / l) / l."""
    x = np.asarray(layers, dtype=float)
    log = np.log(x)
    columns = [np.ones_like(x), log / x, 1 / x, log**2 / x**2, log / x**2, 1 / x**2]
    return float(np.linalg.lstsq(np.stack(columns, axis=1), np.asarray(values), rcond=None)[0][0])


def test_relu_forgets_angles_as_the_square_of_depth():
    """l^2 (1 - c_l) -> 9 pi^2 / 2, for 1 / (l sqrt(1 - c)) is as smooth in 1 / l as logarithms let it be."""
    deficits, _ = relu_at_the_edge(100_000)
    near = kernel("relu", 100, 0.0, 1.0, 2.0)
    assert [1 - c for c in near.cosine] == pytest.approx(deficits[:100], rel=1e-9)
    layers = np.arange(30, 101)
    found = limit([1 / (n * math.sqrt(1 - near.cosine[n - 1])) for n in layers], layers) ** -2
    # What is left out is (log l / l)^3, 1e-4 at l = 100, times numbers of order 1.
    assert found == pytest.approx(9 * math.pi**2 / 2, rel=1e-3)
    layers = np.arange(10_000, 100_000, 1000)
    found = limit([1 / (n * math.sqrt(deficits[n - 1])) for n in layers], layers) ** -2
    assert found == pytest.approx(9 * math.pi**2 / 2, rel=1e-7)
    # Without that, 100 layers are 18 % off.
    assert 100**2 * deficits[99] == pytest.approx(0.82 * 9 * math.pi**2 / 2, rel=0.01)


def test_a_quarter_is_left_of_relu():
    _, tangents = relu_at_the_edge(50_000)
    near = ntk("relu", 100, 0.0, 1.0, 2.0)
    assert near.off == pytest.approx(tangents[:100], rel=1e-9)
    assert near.diagonal == pytest.approx(range(1, 101), rel=1e-12)
    layers = np.arange(30, 101)
    assert limit([near.cosine[n - 1] for n in layers], layers) == pytest.approx(0.25, abs=1e-3)
    layers = np.arange(5_000, 50_000, 500)
    assert limit([tangents[n - 1] / n for n in layers], layers) == pytest.approx(0.25, abs=1e-7)
    # It comes from above, with log(l) / l.
    assert [near.cosine[n] > near.cosine[n + 1] > 0.25 for n in range(20, 99)] == [True] * 79
    assert near.cosine[-1] - 0.25 == pytest.approx(0.49 * math.log(100) / 100, rel=0.05)


def test_a_third_is_left_of_tanh():
    """At an edge with biases, from the fixed point q: there 1 - c falls as 1 / l and slopes as 1 - 2 / l."""
    w, b = EDGE
    (edge,) = critical("tanh", sigma_b2=b)
    near = ntk("tanh", 100, 0.5, edge.q, w, b)
    assert near.diagonal[-1] == pytest.approx(100 * edge.q, rel=1e-8)
    check(near, smooth_by_hand("tanh", 100, 0.5, edge.q, w, b)[1], tolerance=1e-8)
    layers = np.arange(30, 101)
    assert limit([near.cosine[n - 1] for n in layers], layers) == pytest.approx(1 / 3, abs=1e-3)


def test_tanh_without_biases_keeps_its_angles():
    """A slowly dying signal is ever more linear: its cosine stays, and with it the tangent kernel's."""
    found = kernel("tanh", 60, 0.5, 1e-3, 1.0)
    assert found.cosine == pytest.approx([0.5] * 60, abs=1e-4)
    assert ntk("tanh", 60, 0.5, 1e-3, 1.0).cosine == pytest.approx([0.5] * 60, abs=1e-4)


# Mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [kernel, ntk])
def test_mistakes(call):
    for wrong in (0, -1, 2.5, None, "3", math.nan):
        with pytest.raises(InvalidValueError, match="depth is out of range") as error:
            call("relu", wrong, 0.1, 1.0, 2.0)
        assert error.value.allowed == "1 or more"
    for wrong in (1.1, -2.0, math.nan):
        with pytest.raises(InvalidValueError, match="cosine c is out of range"):
            call("relu", 3, wrong, 1.0, 2.0)
    for wrong in (0.0, -1.0, math.inf, None, "one"):
        with pytest.raises(InvalidValueError, match="second moment q is out of range"):
            call("relu", 3, 0.1, wrong, 2.0)
    for wrong in (-1.0, math.inf, None, "one"):
        with pytest.raises(InvalidValueError, match="sigma_w2 is out of range"):
            call("relu", 3, 0.1, 1.0, wrong)
        with pytest.raises(InvalidValueError, match="sigma_b2 is out of range"):
            call("relu", 3, 0.1, 1.0, 2.0, wrong)
    with pytest.raises(InvalidValueError, match="signal dies"):
        call("relu", 3, 0.1, 1.0, 0.0)
    with pytest.raises(UnknownNameError):
        call("rleu", 3, 0.1, 1.0, 2.0)


@pytest.mark.parametrize("wrong", [None, "one", [0.5], 1j])
@pytest.mark.parametrize("call", [kernel, ntk])
def test_cosines_that_are_no_numbers(call, wrong):
    with pytest.raises(InvalidValueError, match="cosine c is out of range") as error:
        call("relu", 3, wrong, 1.0, 2.0)
    assert error.value.allowed == "-1 to 1"
