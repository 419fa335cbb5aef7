"""The parameters of PyTorch modules, read and written: only here are PyTorch's weight layouts interpreted."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from fanin.errors import ModelError, UnknownNameError
from fanin.records import Axis, ModelInfo, ParamInfo

__all__ = ["Magnitude", "gates_of", "magnitudes", "parameters", "read", "read_all", "write"]

_MATRIX: tuple[Axis, ...] = ("out", "in")
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_GATES = (((nn.LSTM, nn.LSTMCell), 4), ((nn.GRU, nn.GRUCell), 3))
_Reading = Callable[[Any, str, Tensor], ParamInfo | None]
"""From a module, a parameter's own name and its values to what they mean; None for no weight."""


def _info(name: str, tensor: Tensor, axes: tuple[Axis, ...], role: str, gates: int = 1, groups: int = 1) -> ParamInfo:
    return ParamInfo(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), axes, role, gates, groups)


def _spatial(tensor: Tensor) -> tuple[Axis, ...]:
    return tuple("spatial" for _ in range(tensor.dim() - 2))


def _linear(_: nn.Linear, name: str, tensor: Tensor) -> ParamInfo:
    return _info(name, tensor, _MATRIX, "dense")


def _conv(module: Any, name: str, tensor: Tensor) -> ParamInfo:
    depthwise = module.groups > 1 and module.groups == module.in_channels
    role = "depthwise" if depthwise else "conv"
    return _info(name, tensor, ("out", "in", *_spatial(tensor)), role, groups=module.groups)


def _transposed(module: Any, name: str, tensor: Tensor) -> ParamInfo:
    """Stored as (inputs of all groups, units of one group, spatial...): the groups are a stack of weights."""
    info = _info(name, tensor, ("in", "out", *_spatial(tensor)), "transposed_conv")
    if module.groups == 1:
        return info
    inputs, *rest = tensor.shape
    return replace(info, axes=("batch", *info.axes), shape=(module.groups, inputs // module.groups, *rest))


def gates_of(module: nn.Module) -> int:
    """How many gates a recurrent layer or cell has."""
    return next((gates for kinds, gates in _GATES if isinstance(module, kinds)), 1)


def _recurrent(module: Any, name: str, tensor: Tensor) -> ParamInfo:
    if "weight_hr" in name:  # the projection of an LSTM
        return _info(name, tensor, _MATRIX, "recurrent")
    return _info(name, tensor, _MATRIX, "recurrent", gates_of(module))


def _attention(_: nn.MultiheadAttention, name: str, tensor: Tensor) -> ParamInfo | None:
    if name == "in_proj_weight":
        return _info(name, tensor, _MATRIX, "attention", gates=3)
    return _info(name, tensor, _MATRIX, "attention") if name.endswith("_proj_weight") else None


def _embedding(_: nn.Module, name: str, tensor: Tensor) -> ParamInfo:
    return _info(name, tensor, ("batch", "out"), "embedding")


def _bilinear(_: nn.Bilinear, name: str, tensor: Tensor) -> ParamInfo:
    return _info(name, tensor, ("out", "in", "in"), "dense")


def _norm(_: nn.Module, name: str, tensor: Tensor) -> ParamInfo:
    return _info(name, tensor, (), "norm")


def _bias(module: nn.Module, name: str, tensor: Tensor) -> ParamInfo:
    """A bias; that of a packed layer has the blocks of its weight."""
    packed = isinstance(module, nn.MultiheadAttention) and name == "in_proj_bias"
    gates = 3 if packed else gates_of(module)
    return _info(name, tensor, ("out",), "bias", gates) if gates > 1 else _info(name, tensor, (), "bias")


_READINGS: tuple[tuple[Any, _Reading], ...] = (
    (nn.Linear, _linear),
    ((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), _transposed),
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), _conv),
    ((nn.RNNBase, nn.RNNCellBase), _recurrent),
    (nn.MultiheadAttention, _attention),
    ((nn.Embedding, nn.EmbeddingBag), _embedding),
    (nn.Bilinear, _bilinear),
    (_NORMS, _norm),
)


def read(module: nn.Module, name: str, tensor: Tensor, path: str | None = None) -> ParamInfo:
    """What one parameter of one module means.

    Args:
        module: The module that owns it.
        name: Its name in that module.
        tensor: The parameter.
        path: What to call it; its name where nothing is said.

    Example:
        >>> conv = nn.ConvTranspose2d(6, 4, 3, groups=2)
        >>> info = read(conv, "weight", conv.weight)
        >>> info.shape, info.axes
        ((2, 3, 2, 3, 3), ('batch', 'in', 'out', 'spatial', 'spatial'))
    """
    found: ParamInfo | None = None
    if isinstance(module, _NORMS):
        found = _norm(module, name, tensor)
    elif "bias" in name:
        found = _bias(module, name, tensor)
    elif tensor.dim() > 1:
        reading = next((reading for kinds, reading in _READINGS if isinstance(module, kinds)), None)
        found = reading(module, name, tensor) if reading is not None else None
    return replace(found or _info(name, tensor, (), "unknown"), path=path or name)


# ------------------------------------------------------------------------ weights that are made at each call
@dataclass(frozen=True)
class Magnitude:
    """Where weight normalisation keeps how long the rows of a weight are.

    Attributes:
        path: The parameter that holds the lengths.
        axis: The axis of the weight along which they lie; -1 for one length of the whole.
    """

    path: str
    axis: int


