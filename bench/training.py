"""Do networks that fanin initialises train better? Small versions of hard networks, against peers, with statistics.

python bench/training.py [--quick] [--json] [--keep] [--framework torch] [--only NAME ...] [--ways NAME ...]
    [--runs training.jsonl]

Each network is trained on digits or MNIST from initial weights of each way: fanin's recipe `auto`, the framework's
default, one classical initializer for all weights (He, or Glorot for sigmoids), LSUV and AnyInit. The learning rate
is chosen for each way by validation accuracy over seeds that are not used again; then eight paired seeds are
trained, the same data in the same order for each way, and the test data is looked at once. Shown is fanin's
advantage in test accuracy with its 95 % interval and the exact sign-flip test of `fanin.stats`.

Every finished run is a line of the file of runs; the same command goes on where it was stopped.
MNIST is read from the folder FANIN_DATA_DIR, if that is set.
"""

import argparse
import copy
import json
import math
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from common import keep
from peers import Way, anyinit, default, lsuv, ours
from signals import finite

BATCH = 64
SEEDS, TUNING = tuple(range(8)), (100, 101)
ADAM, SGD = (1e-4, 3e-4, 1e-3, 3e-3), (3e-3, 1e-2, 3e-2, 1e-1)
"""Learning rates to choose from."""
EXAMPLES = 64
"""From the training data, for ways that look at an example."""
KEPT = {"val": 1000, "test": 2000}
"""At most so many examples are predicted."""

Outcome = tuple[float, float]
"""Accuracy and cross-entropy."""


@dataclass(frozen=True)
class Setup:
    """A network and how it is trained.

    Attributes:
        builder: ``module:function`` of `models`.
        args: What it takes.
        shape: Of one input.
        single: The classical initializer for its activation.
    """

    name: str
    framework: str
    builder: str
    args: dict[str, Any] = field(hash=False)
    shape: tuple[int, ...]
    single: str
    task: str = "digits"
    optimizer: str = "adam"
    steps: int = 120

    @property
    def rates(self) -> tuple[float, ...]:
        return ADAM if self.optimizer == "adam" else SGD


def _mlp(depth: int, activation: str, framework: str = "torch") -> Setup:
    single = "glorot_uniform" if activation in ("tanh", "sigmoid") else "he_normal"
    file = "torch_dense" if framework == "torch" else "keras_networks"
    args = {"depth": depth, "activation": activation, "width": 64}
    return Setup(f"mlp {depth} {activation}", framework, f"{file}:mlp", args, (64,), single)


RESNET = {"width": 8, "channels": 1, "stem": 3}
ENCODER = {"features": 8, "width": 32}
SETUPS = (
    _mlp(50, "silu"),
    _mlp(100, "tanh"),
    _mlp(200, "relu"),
    _mlp(20, "sigmoid"),
    _mlp(50, "gelu"),
    Setup("resnet 34 without norm", "torch", "torch_images:ResNet",
          {**RESNET, "counts": (3, 4, 6, 3), "norm": False}, (1, 8, 8), "he_normal", optimizer="sgd"),
    Setup("resnet 18", "torch", "torch_images:ResNet", {**RESNET, "counts": (2, 2, 2, 2)}, (1, 8, 8), "he_normal"),
    Setup("transformer 24 post-norm", "torch", "torch_sequences:Encoder",
          {**ENCODER, "depth": 24, "norm_first": False}, (8, 8), "glorot_uniform"),
    Setup("transformer 6 pre-norm", "torch", "torch_sequences:Encoder",
          {**ENCODER, "depth": 6, "norm_first": True}, (8, 8), "glorot_uniform"),
    Setup("vgg", "torch", "torch_images:vgg", {"stages": ((8, 8), (16, 16), (32, 32, 32)), "channels": 1},
          (1, 28, 28), "he_normal", "mnist", "sgd"),
    _mlp(50, "silu", "keras"),
    _mlp(20, "sigmoid", "keras"),
    _mlp(100, "tanh", "keras"),
    Setup("vgg", "keras", "keras_networks:vgg", {"size": 8, "channels": 1}, (8, 8, 1), "he_normal"),
    Setup("lstm", "keras", "keras_networks:recurrent", {"length": 8, "features": 8, "width": 32}, (8, 8),
          "glorot_uniform"),
    Setup("transformer 6 pre-norm", "keras", "keras_networks:transformer", {"depth": 6, "length": 8, **ENCODER}, (8, 8),
          "glorot_uniform"),
)  # fmt: skip


def ways(setup: Setup) -> dict[str, Way]:
    """fanin first: it is what the others are compared with."""
    found: dict[str, Way] = {
        "fanin": ours("auto"),
        "default": default,
        setup.single: ours(setup.single),
        "AnyInit": anyinit("analytic"),
    }
    return {**found, "LSUV": lsuv} if setup.framework == "torch" else found


