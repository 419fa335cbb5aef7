"""Quadrature: rules, slopes and error estimates, and whether a user's own function is integrated like a built-in."""

import functools
import math
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import erf

from fanin.activations import ACTIVATIONS, Activation, activation
from fanin.errors import FaninError, InvalidValueError
from fanin.theory import correlation_map, depth_scales, fixed_points, moments, universality
from fanin.theory.integrals import COARSE, FINE, REACH, evaluate, mean, pair_mean, rule, slope

MEANS = ("mean", "second", "slope_mean", "slope_second", "growth")


def same(found, true, tolerance):
    """All means, each relative to its natural size; both errors are added to the tolerance."""
    sizes = (true.second**0.5, true.second, true.slope_second**0.5, true.slope_second, true.second / true.q)
    for key, size in zip(MEANS, sizes, strict=True):
        assert getattr(found, key) == pytest.approx(getattr(true, key), abs=tolerance * size), key


# Rules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nodes", [COARSE, FINE])
@pytest.mark.parametrize("name", ["linear", "relu6", "tanh", "sin", "sign"])
def test_a_rule_has_the_moments_of_a_normal_number(name, nodes):
    q = np.array([1e-6, 1.0, 50.0])
    points = rule(ACTIVATIONS[name], q, nodes)
    for power in range(9):
        true = math.prod(range(1, power, 2)) if power % 2 == 0 else 0
        assert points.mean(points.z**power) == pytest.approx([true] * 3, rel=1e-11, abs=1e-11)
    assert points.u == pytest.approx(points.z * np.sqrt(q)[:, None, None], rel=1e-14)
    assert np.abs(points.z).max() <= REACH


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"linear"}))
def test_no_panel_goes_across_a_kink(name):
    entry, q = ACTIVATIONS[name], np.array([1e-4, 0.7, 900.0])
    points = rule(entry, q)
    for kink in (*entry.kinks, *entry.jumps):
        assert ((points.u < kink).all(axis=2) | (points.u > kink).all(axis=2) | (points.half[..., 0] == 0)).all()


def test_a_mean_and_its_error():
    for q, power in ((2.0, 2), (0.5, 4)):
        value, error = mean(ACTIVATIONS["linear"], q, lambda phi, _, power=power: phi**power)
        true = q if power == 2 else 3 * q * q
        assert abs(value - true) <= max(error, 4e-15 * true)
        assert error < 1e-12
    value, error = mean(ACTIVATIONS["relu"], 1.0, lambda phi, points: phi * points.z)
    assert (value, error) == (pytest.approx(0.5, rel=1e-13), pytest.approx(0, abs=1e-13))
    # A function that no panel fits: the two rules differ, and the difference is told.
    rough = Activation("rough", lambda u: np.sin(1e4 * u) ** 2)
    value, error = mean(rough, 1.0, lambda phi, _: phi)
    assert abs(value - 0.5) <= error


@pytest.mark.parametrize("q", [1e-4, 1.0, 400.0])
@pytest.mark.parametrize("name", ["tanh", "gelu", "silu", "softplus", "erf", "selu", "hard_silu", "relu6"])
def test_slopes_without_a_formula(name, q):
    entry = ACTIVATIONS[name]
    bare = Activation("bare", entry.phi, None, entry.kinks, entry.jumps)
    points = rule(entry, q)
    known, found = (slope(which, points, evaluate(entry, points.u)) for which in (entry, bare))
    wide = np.broadcast_to(points.half > 1e-9, known.shape)
    weights = np.broadcast_to(points.weight, known.shape)
    # Where the weight is, to the error of a polynomial of degree 15 in a panel of half the activation's size.
    assert np.abs((known - found) * weights)[wide].sum() < 1e-10
    same(moments(bare, q), moments(entry, q), 1e-10)


def test_infinite_values_are_told():
    pole = Activation("pole", lambda u: 1 / np.asarray(u - 1.0) ** 2 if np.size(u) < 3 else np.where(u > 9, np.inf, u))
    with pytest.raises(InvalidValueError, match=r"not finite. Given: pole") as error:
        moments(pole, 1.0)
    assert error.value.given.startswith("pole(")


def test_a_mean_over_pairs_with_a_kink_on_either_side():
    """Pitfall 3: E relu(u) step(v), whose inner integral must be cut where v crosses 0."""
    relu = ACTIVATIONS["relu"]
    for c in (-0.9, 0.1, 0.99):
        found = pair_mean(relu, 1.0, 1 - c, lambda u, v: np.maximum(u, 0) * (v > 0))
        assert found == pytest.approx((1 + c) / (2 * math.sqrt(2 * math.pi)), abs=1e-11)


