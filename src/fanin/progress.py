"""How a long job tells where it is: a live bar, or plain lines."""

import time
from threading import Lock
from typing import Any, Self, TextIO

__all__ = ["Bar", "Lines"]

_LINE_SECONDS = 5.0


class Lines:
    """Plain lines at most every few seconds, for logs and pipes.

    Args:
        stream: Where they go.
    """

    def __init__(self, stream: TextIO):
        self.stream, self._lock = stream, Lock()
        self._runs = self._steps = self._done_runs = self._done_steps = 0
        self._begun = self._said = time.monotonic()

    def total(self, runs: int, run_steps: int) -> None:
        """So much is to be done from here on."""
        self._runs, self._steps, self._done_runs, self._done_steps = runs, run_steps, 0, 0
        self._begun = time.monotonic()

    def advance(self, run_steps: int) -> None:
        """So much more is done."""
        with self._lock:
            self._done_steps += run_steps
            if time.monotonic() - self._said > _LINE_SECONDS:
                self._said = time.monotonic()
                rate = self._done_steps / max(1e-9, self._said - self._begun)
                left = (self._steps - self._done_steps) / max(1e-9, rate)
                self.note(f"{self._done_runs} of {self._runs} runs, {rate:,.0f} run-steps/s, {left:.0f} s left")

    def finished(self, runs: int) -> None:
        """So many more runs are finished."""
        with self._lock:
            self._done_runs += runs

    def note(self, text: str) -> None:
        """What is going on now."""
        self.stream.write(text + "\n")
        self.stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        """Nothing is left to do."""


class Bar:
    """A live bar with rate and time left.

    Args:
        console: A rich console on a terminal.
    """

    def __init__(self, console: Any):
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        self._runs = self._done = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[runs]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=None, runs="", rate="")
        self._began = time.monotonic()
        self._steps = 0

    def total(self, runs: int, run_steps: int) -> None:
        """So much is to be done from here on."""
        self._runs, self._done, self._steps, self._began = runs, 0, 0, time.monotonic()
        self._progress.reset(self._task, total=run_steps, runs=f"0/{runs} runs", rate="")

    def advance(self, run_steps: int) -> None:
        """So much more is done."""
        self._steps += run_steps
        rate = self._steps / max(1e-9, time.monotonic() - self._began)
        self._progress.update(self._task, advance=run_steps, rate=f"{rate:,.0f} run-steps/s")

    def finished(self, runs: int) -> None:
        """So many more runs are finished."""
        self._done += runs
        self._progress.update(self._task, runs=f"{self._done}/{self._runs} runs")

    def note(self, text: str) -> None:
        """What is going on now."""
        self._progress.update(self._task, description=text)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._progress.stop()
