"""PyTorch modules read and written: the only place where PyTorch's weight layouts are interpreted."""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fanin.errors import ModelError, UnknownNameError
from fanin.initializers.draws import boxes, draw_law
from fanin.initializers.fans import canonical_order
from fanin.initializers.fills import fill_box
from fanin.initializers.laws import Constant, Draw, Independent
from fanin.records import Axis, ModelInfo, ParamInfo

__all__ = ["describe", "draw_", "is_sharded", "read", "write"]

_CHUNK = 1 << 22
"""Elements held beside a tensor while it is filled, 16 MiB."""
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


def _recurrent(module: Any, name: str, tensor: Tensor) -> ParamInfo:
    if "weight_hr" in name:  # the projection of an LSTM
        return _info(name, tensor, _MATRIX, "recurrent")
    gates = next((gates for kinds, gates in _GATES if isinstance(module, kinds)), 1)
    return _info(name, tensor, _MATRIX, "recurrent", gates)


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
    if "bias" not in name and (tensor.dim() > 1 or isinstance(module, _NORMS)):
        reading = next((reading for kinds, reading in _READINGS if isinstance(module, kinds)), None)
        found = reading(module, name, tensor) if reading is not None else None
    elif isinstance(module, _NORMS):
        found = _norm(module, name, tensor)
    plain = _info(name, tensor, (), "bias" if "bias" in name else "unknown")
    return replace(found or plain, path=path or name)


def _parameters(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, Tensor]]:
    """Path, owner, own name and values of each parameter, a shared one once."""
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        for name, tensor in module.named_parameters(recurse=False):
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield f"{prefix}.{name}" if prefix else name, module, name, tensor


def describe(model: nn.Module) -> ModelInfo:
    """Read the parameters of a model, in the model's order.

    Raises:
        ModelError: If a lazy module has not seen its first batch.

    Example:
        >>> [(param.path, param.axes) for param in describe(nn.Sequential(nn.Linear(3, 2))).params]
        [('0.weight', ('out', 'in')), ('0.bias', ())]
    """
    lazy = [path for path, *_, tensor in _parameters(model) if isinstance(tensor, nn.parameter.UninitializedParameter)]
    if lazy:
        raise ModelError(
            "The model has parameters that do not exist yet", given=", ".join(lazy), hint="Call it once on a batch."
        )
    attention = {id(module.out_proj) for module in model.modules() if isinstance(module, nn.MultiheadAttention)}

    def info(path: str, module: nn.Module, name: str, tensor: Tensor) -> ParamInfo:
        found = read(module, name, tensor, path)
        return replace(found, role="attention") if id(module) in attention and found.axes else found

    return ModelInfo("torch", tuple(info(*each) for each in _parameters(model)))


def write(model: nn.Module, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Set parameters by path; the others keep their values.

    Raises:
        UnknownNameError, ModelError: If the model has no such parameter, or one of another shape; nothing is
            written then.
    """
    tensors = {path: tensor for path, _, _, tensor in _parameters(model)}
    shapes = {param.path: param.shape for param in describe(model).params}
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


def draw_(tensor: Tensor, param: ParamInfo, law: Draw, seed: int) -> None:
    """Overwrite a tensor with the values of a described parameter; of a sharded one, this rank's part alone.

    Args:
        tensor: On any device, of any floating type, in any memory order, a DTensor too.
        param: Its description; its shape may split an axis of the tensor.
        law: What to draw.
        seed: 0 to 2**64 - 1.
    """
    with torch.no_grad():
        if isinstance(law, Constant):
            tensor.fill_(law.value)
        elif is_sharded(tensor):
            local, corner = _shard(tensor)
            if param.shape != tuple(tensor.shape):  # an axis is split, so the shard is no rectangle: cut it out
                whole = torch.from_numpy(draw_law(param, law, seed)).reshape(tensor.shape)
                part = tuple(slice(at, at + size) for at, size in zip(corner, local.shape, strict=True))
                local.copy_(whole[part])
                return
            _fill(local, corner, param, law, seed)
        else:
            _fill(tensor.view(param.shape), (0,) * len(param.shape), param, law, seed)


def is_sharded(tensor: Tensor) -> bool:
    """Whether it is a DTensor; loads nothing, because one exists only where its module is loaded."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def _shard(tensor: Any) -> tuple[Tensor, tuple[int, ...]]:
    """The local part of a DTensor, as a tensor that shares its memory, and its corner in the whole."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    _, corner = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return tensor.to_local(), tuple(corner)


def _fill(target: Tensor, corner: tuple[int, ...], param: ParamInfo, law: Draw, seed: int) -> None:
    """Draw the part of a parameter that begins at `corner` and has the target's shape."""
    if not target.numel():
        return
    if not isinstance(law, Independent):
        part = [slice(at, at + size) for at, size in zip(corner, target.shape, strict=True)]
        target.copy_(torch.from_numpy(draw_law(param, law, seed, part)))
        return
    order = canonical_order(param.axes)
    view, corner = target.permute(order), tuple(corner[i] for i in order)
    shape = tuple(param.shape[i] for i in order)
    if view.dtype == torch.float32 and view.device.type == "cpu" and not view.is_neg():
        # Autograd has to hear of a write that goes past it.
        torch.autograd.graph.increment_version(target)
        fill_box(view.numpy(), law, seed=seed, name=param.path, shape=shape, corner=corner)
        return
    for box in boxes(view.shape, _CHUNK):
        buffer = np.empty([cut.stop - cut.start for cut in box], np.float32)
        begin = [at + cut.start for at, cut in zip(corner, box, strict=True)]
        fill_box(buffer, law, seed=seed, name=param.path, shape=shape, corner=begin)
        view[box].copy_(torch.from_numpy(buffer))
