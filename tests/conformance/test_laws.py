"""Every initializer of the table, drawn in several shapes, against the law that it claims.

The bounds follow from the laws: a sample mean has variance s^2/n, a sample second moment about the known mean
s^4 (kurtosis - 1)/n, and both are normal to within n^-1/2 at the tens of thousands of numbers drawn here. All the
statistical checks of this file together raise a false alarm with probability FAMILY (Bonferroni); the seeds
are fixed, so what passes keeps passing.
"""

import math
from functools import lru_cache

import numpy as np
import pytest
from scipy import stats

from fanin.initializers import INITIALIZERS, Fans, canonical, decide, draw_param, fill, sample
from fanin.initializers.fans import axes_of_shape, fans, fans_of
from fanin.initializers.laws import (
    Constant,
    Independent,
    Mirrored,
    Normal,
    Orthogonal,
    Sparse,
    TruncatedNormal,
    Uniform,
)
from fanin.keras import backend
from fanin.records import ParamInfo

FAMILY = 1e-3
EPS = 2.0**-24
S, B, I, O = "spatial", "batch", "in", "out"  # noqa: E741
LAYOUTS = {
    "wide": ((100, 170), (I, O), {}),
    "tall": ((170, 100), (I, O), {}),
    "conv": ((3, 5, 30, 40), (S, S, I, O), {}),
    "conv, PyTorch's layout": ((40, 30, 2, 6), (O, I, S, S), {}),
    "lstm": ((40, 320), (I, O), {"gates": 4}),
    "grouped conv": ((240, 30, 3), (O, I, S), {"groups": 4}),
    "experts": ((6, 40, 80), (B, I, O), {}),
}
VARIANTS = [
    "constant(value=-0.7)",
    "random_normal(mean=0.3, stddev=0.2)",
    "random_uniform(minval=-0.1, maxval=0.4)",
    "truncated_normal(mean=-1.0, stddev=0.5)",
    "truncated_normal(mean=-1.0, stddev=0.5, lower=-1.0, upper=3.0)",
    "truncated_normal(stddev=2.0, lower=5.0, upper=6.0)",
    "truncated_normal(stddev=2.0, lower=-1e999, upper=-4.0)",
    "truncated_normal(mean=0.5, lower=0.0)",
    "truncated_normal(stddev=1.0, lower=-8.0, upper=7.0)",
    *(
        f"variance_scaling(scale=3.0, mode='{mode}', distribution='{distribution}', activation='tanh')"
        for mode in ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")
        for distribution in ("truncated_normal", "untruncated_normal", "uniform", "orthogonal")
    ),
    "identity(gain=-0.5)",
    "orthogonal(gain=1.5)",
    "scaled_orthogonal(gain=0.3, centre='upper')",
    "delta_orthogonal(gain=2.0)",
    "dirac(gain=-2.0, centre='upper')",
    "hadamard(gain=1.5)",
    "mirrored(gain=2.0, sides='in')",
    "mirrored(sides='out')",
    "sinusoidal(scale=2.0, mode='fan_out')",
    "sparse(sparsity=0.35, stddev=0.5)",
]


def fits(text, layout):
    """Identity has two axes; delta_orthogonal no more inputs than units; stft its own test."""
    (shape, _, _), name = LAYOUTS[layout], canonical(text).name
    if name == "delta_orthogonal":
        return layout not in ("tall",)
    return name != "stft" and (name != "identity" or len(shape) == 2)


CASES = [(text, layout) for text in [*INITIALIZERS, *VARIANTS] for layout in LAYOUTS if fits(text, layout)]
CHECKS = 3 * len(CASES) + 2 * len(INITIALIZERS) + 20  # more than are made
Z = stats.norm.isf(FAMILY / CHECKS / 2)


def drawn(text, layout):
    shape, axes, blocks = LAYOUTS[layout]
    described = ParamInfo(f"{text} {layout}", shape, "float32", axes, "dense", **blocks)
    init = canonical(text)
    return decide(init, fans_of(described)), draw_param(described, init, 2024).astype(float)


def distribution(law):
    match law:
        case Normal():
            return stats.norm(law.mean, law.stddev)
        case TruncatedNormal():
            return stats.truncnorm(law.low, law.high, law.centre, law.stddev)
        case Uniform():
            return stats.uniform(law.low, law.high - law.low)


def assert_moments(values, mean, variance, kurtosis):
    count, centred = values.size, values.astype(float) - mean
    assert abs(centred.mean()) <= Z * math.sqrt(variance / count)
    assert abs((centred**2).mean() / variance - 1) <= Z * math.sqrt((kurtosis - 1) / count)


def kurtosis_of(law):
    match law:
        case Normal():
            return 3.0
        case Uniform():
            return 1.8
        case TruncatedNormal():
            return cut_kurtosis(law.low, law.high)


@lru_cache
def cut_kurtosis(low, high):
    """From the quantiles, because SciPy's closed form cancels far out in a tail; low by less than a hundredth."""
    points = stats.truncnorm(low, high).ppf((np.arange(10_000) + 0.5) / 10_000)
    return float(stats.kurtosis(points, fisher=False))


def test_the_table_is_covered():
    assert {canonical(text).name for text, _ in CASES} | {"stft"} == set(INITIALIZERS)


