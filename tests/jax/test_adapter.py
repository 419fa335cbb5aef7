"""Flax's layouts, read by `fanin.jax.adapter` and measured through the real layers; and plans, drawn into models.

The oracle of fans: the inputs that move one output are its fan-in, the outputs that one input moves are its fan-out.
"""

import json
import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fanin.errors import FaninError, InvalidValueError, ModelError, UnknownNameError
from fanin.initializers import draw_param
from fanin.initializers.fans import fans_of
from fanin.jax import adapter
from fanin.jax.adapter import describe, fill, filled, values
from fanin.jax.models import variables_of
from fanin.records import Init, ParamInfo, Plan, PlanEntry

RNG = np.random.default_rng(2)
LAYERS = {
    "linear": (lambda: nnx.Linear(7, 5, rngs=nnx.Rngs(0)), (7,), "dense"),
    "general": (lambda: nnx.LinearGeneral((2, 3), (4, 5), axis=(-2, -1), rngs=nnx.Rngs(0)), (2, 3), "dense"),
    "einsum": (lambda: nnx.Einsum("bij,jk->bik", (7, 5), (5,), rngs=nnx.Rngs(0)), (3, 7), "dense"),
    "conv1d": (lambda: nnx.Conv(6, 4, 3, rngs=nnx.Rngs(0)), (11, 6), "conv"),
    "conv2d": (lambda: nnx.Conv(6, 4, (3, 2), rngs=nnx.Rngs(0)), (9, 8, 6), "conv"),
    "grouped": (lambda: nnx.Conv(6, 9, (3, 2), feature_group_count=3, rngs=nnx.Rngs(0)), (9, 8, 6), "conv"),
    "depthwise": (lambda: nnx.Conv(6, 18, (3, 2), feature_group_count=6, rngs=nnx.Rngs(0)), (9, 8, 6), "depthwise"),
    "transposed": (lambda: nnx.ConvTranspose(6, 4, (3, 2), rngs=nnx.Rngs(0)), (9, 8, 6), "transposed_conv"),
    "transposed kernel": (
        lambda: nnx.ConvTranspose(6, 4, (3, 2), transpose_kernel=True, rngs=nnx.Rngs(0)), (9, 8, 6), "transposed_conv",
    ),
}  # fmt: skip


def made(build, draw=RNG.standard_normal):
    """An nnx model with random parameters, made without running its initializers."""
    model = nnx.eval_shape(build)
    for variable in variables_of(model).values():
        variable.set_value(jnp.asarray(draw(variable.shape), variable.get_value().dtype))
    return model


def middle(shape):
    return tuple(size // 2 for size in shape)


@pytest.mark.parametrize("name", LAYERS)
def test_fans_are_those_measured_through_the_layer(name):
    build, shape, role = LAYERS[name]
    model = made(build)
    (param,) = (each for each in describe(model).params if each.axes)
    x = jnp.asarray(RNG.standard_normal((1, *shape)), jnp.float32)
    out = model(x)
    units = (0, *middle(out.shape[1:]))
    row = jax.grad(lambda each: model(each)[units])(x)
    nudged = model(x.at[(0, *middle(shape))].add(0.1))
    fans = fans_of(param)
    assert param.role == role
    assert (fans.fan_in, fans.fan_out) == (np.count_nonzero(row), np.count_nonzero(nudged - out))


def test_the_layouts_of_attention_recurrence_and_tables():
    class Model(nnx.Module):
        def __init__(self):
            self.mix = nnx.MultiHeadAttention(2, 8, qkv_features=6, out_features=5, rngs=nnx.Rngs(0))
            self.lstm = nnx.RNN(nnx.OptimizedLSTMCell(5, 3, rngs=nnx.Rngs(0)))
            self.embed = nnx.Embed(11, 8, rngs=nnx.Rngs(0))
            self.norm = nnx.LayerNorm(8, rngs=nnx.Rngs(0))
            self.batched = nnx.LinearGeneral(3, 4, batch_axis={0: 7}, rngs=nnx.Rngs(0))
            self.head = nnx.List([nnx.Linear(3, 2, rngs=nnx.Rngs(0))])
            self.again = self.embed

    found = {param.path: param for param in describe(nnx.eval_shape(Model)).params}
    assert {path: (param.axes, param.role) for path, param in found.items() if param.axes} == {
        **{f"mix/{name}/kernel": (("in", "out", "out"), "attention") for name in ("query", "key", "value")},
        "mix/out/kernel": (("in", "in", "out"), "attention"),
        "lstm/cell/dense_i/kernel": (("in", "out"), "recurrent"),
        "lstm/cell/dense_h/kernel": (("in", "out"), "recurrent"),
        "again/embedding": (("batch", "out"), "embedding"),
        "batched/kernel": (("batch", "in", "out"), "dense"),
        "head/0/kernel": (("in", "out"), "dense"),
    }
    assert found["lstm/cell/dense_h/kernel"].gates == 4
    assert found["again/embedding"].shared == ("embed/embedding",)
    assert (found["norm/scale"].role, found["norm/bias"].role, found["head/0/bias"].role) == ("norm", "norm", "bias")


def test_the_order_is_that_of_the_definition():
    model = nnx.Sequential(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), nnx.Linear(2, 4, rngs=nnx.Rngs(0)))
    paths = [param.path for param in describe(model).params]
    assert paths == ["layers/0/kernel", "layers/0/bias", "layers/1/kernel", "layers/1/bias"]


