"""Runs trained side by side are the runs that a plain PyTorch loop trains one by one."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fanin.initializers.streams import words
from fanin.records import Call, ModelSpec, Program, Run, RunResult, Settings, Task
from fanin.torch.adapter import write
from fanin.torch.measure import choose
from fanin.torch.program import network
from fanin.torch.trainer import Trainer
from fanin.training import batch_order
from tests.oracles.geometry import geometry
from tests.toys import LARGEST_TOLERANCE, SETTINGS, assert_near, dense_signals, facts, ours, run, toy_task, weights_for

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")
"""PyTorch's word on an operation that works on a stack, but not fast; `start` silences it for users."""

ALONE, TOGETHER = Program("step", 1, 0.0), Program("step", 3, 0.0)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.LSTM(10, 4, 2, batch_first=True, dropout=0.2)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.memory(x.movedim(1, 3).flatten(2))[0][:, -1])


class Attention(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.embed = nn.Linear(10, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 12, dropout=dropout, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.embed(x.movedim(1, 3).flatten(2))).mean(dim=1))


class Halting(nn.Module):
    """Its course depends on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(60, 60), nn.Linear(60, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        while x.abs().mean() > 0.4:
            x = 0.6 * torch.tanh(self.body(x))
        return self.head(x)


class Forgetting(nn.Module):
    """Puts a new tensor in a buffer's place, which a model run as a function does not keep."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(60, 3)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.scale = self.scale * 1.2
        return self.body(x.flatten(1)) * self.scale


class Counting(nn.Module):
    """Keeps a count of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.seen = nn.Linear(60, 3), 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += self.training
        return self.body(x.flatten(1)) / (1 + self.seen)


def dense() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(60, 7), nn.Tanh(), nn.Linear(7, 3))


def norm_dropout() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(60, 9, bias=False),
        nn.BatchNorm1d(9, momentum=0.2),
        nn.ReLU(inplace=True),
        nn.Dropout(0.3),
        nn.Linear(9, 3),
    )


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, (3, 2), groups=2),
        nn.ReLU(inplace=True),
        nn.Dropout2d(0.2),
        nn.Conv2d(4, 4, 2, groups=4),
        nn.ConvTranspose2d(4, 5, (2, 3)),
        nn.GELU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(20, 3),
        nn.Softmax(dim=1),
    )


def normalised() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "dense": (dense, True),
    "norm_dropout": (norm_dropout, True),
    "convolutions": (convolutions, True),
    "normalised": (normalised, True),
    "attention": (Attention, True),
    # Stacked, its tensors lie otherwise in memory, and a mask is drawn in the order of memory.
    "attention_dropout": (lambda: Attention(0.1), False),
    "recurrent": (Recurrent, False),
    "halting": (Halting, False),
    "counting": (Counting, False),
}
"""Each with whether runs can be trained side by side."""


@pytest.fixture(scope="module")
def task() -> Task:
    return toy_task()


def trainer(build: Callable[[], nn.Module], task: Task, settings: Settings = SETTINGS) -> Trainer:
    net = network(ModelSpec("toy.py:build", "user", (), "", build), task, "", settings)
    return Trainer(net, task, settings, weights_for(net.info))


def one_by_one(
    build: Callable[[], nn.Module], task: Task, ours: Trainer, each: Run, jolt: float = 0.0
) -> NDArray[np.float64]:
    """The oracle: a plain loop on the same weights and batches, with all of PyTorch's defaults.

    Returns:
        The training loss of each step, then loss and accuracy on the test data, and
        accuracy on as many training examples as there are for validation.
    """
    torch.manual_seed(each.seed)
    model = build()
    rng = np.random.default_rng(1)
    write(model, {k: (v * (1 + jolt * rng.normal(size=v.shape))) for k, v in ours.weights(each).items()})
    call = ours.settings.optimizer
    kind = {name.lower(): kind for name, kind in vars(torch.optim).items()}[call.name]
    optimizer = kind([p for p in model.parameters() if p.requires_grad], lr=each.learning_rate, **call.params)
    probabilities = isinstance(model, nn.Sequential) and isinstance(model[-1], nn.Softmax)

    def loss_of(indices: Any, x: Any, y: Any) -> tuple[Tensor, Tensor, Tensor]:
        images = torch.from_numpy(x[indices].transpose(0, 3, 1, 2).copy())
        labels = torch.from_numpy(y[indices].astype(np.int64))
        out = model(images)
        shares = out if probabilities else torch.softmax(out, dim=1)
        return -torch.log(shares[torch.arange(len(labels)), labels]).mean(), out, labels

    torch.manual_seed(int(words(each.seed, "random layers", 0, 2).view(np.uint64)[0]))
    losses = []
    for batch in batch_order(each.seed, 0, ours.marks[-1], len(task.x_train), ours.settings.batch_size):
        optimizer.zero_grad()
        loss, _, _ = loss_of(batch, task.x_train, task.y_train)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        loss, *test = loss_of(np.arange(len(task.x_test)), task.x_test, task.y_test)
        _, *seen = loss_of(np.arange(len(task.x_val)), task.x_train, task.y_train)
    right = [float((out.argmax(dim=1) == labels).float().mean()) for out, labels in (test, seen)]
    return np.array([*losses, float(loss), *right])


def assert_plain(
    build: Callable[[], nn.Module], task: Task, trained: Trainer, each: Run, *results: dict[Run, RunResult]
) -> None:
    """A run's results are those of the plain loop, but for rounding."""
    plain, jolted = (one_by_one(build, task, trained, each, jolt) for jolt in (0.0, 1e-6))
    assert_near([found[each] for found in results], plain, jolted, trained.marks, task)


