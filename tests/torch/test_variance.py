"""The variance that a drawn layer gives to its signal and its gradient, through the real layer, gate by gate.

For a signal of independent inputs of variance 1 the output has the variance that its squared gradient sums to, so
no signal needs to be sampled: with normal weights of variance v that sum over n weights is v times a chi-square
number with n degrees of freedom, exactly. Each check raises a false alarm with probability ALARM; about 90 are
made, so the file does with 1 %. Seeds are fixed.
"""

from itertools import pairwise

import pytest
import torch
from scipy import stats
from torch import nn

import fanin.torch as init

ALARM = 1e-4
LAYERS = {
    "linear": lambda: (nn.Linear(70, 50), (70,)),
    "conv1d": lambda: (nn.Conv1d(20, 30, 3), (20, 9)),
    "conv2d": lambda: (nn.Conv2d(12, 20, (3, 2), dilation=2), (12, 11, 10)),
    "conv3d": lambda: (nn.Conv3d(6, 10, (3, 2, 2)), (6, 7, 6, 5)),
    "grouped": lambda: (nn.Conv2d(12, 30, (3, 2), groups=3), (12, 9, 8)),
    "depthwise": lambda: (nn.Conv2d(12, 36, (3, 2), groups=12), (12, 9, 8)),
    "transposed": lambda: (nn.ConvTranspose2d(12, 30, (3, 2)), (12, 9, 8)),
    "transposed grouped": lambda: (nn.ConvTranspose1d(12, 30, 4, groups=3), (12, 11)),
    "transposed depthwise": lambda: (nn.ConvTranspose2d(12, 36, (3, 2), groups=12), (12, 9, 8)),
    "bilinear": lambda: (nn.Bilinear(7, 9, 40), (7,)),
}
LAWS = {"linear": 1.0, "relu": 2.0}


def middle(shape):
    return tuple(size // 2 for size in shape)


def forward(layer, x):
    return layer(x, torch.full((*x.shape[:-1], 9), 1.0)) if isinstance(layer, nn.Bilinear) else layer(x)


def assert_chi_square(squares, count, variance):
    """`squares` is a sum over `count` normal weights of this variance."""
    total = squares.double().sum().item() / variance
    assert min(stats.chi2.cdf(total, count), stats.chi2.sf(total, count)) > ALARM / 2


def rows(function, x):
    """The gradients of the middle output of each channel."""
    x = x.clone().requires_grad_()
    out = function(x)
    inside = out[(slice(None), *middle(out.shape[1:]))]
    return torch.stack([torch.autograd.grad(one, x, retain_graph=True)[0] for one in inside])


@pytest.mark.parametrize("nonlinearity", LAWS)
@pytest.mark.parametrize("name", LAYERS)
def test_fan_in_keeps_the_signal(name, nonlinearity):
    layer, shape = LAYERS[name]()
    init.kaiming_normal_(layer.weight, nonlinearity=nonlinearity, module=layer, seed=11, name=name)
    # Of Bilinear the second input is 1 everywhere, so that a gradient is a sum of nine weights.
    gradients = rows(lambda x: forward(layer, x), torch.zeros(shape))
    per_row = torch.count_nonzero(gradients).item() // len(gradients)
    assert_chi_square(gradients.square(), per_row * len(gradients), LAWS[nonlinearity] / per_row)


@pytest.mark.parametrize("name", sorted(set(LAYERS) - {"bilinear"}))
def test_fan_out_keeps_the_gradient(name):
    layer, shape = LAYERS[name]()
    init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="linear", module=layer, seed=12, name=name)
    nn.init.zeros_(layer.bias)
    pulses = torch.zeros(shape[0], *shape)
    for channel in range(shape[0]):
        pulses[(channel, channel, *middle(shape[1:]))] = 1
    columns = layer(pulses)  # what each input channel's middle sends to all outputs
    count = torch.count_nonzero(columns).item()
    assert_chi_square(columns.square(), count, len(columns) / count)


@pytest.mark.parametrize("name", sorted(set(LAYERS) - {"bilinear"}))
def test_xavier_is_between_the_two(name):
    layer, shape = LAYERS[name]()
    init.xavier_normal_(layer.weight, module=layer, seed=13, name=name)
    nn.init.zeros_(layer.bias)
    fan_in = torch.count_nonzero(rows(layer, torch.zeros(shape))[0]).item()
    pulse = torch.zeros(1, *shape)
    pulse[(0, 0, *middle(shape[1:]))] = 1
    fan_out = torch.count_nonzero(layer(pulse)).item()
    weight = layer.weight.detach()
    assert_chi_square(weight.square(), weight.numel(), 2 / (fan_in + fan_out))


