"""What a batch does to a PyTorch model, layer by layer: pre-activations and their gradients."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

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


def measure(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Measure each tapped layer's pre-activation and its gradient.

    Args:
        model: In inference mode.
        loss: From targets and outputs to one loss per example.
        x: A batch.
        y: Its targets.

    Returns:
        One number per layer in the order of `tapped_layers`: the root mean square of the pre-activation, and of
        the gradient of the batch's mean loss with respect to it. A layer used more than once reports its last
        use; one that is not used, or that the loss does not depend on, not a number.
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
    return tuple(_rms(seen.get(name)) for name in names), tuple(_rms(gradients.get(name)) for name in names)
