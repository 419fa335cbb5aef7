"""Train many runs of one network at once, spread over all devices.

How the runs are executed (how many together, looped inside the compiled program or step by step) is
chosen by measurement; what they compute is not: a way of executing is eligible only if a run gives the
same bits wherever it stands among its neighbours.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from fanin.activations import saturation
from fanin.jax.backend import compiler_options, devices
from fanin.jax.runs import Network, State, evaluate_function, signal_function, step_function
from fanin.records import InitialSignals, Program, Run, RunResult, Settings, Task
from fanin.training import (
    EVALUATION_BATCH,
    SIGNAL_BATCH,
    Weights,
    batches_of,
    data_parts,
    evaluation_steps,
    outcome,
    spread,
)

__all__ = ["Trainer"]


@dataclass(frozen=True)
class _Functions:
    """The compiled functions of one way of executing."""

    advance: Callable[..., tuple[State, Any]]
    evaluate: Callable[..., tuple[Any, Any]]
    signals: Callable[..., tuple[Any, Any]]


def _looped(step: Callable[..., Any]) -> Callable[..., Any]:
    """The step repeated inside the compiled program; `count` may change without compiling anew."""

    def advance(x: Any, y: Any, state: State, batches: Any, count: Any) -> tuple[State, Any]:
        """The state after the steps, and their losses."""

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
        self.counts = {part: len(x) for part, (x, _) in data_parts(task).items()}
        self.longest = int(np.diff((0, *self.marks)).max())
        self._functions: dict[tuple[str, int], _Functions] = {}
        self._data: dict[Any, dict[str, Any]] = {}
        self._lock = threading.Lock()

    @cached_property
    def _arrays(self) -> dict[str, Any]:
        """The task in the shape that the model wants, evaluation data cut into batches, the last filled up."""
        shape = self.net.input_shape
        dtype = np.int32 if self.task.kind == "classification" else np.float32

        def cut(x: Any, y: Any) -> list[tuple[Any, Any]]:
            """Batches of one size, the last filled up with its last example."""
            size = min(EVALUATION_BATCH, len(x))
            rows = [np.minimum(np.arange(low, low + size), len(x) - 1) for low in range(0, len(x), size)]
            return [(x[each], y[each]) for each in rows]

        parts = {part: (x.reshape(-1, *shape), y.astype(dtype)) for part, (x, y) in data_parts(self.task).items()}
        return {part: arrays if part == "train" else cut(*arrays) for part, arrays in parts.items()}

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

    def _traced(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose Python code (run by JAX while it traces) no two threads enter at once."""

        def alone(*args: Any) -> Any:
            with self.net.lock:
                return function(*args)

        return alone

    def _compile(self, loop: str, chunk: int) -> _Functions:
        """The functions, which JAX compiles when they are first called."""
        step = step_function(self.net)
        advance = _looped(step) if loop == "scan" else step
        evaluate, measure = evaluate_function(self.net), signal_function(self.net)

        def one(state: State, i: Any) -> State:
            return state if chunk == 1 else jax.tree.map(lambda leaf: leaf[i], state)

        # Measured run by run: how a compiled sum is ordered depends on how many runs it is compiled for, and
        # a run's numbers must not depend on its neighbours.
        def evaluate_one(state: State, i: Any, x: Any, y: Any) -> tuple[Any, Any]:
            return evaluate(one(state, i), x, y)

        def signals_one(state: State, i: Any, x: Any, y: Any, bound: Any) -> tuple[Any, ...]:
            return measure(one(state, i), x, y, bound)

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
        states = [self.net.begin(self.weights(run), run.seed, run.learning_rate) for run in runs]
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
        batches = batches_of(runs, start, stop, len(self.task.x_train), self.settings.batch_size)
        single = len(runs) == 1
        if program.loop == "scan":
            padded = np.zeros((len(runs), self.longest, batches.shape[2]), np.int32)
            padded[:, : stop - start] = batches
            state, losses = functions.advance(*data["train"], state, padded[0] if single else padded, stop - start)
            return state, np.asarray(losses).reshape(len(runs), -1)[:, : stop - start]
        collected = []
        for i in range(stop - start):
            state, loss = functions.advance(*data["train"], state, batches[0, i] if single else batches[:, i])
            collected.append(loss)
        return state, np.stack([np.asarray(loss).reshape(len(runs)) for loss in collected], axis=1)

    def evaluate(self, program: Program, state: State, device: Any, part: str) -> tuple[Any, Any]:
        """Mean loss and metric of each run of a chunk over ``seen`` (some training data), ``val`` or ``test``."""
        functions, data = self.functions(program.loop, program.chunk), self._on(device)
        count = self.counts[part]
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
        batch, bound = [each[:SIGNAL_BATCH] for each in data["train"]], saturation(runs[0].activation)
        signals = [functions.signals(state, i, *batch, bound) for i in range(len(runs))]
        train, val, seen = [], [], []
        for start, stop in zip((0, *self.marks), self.marks, strict=False):
            state, losses = self.advance(program, state, filled, device, start, stop)
            train.append(losses.astype(np.float64).mean(axis=1))
            val.append(self.evaluate(program, state, device, "val"))
            seen.append(self.evaluate(program, state, device, "seen")[1])
            progress((stop - start) * len(runs))
        test = self.evaluate(program, state, device, "test")
        diverged_at = np.asarray(state.diverged_at).reshape(-1)
        seconds = (time.perf_counter() - begun) / len(runs)
        curves = (np.array(train), *np.array(val).transpose(1, 0, 2), np.array(seen))
        return [
            outcome(
                self.marks, int(diverged_at[i]), [curve[:, i] for curve in curves],
                (float(test[0][i]), float(test[1][i])),
                InitialSignals(self.net.layers, *(tuple(np.asarray(row, np.float64).tolist()) for row in signals[i])),
                seconds,
            )
            for i in range(len(runs))
        ]  # fmt: skip

    def train(
        self, program: Program, runs: Sequence[Run], progress: Callable[[int], None] = lambda _: None
    ) -> Iterator[tuple[Run, RunResult]]:
        """Train runs on all devices and yield each as its chunk finishes.

        Args:
            program: How to execute, from `fanin.jax.measure.choose`.
            runs: Runs of this network on this task.
            progress: Told how many run-steps were done, from any thread.

        Raises:
            Exception: Whatever went wrong on a device; runs already yielded are not affected.
        """
        chunks = [runs[low : low + program.chunk] for low in range(0, len(runs), program.chunk)]

        def work(part: Sequence[Run], device: Any, report: Callable[[int], None]) -> list[tuple[Run, RunResult]]:
            return list(zip(part, self.train_chunk(program, part, device, report), strict=True))

        for done in spread(chunks, self.devices, work, progress):
            yield from done
