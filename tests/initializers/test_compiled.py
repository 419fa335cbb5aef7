"""The compiled fills against the NumPy specification: the same bits, however the work is cut."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanin.initializers import fills
from fanin.initializers.laws import Constant, Normal, TruncatedNormal, Uniform

pytest.importorskip("numba")
from fanin.initializers import compiled

quick = settings(deadline=None, max_examples=60, derandomize=True, database=None)
INF = float("inf")
LAWS = [
    Uniform(-0.2, 0.5),
    Uniform(-1.0, 1.0),
    Normal(0.0, 1.0),
    Normal(0.1, 0.2),
    TruncatedNormal(0.0, 1.0),
    TruncatedNormal(-0.1, 0.2),
    TruncatedNormal(0.1, 0.3, -INF, INF),  # a plain normal number: nothing is cut
]
SEEDS = [0, 3, 2**32 - 1, 2**32, 2**63 + 7, 2**64 - 1]
TILE = 1024
LENGTHS = [1, 2, 3, 4, 5, 7, 1019, 1020, 1021, 1022, 1023, 1024, 1025, 1026, 1027, 1028, 2047, 2048, 2049, 5000]
CARRY = 2**34
"""The element at which the block number passes 2**32."""


def specified(law, length, *, start=0, seed=3, name="w"):
    """The NumPy way, which is the specification."""
    return fills._elements(law, seed, name, start, start + length)


def runs(law, starts, length, *, seed=3, name="w"):
    """The compiled way, called directly."""
    out = np.full((len(starts), length), np.nan, np.float32)
    known = fills._compiled_law(law, fills._WORTH_CALLING)
    compiled.fill_runs(out, np.array(starts, np.uint64), known, fills._stream_and_key(seed, name))
    return out


def assert_same_bits(ours, theirs):
    assert ours.dtype == theirs.dtype == np.float32
    assert (ours.view(np.uint32) == theirs.view(np.uint32)).all()


@pytest.fixture
def eager(monkeypatch):
    """Everything is worth compiling and a thread of its own; what is left to NumPy shows as an error."""
    for threshold in ("_WORTH_CALLING", "_WORTH_WRITING_ACROSS", "_WORTH_A_THREAD"):
        monkeypatch.setattr(fills, threshold, 1)


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_every_length_and_every_start(law):
    longest = specified(law, max(LENGTHS) + 8)
    for length in LENGTHS:
        for start in range(8):
            assert_same_bits(runs(law, [start], length)[0], longest[start : start + length])


@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_seed(law, seed):
    assert_same_bits(runs(law, [5], 2001, seed=seed)[0], specified(law, 2001, start=5, seed=seed))


@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize("before", [1, 2, 3, 4, 5, 1023, 1024, 1025, 4096])
def test_across_the_carry_of_the_block_number(law, before):
    ours = runs(law, [CARRY - before], 2 * before + 1)[0]
    assert_same_bits(ours, specified(law, 2 * before + 1, start=CARRY - before))


@quick
@given(
    law=st.sampled_from(LAWS),
    starts=st.lists(st.integers(0, 2**50), min_size=1, max_size=6),
    length=st.integers(1, 2200),
    seed=st.integers(0, 2**64 - 1),
    name=st.text(),
)
def test_any_runs(law, starts, length, seed, name):
    ours = runs(law, starts, length, seed=seed, name=name)
    for row, start in zip(ours, starts, strict=True):
        assert_same_bits(row, specified(law, length, start=start, seed=seed, name=name))


def test_every_kind_of_word_gives_the_same_bits():
    """A million numbers: radii near 1 (a negative zero) and all quadrants are among them."""
    for law in (Normal(0.0, 1.0), TruncatedNormal(0.0, 1.0), Uniform(-1.0, 1.0)):
        assert_same_bits(runs(law, [0], 1 << 20, seed=99)[0], specified(law, 1 << 20, seed=99))


def test_the_zero_radius():
    # Found by search: the first word of the stream `weight` under this seed rounds to 2**32, so the radius is 0.
    law = Normal(0.0, 1.0)
    theirs = specified(law, 4, seed=50929787, name="weight")
    assert (theirs[:2] == 0).all()
    assert_same_bits(runs(law, [0], 4, seed=50929787, name="weight")[0], theirs)


# ------------------------------------------------------------------------------------------- the public fills
@pytest.mark.parametrize("threads", ["1", "2", "3"])
@pytest.mark.parametrize("shape", [(1, 9000), (2, 3001), (3, 3000), (700, 3), (5, 1), (1, 1)], ids=str)
@pytest.mark.parametrize("law", LAWS[::2], ids=str)
def test_any_number_of_threads(eager, monkeypatch, law, shape, threads):
    monkeypatch.setenv("FANIN_THREADS", threads)
    starts = np.arange(shape[0], dtype=np.uint64) * np.uint64(7919) + np.uint64(2)
    out = np.full(shape, np.nan, np.float32)
    fills._fill_runs(out, starts, law, 2**64 - 1, "w")
    for row, start in zip(out, starts.tolist(), strict=True):
        assert_same_bits(row, specified(law, shape[1], start=start, seed=2**64 - 1))


def test_the_threads_are_used(monkeypatch):
    counts = []
    original = fills._in_threads
    monkeypatch.setattr(fills, "_in_threads", lambda calls: (counts.append(len(calls)), original(calls)))
    monkeypatch.setattr(fills, "_WORTH_A_THREAD", 1000)
    monkeypatch.setenv("FANIN_THREADS", "2")
    for length in (1999, 2000, 1 << 14):
        out = np.empty(length, np.float32)
        fills.fill(out, Normal(0.0, 1.0), seed=1, name="w")
        assert_same_bits(out, specified(Normal(0.0, 1.0), length, seed=1))
    assert counts == [1, 2, 2]


@pytest.mark.parametrize("length", [1023, 1024, 1025, 2**18 + 1, 2**19 + 3])
def test_around_the_thresholds(monkeypatch, length):
    monkeypatch.setenv("FANIN_THREADS", "2")
    for law in LAWS:
        out = np.empty(length, np.float32)
        fills.fill(out, law, seed=5, name="w", start=3)
        assert_same_bits(out, specified(law, length, start=3, seed=5))


ORDERS = [(0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2, 1), (2, 0, 1), (1, 2, 0)]


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("shape", [(5, 70, 33), (130, 3, 1030), (1, 129, 2), (2, 1, 4)], ids=str)
def test_a_box_in_any_order_of_memory(eager, monkeypatch, shape, order, threads):
    monkeypatch.setenv("FANIN_THREADS", threads)
    law = Normal(0.0, 1.0)
    expected = specified(law, int(np.prod(shape))).reshape(shape)
    view = np.full([shape[i] for i in order], np.nan, np.float32).transpose(np.argsort(order))
    assert view.shape == shape
    fills.fill_box(view, law, seed=3, name="w")
    assert_same_bits(np.ascontiguousarray(view), expected)


@st.composite
def boxes(draw):
    shape = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    cuts = [sorted(draw(st.tuples(st.integers(0, size), st.integers(0, size)))) for size in shape]
    return shape, [slice(*cut) for cut in cuts], draw(st.permutations(range(len(shape)))), draw(st.integers(0, 3))


@pytest.mark.parametrize("way", ["numpy", "compiled"])
def test_a_part_of_a_box_in_any_order_of_memory(monkeypatch, way):
    monkeypatch.setattr(fills, "_WORTH_CALLING", 1 if way == "compiled" else 2**62)
    monkeypatch.setattr(fills, "_WORTH_WRITING_ACROSS", 1)

    @quick
    @given(boxes(), st.sampled_from(LAWS))
    def check(case, law):
        shape, part, order, margin = case
        whole = specified(law, int(np.prod(shape))).reshape(shape)[tuple(part)]
        # Memory wider than the part, so that what lies beside it would show a stray write.
        memory = np.full([whole.shape[i] + margin for i in order], np.nan, np.float32)
        view = memory[tuple(slice(0, whole.shape[i]) for i in order)].transpose(np.argsort(order))
        corner = [cut.start for cut in part]
        fills.fill_box(view, law, seed=3, name="w", shape=shape, corner=corner)
        assert (view == whole).all()
        assert np.isnan(memory).sum() == memory.size - whole.size

    check()


FLIPS = ("[::-1]", "[:, ::-1]", "[::2]", "[:, 1::3]", "[::-2, ::-1]")


def test_a_view_that_runs_backwards_or_leaves_gaps():
    """In a process of its own, because a write beside the array ends the interpreter or goes unseen."""
    program = f"""if True:
        import numpy as np
        from fanin.initializers import compiled, fills
        from fanin.initializers.laws import Normal
        for flip in ({", ".join(f"np.s_{flip}" for flip in FLIPS)}):
            memory = np.full(3 * 80 * 60, np.nan, np.float32)  # the array lies in the middle
            view = memory[4800:9600].reshape(80, 60)[flip]
            fills.fill_box(view, Normal(0.0, 1.0), seed=3, name="w")
            expected = fills._elements(Normal(0.0, 1.0), 3, "w", 0, view.size).reshape(view.shape)
            print((view == expected).all(), np.isnan(memory).sum() == memory.size - view.size, flush=True)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "True True\n" * len(FLIPS)), done.stderr[-500:]


