"""The way from a call of `fanin.torch` to a filled tensor: check everything, decide, draw."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict, Unpack

import torch
from torch import Generator, Tensor, nn

from fanin.errors import FaninError, InvalidValueError, UnknownNameError, unknown_name
from fanin.initializers import INITIALIZERS, canonical, decide
from fanin.initializers.draws import check_fit, layout
from fanin.initializers.fans import fans_of
from fanin.initializers.streams import check_seed
from fanin.records import Axis, Init, ParamInfo
from fanin.torch.adapter import draw_, is_sharded, read

__all__ = ["Options", "apply_", "check_fans", "check_tensor", "number"]


class Options(TypedDict, total=False):
    """What every function of `fanin.torch` takes by keyword; its head says what they mean."""

    seed: int | None
    name: str
    module: nn.Module | None
    axes: Sequence[Axis] | None
    gates: int
    groups: int


def apply_(
    tensor: Tensor,
    call: str,
    init: str,
    params: Mapping[str, Any],
    generator: Generator | None = None,
    words: Mapping[str, str] | None = None,
    **options: Unpack[Options],
) -> Tensor:
    """Check everything, then draw: a mistake leaves the tensor and the generator as they were.

    Args:
        tensor: What to fill.
        call: The function that the user called, for errors.
        init: An initializer of the table.
        params: Its parameters.
        generator: Where the seed comes from, if `options` have none.
        words: How the user's function calls parameters that the table names differently.
        **options: What the user said about the tensor.
    """
    check_tensor(tensor, call)
    _check_options(call, generator, options)
    try:
        law = canonical(Init(init, **{key: number(value) for key, value in params.items()}))
        if not tensor.numel():
            return tensor
        param = _param(tensor, call, options)
        draw = decide(law, fans_of(param))
        check_fit(param, draw)
    except (InvalidValueError, UnknownNameError) as error:
        raise _reworded(error, call, {init: call, **(words or {})}) from None
    if not _is_abstract(tensor):
        random = INITIALIZERS[law.name].random
        draw_(tensor, param, draw, _seed(tensor, options.get("seed"), generator) if random else 0)
    return tensor


def number(value: Any) -> Any:
    """A number of NumPy, or a tensor with one element, as Python's; anything else as it is."""
    if isinstance(value, bool | int | float | str) or not hasattr(value, "__float__"):
        return value
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):  # more than one element
        return value


def check_tensor(tensor: Any, call: str) -> None:
    """Refuse what cannot be filled with real floating numbers, element by element."""
    if not isinstance(tensor, Tensor):
        raise InvalidValueError(f"{call} fills a tensor", given=type(tensor).__name__, allowed="a torch.Tensor")
    if not tensor.is_floating_point():
        raise InvalidValueError(
            f"{call} cannot fill a tensor of this type", given=str(tensor.dtype), allowed="a real floating type"
        )
    if tensor.layout != torch.strided:
        raise InvalidValueError(f"{call} cannot fill this layout", given=str(tensor.layout), allowed="torch.strided")
    if any(step == 0 and size > 1 for step, size in zip(tensor.stride(), tensor.shape, strict=True)):
        raise InvalidValueError(
            f"{call} cannot fill a tensor whose elements share memory",
            given=f"strides {tensor.stride()} for the shape {tuple(tensor.shape)}",
            hint="Fill the tensor before it is expanded, or clone it.",
        )
    if is_sharded(tensor) and any(placement.is_partial() for placement in tensor.placements):
        raise InvalidValueError(
            f"{call} cannot fill a tensor that is a sum over ranks", given=str(tensor.placements), allowed="no Partial"
        )


def check_fans(tensor: Tensor, call: str) -> None:
    """Refuse a tensor whose shape has no fan-in and fan-out."""
    if tensor.dim() < 2:
        raise InvalidValueError(
            f"{call} needs fan-in and fan-out, which this shape does not have",
            given=tuple(tensor.shape),
            allowed="two axes or more",
            hint="A bias starts at zero: zeros_.",
        )


