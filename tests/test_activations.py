"""The table of activations: against 25-digit arithmetic, against JAX, and what is refused."""

from pathlib import Path
from runpy import run_path

import mpmath as mp
import numpy as np
import pytest

from fanin.activations import ACTIVATIONS, Activation, activation, leaky_relu
from fanin.errors import InvalidValueError, UnknownNameError

PHI = run_path(str(Path(__file__).parent / "oracles" / "activations.py"))["PHI"]
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
    assert found | smooth_slope == set(entry.kinks)


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
