"""PyTorch's layouts, read by `fanin.torch.adapter` and measured through the real layers; no two axes are alike.

The oracle: the inputs that move one output are its fan-in, the outputs that one input moves are its fan-out.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import fanin.torch as init
from fanin.errors import InvalidValueError, ModelError, UnknownNameError
from fanin.initializers import canonical, draw_param
from fanin.initializers.fans import fans_of
from fanin.records import Init, ParamInfo, Plan, PlanEntry
from fanin.torch.adapter import describe, fill, materialise, read, values, write

LAYERS = {
    "linear": (nn.Linear(7, 5), (7,), "dense"),
    "conv1d": (nn.Conv1d(6, 4, 3), (6, 11), "conv"),
    "conv2d": (nn.Conv2d(6, 4, (3, 2)), (6, 11, 10), "conv"),
    "conv3d": (nn.Conv3d(4, 5, (3, 2, 1)), (4, 7, 6, 5), "conv"),
    "dilated": (nn.Conv2d(6, 4, (3, 2), dilation=2), (6, 11, 10), "conv"),
    "grouped1d": (nn.Conv1d(6, 15, 4, groups=3), (6, 11), "conv"),
    "grouped2d": (nn.Conv2d(6, 9, (3, 2), groups=3, dilation=(1, 2)), (6, 11, 10), "conv"),
    "grouped3d": (nn.Conv3d(4, 10, (3, 2, 1), groups=2), (4, 7, 6, 5), "conv"),
    "depthwise1d": (nn.Conv1d(6, 6, 4, groups=6), (6, 11), "depthwise"),
    "depthwise": (nn.Conv2d(6, 18, (3, 2), groups=6), (6, 11, 10), "depthwise"),
    "transposed1d": (nn.ConvTranspose1d(6, 4, 3), (6, 11), "transposed_conv"),
    "transposed2d": (nn.ConvTranspose2d(6, 4, (3, 2), dilation=2), (6, 11, 10), "transposed_conv"),
    "transposed3d": (nn.ConvTranspose3d(4, 5, (3, 2, 1)), (4, 7, 6, 5), "transposed_conv"),
    "transposed grouped1d": (nn.ConvTranspose1d(6, 15, 4, groups=3), (6, 11), "transposed_conv"),
    "transposed grouped2d": (nn.ConvTranspose2d(6, 4, (3, 2), groups=2), (6, 11, 10), "transposed_conv"),
    "transposed depthwise": (nn.ConvTranspose2d(6, 12, (3, 2), groups=6), (6, 11, 10), "transposed_conv"),
}
RNN_AXES = {"RNN": 1, "LSTM": 4, "GRU": 3}


def middle(shape):
    return tuple(size // 2 for size in shape)


def of(model):
    """Path to (role, fan_in, fan_out) of the weights of a model."""
    return {
        p.path: (p.role, fans_of(p).fan_in, fans_of(p).fan_out)
        for p in describe(model).params
        if p.axes and p.role != "bias"
    }


def measured_fans(function, x):
    """How many inputs move the middle output, and how many outputs one input in the middle moves."""
    x = x.clone().requires_grad_()
    out = function(x)
    (row,) = torch.autograd.grad(out[(0, *middle(out.shape[1:]))], x)
    nudge = torch.zeros_like(x)
    nudge[(0, *middle(x.shape[1:]))] = 0.1
    return torch.count_nonzero(row).item(), torch.count_nonzero(function(x + nudge) - out).item()


# ------------------------------------------------------------------------------------------------------ fans
@pytest.mark.parametrize("name", LAYERS)
def test_fans_are_those_measured_through_the_layer(name):
    layer, shape, role = LAYERS[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert of(layer) == {"weight": (role, *measured_fans(layer, x))}


@pytest.mark.parametrize("kind", [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Conv2d])
def test_a_stride_does_not_change_the_fans(kind):
    assert of(kind(6, 4, 4, groups=2, stride=2)) == of(kind(6, 4, 4, groups=2))


def test_one_channel_is_no_depthwise_convolution():
    assert of(nn.Conv2d(1, 4, 3))["weight"] == ("conv", 9, 36)


def test_a_bilinear_unit_sums_over_pairs():
    layer = nn.Bilinear(3, 4, 5, bias=False)
    with torch.no_grad():
        layer.weight.fill_(1)
    assert layer(torch.ones(3), torch.ones(4)).tolist() == [12.0] * 5
    assert of(layer) == {"weight": ("dense", 12, 5)}


def test_embeddings_have_one_input():
    for layer in (nn.Embedding(11, 4), nn.EmbeddingBag(11, 4, mode="sum")):
        assert of(layer) == {"weight": ("embedding", 1, 4)}


@pytest.mark.parametrize("kind", RNN_AXES)
@pytest.mark.parametrize("cell", [False, True], ids=["layer", "cell"])
def test_recurrent_fans_are_those_of_one_gate(kind, cell):
    size, hidden = 7, 5
    layer = getattr(nn, f"{kind}Cell" if cell else kind)(size, hidden)
    x, h = torch.randn(size), torch.randn(hidden)

    def new_state(x, h):
        if cell:
            state = layer(x, (h, h) if kind == "LSTM" else h)
            return state[0] if kind == "LSTM" else state
        state = (h[None], h[None]) if kind == "LSTM" else h[None]
        return layer(x[None], state)[0][0]

    suffix = "" if cell else "_l0"
    assert of(layer) == {
        f"weight_ih{suffix}": ("recurrent", *measured_fans(lambda x: new_state(x, h), x)),
        f"weight_hh{suffix}": ("recurrent", *measured_fans(lambda h: new_state(x, h), h)),
    }
    weights = [param for param in describe(layer).params if param.axes]
    assert {param.gates for param in weights} == {RNN_AXES[kind]}
    assert {param.role for param in describe(layer).params if "bias" in param.path} == {"bias"}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_a_projected_lstm_is_read_from_its_state():
    layer, (x, h, c) = nn.LSTM(7, 5, proj_size=3), (torch.randn(7), torch.randn(3), torch.randn(5))

    def step(x, h, c):
        _, (h, c) = layer(x[None], (h[None], c[None]))
        return h[0], c[0]

    assert of(layer) == {
        "weight_ih_l0": ("recurrent", *measured_fans(lambda x: step(x, h, c)[1], x)),
        "weight_hh_l0": ("recurrent", *measured_fans(lambda h: step(x, h, c)[1], h)),
        "weight_hr_l0": ("recurrent", *measured_fans(lambda c: step(x, h, c)[0], c)),
    }
    assert {p.path: p.gates for p in describe(layer).params if p.axes} == {
        "weight_ih_l0": 4, "weight_hh_l0": 4, "weight_hr_l0": 1, "bias_ih_l0": 4, "bias_hh_l0": 4,
    }  # fmt: skip


def test_stacked_and_bidirectional_layers_feed_each_other():
    found = of(nn.LSTM(7, 5, num_layers=2, bidirectional=True, proj_size=3))
    for direction in ("", "_reverse"):
        assert found[f"weight_ih_l0{direction}"] == ("recurrent", 7, 5)
        assert found[f"weight_ih_l1{direction}"] == ("recurrent", 6, 5)  # both directions, projected
        assert found[f"weight_hh_l1{direction}"] == ("recurrent", 3, 5)
        assert found[f"weight_hr_l1{direction}"] == ("recurrent", 5, 3)
    assert len(found) == 12


@pytest.mark.parametrize("kind", RNN_AXES)
def test_a_subclass_of_a_cell_has_the_gates_of_the_cell(kind):
    own = type("Peephole", (getattr(nn, f"{kind}Cell"),), {})
    assert of(own(7, 5))["weight_ih"] == ("recurrent", 7, 5)


def test_attention_packed_and_separate():
    packed = nn.MultiheadAttention(6, 2, add_bias_kv=True)
    assert of(packed) == {"in_proj_weight": ("attention", 6, 6), "out_proj.weight": ("attention", 6, 6)}
    separate = nn.MultiheadAttention(6, 2, kdim=5, vdim=4)
    assert of(separate) == {
        "q_proj_weight": ("attention", 6, 6),
        "k_proj_weight": ("attention", 5, 6),
        "v_proj_weight": ("attention", 4, 6),
        "out_proj.weight": ("attention", 6, 6),
    }
    query, key, value = torch.randn(1, 6), torch.randn(1, 5), torch.randn(1, 4)  # one key: its weight is 1
    assert measured_fans(lambda v: separate(query, key, v)[0][0], value)[0] == 4


# ---------------------------------------------------------------------------------------------- what is no weight
class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.shift_bias = nn.Parameter(torch.empty(4, 3)), nn.Parameter(torch.empty(4))
        self.register_buffer("count", torch.zeros(2))


def test_norms_and_plain_parameters_are_no_weights():
    model = nn.ModuleDict(
        {
            "batch": nn.BatchNorm2d(4), "instance": nn.InstanceNorm1d(4, affine=True), "layer": nn.LayerNorm([3, 4]),
            "group": nn.GroupNorm(2, 4), "rms": nn.RMSNorm(4), "own": Own(), "prelu": nn.PReLU(4),
        }
    )  # fmt: skip
    assert {param.axes for param in describe(model).params} == {()}
    roles = {param.path: param.role for param in describe(model).params}
    assert {
        roles.pop(f"{norm}.{own}") for norm in ("batch", "instance", "layer", "group") for own in ("weight", "bias")
    } == {"norm"}
    assert roles == {
        "rms.weight": "norm", "own.table": "unknown", "own.shift_bias": "bias", "prelu.weight": "unknown",
    }  # fmt: skip


def test_nested_and_shared_parameters_are_read_once_in_order():
    embedding, head = nn.Embedding(11, 4), nn.Linear(4, 11, bias=False)
    head.weight = embedding.weight
    shared = nn.Linear(4, 4)
    model = nn.Sequential(embedding, nn.ModuleList([shared, nn.Sequential(shared, nn.ReLU(), nn.Linear(4, 4))]), head)
    info = describe(model)
    assert info.framework == "torch"
    assert [p.path for p in info.params] == ["0.weight", "1.0.weight", "1.0.bias", "1.1.2.weight", "1.1.2.bias"]
    assert [p.path for p in info.params] == [name for name, _ in model.named_parameters()]
    assert [p.shape for p in info.params] == [tuple(p.shape) for p in model.parameters()]
    assert info.params[0].role == "embedding"
    assert {p.dtype for p in describe(model.bfloat16()).params} == {"bfloat16"}


def test_every_description_names_each_axis_or_none():
    class Scaled(nn.Linear):
        def __init__(self):
            super().__init__(3, 4)
            self.scale = nn.Parameter(torch.ones(4))

    for param in describe(nn.Sequential(Scaled(), *(layer for layer, *_ in LAYERS.values()))).params:
        assert len(param.axes) in (0, len(param.shape)), param


def test_a_lazy_model_needs_an_example_and_gets_its_parameters_from_it():
    model = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d(), nn.Dropout(), nn.LazyLinear(2))
    with pytest.raises(ModelError, match=r"do not exist yet\. Given: 0\.weight, 0\.bias"):
        describe(model)
    told = [(param.path, param.shape) for param in describe(model, np.ones((7, 5), np.float32)).params]
    assert told == [(path, tuple(each.shape)) for path, each in model.named_parameters()]
    assert told[0] == ("0.weight", (3, 5))
    assert all(module.training for module in model.modules())
    assert model[1].running_mean.tolist() == [0, 0, 0]  # nothing was averaged yet
    assert model[1].num_batches_tracked == 0


@pytest.mark.parametrize("path", ["bias", "norm.weight", "norm.bias", "own.table", "prelu.weight"])
def test_module_is_taken_for_parameters_that_are_no_weights(path):
    """A loop over the modules of a model names the module for each parameter, the biases too."""
    modules = {"": nn.Linear(3, 4), "norm": nn.LayerNorm(4), "own": Own(), "prelu": nn.PReLU(4)}
    prefix, _, own = path.rpartition(".")
    parameter = getattr(modules[prefix], own)
    for function in (init.zeros_, init.ones_, init.normal_):
        expected = function(torch.empty(parameter.shape), seed=1, name="x")
        assert torch.equal(function(parameter, seed=1, name="x", module=modules[prefix]), expected)


# ------------------------------------------------------------------------------------------------------- write
@pytest.mark.parametrize("name", [*LAYERS, "bilinear", "embedding", "lstm", "attention"])
def test_what_is_drawn_for_a_description_is_what_the_functions_fill(name):
    others = {"bilinear": nn.Bilinear(3, 4, 5), "embedding": nn.Embedding(11, 4), "lstm": nn.LSTM(7, 5, proj_size=3),
              "attention": nn.MultiheadAttention(6, 2)}  # fmt: skip
    layer = others[name] if name in others else LAYERS[name][0]
    for law, function in (("glorot_uniform", init.glorot_uniform_), ("orthogonal", init.orthogonal_)):
        params = [param for param in describe(layer).params if len(param.axes) > 1 and "." not in param.path]
        write(layer, {param.path: draw_param(param, Init(law), 5) for param in params})
        for param in params:
            tensor = getattr(layer, param.path)
            written = tensor.detach().clone()
            assert torch.equal(function(tensor, seed=5, name=param.path, module=layer), written)
            assert read(layer, param.path, tensor) == param


def test_write_sets_by_path_and_refuses_the_unknown():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3)).double()
    bias = model[0].bias.detach().clone()
    write(model, {"0.weight": np.full((2, 3), 7, np.float32)})
    assert (model[0].weight == 7).all()
    assert model[0].weight.requires_grad
    assert torch.equal(model[0].bias, bias)
    with pytest.raises(UnknownNameError, match=r"0\.wieght"):
        write(model, {"0.weight": np.zeros((2, 3), np.float32), "0.wieght": np.zeros((2, 3), np.float32)})
    assert (model[0].weight == 7).all()


@pytest.mark.parametrize("turn", ["read-only", "reversed", "transposed"])
def test_write_takes_any_array(turn):
    """Weights of JAX and Keras come as arrays that cannot be written to, slices with any strides."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    given = {"read-only": array.copy(), "reversed": array[::-1, ::-1], "transposed": array.copy("F")}[turn]
    given.flags.writeable = False
    layer = nn.Linear(3, 2)
    write(layer, {"weight": given})
    np.testing.assert_array_equal(layer.weight.detach().numpy(), given)


