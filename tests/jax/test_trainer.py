"""Runs of Flax models trained together are the runs that a plain loop with `nnx.Optimizer` trains one by one."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from numpy.typing import NDArray

from fanin.experiments.tasks import make_task
from fanin.initializers.streams import words
from fanin.jax.adapter import write
from fanin.jax.backend import start
from fanin.jax.networks import network
from fanin.jax.trainer import Trainer
from fanin.records import Call, ModelSpec, Program, Run, RunResult, Settings, Task
from fanin.training import batch_order
from tests.oracles.geometry import geometry
from tests.toys import LARGEST_TOLERANCE, SETTINGS, assert_near, dense_signals, facts, ours, run, toy_task, weights_for

start(None)

ALONE, TOGETHER = Program("step", 1, 0.0), Program("scan", 3, 0.0)


def flat(x: Any) -> Any:
    return x.reshape(len(x), -1)


def dense() -> nnx.Module:
    rngs = nnx.Rngs(0)
    return nnx.Sequential(flat, nnx.Linear(60, 7, rngs=rngs), jax.nn.tanh, nnx.Linear(7, 3, rngs=rngs), jax.nn.softmax)


def norm_dropout() -> nnx.Module:
    rngs = nnx.Rngs(0)
    return nnx.Sequential(
        flat,
        nnx.Linear(60, 9, use_bias=False, rngs=rngs),
        nnx.BatchNorm(9, momentum=0.8, rngs=rngs),
        jax.nn.relu,
        nnx.Dropout(0.3, rngs=rngs),
        nnx.Linear(9, 3, rngs=rngs),
    )


def convolutions() -> nnx.Module:
    rngs = nnx.Rngs(0)
    return nnx.Sequential(
        nnx.Conv(2, 4, (3, 2), feature_group_count=2, rngs=rngs),
        jax.nn.gelu,
        nnx.ConvTranspose(4, 5, (2, 3), rngs=rngs),
        jax.nn.relu,
        lambda x: nnx.max_pool(x, (2, 2), (2, 2)),
        flat,
        nnx.Linear(30, 3, rngs=rngs),
    )


class Sequences(nnx.Module):
    """Attention with dropout, a loop over time, and an embedding that is used twice."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.embed = nnx.Linear(10, 8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, dropout_rate=0.2, decode=False, rngs=rngs)
        self.memory = nnx.RNN(nnx.GRUCell(8, 5, rngs=rngs))
        self.head = nnx.Linear(5, 3, rngs=rngs)
        self.same = self.head

    def __call__(self, x: Any) -> Any:
        x = self.embed(x.reshape(len(x), 6, 10))
        states = self.memory(x + self.attention(x))
        return self.head(states[:, -1]) + self.same(states[:, 0])


@pytest.fixture(scope="module")
def task() -> Task:
    return toy_task()


def trainer(build: Callable[..., nnx.Module], task: Task, settings: Settings = SETTINGS) -> Trainer:
    net = network(ModelSpec("toy.py:build", "user", (), "", build), task, "", settings)
    made = Trainer(net, task, settings, weights_for(net.info))
    made.devices = made.devices[:1]  # each of them compiles; experiments/test_engines.py trains on all
    return made


@pytest.fixture(scope="module")
def trained(task: Task) -> Trainer:
    """That of the network with a moving average and dropout, compiled once."""
    return trainer(norm_dropout, task)


