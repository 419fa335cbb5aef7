"""How large signal and gradient are along a network, measured without fanin's own probe where that can be done.

They are compared on the trunk of each input: the steps that every way from it to the output passes through,
before the readout. A residual branch may be small on purpose, and outputs may be; the trunk may not. Of its steps those
count that make a new signal, layers of weights and sums, so that like is compared with like: an activation
halves a signal's second moment and the next layer makes up for it.

The gradient is that of sum(output * r) with fixed standard normal r, and its size the squared norm per example,
which stays the same where sizes of layers change.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf, isfinite, nan, prod
from typing import Any

__all__ = ["FLAT", "Flow", "call", "fanin_flow", "finite", "spread", "torch_flow"]

FLAT = 4.0
"""Largest over smallest size that counts as flat: a factor of 2 both ways."""
WEIGHTS = {"linear", "addmm", "conv1d", "conv2d", "conv_transpose2d", "lstm", "gru"}
"""Functions of PyTorch that apply a layer's weights, by name."""
STEPS = WEIGHTS | {"add", "add_", "cat"}
KINDS = ("weight", "recurrent", "add", "concat")
"""The same in the words of `fanin.records.OPS`."""


@dataclass(frozen=True)
class Flow:
    """Sizes along the trunk of one input, in executed order.

    Attributes:
        signal: Second moments.
        gradient: Squared norms per example.
    """

    signal: tuple[float, ...]
    gradient: tuple[float, ...]


def spread(sizes: Iterable[float]) -> float:
    """Largest over smallest; infinite where a size is zero or no number, and no number where there are none.

    >>> spread([2.0, 1.0, 3.0])
    3.0
    """
    found = list(sizes)
    if not found:
        return nan
    return max(found) / min(found) if all(isfinite(size) and size > 0 for size in found) else inf


def finite(value: float) -> float | None:
    """The value, or None where JSON has no word for it."""
    return value if isfinite(value) else None


def call(model: Any, example: Any) -> Any:
    """What a PyTorch model returns first for an example of a `Case`."""
    import torch

    if isinstance(example, Mapping):
        out = model(**{key: torch.as_tensor(value) for key, value in example.items()})
    else:
        out = model(torch.as_tensor(example))
    return getattr(out, "logits", out)


def torch_flow(model: Any, example: Any) -> list[Flow]:
    """The sizes along a PyTorch model for each input, as autograd records one run; its buffers and gradients change."""
    import torch

    inputs = _leaves(example)
    recorder = _recorder(inputs)
    with recorder:
        out = call(model, inputs)
    steps = {node: (name, second) for node, name, second in recorder.steps}
    sources = [*recorder.lookups, *(_accumulator(each) for each in _values(inputs) if each.is_floating_point())]
    trunks = []
    for source in sources:
        on_trunk = _bottlenecks(out.grad_fn, source)
        trunk = [node for node in steps if node in on_trunk]
        readout = max((i for i, node in enumerate(trunk) if steps[node][0] in WEIGHTS), default=len(trunk))
        trunks.append(trunk[:readout])
    norms: dict[Any, float] = {}

    def measure(node: Any) -> Callable[[Any], None]:
        def hook(gradients: Any) -> None:
            norms[node] = float(gradients[0].double().square().sum()) / len(out)

        return hook

    for node in dict.fromkeys(node for trunk in trunks for node in trunk):
        node.register_prehook(measure(node))
    r = torch.randn(out.shape, generator=torch.Generator().manual_seed(0))
    (out * r).sum().backward()
    return [Flow(tuple(steps[n][1] for n in trunk), tuple(norms.get(n, 0.0) for n in trunk)) for trunk in trunks]


def _leaves(example: Any) -> Any:
    """The example as tensors, floating ones with a gradient so that ways to them can be told."""
    import torch

    def leaf(value: Any) -> Any:
        tensor = torch.tensor(value)
        return tensor.requires_grad_() if tensor.is_floating_point() else tensor

    return {k: leaf(v) for k, v in example.items()} if isinstance(example, Mapping) else leaf(example)


def _values(inputs: Any) -> list[Any]:
    return list(inputs.values()) if isinstance(inputs, Mapping) else [inputs]


def _accumulator(leaf: Any) -> Any:
    return leaf.view_as(leaf).grad_fn.next_functions[0][0]


def _recorder(inputs: Any) -> Any:
    """A context that notes each step of `STEPS` with its second moment, and what looks up words of the inputs."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Recorder(TorchFunctionMode):
        def __init__(self) -> None:
            super().__init__()
            self.steps: list[tuple[Any, str, float]] = []
            self.lookups: list[Any] = []
            self.words = _values(inputs)  # and what is made of them, kept alive so that identity means something

        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            first = result[0] if isinstance(result, tuple) else result
            if isinstance(first, torch.Tensor):
                name = getattr(function, "__name__", "").strip("_").removeprefix("i").removeprefix("r")
                self.note(name, first, args)
            return result

        def note(self, name: str, tensor: Any, args: Any) -> None:
            from_words = any(arg is word for arg in args for word in self.words)
            if from_words and not tensor.is_floating_point():
                self.words.append(tensor)
            elif name == "embedding" and from_words:
                self.lookups.append(tensor.grad_fn)
            elif name in STEPS and tensor.grad_fn is not None:
                self.steps.append((tensor.grad_fn, name, float(tensor.detach().double().square().mean())))

    return Recorder()


def _bottlenecks(root: Any, source: Any) -> set[Any]:
    """The nodes of autograd's graph that every way from the output to a source passes through.

    They are those through which as many ways lead as there are; ways are counted exactly.
    """
    order = list(_sorted(root))
    down = {node: int(node is source) for node in order}
    for node in reversed(order):
        down[node] += sum(down[each] for each, _ in node.next_functions if each is not None)
    up = dict.fromkeys(order, 0)
    up[root] = 1
    for node in order:
        for each, _ in node.next_functions:
            if each is not None:
                up[each] += up[node]
    return {node for node in order if down[root] and up[node] * down[node] == down[root]}


def _sorted(root: Any) -> Iterator[Any]:
    """Autograd's graph from the output on, each node after all that lead to it."""
    seen, finished, stack = {root}, [], [(root, iter(root.next_functions))]
    while stack:
        node, rest = stack[-1]
        following = next((each for each, _ in rest if each is not None and each not in seen), None)
        if following is None:
            finished.append(node)
            stack.pop()
        else:
            seen.add(following)
            stack.append((following, iter(following.next_functions)))
    return reversed(finished)


def fanin_flow(adapter: Any, model: Any, example: Any) -> list[Flow]:
    """The same from fanin's probe, for any framework."""
    from fanin.recipes.graph import Graph

    info, signals = adapter.describe(model, example), adapter.probe(model, example)
    graph = Graph(info)
    readout = max(graph.heads, default=len(info.ops))

    def flow(source: int) -> Flow:
        steps = [i for i in graph.bottlenecks(source) if i < readout and info.ops[i].kind in KINDS]
        sizes = [prod(info.ops[i].shape[1:]) for i in steps]
        gradient = (signals.gradient_rms[i] ** 2 * size for i, size in zip(steps, sizes, strict=True))
        return Flow(tuple(signals.signal_rms[i] ** 2 for i in steps), tuple(gradient))

    return [flow(index) for index, op in enumerate(info.ops) if op.kind == "input"]
