"""Probes and trials behind TensorFlow and PyTorch are those behind JAX, from the same weights."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

PROGRAM = """
import json
import keras
import numpy as np
from keras import layers
from fanin.keras.adapter import describe, probe, setup, trial

rng = np.random.default_rng(0)
tokens, numbers = keras.Input((4,), dtype="int32"), keras.Input((3,))
x = layers.Concatenate()([layers.Flatten()(layers.Embedding(9, 5)(tokens)), layers.Dense(2)(numbers)])
x = layers.BatchNormalization(momentum=0.5)(layers.Dense(6, "relu", kernel_regularizer="l2")(x))
model = keras.Model([tokens, numbers], [layers.Dense(3, "softmax")(x), layers.Dense(1)(layers.Dropout(0.5)(x))])
for variable in model.trainable_variables:
    variable.assign(rng.normal(size=variable.shape) * 0.4)
example = rng.integers(0, 9, (8, 4)).astype("int32"), rng.normal(size=(8, 3)).astype("float32")
targets = [rng.integers(0, 3, 8).astype("int32"), rng.normal(size=(8, 1)).astype("float32")]
losses = ["sparse_categorical_crossentropy", None]

def state():
    return [np.array(keras.ops.convert_to_numpy(variable.value)).tobytes() for variable in model.variables]

def drawn():
    import torch
    return torch.get_rng_state().tolist() if keras.backend.backend() == "torch" else []

before, random = state(), drawn()
vitals = probe(model, example, targets, losses)
found = trial(model, example, targets, loss=losses, optimizer="sgd(momentum=0.9)", steps=4)
noisy = [trial(model, example, targets, loss=["sparse_categorical_crossentropy", "mse"], steps=2) for _ in range(2)]
ops = describe(model, example).ops
cut = [at for at, op in enumerate(ops) if op.kind == "softmax"][0] - 1
entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
logits = trial(model, example, targets[0], loss=entropy, optimizer="sgd", steps=3, cut=cut)
try:
    trial(model, example, targets, loss=lambda targets, outputs: 1 / 0)
    refused = ""
except Exception as error:
    refused = type(error).__name__
same = state() == before and drawn() == random
if keras.backend.backend() == "torch":
    same = same and all(variable.value.grad is None for variable in model.trainable_variables)
print("FOUND" + json.dumps({
    "same": same, "refused": refused, "steady": noisy[0] == noisy[1], "layers": vitals.layers,
    "infinite": vitals.infinite, "shapes": [list(each.shape) for each in (*vitals.lowest, *vitals.outputs)],
    "numbers": [vitals.signal_rms, vitals.gradient_rms, vitals.mean, vitals.cosine, vitals.rank, [vitals.loss],
                *vitals.quantiles, list(vitals.param_gradients.values()), found.losses, list(found.gradients.values()),
                *found.updates.values(), logits.losses, found.outputs[0].ravel().tolist()],
}))
"""


def ran(backend: str) -> dict[str, Any]:
    """What the program says on a backend."""
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, env=environment
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND")]
    assert lines, f"{backend}: {done.stderr[-3000:]}"
    return dict(json.loads(lines[0].removeprefix("FOUND")))


@pytest.mark.slow
def test_all_backends_find_the_same() -> None:
    backends = [name for name in ("jax", "tensorflow", "torch") if find_spec(name) is not None]
    first, *others = [ran(backend) for backend in backends]
    for found in (first, *others):
        assert found["same"]
        assert found["steady"]
        assert found["refused"] == "ModelError"
        assert (found["layers"], found["infinite"], found["shapes"]) == (
            first["layers"], first["infinite"], first["shapes"],
        )  # fmt: skip
        for numbers, expected in zip(found["numbers"], first["numbers"], strict=True):
            # float32 sums in another order, through six layers and four steps.
            np.testing.assert_allclose(numbers, expected, rtol=2e-3, atol=1e-6)