def test_write_refuses_another_shape():
    layer = nn.Linear(3, 2)
    before = layer.weight.detach().clone()
    for shape in [(3, 2), (6,), (2, 4)]:  # the first two have as many elements, in another order
        with pytest.raises(ModelError, match=r"weight has another shape.*Allowed: \(2, 3\)"):
            write(layer, {"weight": np.zeros(shape, np.float32)})
        assert torch.equal(layer.weight, before)


def test_tied_parameters_are_named_once_with_their_other_paths():
    embedding, head, shared = nn.Embedding(11, 4), nn.Linear(4, 11, bias=False), nn.Linear(4, 4)
    head.weight = embedding.weight
    params = describe(nn.ModuleDict({"a": embedding, "b": shared, "c": nn.Sequential(shared, head)})).params
    assert {each.path: each.shared for each in params} == {
        "a.weight": ("c.1.weight",), "b.weight": ("c.0.weight",), "b.bias": ("c.0.bias",),
    }  # fmt: skip


# ----------------------------------------------------------------------------------------------------- values
def test_values_are_an_array_of_its_own():
    layer = nn.Linear(3, 2)
    for model, dtype in ((layer, np.float32), (nn.Linear(3, 2).double(), np.float64), (layer.bfloat16(), np.float32)):
        found = values(model, "weight")
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, model.weight.detach().double().numpy())
        found[:] = 7
        assert not (model.weight == 7).any()
    with pytest.raises(UnknownNameError, match="wieght"):
        values(layer, "wieght")
    with pytest.raises(ModelError, match="weight"):
        values(nn.Linear(3, 2, device="meta"), "weight")


