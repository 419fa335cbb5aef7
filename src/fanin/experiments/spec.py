"""What is compared: an experiment, and the runs that it consists of."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

from fanin.errors import InvalidValueError
from fanin.experiments.datasets import load_task, task_entry
from fanin.experiments.engines import ENGINES, Engine, engine_for
from fanin.experiments.models import model_spec
from fanin.initializers import INITIALIZERS, parse_call
from fanin.recipes import identified
from fanin.records import Call, Init, ModelSpec, Run, Settings, Task

__all__ = ["DEFAULT_INITIALIZERS", "TUNING_SEEDS", "Arm", "Experiment", "experiment"]

DEFAULT_INITIALIZERS = (
    "zeros",
    "random_normal(stddev=0.01)",
    "random_normal(stddev=1.0)",
    "fan_in_uniform",
    "lecun_normal",
    "glorot_uniform",
    "he_normal",
    "orthogonal",
)
"""What is compared where nobody says: three known mistakes, PyTorch's and Keras's defaults, three classics."""

TUNING_SEEDS = (10_000, 10_001, 10_002)
"""Seeds that choose a learning rate; far from the compared seeds 0, 1, 2, ..., which they must not meet."""

_RATES = {"sgd": (0.03, 0.1, 0.3)}
_ADAPTIVE_RATES = (0.0003, 0.003, 0.03)
_AUTO_DECADES = (-4.0, -0.5)
"""Exponents of the smallest and largest learning rate that `auto` tries, for sgd a decade larger."""


@dataclass(frozen=True)
class Arm:
    """One of the things compared: an initializer or a recipe, with the activation it is used with."""

    init: Init
    activation: str
    label: str


@dataclass(frozen=True)
class Experiment:
    """A comparison, fully decided.

    Attributes:
        arms: What is compared; `baseline` is one of them.
        seeds: The compared seeds are 0 to seeds - 1.
        learning_rates: The rates tried. With `auto` the compared seeds run at the chosen rate only.
        engine: What trains the model.
    """

    task: Task
    model: ModelSpec
    arms: tuple[Arm, ...]
    baseline: Arm
    seeds: int
    learning_rates: tuple[float, ...]
    auto: bool
    settings: Settings
    engine: Engine = ENGINES["keras"]

    @property
    def tuned(self) -> bool:
        """Whether learning rates are chosen rather than fixed."""
        return len(self.learning_rates) > 1

    def run(self, arm: Arm, seed: int, learning_rate: float) -> Run:
        """The run of one arm, seed and learning rate."""
        return Run(
            task=self.task.name,
            task_hash=self.task.fingerprint,
            model=self.model.text,
            model_hash=self.model.fingerprint,
            activation=arm.activation,
            init=str(arm.init),
            seed=seed,
            learning_rate=float(learning_rate),
            optimizer=str(self.settings.optimizer),
            batch_size=self.settings.batch_size,
            epochs=self.settings.epochs,
            evaluations=self.settings.evaluations,
            engine=self.engine.version,
        )

    def tuning_runs(self) -> list[Run]:
        """The runs that choose learning rates; none where the rate is fixed."""
        if not self.tuned:
            return []
        return [self.run(a, seed, lr) for seed in TUNING_SEEDS for a in self.arms for lr in self.learning_rates]

    def compared_runs(self, chosen: dict[Arm, float] | None = None) -> list[Run]:
        """The compared runs, at every rate or at each arm's chosen one; seed by seed, so that pairs finish together."""
        rates = {arm: (chosen[arm],) if chosen else self.learning_rates for arm in self.arms}
        return [self.run(arm, seed, lr) for seed in range(self.seeds) for arm in self.arms for lr in rates[arm]]


