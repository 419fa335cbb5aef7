"""PyTorch modules read and written: the only place where PyTorch's weight layouts are interpreted."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fanin.errors import ModelError, unknown_name
from fanin.initializers.draws import boxes, draw_law, gate_factors, law_of
from fanin.initializers.fans import axes_of, canonical_order
from fanin.initializers.fills import fill_box
from fanin.initializers.laws import Constant, Draw, Independent
from fanin.initializers.streams import check_seed
from fanin.records import Init, ModelInfo, ParamInfo, Plan
from fanin.torch import trace
from fanin.torch.calibration import calibrate
from fanin.torch.examples import examples
from fanin.torch.layouts import magnitudes, parameters, read, read_all, write
from fanin.torch.losses import USUAL, loss_function, own_loss
from fanin.torch.probe import observe, probe
from fanin.torch.setup import setup
from fanin.torch.trial import trial

__all__ = [
    "USUAL", "calibrate", "describe", "draw_", "examples", "fill", "is_sharded", "loss_function", "materialise",
    "observe", "own_loss", "probe", "read", "setup", "trial", "values", "write",
]  # fmt: skip

_CHUNK = 1 << 22
"""Elements held beside a tensor while it is filled, 16 MiB."""


def describe(model: nn.Module, example: Any = None) -> ModelInfo:
    """Read the parameters of a model, in the model's order, and what it computes from them.

    Nothing of the model changes: parameters, buffers, mode, gradients and random state are as before. Lazy modules get
    the parameters that they make at their first call on the example.

    Args:
        model: Any module.
        example: What to call it with, batch in front: an array, a tuple of positional arguments or a mapping of
            keyword arguments. It is run once, without values where that can be. None reads the parameters alone.

    Raises:
        ModelError: If a lazy module has seen no batch and there is no example, or the model cannot be run on it.

    Example:
        >>> info = describe(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), torch.zeros(5, 3))
        >>> [(param.path, param.axes) for param in info.params]
        [('0.weight', ('out', 'in')), ('0.bias', ())]
        >>> [(op.kind, op.name, op.params) for op in info.ops]
        [('input', '', ()), ('weight', '', ('0.weight', '0.bias')), ('activation', 'relu', ())]
    """
    return read_all(model) if example is None else trace.describe(model, example)


def values(model: nn.Module, path: str) -> NDArray[np.floating[Any]]:
    """A parameter's values as a NumPy array of its own, in float64 where the model has that, else in float32.

    Raises:
        UnknownNameError, ModelError: If the model has no such parameter, or it has no values yet.

    Example:
        >>> values(nn.Linear(3, 2), "weight").shape
        (2, 3)
    """
    tensor = _parameter(model, path).detach()
    if tensor.is_meta:
        raise ModelError("The parameter has no values yet", given=f"{path}, on the meta device", hint=_HINT)
    whole = tensor.full_tensor() if is_sharded(tensor) else tensor
    dtype = torch.float64 if whole.dtype == torch.float64 else torch.float32
    return whole.to("cpu", dtype, copy=True).numpy()  # type: ignore[no-any-return]


_HINT = "fanin.init gives a model on the meta device its memory and fills it."


def _parameter(model: nn.Module, path: str) -> Tensor:
    try:
        return model.get_parameter(path)  # a walk over all of them for each one would be slow
    except AttributeError:
        known = [name for name, _ in model.named_parameters(remove_duplicate=False)]
        raise unknown_name("parameter in the model", path, known) from None


def materialise(model: nn.Module, device: str | torch.device = "cpu") -> None:
    """Give a model that was built on the meta device its memory; the parameters hold whatever was there before.

    Running statistics of normalisations get their starting values. Tied parameters stay tied. What has memory
    already is left as it is.

    Raises:
        ModelError: If another buffer is on the meta device, whose values cannot be known; nothing is changed then.

    Example:
        >>> with torch.device("meta"):
        ...     model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        >>> materialise(model)
        >>> model[0].weight.device.type, model[1].running_var.tolist()
        ('cpu', [1.0, 1.0])
    """
    norms = [each for each in model.modules() if isinstance(each, nn.modules.batchnorm._NormBase)]
    known = {id(buffer) for norm in norms for buffer in norm._buffers.values()}
    missing = [path for path, buffer in model.named_buffers() if buffer.is_meta and id(buffer) not in known]
    if missing:
        raise ModelError(
            "The model has buffers without values, and fanin cannot know them",
            given=", ".join(missing),
            hint="Build the model on a device that has memory, or give these buffers their values first.",
        )
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, tensor in module._parameters.items():
            if tensor is None or not tensor.is_meta:
                continue
            if id(tensor) not in made:
                made[id(tensor)] = nn.Parameter(torch.empty_like(tensor, device=device), tensor.requires_grad)
            module._parameters[name] = made[id(tensor)]
        if isinstance(module, nn.RNNBase):  # it keeps a list of its weights beside them
            module._flat_weights = [getattr(module, name, None) for name in module._flat_weights_names]
            module.flatten_parameters()
    for norm in norms:
        if any(buffer is not None and buffer.is_meta for buffer in norm._buffers.values()):
            for name, buffer in norm._buffers.items():
                norm._buffers[name] = None if buffer is None else torch.empty_like(buffer, device=device)
            norm.reset_running_stats()


# ------------------------------------------------------------------------------------------------------- fill
@dataclass(frozen=True)
class _Write:
    """One parameter that a plan fills, checked.

    Attributes:
        path: Of the tensor in the model.
        law: What to draw.
        is_new: Whether the tensor has no values yet that could come back.
    """

    path: str
    param: ParamInfo
    law: Draw
    scales: tuple[float, ...]
    is_new: bool


def fill(model: nn.Module, plan: Plan, progress: Callable[[int], None] | None = None) -> None:
    """Draw what a plan chooses into a model, all of it or nothing.

    A model on the meta device gets its memory first. The lengths that weight normalisation keeps beside a weight are
    set to those of what is drawn, unless the plan chooses for them, too.

    Args:
        model: Its parameters may be sharded (DTensor) and of any floating type.
        plan: Its paths and shapes have to be the model's.
        progress: Told after each parameter how many elements more are done.

    Raises:
        UnknownNameError, ModelError, InvalidValueError: If the plan does not fit the model, or a law a parameter;
            nothing is written then. If anything fails later, every parameter gets its old values back.

    Example:
        >>> from fanin.records import PlanEntry
        >>> model = nn.Linear(3, 2)
        >>> entries = tuple(PlanEntry(param, Init("ones"), "") for param in describe(model).params)
        >>> fill(model, Plan(entries))
        >>> model.bias.tolist()
        [1.0, 1.0]
    """
    seed, writes = check_seed(plan.seed), _checked(model, plan)
    materialise(model)
    tensors, lengths = dict(model.named_parameters(remove_duplicate=False)), _lengths(model, plan)
    old: list[tuple[Tensor, Tensor]] = []
    try:
        for write in writes:
            tensor, beside = tensors[write.path], lengths.get(write.path)
            for each in () if write.is_new else (tensor, *([beside[0]] if beside is not None else [])):
                old.append((each, each.detach().clone()))
            draw_(tensor, write.param, write.law, seed)
            _scale(tensor, write.param, write.scales)
            if beside is not None:
                with torch.no_grad():
                    beside[0].copy_(torch.norm_except_dim(tensor, 2, beside[1]))
            if progress is not None:
                progress(tensor.numel())
    except BaseException:
        with torch.no_grad():
            for tensor, before in reversed(old):
                tensor.copy_(before)
        raise


def _checked(model: nn.Module, plan: Plan) -> list[_Write]:
    """What a plan writes, once everything about it is known to fit."""
    tensors = {path: tensor for path, _, _, tensor in parameters(model)}
    shapes = {param.path: param.shape for param in read_all(model).params}
    writes = []
    for entry in plan.chosen:
        param = entry.param
        if param.path not in tensors:
            raise unknown_name("parameter in the model", param.path, tensors)
        tensor = tensors[param.path]
        if param.shape not in (shapes[param.path], tuple(tensor.shape)):
            allowed = f"{shapes[param.path]}, as the model has it"
            raise ModelError(f"The plan is for another shape of {param.path}", given=param.shape, allowed=allowed)
        if not tensor.is_floating_point():
            given = f"{param.path}: {tensor.dtype}"
            raise ModelError("The parameter cannot be drawn", given=given, allowed="a real floating type")
        gate_factors(param, entry.scales)
        law = law_of(param, entry.init or Init("zeros"))
        writes.append(_Write(param.path, param, law, entry.scales, tensor.is_meta))
    return writes


def _lengths(model: nn.Module, plan: Plan) -> dict[str, tuple[Tensor, int]]:
    """By the path of a weight under weight normalisation: the lengths beside it that follow what is drawn."""
    chosen = {entry.param.path for entry in plan.chosen}
    found = {path: each for path, each in magnitudes(model).items() if path in chosen and each.path not in chosen}
    return {path: (_parameter(model, each.path), each.axis) for path, each in found.items()}


def _scale(tensor: Tensor, param: ParamInfo, scales: Sequence[float]) -> None:
    """Multiply each gate's block, side by side in the `out` axes read as one, by its factor."""
    if not scales:
        return
    factors = torch.from_numpy(gate_factors(param, scales))
    with torch.no_grad():
        if not is_sharded(tensor):
            tensor.view(param.shape).mul_(factors.to(tensor.device))
            return
        local, corner = _shard(tensor)
        whole = factors.expand(param.shape).reshape(tensor.shape) if param.shape != tuple(tensor.shape) else factors
        part = tuple(
            slice(at, at + size) if length > 1 else slice(None)
            for at, size, length in zip(corner, local.shape, whole.shape, strict=True)
        )
        local.mul_(whole[part].to(local.device))


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
    order = canonical_order(axes_of(param))
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
