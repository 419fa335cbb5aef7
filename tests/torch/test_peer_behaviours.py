"""What PyTorch's own tests expect of `torch.nn.init`, asked of `fanin.torch`.

Every statistical check is a Kolmogorov-Smirnov test at a false-alarm rate of ALARM; the file makes fewer than
CHECKS of them, so all together fail by chance with probability below ALARM * CHECKS = 1 %. Seeds are fixed.
"""

import itertools
import math
import random
import warnings

import pytest
import torch
from scipy import stats
from torch import nn

import fanin.torch as init

ALARM, CHECKS = 1e-4, 100
HALF = (torch.float16, torch.bfloat16)
ALL = (torch.float32, torch.float64, *HALF)


@pytest.fixture(autouse=True)
def rng():
    with torch.random.fork_rng():
        torch.manual_seed(1234)
        yield random.Random(99)


def sizes(rng, dims, low, high):
    return [rng.randint(low, high) for _ in range(dims)]


def assert_distributed(tensor, law):
    """KS against a law of SciPy; rounding moves the empirical distribution by at most the mass of half a step."""
    values = tensor.detach().double().reshape(-1).numpy()
    step = torch.finfo(tensor.dtype).eps * abs(values).max() if tensor.dtype in HALF else 0.0
    densest = {"norm": 0.4, "uniform": 1.0, "truncnorm": None}[law.dist.name]
    if densest is None:
        low, high = law.support()
        peak = min(max(law.args[2], low), high)  # the centre, or the bound next to it
        densest = law.pdf(peak)
    else:
        densest /= law.args[1] if law.args else law.kwds["scale"]
    distance = stats.kstest(values, law.cdf).statistic
    assert distance <= stats.kstwo.isf(ALARM, values.size) + step / 2 * densest


def cut(mean, std, a, b):
    return stats.truncnorm((a - mean) / std, (b - mean) / std, mean, std)


def fans(tensor):
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


# ------------------------------------------------------------------------------------------------------ gains
@pytest.mark.parametrize("name", ["linear", *(f"conv{kind}{d}d" for kind in ("", "_transpose") for d in (1, 2, 3))])
def test_linear_layers_have_gain_one(name):
    assert init.calculate_gain(name) == nn.init.calculate_gain(name) == 1


def test_gains_of_the_nonlinear():
    known = {"sigmoid": 1, "tanh": 5 / 3, "relu": 2**0.5, "selu": 0.75}
    for name, gain in known.items():
        assert init.calculate_gain(name) == nn.init.calculate_gain(name) == gain
    for slope, gain in {None: 1.4141428569978354, 0: 2**0.5, 0.01: 1.4141428569978354, 10: 0.14071950894605836}.items():
        assert init.calculate_gain("leaky_relu", slope) == gain == nn.init.calculate_gain("leaky_relu", slope)


@pytest.mark.parametrize("slope", [True, False, [1], {"a": "b"}, "0.1", 1j, torch.ones(2)], ids=str)
def test_a_slope_is_a_number(slope):
    with pytest.raises(ValueError, match="number"):
        init.calculate_gain("leaky_relu", slope)


@pytest.mark.parametrize("length", [2, 5, 25])
def test_only_known_nonlinearities(rng, length):
    name = "".join(rng.choices("qxzjkv", k=length))
    with pytest.raises(ValueError, match=name):
        init.calculate_gain(name)


# ------------------------------------------------------------------------------------------- uniform and normal
@pytest.mark.parametrize("dims", [1, 2, 4])
def test_uniform(rng, dims):
    tensor, a = torch.empty(sizes(rng, dims, 30, 50)), rng.uniform(-3, 3)
    b = a + rng.uniform(1, 5)
    assert_distributed(init.uniform_(tensor, a=a, b=b), stats.uniform(a, b - a))
    assert a <= tensor.min() <= tensor.max() <= b


