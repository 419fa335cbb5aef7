"""A model described by running it once: on shapes alone where that can be, else on the example itself."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fanin.errors import ModelError
from fanin.records import ModelInfo
from fanin.torch.functions import TABLE
from fanin.torch.fused import FUSED
from fanin.torch.layouts import parameters, read_all
from fanin.torch.readings import Reader
from fanin.torch.record import Recorder, Value, is_real, values_in
from fanin.torch.roles import informed
from fanin.torch.running import arguments, build, calling, hidden, preserved, swap, tensors_of, uncompiled
from fanin.torch.steps import Steps

__all__ = [
    "Trace", "describe", "finished", "info_of", "known_held", "named_inputs", "paths_of", "recording", "trace_real",
]  # fmt: skip

_DEFAULT_SLOPE = 0.25
"""What torch starts PReLU with."""


@dataclass(frozen=True)
class Trace:
    """A recorded run: what was seen, and what the model returned."""

    recorder: Recorder
    reader: Reader
    outputs: tuple[Value, ...]


def describe(model: nn.Module, example: Any) -> ModelInfo:
    """The parameters of a model and the steps that it computes on an example.

    Raises:
        ModelError: If the model cannot be run on the example.
    """
    build(model, example)
    plain = read_all(model)
    try:
        trace = _trace_shapes(model, example)
    except ModelError:  # it asks for values: a branch, a loop, tensors that live elsewhere
        trace = _trace_values(model, example)
    return info_of(model, plain, trace)[0]


def info_of(model: nn.Module, plain: ModelInfo, trace: Trace) -> tuple[ModelInfo, Steps]:
    """The description that a recorded run gives, and the values behind its steps."""
    for value in trace.recorder.values:
        if value.index >= 0:
            trace.reader.read(value)
    steps = Steps(trace.reader, trace.outputs)
    tensors = {path: tensor for path, _, _, tensor in parameters(model)}

    def number(path: str) -> float:
        """The mean of a parameter's values now."""
        tensor = tensors[path]
        return float(tensor.detach().float().mean()) if is_real(tensor) else _DEFAULT_SLOPE

    at = {value: index for index, value in enumerate(steps.values)}
    notes = dict.fromkeys([*plain.notes, *trace.recorder.notes])
    if not trace.outputs:
        notes["The model returns no tensors: what it computes is not known."] = None
    first: dict[str, str] = {}
    for value in steps.values:
        note = steps.readings[value].note
        if note:
            first.setdefault(note, value.place or "the model itself")
    notes.update(dict.fromkeys(f"{note} (first met in {place})." for note, place in first.items()))
    ops = steps.ops(number)
    taken = {value.path for value in trace.recorder.values if value.kind == "param" and value.index >= 0}
    idle, reaching = taken - {path for op in ops for path in op.params}, _reaching(trace.outputs)
    info = replace(
        plain, params=informed(plain.params, steps), ops=ops, notes=tuple(notes),
        outputs=tuple(at[value] for value in steps.outputs),
        made=tuple(trace.recorder.made),
        discarded=tuple(param.path for param in plain.params if param.path in idle - reaching),
        choosing=tuple(param.path for param in plain.params if param.path in idle & reaching),
    )  # fmt: skip
    return info, steps


def _reaching(outputs: Iterable[Value]) -> set[str]:
    """The paths of the parameters that some values were computed from."""
    waiting, found = list(outputs), set[Value]()
    while waiting:
        value = waiting.pop()
        if value not in found:
            found.add(value)
            call = value.call
            waiting.extend([] if call is None else [*values_in(call.args), *values_in(call.kwargs)])
    return {value.path for value in found if value.kind == "param"}


# ------------------------------------------------------------------------------------------------------- runs
def paths_of(model: nn.Module) -> dict[int, str]:
    """The path of each parameter, by identity."""
    return {id(tensor): path for path, _, _, tensor in parameters(model)}


def known_held(model: nn.Module, recorder: Recorder) -> None:
    """Name the buffers of a model to a recorder, and parameters that lie where PyTorch looks for none."""
    for path, buffer in model.named_buffers():
        recorder.leaf(buffer, "constant", path)
    for path, thing in hidden(model):
        for tensor in thing.parameters() if isinstance(thing, nn.Module) else (thing,):
            if isinstance(tensor, nn.Parameter):
                recorder.leaf(tensor, "constant", path)


def named_inputs(recorder: Recorder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Name the tensors that a model is called with to a recorder."""
    for tensor in pytree.tree_leaves((args, kwargs)):
        if isinstance(tensor, Tensor):
            chooses = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.uint8)
            recorder.leaf(tensor, "input", "index" if chooses else "")


@contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """While open, all that torch computes is written down; code is run as it stands, not compiled."""
    with ExitStack() as stack:
        stack.enter_context(calling())
        stack.enter_context(uncompiled())
        stack.enter_context(recorder.placed())
        stack.enter_context(recorder)
        yield


def finished(recorder: Recorder, output: Any) -> Trace:
    """The trace of a run that gave this output."""
    return Trace(recorder, Reader(TABLE), tuple(recorder.value_of(each) for each in tensors_of(output)))


def _trace_values(model: nn.Module, example: Any) -> Trace:
    try:
        return trace_real(model, example)
    except ModelError:  # it may take gradients itself, as of energies by places
        return trace_real(model, example, gradients=True)


def trace_real(
    model: nn.Module, example: Any, recorder: Recorder | None = None, *, gradients: bool = False
) -> Trace:  # fmt: skip
    """Record a run on the example itself."""
    recorder = recorder or Recorder(model, FUSED)
    with preserved(model), torch.set_grad_enabled(gradients):
        args, kwargs = arguments(model, example)
        for path, _, _, tensor in parameters(model):
            recorder.leaf(tensor, "param", path)
        known_held(model, recorder)
        named_inputs(recorder, args, kwargs)
        try:
            with recording(recorder):
                output = model(*args, **kwargs)
            return finished(recorder, output)
        finally:
            recorder.give_back()


def _trace_shapes(model: nn.Module, example: Any) -> Trace:
    """Record a run on the meta device, where nothing is computed and nothing takes memory."""
    recorder, paths = Recorder(model, FUSED), paths_of(model)

    def shape_alone(tensor: Tensor) -> Tensor:
        """The same tensor without its values; a sparse one has no shape alone."""
        if tensor.layout != torch.strided:
            return tensor
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")

    def parameter(tensor: Tensor) -> Tensor:
        """A parameter without its values, known by its path."""
        made = nn.Parameter(shape_alone(tensor), requires_grad=False)
        recorder.leaf(made, "param", paths[id(tensor)])
        return made

    def held(tensor: Tensor) -> Tensor:
        """A buffer without its values; one number may stay, because it goes together with any device."""
        number = float(tensor) if tensor.numel() == 1 and is_real(tensor) and not tensor.is_complex() else None
        made = tensor.detach().clone() if tensor.dim() == 0 and tensor.device.type == "cpu" else shape_alone(tensor)
        recorder.leaf(made, "constant", number=number)
        return made

    def given(thing: Any) -> Any:
        """An argument without its values."""
        return shape_alone(thing) if isinstance(thing, Tensor) else thing

    args, kwargs = pytree.tree_map(given, arguments(model, example))
    with preserved(model), torch.no_grad():
        swap(model, parameter, held)
        named_inputs(recorder, args, kwargs)
        with torch.device("meta"), recording(recorder):
            output = model(*args, **kwargs)
        return finished(recorder, output)
