"""PyTorch's layouts, read by `fanin.torch.adapter` and measured through the real layers; no two axes are alike.

The oracle: the inputs that move one output are its fan-in, the outputs that one input moves are its fan-out.
"""

import numpy as np
import pytest
import torch
from torch import nn

import fanin.torch as init
from fanin.errors import FaninError, UnknownNameError
from fanin.initializers import draw_param
from fanin.initializers.fans import fans_of
from fanin.records import Init
from fanin.torch.adapter import describe, read, write

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
    return {p.path: (p.role, fans_of(p).fan_in, fans_of(p).fan_out) for p in describe(model).params if p.axes}


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
        "weight_ih_l0": 4, "weight_hh_l0": 4, "weight_hr_l0": 1,
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


def test_a_lazy_model_is_told_to_run_first():
    with pytest.raises(FaninError):
        describe(nn.Sequential(nn.LazyLinear(3)))


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
        params = [param for param in describe(layer).params if param.axes and "." not in param.path]
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
        with pytest.raises((FaninError, RuntimeError)):
            write(layer, {"weight": np.zeros(shape, np.float32)})
        assert torch.equal(layer.weight, before)
