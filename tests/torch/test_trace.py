"""What a run of a model tells: its steps, the axes of raw parameters, the weights of attention; nothing changes."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fanin.activations import ACTIVATIONS
from fanin.errors import ModelError
from fanin.initializers.fans import fans_of
from fanin.records import OPS
from fanin.torch.adapter import describe
from fanin.torch.fused import FUSED
from fanin.torch.layouts import read_all
from fanin.torch.record import Recorder
from fanin.torch.trace import info_of, recording, trace_real
from tests.torch.networks import NETWORKS, RMSNorm, numbers


class Own(nn.Module):
    """A function of the module and its inputs, with raw parameters."""

    def __init__(self, function, **parameters):
        super().__init__()
        self.function = function
        for name, value in parameters.items():
            setattr(self, name, nn.Parameter(value))

    def forward(self, *given):
        return self.function(self, *given)


def steps(model, *example):
    """Kinds of the steps, activations and norms by name, without what only moves."""
    info = describe(model, example)
    return [op.name if op.kind in ("activation", "norm") else op.kind for op in info.ops if op.kind != "move"]


def param(model, path, *example):
    return next(each for each in describe(model, example).params if each.path == path)


# --------------------------------------------------------------------------------------------- whole networks
ATTENTION = "weight attention weight"
BLOCK = f"{ATTENTION} dropout add layer weight relu dropout weight dropout add layer"
STEPS = {
    "vgg": "input weight relu weight relu max dropout weight relu weight",
    "resnet": "input weight batch relu weight batch add relu weight batch relu weight batch weight add relu weight",
    "densenet": "input batch relu weight concat batch relu weight concat mean",
    "mobile": "input weight batch relu6 weight hard_silu weight mean weight",
    "unet": "input weight leaky_relu(0.2) max weight silu weight concat weight",
    "lstm": "input lookup recurrent recurrent weight",
    "gru": "input lookup recurrent recurrent weight",
    "post-norm": f"input {BLOCK} {BLOCK}",
    "pre-norm": f"input layer {ATTENTION} dropout add layer weight relu dropout weight dropout add",
    "decoder": f"input {ATTENTION} dropout add layer input weight {ATTENTION} dropout add layer weight relu dropout "
               "weight dropout add layer",
    "gpt": "input lookup param add layer weight matmul scale softmax matmul weight add layer weight gelu_tanh weight "
           "dropout add weight",
    "experts": "input weight relu weight weight softmax matmul",
    "vision": f"input weight param concat param add layer {ATTENTION} dropout add layer weight gelu dropout weight "
              "dropout add weight",
    "mixer": "input layer weight param mul add weight gelu add mean",
    "graph": "input input matmul weight elu matmul weight",
    "siren": "input weight sin(x * 30) weight",
    "gated": "input rms weight silu weight mul weight param mul add",
    "twice": "input weight tanh weight tanh input weight sum",
}  # fmt: skip
"""Read off the code of the networks by hand."""


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_read_step_by_step(name):
    build, example = NETWORKS[name]
    info = describe(build(), example)
    found = [op.name if op.kind in ("activation", "norm") else op.kind for op in info.ops if op.kind != "move"]
    assert " ".join(found) == STEPS[name]
    assert not info.notes
    known = {each.path for each in info.params}
    for index, op in enumerate(info.ops):
        assert op.kind in OPS
        assert all(source < index for source in op.inputs)
        assert set(op.params) <= known
    assert {path for op in info.ops for path in op.params} == known


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_alone_tell_what_values_tell(name):
    build, example = NETWORKS[name]
    model = build()
    abstract = describe(model, example)
    real, _ = info_of(model, read_all(model), trace_real(model, example))
    assert abstract == real


@pytest.mark.parametrize("name", NETWORKS)
def test_a_model_on_the_meta_device_is_read_alike(name):
    build, example = NETWORKS[name]
    model = build()
    info = describe(model, example)
    given = {key: each.to("meta") for key, each in example.items()} if isinstance(example, dict) else example
    with torch.device("meta"):
        abstract = build()
    assert describe(abstract, given) == info


@pytest.mark.parametrize("name", NETWORKS)
def test_recording_changes_no_output(name):
    build, example = NETWORKS[name]
    model = build().eval()
    args = example if isinstance(example, tuple) else () if isinstance(example, dict) else (example,)
    kwargs = example if isinstance(example, dict) else {}
    with torch.no_grad():
        plain = model(*args, **kwargs)
        with recording(Recorder(model, FUSED)):
            recorded = model(*args, **kwargs)
    torch.testing.assert_close(recorded, plain)


def test_outputs_are_the_steps_that_are_returned():
    info = describe(*(each() if callable(each) else each for each in NETWORKS["twice"]))
    assert [info.ops[index].kind for index in info.outputs] == ["weight", "sum", "activation"]
    assert [op.place for op in info.ops if op.kind == "weight"] == ["layer", "layer", "pair"]


# ------------------------------------------------------------------------------------------ nothing is changed
class Moody(nn.Module):
    """Changes all that a run can change: buffers, attributes, random states, its input."""

    def __init__(self, *, fails):
        super().__init__()
        self.layer, self.norm, self.fails = nn.Linear(3, 3), nn.BatchNorm1d(3), fails
        self.register_buffer("count", torch.zeros(2))
        self.seen, self.last, self.calls = [], None, 0

    def forward(self, x):
        x.mul_(2)
        self.count += 1
        self.calls += 1
        self.last = self.norm(self.layer(x)) * torch.rand(3) * random.random() * np.random.rand()
        self.seen.append(self.last)
        self.extra = 1
        if self.fails and not x.is_meta:
            raise ValueError("no\nmore")
        return self.last if float(self.count.sum()) > 0 else x  # asks for a value, so the example itself is run


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_model_stays_as_it_was(fails, training):
    torch.manual_seed(0)
    model = Moody(fails=fails).train(training)
    model.layer.weight.grad = torch.ones(3, 3)
    before, attributes = copy.deepcopy(model.state_dict()), set(vars(model))
    x = numbers(5, 3)
    given = x.clone()
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    if fails:
        with pytest.raises(ModelError, match="could not be run on the example") as caught:
            describe(model, x)
        assert "ValueError: no" in str(caught.value)
        assert "shapes" in str(caught.value)
    else:
        assert describe(model, x).ops
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())
    assert set(vars(model)) == attributes
    assert (model.seen, model.last, model.calls, model.training) == ([], None, 0, training)
    assert torch.equal(x, given)
    assert model.layer.weight.grad.eq(1).all()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("old", [False, True])
def test_a_weight_made_at_each_call_leaves_no_trace(old):
    kind = nn.utils.weight_norm if old else nn.utils.parametrizations.weight_norm
    with pytest.warns(FutureWarning) if old else torch.no_grad():
        layer = kind(nn.Linear(4, 3))
    direction = "weight_v" if old else "parametrizations.weight.original1"
    plain = layer(numbers(5, 4))
    info = describe(layer, numbers(5, 4))
    assert torch.equal(layer(numbers(5, 4)), plain)
    assert layer.weight.device.type == "cpu"
    assert [op.params for op in info.ops if op.kind == "weight"] == [(direction, "bias")]
    roles = {each.path: (each.role, each.axes) for each in info.params}
    assert roles.pop(direction) == ("dense", ("out", "in"))
    assert {role for role, _ in roles.values()} == {"unknown", "bias"}
    assert any(direction in note and "weight normalisation" in note for note in info.notes)


def test_spectral_norm_and_standardised_weights_are_weights():
    spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3))
    assert steps(spectral, numbers(5, 4)) == ["input", "weight"]
    assert any("SpectralNorm" in note for note in describe(spectral).notes)

    def standardised(self, x):
        weight = (self.w - self.w.mean((1, 2), keepdim=True)) / (self.w.std((1, 2), keepdim=True) + 1e-5)
        return functional.conv1d(x, weight)

    model = Own(standardised, w=numbers(3, 5, 2))
    assert steps(model, numbers(2, 5, 9)) == ["input", "weight"]
    assert param(model, "w", numbers(2, 5, 9)).axes == ("out", "in", "spatial")


def test_an_orthogonal_weight_is_named_as_not_understood():
    info = describe(nn.utils.parametrizations.orthogonal(nn.Linear(4, 3)), numbers(5, 4))
    assert info.ops[-1].kind == "other"
    assert any("linear" in note and "not understood" in note for note in info.notes)


# ---------------------------------------------------------------------------------------------- activations
NAMED = {
    nn.ReLU: "relu", nn.ReLU6: "relu6", nn.LeakyReLU: "leaky_relu", nn.ELU: "elu", nn.SELU: "selu", nn.CELU: "celu",
    nn.GELU: "gelu", nn.SiLU: "silu", nn.Mish: "mish", nn.Softplus: "softplus", nn.Softsign: "softsign",
    nn.Tanh: "tanh", nn.Hardtanh: "hard_tanh", nn.Sigmoid: "sigmoid", nn.Hardsigmoid: "hard_sigmoid",
    nn.Hardswish: "hard_silu",
}  # fmt: skip
OTHERS = [nn.LeakyReLU(0.2), nn.ELU(0.5), nn.Softplus(2.0), nn.Hardtanh(-2, 3), nn.Softshrink(), nn.Hardshrink(0.3),
          nn.Tanhshrink(), nn.LogSigmoid(), nn.Threshold(0.1, 0.2), nn.PReLU(), nn.RReLU().eval()]  # fmt: skip
Z = np.linspace(-5, 5, 41)


@pytest.mark.parametrize("kind", NAMED, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("inplace", [False, True])
def test_activations_of_the_table_have_their_name(kind, inplace):
    try:
        module = kind(inplace=True) if inplace else kind()
    except TypeError:
        pytest.skip("never overwrites its input")
    info = describe(nn.Sequential(nn.Linear(3, 4), module, nn.Linear(4, 2)), numbers(5, 3))
    assert [op.kind for op in info.ops] == ["input", "weight", "activation", "weight"]
    assert (info.ops[2].name, info.ops[2].function) == (NAMED[kind], None)
    np.testing.assert_allclose(ACTIVATIONS[NAMED[kind]].phi(Z), kind()(torch.tensor(Z)).detach(), atol=1e-6)


@pytest.mark.parametrize("module", OTHERS, ids=repr)
def test_other_activations_come_with_a_function(module):
    (op,) = [op for op in describe(module, numbers(5, 3)).ops if op.kind == "activation"]
    assert op.name not in ACTIVATIONS
    np.testing.assert_allclose(op.function(Z), module.double()(torch.tensor(Z)).detach(), atol=1e-12)
    assert op.function(Z[:, None]).shape == (41, 1)


SPELLED = [
    functional.relu, torch.relu, torch.Tensor.relu, torch.Tensor.relu_, functional.relu_, torch.ops.aten.relu.default,
    lambda x: functional.relu(x, inplace=True), lambda x: x.clamp(min=0), lambda x: torch.clamp_min(x, 0),
    lambda x: torch.maximum(x, torch.tensor(0.0)), lambda x: torch.where(x > 0, x, 0.0),
    lambda x: x * (x > 0), lambda x: x.masked_fill(x < 0, 0.0), lambda x: (x + x.abs()) / 2,
]  # fmt: skip


@pytest.mark.parametrize("function", SPELLED, ids=range(len(SPELLED)))
def test_relu_is_known_however_it_is_written(function):
    assert steps(Own(lambda self, x: function(x @ self.w), w=numbers(3, 4)), numbers(5, 3)) == [
        "input",
        "weight",
        "relu",
    ]


CHAINS = {
    "x * sigmoid(x * 1.702)": lambda x: x * torch.sigmoid(1.702 * x),
    "gelu_tanh": lambda x: 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "gelu": lambda x: x * 0.5 * (1.0 + torch.erf(x / 2**0.5)),
    "relu(x) ** 2": lambda x: functional.relu(x) ** 2,
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "1 - x": lambda x: 1 - x,
    "mish": lambda x: x.mul(functional.softplus(x).tanh()),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_is_one_activation(name):
    info = describe(Own(lambda _, x: CHAINS[name](x)), numbers(5, 3))
    assert [(op.kind, op.name) for op in info.ops] == [("input", ""), ("activation", name)]
    function = info.ops[1].function or ACTIVATIONS[name].phi
    np.testing.assert_allclose(function(Z), CHAINS[name](torch.tensor(Z)), atol=1e-9)


def test_a_number_scales_and_a_chain_begins_at_what_is_needed_anyway():
    scaled = describe(Own(lambda _, x: -(x * 6) / torch.tensor(4.0)), numbers(5, 3)).ops
    assert [(op.kind, op.value) for op in scaled[1:]] == [("scale", -1.5)]

    def branches(self, x):
        h = torch.tanh(x)
        return 2 * h + (h @ self.w)

    ops = describe(Own(branches, w=numbers(3, 3)), numbers(5, 3)).ops
    assert [(op.kind, op.inputs) for op in ops[1:]] == [
        ("activation", (0,)), ("scale", (1,)), ("weight", (1,)), ("add", (2, 3)),
    ]  # fmt: skip


def test_a_buffer_of_one_number_is_a_number():
    model = Own(lambda self, x: x * self.gain)
    model.register_buffer("gain", torch.tensor([3.0]))
    assert [(op.kind, op.value) for op in describe(model, numbers(5, 3)).ops] == [("input", 1.0), ("scale", 3.0)]


# -------------------------------------------------------------------------------------------- raw parameters
RAW = {
    "x @ w": (lambda x, w: x @ w, (4, 6)),
    "linear": (functional.linear, (6, 4)),
    "transposed": (lambda x, w: x @ w.t(), (6, 4)),
    "heads": (lambda x, w: x @ w.permute(1, 0, 2).reshape(4, 6), (2, 4, 3)),
    "heads apart": (lambda x, w: torch.einsum("...i,hik->...hk", x, w), (2, 4, 3)),
    "packed": (lambda x, w: x @ w[:, 3:9], (4, 9)),
    "flat": (lambda x, w: x @ w.view(4, 6), (24,)),
    "chosen": (lambda x, w: functional.linear(x, w[1]), (3, 6, 4)),
    "addmm": (lambda x, w: torch.addmm(torch.zeros(6), x, w), (4, 6)),
    "left": (lambda x, w: (w @ x.T).T, (6, 4)),
    "einsum": (lambda x, w: torch.einsum("bi,io", x, w), (4, 6)),
    "one unit": (lambda x, w: x @ w.T, (1, 4)),
}
AXES = {
    "x @ w": ("in", "out"), "linear": ("out", "in"), "transposed": ("out", "in"), "heads": None,
    "heads apart": ("out", "in", "out"), "packed": ("in", "out"), "flat": None, "chosen": ("batch", "out", "in"),
    "addmm": ("in", "out"), "left": ("out", "in"), "einsum": ("in", "out"), "one unit": ("out", "in"),
}  # fmt: skip
"""None where the parameter is copied into another layout or has axes that mean two things: that is not guessed."""


@pytest.mark.parametrize("name", RAW)
def test_axes_come_from_the_place_in_a_product(name):
    function, shape = RAW[name]
    found = param(Own(lambda self, x: function(x, self.w), w=numbers(*shape)), "w", numbers(7, 4))
    assert found.shape == shape
    assert (found.role, found.axes) == (("unknown", ()) if AXES[name] is None else ("dense", AXES[name]))


def test_stacks_of_weights_are_a_batch():
    model, example = Own(lambda self, x: torch.bmm(x, self.w), w=numbers(3, 4, 6)), numbers(3, 7, 4)
    assert param(model, "w", example).axes == ("batch", "in", "out")
    model = Own(lambda self, x: torch.einsum("etd,edf->etf", x, self.w), w=numbers(3, 4, 6))
    assert param(model, "w", example).axes == ("batch", "in", "out")


CONVS = {
    "conv": (lambda x, w: functional.conv1d(x, w), (4, 6, 2), "conv", 1),
    "grouped": (lambda x, w: functional.conv1d(x, w, groups=2), (4, 3, 2), "conv", 2),
    "depthwise": (lambda x, w: functional.conv1d(x, w, groups=6), (12, 1, 2), "depthwise", 6),
    "transposed": (lambda x, w: functional.conv_transpose1d(x, w), (6, 5, 2), "transposed_conv", 1),
    "transposed grouped": (lambda x, w: functional.conv_transpose1d(x, w, groups=2), (6, 5, 2), "transposed_conv", 1),
}


@pytest.mark.parametrize("name", CONVS)
def test_raw_kernels_have_the_fans_that_are_measured(name):
    function, shape, role, groups = CONVS[name]
    weight, x = numbers(*shape), numbers(1, 6, 9)
    found = param(Own(lambda self, x: function(x, self.w), w=weight), "w", x)
    x.requires_grad_()
    out = function(x, weight)
    (row,) = torch.autograd.grad(out[0, 0, 4], x)
    nudge = torch.zeros_like(x)
    nudge[0, 0, 4] = 1
    reached = torch.count_nonzero((function(x + nudge, weight) - out).abs() > 1e-6).item()
    assert (found.role, found.groups) == (role, groups)
    assert (fans_of(found).fan_in, fans_of(found).fan_out) == (torch.count_nonzero(row).item(), reached)


def test_strides_of_transposed_convolutions_are_told():
    info = describe(nn.ConvTranspose2d(3, 5, 4, stride=(2, 3)), numbers(2, 3, 6, 6))
    assert info.ops[1].value == pytest.approx(1 / 6)
    out = nn.functional.conv_transpose2d(torch.ones(1, 1, 40, 40), torch.ones(1, 1, 4, 4), stride=(2, 3))
    assert out[0, 0, 20:50, 20:50].mean() == pytest.approx(16 / 6, rel=0.02)  # terms that a unit really sums


def test_a_bias_that_is_added_belongs_to_the_weight():
    model = Own(lambda self, x: x @ self.w + self.shift, w=numbers(3, 4), shift=numbers(4))
    info = describe(model, numbers(5, 3))
    assert [op.params for op in info.ops] == [(), ("w", "shift")]
    assert {each.path: each.role for each in info.params} == {"w": "dense", "shift": "bias"}
    table = Own(lambda self, x: x @ self.w + self.places, w=numbers(3, 4), places=numbers(5, 4))
    assert steps(table, numbers(5, 3)) == ["input", "weight", "param", "add"]


def test_a_weight_that_the_model_scales_is_followed_by_the_scale():
    model = Own(lambda self, x: functional.linear(x, self.w * 0.3, self.b), w=numbers(4, 3), b=numbers(4))
    info = describe(model, numbers(5, 3))
    assert [(op.kind, op.value) for op in info.ops if op.kind in ("weight", "scale", "add")] == [
        ("weight", 1.0), ("scale", 0.3), ("add", 1.0),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------- attention
def heads(x, count):
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


class Attention(nn.Module):
    """Queries of 4 heads, keys and values of 2; packed in one weight, or three."""

    def __init__(self, way, *, rotary=False):
        super().__init__()
        self.way, self.rotary = way, rotary
        self.qkv, self.out = nn.Linear(8, 16, bias=False), nn.Linear(8, 8)
        self.q, self.k, self.v = nn.Linear(8, 8), nn.Linear(8, 4), nn.Linear(8, 4)

    def turned(self, x):
        if not self.rotary:
            return x
        angle = torch.arange(x.shape[2]).float()[:, None] * torch.tensor([1.0, 0.1])
        one, two = x.chunk(2, -1)
        return x * angle.cos() + torch.cat((-two, one), -1) * angle.sin()

    def forward(self, x):
        packed = self.qkv(x).split([8, 4, 4], -1) if self.way == "packed" else (self.q(x), self.k(x), self.v(x))
        q, k, v = (self.turned(heads(each, count)) for each, count in zip(packed, (4, 2, 2), strict=True))
        if self.way == "fused":
            mixed = functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        else:
            k, v = (each.repeat_interleave(2, 1) for each in (k, v))
            mask = torch.full((5, 5), float("-inf")).triu(1)
            mixed = functional.dropout(((q @ k.mT) * 0.7 + mask).softmax(-1), 0.2) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("way", ["packed", "fused", "by hand"])
def test_weights_around_an_attention_have_its_role(way, rotary):
    model = Attention(way, rotary=rotary)
    info = describe(model, numbers(2, 5, 8))
    roles = {each.path: (each.role, each.gates) for each in info.params if "weight" in each.path}
    used = ["qkv"] if way == "packed" else ["q", "k", "v"]
    for name in ("q", "k", "v", "qkv", "out"):
        role = "attention" if name in (*used, "out") else "dense"
        assert roles[f"{name}.weight"] == (role, 1)  # the parts are not equal
    kinds = [op.kind for op in info.ops if op.kind not in ("move", "weight")]
    assert kinds == [
        "input",
        *(["attention"] if way == "fused" else ["matmul", "scale", "softmax", "dropout", "matmul"]),
    ]


PACKED = {
    "blocks": (lambda x: x.split(6, -1), 3), "views": (lambda x: x.view(2, 5, 3, 6).unbind(2), 3),
    "by head": (lambda x: x.view(2, 5, 2, 9).chunk(3, -1), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", PACKED)
def test_only_blocks_side_by_side_are_gates(name):
    """In some models the queries, keys and values of one head lie together: then there are no three blocks."""
    cut, gates = PACKED[name]

    def attend(self, x):
        q, k, v = (each.reshape(2, 5, 2, 3).transpose(1, 2) for each in cut(x @ self.w + self.b))
        return functional.scaled_dot_product_attention(q, k, v)

    info = describe(Own(attend, w=numbers(6, 18), b=numbers(18)), numbers(2, 5, 6))
    weight, bias = info.params
    assert (weight.role, weight.axes, weight.gates) == ("attention", ("in", "out"), gates)
    assert (bias.role, bias.axes, bias.gates) == ("bias", ("out",) if gates > 1 else (), gates)


# ------------------------------------------------------------------------------------------- norms by hand
def layer_norm(self, x):
    return (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, unbiased=False, keepdim=True) + 1e-5) * self.g + self.b


NORMS = {
    "layer": (layer_norm, numbers(5, 6), ["layer"], ("g", "b")),
    "std": (lambda _, x: (x - x.mean(-1, keepdim=True)) / (x.std(-1, correction=0, keepdim=True) + 1e-6),
            numbers(5, 6), ["layer"], ()),
    "rms": (lambda self, x: self.g * (x * torch.rsqrt((x**2).mean(-1, keepdim=True) + 1e-6)), numbers(5, 6),
            ["rms"], ("g",)),
    "channels": (lambda _, x: (x - x.mean(1, True)) / (x - x.mean(1, True)).pow(2).mean(1, True).add(1e-6).sqrt(),
                 numbers(2, 6, 4, 3), ["layer"], ()),
    "instance": (lambda _, x: (x - x.mean((2, 3), True)) * (x.var((2, 3), keepdim=True) + 1e-6).rsqrt(),
                 numbers(2, 3, 9, 9), ["instance"], ()),
    "length": (lambda _, x: functional.normalize(x, dim=-1), numbers(5, 6), ["rms", "scale"], ()),
    "functional": (lambda self, x: functional.rms_norm(x, (6,), self.g), numbers(5, 6), ["rms"], ("g",)),
    "softmax": (lambda _, x: (x - x.amax(-1, True)).exp() / (x - x.amax(-1, True)).exp().sum(-1, True), numbers(5, 6),
                ["softmax"], ()),
    "no norm": (lambda _, x: x / (1 + x.abs().mean(-1, keepdim=True)), numbers(5, 6), None, ()),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMS)
def test_norms_are_known_by_what_they_compute(name):
    function, example, kinds, used = NORMS[name]
    model = Own(function, g=torch.ones(6), b=torch.zeros(6))
    found = steps(model, example)
    if kinds is None:
        assert found[-1] == "other"
        assert describe(model, example).notes
        return
    assert found == ["input", *kinds]
    info = describe(model, example)
    assert info.ops[1].params == used
    assert {each.role for each in info.params if each.path in used} <= {"norm"}
    if "scale" in kinds:
        assert info.ops[-1].value == pytest.approx(6**-0.5, rel=1e-3)


def test_a_norm_in_low_precision_is_known():
    assert steps(RMSNorm(6).bfloat16(), numbers(5, 6).bfloat16()) == ["input", "rms"]


# ----------------------------------------------------------------------------------- sums, masks, other steps
SINGLE = {
    "mean": (lambda x: x.mean(1), "mean", 6), "all": (lambda x: x.sum(), "sum", 30),
    "pool": (lambda x: functional.avg_pool1d(x[None], 3), "mean", 3),
    "max": (lambda x: x.max(dim=1).values, "max", 6),
    "adaptive": (lambda x: functional.adaptive_max_pool1d(x, 2), "max", 3),
    "softmax": (lambda x: functional.softmax(x, dim=0), "softmax", 5),
    "log_softmax": (lambda x: x.log_softmax(-1), "softmax", 6),
    "dropout": (lambda x: functional.dropout(x, 0.3, training=False), "dropout", 0.3),
    "maximum": (lambda x: torch.maximum(x[:, :3], x[:, 3:]), "max", 2),
    "einsum": (lambda x: torch.einsum("ij->i", x), "sum", 6),
    "outer": (lambda x: torch.einsum("ij,kj->ik", x, x), "matmul", 6),
    "cat": (lambda x: torch.cat([x, x.tanh()]), "concat", 1), "product": (lambda x: x[:, :3] * x[:, 3:], "mul", 1),
    "difference": (lambda x: torch.sub(x[:, :3], x[:, 3:]), "add", 1),
}  # fmt: skip
MOVES = {
    "view": lambda x: x.view(-1), "pad": lambda x: functional.pad(x, (1, 1)), "roll": lambda x: x.roll(1, 0),
    "cast": lambda x: x.double().to(torch.float32), "mask": lambda x: x.masked_fill(torch.eye(5, 6) > 0, 0.0),
    "times mask": lambda x: x * (torch.eye(5, 6) > 0).float(),
    "where": lambda x: torch.where(torch.eye(5, 6) > 0, x, 0.0),
    "zeros": lambda x: torch.cat([x, torch.zeros(1, 6)]), "one": lambda x: x * 1.0, "shift": lambda x: x[1:, ::2],
    "larger": lambda x: functional.interpolate(x[None], scale_factor=2), "same": lambda x: x.contiguous(),
    "scatter": lambda x: torch.zeros(7, 6).index_add_(0, torch.arange(5), x), "p": lambda x: functional.dropout(x, 0.0),
}  # fmt: skip


@pytest.mark.parametrize("name", SINGLE)
def test_single_steps(name):
    function, kind, value = SINGLE[name]
    op = describe(Own(lambda _, x: function(x)), numbers(5, 6)).ops[-1]
    assert (op.kind, op.value) == (kind, pytest.approx(value))


@pytest.mark.parametrize("name", MOVES)
def test_what_leaves_values_as_they_are_is_a_move(name):
    ops = describe(Own(lambda _, x: MOVES[name](x)), numbers(5, 6)).ops
    assert [op.kind for op in ops] == ["input", "move"]


@pytest.mark.parametrize(("divided", "kind", "value"), [
    (lambda total, count: total / count.clamp(min=1), "mean", 6), (lambda total, count: total / count.sqrt(), "mul", 1),
    (lambda total, count: total * count, "mul", 1),
], ids=["count", "root", "times"])  # fmt: skip
def test_a_sum_over_what_is_not_masked_is_a_mean_once_it_is_divided(divided, kind, value):
    def forward(self, ids):
        mask = (ids != 0).float()[..., None]
        return divided((self.table[ids] * mask).sum(1), mask.sum(1))

    op = describe(Own(forward, table=numbers(9, 4)), torch.arange(30).view(5, 6) % 9).ops[-1]
    assert (op.kind, op.value) == (kind, pytest.approx(value))


def test_a_position_table_is_added_and_a_mask_is_not():
    places = Own(lambda _, x: x + torch.arange(30.0).view(5, 6).sin())
    assert steps(places, numbers(5, 6)) == ["constant", "input", "add"]
    masked = Own(lambda _, x: (x + torch.full((5, 6), float("-inf")).triu(1)).softmax(-1))
    assert steps(masked, numbers(5, 6)) == ["input", "softmax"]


def test_an_attention_mask_that_is_handed_in_is_a_mask():
    def forward(self, x, mask):
        return (x @ self.w + (1.0 - mask[:, None].float()) * -1e9).softmax(-1)

    assert steps(Own(forward, w=numbers(6, 6)), numbers(5, 6), torch.ones(5, dtype=torch.long)) == [
        "input", "weight", "softmax",
    ]  # fmt: skip


@pytest.mark.parametrize("function", [torch.matmul, torch.sparse.mm])
def test_a_sparse_matrix_that_mixes_nodes_is_no_weight(function):
    model = Own(lambda self, x: function(self.mixing, x @ self.w), w=numbers(6, 4))
    model.register_buffer("mixing", torch.eye(5).to_sparse())
    info = describe(model, numbers(5, 6))
    assert [op.kind for op in info.ops] == ["input", "weight", "constant", "matmul"]


def test_what_is_overwritten_through_a_view_is_followed():
    def forward(self, x):
        out = torch.zeros(5, 4)
        out[:, :] = x @ self.w
        flat = out.view(-1)
        flat.relu_()
        return out * 2

    ops = describe(Own(forward, w=numbers(6, 4)), numbers(5, 6)).ops
    assert [(op.kind, op.name) for op in ops if op.kind != "move"] == [
        ("input", ""), ("weight", ""), ("activation", "relu"), ("scale", ""),
    ]  # fmt: skip


def test_what_is_given_back_unchanged_does_not_hide_its_source():
    """`dropout` gives its own input back when it drops nothing; the skip connection has none."""
    model = Own(lambda self, x: x @ self.w + functional.dropout(x, 0.4, training=False), w=numbers(6, 6))
    ops = describe(model, numbers(5, 6)).ops
    assert [(op.kind, op.inputs) for op in ops] == [
        ("input", ()), ("dropout", (0,)), ("weight", (0,)), ("add", (2, 1)),
    ] or [(op.kind, op.inputs) for op in ops] == [
        ("input", ()), ("weight", (0,)), ("dropout", (0,)), ("add", (1, 2)),
    ]  # fmt: skip


def test_what_is_not_understood_is_named_once():
    info = describe(Own(lambda self, x: (x @ self.w).cumsum(0).cumsum(1), w=numbers(6, 4)), numbers(5, 6))
    assert [op.name for op in info.ops if op.kind == "other"] == ["cumsum", "cumsum"]
    assert [note for note in info.notes if "cumsum" in note] == [info.notes[0]]


def test_a_model_without_tensors_in_its_output_says_so():
    assert describe(Own(lambda _, x: "nothing"), numbers(5, 6)).notes


def test_the_path_depends_on_the_values_and_is_still_read():
    model = Own(lambda self, x: x @ self.w if float(x.sum()) < 1e9 else x, w=numbers(6, 4))
    assert steps(model, numbers(5, 6)) == ["input", "weight"]
    with pytest.raises(ModelError, match="could not be run"):
        describe(model.to("meta"), numbers(5, 6))


def test_numpy_arrays_are_taken_in_the_models_precision():
    info = describe(nn.Linear(3, 2).bfloat16(), np.ones((5, 3)))
    assert info.ops[-1].shape == (5, 2)


# ------------------------------------------------------------------------------------------ recurrent layers
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("packed", [False, True])
def test_each_layer_and_direction_is_a_step(kind, packed):
    layer = kind(6, 5, 2, bidirectional=True, batch_first=True, dropout=0.1).eval()
    x = numbers(3, 7, 6)

    def run(_, x):
        given = nn.utils.rnn.pack_padded_sequence(x, [7, 5, 2], batch_first=True) if packed else x
        return layer(given)

    model = Own(run)
    model.layer = layer
    info = describe(model, x)
    recurrent = [op for op in info.ops if op.kind == "recurrent"]
    assert [op.params[0] for op in recurrent] == [
        f"layer.weight_ih_l{depth}{way}" for depth in (0, 1) for way in ("", "_reverse")
    ]
    assert {len(op.params) for op in recurrent} == {4}
    assert {op.name for op in recurrent} == {"rnn_tanh" if kind is nn.RNN else kind.__name__.lower()}
    plain = model(x)
    with torch.no_grad(), recording(Recorder(model, FUSED)):
        recorded = model(x)
    for one, two in zip(torch.utils._pytree.tree_leaves(recorded), torch.utils._pytree.tree_leaves(plain), strict=True):
        torch.testing.assert_close(one, two)


def test_a_loop_over_a_cell_is_a_step_each_time():
    def run(self, x):
        state = torch.zeros(3, 5)
        for moment in range(4):
            state = self.cell(x[:, moment], state)
        return state

    model = Own(run)
    model.cell = nn.GRUCell(6, 5)
    ops = describe(model, numbers(3, 4, 6)).ops
    assert [len(op.inputs) for op in ops if op.kind == "recurrent"] == [1, 2, 2, 2]


# ---------------------------------------------------------------------------------------------- transformers
def configured(name, implementation):
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 20}
    attention = {"attn_implementation": implementation}
    ids = torch.randint(3, 40, (2, 7), generator=torch.Generator().manual_seed(0))
    if name == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=40, n_positions=9, n_embd=12, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=1, **attention
        )
        return transformers.GPT2LMHeadModel(config), {"input_ids": ids}
    if name == "bert":
        config = transformers.BertConfig(vocab_size=40, **small, **attention)
        return transformers.BertForSequenceClassification(config), {"input_ids": ids, "attention_mask": ids > 9}
    if name == "vit":
        config = transformers.ViTConfig(image_size=8, patch_size=4, **small, **attention)
        return transformers.ViTForImageClassification(config), numbers(2, 3, 8, 8)
    if name == "t5":
        config = transformers.T5Config(
            vocab_size=40, d_model=12, d_kv=6, d_ff=20, num_layers=1, num_heads=2, **attention
        )
        return transformers.T5ForConditionalGeneration(config), {"input_ids": ids, "decoder_input_ids": ids[:, :5]}
    config = transformers.LlamaConfig(vocab_size=40, num_key_value_heads=2, head_dim=4, **small, **attention)
    return transformers.LlamaForCausalLM(config), ids


EXPECTED = {"gpt2": 2, "bert": 4, "vit": 4, "t5": 12, "llama": 4}
"""How many weights belong to attentions: one is packed in GPT-2, T5 has three attentions."""


@pytest.mark.slow
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("name", EXPECTED)
def test_transformers_are_read(name, implementation):
    model, example = configured(name, implementation)
    info = describe(model, example)
    assert not info.notes
    assert not [op for op in info.ops if op.kind == "other"]
    attention = [each for each in info.params if each.role == "attention"]
    assert len(attention) == EXPECTED[name]
    assert not [each.path for each in info.params if each.role == "unknown" and len(each.shape) == 2]
    assert {each.path for each in info.params if "norm" in each.path.lower() or ".ln_" in each.path} <= {
        each.path for each in info.params if each.role == "norm"
    }
    if name == "gpt2":
        packed = next(each for each in attention if "c_attn" in each.path)
        assert (packed.axes, packed.gates) == (("in", "out"), 3)
        assert info.params[0].shared == ("lm_head.weight",)
