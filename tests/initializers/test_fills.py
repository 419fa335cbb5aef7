"""Draws turned into arrays: any slice alone, one stream per name, matrices that are orthogonal and Haar."""

import hashlib
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fanin.errors import FaninError, InvalidValueError
from fanin.initializers import INITIALIZERS, draw_param, fill, fills, sample
from fanin.initializers.laws import Constant, Normal, TruncatedNormal, Uniform
from fanin.keras import backend
from fanin.records import Init, ParamInfo

EPS = 2.0**-24
ALARM = 1e-6
"""False-alarm rate of each statistical check here; seeds are fixed, so a passing check stays passing."""
quick = settings(deadline=None, max_examples=60, derandomize=True, database=None)
LAWS = [Constant(0.3), Uniform(-0.2, 0.5), Normal(0.1, 0.2), TruncatedNormal(-0.1, 0.2)]
ELEMENTWISE = sorted(set(INITIALIZERS) - {"identity", "stft", "orthogonal"})
RANDOM = sorted(set(ELEMENTWISE) - {"zeros", "ones", "constant"} | {"orthogonal"})


def filled(law, length, **place):
    out = np.full(length, np.nan, np.float32)
    fill(out, law, **({"seed": 3, "name": "w"} | place))
    return out


def param(shape, axes, **blocks):
    return ParamInfo("w", shape, "float32", axes, "dense", **blocks)


# ------------------------------------------------------------------------------------------------- slices
@quick
@given(law=st.sampled_from(LAWS), cuts=st.lists(st.integers(0, 50), min_size=2, max_size=2).map(sorted))
def test_a_slice_is_the_slice_of_the_whole(law, cuts):
    low, high = cuts
    assert (filled(law, high - low, start=low) == filled(law, 50)[low:high]).all()


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_a_slice_far_out(law):
    start = 2**34 - 5  # the block number passes 2**32
    assert (filled(law, 4, start=start + 3) == filled(law, 10, start=start)[3:7]).all()


@pytest.mark.parametrize("chunk", [1, 7, 8])
@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_chunks_leave_no_seam(monkeypatch, law, chunk):
    whole = filled(law, 40, start=3)
    monkeypatch.setattr(fills, "_CHUNK", chunk)
    assert (filled(law, 40, start=3) == whole).all()


# ---------------------------------------------------------------------------------------- what decides bits
@pytest.mark.parametrize("name", RANDOM)
def test_seed_and_name_change_every_number(name):
    arrays = [sample(name, (6, 5), seed=seed, name=key) for seed in (0, 1, 2**32) for key in ("a", "b")]
    # Numbers on a grid of 2**-24 or finer: 15 pairs of 30 collide with probability below 15 * 30 * 2**-23 = 5e-5.
    assert all((one != other).all() for one, other in itertools.combinations(arrays, 2))


def fingerprint():
    digest = hashlib.sha256()
    for name in [*ELEMENTWISE, "orthogonal", "identity"]:
        array = sample(name, (7, 5), seed=11, name="layer/kernel")
        # Orthogonal matrices go through LAPACK: the same machine, and one thread or many, gives the same bits.
        digest.update(array.tobytes())
    return digest.hexdigest()