# ------------------------------------------------------------------------------------- gates and attention
RECURRENT = {"RNN": 1.0, "LSTM": 0.5, "GRU": 0.5}
"""What stands before the candidate state at rest: a gate of sigmoid(0)."""


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("cell", [False, True], ids=["layer", "cell"])
def test_recurrent_weights_have_the_fans_of_one_gate(kind, cell):
    """At rest the new state depends on the input through the candidate's weights alone: its gradient is those."""
    layer = getattr(nn, f"{kind}Cell" if cell else kind)(70, 50)
    suffix = "" if cell else "_l0"
    for own, parameter in layer.named_parameters():
        (nn.init.zeros_ if "bias" in own else nn.init.normal_)(parameter)
    inputs, hidden = getattr(layer, f"weight_ih{suffix}"), getattr(layer, f"weight_hh{suffix}")
    init.xavier_normal_(inputs, module=layer, seed=14)
    init.xavier_normal_(hidden, module=layer, seed=15)
    rest = torch.zeros(50)

    def candidate(x):
        if kind == "LSTM":
            return layer(x, (rest, rest))[1] if cell else layer(x[None], (rest[None], rest[None]))[1][1][0]
        return layer(x, rest) if cell else layer(x[None], rest[None])[1][0]

    gradients = rows(candidate, torch.zeros(70)) / RECURRENT[kind]
    assert_chi_square(gradients.square(), 50 * 70, 2 / (70 + 50))
    for gate in inputs.detach().split(50):
        assert_chi_square(gate.square(), gate.numel(), 2 / (70 + 50))
    for gate in hidden.detach().split(50):
        assert_chi_square(gate.square(), gate.numel(), 2 / (50 + 50))


def attention():
    layer = nn.MultiheadAttention(60, 4)
    nn.init.zeros_(layer.in_proj_bias)
    init.eye_(layer.out_proj.weight)
    return layer


def test_packed_attention_has_the_variance_of_separate_projections():
    """torch.nn.init takes the packed (3E, E) for one matrix: half the variance (pytorch#166378)."""
    layer = attention()
    init.xavier_normal_(layer.in_proj_weight, module=layer, seed=16)
    for block in layer.in_proj_weight.detach().chunk(3):
        assert_chi_square(block.square(), block.numel(), 1 / 60)
    query = torch.zeros(1, 60)  # one key has the weight 1, so the output is the value's projection
    gradients = rows(lambda value: layer(query, query, value[None])[0][0], torch.zeros(60))
    assert_chi_square(gradients.square(), 60 * 60, 1 / 60)
    init.lecun_normal_(layer.in_proj_weight, module=layer, seed=17)
    unit = layer.in_proj_weight.detach().chunk(3)
    # A normal number cut at two standard deviations has a kurtosis below 3, so chi-square is on the safe side.
    for block in unit:
        assert_chi_square(block.square(), block.numel(), 1 / 60)


# ----------------------------------------------------------------------------------------------- orthogonal
def assert_orthonormal(matrix):
    """Rows, or columns where there are fewer. Rounding of two entries to float32: 2 * 2**-24 of each product."""
    matrix = matrix.detach().double()
    product = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
    assert torch.allclose(product, torch.eye(len(product), dtype=torch.float64), rtol=0, atol=2**-22)


def assert_all_orthonormal_and_different(blocks):
    for block in blocks:
        assert_orthonormal(block)
    for first, second in pairwise(blocks):
        assert not torch.allclose(first, second, atol=0.01)


@pytest.mark.parametrize(("kind", "gates"), [("RNN", 1), ("LSTM", 4), ("GRU", 3)])
def test_recurrent_weights_are_orthogonal_gate_by_gate(kind, gates):
    layer = getattr(nn, kind)(7, 5, num_layers=2)
    for own, parameter in layer.named_parameters():
        if "weight" in own:
            init.orthogonal_(parameter, module=layer, seed=1, name=own)
            assert_all_orthonormal_and_different(parameter.chunk(gates))


def test_packed_attention_is_orthogonal_three_times():
    layer = attention()
    init.orthogonal_(layer.in_proj_weight, module=layer, seed=1)
    assert_all_orthonormal_and_different(layer.in_proj_weight.chunk(3))


@pytest.mark.parametrize("groups", [1, 3])
def test_convolutions_are_orthogonal_group_by_group(groups):
    layer = nn.Conv2d(6, 15, (3, 2), groups=groups)
    for given in ({"module": layer}, {"groups": groups}):
        init.orthogonal_(layer.weight, seed=1, **given)
        assert_all_orthonormal_and_different(layer.weight.flatten(1).chunk(groups))


@pytest.mark.parametrize("groups", [1, 3])
def test_transposed_convolutions_are_orthogonal_group_by_group(groups):
    layer = nn.ConvTranspose2d(6, 15, (3, 2), groups=groups)
    init.orthogonal_(layer.weight, module=layer, seed=1)
    # (inputs, units of a group, kernel): what one unit sums over are the inputs of a group and the kernel.
    assert_all_orthonormal_and_different([part.transpose(0, 1).flatten(1) for part in layer.weight.chunk(groups)])
