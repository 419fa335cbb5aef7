"""Some steps of training on one batch, by a copy of a PyTorch model's parameters."""

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from fanin.errors import FaninError, InvalidValueError, ModelError
from fanin.records import Op, Trial
from fanin.torch.backend import seeded
from fanin.torch.fused import FUSED
from fanin.torch.layouts import parameters, read_all, write
from fanin.torch.losses import loss_of, targets_of
from fanin.torch.optimizers import Chosen, chosen_by
from fanin.torch.record import Recorder, Value
from fanin.torch.running import arguments, calling, need_values, preserved, swap, tensors_of, uncompiled
from fanin.torch.trace import describe, finished, info_of, known_held, named_inputs, paths_of, recording
from fanin.torch.vitals import numbers_of, sent_size, size_of
from fanin.vitals import relative

__all__ = ["trial"]

_SEED = 0
"""Of what the model draws while it is trained."""
_FEWEST = 2
"""Steps that are taken however long they take."""


def trial(
    model: nn.Module,
    example: Any,
    targets: Any,
    *,
    loss: Any,
    optimizer: Optimizer | str | None = None,
    learning_rate: float | None = None,
    steps: int = 50,
    values: Mapping[str, NDArray[Any]] | None = None,
    cut: int | None = None,
    thaw: bool = False,
    seconds: float = 10.0,
) -> Trial:
    """Train a copy of a model's parameters on one batch, again and again, in training mode.

    The model, its buffers and gradients, the optimizer and all random states are bit for bit as before, also when
    training diverges or something raises. The same call gives the same numbers.

    Args:
        model: With values: not on the meta device. Frozen parameters stay as they are, unless `thaw` says otherwise.
        example: As in `describe`.
        targets: What the loss wants.
        loss: A module, a function of outputs and targets, or a name in `torch.nn.functional`.
        optimizer: A fresh one of the same class and settings, at the learning rate from which a scheduler starts,
            trains what it holds; or its name with parameters: ``adam``, ``sgd(lr=0.1, momentum=0.9)``. None is Adam
            with a learning rate of 0.001.
        learning_rate: In place of the optimizer's; where that has several, the largest, and they keep their ratios.
        steps: How many.
        values: What parameters of these paths start with in place of their own values.
        cut: The index of the step of `describe(model, example).ops` whose output is taken for the model's.
        thaw: Whether frozen parameters are trained as well, as the optimizer's first ones are.
        seconds: After this time no further step is begun, but for the first two.

    Returns:
        The losses before each step and after the last; training ends at the first that is not finite. Gradients that
        were not finite have infinite size; a parameter that the loss does not depend on has not a number.

    Raises:
        UnknownNameError, InvalidValueError, ModelError: If there is no such loss, optimizer, parameter or step, the
            model has no values, or it or its loss cannot be computed.

    Example:
        >>> model, x = nn.Linear(3, 2), torch.randn(8, 3)
        >>> found = trial(model, x, torch.zeros(8, 2), loss="mse_loss", optimizer="sgd(lr=0.1)", steps=20)
        >>> len(found.losses), found.losses[-1] < found.losses[0]
        (21, True)
    """
    chosen, found = chosen_by(optimizer), loss_of(loss)
    if thaw:
        chosen = _holding(chosen, [tensor for tensor in model.parameters() if not tensor.requires_grad])
    if steps < 1:
        raise InvalidValueError("The number of steps is too small", given=steps, allowed="1 or more")
    need_values(model)
    told = describe(model, example).ops if cut is not None else ()
    paths, copies = paths_of(model), dict[int, nn.Parameter]()

    def own(tensor: Tensor) -> nn.Parameter:
        """A copy that takes the place of a parameter."""
        trains = tensor.requires_grad or (thaw and tensor.is_floating_point())
        copies[id(tensor)] = nn.Parameter(tensor.detach().clone(), trains)
        return copies[id(tensor)]

    with preserved(model, *found.modules), seeded(_SEED), torch.enable_grad():
        random.seed(_SEED)
        np.random.seed(_SEED)
        swap(model, own, lambda tensor: tensor.detach().clone())
        write(model, values or {})
        model.train()
        run = _whole if cut is None else _cut(model, example, told, cut)
        goal = targets_of(model, targets)

        def evaluate() -> tuple[Any, Tensor]:
            """What the copy returns now, and its loss."""
            outputs = run(model, example)
            return outputs, found(outputs, goal)

        trained = {key: copy for key, copy in copies.items() if copy.requires_grad}
        made = chosen.make(trained, learning_rate)
        return _train(evaluate, {paths[key]: copy for key, copy in trained.items()}, made, steps, seconds)


def _holding(chosen: Chosen, more: Iterable[Tensor]) -> Chosen:
    """An optimizer that trains more parameters in its first group, unless it holds them already."""
    (settings, held), *others = chosen.groups
    missing = frozenset(id(tensor) for tensor in more if not chosen.holds(tensor))
    return replace(chosen, groups=((settings, None if held is None else held | missing), *others))


_Run = Callable[[nn.Module, Any], Any]
"""From a model and an example to what is taken for the model's output."""
_Evaluate = Callable[[], tuple[Any, Tensor]]
"""The output of the copy as it is now, and its loss."""


