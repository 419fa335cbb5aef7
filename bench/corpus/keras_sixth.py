"""A sixth gathering of Keras networks, of ordinary questions, by someone who did not know the doctor."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras

from corpus import data, makers, second_data
from corpus import keras_sixth_networks as networks
from corpus.keras_healthy import MEAN_SQUARED, SCORES, SPARSE, mlp

__all__ = ["CASES"]

ADAM = "adam(learning_rate=0.01)"


faulty, healthy = makers("keras", ADAM)


def mending(build: Callable[[bool], Any], right: bool = True) -> Mapping[str, Any]:
    """The same builder with its switch set."""
    return {"build": partial(build, right)}


def resolving(start: Any) -> Callable[[], Any]:
    """Three convolutions from a distribution of a spread, or by a name."""
    if isinstance(start, str):
        return lambda: networks.SuperResolution(start)
    return lambda: networks.SuperResolution(keras.initializers.RandomNormal(stddev=start))


FAULTY = (
    faulty("standardised by nothing", "unscaled-inputs", partial(networks.standardiser, False),
           partial(data.houses, True), MEAN_SQUARED, mending(networks.standardiser), "keras-team/keras/issues/16296",
           "a Normalization layer that was never adapted hands on incomes of 60000"),
    faulty("Gaussians too narrow for pictures", "vanishing-signal collapsed-inputs dead-units",
           partial(networks.gaussian_units, 1.0), partial(data.digits, (8, 8, 1)), SPARSE,
           {"build": partial(networks.gaussian_units, 0.01)}, "https://taourl.com/read-2206755.html",
           "exp of minus the sum of 64 squares is 0"),
    faulty("counts from a linear layer", "output-activation logits-into-probabilities non-finite-signal",
           partial(mlp, 5, (32, 32), 1), second_data.counts, "poisson",
           {"build": partial(mlp, 5, (32, 32), 1, last="exponential")}, "keras-team/keras/issues/590",
           "the Poisson loss takes the logarithm of outputs below zero"),
    faulty("overlap of raw scores", "logits-into-probabilities output-activation", partial(networks.mask_net, None),
           networks.bright, networks.dice_loss, {"build": partial(networks.mask_net, "sigmoid")},
           "wolny/pytorch-3dunet/issues/17", "a Dice loss without a sigmoid"),
    faulty("weights of all the others", "mixed-examples", partial(networks.attentive, False), second_data.needle,
           SPARSE, mending(networks.attentive), "keras-team/keras/issues/3239",
           "a matrix product of (n, 10) and (n, 10, 8) pairs each row with every other; a mean then hides it",
           "adam(learning_rate=0.03)"),
    faulty("numbers of codes into the decoder", "gradient-blocked", partial(networks.Codes, False), data.copies,
           MEAN_SQUARED, mending(networks.Codes), "Biohub/esm/issues/92",
           "nothing goes back through the choice of a code: encoder and codebook stay as they are"),
    faulty("softplus as it is written", "non-finite-signal unscaled-inputs", networks.softened,
           partial(data.digits, (8, 8), "pixels"), SPARSE, {"data": partial(data.digits, (8, 8), "unit")},
           "https://whosebug.com/question/6310037/Keras-shows-NaN-loss-when-using-custom-softplus-activation-function",
           "exp of sums of pixels to 255 is infinite"),
    faulty("sums over twenty neighbours", "exploding-signal exploding-gradient", partial(networks.GraphNet, False),
           networks.crowd, SCORES, mending(networks.GraphNet), "keras-team/keras-io/pull/2304",
           "links of 1 that nothing divides by how many there are", "sgd(learning_rate=0.05, momentum=0.9)"),
    faulty("no word was found", "zero-weights collapsed-inputs frozen-parameters", partial(networks.Reader, "Word"),
           data.sentences, SPARSE, {"build": partial(networks.Reader, "word")}, "keras-team/keras/issues/1360",
           "a fixed matrix of word vectors that stayed zero: the names differ in a capital"),
    faulty("the same for every board", "learning-rate-too-large dead-units", networks.board_player, networks.board,
           MEAN_SQUARED, {"optimizer": ADAM}, "https://datascience.stackexchange.com/questions/62167",
           "Adam at 1", "adam(learning_rate=1.0)"),
    faulty("places by a grid of differences", "broadcast-loss", partial(mlp, 6, (48, 48), 2), networks.landing,
           networks.landing_error(True), {"loss": networks.landing_error(False)}, "tensorflow/tensorflow/issues/28901",
           "(n, 1) targets less (n,) outputs in a loss of one's own"),
    faulty("a norm behind the output", "misplaced-norm unscaled-targets", partial(networks.curve_fitter, True),
           networks.curves, MEAN_SQUARED, mending(networks.curve_fitter, False),
           "https://discuss.tensorflow.org/t/applying-batch-normalization-on-the-output-layer-in-a-regression-problem/"
           "14056", "outputs of spread 1 around 0 where 25 to 60 is asked for"),
    faulty("black pictures", "weights-too-small vanishing-signal", resolving(0.001), networks.blurred, MEAN_SQUARED,
           {"build": resolving("he_normal")}, "hengchuan/RDN-TensorFlow/issues/3", "three convolutions of spread .001",
           "sgd(learning_rate=0.01, momentum=0.9)"),
    faulty("an autoencoder that does nothing", "learning-rate-too-small plateau", networks.linear_codec, data.copies,
           MEAN_SQUARED, {"optimizer": ADAM}, "keras-team/keras/issues/1604",
           "plain descent at .001 of a mean over 64 pixels", "sgd(learning_rate=0.001, momentum=0.1)"),
)  # fmt: skip
HEALTHY = (
    healthy("corrections of rank four", networks.Adapted, networks.gathered, SCORES,
            "one factor is zero, what it corrects is frozen"),
    healthy("sines of thirty times", networks.sine_net, data.waves, MEAN_SQUARED, "weights of a hundredth",
            "adam(learning_rate=0.003)"),
    healthy("gates almost shut", networks.highway, data.digits, SCORES, "biases of -3"),
    healthy("three heads that count differently", networks.heads, second_data.actions, networks.weighted_heads),
    healthy("the median of a price", partial(mlp, 6, (48,), 1, "silu"), second_data.outliers, networks.median_loss,
            "a loss of one's own, whose slope is always a half"),
    healthy("means over neighbours", partial(networks.GraphNet, True), networks.crowd, SCORES,
            "all sixty nodes at once, links as a constant"),
    healthy("one block five times", networks.repeated_block, data.digits, SCORES, "weights used again and again",
            "adam(learning_rate=0.003)"),
    healthy("bytes as they were stored", networks.from_bytes, networks.stored_bytes, SPARSE, "whole numbers to 255"),
    healthy("district and numbers", networks.district_and_house, networks.kinds_and_numbers, MEAN_SQUARED,
            "two inputs, one of kinds"),
    healthy("kernels of length one", networks.unit_kernels, data.digits, SCORES, "a constraint after each step"),
    healthy("prices from their mean", networks.price_from_mean, networks.log_prices, MEAN_SQUARED,
            "a head of zeros and a bias of 12.5"),
    healthy("many questions, one answer", networks.multi_query_net, second_data.needle, SCORES,
            "projections that start at zero"),
)  # fmt: skip
CASES = (*FAULTY, *HEALTHY)