@pytest.mark.parametrize("name", NETWORKS)
def test_training_equals_a_plain_loop(name: str, task: Task) -> None:
    build, stackable = NETWORKS[name]
    trained = trainer(build, task)
    runs = [run(2, rate=0.003), run(1, "he_normal"), run(3, "orthogonal"), run(0)]
    results = [ours(trained, program, runs) for program in ((ALONE, TOGETHER) if stackable else (ALONE,))]
    assert all(set(found) == set(runs) for found in results)
    for each in runs[:2]:
        assert_plain(build, task, trained, each, *results)


def test_the_comparison_with_the_plain_loop_can_fail(task: Task) -> None:
    trained = trainer(norm_dropout, task)
    plain = one_by_one(norm_dropout, task, trained, run(0))
    for other in (run(0, rate=0.02), run(1), run(0, "he_normal")):
        assert abs(ours(trained, ALONE, [other])[other].test_loss - plain[-3]) > LARGEST_TOLERANCE


@pytest.mark.parametrize(
    "call",
    [
        Call("sgd", momentum=0.9, nesterov=True, weight_decay=1e-3),
        Call("adam", betas=(0.8, 0.99), amsgrad=True),
        Call("adamw", weight_decay=0.1),
        Call("adagrad", lr_decay=0.01),
        Call("adadelta", rho=0.8),
        Call("adamax"),
        Call("asgd", t0=3),
        Call("nadam", weight_decay=0.01),
        Call("radam"),
        Call("rmsprop", momentum=0.5, centered=True),
        Call("rprop", etas=(0.4, 1.3)),
        Call("adafactor"),
    ],
    ids=lambda call: call.name,
)
def test_every_optimizer_updates_stacked_runs_as_it_updates_each(call: Call, task: Task) -> None:
    trained = trainer(dense, task, replace(SETTINGS, optimizer=call))
    assert trained.net.stackable == (call.name != "adafactor")  # which scales by the size of a whole weight
    runs = [run(1, rate=0.02), run(2, "he_normal", rate=0.005), run(3, rate=0.02)]
    results = [ours(trained, program, runs) for program in ((ALONE, TOGETHER) if trained.net.stackable else (ALONE,))]
    for each in runs[:2]:
        assert_plain(dense, task, trained, each, *results)


@pytest.mark.parametrize("name", ["dense", "convolutions", "normalised"])
def test_a_run_does_not_depend_on_its_neighbours(task: Task, name: str) -> None:
    trained, program = trainer(NETWORKS[name][0], task), Program("step", 3, 0.0)
    runs = [run(seed, init) for seed in range(3) for init in ("he_normal", "zeros", "random_normal(stddev=1.0)")]
    together = ours(trained, program, runs)
    apart = {each: ours(trained, program, [each])[each] for each in runs[:4]}
    reverse = ours(trained, program, runs[::-1])
    for each in runs[:4]:
        assert facts(together[each]) == facts(apart[each]) == facts(reverse[each])


