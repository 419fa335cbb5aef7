"""Training many runs: fanin against a loop of keras.Model.fit on JAX and TensorFlow, and of plain PyTorch.

The same work on each side: the same network, data, batch size and optimizer, the same number of steps, an
evaluation on the validation data after each epoch. Rates are run-steps per second with everything compiled
and warm, medians over repetitions that take turns. Each side runs in one process of its own and may use all
cores; where a peer is not installed its rows are left out with a word on standard error.

    python bench/compare.py [--quick] [--json] [--keep]
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from statistics import median
from typing import Any

import numpy as np
from common import Row, keep, show

CASES: dict[str, dict[str, Any]] = {
    "digits, 64-128-128-10": {"shape": (64,), "sizes": (128, 128), "batch": 32, "train": 1079, "val": 359, "runs": 96},
    "MNIST, 784-256-10": {"shape": (784,), "sizes": (256,), "batch": 64, "train": 20000, "val": 1000, "runs": 16},
}
BUDGETS = {
    ("digits, 64-128-128-10", "keras-jax"): 30,
    ("digits, 64-128-128-10", "keras-tensorflow"): 30,
    ("MNIST, 784-256-10", "keras-tensorflow"): 4,
}
PEERS = ("keras-jax", "keras-tensorflow", "torch")


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


def ours(case: dict[str, Any], epochs: int) -> float:
    """All runs on all devices through the trainer, from initial weights to the test data; compiled before."""
    from fanin.experiments.executor import Executor
    from fanin.experiments.spec import experiment
    from fanin.experiments.tasks import make_task

    arrays = data(case)
    task = make_task("bench", {"x_train": arrays["x"], "y_train": arrays["y"], "x_val": arrays["xv"],
                               "y_val": arrays["yv"], "x_test": arrays["xv"], "y_test": arrays["yv"]})  # fmt: skip
    model = "mlp:" + "x".join(map(str, case["sizes"]))
    chosen = experiment(
        task=task, model=model, init=["he_normal", "glorot_uniform"], seeds=case["runs"] // 2, lr=[0.001],
        epochs=max(20, epochs) if case["train"] < 5000 else epochs, batch_size=case["batch"],
    )  # fmt: skip
    executor = Executor(chosen, None)
    executor.prepare()
    trainer = executor.trainer("relu")
    runs = chosen.compared_runs()
    program = executor._program(trainer, runs)
    warm = runs[: program.chunk * len(trainer.devices)]
    list(trainer.train(program, warm))
    begun = time.perf_counter()
    done = len(list(trainer.train(program, runs)))
    return done * trainer.marks[-1] / (time.perf_counter() - begun)


def keras_fit(case: dict[str, Any], epochs: int) -> float:
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

    model = make()
    fit(model, 1)  # traced and compiled here, which a loop of fits would pay again for each run
    begun = time.perf_counter()
    fit(model, epochs)
    return epochs * -(-case["train"] // case["batch"]) / (time.perf_counter() - begun)


def torch_loop(case: dict[str, Any], epochs: int) -> float:
    import torch

    arrays = {key: torch.from_numpy(value) for key, value in data(case).items()}
    widths = [int(np.prod(case["shape"])), *case["sizes"], 10]
    layers: list[Any] = []
    for a, b in itertools.pairwise(widths):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
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

    epoch()
    begun = time.perf_counter()
    steps = sum(epoch() for _ in range(epochs))
    return steps / (time.perf_counter() - begun)


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


SIDES = {"fanin": ours, "keras-jax": keras_fit, "keras-tensorflow": keras_fit, "torch": torch_loop, "peak": matrix_peak}


def in_process(side: str, case: str, epochs: int) -> float | None:
    """One side's rate from a process of its own, or None if its packages are missing."""
    backend = {"keras-tensorflow": "tensorflow"}.get(side, "jax")
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, __file__, "--side", side, "--case", case, "--epochs", str(epochs)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        if side == "fanin" or "No module named" not in reason:
            raise RuntimeError(f"{side}: {done.stderr}")
        print(f"{side} left out: {reason}", file=sys.stderr)
        return None
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short repetition, within a minute or two")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write bench/results/compare.json")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(SIDES[options.side](CASES[options.case], options.epochs)))
        return
    rows: list[Row] = []
    for name, case in CASES.items():
        small = case["train"] < 5000
        epochs = {True: 5, False: 1}[small] if options.quick else {True: 20, False: 3}[small]
        repeats = 1 if options.quick else 3
        rates: dict[str, list[float]] = {}
        for _ in range(repeats):
            for side in ("peak", "fanin", *PEERS):
                rate = in_process(side, name, epochs) if side not in rates or rates[side] else None
                if rate is not None:
                    rates.setdefault(side, []).append(rate)
        middle = {side: median(values) for side, values in rates.items() if values}
        new = [
            Row(name, peer, middle["fanin"] / middle[peer], BUDGETS.get((name, peer)), middle["fanin"], middle[peer],
                "run-steps/s")
            for peer in PEERS if peer in middle
        ]  # fmt: skip
        speed = middle["fanin"] * flops_per_step(case)
        new.append(
            Row(f"{name}: share of peak", "float32 matrix peak", speed / middle["peak"], None, speed / 1e9,
                middle["peak"] / 1e9, "GFLOP/s")
        )  # fmt: skip
        show(new, options.json)
        rows += new
    if options.keep:
        from importlib import metadata

        wanted = ("fanin", "jax", "keras", "numpy", "tensorflow-cpu", "torch")
        installed = {each.metadata["Name"].lower() for each in metadata.distributions()}
        keep("compare", rows, {name: metadata.version(name) for name in wanted if name in installed})


if __name__ == "__main__":
    main()
