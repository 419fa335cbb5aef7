import os
import subprocess
import sys

import pytest

from fanin.errors import InvalidValueError, UnknownNameError
from fanin.experiments.models import MODELS, model_spec


@pytest.mark.parametrize(
    ("text", "kind", "sizes"),
    [("mlp:4", "mlp", (4,)), ("mlp:128x64x32", "mlp", (128, 64, 32)), ("cnn:16x32", "cnn", (16, 32))],
)
def test_built_in_networks(text, kind, sizes):
    spec = model_spec(text)
    assert (spec.text, spec.kind, spec.sizes, spec.fingerprint, spec.build) == (text, kind, sizes, "", None)


@pytest.mark.parametrize(
    "text", ["mlp:", "mlp", "mlp:0", "mlp:4x0", "mlp:4x", "mlp:-4", "mlp:4.5", "cnn:a", "mlp:4 x 4"]
)
def test_sizes_that_cannot_be_read(text):
    with pytest.raises(InvalidValueError, match="The model cannot be read") as error:
        model_spec(text)
    assert error.value.given == text
    assert error.value.allowed.startswith(MODELS[text[:3]][:4])


def test_own_function(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def build():\n    return 'a model'\n")
    spec = model_spec(f"{path}:build")
    assert (spec.kind, spec.build()) == ("user", "a model")
    assert len(spec.fingerprint) == 32
    assert spec == model_spec(f"{path}:build")
    path.write_text(path.read_text() + "# changed, and longer\n")
    assert spec != model_spec(f"{path}:build")


def test_own_function_in_a_package():
    assert model_spec("json.decoder:JSONDecoder").kind == "user"


@pytest.mark.parametrize(("text", "near"), [("mpl:4", "mlp"), ("cn:4", "cnn")])
def test_near_kind_is_offered(text, near):
    with pytest.raises(UnknownNameError, match=f"Did you mean {near}"):
        model_spec(text)


@pytest.mark.parametrize("text", ["resnet", "", "mlp4"])
def test_unknown_model(text):
    with pytest.raises(UnknownNameError, match="no such model") as error:
        model_spec(text)
    assert "file.py:build" in error.value.allowed


def test_missing_file(tmp_path):
    with pytest.raises(UnknownNameError, match="does not exist"):
        model_spec(f"{tmp_path}/none.py:build")


def test_a_users_file_gets_keras_on_jax(tmp_path):
    # In a process that has not decided on a backend, as a user's is.
    file = tmp_path / "mine.py"
    file.write_text("import keras\n\ndef build():\n    return keras.backend.backend()\n")
    code = (
        "from fanin.experiments.models import model_spec; import jax\n"
        f"print(model_spec({str(file) + ':build'!r}).build(), len(jax.devices()))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["jax", str(len(os.sched_getaffinity(0)))]