@pytest.mark.parametrize("dims", [1, 2, 4])
def test_normal(rng, dims):
    tensor, mean, std = torch.empty(sizes(rng, dims, 30, 50)), rng.uniform(-3, 3), rng.uniform(1, 5)
    assert_distributed(init.normal_(tensor, mean=mean, std=std), stats.norm(mean, std))


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_uniform_and_normal_in_low_precision(dtype):
    assert_distributed(init.uniform_(torch.empty(10000, dtype=dtype), -1, 1), stats.uniform(-1, 2))
    assert_distributed(init.normal_(torch.empty(10000, dtype=dtype), 0, 1), stats.norm(0, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("dims", [1, 2, 4])
def test_truncated_normal(rng, dims, dtype):
    for _ in range(3):
        tensor = torch.empty(sizes(rng, dims, 20, 30), dtype=dtype)
        mean, std = rng.uniform(-3, 3), rng.uniform(0.01, 1)
        a, b = rng.uniform(mean - 2 * std, mean), rng.uniform(mean, mean + 2 * std)
        init.trunc_normal_(tensor, mean=mean, std=std, a=a, b=b)
        assert a <= tensor.min().item() <= tensor.max().item() <= b
        assert_distributed(tensor, cut(mean, std, a, b))


@pytest.mark.parametrize("dtype", ALL, ids=str)
@pytest.mark.parametrize(("a", "b"), [(-2.0, 2.0), (2.0, 3.0), (-9.0, -6.0), (0.3, 0.7)])
def test_truncated_normal_in_every_precision(dtype, a, b):
    """The bounds count as the type can hold them: 0.7 is 0.69921875 in bfloat16."""
    tensor = init.trunc_normal_(torch.empty(10000, dtype=dtype), mean=0.0, std=1.0, a=a, b=b)
    low, high = torch.tensor([a, b], dtype=dtype).tolist()
    assert low <= tensor.min().item() <= tensor.max().item() <= high
    assert_distributed(tensor, cut(0.0, 1.0, a, b))


def test_truncated_normal_far_out_needs_no_warning():
    """PyTorch warns that it may be wrong where the mean is more than two std from the bounds; here it is not."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = init.trunc_normal_(torch.empty(10000), mean=0.0, std=1.0, a=8.0, b=math.inf)
    assert_distributed(tensor, stats.truncnorm(8.0, math.inf, 0.0, 1.0))


@pytest.mark.parametrize(("dtype", "unique"), [*zip(ALL, (5000, 5000, 3000, 1000), strict=True)], ids=str)
def test_truncated_normal_takes_many_values(dtype, unique):
    tensor = init.trunc_normal_(torch.empty(10000, dtype=dtype))
    assert tensor.unique().numel() > unique
    assert tensor.isfinite().all()


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_truncated_normal_is_not_clamped(dtype):
    tensor = init.trunc_normal_(torch.empty(10000, dtype=dtype), std=0.1, a=-2.0, b=2.0)
    assert ((tensor == -2) | (tensor == 2)).sum() == 0
    assert_distributed(tensor, stats.norm(0, 0.1))


def test_a_generator_equals_the_global_seed():
    tensor = init.trunc_normal_(torch.empty(5), generator=torch.Generator().manual_seed(42))
    torch.manual_seed(42)
    assert torch.equal(tensor, init.trunc_normal_(torch.empty(5)))


# --------------------------------------------------------------------------------------------- not random
@pytest.mark.parametrize("dtype", ALL, ids=str)
@pytest.mark.parametrize("dims", [1, 2, 4])
def test_constants(rng, dims, dtype):
    tensor, value = torch.empty(sizes(rng, dims, 1, 5), dtype=dtype), rng.uniform(1, 10)
    assert torch.equal(init.constant_(tensor, value), torch.full_like(tensor, value))
    assert (init.ones_(tensor) == 1).all()
    assert (init.zeros_(tensor) == 0).all()


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (1, 6)], ids=str)
def test_eye(shape):
    assert torch.equal(init.eye_(torch.empty(shape)), torch.eye(*shape))


@pytest.mark.parametrize("dims", [0, 1, 3])
def test_eye_is_for_matrices(dims):
    with pytest.raises(ValueError, match="two axes"):
        init.eye_(torch.empty((2,) * dims))


@pytest.mark.parametrize(("dims", "groups"), [*itertools.product([3, 4, 5], [1, 2, 3])])
def test_dirac_is_torchs(rng, dims, groups):
    for _ in range(5):
        shape = [rng.randint(1, 5) * groups, rng.randint(1, 5 * groups), *sizes(rng, dims - 2, 1, 5)]
        tensor = init.dirac_(torch.randn(shape), groups)
        ones = min(shape[0] // groups, shape[1]) * groups
        assert torch.count_nonzero(tensor) == ones == tensor.sum()
        assert torch.equal(tensor, nn.init.dirac_(torch.empty(shape), groups))


@pytest.mark.parametrize(("dims", "groups"), [*itertools.product([1, 2, 3], [1, 3])])
def test_dirac_passes_the_input_on(dims, groups):
    signal, weight = torch.randn(8, 3, *(5,) * dims), torch.empty(9, 3, *(3,) * dims)
    out = getattr(nn.functional, f"conv{dims}d")(signal, init.dirac_(weight, groups)).unflatten(
        1, (groups, 9 // groups)
    )
    inner = signal[(..., *(slice(1, -1),) * dims)]
    for group in range(groups):
        assert torch.equal(out[:, group, :3], inner)
        assert not out[:, group, 3:].any()


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_dirac_passes_the_input_of_a_grouped_layer_on(dims):
    layer = getattr(nn, f"Conv{dims}d")(6, 6, 3, groups=3, padding=1, bias=False)
    signal = torch.randn(2, 6, *(5,) * dims)
    for given in ({"groups": 3}, {"module": layer}):
        init.zeros_(layer.weight)
        assert init.dirac_(layer.weight, **given) is layer.weight
        assert torch.equal(layer(signal), signal)


@pytest.mark.parametrize("dims", [0, 1, 2, 6])
def test_dirac_is_for_convolutions(dims):
    with pytest.raises(ValueError, match="3, 4 or 5 axes"):
        init.dirac_(torch.empty((2,) * dims))


# ------------------------------------------------------------------------------------- xavier and kaiming
@pytest.mark.parametrize("dims", [2, 4])
@pytest.mark.parametrize("gained", [True, False])
def test_xavier(rng, gained, dims):
    gain = rng.uniform(0.1, 2) if gained else 1
    given = {"gain": gain} if gained else {}
    for function in (init.xavier_uniform_, init.xavier_normal_):
        tensor = function(torch.empty(sizes(rng, dims, 20, 25)), **given)
        std = gain * math.sqrt(2 / sum(fans(tensor)))
        bound = math.sqrt(3) * std
        normal = function is init.xavier_normal_
        assert_distributed(tensor, stats.norm(0, std) if normal else stats.uniform(-bound, 2 * bound))


@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
@pytest.mark.parametrize("dims", [2, 4])
@pytest.mark.parametrize("sloped", [True, False])
def test_kaiming(rng, sloped, dims, mode):
    a = rng.uniform(0.1, 2) if sloped else 0
    given = {"a": a} if sloped else {}
    for function in (init.kaiming_uniform_, init.kaiming_normal_):
        tensor = function(torch.empty(sizes(rng, dims, 20, 25)), mode=mode, **given)
        std = math.sqrt(2 / ((1 + a**2) * fans(tensor)[mode == "fan_out"]))
        bound = math.sqrt(3) * std
        normal = function is init.kaiming_normal_
        assert_distributed(tensor, stats.norm(0, std) if normal else stats.uniform(-bound, 2 * bound))


@pytest.mark.parametrize("dims", [0, 1])
@pytest.mark.parametrize("name", ["xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_"])
def test_fans_need_two_axes(name, dims):
    with pytest.raises(ValueError, match="two axes"):
        getattr(init, name)(torch.empty((1,) * dims))


@pytest.mark.parametrize("name", sorted(set(nn.init.__all__) & {each for each in init.__all__ if each.endswith("_")}))
def test_nothing_to_fill_warns_where_torch_warns(name):
    """PyTorch warns of an empty tensor in kaiming alone: an empty bias set to zero is no news."""

    def told(module):
        tensor = torch.empty((0, 1, 3) if name == "dirac_" else (0, 1))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert getattr(module, name)(tensor, *{"constant_": (1.0,), "sparse_": (0.5,)}.get(name, ())) is tensor
        return [(each.category, str(each.message), each.filename) for each in caught]

    assert told(init) == told(nn.init)


# --------------------------------------------------------------------------------------- sparse and orthogonal
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("std", [None, 0.17])
def test_sparse(rng, std, dtype):
    tensor, sparsity = torch.empty(sizes(rng, 2, 30, 35), dtype=dtype), rng.uniform(0.1, 0.2)
    init.sparse_(tensor, sparsity=sparsity, **({} if std is None else {"std": std}))
    assert ((tensor == 0).sum(0) >= math.ceil(sparsity * tensor.shape[0])).all()
    assert (tensor == 0).any(1).sum() > 1  # not the same rows in each column
    assert_distributed(tensor[tensor != 0], stats.norm(0, std or 0.01))


@pytest.mark.parametrize("dims", [0, 1, 3])
def test_sparse_is_for_matrices(dims):
    with pytest.raises(ValueError, match="two axes"):
        init.sparse_(torch.empty((2,) * dims), 0.5)


@pytest.mark.parametrize("gain", [None, 0.3, 1.7])
@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (20, 2, 3, 4), (2, 3, 4, 5)], ids=str)
def test_orthogonal(shape, gain):
    flat = init.orthogonal_(torch.empty(shape), **({} if gain is None else {"gain": gain})).flatten(1).double()
    product = flat @ flat.T if shape[0] <= flat.shape[1] else flat.T @ flat
    scale = (gain or 1.0) ** 2
    # Entry, gain and their product are rounded to float32: 3 * 2**-24 of each entry, so 6 * 2**-24 of a product.
    assert torch.allclose(product, torch.eye(len(product), dtype=torch.float64) * scale, rtol=0, atol=scale * 2**-21)


# ------------------------------------------------------------------------------------------------ deprecated
@pytest.mark.parametrize("name", sorted(each for each in nn.init.__all__ if f"{each}_" in nn.init.__all__))
def test_old_names_warn_and_do_the_same(name):
    shape, given = ((6, 4, 3) if name == "dirac" else (6, 4)), {"constant": (0.5,), "sparse": (0.5,)}.get(name, ())
    tensor = torch.empty(shape)
    with pytest.warns(FutureWarning, match=rf"`(nn\.init\.)?{name}` .*deprecated.*{name}_") as caught:
        assert getattr(init, name)(tensor, *given, seed=3) is tensor
    assert [each.filename for each in caught] == [__file__]
    assert torch.equal(tensor, getattr(init, f"{name}_")(torch.empty(shape), *given, seed=3))
    assert getattr(init, name).__name__ == name
