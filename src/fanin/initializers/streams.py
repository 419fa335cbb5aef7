"""Random words as a pure function of (seed, name, position): Philox4x32-10 keyed by name.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11. The key is the
64-bit seed; the 128-bit counter holds the block number in its low half and the stream in its high half;
the stream is the first 8 bytes (little endian) of BLAKE2b of the parameter's name. Word ``i`` of a stream
is word ``i % 4`` of block ``i // 4``.
"""

import hashlib
import operator

import numpy as np
from numpy.typing import NDArray

from fanin.errors import InvalidValueError

__all__ = ["check_seed", "permutation", "philox4x32", "stream", "words"]

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox4x32(counter: NDArray[np.uint32], key: tuple[int, int]) -> NDArray[np.uint32]:
    """Ten rounds of Philox on blocks of four words.

    Args:
        counter: Shape (blocks, 4), least significant word first.
        key: The two halves of the key, low half first.

    Returns:
        Shape (blocks, 4).

    Example:
        >>> [f"{w:08x}" for w in philox4x32(np.zeros((1, 4), np.uint32), (0, 0))[0]]
        ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    c0, c1, c2, c3 = (counter[:, column].astype(np.uint64) for column in range(4))
    k0, k1 = key
    for _ in range(10):
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (product1 >> _SHIFT) ^ c1 ^ np.uint64(k0),
            product1 & _MASK,
            (product0 >> _SHIFT) ^ c3 ^ np.uint64(k1),
            product0 & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def stream(name: str) -> int:
    """The 64-bit stream of a name.

    Example:
        >>> stream("dense/kernel") != stream("dense/bias")
        True
    """
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=64).digest()[:8], "little")


def check_seed(seed: int) -> int:
    """The seed as a Python number, whatever kind of integer it came as.

    Raises:
        InvalidValueError: If it is no integer of 64 bits.
    """
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if not 0 <= number < 2**64:
        raise InvalidValueError("The seed is not a 64-bit number", given=seed, allowed="0 to 2**64 - 1")
    return number


def words(seed: int, name: str, start: int, stop: int) -> NDArray[np.uint32]:
    """Words ``start`` to ``stop`` of the stream `name` under `seed`.

    Args:
        seed: 0 to 2**64 - 1.
        name: The name of the parameter.
        start, stop: Positions of the first word and of the word behind the last.

    Raises:
        InvalidValueError: If the seed is not a 64-bit unsigned number.

    Example:
        >>> bool((words(7, "w", 0, 10)[3:] == words(7, "w", 3, 10)).all())
        True
    """
    seed = check_seed(seed)
    first, last = start // 4, -(-stop // 4)
    blocks = np.arange(first, last, dtype=np.uint64)
    counter = np.empty((len(blocks), 4), np.uint32)
    counter[:, 0], counter[:, 1] = blocks & _MASK, blocks >> _SHIFT
    counter[:, 2], counter[:, 3] = stream(name) & 0xFFFFFFFF, stream(name) >> 32
    flat = philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32)).reshape(-1)
    return flat[start - 4 * first : stop - 4 * first]


def permutation(seed: int, name: str, count: int) -> NDArray[np.int64]:
    """A random order of ``range(count)`` that depends on nothing but (seed, name, count).

    Sorts 64-bit keys, two words each, so that a tie (broken by position) has probability below
    ``count**2 / 2**65``.

    Example:
        >>> sorted(permutation(0, "order", 5).tolist())
        [0, 1, 2, 3, 4]
    """
    pairs = words(seed, name, 0, 2 * count).astype(np.uint64).reshape(count, 2)
    return np.argsort((pairs[:, 0] << _SHIFT) | pairs[:, 1], kind="stable")