@pytest.mark.parametrize(("text", "layout"), CASES)
def test_a_law_is_kept(text, layout):
    law, values = drawn(text, layout)
    assert np.isfinite(values).all()
    low, high = law.support
    # About zero a cut is kept to the bit; else a mean, a half-width and their sum (a gain, an entry, their product)
    # round once each.
    symmetric = isinstance(law, TruncatedNormal | Uniform) and low == -high
    slack = 0.0 if symmetric else 3 * EPS * max(abs(b) for b in (low, high, 0.0) if math.isfinite(b))
    assert low - slack <= values.min()
    assert values.max() <= high + slack
    if isinstance(law, Constant):
        assert (values == float(np.float32(law.value))).all()
        assert (law.mean, law.variance) == (law.value, 0)
    elif isinstance(law, Independent):
        exact = distribution(law)
        assert law.mean == pytest.approx(exact.mean())
        assert law.variance == pytest.approx(exact.var())
        assert law.support == pytest.approx(exact.support())
        assert_moments(values, law.mean, law.variance, kurtosis_of(law))
        assert stats.kstest(values.reshape(-1), exact.cdf).pvalue > FAMILY / CHECKS
    elif isinstance(law, Sparse):
        kept = values[values != 0]
        assert values.size - kept.size == law.zeros * values.size // law.rows
        assert law.variance == pytest.approx(law.stddev**2 * kept.size / values.size)
        assert stats.kstest(kept, stats.norm(0, law.stddev).cdf).pvalue > FAMILY / CHECKS
        assert_moments(kept, 0.0, law.stddev**2, 3)
    else:
        assert_described(law, values)


def assert_described(law, values):
    """The mean square of a structured law is exact but for three roundings of each entry; and so is the mean,
    unless the law is random: entries of Haar matrices are uncorrelated, so theirs varies as that of independent ones.
    """
    square = (values**2).mean()
    roundings = (1 + EPS) ** 6 - 1 + 1e-12
    assert law.variance + law.mean**2 == pytest.approx(square, rel=roundings)
    matrix = getattr(law, "matrix", law)
    if isinstance(matrix, Orthogonal):
        assert law.mean == 0
        assert abs(values.mean()) <= Z * math.sqrt(law.variance / values.size)
    else:
        # The rounding of the sum of n entries of this size is far below that of the entries.
        assert values.mean() == pytest.approx(law.mean, abs=3 * EPS * math.sqrt(square))
    if isinstance(matrix, Mirrored):
        assert abs(values.mean()) <= 1e-15


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg", "fan_geo_avg"])
def test_orthogonal_entries_have_the_scaled_variance(mode, layout):
    law, values = drawn(f"variance_scaling(scale=3.0, mode='{mode}', distribution='orthogonal')", layout)
    shape, axes, blocks = LAYOUTS[layout]
    fan = getattr(fans(shape, axes, **blocks), mode)
    assert (values**2).mean() == pytest.approx(3 / fan, rel=(1 + EPS) ** 6 - 1 + 1e-12)
    assert law.variance == pytest.approx(3 / fan)


@pytest.mark.parametrize("name", sorted(set(INITIALIZERS) & {
    "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform",
    "random_normal", "random_uniform", "truncated_normal", "variance_scaling",
}))  # fmt: skip
def test_keras_draws_with_the_same_variance(name):
    backend.start(None)
    import keras

    shape = (150, 260)
    law = decide(canonical(name), fans(shape, axes_of_shape(shape)))
    values = np.asarray(getattr(keras.initializers, INITIALIZERS[name].class_name)(seed=1)(shape))
    assert_moments(values, law.mean, law.variance, kurtosis_of(law))


def test_torch_default_linear_bound():
    # torch.nn.Linear: kaiming_uniform with a = sqrt(5), which is uniform within 1/sqrt(fan_in).
    law = decide(canonical("fan_in_uniform"), Fans(49, 5))
    assert law.support == pytest.approx((-1 / 7, 1 / 7))


def test_the_same_numbers_under_every_scale():
    """Seeds are paired between initializers: laws of one kind are multiples of the same draws."""
    he, lecun = (sample(name, (30, 20), seed=1).astype(float) for name in ("he_normal", "lecun_normal"))
    assert he == pytest.approx(math.sqrt(2) * lecun, rel=4 * EPS)


# -------------------------------------------------------------------------------------------------- extremes
MANY = 10**8
MOMENTS = {  # of the standard law: variances of x, x^2, x^3, x^4, and the means of x^2 and x^4
    "normal": (Normal(0.0, 1.0), stats.norm()),
    "truncated": (TruncatedNormal(0.0, 1.0), stats.truncnorm(-2, 2)),
    "uniform": (Uniform(-1.0, 1.0), stats.uniform(-1, 2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", MOMENTS)
def test_a_hundred_million_draws(kind):
    """False-alarm rate 1e-6 for each law: four moments, two-sided."""
    law, exact = MOMENTS[kind]
    sums, extreme, step = np.zeros(4), 0.0, 10**6
    buffer = np.empty(step, np.float32)
    for start in range(0, MANY, step):
        fill(buffer, law, seed=7, name="extremes", start=start)
        x = buffer.astype(float)
        x2 = x * x
        sums += [x.sum(), x2.sum(), (x2 * x).sum(), (x2 * x2).sum()]
        extreme = max(extreme, float(np.abs(x).max()))
    raw = [exact.moment(k) for k in range(1, 9)]
    z = stats.norm.isf(1e-6 / 8)
    for k in range(4):
        variance = raw[2 * k + 1] - raw[k] ** 2
        assert abs(sums[k] / MANY - raw[k]) <= z * math.sqrt(variance / MANY), k + 1
    # 1e8 normal numbers all stay below 5 with probability exp(-57).
    bounds = {"normal": (5.0, 6.77), "truncated": (2 - 1e-5, 2.0), "uniform": (1 - 1e-6, 1.0)}[kind]
    assert bounds[0] < extreme < bounds[1]
