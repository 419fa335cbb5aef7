"""The drop-in initializers: names, calls and meanings of jax.nn.initializers, fanin's values in every transform."""

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fanin.jax as initializers
from fanin import sample
from fanin.errors import FaninError
from fanin.initializers import INITIALIZERS

Z = 5.0
"""Standard errors a moment may be off: a false alarm in less than one of a million fixed seeds."""
PUBLIC = [name for name in dir(jax.nn.initializers) if not name.startswith("_")]
TABLE = sorted(INITIALIZERS)
SHAPES = {"stft": (16, 1, 9), "identity": (6, 5), "delta_orthogonal": (3, 2, 4, 6)}


def shape_of(name: str) -> tuple[int, ...]:
    return SHAPES.get(name, (3, 2, 4, 6))


def same(array: Any, expected: Any) -> bool:
    array, expected = np.asarray(array), np.asarray(expected)
    return array.shape == expected.shape and array.dtype == expected.dtype and array.tobytes() == expected.tobytes()


def key(seed: int = 7) -> Any:
    return jax.random.key(seed)


# -------------------------------------------------------------------------------------------- names and calls
@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_of_jax_is_here_with_its_parameters(name: str) -> None:
    theirs, ours = getattr(jax.nn.initializers, name), getattr(initializers, name)
    assert name in initializers.__all__
    if theirs is ours:
        return
    wanted, found = (
        [(p.name, p.default, p.kind) for p in inspect.signature(factory).parameters.values()]
        for factory in (theirs, ours)
    )
    assert found[: len(wanted)] == wanted
    assert all(
        kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD) for *_, kind in found[len(wanted) :]
    )


@pytest.mark.parametrize("name", sorted(set(TABLE) - {"constant"}))
def test_every_entry_of_the_table_is_a_factory_or_an_initializer(name: str) -> None:
    assert name in initializers.__all__
    made = getattr(initializers, name)
    if name == "variance_scaling":
        made = made(1.0, "fan_in", "truncated_normal")
    elif name not in ("ones", "zeros"):
        made = made(stddev=0.05) if name == "truncated_normal" else made()
    assert same(made(key(), shape_of(name)), sample(name, shape_of(name), seed=7))


def test_the_protocol() -> None:
    init = initializers.he_normal()
    expected = sample("he_normal", (4, 6), seed=7)
    for drawn in (
        init(key(), (4, 6)),
        init(key(), [4, 6], jnp.float32),
        init(key=key(), shape=(4, 6), dtype=np.float32, out_sharding=None),
        init(key(), tuple(np.array([4, 6])), "float32"),
    ):
        assert isinstance(drawn, jax.Array)
        assert same(drawn, expected)
    assert isinstance(init, initializers.Initializer)
    assert initializers.he_normal(dtype=jnp.bfloat16)(key(), (4, 6)).dtype == jnp.bfloat16
    assert initializers.he_normal(-2, -1, (), jnp.bfloat16)(key(), (4, 6), jnp.float32).dtype == jnp.float32
    assert init(key(), (0, 6)).shape == (0, 6)


@pytest.mark.parametrize("name", ["normal", "uniform", "truncated_normal"])
@pytest.mark.parametrize("shape", [(), (5,)])
def test_laws_without_fans_take_scalars_and_vectors(name: str, shape: tuple[int, ...]) -> None:
    assert getattr(jax.nn.initializers, name)()(key(), shape).shape == shape
    assert getattr(initializers, name)()(key(), shape).shape == shape


# -------------------------------------------------------------------------------------------- keys
@pytest.mark.parametrize("name", TABLE)
def test_a_key_is_its_seed(name: str) -> None:
    init, shape = initializers.initializer(name), shape_of(name)
    for seed in (0, 7, 2**31 - 1):
        expected = sample(name, shape, seed=seed)
        assert same(init(jax.random.key(seed), shape), expected)
        assert same(init(jax.random.PRNGKey(seed), shape), expected)
    assert same(init(jnp.array([3, 5], jnp.uint32), shape), sample(name, shape, seed=3 << 32 | 5))


