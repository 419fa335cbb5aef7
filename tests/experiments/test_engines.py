"""Which engine trains what a function returns, and PyTorch models through the whole of a comparison."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest

from fanin.errors import FaninError, InvalidValueError, ModelError
from fanin.experiments.engines import ENGINES
from fanin.experiments.executor import Executor, Quiet
from fanin.experiments.spec import experiment
from fanin.experiments.store import Store
from fanin.experiments.tasks import make_task

MODELS = """
import torch
from torch import nn

class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(9, 2), nn.Linear(8, 3)
    def forward(self, x):
        return self.head(self.table(x.long().abs()).flatten(1))

def good(): return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
def asks(input_shape, outputs, activation="relu"):
    between = {"relu": nn.ReLU, "tanh": nn.Tanh}[activation]
    return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(input_shape).numel(), 6), between(), nn.Linear(6, outputs))
def first(input_shape):
    channels, height, width = input_shape
    return nn.Sequential(nn.Conv2d(channels, 2, 3), nn.Flatten(), nn.Linear(2 * (height - 2) * (width - 2), 2))
def keras_last(input_shape, outputs):
    import keras
    assert input_shape == (6, 5, 2)
    return keras.Sequential([keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(outputs)])
def keras_default(outputs=3, input_shape=(4,)):
    import keras
    return keras.Sequential([keras.Input(input_shape), keras.layers.Dense(3)])
def flax(outputs, rngs):
    from flax import nnx
    return nnx.Sequential(nnx.Linear(4, 5, rngs=rngs), nnx.Dropout(0.2, rngs=rngs), nnx.Linear(5, outputs, rngs=rngs))
def flax_asks(input_shape, activation):
    from flax import nnx
    linear = nnx.Linear(*input_shape, 3, rngs=nnx.Rngs(0))
    return nnx.Sequential(linear, getattr(nnx, activation))
def wide_flax():
    from flax import nnx
    return nnx.Linear(4, 7, rngs=nnx.Rngs(0))
def linen():
    import flax.linen, jax
    return flax.linen.Dense(3).bind({"params": {"kernel": jax.numpy.ones((4, 3)), "bias": jax.numpy.ones(3)}})
