"""What training is made of in every framework: steps, the order of the data, workers, results, the choice of speed."""

import inspect
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fanin.errors import InvalidValueError, ModelError
from fanin.initializers.streams import permutation
from fanin.records import Call, InitialSignals, ModelSpec, Program, Run, RunResult, Settings, Task

__all__ = [
    "EVALUATION_BATCH",
    "SIGNAL_BATCH",
    "Measured",
    "Weights",
    "batch_order",
    "batches_of",
    "call_build",
    "channels_first",
    "cores",
    "data_parts",
    "evaluation_steps",
    "misfit",
    "outcome",
    "pick",
    "refuse_rate",
    "sample_run",
    "spread",
    "steps_per_epoch",
    "together_limit",
]

EVALUATION_BATCH = 1024
SIGNAL_BATCH = 256
_MEMORY_SHARE = 1 / 8

Weights = Callable[[Run], Mapping[str, NDArray[np.float32]]]
"""Gives a run's initial weights by path."""
_Chunk = TypeVar("_Chunk")
_Done = TypeVar("_Done")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Whole batches in an epoch; the rest of each epoch's order is left out."""
    return examples // batch_size


def evaluation_steps(examples: int, settings: Settings) -> tuple[int, ...]:
    """The numbers of steps after which a run is evaluated, spread evenly and ending at the last.

    Example:
        >>> from fanin.records import Call
        >>> evaluation_steps(100, Settings(Call("sgd"), batch_size=10, epochs=2, evaluations=4))
        (5, 10, 15, 20)
    """
    total = steps_per_epoch(examples, settings.batch_size) * settings.epochs
    count = min(settings.evaluations, total)
    return tuple(round(total * (i + 1) / count) for i in range(count))


def data_parts(task: Task) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Examples and targets to train on (``train``) and to evaluate; ``seen`` is a batch of the training data."""
    # As many as a batch of validation data, so that nothing more is compiled for them.
    seen = min(EVALUATION_BATCH, len(task.x_train), len(task.x_val))
    return {
        "train": (task.x_train, task.y_train),
        "seen": (task.x_train[:seen], task.y_train[:seen]),
        "val": (task.x_val, task.y_val),
        "test": (task.x_test, task.y_test),
    }


@lru_cache(maxsize=64)
def _epoch_order(seed: int, epoch: int, examples: int) -> NDArray[np.int32]:
    return permutation(seed, f"data order/epoch {epoch}", examples).astype(np.int32)


def batch_order(seed: int, start: int, stop: int, examples: int, batch_size: int) -> NDArray[np.int32]:
    """Indices of the examples in batches `start` to `stop` of a run, shape (stop - start, batch_size).

    Depends on the seed and on nothing else of the run, so that all initializers see the same batches.
    """
    per_epoch = steps_per_epoch(examples, batch_size)
    rows = [
        _epoch_order(seed, step // per_epoch, examples)[step % per_epoch * batch_size :][:batch_size]
        for step in range(start, stop)
    ]
    return np.stack(rows)


def batches_of(runs: Sequence[Run], start: int, stop: int, examples: int, batch_size: int) -> NDArray[np.int32]:
    """`batch_order` of each run, shape (len(runs), stop - start, batch_size)."""
    seeds = {run.seed for run in runs}
    orders = {seed: batch_order(seed, start, stop, examples, batch_size) for seed in seeds}
    return np.stack([orders[run.seed] for run in runs])


def refuse_rate(call: Call) -> None:
    """Refuse an optimizer that brings its own learning rate: here the rate comes with each run.

    Raises:
        InvalidValueError: That it is not a parameter.
    """
    if {"lr", "learning_rate"} & set(call.params):
        raise InvalidValueError(
            "The learning rate is not a parameter of the optimizer here", given=str(call), hint="Use --lr."
        )


def call_build(spec: ModelSpec, activation: str, facts: Mapping[str, Any]) -> Any:
    """What a user's function returns; it is told what it has a parameter for.

    Args:
        spec: A user's model.
        activation: Empty where the model brings its own.
        facts: What the function may ask for, by the name of the parameter.

    Raises:
        InvalidValueError, ModelError: If it takes no activation but one is given, or if it fails.
    """
    parameters = inspect.signature(spec.build).parameters
    if activation and "activation" not in parameters:
        raise InvalidValueError(
            "The model brings its own activations",
            given=f"--activation {activation} with {spec.text}",
            hint="Leave --activation out, or give the function a parameter named activation.",
        )
    known = {**facts, "activation": activation} if activation else facts
    try:
        return spec.build(**{name: value for name, value in known.items() if name in parameters})
    except Exception as error:
        raise ModelError(f"The model could not be built: {type(error).__name__}: {error}", given=spec.text) from error


def channels_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an example as PyTorch lays out images; the data has (height, width) or (height, width, channels).

    Example:
        >>> channels_first((8, 6)), channels_first((8, 6, 3)), channels_first((48,))
        ((1, 8, 6), (3, 8, 6), (48,))
    """
    if len(shape) < 2:
        return shape
    return (1, *shape) if len(shape) == 2 else (shape[-1], *shape[:-1])