def test_runs_draw_the_same_alone_and_together(task: Task) -> None:
    """With most of the signal dropped, another mask would move the losses by more than a tenth."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(60, 8), nn.Dropout(0.8), nn.Linear(8, 3))

    trained = trainer(build, task)
    runs = [run(0), run(1), run(2)]
    alone, together = (ours(trained, program, runs) for program in (ALONE, TOGETHER))
    for each in runs:
        assert together[each].train_loss == pytest.approx(alone[each].train_loss, abs=1e-5)
        assert facts(alone[each]) == facts(ours(trained, ALONE, [each])[each])
    assert len({result.train_loss for result in alone.values()}) == 3


def test_the_users_random_state_and_threads_stay_as_they_are(task: Task) -> None:
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        trained = trainer(norm_dropout, task)
        for _ in ours(trained, TOGETHER, [run(0), run(1)]).values():
            assert torch.get_num_threads() == 2
        stopped = trained.train(ALONE, [run(0), run(1), run(2), run(3)])
        next(stopped)
        stopped.close()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("program", [ALONE, TOGETHER], ids=["alone", "together"])
def test_a_diverged_run_is_alone_and_ends_at_the_first_loss_that_is_no_number(task: Task, program: Program) -> None:
    trained = trainer(norm_dropout, task, replace(SETTINGS, optimizer=Call("sgd")))
    wild, tame = run(0, rate=1e20), run(0)
    together = ours(trained, program, [wild, tame])
    assert facts(together[tame]) == facts(ours(trained, program, [tame])[tame])
    assert together[tame].status == "finished"
    losses = trained.advance(trained.start([wild]), [wild], 0, 5)
    result = together[wild]
    assert result.status == "diverged"
    assert result.diverged_at == int(np.flatnonzero(~np.isfinite(losses[0]))[0]) > 0
    late = [mark > result.diverged_at for mark in result.steps]
    assert [math.isnan(value) for value in result.val_loss] == late
    assert math.isnan(result.test_metric)


def test_all_runs_gone_is_told_as_progress_too(task: Task) -> None:
    trained = trainer(norm_dropout, task, replace(SETTINGS, optimizer=Call("sgd")))
    told: list[int] = []
    results = dict(trained.train(TOGETHER, [run(0, rate=1e30), run(1, rate=1e30)], told.append))
    assert {result.status for result in results.values()} == {"diverged"}
    assert sum(told) == 2 * trained.marks[-1]


def test_the_measured_choice_trains_side_by_side_only_what_can_be(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fanin.torch.measure._LARGEST_CHUNK", 2)
    monkeypatch.setattr("fanin.torch.measure._SECONDS", 0.01)
    # Whatever is eligible is taken, so that the machine's mood has no part in it.
    monkeypatch.setattr(
        "fanin.torch.measure.pick", lambda _, tried, __: max((t.program for t in tried), key=lambda p: p.chunk)
    )
    cases = ((dense, 2), (Recurrent, 1), (Halting, 1), (Counting, 1), (Forgetting, 1), (lambda: Attention(0.5), 1))
    for build, chunk in cases:
        trained = trainer(build, task)
        notes: list[str] = []
        chosen = choose(trained, [run(0, "zeros"), run(0)], notes.append)
        assert (chosen.loop, chosen.chunk) == ("step", chunk), build
        assert chosen.rate > 0
        assert notes[0] == "1 at a time"


def test_frozen_parameters_are_neither_drawn_nor_trained(task: Task) -> None:
    def build() -> nn.Module:
        model = dense()
        model[1].requires_grad_(False)
        return model

    trained = trainer(build, task)
    assert [param.path for param in trained.net.info.params] == ["3.weight", "3.bias"]
    torch.manual_seed(3)
    before = build()[1].weight
    for runs in ([run(3)], [run(3), run(4), run(5)]):
        executed = trained.start(runs)
        trained.advance(executed, runs, 0, 5)
        with executed.run(0) as model:
            assert torch.equal(model[1].weight, before)
            assert not torch.equal(model[3].weight, torch.from_numpy(trained.weights(run(3))["3.weight"]))


def test_signals_are_those_of_plain_numpy(task: Task) -> None:
    trained = trainer(dense, task)
    each = run(4)
    torch.manual_seed(4)
    model = dense()
    biases = [model[at].bias.detach().double().numpy() for at in (1, 3)]
    rows = task.x_train.transpose(0, 3, 1, 2).reshape(-1, 60)
    before, rms = dense_signals(rows, task.y_train, [array.T for array in trained.weights(each).values()], biases)
    for program in (ALONE, TOGETHER):
        result = ours(trained, program, [each])[each]
        assert result.signals is not None
        assert result.signals.layers == ("1", "3")
        # float32 sums of at most 60 terms: a relative error of 60 units in the last place at most, 4e-6
        np.testing.assert_allclose([*result.signals.signal_rms, *result.signals.gradient_rms], rms, rtol=1e-5)
        found = result.signals.cosine, result.signals.dead, result.signals.saturated
        expected = np.transpose([geometry(z, math.inf) for z in before])
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
