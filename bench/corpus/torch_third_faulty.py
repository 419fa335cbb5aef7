"""PyTorch networks that do not train: a third gathering, by someone who had not seen the doctor."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from corpus import Case, data, second_data, third_data
from corpus import torch_third_networks as networks
from corpus.torch_networks import Make, mlp

__all__ = ["CASES"]

GITHUB = "https://github.com/"
cross_entropy, mean_squared = functional.cross_entropy, functional.mse_loss
images = partial(data.digits, (1, 8, 8))
first_step = partial(second_data.first_step, 16)
DIGITS, HOUSES = partial(mlp, (64, 48, 10)), partial(mlp, (6, 48, 48, 1))
MOMENTUM = "sgd(lr=0.05, momentum=0.9)"


def labels_from_one() -> tuple[Any, Any]:
    x, labels = data.digits()
    return x, labels + 1


def faulty(name: str, causes: str, build: Make, batch: Callable[[], Any], loss: Callable[..., Tensor],
           mended: Mapping[str, Any], source: str = "commonplace", note: str = "",
           optimizer: str = "adam(lr=0.005)") -> Case:  # fmt: skip
    """A case; sources of GitHub without the site."""
    seen = source if source.startswith(("http", "commonplace")) else GITHUB + source
    return Case(name, "torch", build, batch, loss, optimizer, tuple(causes.split()), seen, note, mended)


BLOCKED = (
    faulty("curvature of straight pieces", "gradient-blocked vanishing-signal vanishing-gradient",
           partial(networks.Curvature, nn.ReLU), third_data.bends,
           mean_squared, {"build": partial(networks.Curvature, nn.Tanh)}, "lululxvi/deepxde/issues/80",
           "a ReLU network has no second derivative", "adam(lr=0.01)"),
    faulty("codes drawn without a gradient", "gradient-blocked", partial(networks.Variational, False),
           data.copies, networks.evidence, {"build": networks.Variational}, "pytorch/pytorch/issues/4620",
           "sample() for rsample()", "adam(lr=0.01)"),
    faulty("state cut off at each step", "gradient-blocked", partial(networks.Stepwise, True), first_step,
           cross_entropy, {"build": partial(networks.Stepwise, False)}, "yhs968/pyGRU4REC/issues/8",
           "detached in the loop, and the first step counts", "adam(lr=0.01)"),
    faulty("nearest code of a book", "gradient-blocked", partial(networks.Quantised, False), data.digits,
           networks.quantised_loss, {"build": partial(networks.Quantised, True)}, "Biohub/esm/issues/92",
           "the decoder gets the book's rows, the encoder no word from it", "adam(lr=0.01)"),
    faulty("weights rounded", "gradient-blocked zero-weights vanishing-signal collapsed-inputs",
           partial(networks.whole, False), data.digits,
           cross_entropy, {"build": partial(networks.whole, True)}, "dropbox/hqq/issues/84",
           "all weights round to 0, and rounding has no gradient", "adam(lr=0.01)"),
    faulty("loss declared to need a gradient", "gradient-blocked", DIGITS, data.digits, networks.declared,
           {"loss": cross_entropy}, "roman-vygon/triplet_loss_kws/issues/6",
           "requires_grad = True on what has no past: no error, no step"),
    faulty("two closed gates", "zero-weights gradient-blocked", partial(networks.Fused, True), data.moons,
           cross_entropy, {"build": partial(networks.Fused, False)}, "yz93/LAVT-RIS/issues/25",
           "both layers of the gate are 0: neither they nor what they let in ever changes", "adam(lr=0.02)"),
    faulty("pixels for places", "collapsed-inputs vanishing-signal gradient-blocked", partial(networks.Glimpse, True),
           images, cross_entropy, {"build": partial(networks.Glimpse, False)}, "fxia22/stn.pytorch/issues/11",
           "places from 0 to 7 where -1 to 1 is the picture: nearly all of what is read is 0",
           "adam(lr=0.003)"),
)  # fmt: skip
START = (
    faulty("word vectors of nothing", "zero-weights collapsed-inputs frozen-parameters vanishing-signal",
           partial(networks.vectors, torch.zeros, True), data.sentences, cross_entropy,
           {"build": partial(networks.vectors, torch.randn, False)}, "RUCAIBox/RecBole/issues/2046",
           "a table of zeros, frozen as from_pretrained does", "adam(lr=0.02)"),
    faulty("convolutions as they come", "weights-too-small vanishing-signal vanishing-gradient collapsed-inputs",
           partial(networks.many_convolutions, False), images, cross_entropy,
           {"build": partial(networks.many_convolutions, True)}, "pytorch/pytorch/issues/6950",
           "ten layers by the framework's own law", "sgd(lr=0.003, momentum=0.9)"),
    faulty("never settles down", "exploding-signal weights-too-large exploding-gradient",
           partial(networks.Iterated, 3.0), data.digits, cross_entropy, {"build": partial(networks.Iterated, 0.7)},
           "Gsunshine/Enjoy-Hamburger/issues/12", "one layer 30 times, which stretches"),
    faulty("all norms from zero", "zero-weights dead-units vanishing-signal gradient-blocked collapsed-inputs",
           partial(networks.norms_of_zero, 0.0), images, cross_entropy,
           {"build": partial(networks.norms_of_zero, 1.0)}, "commonplace",
           "meant for the last norm of a residual branch; here a ReLU of 0 follows", "adam(lr=0.01)"),
    faulty("smoothed 24 times", "collapsed-inputs vanishing-signal vanishing-gradient",
           lambda: networks.Neighbours(24, second_data.adjacency()), second_data.community, cross_entropy,
           {"build": lambda: networks.Neighbours(2, second_data.adjacency())}, "kenziyuliu/MS-G3D/issues/53",
           "all nodes of a graph become alike", "adam(lr=0.003)"),
    faulty("sums over neighbours", "exploding-signal exploding-gradient weights-too-large",
           lambda: networks.Neighbours(3, third_data.links()), second_data.community, cross_entropy,
           {"build": lambda: networks.Neighbours(3, second_data.adjacency())}, "keras-team/keras-io/pull/2304",
           "not divided by how many there are, ten", MOMENTUM),
    faulty("norm of one place", "misplaced-norm collapsed-inputs", partial(networks.pooled_norm, 24), images,
           cross_entropy, {"build": partial(networks.pooled_norm, 4)}, "pytorch/pytorch/issues/19250",
           "a group for each channel after pooling: all are 0", "adam(lr=0.01)"),
)  # fmt: skip
LOSSES = (
    faulty("sees not even itself", "non-finite-signal", partial(networks.Causal, 0), data.story, cross_entropy,
           {"build": partial(networks.Causal, 1)}, "pbloem/former/issues/10", "the first word may look at none",
           "adam(lr=0.01)"),
    faulty("angle at its kink", "non-finite-signal exploding-gradient", networks.Direction, third_data.turns,
           networks.angle, {"loss": partial(networks.angle, margin=1e-3)}, "geoopt/geoopt/pull/79",
           "the arccosine has no derivative at 1, which some targets have at the start", "adam(lr=0.01)"),
    faulty("rate below zero", "non-finite-signal output-activation logits-into-probabilities wrong-loss",
           partial(mlp, (5, 32, 1)), second_data.counts,
           partial(functional.poisson_nll_loss, log_input=False), {"build": partial(mlp, (5, 32, 1),
           last=nn.Softplus())}, "pytorch/pytorch/issues/184030", "the logarithm of an unbounded output",
           "adam(lr=0.02)"),
    faulty("likelihood made small", "wrong-loss divergence", HOUSES, data.houses, networks.log_likelihood,
           {"loss": partial(networks.log_likelihood, sign=-1.0)}, "kmkurn/pytorch-crf/issues/27", "a sign",
           "adam(lr=0.01)"),
    faulty("labels from one", "targets-out-of-range", DIGITS, labels_from_one, cross_entropy, {"data": data.digits},
           "pytorch/pytorch/issues/15666", "PyTorch raises"),
    faulty("divergence from probabilities", "logits-into-probabilities wrong-loss", partial(mlp, (6, 48, 4),
           last=nn.Softmax(1)), third_data.mixtures, networks.divergence,
           {"loss": partial(networks.divergence, logarithm=True)}, "michaal94/torch_DCEC/issues/1",
           "without the logarithm all goes to the largest share", "adam(lr=0.01)"),
    faulty("margin of noughts and ones", "targets-out-of-range wrong-loss", partial(mlp, (2, 32, 1)),
           second_data.two_moons, networks.soft_margin, {"loss": partial(networks.soft_margin, signed=True)},
           "bfortuner/ml-glossary/pull/113", "1 and -1 are meant: with 0 the loss does not depend on the output",
           "adam(lr=0.02)"),
    faulty("codes held to nothing", "sum-reduction wrong-loss", networks.Variational, data.copies,
           partial(networks.evidence, summed=True), {"loss": networks.evidence},
           "AppliedDataSciencePartners/WorldModels/issues/12", "a mean and a sum added up: the sum wins",
           "adam(lr=0.01)"),
    faulty("every action for every state", "broadcast-loss", partial(networks.Worth, False), third_data.rewards,
           functional.smooth_l1_loss, {"build": partial(networks.Worth, True)}, "BY571/QR-DQN/issues/1",
           "(n, 1) against (n,)", "adam(lr=0.01)"),
    faulty("axes renamed", "softmax-axis wrong-loss", networks.Lookup, data.story, networks.by_view,
           {"loss": networks.by_transpose}, "zy1996code/nlp_basic_model/issues/1",
           "view where transpose is meant; no code is quite right", "adam(lr=0.01)"),
)  # fmt: skip
PARTS = (
    faulty("a tensor for a parameter", "unregistered-parameters", partial(networks.Bare, False), data.digits,
           cross_entropy, {"build": partial(networks.Bare, True)}, "rballester/tntorch/issues/3", "", "adam(lr=0.01)"),
    faulty("one half twice", "forgotten-parameters", partial(networks.one_half_twice, False), data.digits,
           cross_entropy, {"build": partial(networks.one_half_twice, True)}, "line/open-universe/issues/5",
           "the optimizer has the head two times and the encoder not at all", "adam(lr=0.01)"),
    faulty("result forgotten", "unused-parameters linear-stack", partial(networks.Skipped, False), data.moons,
           cross_entropy, {"build": partial(networks.Skipped, True)}, "commonplace",
           "the readout takes x, not what was made of it", "adam(lr=0.01)"),
    faulty("half of all answers dropped", "heavy-dropout", partial(mlp, (6, 48, 1), last=nn.Dropout(0.5)), data.houses,
           mean_squared, {"build": partial(mlp, (6, 48, 1))},
           "https://exchangetuts.com/validation-loss-when-using-dropout-1640437504394550",
           "dropout behind the last layer", "adam(lr=0.01)"),
    faulty("examples for steps", "collapsed-inputs plateau mixed-examples", partial(networks.Last, False), first_step,
           cross_entropy, {"build": partial(networks.Last, True)}, "yunjey/pytorch-tutorial/issues/196",
           "batch_first left out: what is read off does not depend on the first step; the third code came later",
           "adam(lr=0.01)"),
)  # fmt: skip
SCALES = (
    faulty("returns of a thousandth", "unscaled-targets", HOUSES, third_data.returns, mean_squared,
           {"data": data.houses}, "https://neuralsniffer.wordpress.com/2010/10/22/"
           "target-normalization-rut-next-day-gain-forecast/", "the network starts at hundreds of times that size",
           "adam(lr=0.005)"),
    faulty("divided before and after", "unscaled-inputs", DIGITS, third_data.double_division, cross_entropy,
           {"data": data.digits}, "batuhan3526/ResNet50_on_Cifar_100_Without_Transfer_Learning/issues/1",
           "mean and spread over 255, of pixels from 0 to 1: inputs up to 700", MOMENTUM),
    faulty("adam's epsilon at .1", "learning-rate-too-small plateau", DIGITS, data.digits, cross_entropy,
           {"optimizer": "adam(lr=0.001)"}, "mlpnlp/mlpnlp-nmt/pull/4", "", "adam(lr=0.001, eps=0.1)"),
    faulty("decay above all", "plateau vanishing-signal weights-too-small", DIGITS, data.digits, cross_entropy,
           {"optimizer": "adam(lr=0.005)"}, "BVLC/caffe/issues/1396",
           "weight decay of 1 inside Adam: all weights go to 0; no code is quite right",
           "adam(lr=0.005, weight_decay=1.0)"),
)  # fmt: skip
CASES = (*BLOCKED, *START, *LOSSES, *PARTS, *SCALES)