def _train(
    evaluate: _Evaluate, trained: Mapping[str, Tensor], optimizer: Optimizer | None, steps: int, seconds: float
) -> Trial:
    """Take the steps; see `trial`."""
    losses: list[float] = []
    gradients: list[NDArray[np.float64]] = []
    updates: list[list[float]] = []
    begun = time.perf_counter()
    while True:
        outputs, loss = evaluate()
        losses.append(float(loss.detach()))
        late = len(updates) >= _FEWEST and time.perf_counter() - begun > seconds
        if late or len(updates) == steps or not math.isfinite(losses[-1]):
            break
        before = [tensor.detach().clone() for tensor in trained.values()]
        gradients += _step(optimizer, list(trained.values()), loss, evaluate)
        updates.append(_changes(before, list(trained.values())))
    none = np.empty((0, len(trained)))
    largest = np.fmax.reduce(np.concatenate([none, *gradients]), axis=0, initial=math.nan)
    return Trial(
        tuple(losses),
        tuple(numbers_of(each) for each in tensors_of(outputs)),
        {path: numbers_of(tensor) for path, tensor in trained.items()},
        dict(zip(trained, largest.tolist(), strict=True)),
        {path: tuple(step[index] for step in updates) for index, path in enumerate(trained)},
    )


def _step(
    optimizer: Optimizer | None, trained: list[Tensor], loss: Tensor, evaluate: _Evaluate
) -> list[NDArray[np.float64]]:
    """Take one step; the size of each gradient, once for each time that the optimizer asked for them."""
    waiting, sizes = [loss], []

    def closure() -> Tensor:
        """Give the parameters their gradients; a few optimizers ask for them several times in a step."""
        value = waiting.pop() if waiting else evaluate()[1]
        found = torch.autograd.grad(value, trained, allow_unused=True) if trained and value.requires_grad else ()
        for tensor, gradient in zip_longest(trained, found):
            tensor.grad = gradient
        sizes.append(np.array([[sent_size(tensor.grad) for tensor in trained]]))
        return value

    if optimizer is None:
        closure()
        return sizes
    try:
        optimizer.step(closure)
    except FaninError:
        raise
    except Exception as error:  # anybody's optimizer may raise anything
        raise ModelError(
            f"The optimizer could not take a step: {type(error).__name__}: {error}", given=type(optimizer).__name__
        ) from error
    return sizes


def _changes(before: list[Tensor], after: list[Tensor]) -> list[float]:
    """For each parameter how large its change is beside the size that it had."""
    with torch.no_grad():
        changes = [size_of(new - old) for old, new in zip(before, after, strict=True)]
        return relative(changes, [size_of(old) for old in before]).tolist()  # type: ignore[no-any-return]


# -------------------------------------------------------------------------------------------------------- runs
def _whole(model: nn.Module, example: Any) -> Any:
    args, kwargs = arguments(model, example)
    with calling(), uncompiled():
        return model(*args, **kwargs)


class _Catcher(Recorder):
    """Records a run and keeps the tensor of one value, before the model can overwrite it.

    Args:
        model: The model that will run.
        index: The value's place in time.
    """

    def __init__(self, model: nn.Module, index: float = math.nan):
        super().__init__(model, FUSED)
        self.index = index
        self.caught: Tensor | None = None

    def seen(self, value: Value, tensor: Tensor) -> None:
        """Keep it if it is the one."""
        if value.index == self.index:
            self.caught = tensor.clone()

    def run(self, model: nn.Module, example: Any) -> Any:
        """What the model returns."""
        args, kwargs = arguments(model, example)
        for path, _, _, tensor in parameters(model):
            self.leaf(tensor, "param", path)
        known_held(model, self)
        named_inputs(self, args, kwargs)
        with recording(self):
            return model(*args, **kwargs)


def _cut(model: nn.Module, example: Any, told: tuple[Op, ...], cut: int) -> _Run:
    """What runs a model and gives the output of a step instead.

    Args:
        model: In training mode.
        example: As for `trial`.
        told: What `describe` said of the model in the mode that it was in.
        cut: The step's index there.

    Raises:
        InvalidValueError: If there is no such step, or nothing is computed at it in training mode.
    """
    if not 0 <= cut < len(told):
        raise InvalidValueError("There is no such step", given=cut, allowed=f"0 to {len(told) - 1}")
    first = _Catcher(model)
    with preserved(model), torch.no_grad():  # what it draws and counts here belongs to no step
        info, steps = info_of(model, read_all(model), finished(first, first.run(model, example)))
        first.give_back()
    wanted, found = _named(told)[cut], _named(info.ops)
    value = steps.values[found.index(wanted)] if wanted in found else None
    source = value if value is None or value.twin is None else value.twin
    if value is None or source is None or value.kind != "step" or not float(source.index).is_integer():
        op = told[cut]
        raise InvalidValueError(
            "The output of this step cannot be had in training mode",
            given=f"{cut}: {op.kind} {op.name}".rstrip() + (f" in {op.place}" if op.place else ""),
            allowed="a step that the model computes",
        )
    index, multiple = source.index, value.multiple if value.twin is not None else 1.0

    def run(model: nn.Module, example: Any) -> Tensor:
        """The model up to the step."""
        catcher = _Catcher(model, index)
        catcher.run(model, example)
        if catcher.caught is None:
            raise ModelError("The model computes other steps from one call to the next", given=f"no step {cut}")
        return catcher.caught if multiple == 1 else catcher.caught * multiple

    return run


def _named(ops: tuple[Op, ...]) -> list[tuple[Any, ...]]:
    """What each step is known by in any mode: kind, place, parameters, and how many like it came before."""
    counts: Counter[tuple[Any, ...]] = Counter()
    names = []
    for op in ops:
        key = op.kind, op.name, op.place, op.params
        names.append((*key, counts[key]))
        counts[key] += 1
    return names
