"""A model run on a real example: how large signals and gradients are, and weights rescaled until they are as wanted."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fanin.errors import InvalidValueError, ModelError, unknown_name
from fanin.records import ModelInfo, Signals
from fanin.torch.functions import TABLE
from fanin.torch.fused import FUSED
from fanin.torch.layouts import parameters, read_all
from fanin.torch.readings import Reader, Reading
from fanin.torch.record import Call, Recorder, Value, values_in
from fanin.torch.running import arguments, calling, preserved, swap, tensors_of
from fanin.torch.trace import (
    describe,
    finished,
    info_of,
    known_held,
    named_inputs,
    paths_of,
    recording,
    trace_real,
)

__all__ = ["calibrate", "observe", "probe"]

_SEED = 0x5EED
"""Of the numbers that the outputs are summed with."""


def probe(model: nn.Module, example: Any) -> Signals:
    """How large the signals of a model are on a real example, and the gradients of a random sum of its outputs.

    Nothing of the model changes, neither buffers nor gradients nor random state; it runs in the mode that it is in.

    Args:
        model: With values: not on the meta device.
        example: As in `describe`.

    Returns:
        For each step of `describe(model, example).ops` the root mean square of its output, and of the gradient with
        respect to it of the sum of all outputs times fixed standard normal numbers; not a number where there is none.

    Raises:
        ModelError: If the model cannot be run on the example, or computes other steps on it than `describe` says.
    """
    info, signals = observe(model, example)
    told = describe(model, example)
    if [(op.kind, op.shape) for op in told.ops] != [(op.kind, op.shape) for op in info.ops]:
        raise ModelError(
            "The model computes other steps with gradients than without",
            given=f"{len(info.ops)} steps instead of {len(told.ops)}",
        )
    return signals


def observe(model: nn.Module, example: Any) -> tuple[ModelInfo, Signals]:
    """`describe` and `probe` of one real run."""
    _need_values(model)
    plain, paths = read_all(model), paths_of(model)
    meter = _Meter(model, FUSED)
    leaves: dict[Value, Tensor] = {}
    inputs: list[Tensor] = []
    with preserved(model), torch.enable_grad():

        def own(tensor: Tensor) -> Tensor:
            """A parameter with the same memory whose gradient is nobody else's."""
            made = tensor.detach()
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
        swap(model, own, lambda tensor: tensor)
        known_held(model, meter)
        named_inputs(meter, args, kwargs)
        try:
            with recording(meter):
                output = model(*args, **kwargs)
            with calling():
                given_back = _gradients(output, [*leaves.values(), *inputs])
        finally:
            meter.give_back()
        info, steps = info_of(model, plain, finished(meter, output))
    for (value, tensor), gradient in zip(leaves.items(), given_back, strict=False):
        if value in steps.readings:
            meter.signals[value] = _rms(tensor)
            meter.gradients[value] = _rms(gradient) if gradient is not None else math.nan
    layers = tuple(f"{index}:{op.place or op.kind}" for index, op in enumerate(info.ops))
    signals = tuple(_size(value, meter.signals, 1) for value in steps.values)
    return info, Signals(layers, signals, tuple(_size(value, meter.gradients, -1) for value in steps.values))


def _need_values(model: nn.Module) -> None:
    """Refuse a model that has shapes alone."""
    for path, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_meta:
            raise ModelError(
                "The model has no values to measure", given=f"{path}, on the meta device", hint="Initialise it first."
            )


class _Meter(Recorder):
    """Records a run with the size of every signal, and of every gradient once they are sent back."""

    def __init__(self, *given: Any):
        super().__init__(*given)
        self.signals: dict[Value, float] = {}
        self.gradients: dict[Value, float] = {}

    def seen(self, value: Value, tensor: Tensor) -> None:
        """Measure now: later the model may have overwritten it."""
        if not value.floating or value.kind == "param" or value in self.signals:
            return
        self.signals[value] = _rms(tensor)
        if tensor.requires_grad:

            def hook(gradient: Tensor) -> None:
                self.gradients[value] = _rms(gradient)

            tensor.register_hook(hook)


def _rms(tensor: Tensor) -> float:
    if not tensor.numel():
        return math.nan
    wide = None if tensor.dtype in (torch.float64, torch.complex64, torch.complex128) else torch.float32
    return float(torch.linalg.vector_norm(tensor.detach(), dtype=wide)) / math.sqrt(tensor.numel())


def _size(value: Value, sizes: Mapping[Value, float], power: int) -> float:
    """What was measured of a value, or of the value that it is a multiple of."""
    if value.twin is None:
        return sizes.get(value, math.nan)
    return sizes.get(value.twin, math.nan) * abs(value.multiple) ** power


def _gradients(output: Any, leaves: list[Tensor]) -> tuple[Tensor | None, ...]:
    """Send back the gradient of the sum of all outputs times fixed random numbers; what the leaves get."""
    generator = torch.Generator().manual_seed(_SEED)
    terms = []
    for tensor in tensors_of(output):
        if not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        numbers = torch.randn(real.shape, generator=generator).to(real.device)
        if real.requires_grad:
            terms.append((real * numbers.to(torch.promote_types(real.dtype, torch.float32))).sum())
    if not terms or not leaves:
        return ()
    return torch.autograd.grad(sum(terms[1:], terms[0]), leaves, allow_unused=True)  # type: ignore[no-any-return]


