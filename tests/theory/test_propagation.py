"""Predictions by layer against random networks of a finite width, and the band that says how far these stray.

False alarms, were the seeds not fixed: each bound below names its own; all of them together are below 2 %.
"""

import math
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from fanin.errors import InvalidValueError, UnknownNameError
from fanin.theory.propagation import Layer, finite_width, propagate

oracle = SimpleNamespace(**run_path(str(Path(__file__).parents[1] / "oracles" / "networks.py")))


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Threads that wait for each other on a busy machine make small matrices a hundred times slower."""
    with threadpool_limits(1):
        yield


K_STAR = (3 + math.sqrt(17)) / 2
SETTINGS = {
    "relu": (2.0, 0.0, 1.0),
    "tanh": (1.7609546396, 0.05, 0.5700478816),
    "gelu": (1.9830582574, 0.1729223908, K_STAR),
    "selu": (1.0, 0.0, 1.0),
    "erf": (1.3758390073, 0.05, 0.5171768379),
    "linear": (1.0, 0.0, 1.0),
}
"""sigma_w2, sigma_b2 and q: all but SELU (whose own point it is) at the edge of chaos."""
KINDS = ("plain", "residual", "residual by depth", "pre", "post")
FIVE = ("relu", "tanh", "gelu", "selu", "erf")
SECOND_ORDER = 3.1
"""How far the spread is off, relatively and times the width: the band is of first order in 1 / width.

