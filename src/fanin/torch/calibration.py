"""Weights rescaled while a model runs, until their outputs are as large as wanted."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fanin.errors import InvalidValueError, ModelError, unknown_name
from fanin.torch.functions import TABLE
from fanin.torch.fused import FUSED
from fanin.torch.layouts import parameters
from fanin.torch.readings import Reader, Reading
from fanin.torch.record import Call, Recorder, Value, values_in
from fanin.torch.running import need_values
from fanin.torch.trace import trace_real

__all__ = ["calibrate"]


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
    need_values(model)
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
