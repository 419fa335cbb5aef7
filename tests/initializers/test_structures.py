"""Structured laws as arrays, against the slow definitions of oracles/structures.py and against what they promise."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from fanin.initializers import draw_param, fill, fills, sample
from fanin.initializers.laws import Normal
from fanin.initializers.streams import words
from fanin.keras import backend
from fanin.records import Init, ParamInfo
from tests.oracles import structures as oracle

EPS = 2.0**-24
ALARM = 1e-6
"""False-alarm rate of each statistical check here; seeds are fixed, so a passing check stays passing."""
S, B, I, O = "spatial", "batch", "in", "out"  # noqa: E741


def param(shape, axes, **blocks):
    return ParamInfo("w", shape, "float32", axes, "dense", **blocks)


def assert_orthonormal(matrix, gain=1.0, roundings=1):
    """Each entry is rounded to float32 `roundings` times: a product of two errs by twice that, their sum likewise."""
    wide = matrix.astype(float)
    tall = wide if wide.shape[0] >= wide.shape[1] else wide.T
    error = np.abs(tall.T @ tall - gain**2 * np.eye(tall.shape[1]))
    assert error.max() <= gain**2 * ((1 + EPS) ** (2 * roundings) - 1 + 1e-13)


def standard(count, start=0, seed=1, name="weight"):
    flat = np.empty(count, np.float32)
    fill(flat, Normal(0.0, 1.0), seed=seed, name=name, start=start)
    return flat


# ------------------------------------------------------------------------------------------------- orthogonal
SHAPES = [(9, 4), (4, 9), (6, 6), (1, 5), (5, 1), (1, 1), (3, 2, 4, 5), (2, 2, 3, 20), (130, 130), (64, 300)]


@pytest.mark.parametrize("gain", [1.0, 2.5, -0.3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_orthogonal(shape, gain):
    array = sample(Init("orthogonal", gain=gain), shape, seed=1)
    assert array.shape == shape
    assert array.dtype == np.float32
    assert array.flags.c_contiguous
    assert_orthonormal(array.reshape(-1, shape[-1]), gain, roundings=3)  # the entry, the gain, their product


@pytest.mark.parametrize("shape", [(9, 4), (4, 9), (6, 6), (1, 5), (1, 1), (2, 3, 7)], ids=str)
def test_orthogonal_is_the_product_of_its_reflections(shape):
    rows, columns = math.prod(shape[:-1]), shape[-1]
    long, short = max(rows, columns), min(rows, columns)
    matrix = oracle.haar(standard(long * short).reshape(short, long))
    matrix = matrix if rows >= columns else matrix.T
    assert np.abs(sample("orthogonal", shape, seed=1).reshape(rows, columns) - matrix).max() <= EPS + 1e-13


def test_a_vanishing_vector_gives_no_nan():
    # In each of these seeds a uniform number of the stream rounds to 1, so that a vector of length 0 is drawn.
    for seed, shape in ((50929787, (1, 1)), (36573633, (2, 2))):
        assert_orthonormal(sample("orthogonal", shape, seed=seed))


BLOCKS = {
    "gates": (param((6, 24), (I, O), gates=4), lambda w: np.split(w, 4, axis=1)),
    "gates of a wide kernel": (param((3, 20), (I, O), gates=4), lambda w: np.split(w, 4, axis=1)),
    "gates, PyTorch's layout": (param((24, 6), (O, I), gates=4), lambda w: np.split(w, 4, axis=0)),
    "groups": (
        param((3, 2, 12), (S, I, O), groups=3),
        lambda w: [block.reshape(6, 4) for block in np.split(w, 3, axis=2)],
    ),
    "experts": (param((3, 5, 4), (B, I, O)), list),
    "depthwise": (param((3, 2, 5, 4), (S, S, B, O)), lambda w: [*w.reshape(6, 5, 4).swapaxes(0, 1)]),
    "experts, batch axis last": (param((5, 4, 3), (I, O, B)), lambda w: [*np.moveaxis(w, -1, 0)]),
    "experts with gates": (
        param((2, 5, 12), (B, I, O), gates=3),
        lambda w: [block for expert in w for block in np.split(expert, 3, axis=1)],
    ),
    "attention, query": (param((12, 3, 4), (I, O, O)), lambda w: [w.reshape(12, 12)]),
    "attention, output": (param((3, 4, 12), (I, I, O)), lambda w: [w.reshape(12, 12)]),
    "attention, packed over two axes": (
        param((12, 3, 4), (I, O, O), gates=3),
        lambda w: [w[:, gate, :] for gate in range(3)],
    ),
    "transposed conv": (param((3, 2, 7, 5), (S, S, O, I)), lambda w: [w.swapaxes(2, 3).reshape(30, 7)]),
}


@pytest.mark.parametrize(("weight", "split"), BLOCKS.values(), ids=BLOCKS)
def test_one_orthogonal_matrix_for_each_block(weight, split):
    array = draw_param(weight, Init("orthogonal"), 4)
    assert array.shape == weight.shape
    blocks = split(array)
    for block in blocks:
        assert_orthonormal(block)
    for one, other in itertools.combinations(blocks, 2):
        assert (one != other).all()


@pytest.fixture(scope="module")
def stacks():
    shapes = [(3, 3), (4, 4), (5, 2), (2, 5)]
    return {s: draw_param(param((3000, *s), (B, I, O)), Init("orthogonal"), 2024).astype(float) for s in shapes}


@pytest.mark.parametrize("shape", [(3, 3), (4, 4), (5, 2), (2, 5)], ids=str)
def test_entries_of_haar_matrices(stacks, shape):
    # Under Haar an entry x of a unit vector of length n is symmetric with x^2 ~ Beta(1/2, (n - 1)/2), and so is
    # each entry of AQB for fixed orthogonal A and B.
    long = max(shape)
    law = stats.beta((long - 1) / 2, (long - 1) / 2, loc=-1, scale=2)  # of x itself
    left, right = (np.linalg.qr(np.arange(n * n).reshape(n, n) ** 2.0 + np.eye(n))[0] for n in shape)
    for matrices in (stacks[shape], left @ stacks[shape] @ right):
        for i, j in itertools.product(*map(range, shape)):
            assert stats.kstest(matrices[:, i, j], law.cdf).pvalue > ALARM / (2 * math.prod(shape))


@pytest.mark.parametrize("shape", [(3, 3), (4, 4)], ids=str)
def test_both_signs_of_the_determinant(stacks, shape):
    positive = int((np.linalg.det(stacks[shape]) > 0).sum())
    assert stats.binomtest(positive, 3000, 0.5).pvalue > ALARM


def test_moments_of_the_trace(stacks):
    # On O(4) the trace has the first eight moments of a standard normal number (Diaconis and Shahshahani 1994).
    trace, z = np.trace(stacks[4, 4], axis1=1, axis2=2), stats.norm.isf(ALARM / 6)
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (4, 3, 96)):
        assert abs((trace**power).mean() - mean) <= z * math.sqrt(variance / 3000)


# ------------------------------------------------------------------------------------- at the kernel's centre
KERNELS = [(), (3,), (4,), (1,), (3, 3), (2, 4), (5, 2), (2, 3, 4), (1, 2)]


@pytest.mark.parametrize("centre", ["lower", "upper"])
@pytest.mark.parametrize("spatial", KERNELS, ids=str)
@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (5, 3), (4, 4)])
def test_dirac(spatial, rows, columns, centre):
    array = sample(Init("dirac", gain=0.5, centre=centre), (*spatial, rows, columns), seed=0)
    assert (array == oracle.centred(0.5 * np.eye(rows, columns), spatial, centre)).all()


@pytest.mark.parametrize("spatial", [(3,), (5, 3), (3, 5, 3)])
def test_dirac_is_pytorchs(spatial):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.init.dirac_(torch.empty(5, 3, *spatial)).numpy()
    axes = (O, I, *([S] * len(spatial)))
    assert (sample("dirac", theirs.shape, seed=0, axes=axes) == theirs).all()


@pytest.mark.parametrize("centre", ["lower", "upper"])
@pytest.mark.parametrize("spatial", KERNELS, ids=str)
@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (5, 3), (4, 4)])
@pytest.mark.parametrize("name", ["delta_orthogonal", "scaled_orthogonal"])
def test_orthogonal_at_the_centre(name, spatial, rows, columns, centre):
    if name == "delta_orthogonal" and rows > columns:
        return
    array = sample(Init(name, gain=1.5, centre=centre), (*spatial, rows, columns), seed=3)
    where = tuple(oracle.middle(size, centre) for size in spatial)
    middle = array[where].copy()
    gain = 1.5 * (math.sqrt(columns / rows) if name == "scaled_orthogonal" and columns > rows else 1.0)
    assert_orthonormal(middle, gain, roundings=3)
    array[where] = 0
    assert not array.any()


def test_scaled_orthogonal_keeps_the_size_of_the_signal():
    # A mean square of 1 over the inputs is one of 1 over the units wherever no dimension is lost.
    x = np.random.default_rng(0).normal(size=(50, 6))
    y = x @ sample("scaled_orthogonal", (6, 17), seed=0).astype(float)
    assert (y**2).mean(axis=1) == pytest.approx((x**2).mean(axis=1), rel=8 * EPS)


@pytest.mark.parametrize("centre", ["lower", "upper"])
@pytest.mark.parametrize("spatial", [(), (3,), (2, 2)], ids=str)
@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (4, 8), (1, 2), (7, 33), (5, 3), (4, 4), (2, 1), (1, 1)])
def test_hadamard_is_zero_init(spatial, rows, columns, centre):
    array = sample(Init("hadamard", centre=centre), (*spatial, rows, columns), seed=0)
    expected = oracle.centred(oracle.zero_init(rows, columns), spatial, centre)
    assert array == pytest.approx(expected, rel=EPS, abs=0)


def test_hadamard_rows_are_orthogonal_at_a_power_of_two():
    matrix = sample("hadamard(gain=0.5)", (5, 16), seed=0).astype(float)
    assert matrix @ matrix.T == pytest.approx(0.25 * 2 * np.eye(5), abs=8 * EPS)


# ------------------------------------------------------------------------------------------------- mirrored
@pytest.mark.parametrize("spatial", [(), (3, 2)], ids=str)
@pytest.mark.parametrize("sides", ["both", "in", "out"])
def test_mirrored_blocks(sides, spatial):
    array = sample(Init("mirrored", gain=2.0, sides=sides), (*spatial, 6, 10), seed=5)
    rows = array.shape[-2] // (1 if sides == "out" else 2)
    columns = array.shape[-1] // (1 if sides == "in" else 2)
    block = array[..., :rows, :columns]
    assert_orthonormal(block.reshape(-1, columns), 2.0)
    expected = block if sides == "out" else np.concatenate([block, -block], axis=-2)
    expected = expected if sides == "in" else np.concatenate([expected, -expected], axis=-1)
    assert (array == expected).all()


def test_mirrored_makes_a_relu_network_linear():
    shapes = {"out": (5, 10), "both": (10, 10), "in": (10, 3)}
    first, *hidden, last = (
        sample(Init("mirrored", sides=sides), shape, seed=2, name=f"{sides}{k}").astype(float)
        for sides, k in (("out", 0), ("both", 0), ("both", 1), ("in", 0))
        for shape in [shapes[sides]]
    )
    x = np.random.default_rng(0).normal(size=(40, 5))
    y, product = np.maximum(x @ first, 0), first[:, :5]
    for weight in hidden:
        y, product = np.maximum(y @ weight, 0), product @ weight[:5, :5]
    y, product = y @ last, product @ last[:5]
    assert y == pytest.approx(x @ product, abs=1e-13)
    assert_orthonormal(product, roundings=4)  # so nothing of the signal is lost: one rounding for each layer


def test_mirrored_in_gates():
    array = draw_param(param((4, 24), (I, O), gates=3), Init("mirrored"), 4)
    for gate in np.split(array, 3, axis=1):
        assert (gate[:2] == -gate[2:]).all()
        assert (gate[:, :4] == -gate[:, 4:]).all()


# ---------------------------------------------------------------------------------------- sinusoidal, sparse
@pytest.mark.parametrize("shape", [(5, 7), (7, 5), (2, 8), (1, 5), (3, 1), (3, 2, 4, 6), (400, 300)], ids=str)
@pytest.mark.parametrize("mode", ["fan_in", "fan_avg"])
def test_sinusoidal(shape, mode):
    rows, columns = math.prod(shape[:-1]), shape[-1]
    fan = rows if mode == "fan_in" else (rows + math.prod(shape[:-2]) * columns) / 2
    array = sample(Init("sinusoidal", scale=2.0, mode=mode), shape, seed=0).reshape(rows, columns)
    exact = oracle.sinusoidal(rows, columns, math.sqrt(2 / fan))
    assert np.abs(array - exact).max() <= (EPS + 1e-13) * np.abs(exact).max()
    assert (array.astype(float) ** 2).mean() == pytest.approx(2 / fan, rel=2 * EPS + 1e-9)


@pytest.mark.parametrize(("shape", "sparsity"), [((10, 7), 0.9), ((3, 2, 5, 4), 0.5), ((7, 3), 0.0), ((7, 3), 1.0)])
def test_sparse(shape, sparsity):
    array = sample(Init("sparse", sparsity=sparsity, stddev=0.5), shape, seed=1)
    rows, columns = math.prod(shape[:-1]), shape[-1]
    keys = words(1, "weight/sparse", 0, array.size).reshape(rows, columns)
    values = (standard(array.size) * np.float32(0.5)).reshape(rows, columns)
    zeros = math.ceil(sparsity * rows)
    assert (array.reshape(rows, columns) == oracle.sparse(values, keys, zeros)).all()
    assert ((array.reshape(rows, columns) == 0).sum(axis=0) == zeros).all()


def test_sparse_cuts_every_row_equally_often():
    array = sample("sparse(sparsity=0.25)", (8, 20_000), seed=3)
    # Each row is cut in a quarter of the columns: a binomial number, eight of them.
    for cut in (array == 0).sum(axis=1):
        assert stats.binomtest(int(cut), 20_000, 0.25).pvalue > ALARM / 8


def test_sparse_breaks_ties_by_the_row(monkeypatch):
    monkeypatch.setattr("fanin.initializers.structures.words", lambda *_: np.zeros(12, np.uint32))
    assert (sample("sparse(sparsity=0.5)", (4, 3), seed=0) == 0).tolist() == [[True] * 3] * 2 + [[False] * 3] * 2


# -------------------------------------------------------------------------------------------- fixed matrices
@pytest.mark.parametrize("gain", [1.0, 0.3])
@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)])
def test_identity_is_keras_own(shape, gain):
    backend.start(None)
    import keras

    theirs = np.asarray(keras.initializers.Identity(gain=gain)(shape))
    assert (sample(Init("identity", gain=gain), shape, seed=0) == theirs).all()


def test_identity_of_gates_is_one_each():
    array = draw_param(param((3, 12), (I, O), gates=4), Init("identity", gain=2.0), 0)
    assert (array == np.tile(2 * np.eye(3), 4)).all()


@pytest.mark.parametrize("side", ["real", "imag"])
@pytest.mark.parametrize(
    ("window", "scaling", "periodic"),
    [("hann", "density", False), ("hamming", "spectrum", True), (None, "density", False), ("hann", None, True)],
)
def test_stft_is_keras_own(side, window, scaling, periodic):
    backend.start(None)
    import keras

    params = {"side": side, "window": window, "scaling": scaling, "periodic": periodic}
    shape = (16, 1, 9)
    theirs = np.asarray(keras.initializers.STFT(**params)(shape))
    # Keras rounds the angle to float32 four times (quotient, product, pi, product), then the cosine, the window,
    # its norm (17 roundings of a sum of 16 and a root), product and quotient; no factor here is above 1.
    largest = 2 * np.pi * 15 * 8 / 16
    assert np.abs(sample(Init("stft", **params), shape, seed=0) - theirs).max() <= (4 * largest + 22) * EPS


def test_structures_are_the_same_bits_compiled(monkeypatch):
    """What is built from normal numbers is built from the same ones, whoever draws them."""
    plain = [sample(name, (60, 40), seed=8) for name in ("orthogonal", "mirrored", "sparse")]
    pytest.importorskip("numba")
    import fanin.initializers.compiled  # noqa: F401

    monkeypatch.setattr(fills, "_WORTH_CALLING", 1)
    assert fills._compiled_law(Normal(0.0, 1.0), 60 * 40) is not None
    for name, array in zip(("orthogonal", "mirrored", "sparse"), plain, strict=True):
        assert (sample(name, (60, 40), seed=8) == array).all()