def asks_rngs_wrongly(rngs): return nn.Linear(4, 3)
def nothing(): return None
def raises(): raise ValueError("my own mistake")
def wide(): return nn.Linear(4, 7)
def fails(): return nn.Linear(9, 3)
def lazy(): return nn.LazyLinear(3)
def frozen(): return nn.Linear(4, 3).requires_grad_(False)
"""


@pytest.fixture
def models(tmp_path):
    path = tmp_path / "mymodels.py"
    path.write_text(MODELS)
    return path


@pytest.fixture
def mine(models, toy):
    return lambda name, **more: experiment(**{**toy.settings, "model": f"{models}:{name}", **more})


class Count(Quiet):
    def __init__(self):
        self.runs = 0

    def finished(self, runs):
        self.runs += runs


def execute(decided, store=None):
    """All results of an experiment, and how many runs were trained for them."""
    count = Count()
    executor = Executor(decided, store, count)
    executor.prepare()
    return executor.execute(), count.runs


def plain(results):
    """Every bit of the results but how long they took."""
    return {run: dataclasses.replace(result, seconds=0.0).to_json() for run, result in results.items()}


def test_built_in_networks_and_keras_models_keep_their_engine(mine, toy):
    assert experiment(**toy.settings).engine == ENGINES["keras"] == mine("keras_default").engine
    # Part of the identity of every run in every store.
    assert ENGINES["keras"].version == "keras-jax-2"
    assert {run.engine for run in mine("good").compared_runs()} == {ENGINES["torch"].version} == {"torch-1"}


@pytest.mark.parametrize(("name", "engine"), [("first", "torch"), ("keras_last", "keras")])
def test_a_function_is_told_the_shape_in_its_frameworks_layout(models, name, engine):
    task = make_task("pictures", {"x": np.zeros((40, 6, 5, 2), np.float32), "y": np.arange(40) % 2})
    decided = experiment(task=task, model=f"{models}:{name}", init=["he_normal"], seeds=1, lr=[0.1], batch_size=8)
    assert decided.engine == ENGINES[engine]
    Executor(decided, None).prepare()


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("nothing", r"did not return a model.*NoneType.*keras.Model, a torch.nn.Module or a flax.nnx.Module"),
        ("linen", r"did not return a model of Flax nnx.*Dense[\s\S]*ToNNX makes one"),
        ("asks_rngs_wrongly", r"did not return a model of Flax nnx.*Linear"),
        ("wide_flax", r"output of shape \(batch, 7\)"),
        ("raises", "could not be built: ValueError: my own mistake"),
        ("wide", r"output of shape \(batch, 7\)"),
        ("fails", "fails on a batch of the data"),
        ("lazy", "do not exist yet"),
        ("frozen", "no weight that an initializer could be applied to"),
    ],
)
def test_a_model_that_cannot_be_trained_is_one_error_before_training(mine, name, match):
    with pytest.raises(ModelError, match=match):
        Executor(mine(name), None).prepare()


@pytest.mark.parametrize(
    ("name", "optimizer", "match"),
    [
        ("good", "radamm", r"optimizer of PyTorch[\s\S]*Did you mean radam"),
        ("good", "lion", "optimizer of PyTorch"),
        ("flax", "radamm", r"optimizer of optax[\s\S]*Did you mean radam"),
        ("keras_default", "radam", "no such optimizer"),
    ],
)
def test_the_optimizers_are_those_of_the_framework(mine, name, optimizer, match):
    with pytest.raises(FaninError, match=match):
        Executor(mine(name, optimizer=optimizer), None).prepare()


def test_an_activation_goes_to_a_function_that_takes_one(mine, unmeasured):
    results, _ = execute(mine("asks", activation=["relu", "tanh"]))
    assert {run.activation for run in results} == {"relu", "tanh"}
    with pytest.raises(InvalidValueError, match="brings its own activations"):
        mine("good", activation="relu")


def test_pytorch_runs_are_kept_and_continued(mine, tmp_path, unmeasured):
    decided = mine("good", seeds=3, optimizer="adam(betas=(0.8, 0.9))")
    whole, trained = execute(decided)
    assert trained == 6
    assert {result.status for result in whole.values()} == {"finished"}

    class Stop(Count):
        def finished(self, runs):
            super().finished(runs)
            if self.runs == 2:
                raise KeyboardInterrupt

    with Store(tmp_path / "store") as store:
        with pytest.raises(KeyboardInterrupt):
            Executor(decided, store, Stop()).execute()
        assert len(store) == 2
        results, trained = execute(decided, store)
        assert trained == 4
        assert plain(results) == plain(whole)
        assert execute(decided, store) == (results, 0)
        assert set(store.environments(results)[0]) == {"torch", "device", "devices"}


def test_flax_runs_are_kept_and_read(mine, tmp_path, unmeasured):
    decided = mine("flax", optimizer="rmsprop(decay=0.8)")
    with Store(tmp_path / "store") as store:
        results, trained = execute(decided, store)
        assert trained == 4
        assert {result.status for result in results.values()} == {"finished"}
        assert {run.engine for run in results} == {ENGINES["flax"].version} == {"flax-1"}
        assert len({result.train_loss for result in results.values()}) == 4
        assert {result.signals.layers for result in results.values()} == {("layers/0", "layers/2")}
        assert set(store.environments(results)[0]) == {"flax", "optax", "jax", "device", "devices"}
        assert execute(decided, store) == (results, 0)


def test_a_flax_function_takes_what_others_take(mine):
    executor = Executor(mine("flax_asks", activation=["relu", "tanh"]), None)
    executor.prepare()
    for name in ("relu", "tanh"):
        info = executor.trainer(name).net.computed()
        assert (info.params[0].shape, info.ops[-1].kind, info.ops[-1].name) == ((4, 3), "activation", name)


def test_how_long_it_takes_is_estimated_by_a_measurement(mine, monkeypatch):
    monkeypatch.setattr("fanin.torch.measure._SECONDS", 0.01)
    monkeypatch.setattr("fanin.torch.measure._LARGEST_CHUNK", 2)
    executor = Executor(mine("good"), None)
    executor.prepare()
    estimate = executor.estimate()
    assert (estimate.runs, estimate.missing) == (4, 4)
    assert estimate.seconds > 0


def test_what_no_initializer_touches_is_told(mine):
    executor = Executor(mine("Table"), None)
    executor.prepare()
    assert list(executor.left_alone()) == ["table.weight"]


def test_pytorch_models_need_neither_keras_nor_jax(toy, models, tmp_path):
    code = f"""
import sys
sys.modules.update(keras=None, jax=None)
from fanin.cli import main
sys.argv = ["fanin", "compare", *{toy.flags!r}, "--model", "{models}:good"]
main()
"""
    environment = {**os.environ, "FANIN_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert "he_normal" in done.stdout
    assert {"report.html", "fanin.sqlite"} <= {each.name for each in tmp_path.iterdir()}
