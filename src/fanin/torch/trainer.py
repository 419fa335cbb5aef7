"""Train many runs of one PyTorch model, spread over all cores.

How many runs a core trains side by side is chosen by measurement; what a run computes depends on it by no more
than rounding.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fanin.activations import saturation
from fanin.records import InitialSignals, Program, Run, RunResult, Settings, Task
from fanin.torch.backend import devices, one_thread_each
from fanin.torch.program import Alone, Executed, Network, Together
from fanin.torch.signals import measure, tapped_layers
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


def _chunk_size(runs: int, largest: int, devices: int) -> int:
    """How many runs go together so that all devices have as much to do.

    Example:
        >>> _chunk_size(54, largest=16, devices=2), _chunk_size(4, largest=16, devices=2)
        (14, 2)
    """
    rounds = -(-runs // (largest * devices))
    return max(1, -(-runs // (rounds * devices)))


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

    @cached_property
    def data(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The parts of the task, and some of the training data, laid out for the model."""
        dtype = np.int64 if self.task.kind == "classification" else np.float32
        return {
            part: (torch.from_numpy(self.net.layout(x)), torch.from_numpy(y.astype(dtype)))
            for part, (x, y) in data_parts(self.task).items()
        }

    def start(self, runs: Sequence[Run]) -> Executed:
        """Runs before their first step; several only where the network is stackable."""
        return (Alone if len(runs) == 1 else Together)(self.net, runs, self.weights)

    def advance(self, executed: Executed, runs: Sequence[Run], start: int, stop: int) -> NDArray[np.float32]:
        """Train from step `start` to `stop`; returns the training losses of shape (runs, stop - start)."""
        x, y = self.data["train"]
        batches = torch.from_numpy(batches_of(runs, start, stop, len(x), self.settings.batch_size))
        losses = []
        for batch in batches.unbind(1):
            rows = batch.reshape(-1)
            losses.append(
                executed.step(
                    x.index_select(0, rows).reshape(*batch.shape, *x.shape[1:]),
                    y.index_select(0, rows).reshape(*batch.shape, *y.shape[1:]),
                )
            )
        joint: NDArray[np.float32] = torch.stack(losses, dim=1).numpy()
        return joint

    def evaluate(self, executed: Executed, i: int, part: str) -> tuple[float, float]:
        """Mean loss and metric of run `i` over ``seen`` (some training data), ``val`` or ``test``."""
        values: list[list[Tensor]] = [[], []]
        with torch.no_grad(), executed.run(i) as model:
            for x, y in zip(*(each.split(EVALUATION_BATCH) for each in self.data[part]), strict=True):
                outputs = model(x)
                values[0].append(self.net.loss(y, outputs))
                values[1].append(self.net.metric(y, outputs))
        loss, metric = (float(torch.cat(each).double().mean()) for each in values)
        return loss, metric

    def _signals(self, executed: Executed, i: int, bound: float) -> InitialSignals:
        x, y = (each[:SIGNAL_BATCH] for each in self.data["train"])
        with executed.run(i) as model:
            return InitialSignals(tapped_layers(model), *measure(model, self.net.loss, x, y, bound))

    def train_chunk(
        self, program: Program, runs: Sequence[Run], progress: Callable[[int], None]
    ) -> list[tuple[Run, RunResult]]:
        """Train a chunk of runs together, from the first step to the look at the test data."""
        begun = time.perf_counter()
        # A run that is left over goes on a stack as well, with a copy of itself: alone it would be rounded otherwise.
        copies = [*runs, *runs] if len(runs) == 1 < program.chunk else runs
        filled = sorted(copies, key=lambda run: run.learning_rate)
        places = [filled.index(run) for run in runs]
        executed = self.start(filled)
        signals = [self._signals(executed, i, saturation(runs[0].activation)) for i in places]
        losses, curves = np.zeros((len(filled), 0), np.float32), []
        for start, stop in zip((0, *self.marks), self.marks, strict=False):
            # Where nothing is left to train the numbers would be none.
            alive = np.isfinite(losses).all(axis=1).any()
            nothing = np.full((len(filled), stop - start), np.nan, np.float32)
            losses = np.concatenate([losses, self.advance(executed, filled, start, stop) if alive else nothing], axis=1)
            with np.errstate(invalid="ignore"):
                means = losses[places, start:stop].astype(np.float64).mean(axis=1)
            looks = [
                self.evaluate(executed, i, part) if alive else (np.nan, np.nan)
                for part in ("val", "seen")
                for i in places
            ]
            val, seen = np.array(looks).reshape(2, len(places), 2)
            curves.append(np.column_stack([means, val, seen[:, 1]]))
            progress((stop - start) * len(runs))
        test = [self.evaluate(executed, i, "test") for i in places]
        seconds = (time.perf_counter() - begun) / len(runs)
        finite = np.isfinite(losses[places])
        diverged = np.where(finite.all(axis=1), -1, finite.argmin(axis=1)).tolist()
        columns = np.array(curves).transpose(1, 2, 0)
        return [
            (run, outcome(self.marks, *each, seconds))
            for run, each in zip(runs, zip(diverged, columns, test, signals, strict=True), strict=True)
        ]

    def train(
        self, program: Program, runs: Sequence[Run], progress: Callable[[int], None] = lambda _: None
    ) -> Iterator[tuple[Run, RunResult]]:
        """Train runs on all cores and yield each as its chunk finishes.

        Args:
            program: How to execute, from `fanin.torch.measure.choose`.
            runs: Runs of this network on this task.
            progress: Told how many run-steps were done, from any thread.

        Raises:
            Exception: Whatever went wrong in a thread; runs already yielded are not affected.
        """
        size = _chunk_size(len(runs), program.chunk, len(self.devices))
        chunks = [runs[low : low + size] for low in range(0, len(runs), size)]

        def work(part: Sequence[Run], _: Any, report: Callable[[int], None]) -> list[tuple[Run, RunResult]]:
            return self.train_chunk(program, part, report)

        with one_thread_each():
            for done in spread(chunks, self.devices, work, progress):
                yield from done
