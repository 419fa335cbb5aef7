"""A model run once on a real batch, forward and backward: what that does to every step."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fanin.errors import ModelError
from fanin.records import ModelInfo, Op, Vitals
from fanin.torch.fused import FUSED
from fanin.torch.layouts import read_all, write
from fanin.torch.losses import loss_of, own_loss, targets_of
from fanin.torch.record import Recorder, Value
from fanin.torch.running import arguments, build, calling, need_values, preserved, swap, tensors_of
from fanin.torch.steps import Steps
from fanin.torch.trace import describe, finished, info_of, known_held, named_inputs, paths_of, recording
from fanin.torch.vitals import Units, measured, numbers_of, sent_size
from fanin.vitals import NOTHING, Statistics, assembled

__all__ = ["observe", "probe"]

_SEED = 0x5EED
"""Of the numbers that the outputs are summed with."""


def probe(
    model: nn.Module,
    example: Any,
    targets: Any = None,
    loss: Any = None,
    *,
    values: Mapping[str, NDArray[Any]] | None = None,
) -> Vitals:
    """What a batch does to every step of a model, in one forward and one backward pass.

    Nothing of the model changes, neither buffers nor gradients nor random state; it runs in the mode that it is in.
    Of the steps statistics alone are kept.

    Args:
        model: With values: not on the meta device.
        example: As in `describe`.
        targets: What the loss wants; without a loss, nothing.
        loss: A module, a function of outputs and targets, or a name in `torch.nn.functional`. Without one, gradients
            are those of the loss that the model returns itself (``outputs.loss``), or else of the sum of all outputs
            times fixed standard normal numbers.
        values: From paths to arrays that parameters have in this run in place of their own.

    Returns:
        An entry for each step of `describe(model, example).ops`. Its units are on axis 1 behind a convolution, as
        long as axes stay in place, else on the last axis. Cosine and rank are of steps that come from the inputs and
        have as many rows as the first of them, at least two.

    Raises:
        ModelError: If the model has no values, it or its loss cannot be computed, or it computes other steps on the
            example than `describe` says.
        UnknownNameError, InvalidValueError: If there is no such loss or parameter.

    Example:
        >>> vitals = probe(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), torch.randn(8, 3), torch.zeros(8, 2), "mse_loss")
        >>> vitals.layers, vitals.quantiles[2][0] >= 0, list(vitals.param_gradients)
        (('0:0', '1:0', '2:1'), True, ['0.weight', '0.bias'])
    """
    info, vitals = observe(model, example, targets, loss, values=values)
    told = describe(model, example)
    if [(op.kind, op.shape) for op in told.ops] != [(op.kind, op.shape) for op in info.ops]:
        raise ModelError(
            "The model computes other steps with gradients than without",
            given=f"{len(info.ops)} steps instead of {len(told.ops)}",
        )
    return vitals


def observe(
    model: nn.Module,
    example: Any,
    targets: Any = None,
    loss: Any = None,
    *,
    values: Mapping[str, NDArray[Any]] | None = None,
) -> tuple[ModelInfo, Vitals]:
    """`describe` and `probe` of one real run, which costs less than both."""
    build(model, example)
    need_values(model)
    found = None if loss is None else loss_of(loss)
    plain, paths = read_all(model), paths_of(model)
    meter = _Meter(model, FUSED)
    leaves: dict[Value, Tensor] = {}
    inputs: list[Tensor] = []
    with preserved(model, *(found.modules if found is not None else ())), torch.enable_grad():

        def own(tensor: Tensor) -> Tensor:
            """A parameter with the same memory whose gradient is nobody else's; memory of its own for other values."""
            made = tensor.detach().clone() if values else tensor.detach()
            value = meter.leaf(made, "param", paths[id(tensor)])
            if made.is_floating_point():
                leaves[value] = made.requires_grad_()
            return made

        def given(thing: Any) -> Any:
            """An argument that has a gradient; a copy of it, because the model may overwrite it."""
            if not isinstance(thing, Tensor) or not thing.is_floating_point():
                return thing
            inputs.append(thing.requires_grad_())
            return thing.clone()

        args, kwargs = pytree.tree_map(given, arguments(model, example))
        meter.batch = next((len(each) for each in tensors_of([*args, kwargs]) if each.dim()), None)
        swap(model, own, lambda tensor: tensor)
        if values:
            write(model, values)
        known_held(model, meter)
        named_inputs(meter, args, kwargs)
        try:
            with recording(meter):
                output = model(*args, **kwargs)
            results = tuple(numbers_of(each) for each in tensors_of(output))
            lost = own_loss(output) if found is None else found(output, targets_of(model, targets))
            made = _random_sum(output) if lost is None else lost
            info, steps = info_of(model, plain, finished(meter, output))
            wanted = {each if each.twin is None else each.twin for each in steps.values}
            meter.measure_views(wanted)
            with calling():
                gradients = _gradients(made, [*leaves.values(), *inputs])
        finally:
            meter.give_back()
    meter.measure_parameters(leaves, gradients, wanted)
    value = math.nan if lost is None else float(lost.detach())
    return info, _vitals(info, steps, meter, value, results)


