"""PyTorch networks that do not train and odd ones that do: a fourth gathering, by one who had not seen the doctor."""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from corpus import data, makers, second_data
from corpus import torch_fourth_networks as networks
from corpus import torch_fourth_unusual as unusual
from corpus.torch_networks import mlp

__all__ = ["CASES"]

cross_entropy, mean_squared = functional.cross_entropy, functional.mse_loss
images = partial(data.digits, (1, 8, 8))


faulty, healthy = makers("torch", "adam(lr=0.005)")


class Words(nn.Module):
    """Scores of the next word, the words in the second axis."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(32, 24), nn.Linear(24, 32)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.table(x)).transpose(1, 2)


def actor() -> nn.Module:
    return mlp((6, 64, 64, 2), last=nn.Tanh())


FAULTY = (
    faulty("a scene without density", "dead-units gradient-blocked vanishing-signal vanishing-gradient",
           partial(networks.Scene, False), networks.disc, mean_squared, {"build": partial(networks.Scene, True)},
           "munshisanowarraihan/nerf-meta/issues/3", "a ReLU that is 0 at every place of every ray: all is white"),
    faulty("neurons that never fire", "dead-units vanishing-signal weights-too-small vanishing-gradient "
           "collapsed-inputs", partial(networks.Spiking, 2.0), partial(data.digits, scale="unit"), cross_entropy,
           {"build": partial(networks.Spiking, 0.2)}, "jeshraghian/snntorch/issues/98",
           "the threshold is too high for what comes in", "adam(lr=0.002)"),
    faulty("neighbours that are all ones", "collapsed-inputs constant-inputs", partial(networks.Graphs, True),
           networks.graphs, cross_entropy, {"build": partial(networks.Graphs, False)},
           "diningphil/gnn-comparison/issues/50", "the mean of ones is 1 however many there are", "adam(lr=0.01)"),
    faulty("loudness levelled out", "misplaced-norm collapsed-inputs", partial(networks.Levelled, True),
           networks.loudness, cross_entropy, {"build": partial(networks.Levelled, False)},
           "espnet/espnet/issues/1250", "a layer norm of each frame takes its level away, which is what is asked for"),
    faulty("the teacher is the student", "frozen-parameters", partial(networks.Distilled, False), data.digits,
           networks.teacher_loss, {"build": partial(networks.Distilled, True)}, "nttcslab/byol-a/issues/7",
           "frozen through another name"),
    faulty("chances multiplied", "non-finite-signal vanishing-signal", partial(networks.PixelProduct, False),
           networks.pixel_levels, networks.pixel_loss, {"build": partial(networks.PixelProduct, True)},
           "april-tools/cirkit/issues/279", "a product of 64 chances is 0, and 0 / 0 no number", "adam(lr=0.05)"),
    faulty("noise as the goal", "wrong-loss", networks.Restorer, networks.noisy, partial(networks.restored,
           mistaken=True), {"loss": partial(networks.restored, mistaken=False)},
           "irom-princeton/dppo/issues/14", "compared with what was given: the targets have no part in the loss"),
    faulty("a rod in degrees", "unscaled-targets unscaled-inputs saturated-units", partial(networks.Cooling, False),
           networks.cooled, partial(networks.residual_loss, spread=1.0),
           {"build": partial(networks.Cooling, True), "loss": partial(networks.residual_loss, spread=50.0)},
           "https://discuss.pytorch.org/t/how-to-code-pinn-for-a-simple-pde/166695",
           "60 seconds and 70 degrees go in and out as they are"),
    faulty("one unit, often dropped", "heavy-dropout", partial(networks.NarrowThenDropped, 1, 0.5), data.houses,
           mean_squared, {"build": partial(networks.NarrowThenDropped, 48, 0.0)},
           "https://blog.51cto.com/u_87851/7627358", "all that is known of a house is dropped half of the time"),
    faulty("functions beside their grid", "collapsed-inputs unscaled-inputs vanishing-signal dead-units",
           partial(networks.Hats, -1.0, 1.0), networks.beside, mean_squared,
           {"build": partial(networks.Hats, 3.0, 8.0)}, "KindXiaoming/pykan/issues/71",
           "the functions are made for -1 to 1 and are 0 elsewhere; inputs are from 3 to 8", "adam(lr=0.02)"),
    faulty("kernels from .2 for .02", "weights-too-large exploding-signal saturated-units exploding-gradient",
           partial(networks.Kernels, 0.3), partial(data.copies, (1, 8, 8)), mean_squared,
           {"build": partial(networks.Kernels, 0.1)}, "sophiajw/HistAuGAN/pull/4",
           "no norm makes up for it; .3 here, with fewer channels",
           "adam(lr=0.002)"),
    faulty("driver at full throttle", "unscaled-inputs saturated-units exploding-signal", actor,
           partial(networks.driving, True), mean_squared, {"data": partial(networks.driving, False)},
           "floodsung/DDPG/issues/6", "what comes before the tanh is in the hundreds", "adam(lr=0.001)"),
    faulty("order without places", "collapsed-inputs", partial(networks.Placeless, False), networks.early_or_late,
           cross_entropy, {"build": partial(networks.Placeless, True)}, "https://openillumi.com/?p=74183",
           "the mean of tokens that do not know their places is the same in any order",
           "adam(lr=0.003)"),
    faulty("every word ignored", "targets-out-of-range non-finite-signal", Words, networks.ignored, cross_entropy,
           {"data": data.story}, "nvidia-cosmos/cosmos-rl/pull/155", "all labels are -100: a mean of none",
           "adam(lr=0.02)"),
    faulty("weights over the examples", "softmax-axis mixed-examples", partial(networks.Attentive, 0),
           second_data.needle, cross_entropy, {"build": partial(networks.Attentive, 1)},
           "PetrochukM/PyTorch-NLP/issues/2", "attention of a token depends on the other examples",
           "adam(lr=0.05)"),
)  # fmt: skip
HEALTHY = (
    healthy("far is unlikely", unusual.Distances, data.digits, cross_entropy, "scores are distances, all below zero"),
    healthy("functions on their grid", partial(networks.Hats, 3.0, 8.0), networks.beside, mean_squared,
            "inputs from 3 to 8, no bias, most of the basis is zero", "adam(lr=0.02)"),
    healthy("neurons that fire", partial(networks.Spiking, 0.2), partial(data.digits, scale="unit"), cross_entropy,
            "signals are 0 or 1, gradients made up", "adam(lr=0.002)"),
    healthy("attention without softmax", unusual.Linear, second_data.needle, cross_entropy, "", "adam(lr=0.01)"),
    healthy("grades by thresholds", unusual.Ordinal, unusual.ordered, unusual.ordinal_loss,
            "one number for all, five thresholds, and all cases of a kind alike", "adam(lr=0.02)"),
    healthy("tasks weigh themselves", unusual.TwoTasks, unusual.two_tasks, unusual.weighed,
            "the loss may fall below zero", "adam(lr=0.01)"),
    healthy("only upwards", unusual.Monotone, unusual.rising, mean_squared, "all weights are positive",
            "adam(lr=0.01)"),
    healthy("gates over places", unusual.Gated, second_data.needle, cross_entropy,
            "mixing weights at .001, gates that start at 1", "adam(lr=0.01)"),
    healthy("three quantiles", unusual.Quantiles, data.houses, unusual.pinball, "ordered by softplus",
            "adam(lr=0.01)"),
    healthy("gradient turned round", unusual.Adversarial, unusual.domains, unusual.adversarial_loss,
            "one head is to fail", "adam(lr=0.01)"),
    healthy("value and advantages", unusual.Dueling, unusual.taken, unusual.taken_loss,
            "one of three outputs of each row counts", "adam(lr=0.01)"),
)  # fmt: skip
CASES = FAULTY + HEALTHY
