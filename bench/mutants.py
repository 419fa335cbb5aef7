"""Sound networks made ready to be checked, and the ways to break them: what `mutations.py` runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from corpus.validate import seed_all
from models import Case
from numpy.typing import NDArray

__all__ = ["MUTATIONS", "RATES", "Mutation", "Patient", "adapter", "admit"]

RATES = (1e-3, 1e-4, 1e-5)
"""Of Adam; a sound network has the one that takes its loss furthest down: 1e-3 is too much for a hundred layers."""


@dataclass(frozen=True)
class Patient:
    """A network and how it is trained.

    Attributes:
        classes: Whether the targets are classes.
        rate: Of Adam.
    """

    framework: str
    model: Any
    x: Any
    y: NDArray[Any]
    loss: Any
    classes: bool
    rate: float = RATES[0]

    @property
    def optimizer(self) -> str:
        return f"adam(lr={self.rate:.9f})"


@dataclass(frozen=True)
class Mutation:
    """A way to break a network.

    Attributes:
        codes: Of which one must be named.
        breaks: From a patient to the broken one; None where it cannot be broken so.
        loss: How many times larger the loss is by the mutation alone.
    """

    name: str
    codes: tuple[str, ...]
    breaks: Callable[[Patient], Patient | None]
    loss: float = 1.0


def adapter(patient: Patient) -> Any:
    from fanin.frameworks import adapter_of

    return adapter_of(patient.model)


def admit(case: Case, rate: float = RATES[0]) -> Patient:
    """The sound network: initialised by fanin, with targets that fit its output."""
    import fanin

    seed_all(case.framework, 0)
    model, x = case.build(), case.example()
    fanin.init(model, example=x, seed=0, quiet=True)
    patient = Patient(case.framework, model, x, np.zeros(0), None, False, rate)
    outputs = adapter(patient).probe(model, x).outputs[0]
    rng, shape = np.random.default_rng(1), outputs.shape
    classes = len(shape) == 2 and shape[1] > 1
    shares = classes and bool((outputs >= 0).all()) and np.allclose(outputs.sum(axis=1), 1, atol=1e-3)
    y = rng.integers(0, shape[1], shape[0]) if classes else rng.normal(size=shape).astype(np.float32)
    return replace(patient, y=y, loss=LOSSES[case.framework](classes, shares), classes=classes)


def _torch_loss(classes: bool, _: bool) -> Any:
    from torch.nn import functional

    loss = functional.cross_entropy if classes else functional.mse_loss
    return lambda outputs, targets: loss(getattr(outputs, "logits", outputs), targets)


def _keras_loss(classes: bool, shares: bool) -> Any:
    """Some end in a softmax."""
    import keras

    return keras.losses.SparseCategoricalCrossentropy(from_logits=not shares) if classes else "mean_squared_error"


def _flax_loss(classes: bool, _: bool) -> Any:
    import jax
    import jax.numpy as jnp

    def cross_entropy(outputs: Any, targets: Any) -> Any:
        return -jnp.take_along_axis(jax.nn.log_softmax(outputs), targets[:, None], 1).mean()

    return cross_entropy if classes else lambda outputs, targets: jnp.mean((outputs - targets) ** 2)


LOSSES = {"torch": _torch_loss, "keras": _keras_loss, "flax": _flax_loss}


def weights(change: Callable[[NDArray[Any], Any], NDArray[Any]], every: bool = False) -> Callable[[Patient], Patient]:
    """The mutation that changes the weight in the middle of the network, or every one."""

    def breaks(patient: Patient) -> Patient | None:
        found = [each for each in adapter(patient).describe(patient.model, patient.x).params if "out" in each.axes]
        chosen = found if every else found[len(found) // 2 : len(found) // 2 + 1]
        return _written(patient, {each.path: partial(change, param=each) for each in chosen})

    return breaks


def biases(patient: Patient) -> Patient | None:
    """All biases -10."""
    found = adapter(patient).describe(patient.model, patient.x).params
    return _written(patient, {each.path: lambda old: np.full_like(old, -10) for each in found if each.role == "bias"})


def _written(patient: Patient, changes: Mapping[str, Callable[[NDArray[Any]], NDArray[Any]]]) -> Patient | None:
    own, model = adapter(patient), patient.model
    own.write(model, {path: change(own.values(model, path)) for path, change in changes.items()})
    return patient if changes else None


def copied(old: NDArray[Any], param: Any) -> NDArray[Any]:
    """Every unit as the first one, and no input told from another."""
    axis = param.axes.index("out")
    return np.broadcast_to(np.take(old, [0], axis), old.shape).copy()


def one_nan(old: NDArray[Any], param: Any) -> NDArray[Any]:
    old = old.copy()
    old.flat[old.size // 2] = np.nan
    return old


def inputs(change: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[Patient], Patient | None]:
    """The mutation of inputs that are numbers, not words."""

    def breaks(patient: Patient) -> Patient | None:
        if isinstance(patient.x, Mapping):
            changed: Any = {key: _changed(change, value) for key, value in patient.x.items()}
            same = all(changed[key] is patient.x[key] for key in changed)
        else:
            changed = _changed(change, patient.x)
            same = changed is patient.x
        return None if same else replace(patient, x=changed)

    return breaks


def _changed(change: Callable[[NDArray[Any]], NDArray[Any]], values: NDArray[Any]) -> NDArray[Any]:
    return change(values).astype(values.dtype) if values.dtype.kind == "f" else values


def first_nan(values: NDArray[Any]) -> NDArray[Any]:
    values = values.copy()
    values.flat[0] = np.nan
    return values


def large_targets(patient: Patient) -> Patient | None:
    return None if patient.classes else replace(patient, y=1000 * patient.y)


def ended(name: str) -> Callable[[Patient], Patient | None]:
    """The mutation that puts a function behind the scores of classes."""
    return lambda patient: (
        replace(patient, model=ENDS[patient.framework](patient.model, name)) if patient.classes else None
    )


def _torch_end(model: Any, name: str) -> Any:
    from torch import nn

    class Ended(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model
            self.last = nn.ReLU() if name == "relu" else nn.Softmax(-1)

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            outputs = self.inner(*args, **kwargs)
            return self.last(getattr(outputs, "logits", outputs))

    return Ended()


def _keras_end(model: Any, name: str) -> Any:
    import keras

    return keras.Model(model.inputs, keras.layers.Activation(name)(model.outputs[0]))


def _flax_end(model: Any, name: str) -> Any:
    import jax
    from flax import nnx

    class Ended(nnx.Module):
        def __init__(self) -> None:
            self.inner = model

        def __call__(self, x: Any) -> Any:
            return getattr(jax.nn, name)(self.inner(x))

    return Ended()


ENDS = {"torch": _torch_end, "keras": _keras_end, "flax": _flax_end}


def frozen(patient: Patient) -> Patient | None:
    """Nothing is trained; Flax says that to the optimizer, not to the model."""
    if patient.framework == "flax":
        return None
    if patient.framework == "torch":
        patient.model.requires_grad_(False)
    else:
        patient.model.trainable = False
    return patient


def paced(factor: float) -> Callable[[Patient], Patient]:
    return lambda patient: replace(patient, rate=factor * patient.rate)


LARGE = ("weights-too-large", "exploding-signal", "saturated-units", "exploding-gradient", "tied-scale")
SMALL = ("weights-too-small", "vanishing-signal", "vanishing-gradient", "collapsed-inputs", "tied-scale")
MUTATIONS = (
    Mutation("one weight zero", ("zero-weights",), weights(lambda old, param: np.zeros_like(old))),
    Mutation("all weights zero", ("zero-weights",), weights(lambda old, param: np.zeros_like(old), every=True)),
    Mutation("one weight constant", ("identical-units",), weights(lambda old, param: np.full_like(old, 0.05))),
    Mutation("all weights constant", ("identical-units",),
             weights(lambda old, param: np.full_like(old, 0.05), every=True)),
    Mutation("copied units", ("identical-units",), weights(copied)),
    Mutation("one weight times 100", LARGE, weights(lambda old, param: 100 * old)),
    Mutation("all weights times 10", LARGE, weights(lambda old, param: 10 * old, every=True)),
    Mutation("one weight times .01", SMALL, weights(lambda old, param: 0.01 * old)),
    Mutation("all weights times .1", SMALL, weights(lambda old, param: 0.1 * old, every=True)),
    Mutation("biases -10", ("dead-units", "saturated-units", "collapsed-inputs", "output-activation"), biases),
    Mutation("nan in a weight", ("non-finite-weights",), weights(one_nan)),
    Mutation("inputs as pixels", ("unscaled-inputs",), inputs(lambda x: 127 + 60 * x)),
    Mutation("nan in an input", ("non-finite-inputs",), inputs(first_nan)),
    Mutation("inputs zero", ("constant-inputs",), inputs(np.zeros_like)),
    Mutation("targets times 1000", ("unscaled-targets",), large_targets, 1e6),
    Mutation("relu on the output", ("output-activation",), ended("relu")),
    Mutation("double softmax", ("double-softmax",), ended("softmax")),
    Mutation("rate times 1000", ("learning-rate-too-large",), paced(1e3)),
    Mutation("rate times .0001", ("learning-rate-too-small",), paced(1e-4)),
    Mutation("all frozen", ("frozen-parameters",), frozen),
)  # fmt: skip