# ------------------------------------------------------------------------------------------------------- fill
def plan_of(model, init="glorot_uniform", bias="zeros", **given):
    """Every weight gets one initializer, everything else another."""
    return Plan(
        tuple(PlanEntry(each, canonical(init if len(each.axes) > 1 else bias), "") for each in describe(model).params),
        **given,
    )


def several():
    return nn.ModuleDict({
        "conv": nn.ConvTranspose2d(6, 4, (3, 2), groups=2), "lstm": nn.LSTM(7, 5), "norm": nn.LayerNorm(4),
        "attention": nn.MultiheadAttention(6, 2), "low": nn.Linear(7, 5).half(),
    })  # fmt: skip


@pytest.mark.parametrize("init", ["glorot_uniform", "orthogonal", "random_normal(stddev=0.1)"])
def test_fill_draws_what_the_plan_says_under_its_seed(init):
    model, told = several(), []
    plan = plan_of(model, init, "constant(value=0.5)", seed=2**63)
    fill(model, plan, told.append)
    tensors = dict(model.named_parameters())
    for entry in plan.entries:
        tensor = tensors[entry.param.path]
        if len(entry.param.axes) > 1:
            drawn = torch.from_numpy(draw_param(entry.param, entry.init, 2**63)).reshape(tensor.shape)
            assert torch.equal(tensor, drawn.to(tensor.dtype))
        else:
            assert (tensor == 0.5).all()
    assert told == [each.numel() for each in model.parameters()]
    assert all(each.requires_grad for each in model.parameters())


