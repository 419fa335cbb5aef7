"""The NumPy way to fill: any slice alone, one stream per name, cuts of any width, and how many threads."""

import hashlib
import itertools
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fanin.errors import InvalidValueError
from fanin.initializers import INITIALIZERS, fill, fills, sample
from fanin.initializers.laws import Constant, Normal, TruncatedNormal, Uniform
from fanin.initializers.transforms import cut_normal

EPS = 2.0**-24
INF = math.inf
ALARM = 1e-6
"""False-alarm rate of each statistical check here; seeds are fixed, so a passing check stays passing."""
quick = settings(deadline=None, max_examples=60, derandomize=True, database=None)
LAWS = [Constant(0.3), Uniform(-0.2, 0.5), Normal(0.1, 0.2), TruncatedNormal(-0.1, 0.2)]
LAWS += [TruncatedNormal(0.1, 0.2, -1.0, 3.0), TruncatedNormal(0.0, 1.0, 5.0, INF), TruncatedNormal(0.0, 1.0, -7, 7)]


@pytest.fixture(autouse=True)
def numpy_only(monkeypatch):
    """Nothing is worth compiling: other tests may have loaded Numba."""
    monkeypatch.setattr(fills, "_WORTH_CALLING", 2**62)


def filled(law, length, **place):
    out = np.full(length, np.nan, np.float32)
    fill(out, law, **({"seed": 3, "name": "w"} | place))
    return out


# ------------------------------------------------------------------------------------------------- slices
@quick
@given(law=st.sampled_from(LAWS), cuts=st.lists(st.integers(0, 50), min_size=2, max_size=2).map(sorted))
def test_a_slice_is_the_slice_of_the_whole(law, cuts):
    low, high = cuts
    assert (filled(law, high - low, start=low) == filled(law, 50)[low:high]).all()


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_a_slice_far_out(law):
    start = 2**34 - 5  # the block number passes 2**32
    assert (filled(law, 4, start=start + 3) == filled(law, 10, start=start)[3:7]).all()


@pytest.mark.parametrize("chunk", [1, 7, 8])
@pytest.mark.parametrize("law", LAWS, ids=str)
def test_chunks_leave_no_seam(monkeypatch, law, chunk):
    whole = filled(law, 40, start=3)
    monkeypatch.setattr(fills, "_CHUNK", chunk)
    assert (filled(law, 40, start=3) == whole).all()


def test_nothing_to_fill():
    """A part without elements leaves what is around it as it is."""
    array = np.full((3, 5), 7, np.float32)
    fill(array[1, 2:2], Normal(0.0, 1.0), seed=0, name="w")
    fills.fill_box(array[:, 2:2], Normal(0.0, 1.0), seed=0, name="w")
    assert (array == 7).all()


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, None, "3"])
@pytest.mark.parametrize("law", LAWS[:3], ids=str)
def test_a_wrong_seed(law, seed):
    with pytest.raises(InvalidValueError, match="64-bit"):
        fill(np.empty(3, np.float32), law, seed=seed, name="w")
    with pytest.raises(InvalidValueError, match="64-bit"):
        fills.fill_box(np.empty((3, 2), np.float32), law, seed=seed, name="w")


# ---------------------------------------------------------------------------------------- what decides bits
RANDOM = [name for name, entry in INITIALIZERS.items() if entry.random]


@pytest.mark.parametrize("name", sorted(set(RANDOM) - {"sparse"}))
def test_seed_and_name_change_every_number(name):
    arrays = [sample(name, (4, 6), seed=seed, name=key) for seed in (0, 1, 2**32) for key in ("a", "b")]
    # Numbers on a grid of 2**-24 or finer: 15 pairs of 24 collide with probability below 15 * 24 * 2**-23 = 5e-5.
    assert all((one != other).all() for one, other in itertools.combinations(arrays, 2))


@pytest.mark.parametrize("name", [name for name, entry in INITIALIZERS.items() if not entry.random])
def test_a_seed_changes_nothing_of_what_is_not_random(name):
    shape = (8, 1, 5) if name == "stft" else (4, 6)
    assert (sample(name, shape, seed=0, name="a") == sample(name, shape, seed=1, name="b")).all()