# ---------------------------------------------------------------------------------------------------- the oracle
def cross_entropy(model: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """The loss of a batch, written out, and the outputs."""
    outputs = model(x)
    probabilities = isinstance(model, nnx.Sequential) and model.layers[-1] is jax.nn.softmax
    shares = outputs if probabilities else jnp.exp(outputs) / jnp.exp(outputs).sum(axis=1, keepdims=True)
    return -jnp.log(shares[jnp.arange(len(y)), y]).mean(), outputs


slopes = nnx.jit(nnx.value_and_grad(cross_entropy, has_aux=True))


def one_by_one(
    build: Callable[[], nnx.Module], task: Task, ours: Trainer, each: Run, jolts: Sequence[float] = (0.0,)
) -> list[NDArray[np.float64]]:
    """The oracle: a plain loop with the optimizer of optax on the same weights and batches.

    Returns:
        For each jolt, a share by which the weights are moved at random: the training loss of each step, then loss
        and accuracy on the test data, and accuracy on as many training examples as there are for validation.
    """
    model, call, found = build(), ours.settings.optimizer, []
    fresh = jax.tree.map(jnp.copy, nnx.state(model))
    for jolt in jolts:  # one model for all, because compiling costs most
        nnx.update(model, fresh)
        rng = np.random.default_rng(1)
        write(model, {k: (v * (1 + jolt * rng.normal(size=v.shape))) for k, v in ours.weights(each).items()})
        for place, key in nnx.iter_graph(model):
            if isinstance(key, nnx.RngKey):
                data = words(each.seed, "/".join(map(str, place)), 0, 2).astype(np.uint32)
                key.set_value(jax.random.wrap_key_data(data))
        optimizer = getattr(optax, call.name)(each.learning_rate, **call.params)
        held, losses = optimizer.init(nnx.state(model, nnx.Param)), []
        model.train()
        for batch in batch_order(each.seed, 0, ours.marks[-1], len(task.x_train), ours.settings.batch_size):
            (loss, _), gradients = slopes(model, task.x_train[batch], task.y_train[batch])
            weights = nnx.state(model, nnx.Param)
            updates, held = optimizer.update(gradients, held, weights)
            nnx.update(model, optax.apply_updates(weights, updates))
            losses.append(float(loss))
        model.eval()
        loss, outputs = cross_entropy(model, task.x_test, task.y_test)
        seen = slice(len(task.x_val))
        known = model(task.x_train[seen]).argmax(axis=1) == task.y_train[seen]
        right = (outputs.argmax(axis=1) == task.y_test).mean(), known.mean()
        found.append(np.array([*losses, float(loss), *map(float, right)]))
    return found


def assert_plain(
    build: Callable[[], nnx.Module], task: Task, trained: Trainer, each: Run, *results: dict[Run, RunResult]
) -> NDArray[np.float64]:
    """A run's results are those of the plain loop, which are returned, but for rounding."""
    plain, jolted = one_by_one(build, task, trained, each, (0.0, 1e-6))
    assert_near([found[each] for found in results], plain, jolted, trained.marks, task)
    return plain


# ------------------------------------------------------------------------------------------------------ training
RUNS = [run(2, rate=0.003), run(1, "he_normal"), run(3, "orthogonal")]


def test_training_alone_and_together_equals_a_plain_loop(trained: Trainer, task: Task) -> None:
    alone, together = (ours(trained, program, RUNS) for program in (ALONE, TOGETHER))
    plain = assert_plain(norm_dropout, task, trained, RUNS[0], alone, together)
    for other in (run(2, rate=0.02), run(1, rate=0.003), run(2, "he_normal", rate=0.003)):
        # What the comparison must be able to tell apart.
        assert abs(ours(trained, ALONE, [other])[other].test_loss - plain[-3]) > LARGEST_TOLERANCE


@pytest.mark.parametrize(
    ("build", "call"),
    [
        pytest.param(convolutions, Call("sgd", momentum=0.9, nesterov=True), id="convolutions", marks=pytest.mark.slow),
        pytest.param(Sequences, Call("adamw", weight_decay=0.1), id="sequences", marks=pytest.mark.slow),
        # It scales by the size of a whole weight.
        pytest.param(dense, Call("lamb"), id="lamb", marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_layer_and_optimizer_is_trained_as_alone(
    build: Callable[[], nnx.Module], call: Call, task: Task
) -> None:
    trained = trainer(build, task, replace(SETTINGS, optimizer=call))
    assert_plain(build, task, trained, RUNS[0], ours(trained, TOGETHER, RUNS))


def test_a_run_depends_on_no_neighbour_and_a_diverged_one_is_frozen(trained: Trainer) -> None:
    wild, runs = run(0, rate=1e38), [run(seed, init) for seed in range(2) for init in ("he_normal", "zeros")]
    together = ours(trained, TOGETHER, [wild, *runs])
    apart, reverse = ours(trained, TOGETHER, runs[:1]), ours(trained, TOGETHER, [*runs[::-1], wild])
    assert facts(together[runs[0]]) == facts(apart[runs[0]])
    assert all(facts(together[each]) == facts(reverse[each]) for each in runs)
    assert len({result.train_loss for result in together.values()}) == 5
    assert {together[each].status for each in runs} == {"finished"}
    result, device, copies = together[wild], trained.devices[0], [wild] * 3
    _, losses = trained.advance(TOGETHER, trained.start(copies, device), copies, device, 0, trained.longest)
    assert result.status == "diverged"
    assert result.diverged_at == int(np.flatnonzero(~np.isfinite(losses[0]))[0]) > 0
    late = [mark > result.diverged_at for mark in result.steps]
    assert [math.isnan(value) for value in result.val_loss] == late
    assert math.isnan(result.test_metric)


# ---------------------------------------------------------------------------------------------------- the start
class Mixed(nnx.Module):
    """A table that no initializer is for, numbers that are not trained, and a variable that comes with a call."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.table = nnx.Param(jax.random.normal(rngs.params(), (60,)))
        self.steps = nnx.Param(jnp.arange(4))
        self.linear = nnx.Linear(60, 3, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = flat(x) * self.table + self.steps.sum()
        self.seen = nnx.Intermediate(x)
        return self.linear(self.dropout(x))


def test_a_function_that_takes_rngs_is_given_those_of_the_runs_seed(task: Task) -> None:
    trained = trainer(lambda rngs: Mixed(rngs), task)
    states = {seed: trained.start([run(seed)], trained.devices[0]) for seed in (3, 4)}
    for seed, state in states.items():
        own = Mixed(nnx.Rngs(seed))
        np.testing.assert_array_equal(state.trainable["table"], own.table[...])
        np.testing.assert_array_equal(state.trainable["linear/kernel"], trained.weights(run(seed))["linear/kernel"])
        expected = words(seed, "dropout/rngs/key", 0, 2)
        np.testing.assert_array_equal(state.other["dropout/rngs/key"], expected)
    assert [param.path for param in trained.net.info.params] == ["table", "linear/kernel", "linear/bias"]
    fixed = trainer(lambda: Mixed(nnx.Rngs(0)), task)
    tables = [fixed.start([run(seed)], fixed.devices[0]).trainable["table"] for seed in (3, 4)]
    np.testing.assert_array_equal(*tables)


def test_only_floating_parameters_are_trained_and_state_keeps_its_structure(task: Task) -> None:
    trained = trainer(lambda rngs: Mixed(rngs), task)
    device, runs = trained.devices[0], [run(3)]
    before = jax.tree.map(np.array, trained.start(runs, device))
    after, losses = trained.advance(ALONE, trained.start(runs, device), runs, device, 0, 3)
    assert np.isfinite(losses).all()
    assert jax.tree.structure(after) == jax.tree.structure(before)
    assert int(after.step) == 3
    np.testing.assert_array_equal(after.other["steps"], np.arange(4))
    assert int(after.other["dropout/rngs/count"]) == int(before.other["dropout/rngs/count"]) + 3
    assert all((np.asarray(after.trainable[path]) != before.trainable[path]).any() for path in before.trainable)


def test_the_type_of_a_parameter_is_the_models(task: Task) -> None:
    trained = trainer(lambda: nnx.Sequential(flat, nnx.Linear(60, 3, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))), task)
    state = trained.start([run(1)], trained.devices[0])
    assert {leaf.dtype for leaf in state.trainable.values()} == {jnp.dtype(jnp.bfloat16)}


# ------------------------------------------------------------------------------------------------------- signals
def test_signals_are_those_of_plain_numpy(task: Task) -> None:
    trained = trainer(dense, task)
    state = trained.start([run(4)], trained.devices[0])
    measured = trained.functions("step", 1).signals(state, 0, task.x_train, task.y_train, 0.7)
    before, rms = dense_signals(task.x_train.reshape(-1, 60), task.y_train, [*trained.weights(run(4)).values()])
    assert trained.net.layers == ("layers/1", "layers/3")
    # float32 sums of at most 60 terms: a relative error of 60 units in the last place at most, 4e-6
    np.testing.assert_allclose(np.concatenate(measured[:2]), rms, rtol=1e-5)
    expected = np.transpose([geometry(z, 0.7) for z in before])
    np.testing.assert_allclose(measured[2:], expected, rtol=1e-5, atol=1e-6)


def test_the_units_of_a_convolution_are_its_channels(task: Task) -> None:
    def build() -> nnx.Module:
        rngs = nnx.Rngs(0)
        return nnx.Sequential(nnx.Conv(2, 4, (3, 2), padding="VALID", rngs=rngs), flat, nnx.Linear(64, 3, rngs=rngs))

    trained = trainer(build, task)
    state = trained.start([run(4)], trained.devices[0])
    measured = trained.functions("step", 1).signals(state, 0, task.x_train[:40], task.y_train[:40], 0.7)
    kernel = next(iter(trained.weights(run(4)).values())).astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(task.x_train[:40].astype(np.float64), (3, 2), axis=(1, 2))
    z = np.einsum("nyxihw,hwio->nyxo", windows, kernel)
    np.testing.assert_allclose([row[0] for row in measured[2:]], geometry(z, 0.7), rtol=1e-5, atol=1e-6)


def test_layers_inside_of_a_loop_are_left_out_and_shared_ones_named_once(task: Task) -> None:
    layers = trainer(Sequences, task).net.layers
    attention = tuple(f"attention/{name}" for name in ("query", "key", "value", "out"))
    assert layers == ("embed", *attention, "head")


def test_a_model_that_is_one_layer_is_measured_by_its_kind() -> None:
    task = make_task("flat", {"x": np.ones((40, 4), np.float32), "y": np.arange(40) % 3})
    assert trainer(lambda: nnx.Linear(4, 3, rngs=nnx.Rngs(0)), task).net.layers == ("Linear",)
