"""Which network to train, read from text; the frameworks build it."""

import re
import sys
from contextlib import suppress

from fanin.errors import InvalidValueError, MissingExtraError, unknown_name
from fanin.experiments.engines import ENGINES
from fanin.experiments.sources import load_function
from fanin.records import ModelSpec

__all__ = ["MODELS", "model_spec"]

MODELS = {
    "mlp": "mlp:128x128 - dense layers of these widths, then the output",
    "cnn": "cnn:16x32 - 3x3 convolutions of these channels, each with pooling, then a dense output",
    "file.py:build": "your own: a function that returns a Keras model, a PyTorch module or a Flax nnx module",
}
"""What `--model` takes, with a sentence for each kind."""


def model_spec(text: str) -> ModelSpec:
    """Read a model's text.

    Raises:
        UnknownNameError, InvalidValueError: If it names nothing that could be trained.

    Example:
        >>> model_spec("mlp:128x64").sizes
        (128, 64)
    """
    kind, _, rest = text.partition(":")
    if kind in ("mlp", "cnn"):
        if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", rest):
            raise InvalidValueError("The model cannot be read", given=text, allowed=MODELS[kind])
        return ModelSpec(text, kind, tuple(int(size) for size in rest.split("x")))
    if ":" not in text:
        raise unknown_name("model", text, MODELS)
    if not kind.endswith(".py") and "." not in kind and not re.search(r"[/\\]", kind):
        raise unknown_name("kind of model", kind, ["mlp", "cnn", "file.py:build", "package.module:build"])
    build, fingerprint = load_function(text, "model")
    # Before the function runs: JAX decides with its first program where compiled ones are kept.
    likeliest = next((name for name in ("keras", "flax", "torch") if name in sys.modules), "keras")
    with suppress(MissingExtraError):
        ENGINES[likeliest].start()
    return ModelSpec(text, "user", (), fingerprint, build)