def misfit(spec: ModelSpec, task: Task, shape: tuple[int, ...] | None, otherwise: str) -> ModelError:
    """The error for a model whose output does not fit the data.

    Args:
        spec: The model.
        task: The data.
        shape: Of the output, batch in front.
        otherwise: What the model gives where that is no shape.
    """
    shown = otherwise if shape is None else f"an output of shape (batch{''.join(f', {size}' for size in shape[1:])})"
    kind = "classes" if task.kind == "classification" else "target columns"
    return ModelError(
        "The model's output and the data do not fit together",
        given=f"{spec.text} has {shown}, {task.name} has {task.outputs} {kind}",
        allowed=f"an output of shape (batch, {task.outputs})",
    )


def outcome(
    marks: Sequence[int],
    diverged_at: int,
    curves: Sequence[NDArray[Any]],
    test: tuple[float, float],
    signals: InitialSignals,
    seconds: float,
) -> RunResult:
    """The record of a run from what was measured.

    Args:
        marks: Steps done before each evaluation.
        diverged_at: The first step whose loss was not finite, or -1.
        curves: Training loss, validation loss, validation metric and training metric at each evaluation.
        test: Loss and metric on the test data.
        signals: Measured at step 0.
        seconds: Wall time of the run's share of its chunk.
    """
    # A network whose last step blew it up would show it in the loss of the next.
    if diverged_at < 0 and not np.isfinite(curves[1][-1]):
        diverged_at = marks[-1]
    finished = diverged_at < 0
    # What a run's weights score after it diverged is no result of training.
    valid = np.array([finished or mark <= diverged_at for mark in marks])
    train_loss, val_loss, val_metric, train_metric = (
        tuple(np.where(valid, curve, np.nan).tolist()) for curve in curves
    )
    return RunResult(
        status="finished" if finished else "diverged",
        diverged_at=None if finished else diverged_at,
        steps=tuple(marks),
        train_loss=train_loss,
        val_loss=val_loss,
        val_metric=val_metric,
        test_loss=test[0] if finished else float("nan"),
        test_metric=test[1] if finished else float("nan"),
        signals=signals,
        seconds=seconds,
        train_metric=train_metric,
    )


def spread(
    chunks: Iterable[_Chunk],
    devices: Sequence[Any],
    work: Callable[[_Chunk, Any, Callable[[int], None]], _Done],
    progress: Callable[[int], None],
) -> Iterator[_Done]:
    """Work on chunks with one thread for each device, and yield each result as it is there.

    Args:
        chunks: What is to be done.
        devices: Handed to `work`, each to one thread.
        work: From a chunk, a device and `progress` to a result.
        progress: Told how much was done, from any thread; it raises where nobody waits any more.

    Raises:
        Exception: Whatever went wrong in a thread; results already yielded are not affected.
    """
    waiting: queue.SimpleQueue[_Chunk] = queue.SimpleQueue()
    for chunk in chunks:
        waiting.put(chunk)
    results: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    stop = threading.Event()

    def report(done: int) -> None:
        if stop.is_set():
            raise _Stopped
        progress(done)

    def serve(device: Any) -> None:
        """Work on chunks until there are none, or nobody waits for them."""
        try:
            while not stop.is_set():
                results.put(("done", work(waiting.get_nowait(), device, report)))
        except (queue.Empty, _Stopped):
            results.put(("idle", None))
        except BaseException as error:
            results.put(("failed", error))

    workers = [threading.Thread(target=serve, args=(device,), daemon=True) for device in devices]
    for worker in workers:
        worker.start()
    try:
        running = len(workers)
        while running:
            what, value = results.get()
            if what == "failed":
                raise value
            if what == "done":
                yield value
            running -= what == "idle"
    finally:
        stop.set()
        for worker in workers:
            worker.join()


class _Stopped(Exception):  # noqa: N818 - a signal between threads, not an error
    """Raised inside a worker whose results nobody waits for any more."""


@dataclass(frozen=True)
class Measured:
    """A way of executing, tried.

    Attributes:
        bits: What it computed for the sample.
        eligible: Whether it computed that wherever the sample stood among its neighbours.
    """

    program: Program
    bits: bytes
    eligible: bool


def pick(reference: Measured, tried: Sequence[Measured], margin: float) -> Program:
    """The fastest eligible program; one with other bits than the plainest only where it pays.

    So the choice, which depends on how busy the machine happens to be, mostly leaves the numbers alone.

    Args:
        reference: The plainest.
        tried: All of them.
        margin: How many times faster one with other bits must be.
    """
    eligible = [each for each in tried if each.eligible]
    same = max(
        (each.program for each in eligible if each.bits == reference.bits),
        key=lambda program: program.rate,
        default=reference.program,
    )
    fastest = max((each.program for each in eligible), key=lambda program: program.rate, default=reference.program)
    return fastest if fastest.rate > margin * same.rate else same


def sample_run(weights: Weights, runs: Sequence[Run]) -> Run:
    """A run whose weights all vary: with equal weights every way of summing them gives the same bits."""
    for run in {run.init: run for run in reversed(runs)}.values():
        if all(np.ptp(array) > 0 for array in weights(run).values()):
            return run
    return runs[0]


def together_limit(numbers: int, devices: int) -> int:
    """How many runs a device may hold.

    Args:
        numbers: Numbers of one run: weights and the optimizer's slots.
        devices: How many devices share the memory.
    """
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        memory = 4 << 30
    return max(1, int(memory * _MEMORY_SHARE / (devices * 4 * 3 * max(1, numbers))))
