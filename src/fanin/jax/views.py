"""Parameters in other shapes: which axes of a view are made of which axes of the parameter."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fanin.jax.program import Node
from fanin.jax.reading import View

__all__ = ["moved_view"]

_Axes = tuple[frozenset[int], ...]
_NONE: frozenset[int] = frozenset()


def regrouped(axes: _Axes, old: Sequence[int], new: Sequence[int]) -> _Axes:
    """The axes of a reshaped view: those that are merged or split together share what they are made of.

    Example:
        >>> regrouped((frozenset({0}), frozenset({1}), frozenset({2})), (4, 2, 3), (4, 6))
        (frozenset({0}), frozenset({1, 2}))
    """
    result: list[frozenset[int]] = []
    at = 0
    left, right = 1, 1
    pending: set[int] = set()
    waiting = 0
    for size in new:
        right *= size
        waiting += 1
        while left < right and at < len(old):
            left *= old[at]
            pending |= axes[at] if old[at] > 1 else _NONE
            at += 1
        if left == right:
            result += [frozenset(pending)] * waiting
            pending, waiting = set(), 0
    result += [frozenset(pending)] * waiting
    return tuple(made if size > 1 else _NONE for made, size in zip(result, new, strict=True))


def _broadcast(axes: _Axes, node: Node, _: Sequence[int], new: Sequence[int]) -> _Axes:
    placed = dict(zip(node.params["broadcast_dimensions"], axes, strict=True))
    return tuple(placed.get(axis, _NONE) for axis in range(len(new)))


def _gathered(axes: _Axes, node: Node, _: Sequence[int], new: Sequence[int]) -> _Axes:
    """The axes that a gather with constant indices leaves."""
    numbers = node.params["dimension_numbers"]
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    kept = iter(made for axis, made in enumerate(axes) if axis not in gone)
    return tuple(next(kept) if axis in numbers.offset_dims else _NONE for axis in range(len(new)))


_MOVES: Mapping[str, Callable[[_Axes, Node, Sequence[int], Sequence[int]], _Axes]] = {
    "broadcast_in_dim": _broadcast,
    "gather": _gathered,
    "reshape": lambda axes, node, old, new: regrouped(axes, old, new),
    "expand_dims": lambda axes, node, old, new: regrouped(axes, old, new),
    "squeeze": lambda axes, node, old, new: tuple(
        made for axis, made in enumerate(axes) if axis not in {each % len(axes) for each in node.params["dimensions"]}
    ),
    "transpose": lambda axes, node, old, new: tuple(axes[axis] for axis in node.params["permutation"]),
    "take_layer": lambda axes, node, old, new: axes[1:],
    **dict.fromkeys(
        ("slice", "dynamic_slice", "rev", "split", "convert_element_type", "copy", "copy_p", "stop_gradient", "name",
         "reduce_precision", "sharding_constraint", "optimization_barrier"),
        lambda axes, node, old, new: axes,
    ),
}  # fmt: skip
"""How each primitive that changes no value carries axes over."""


def moved_view(view: View, node: Node, old: Sequence[int], new: Any) -> View | None:
    """A view after one more step; None if the step is none that keeps the values as they are."""
    if node.primitive not in _MOVES:
        return None
    return View(view.path, _MOVES[node.primitive](view.axes, node, old, new), view.factor)
