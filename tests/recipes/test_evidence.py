"""The tests behind an audit: exact where a distribution is known, never too eager, and sharp enough."""

import math

import numpy as np
import pytest
from scipy import stats

from fanin.initializers import draw_param
from fanin.initializers.fills import fill
from fanin.initializers.laws import Centred, Mirrored, Normal, Orthogonal, Sparse, TruncatedNormal, Uniform
from fanin.recipes.evidence import TESTS, failed, fault, measure, rounding, tells
from fanin.records import Init, ParamInfo

NORMAL, TRUNCATED, UNIFORM = Normal(0.3, 0.02), TruncatedNormal(0.0, 0.02), Uniform(-0.5, 0.25)
LAWS = [NORMAL, TRUNCATED, UNIFORM, TruncatedNormal(1.0, 2.0, -1.0, 3.0), TruncatedNormal(0.0, 1.0, 5.0, math.inf)]


def scipy_law(law):
    match law:
        case Normal(mean, stddev):
            return stats.norm(mean, stddev)
        case TruncatedNormal(centre, stddev, low, high):
            return stats.truncnorm(low, high, centre, stddev)
        case Uniform(low, high):
            return stats.uniform(low, high - low)


def drawn(law, size, seed=0):
    array = np.empty(size, np.float32)
    fill(array, law, seed=seed, name="w")
    return array


# ------------------------------------------------------------------------------------------------- what is measured
def test_moments_are_those_of_all_entries_in_double_precision():
    values = (1000 + drawn(NORMAL, 1_200_001)).reshape(-1, 1)  # more than two chunks, far from 0
    measured = measure(values, "float32")
    exact = values.astype(np.float64)
    assert measured.mean == pytest.approx(exact.mean(), rel=1e-14)
    assert measured.variance == pytest.approx(exact.var(), rel=1e-9)
    assert measured.second(999.0) == pytest.approx(np.mean((exact - 999) ** 2), rel=1e-9)
    assert (measured.size, measured.low, measured.high) == (values.size, values.min(), values.max())


def test_the_sample_is_spread_over_rows_and_columns():
    rows, columns = np.indices((3000, 768))
    for index, count in ((rows, 3000), (columns, 768)):
        sample = measure(index.astype(np.float32), "float32").sample
        assert len(sample) <= 100_000
        shares = np.bincount(sample.astype(int), minlength=count) / len(sample) * count
        assert shares.min() > 0.8
        assert shares.max() < 1.2


def test_numbers_that_are_all_the_same_have_no_variance():
    assert measure(np.full(1_000_003, 0.1, np.float32), "float32").stddev == 0


@pytest.mark.parametrize(("copies", "repeated"), [(1, 0.0), (2, 1.0)])
def test_repeated_numbers(copies, repeated):
    ramp = np.tile(np.arange(1.0, 50.0), copies)
    assert measure(ramp, "float32").repeated == repeated
    assert measure(ramp, "bfloat16").repeated == 0  # which has few numbers
    assert measure(ramp[:10], "float32").repeated == 0


# ------------------------------------------------------------------------------------------------------ each test
@pytest.mark.parametrize("size", [1, 7, 400])
def test_moments_of_normal_numbers_have_their_exact_distributions(size):
    measured = measure(drawn(Normal(0.01, 0.021), size), "float32")
    law = Normal(0.0, 0.02)
    chi2 = size * measured.second(0.0) / law.variance
    tails = stats.chi2.cdf(chi2, size), stats.chi2.sf(chi2, size)
    assert TESTS["size"](law, measured) == pytest.approx(min(1, 2 * min(tails)), rel=0.02)
    z = abs(measured.mean) / 0.02 * math.sqrt(size)
    assert TESTS["mean"](law, measured) == pytest.approx(2 * stats.norm.sf(z), rel=0.01)


@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize("other", [NORMAL, TRUNCATED, UNIFORM], ids=str)
def test_the_shape_is_the_distance_of_distribution_functions(law, other):
    values = drawn(other, 60)
    distance = stats.kstest(values.astype(np.float64), scipy_law(law).cdf).statistic
    bound = min(1.0, 2 * math.exp(-2 * 60 * distance**2))
    assert TESTS["shape"](law, measure(values, "float32")) == pytest.approx(bound, rel=0.01)


