"""The table of activations: against 25-digit arithmetic, against JAX, and what is refused."""

import mpmath as mp
import numpy as np
import pytest

from fanin.activations import ACTIVATIONS, Activation, activation, leaky_relu, saturation
from fanin.errors import InvalidValueError, UnknownNameError
from tests.oracles.activations import PHI

POINTS = np.array([*np.linspace(-9, 9, 37), -1e-9, 1e-9, -0.3, 0.7, 5.999, 6.001])
BEYOND = np.array([-np.inf, -1e300, -800.0, -40.0, 40.0, 800.0, 1e300, np.inf])


def test_every_activation_has_an_oracle():
    assert set(PHI) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_formula(name):
    # Arguments are exact, every function is a handful of double operations on numbers up to 9 + 0.05 * 729.
    with mp.workdps(25):
        exact = np.array([float(PHI[name](mp.mpf(float(z)))) for z in POINTS])
    values = np.asarray(ACTIVATIONS[name].phi(POINTS))
    assert values.shape == POINTS.shape
    assert values.dtype == np.float64
    # Where 1 + tanh or 1 + erf cancels, what is left is exact to one rounding of 1, times |z|.
    assert (np.abs(values - exact) <= 64 * 2.0**-53 * np.maximum(np.abs(POINTS), 1)).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_scalars_and_shapes(name):
    phi = ACTIVATIONS[name].phi
    assert float(phi(0.5)) == float(np.asarray(phi(np.array([0.5])))[0])
    assert np.asarray(phi(np.zeros((2, 3)))).shape == (2, 3)


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"sin", "gelu_tanh", "mish", "softplus", "silu", "gelu"}))
def test_far_out_nothing_overflows(name):
    finite = BEYOND[np.isfinite(BEYOND)]
    values = np.asarray(ACTIVATIONS[name].phi(finite))
    assert np.isfinite(values).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_kinks_are_where_the_slope_jumps(name):
    """One-sided difference quotients agree to O(h) everywhere but where the function or its slope jumps."""
    entry, h = ACTIVATIONS[name], 1e-4
    grid = np.round(np.arange(-70, 71) / 10, 10)
    values = [np.asarray(entry.phi(grid + step)) for step in (-h, 0.0, h)]
    jump = np.abs((values[2] - values[1]) - (values[1] - values[0])) / h
    # Second derivatives here are below 4, so smooth slopes change by less than 4 h; at kinks by 0.15 or more.
    # Slopes are below 2, so smooth functions change by less than 4 h; the steps by 1 or more.
    leap = np.abs(values[2] - values[0])
    found = {float(z) for z, size, step in zip(grid, jump, leap, strict=True) if size > 50 * h or step > 50 * h}
    # Where only the second derivative jumps, a kink may be listed, too.
    smooth_slope = {"softsign": {0.0}, "elu": {0.0}, "celu": {0.0}}.get(name, set())
    assert found | smooth_slope == set(entry.kinks) | set(entry.jumps)
    assert set(entry.jumps) == ({0.0} if name in ("step", "sign") else set())


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"step", "sign"}))
def test_the_slope(name):
    """Against a difference quotient over 1e-15 in 45 digits."""
    entry = ACTIVATIONS[name]
    points = np.array([z for z in POINTS if all(abs(z - kink) > 1e-6 for kink in entry.kinks)])
    with mp.workdps(45):
        h = mp.mpf(10) ** -15
        exact = [float((PHI[name](mp.mpf(float(z)) + h) - PHI[name](mp.mpf(float(z)) - h)) / (2 * h)) for z in points]
    values = np.asarray(entry.slope(points))
    assert values.shape == points.shape
    assert values.dtype == np.float64
    assert (np.abs(values - exact) <= 64 * 2.0**-53 * np.maximum(np.abs(points), 1)).all()
    assert np.asarray(entry.slope(np.zeros((2, 3)))).shape == (2, 3)


@pytest.mark.parametrize("name", ["step", "sign"])
def test_the_slope_of_jumps_is_zero_where_there_is_one(name):
    assert (ACTIVATIONS[name].slope(POINTS) == 0).all()


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"sin", "gelu_tanh", "softsign", "erf", "gelu"}))
def test_far_out_slopes_are_those_of_lines(name):
    """Without a warning, too; the other five take squares or have no lines."""
    far = np.array([-1e150, -1e5, 1e5, 1e150])
    values = np.asarray(ACTIVATIONS[name].slope(far))
    lines = np.asarray(ACTIVATIONS[name].phi(far * 1.25) - ACTIVATIONS[name].phi(far)) / (0.25 * far)
    assert values == pytest.approx(lines, abs=1e-12)


def test_periods():
    for name, entry in ACTIVATIONS.items():
        assert (entry.period is not None) == (name == "sin")
        if entry.period is not None:
            assert entry.phi(POINTS + entry.period) == pytest.approx(entry.phi(POINTS), abs=1e-14)


def test_names_and_aliases():
    for entry in ACTIVATIONS.values():
        for spelling in (entry.name, entry.name.upper(), *entry.aliases):
            assert activation(spelling) is entry
    spellings = [spelling for entry in ACTIVATIONS.values() for spelling in (entry.name, *entry.aliases)]
    assert len(spellings) == len(set(spellings))
    assert activation("swish") is activation("silu")
    assert activation("identity").name == "linear"


def test_an_activation_stays_itself_and_a_function_becomes_one():
    entry = ACTIVATIONS["tanh"]
    assert activation(entry) is entry
    made = activation(np.cos)
    assert isinstance(made, Activation)
    assert (made.name, made.phi, made.kinks) == ("cos", np.cos, ())
    assert float(leaky_relu(0.2)(-1.0)) == -0.2


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        ACTIVATIONS["new"] = ACTIVATIONS["relu"]


