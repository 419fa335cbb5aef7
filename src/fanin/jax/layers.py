"""What the parameters of Flax's layers mean: the only place where Flax's weight layouts are interpreted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fanin.records import Axis, ParamInfo

__all__ = ["NORMS", "cell_of", "group_of", "is_layer", "read", "recurrent_order"]

_Kinds = tuple[type, ...]
_ATTENTION: _Kinds = (nnx.MultiHeadAttention, nn.MultiHeadDotProductAttention)
_EMBEDDINGS: _Kinds = (nnx.Embed, nn.Embed)
_TRANSPOSED: _Kinds = (nnx.ConvTranspose, nn.ConvTranspose)
_CONVS: _Kinds = (nnx.Conv, nn.Conv)
_DENSE: _Kinds = (nnx.Linear, nn.Dense, nnx.LoRA)
_GENERAL: _Kinds = (nnx.LinearGeneral, nn.DenseGeneral)
_EINSUM: _Kinds = (nnx.Einsum, nn.Einsum)
_LAYERS: _Kinds = (*_EMBEDDINGS, *_TRANSPOSED, *_CONVS, *_DENSE, *_GENERAL, *_EINSUM, nn.ConvLocal)
NORMS: Mapping[Any, str] = {
    nnx.BatchNorm: "batch",
    nn.BatchNorm: "batch",
    nnx.LayerNorm: "layer",
    nn.LayerNorm: "layer",
    nnx.RMSNorm: "rms",
    nn.RMSNorm: "rms",
    nnx.GroupNorm: "group",
    nn.GroupNorm: "group",
    nnx.InstanceNorm: "instance",
    nn.InstanceNorm: "instance",
}
"""Normalisation layers and the kind of each."""
_DROPOUT: _Kinds = (nnx.Dropout, nn.Dropout)
_PRELU: _Kinds = (nnx.PReLU, nn.PReLU)
_LOOPS: _Kinds = (nnx.RNN, nn.RNN)
_CELLS: tuple[tuple[_Kinds, str], ...] = (
    ((nnx.LSTMCell, nnx.OptimizedLSTMCell, nn.LSTMCell, nn.OptimizedLSTMCell, nn.ConvLSTMCell), "lstm"),
    ((nnx.GRUCell, nn.GRUCell, nn.MGUCell), "gru"),
    ((nnx.SimpleCell, nn.SimpleCell), "rnn"),
)
_PACKED = {nnx.OptimizedLSTMCell: 4, nnx.GRUCell: 3}
"""Cells whose gates lie side by side in one weight."""


@dataclass(frozen=True)
class _Reading:
    axes: tuple[Axis, ...]
    role: str
    gates: int = 1
    groups: int = 1


def _times(axis: Axis, count: int) -> tuple[Axis, ...]:
    return tuple(axis for _ in range(count))


def _spatial(shape: tuple[int, ...]) -> tuple[Axis, ...]:
    return _times("spatial", len(shape) - 2)


def _conv(module: Any, shape: tuple[int, ...]) -> _Reading:
    groups = module.feature_group_count
    role = "depthwise" if groups > 1 and shape[-2] == 1 else "conv"
    return _Reading((*_spatial(shape), "in", "out"), role, groups=groups)


def _transposed(module: Any, shape: tuple[int, ...]) -> _Reading:
    pair: tuple[Axis, Axis] = ("out", "in") if module.transpose_kernel else ("in", "out")
    return _Reading((*_spatial(shape), *pair), "transposed_conv")


def _general(module: Any, shape: tuple[int, ...]) -> _Reading:
    """Batch axes first, then those that are summed over, then units."""
    batches = module.batch_axis if isinstance(module, nnx.LinearGeneral) else module.batch_dims
    inputs = 1 if isinstance(module.axis, int) else len(module.axis)
    units = len(shape) - len(batches) - inputs
    return _Reading((*_times("batch", len(batches)), *_times("in", inputs), *_times("out", units)), "dense")


def _einsum(module: Any, shape: tuple[int, ...]) -> _Reading | None:
    """The axes of an einsum's kernel: shared with the output alone, with the input alone, or with both."""
    if module.einsum_str is None:
        return None
    operands, result = module.einsum_str.replace(" ", "").replace("...", "").split("->")
    given, kernel = operands.split(",")
    named: list[Axis] = [
        "batch" if letter in given and letter in result else "in" if letter in given else "out" for letter in kernel
    ]
    return _Reading(tuple(named), "dense") if len(named) == len(shape) else None


