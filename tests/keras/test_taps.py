"""Which layers the trainer measures."""

import keras
from keras import layers

from fanin.keras.taps import tapped_layers


def test_tapped_layers_are_those_with_a_pre_activation() -> None:
    model = keras.Sequential([keras.Input((9, 6)), layers.Conv1D(5, 3), layers.LSTM(4), layers.Dense(2)])
    assert [type(layer).__name__ for layer in tapped_layers(model)] == ["Conv1D", "Dense"]
