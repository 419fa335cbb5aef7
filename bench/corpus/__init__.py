"""Networks that do not train, and healthy ones that look as if they might not: what the doctor is measured on.

One file for each framework and half. Faulty networks follow questions and reports of real people, in our own code;
`source` is where one was seen. Nothing here knows of fanin, and `validate` shows by training, without any doctor,
that the faulty ones fail, that they learn once mended, and that the healthy ones learn.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

__all__ = ["CODES", "FILES", "PARTS", "Case", "cases", "mend"]

FILES = {framework: (f"{framework}_faulty", f"{framework}_healthy") for framework in ("torch", "keras")}
"""The files of each framework; each has a tuple `CASES`."""
SECOND = {"torch": ("torch_second_faulty", "torch_second_healthy"), "keras": ("keras_second",)}
"""The same of a second part, whose cases and causes were settled before any doctor was run on them."""
THIRD = {"torch": ("torch_third_faulty", "torch_third_healthy"), "keras": ("keras_third",)}
"""The same of a third part, made as the second one was, after that had taught the doctor what it lacked."""
FOURTH = {"torch": ("torch_fourth",), "keras": ("keras_fourth",)}
"""And again, after the third; questions were taken as they came, also where they look hard."""
FIFTH = {"torch": ("torch_fifth",), "keras": ("keras_fifth",)}
"""And again, after the fourth, of ordinary questions, by somebody who had the list of checks alone."""
SIXTH = {"torch": ("torch_sixth",), "keras": ("keras_sixth",)}
"""And again, in the same way as the fifth, after that."""
PARTS = (FILES, SECOND, THIRD, FOURTH, FIFTH, SIXTH)
CODES = frozenset((
    "uninitialised-weights", "non-finite-weights", "zero-weights", "identical-units", "repeated-weights",
    "weights-too-small", "weights-too-large", "tied-scale", "output-activation", "double-softmax", "one-unit-softmax",
    "softmax-axis", "hidden-softmax", "logits-into-probabilities", "targets-out-of-range", "broadcast-loss",
    "wrong-loss", "sum-reduction", "linear-stack", "saturated-units", "dead-units", "collapsed-inputs",
    "vanishing-signal", "exploding-signal", "vanishing-gradient", "exploding-gradient", "batch-norm-of-one",
    "heavy-dropout", "misplaced-norm", "mixed-examples", "non-finite-signal", "gradient-blocked", "unscaled-inputs",
    "unscaled-targets", "non-finite-inputs", "constant-inputs", "imbalanced-start", "frozen-parameters",
    "forgotten-parameters", "unregistered-parameters", "unused-parameters", "eval-mode", "learning-rate-too-large",
    "learning-rate-too-small", "plateau", "divergence", "oscillation",
))  # fmt: skip
"""What a cause can be called."""


@dataclass(frozen=True)
class Case:
    """One network with the batch, the loss and the optimizer that it is trained with.

    Attributes:
        name: Unique among the cases of its framework.
        framework: ``torch`` or ``keras``.
        build: Returns a new model from the framework's global random state; a pair of model and optimizer where the
            fault is what the optimizer was given.
        data: Returns inputs and targets: NumPy arrays, inputs also a tuple of arrays.
        loss: A name or function of the framework: PyTorch's of (outputs, targets), Keras's of (targets, outputs).
        optimizer: Such as ``adam(lr=0.001)``, with the framework's own names of settings.
        causes: Codes of which any is the right first answer, the plainest in front; empty for a healthy network.
        source: Where such a case was seen, or ``commonplace``.
        note: What is wrong, or what might look wrong.
        mended: The fields to replace so that it trains.
    """

    name: str
    framework: str
    build: Callable[[], Any]
    data: Callable[[], tuple[Any, Any]]
    loss: Any
    optimizer: str = "adam(lr=0.001)"
    causes: tuple[str, ...] = ()
    source: str = "commonplace"
    note: str = ""
    mended: Mapping[str, Any] = field(default_factory=dict, hash=False)


def makers(framework: str, usual: str) -> tuple[Callable[..., Case], Callable[..., Case]]:
    """What makes faulty and healthy cases of a framework.

    Args:
        usual: The optimizer where a case names none.
    """

    def faulty(
        name: str, causes: str, build: Any, batch: Any, loss: Any, mended: Mapping[str, Any], source: str,
        note: str = "", optimizer: str = usual,
    ) -> Case:  # fmt: skip
        """A case; causes with spaces between, sources of GitHub without the site."""
        seen = source if source.startswith("http") else "https://github.com/" + source
        return Case(name, framework, build, batch, loss, optimizer, tuple(causes.split()), seen, note, mended)

    def healthy(name: str, build: Any, batch: Any, loss: Any, note: str = "", optimizer: str = usual) -> Case:
        return Case(name, framework, build, batch, loss, optimizer, note=note)

    return faulty, healthy


def cases(framework: str, part: int = 1) -> tuple[Case, ...]:
    """The cases of a framework, which is imported: the faulty ones first; of one of `PARTS`, counted from 1."""
    return tuple(case for file in PARTS[part - 1][framework] for case in import_module(f"corpus.{file}").CASES)


def mend(case: Case) -> Case:
    """A faulty case without its fault."""
    return replace(case, **case.mended, causes=())