@cache
def parts(task: str, shape: tuple[int, ...]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Inputs and labels for training, validation and test, standardised by the training data."""
    from fanin.experiments.datasets import load_task

    data = load_task(task)
    centre, size = data.x_train.mean(), data.x_train.std()

    def part(name: str) -> tuple[np.ndarray, np.ndarray]:
        x, y = getattr(data, f"x_{name}"), getattr(data, f"y_{name}")
        kept = slice(KEPT.get(name))
        return ((x[kept] - centre) / size).reshape(-1, *shape).astype(np.float32), y[kept].astype(np.int64)

    return {name: part(name) for name in ("train", "val", "test")}


def build(setup: Setup) -> Any:
    module, function = setup.builder.split(":")
    return getattr(import_module(f"models.{module}"), function)(**setup.args)


def torch_runs(setup: Setup, way: Way, seed: int) -> Callable[[float, str], Outcome]:
    """From a learning rate and a part of the data to the outcome there, always from the same initial weights."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    data = parts(setup.task, setup.shape)
    first = build(setup)
    way(first, data["train"][0][:EXAMPLES], seed)
    x, y = map(torch.from_numpy, data["train"])

    def run(rate: float, part: str) -> Outcome:
        model, loss = copy.deepcopy(first).train(), torch.nn.CrossEntropyLoss()
        kinds = {"adam": torch.optim.Adam, "sgd": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9)}
        optimizer = kinds[setup.optimizer](model.parameters(), lr=rate)
        order = np.random.default_rng(seed)
        for _ in range(setup.steps):
            batch = torch.from_numpy(order.integers(0, len(x), BATCH))
            optimizer.zero_grad()
            loss(model(x[batch]), y[batch]).backward()
            optimizer.step()
        inputs, labels = map(torch.from_numpy, data[part])
        with torch.no_grad():
            logits = model.eval()(inputs)
            return float(logits.argmax(1).eq(labels).float().mean()), float(loss(logits, labels))

    return run


@cache
def compiled(setup: Setup) -> Any:
    """One Keras model to train all runs with, so that it is compiled once."""
    import keras

    model = build(setup)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"])
    return model


def keras_runs(setup: Setup, way: Way, seed: int) -> Callable[[float, str], Outcome]:
    """The same for Keras."""
    import keras

    keras.utils.set_random_seed(seed)
    data = parts(setup.task, setup.shape)
    first = build(setup)
    way(first, data["train"][0][:EXAMPLES], seed)
    initial = first.get_weights()

    def run(rate: float, part: str) -> Outcome:
        model = compiled(setup)
        model.set_weights(initial)
        for variable in model.optimizer.variables:
            variable.assign(np.zeros(variable.shape, variable.dtype))
        model.optimizer.learning_rate.assign(rate)
        keras.utils.set_random_seed(seed)
        chosen = np.random.default_rng(seed).integers(0, len(data["train"][0]), BATCH * setup.steps)
        model.fit(*(each[chosen] for each in data["train"]), batch_size=BATCH, shuffle=False, verbose=0)
        loss, accuracy = model.evaluate(*data[part], verbose=0)
        return float(accuracy), float(loss)

    return run


RUNS = {"torch": torch_runs, "keras": keras_runs}


