"""The drop-in initializers in Flax: Linen and NNX hand them keys, and keep what they draw."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fanin.jax as initializers
from fanin import sample


def assert_same(array: Any, expected: Any) -> None:
    np.testing.assert_array_equal(np.asarray(array), np.asarray(expected), strict=True)


def noting(init: Any, seen: list[Any]) -> Any:
    """The initializer, noting the words of each key that it is given, and the array."""

    def noted(key: Any, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None) -> Any:
        drawn = init(key, shape, dtype, out_sharding) if out_sharding is not None else init(key, shape, dtype)
        if not isinstance(drawn, jax.core.Tracer):
            seen.append((tuple(np.asarray(jax.random.key_data(key)).tolist()), drawn))
        return drawn

    return noted


def seed_of(words: tuple[int, int]) -> int:
    return words[0] << 32 | words[1]


def test_flax_linen() -> None:
    nn = pytest.importorskip("flax.linen")
    seen: dict[str, list[Any]] = {"he_normal": [], "orthogonal": []}
    he, orthogonal = (noting(getattr(initializers, law)(), seen[law]) for law in seen)

    class Network(nn.Module):  # type: ignore[misc,name-defined]
        @nn.compact
        def __call__(self, tokens: Any) -> Any:
            x = nn.Embed(11, 6, embedding_init=he)(tokens)
            x = nn.Conv(6, (3,), kernel_init=he)(x)
            x = nn.RNN(nn.LSTMCell(6, kernel_init=he, recurrent_kernel_init=orthogonal))(x)
            x = nn.MultiHeadDotProductAttention(2, kernel_init=he)(x)
            return nn.Dense(6, kernel_init=he)(nn.Dense(6, kernel_init=he)(x))

    tokens, start = jnp.zeros((2, 5), jnp.int32), jax.random.key(7)
    eager = Network().init(start, tokens)
    assert len({words for drawn in seen.values() for words, _ in drawn}) == sum(map(len, seen.values())) >= 8
    for law, drawn in seen.items():
        for words, array in drawn:
            assert_same(array, sample(law, array.shape, seed=seed_of(words)))
    for jitted in (jax.jit(Network().init)(start, tokens), jax.jit(lambda k: Network().init(k, tokens))(start)):
        jax.tree.map(assert_same, jitted, eager)  # raises where the trees differ
    assert jax.tree.map(jnp.shape, jax.eval_shape(Network().init, start, tokens)) == jax.tree.map(jnp.shape, eager)


def test_flax_nnx() -> None:
    nnx = pytest.importorskip("flax.nnx")
    seen: list[Any] = []
    he = noting(initializers.he_normal(), seen)

    class Network(nnx.Module):  # type: ignore[misc,name-defined]
        def __init__(self, rngs: Any):
            self.conv = nnx.Conv(3, 4, (3, 2), kernel_init=he, rngs=rngs)
            self.cell = nnx.LSTMCell(4, 5, kernel_init=he, rngs=rngs)
            self.first = nnx.Linear(4, 4, kernel_init=he, rngs=rngs)
            self.second = nnx.Linear(4, 4, kernel_init=he, rngs=rngs, param_dtype=jnp.bfloat16)

    model = Network(nnx.Rngs(0))
    kernels = [model.conv.kernel, model.first.kernel, model.second.kernel]
    assert {kernel[...].dtype for kernel in kernels} == {jnp.dtype("float32"), jnp.dtype("bfloat16")}
    assert len({words for words, _ in seen}) == len(seen) >= 4
    for words, array in seen:
        assert_same(array, sample("he_normal", array.shape, seed=seed_of(words)).astype(array.dtype))
    jitted = nnx.jit(lambda: Network(nnx.Rngs(0)))()
    leaves, others = (jax.tree.leaves(nnx.state(network, nnx.Param)) for network in (model, jitted))
    for one, other in zip(leaves, others, strict=True):
        assert_same(one, other)
