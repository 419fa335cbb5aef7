"""PyTorch networks that do not train, or far worse than they could, as people ask about them."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from corpus import Case, data
from corpus.torch_broken import (
    After,
    Cut,
    Listed,
    Looks,
    Scores,
    Tower,
    copy_units,
    dropped,
    forgotten,
    frozen,
    he,
    normalised,
    swapped,
    unrolled,
    weights,
)
from corpus.torch_healthy import cross_entropy, images, mean_squared, rows, with_logits
from corpus.torch_networks import (
    Language,
    Make,
    Recurrent,
    changed,
    convolutional,
    equal_rows,
    mlp,
)

__all__ = ["CASES"]

FORUM = "https://discuss.pytorch.org/t/cross-entropy-loss-is-not-decreasing/43814/16"
GITHUB = "https://github.com/"
DEEP = (64, 64, 64, 64, 64, 10)


def broken_inputs() -> tuple[Any, Any]:
    """One value is missing."""
    x, y = data.digits()
    x = x.copy()
    x[7, 20] = np.nan
    return x, y


def whole_division() -> tuple[Any, Any]:
    """Pixels divided by 255 as whole numbers: all zero."""
    x, y = data.digits(scale="pixels")
    return (x // 256).astype(np.float32), y


def on_numbers(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.mse_loss(outputs[:, 0], targets.float())


def summed(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets, reduction="sum")


def from_classes(outputs: Tensor, targets: Tensor) -> Tensor:
    """The distance between the class that is largest and the right one: it has no gradient."""
    return functional.mse_loss(outputs.argmax(1).float(), targets.float())


def faulty(name: str, causes: str, build: Make, batch: Callable[[], Any], loss: Callable[..., Tensor],
           mended: Mapping[str, Any], source: str = "commonplace", note: str = "",
           optimizer: str = "adam(lr=0.003)") -> Case:  # fmt: skip
    """A case; sources of GitHub without the site."""
    seen = source if source.startswith(("http", "commonplace")) else GITHUB + source
    return Case(name, "torch", build, batch, loss, optimizer, tuple(causes.split()), seen, note, mended)


SGD = "sgd(lr=0.05)"
SMALL = partial(mlp, (64, 64, 10))
SOUND = {"build": SMALL}
TANH = partial(mlp, (64, *[32] * 8, 10), nn.Tanh)
PARAMETERS = (
    faulty("all zero", "zero-weights", changed(partial(mlp, DEEP), lambda _, p: p.zero_()), data.digits, cross_entropy,
           {"build": partial(mlp, DEEP)}, "c-schicho/ZeroInitializationSymmetry", "weights and biases 0"),
    faulty("one constant", "identical-units", changed(SMALL, weights(lambda p: p.fill_(0.05))), data.digits,
           cross_entropy, SOUND, "HomericIntelligence/Mnemosyne/pull/1987", "all weights .05"),
    faulty("copied units", "identical-units", changed(partial(mlp, (64, 64, 64, 10)), copy_units), data.digits,
           cross_entropy, SOUND, "https://pages.dogdog.run/machine_learning/weight_initialization.html",
           "each hidden layer is one unit many times"),
    faulty("constant convolutions", "identical-units",
           changed(partial(convolutional, False), weights(lambda p: p.fill_(0.02))), images, cross_entropy,
           {"build": partial(convolutional, False)}, note="all filters alike", optimizer="sgd(lr=0.05, momentum=0.9)"),
    faulty("lstm of zeros", "zero-weights", changed(partial(Recurrent, nn.LSTM, layers=2), lambda _, p: p.zero_(),
           "layers"), rows, cross_entropy, {"build": partial(Recurrent, nn.LSTM, layers=2)},
           "tianzhi0549/CTPN/issues/62", "both recurrent layers are 0", "adam(lr=0.01)"),
    faulty("equal words", "identical-units",
           changed(partial(Recurrent, nn.LSTM, words=50, outputs=3), equal_rows, "embed"), data.sentences,
           cross_entropy,
           {"build": partial(Recurrent, nn.LSTM, words=50, outputs=3)}, note="one vector for all words",
           optimizer="sgd(lr=0.5)"),
    faulty("memory as it was", "uninitialised-weights", partial(Scores, False), data.digits, cross_entropy,
           {"build": partial(Scores, True)}, "gordicaleksa/pytorch-GAT/issues/11", "torch.Tensor(n, m) as a parameter"),
    faulty("a weight is no number", "non-finite-weights",
           changed(SMALL, lambda _, p: p.view(-1)[3].fill_(float("nan")), "0.weight"), data.digits, cross_entropy,
           SOUND,
           "pytorch/pytorch/issues/1347", "one weight of the first layer is NaN"),
    faulty("deep, N(0, .01)", "weights-too-small vanishing-signal",
           changed(partial(mlp, (64, *[64] * 8, 10)), weights(lambda p: nn.init.normal_(p, std=0.01))), data.digits,
           cross_entropy, {"build": he(partial(mlp, (64, *[64] * 8, 10)))}, note="eight ReLU layers from N(0, .0001)",
           optimizer=SGD),
    faulty("deep, N(0, 1)", "weights-too-large",
           changed(partial(mlp, DEEP), weights(nn.init.normal_)), data.digits, cross_entropy,
           {"build": he(partial(mlp, DEEP))}, "keras-team/keras/issues/6259", "four ReLU layers from N(0, 1)", SGD),
    faulty("tanh, N(0, 1)", "weights-too-large saturated-units",
           changed(TANH, weights(nn.init.normal_)), partial(data.digits, count=256), cross_entropy,
           {"build": changed(TANH, weights(nn.init.xavier_normal_))}, note="eight tanh layers from N(0, 1)",
           optimizer="sgd(lr=0.1)"),
    faulty("sigmoid, large weights", "weights-too-large saturated-units",
           changed(partial(mlp, (64, 64, 64, 10), nn.Sigmoid), weights(lambda p: nn.init.normal_(p, std=5.0))),
           data.digits, cross_entropy, {"build": partial(mlp, (64, 64, 10), nn.Sigmoid), "optimizer": "adam(lr=0.01)"},
           note="sigmoid layers from N(0, 25)", optimizer="sgd(lr=0.05)"),
    faulty("tied words, N(0, 1)", "tied-scale weights-too-large", partial(Language, 1.0), data.story, cross_entropy,
           {"build": Language}, "pytorch/pytorch/issues/3121",
           "the words' table is the readout too: scores of spread 8",
           "adam(lr=0.0002)"),
    faulty("large recurrent weights", "weights-too-large saturated-units exploding-gradient", partial(unrolled, 3.0),
           rows, cross_entropy, {"build": partial(unrolled, 0.14)}, note="a recurrent matrix from N(0, 9)",
           optimizer="adam(lr=0.001)"),
    faulty("relu recurrence explodes", "weights-too-large exploding-signal", partial(unrolled, 1.0, "relu"), rows,
           cross_entropy, {"build": partial(unrolled, 0.14, "relu")}, note="grows fivefold with each of eight rows",
           optimizer=SGD),
    faulty("attention without scale", "saturated-units weights-too-large", partial(Looks, 1.0, 2.0),
           data.sentences, cross_entropy, {"build": partial(Looks, None, 0.125)},
           "PAIR-code/tiny-transformers/issues/71", "scores of spread 2000 make the softmax pick one place",
           "sgd(lr=0.1)"),
    faulty("residual tower without norm", "exploding-signal weights-too-large", partial(Tower, 1.0), data.digits,
           cross_entropy, {"build": partial(Tower, 0.2)}, note="24 full-size branches double the signal each",
           optimizer=SGD),
    faulty("post-norm, large gain", "weights-too-large vanishing-gradient misplaced-norm", partial(After, 3.0), rows,
           cross_entropy, {"build": partial(After, 1.0)}, "pytorch/pytorch/issues/55270",
           "12 branches many times the shortcut", SGD),
)  # fmt: skip
OUTPUTS = (
    faulty("relu before cross entropy", "output-activation", partial(mlp, (64, 64, 64, 64, 10), last=nn.ReLU()),
           partial(data.digits, scale="unit"), cross_entropy, {"build": partial(mlp, (64, 64, 64, 64, 10))},
           "pytorch/tutorials/pull/1644", "classes whose score starts below 0 never learn"),
    faulty("softmax before cross entropy", "double-softmax", partial(mlp, (64, 64, 64, 10), last=nn.Softmax(1)),
           data.digits, cross_entropy, SOUND, FORUM, optimizer=SGD),
    faulty("sigmoid before cross entropy", "output-activation double-softmax",
           partial(mlp, (64, 64, 64, 10), last=nn.Sigmoid()), data.digits, cross_entropy, SOUND, FORUM,
           "scores between 0 and 1", SGD),
    faulty("sigmoid before its own", "double-softmax", partial(mlp, (64, 48, 48, 1), last=nn.Sigmoid()), data.parity,
           with_logits, {"build": partial(mlp, (64, 48, 48, 1))}, "yudi-mars/daisyRec/pull/15", optimizer=SGD),
    faulty("softmax of one", "one-unit-softmax", partial(mlp, (64, 48, 1), last=nn.Softmax(1)), data.parity,
           functional.binary_cross_entropy, {"build": partial(mlp, (64, 48, 1), last=nn.Sigmoid())},
           "keras-team/keras/issues/500", "the output is 1"),
    faulty("softmax over the batch", "softmax-axis", partial(mlp, (64, 64, 10), last=nn.Softmax(0)), data.digits,
           cross_entropy, SOUND, "MicrosoftDocs/pytorchfundamentals/pull/21", "dim=0", SGD),
    faulty("scores as log probabilities", "logits-into-probabilities", SMALL, data.digits, functional.nll_loss,
           {"loss": cross_entropy}, "https://runebook.dev/en/docs/pytorch/generated/torch.nn.nllloss/torch.nn.NLLLoss",
           "the loss falls without end", "sgd(lr=0.1)"),
    faulty("probabilities as log probabilities", "logits-into-probabilities",
           partial(mlp, (64, 64, 10), last=nn.Softmax(1)), data.digits, functional.nll_loss, {"loss": cross_entropy,
           "build": SMALL}, "https://runebook.dev/ru/docs/pytorch/generated/torch.nn.nllloss",
           "softmax where log softmax is asked for", SGD),
    faulty("scores as probabilities", "logits-into-probabilities", partial(mlp, (64, 48, 1)), data.parity,
           functional.binary_cross_entropy, {"loss": with_logits}, "yunlongdong/FCN-pytorch/issues/7",
           "PyTorch refuses scores outside 0 to 1"),
    faulty("scores cut to 0 to 1", "output-activation", partial(mlp, (64, 48, 1), last=nn.Hardtanh(0, 1)), data.parity,
           functional.binary_cross_entropy, {"build": partial(mlp, (64, 48, 1), last=nn.Sigmoid())},
           note="no gradient outside"),
    faulty("tanh against pixels", "targets-out-of-range", partial(mlp, (64, 64, 64), last=nn.Tanh()),
           partial(data.copies, high=255.0), mean_squared, {"data": data.copies}, "togheppi/DCGAN/issues/2",
           "targets from 0 to 255"),
    faulty("sigmoid against -1 and 1", "targets-out-of-range", partial(mlp, (64, 48, 1), last=nn.Sigmoid()),
           partial(data.parity, low=-1.0), mean_squared, {"build": partial(mlp, (64, 48, 1), last=nn.Tanh())},
           "fchollet/deep-learning-with-python-notebooks/issues/7"),
    faulty("relu against negative targets", "output-activation targets-out-of-range",
           partial(mlp, (1, 64, 64, 1), last=nn.ReLU()), data.waves, mean_squared, {"build": partial(mlp, (1, 64, 64,
           1))},
           "jcjohnson/pytorch-examples/issues/30"),
    faulty("column against row", "broadcast-loss", partial(mlp, (6, 48, 1)), partial(data.houses, column=False),
           mean_squared, {"data": data.houses}, "pytorch/pytorch/issues/19699", "(n, 1) outputs, (n,) targets"),
    faulty("squares of class numbers", "wrong-loss", partial(mlp, (64, 64, 1)), data.digits, on_numbers,
           {"build": SMALL, "loss": cross_entropy}, note="digits as one number", optimizer=SGD),
    faulty("loss summed", "sum-reduction learning-rate-too-large", partial(mlp, (64, 64, 64, 10)), data.digits, summed,
           {"loss": cross_entropy}, note="128 times the gradient", optimizer="sgd(lr=0.1, momentum=0.9)"),
)  # fmt: skip
ARCHITECTURE = (
    faulty("linear layers alone", "linear-stack", partial(mlp, (2, 32, 32, 2), nn.Identity), data.moons, cross_entropy,
           {"build": partial(mlp, (2, 32, 32, 2))}, "aymericdamien/TensorFlow-Examples/issues/175",
           "no activation anywhere", "adam(lr=0.01)"),
    faulty("sigmoid, 30 layers", "vanishing-gradient collapsed-inputs vanishing-signal",
           partial(mlp, (64, *[64] * 30, 10), nn.Sigmoid), data.digits, cross_entropy, SOUND,
           "https://ai.stackexchange.com/questions/16557/"
           "what-could-be-the-problem-when-a-neural-network-with-four-hidden-layers-with-the"),
    faulty("sigmoid, 100 layers", "vanishing-gradient collapsed-inputs vanishing-signal",
           partial(mlp, (64, *[48] * 100, 10), nn.Sigmoid), data.digits, cross_entropy, SOUND,
           "http://stackoverflow.com/questions/20009078/neural-network-architecture-design"),
    faulty("tanh, 100 layers", "weights-too-small vanishing-signal vanishing-gradient",
           partial(mlp, (64, *[48] * 100, 10), nn.Tanh), data.digits, cross_entropy, SOUND,
           note="PyTorch's own initial weights lose two thirds at each layer", optimizer=SGD),
    faulty("biases of -10", "dead-units", changed(partial(mlp, (64, 64, 64, 10)), lambda _, p: p.fill_(-10.0),
           "0.bias"),
           data.digits, cross_entropy, SOUND, "keras-team/keras/issues/7057", "no unit of the first layer ever fires"),
    faulty("nineteen of twenty dropped", "heavy-dropout", partial(dropped, 0.95), data.digits, cross_entropy,
           {"build": partial(dropped, 0.1)}, "bonlime/keras-deeplab-v3-plus/issues/4", "keep probability as drop rate"),
    faulty("norm over one output", "misplaced-norm",
           lambda: nn.Sequential(*mlp((6, 48, 1)), nn.LayerNorm(1)), data.houses, mean_squared,
           {"build": partial(mlp, (6, 48, 1))}, "naoto0804/chainer-cyclegan/pull/2", "a norm of one number is 0"),
    faulty("features detached", "gradient-blocked", lambda: Cut(torch.detach), data.digits, cross_entropy,
           {"build": lambda: Cut(None)}, "lucidrains/CoCa-pytorch/issues/6", optimizer="adam(lr=0.01)"),
    faulty("features rounded", "gradient-blocked", lambda: Cut(torch.round), data.digits, cross_entropy,
           {"build": lambda: Cut(None)}, note="the derivative of rounding is 0", optimizer="adam(lr=0.01)"),
    faulty("loss of the largest", "gradient-blocked", SMALL, data.digits, from_classes, {"loss": cross_entropy},
           "https://newbe.dev/index.php/how-does-pytorch-backprop-through-argmax", "argmax has no gradient"),
    faulty("only signs", "gradient-blocked", lambda: Cut(torch.sign), data.digits, cross_entropy,
           {"build": lambda: Cut(torch.tanh)}, "https://www.codegenes.net/blog/pytorch-argmax-gradient",
           optimizer="adam(lr=0.01)"),
)  # fmt: skip
DATA = (
    faulty("pixels as they are", "unscaled-inputs", partial(mlp, (64, 64, 64, 10)), partial(data.digits,
           scale="pixels"),
           cross_entropy, {"data": data.digits},
           "https://stats.stackexchange.com/questions/367057/bad-performance-with-relu-activation-function-on-mnist-data-set",
           "0 to 255", SGD),
    faulty("houses as they are", "unscaled-inputs", partial(mlp, (6, 48, 48, 1)), partial(data.houses, raw_inputs=True),
           mean_squared, {"data": data.houses}, note="rooms beside incomes and populations",
           optimizer="adam(lr=0.003)"),
    faulty("prices in dollars", "unscaled-targets", partial(mlp, (6, 48, 48, 1)), partial(data.houses,
           raw_targets=True),
           mean_squared, {"data": data.houses},
           "http://stackoverflow.com.mevn.net/questions/52800582/why-do-i-fail-to-predict-y-x4-with-keras-y-x3-works",
           "targets of 300000"),
    faulty("houses and prices as they are", "unscaled-inputs unscaled-targets", partial(mlp, (6, 48, 48, 1)),
           partial(data.houses, raw_inputs=True, raw_targets=True), mean_squared, {"data": data.houses}),
    faulty("years as they are", "unscaled-inputs", partial(mlp, (1, 64, 64, 1), nn.Tanh), partial(data.waves,
           years=True),
           mean_squared, {"data": data.waves},
           "https://datascience.stackexchange.com/questions/31499/neural-network-only-converges-when-data-cloud-is-close-to-0",
           "1900 to 2020", "adam(lr=0.01)"),
    faulty("points far from 0", "unscaled-inputs", partial(mlp, (2, 32, 32, 2), nn.Tanh), partial(data.moons,
           offset=200.0),
           cross_entropy, {"data": data.moons},
           "https://datascience.stackexchange.com/questions/31499/neural-network-only-converges-when-data-cloud-is-close-to-0",
           optimizer="adam(lr=0.01)"),
    faulty("a missing value", "non-finite-inputs", SMALL, broken_inputs, cross_entropy, {"data": data.digits},
           "prs-eth/Marigold/issues/111", "one input is NaN"),
    faulty("divided as whole numbers", "constant-inputs", SMALL, whole_division, cross_entropy, {"data": data.digits},
           note="pixels // 256"),
)  # fmt: skip
TRAINING = (
    faulty("all frozen", "frozen-parameters", frozen(SMALL), data.digits, cross_entropy, SOUND,
           "keras-team/keras/issues/2506"),
    faulty("encoder frozen by mistake", "frozen-parameters",
           changed(lambda: Cut(None), lambda _, p: p.requires_grad_(False), "encoder"), data.digits, cross_entropy,
           {"build": lambda: Cut(None)}, note="three random features", optimizer="adam(lr=0.01)"),
    faulty("optimizer of the head alone", "forgotten-parameters", partial(forgotten, False), data.digits, cross_entropy,
           {"build": partial(forgotten, True)}, "zjunlp/HVPNeT/issues/5", optimizer="adam(lr=0.01)"),
    faulty("head swapped too late", "forgotten-parameters", partial(swapped, True), data.digits, cross_entropy,
           {"build": partial(swapped, False)}, "pytorch/pytorch/issues/14467", "the optimizer holds the old head",
           "adam(lr=0.01)"),
    faulty("layers in a list", "unregistered-parameters", partial(Listed, False), data.digits, cross_entropy,
           {"build": partial(Listed, True)}, "pytorch/pytorch/issues/1053", optimizer="adam(lr=0.01)"),
    faulty("in evaluation mode", "eval-mode", partial(normalised, False), data.digits, cross_entropy,
           {"build": partial(normalised, True)}, "pytorch/tutorials/issues/1624", optimizer=SGD),
    faulty("adam at 3", "learning-rate-too-large", partial(mlp, DEEP), data.digits, cross_entropy,
           {"optimizer": "adam(lr=0.003)"}, "NLeSC/mcfly/issues/43", optimizer="adam(lr=3.0)"),
    faulty("sgd at 20", "learning-rate-too-large", partial(mlp, (64, 64, 64, 10)), data.digits, cross_entropy,
           {"optimizer": "sgd(lr=0.1)"}, "dangitstam/topic-rnn/pull/9", optimizer="sgd(lr=20.0)"),
    faulty("squares at a large rate", "learning-rate-too-large", partial(mlp, (6, 48, 48, 1)), data.houses,
           mean_squared,
           {"optimizer": "sgd(lr=0.05)"}, optimizer="sgd(lr=3.0)"),
    faulty("sgd at .000001", "learning-rate-too-small", partial(mlp, (64, 64, 64, 10)), data.digits, cross_entropy,
           {"optimizer": "sgd(lr=0.1)"}, "https://taourl.com/read-2391810.html", optimizer="sgd(lr=0.000001)"),
    faulty("adam at .0000001", "learning-rate-too-small", partial(mlp, (64, 64, 64, 10)), data.digits, cross_entropy,
           {"optimizer": "adam(lr=0.003)"}, optimizer="adam(lr=0.0000001)"),
)  # fmt: skip
CASES = (*PARAMETERS, *OUTPUTS, *ARCHITECTURE, *DATA, *TRAINING)
