"""PyTorch models, losses and optimizers as the trainer wants them; mistakes are one clear error."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from fanin.errors import FaninError, InvalidValueError, ModelError, UnknownNameError
from fanin.experiments.tasks import make_task
from fanin.records import Call, ModelSpec, Settings, Task
from fanin.torch.backend import Drawn, seeded
from fanin.torch.models import layouts
from fanin.torch.optimizers import optimizers
from fanin.torch.program import network
from fanin.torch.signals import measure, tapped_layers
from tests.oracles.geometry import geometry

SETTINGS = Settings(Call("adam"), 8, 1, 1)


def user(function: Any) -> ModelSpec:
    return ModelSpec("my.py:build", "user", (), "", function)


def made(shape: tuple[int, ...], classes: int = 3) -> Task:
    rng = np.random.default_rng(0)
    return make_task("made", {"x": rng.normal(size=(40, *shape)).astype(np.float32), "y": np.arange(40) % classes})


@pytest.fixture(scope="module")
def flat() -> Task:
    return made((60,))


def dense(outputs: int, *last: nn.Module, inputs: int = 60) -> Any:
    return lambda: nn.Sequential(nn.Linear(inputs, outputs), *last)


@pytest.mark.parametrize("shape", [(5,), (5, 4), (5, 4, 3), (5, 4, 3, 2)])
def test_layouts_hold_the_same_numbers(shape: tuple[int, ...]) -> None:
    x = np.arange(7 * np.prod(shape), dtype=np.float32).reshape(7, *shape)
    for layout in layouts(shape):
        laid = layout(x)
        assert laid.shape == (7, *layout.shape)
        assert laid.flags.c_contiguous
        assert sorted(laid[3].flat) == sorted(x[3].flat)
    first = layouts(shape)[0](x)
    for n, *place in np.ndindex(x.shape):
        if len(shape) == 1:
            continue
        *spatial, channel = place if len(shape) > 2 else [*place, 0]
        assert first[(n, channel, *spatial)] == x[(n, *place)]


def rows(inputs: int) -> Any:
    """Wants sequences: a recurrent layer takes no images."""

    class Sequences(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.memory, self.head = nn.GRU(inputs, 4, batch_first=True), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.memory(x)[0][:, -1])

    return Sequences


@pytest.mark.parametrize(
    ("shape", "build", "chosen"),
    [
        ((8, 6), lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(48, 3)), (1, 8, 6)),
        ((8, 6), rows(6), (8, 6)),
        ((8, 6), dense(3, inputs=48), (48,)),
        ((8, 6, 2), lambda: nn.Sequential(nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(48, 3)), (2, 8, 6)),
        ((8, 6, 2), lambda: nn.Sequential(nn.Linear(2, 1), nn.Flatten(), nn.Linear(48, 3)), (8, 6, 2)),
        ((60,), dense(3), (60,)),
    ],
)
def test_examples_go_in_as_the_model_wants_them(shape: Any, build: Any, chosen: tuple[int, ...]) -> None:
    assert network(user(build), made(shape), "", SETTINGS).layout.shape == chosen


def test_the_function_is_told_what_it_asks_for() -> None:
    told = {}

    def build(input_shape: Any, outputs: int = 7, activation: str = "none", other: int = 5) -> nn.Module:
        told.update(input_shape=input_shape, outputs=outputs, activation=activation, other=other)
        return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(input_shape)), outputs))

    network(user(build), made((8, 6, 2)), "tanh", SETTINGS)
    assert told == {"input_shape": (2, 8, 6), "outputs": 3, "activation": "tanh", "other": 5}


class OnlyTraining(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            raise RuntimeError("my own mistake")
        return x


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(60, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(x), self.head(x)


@pytest.mark.parametrize(
    ("build", "activation", "message"),
    [
        (lambda: 1 / 0, "", "could not be built: ZeroDivisionError"),
        (lambda: 42, "", "did not return a PyTorch model"),
        (dense(3), "relu", "brings its own activations"),
        (dense(4), "", r"output of shape \(batch, 4\), made has 3 classes"),
        (dense(1), "", r"output of shape \(batch, 1\)"),
        (dense(3, nn.Unflatten(1, (3, 1))), "", r"output of shape \(batch, 3, 1\)"),
        (dense(3, inputs=7), "", "fails on a batch of the data: RuntimeError: mat1 and mat2"),
        (lambda: nn.Linear(60, 3).double(), "", "fails on a batch of the data: RuntimeError.*"),
        (Twice, "", "no tensor as output"),
        (dense(3, OnlyTraining()), "", "fails in training mode: RuntimeError: my own mistake"),
        (lambda: nn.LazyLinear(3), "", "parameters that do not exist yet"),
    ],
)
def test_what_cannot_be_trained_is_one_clear_error(build: Any, activation: str, message: str, flat: Task) -> None:
    with pytest.raises(FaninError, match=message):
        network(user(build), flat, activation, SETTINGS)


Y = torch.tensor([0, 1, 2, 1, 0])


def _value(net: Any, y: Tensor, out: Tensor) -> float:
    return float(net.loss(y, out).mean())


@pytest.mark.parametrize("last", [(), (nn.Softmax(dim=1),), (nn.LogSoftmax(dim=1),), (nn.Softmax(1), nn.Dropout(0.0))])
def test_the_loss_follows_from_the_output(flat: Task, last: tuple[nn.Module, ...]) -> None:
    net = network(user(dense(3, *last)), flat, "", SETTINGS)
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32))
    p = np.exp(logits.numpy().astype(np.float64))
    p /= p.sum(axis=1, keepdims=True)
    expected = -np.log(p[np.arange(5), Y.numpy()]).mean()
    assert _value(net, Y, nn.Sequential(*last)(logits)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("last", "values"), [((nn.Sigmoid(),), [0.9, 0.2, 0.6]), ((), [2.0, -1.0, 0.5])])
def test_one_unit_for_two_classes(last: tuple[nn.Module, ...], values: list[float]) -> None:
    net = network(user(dense(1, *last)), made((60,), classes=2), "", SETTINGS)
    y, out = torch.tensor([1, 0, 0]), torch.tensor(values)[:, None]
    assert net.metric(y, out).tolist() == [1, 1, 0]
    p = np.array(values) if last else 1 / (1 + np.exp(-np.array(values)))
    assert _value(net, y, out) == pytest.approx(-np.mean(np.log(np.where(y == 1, p, 1 - p))), rel=1e-5)


def test_a_regression_has_the_mean_squared_error() -> None:
    x = np.linspace(-1, 1, 60, dtype=np.float32)[:, None]
    task = make_task("lines", {"x": x, "y": np.concatenate([x, 2 * x], axis=1)})
    net = network(user(dense(2, inputs=1)), task, "", SETTINGS)
    y, out = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 4.0], [0.0, 4.0]])
    assert net.loss(y, out).tolist() == net.metric(y, out).tolist() == [2.0, 4.5]


def test_an_output_that_is_no_number_is_no_right_answer(flat: Task) -> None:
    net = network(user(dense(3)), flat, "", SETTINGS)
    assert net.metric(torch.zeros(2).long(), torch.tensor([[torch.nan, 0, 0], [3, 1, 2]])).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (Call("adamm"), UnknownNameError, "Did you mean adam"),
        (Call("lbfgs"), UnknownNameError, "no such optimizer of PyTorch"),
        (Call("sgd", lr=0.1), InvalidValueError, "Use --lr"),
        (Call("sgd", momentun=0.9), InvalidValueError, "momentun"),
        (Call("sgd", momentum=-1.0), InvalidValueError, "Invalid momentum"),
        (Call("adam", fused=True), InvalidValueError, "Leave fused out"),
        (Call("muon"), InvalidValueError, "2D parameters"),
    ],
)
def test_wrong_optimizers(call: Call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        optimizers(call, list(nn.Linear(3, 2).parameters()))


def test_optimizer_parameters_arrive() -> None:
    weight = nn.Parameter(torch.zeros(3, 2))
    made = optimizers(Call("Adam", betas=(0.5, 0.6), weight_decay=0.1), [weight])([{"params": [weight], "lr": 0.2}])
    group = made.param_groups[0]
    assert isinstance(made, torch.optim.Adam)
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.2, (0.5, 0.6), 0.1)


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: x.clone().bernoulli_(0.3),
        lambda x: torch.bernoulli(x / 2),
        lambda _: torch.rand(4, 3),
        torch.rand_like,
        lambda _: torch.randn(4, 3),
        lambda x: x.clone().normal_(),
        lambda x: nn.functional.dropout(x, 0.5),
    ],
)
def test_what_is_drawn_belongs_to_the_run(draw: Any) -> None:
    x = torch.ones(4, 3)
    with seeded(7):
        expected = draw(x)
    before = torch.random.get_rng_state()
    with Drawn([Generator().manual_seed(7)]) as drawn:
        assert torch.equal(draw(x), expected)
    assert drawn.used
    assert torch.equal(before, torch.random.get_rng_state())
    with Drawn([Generator().manual_seed(seed) for seed in (5, 7, 6)]):
        assert torch.equal(torch.func.vmap(draw, randomness="different")(torch.ones(3, 4, 3))[1], expected)


def test_what_cannot_be_drawn_again_is_an_error_and_no_dropout_is_no_draw() -> None:
    with Drawn([Generator()]), pytest.raises(ModelError, match="cannot be repeated"):
        torch.ops.aten.native_dropout(torch.ones(3), 0.5, True)
    query = torch.ones(1, 2, 4, 8)
    with Drawn([Generator()]) as drawn:
        nn.functional.scaled_dot_product_attention(query, query, query)
    assert not drawn.used


def test_signals_of_frozen_reused_overwritten_and_unused_layers() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen, self.twice, self.unused = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(2, 2)
            self.frozen.requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            return self.twice(torch.relu_(self.twice(torch.relu_(self.frozen(x)))))

    model, x = Odd(), torch.randn(5, 3, generator=Generator().manual_seed(0))
    assert tapped_layers(model) == ("frozen", "twice", "unused")
    signal, gradient, cosine, dead, saturated = measure(
        model, lambda _, out: out.square().mean(dim=1), x, torch.zeros(5)
    )
    w, v = model.frozen, model.twice
    z1 = (x @ w.weight.T + w.bias).detach().requires_grad_()
    z2 = z1.clamp(min=0) @ v.weight.T + v.bias
    z3 = z2.clamp(min=0) @ v.weight.T + v.bias
    g1, g3 = torch.autograd.grad(z3.square().mean(), (z1, z3))
    for found, wanted in ((signal, (z1, z3)), (gradient, (g1, g3))):
        assert found[:2] == pytest.approx([float(each.detach().square().mean().sqrt()) for each in wanted], rel=1e-5)
        assert np.isnan(found[2])
    assert np.isnan([cosine[2], dead[2], saturated[2]]).all()


def test_the_units_of_a_convolution_are_its_channels() -> None:
    layer, x = nn.Conv2d(2, 5, (2, 3)), torch.randn(40, 2, 4, 5, generator=Generator().manual_seed(0))
    layer.bias.data[1] = -100.0  # never above 0
    _, _, cosine, dead, saturated = measure(layer, lambda _, out: out.square().mean(dim=(1, 2, 3)), x, x, 0.7)
    z = layer(x).detach().movedim(1, -1).double().numpy()
    assert (cosine[0], dead[0], saturated[0]) == pytest.approx(geometry(z, 0.7), rel=1e-5)
    assert dead[0] >= 0.2