For ReLU the logarithm of a layer's factor A = mean of 2 relu(z)^2 has the variance V - k + 2.5 V^2 to second
order, with V = 5 / n and the third cumulant k = 44 / n^2, where the band has log(1 + V) = V - V^2 / 2. That is
31 / n^2 more, 6.2 / n of V, and half of it in its root. Of a linear layer (V = 2 / n, k = 8 / n^2) it is 1 / n.
"""


def stack(kind, phi, depth, width):
    """The same layers for `propagate` and for the oracle, and q."""
    sigma_w2, sigma_b2, q = SETTINGS[phi]
    residual = {"plain": None, "batch": None, "residual by depth": 1 / math.sqrt(depth)}.get(kind, 1.0)
    norm = kind if kind in ("pre", "post", "batch") else "none"
    layers = [Layer(phi, sigma_w2, sigma_b2, width, residual, norm)] * depth
    return layers, [oracle.Block(phi, sigma_w2, sigma_b2, residual, norm)] * depth, q


def standard(signal, predicted):
    """The logarithm of measured over predicted in units of the band: standard normal numbers, were all as it says."""
    spread = np.array(predicted.band.spread)[1:, None]
    off = np.log(signal[1:] / np.array(predicted.signal)[1:, None])
    return (off + spread**2 / 2) / spread


def logs(measured, predicted):
    return np.log(measured / np.array(predicted)[:, None])


def assert_centred(off, where):
    """Means over seeds, by Student's t with 23 degrees of freedom (5.5: 1.4e-5 each) from the spread over seeds.

    Theory leaves out terms of second order in that spread, so its square is allowed as well.
    """
    spread = off.std(axis=1, ddof=1)
    allowed = 5.5 * spread / math.sqrt(off.shape[1]) + spread**2 + 1e-6
    for layer in where:
        assert abs(off[layer].mean()) < allowed[layer], (layer, off[layer].mean(), allowed[layer])


@pytest.mark.parametrize("kind", ["plain", "residual", "pre", "post", "batch", "post without a branch"])
def test_the_oracle_goes_backward_as_finite_differences_say(kind):
    rng = np.random.default_rng(0)
    norm = kind.split()[0] if kind.split()[0] in ("pre", "post", "batch") else "none"
    block = oracle.Block("tanh", 1.5, 0.1, 0.7 if kind in ("residual", "pre", "post") else None, norm)
    h, weight, bias, end = (rng.normal(size=shape) for shape in ((1, 5, 7), (1, 7, 7), (1, 7), (1, 5, 7)))
    after, kept = oracle.forward(block, h, weight, bias)
    found, step = oracle.backward(block, kept, weight, end), 1e-6
    for at in [(0, 0, 0), (0, 3, 4), (0, 4, 6)]:
        move = np.zeros_like(h)
        move[at] = step
        above, below = (oracle.forward(block, h + sign * move, weight, bias)[0] for sign in (1, -1))
        assert found[at] == pytest.approx(float(((above - below) * end).sum()) / (2 * step), rel=1e-6, abs=1e-8)
    assert after.shape == h.shape


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("phi", FIVE)
def test_networks_follow_the_predictions(kind, phi):
    width, depth, seeds = 200, 12, 24
    layers, blocks, q = stack(kind, phi, depth, width)
    predicted = propagate(layers, q, 0.5)
    passes = oracle.run(blocks, oracle.pair(width, q, 0.5), width, seeds, np.random.default_rng(5))
    if kind == "post":
        assert passes.signal[1:] == pytest.approx(1.0)
        assert predicted.signal[1:] == (1.0,) * depth
        assert max(predicted.band.spread) == 0
    else:
        z = standard(passes.signal, predicted)
        # 288 normal numbers, not independent: beyond 5 with a probability below 2e-4.
        assert np.abs(z).max() < 5
        assert abs(z[-1].mean()) * math.sqrt(seeds) < 4.5 + math.sqrt(seeds) * predicted.band.spread[-1]
    assert_centred(logs(passes.gradient, predicted.gradient), (0, depth // 2, depth - 1))
    assert_centred(logs(1 - passes.cosine, 1 - np.array(predicted.cosine)), (1, depth // 2, depth))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("phi", FIVE)
def test_wide_and_deep_networks_follow_the_predictions(kind, phi):
    width, depth, seeds = 1000, 50, 2
    layers, blocks, q = stack(kind, phi, depth, width)
    predicted, rng = propagate(layers, q, 0.5), np.random.default_rng(11)
    inputs = oracle.pair(width, q, 0.5).astype(np.float32)
    passes = [oracle.run(blocks, inputs, width, 1, rng) for _ in range(seeds)]
    signal, gradient, cosine = (
        np.concatenate([getattr(each, name) for each in passes], axis=1) for name in ("signal", "gradient", "cosine")
    )
    if kind == "post":
        assert signal[1:] == pytest.approx(1.0, rel=1e-5)
    else:
        assert np.abs(standard(signal, predicted)).max() < 5
    # A layer's factor for a gradient strays by (3 E phi'^4 / (E phi'^2)^2 - 1) / n, which ReLU has most of, 5 / n;
    # small differences of two signals stray like it. Means of 2: beyond 4 with a probability of 6e-5.
    layer = np.arange(depth + 1)
    for off, layers_passed in (
        (logs(gradient, predicted.gradient), depth - layer),
        (logs(1 - cosine, 1 - np.array(predicted.cosine)), layer),
    ):
        bar = np.sqrt(5 * layers_passed / width)
        # To pair's lattice, which is even to about 1 / n, the last term.
        assert (np.abs(off.mean(axis=1)) < 4 * bar / math.sqrt(seeds) + bar**2 + 4 / width).all()


@pytest.mark.parametrize("kind", ["plain", "residual", "residual by depth", "pre"])
@pytest.mark.parametrize("phi", ["relu", "linear", "tanh", "selu"])
def test_the_spread_over_seeds_is_the_band(kind, phi):
    width, depth, seeds = 48, 10, 500
    layers, blocks, q = stack(kind, phi, depth, width)
    predicted = propagate(layers, q)
    signal = oracle.run(blocks, oracle.quantiles(width, q), width, seeds, np.random.default_rng(3), back=False).signal
    off = logs(signal, predicted.signal)
    for layer in (1, 2, 4, depth):
        column = off[layer] - off[layer].mean()
        kurtosis = float(np.mean(column**4) / np.mean(column**2) ** 2)
        error = 4.5 * math.sqrt((kurtosis - 1) / (4 * seeds))  # of a standard deviation, relatively; 7e-6
        ratio = float(off[layer].std(ddof=1)) / predicted.band.spread[layer]
        assert abs(ratio - 1) < error + SECOND_ORDER / width, (layer, ratio)


def test_the_spread_is_also_that_of_stacks_that_change():
    """Plain layers, branches and norms after each other: what one kind remembers is passed on to the next."""
    seeds, rng = 1000, np.random.default_rng(4)
    kinds = [("tanh", None, "none"), ("selu", None, "none"), ("relu", 1.0, "none"), ("gelu", 0.5, "pre")]
    kinds += [("relu", None, "post"), ("relu", 1.0, "none"), ("relu", 1.0, "post"), ("relu", None, "none")]
    layers = [Layer(phi, 1.5, 0.1, 64, residual, norm) for phi, residual, norm in kinds]
    blocks = [oracle.Block(phi, 1.5, 0.1, residual, norm) for phi, residual, norm in kinds]
    predicted = propagate(layers, 1.0)
    off = logs(oracle.run(blocks, oracle.quantiles(64, 1.0), 64, seeds, rng, back=False).signal, predicted.signal)
    for layer, (_, _, norm) in enumerate(kinds, start=1):
        if norm == "post":
            assert predicted.band.spread[layer] == 0
        else:
            ratio = off[layer].std(ddof=1) / predicted.band.spread[layer]
            assert abs(ratio - 1) < 4.5 / math.sqrt(2 * seeds) + SECOND_ORDER / 64, (layer, ratio)


@pytest.mark.parametrize(("phi", "nu"), [("relu", 5), ("linear", 2)])
def test_the_second_moment_of_the_ratio_is_a_product(phi, nu):
    width, depth, seeds = 40, 4, 4000
    layers, blocks, q = stack("plain", phi, depth, width)
    band = propagate(layers, q).band
    exact = [(1 + nu / width) ** (layer - 1) * (1 + 2 / width) for layer in range(1, depth + 1)]
    assert np.exp(np.square(band.spread[1:])) == pytest.approx(exact, rel=1e-12)
    assert finite_width([width] * depth, phi).spread == pytest.approx(band.spread, rel=1e-12)
    signal = oracle.run(blocks, oracle.quantiles(width, q), width, seeds, np.random.default_rng(2), back=False).signal
    squares = signal[1:] ** 2
    error = squares.std(axis=1, ddof=1) / math.sqrt(seeds)
    assert (np.abs(squares.mean(axis=1) - exact) < 4.5 * error).all()  # 7e-6 each


def test_widths_that_differ_count_each_for_itself():
    spread = finite_width([50, 400, 20], "relu").spread
    exact = (1 + 5 / 50) * (1 + 5 / 400) * (1 + 2 / 20)
    assert math.exp(spread[-1] ** 2) == pytest.approx(exact, rel=1e-12)
    band = finite_width([100] * 3, "tanh", 1.7609546396, 0.05, q=0.57)
    assert band.low[2] < math.exp(-(band.spread[2] ** 2) / 2) < band.high[2]
    assert band.high[2] / band.low[2] == pytest.approx(math.exp(2 * 1.96 * band.spread[2]))


def test_most_networks_lie_in_the_band():
    layers, blocks, q = stack("residual", "tanh", 8, 100)
    predicted = propagate(layers, q)
    signal = oracle.run(blocks, oracle.quantiles(100, q), 100, 1000, np.random.default_rng(6), back=False).signal
    ratio = signal[-1] / predicted.signal[-1]
    inside = np.mean((ratio > predicted.band.low[-1]) & (ratio < predicted.band.high[-1]))
    # Of 1000, 95 +- .69 %; a spread that is off by 3.1 % moves 1.4 % of them.
    assert abs(inside - 0.95) < 4.5 * 0.0069 + 0.014


def batch_run(phi, width, depth, batch, seeds):
    layers, blocks, q = stack("batch", phi, depth, width)
    rng, dtype = np.random.default_rng(9), np.float32
    passes = []
    for _ in range(seeds):
        inputs = oracle.crowd(rng, batch, width, q, 0.5).astype(dtype)
        passes.append(oracle.run(blocks, inputs, width, 1, rng))
    joined = (np.concatenate([getattr(each, name) for each in passes], axis=1) for name in ("signal", "gradient"))
    return propagate(layers, q, 0.5), *joined, np.concatenate([each.cosine for each in passes], axis=1)


def assert_batch(phi, width, depth, batch, seeds):
    """A batch takes two of its directions out of each gradient, one out of each variance: 3 / batch per layer.

    Beyond 4.5 bars with a probability of 7e-6 in each place.
    """
    predicted, signal, gradient, cosine = batch_run(phi, width, depth, batch, seeds)
    per_layer, layer = 3 / batch, np.arange(depth + 1)
    # Sizes of single inputs stray by their own, each by 5 / n at most in a layer, and move what is common to all.
    drift = 5 * layer / width
    spread = np.sqrt(np.square(predicted.band.spread) + 2 / (width * batch) + 1e-12)
    off = logs(signal, predicted.signal).mean(axis=1)
    assert (np.abs(off) < 4.5 * spread / math.sqrt(seeds) + per_layer + drift / 2).all(), off
    assert (np.abs(cosine.mean(axis=1) - predicted.cosine) < 4.5 * spread + per_layer + drift / 2).all()
    off = logs(gradient, predicted.gradient)
    # Gradients of different inputs stray by themselves, 5 / n, unless they point the same way (a cosine squared of
    # 1 / n more with each layer passed); 1 / std of a unit, by 2 / batch + 2 / n, counts for all of them.
    passed = depth - layer
    bar = np.sqrt(passed / width * (7 / batch + 5 * passed / width) / seeds)
    assert (np.abs(off.mean(axis=1)) <= per_layer * passed + 4.5 * bar).all(), off.mean(axis=1)


@pytest.mark.parametrize("phi", FIVE)
def test_batch_normalised_networks_follow_the_predictions(phi):
    assert_batch(phi, width=256, depth=10, batch=256, seeds=2)


@pytest.mark.slow
@pytest.mark.parametrize("phi", ["relu", "tanh", "selu", "erf"])
def test_wide_and_deep_batch_normalised_networks_follow_the_predictions(phi):
    """Not GELU: behind 50 layers of it, inputs of a batch differ in size (their slope is 1.06 in each layer)."""
    assert_batch(phi, width=1000, depth=50, batch=256, seeds=1)


@pytest.mark.parametrize("phi", [*FIVE, "hard_tanh"])
def test_gradients_grow_by_the_batch_in_every_layer(phi):
    """Means over 5 seeds: Student's t with 4 degrees of freedom, 13 has a probability of 2e-4; and 3 / batch."""
    batch, depth, seeds = 256, 5, 5
    SETTINGS.setdefault("hard_tanh", (1.5, 0.0, 1.0))
    predicted, _, gradient, _ = batch_run(phi, 400, depth, batch, seeds)
    growth = (gradient[1] / gradient[depth]) ** (1 / (depth - 1))
    rate = (predicted.gradient[1] / predicted.gradient[depth]) ** (1 / (depth - 1))
    if phi == "relu":
        assert predicted.gradient[1] / predicted.gradient[2] == pytest.approx(math.pi / (math.pi - 1), rel=1e-10)
    error = growth.std(ddof=1) / math.sqrt(seeds)
    assert error < 0.01 * rate
    assert abs(growth.mean() / rate - 1) < 3 / batch + 13 * error / rate


