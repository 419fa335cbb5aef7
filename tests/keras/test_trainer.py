"""Runs trained together are the runs that Keras itself trains one by one."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from fanin.jax.measure import choose
from fanin.jax.trainer import Trainer
from fanin.keras.adapter import write
from fanin.keras.models import build as build_model
from fanin.keras.program import network
from fanin.records import Call, ModelSpec, Program, Run, Settings, Task
from fanin.training import batch_order, evaluation_steps
from tests.oracles.geometry import geometry
from tests.toys import LARGEST_TOLERANCE, SETTINGS, assert_near, dense_signals, facts, ours, run, weights_for

ALONE, TOGETHER = Program("step", 1, 0.0), Program("scan", 3, 0.0)


def trainer(build: Callable[[], keras.Model], task: Task, settings: Settings = SETTINGS) -> Trainer:
    net = network(ModelSpec("toy.py:build", "user", (), "", build), task, "", settings)
    made = Trainer(net, task, settings, weights_for(net.info))
    made.devices = made.devices[:1]  # each of them compiles; experiments/test_executor.py trains on all
    return made


@pytest.fixture(scope="module")
def dense(task: Task, networks: dict[str, Callable[[], keras.Model]]) -> Trainer:
    """That of the smallest network, compiled once."""
    return trainer(networks["dense"], task)


def one_by_one(
    build: Callable[[], keras.Model], task: Task, ours: Trainer, each: Run, jolts: Sequence[float] = (0.0,)
) -> list[NDArray[np.float64]]:
    """The oracle: Keras's own compiled training loop on the same weights and batches.

    Returns:
        For each jolt, a share by which the weights are moved at random: the training loss of each step, then loss
        and accuracy on the test data, and accuracy on as many training examples as there are for validation.
    """
    # The same starting values for what no plan touches and for the random layers.
    keras.utils.set_random_seed(each.seed)
    model = build_model(ModelSpec("", "user", (), "", build), (), 3, "")
    logits = model.layers[-1].activation is not keras.activations.softmax
    model.compile(
        keras.optimizers.Adam(each.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=logits),
        metrics=["accuracy"],
    )
    model.optimizer.build(model.trainable_variables)
    weights, other = ours.weights(each), ours.start([each], ours.devices[0]).other
    learnt = [*model.trainable_variables, *model.optimizer.variables]
    fresh = [(variable, np.array(variable.value)) for variable in learnt]
    fresh += zip(model.non_trainable_variables, map(np.asarray, other), strict=True)
    batches = batch_order(each.seed, 0, ours.marks[-1], len(task.x_train), SETTINGS.batch_size)
    found = []
    for jolt in jolts:  # one model for all, because compiling costs most
        for variable, value in fresh:
            variable.assign(value.copy())  # training overwrites what it is given
        rng = np.random.default_rng(1)
        write(model, {k: v * (1 + jolt * rng.normal(size=v.shape)) for k, v in weights.items()})
        losses = []
        for batch in batches:
            model.reset_metrics()
            losses.append(float(model.train_on_batch(task.x_train[batch], task.y_train[batch])[0]))
        loss, accuracy = model.evaluate(task.x_test, task.y_test, verbose=0)
        penalty = sum(float(value) for value in model.losses)
        seen = slice(len(task.x_val))
        _, known = model.evaluate(task.x_train[seen], task.y_train[seen], verbose=0)
        found.append(np.array([*losses, loss - penalty, accuracy, known]))
    return found


def assert_plain(
    build: Callable[[], keras.Model], task: Task, trained: Trainer, each: Run, programs: Sequence[Program]
) -> None:
    """Runs trained by these programs are those of Keras, but for rounding."""
    plain, jolted = one_by_one(build, task, trained, each, (0.0, 1e-6))
    runs = [each, run(1, "he_normal"), run(3, "orthogonal")]
    results = [ours(trained, program, runs[: program.chunk])[each] for program in programs]
    assert_near(results, plain, jolted, trained.marks, task)


def test_training_together_equals_keras_one_by_one(
    build: Callable[[], keras.Model], network_name: str, task: Task
) -> None:
    # Alone, a run is the same step without a stack around it.
    programs = [ALONE, TOGETHER] if network_name == "norm_dropout" else [TOGETHER]
    assert_plain(build, task, trainer(build, task), run(2, rate=0.003), programs)


def test_the_comparison_with_keras_can_fail(
    dense: Trainer, task: Task, networks: dict[str, Callable[[], keras.Model]]
) -> None:
    (plain,) = one_by_one(networks["dense"], task, dense, run(0))
    others = [run(0, rate=0.02), run(1), run(0, "he_normal")]
    for result in ours(dense, ALONE, others).values():
        assert abs(result.test_loss - plain[-3]) > LARGEST_TOLERANCE


def test_a_run_does_not_depend_on_its_neighbours(dense: Trainer) -> None:
    runs = [run(seed, init) for seed in range(3) for init in ("he_normal", "zeros", "random_normal(stddev=1.0)")]
    together = ours(dense, TOGETHER, runs)
    apart = {each: ours(dense, TOGETHER, [each])[each] for each in runs[:4]}
    reverse = ours(dense, TOGETHER, runs[::-1])
    for each in runs[:4]:
        assert facts(together[each]) == facts(apart[each]) == facts(reverse[each])


def test_a_diverged_run_is_alone_and_ends_at_the_first_loss_that_is_no_number(
    task: Task, networks: dict[str, Callable[[], keras.Model]]
) -> None:
    trained = trainer(networks["norm_dropout"], task, replace(SETTINGS, optimizer=Call("sgd")))
    program, wild, tame = Program("scan", 2, 0.0), run(0, rate=1e20), run(0)
    together = ours(trained, program, [wild, tame])
    alone = ours(trained, program, [tame])
    assert facts(together[tame]) == facts(alone[tame])
    assert together[tame].status == "finished"
    device, copies = trained.devices[0], [wild, wild]
    _, losses = trained.advance(program, trained.start(copies, device), copies, device, 0, min(trained.longest, 5))
    result = together[wild]
    assert result.status == "diverged"
    assert result.diverged_at == int(np.flatnonzero(~np.isfinite(losses[0]))[0]) > 0
    late = [mark > result.diverged_at for mark in result.steps]
    assert [math.isnan(value) for value in result.val_loss] == late
    assert math.isnan(result.test_metric)


def test_the_measured_choice_gives_the_bits_of_the_plainest_way(
    dense: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every size of a chunk is compiled.
    monkeypatch.setattr("fanin.jax.measure._LARGEST_CHUNK", 2)
    monkeypatch.setattr("fanin.jax.measure._SECONDS", 0.05)
    notes: list[str] = []
    chosen = choose(dense, [run(0, "zeros"), run(0)], notes.append)
    assert chosen.rate > 0
    assert notes[:2] == ["step, 1 at a time", "scan, 1 at a time"]
    assert notes[2].endswith("2 at a time")
    # Unless another way was much faster, which the choice must then say by its rate alone.
    plain = ours(dense, ALONE, [run(5)])
    assert np.isclose(ours(dense, chosen, [run(5)])[run(5)].test_loss, plain[run(5)].test_loss, rtol=1e-3)


def test_signals_are_those_of_plain_numpy(dense: Trainer, task: Task) -> None:
    each = run(4)
    result = ours(dense, ALONE, [each])[each]
    before, rms = dense_signals(task.x_train.reshape(-1, 60), task.y_train, [*dense.weights(each).values()])
    assert result.signals is not None
    # float32 sums of at most 60 terms: a relative error of 60 units in the last place at most, 4e-6
    np.testing.assert_allclose([*result.signals.signal_rms, *result.signals.gradient_rms], rms, rtol=1e-5)
    found = result.signals.cosine, result.signals.dead, result.signals.saturated
    # The model brings its own activations, so nobody knows what saturates.
    np.testing.assert_allclose(found, np.transpose([geometry(z, math.inf) for z in before]), rtol=1e-5, atol=1e-6)


def test_all_runs_of_a_seed_see_the_same_batches() -> None:
    order = batch_order(3, 0, 12, 50, 8)
    assert order.shape == (12, 8)
    epoch = order[:6].reshape(-1)
    assert len(set(epoch.tolist())) == 48
    np.testing.assert_array_equal(order[5:9], batch_order(3, 5, 9, 50, 8))
    assert (order != batch_order(4, 0, 12, 50, 8)).any()
    assert (order[:6] != order[6:]).any()


@pytest.mark.parametrize(
    ("examples", "batch", "epochs", "count"), [(100, 10, 2, 4), (97, 10, 3, 20), (10, 10, 1, 20), (55000, 64, 10, 20)]
)
def test_evaluations_end_with_the_last_step(examples: int, batch: int, epochs: int, count: int) -> None:
    marks = evaluation_steps(examples, Settings(Call("sgd"), batch, epochs, count))
    assert marks[-1] == examples // batch * epochs
    assert len(marks) == min(count, marks[-1])
    assert all(a < b for a, b in itertools.pairwise(marks))


def test_an_error_while_training_reaches_the_caller(dense: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no weights today")

    monkeypatch.setattr(dense, "weights", broken)
    with pytest.raises(RuntimeError, match="no weights today"):
        ours(dense, ALONE, [run(0), run(1)])
