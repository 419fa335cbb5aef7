"""Statistics of steps, as a probe has them, against slow sums in float64 over what hooks see."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from fanin.torch.adapter import describe, probe
from tests.torch.networks import numbers, plain, rms


def cosines(rows):
    """The oracle: one pair after the other."""
    found = []
    for i in range(len(rows)):
        for j in range(i):
            found.append(float(rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j])))
    return found


def effective_rank(rows):
    """From the singular values, whose squares are the Gram matrix's eigenvalues."""
    values = np.linalg.svd(rows, compute_uv=False) ** 2
    return values.sum() ** 2 / (values**2).sum()


def seen_by_hooks(model, x):
    """What goes in and what each module of a sequence gives, in float64."""
    kept = [x]
    handles = [each.register_forward_hook(lambda _, __, out: kept.append(out.clone())) for each in model]
    model(x)
    for handle in handles:
        handle.remove()
    return [each.detach().double().numpy() for each in kept]


def test_statistics_are_those_of_slow_sums_over_what_hooks_see():
    model, x = plain(), numbers(6, 3, 8, 8) + 0.3
    kept, found = seen_by_hooks(copy.deepcopy(model), x), probe(model, x)
    for index, values in enumerate(kept):
        rows, flat = values.reshape(6, -1), np.sort(values.ravel())
        assert found.mean[index] == pytest.approx(flat.mean(), abs=1e-6)
        assert found.quantiles[index] == pytest.approx(np.quantile(flat, np.arange(11) / 10), abs=1e-5)
        assert found.cosine[index] == pytest.approx(np.mean(cosines(rows)), abs=1e-5)
        assert found.rank[index] == pytest.approx(effective_rank(rows), rel=1e-4)
        assert found.infinite[index] == 0
        units = np.moveaxis(values, 1 if index in (1, 2, 3) else -1, 0).reshape(
            values.shape[-1 if index in (0,) else 1], -1
        )
        np.testing.assert_allclose(found.lowest[index], [min(each) for each in units], rtol=1e-5)
        np.testing.assert_allclose(found.highest[index], [max(each) for each in units], rtol=1e-5)
    np.testing.assert_allclose(found.outputs[0], kept[-1], rtol=1e-5)
    assert found.outputs[0].dtype == np.float32
    assert math.isnan(found.loss)


def test_deciles_of_many_elements_are_close_and_the_ends_exact():
    """4096 of 200000 elements: a decile's share is off by 0.5 points (one sigma), so 4 points are never reached."""
    x = numbers(100, 2000)
    x[63, 1234], x[17, 3] = 50.0, -60.0
    found = probe(nn.Sequential(nn.Identity(), nn.Linear(2000, 3)), x).quantiles[0]
    assert (found[0], found[10]) == (-60.0, 50.0)
    shares = [(x < each).double().mean() for each in found[1:10]]
    np.testing.assert_allclose(shares, np.arange(1, 10) / 10, atol=0.04)


def test_deciles_see_every_unit():
    """The distance between the elements taken shares no divisor with the number of units."""
    x = torch.arange(64.0).expand(4096, 64).clone()
    assert probe(nn.Linear(64, 3), x).quantiles[0] == pytest.approx(np.linspace(0, 63, 11), abs=1.0)


def test_at_most_32_examples_are_compared():
    x = torch.cat([numbers(32, 7), torch.ones(9, 7)])
    found = probe(nn.Linear(7, 3), x)
    assert found.cosine[0] == pytest.approx(np.mean(cosines(x[:32].double().numpy())), abs=1e-6)
    assert found.rank[0] == pytest.approx(effective_rank(x[:32].double().numpy()), rel=1e-5)


def test_parallel_outputs_have_cosine_and_rank_1_also_where_squares_are_no_numbers():
    model = nn.Sequential(nn.Linear(5, 4, bias=False), nn.Linear(4, 3, bias=False))
    x = torch.outer(torch.arange(1.0, 8.0), numbers(5)) * 1e-24
    found = probe(model, x)
    assert found.cosine == pytest.approx([1, 1, 1])
    assert found.rank == pytest.approx([1, 1, 1])
    assert found.signal_rms[0] == pytest.approx(float(x.double().square().mean().sqrt()), rel=1e-5)
    assert 0 < found.param_gradients["0.weight"] < 1e-22


