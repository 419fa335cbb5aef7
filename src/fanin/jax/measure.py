"""Choose how to execute the runs of one network, by a short measurement on the real runs.

A candidate is a loop (inside the compiled program or step by step) and a number of runs trained together
by one device. Its measurement trains copies of one run on all devices at once and looks at two things:
the rate, and the bits. Copies that differ from one another make a candidate ineligible: a run must not
depend on its place among its neighbours. A candidate whose bits differ from those of the plainest way
(one run, step by step) is taken only where it is much faster, so that the choice, which depends on how
busy the machine happens to be, leaves the numbers alone.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import jax
import numpy as np

from fanin.jax.trainer import Trainer
from fanin.records import Program, Run
from fanin.training import Measured, pick, sample_run, together_limit

__all__ = ["choose"]

_SECONDS = 0.25
"""How long a candidate is timed at least, after it is compiled."""
_LARGEST_CHUNK = 16
_CHECKED_STEPS = 12
_BETTER = 1.05
_MUCH_FASTER = 2.0


def choose(trainer: Trainer, runs: Sequence[Run], note: Callable[[str], None] = lambda _: None) -> Program:
    """The fastest eligible way to execute these runs.

    Larger chunks are tried while they pay; the other loop is followed only where it is the faster one.

    Args:
        trainer: The network, task and settings.
        runs: What will be trained; one of them serves as the sample.
        note: Told what is being measured.
    """
    sample = sample_run(trainer.weights, runs)
    state = trainer.net.begin(trainer.weights(sample), sample.seed, sample.learning_rate)
    numbers = sum(leaf.size for leaf in jax.tree.leaves((state.trainable, state.other, state.slots)))
    # Not limited by how many runs there are: the choice should not change when an initializer is added.
    limit = min(_LARGEST_CHUNK, together_limit(numbers, len(trainer.devices)))

    def measured(loop: Literal["scan", "step"], chunk: int) -> Measured:
        note(f"{loop}, {chunk} at a time")
        return _measure(trainer, sample, loop, chunk)

    reference = measured("step", 1)
    tried = [reference, measured("scan", 1)]
    loop = max(tried, key=lambda each: each.program.rate).program.loop
    best = max(each.program.rate for each in tried)
    chunk = 2
    while chunk <= limit:
        candidate = measured(loop, chunk)
        tried.append(candidate)
        if candidate.program.rate < best * _BETTER and chunk > 2:
            break
        best = max(best, candidate.program.rate)
        chunk *= 2
    return pick(reference, tried, _MUCH_FASTER)


def _measure(trainer: Trainer, run: Run, loop: Literal["scan", "step"], chunk: int) -> Measured:
    """A candidate tried."""
    program = Program(loop, chunk, 0.0)
    copies = [run] * chunk
    span = min(_CHECKED_STEPS, trainer.longest)
    last = min(_CHECKED_STEPS, trainer.marks[-1])

    def check(device: Any) -> tuple[Any, Any]:
        """Compiles everything, and shows the bits."""
        state, seen = trainer.start(copies, device), []
        for start in range(0, last, span):
            state, losses = trainer.advance(program, state, copies, device, start, min(start + span, last))
            seen.append(losses)
        loss, metric = trainer.evaluate(program, state, device, "val")
        return np.concatenate([*seen, np.stack([loss, metric], axis=1)], axis=1), state

    def pace(device: Any, state: Any, repeats: int) -> Any:
        for _ in range(repeats):
            state, _ = trainer.advance(program, state, copies, device, 0, span)
        return state

    with ThreadPoolExecutor(len(trainer.devices)) as pool:
        checked = list(pool.map(check, trainer.devices))
        states = [state for _, state in checked]
        repeats, elapsed = 1, 0.0
        while elapsed < _SECONDS:
            repeats *= 2 if elapsed else 1
            begun = time.perf_counter()
            states = list(pool.map(pace, trainer.devices, states, [repeats] * len(states)))
            elapsed = time.perf_counter() - begun
    rows = np.concatenate([values for values, _ in checked])
    rate = repeats * span * chunk / elapsed
    return Measured(
        Program(loop, chunk, rate), rows[0].tobytes(), all(row.tobytes() == rows[0].tobytes() for row in rows)
    )
