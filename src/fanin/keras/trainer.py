"""Train many runs of one network at once, spread over all devices.

How the runs are executed (how many together, looped inside the compiled program or step by step) is
chosen by measurement; what they compute is not: a way of executing is eligible only if a run gives the
same bits wherever it stands among its neighbours.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from fanin.initializers.streams import permutation
from fanin.keras.adapter import signal_function, tapped_layers
from fanin.keras.backend import KERAS, compiler_options, devices
from fanin.keras.program import Network, State, evaluate_function, initial_state, step_function
from fanin.records import Program, Run, RunResult, Settings, Signals, Task

__all__ = ["Trainer", "batch_order", "evaluation_steps"]

_EVALUATION_BATCH = 1024
_SIGNAL_BATCH = 256

Weights = Callable[[Run], Mapping[str, NDArray[np.float32]]]


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


@dataclass(frozen=True)
class _Functions:
    """The compiled functions of one way of executing."""

    advance: Callable[..., tuple[State, Any]]
    evaluate: Callable[..., tuple[Any, Any]]
    signals: Callable[..., tuple[Any, Any]]


def _looped(step: Callable[..., Any]) -> Callable[..., Any]:
    """The step repeated inside the compiled program; `count` may change without compiling anew."""

    def advance(x: Any, y: Any, state: State, batches: Any, count: Any) -> tuple[State, Any]:
        def body(i: Any, carry: tuple[State, Any]) -> tuple[State, Any]:
            after, loss = step(x, y, carry[0], batches[i])
            return after, carry[1].at[i].set(loss)

        losses = jnp.full(len(batches), jnp.nan, jnp.float32)
        return jax.lax.fori_loop(0, count, body, (state, losses))  # type: ignore[no-any-return]

    return advance


class Trainer:
    """Trains runs of one network on one task.

    Args:
        net: The network.
        task: The data.
        settings: Optimizer, batch size, epochs, evaluations; the same for every run.
        weights: Gives a run's initial weights by path.
    """

    def __init__(self, net: Network, task: Task, settings: Settings, weights: Weights):
        self.net, self.task, self.settings, self.weights = net, task, settings, weights
        self.devices = devices()
        self.marks = evaluation_steps(len(task.x_train), settings)
        self.longest = int(np.diff((0, *self.marks)).max())
        self._functions: dict[tuple[str, int], _Functions] = {}
        self._data: dict[Any, dict[str, Any]] = {}
        self._lock = threading.Lock()

    @cached_property
    def _arrays(self) -> dict[str, Any]:
        """The task in the shape that the model wants, evaluation data cut into batches, the last filled up."""
        shape, task = self.net.input_shape, self.task
        dtype = np.int32 if task.kind == "classification" else np.float32

        def cut(x: Any, y: Any) -> list[tuple[Any, Any]]:
            size = min(_EVALUATION_BATCH, len(x))
            batches = []
            for low in range(0, len(x), size):
                rows = np.minimum(np.arange(low, low + size), len(x) - 1)
                batches.append((x[rows].reshape(-1, *shape), y[rows].astype(dtype)))
            return batches

        return {
            "x": task.x_train.reshape(-1, *shape),
            "y": task.y_train.astype(dtype),
            "val": cut(task.x_val, task.y_val),
            "test": cut(task.x_test, task.y_test),
        }

    def _on(self, device: Any) -> dict[str, Any]:
        """The data on a device, put there once."""
        with self._lock:
            if device not in self._data:
                self._data[device] = jax.device_put(self._arrays, device)
            return self._data[device]

    def functions(self, loop: str, chunk: int) -> _Functions:
        """The compiled functions for a way of executing, made once."""
        with self._lock:
            if (loop, chunk) not in self._functions:
                self._functions[loop, chunk] = self._compile(loop, chunk)
            return self._functions[loop, chunk]

    @staticmethod
    def _traced(function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose Python code (run by JAX while it traces) no two threads enter at once.

        Keras layers keep state while they are called, and measuring signals replaces their activations.
        """

        def alone(*args: Any) -> Any:
            with KERAS:
                return function(*args)

        return alone

    def _compile(self, loop: str, chunk: int) -> _Functions:
        step = step_function(self.net)
        advance = _looped(step) if loop == "scan" else step
        evaluate, measure = evaluate_function(self.net), signal_function(self.net.model, self.net.loss)

        def one(state: State, i: Any) -> State:
            return state if chunk == 1 else jax.tree.map(lambda leaf: leaf[i], state)

        # Measured run by run: how a compiled sum is ordered depends on how many runs it is compiled for, and
        # a run's numbers must not depend on its neighbours.
        def evaluate_one(state: State, i: Any, x: Any, y: Any) -> tuple[Any, Any]:
            return evaluate(one(state, i), x, y)

        def signals_one(state: State, i: Any, x: Any, y: Any) -> tuple[Any, Any]:
            alone = one(state, i)
            return measure(alone.trainable, alone.other, x, y)

        if chunk > 1:
            several = (None, None, 0, 0, None) if loop == "scan" else (None, None, 0, 0)
            advance = jax.vmap(advance, in_axes=several)
        return _Functions(
            jax.jit(self._traced(advance), donate_argnums=2, compiler_options=compiler_options()),
            jax.jit(self._traced(evaluate_one)),
            jax.jit(self._traced(signals_one)),
        )

    def start(self, runs: Sequence[Run], device: Any) -> State:
        """The joint state of a chunk of runs before the first step."""
        states = [initial_state(self.net, self.weights(run), run.seed, run.learning_rate) for run in runs]
        joint = states[0] if len(runs) == 1 else jax.tree.map(lambda *leaves: np.stack(leaves), *states)
        # Without aliasing: training overwrites the state, and must not overwrite the arrays it came from.
        return jax.device_put(joint, device, may_alias=False)  # type: ignore[no-any-return]

    def advance(
        self, program: Program, state: State, runs: Sequence[Run], device: Any, start: int, stop: int
    ) -> tuple[State, NDArray[np.float32]]:
        """Train a chunk from step `start` to `stop`, at most `longest` steps on.

        Returns:
            The new state, and the training losses of shape (runs, stop - start).
        """
        functions, data = self.functions(program.loop, program.chunk), self._on(device)
        orders = {
            seed: batch_order(seed, start, stop, len(self.task.x_train), self.settings.batch_size)
            for seed in {run.seed for run in runs}
        }
        batches = np.stack([orders[run.seed] for run in runs])
        single = len(runs) == 1
        if program.loop == "scan":
            padded = np.zeros((len(runs), self.longest, batches.shape[2]), np.int32)
            padded[:, : stop - start] = batches
            state, losses = functions.advance(
                data["x"], data["y"], state, padded[0] if single else padded, stop - start
            )
            return state, np.asarray(losses).reshape(len(runs), -1)[:, : stop - start]
        collected = []
        for i in range(stop - start):
            state, loss = functions.advance(data["x"], data["y"], state, batches[0, i] if single else batches[:, i])
            collected.append(loss)
        return state, np.stack([np.asarray(loss).reshape(len(runs)) for loss in collected], axis=1)

    def evaluate(self, program: Program, state: State, device: Any, part: str) -> tuple[Any, Any]:
        """Mean loss and metric of each run of a chunk over ``val`` or ``test``."""
        functions, data = self.functions(program.loop, program.chunk), self._on(device)
        count = len(self.task.x_val if part == "val" else self.task.x_test)
        rows = [[functions.evaluate(state, i, *batch) for batch in data[part]] for i in range(program.chunk)]
        loss, metric = (
            np.array(
                [np.concatenate([np.asarray(pair[which], np.float64) for pair in run])[:count].mean() for run in rows]
            )
            for which in (0, 1)
        )
        return loss, metric

    def train_chunk(
        self, program: Program, runs: Sequence[Run], device: Any, progress: Callable[[int], None]
    ) -> list[RunResult]:
        """Train a chunk of runs together, from the first step to the look at the test data."""
        begun = time.perf_counter()
        filled = [*runs, *[runs[0]] * (program.chunk - len(runs))]
        state = self.start(filled, device)
        data = self._on(device)
        functions = self.functions(program.loop, program.chunk)
        batch = data["x"][:_SIGNAL_BATCH], data["y"][:_SIGNAL_BATCH]
        signals = [functions.signals(state, i, *batch) for i in range(len(runs))]
        train, val = [], []
        for start, stop in zip((0, *self.marks), self.marks, strict=False):
            state, losses = self.advance(program, state, filled, device, start, stop)
            train.append(losses.astype(np.float64).mean(axis=1))
            val.append(self.evaluate(program, state, device, "val"))
            progress((stop - start) * len(runs))
        test = self.evaluate(program, state, device, "test")
        diverged_at = np.asarray(state.diverged_at).reshape(-1)
        seconds = (time.perf_counter() - begun) / len(runs)
        names = tuple(layer.path for layer in tapped_layers(self.net.model))
        return [
            self._result(
                i, int(diverged_at[i]), np.array(train), np.array(val), test,
                Signals(names, *(tuple(np.asarray(rms, np.float64).tolist()) for rms in signals[i])), seconds,
            )
            for i in range(len(runs))
        ]  # fmt: skip

    def _result(
        self, i: int, diverged_at: int, train: Any, val: Any, test: Any, signals: Signals, seconds: float
    ) -> RunResult:
        # What a run's frozen weights score after it diverged is no result of training.
        # A network whose last step blew it up would show it in the loss of the next.
        if diverged_at < 0 and not np.isfinite(val[-1, 0, i]):
            diverged_at = self.marks[-1]
        valid = np.array([diverged_at < 0 or mark <= diverged_at for mark in self.marks])
        curves = [np.where(valid, values, np.nan) for values in (train[:, i], val[:, 0, i], val[:, 1, i])]
        finished = diverged_at < 0
        return RunResult(
            status="finished" if finished else "diverged",
            diverged_at=None if finished else diverged_at,
            steps=self.marks,
            train_loss=tuple(curves[0].tolist()),
            val_loss=tuple(curves[1].tolist()),
            val_metric=tuple(curves[2].tolist()),
            test_loss=float(test[0][i]) if finished else float("nan"),
            test_metric=float(test[1][i]) if finished else float("nan"),
            signals=signals,
            seconds=seconds,
        )

    def train(
        self, program: Program, runs: Sequence[Run], progress: Callable[[int], None] = lambda _: None
    ) -> Iterator[tuple[Run, RunResult]]:
        """Train runs on all devices and yield each as its chunk finishes.

        Args:
            program: How to execute, from `fanin.keras.measure.choose`.
            runs: Runs of this network on this task.
            progress: Told how many run-steps were done, from any thread.

        Raises:
            Exception: Whatever went wrong on a device; runs already yielded are not affected.
        """
        chunks: queue.SimpleQueue[Sequence[Run]] = queue.SimpleQueue()
        for low in range(0, len(runs), program.chunk):
            chunks.put(runs[low : low + program.chunk])
        results: queue.SimpleQueue[list[tuple[Run, RunResult]] | BaseException | None] = queue.SimpleQueue()
        stop = threading.Event()

        def work(device: Any) -> None:
            def report(steps: int) -> None:
                if stop.is_set():
                    raise _Stopped
                progress(steps)

            try:
                while not stop.is_set():
                    part = chunks.get_nowait()
                    results.put(list(zip(part, self.train_chunk(program, part, device, report), strict=True)))
            except (queue.Empty, _Stopped):
                results.put(None)
            except BaseException as error:
                results.put(error)

        workers = [threading.Thread(target=work, args=(device,), daemon=True) for device in self.devices]
        for worker in workers:
            worker.start()
        try:
            running = len(workers)
            while running:
                done = results.get()
                if done is None:
                    running -= 1
                elif isinstance(done, BaseException):
                    raise done
                else:
                    yield from done
        finally:
            stop.set()
            for worker in workers:
                worker.join()


class _Stopped(Exception):  # noqa: N818 - a signal between threads, not an error
    """Raised inside a worker whose results nobody waits for any more."""