def test_batch_normalisation_does_not_care_what_comes_before():
    for q, c in ((0.1, 0.9), (5.0, 0.0)):
        found = propagate([Layer("relu", 3.0, 0.2, norm="batch"), Layer("relu", 1.0, norm="batch")], q, c)
        assert found.signal[1:] == pytest.approx((1.7, 0.5), rel=1e-10)
        assert found.cosine[1:] == pytest.approx(((1.5 / math.pi + 0.2) / 1.7, 1 / math.pi), rel=1e-10)
        # Divided by the root of the variance over inputs.
        assert found.gradient[0] / found.gradient[1] == pytest.approx(1.5 / (q * (1 - c)), rel=1e-10)


def test_known_values():
    deep = propagate([Layer("relu", 2.0)] * 40, 3.0, 0.1)
    assert deep.signal == pytest.approx((3.0,) * 41)
    assert deep.gradient == pytest.approx((1.0,) * 41)
    angles = [math.acos(c) for c in deep.cosine]
    for before, after in zip(angles, deep.cosine[1:], strict=False):  # Cho and Saul 2009
        assert after == pytest.approx((math.sin(before) + (math.pi - before) * math.cos(before)) / math.pi, abs=1e-9)
    branch = propagate([Layer("linear", 1.0, 0.0, residual=0.5)] * 10, 2.0, 0.3)
    assert branch.signal[-1] == pytest.approx(2 * 1.25**10)
    assert branch.gradient[0] == pytest.approx(1.25**10)
    assert branch.cosine == pytest.approx((0.3,) * 11)
    pre = propagate([Layer("linear", 1.0, residual=1.0, norm="pre")] * 3, 1.0)
    assert pre.signal == pytest.approx((1, 2, 3, 4))
    assert pre.gradient == pytest.approx((4, 2, 4 / 3, 1))
    assert propagate([], 2.0, -1.0).cosine == (-1.0,)


