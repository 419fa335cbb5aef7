"""Training runs of one PyTorch model: the network, a run alone as anybody would train it, and runs side by side."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional

from fanin.errors import ModelError
from fanin.initializers.streams import words
from fanin.records import ModelInfo, ModelSpec, Run, Settings, Task
from fanin.torch.adapter import describe, write
from fanin.torch.backend import Drawn, seeded
from fanin.torch.models import Layout, build, layouts
from fanin.torch.optimizers import Optimizers, is_elementwise, optimizers
from fanin.training import SIGNAL_BATCH, Weights, misfit

__all__ = ["Alone", "Executed", "Network", "Together", "network"]

Loss = Callable[[Tensor, Tensor], Tensor]
_SMALLEST = 1e-7
"""Probabilities are kept this far from 0 and 1, as Keras keeps them, so that their logarithms are numbers."""
_TRIED = 4
"""Examples that a model is tried on, two of them at the least: one would be taken for an example without a batch."""


@dataclass(frozen=True, eq=False)
class Network:
    """A model with all that training it needs.

    Attributes:
        optimizers: Makes the optimizer.
        loss: From targets and outputs to one loss per example.
        metric: From targets and outputs to one number per example; its mean is the metric.
        info: The parameters that are trained.
        computed: Describes the model with what it computes, for recipes that need that.
        layout: How examples go in.
        rebuild: Builds the model anew under a seed.
        random: Whether the model draws random numbers while it runs.
        stackable: Whether runs may be tried side by side.
    """

    optimizers: Optimizers
    loss: Loss
    metric: Loss
    info: ModelInfo
    computed: Callable[[], ModelInfo]
    layout: Layout
    rebuild: Callable[[int], nn.Module]
    random: bool
    stackable: bool


def network(spec: ModelSpec, task: Task, activation: str, settings: Settings) -> Network:
    """Build the network for a task and check that they fit.

    Raises:
        FaninError: If the model cannot be built, or model, loss and data do not fit together.
    """
    shape = task.x_train.shape[1:]

    def rebuild(seed: int) -> nn.Module:
        with seeded(seed):
            return build(spec, shape, task.outputs, activation)

    model = rebuild(0)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    described = describe(model)
    info = replace(described, params=tuple(param for param in described.params if param.path in trained))
    layout, outputs = _fitting(model, task, spec)
    loss, probabilities = _loss(outputs, task)
    chosen = optimizers(settings.optimizer, list(trained.values()) or [nn.Parameter(torch.zeros(1))])
    tried = torch.from_numpy(layout(task.x_train[:_TRIED]))
    random, pure = _habits(rebuild(0), tried, spec)
    return Network(
        chosen, loss, _metric(task, probabilities), info, partial(describe, rebuild(0), tried), layout, rebuild, random,
        pure and is_elementwise(settings.optimizer),
    )  # fmt: skip


def _fitting(model: nn.Module, task: Task, spec: ModelSpec) -> tuple[Layout, Tensor]:
    """The first layout with which the model gives an output for each class or target, and that output."""
    first: Exception | tuple[int, ...] | None = None
    wanted = {task.outputs, 1} if task.kind == "classification" and task.outputs == 2 else {task.outputs}
    x = task.x_train[:SIGNAL_BATCH]
    model.eval()
    for layout in layouts(task.x_train.shape[1:]):
        try:
            with seeded(0):
                outputs = model(torch.from_numpy(layout(x)))
        except Exception as error:
            first = first or error
            continue
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else ()
        if len(shape) == 2 and shape[0] == len(x) and shape[1] in wanted:
            return layout, outputs
        # What the model gives says more than why it failed in a layout that it was not made for.
        first = shape if not isinstance(first, tuple) else first
    if isinstance(first, Exception):
        line = (str(first).strip() or "no message").splitlines()[0]
        raise ModelError(
            f"The model fails on a batch of the data: {type(first).__name__}: {line}",
            given=f"{spec.text}, and examples of shape {layouts(task.x_train.shape[1:])[0].shape}",
            hint="Examples are float32. The function may take input_shape and outputs, and build the model for them.",
        ) from first
    raise misfit(spec, task, first or None, "no tensor as output")


def _loss(outputs: Tensor, task: Task) -> tuple[Loss, bool]:
    """The loss per example, and whether the model puts out probabilities rather than logits."""
    if task.kind == "regression":
        return lambda y, out: (out - y.reshape(out.shape)).square().mean(dim=-1), False
    source = outputs.grad_fn.name() if outputs.grad_fn is not None else ""
    if outputs.shape[1] == 1:
        if source.startswith("Sigmoid"):
            return lambda y, out: functional.binary_cross_entropy(
                out[:, 0].clamp(_SMALLEST, 1 - _SMALLEST), y.to(out.dtype), reduction="none"
            ), True
        return lambda y, out: functional.binary_cross_entropy_with_logits(
            out[:, 0], y.to(out.dtype), reduction="none"
        ), False
    # Seen in the values, too: what makes them may be hidden behind a reshaping.
    shares = bool((outputs >= 0).all()) and torch.allclose(outputs.sum(dim=1), torch.ones(len(outputs)), atol=1e-4)
    if shares or source.startswith(("Softmax", "Sigmoid")):
        return _of_probabilities, True
    return lambda y, out: functional.cross_entropy(out, y, reduction="none"), False


def _of_probabilities(y: Tensor, out: Tensor) -> Tensor:
    shares = (out / out.sum(dim=1, keepdim=True)).clamp(_SMALLEST, 1 - _SMALLEST)
    return functional.nll_loss(shares.log(), y, reduction="none")


def _metric(task: Task, probabilities: bool) -> Loss:
    if task.kind == "regression":
        return lambda y, out: (out - y.reshape(out.shape)).square().mean(dim=-1)

    def accuracy(y: Tensor, out: Tensor) -> Tensor:
        threshold = 0.5 if probabilities else 0.0
        label = (out[:, 0] > threshold).to(y.dtype) if out.shape[1] == 1 else out.argmax(dim=1)
        # argmax of an output that is not a number is a class: such a prediction is no prediction.
        return ((label == y) & out.isfinite().all(dim=1)).float()

    return accuracy


def _attributes(model: nn.Module) -> dict[tuple[str, str], Any]:
    """What modules keep beside tensors, as far as it can be compared."""
    kinds = (bool, int, float, str, type(None))
    return {
        (path, name): value
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, kinds)
    }


def _habits(model: nn.Module, x: Tensor, spec: ModelSpec) -> tuple[bool, bool]:
    """Whether a model draws random numbers, and whether running it leaves its own attributes alone."""
    model.train()
    before = _attributes(model)
    drawn = Drawn()
    try:
        with seeded(0), drawn:
            outputs = model(x)
            if outputs.requires_grad:
                outputs.sum().backward()
    except Exception as error:
        line = (str(error).strip() or "no message").splitlines()[0]
        raise ModelError(
            f"The model fails in training mode: {type(error).__name__}: {line}",
            given=spec.text,
            hint="Try model.train(), then model(x).sum().backward(), on a batch of the data.",
        ) from error
    return drawn.used, _attributes(model) == before


class Executed(Protocol):
    """Runs between their first and their last step."""

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """Train on a batch for each run, of shape (runs, batch, ...); returns the losses before it, one for each."""

    def run(self, i: int) -> AbstractContextManager[nn.Module]:
        """While open, a model in inference mode that has the values of run `i`."""


def _generator(seed: int) -> Generator:
    low, high = words(seed, "random layers", 0, 2).tolist()
    return Generator().manual_seed(high << 32 | low)


def _begin(net: Network, run: Run, weights: Weights) -> nn.Module:
    """The model of a run before its first step."""
    model = net.rebuild(run.seed)
    write(model, weights(run))
    return model.train()


class Alone:
    """One run, trained as anybody would with PyTorch.

    Args:
        net: The network.
        runs: The one run.
        weights: Gives its initial weights; the other parameters start as the model built under its seed has them.
    """

    def __init__(self, net: Network, runs: Sequence[Run], weights: Weights):
        (run,) = runs
        self.net, self.model = net, _begin(net, run, weights)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = net.optimizers([{"params": trained, "lr": run.learning_rate}])
        self.drawn = Drawn([_generator(run.seed)])

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """One step; see `Executed`."""
        self.optimizer.zero_grad()
        with _drawing(self.net, self.drawn):
            loss = self.net.loss(y[0], self.model(x[0])).mean()
            loss.backward()
        self.optimizer.step()
        return loss.detach()[None]

    @contextmanager
    def run(self, i: int) -> Iterator[nn.Module]:
        """The model in inference mode; see `Executed`."""
        self.model.eval()
        with _drawing(self.net, self.drawn):
            yield self.model
        self.model.train()


def _drawing(net: Network, drawn: Drawn) -> AbstractContextManager[Any]:
    """The mode where the model needs it: each operation takes longer in it."""
    return drawn if net.random else nullcontext()


class Together:
    """Runs side by side: each tensor of the model is stacked, and `torch.func.vmap` runs the model on the stack.

    The optimizer is one of PyTorch's on the stack, with a group for each learning rate; updates of each number
    by its own gradient make that the same as an optimizer for each run.

    Args:
        net: The network; it is stackable.
        runs: Those of one learning rate are next to each other.
        weights: As for `Alone`.
    """

    def __init__(self, net: Network, runs: Sequence[Run], weights: Weights):
        self.net = net
        models = [_begin(net, run, weights) for run in runs]
        self.model = models[0]
        turned = {param.path for param in net.info.params if param.axes == ("out", "in")}
        named = [dict(model.named_parameters()) for model in models]
        self.stacks = {name: _Stack([each[name] for each in named], name in turned) for name in named[0]}
        self.trained = [stack for stack in self.stacks.values() if stack.leaf.requires_grad]
        buffers = [dict(model.named_buffers()) for model in models]
        self.buffers = {name: torch.stack([each[name] for each in buffers]) for name in buffers[0]}
        rates = [run.learning_rate for run in runs]
        groups = [(slice(rates.index(rate), rates.index(rate) + rates.count(rate)), rate) for rate in sorted({*rates})]
        self.parts = [(rows, [nn.Parameter(stack.rows[rows]) for stack in self.trained]) for rows, _ in groups]
        self.optimizer = net.optimizers(
            [{"params": part, "lr": rate} for (_, part), (_, rate) in zip(self.parts, groups, strict=True)]
        )
        self.drawn = Drawn([_generator(run.seed) for run in runs])

        def one(parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return net.loss(y, functional_call(self.model, (parameters, buffers), (x,))).mean()

        self.losses = vmap(one, randomness="different")

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """One step of each run; see `Executed`."""
        with _drawing(self.net, self.drawn):
            values = {name: stack.values for name, stack in self.stacks.items()}
            losses = self.losses(values, self.buffers, x, y)
            leaves = [stack.leaf for stack in self.trained]
            gradients = torch.autograd.grad(losses.sum(), leaves, allow_unused=True)
        laid = [stack.laid(gradient) for stack, gradient in zip(self.trained, gradients, strict=True)]
        for rows, part in self.parts:
            for parameter, gradient in zip(part, laid, strict=True):
                parameter.grad = None if gradient is None else gradient[rows]
        self.optimizer.step()
        return losses.detach()

    @contextmanager
    def run(self, i: int) -> Iterator[nn.Module]:
        """A model with the values of run `i`; see `Executed`."""
        for name, parameter in self.model.named_parameters():
            parameter.data = self.stacks[name].values.detach()[i]
        for name, buffer in self.model.named_buffers():
            buffer.data = self.buffers[name][i]
        self.model.eval()
        with _drawing(self.net, Drawn([self.drawn.generators[i]])):
            yield self.model
        self.model.train()


_ALIGNED = 16
"""Numbers that a processor updates at once; those left over at an end may be rounded otherwise."""


class _Stack:
    """One parameter of all runs.

    A run is a row, filled up so that the next starts where it would if it were alone: then its numbers are
    rounded alike wherever it stands.

    Args:
        tensors: The parameter in each run.
        turned: Whether a matrix lies transposed: PyTorch multiplies by the transposed weight, and gradients come
            like that, so that nothing has to be copied.

    Attributes:
        rows: All numbers, of shape (runs, numbers).
        leaf: The same memory in the shape that it lies in; what gradients are taken of.
    """

    def __init__(self, tensors: Sequence[Tensor], turned: bool):
        self.turned = turned
        joint = torch.stack([tensor.detach().mT if turned else tensor.detach() for tensor in tensors])
        self.numbers = joint[0].numel()
        self.spare = -self.numbers % _ALIGNED
        self.rows = functional.pad(joint.reshape(len(tensors), -1), (0, self.spare))
        self.leaf = self.rows[:, : self.numbers].view(joint.shape).detach().requires_grad_(tensors[0].requires_grad)

    @property
    def values(self) -> Tensor:
        """The parameter of each run as the model wants it."""
        return self.leaf.mT if self.turned else self.leaf

    def laid(self, gradient: Tensor | None) -> Tensor | None:
        """A gradient of the leaf, laid like `rows`."""
        if gradient is None:
            return None
        flat = gradient.reshape(len(gradient), -1)
        return functional.pad(flat, (0, self.spare)) if self.spare else flat
