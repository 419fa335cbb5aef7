"""The random words: known answers, a second implementation, and independence of how they are cut."""

import hashlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fanin.errors import InvalidValueError
from fanin.initializers import streams
from fanin.initializers.streams import permutation, philox4x32, stream, words
from tests.oracles import philox as oracle

quick = settings(deadline=None, max_examples=60, derandomize=True, database=None)
seeds = st.integers(0, 2**64 - 1)

# Random123's kat_vectors for philox4x32-10.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def hexadecimal(text):
    return tuple(int(word, 16) for word in text.split())


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN, ids=["zeros", "ones", "pi"])
def test_known_answers(counter, key, expected):
    counter, key, expected = map(hexadecimal, (counter, key, expected))
    assert tuple(philox4x32(np.array([counter], np.uint32), key)[0].tolist()) == expected
    assert oracle.block(counter, key) == expected


def test_blocks_do_not_touch_each_other():
    counters = np.array([hexadecimal(counter) for counter, _, _ in KNOWN], np.uint32)
    together = philox4x32(counters, (1, 2))
    assert [tuple(row) for row in together.tolist()] == [oracle.block(tuple(c), (1, 2)) for c in counters.tolist()]


@quick
@given(seed=seeds, name=st.text(), start=st.integers(0, 2**40), length=st.integers(0, 11))
@example(seed=2**64 - 1, name="w", start=2**34 - 3, length=8)  # the block number passes 2**32 here
@example(seed=2**32, name="", start=0, length=1)
@example(seed=7, name="w", start=5, length=0)
def test_words_are_the_oracles(seed, name, start, length):
    drawn = words(seed, name, start, start + length)
    assert drawn.dtype == np.uint32
    assert drawn.tolist() == oracle.words(seed, name, start, start + length)


@quick
@given(seed=seeds, cuts=st.lists(st.integers(0, 40), min_size=2, max_size=2).map(sorted))
def test_a_slice_is_the_slice_of_the_whole(seed, cuts):
    low, high = cuts
    assert (words(seed, "w", low, high) == words(seed, "w", 0, 40)[low:high]).all()


def test_both_halves_of_seed_and_stream_count():
    first = [tuple(words(seed, name, 0, 4)) for seed in (1, 1 + 2**32, 2) for name in ("a", "b")]
    assert len(set(first)) == 6


@quick
@given(name=st.text())
def test_stream_is_one_line_of_hashlib(name):
    assert stream(name) == int(hashlib.blake2b(name.encode()).digest()[7::-1].hex(), 16) == oracle.stream(name)


@pytest.mark.parametrize("seed", [-1, 2**64, -(2**63)])
def test_a_seed_beyond_64_bits_is_refused(seed):
    with pytest.raises(InvalidValueError, match=r"Given: -?\d+\. Allowed: 0 to 2\*\*64 - 1\."):
        words(seed, "w", 0, 1)


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint32, np.int64, np.uint64])
def test_a_seed_may_be_a_numpy_integer(kind):
    assert (words(kind(12345), "w", 0, 9) == words(12345, "w", 0, 9)).all()


@quick
@given(seed=seeds, name=st.text(), count=st.integers(0, 60))
def test_permutation_sorts_pairs_of_words(seed, name, count):
    order = permutation(seed, name, count).tolist()
    raw = oracle.words(seed, name, 0, 2 * count)
    assert order == sorted(range(count), key=lambda i: (raw[2 * i], raw[2 * i + 1]))


def test_permutation_depends_on_seed_and_name_alone():
    orders = {(seed, name): tuple(permutation(seed, name, 20)) for seed in (0, 1) for name in ("a", "b")}
    assert len(set(orders.values())) == 4
    assert all(sorted(order) == list(range(20)) for order in orders.values())
    assert orders[0, "a"] == tuple(permutation(0, "a", 20))


def test_permutation_compares_both_words_and_then_the_position(monkeypatch):
    drawn = np.array([2, 1, 1, 9, 2, 0, 1, 9, 1, 3], np.uint32)  # pairs (2, 1), (1, 9), (2, 0), (1, 9), (1, 3)
    monkeypatch.setattr(streams, "words", lambda *_: drawn)
    assert permutation(0, "w", 5).tolist() == [4, 1, 3, 2, 0]
