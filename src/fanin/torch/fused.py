"""Functions of torch that do several steps at once, run step by step so that each is seen."""

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fanin.torch.record import Call, Recorder

__all__ = ["FUSED"]


def _attention(recorder: Recorder, function: Any, *args: Any, **kwargs: Any) -> Any:
    """The body of PyTorch's own function, which otherwise hands itself over as a whole."""
    source = functional.multi_head_attention_forward
    namespace = {**source.__globals__, "has_torch_function": lambda _: False}
    body = FunctionType(source.__code__, namespace, source.__name__, source.__defaults__, source.__closure__)
    body.__kwdefaults__ = source.__kwdefaults__
    with recorder:
        return body(*args, **kwargs)


def _glu(recorder: Recorder, function: Any, input: Tensor, dim: int = -1) -> Any:  # noqa: A002 - torch's own name
    with recorder:
        kept, gate = input.chunk(2, dim)
        return kept * torch.sigmoid(gate)


def _normalize(recorder: Recorder, function: Any, input: Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: A002
    given = {**dict(zip(("p", "dim", "eps"), args, strict=False)), **kwargs}
    if given.get("out") is not None:
        return NotImplemented
    with recorder:
        length = torch.linalg.vector_norm(input, given.get("p", 2.0), given.get("dim", 1), keepdim=True)
        return input / length.clamp_min(given.get("eps", 1e-12))


def _added(recorder: Recorder, function: Any, input: Any, other: Any, *, alpha: Any = 1, **kwargs: Any) -> Any:  # noqa: A002
    """A sum with a factor inside; without one there is nothing to take apart."""
    if alpha == 1 or kwargs.get("out") is not None or function.__name__.endswith("_"):
        return NotImplemented
    with recorder:
        scaled = other * alpha
        return input - scaled if "sub" in function.__name__ else input + scaled


def _product_and_sum(
    recorder: Recorder, function: Any, input: Tensor, first: Tensor, second: Tensor, *,  # noqa: A002
    beta: Any = 1, alpha: Any = 1, out: Any = None,
) -> Any:  # fmt: skip
    """addmm, baddbmm, addmv."""
    if out is not None or function.__name__.endswith("_"):
        return NotImplemented
    with recorder:
        product = torch.matmul(first, second)
        product = product if alpha == 1 else product * alpha
        if not beta:
            return product
        return (input if beta == 1 else input * beta) + product


def _addcmul(
    recorder: Recorder, function: Any, input: Tensor, first: Tensor, second: Tensor, *, value: Any = 1, out: Any = None  # noqa: A002
) -> Any:  # fmt: skip
    if out is not None or function.__name__.endswith("_"):
        return NotImplemented
    with recorder:
        product = first * second
        return input + (product if value == 1 else product * value)


def _lerp(recorder: Recorder, function: Any, input: Tensor, end: Tensor, weight: Any, *, out: Any = None) -> Any:  # noqa: A002
    if out is not None or function.__name__.endswith("_"):
        return NotImplemented
    with recorder:
        return input * (1 - weight) + end * weight


def _bags(recorder: Recorder, function: Any, *args: Any, **kwargs: Any) -> Any:
    """An embedding bag; one of several lengths never has all its rows, so they are looked up beside it."""
    names = ("input", "weight", "offsets", "max_norm", "norm_type", "scale_grad_by_freq", "mode")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    plain = given["input"].dim() == 2 and given.get("per_sample_weights") is None and given.get("padding_idx") is None
    with recorder:
        rows = functional.embedding(given["input"], given["weight"], max_norm=given.get("max_norm"))
        if plain:
            return getattr(rows, _OF_BAGS[given.get("mode", "mean")])(1)
    result = function(*args, **kwargs)
    call = Call(str(given.get("mode", "mean")), function, (recorder.value_of(rows),), {})
    recorder.record(call, [result])
    return recorder.finished(call, args, kwargs, result)


_OF_BAGS = {"mean": "mean", "sum": "sum", "max": "amax"}


def _recurrent(recorder: Recorder, function: Any, *args: Any) -> Any:
    """A stack of recurrent layers, layer by layer; each direction of each is one step."""
    packed = isinstance(args[3], tuple | list)
    data, sizes = args[0], args[1:2] if packed else ()
    states, weights, biased, layers, dropout, training, both, *first = args[1 + packed :]
    states = states if isinstance(states, tuple | list) else (states,)
    directions, count = 1 + bool(both), len(weights) // (layers * (1 + bool(both)))
    finals: list[list[Tensor]] = [[] for _ in states]
    for layer in range(layers):
        own = weights[layer * directions * count : (layer + 1) * directions * count]
        begin = [state[layer * directions : (layer + 1) * directions] for state in states]
        known = [recorder.value_of(each) for each in states]
        result = function(
            data, *sizes, begin if len(begin) > 1 else begin[0], own, biased, 1, 0.0, training, both, *first
        )
        pieces = []
        for way in range(directions):
            width = result[0].shape[-1] // directions
            piece = result[0][..., way * width : (way + 1) * width] if both else result[0]
            mine = [recorder.value_of(each) for each in own[way * count : (way + 1) * count]]
            call = Call(f"{function.__name__}_layer", function, (recorder.value_of(data), known, mine), {})
            cell = result[2][way : way + 1] if len(states) > 1 else None
            recorder.record(call, [piece, *([cell] if cell is not None else [])])
            recorder.finished(call, args, {}, piece)
            with recorder:  # torch gives the last states beside all of them, and their gradient would pass these by
                last = _last_state(piece, sizes, bool(first and first[0]), backwards=way == 1)
            pieces.append(piece)
            for found, each in zip(finals, (last, cell), strict=False):
                found.append(each)
        with recorder:
            data = torch.cat(pieces, -1) if both else pieces[0]
            if dropout and layer + 1 < layers:
                data = functional.dropout(data, dropout, training)
    with recorder:
        return data, *(torch.cat(each, 0) if len(each) > 1 else each[0] for each in finals)


def _last_state(states: Tensor, sizes: Sequence[Tensor], batch_first: bool, *, backwards: bool) -> Tensor:
    """The states that one direction ends with, (1, examples, units), taken from those at all times.

    Args:
        sizes: Of packed sequences, how many examples each time has; else nothing.
        backwards: Whether it ends at the first time.
    """
    if not sizes:
        return states.select(1 if batch_first and states.dim() == 3 else 0, 0 if backwards else -1).unsqueeze(0)
    (counts,) = sizes
    if backwards:
        return states[: int(counts[0])].unsqueeze(0)
    starts, examples = torch.cumsum(counts, 0) - counts, torch.arange(int(counts[0]))
    lengths = (counts[:, None] > examples).sum(0)
    return states[(starts[lengths - 1] + examples).to(states.device)].unsqueeze(0)


FUSED: dict[str, Callable[..., Any]] = {
    "multi_head_attention_forward": _attention, "glu": _glu, "normalize": _normalize, "add": _added, "sub": _added,
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), _product_and_sum), "addcmul": _addcmul, "lerp": _lerp,
    "embedding_bag": _bags, **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _recurrent),
}  # fmt: skip
"""From canonical names to how a function is run instead; each may answer NotImplemented."""