@pytest.mark.parametrize("law", LAWS[:3], ids=str)
def test_the_range_is_that_of_the_extremes(law):
    values = drawn(law, 50).astype(np.float64)
    reference = scipy_law(law)
    for moved in (values, np.append(values, 0.9 * reference.std() * 4 + reference.mean()), reference.mean() + 0.3 * (
        values - reference.mean()
    )):  # fmt: skip
        n = moved.size
        tails = [n * reference.cdf(moved.min()), n * reference.sf(moved.max()),
                 reference.sf(moved.min()) ** n, reference.cdf(moved.max()) ** n]  # fmt: skip
        found = TESTS["range"](law, measure(moved, "float32"))
        assert found == pytest.approx(min(1.0, 4 * min(tails)), rel=1e-3, abs=1e-300)


@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize("size", [1, 6, 40, 600])
def test_no_test_is_too_eager(law, size):
    # Each bound is at most 1 % in at most 1 % of cases; a count of so many of 400 has a probability below 1e-7.
    repetitions, level = 400, 0.01
    numbers = drawn(law, repetitions * size, seed=11).reshape(repetitions, size)
    measured = [measure(row, "float32") for row in numbers]
    for name, doubt in TESTS.items():
        alarms = sum(doubt(law, each) <= level for each in measured)
        assert alarms <= stats.binom.isf(1e-7, repetitions, level), name


POWER = [
    (UNIFORM, Uniform(-0.52, 0.27), 1000, "range"),
    (NORMAL, Normal(0.3, 0.022), 100_000, "size"),
    (TRUNCATED, TruncatedNormal(0.0, 0.022), 100_000, "size"),
    (NORMAL, Normal(0.301, 0.02), 100_000, "mean"),
    (Normal(0.0, 0.02), Uniform(-0.02 * 3**0.5, 0.02 * 3**0.5), 10_000, "range"),
    (Normal(0.0, 0.02), TruncatedNormal(0.0, 0.02 / 0.8796256), 10_000, "range"),
    (TruncatedNormal(0.0, 0.02 / 0.8796256), Uniform(-0.02 * 3**0.5, 0.02 * 3**0.5), 10_000, "range"),
]


@pytest.mark.parametrize(("law", "real", "size", "test"), POWER, ids=str)
def test_a_wrong_law_is_found(law, real, size, test):
    # At the level that 1000 parameters and 4 tests leave of 1e-3, with much to spare: the seed does not decide.
    measured = measure(drawn(real, size), "float32")
    assert failed(law, measured, 1e-3 / 4000) == test
    assert TESTS[test](law, measured) < 1e-9


def test_a_mixture_of_the_right_size_is_found_by_its_shape():
    half = drawn(Normal(0.0, 1.0), 20_000).reshape(2, -1)
    mixed = np.concatenate([half[0] * np.float32(0.2), half[1] * np.float32(1.4)])
    mixed /= mixed.std()
    measured = measure(np.clip(mixed, -4, 4), "float32")
    assert failed(Normal(0.0, measured.stddev), measured, 1e-3 / 4000) == "shape"


@pytest.mark.parametrize("law", LAWS[:3], ids=str)
@pytest.mark.parametrize(("dtype", "digits"), [("bfloat16", 8), ("float16", 11)])
def test_rounded_numbers_still_follow(law, dtype, digits):
    values = drawn(law, 200_000).astype(np.float64)
    mantissa, exponent = np.frexp(values)
    rounded = np.ldexp(np.round(mantissa * 2**digits) / 2**digits, exponent).astype(np.float32)
    assert np.mean(rounded == values) < 0.1
    assert failed(law, measure(rounded, dtype), 1e-6) == ""
    assert rounding(dtype)[0] == 2.0**-digits


def test_so_many_entries_tell_and_so_few_do_not():
    for law in LAWS[:4]:
        told = [tells(law, size, 1e-5) for size in range(1, 400)]
        assert told == sorted(told)
        assert not told[1]
        assert told[-1]


# ------------------------------------------------------------------------------------------------------- structure
def matrix(init, shape=(3, 1, 40, 24), seed=0):
    """Blocks as `fault` wants them, drawn one by one."""
    blocks, *kernel = shape
    param = [ParamInfo(f"w{i}", tuple(kernel), "float32", ("spatial", "in", "out"), "conv") for i in range(blocks)]
    return np.stack([draw_param(each, init, seed) for each in param])