def read(file: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The finished runs of a file, by what determines them."""
    lines = file.read_text().splitlines() if file.exists() else []
    records = [json.loads(line) for line in lines if line.endswith("}")]  # the last may be cut short
    return {key(record): record for record in records}


def key(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(record[name] for name in ("framework", "model", "way", "part", "seed", "rate"))


def job(setup: Setup, name: str, file: Path, seeds: Sequence[int]) -> None:
    """All runs of one network in one way that the file lacks: first those that choose the rate."""
    done = read(file)
    way = ways(setup)[name]

    def take(part: str, seed: int, rates: Sequence[float]) -> list[dict[str, Any]]:
        """The records of a seed at some rates; its weights are drawn only if one of them is missing."""
        found, start = [], None
        for rate in rates:
            record = {"framework": setup.framework, "model": setup.name, "way": name, "part": part, "seed": seed,
                      "rate": rate}  # fmt: skip
            if key(record) not in done:
                start = start or RUNS[setup.framework](setup, way, seed)
                accuracy, loss = start(rate, part)
                done[key(record)] = record | {"accuracy": accuracy, "loss": loss}
                with file.open("a") as stream:
                    stream.write(json.dumps(done[key(record)]) + "\n")
            found.append(done[key(record)])
        return found

    tried = [take("val", seed, setup.rates) for seed in TUNING]
    rate = max(setup.rates, key=lambda rate: _merit([r for rows in tried for r in rows if r["rate"] == rate]))
    for seed in seeds:
        take("test", seed, [rate])


def _merit(records: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Mean accuracy, then small loss; a loss that is no number is the worst."""
    losses = [each["loss"] if math.isfinite(each["loss"]) else math.inf for each in records]
    return mean(each["accuracy"] for each in records), -mean(losses)


@dataclass(frozen=True)
class Verdict:
    """fanin against one way on one network; accuracies in the mean over seeds, as shares; None for what is not there.

    Attributes:
        difference, low, high: fanin's advantage with its 95 % interval.
        p, p_adjusted: Of the sign-flip test alone, and adjusted for all ways on this network.
        rate, their_rate: The learning rates chosen.
        error: Why there are no runs, or empty.
    """

    framework: str
    model: str
    against: str
    ours: float | None = None
    theirs: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    rate: float | None = None
    their_rate: float | None = None
    seeds: int = 0
    error: str = ""


def verdicts(setup: Setup, records: Sequence[dict[str, Any]], errors: dict[str, str]) -> Iterator[Verdict]:
    """What the test data says of one network."""
    from fanin.stats import compare_paired

    own = [each for each in records if (each["framework"], each["model"]) == (setup.framework, setup.name)]
    test: dict[str, dict[int, dict[str, Any]]] = {}
    for each in own:
        if each["part"] == "test":
            test.setdefault(each["way"], {})[each["seed"]] = each
    for name, error in errors.items():
        yield Verdict(setup.framework, setup.name, name, error=error)
    peers = [name for name in ways(setup) if name in test and name != "fanin"]
    seeds = sorted(set.intersection(*(set(test[name]) for name in (*peers, "fanin")))) if "fanin" in test else []
    if not seeds or not peers:
        return
    table = {name: np.array([test[name][seed]["accuracy"] for seed in seeds]) for name in ("fanin", *peers)}
    found = compare_paired(np.stack([table[name] for name in peers]), table["fanin"])
    for name, each in zip(peers, found, strict=True):
        yield Verdict(
            setup.framework, setup.name, name, float(table["fanin"].mean()), float(table[name].mean()),
            -each.difference, finite(-each.high), finite(-each.low), each.p, each.p_adjusted,
            test["fanin"][seeds[0]]["rate"], test[name][seeds[0]]["rate"], each.seeds,
        )  # fmt: skip


def show(row: Verdict, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(row)), flush=True)
    elif row.error:
        print(f"{row.framework:6}{row.model:25}{row.against:16}{row.error[:70]}", flush=True)
    else:
        sure = "no interval" if row.low is None or row.high is None else f"{row.low:+.3f} to {row.high:+.3f}"
        print(
            f"{row.framework:6}{row.model:25}{row.against:16}{row.ours:6.3f} {row.theirs:6.3f}   "
            f"{row.difference:+.3f} ({sure})   p {row.p:.3f}, adjusted {row.p_adjusted:.3f}"
            f"   rates {row.rate:g}, {row.their_rate:g}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two small networks, two seeds: no verdicts")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write bench/results/training.json")
    parser.add_argument("--framework", choices=("torch", "keras"), help="its networks alone")
    parser.add_argument("--only", nargs="+", default=[], help="networks whose name has one of these words")
    parser.add_argument("--ways", nargs="+", default=[], help="only these ways, such as fanin")
    parser.add_argument("--runs", type=Path, default=Path(tempfile.gettempdir()) / "fanin_training.jsonl")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    os.environ.setdefault("KERAS_BACKEND", "jax")
    words = options.only or (["mlp 20 sigmoid", "6 pre-norm"] if options.quick else [""])
    chosen = [
        setup for setup in SETUPS
        if any(word in setup.name for word in words) and options.framework in (None, setup.framework)
    ]  # fmt: skip
    seeds = SEEDS[:2] if options.quick else SEEDS
    errors: dict[str, dict[str, str]] = {}
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn")) as pool:
        jobs = {
            (setup, name): pool.submit(job, setup, name, options.runs, seeds)
            for setup in chosen
            for name in ways(setup)
            if not options.ways or name in options.ways
        }
        for (setup, name), each in jobs.items():
            error = each.exception()
            if error is not None:
                errors.setdefault(f"{setup.framework} {setup.name}", {})[name] = f"{type(error).__name__}: {error}"
    records = list(read(options.runs).values())
    rows = [
        row for setup in chosen for row in verdicts(setup, records, errors.get(f"{setup.framework} {setup.name}", {}))
    ]
    for row in rows:
        show(row, options.json)
    if options.keep:
        wanted = ("fanin", "anyinit", "torch", "keras", "jax")
        keep("training", rows, {name: metadata.version(name) for name in wanted})


if __name__ == "__main__":
    main()