def fingerprint():
    digest = hashlib.sha256()
    for name in INITIALIZERS:
        array = sample(name, (8, 1, 5) if name == "stft" else (6, 8), seed=11, name="layer/kernel")
        # Orthogonal matrices go through LAPACK: the same machine, and one thread or many, gives the same bits.
        digest.update(array.tobytes())
    return digest.hexdigest()


def test_another_process_draws_the_same_bits():
    program = f"import importlib.util as u; s = u.spec_from_file_location('t', {__file__!r}); "
    program += "m = u.module_from_spec(s); s.loader.exec_module(m); print(m.fingerprint())"
    environment = os.environ | {"PYTHONHASHSEED": "123"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == fingerprint()


# ----------------------------------------------------------------------------------------- cuts of any width
CUTS = [(-1, 1), (0, 1), (-1, 3), (0.5, 0.75), (5, 6), (-6, -5), (20, 21), (36, INF), (-INF, 1), (-1, INF), (-6.5, 6.5)]
EXTREMES = np.array([0, 1, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1], np.uint32)


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_a_cut_is_kept(cut):
    values = filled(TruncatedNormal(0.0, 1.0, *cut), 20_000).astype(float)
    assert cut[0] <= values.min() <= values.max() <= cut[1]
    assert stats.kstest(values, stats.truncnorm(*cut).cdf).pvalue > ALARM


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_the_last_words_stay_inside_and_follow_the_quantiles(cut):
    values = cut_normal(EXTREMES, *cut)
    assert ((cut[0] <= values) & (values <= cut[1])).all()
    assert np.isfinite(values).all()
    quantiles = stats.truncnorm(*cut).ppf((EXTREMES.astype(float) + 0.5) * 2.0**-32)
    mirrored = cut[0] + cut[1] > 0  # drawn on the other side, where the small words are the large numbers
    assert np.sort(values) == pytest.approx(np.sort(quantiles), rel=1e-6, abs=1e-6)
    assert (np.diff(values) <= 0).all() if mirrored else (np.diff(values) >= 0).all()


@pytest.mark.parametrize("centre", [0.1, 1.0, -3.3])
@pytest.mark.parametrize("cut", [(-1, 1), (0, 1), (5, 6), (0.5, 0.5 + 1e-6)], ids=str)
def test_rounding_moves_nothing_over_a_bound(centre, cut):
    law = TruncatedNormal(centre, 0.7, *cut)
    values = filled(law, 5000).astype(float)
    assert law.support[0] <= values.min() <= values.max() <= law.support[1]


def test_a_wide_cut_is_a_normal_number():
    normal = filled(Normal(0.1, 0.2), 999)
    for bound in (6.77, 8.0, INF):
        assert (filled(TruncatedNormal(0.1, 0.2, -bound, bound), 999) == normal).all()


@pytest.mark.parametrize("cut", [(-2.0, 2.0), (-1.0, 1.0), (-INF, 1.0), (-INF, INF)], ids=str)
def test_no_spread_leaves_the_centre(cut):
    assert (filled(TruncatedNormal(0.1, 0.0, *cut), 9) == np.float32(0.1)).all()


def test_the_extremes_of_uniform_bounds():
    values = filled(Uniform(-0.05, 0.05), 100_000)
    assert np.abs(values).max() < 0.05
    assert (filled(Uniform(0.5, 0.5), 9) == 0.5).all()


# ------------------------------------------------------------------------------------------------- threads
@pytest.mark.parametrize(("text", "count"), [("1", 1), ("2", 2), ("17", 17)])
def test_threads_from_the_environment(monkeypatch, text, count):
    monkeypatch.setenv("FANIN_THREADS", text)
    assert fills.threads() == count


@pytest.mark.parametrize("text", ["", "0", "-1", "two", "1.5"])
def test_threads_where_the_environment_says_nothing(monkeypatch, text):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    monkeypatch.setenv("FANIN_THREADS", text)
    assert fills.threads() == cores
    monkeypatch.delenv("FANIN_THREADS")
    assert fills.threads() == cores
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert fills.threads() == (os.cpu_count() or 1)