ORTHOGONAL = Orthogonal(2.0, 40, 24)


def test_orthogonal_blocks_and_what_is_wrong_with_others():
    right = matrix(Init("orthogonal", gain=2.0))
    assert fault(ORTHOGONAL, right, 0, "float32", 1e-6) == ""
    assert "not orthogonal with the length 2" in fault(ORTHOGONAL, right * 1.001, 0, "float32", 1e-6)
    wrong = right.copy()
    wrong[1] = matrix(Init("random_normal", stddev=2 / 40**0.5))[0]
    assert "its columns" in fault(ORTHOGONAL, wrong, 0, "float32", 1e-6)
    wide = right.swapaxes(2, 3)
    assert fault(Orthogonal(2.0, 24, 40), wide, 0, "float32", 1e-6) == ""
    assert "its rows" in fault(Orthogonal(2.0, 24, 40), wide * 0.9, 0, "float32", 1e-6)


def test_a_diagonal_is_no_random_rotation():
    # The largest entry of a random direction of 40 is above 0.99 with a probability of 1e-34.
    diagonal = 2 * np.eye(40, 24, dtype=np.float32)[None, None]
    assert "no random rotation: it has an entry of 2" in fault(ORTHOGONAL, diagonal, 0, "float32", 1e-6)
    single = np.full((1, 1, 1, 1), -2.0, np.float32)
    assert fault(Orthogonal(2.0, 1, 1), single, 0, "float32", 1e-6) == ""


def test_random_rotations_are_not_accused():
    # 300 rotations, each accused with a probability of at most 1e-5: 0.3 % in all.
    found = [fault(Orthogonal(1.0, 3, 2), matrix(Init("orthogonal"), (1, 1, 3, 2), s), 0, "float32", 1e-5)
             for s in range(300)]  # fmt: skip
    assert found == [""] * 300


def test_wide_matrices_are_looked_at_in_part():
    right = matrix(Init("orthogonal"), (1, 1, 1100, 1000))
    assert fault(Orthogonal(1.0, 1100, 1000), right, 0, "float32", 1e-6) == ""
    assert fault(Orthogonal(1.0, 1100, 1000), right[..., ::-1] * 1.01, 0, "float32", 1e-6)


def test_what_lies_beside_the_centre_of_a_kernel():
    right = matrix(Init("delta_orthogonal"), (2, 5, 12, 20))
    law = Centred(Orthogonal(1.0, 12, 20), 5, upper=False)
    assert fault(law, right, 2, "float32", 1e-6) == ""
    assert "beside the kernel's centre" in fault(law, right, 3, "float32", 1e-6)
    assert "not orthogonal" in fault(law, right * 1.1, 2, "float32", 1e-6)


@pytest.mark.parametrize("sides", ["both", "in", "out"])
def test_mirrored_halves(sides):
    right = matrix(Init("mirrored", sides=sides), (2, 3, 12, 20))
    inputs, outputs = sides != "out", sides != "in"
    block = Orthogonal(1.0, 36 // (1 + inputs), 20 // (1 + outputs))
    gain = np.linalg.svd(right[0, :, : 12 // (1 + inputs), : 20 // (1 + outputs)].reshape(block.rows, -1))[1][0]
    law = Mirrored(Orthogonal(float(gain), block.rows, block.columns), inputs, outputs)
    assert fault(law, right, 1, "float32", 1e-6) == ""
    wrong = right.copy()
    wrong[0, 0, 0, 0] *= 1.01
    assert "each other's negatives" in fault(law, wrong, 1, "float32", 1e-6)


def test_sparse_columns():
    right = matrix(Init("sparse", sparsity=0.75, stddev=0.1), (1, 1, 400, 60))
    law = Sparse(0.1, 300, 400)
    assert fault(law, right, 0, "float32", 1e-6) == ""
    assert "300 to 300 inputs of a unit are cut off instead of 200" in fault(
        Sparse(0.1, 200, 400), right, 0, "float32", 1e-6
    )
    assert "not normal with standard deviation 0.1" in fault(law, right * 1.1, 0, "float32", 1e-6)
