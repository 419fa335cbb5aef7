"""PyTorch on the cores of this machine: one thread for each, and random numbers that belong to a run."""

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fanin.errors import ModelError
from fanin.training import cores

__all__ = ["Drawn", "devices", "one_thread_each", "seeded", "start", "versions"]

_RANDOM = threading.RLock()
"""Held while PyTorch's own random state, which is the whole process's, is set for somebody."""


def start(cache: Path | None = None) -> None:
    """Prepare PyTorch for training; it keeps no compiled programs, so that there is no use for a cache."""
    # Whether an operation is fast on a stack of runs is measured.
    warnings.filterwarnings("ignore", message="There is a performance drop because we have not yet implemented")


def devices() -> list[int]:
    """The cores that runs are spread over, as numbers."""
    return list(range(cores()))


def versions() -> dict[str, str]:
    """What a result depends on besides its run: the version and kind of device."""
    return {"torch": torch.__version__, "device": "cpu", "devices": str(len(devices()))}


@contextmanager
def one_thread_each() -> Iterator[None]:
    """While open, what PyTorch computes in a thread that starts now stays on one core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """While open, PyTorch's own random state starts from a seed; afterwards it is what it was."""
    with _RANDOM, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class Drawn(TorchDispatchMode):  # type: ignore[misc]
    """While open, whatever the model draws comes from generators of its own, one for each run.

    Threads share PyTorch's random state, and runs trained together share each draw: with generators of its own
    a run draws the same wherever and with whomever it is trained.

    Args:
        generators: One for each run; with several, every random tensor has the runs as its first axis. None
            draws as ever and only notes that something was drawn.

    Attributes:
        used: Whether anything was drawn.
    """

    def __init__(self, generators: Sequence[Generator] = ()):
        super().__init__()
        self.generators, self.used = generators, False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or _drops_nothing(func, args, kwargs):
            return func(*args, **kwargs)
        self.used = True
        if not self.generators:
            return func(*args, **kwargs)
        draw = _with_generator(func)
        if len(self.generators) == 1:
            return draw(*args, **{**kwargs, "generator": self.generators[0]})
        first, rest = args[0], args[1:]
        if func._schema.is_mutable:
            for row, generator in zip(first, self.generators, strict=True):
                draw(row, *rest, **{**kwargs, "generator": generator})
            return first
        parts = first if isinstance(first, Tensor) else [first[1:]] * len(self.generators)
        return torch.stack(
            [draw(p, *rest, **{**kwargs, "generator": g}) for p, g in zip(parts, self.generators, strict=True)]
        )


def _drops_nothing(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether it is an operation with a dropout inside, such as attention, that is told to drop nothing."""
    named = {argument.name: argument.default_value for argument in func._schema.arguments}
    given = {**named, **dict(zip(named, args, strict=False)), **kwargs}
    return given.get("dropout_p") == 0.0


def _with_generator(func: Any) -> Callable[..., Any]:
    """The form of a random operation that takes a generator."""
    if any(argument.name == "generator" for argument in func._schema.arguments):
        return func  # type: ignore[no-any-return]
    packet = func.overloadpacket
    if "generator" in packet.overloads():
        return packet.generator  # type: ignore[no-any-return]
    raise ModelError(
        "The model draws random numbers in a way that cannot be repeated",
        given=str(func),
        hint="Dropout and torch.bernoulli, rand, randn, randint and normal_ can be repeated.",
    )