def test_a_band_needs_every_width():
    layers = [Layer("relu", 2.0, width=100), Layer("relu", 2.0)]
    assert propagate(layers).band is None
    assert propagate(layers[:1]).band is not None
    assert propagate([]).band.spread == (0.0,)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Layer("relu", 2.0, norm="layer"), "norm is unknown"),
        (Layer("relu", 2.0, norm="pre"), "needs a branch"),
        (Layer("relu", 2.0, residual=1.0, norm="batch"), "plain layers only"),
        (Layer("relu", 0.0), "signal dies"),
        (Layer("relu", 0.0, norm="batch"), "signal dies"),
        (Layer("relu", 1e308, 1e308, residual=10.0), "signal explodes"),
        (Layer("relu", -1.0), "sigma_w2"),
        (Layer("relu", math.nan), "sigma_w2"),
        (Layer("relu", 2.0, math.nan), "sigma_b2"),
        (Layer("relu", 2.0, residual=math.nan), "residual scale"),
        (Layer("relu", 2.0, residual="a"), "residual scale"),
        (Layer("relu", 2.0, width=0), "width"),
        (Layer("relu", 2.0, width=10.5), "width"),
        (Layer("relu", 2.0, width=math.nan), "width"),
        (Layer("rely", 2.0), "rely"),
    ],
)
def test_layers_that_cannot_be(layer, message):
    with pytest.raises((InvalidValueError, UnknownNameError), match=message):
        propagate([layer])


@pytest.mark.parametrize("q", [0, -1, math.nan, math.inf, "a", None])
def test_second_moments_that_cannot_be(q):
    with pytest.raises(InvalidValueError, match="second moment q"):
        propagate([Layer("relu", 2.0)], q)
    with pytest.raises(InvalidValueError, match="second moment q"):
        finite_width([10], "relu", q=q)


@pytest.mark.parametrize("c", [1.1, -1.1, math.nan, math.inf, "a", None])
def test_cosines_that_cannot_be(c):
    with pytest.raises(InvalidValueError, match="cosine c"):
        propagate([Layer("relu", 2.0)], 1.0, c)


def test_other_mistakes():
    with pytest.raises(InvalidValueError, match="all the same"):
        propagate([Layer("relu", 2.0, norm="batch")], 1.0, 1.0)
    with pytest.raises(InvalidValueError, match="signal dies"):
        propagate([Layer("relu", 0.1, width=10)] * 400)
    with pytest.raises(InvalidValueError, match="sigma_w2"):
        finite_width([10], "relu", sigma_b2=2.0)
    with pytest.raises(InvalidValueError, match="width"):
        finite_width([10, 0], "relu")