# --------------------------------------------------------------------------------------------- what is chosen
def test_which_laws_are_compiled():
    assert all(fills._compiled_law(law, 1 << 10) is not None for law in LAWS)
    for law in (Constant(1.0), TruncatedNormal(0.0, 1.0, -1.0, 2.0), TruncatedNormal(0.0, 1.0, -INF, 2.0)):
        assert fills._compiled_law(law, 1 << 10) is None
    assert fills._compiled_law(LAWS[0], (1 << 10) - 1) is None


def test_numba_is_loaded_when_enough_is_drawn(monkeypatch):
    monkeypatch.delitem(sys.modules, "fanin.initializers.compiled")
    monkeypatch.setattr(fills, "_drawn", 0)
    monkeypatch.setattr(fills, "_WORTH_LOADING", 10_000)
    law = LAWS[0]
    assert fills._compiled_law(law, 5000) is None
    assert fills._compiled_law(law, 4999) is None
    assert fills._compiled_law(law, 4999) is not None


@pytest.mark.parametrize("absent", ["not found", "blocked"])
def test_without_numba_the_bits_are_the_same(monkeypatch, absent):
    expected = [runs(law, [5], 5001)[0] for law in LAWS]
    monkeypatch.delitem(sys.modules, "fanin.initializers.compiled")
    monkeypatch.setattr(fills, "_WORTH_LOADING", 0)
    if absent == "blocked":
        monkeypatch.setitem(sys.modules, "numba", None)
    else:
        monkeypatch.setattr(fills, "find_spec", lambda name: None if name == "numba" else pytest.fail(name))
    for law, values in zip(LAWS, expected, strict=True):
        assert fills._compiled_law(law, 1 << 30) is None
        out = np.empty(5001, np.float32)
        fills.fill(out, law, seed=3, name="w", start=5)
        assert_same_bits(out, values)
        across = np.empty((3, 1667), np.float32).T
        fills.fill_box(across, law, seed=3, name="w")
        assert_same_bits(np.ascontiguousarray(across).reshape(-1), specified(law, 5001))
    assert "fanin.initializers.compiled" not in sys.modules