def test_one_example_has_no_cosine_and_a_value_without_the_batch_neither():
    assert math.isnan(probe(nn.Linear(5, 4), numbers(1, 5)).cosine[1])

    class Summed(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(numbers(6, 4))

        def forward(self, x):
            return (x * self.table).sum(0)

    info, found = describe(Summed(), numbers(6, 4)), probe(Summed(), numbers(6, 4))
    known = {op.kind: not math.isnan(cosine) for op, cosine in zip(info.ops, found.cosine, strict=True)}
    assert known == {"input": True, "param": False, "mul": True, "sum": False}
    assert found.signal_rms[[op.kind for op in info.ops].index("param")] == pytest.approx(rms(Summed().table))


class Patches(nn.Module):
    """Units on axis 1, then moved to the last axis and back."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 5, 3, padding=1), nn.LayerNorm(5)
        self.pool, self.up = nn.MaxPool2d(2), nn.ConvTranspose2d(5, 7, 2, stride=2)

    def forward(self, x):
        x = torch.relu(self.conv(x))
        x = x + self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.up(self.pool(x)).flatten(2).transpose(1, 2)


def test_units_are_followed_from_a_convolution_on():
    info, found = describe(Patches(), numbers(2, 3, 4, 6)), probe(Patches(), numbers(2, 3, 4, 6))
    units = [(op.kind, op.shape, len(low)) for op, low in zip(info.ops, found.lowest, strict=True)]
    assert units == [
        ("input", (2, 3, 4, 6), 6), ("weight", (2, 5, 4, 6), 5), ("activation", (2, 5, 4, 6), 5),
        ("move", (2, 4, 6, 5), 5), ("norm", (2, 4, 6, 5), 5), ("move", (2, 5, 4, 6), 5), ("add", (2, 5, 4, 6), 5),
        ("max", (2, 5, 2, 3), 5), ("weight", (2, 7, 4, 6), 7), ("move", (2, 24, 7), 7),
    ]  # fmt: skip
    assert len(probe(nn.Conv1d(3, 5, 2), numbers(3, 9)).lowest[1]) == 5  # without a batch
    assert probe(nn.Flatten(0), numbers(2, 3)).lowest[1].shape == (0,)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_measured_in_float32_at_least(kind):
    torch.manual_seed(1)
    model, x = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).to(kind), numbers(8, 6).to(kind)
    kept, found = seen_by_hooks(model, x), probe(model, x)
    for index, values in enumerate(kept):
        assert found.signal_rms[index] == pytest.approx(np.sqrt((values**2).mean()), rel=1e-5)
        assert found.mean[index] == pytest.approx(values.mean(), abs=1e-6)
        np.testing.assert_allclose(found.highest[index], values.max(0), rtol=1e-6)
    assert found.outputs[0].dtype == np.float32
    large = probe(nn.Identity(), torch.full((4, 3), 60000.0, dtype=torch.float16))
    assert large.signal_rms[0] == pytest.approx(60000, rel=1e-3)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_counted_and_left_out_of_the_quantiles(value):
    model, x = nn.Sequential(nn.Linear(4, 3), nn.ReLU()), numbers(6, 4)
    x[2, 1] = x[5, 0] = value
    found = probe(model, x)
    assert found.infinite[0] == 2
    finite = np.sort(x[x.isfinite()].double().numpy())
    assert found.quantiles[0] == pytest.approx(np.quantile(finite, np.arange(11) / 10), abs=1e-5)
    assert found.infinite[1] == 6
    assert math.isnan(found.cosine[0])
    assert math.isnan(found.rank[1])
    with torch.no_grad():
        model[0].weight.fill_(value)
    nothing = probe(model, x)
    assert nothing.infinite[1] == 18
    assert all(math.isnan(each) for each in nothing.quantiles[1])


def test_huge_numbers_are_finite():
    found = probe(nn.Identity(), torch.full((4, 3), 1e30))
    assert (found.infinite[0], found.signal_rms[0]) == (0, pytest.approx(1e30, rel=1e-6))
    assert found.cosine[0] == pytest.approx(1)


def test_whole_numbers_have_no_statistics():
    found = probe(nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 3)), torch.tensor([[1, 2], [3, 3]]))
    assert math.isnan(found.mean[0])
    assert found.lowest[0].shape == (0,)
    assert found.infinite[0] == 0
    assert len(found.quantiles[0]) == 11


class Scaled(nn.Module):
    """The step of the weight itself is never computed: the model multiplies the weight before."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(numbers(3, 4))

    def forward(self, x):
        return torch.relu(x @ (self.weight * -0.5).T)


def test_a_step_that_is_a_multiple_of_another_is_turned_with_it():
    model, x = Scaled(), numbers(6, 4)
    info, found = describe(model, x), probe(model, x)
    index = next(i for i, op in enumerate(info.ops) if op.kind == "weight")
    product = (x @ model.weight.T).detach().double().numpy()
    assert info.ops[index + 1].kind == "scale"
    assert found.mean[index] == pytest.approx(product.mean(), abs=1e-6)
    assert found.quantiles[index] == pytest.approx(np.quantile(product, np.arange(11) / 10), abs=1e-5)
    np.testing.assert_allclose(found.lowest[index], product.min(0), rtol=1e-5)
    np.testing.assert_allclose(found.highest[index], product.max(0), rtol=1e-5)
    assert found.gradient_rms[index] == pytest.approx(found.gradient_rms[index + 1] / 2)
