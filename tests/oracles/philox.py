"""Philox4x32-10 again, on Python integers, one word at a time: slow, obvious, and written from the paper."""

import hashlib

M0, M1 = 0xD2511F53, 0xCD9E8D57
W0, W1 = 0x9E3779B9, 0xBB67AE85
LOW = 2**32 - 1


def block(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Ten rounds on one counter; the key is bumped between rounds, not before the first."""
    r0, l0, r1, l1 = counter
    k0, k1 = key
    for step in range(10):
        if step > 0:
            k0, k1 = (k0 + W0) % 2**32, (k1 + W1) % 2**32
        a, b = M0 * r0, M1 * r1
        r0, l0, r1, l1 = (b // 2**32) ^ l0 ^ k0, b % 2**32, (a // 2**32) ^ l1 ^ k1, a % 2**32
    return r0, l0, r1, l1


def stream(name: str) -> int:
    """First 8 bytes of BLAKE2b of the name, the first byte the least significant."""
    return sum(byte << (8 * place) for place, byte in enumerate(hashlib.blake2b(name.encode("utf-8")).digest()[:8]))


def word(seed: int, name: str, position: int) -> int:
    """One word of the stream: key is the seed, counter is (block number, stream), 64 bits each."""
    number, channel = position // 4, stream(name)
    counter = (number & LOW, number >> 32, channel & LOW, channel >> 32)
    return block(counter, (seed & LOW, seed >> 32))[position % 4]


def words(seed: int, name: str, start: int, stop: int) -> list[int]:
    """Words `start` to `stop`."""
    return [word(seed, name, position) for position in range(start, stop)]