def test_a_large_seed_is_cut_as_jax_cuts_it() -> None:
    # Without 64-bit types JAX makes of a seed beyond 32 bits what it can; the words of the key decide.
    high, low = (int(word) for word in jax.random.key_data(key(2**32 - 1)))
    drawn = initializers.normal(0.05)(key(2**32 - 1), (4, 6))
    assert same(drawn, sample("random_normal", (4, 6), seed=high << 32 | low))


@pytest.mark.parametrize("kind", ["rbg", "unsafe_rbg", "threefry2x32"])
def test_keys_of_every_kind(kind: str) -> None:
    init = initializers.he_normal()
    one, other = (jax.random.key(seed, impl=kind) for seed in (1, 2))
    drawn = init(one, (4, 6))
    assert same(drawn, init(jax.random.key_data(one), (4, 6)))
    assert same(drawn, jax.jit(lambda key: init(key, (4, 6)))(one))
    assert (np.asarray(drawn) != np.asarray(init(other, (4, 6)))).all()


def test_derived_keys_and_names_differ() -> None:
    init, split = initializers.normal(), jax.random.split(key(), 3)
    keys = [key(), *split, jax.random.fold_in(key(), 10), jax.random.fold_in(key(), 11)]
    arrays = [np.asarray(init(one, (4, 6))) for one in keys]
    arrays.append(np.asarray(initializers.normal(name="other")(key(), (4, 6))))
    # Numbers on a grid of 2**-24 or finer: 21 pairs of 24 collide with probability below 21 * 24 * 2**-23 = 6e-5.
    assert all((one != other).all() for i, one in enumerate(arrays) for other in arrays[:i])
    assert same(arrays[-1], sample("random_normal(stddev=0.01)", (4, 6), seed=7, name="other"))


# -------------------------------------------------------------------------------------------- transforms
@pytest.mark.parametrize("name", TABLE)
def test_eager_jit_and_vmap_give_the_same_bits(name: str) -> None:
    shape = shape_of(name)
    init = partial(initializers.initializer(name), shape=shape)
    keys = jax.random.split(key(), 3)
    expected = np.stack([np.asarray(init(one)) for one in keys])
    assert same(jax.jit(init)(keys[1]), expected[1])
    assert same(jax.vmap(init)(keys), expected)
    assert same(jax.jit(jax.vmap(init))(jax.random.key_data(keys)), expected)
    assert same(jax.lax.map(init, keys), expected)


def test_nested_vmap_and_static_shapes() -> None:
    init = initializers.orthogonal()
    keys = jax.random.split(key(), (2, 3))
    drawn = jax.vmap(jax.vmap(lambda one: init(one, (4, 4))))(keys)
    assert all(same(drawn[i, j], init(keys[i, j], (4, 4))) for i in range(2) for j in range(3))
    jitted = jax.jit(init, static_argnums=(1, 2))
    assert same(jitted(key(), (4, 6), jnp.bfloat16), init(key(), (4, 6), jnp.bfloat16))


def test_inside_scan_cond_and_gradients() -> None:
    init = initializers.he_normal()

    def loss(scale: Any, start: Any) -> Any:
        def step(carry: Any, _: Any) -> Any:
            total, now = carry
            now, drawing = jax.random.split(now)
            weights = jax.lax.cond(total > -1.0, lambda k: init(k, (4, 6)), lambda k: jnp.zeros((4, 6)), drawing)
            return (total + scale * (weights**2).sum(), now), weights

        (total, _), weights = jax.lax.scan(jax.checkpoint(step), (0.0, start), length=3)
        return total, weights

    gradient, weights = jax.jit(jax.grad(loss, has_aux=True))(2.0, key())
    now = key()
    for drawn in weights:
        now, drawing = jax.random.split(now)
        assert same(drawn, init(drawing, (4, 6)))
    # 72 squares and 3 sums in float32, each rounded by 2**-24 of the total at most.
    np.testing.assert_allclose(gradient, np.sum(np.asarray(weights, np.float64) ** 2), rtol=75 * 2**-24)
    plain, _ = jax.grad(loss, has_aux=True)(2.0, key())
    np.testing.assert_allclose(plain, gradient, rtol=150 * 2**-24)