def test_fill_leaves_alone_what_the_plan_does_not_choose():
    model = nn.Linear(3, 2)
    weight, bias = describe(model).params
    before = model.weight.detach().clone()
    fill(model, Plan((PlanEntry(weight, None, ""), PlanEntry(bias, Init("ones"), ""))))
    assert torch.equal(model.weight, before)
    assert (model.bias == 1).all()


def test_each_gate_gets_its_factor():
    model = several()
    entries = {each.path: each for each in describe(model).params}
    weight, bias = entries["lstm.weight_hh_l0"], entries["lstm.bias_ih_l0"]
    factors = (1.0, 2.0, 0.5, 0.0)
    fill(model, Plan((
        PlanEntry(weight, Init("orthogonal"), "", scales=factors), PlanEntry(bias, Init("ones"), "", scales=factors),
    )))  # fmt: skip
    for block, factor in zip(model["lstm"].weight_hh_l0.detach().split(5), factors, strict=True):
        torch.testing.assert_close(block @ block.T, factor**2 * torch.eye(5), atol=1e-5, rtol=0)
    assert model["lstm"].bias_ih_l0.tolist() == [1.0] * 5 + [2.0] * 5 + [0.5] * 5 + [0.0] * 5


def test_gates_of_several_axes_lie_in_the_units_read_as_one():
    """Units (2, 6) in 4 gates are blocks of 3: the first two gates are the first row."""
    model = nn.Module()
    model.weight = nn.Parameter(torch.zeros(2, 3, 6))
    param = ParamInfo("weight", (2, 3, 6), "float32", ("out", "in", "out"), "dense", gates=4)
    fill(model, Plan((PlanEntry(param, Init("ones"), "", scales=(1.0, 2.0, 3.0, 4.0)),)))
    assert model.weight[:, 0].tolist() == [[1.0] * 3 + [2.0] * 3, [3.0] * 3 + [4.0] * 3]
    assert (model.weight == model.weight[:, :1]).all()