def _check_options(call: str, generator: Any, options: Options) -> None:
    for key in options:
        if key not in Options.__annotations__:
            raise unknown_name(f"keyword of {call}", key, {*Options.__annotations__, "generator"})
    seed, name, module = options.get("seed"), options.get("name", ""), options.get("module")
    kinds = (
        ("generator", generator, (Generator, type(None)), "a torch.Generator"),
        ("name", name, str, "a text"),
        ("module", module, (nn.Module, type(None)), "a torch.nn.Module"),
    )
    for key, value, kind, allowed in kinds:
        if not isinstance(value, kind):
            raise InvalidValueError(f"The {key} given to {call} is none", given=value, allowed=allowed)
    if seed is not None and generator is not None:
        raise InvalidValueError("Both a seed and a generator are given", given=seed, allowed="one of the two")
    if seed is not None:
        check_seed(seed)
    said = [key for key in ("axes", "gates", "groups") if key in options]
    if module is not None and said:
        raise InvalidValueError(
            f"{call} is told the layout twice",
            given=f"module and {said[0]}",
            allowed="a module, which knows it, or axes",
        )


def _reworded(error: FaninError, call: str, words: Mapping[str, str]) -> FaninError:
    """The same error in the words of the user's own call."""
    pattern = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, words))})(?!\w)")

    def reword(text: Any) -> Any:
        return pattern.sub(lambda match: words[match[1]], text) if isinstance(text, str) else text

    what = reword(error.what)
    return type(error)(
        what if call in what else f"{call}: {what[0].lower()}{what[1:]}",
        given=reword(error.given),
        allowed=reword(error.allowed),
        hint=reword(error.hint),
    )


def _param(tensor: Tensor, call: str, options: Options) -> ParamInfo:
    """The description of a tensor: by its module, by named axes, or by PyTorch's convention for bare shapes."""
    name, module, shape = options.get("name", "weight"), options.get("module"), tuple(tensor.shape)
    spatial: list[Axis] = ["spatial"] * (len(shape) - 2)
    bare: list[Axis] = ["out", "in", *spatial]
    convention = tuple(bare[: len(shape)])
    if module is not None:
        own = next((own for own, each in module.named_parameters(recurse=False) if each is tensor), None)
        if own is None:
            raise InvalidValueError(
                f"The tensor given to {call} is no parameter of the module",
                given=type(module).__name__,
                allowed=", ".join(dict(module.named_parameters(recurse=False))) or "a module with parameters",
            )
        param = read(module, own, tensor, name)
        return param if param.axes else replace(param, axes=convention)
    gates, groups = options.get("gates", 1), options.get("groups", 1)
    axes = layout(shape, options.get("axes") or convention, gates, groups)
    return ParamInfo(name, shape, str(tensor.dtype), axes, "dense", gates, groups)


def _is_abstract(tensor: Tensor) -> bool:
    """Whether it has a shape alone: on the meta device, or one of PyTorch's fakes."""
    module = sys.modules.get("torch._subclasses.fake_tensor")
    return tensor.is_meta or (module is not None and isinstance(tensor, module.FakeTensor))


def _seed(tensor: Tensor, given: int | None, generator: Generator | None) -> int:
    """64 bits that the caller gave, or the generator's; the same on all ranks of a sharded tensor."""
    if given is not None:
        return check_seed(given)
    device = generator.device if generator is not None else torch.device("cpu")
    halves = torch.randint(0, 2**32, (2,), dtype=torch.int64, device=device, generator=generator)
    if is_sharded(tensor):
        mesh = tensor.device_mesh
        halves = halves.to(mesh.device_type)
        for axis in range(mesh.ndim):  # along each axis from its first rank: then all have the first rank's
            group = mesh.get_group(axis)
            torch.distributed.broadcast(halves, torch.distributed.get_global_rank(group, 0), group)
    high, low = halves.tolist()
    return int(high << 32 | low)
