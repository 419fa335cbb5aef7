"""Training many runs: fanin against a loop of keras.Model.fit on JAX and TensorFlow, and of plain PyTorch.

The same work on each side: the same network, data, batch size and optimizer, the same number of epochs, an
evaluation on the validation data after each. Each side runs in one process of its own, may use all cores, and
is timed from building the first model to the end of the last run, imports aside:

- fanin, first time: with an empty cache, so that measuring and compiling are paid;
- fanin, again: with compiled programs and the measured choice on disk, as every later comparison has them;
- peers: a loop that builds, compiles and fits one model after the other, as a person would write it;
- steady: the same peers and fanin after everything is compiled, one more fit of the same model.

The cases called PyTorch train PyTorch models on both sides; their peer is a plain loop, one run after another,
with all of PyTorch's threads and with one.

Rates are run-steps per second, medians over repetitions that take turns. A peer that is not installed is left
out with a word on standard error.

    python bench/compare.py [--quick] [--json] [--keep]
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
from common import Row, keep, show

CASES: dict[str, dict[str, Any]] = {
    "digits, 64-128-128-10": {"shape": (64,), "sizes": (128, 128), "batch": 32, "train": 1079, "val": 359, "runs": 96},
    "MNIST, 784-256-10": {"shape": (784,), "sizes": (256,), "batch": 64, "train": 20000, "val": 1000, "runs": 32},
    "PyTorch, digits, 64-128-128-10": {
        "shape": (64,), "sizes": (128, 128), "batch": 32, "train": 1079, "val": 359, "runs": 96, "torch": True,
    },
    "PyTorch, digits, 3x3 convolutions of 16 and 32": {
        "shape": (8, 8), "sizes": (16, 32), "batch": 32, "train": 1079, "val": 359, "runs": 32, "torch": True,
    },
}  # fmt: skip
BUDGETS = {
    ("digits, 64-128-128-10", "keras-jax"): 30,
    ("digits, 64-128-128-10", "keras-tensorflow"): 30,
    ("MNIST, 784-256-10", "keras-tensorflow"): 4,
    **{("PyTorch, digits, 64-128-128-10", peer): 3 for peer in ("torch", "torch-one-thread")},
    **{("PyTorch, digits, 3x3 convolutions of 16 and 32", peer): 1 for peer in ("torch", "torch-one-thread")},
}
FITS = 3
"""Models that a peer's loop fits; each costs the same, so that the rate does not depend on their number."""
PEERS = ("keras-jax", "keras-tensorflow", "torch")
TORCH_PEERS = ("torch", "torch-one-thread")


def data(case: dict[str, Any]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    count = case["train"] + case["val"]
    y = rng.integers(0, 10, count)
    centres = rng.normal(size=(10, *case["shape"]))
    x = (centres[y] + 2 * rng.normal(size=(count, *case["shape"]))).astype(np.float32)
    return {"x": x[: case["train"]], "y": y[: case["train"]], "xv": x[case["train"] :], "yv": y[case["train"] :]}


def flops_per_step(case: dict[str, Any]) -> float:
    """Multiplications and additions of the matrix products of one training step.

    Forward and weight gradient for every layer, the gradient of its input for every layer but the first.
    """
    widths = [int(np.prod(case["shape"])), *case["sizes"], 10]
    products = [a * b for a, b in itertools.pairwise(widths)]
    return 2.0 * case["batch"] * (3 * sum(products) - products[0])


def torch_model(case: dict[str, Any]) -> Any:
    """The network of a case as anybody would write it in PyTorch."""
    from torch import nn

    layers: list[Any] = []
    if len(case["shape"]) == 2:
        channels = 1
        for size in case["sizes"]:
            layers += [nn.Conv2d(channels, size, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            channels = size
        side = case["shape"][0] // 2 ** len(case["sizes"])
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * side * side, 10))
    for a, b in itertools.pairwise([*case["shape"], *case["sizes"]]):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(case["sizes"][-1], 10))


def ours(case: dict[str, Any], epochs: int, steady: bool) -> float:
    """All runs of a comparison on all devices, from the network's building to the look at the test data."""
    from fanin.experiments.engines import ENGINES
    from fanin.experiments.executor import Executor
    from fanin.experiments.spec import experiment
    from fanin.experiments.tasks import make_task
    from fanin.records import ModelSpec

    in_torch = "torch" in case
    ENGINES["torch" if in_torch else "keras"].start()  # imports
    own = ModelSpec("bench/compare.py:torch_model", "user", (), "", lambda: torch_model(case))
    arrays = data(case)
    task = make_task("bench", {"x_train": arrays["x"], "y_train": arrays["y"], "x_val": arrays["xv"],
                               "y_val": arrays["yv"], "x_test": arrays["xv"], "y_test": arrays["yv"]})  # fmt: skip
    chosen = experiment(
        task=task, model=own if in_torch else "mlp:" + "x".join(map(str, case["sizes"])),
        init=["he_normal", "glorot_uniform"], seeds=case["runs"] // 2, lr=[0.001], epochs=epochs,
        batch_size=case["batch"],
    )  # fmt: skip
    chosen = replace(chosen, settings=replace(chosen.settings, evaluations=epochs))
    executor = Executor(chosen, None)
    if steady:
        executor.execute()
    begun = time.perf_counter()
    executor.prepare()
    done = len(executor.execute())
    return done * executor.trainer("" if in_torch else "relu").marks[-1] / (time.perf_counter() - begun)