def unfit(path, init="he_normal", **changes):
    return lambda param: PlanEntry(replace(param, path=path, **changes), canonical(init), "")


UNFIT = {
    "path": (unfit("lstm.wieght"), UnknownNameError, "lstm.wieght"),
    "shape": (unfit("low.weight", shape=(7, 5)), ModelError, "low.weight"),
    "no fans": (unfit("norm.weight"), InvalidValueError, "norm.weight"),
    "law": (unfit("conv.weight", "identity"), InvalidValueError, "identity"),
    "gates": (lambda param: PlanEntry(param, Init("ones"), "", scales=(1.0,)), InvalidValueError, "factor for each"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_plan_that_does_not_fit_writes_nothing(name):
    model = several()
    make, kind, words = UNFIT[name]
    good = plan_of(model, "ones", "ones").entries
    paths = {"path": "lstm.weight_hh_l0", "shape": "low.weight", "no fans": "norm.weight", "law": "conv.weight",
             "gates": "lstm.weight_hh_l0"}  # fmt: skip
    wrong = make(next(each.param for each in good if each.param.path == paths[name]))
    before = {path: each.detach().clone() for path, each in model.named_parameters()}
    with pytest.raises(kind, match=words):
        fill(model, Plan((*good, wrong)))
    assert all(torch.equal(each, before[path]) for path, each in model.named_parameters())


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_fill_that_is_broken_off_is_undone(error):
    model = several()
    before = {path: each.detach().clone() for path, each in model.named_parameters()}
    calls = []

    def progress(count):
        calls.append(count)
        if len(calls) == 4:
            raise error

    with pytest.raises(error):
        fill(model, plan_of(model, "ones", "ones"), progress)
    assert all(torch.equal(each, before[path]) for path, each in model.named_parameters())


def test_integers_are_refused():
    model = nn.Module()
    model.counts = nn.Parameter(torch.zeros(3, dtype=torch.int64), requires_grad=False)
    with pytest.raises(ModelError, match="int64"):
        fill(model, plan_of(model))


def test_a_model_on_the_meta_device_is_filled_like_any_other():
    model, other = several().to("meta"), several()
    fill(model, plan_of(other))
    fill(other, plan_of(other))
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_the_lengths_of_weight_normalisation_follow_what_is_drawn():
    model = nn.utils.parametrizations.weight_norm(nn.Linear(4, 6))
    entries = {each.path: each for each in describe(model).params}
    direction, lengths = (entries[f"parametrizations.weight.original{index}"] for index in (1, 0))
    assert lengths.role == "unknown"
    fill(model, Plan((PlanEntry(direction, Init("he_normal"), ""),), seed=3))
    torch.testing.assert_close(model.weight, torch.from_numpy(draw_param(direction, Init("he_normal"), 3)))
    fill(model, Plan((PlanEntry(direction, Init("he_normal"), ""), PlanEntry(lengths, Init("ones"), "")), seed=3))
    torch.testing.assert_close(model.weight.norm(dim=1), torch.ones(6))


# ------------------------------------------------------------------------------------------------ materialise
def test_a_model_on_the_meta_device_gets_its_memory():
    with torch.device("meta"):
        model = nn.ModuleDict(
            {"a": nn.Linear(4, 4), "b": nn.BatchNorm2d(3), "lstm": nn.LSTM(4, 5), "c": nn.Linear(4, 4)}
        )
    model["c"].weight = model["a"].weight
    model["a"].bias.requires_grad_(False)
    model["here"] = nn.Linear(2, 2)
    here = model["here"].weight
    materialise(model)
    assert {each.device.type for each in (*model.parameters(), *model.buffers())} == {"cpu"}
    assert model["c"].weight is model["a"].weight
    assert model["here"].weight is here
    assert not model["a"].bias.requires_grad
    assert model["b"].running_var.tolist() == [1.0] * 3
    assert model["b"].running_mean.tolist() == [0.0] * 3
    assert model["b"].num_batches_tracked.item() == 0
    fill(model, plan_of(model))
    assert model["lstm"](torch.zeros(2, 4))[0].shape == (2, 5)


def test_a_buffer_that_nobody_knows_is_named_and_nothing_changes():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        model[0].register_buffer("table", torch.zeros(3))
    with pytest.raises(ModelError, match=r"0\.table"):
        materialise(model)
    assert {each.device.type for each in (*model.parameters(), *model.buffers())} == {"meta"}
