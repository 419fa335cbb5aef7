"""Is a sound network told from the same network broken by a script?

python bench/mutations.py [--quick] [--framework torch] [--only WORD ...] [--json] [--keep]

Each network of `models` is initialised by fanin and gets made-up targets: random classes where its output is (n, k),
normal numbers of the output's shape otherwise. It must get a clean bill from `fanin.check`. Then it is broken in each
way of `MUTATIONS`, and the check must name one of the codes that fit first, or at all.

What a mutation does depends on the network: weights before a norm can be a hundred times too large without harm. So
each broken network is trained beside the sound one, by fanin's trial without any cure; where it gets at least
`HARMLESS` as far, the mutation is left out, and the table says so.
"""

import argparse
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import metadata
from typing import Any

import numpy as np
from common import keep
from corpus.validate import seed_all
from models import FILES, Case, cases
from numpy.typing import NDArray

HARMLESS = 0.75
"""Share of the sound network's fall of the loss."""
STEPS = 50
OPTIMIZER = "adam(lr=0.001)"
OUTCOMES = {
    "first": "named first",
    "named": "named, but not first",
    "missed": "MISSED",
    "harmless": "trains as well",
    "error": "could not be checked",
}


@dataclass(frozen=True)
class Patient:
    """A network and how it is trained.

    Attributes:
        classes: Whether the targets are classes.
    """

    framework: str
    model: Any
    x: Any
    y: NDArray[Any]
    loss: Any
    classes: bool
    optimizer: str = OPTIMIZER


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


@dataclass(frozen=True)
class Mutated:
    """One network, broken in one way; or not at all, and then `outcome` is ``clean`` or ``false alarm``.

    Attributes:
        outcome: One of `OUTCOMES`.
        found: The codes of errors, then of warnings.
        progress: The fall of its loss over that of the sound network's.
    """

    framework: str
    model: str
    mutation: str
    outcome: str
    found: tuple[str, ...] = ()
    progress: float | None = None
    note: str = ""


def adapter(patient: Patient) -> Any:
    from fanin.frameworks import adapter_of

    return adapter_of(patient.model)


def admit(case: Case) -> Patient:
    """The sound network: initialised by fanin, with targets that fit its output."""
    import fanin

    seed_all(case.framework, 0)
    model, x = case.build(), case.example()
    fanin.init(model, example=x, seed=0, quiet=True)
    patient = Patient(case.framework, model, x, np.zeros(0), None, False)
    shape = adapter(patient).probe(model, x).outputs[0].shape
    rng, classes = np.random.default_rng(1), len(shape) == 2 and shape[1] > 1
    y = rng.integers(0, shape[1], shape[0]) if classes else rng.normal(size=shape).astype(np.float32)
    return replace(patient, y=y, loss=LOSSES[case.framework](classes), classes=classes)


def _torch_loss(classes: bool) -> Any:
    from torch.nn import functional

    loss = functional.cross_entropy if classes else functional.mse_loss
    return lambda outputs, targets: loss(getattr(outputs, "logits", outputs), targets)


def _keras_loss(classes: bool) -> Any:
    import keras

    return keras.losses.SparseCategoricalCrossentropy(from_logits=True) if classes else "mean_squared_error"


def _flax_loss(classes: bool) -> Any:
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


def paced(optimizer: str) -> Callable[[Patient], Patient]:
    return lambda patient: replace(patient, optimizer=optimizer)


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
    Mutation("rate times 1000", ("learning-rate-too-large",), paced("adam(lr=1.0)")),
    Mutation("rate times .0001", ("learning-rate-too-small",), paced("adam(lr=0.0000001)")),
    Mutation("all frozen", ("frozen-parameters",), frozen),
)  # fmt: skip


def fall(patient: Patient, loss: float = 1.0) -> tuple[float, float]:
    """The loss before and after some steps of training, in units of the sound network's."""
    trial = adapter(patient).trial(
        patient.model, patient.x, patient.y, loss=patient.loss, optimizer=patient.optimizer, steps=STEPS
    )
    return trial.losses[0] / loss, trial.losses[-1] / loss