@dataclass(frozen=True)
class _Seen:
    """A value with its tensor, cut off from what made it, and the axis of its units."""

    value: Value
    tensor: Tensor
    axis: int


class _Meter(Recorder):
    """Records a run with the statistics of every signal, and the size of every gradient once they are sent back.

    Attributes:
        batch: How many examples the inputs hold; None where they have no axes.
        statistics, gradients: By value.
    """

    def __init__(self, *given: Any):
        super().__init__(*given)
        self.batch: int | None = None
        self.statistics: dict[Value, Statistics] = {}
        self.gradients: dict[Value, float] = {}
        self._units = Units()
        self._waiting: list[_Seen] = []

    def seen(self, value: Value, tensor: Tensor) -> None:
        """Measure now, because the model may overwrite it; a view with a gradient waits until it is known to be a step.

        Most views only lead to another one. Waiting keeps their memory, which autograd mostly keeps anyway.
        """
        if not value.floating or value.kind == "param" or value in self.statistics:
            return
        if tensor.requires_grad:

            def hook(gradient: Tensor) -> None:
                if value in self.statistics:
                    self.gradients[value] = sent_size(gradient)

            tensor.register_hook(hook)
        seen = _Seen(value, tensor.detach(), self._units.axis(value, tensor))
        if tensor.requires_grad and tensor._is_view():
            self._waiting.append(seen)
        else:
            self._measure(seen)

    def overwriting(self) -> None:
        """Measure all that waits, as long as it has its values."""
        self.measure_views({each.value for each in self._waiting})

    def measure_views(self, wanted: Collection[Value]) -> None:
        """Measure what waits, where it is wanted; nothing waits any longer."""
        for each in self._waiting:
            if each.value in wanted:
                self._measure(each)
        self._waiting.clear()

    def measure_parameters(
        self, leaves: Mapping[Value, Tensor], gradients: Sequence[Tensor | None], wanted: Collection[Value]
    ) -> None:
        """The same for parameters; and the gradients of all, which come at the end."""
        for (value, tensor), gradient in zip(leaves.items(), gradients, strict=False):
            if value in wanted:
                self.statistics[value] = measured(tensor, tensor.dim() - 1, None)
            self.gradients[value] = sent_size(gradient)

    def _measure(self, seen: _Seen) -> None:
        has_batch = seen.value.signal and seen.tensor.dim() > 0 and len(seen.tensor) == self.batch
        self.statistics[seen.value] = measured(seen.tensor, seen.axis, self.batch if has_batch else None)


def _vitals(info: ModelInfo, steps: Steps, meter: _Meter, loss: float, outputs: tuple[NDArray[Any], ...]) -> Vitals:
    """What was measured, in the order of the steps; some are a multiple of another value that was seen."""
    found = [
        (meter.statistics.get(each, NOTHING), meter.gradients.get(each, math.nan)) if each.twin is None else (
            meter.statistics.get(each.twin, NOTHING).times(each.multiple),
            meter.gradients.get(each.twin, math.nan) / abs(each.multiple) if each.multiple else math.nan,
        )
        for each in steps.values
    ]  # fmt: skip
    sent = {value.path: gradient for value, gradient in meter.gradients.items() if value.kind == "param"}
    return assembled(
        info.ops,
        [each for each, _ in found],
        _with_cells(info.ops, [gradient for _, gradient in found]),
        {param.path: sent.get(param.path, math.nan) for param in info.params},
        loss,
        outputs,
    )


def _with_cells(ops: Sequence[Op], gradients: Sequence[float]) -> list[float]:
    """Sizes of gradients in which what is sent to the cells of a recurrent layer alone is sent to the layer.

    PyTorch gives the last cells beside all states, so that their gradient does not pass through these.
    """
    whole = list(gradients)
    for op, gradient in zip(ops, gradients, strict=True):
        if op.name == "cell state" and math.isnan(whole[op.inputs[0]]):
            whole[op.inputs[0]] = gradient * math.sqrt(math.prod(op.shape) / math.prod(ops[op.inputs[0]].shape))
    return whole


def _random_sum(output: Any) -> Tensor | None:
    """The sum of all outputs times fixed random numbers; None where none has a gradient."""
    generator = torch.Generator().manual_seed(_SEED)
    terms = []
    for tensor in tensors_of(output):
        if not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        numbers = torch.randn(real.shape, generator=generator).to(real.device)
        if real.requires_grad:
            terms.append((real * numbers.to(torch.promote_types(real.dtype, torch.float32))).sum())
    return sum(terms[1:], terms[0]) if terms else None


def _gradients(loss: Tensor | None, leaves: list[Tensor]) -> tuple[Tensor | None, ...]:
    """Send the loss's gradient back; what the leaves get."""
    if loss is None or not loss.requires_grad or not leaves:
        return (None,) * len(leaves)
    return torch.autograd.grad(loss, leaves, allow_unused=True)  # type: ignore[no-any-return]