def test_abstract_evaluation_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fanin.jax.initializers.draw_param", None)
    init = initializers.he_normal()
    told = jax.eval_shape(lambda k: init(k, (4, 6), jnp.bfloat16), key())
    assert (told.shape, told.dtype) == ((4, 6), jnp.bfloat16)
    stacked = jax.eval_shape(jax.vmap(lambda k: init(k, (4, 6))), jax.random.split(key(), 3))
    assert stacked.shape == (3, 4, 6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", TABLE)
def test_narrow_types_are_rounded_from_float32(name: str, dtype: str) -> None:
    init, shape = initializers.initializer(name), shape_of(name)
    expected = sample(name, shape, seed=7).astype(jnp.dtype(dtype))
    assert same(init(key(), shape, jnp.dtype(dtype)), expected)
    assert same(jax.jit(lambda one: init(one, shape, dtype))(key()), expected)


def test_float64_where_jax_has_it() -> None:
    init = initializers.he_normal()
    assert init(key(), (4, 6), jnp.float64).dtype == jnp.float32
    with jax.enable_x64(True):
        expected = sample("he_normal", (4, 6), seed=7).astype("float64")
        assert same(init(key(), (4, 6)), expected)
        assert same(init(key(), (4, 6), jnp.float64), expected)
        assert same(jax.jit(lambda one: init(one, (4, 6), "float64"))(key()), expected)
        assert init(key(), (4, 6), jnp.float32).dtype == jnp.float32


# -------------------------------------------------------------------------------------------- meaning
AXES: list[tuple[dict[str, Any], tuple[int, ...]]] = [
    ({}, (3, 20, 30)),
    ({"in_axis": -1, "out_axis": -2}, (3, 20, 30)),
    ({"in_axis": (0, 1), "out_axis": 2}, (5, 8, 40)),
    ({"in_axis": [0], "out_axis": [1, 2]}, (30, 5, 12)),
    ({"in_axis": 1, "out_axis": 2, "batch_axis": 0}, (5, 12, 30)),
    ({"in_axis": 1, "out_axis": -1, "batch_axis": (0, 2)}, (2, 12, 3, 30)),
    ({"in_axis": (), "out_axis": 1, "batch_axis": 0}, (40, 50)),
]
MODES = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")
DISTRIBUTIONS = ("truncated_normal", "normal", "uniform")


@pytest.mark.parametrize(("given", "shape"), AXES, ids=str)
@pytest.mark.parametrize(("mode", "distribution"), [(mode, kind) for mode in MODES for kind in DISTRIBUTIONS])
def test_variance_scaling_has_the_moments_of_jax(
    given: dict[str, Any], shape: tuple[int, ...], mode: str, distribution: str
) -> None:
    named = {"in": given.get("in_axis", -2), "out": given.get("out_axis", -1), "batch": given.get("batch_axis", ())}
    sizes = {k: math.prod(shape[i] for i in ((v,) if isinstance(v, int) else v)) for k, v in named.items()}
    receptive = math.prod(shape) / math.prod(sizes.values())
    fan_in, fan_out = sizes["in"] * receptive, sizes["out"] * receptive
    fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
    variance = 3.0 / fan.get(mode, math.sqrt(fan_in * fan_out))
    # JAX's own numbers are held to the same bounds, for some choices of axes: it compiles each anew.
    both = (mode, distribution) == ("fan_geo_avg", "normal") and given in (AXES[0][0], AXES[3][0], AXES[5][0])
    for module in (initializers, jax.nn.initializers) if both else (initializers,):
        drawn = np.asarray(module.variance_scaling(3.0, mode, distribution, **given)(key(), shape), np.float64)
        # The fourth moment of each of these laws is at most the normal's, 3 variances squared.
        assert abs(np.mean(drawn**2) / variance - 1) < Z * math.sqrt(2 / drawn.size)
        assert abs(np.mean(drawn)) < Z * math.sqrt(variance / drawn.size)
        # What lies furthest out tells the laws apart; 2 * 1200 numbers stay within 2 sigma with probability 1e-24.
        edge = {"truncated_normal": 2 / 0.87962566, "uniform": math.sqrt(3)}.get(distribution, math.inf)
        reach = np.abs(drawn).max() / math.sqrt(variance)
        assert reach <= edge * (1 + 2**-20)
        assert reach > {"truncated_normal": 1.9, "uniform": 1.6, "normal": 2.3}[distribution]


@pytest.mark.parametrize(
    ("init", "text", "blocks"),
    [
        (initializers.variance_scaling(2.0, "fan_in", "orthogonal", gates=2),
         "variance_scaling(scale=2.0, distribution='orthogonal')", {"gates": 2}),
        (initializers.initializer("variance_scaling(activation='gelu')", groups=2),
         "variance_scaling(activation='gelu')", {"groups": 2}),
        (initializers.orthogonal(gates=3), "orthogonal", {"gates": 3}),
        (initializers.scaled_orthogonal(gain=2.0), "scaled_orthogonal(gain=2.0)", {}),
        (initializers.sparse(sparsity=0.5), "sparse(sparsity=0.5)", {}),
    ],
)  # fmt: skip
def test_what_jax_does_not_have(init: Any, text: str, blocks: dict[str, int]) -> None:
    assert same(init(key(), (4, 6)), sample(text, (4, 6), seed=7, **blocks))


def test_uniform_starts_at_zero() -> None:
    drawn = np.asarray(initializers.uniform(0.5)(key(), (100, 100)))
    assert drawn.min() >= 0
    assert drawn.max() < 0.5
    # The mean of a uniform number has a variance of width**2 / 12.
    assert abs(drawn.mean(dtype=np.float64) - 0.25) < Z * 0.5 / math.sqrt(12 * drawn.size)


def test_truncated_normal_has_bounds_in_standard_deviations() -> None:
    drawn = np.asarray(initializers.truncated_normal(0.1, None, -1.0, 3.0)(key(), (100, 100)))
    assert same(drawn, sample("truncated_normal(stddev=0.1, lower=-1.0, upper=3.0)", (100, 100), seed=7))
    assert drawn.min() >= -0.1
    assert 0.2 < drawn.max() <= 0.3  # 1e4 numbers miss the last third with probability 0.975**1e4 < 1e-100
    assert np.abs(initializers.truncated_normal(0.1)(key(), (100, 100))).max() <= 0.2


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (3, 2, 4)])
@pytest.mark.parametrize("column_axis", [-1, 0, 1])
def test_orthogonal_about_any_axis(shape: tuple[int, ...], column_axis: int) -> None:
    drawn = np.asarray(initializers.orthogonal(2.0, column_axis)(key(), shape), np.float64)
    matrix = np.moveaxis(drawn, column_axis, -1).reshape(-1, shape[column_axis])
    product = matrix @ matrix.T if matrix.shape[0] < matrix.shape[1] else matrix.T @ matrix
    # Entries are off by 2**-24 of themselves, so a product of vectors of length 2 by 4 * 2**-23 or less.
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=2**-20)
    theirs = jax.nn.initializers.orthogonal(2.0, column_axis)
    assert jax.eval_shape(lambda one: theirs(one, shape), key()).shape == drawn.shape


