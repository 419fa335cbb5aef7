"""What a batch does to a PyTorch model, layer by layer: pre-activations and their gradients."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fanin.vitals import COMPARED

__all__ = ["measure", "tapped_layers"]

_TAPPED = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd)


def tapped_layers(model: nn.Module) -> tuple[str, ...]:
    """Paths of the layers whose pre-activation is measured: linear and convolutional, in the model's order.

    Recurrent layers are left out: their pre-activation is not one tensor but one for each time step.
    """
    return tuple(path for path, module in model.named_modules() if isinstance(module, _TAPPED))


@contextmanager
def _hooks(model: nn.Module, hook: Callable[[str, Tensor], Tensor]) -> Iterator[None]:
    """While open, each tapped layer's output goes through the hook."""

    def tap(path: str) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        return lambda _, __, output: hook(path, output)

    handles = [model.get_submodule(path).register_forward_hook(tap(path)) for path in tapped_layers(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rms(value: Tensor | None) -> float:
    return math.nan if value is None else float(value.detach().float().square().mean().sqrt())


def _geometry(z: Tensor | None, units: int, bound: float) -> tuple[float, float, float]:
    """Cosine between examples, share of dead units and of saturated values; `units` is the axis of the units."""
    if z is None:
        return (math.nan,) * 3
    z = z.detach().float()
    rows = nn.functional.normalize(z[:COMPARED].flatten(1), dim=1, eps=0)
    pairs = len(rows) * (len(rows) - 1)
    cosine = float((rows @ rows.T).sum() - len(rows)) / pairs if pairs else math.nan
    dead = float((z <= 0).movedim(units, 0).flatten(1).all(1).float().mean())
    return cosine, dead, float((z.abs() > bound).float().mean())


def measure(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, bound: float = math.inf
) -> tuple[tuple[float, ...], ...]:
    """Measure each tapped layer's pre-activation and its gradient.

    Args:
        model: In inference mode.
        loss: From targets and outputs to one loss per example.
        x: A batch.
        y: Its targets.
        bound: Larger pre-activations are saturated.

    Returns:
        Tuples in the order of `fanin.records.InitialSignals`, one number per layer in the order of `tapped_layers`; the
        gradient is that of the batch's mean loss. A layer used more than once reports its last use; one that is not
        used, or that the loss does not depend on, not a number.
    """
    seen: dict[str, Tensor] = {}

    def hook(path: str, output: Tensor) -> Tensor:
        """Goes on with a copy, because what follows may overwrite its input."""
        # Frozen layers give an output without a gradient.
        seen[path] = output if output.requires_grad else output.detach().requires_grad_()
        return seen[path].clone()

    names = tapped_layers(model)
    with torch.enable_grad(), _hooks(model, hook):
        value = loss(y, model(x)).mean()
        found = torch.autograd.grad(value, list(seen.values()), allow_unused=True) if seen else ()
    gradients = dict(zip(seen, found, strict=True))

    def row(name: str) -> tuple[float, ...]:
        """All that is measured of a layer."""
        z, convolution = seen.get(name), isinstance(model.get_submodule(name), nn.modules.conv._ConvNd)
        return _rms(z), _rms(gradients.get(name)), *_geometry(z, 1 if convolution else -1, bound)

    return tuple(zip(*map(row, names), strict=True)) if names else ((),) * 5
