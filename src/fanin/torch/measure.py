"""Choose how many runs of one PyTorch model a core trains side by side, by a short measurement on the real runs.

A candidate trains copies of one run on all cores at once. It is eligible only if all copies have the same bits, and
the same as in the smallest stack, because a run must not depend on its neighbours; and if they agree with the run
trained alone but for rounding: not every model does on a stack what it does alone.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanin.errors import FaninError
from fanin.records import Program, Run
from fanin.torch.backend import one_thread_each
from fanin.torch.trainer import Trainer
from fanin.training import Measured, pick, sample_run, together_limit

__all__ = ["choose"]

_SECONDS = 0.25
"""How long a candidate is timed at least."""
_LARGEST_CHUNK = 16
_CHECKED_STEPS = 12
_BETTER = 1.05
_PAYS = 1.2
"""Nearly every model is rounded otherwise on a stack, so that to insist on the same bits would mean no stacks."""
_AGREEMENT = 1e-3
"""Rounding alone moves the losses of the checked steps by less; a model that does something else, by more."""
_EVALUATED_AGREEMENT = 5e-2
"""A bias before a batch normalisation has no gradient but rounding, which adaptive optimizers blow up to full steps."""
_SLOTS = 3
"""Numbers held for each weight: itself and what most optimizers keep."""


def choose(trainer: Trainer, runs: Sequence[Run], note: Callable[[str], None] = lambda _: None) -> Program:
    """The fastest eligible way to execute these runs.

    Args:
        trainer: The network, task and settings.
        runs: What will be trained; one of them serves as the sample.
        note: Told what is being measured.
    """
    sample = sample_run(trainer.weights, runs)
    numbers = _SLOTS * sum(int(np.prod(param.shape)) for param in trainer.net.info.params)
    # Not limited by how many runs there are: the choice should not change when an initializer is added.
    limit = min(_LARGEST_CHUNK, together_limit(numbers, len(trainer.devices))) if trainer.net.stackable else 1
    with one_thread_each():
        note("1 at a time")
        reference, values = _measure(trainer, sample, 1)
        tried, best, chunk = [reference], reference.program.rate, 2
        while chunk <= limit:
            note(f"{chunk} at a time")
            try:
                candidate, theirs = _measure(trainer, sample, chunk)
            except FaninError:
                raise
            except Exception:  # what cannot be stacked fails in as many ways as there are operations
                break
            if not _agree(theirs, values):
                break
            # What is left over at the end is a smaller stack, which must not matter either.
            fits = candidate.eligible and (chunk == 2 or candidate.bits == tried[1].bits)
            tried.append(replace(candidate, eligible=fits))
            if candidate.program.rate < best * _BETTER and chunk > 2:
                break
            best = max(best, candidate.program.rate)
            chunk *= 2
    return pick(reference, tried, _PAYS)


def _agree(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether two ways of executing gave a run the same losses and evaluations (the last two), but for rounding."""
    bounds = [(slice(0, -2), _AGREEMENT), (slice(-2, None), _EVALUATED_AGREEMENT)]
    return all(np.allclose(one[part], other[part], rtol=bound, atol=bound, equal_nan=True) for part, bound in bounds)


def _measure(trainer: Trainer, run: Run, chunk: int) -> tuple[Measured, NDArray[np.float64]]:
    """A candidate tried, and the losses and evaluations that it gave the sample."""
    copies = [run] * chunk
    last = min(_CHECKED_STEPS, trainer.marks[-1])

    def check(_: Any) -> tuple[NDArray[np.float64], Any]:
        executed = trainer.start(copies)
        losses = trainer.advance(executed, copies, 0, last).astype(np.float64)
        values = [trainer.evaluate(executed, i, "val") for i in range(chunk)]
        return np.concatenate([losses, np.array(values)], axis=1), executed

    def pace(executed: Any, repeats: int) -> None:
        for _ in range(repeats):
            trainer.advance(executed, copies, 0, last)

    with ThreadPoolExecutor(len(trainer.devices)) as pool:
        checked = list(pool.map(check, trainer.devices))
        repeats, elapsed = 1, 0.0
        while elapsed < _SECONDS:
            repeats *= 2 if elapsed else 1
            begun = time.perf_counter()
            list(pool.map(pace, [executed for _, executed in checked], [repeats] * len(checked)))
            elapsed = time.perf_counter() - begun
    rows = np.concatenate([values for values, _ in checked])
    bits = rows[0].tobytes()
    same = all(row.tobytes() == bits for row in rows)
    return Measured(Program("step", chunk, repeats * last * chunk / elapsed), bits, same), rows[0]
