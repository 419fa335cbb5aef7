"""Any training loop of PyTorch, watched: how far steps move parameters, units that die, numbers that blow up."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fanin.records import Course
from fanin.torch.layouts import parameters
from fanin.torch.running import tensors_of
from fanin.torch.vitals import size_of
from fanin.vitals import relative

__all__ = ["Watch", "watching"]

_DYING = (nn.ReLU, nn.ReLU6)
"""Activations whose units are dead where they give zero for everything."""
_CONVOLUTIONS = (
    (1, (nn.Conv1d, nn.ConvTranspose1d)),
    (2, (nn.Conv2d, nn.ConvTranspose2d)),
    (3, (nn.Conv3d, nn.ConvTranspose3d)),
)
_LAST = (nn.Linear, nn.Bilinear, nn.Embedding, nn.RNNBase, nn.MultiheadAttention)
"""What comes from these has its units on the last axis."""


class Watch:
    """What `watching` has seen so far."""

    def __init__(self, model: nn.Module) -> None:
        self._paths = {id(tensor): path for path, _, _, tensor in parameters(model)}
        self._losses: list[float] = []
        self._updates: list[dict[str, float]] = []
        self._dead: list[dict[str, float]] = []
        self._infinite: tuple[int, str] | None = None
        self._told: list[float] = []
        self._ran = False
        self._from_last = 1
        self._highest: dict[str, Tensor] = {}
        self._before: list[tuple[str, Tensor, Tensor]] = []

    @property
    def course(self) -> Course:
        """What happened up to the last step that was taken."""
        step, place = self._infinite or (None, "")
        return Course(tuple(self._losses), _columns(self._updates), _columns(self._dead), step, place)

    def loss(self, value: Tensor | float) -> None:
        """Tell the loss of the batch that the model ran on last; of several batches for one step, the mean counts."""
        number = float(value.detach()) if isinstance(value, Tensor) else float(value)
        after = not self._ran and bool(self._losses)
        if not math.isfinite(number):
            self._note("loss", len(self._losses) - after)
        if after:
            self._losses[-1] = number
        else:
            self._told.append(number)

    def _note(self, place: str, step: int) -> None:
        if self._infinite is None:
            self._infinite = step, place

    # ------------------------------------------------------------------------------------------------- hooks
    def _called(self, path: str, module: nn.Module, _: Any, output: Any) -> None:
        """After a module without parts has run in training."""
        if not (module.training and torch.is_grad_enabled()):
            return
        self._ran = True
        spatial = next((axes for axes, kinds in _CONVOLUTIONS if isinstance(module, kinds)), None)
        if spatial is not None or isinstance(module, _LAST):
            self._from_last = 1 + (spatial or 0)
        for tensor in tensors_of(output):
            if self._infinite is None and tensor.is_floating_point() and not math.isfinite(size_of(tensor)):
                self._note(f"output of {path or 'the model'}", len(self._losses))
            if isinstance(module, _DYING) and tensor.dim() > 1:
                self._highest_of(path, tensor.detach())

    def _highest_of(self, path: str, tensor: Tensor) -> None:
        """Remember the largest number that each unit gave since the last step."""
        axis = max(tensor.dim() - self._from_last, 1)
        highest = tensor.amax([each for each in range(tensor.dim()) if each != axis])
        known = self._highest.get(path)
        if known is not None and known.shape == highest.shape:
            highest = torch.maximum(highest, known)
        self._highest[path] = highest

    def _begin(self, optimizer: Optimizer, *_: Any) -> None:
        """Before a step of the optimizer: remember the parameters."""
        held = [(self._paths.get(id(each), ""), each) for group in optimizer.param_groups for each in group["params"]]
        self._before = [(path, each, each.detach().clone()) for path, each in held if path]

    def _end(self, *_: Any) -> None:
        """After a step of the optimizer; some find the gradients only while they take it."""
        updates = {}
        for path, tensor, before in self._before:
            if tensor.grad is None:
                continue
            updates[path] = float(relative(size_of(tensor.detach() - before), size_of(before)))
            for place, numbers in ((f"gradient of {path}", tensor.grad), (path, tensor)):
                if self._infinite is None and not math.isfinite(size_of(numbers)):
                    self._note(place, len(self._losses))
        self._updates.append(updates)
        self._dead.append({path: float((each <= 0).float().mean()) for path, each in self._highest.items()})
        self._losses.append(sum(self._told) / len(self._told) if self._told else math.nan)
        self._told, self._highest, self._before, self._ran = [], {}, [], False


@contextmanager
def watching(model: nn.Module, optimizer: Optimizer) -> Iterator[Watch]:
    """Watch a training loop; nothing of it changes, and afterwards no hook is left.

    Each step costs a copy of the parameters and a look at every parameter, gradient and module's output.

    Args:
        model: What is trained, not compiled.
        optimizer: What trains it.

    Example:
        >>> model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(8, 3)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with watching(model, optimizer) as watch:
        ...     for _ in range(5):
        ...         optimizer.zero_grad()
        ...         loss = model(x).square().mean()
        ...         loss.backward()
        ...         optimizer.step()
        ...         watch.loss(loss)
        >>> len(watch.course.losses), list(watch.course.updates), list(watch.course.dead)
        (5, ['0.weight', '0.bias', '2.weight', '2.bias'], ['1'])
    """
    watch = Watch(model)
    parts = [
        (path, module) for path, module in model.named_modules()
        if all(name == "parametrizations" for name, _ in module.named_children())
    ]  # fmt: skip
    hooks: list[Any] = [module.register_forward_hook(partial(watch._called, path)) for path, module in parts]
    hooks += [optimizer.register_step_pre_hook(watch._begin), optimizer.register_step_post_hook(watch._end)]
    try:
        yield watch
    finally:
        for hook in hooks:
            hook.remove()


def _columns(rows: list[dict[str, float]]) -> dict[str, tuple[float, ...]]:
    """By name, what each row has under it."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: tuple(row.get(name, math.nan) for row in rows) for name in names}