def test_a_linen_model_shows_its_layers_only_when_it_runs():
    module = nn.Conv(9, (3, 2), feature_group_count=3)
    model = module.bind(jax.eval_shape(module.init, jax.random.key(0), jnp.ones((1, 9, 8, 6))))
    (still,) = (param for param in describe(model).params if param.path == "kernel")
    assert (still.axes, still.role) == ((), "unknown")
    assert "give an example" in describe(model).notes[0]
    (ran,) = (param for param in describe(model, np.ones((1, 9, 8, 6), np.float32)).params if param.path == "kernel")
    assert (ran.axes, ran.role, ran.groups) == (("spatial", "spatial", "in", "out"), "conv", 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [(nn.Dense(3), "Bind it to its variables"), ("a text", "no model of Flax.*str"), (lambda x: x, "no model of Flax")],
)
def test_what_is_no_model_is_refused(given, message):
    with pytest.raises(ModelError, match=message):
        describe(given)


# -------------------------------------------------------------------------------------------------------- writing
def plan_for(model, inits, seed=7, **scales):
    params = {param.path: param for param in describe(model).params}
    entries = [PlanEntry(params[path], Init(init), "a test", scales=scales.get(path, ())) for path, init in inits]
    return Plan(tuple(entries), seed=seed)


def pair():
    return nnx.Sequential(
        nnx.Linear(5, 7, rngs=nnx.Rngs(0)), nnx.Linear(7, 3, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    )


def test_a_plan_is_drawn_under_the_names_of_the_parameters():
    model = made(pair)
    kept = values(model, "layers/1/bias")
    plan = plan_for(model, [("layers/0/kernel", "he_normal"), ("layers/1/kernel", "orthogonal"),
                            ("layers/0/bias", "ones")])  # fmt: skip
    fill(model, plan)
    first, second = (entry.param for entry in plan.entries[:2])
    np.testing.assert_array_equal(values(model, first.path), draw_param(first, Init("he_normal"), 7))
    rounded = draw_param(second, Init("orthogonal"), 7).astype(jnp.bfloat16)
    np.testing.assert_array_equal(values(model, second.path), rounded.astype(np.float32))
    assert model.layers[1].kernel.get_value().dtype == jnp.bfloat16
    np.testing.assert_array_equal(values(model, "layers/0/bias"), np.ones(7))
    np.testing.assert_array_equal(values(model, "layers/1/bias"), kept)


def test_gates_are_scaled_one_by_one():
    model = made(lambda: nnx.OptimizedLSTMCell(5, 3, rngs=nnx.Rngs(0)))
    info = next(param for param in describe(model).params if param.path == "dense_i/kernel")
    bias = ParamInfo("dense_h/bias", (12,), "float32", ("out",), "bias", gates=4)
    scales = (1.0, 2.0, 0.0, 0.5)
    entries = (PlanEntry(info, Init("he_normal"), "", scales=scales), PlanEntry(bias, Init("ones"), "", scales=scales))
    fill(model, Plan(entries, seed=3))
    plain = draw_param(info, Init("he_normal"), 3)
    for gate, scale in enumerate(scales):
        block = slice(3 * gate, 3 * gate + 3)
        np.testing.assert_array_equal(values(model, "dense_i/kernel")[:, block], plain[:, block] * np.float32(scale))
        np.testing.assert_array_equal(values(model, "dense_h/bias")[block], np.full(3, scale, np.float32))


def test_linen_gets_new_variables_in_the_same_boxes():
    boxed = nn.Partitioned(jnp.zeros((5, 3)), names=("in", None))
    variables = {"params": {"kernel": boxed, "bias": jnp.zeros(3)}, "cache": {"n": jnp.ones(2)}}
    model = nn.Dense(3).bind(variables)
    plan = plan_for(model, [("bias", "ones")])
    kernel = ParamInfo("kernel", (5, 3), "float32", ("in", "out"), "dense")
    result = filled(model, Plan((*plan.entries, PlanEntry(kernel, Init("he_normal"), "")), seed=7))
    assert result["params"]["kernel"].names == ("in", None)
    np.testing.assert_array_equal(result["params"]["kernel"].value, draw_param(kernel, Init("he_normal"), 7))
    np.testing.assert_array_equal(result["params"]["bias"], np.ones(3))
    np.testing.assert_array_equal(result["cache"]["n"], np.ones(2))
    assert not variables["params"]["kernel"].value.any()
    with pytest.raises(ModelError, match="filled"):
        fill(model, plan)


def test_a_plan_that_does_not_fit_changes_nothing():
    model = made(pair)
    before = values(model, "layers/0/kernel")
    good = plan_for(model, [("layers/0/kernel", "he_normal")]).entries[0]

    def entry(path="layers/1/kernel", shape=(7, 3), init="he_normal", **more):
        return PlanEntry(ParamInfo(path, shape, "float32", ("in", "out"), "dense"), Init(init), "", **more)

    for bad, error in (
        (entry(path="layers/1/kernl"), UnknownNameError),
        (entry(shape=(3, 7)), ModelError),
        (entry(init="delta_orthogonal"), FaninError),
        (entry(scales=(1.0, 2.0)), InvalidValueError),
    ):
        with pytest.raises(error):
            fill(model, Plan((good, bad)))
    np.testing.assert_array_equal(values(model, "layers/0/kernel"), before)


def test_an_interrupted_fill_is_taken_back(monkeypatch):
    model = made(pair)
    before = {path: values(model, path) for path in ("layers/0/kernel", "layers/1/kernel")}
    draw, drawn = adapter.draw_law, []

    def interrupted(param, *rest):
        drawn.append(param.path)
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return draw(param, *rest)

    monkeypatch.setattr(adapter, "draw_law", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fill(model, plan_for(model, [(path, "he_normal") for path in before]))
    assert drawn == list(before)
    for path, array in before.items():
        np.testing.assert_array_equal(values(model, path), array)


def test_shapes_alone_become_arrays():
    model = nnx.eval_shape(pair)
    fill(model, plan_for(model, [(f"layers/{at}/{name}", "ones") for at in (0, 1) for name in ("kernel", "bias")]))
    np.testing.assert_array_equal(np.asarray(model(jnp.ones((1, 5))), np.float32), np.full((1, 3), 43.0))


SHARDED = """
import json
import jax, jax.numpy as jnp, numpy as np
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec as P
from fanin.initializers import draw_param
from fanin.jax import adapter
from fanin.records import Init, Plan, PlanEntry

mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
model = nnx.eval_shape(lambda: nnx.OptimizedLSTMCell(6, 4, rngs=nnx.Rngs(0)))
sharding = NamedSharding(mesh, P("a", "b"))
zeros = np.zeros((6, 16), np.float32)
model.dense_i.kernel.set_value(jax.make_array_from_callback((6, 16), sharding, lambda part: zeros[part]))
info = next(p for p in adapter.describe(model).params if p.path == "dense_i/kernel")
sizes = []
draw = adapter.draw_law
def counted(*given):
    drawn = draw(*given)
    sizes.append(drawn.size)
    return drawn
adapter.draw_law = counted
found = {}
for law in ("he_normal", "orthogonal"):
    sizes.clear()
    adapter.fill(model, Plan((PlanEntry(info, Init(law), "", scales=(1.0, 2.0, 3.0, 4.0)),), seed=5))
    array = model.dense_i.kernel.get_value()
    expected = draw_param(info, Init(law), 5) * np.repeat(np.float32([1, 2, 3, 4]), 4)
    found[law] = [np.array_equal(array, expected), array.sharding == sharding, max(sizes)]
print(json.dumps(found))
"""


def test_shards_are_drawn_where_they_lie():
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", SHARDED], capture_output=True, text=True, check=True, env=environment
    )  # fmt: skip
    assert json.loads(done.stdout) == {"he_normal": [True, True, 12], "orthogonal": [True, True, 12]}


def test_init_sends_a_linen_model_to_filled():
    from flax import linen

    import fanin

    module, x = linen.Dense(3), jnp.ones((2, 5))
    bound = module.bind(module.init(jax.random.key(0), x))
    with pytest.raises(ModelError, match=r"filled\(model, plan\) gives new variables"):
        fanin.init(bound, example=x, quiet=True)