def test_another_process_draws_the_same_bits():
    program = f"import importlib.util as u; s = u.spec_from_file_location('t', {__file__!r}); "
    program += "m = u.module_from_spec(s); s.loader.exec_module(m); print(m.fingerprint())"
    environment = os.environ | {"PYTHONHASHSEED": "123"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == fingerprint()


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_layout_is_the_transposed_canonical_one(name):
    canonical = draw_param(param((2, 3, 5, 7), ("spatial", "spatial", "in", "out")), Init(name), 1)
    pytorch = draw_param(param((7, 5, 2, 3), ("out", "in", "spatial", "spatial")), Init(name), 1)
    assert (pytorch == canonical.transpose(3, 2, 0, 1)).all()
    assert pytorch.flags.c_contiguous
    assert pytorch.dtype == np.float32


# --------------------------------------------------------------------------------------------- orthogonal
def assert_orthonormal(matrix, gain=1.0):
    """Entries are rounded to float32 once: a product errs by 2 EPS of itself, and their sum by Cauchy-Schwarz."""
    wide = matrix.astype(float)
    tall = wide if wide.shape[0] >= wide.shape[1] else wide.T
    error = np.abs(tall.T @ tall - gain**2 * np.eye(tall.shape[1]))
    assert error.max() <= gain**2 * (2 * EPS + EPS**2 + 1e-13)


@pytest.mark.parametrize("gain", [1.0, 2.5])
@pytest.mark.parametrize("shape", [(9, 4), (4, 9), (6, 6), (1, 5), (3, 2, 4, 5), (2, 2, 3, 20)])
def test_orthogonal(shape, gain):
    array = sample(Init("orthogonal", gain=gain), shape, seed=1)
    assert array.shape == shape
    assert array.dtype == np.float32
    assert_orthonormal(array.reshape(-1, shape[-1]), gain)


BLOCKS = {
    "gates": (param((6, 24), ("in", "out"), gates=4), lambda w: np.split(w, 4, axis=1)),
    "gates of a wide kernel": (param((3, 20), ("in", "out"), gates=4), lambda w: np.split(w, 4, axis=1)),
    "experts": (param((3, 5, 4), ("batch", "in", "out")), list),
    "depthwise": (
        param((3, 2, 5, 4), ("spatial", "spatial", "batch", "out")),
        lambda w: [*w.reshape(6, 5, 4).swapaxes(0, 1)],
    ),
    "experts, batch axis last": (param((5, 4, 3), ("in", "out", "batch")), lambda w: [*np.moveaxis(w, -1, 0)]),
    "experts with gates": (
        param((2, 5, 12), ("batch", "in", "out"), gates=3),
        lambda w: [block for expert in w for block in np.split(expert, 3, axis=1)],
    ),
    "attention, query": (param((12, 3, 4), ("in", "out", "out")), lambda w: [w.reshape(12, 12)]),
    "attention, output": (param((3, 4, 12), ("in", "in", "out")), lambda w: [w.reshape(12, 12)]),
    "transposed conv": (
        param((3, 2, 7, 5), ("spatial", "spatial", "out", "in")),
        lambda w: [w.swapaxes(2, 3).reshape(30, 7)],
    ),
}


@pytest.mark.parametrize(("weight", "split"), BLOCKS.values(), ids=BLOCKS)
def test_one_orthogonal_matrix_for_each_gate_and_batch_index(weight, split):
    array = draw_param(weight, Init("orthogonal"), 4)
    assert array.shape == weight.shape
    blocks = split(array)
    for block in blocks:
        assert_orthonormal(block)
    for one, other in itertools.combinations(blocks, 2):
        assert (one != other).all()


@pytest.fixture(scope="module")
def small_matrices():
    return np.stack([sample("orthogonal", (3, 3), seed=seed) for seed in range(2000)]).astype(float)


def test_orthogonal_is_haar(small_matrices):
    # Under Haar on O(3) each entry is uniform on (-1, 1) (Archimedes), and so is each entry of QA for a fixed A.
    # LAPACK's own signs make the first diagonal entry never positive, which this sees at once.
    fixed = np.linalg.qr(np.arange(9.0).reshape(3, 3) ** 2 + np.eye(3))[0]
    for matrices in (small_matrices, fixed @ small_matrices @ fixed):
        for i, j in itertools.product(range(3), repeat=2):
            assert stats.kstest(matrices[:, i, j], stats.uniform(-1, 2).cdf).pvalue > ALARM / 18


def test_both_signs_of_the_determinant_and_the_trace(small_matrices):
    count = len(small_matrices)
    for signs in (np.linalg.det(small_matrices), np.trace(small_matrices, axis1=1, axis2=2)):
        assert stats.binomtest(int((signs > 0).sum()), count, 0.5).pvalue > ALARM / 2


# ----------------------------------------------------------------------------------------- fixed matrices
@pytest.mark.parametrize("gain", [1.0, 0.3])
@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)])
def test_identity_is_keras_own(shape, gain):
    backend.start(None)
    import keras

    theirs = np.asarray(keras.initializers.Identity(gain=gain)(shape))
    assert (sample(Init("identity", gain=gain), shape, seed=0) == theirs).all()


def test_identity_of_gates_is_one_each():
    array = draw_param(param((3, 12), ("in", "out"), gates=4), Init("identity", gain=2.0), 0)
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


# ------------------------------------------------------------------------------------------------- sample
@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 3, 4)])
def test_sample_gives_the_shape_that_was_asked_for(name, shape):
    array = sample(name, shape, seed=0)
    assert array.shape == shape
    assert array.dtype == np.float32
    assert np.isfinite(array).all()


def test_a_scalar_stays_a_scalar():
    assert sample("zeros", (), seed=0).shape == ()


def test_sample_takes_every_way_of_writing_an_initializer():
    expected = sample("he_normal", (4, 3), seed=9)
    for init in ("kaiming_normal", "HeNormal()", Init("he_normal"), {"class_name": "HeNormal", "config": {}}):
        assert (sample(init, (4, 3), seed=9) == expected).all()
    assert (sample("he_normal", [np.int64(4), 3], seed=9, name="weight") == expected).all()


@pytest.mark.parametrize(
    ("init", "shape", "seed", "message"),
    [
        ("zeros", (3, 0), 0, r"no shape\. Given: \(3, 0\)"),
        ("zeros", (-1,), 0, r"no shape\. Given: \(-1,\)"),
        ("orthogonal", (3,), 0, r"orthogonal does not fit this shape\. Given: \(3,\)\. Allowed: two axes or more"),
        ("orthogonal", (), 0, r"orthogonal does not fit"),
        ("identity", (3,), 0, r"identity does not fit this shape\. Given: \(3,\)\. Allowed: two axes"),
        ("identity", (2, 3, 4), 0, r"identity does not fit"),
        ("stft", (4, 3), 0, r"stft does not fit this shape\. Given: \(4, 3\)"),
        ("stft", (4, 2, 3), 0, r"Allowed: \(frame, 1, frequencies\)"),
        ("random_uniform(minval=1)", (3, 2), 0, r"wrong way round"),
        ("he_norml", (3, 2), 0, r"Did you mean he_normal"),
        ("he_normal", (3, 2), -1, r"64-bit"),
        ("he_normal", (3, 2), 2**64, r"64-bit"),
        ("orthogonal", (3, 2), -1, r"64-bit"),
    ],
)
def test_what_cannot_be_drawn(init, shape, seed, message):
    with pytest.raises(FaninError, match=message):
        sample(init, shape, seed=seed)


def test_the_kind_of_error_for_a_shape():
    with pytest.raises(InvalidValueError):
        sample("zeros", (0,), seed=0)
