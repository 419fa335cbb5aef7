"""A fifth gathering of Keras networks, the faulty and the healthy, by someone who had the list of checks alone."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

from corpus import data, makers, second_data
from corpus import keras_fifth_networks as networks
from corpus.keras_healthy import BINARY, MEAN_SQUARED, SCORES, SPARSE, mlp

__all__ = ["CASES"]

ADAM = "adam(learning_rate=0.01)"


faulty, healthy = makers("keras", ADAM)


def mending(build: Callable[[bool], Any]) -> Mapping[str, Any]:
    """The same builder with its switch set."""
    return {"build": partial(build, True)}


FAULTY = (
    faulty("attention that is all ones", "softmax-axis one-unit-softmax", partial(networks.attention_pool, False),
           second_data.needle, SPARSE, mending(networks.attention_pool),
           "https://55276.net/qa/?qa=1006962%2F&show=1006963", "the softmax runs over the one score of a step"),
    faulty("a price for each of twenty days", "broadcast-loss", partial(networks.stock_rnn, False), second_data.series,
           MEAN_SQUARED, mending(networks.stock_rnn), "https://www.52zhanxing.com/ask/7667858.html",
           "return_sequences left on: every step is compared with the one target"),
    faulty("F1 of rounded answers", "gradient-blocked", partial(networks.Tagger, 10), data.one_hot,
           networks.macro_f1_loss, {"loss": BINARY}, "https://neptune.ai/blog/implementing-the-macro-f1-score-in-keras",
           "the metric as a loss: rounding has no slope"),
    faulty("a norm of one reading", "misplaced-norm collapsed-inputs constant-inputs vanishing-signal",
           partial(networks.gru_forecaster, False), second_data.series, MEAN_SQUARED, mending(networks.gru_forecaster),
           "pytorch/pytorch/issues/108956", "a layer norm over one number gives 0"),
    faulty("maxout of two equal halves", "repeated-weights identical-units linear-stack",
           partial(networks.maxout, False), second_data.two_moons, BINARY, mending(networks.maxout),
           "keras-team/keras-hub/issues/352", "one seeded initializer for both: they are equal and stay so"),
    faulty("pixels that sum to one", "output-activation wrong-loss", partial(networks.autoencoder, "softmax"),
           data.copies, BINARY, {"build": partial(networks.autoencoder, "sigmoid")},
           "https://stackoverflow.com/questions/52441877",
           "a softmax over 64 pixels, many of which are bright"),
    faulty("fourth powers", "unscaled-targets unscaled-inputs saturated-units", networks.power_net,
           partial(networks.powers, True), MEAN_SQUARED, {"data": partial(networks.powers, False)},
           "http://stackoverflow.com.mevn.net/questions/52800582", "inputs to 100, targets to 10^8"),
    faulty("dollars by cross-entropy", "targets-out-of-range wrong-loss output-activation unscaled-targets",
           partial(mlp, 6, (32,), 1, last="sigmoid"), partial(data.houses, False, True), BINARY,
           {"build": partial(mlp, 6, (32,), 1), "data": data.houses, "loss": MEAN_SQUARED},
           "https://openillumi.com/en/en-keras-tf-fix-huge-negative-loss-regression", "loss of -10^5 and falling"),
    faulty("hidden layers of a helper", "unregistered-parameters", partial(networks.MoleculeNet, False), data.digits,
           SCORES, mending(networks.MoleculeNet), "keiserlab/keras-neural-graph-fingerprint/issues/2",
           "a plain object holds the inner layers"),
    faulty("a recurrent ReLU", "exploding-signal weights-too-large exploding-gradient",
           partial(networks.relu_rnn, False), partial(second_data.series, 30), MEAN_SQUARED, mending(networks.relu_rnn),
           "chenxie95/deeplearning_course_sjtu/issues/31", "times 2 at each of thirty steps",
           "adam(learning_rate=0.001)"),
    faulty("frozen for the other model", "frozen-parameters", partial(networks.discriminator_features, False),
           partial(data.digits, (8, 8, 1)), SPARSE, mending(networks.discriminator_features),
           "keras-team/keras/issues/4910", "untrained convolutions, not thawed again"),
    faulty("sum over the batch", "sum-reduction learning-rate-too-large divergence exploding-gradient",
           networks.residual_regressor, data.houses, networks.summed_squares, {"loss": MEAN_SQUARED},
           "https://newbedev.com/loss-calculation-over-different-batch-sizes-in-keras",
           "192 times the step that was meant", "sgd(learning_rate=0.02)"),
    faulty("five sigmoids", "vanishing-gradient vanishing-signal collapsed-inputs plateau learning-rate-too-small",
           partial(mlp, 20, (80,) * 5, 1, "sigmoid"), networks.bit_rows, MEAN_SQUARED,
           {"build": partial(mlp, 20, (80,) * 5, 1, "relu")}, "https://ai.stackexchange.com/questions/16557", "",
           "sgd(learning_rate=0.02)"),
    faulty("only Adam does it", "learning-rate-too-small plateau", networks.topic_tagger, data.sentences, SPARSE,
           {"optimizer": ADAM}, "https://datascience.stackexchange.com/questions/60487",
           "plain descent on embeddings of .05", "sgd(learning_rate=0.01)"),
    faulty("an actor at its limits", "saturated-units unscaled-inputs", networks.actor, partial(networks.poses, True),
           MEAN_SQUARED, {"data": partial(networks.poses, False)}, "https://ai.stackexchange.com/questions/34612",
           "poses in millimetres: tanh is -1 or 1 from the start", "adam(learning_rate=0.001)"),
)  # fmt: skip
HEALTHY = (
    healthy("branches that end in zeros", networks.fixup, data.digits, SCORES, "six residual branches of zero",
            "sgd(learning_rate=0.05, momentum=0.9)"),
    healthy("tied at the right scale", networks.TiedDecoder, data.story, SCORES,
            "embeddings of 1/sqrt(width), multiplied on the way in", "adam(learning_rate=0.002)"),
    healthy("norm after each sum, padding masked", networks.post_norm_encoder, partial(data.sentences, padding=True),
            SCORES, "", "adam(learning_rate=0.003)"),
    healthy("LSTM both ways", networks.two_way_lstm, second_data.series, MEAN_SQUARED,
            "Keras defaults, recurrent dropout"),
    healthy("a base that stands still on purpose", partial(networks.transferred, True), networks.odd_pictures, BINARY,
            "trained before, batch norm in inference mode"),
    healthy("a base that is tuned", partial(networks.transferred, False), networks.odd_pictures, BINARY,
            "trained weights", "adam(learning_rate=0.001)"),
    healthy("one four in ten", networks.rare_fours, data.imbalanced, BINARY, "head of zeros, bias at the log-odds"),
    healthy("strides there and back", networks.conv_autoencoder, partial(data.copies, (8, 8, 1)), BINARY,
            "grey pixels as probabilities"),
    healthy("raw features, standardised inside", networks.raw_houses, partial(data.houses, True), MEAN_SQUARED,
            "incomes of 60000 go in"),
    healthy("small embeddings, biases of zero", networks.Factorised, second_data.ratings, MEAN_SQUARED,
            "Keras's spread of .03", "adam(learning_rate=0.03)"),
    healthy("eight pictures", networks.small_unet, networks.few_squares, SCORES, "group norm, a tiny batch"),
    healthy("attention over the steps of a GRU", networks.gru_attention, second_data.needle, SPARSE,
            "softmax over time"),
)  # fmt: skip
CASES = (*FAULTY, *HEALTHY)
