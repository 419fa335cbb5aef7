import numpy as np
import pytest

from fanin.keras.backend import start

start(None)

import keras  # noqa: E402

from fanin.keras.variants import build  # noqa: E402


def kinds(model):
    return [type(layer).__name__ for layer in model.layers]


def test_the_plain_variant_is_the_built_in_network():
    from fanin.experiments.models import model_spec
    from fanin.keras.models import build as built_in

    ours = build((4, 3), 5, "tanh", widths=(7, 6))
    theirs = built_in(model_spec("mlp:7x6"), (4, 3), 5, "tanh")
    assert [v.path.split("/", 1)[-1] for v in ours.trainable_variables] == [
        v.path.split("/", 1)[-1] for v in theirs.trainable_variables
    ]
    for mine, other in zip(ours.trainable_variables, theirs.trainable_variables, strict=True):
        mine.assign(other.value)
    x = np.random.default_rng(0).normal(size=(3, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(ours(x)), np.asarray(theirs(x)))


def test_without_hidden_layers_it_is_linear():
    model = build((4, 3), 5, "relu", widths=())
    assert kinds(model) == ["Flatten", "Dense"]
    assert [tuple(v.shape) for v in model.trainable_variables] == [(12, 5), (5,)]


def test_batch_normalisation_stands_in_front_of_the_activation():
    model = build((6,), 5, "relu", widths=(4,), batch_norm=True)
    assert kinds(model) == ["Flatten", "Dense", "BatchNormalization", "Activation", "Dense"]
    assert model.get_layer("hidden_1").activation is keras.activations.linear
    assert model.get_layer("activation_1").activation is keras.activations.relu


def test_the_output_has_its_own_activation():
    model = build((6,), 5, "tanh", widths=(4,), output="relu")
    assert np.asarray(model(np.random.default_rng(1).normal(size=(50, 6)))).min() == 0


@pytest.mark.parametrize("bias", [0.0, 0.3])
def test_all_biases_start_at_one_value(bias):
    model = build((6,), 5, "tanh", widths=(4, 3), bias=bias)
    biases = [np.asarray(v.value) for v in model.trainable_variables if v.name == "bias"]
    assert [b.shape for b in biases] == [(4,), (3,), (5,)]
    assert all((b == np.float32(bias)).all() for b in biases)


@pytest.mark.parametrize(("l1", "l2"), [(0.01, 0.0), (0.0, 0.02), (0.01, 0.02)])
def test_penalties_are_on_all_weights_and_no_bias(l1, l2):
    model = build((6,), 5, "tanh", widths=(4,), bias=1.0, l1=l1, l2=l2)
    weights = [np.asarray(v.value) for v in model.trainable_variables if v.name == "kernel"]
    expected = sum(l1 * np.abs(w).sum() + l2 * (w**2).sum() for w in weights)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)


def test_dropout_follows_each_hidden_layer_in_training_alone():
    model = build((6,), 5, "relu", widths=(4, 3), dropout=0.5)
    assert kinds(model) == ["Flatten", "Dense", "Dropout", "Dense", "Dropout", "Dense"]
    x = np.ones((2, 6), np.float32)
    np.testing.assert_array_equal(np.asarray(model(x)), np.asarray(model(x)))
    assert model.get_layer("dropout_2").rate == 0.5