_KERNELS: tuple[tuple[_Kinds, Callable[[Any, tuple[int, ...]], _Reading | None]], ...] = (
    (_CONVS, _conv),
    (_TRANSPOSED, _transposed),
    (_DENSE, lambda _, shape: _Reading(("in", "out"), "dense")),
    (_GENERAL, _general),
    (_EINSUM, _einsum),
    ((nn.ConvLocal,), lambda _, shape: _Reading((*_times("batch", len(shape) - 2), "in", "out"), "conv")),
    ((nn.recurrent.DenseParams,), lambda _, shape: _Reading(("in", "out"), "recurrent")),
)
"""How the kernel of each kind of layer lies in memory."""


def read(path: str, array: Any, modules: Mapping[str, Any]) -> ParamInfo:
    """What one parameter means, from the modules around it.

    Args:
        path: Of the parameter.
        array: Its values, or their shape and type.
        modules: All known modules by path.
    """
    owner, _, name = path.rpartition("/")
    around = [modules.get("/".join(path.split("/")[:depth])) for depth in range(path.count("/") + 1)]
    info = ParamInfo(path, tuple(array.shape), str(array.dtype), (), "unknown")
    module = modules.get(owner)
    if isinstance(module, tuple(NORMS)):
        return replace(info, role="norm")
    if name == "bias":
        return replace(info, role="bias")
    if name == "embedding" and isinstance(module, _EMBEDDINGS):
        return _with(info, _Reading(("batch", "out"), "embedding"))
    reading = next((rule for kinds, rule in _KERNELS if isinstance(module, kinds)), None)
    if reading is None or not (name == "kernel" or name.startswith("lora_")):
        return info
    found = reading(module, info.shape)
    if found is None:
        return info
    cell = next((each for each in reversed(around[:-1]) if cell_of(each) is not None), None)
    if cell is not None:
        gates = next((count for kind, count in _PACKED.items() if isinstance(cell, kind)), 1)
        return _with(info, replace(found, role="recurrent", gates=gates))
    attention = len(around) > 1 and isinstance(around[-2], _ATTENTION)
    return _with(info, replace(found, role="attention") if attention else found)


def _with(info: ParamInfo, found: _Reading) -> ParamInfo:
    """A parameter with this reading; further axes in front are a stack of such layers."""
    missing = len(info.shape) - len(found.axes)
    if missing < 0:
        return info
    return replace(
        info, axes=(*_times("batch", missing), *found.axes), role=found.role, gates=found.gates, groups=found.groups
    )


def is_layer(module: Any) -> bool:
    """Whether a module is one weight: what it does beside multiplying is no step of its own."""
    return isinstance(module, _LAYERS)


def cell_of(module: Any) -> str | None:
    """The kind of a recurrent cell: lstm, gru, rnn_tanh, rnn_relu or the cell's own name; None for another module."""
    if not isinstance(module, nnx.RNNCellBase | nn.RNNCellBase):
        return None
    cell: Any = module
    kind = next((kind for kinds, kind in _CELLS if isinstance(cell, kinds)), None)
    if kind != "rnn":
        return kind or type(cell).__name__
    points = np.array([-1.5, -0.25, 0.5, 2.0], np.float32)
    with jax.ensure_compile_time_eval():
        values = np.asarray(cell.activation_fn(jnp.asarray(points)))
    known = {"rnn_tanh": np.tanh(points), "rnn_relu": np.maximum(points, 0)}
    return next((name for name, right in known.items() if np.allclose(values, right, atol=1e-6)), type(cell).__name__)


def group_of(module: Any) -> str:
    """The kind of step that a whole module is: norm, dropout, recurrent or activation; empty if it is none."""
    if isinstance(module, tuple(NORMS)):
        return "norm"
    if isinstance(module, _DROPOUT):
        return "dropout"
    if isinstance(module, _PRELU):
        return "activation"
    if isinstance(module, _LOOPS) or cell_of(module) is not None:
        return "recurrent"
    return ""


def recurrent_order(path: str) -> int:
    """Where a recurrent layer's parameter goes: input weights, then recurrent weights, then biases.

    Example:
        >>> sorted(["cell/dense_h/bias", "cell/dense_h/kernel", "cell/dense_i/kernel"], key=recurrent_order)
        ['cell/dense_i/kernel', 'cell/dense_h/kernel', 'cell/dense_h/bias']
    """
    layer, _, name = path.rpartition("/")
    if name == "bias":
        return 2
    return 0 if layer.rpartition("/")[2].removeprefix("dense_").startswith("i") else 1
