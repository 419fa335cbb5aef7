"""What determines a training run, and what it did."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Self

from fanin.records.calls import Call
from fanin.records.models import InitialSignals

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ModelSpec", "Program", "Run", "RunResult", "Settings", "Task", "to_plain"]


@dataclass(frozen=True)
class ModelSpec:
    """Which network to train: ``mlp:128x128``, ``cnn:16x32`` or a user's ``file.py:build``.

    Attributes:
        text: The specification as the user wrote it.
        kind: ``mlp``, ``cnn`` or ``user``.
        sizes: Widths of the hidden layers (`mlp`) or channels of the convolutions (`cnn`).
        fingerprint: What else determines a user's model: a hash of its source.
        build: The user's function, for ``user``; not part of equality or of a run's identity.
    """

    text: str
    kind: str
    sizes: tuple[int, ...] = ()
    fingerprint: str = ""
    build: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Task:
    """A data set with its three parts kept apart, ready to train on.

    Attributes:
        kind: ``classification`` (integer labels from 0) or ``regression`` (float targets).
        outputs: Number of classes, or of target columns.
        fingerprint: Hash of every array, so that a run knows what it was trained on.
    """

    name: str
    kind: Literal["classification", "regression"]
    outputs: int
    x_train: "NDArray[np.float32]"
    y_train: "NDArray[Any]"
    x_val: "NDArray[np.float32]"
    y_val: "NDArray[Any]"
    x_test: "NDArray[np.float32]"
    y_test: "NDArray[Any]"
    fingerprint: str

    @property
    def metric(self) -> str:
        """What the verdict is about: ``accuracy`` (higher is better) or ``loss`` (lower is better)."""
        return "accuracy" if self.kind == "classification" else "loss"


@dataclass(frozen=True)
class Settings:
    """How every run of a comparison is trained."""

    optimizer: Call
    batch_size: int
    epochs: int
    evaluations: int


@dataclass(frozen=True)
class Program:
    """How the runs of one architecture are executed: chosen by measurement, without effect on what is computed.

    Attributes:
        loop: ``scan`` (steps looped inside the compiled program) or ``step`` (dispatched one by one; PyTorch always).
        chunk: How many runs one device trains together; 1 is plain PyTorch there.
        rate: Measured run-steps per second on one device.
    """

    loop: Literal["scan", "step"]
    chunk: int
    rate: float


@dataclass(frozen=True)
class Run:
    """Everything that determines one training run. Its identity is the hash of that.

    Attributes:
        task: Name of the task; `task_hash` is the fingerprint of its data.
        model: Text of the model; `model_hash` is the fingerprint of a user's source.
        activation: Activation between layers; empty where the model brings its own.
        learning_rate: Step size handed to the optimizer.
        engine: Version of the engine; a change that alters results changes every identity.
    """

    task: str
    task_hash: str
    model: str
    model_hash: str
    activation: str
    init: str
    seed: int
    learning_rate: float
    optimizer: str
    batch_size: int
    epochs: int
    evaluations: int
    engine: str

    @property
    def id(self) -> str:
        """32 hexadecimal digits; the same in every process and on every machine."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        return cls(**record)


@dataclass(frozen=True)
class RunResult:
    """What a run did.

    Attributes:
        status: ``finished`` or ``diverged``.
        diverged_at: First step (from 0) whose training loss was not finite.
        steps: Training steps done before each evaluation.
        train_loss: Mean training loss since the evaluation before (not a number once diverged).
        val_loss, val_metric: Loss and metric on the validation data at each evaluation.
        test_loss, test_metric: The same on the test data, once, at the end.
        signals: Signal and gradient by layer at step 0.
        seconds: Wall time of the run's share of its chunk.
        train_metric: The metric on some of the training data at each evaluation, for pictures; empty where a run was
            kept before it was measured.
    """

    status: Literal["finished", "diverged"]
    diverged_at: int | None
    steps: tuple[int, ...]
    train_loss: tuple[float, ...]
    val_loss: tuple[float, ...]
    val_metric: tuple[float, ...]
    test_loss: float
    test_metric: float
    signals: InitialSignals | None
    seconds: float
    train_metric: tuple[float, ...] = ()

    def to_json(self) -> str:
        """One line of JSON; numbers that are not finite are written as null, ``inf`` and ``-inf`` as strings."""
        return json.dumps(to_plain(asdict(self)), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`."""
        record = json.loads(text)
        if record["signals"] is not None:
            layers, *measured = (entry.name for entry in fields(InitialSignals))
            kept = record["signals"]
            record["signals"] = InitialSignals(
                tuple(kept[layers]), *(_numbers(kept.get(name, ())) for name in measured)
            )
        for name in ("train_loss", "val_loss", "val_metric", "train_metric"):
            record[name] = _numbers(record.get(name, ()))
        for name in ("test_loss", "test_metric"):
            record[name] = _number(record[name])
        record["steps"] = tuple(record["steps"])
        return cls(**{entry.name: record[entry.name] for entry in fields(cls)})


def to_plain(value: Any) -> Any:
    """The value with every number that JSON lacks spelt out: null for nan, ``"inf"`` and ``"-inf"``."""
    if isinstance(value, Mapping):
        return {key: to_plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


def _number(value: float | str | None) -> float:
    return math.nan if value is None else float(value)


def _numbers(values: Sequence[float | str | None]) -> tuple[float, ...]:
    return tuple(_number(value) for value in values)