# -------------------------------------------------------------------------------------------------- calibrate
def calibrate(
    model: nn.Module,
    example: Any,
    targets: Mapping[str, float],
    *,
    of: Literal["second_moment", "variance"] = "second_moment",
) -> dict[str, float]:
    """Rescale weights, one after the other as they are executed, until their outputs are as large as wanted.

    Args:
        model: With values; runs once, in the mode that it is in. Only the weights named by `targets` change.
        example: As in `describe`.
        targets: From the path of a weight to what its output is to have at its first use, without its bias.
        of: What of the output is meant: ``second_moment`` or ``variance``.

    Returns:
        What each weight was multiplied by, in executed order.

    Raises:
        UnknownNameError, InvalidValueError, ModelError: If a path or a target is none, the model cannot be run or
            does not multiply by a weight, or an output is zero or not finite; all weights are as before then.

    Example:
        >>> layer = nn.Linear(50, 40)
        >>> x = torch.randn(30, 50)
        >>> _ = calibrate(layer, x, {"weight": 2.0})
        >>> round(float((x @ layer.weight.T).detach().square().mean()), 4)
        2.0
    """
    _need_values(model)
    known = {path: tensor for path, _, _, tensor in parameters(model)}
    for path, target in targets.items():
        if path not in known:
            raise unknown_name("parameter in the model", path, known)
        if not (math.isfinite(target) and target > 0):
            raise InvalidValueError(f"The target for {path} is not above 0", given=target)
    if of not in _MOMENTS:
        raise unknown_name("quantity to calibrate", of, _MOMENTS)
    scaler = _Scaler(model, known, dict(targets), _MOMENTS[of])
    try:
        trace_real(model, example, scaler)
        if scaler.waiting:
            raise ModelError(
                "The model does not multiply a signal by these parameters on this example",
                given=", ".join(scaler.waiting),
            )
    except BaseException:
        scaler.undo()
        raise
    return scaler.factors


_MOMENTS: dict[str, Callable[[Tensor], Tensor]] = {
    "second_moment": lambda tensor: tensor.square().mean(),
    "variance": lambda tensor: tensor.var(correction=0),
}


class _Scaler(Recorder):
    """Records a run and rescales each weight that is waited for as soon as its first output is there."""

    def __init__(
        self,
        model: nn.Module,
        known: Mapping[str, Tensor],
        targets: dict[str, float],
        moment: Callable[[Tensor], Tensor],
    ):
        super().__init__(model, FUSED)
        self.factors: dict[str, float] = {}
        self.waiting = targets
        self._known_parameters = known
        self._moment = moment
        self._reader = Reader(TABLE)
        self._old: list[tuple[Tensor, Tensor]] = []

    def seen(self, value: Value, tensor: Tensor) -> None:
        """Read every value at once."""
        if value.kind == "step":
            self._reader.read(value)

    def finished(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
        """Rescale the weight of this call, if it is waited for, and what it gave."""
        reading = self._weight_of(call)
        if reading is None or reading.params[0].path not in self.waiting:
            return result
        path = reading.params[0].path
        bias = _bias_beside(call, args, kwargs, result)
        with torch.no_grad():
            product = result if bias is None else result - bias
            wide = product if product.dtype == torch.float64 else product.float()
            measured = float(self._moment(wide)) / _own_scale(reading) ** 2
            if not math.isfinite(measured) or measured == 0:
                raise ModelError(f"The output of {path} is zero or not finite", given=f"{measured:g}, at {call.name}")
            factor = math.sqrt(self.waiting.pop(path) / measured)
            for each in self._scaled(path, reading):
                self._old.append((each, each.detach().clone()))
                each.mul_(factor)
            result.copy_(product * factor if bias is None else product * factor + bias)
        self.factors[path] = factor
        return result

    def _weight_of(self, call: Call) -> Reading | None:
        """The product with a weight that a call is, or begins with where the model scales that weight."""
        if len(call.results) != 1:
            return None
        reading = self._reader.read(call.results[0])
        while reading.inputs and reading.inputs[0].call is call:
            reading = self._reader.read(reading.inputs[0])
        return reading if reading.kind == "weight" and _has_signal(reading) else None

    def _scaled(self, path: str, reading: Reading) -> list[Tensor]:
        """What has to be multiplied so that the weight is."""
        source = reading.slot.source if reading.slot is not None else None
        if source is not None and source.normalised:
            raise ModelError(
                f"The scale of {path} has no effect, because the model normalises it at each call", given=path
            )
        beside = source.magnitude if source is not None else None
        return [self._known_parameters[each] for each in (path, *([beside.path] if beside is not None else []))]

    def undo(self) -> None:
        """Give every weight its old values back."""
        with torch.no_grad():
            for tensor, old in reversed(self._old):
                tensor.copy_(old)


def _has_signal(reading: Reading) -> bool:
    """Whether a weight is multiplied with more than itself, as it is to find its own norm."""
    waiting, seen = list(reading.inputs), set(reading.inputs)
    while waiting:
        each = waiting.pop()
        if each.signal or (each.kind == "param" and each is not reading.params[0]):
            return True
        call = each.call
        found = {*values_in([call.args, call.kwargs])} - seen if call is not None and each.learned else set()
        seen |= found
        waiting += found
    return False


def _own_scale(reading: Reading) -> float:
    """The number by which a model multiplies a weight before it uses it."""
    return reading.slot.source.scale if reading.slot is not None else 1.0


_BIASES = {"linear": (2, 0), "bilinear": (3, 0), **{f"conv{kind}{axes}d": (2, axes) for kind in ("", "_transpose")
           for axes in (1, 2, 3)}}  # fmt: skip
"""Functions that add a bias themselves: where it stands, and how many axes of the output come after the units."""


def _bias_beside(call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Tensor) -> Tensor | None:
    """The bias that a call has added, in a shape that can be taken away again."""
    if call.name not in _BIASES:
        return None
    position, after = _BIASES[call.name]
    bias = args[position] if position < len(args) else kwargs.get("bias")
    return None if bias is None else bias.reshape(-1, *[1] * after)