def test_an_unknown_name():
    with pytest.raises(UnknownNameError, match=r"no such activation\. Given: rleu") as error:
        activation("rleu")
    assert "relu" in error.value.hint
    assert "tanh" in error.value.allowed


def shifted_shape(z):
    return np.asarray(z)[:-1]


@pytest.mark.parametrize("wrong", [3, None, [1.0], object()])
def test_what_is_no_function(wrong):
    with pytest.raises(InvalidValueError, match="cannot be called on a NumPy array"):
        activation(wrong)


@pytest.mark.parametrize("wrong", [lambda _: 1.0, shifted_shape, lambda z: np.stack([z, z])])
def test_a_function_that_changes_the_shape(wrong):
    with pytest.raises(InvalidValueError, match="does not keep the shape") as error:
        activation(wrong)
    assert "(5,) became" in error.value.given
    assert error.value.allowed


@pytest.mark.parametrize("wrong", [lambda z: z.nothing, lambda _: "text", lambda z, _: z])
def test_a_function_that_fails(wrong):
    with pytest.raises(InvalidValueError, match="Error: ") as error:
        activation(wrong)
    assert error.value.given
    assert error.value.allowed


# Kinks and jumps of functions of one's own -------------------------------------------------------------------


def near(found, true):
    """A corner that is off by 1e-8 changes no mean by more than 1e-16 times how sharp it is."""
    return len(found) == len(true) and all(abs(a - b) < 1e-8 * max(1, abs(b)) for a, b in zip(found, true, strict=True))


CORNERS = {  # function, kinks, jumps
    "relu": (lambda z: np.maximum(z, 0), [0], []),
    "hard tanh": (lambda z: np.clip(z, -1, 1), [-1, 1], []),
    "hard silu": (lambda z: z * np.clip(z / 6 + 0.5, 0, 1), [-3, 3], []),
    "at a third": (lambda z: np.maximum(z - 1 / 3, 0), [1 / 3], []),
    "far": (lambda z: np.abs(z + 29.3), [-29.3], []),
    "two that are near": (lambda z: np.clip(z, 0.3, 0.301), [0.3, 0.301], []),
    "leaky": (lambda z: np.where(z > 0.7, z, 0.7 + 0.99 * (z - 0.7)), [0.7], []),
    "curved": (lambda z: np.abs(np.exp(z / 4) - 1.5), [4 * np.log(1.5)], []),
    "step": (lambda z: np.heaviside(z, 0.5), [], [0]),
    "sign": (np.sign, [], [0]),
    "half": (lambda z: np.where(z > 0.5, 1.0, 0.0), [], [0.5]),
    "two": (lambda z: np.where(z > 2, z, -z), [], [2]),
    "odd": (lambda z: np.where(z > 0.123, 1.0, 0.0) + np.tanh(z), [], [0.123]),
    "both": (lambda z: np.where(z > 1, 3.0, np.maximum(z, -0.4)), [-0.4], [1]),
    "large": (lambda z: 1e20 * np.maximum(z - 0.2, 0), [0.2], []),
    "small": (lambda z: 1e-20 * np.maximum(z - 0.2, 0), [0.2], []),
    "whole numbers": (lambda z: np.where(np.abs(z) < 5.5, z, 0), [], [-5.5, 5.5]),
    "smooth": (np.tanh, [], []),
    "steep": (lambda z: np.tanh(1000 * z), [], []),
    "waves": (lambda z: np.sin(10 * z), [], []),
    "line": (lambda z: 3 * z - 1, [], []),
    "constant": (lambda z: 0 * z + 2, [], []),
    "zero": (lambda z: 0 * z, [], []),
    "polynomial": (lambda z: z**3 - z, [], []),
}


@pytest.mark.parametrize("name", CORNERS)
def test_corners_are_found(name):
    phi, kinks, jumps = CORNERS[name]
    found = activation(phi)
    assert near(found.kinks, kinks), found.kinks
    assert near(found.jumps, jumps), found.jumps
    assert found.slope is None
    assert found.period is None


def test_many_corners_are_found():
    found = activation(lambda z: np.abs(z - np.round(z)))
    halves = np.arange(-63, 64) / 2
    assert near([kink for kink in found.kinks if abs(kink) < 31.9], halves)
    assert found.jumps == ()
    steps = activation(np.floor)
    assert near([jump for jump in steps.jumps if abs(jump) < 31.9], np.arange(-31, 32))
    assert steps.kinks == ()


def test_too_rough_is_told():
    rng = np.random.default_rng(3)
    with pytest.raises(InvalidValueError, match="too rough to be integrated") as error:
        activation(lambda z: rng.normal(size=z.shape))
    assert "<lambda>" in error.value.given


def test_not_finite_is_told():
    with pytest.raises(InvalidValueError, match="not finite") as error:
        activation(lambda z: np.where(z < -20, np.nan, z))
    assert error.value.given.startswith("<lambda>(-")


@pytest.mark.parametrize(("name", "low", "high"), [("tanh", -1, 1), ("sigmoid", 0, 1)])
def test_saturation_begins_within_a_hundredth_of_the_bounds(name, low, high):
    place = saturation(name)
    ends = activation(name).phi(np.array([-place, place]))
    assert ends == pytest.approx([low + 0.01 * (high - low), high - 0.01 * (high - low)])


def test_an_activation_without_bounds_does_not_saturate():
    assert saturation("relu") == np.inf
