"""What Flax models compute, read from a trace; no two sizes of a model are alike.

The oracle of an activation is the user's own function, evaluated by JAX.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fanin.activations import ACTIVATIONS
from fanin.jax.adapter import describe
from fanin.jax.layers import recurrent_order
from fanin.records import OPS

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def bound(module, *args):
    """A linen module with the shapes of its variables, and a key for dropout."""
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    return module.bind(jax.eval_shape(module.init, keys, *args), rngs={"dropout": jax.random.key(2)})


def read(build, example):
    """What is read of an nnx model that is made of shapes alone, which spares compiling."""
    return describe(nnx.eval_shape(build), example)


def kinds(info):
    return " ".join(op.kind for op in info.ops)


def chain(info, *wanted):
    """The name or the value of each step of the wanted kinds."""
    return [op.name or op.value for op in info.ops if op.kind in wanted]


class Net(nnx.Module):
    """Modules and parameters by name, and a function of them and the input."""

    def __init__(self, function, **parts):
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def __call__(self, *args):
        return self.function(self, *args)


def rngs():
    return nnx.Rngs(0)


# -------------------------------------------------------------------------------------------------- activations
NAMED = {
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": jax.nn.gelu,
    "silu": jax.nn.silu,
    "mish": jax.nn.mish,
    "softplus": jax.nn.softplus,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "hard_silu": jax.nn.hard_silu,
    "hard_tanh": jax.nn.hard_tanh,
    "softsign": jax.nn.soft_sign,
    "erf": jax.scipy.special.erf,
    "leaky_relu": jax.nn.leaky_relu,
    "sin": jnp.sin,
    "sign": jnp.sign,
    "step": lambda x: jnp.where(x > 0, 1.0, 0.0),
}
COMPOSED = {
    "leaky_relu(0.2)": lambda x: jax.nn.leaky_relu(x, 0.2),
    "elu(alpha=0.5)": lambda x: jax.nn.elu(x, 0.5),
    "celu(alpha=0.5)": lambda x: jax.nn.celu(x, 0.5),
    "sin(30 * x)": lambda x: jnp.sin(30 * x),
    "x * sigmoid(1.702 * x)": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "max(x, 0) ** 2": lambda x: jax.nn.relu(x) ** 2,
    "where(x > 0, x, 0.3 * tanh(x))": lambda x: jnp.where(x > 0, x, 0.3 * jnp.tanh(x)),
    "abs(x)": jnp.abs,
}


@pytest.mark.parametrize("name", [*NAMED, *COMPOSED])
def test_an_activation_is_one_step_whose_function_is_the_users(name):
    function = {**NAMED, **COMPOSED}[name]

    def build():
        return nnx.Sequential(nnx.Linear(5, 7, rngs=rngs()), function, nnx.Linear(7, 3, rngs=rngs()))

    info = read(build, normal(4, 5))
    assert kinds(info) == "input weight activation weight"
    step = info.ops[2]
    assert step.name == name
    assert (step.function is None) == (name in ACTIVATIONS)
    phi = step.function or ACTIVATIONS[name].phi
    x = np.linspace(-4, 4, 160)  # without 0, where a step may have any value
    np.testing.assert_allclose(phi(x), np.asarray(function(jnp.asarray(x, jnp.float32))), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("function", "value"), [(lambda x: x * 0.5, 0.5), (lambda x: -x / 8, -0.125)])
def test_a_multiplication_by_a_number_is_a_scale(function, value):
    info = read(lambda: Net(lambda m, x: function(m.a(x)), a=nnx.Linear(5, 3, rngs=rngs())), normal(4, 5))
    assert kinds(info) == "input weight scale"
    assert info.ops[2].value == pytest.approx(value)


def test_a_chain_is_cut_where_something_else_uses_a_link():
    def build():
        return Net(lambda m, x: (h := jnp.sin(30 * m.a(x))) + m.g * jnp.tanh(h), a=nnx.Linear(5, 3, rngs=rngs()),
                  g=nnx.Param(jnp.array(0.5)))  # fmt: skip

    info = read(build, normal(4, 5))
    assert kinds(info) == "input weight activation param activation mul add"
    assert chain(info, "activation") == ["sin(30 * x)", "tanh"]
    assert info.ops[6].inputs == (2, 5)
    assert info.outputs == (6,)


# ------------------------------------------------------------------------------------------------- architectures
class Block(nnx.Module):
    """A residual block of two convolutions; the shortcut has one where the sizes change."""

    def __init__(self, inputs, units, stride):
        self.one = nnx.Conv(inputs, units, (3, 2), strides=stride, use_bias=False, rngs=rngs())
        self.norm = nnx.BatchNorm(units, rngs=rngs())
        self.two = nnx.Conv(units, units, (2, 3), rngs=rngs())
        self.short = nnx.Conv(inputs, units, (1, 1), strides=stride, rngs=rngs()) if inputs != units else None

    def __call__(self, x):
        h = self.two(jax.nn.relu(self.norm(self.one(x))))
        return jax.nn.relu(h + (x if self.short is None else self.short(x)))


def test_a_residual_network():
    def run(m, x):
        x = nnx.max_pool(jax.nn.relu(m.stem(x)), (2, 3), strides=(2, 3))
        for block in m.blocks:
            x = block(x)
        return m.head(nnx.avg_pool(x, (2, 1)).mean((1, 2)))

    def build():
        return Net(
            run,
            stem=nnx.Conv(3, 4, (5, 3), rngs=rngs()),
            blocks=nnx.List([Block(4, 4, 1), Block(4, 6, 2)]),
            head=nnx.Linear(6, 5, rngs=rngs()),
        )

    info = read(build, normal(2, 12, 15, 3))
    block = "weight norm activation weight"
    assert kinds(info) == (
        f"input weight activation max {block} add activation {block} weight add activation mean mean weight"
    )
    assert [op.value for op in info.ops if op.kind in ("max", "mean")] == [6, 2, 6]
    assert info.ops[5].params == ("blocks/0/norm/scale", "blocks/0/norm/bias")
    assert info.ops[8].inputs == (7, 3)
    assert info.ops[6].place == "blocks/0"


class Layer(nnx.Module):
    """A transformer layer, normalised before or after each branch."""

    def __init__(self, before):
        self.before = before
        self.norms = nnx.List([nnx.LayerNorm(8, rngs=rngs()), nnx.RMSNorm(8, rngs=rngs())])
        self.mix = nnx.MultiHeadAttention(2, 8, qkv_features=6, decode=False, rngs=rngs())
        self.up, self.down = nnx.Linear(8, 20, rngs=rngs()), nnx.Linear(20, 8, rngs=rngs())
        self.drop = nnx.Dropout(0.1, rngs=rngs())

    def __call__(self, x):
        mask = nnx.make_causal_mask(x[..., 0])
        if self.before:
            x = x + self.drop(self.mix(self.norms[0](x), mask=mask))
            return x + self.down(jax.nn.gelu(self.up(self.norms[1](x))))
        x = self.norms[0](x + self.mix(x, mask=mask))
        return self.norms[1](x + self.down(jax.nn.gelu(self.up(x))))


@pytest.mark.parametrize(
    ("before", "layer"),
    [
        (True, "norm weight weight weight attention weight dropout add norm weight activation weight add"),
        (False, "weight weight weight attention weight add norm weight activation weight add norm"),
    ],
)
def test_a_transformer_with_a_tied_table(before, layer):
    def run(m, tokens):
        x = m.embed(tokens) * np.sqrt(8) + m.places[:, : tokens.shape[1]]
        for each in m.layers:
            x = each(x)
        return m.embed.attend(m.norm(x))

    def build():
        return Net(run, embed=nnx.Embed(11, 8, rngs=rngs()), places=nnx.Param(normal(1, 9, 8)),
                   layers=nnx.List([Layer(before), Layer(before)]),
                  norm=nnx.LayerNorm(8, rngs=rngs()))  # fmt: skip

    tokens = RNG.integers(0, 11, (3, 6))
    info = read(build, tokens)
    assert kinds(info) == f"input lookup scale param add {layer} {layer} norm weight"
    mixed = next(at for at, op in enumerate(info.ops) if op.kind == "attention")
    queries, keys, values = (info.ops[at].params[0] for at in info.ops[mixed].inputs)
    assert [queries, keys, values] == [f"layers/0/mix/{name}/kernel" for name in ("query", "key", "value")]
    assert info.ops[mixed].place == "layers/0/mix"
    assert info.ops[-1].params == info.ops[1].params == ("embed/embedding",)
    assert info.ops[2].value == pytest.approx(np.sqrt(8))


class Linen(nn.Module):
    """A transformer in linen."""

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(11, 8)(tokens) + nn.Embed(9, 8)(jnp.arange(tokens.shape[1]))
        mask = nn.make_causal_mask(tokens)
        h = nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=6)(nn.LayerNorm()(x), mask=mask)
        x = x + nn.Dropout(0.1, deterministic=False)(h)
        x = x + nn.DenseGeneral(8)(nn.gelu(nn.Dense(20)(nn.LayerNorm()(x))))
        return nn.log_softmax(nn.Dense(11)(x))


def test_a_linen_transformer():
    tokens = RNG.integers(0, 11, (3, 6))
    info = describe(bound(Linen(), tokens), tokens)
    assert kinds(info) == (
        "input lookup constant lookup move add norm weight weight weight attention weight dropout add "
        "norm weight activation weight add weight other"
    )
    params = {param.path: param for param in info.params}
    assert params["MultiHeadDotProductAttention_0/query/kernel"].axes == ("in", "out", "out")
    assert params["MultiHeadDotProductAttention_0/out/kernel"].axes == ("in", "in", "out")
    assert params["MultiHeadDotProductAttention_0/out/kernel"].role == "attention"
    assert info.ops[-1].name == "log_softmax"


def _both():
    return nnx.Bidirectional(
        nnx.RNN(nnx.SimpleCell(6, 3, rngs=rngs())), nnx.RNN(nnx.OptimizedLSTMCell(6, 4, rngs=rngs())), rngs=rngs()
    )


def test_recurrent_layers_are_one_step_for_each_direction():
    def build():
        return Net(lambda m, x: m.head(m.both(m.gru(m.lstm(x)))[:, -1]), lstm=nnx.RNN(nnx.LSTMCell(4, 5, rngs=rngs())),
                  gru=nnx.RNN(nnx.GRUCell(5, 6, rngs=rngs())), both=_both(),
                   head=nnx.Linear(7, 2, rngs=rngs()))  # fmt: skip

    info = read(build, normal(2, 6, 4))
    assert kinds(info) == "input recurrent recurrent recurrent recurrent concat move weight"
    assert chain(info, "recurrent") == ["lstm", "gru", "rnn_tanh", "lstm"]
    assert info.ops[4].params == tuple(
        f"both/backward_rnn/cell/{name}" for name in ("dense_i/kernel", "dense_h/kernel", "dense_h/bias")
    )
    assert [recurrent_order(path) for path in info.ops[1].params] == [0] * 4 + [1] * 4 + [2] * 4
    gates = {param.path: param.gates for param in info.params}
    assert (gates["gru/cell/dense_i/kernel"], gates["both/backward_rnn/cell/dense_h/kernel"]) == (3, 4)


def test_linen_recurrent_layers():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.RNN(nn.GRUCell(5))(x)
            return nn.Dense(2)(nn.RNN(nn.OptimizedLSTMCell(7), return_carry=True)(x)[0][1])

    x = normal(2, 6, 4)
    info = describe(bound(Model(), x), x)
    assert kinds(info) == "input recurrent recurrent weight"
    assert chain(info, "recurrent") == ["gru", "lstm"]
    assert info.ops[2].shape == (2, 7)


def test_convolutions_are_one_weight_each_whatever_their_padding():
    def build():
        return nnx.Sequential(
            nnx.Conv(6, 12, (3, 2), feature_group_count=6, rngs=rngs()),
            nnx.Conv(12, 9, (2, 3), feature_group_count=3, padding="CIRCULAR", rngs=rngs()),
            nnx.ConvTranspose(9, 5, (4, 3), strides=(2, 3), rngs=rngs()),
            nnx.ConvTranspose(5, 7, (3, 2), transpose_kernel=True, padding="CIRCULAR", rngs=rngs()),
            nnx.GroupNorm(7, num_groups=7, rngs=rngs()),
            nnx.InstanceNorm(7, rngs=rngs()),
        )

    info = read(build, normal(2, 3, 6, 5, 6))
    assert kinds(info) == "input weight weight weight weight norm norm"
    assert [op.value for op in info.ops if op.kind == "weight"] == pytest.approx([1, 1, 1 / 6, 1])
    assert all(len(op.params) == 2 for op in info.ops if op.kind == "weight")
    assert chain(info, "norm") == ["group", "instance"]


def test_experts_in_raw_parameters():
    def run(m, x):
        shares = jax.nn.softmax(m.route(x))
        h = jax.nn.silu(jnp.einsum("etd,edh->eth", jnp.einsum("te,td->etd", shares, x), m.up[...]))
        return jnp.einsum("eth,ehd->etd", h, m.down[...]).sum(0)

    def build():
        return Net(run, route=nnx.Linear(6, 4, use_bias=False, rngs=rngs()), up=nnx.Param(normal(4, 6, 10)),
                  down=nnx.Param(normal(4, 10, 5)))  # fmt: skip

    info = read(build, normal(7, 6))
    assert kinds(info) == "input weight softmax matmul move weight activation weight sum"
    params = {param.path: param for param in info.params}
    assert params["up"].axes == params["down"].axes == ("batch", "in", "out")
    assert params["up"].role == "dense"
    assert info.ops[2].value == 4


def test_a_mixer_and_what_is_written_out_by_hand():
    def run(m, x):
        centred = x - x.mean(-1, keepdims=True)
        h = centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * m.scale + m.shift
        h = h + jnp.swapaxes(m.tokens(jnp.swapaxes(h, 1, 2)), 1, 2)
        q, k, v = jnp.split(m.packed(h), 3, -1)
        scores = jnp.where(jnp.tril(jnp.ones((7, 7))) > 0, jnp.einsum("bqd,bkd->bqk", q, k) / np.sqrt(6), -jnp.inf)
        e = jnp.exp(scores - scores.max(-1, keepdims=True))
        return (e / e.sum(-1, keepdims=True)) @ v @ m.out + m.bias

    def build():
        return Net(run, scale=nnx.Param(normal(8)), shift=nnx.Param(normal(8)), tokens=nnx.Linear(7, 7, rngs=rngs()),
                  packed=nnx.Linear(8, 18, rngs=rngs()), out=nnx.Param(normal(6, 5)),
                   bias=nnx.Param(normal(5)))  # fmt: skip

    info = read(build, normal(2, 7, 8))
    assert kinds(info) == (
        "input norm move weight move add weight move move move matmul scale move softmax matmul weight"
    )
    assert info.ops[1].params == ("scale", "shift")
    assert info.ops[-1].params == ("out", "bias")
    roles = {param.path: (param.axes, param.role) for param in info.params}
    assert roles["out"] == (("in", "out"), "dense")
    assert (roles["scale"], roles["bias"]) == (((), "norm"), ((), "bias"))


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda x: x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6), ["rms"]),
        (jax.nn.standardize, ["layer"]),
        (lambda x: jax.nn.standardize(x, axis=(0, 1)), ["batch"]),
        (lambda x: jax.nn.standardize(x, axis=1), ["instance"]),
    ],
)
def test_normalisations_written_out_by_hand(function, names):
    info = read(lambda: Net(lambda m, x: function(x), a=nnx.Linear(2, 3, rngs=rngs())), normal(6, 7, 8))
    assert kinds(info) == "input norm"
    assert chain(info, "norm") == names


def test_a_gate_is_no_normalisation():
    """A squeeze-and-excite gate sums and multiplies, but keeps the size of what comes in."""

    def build():
        return Net(lambda m, x: x * jax.nn.sigmoid(x.mean(1, keepdims=True)), a=nnx.Linear(2, 3, rngs=rngs()))

    assert kinds(read(build, normal(4, 64, 5))) == "input mean activation mul"


@pytest.mark.parametrize("module", [nnx, nn, jax.nn])
def test_attention_as_a_function(module):
    def build():
        return Net(lambda m, q, k, v: module.dot_product_attention(q, k, v), a=nnx.Linear(2, 3, rngs=rngs()))

    info = read(build, (normal(2, 5, 3, 4), normal(2, 7, 3, 4), normal(2, 7, 3, 4)))
    assert kinds(info) == "input input input attention"
    assert info.ops[3].inputs == (0, 1, 2)


# ------------------------------------------------------------------------------------------------ stacks of layers
def test_scanned_layers_are_written_out():
    class Step(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return x + nn.Dense(8)(jax.nn.relu(nn.Dense(12)(nn.LayerNorm()(x)))), None

    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x):
            scanned = nn.scan(Step, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
            return scanned()(x, None)[0]

    x = normal(4, 8)
    info = describe(bound(Stack(), x), x)
    assert kinds(info) == "input" + " norm weight activation weight add" * 3
    shapes = {param.shape: param.axes for param in info.params if param.axes}
    assert shapes == {(3, 8, 12): ("batch", "in", "out"), (3, 12, 8): ("batch", "in", "out")}
    assert {op.place for op in info.ops if op.kind == "weight"} == {"ScanStep_0/Dense_0", "ScanStep_0/Dense_1"}


def test_loops_over_time_are_not_read_and_that_is_said():
    def run(m, x):
        step = lambda h, each: ((h := jnp.tanh(each + h @ m.w[...])), h)  # noqa: E731 - a lambda keeps it short
        return jax.lax.scan(step, jnp.zeros(5), x)[1]

    info = read(lambda: Net(run, w=nnx.Param(normal(5, 5))), normal(4, 5))
    assert kinds(info) == "input other"
    assert (info.ops[1].name, info.ops[1].params) == ("scan", ("w",))
    assert info.notes == ("the model: what happens inside of scan is not read.",)


def test_a_weight_that_is_changed_first_is_a_value_and_that_is_said():
    layer = nnx.Linear(5, 4, kernel_init=nnx.initializers.zeros, rngs=rngs())
    info = describe(nnx.WeightNorm(layer, rngs=rngs()), normal(3, 5))
    assert kinds(info) == "input param norm scale matmul param add"
    assert "layer_instance/kernel is changed" in info.notes[0]


def test_derivatives_of_ones_own_and_half_precision_are_seen_through():
    @jax.custom_vjp
    def through(x):
        return jnp.sign(x)

    through.defvjp(lambda x: (through(x), None), lambda _, g: (g,))

    def build():
        return Net(lambda m, x: through(jax.checkpoint(m.a)(x)), a=nnx.Linear(5, 3, dtype=jnp.bfloat16, rngs=rngs()))

    info = read(build, normal(4, 5))
    assert kinds(info) == "input weight activation"
    assert chain(info, "activation") == ["sign"]
    assert info.ops[1].params == ("a/kernel", "a/bias")


def test_every_step_is_in_the_vocabulary_and_comes_after_its_inputs():
    info = read(lambda: Net(lambda m, x: jax.lax.top_k(m.a(x), 2), a=nnx.Linear(5, 3, rngs=rngs())), normal(4, 5))
    assert {op.kind for op in info.ops} <= set(OPS)
    assert all(source < at for at, op in enumerate(info.ops) for source in op.inputs)
    assert [info.ops[at].name for at in info.outputs] == ["top_k", "top_k"]
