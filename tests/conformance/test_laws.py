"""Every initializer of the table, drawn in several shapes, against the law that it claims.

The bounds follow from the laws: a sample mean has variance s^2/n, a sample second moment about the known mean
s^4 (kurtosis - 1)/n, and both are normal to within n^-1/2 at the tens of thousands of numbers drawn here. All the
statistical checks of this file together raise a false alarm with probability FAMILY (Bonferroni); the seeds
are fixed, so what passes keeps passing.
"""

import math

import numpy as np
import pytest
from scipy import stats

from fanin.initializers import INITIALIZERS, Fans, canonical, decide, sample
from fanin.initializers.fans import axes_of_shape, fans
from fanin.initializers.laws import TRUNCATED_STD, Constant, Normal, TruncatedNormal, Uniform
from fanin.keras import backend

FAMILY = 1e-3
EPS = 2.0**-24
SHAPES = [(150, 260), (260, 150), (3, 5, 40, 60)]
VARIANTS = [
    "constant(value=-0.7)",
    "random_normal(mean=0.3, stddev=0.2)",
    "random_uniform(minval=-0.1, maxval=0.4)",
    "truncated_normal(mean=-1.0, stddev=0.5)",
    *(
        f"variance_scaling(scale=3.0, mode='{mode}', distribution='{distribution}')"
        for mode in ("fan_in", "fan_out", "fan_avg")
        for distribution in ("truncated_normal", "untruncated_normal", "uniform")
    ),
]
MATRICES = ("identity", "stft", "orthogonal")
CASES = [text for text in [*INITIALIZERS, *VARIANTS] if text not in MATRICES]
CHECKS = 3 * len(CASES) * len(SHAPES) + 2 * len(INITIALIZERS)  # more than are made
Z = stats.norm.isf(FAMILY / CHECKS / 2)
CUT = stats.truncnorm(-2, 2)


def law_of(text, shape):
    return decide(canonical(text), fans(shape, axes_of_shape(shape)))


def distribution(law):
    match law:
        case Normal():
            return stats.norm(law.mean, law.stddev)
        case TruncatedNormal():
            return stats.truncnorm(-2, 2, law.mean, law.stddev)
        case Uniform():
            return stats.uniform(law.low, law.high - law.low)


def assert_moments(values, mean, variance, kurtosis):
    count, centred = values.size, values.astype(float) - mean
    assert abs(centred.mean()) <= Z * math.sqrt(variance / count)
    assert abs((centred**2).mean() / variance - 1) <= Z * math.sqrt((kurtosis - 1) / count)


def test_the_table_is_covered():
    assert {canonical(text).name for text in CASES} | set(MATRICES) == set(INITIALIZERS)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("text", CASES)
def test_a_law_is_kept(text, shape):
    law = law_of(text, shape)
    values = sample(text, shape, seed=2024, name=f"{text} {shape}").reshape(-1)
    assert np.isfinite(values).all()
    if isinstance(law, Constant):
        assert (values == np.float32(law.value)).all()
        assert (law.mean, law.variance) == (law.value, 0)
        return
    exact = distribution(law)
    assert law.mean == pytest.approx(exact.mean())
    assert law.variance == pytest.approx(exact.var())
    assert law.support == pytest.approx(exact.support())
    assert_moments(values, law.mean, law.variance, 3 + float(exact.stats("k")))
    assert stats.kstest(values.astype(float), exact.cdf).pvalue > FAMILY / CHECKS
    # About zero the support is kept to the bit; with a mean, that mean, the half-width and their sum round once each.
    slack = 3 * EPS * max(map(abs, law.support)) if law.mean else 0.0
    assert law.support[0] - slack <= values.min()
    assert values.max() <= law.support[1] + slack


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_orthogonal_has_its_moments(shape):
    values = sample("orthogonal(gain=1.5)", shape, seed=2024).astype(float)
    rows, columns = math.prod(shape[:-1]), shape[-1]
    # min(rows, columns) unit vectors: the sum of squares is exact, up to the rounding of each entry.
    variance = 1.5**2 / max(rows, columns)
    assert (values**2).mean() == pytest.approx(variance, rel=2 * EPS + EPS**2)
    # Entries of a Haar matrix are uncorrelated, so their mean has the variance of independent ones.
    assert abs(values.mean()) <= Z * math.sqrt(variance / values.size)


def test_truncated_std_is_that_of_the_cut_normal():
    assert pytest.approx(CUT.std(), rel=1e-14) == TRUNCATED_STD


VARIANCES = {
    "glorot_normal": lambda f: 2 / (f.fan_in + f.fan_out),
    "glorot_uniform": lambda f: 2 / (f.fan_in + f.fan_out),
    "he_normal": lambda f: 2 / f.fan_in,
    "he_uniform": lambda f: 2 / f.fan_in,
    "lecun_normal": lambda f: 1 / f.fan_in,
    "lecun_uniform": lambda f: 1 / f.fan_in,
    "fan_in_uniform": lambda f: 1 / (3 * f.fan_in),
    "variance_scaling": lambda f: 1 / f.fan_in,
    "random_normal": lambda _: 0.05**2,
    "random_uniform": lambda _: 0.05**2 / 3,
    "truncated_normal": lambda _: (0.05 * TRUNCATED_STD) ** 2,
}


@pytest.mark.parametrize("name", VARIANCES)
def test_the_variance_is_the_one_of_the_paper(name):
    for sizes in (Fans(50, 20), Fans(7, 300)):
        assert decide(canonical(name), sizes).variance == pytest.approx(VARIANCES[name](sizes))


@pytest.mark.parametrize("name", sorted(set(VARIANCES) - {"fan_in_uniform"}))
def test_keras_draws_with_the_same_variance(name):
    backend.start(None)
    import keras

    shape = (150, 260)
    law = law_of(name, shape)
    values = np.asarray(getattr(keras.initializers, INITIALIZERS[name].class_name)(seed=1)(shape))
    kurtosis = 3 + float(distribution(law).stats("k"))
    assert_moments(values, law.mean, law.variance, kurtosis)


def test_torch_default_linear_bound():
    # torch.nn.Linear: kaiming_uniform with a = sqrt(5), which is uniform within 1/sqrt(fan_in).
    law = decide(canonical("fan_in_uniform"), Fans(49, 5))
    assert law.support == pytest.approx((-1 / 7, 1 / 7))