def _at_least(name: str, value: int, least: int, hint: str | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InvalidValueError(
            f"The {name} is too small", given=value, allowed=f"a whole number of {least} or more", hint=hint
        )
    return int(value)


def _rates(given: float | Sequence[float] | str | None, optimizer: Call) -> tuple[tuple[float, ...], bool]:
    adaptive = optimizer.name.lower() != "sgd"
    if given is None:
        return (_ADAPTIVE_RATES if adaptive else _RATES["sgd"]), False
    if isinstance(given, str):
        if given != "auto":
            raise InvalidValueError("The learning rate cannot be read", given=given, allowed="numbers above 0, or auto")
        low, high = (d if adaptive else d + 1 for d in _AUTO_DECADES)
        count = round((high - low) * 2) + 1
        return tuple(float(f"{10 ** (low + (high - low) * i / (count - 1)):.1g}") for i in range(count)), True
    several = list(given) if isinstance(given, Iterable) else [given]
    for rate in several:
        if isinstance(rate, bool) or not isinstance(rate, Real) or not math.isfinite(rate) or rate <= 0:
            raise InvalidValueError("The learning rate is not positive", given=rate, allowed="a number above 0")
    if not several:
        raise InvalidValueError("There is no learning rate", given="none", allowed="one or more, or auto")
    return tuple(sorted({float(rate) for rate in several})), False


def _arms(inits: Sequence[str | Init], activations: Sequence[str], model: ModelSpec) -> tuple[Arm, ...]:
    """One arm for each initializer and activation; ``he_normal+relu`` brings its own activation."""
    arms: dict[tuple[Init, str], None] = {}
    for init in inits:
        text, own = (init, "") if isinstance(init, Init) else _split(init)
        spoken = [own] if own else list(activations) or ["" if model.kind == "user" else "relu"]
        for activation in spoken:
            arms[identified(text), activation] = None
    several = len({activation for _, activation in arms}) > 1
    names = {init: str(init) if init.name in INITIALIZERS else init.name for init, _ in arms}
    return tuple(Arm(i, a, f"{names[i]} + {a}" if several and a else names[i]) for i, a in arms)


def _split(text: str) -> tuple[str, str]:
    """Divide ``he_normal+relu``; a plus sign inside parentheses belongs to a number."""
    head, plus, tail = text.rpartition("+")
    return (head.strip(), tail.strip()) if plus and tail.strip().isidentifier() else (text, "")


def _baseline(text: str | None, arms: tuple[Arm, ...], activations: Sequence[str]) -> Arm:
    if text is None:
        return next((arm for arm in arms if arm.init.name == "glorot_uniform"), arms[0])
    name, activation = _split(text)
    wanted = identified(name)
    for arm in arms:
        if arm.init == wanted and (not activation or arm.activation == activation):
            return arm
    raise InvalidValueError(
        "The baseline is not among what is compared", given=text, allowed=", ".join(arm.label for arm in arms)
    )


def experiment(
    *,
    task: str | Task = "digits",
    model: str | ModelSpec | None = None,
    activation: str | Sequence[str] = (),
    init: str | Init | Sequence[str | Init] = (),
    seeds: int = 8,
    lr: float | Sequence[float] | str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    optimizer: str = "adam",
    baseline: str | None = None,
) -> Experiment:
    """Decide everything about a comparison; what is not given follows from the task.

    Raises:
        FaninError: If something given cannot be.
    """
    inits = ((init,) if isinstance(init, str | Init) else tuple(init)) or DEFAULT_INITIALIZERS
    activation = (activation,) if isinstance(activation, str) else tuple(activation)
    for each in inits:
        identified(each if isinstance(each, Init) else _split(each)[0])
    entry = task_entry(task if isinstance(task, str) else "")
    spec = model if isinstance(model, ModelSpec) else model_spec(model or entry.model)
    call = parse_call(optimizer, "optimizer")
    rates, auto = _rates(lr, call)
    seeds = _at_least("number of seeds", seeds, 1, "8 is the default; below 6 nothing can be called better.")
    epochs = _at_least("number of epochs", entry.epochs if epochs is None else epochs, 1)
    size = _at_least("batch size", entry.batch_size if batch_size is None else batch_size, 1)
    if seeds > TUNING_SEEDS[0]:
        raise InvalidValueError("The number of seeds is too large", given=seeds, allowed=f"up to {TUNING_SEEDS[0]}")
    arms = _arms(inits, activation, spec)
    base = _baseline(baseline, arms, activation)
    data = task if isinstance(task, Task) else load_task(task)
    if size > len(data.x_train):
        raise InvalidValueError(
            "The batch is larger than the training data", given=size, allowed=f"up to {len(data.x_train)}"
        )
    settings = Settings(call, size, epochs, evaluations=max(20, epochs))
    engine = engine_for(spec, data, arms[0].activation)
    return Experiment(data, spec, arms, base, seeds, rates, auto, settings, engine)