def codes(patient: Patient) -> tuple[str, ...]:
    """What the doctor finds: errors, then warnings."""
    import fanin

    found = fanin.check(
        patient.model, patient.x, patient.y, loss=patient.loss, optimizer=patient.optimizer, steps=STEPS
    ).findings
    return tuple(f"{each.code}{'!' if each.severity == 'error' else ''}" for each in found if each.severity != "info")


def examine(case: Case) -> Iterator[Mutated]:
    """The bill of the sound network, then of each broken one."""
    head = (case.framework, case.name)
    try:
        sound = admit(case)
        start, end = fall(sound)
        found = codes(sound)
    except Exception as error:  # of whatever kind: it is what the user gets
        yield Mutated(*head, "none", "error", note=_message(error))
        return
    alarm = any(code.endswith("!") for code in found)
    yield Mutated(*head, "none", "false alarm" if alarm else "clean", found, 1.0)
    for mutation in MUTATIONS:
        try:
            broken = mutation.breaks(admit(case))
            if broken is None:
                continue
            yield _judged(head, mutation, broken, (start, end))
        except Exception as error:
            yield Mutated(*head, mutation.name, "error", note=_message(error))


def _judged(head: tuple[str, str], mutation: Mutation, broken: Patient, sound: tuple[float, float]) -> Mutated:
    """What the doctor says of a broken network, if it is harmed."""
    last = fall(broken, mutation.loss)[1] if adapter(broken).setup(broken.model).frozen == () else sound[0]
    progress = (sound[0] - last) / (sound[0] - sound[1]) if np.isfinite(last) else -np.inf
    if progress >= HARMLESS:
        return Mutated(*head, mutation.name, "harmless", progress=float(progress))
    found = codes(broken)
    plain = [code.rstrip("!") for code in found]
    first = bool(plain) and plain[0] in mutation.codes
    outcome = "first" if first else "named" if set(plain) & set(mutation.codes) else "missed"
    return Mutated(*head, mutation.name, outcome, found, float(progress) if np.isfinite(progress) else None)


def _message(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def show(row: Mutated, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(row)), flush=True)
        return
    progress = "      " if row.progress is None else f"{max(row.progress, -9.99):6.2f}"
    print(f"{row.framework:6}{row.model:26}{row.mutation:22}{OUTCOMES.get(row.outcome, row.outcome):22}{progress}  "
          f"{', '.join(row.found) or row.note[:80]}", flush=True)  # fmt: skip


def totals(rows: Sequence[Mutated]) -> None:
    """For each mutation how many networks it harms, and in how many that was said."""
    clean = [row for row in rows if row.mutation == "none"]
    print(f"\n{sum(row.outcome == 'clean' for row in clean)} of {len(clean)} sound networks without an error, "
          f"{sum(row.outcome == 'clean' and not row.found for row in clean)} without a warning")  # fmt: skip
    print(f"{'':22}" + "".join(f"{text:>22}" for text in OUTCOMES.values()))
    for name in [each.name for each in MUTATIONS] + [""]:
        own = [row for row in rows if row.mutation != "none" and name in ("", row.mutation)]
        counts = (sum(row.outcome == outcome for row in own) for outcome in OUTCOMES)
        print(f"{name or 'all':22}" + "".join(f"{count:22d}" for count in counts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few networks of each kind")
    parser.add_argument("--framework", action="append", choices=list(FILES))
    parser.add_argument("--only", nargs="+", default=[""], help="networks whose name has one of these words")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write bench/results/mutations.json")
    options = parser.parse_args()
    os.environ.setdefault("KERAS_BACKEND", "jax")
    warnings.simplefilter("ignore")  # frameworks' own words on some of the faults
    rows = []
    for framework in options.framework or FILES:
        for case in cases(framework, options.quick):
            if any(word in case.name for word in options.only):
                for row in examine(case):
                    show(row, options.json)
                    rows.append(row)
    if not options.json:
        totals(rows)
    if options.keep:
        keep("mutations", rows, {name: metadata.version(name) for name in ("fanin", "torch", "keras", "jax", "flax")})


if __name__ == "__main__":
    main()