@dataclass(frozen=True)
class _Made:
    """A parameter that a weight is made of.

    Attributes:
        owner: The module that uses the weight.
        weight: The weight's name in it.
        part: ``direction`` and ``magnitude`` of weight normalisation; or ``whole``.
        maker: What turns it into the weight.
        axis: Of weight normalisation.
    """

    owner: nn.Module
    weight: str
    part: Literal["direction", "magnitude", "whole"]
    maker: str
    axis: int = -1


def _made(model: nn.Module, prefix: str, module: nn.Module, name: str) -> _Made | None:
    """How a parameter makes a weight, if it does: PyTorch's parametrizations and its older hooks."""
    if isinstance(module, ParametrizationList):
        path, _, weight = prefix.rpartition(".parametrizations.")
        if not prefix.count(".parametrizations."):  # of the model itself
            path, weight = "", prefix.removeprefix("parametrizations.")
        owner, makers = model.get_submodule(path), [type(each).__name__.strip("_") for each in module]
        if makers == ["WeightNorm"]:
            part: Literal["direction", "magnitude"] = "magnitude" if name == "original0" else "direction"
            return _Made(owner, weight, part, makers[0], module[0].dim)
        return _Made(owner, weight, "whole", ", ".join(makers)) if name == "original" else None
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm) and name in (f"{hook.name}_g", f"{hook.name}_v"):
            part = "magnitude" if name.endswith("_g") else "direction"
            return _Made(module, hook.name, part, "WeightNorm", hook.dim)
        if isinstance(hook, SpectralNorm) and name == f"{hook.name}_orig":
            return _Made(module, hook.name, "whole", "SpectralNorm")
    return None


def _made_notes(made: dict[str, _Made]) -> Iterator[str]:
    for path, how in made.items():
        if how.part == "direction":
            yield (
                f"{path} is rescaled to lengths that another parameter holds (weight normalisation): where a plan "
                "draws the first and not the second, the second is set to the lengths drawn."
            )
        elif how.part == "whole":
            yield f"{path} is turned into the weight by {how.maker} at each call: what is drawn is not what is used."


# ------------------------------------------------------------------------------------------------ whole models
def parameters(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, Tensor]]:
    """Path, owner, own name and values of each parameter, a shared one once."""
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        for name, tensor in module.named_parameters(recurse=False):
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield f"{prefix}.{name}" if prefix else name, module, name, tensor


def magnitudes(model: nn.Module) -> dict[str, Magnitude]:
    """For each weight under weight normalisation, by the path of its direction: where its lengths are."""
    found: dict[tuple[int, str], dict[str, tuple[str, int]]] = {}
    for path, module, name, _ in parameters(model):
        made = _made(model, path.removesuffix(name).removesuffix("."), module, name)
        if made is not None and made.part != "whole":
            found.setdefault((id(made.owner), made.weight), {})[made.part] = path, made.axis
    return {parts["direction"][0]: Magnitude(*parts["magnitude"]) for parts in found.values() if len(parts) == 2}


def read_all(model: nn.Module) -> ModelInfo:
    """The parameters of a model, in the model's order, without running it.

    Raises:
        ModelError: If a lazy module has not seen its first batch.
    """
    found = list(parameters(model))
    lazy = [path for path, *_, tensor in found if isinstance(tensor, nn.parameter.UninitializedParameter)]
    if lazy:
        raise ModelError(
            "The model has parameters that do not exist yet",
            given=", ".join(lazy),
            hint="Give an example, or call it once on a batch.",
        )  # fmt: skip
    attention = {id(module.out_proj) for module in model.modules() if isinstance(module, nn.MultiheadAttention)}
    paths: dict[int, list[str]] = {}
    for path, tensor in model.named_parameters(remove_duplicate=False):
        paths.setdefault(id(tensor), []).append(path)
    made: dict[str, _Made] = {}

    def info(path: str, module: nn.Module, name: str, tensor: Tensor) -> ParamInfo:
        """One parameter, read as the weight that it makes where it makes one."""
        how = _made(model, path.removesuffix(name).removesuffix("."), module, name)
        if how is not None:
            made[path] = how
        if how is not None and how.part == "magnitude":
            param = _info(path, tensor, (), "unknown")
        elif how is not None:
            param = read(how.owner, how.weight, tensor, path)
        else:
            param = read(module, name, tensor, path)
        in_attention = param.role == "dense" and id(how.owner if how is not None else module) in attention
        role = "attention" if in_attention else param.role
        return replace(param, role=role, shared=tuple(other for other in paths[id(tensor)] if other != path))

    params = tuple(info(*each) for each in found)
    return ModelInfo("torch", params, notes=tuple(_made_notes(made)))


def write(model: nn.Module, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Set parameters by path; the others keep their values.

    Raises:
        UnknownNameError, ModelError: If the model has no such parameter, or one of another shape; nothing is
            written then.
    """
    tensors = {path: tensor for path, _, _, tensor in parameters(model)}
    shapes = {param.path: param.shape for param in read_all(model).params}
    missing = set(arrays) - set(tensors)
    if missing:
        raise UnknownNameError("The model has no such parameter", given=", ".join(sorted(missing)))
    for path, array in arrays.items():
        if array.shape not in (shapes[path], tuple(tensors[path].shape)):
            raise ModelError(f"The array for {path} has another shape", given=array.shape, allowed=str(shapes[path]))
    with torch.no_grad():
        for path, array in arrays.items():
            # Arrays of JAX cannot be written to, and slices may run backwards; PyTorch takes neither.
            tensors[path].copy_(torch.from_numpy(np.array(array, order="C")).reshape(tensors[path].shape))