def keras_fit(case: dict[str, Any], epochs: int, steady: bool) -> float:
    import keras

    arrays = data(case)

    def make() -> Any:
        layers = [keras.layers.Dense(size, "relu") for size in case["sizes"]]
        model = keras.Sequential([keras.Input(case["shape"]), *layers, keras.layers.Dense(10)])
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
        return model

    def fit(model: Any, count: int) -> None:
        model.fit(arrays["x"], arrays["y"], batch_size=case["batch"], epochs=count, verbose=0,
                  validation_data=(arrays["xv"], arrays["yv"]))  # fmt: skip

    steps = epochs * -(-case["train"] // case["batch"])
    if steady:
        model = make()
        fit(model, 1)
    begun = time.perf_counter()
    for _ in range(1 if steady else FITS):
        if not steady:
            model = make()
        fit(model, epochs)
    return (1 if steady else FITS) * steps / (time.perf_counter() - begun)


def torch_loop(case: dict[str, Any], epochs: int, steady: bool) -> float:
    import torch

    arrays = {key: torch.from_numpy(value) for key, value in data(case).items()}
    if len(case["shape"]) == 2:
        arrays |= {key: arrays[key][:, None] for key in ("x", "xv")}
    model = torch_model(case)
    optimizer, loss = torch.optim.Adam(model.parameters()), torch.nn.CrossEntropyLoss()

    def epoch() -> int:
        order = torch.randperm(case["train"])
        steps = 0
        for batch in order.split(case["batch"]):
            optimizer.zero_grad()
            loss(model(arrays["x"][batch]), arrays["y"][batch]).backward()
            optimizer.step()
            steps += 1
        with torch.no_grad():
            model(arrays["xv"]).argmax(1).eq(arrays["yv"]).float().mean().item()
        return steps

    if steady:
        epoch()
    begun = time.perf_counter()
    steps = sum(epoch() for _ in range(epochs))
    return steps / (time.perf_counter() - begun)


def torch_loop_in_one_thread(case: dict[str, Any], epochs: int, steady: bool) -> float:
    import torch

    torch.set_num_threads(1)
    return torch_loop(case, epochs, steady)


def matrix_peak(*_: Any) -> float:
    """Float32 operations per second of a large matrix product in NumPy's BLAS on all cores: the practical limit."""
    a = np.random.default_rng(0).normal(size=(2048, 2048)).astype(np.float32)
    a @ a
    times = []
    for _ in range(7):
        begun = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - begun)
    return 2 * 2048.0**3 / min(times)


SIDES = {
    "fanin": ours,
    "keras-jax": keras_fit,
    "keras-tensorflow": keras_fit,
    "torch": torch_loop,
    "torch-one-thread": torch_loop_in_one_thread,
    "peak": matrix_peak,
}


def in_process(side: str, case: str, epochs: int, steady: bool, cache: str) -> float | None:
    """One side's rate from a process of its own, or None if its packages are missing."""
    backend = "tensorflow" if side == "keras-tensorflow" else "jax"
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "FANIN_CACHE_DIR": cache}
    command = [sys.executable, __file__, "--side", side, "--case", case, "--epochs", str(epochs)]
    command += ["--steady"] if steady else []
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        if side == "fanin" or "No module named" not in reason:
            raise RuntimeError(f"{side}: {done.stderr}")
        print(f"{side} left out: {reason}", file=sys.stderr)
        return None
    return float(json.loads(done.stdout.splitlines()[-1]))


def measure(name: str, epochs: int, repeats: int) -> list[Row]:
    """The rows of one case."""
    rates: dict[tuple[str, str], list[float]] = {}
    in_torch = "torch" in CASES[name]
    peers = TORCH_PEERS if in_torch else PEERS

    def take(side: str, how: str, cache: str) -> None:
        rate = in_process(side, name, epochs, how == "steady", cache)
        if rate is not None:
            rates.setdefault((side, how), []).append(rate)

    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            if not in_torch:
                take("peak", "", cache)
            for how in ("first time", "again", "steady"):
                take("fanin", how, cache)
            for peer in peers:
                take(peer, "loop", cache)
                take(peer, "steady", cache)
    middle = {key: median(values) for key, values in rates.items()}
    rows = []
    for peer in peers:
        for how, theirs in (("first time", "loop"), ("again", "loop"), ("steady", "steady")):
            if (peer, theirs) in middle:
                us, them = middle["fanin", how], middle[peer, theirs]
                # PyTorch models need nothing compiled: the first time pays for the measurement alone.
                paid = how == "first time" if in_torch else how == "steady"
                budget = None if paid else BUDGETS.get((name, peer))
                rows.append(Row(f"{name}, {how}", f"{peer}, {theirs}", us / them, budget, us, them, "run-steps/s"))
    if in_torch:
        return rows
    speed, peak = middle["fanin", "steady"] * flops_per_step(CASES[name]), middle["peak", ""]
    rows.append(Row(f"{name}, steady", "float32 matrix peak", speed / peak, None, speed / 1e9, peak / 1e9, "GFLOP/s"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="cases whose name begins like this")
    parser.add_argument("--quick", action="store_true", help="one short repetition, within a minute or two")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write bench/results/compare.json")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--steady", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(SIDES[options.side](CASES[options.case], options.epochs, options.steady)))
        return
    rows: list[Row] = []
    for name, case in CASES.items():
        if not name.startswith(options.only):
            continue
        epochs = 20 if case["train"] < 5000 else 3
        new = measure(name, epochs // 4 + 1 if options.quick else epochs, 1 if options.quick else 3)
        show(new, options.json)
        rows += new
    if options.keep:
        from importlib import metadata

        wanted = ("fanin", "jax", "keras", "numpy", "tensorflow-cpu", "torch")
        installed = {each.metadata["Name"].lower() for each in metadata.distributions()}
        keep("compare", rows, {name: metadata.version(name) for name in wanted if name in installed})


if __name__ == "__main__":
    main()