@pytest.mark.parametrize("shape", [(3, 4, 6), (3, 2, 4, 6), (3, 2, 3, 4, 4)])
def test_delta_orthogonal_is_jax_s(shape: tuple[int, ...]) -> None:
    drawn = np.asarray(initializers.delta_orthogonal(2.0)(key(), shape))
    theirs = np.asarray(jax.nn.initializers.delta_orthogonal(2.0)(key(), shape))
    assert ((drawn != 0) == (theirs != 0)).all()  # at the same centre, also of even kernels
    rows = drawn[tuple((size - 1) // 2 for size in shape[:-2])].astype(np.float64)
    np.testing.assert_allclose(rows @ rows.T, 4 * np.eye(len(rows)), atol=2**-20)


# -------------------------------------------------------------------------------------------- mistakes
def mistake(label: str, make: Callable[[], Any]) -> Any:
    return pytest.param(make, id=label)


def call(shape: Any = (4, 6), dtype: Any = None, name: str = "he_normal", given_key: Any = None, **given: Any) -> Any:
    return getattr(initializers, name)(**given)(key() if given_key is None else given_key(), shape, dtype)


@pytest.mark.parametrize(
    "make",
    [
        mistake("two keys", lambda: call(given_key=lambda: jax.random.split(key(), 2))),
        mistake("two raw keys", lambda: call(given_key=lambda: jax.random.split(jax.random.PRNGKey(0), 2))),
        mistake("a number for a key", lambda: call(given_key=lambda: 7)),
        mistake("signed words for a key", lambda: call(given_key=lambda: np.array([0, 7], np.int32))),
        mistake("integer", lambda: call(dtype=jnp.int32)),
        mistake("complex", lambda: call(dtype=jnp.complex64)),
        mistake("in axis", lambda: call(in_axis=2)),
        mistake("out axis", lambda: call(out_axis=-3)),
        mistake("batch axis", lambda: call(batch_axis=(0, 5))),
        mistake("column axis", lambda: call(name="orthogonal", column_axis=5)),
        mistake("vector", lambda: call((4,))),
        mistake("vector, variance scaling", lambda: initializers.variance_scaling(1, "fan_in", "normal")(key(), (4,))),
        mistake("vector, orthogonal", lambda: call((4,), name="orthogonal")),
        mistake("vector, delta", lambda: call((4,), name="delta_orthogonal")),
        mistake("matrix, delta", lambda: call((4, 6), name="delta_orthogonal")),
        mistake("six axes, delta", lambda: call((1, 1, 1, 1, 4, 6), name="delta_orthogonal")),
        mistake("narrowing, delta", lambda: call((3, 6, 4), name="delta_orthogonal")),
        mistake("negative scale", lambda: initializers.variance_scaling(-1.0, "fan_in", "normal")),
        mistake("no scale", lambda: initializers.variance_scaling(0.0, "fan_in", "normal")),
        mistake("nan scale", lambda: initializers.variance_scaling(math.nan, "fan_in", "normal")),
        mistake("infinite scale", lambda: initializers.variance_scaling(math.inf, "fan_in", "normal")),
        mistake("text scale", lambda: initializers.variance_scaling("1", "fan_in", "normal")),
        mistake("mode", lambda: initializers.variance_scaling(1.0, "fan_inn", "normal")),
        mistake("distribution", lambda: initializers.variance_scaling(1.0, "fan_in", "cauchy")),
        mistake("nan stddev", lambda: initializers.normal(math.nan)),
        mistake("negative stddev", lambda: initializers.truncated_normal(-1.0)),
        mistake("negative uniform", lambda: call(name="uniform", scale=-1.0)),
        mistake("bounds", lambda: call(name="truncated_normal", lower=2.0, upper=-2.0)),
        mistake("gates", lambda: call(gates=4)),
        mistake("groups", lambda: call(groups=0)),
        mistake("odd mirror", lambda: call((3, 5), name="mirrored")),
        mistake("unknown name", lambda: initializers.initializer("he_norml")),
        mistake("unknown parameter", lambda: initializers.initializer("sparse(sparcity=0.5)")),
        mistake("fans without inputs", lambda: call((), name="he_normal")),
    ],
)
def test_mistakes_are_told_before_anything_is_drawn(make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fanin.jax.initializers.draw_param", None)
    with pytest.raises(FaninError) as caught:
        make()
    assert isinstance(caught.value, ValueError)


def test_mistakes_are_told_while_tracing() -> None:
    with pytest.raises(FaninError, match="even number"):
        jax.jit(lambda one: initializers.mirrored()(one, (3, 5)))(key())
    with pytest.raises(FaninError, match="not one key"):
        jax.jit(lambda many: initializers.he_normal()(many, (3, 5)))(jax.random.split(key()))


def test_an_unknown_parameter_is_not_answered_in_inner_words() -> None:
    with pytest.raises((TypeError, FaninError)) as caught:
        initializers.sparse(sparcity=0.5)
    assert "sparse" in str(caught.value)
    assert "_make" not in str(caught.value)