def in_a_process(program, **environment):
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ | environment
    )
    return done.stdout.split()


def test_small_draws_do_not_load_numba():
    program = """if True:
        import sys, numpy as np
        from fanin.initializers import INITIALIZERS, fill, sample
        from fanin.initializers.laws import Normal
        for name in INITIALIZERS:
            shape = (8, 1, 6) if name == "stft" else (64, 128)
            sample(name, shape, seed=0)
        fill(np.empty(1 << 20, np.float32), Normal(0.0, 1.0), seed=0, name="w")
        print("numba" in sys.modules)
    """
    assert in_a_process(program) == ["False"]


def test_compiled_code_is_found_again(tmp_path):
    """The second process takes what the first has compiled, and compiles nothing anew."""
    program = """if True:
        import numpy as np
        from fanin.initializers import compiled, fills
        from fanin.initializers.laws import Normal
        out = np.empty((40, 2000), np.float32)
        fills.fill_box(out, Normal(0.0, 1.0), seed=0, name="w")
        fills.fill_box(np.empty((2000, 40), np.float32).T, Normal(0.0, 1.0), seed=0, name="w")
        for function in (compiled.fill_runs, compiled.fill_columns):
            print(sum(function.stats.cache_misses.values()))
    """
    place = {"NUMBA_CACHE_DIR": str(tmp_path), "FANIN_THREADS": "1"}
    assert all(int(count) > 0 for count in in_a_process(program, **place))
    files = sorted(tmp_path.rglob("*.nbc"))
    assert in_a_process(program, **place) == ["0", "0"]
    assert sorted(tmp_path.rglob("*.nbc")) == files