# Functions of one's own --------------------------------------------------------------------------------------

INLINE = {
    "relu": lambda u: np.where(u > 0, u, 0.0),
    "leaky_relu": lambda u: np.maximum(u, 0.01 * u),
    "relu6": lambda u: np.minimum(np.maximum(u, 0), 6),
    "selu": lambda u: 1.0507009873554805 * np.where(u > 0, u, 1.6732632423543772 * (np.exp(np.minimum(u, 0)) - 1)),
    "elu": lambda u: np.where(u > 0, u, np.expm1(np.minimum(u, 0))),
    "gelu": lambda u: u * 0.5 * (1 + erf(u / 2**0.5)),
    "hard_silu": lambda u: u * np.minimum(np.maximum(u + 3, 0), 6) / 6,
    "hard_tanh": lambda u: np.clip(u, -1, 1),
    "tanh": np.tanh,
    "softplus": lambda u: np.log1p(np.exp(-np.abs(u))) + np.maximum(u, 0),
    "softsign": lambda u: u / (1 + np.abs(u)),
    "silu": lambda u: u / (1 + np.exp(-u)),
}


@pytest.mark.parametrize("q", [1e-3, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("name", INLINE)
def test_an_inline_function_is_its_built_in(name, q):
    found = moments(INLINE[name], q)
    same(found, moments(name, q), 1e-10)
    assert found.error < 1e-10


@pytest.mark.parametrize("name", INLINE)
def test_an_inline_function_has_its_maps_and_its_class(name):
    given = INLINE[name]
    for c in (-0.5, 0.5, 1 - 1e-8):
        assert correlation_map(given, c, 1.0, 2.0) == pytest.approx(correlation_map(name, c, 1.0, 2.0), abs=1e-10)
    mine, theirs = (fixed_points(which, 1.3, 0.1).points for which in (given, name))
    assert [point.stability for point in mine] == [point.stability for point in theirs]
    assert [point.q for point in mine] == pytest.approx([point.q for point in theirs], rel=1e-8)
    assert universality(given).kind == universality(name).kind


JUMPY = {
    "sign": np.sign,
    "step": lambda u: np.heaviside(u, 0.5),
}


@pytest.mark.parametrize("name", JUMPY)
def test_an_inline_jump_is_its_built_in(name):
    """The jump of sign(u) lies at 0, where the search for kinks starts from."""
    found, true = moments(JUMPY[name], 1.0), moments(name, 1.0)
    assert found.slope_second == math.inf
    assert found.second == pytest.approx(true.second, rel=1e-12)
    assert found.slope_mean == pytest.approx(true.slope_mean, rel=1e-10)
    assert depth_scales(JUMPY[name], 2.0, 0.1).phase == "chaotic"


@pytest.mark.parametrize("at", [0.5, 1.0, -2.0, 3.0, 0.3, -17.77])
def test_jumps_anywhere_are_infinitely_steep(at):
    found = moments(lambda u: np.where(u > at, 1.0, -1.0), 4.0)
    assert found.slope_second == math.inf
    assert found.mean == pytest.approx(-math.erf(at / math.sqrt(8)), abs=1e-10)
    assert found.slope_mean == pytest.approx(2 * math.exp(-(at**2) / 8) / math.sqrt(8 * math.pi), rel=1e-9)


def test_round_is_infinitely_steep():
    """A staircase whose steps all lie where panels are halved."""
    found = moments(np.round, 1.0)
    cut = np.arange(0.5, 12)
    tail = np.array([math.erfc(x / math.sqrt(2)) / 2 for x in cut])
    assert found.second == pytest.approx(2 * float(((2 * cut) * tail).sum()), rel=1e-10)
    assert found.slope_second == math.inf


@pytest.mark.parametrize("at", [1 / 3, -2.7182818, 0.001, 31.4])
def test_a_kink_in_an_odd_place(at):
    """E max(u - a, 0) = s n - a Q, E max(u - a, 0)^2 = (q + a^2) Q - a s n, with n and Q at a / s."""
    for q in (0.5, 100.0):
        s = math.sqrt(q)
        density, tail = math.exp(-(at**2) / (2 * q)) / math.sqrt(2 * math.pi), math.erfc(at / (s * math.sqrt(2))) / 2
        if tail < 1e-6:
            continue
        found = moments(lambda u: np.maximum(u - at, 0), q)
        scale = math.sqrt(found.second)
        assert found.mean == pytest.approx(s * density - at * tail, abs=1e-10 * scale)
        # The difference cancels to a part of (q + a^2) Q.
        rounding = 1e-15 * (q + at**2) * tail
        assert found.second == pytest.approx((q + at**2) * tail - at * s * density, rel=1e-10, abs=rounding)
        assert found.slope_mean == pytest.approx(tail, rel=1e-9)
        assert found.slope_second == pytest.approx(tail, rel=1e-9)


def test_kinks_beyond_where_they_are_sought():
    """At u = 40: exact, or told by the error."""
    for q in (100.0, 150.0, 1000.0, 12345.0):
        s = math.sqrt(q)
        density = math.exp(-800 / q) / math.sqrt(2 * math.pi)
        tail = math.erfc(40 / (s * math.sqrt(2))) / 2
        true = 0.01 * q + 0.2 * q * tail + (q + 1600) * tail - 40 * s * density
        found = moments(lambda u: np.maximum(u - 40, 0) + 0.1 * u, q)
        assert abs(found.second / true - 1) <= found.error + 1e-14
        assert abs(found.slope_mean - 0.1 - tail) <= (found.error + 1e-14) * math.sqrt(found.slope_second)


def test_many_kinks():
    """A triangle wave of period 2 / 3 has E phi'^2 = 9 at every q, and E phi^2 -> 1 / 12 at large q."""

    def triangle(u):
        return np.abs(1.5 * u - np.round(1.5 * u))

    for q in (0.05, 1.0, 4.0):
        found = moments(triangle, q)
        assert found.slope_second == pytest.approx(2.25, rel=1e-9)
    # The first harmonic falls as exp(-2 pi^2 1.5^2 q).
    assert moments(triangle, 1.0).second == pytest.approx(1 / 12, rel=1e-9)
    assert moments(triangle, 1.0).mean == pytest.approx(1 / 4, rel=1e-9)


def test_a_very_steep_tanh():
    """tanh(1000 u) at q is tanh at 1e6 q."""
    for q in (1e-6, 1.0, 100.0):
        found, true = moments(lambda u: np.tanh(1000 * u), q), moments("tanh", 1e6 * q)
        assert found.second == pytest.approx(true.second, rel=1e-10)
        assert found.slope_second == pytest.approx(1e6 * true.slope_second, rel=1e-9)
        assert found.slope_mean == pytest.approx(1e3 * true.slope_mean, rel=1e-9)


@pytest.mark.parametrize("factor", [0.01, 1.0, 30.0, 1000.0])
def test_the_class_does_not_depend_on_units(factor):
    """phi(k u) / k has the fixed points of phi, divided by k^2."""
    assert universality(lambda u: np.tanh(factor * u)).kind == "K*=0"
    found = universality(lambda u: INLINE["gelu"](factor * u))
    assert found.kind == "half-stable"
    assert found.k_star * factor**2 == pytest.approx((3 + math.sqrt(17)) / 2, rel=1e-8)


@pytest.mark.parametrize("factor", [1e-30, 1e-6, 1e6, 1e30])
def test_size_does_not_matter(factor):
    found, true = moments(lambda u: factor * np.tanh(u - 0.3), 1.0), moments(lambda u: np.tanh(u - 0.3), 1.0)
    assert found.second == pytest.approx(factor**2 * true.second, rel=1e-12)
    assert found.slope_second == pytest.approx(factor**2 * true.slope_second, rel=1e-10)


def test_exponentials_have_a_mean_square():
    """E exp(u)^2 = exp(2 q), finite at every q."""
    for q in (0.1, 1.0, 8.0, 30.0):
        found = moments(np.exp, q)
        assert found.second == pytest.approx(math.exp(2 * q), rel=1e-9)
        assert found.mean == pytest.approx(math.exp(q / 2), rel=1e-9)


def test_constants():
    zero, one = moments(lambda u: 0 * u, 1.0), moments(lambda u: 0 * u + 1, 1.0)
    assert (zero.second, zero.slope_second) == (0, 0)
    assert (one.mean, one.second) == (pytest.approx(1, rel=1e-13), pytest.approx(1, rel=1e-13))
    assert one.slope_second == pytest.approx(0, abs=1e-20)
    assert [point.q for point in fixed_points(lambda u: 0 * u, 1.0, 0.3).points] == [pytest.approx(0.3)]


# Callables of every kind -------------------------------------------------------------------------------------


@dataclass
class Swish:
    beta: float

    def __call__(self, u):
        return u / (1 + np.exp(-self.beta * u))


@pytest.mark.parametrize(
    "given",
    [
        Swish(1.0),
        Swish(1.0).__call__,
        functools.partial(lambda beta, u: u / (1 + np.exp(-beta * u)), 1.0),
        np.vectorize(lambda u: 0.5 * u * (1 + math.tanh(0.5 * u))),
        np.vectorize(lambda u: 0.5 * u * (1 + math.tanh(0.5 * u)), otypes=[float]),
        lambda u: [0.5 * v * (1 + math.tanh(0.5 * v)) for v in u],
    ],
    ids=["object", "method", "partial", "vectorize", "vectorize with type", "list"],
)
def test_callables_of_every_kind(given):
    assert moments(given, 1.0).second == pytest.approx(moments("silu", 1.0).second, rel=1e-12)
    assert universality(given).kind == "half-stable"


def test_an_activation_with_lists_of_kinks():
    given = Activation("mine", np.abs, kinks=[0.0])
    assert moments(given, 2.0).second == pytest.approx(2, rel=1e-12)


def noise(size):
    rng = np.random.default_rng(7)
    return lambda u: np.tanh(u) + size * rng.normal(size=np.shape(u))


WRONG = {
    "not vectorised": lambda u: math.tanh(u),
    "branches": lambda u: u if u > 0 else 0.0,
    "log": np.log,
    "nan": lambda u: np.where(np.abs(u) > 5, np.nan, u),
    "infinite": lambda u: 1 / np.asarray(u),
    "explodes": lambda u: np.exp(u**2 / 4),
    "explodes more": lambda u: np.exp(np.exp(np.abs(u))),
    "shorter": lambda u: u[1:],
    "number": lambda u: 1.0,
    "raises": lambda u: u.missing,
    "raises its own": lambda u: (_ for _ in ()).throw(KeyError("mine")),
    "noise": noise(1.0),
    "a little noise": noise(1e-6),
    "text": lambda u: np.full(np.shape(u), "a"),
    "complex": lambda u: np.sqrt(u + 0j),
    "one shape only": lambda u: np.tanh(u) if len(u) == 5 else np.tanh(u)[:-1],
    "raises far out": lambda u: math.nan if np.abs(u).max() < 0 else _fails_beyond(u),
}


def _fails_beyond(u):
    if np.abs(u).max() > 10:
        raise RuntimeError("too far")
    return np.tanh(u)


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_integrated(wrong):
    """One error of fanin's, that says what was wrong and what was given, and no traceback or warning from inside."""
    with pytest.raises(FaninError) as error:
        moments(WRONG[wrong], 1.0)
    assert isinstance(error.value, InvalidValueError)
    assert error.value.what.startswith("The activation")
    assert error.value.given
    assert error.value.__suppress_context__ or error.value.__context__ is None


@pytest.mark.parametrize("wrong", ["not vectorised", "shorter", "log", "infinite", "explodes", "noise"])
def test_what_is_allowed_is_said(wrong):
    with pytest.raises(FaninError) as error:
        moments(WRONG[wrong], 1.0)
    assert error.value.allowed


def in_jax(u):
    return pytest.importorskip("jax.numpy").tanh(u)


def in_torch(u):
    torch = pytest.importorskip("torch")
    return torch.nn.functional.gelu(torch.tensor(u, dtype=torch.float32)).numpy()


@pytest.mark.parametrize("given", [lambda u: np.maximum(np.float32(u), 0), in_jax, in_torch])
def test_single_precision_is_named(given):
    with pytest.raises(InvalidValueError, match="too rough") as error:
        moments(given, 1.0)
    assert "float32" in error.value.hint
    assert "float64" in error.value.hint


def test_other_roughness_has_no_hint_of_precision():
    with pytest.raises(InvalidValueError, match="too rough") as error:
        moments(noise(1e-6), 1.0)
    assert error.value.hint is None


def test_the_same_function_in_double_precision_is_integrated():
    torch = pytest.importorskip("torch")
    given = lambda u: torch.nn.functional.gelu(torch.from_numpy(u)).numpy()  # noqa: E731
    assert moments(given, 1.0).second == pytest.approx(moments("gelu", 1.0).second, rel=1e-12)


def test_kinks_are_found_once():
    """The search runs when a function becomes an activation, which can be kept."""
    entry = activation(lambda u: np.maximum(u - 0.3, 0))
    assert activation(entry) is entry
    assert moments(entry, 1.0) == moments(entry, 1.0)
