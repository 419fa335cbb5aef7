"""Ways to initialise a whole model: fanin's, the framework's own, and those of others.

Each is a function of a model, an example input and a seed that changes the model in place.
"""

from collections.abc import Callable, Mapping
from typing import Any

from signals import call

__all__ = ["WAYS", "Way", "anyinit", "default", "lsuv", "ours"]

Way = Callable[[Any, Any, int], Any]
ROUNDS, CLOSE = 10, 0.1
"""LSUV's own limits: rounds for each layer, and the distance of the variance from 1 that is good enough."""


def default(model: Any, example: Any, seed: int) -> None:
    """As the framework, or the model's author, made it."""


def ours(recipe: str, *, calibrated: bool = False) -> Way:
    """A recipe of fanin, or one initializer for all weights; `calibrated` on the example or not."""

    def way(model: Any, example: Any, seed: int) -> Any:
        import fanin

        batch = example if calibrated else None
        return fanin.init(model, recipe, example=example, calibrate=batch, seed=seed, quiet=True)

    return way


def anyinit(mode: str) -> Way:
    """AnyInit in one of its modes; a model with several inputs is handed their values in order."""

    def way(model: Any, example: Any, seed: int) -> Any:
        import anyinit

        def tensor(value: Any) -> Any:
            if not hasattr(model, "register_buffer"):  # not PyTorch
                return value
            import torch

            return torch.as_tensor(value)

        several = isinstance(example, Mapping)
        batch = tuple(map(tensor, example.values())) if several else tensor(example)
        return anyinit.initialize(model, mode, batch, seed=seed)

    return way


def lsuv(model: Any, example: Any, seed: int) -> None:
    """Mishkin and Matas, ICLR 2016, for PyTorch: orthonormal weights, then each layer's output made of variance 1.

    Layer after layer in executed order; layers are modules of linear maps or convolutions, their biases zero.
    """
    import torch
    from torch import nn

    torch.manual_seed(seed)
    kinds: tuple[type, ...] = (nn.Linear, nn.modules.conv._ConvNd)
    layers = [module for module in model.modules() if isinstance(module, kinds) or _is_linear(module)]
    seen: dict[Any, float] = {}

    def hook(module: Any, inputs: Any, output: Any) -> None:
        seen[module] = float(output.std())

    hooks = [layer.register_forward_hook(hook) for layer in layers]
    with torch.no_grad():
        for layer in layers:
            nn.init.orthogonal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        call(model, example)
        for layer in list(seen):
            for _ in range(ROUNDS):
                call(model, example)
                if abs(seen[layer] ** 2 - 1) < CLOSE:
                    break
                layer.weight /= seen[layer]
    for each in hooks:
        each.remove()


def _is_linear(module: Any) -> bool:
    """Whether it is the linear map that the library `transformers` calls a convolution."""
    return type(module).__name__ == "Conv1D" and type(module).__module__.startswith("transformers.")


WAYS: dict[str, dict[str, Way]] = {
    "torch": {
        "default": default,
        "fanin": ours("auto"),
        "fanin calibrated": ours("auto", calibrated=True),
        "AnyInit analytic": anyinit("analytic"),
        "AnyInit empirical": anyinit("empirical"),
        "LSUV": lsuv,
    }
}
"""By framework; LSUV is written for PyTorch alone."""
WAYS["keras"] = {name: way for name, way in WAYS["torch"].items() if name != "LSUV"}
WAYS["flax"] = WAYS["keras"]
